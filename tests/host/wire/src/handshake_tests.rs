// SPDX-License-Identifier: GPL-2.0

//! A handshake in which somebody without the key says, in place of either end, what he likes: also what he has heard
//! in other handshakes, or in this one.
//!
//! Whatever the bytes, an end takes the other for proved if, and only if, all that it heard is what the other end says
//! in this handshake. Then both name each other rightly, mean the same stream, and have the same two keys and name for it.

use crate::fuzz::noise;
use crate::fuzz::Target;
use crate::handshake::derive;
use crate::handshake::Hello;
use crate::handshake::Session;
use crate::handshake::Shaking;
use crate::handshake::HELLO;
use crate::handshake::ID;
use crate::handshake::NONCE;
use crate::handshake::PROOF;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::lane::Lane;
use crate::lane::Side;
use crate::net::Identity;
use crate::release::Speaks;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

/// A node, and its key.
struct Node {
    me: Identity,
    key: Key,
}

impl std::ops::Deref for Node {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.me
    }
}

fn identity(node: u32, cluster: u8, key: u8) -> Node {
    Node {
        me: Identity {
            node: NodeId::new(node).unwrap(),
            incarnation: Incarnation(u64::from(node) + 100),
            cluster: [cluster; 16],
            speaks: Speaks::HERE,
        },
        key: Key::new([key; 32]),
    }
}

/// What is heard, as far as it comes.
struct Parts {
    hello_at_b: Option<[u8; HELLO]>,
    hello_at_a: Option<[u8; HELLO]>,
    proof_at_a: Option<[u8; PROOF]>,
    proof_at_b: Option<[u8; PROOF]>,
}

impl Parts {
    fn of(mut bytes: &[u8]) -> Self {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (first, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(*first)
        }
        let bytes = &mut bytes;
        Self {
            hello_at_b: take(bytes),
            hello_at_a: take(bytes),
            proof_at_a: take(bytes),
            proof_at_b: take(bytes),
        }
    }
}

/// The same four of an honest handshake of `connects` with `accepts`.
fn honest(connects: &Node, accepts: &Node, lane: Lane, nonces: [u8; 2]) -> [Vec<u8>; 4] {
    let a = Hello::new(connects, accepts.node.number(), lane, [nonces[0]; NONCE]);
    let b = Hello::new(accepts, connects.node.number(), lane, [nonces[1]; NONCE]);
    [
        a.as_bytes().to_vec(),
        b.as_bytes().to_vec(),
        derive(&accepts.key, b"B", &a, &b).to_vec(),
        derive(&connects.key, b"A", &a, &b).to_vec(),
    ]
}

const NONCES: [u8; 2] = [1, 2];

/// What the connecting end may want.
const LANES: [Lane; 3] = [
    Lane::Main,
    Lane::Beside(Side::Control, [7; ID]),
    Lane::Beside(Side::Bulk, [7; ID]),
];

