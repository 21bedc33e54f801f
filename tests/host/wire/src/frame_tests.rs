// SPDX-License-Identifier: GPL-2.0

//! A stream whose frames somebody replays, truncates, reorders, bends, or makes without the key.
//!
//! Whatever the bytes, what is accepted are the first frames that the sender made, each as it was sent, once and in their
//! order: as many as come whole before the first byte that is another one. No length is asked for above the longest frame.

use crate::frame::open;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MAX_BODY;
use crate::frame::MOVED;
use crate::frame::TAG;
use crate::fuzz::noise;
use crate::fuzz::Target;
use crate::service::Class;
use crate::service::OpId;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::Rng;
use ssi::crypto::BodySum;
use ssi::crypto::FrameKey;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

const HEAD: usize = size_of::<Head>();
const KEY: [u8; 32] = [1; 32];

/// The frames of a stream with that key.
fn frames(key: &[u8; 32]) -> Vec<Vec<u8>> {
    let key = FrameKey::new(key);
    let kinds = [Kind::Request, Kind::Reply, Kind::Cancel, Kind::Open];
    (1u64..)
        .zip([0usize, 1, 7, 8, 9, 100, 1972, 0])
        .map(|(seq, len)| {
            let body: Vec<u8> = (0..len).map(|i| (i as u64 * seq % 251) as u8).collect();
            let mut h = Head::new(kinds[seq as usize % 4], seq / 2);
            h.len = Le32::new(len as u32);
            h.seq = Le64::new(seq);
            h.seen = [seq - 1, seq * 2, seq * 3].map(Le64::new);
            h.order = Le64::new(seq % 2);
            h.service = Le16::new(3);
            h.op = Le16::new(seq as u16);
            h.class = seq as u8 % 7;
            h.version = Le16::new(1);
            h.status = Le32::new(if seq == 4 { MOVED } else { 0 });
            h.moved_to = Le32::new(seq as u32 % 4);
            let tag = h.tag(&key, &body);
            [h.as_bytes(), &body, &tag].concat()
        })
        .collect()
}

/// What the sender sends.
fn sent() -> Vec<Vec<u8>> {
    frames(&KEY)
}

/// Reads as `link.rs` and `inbox.c` do; gives how many frames were accepted.
fn read(mut bytes: &[u8]) -> usize {
    let key = FrameKey::new(&KEY);
    for seq in 1.. {
        let done = seq as usize - 1;
        let Some(head) = bytes.get(..HEAD) else { return done };
        let Some(len) = Head::frame_length(head) else {
            return done;
        };
        assert!((HEAD + TAG..=HEAD + MAX_BODY + TAG).contains(&len));
        let Some(frame) = bytes.get(..len) else { return done };
        // In the softirq ...
        let opened = open(frame, &key, seq);
        // ... and in the stream's thread.
        let head = Head::read_from_bytes(head).unwrap();
        let (body, tag) = frame[HEAD..].split_at(len - HEAD - TAG);
        let checked = head.check(&key, &BodySum::of(&key, body), tag.try_into().unwrap(), seq);
        assert_eq!(opened.is_some(), checked.is_ok(), "both ways judge alike");
        let Some((h, b)) = opened else { return done };
        assert!(h.as_bytes() == head.as_bytes() && b == body && h.len.get() as usize == body.len());
        assert!(Kind::from_wire(h.kind).is_some());
        let id = OpId::of_request(&h).expect("a class");
        assert_eq!((id.service, id.op, id.class as u8), (3, seq as u16, h.class));
        bytes = &bytes[len..];
    }
    unreachable!()
}

