// SPDX-License-Identifier: GPL-2.0

//! Cuts that stay: 3 to 8 nodes in one view, of which any may stop hearing any other.
//!
//! Where some set of nodes hears each other and has a majority, the best such set goes on, and nobody else. Where none has,
//! nobody is left out: who hears a majority goes on, and knows of the cuts.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults;
use super::state::{Row, Times};
use super::world::{Micros, Network, World};

const SECOND: Micros = 1_000_000;

/// Quick, and without faults of its own.
pub(crate) const CALM: Network = Network {
    delay: (100, 3_000),
    lost: 0,
    doubled: 0,
};

/// What became of one world.
pub(crate) enum Outcome {
    /// The best set went on.
    Whole,
    /// There was none, but some nodes hear a majority.
    Torn,
    /// There was none, and nobody hears a majority.
    Gone,
}

/// A world of machines that have come into one view.
pub(crate) fn settled(rows: Vec<Row>, seed: u64) -> World<1> {
    let mut w = World::<1>::new(rows, Times::new(2000, 1500), 100_000, CALM, seed);
    let end = w.now + 20 * SECOND;
    while w.agreed().is_none() && w.wrong.is_none() && w.now < end {
        w.run(w.now + SECOND);
    }
    w.run(w.now + SECOND);
    w
}

/// The sets that hear each other and have a majority, the best last.
fn teams(rows: &[Row], hears: impl Fn(usize, usize) -> bool) -> Vec<u64> {
    let n = rows.len();
    let votes = |set: u64| {
        let of = (0..n).filter(|p| set >> p & 1 == 1);
        of.map(|p| u32::from(rows[p].votes)).sum::<u32>()
    };
    let is_team = |set: &u64| {
        let all = |p: usize| (0..n).all(|q| set >> q & 1 == 0 || p == q || hears(p, q));
        votes(*set) * 2 > votes(u64::MAX) && (0..n).all(|p| set >> p & 1 == 0 || all(p))
    };
    let mut teams: Vec<_> = (1..1 << n).filter(is_team).collect();
    // Of two of one size that is lower which has the lowest node that is in one only.
    teams.sort_by_key(|t: &u64| (votes(*t), t.count_ones(), t.reverse_bits()));
    teams
}

/// One world. What became of it, or what is wrong.
pub(crate) fn run(seed: u64) -> Result<Outcome, String> {
    let mut r = SmallRng::seed_from_u64(seed ^ 0x7368_6170);
    let n = r.random_range(3..=8);
    let Some(rows) = faults::table(&mut r, n) else {
        return Ok(Outcome::Gone);
    };
    let mut w = settled(rows.clone(), seed);
    let old = w.agreed();
    let density = r.random_range(1..6);
    for p in 0..n {
        for q in 0..p {
            if r.random_range(0..10) < density {
                let way = r.random_range(0..4);
                w.cut[p * n + q] = way != 0;
                w.cut[q * n + p] = way != 1;
            }
        }
    }
    let cut = w.cut.clone();
    let hears = |p: usize, q: usize| !cut[p * n + q] && !cut[q * n + p];
    w.run(w.now + 20 * SECOND);
    let before = w.installs;
    w.run(w.now + 5 * SECOND);
    let fail = |what: String| {
        let pairs: Vec<_> = (0..n * n).map(|i| (i / n, i % n)).collect();
        let cuts: Vec<_> = pairs.iter().filter(|(p, q)| p < q && !hears(*p, *q)).collect();
        Err(format!("seed {seed}, {n} nodes, cuts {cuts:?}, {rows:?}: {what}"))
    };
    if let Some(what) = w.wrong {
        return fail(what);
    }
    if w.installs != before {
        return fail("no peace".into());
    }
    let acting = w.acting();
    let views: Vec<_> = acting.iter().flatten().collect();
    let teams = teams(&rows, hears);
    if let Some(best) = teams.last() {
        let set = views.first().map_or(0, |v| v.members.words()[0]);
        if set != *best {
            return fail(format!("the teams are {teams:x?}, but {set:x} acts"));
        }
        if (0..n).any(|p| acting[p].is_some() != (set >> p & 1 == 1)) || views.iter().any(|v| *v != views[0]) {
            return fail(format!("not all of {set:x}, or others too, act: {acting:?}"));
        }
        return Ok(Outcome::Whole);
    }
    for p in 0..n {
        if acting[p].is_none() {
            continue;
        }
        if acting[p] != old {
            return fail(format!("node {p} acts in a view that cannot be"));
        }
        let Some(pairs) = w.torn(p) else {
            return fail(format!("node {p} does not say that the cluster is torn"));
        };
        if pairs.is_empty()
            || pairs
                .iter()
                .any(|(a, b)| hears(*a, *b) && acting[*a].is_some() && acting[*b].is_some())
        {
            return fail(format!("node {p} says that these are cut: {pairs:?}"));
        }
    }
    Ok(if views.is_empty() { Outcome::Gone } else { Outcome::Torn })
}

/// What is wrong with one.
pub(crate) fn wrong(seed: u64) -> Option<String> {
    run(seed).err()
}
