// SPDX-License-Identifier: GPL-2.0

//! The image survives a round trip, has golden bytes, and no input makes the reader panic or run on.

use crate::image::*;
use crate::ioctls;

struct Out(Vec<u8>);

impl Sink for Out {
    type Error = ();
    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

const ID: [u8; ID_LEN] = [7; ID_LEN];
const STAT: [u8; STAT_LEN] = [9; STAT_LEN];

fn records() -> Vec<Record<'static>> {
    vec![
        Record {
            fd: 0,
            cloexec: false,
            entry: Entry::Remote(Remote {
                flags: 1,
                home: 2,
                class: 1,
                handle: 0x0102_0304_0506_0708,
                stat: &STAT,
            }),
        },
        Record {
            fd: 2,
            cloexec: true,
            entry: Entry::Same { of: 0 },
        },
        Record {
            fd: 3,
            cloexec: false,
            entry: Entry::Mem { flags: 2, minor: 3 },
        },
        Record {
            fd: i32::MAX as u32,
            cloexec: false,
            entry: Entry::Path {
                flags: 0x8000,
                pos: -5,
                id: &ID,
                path: b"/etc/motd",
            },
        },
    ]
}

fn image(records: &[Record<'_>]) -> Vec<u8> {
    let mut out = Out(Vec::new());
    let head = Head {
        umask: 0o22,
        id: &ID,
        path: b"/",
    };
    write_head(&mut out, &head).unwrap();
    for r in records {
        write_record(&mut out, r).unwrap();
    }
    write_end(&mut out).unwrap();
    out.0
}

fn read(bytes: &[u8]) -> Result<Vec<Record<'_>>, Malformed> {
    let (_, mut r) = Reader::new(bytes)?;
    let mut all = Vec::new();
    while let Some(x) = r.next()? {
        all.push(x);
    }
    Ok(all)
}

#[test]
fn round_trip() {
    let bytes = image(&records());
    let (head, _) = Reader::new(&bytes).unwrap();
    assert_eq!((head.umask, head.path), (0o22, &b"/"[..]));
    assert_eq!(read(&bytes).unwrap(), records());
}

#[test]
fn golden_bytes() {
    let bytes = image(&records()[1..3]);
    let mut want = b"SSIF\x01\0\0\0\x12\0\0\0".to_vec();
    want.extend([7; ID_LEN]);
    want.extend(b"\x01\0/");
    want.extend(b"\x02\0\0\0\x01\x01\0\0\0\0");
    want.extend(b"\x03\0\0\0\0\x03\x02\0\0\0\x03\0\0\0");
    want.extend(b"\xff\xff\xff\xff");
    assert_eq!(bytes, want);
}

#[test]
fn every_truncation_is_malformed() {
    let bytes = image(&records());
    for n in 0..bytes.len() {
        assert_eq!(read(&bytes[..n]), Err(Malformed), "{n}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(read(&longer), Err(Malformed));
}

#[test]
fn numbers_must_rise_and_paths_be_absolute() {
    let mut twice = records();
    twice[1].fd = 0;
    assert_eq!(read(&image(&twice)), Err(Malformed));
    let mut forward = records();
    forward[1].entry = Entry::Same { of: 2 };
    assert_eq!(read(&image(&forward)), Err(Malformed));
    for path in [&b""[..], b"etc", b"/a\0b"] {
        let mut bad = records();
        bad[3].entry = Entry::Path {
            flags: 0,
            pos: 0,
            id: &ID,
            path,
        };
        assert_eq!(read(&image(&bad)), Err(Malformed), "{path:?}");
    }
}

/// One byte changed anywhere, to any value: an error or another image, never a panic; and after an error, the end.
#[test]
fn any_changed_byte() {
    let good = image(&records());
    for i in 0..good.len() {
        for v in 0..=255 {
            let mut b = good.clone();
            b[i] = v;
            if let Ok((_, mut r)) = Reader::new(&b) {
                while let Ok(Some(_)) = r.next() {}
                assert_eq!(r.clone().next(), Ok(None));
            }
        }
    }
}

/// Random bytes after a valid head.
#[test]
fn noise() {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut b = image(&[]);
        b.truncate(b.len() - 4);
        for _ in 0..(x % 200) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            b.push(if x & 0x300 == 0 { 0 } else { (x >> 32) as u8 & 0x0f });
        }
        x = x.wrapping_add(0x9e37_79b9);
        let _ = read(&b);
    }
}

#[test]
fn ioctl_table() {
    for (i, (cmd, arg)) in ioctls::COMMANDS.iter().enumerate() {
        assert_eq!(ioctls::argument(*cmd), Some(*arg));
        assert!(ioctls::COMMANDS[..i].iter().all(|(c, _)| c != cmd), "{cmd:#x} twice");
        if let ioctls::Arg::Buf { input, output } = arg {
            assert!(input.max(output) <= &(ioctls::MAX_ARG as u32));
            // Where the number says a size, it is that size.
            let size = (cmd >> 16) & 0x3fff;
            assert!(size == 0 || size == *input.max(output), "{cmd:#x}");
        }
    }
    // TIOCSTI, TIOCSCTTY, TIOCCONS, TIOCSETD: not from elsewhere.
    for cmd in [0x5412, 0x540e, 0x541d, 0x5423] {
        assert_eq!(ioctls::argument(cmd), None);
    }
}