fn check(bytes: &[u8]) -> bool {
    let mut want = 0;
    let mut at = 0;
    for frame in sent() {
        let end = at + frame.len();
        if bytes.get(at..end) != Some(&frame[..]) {
            break;
        }
        (want, at) = (want + 1, end);
    }
    let got = read(bytes);
    assert_eq!(got, want, "frames that the sender sent, and frames accepted");
    // What nobody has tagged is decoded as well, by whoever looks at it before its tag.
    for part in bytes.chunks_exact(HEAD) {
        let h = Head::read_from_bytes(part).unwrap();
        let class = Class::from_wire(h.class);
        assert_eq!(OpId::of_request(&h).map(|id| id.class), class);
        assert!(class.is_none_or(|c| c as u8 == h.class));
    }
    got > 0
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let mut all = sent();
    // A stream of another life, and this end's own frames, sent back.
    let strange = frames(&[2; 32]);
    for _ in 0..rng.random_range(0..3) {
        let (a, b) = (rng.random_range(0..all.len()), rng.random_range(0..all.len()));
        match rng.random_range(0..7) {
            0 => all.swap(a, b),
            1 => all.insert(a, all[b].clone()),
            2 if all.len() > 1 => drop(all.remove(a)),
            3 => all.insert(a, strange[b % strange.len()].clone()),
            4 => all[a].truncate(HEAD),
            5 => all[a][4..8].copy_from_slice(&(MAX_BODY as u32 + rng.random_range(0..2)).to_le_bytes()),
            _ => all.shuffle(rng),
        }
    }
    let mut out = all.concat();
    if rng.random_ratio(1, 8) {
        out.extend(noise(rng, 200));
    }
    out
}

const TARGET: Target = Target {
    name: "frames",
    make,
    check,
    edges: &[MAX_BODY as u64, MAX_BODY as u64 + 1, HEAD as u64, TAG as u64],
};

#[test]
fn fuzz_frames() {
    TARGET.run();
}

/// A tag is over all of a frame.
#[test]
fn every_bit_of_a_frame_counts() {
    let key = FrameKey::new(&KEY);
    for (seq, frame) in (1..).zip(sent()) {
        let mut bent = frame.clone();
        for i in 0..8 * frame.len() {
            bent[i / 8] ^= 1 << (i % 8);
            assert!(open(&bent, &key, seq).is_none(), "bit {i} of frame {seq}");
            bent[i / 8] ^= 1 << (i % 8);
        }
        assert!(open(&bent, &key, seq).is_some());
        assert!(open(&bent, &key, seq + 1).is_none());
    }
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    let s = sent();
    let strange = frames(&[2; 32]);
    let with_length = |len: u32| {
        let mut f = s[1].clone();
        f[4..8].copy_from_slice(&len.to_le_bytes());
        [&s[0][..], &f, &s[2]].concat()
    };
    let bent = |at: usize| {
        let mut f = s[5].clone();
        f[at] ^= 1;
        [s[..5].concat(), f, s[6].clone()].concat()
    };
    for (name, bytes) in [
        ("empty", vec![]),
        ("whole", s.concat()),
        ("replayed", [&s[0][..], &s[1], &s[1], &s[2]].concat()),
        ("replayed_from_the_start", [s.concat(), s.concat()].concat()),
        ("reordered", [&s[0][..], &s[2], &s[1]].concat()),
        ("first_missing", s[1..].concat()),
        ("stale", [&s[0][..], &strange[1]].concat()),
        ("stale_only", strange.concat()),
        ("truncated_head", [&s[0][..], &s[1][..30]].concat()),
        ("truncated_body", [&s[0][..], &s[5][..80]].concat()),
        ("truncated_tag", {
            let all = s[..3].concat();
            all[..all.len() - 1].to_vec()
        }),
        ("longest", with_length(MAX_BODY as u32)),
        ("oversized_by_one", with_length(MAX_BODY as u32 + 1)),
        ("oversized", with_length(u32::MAX)),
        ("bent_magic", bent(0)),
        ("bent_length", bent(4)),
        ("bent_number", bent(8)),
        ("bent_seen", bent(24)),
        ("bent_seen_on_control", bent(32)),
        ("bent_seen_on_bulk", bent(40)),
        ("bent_class", bent(61)),
        ("bent_body", bent(HEAD)),
        ("bent_tag", bent(s[5].len() - 1)),
        ("behind_noise", [b"GET / HTTP/1.0\r\n\r\n", &s.concat()[..]].concat()),
    ] {
        TARGET.write(name, &bytes);
    }
}
