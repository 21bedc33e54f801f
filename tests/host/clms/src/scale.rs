// SPDX-License-Identifier: GPL-2.0

//! What a change costs with many nodes: messages beside the regular heartbeats, and time.

use crate::state::{Row, Times};
use crate::world::{Micros, Network, World};

const BEAT: Micros = 100_000;

/// Lets a node die in a cluster of `n`. Messages of the change, and ms from the death to the last installation.
fn death<const W: usize>(n: usize) -> (u64, u64) {
    let network = Network {
        delay: if n <= 64 { (200, 400) } else { (0, 0) },
        lost: 0,
        doubled: 0,
    };
    let mut w = World::<W>::new(vec![Row::default(); n], Times::new(2000, 1500), BEAT, network, n as u64);
    w.restarts = false;
    while w.agreed().is_none() {
        w.run(w.now + BEAT);
        assert!(w.wrong.is_none() && w.now < 3_700_000_000, "{n} nodes: {:?}", w.wrong);
    }
    w.run(w.now + 2 * BEAT);
    let (begin, before) = (w.now, w.messages);
    // The one that makes views dies: the most that can be lost.
    w.crash(0);
    while w.agreed().is_none() {
        w.run(w.now + BEAT);
        assert!(
            w.wrong.is_none() && w.now < begin + 10_000_000,
            "{n} nodes: {:?}",
            w.wrong
        );
    }
    (w.messages - before, (w.last_install - begin) / 1000)
}

fn print(n: usize, (messages, ms): (u64, u64)) {
    println!("view_change {n} nodes: {messages} messages, {ms} ms");
    assert!(messages <= 3 * n as u64, "more than 3 messages to a node");
}

#[test]
fn a_change_takes_three_messages_to_each_node() {
    for n in [3, 4, 5, 8, 16, 32] {
        print(n, death::<1>(n));
    }
    print(64, death::<1>(64));
    print(128, death::<2>(128));
}

#[test]
#[ignore = "a minute"]
fn a_change_of_hundreds() {
    print(256, death::<4>(256));
    print(512, death::<8>(512));
    print(1024, death::<16>(1024));
}

#[test]
#[ignore = "minutes, and some GiB"]
fn a_change_of_thousands() {
    print(2048, death::<32>(2048));
    print(4096, death::<64>(4096));
}
