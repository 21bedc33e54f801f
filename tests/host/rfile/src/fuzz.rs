// SPDX-License-Identifier: GPL-2.0

//! The image of a descriptor table from a node that lies: `make fuzz`.
//!
//! Inputs are those of `corpus/image`, images made of random descriptors, both of them damaged, and noise. Whatever the
//! bytes, the reader neither panics nor runs on; what it accepts is written back as the very same bytes.
//!
//! `FUZZ_SECONDS` is how long (without it only the corpus is read), `FUZZ_SEED` repeats a run. An input that breaks a
//! promise is written to `build/fuzz`; to keep it, copy it into the corpus.

use crate::image::*;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

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

/// Checks one input; one that breaks a promise is kept in a file.
fn check_or_keep(bytes: &[u8], origin: &str) -> bool {
    catch_unwind(|| check(bytes)).unwrap_or_else(|panic| {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3);
        let dir = top.expect("tests/host/rfile is in the tree").join("build/fuzz");
        let file = dir.join("image");
        match fs::create_dir_all(&dir).and_then(|()| fs::write(&file, bytes)) {
            Ok(()) => println!("# {origin}: {} bytes are in {}", bytes.len(), file.display()),
            Err(e) => println!("# {origin}: {e}; the bytes: {}", bytes.escape_ascii()),
        }
        resume_unwind(panic)
    })
}

/// Numbers at which something may change.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    4,
    5,
    0x7f,
    0xff,
    MAX_PATH as u64,
    MAX_PATH as u64 + 1,
    0xffff,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];

fn range(rng: &mut SmallRng, len: usize) -> std::ops::Range<usize> {
    let from = rng.random_range(0..=len);
    let most = (len - from).min(if rng.random_ratio(1, 4) { len } else { 16 });
    from..from + rng.random_range(0..=most)
}

fn noise(rng: &mut SmallRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill(&mut bytes[..]);
    bytes
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

/// Damages an input at one place.
fn mutate(rng: &mut SmallRng, b: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..=b.len());
    match rng.random_range(0..9) {
        0 if at < b.len() => b[at] ^= 1 << rng.random_range(0..8),
        1 if at < b.len() => b[at] = rng.random(),
        2 | 3 => {
            let n = EDGES[rng.random_range(0..EDGES.len())].wrapping_add_signed(rng.random_range(-1..=1));
            let width = 1 << rng.random_range(0..4);
            for (to, from) in b[at..].iter_mut().zip(&n.to_le_bytes()[..width]) {
                *to = *from;
            }
        }
        4 => drop(b.drain(range(rng, b.len()))),
        5 => b.truncate(at),
        6 => {
            let part = noise(rng, 32);
            b.splice(at..at, part);
        }
        7 => {
            let part = b[range(rng, b.len())].to_vec();
            b.splice(at..at, part);
        }
        _ => {
            let part = other[range(rng, other.len())].to_vec();
            b.splice(range(rng, b.len()), part);
        }
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/image");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    // A seed repeats a run only if the order is the same.
    files.sort();
    files
        .iter()
        .map(|f| (f.display().to_string(), fs::read(f).unwrap()))
        .collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

#[test]
fn fuzz_image() {
    let corpus = corpus();
    let mut accepted = 0;
    for (name, bytes) in &corpus {
        accepted += usize::from(check_or_keep(bytes, name));
    }
    assert!(accepted > 0, "no valid image in the corpus");
    let Some(seconds) = number("FUZZ_SECONDS") else { return };

    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_micros() as u64
    });
    println!("# fuzz_image: FUZZ_SEED={seed}");
    let rng = &mut SmallRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut n, mut images) = (0u64, 0u64);
    while n % 256 != 0 || Instant::now() < end {
        let pick = |rng: &mut SmallRng| {
            if rng.random() {
                corpus[rng.random_range(0..corpus.len())].1.clone()
            } else {
                image(rng)
            }
        };
        let input = match rng.random_range(0..16) {
            0 => noise(rng, 512),
            1 => {
                let mut b = pick(rng);
                b.truncate(rng.random_range(0..=b.len()));
                b.extend(noise(rng, 512));
                b
            }
            _ => {
                let (mut b, other) = (pick(rng), pick(rng));
                for _ in 0..rng.random_range(0..6) {
                    mutate(rng, &mut b, &other);
                }
                b
            }
        };
        images += u64::from(check_or_keep(&input, &format!("seed {seed}, input {n}")));
        n += 1;
    }
    println!("# fuzz_image: {n} inputs, {images} of them images");
}
