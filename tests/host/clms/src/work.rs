// SPDX-License-Identifier: GPL-2.0

//! What heartbeats cost where many cuts cross each other: 64 nodes in one view, then any of them stop hearing any other.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::shapes;
use super::state::Row;

const SECOND: u64 = 1_000_000;

/// As many as a table of the kernel has.
const NODES: usize = 64;

/// Rows that a node may look at between two ticks on account of heartbeats: those that it may, one step more, and one search.
const MOST: usize = 4096 + NODES + 512 * NODES;

/// One world. What is wrong with it.
pub(crate) fn run(seed: u64) -> Option<String> {
    let mut r = SmallRng::seed_from_u64(seed ^ 0x776f_726b);
    let mut w = shapes::settled(vec![Row::default(); NODES], seed);
    w.restarts = false;
    let percent = 2 + 2 * (seed % 3);
    for p in 0..NODES {
        for q in 0..p {
            if r.random_range(0..100) < percent {
                w.cut[p * NODES + q] = true;
                w.cut[q * NODES + p] = true;
            }
        }
    }
    (w.most_work, w.longest) = Default::default();
    w.run(w.now + 4 * SECOND);
    println!(
        "{percent} % of the pairs cut: {} rows between two ticks, {} us for one heartbeat",
        w.most_work,
        w.longest.as_micros()
    );
    let wrong = (w.most_work > MOST).then(|| format!("a node has looked at {} rows", w.most_work));
    w.wrong.or(wrong)
}
