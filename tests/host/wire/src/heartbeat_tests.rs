// SPDX-License-Identifier: GPL-2.0

//! Datagrams: heartbeats of the table's nodes, replayed, late, truncated, bent, of other clusters, and anything else.
//!
//! Whatever the bytes, what is heard was said, as it is, by a node with the key that is not this one; what each node is
//! heard to say rises in its order; what answers another life, or no heartbeat of this one, is no answer and no support;
//! each datagram that is not heard is counted once, under its kind, or came before.

use crate::fuzz::noise;
use crate::fuzz::Target;
use crate::heartbeat::Answer;
use crate::heartbeat::Datagram;
use crate::heartbeat::News;
use crate::heartbeat::LEN;
use crate::heartbeat::SAYS;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::net::Identity;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::release::Speaks;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::net::Address;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use zerocopy::IntoBytes;

/// A node, and its key.
struct Node {
    me: Identity,
    keys: Keyring,
}

fn identity(node: u32, incarnation: u64, cluster: u8, key: u8) -> Node {
    Node {
        me: Identity {
            node: NodeId::new(node).unwrap(),
            incarnation: Incarnation(incarnation),
            cluster: [cluster; 16],
            speaks: Speaks::HERE,
        },
        keys: Keyring::new(Key::new([key; 32])),
    }
}

/// What one of that number answers: the hearer's life, none, the life before or after, or no heartbeat of it.
fn answer(seq: u64) -> Answer {
    let (incarnation, answered, supports) = match seq {
        0 => (0, 0, 0),
        1 => (7, 9, 4),
        2 => (6, 9, 4),
        3 => (7, 0, 4),
        4 => (8, 0, 0),
        n => (7, n, n),
    };
    Answer {
        incarnation: Incarnation(incarnation),
        seq: answered,
        supports,
    }
}

/// One to node 1.
fn datagram(of: &Node, seq: u64) -> Vec<u8> {
    datagram_to(1, of, seq)
}

fn datagram_to(to: u32, of: &Node, seq: u64) -> Vec<u8> {
    let mut says = [0; SAYS];
    for (i, b) in says.iter_mut().enumerate() {
        *b = (i as u64).wrapping_mul(seq) as u8 ^ of.me.node.number() as u8;
    }
    let keys = of.keys.towards(None);
    Datagram::new(&of.me, (NodeId::new(to).unwrap(), Speaks::HERE.newest), keys, seq, answer(seq), &says)
        .as_bytes()
        .to_vec()
}

/// Who said it, its number, and the bytes.
type Said = (u32, (Incarnation, u64), Vec<u8>);

/// All that was ever said with the key to node 1.
fn said() -> &'static [Said] {
    static SAID: OnceLock<Vec<Said>> = OnceLock::new();
    SAID.get_or_init(|| {
        let mut all = Vec::new();
        for (node, incarnation) in [(1, 7), (2, 7), (2, 9), (3, 7)] {
            for seq in [0, 1, 2, 3, 4, u64::MAX] {
                let of = identity(node, incarnation, 1, 1);
                all.push((node, (Incarnation(incarnation), seq), datagram(&of, seq)));
            }
        }
        all
    })
}

/// One byte after the other: length in two, then the datagram.
fn packed<'a>(datagrams: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let pack = |d: &'a [u8]| [&(d.len() as u16).to_le_bytes(), d].concat();
    datagrams.into_iter().flat_map(pack).collect()
}

fn unpacked(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (datagram, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*len).into()));
        all.push(datagram);
        bytes = rest;
    }
    all
}