fn check(bytes: &[u8]) -> bool {
    let (one, two) = (identity(1, 1, 1), identity(2, 1, 1));
    let truths = LANES.map(|lane| honest(&two, &one, lane, NONCES));
    let Parts {
        hello_at_b: at_b,
        hello_at_a: at_a,
        proof_at_a,
        proof_at_b,
    } = Parts::of(bytes);
    fn is<const N: usize>(heard: &Option<[u8; N]>, said: &[u8]) -> bool {
        heard.as_ref().is_some_and(|h| h[..] == *said)
    }
    let names = |s: &Session, of: &Identity| (s.node, s.incarnation) == (of.node, of.incarnation);

    // The accepting end hears for what lane it is.
    let b = at_b.and_then(|h| Shaking::asked(&one, |_| one.key, h, [NONCES[1]; NONCE]).ok());
    let lane_at_b = at_b.map(|h| u32::from_le_bytes(h[56..60].try_into().unwrap()));
    assert!(b.is_none() || lane_at_b <= Some(2), "answers for no lane");
    let b = b.and_then(|b| {
        let (hello, proof) = b.answer();
        if let Some(truth) = truths.iter().find(|t| is(&at_b, &t[0])) {
            assert!(
                hello.as_bytes() == truth[1] && proof[..] == truth[2][..],
                "what an honest end says"
            );
        }
        b.proved_by_a(&proof_at_b?).ok()
    });
    let is_b = |t: &[Vec<u8>; 4]| is(&at_b, &t[0]) && is(&proof_at_b, &t[3]);
    let lane_of_b = LANES.iter().zip(&truths).find(|(_, t)| is_b(t)).map(|(l, _)| *l);
    assert_eq!(b.as_ref().map(|s| s.lane), lane_of_b, "the accepting end");
    assert!(b.as_ref().is_none_or(|s| names(s, &two)));

    let mut is_any = b.is_some();
    for (lane, truth) in LANES.into_iter().zip(&truths) {
        let hello = Hello::new(&two, 1, lane, [NONCES[0]; NONCE]);
        let a = at_a.and_then(|h| Shaking::answered(&two, Keyring::new(two.key), hello, one.node, h).ok());
        let a = a.and_then(|a| a.proved_by_b(&proof_at_a?).ok());
        let a = a.map(|(proof, session)| {
            assert!(proof[..] == truth[3][..], "what an honest end says");
            session
        });
        let is_a = is(&at_a, &truth[1]) && is(&proof_at_a, &truth[2]);
        assert_eq!(a.is_some(), is_a, "the connecting end");
        let Some(a) = a else { continue };
        assert!(names(&a, &one) && a.lane == lane);
        is_any = true;
        if let Some(b) = &b {
            let is_one = a.lane == b.lane;
            assert_eq!((a.key_in, a.key_out) == (b.key_out, b.key_in), is_one, "the keys");
            assert_eq!(a.id == b.id, is_one, "the name of the stream");
            assert!(a.key_in != a.key_out);
        }
    }
    is_any
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let (one, two, three) = (identity(1, 1, 1), identity(2, 1, 1), identity(3, 1, 1));
    let (a, b) = (
        Hello::new(&two, 1, Lane::Main, [NONCES[0]; NONCE]),
        Hello::new(&one, 2, Lane::Main, [NONCES[1]; NONCE]),
    );
    let pool = [
        honest(&two, &one, Lane::Main, NONCES),
        // Handshakes from before, or going on: the same two, the other way round, a third node.
        honest(&two, &one, Lane::Main, [3, 4]),
        honest(&one, &two, Lane::Main, [5, 6]),
        honest(&three, &one, Lane::Main, [7, 8]),
        honest(&three, &two, Lane::Main, [9, 10]),
        // For the other lanes, now and before.
        honest(&two, &one, LANES[1], NONCES),
        honest(&two, &one, LANES[2], NONCES),
        honest(&two, &one, LANES[1], [11, 12]),
        honest(&two, &one, Lane::Beside(Side::Bulk, [8; ID]), [13, 14]),
        // Somebody without the key who knows all that was said, and somebody of another cluster.
        honest(&identity(2, 1, 9), &identity(1, 1, 9), Lane::Main, NONCES),
        honest(&identity(2, 2, 1), &identity(1, 2, 1), Lane::Main, NONCES),
        // Its own words, sent back.
        [
            b.as_bytes().to_vec(),
            a.as_bytes().to_vec(),
            derive(&two.key, b"A", &a, &b).to_vec(),
            derive(&one.key, b"B", &a, &b).to_vec(),
        ],
    ];
    // The first one, and those for the other lanes.
    let lane = *[0, 5, 6].choose(rng).unwrap();
    let mut out = Vec::new();
    for i in 0..4 {
        let from = if rng.random_ratio(2, 3) {
            &pool[lane]
        } else {
            pool.choose(rng).unwrap()
        };
        out.extend(&from[i]);
    }
    if rng.random_ratio(1, 8) {
        out.extend(noise(rng, 60));
    }
    out
}

