// SPDX-License-Identifier: GPL-2.0

//! Nodes that want out, and such as come back at once.

use super::shapes::settled;
use super::state::Row;
use super::world::{Micros, World};

const SECOND: Micros = 1_000_000;

/// A node wants out and hears nobody: it is out when its lease ends.
pub(crate) fn cut_off(seed: u64) -> Option<String> {
    let n = 3 + seed as usize % 3;
    let mut w = settled(vec![Row::default(); n], seed);
    w.restarts = false;
    let leaver = seed as usize % n;
    w.leave(leaver);
    for p in 0..n {
        w.cut[leaver * n + p] = true;
        w.cut[p * n + leaver] = true;
    }
    w.run(w.now + 3 * SECOND);
    if w.wrong.is_some() {
        return w.wrong;
    }
    (w.left[leaver] != 1).then(|| format!("seed {seed}: node {leaver} of {n} waits"))
}

/// Any of 3 to 6 nodes want out at once: as many leave as can, the others stay.
pub(crate) fn together(seed: u64) -> Option<String> {
    let n = 3 + seed as usize % 4;
    let mut w = settled(vec![Row::default(); n], seed);
    w.restarts = false;
    let wishes = (0..n).filter(|p| seed / 4 >> p & 1 == 1).collect::<Vec<_>>();
    for p in &wishes {
        w.leave(*p);
    }
    w.run(w.now + 5 * SECOND);
    let left = w.left.iter().sum::<u32>() as usize;
    let can = wishes.len().min(n - (n / 2 + 1));
    if let Some(p) = (0..n).find(|p| w.is_leaving(*p)) {
        return Some(format!("seed {seed}: node {p} of {n} still waits, of {wishes:?}"));
    }
    (left != can).then(|| format!("seed {seed}: {left} of {wishes:?} have left, of {n}"))
}

/// A node leaves and joins again at once: until its earlier life is over for all, others come in without it.
pub(crate) fn comes_back(seed: u64) -> Option<String> {
    let n = 4 + seed as usize % 3;
    let mut w = settled(vec![Row::default(); n], seed);
    let (back, new) = (seed as usize % n, (seed as usize + 1) % n);
    w.crash(new);
    w.run(w.now + 5 * SECOND);
    w.leave(back);
    let end = w.now + 5 * SECOND;
    let is_in = |w: &World<1>| w.acting().iter().flatten().any(|v| v.members.contains(back));
    while (w.left[back] == 0 || is_in(&w)) && w.now < end {
        w.run(w.now + SECOND / 100);
    }
    let (begin, before) = (w.now, w.installs);
    w.boot(new, 1000 * SECOND);
    while w.installs == before && w.now < end {
        w.run(w.now + SECOND / 100);
    }
    let ms = (w.now - begin) / 1000;
    w.run(w.now + 5 * SECOND);
    if w.agreed().is_none() {
        return Some(format!("seed {seed}: not all are back"));
    }
    (ms > 1000).then(|| format!("seed {seed}: node {new} of {n} comes in after {ms} ms"))
}

/// A member dies and is back at once, while another still acts on its support. The world says what is wrong.
pub(crate) fn reborn(seed: u64) -> Option<String> {
    let mut w = settled(vec![Row::default(); 3], seed);
    let cut = |w: &mut World<1>, p: usize, q: usize| {
        w.cut[p * 3 + q] = true;
        w.cut[q * 3 + p] = true;
    };
    // Node 1 is out, and waits for somebody to join with.
    cut(&mut w, 0, 1);
    w.run(w.now + 20 * SECOND);
    cut(&mut w, 0, 2);
    w.crash(2);
    w.restart(2, SECOND / 100);
    w.run(w.now + 10 * SECOND);
    w.wrong
}