fn check(bytes: &[u8]) -> bool {
    let Node { me, keys } = identity(1, 7, 1, 1);
    let counters = Counters::default();
    let version = u32::from(Speaks::HERE.newest).to_le_bytes();
    let mut newest = BTreeMap::new();
    let mut heard = 0;
    for datagram in unpacked(bytes) {
        let count = || [Refused::Torn, Refused::Version, Refused::Tag, Refused::Stale].map(|w| counters.count(w));
        let before = count();
        let mut asked = None;
        // As `Net::news`.
        let news = |node: NodeId, incarnation, seq| {
            let last = newest.entry(node.number()).or_insert((Incarnation(0), 0));
            let is = (incarnation, seq).cmp(last);
            *last = (incarnation, seq).max(*last);
            asked = Some(is);
            match is {
                Ordering::Less => News::Old,
                Ordering::Equal => News::Again,
                Ordering::Greater => News::New,
            }
        };
        let result = Datagram::check(&me, &keys, &counters, Address::NONE, datagram, news);
        let after = count();
        let counted: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();

        let truth = said().iter().find(|s| s.2 == datagram);
        let want = match (truth, asked) {
            (None, None) if datagram.len() < 8 || datagram[..4] != *b"SSIB" => [1, 0, 0, 0],
            (None, None) if datagram[4..8] != version => [0, 1, 0, 0],
            (None, None) if datagram.len() != LEN => [1, 0, 0, 0],
            (None, None) => [0, 0, 1, 0],
            (None, Some(_)) => panic!("a number is taken from what nobody said"),
            (Some((node, ..)), _) if *node == me.node.number() => [0, 0, 0, 1],
            (Some(_), Some(Ordering::Less)) => [0, 0, 0, 1],
            (Some(_), Some(_)) => [0; 4],
            (Some(_), None) => panic!("what was said is refused unread"),
        };
        assert_eq!(counted, want, "torn, version, tag, stale");
        let is_new = asked == Some(Ordering::Greater);
        assert_eq!(result.is_ok(), is_new);
        if let (Ok(h), Some((node, (incarnation, seq), bytes))) = (result, truth) {
            let said = (*node, *incarnation, *seq);
            assert_eq!((h.node.number(), h.incarnation, h.seq), said);
            let is_mine = *seq == 1 || *seq == u64::MAX;
            let of = answer(*seq);
            assert_eq!(h.answers, is_mine.then_some(of.seq), "what it answers");
            assert_eq!(h.later.map(|i| i.0), (*seq == 4).then_some(8), "a later life");
            assert_eq!(h.supports, if is_mine { of.supports } else { 0 });
            assert!(bytes.windows(SAYS).any(|w| w == h.says), "what it said");
            heard += 1;
        }
    }
    heard > 0
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..rng.random_range(0..8) {
        let mut d = said().choose(rng).unwrap().2.clone();
        match rng.random_range(0..12) {
            0 => d = datagram(&identity(2, 8, 1, 9), rng.random()),
            1 => d = datagram(&identity(2, 8, 2, 1), rng.random()),
            2 => d.truncate(rng.random_range(0..LEN)),
            3 => d.push(rng.random()),
            4 => d[rng.random_range(0..LEN)] ^= 1 << rng.random_range(0..8),
            5 => d = noise(rng, 300),
            6 => d = datagram_to(3, &identity(2, 7, 1, 1), 3),
            _ => {}
        }
        all.push(d);
    }
    packed(all.iter().map(|d| &d[..]))
}

const TARGET: Target = Target {
    name: "heartbeats",
    make,
    check,
    edges: &[LEN as u64],
};

#[test]
fn fuzz_heartbeats() {
    TARGET.run();
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    let s = |node: u32, incarnation, seq| {
        let of = identity(node, incarnation, 1, 1);
        datagram(&of, seq)
    };
    let good = s(2, 7, 1);
    let bent = |at: usize| {
        let mut b = good.clone();
        b[at] ^= 1;
        vec![b, s(2, 7, 2)]
    };
    for (name, datagrams) in [
        ("empty", vec![vec![]]),
        (
            "in_order",
            vec![s(2, 7, 1), s(3, 7, 1), s(2, 7, 2), s(3, 7, 2), s(2, 7, 3)],
        ),
        ("on_two_links", vec![s(2, 7, 1), s(2, 7, 1), s(2, 7, 2), s(2, 7, 2)]),
        ("reordered", vec![s(2, 7, 2), s(2, 7, 1), s(2, 7, 3)]),
        (
            "replayed",
            vec![s(2, 7, 1), s(2, 7, 2), s(2, 7, 3), s(2, 7, 1), s(2, 7, 2)],
        ),
        ("stale", vec![s(2, 7, 1), s(2, 9, 1), s(2, 7, 2), s(2, 7, u64::MAX)]),
        ("answers_of_all_sorts", {
            let seqs = [1, 2, 3, 4, u64::MAX];
            seqs.map(|seq| s(2, 7, seq)).to_vec()
        }),
        (
            "for_another_node",
            vec![datagram_to(3, &identity(2, 7, 1, 1), 3), s(2, 7, 1)],
        ),
        ("number_zero", vec![s(2, 7, 0), s(2, 7, 1)]),
        ("reflected", vec![s(1, 7, 1), s(2, 7, 1)]),
        ("truncated", vec![good[..LEN - 1].to_vec(), s(2, 7, 2)]),
        ("oversized", vec![[&good[..], &[0]].concat(), s(2, 7, 2)]),
        ("another_key", vec![good.clone(), datagram(&identity(2, 8, 1, 9), 5)]),
        (
            "another_cluster",
            vec![good.clone(), datagram(&identity(2, 8, 2, 1), 5)],
        ),
        ("bent_magic", bent(0)),
        ("bent_node", bent(4)),
        ("bent_incarnation", bent(8)),
        ("bent_number", bent(16)),
        ("bent_answer", bent(24)),
        ("bent_answered_number", bent(32)),
        ("bent_supports", bent(40)),
        ("bent_says", bent(100)),
        ("bent_tag", bent(LEN - 1)),
    ] {
        TARGET.write(name, &packed(datagrams.iter().map(|d| &d[..])));
    }
}
