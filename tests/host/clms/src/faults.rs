// SPDX-License-Identifier: GPL-2.0

//! Worlds of any number of nodes with faults of every kind, from seeds.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::state::{Row, Times};
use super::world::{Broken, Micros, Network, World};

const SECOND: Micros = 1_000_000;

/// The rows of `n` nodes; `None` for a table that a join refuses, as its witnesses have a majority.
pub(crate) fn table(r: &mut SmallRng, n: usize) -> Option<Vec<Row>> {
    let rows = (0..n)
        .map(|i| Row {
            votes: if r.random_range(0..8) == 0 {
                r.random_range(0..3)
            } else {
                1
            },
            is_witness: i > 0 && r.random_range(0..8) == 0,
        })
        .collect::<Vec<_>>();
    let votes = |witness: bool| {
        let of = rows.iter().filter(|r| r.is_witness == witness);
        of.map(|r| u32::from(r.votes)).sum::<u32>()
    };
    (votes(true) < votes(false)).then_some(rows)
}

fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed ^ 0x5353_4921)
}

/// One world of 2 to 9 nodes: half a minute of faults, then peace. What is wrong with it.
pub(crate) fn run(seed: u64, times: Times, broken: Broken) -> Option<String> {
    let mut r = rng(seed);
    let n = r.random_range(2..=9);
    world::<1>(n, r, seed, times, broken)
}

/// The same with so many nodes.
pub(crate) fn run_of<const W: usize>(n: usize, seed: u64, times: Times) -> Option<String> {
    world::<W>(n, rng(seed), seed, times, Broken::Nothing)
}

fn world<const W: usize>(n: usize, mut r: SmallRng, seed: u64, times: Times, broken: Broken) -> Option<String> {
    let rows = table(&mut r, n)?;
    let network = Network {
        delay: (100, if r.random_range(0..3) == 0 { 900_000 } else { 3_000 }),
        lost: r.random_range(0..2) * r.random_range(0..300),
        doubled: r.random_range(0..200),
    };
    let mut w = World::<W>::new(rows, times, 100_000, network, seed);
    w.broken = broken;
    let begin = w.now;
    let pick = |r: &mut SmallRng| r.random_range(0..n);
    while w.now < begin + 30 * SECOND && w.wrong.is_none() {
        let until = w.now + r.random_range(0..3 * SECOND);
        w.run(until);
        let (a, b) = (pick(&mut r), pick(&mut r));
        match r.random_range(0..10) {
            0 => {
                w.crash(a);
                w.restart(a, r.random_range(0..10 * SECOND));
            }
            1 => w.cut[a * n + b] = true,
            2 => {
                w.cut[a * n + b] = true;
                w.cut[b * n + a] = true;
            }
            3 => {
                let side: u64 = r.random();
                for i in 0..n * n {
                    let of = |node: usize| (side >> (node % 64)) & 1;
                    w.cut[i] = of(i / n) != of(i % n);
                }
            }
            4 | 5 => w.cut.fill(false),
            6 => w.pause(a, !w.is_paused(a)),
            7 => w.leave(a),
            8 => w.stay(a),
            _ => {}
        }
    }
    if w.wrong.is_none() {
        w.cut.fill(false);
        w.network = Network {
            delay: (100, 3_000),
            lost: 0,
            doubled: 0,
        };
        for i in 0..n {
            w.pause(i, false);
            w.restart(i, SECOND);
        }
        w.run(w.now + 30 * SECOND);
        let before = w.installs;
        w.run(w.now + 5 * SECOND);
        if w.wrong.is_none() && (w.agreed().is_none() || w.installs != before) {
            let says: Vec<_> = w.machines.iter().flatten().map(|m| m.says()).collect();
            w.wrong = Some(format!("no peace: {says:#?}"));
        }
    }
    w.wrong.map(|what| format!("seed {seed}, {n} nodes: {what}"))
}
