// SPDX-License-Identifier: GPL-2.0

//! The image of a descriptor table from a node that lies: `make fuzz`.
//!
//! Inputs are those of `corpus/image`, images made of random descriptors, both of them damaged, and noise. Whatever the
//! bytes, the reader neither panics nor runs on; what it accepts is written back as the very same bytes.

use crate::fuzz::Target;
use crate::image::*;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;

struct Out(Vec<u8>);

impl Sink for Out {
    type Error = ();
    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn write(head: &Head<'_>, records: &[Record<'_>]) -> Vec<u8> {
    let mut out = Out(Vec::new());
    write_head(&mut out, head).unwrap();
    for r in records {
        write_record(&mut out, r).unwrap();
    }
    write_end(&mut out).unwrap();
    out.0
}

fn is_path(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && path.len() <= MAX_PATH && !path.contains(&0)
}

/// Reads one input and checks all promises; says whether it was an image.
fn check(bytes: &[u8]) -> bool {
    let Ok((head, mut reader)) = Reader::new(bytes) else {
        return false;
    };
    assert!(is_path(head.path));
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(r)) => records.push(r),
            Ok(None) => break,
            Err(Malformed) => {
                assert_eq!(reader.next(), Ok(None), "it reads on after an error");
                return false;
            }
        }
        assert!(records.len() <= MAX_FDS);
    }
    assert_eq!(reader.next(), Ok(None), "it reads on after the end");
    let mut seen = BTreeSet::new();
    for r in &records {
        assert!(r.fd <= i32::MAX as u32 && seen.last().is_none_or(|last| *last < r.fd));
        match r.entry {
            Entry::Same { of } => assert!(of < r.fd),
            Entry::Path { path, .. } => assert!(is_path(path)),
            Entry::Mem { .. } | Entry::Remote(_) => {}
        }
        seen.insert(r.fd);
    }
    assert!(write(&head, &records) == bytes, "written back it is another image");
    true
}

fn path(rng: &mut SmallRng) -> Vec<u8> {
    let n = match rng.random_range(0..20) {
        0 => MAX_PATH - 1,
        1 => rng.random_range(0..MAX_PATH),
        _ => rng.random_range(0..40),
    };
    let mut path = vec![b'/'];
    path.extend((0..n).map(|_| rng.random_range(1..=u8::MAX)));
    path
}

/// An image that a node might write. Read, it is the descriptors that it was made of.
fn image(rng: &mut SmallRng) -> Vec<u8> {
    let (mut id, mut stat) = ([0; ID_LEN], [0; STAT_LEN]);
    rng.fill(&mut id[..]);
    rng.fill(&mut stat[..]);
    let (cwd, file) = (path(rng), path(rng));
    let mut records = Vec::new();
    let mut fd = rng.random_range(0..3);
    for _ in 0..rng.random_range(0..12) {
        let entry = match rng.random_range(0..4) {
            0 if fd > 0 => Entry::Same {
                of: rng.random_range(0..fd),
            },
            1 => Entry::Path {
                flags: rng.random(),
                pos: rng.random(),
                id: &id,
                path: &file,
            },
            2 => Entry::Mem {
                flags: rng.random(),
                minor: rng.random(),
            },
            _ => Entry::Remote(Remote {
                flags: rng.random(),
                home: rng.random(),
                class: rng.random(),
                handle: rng.random(),
                stat: &stat,
            }),
        };
        records.push(Record {
            fd,
            cloexec: rng.random(),
            entry,
        });
        fd += rng.random_range(1..1000);
    }
    let head = Head {
        umask: rng.random(),
        id: &id,
        path: &cwd,
    };
    let bytes = write(&head, &records);
    let (h, mut reader) = Reader::new(&bytes).expect("the head of a valid image");
    assert_eq!(h, head);
    for r in &records {
        assert_eq!(reader.next(), Ok(Some(*r)));
    }
    assert_eq!(reader.next(), Ok(None));
    bytes
}

#[test]
fn fuzz_image() {
    Target {
        name: "image",
        make: image,
        check,
        edges: &[MAX_PATH as u64, MAX_PATH as u64 + 1],
    }
    .run();
}