const TARGET: Target = Target {
    name: "handshake",
    make,
    check,
    edges: &[HELLO as u64, PROOF as u64],
};

#[test]
fn fuzz_handshake() {
    TARGET.run();
}

/// The proofs cover both hellos, so that none of their bits can be changed on the way.
#[test]
fn every_bit_of_a_handshake_counts() {
    for lane in LANES {
        let bytes = honest(&identity(2, 1, 1), &identity(1, 1, 1), lane, NONCES).concat();
        assert_eq!(bytes.len(), 2 * HELLO + 2 * PROOF);
        assert!(check(&bytes));
        for i in 0..8 * bytes.len() {
            let mut bent = bytes.clone();
            bent[i / 8] ^= 1 << (i % 8);
            check(&bent);
        }
        assert!(Hello::read_from_bytes(&bytes[..HELLO]).is_ok());
    }
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    let (one, two, three) = (identity(1, 1, 1), identity(2, 1, 1), identity(3, 1, 1));
    let [a, b, proof_b, proof_a] = honest(&two, &one, Lane::Main, NONCES);
    let old = honest(&two, &one, Lane::Main, [3, 4]);
    let control = honest(&two, &one, LANES[1], NONCES);
    let bulk = honest(&two, &one, LANES[2], NONCES);
    let of_another = honest(&two, &one, Lane::Beside(Side::Bulk, [8; ID]), [13, 14]);
    let bent = |at: usize, to: u8| {
        let mut all = [&a[..], &b, &proof_b, &proof_a].concat();
        all[at] = to;
        all
    };
    let mut twice = honest(&three, &one, Lane::Main, [7, 8]);
    twice[0][24] = 2;
    for (name, bytes) in [
        ("empty", vec![]),
        ("honest", [&a[..], &b, &proof_b, &proof_a].concat()),
        ("honest_control", control.concat()),
        ("honest_bulk", bulk.concat()),
        ("control_answered_as_bulk", [&control[0][..], &bulk[1], &bulk[2], &control[3]].concat()),
        ("bulk_of_another_stream", of_another.concat()),
        ("bulk_answered_as_main", [&bulk[0][..], &b, &proof_b, &bulk[3]].concat()),
        ("proofs_of_the_other_lane", [&a[..], &b, &bulk[2], &bulk[3]].concat()),
        ("lane_three", bent(56, 3)),
        ("main_of_a_stream", bent(60, 1)),
        ("replayed", old.concat()),
        ("replayed_proofs", [&a[..], &b, &old[2], &old[3]].concat()),
        ("replayed_connecting_end", [&old[0][..], &b, &proof_b, &old[3]].concat()),
        ("reflected_hello", [&b[..], &a, &proof_b, &proof_a].concat()),
        ("reflected_proofs", [&a[..], &b, &proof_a, &proof_b].concat()),
        (
            "another_key",
            honest(&identity(2, 1, 9), &identity(1, 1, 9), Lane::Main, NONCES).concat(),
        ),
        (
            "another_cluster",
            honest(&identity(2, 2, 1), &identity(1, 2, 1), Lane::Main, NONCES).concat(),
        ),
        ("third_node", honest(&three, &one, Lane::Main, [7, 8]).concat()),
        ("number_claimed_twice", twice.concat()),
        ("another_release", bent(4, 2)),
        ("own_number", bent(24, 1)),
        ("no_node", bent(24, 0)),
        ("node_too_large", bent(25, 4)),
        ("for_another_node", bent(28, 3)),
        ("later_incarnation", bent(33, 1)),
        ("bent_nonce", bent(55, 9)),
        ("truncated_hello", a[..HELLO - 1].to_vec()),
        (
            "truncated_proof",
            [&a[..], &b, &proof_b, &proof_a[..PROOF - 1]].concat(),
        ),
    ] {
        TARGET.write(name, &bytes);
    }
}
