// SPDX-License-Identifier: GPL-2.0

//! The table changes while nodes die, are cut off and come back: nodes are added and removed, votes go up and down.

use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::faults;
use super::shapes::CALM;
use super::state::{Row, Times};
use super::world::{Micros, Network, Tab, Table, World};

const SECOND: Micros = 1_000_000;

/// Places beside those that the first table has.
const SPARE: usize = 2;

/// What a tool may ask for: any row put in, taken out, or with up to two votes more or less.
fn wish(r: &mut SmallRng, tab: &Tab) -> Tab {
    let mut next = tab.rows.clone();
    let p = r.random_range(0..next.len());
    next[p] = match next[p] {
        None => Some(Row {
            votes: r.random_range(0..=2),
            is_witness: r.random_range(0..8) == 0,
        }),
        Some(_) if r.random_range(0..2) == 0 => None,
        Some(row) => Some(Row {
            votes: row.votes.saturating_add_signed(r.random_range(-2..=2)),
            ..row
        }),
    };
    let votes = |witness: bool| {
        let of = next.iter().flatten().filter(|r| r.is_witness == witness);
        of.map(|r| u32::from(r.votes)).sum::<u32>()
    };
    if votes(true) < votes(false) {
        after(tab, next)
    } else {
        tab.clone()
    }
}

/// The table that follows one.
fn after(tab: &Tab, rows: Vec<Option<Row>>) -> Tab {
    Rc::new(Table {
        generation: tab.generation + 1,
        rows,
    })
}

/// A machine that is no member gets the files of one that acts.
fn copy(w: &mut World<1>, i: usize) {
    let acts = w.acting();
    let from = (0..acts.len()).find(|p| acts[*p].is_some());
    if let Some(from) = from.filter(|_| w.machines[i].is_none() || w.is_joining(i)) {
        w.files[i] = w.files[from].clone();
        w.crash(i);
        w.restart(i, SECOND / 10);
    }
}

/// One world: 40 s of faults and changes, then peace. How many tables were in force, or what is wrong.
pub(crate) fn run(seed: u64, times: Times) -> Result<usize, String> {
    let mut r = SmallRng::seed_from_u64(seed ^ 0x7461_626c);
    let few = r.random_range(2..=5);
    let n = few + SPARE;
    let Some(rows) = faults::table(&mut r, few) else {
        return Ok(0);
    };
    let rows: Vec<_> = rows.into_iter().map(Some).chain([None; SPARE]).collect();
    let network = Network {
        delay: (100, if r.random_range(0..4) == 0 { 900_000 } else { 3_000 }),
        lost: r.random_range(0..2) * r.random_range(0..300),
        doubled: r.random_range(0..200),
    };
    let mut w = World::<1>::of_table(rows, times, 100_000, network, seed);
    let begin = w.now;
    let pick = |r: &mut SmallRng| r.random_range(0..n);
    let mut next = None;
    w.run(w.now + 4 * SECOND);
    while w.now < begin + 40 * SECOND && w.wrong.is_none() {
        let until = w.now + r.random_range(0..SECOND);
        w.run(until);
        let (a, b) = (pick(&mut r), pick(&mut r));
        match r.random_range(0..60) {
            0 => {
                w.crash(a);
                w.restart(a, r.random_range(0..6 * SECOND));
            }
            // All that hear each other: what they knew is in the files only.
            1 => {
                for i in 0..n {
                    if r.random_range(0..4) != 0 {
                        w.crash(i);
                        w.restart(i, r.random_range(0..3 * SECOND));
                    }
                }
            }
            2 => {
                w.cut[a * n + b] = true;
                w.cut[b * n + a] = true;
            }
            3 => {
                let side: u64 = r.random();
                for i in 0..n * n {
                    w.cut[i] = (side >> (i / n)) & 1 != (side >> (i % n)) & 1;
                }
            }
            4..7 => w.cut.fill(false),
            7 => w.pause(a, !w.is_paused(a)),
            8 => w.leave(a),
            9 => w.unstage(a),
            10 | 11 => copy(&mut w, a),
            // The tool goes from node to node, and may die at any.
            12..32 => {
                if next.is_none() || r.random_range(0..3) == 0 {
                    next = w.tab(a).map(|t| wish(&mut r, &t));
                }
                for i in 0..n {
                    if let Some(next) = next.as_ref().filter(|_| r.random_range(0..8) != 0) {
                        let dies = r.random_range(0..16) == 0;
                        w.stage(i, next, dies);
                    }
                }
            }
            32..52 => {
                for i in 0..n {
                    if r.random_range(0..8) != 0 {
                        w.settle(i);
                    }
                }
            }
            _ => {}
        }
    }
    let fail = |what: String| Err(format!("seed {seed}, {n} places: {what}"));
    let tables = w.tables();
    if w.wrong.is_none() {
        peace(&mut w, n);
    }
    match w.wrong {
        Some(what) => fail(what),
        None => Ok(tables),
    }
}

/// Everything is mended: all nodes of one table come into one view, if whoever has an old table is given that in force.
fn peace(w: &mut World<1>, n: usize) {
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
    w.run(w.now + 20 * SECOND);
    // Whatever tools have left half done, those who act have a view, without anybody's help.
    if w.wrong.is_none() && !w.is_whole() {
        let says: Vec<_> = w.machines.iter().flatten().map(|m| m.says()).collect();
        w.wrong = Some(format!("no view: {says:?}"));
    }
    for _ in 0..6 {
        for i in 0..n {
            w.unstage(i);
        }
        w.run(w.now + 2 * SECOND);
        for i in 0..n {
            w.settle(i);
        }
        w.run(w.now + SECOND);
        let acts = w.acting();
        for i in 0..n {
            let Some(tab) = (0..n).find(|p| acts[*p].is_some()).and_then(|p| w.tab(p)) else {
                continue;
            };
            if tab.rows[i].is_none() {
                w.crash(i);
            } else if acts[i].is_none() {
                copy(w, i);
            }
        }
        w.run(w.now + 8 * SECOND);
    }
    if w.wrong.is_none() && w.agreed().is_none() {
        let says: Vec<_> = w.machines.iter().flatten().map(|m| m.says()).collect();
        w.wrong = Some(format!("no peace: {says:?} {:?}", w.files));
    }
}

/// Three nodes that are in one view, in a table with room.
fn three(seed: u64) -> World<1> {
    let rows = [Some(Row::default()); 3].into_iter().chain([None; SPARE]).collect();
    let mut w = World::<1>::of_table(rows, Times::new(2000, 1500), 100_000, CALM, seed);
    w.run(w.now + 5 * SECOND);
    w
}

/// Asks all for a change, and starts the node that it puts in.
fn ask(w: &mut World<1>, p: usize, row: Row) {
    let Some(tab) = w.tab(2) else { return };
    let mut rows = tab.rows.clone();
    let is_new = rows[p].replace(row).is_none();
    let next = after(&tab, rows);
    let staged = (0..next.rows.len()).filter(|i| w.stage(*i, &next, false)).count();
    w.run(w.now + SECOND);
    if is_new && staged > 0 {
        w.files[p].tab = next;
        w.boot(p, 1000 * SECOND);
        w.run(w.now + 2 * SECOND);
    }
}

/// A tool that settles nothing wants too much. Then two of the first three nodes start again, and do not hear the others. The world
/// says what is wrong.
pub(crate) fn apart(seed: u64) -> Option<String> {
    let mut w = three(seed);
    if seed % 2 == 0 {
        let row = Row {
            votes: 3,
            is_witness: false,
        };
        ask(&mut w, 2, row);
    } else {
        for p in 3..5 {
            ask(&mut w, p, Row::default());
        }
    }
    let n = w.files.len();
    for i in 0..n * n {
        w.cut[i] = (i / n < 2) != (i % n < 2);
    }
    for i in 0..2 {
        w.crash(i);
        w.restart(i, SECOND / 10);
    }
    w.run(w.now + 10 * SECOND);
    w.wrong
}

/// One node alone has switched, and dies; the others give the change up. It comes back.
pub(crate) fn alone(seed: u64) -> Option<String> {
    let mut w = three(seed);
    let tab = w.tab(0)?;
    let mut rows = tab.rows.clone();
    rows[3] = Some(Row::default());
    let next = after(&tab, rows);
    for i in 0..3 {
        w.stage(i, &next, false);
    }
    let has_switched = |w: &World<1>, i: usize| w.tab(i).is_some_and(|t| t == next);
    let end = w.now + SECOND;
    while w.now < end && !(0..3).any(|i| has_switched(&w, i)) {
        w.run(w.now + 50);
    }
    let first = (0..3).find(|i| has_switched(&w, *i))?;
    w.settle(first);
    w.crash(first);
    w.cut.fill(true);
    w.run(w.now + SECOND / 100);
    w.cut.fill(false);
    w.run(w.now + SECOND * 4);
    (0..3).for_each(|i| w.unstage(i));
    w.boot(first, 1000 * SECOND);
    w.run(w.now + 10 * SECOND);
    let is_back = w.agreed().is_some_and(|v| v.members.len() == 3);
    w.wrong
        .or_else(|| (!is_back).then(|| format!("seed {seed}: node {first} is not back")))
}

/// Six nodes, of which the sixth gets a vote. Who leads dies when it has told few that all have switched, and the others do not hear of it
/// for a while: so who leads then may have proposed something else before. In the end those who are left have a view.
pub(crate) fn in_part(seed: u64) -> Option<String> {
    in_part_ends(seed).err()
}

/// As [`in_part`]; and whether anybody is left that acts.
pub(crate) fn in_part_ends(seed: u64) -> Result<bool, String> {
    let mut r = SmallRng::seed_from_u64(seed ^ 0x7061_7274);
    let votes = |v| Row {
        votes: v,
        is_witness: false,
    };
    let rows = [1, 1, 1, 1, 1, 0].map(|v| Some(votes(v))).to_vec();
    let n = rows.len();
    let mut w = World::<1>::of_table(rows, Times::new(2000, 1500), 100_000, CALM, seed);
    w.restarts = false;
    w.run(w.now + 5 * SECOND);
    let tab = w.tab(0).ok_or("no table at the beginning")?;
    let mut rows = tab.rows.clone();
    rows[5] = Some(votes(1));
    let next = after(&tab, rows);
    (0..n).for_each(|i| {
        w.stage(i, &next, false);
    });
    let has_switched = |w: &World<1>, i: usize| w.tab(i).is_some_and(|t| t == next);
    let says = |w: &World<1>, i: usize| w.machines[i].as_ref().map(|m| m.says());
    let is_promised = |w: &World<1>| {
        let id = says(w, 0).map(|s| s.proposal.id).filter(|id| *id != 0);
        id.is_some() && (1..n).all(|i| says(w, i).map(|s| s.promised) == id)
    };
    let end = w.now + SECOND;
    while w.now < end && !is_promised(&w) {
        w.run(w.now + 50);
    }
    // Few are told.
    for i in 1..n {
        w.cut[i] = r.random_range(0..3) != 0;
    }
    w.run(w.now + 5_000);
    w.crash(0);
    // For a while they do not reach the others, or not who leads now: that one proposes something else.
    let is_told: Vec<_> = (0..n).map(|i| has_switched(&w, i)).collect();
    let some: u64 = r.random();
    let lead = r.random_range(0..2) == 0;
    for i in 1..n {
        for j in 1..n {
            w.cut[i * n + j] = if lead {
                (i == 1 && (some >> j) & 1 != 0) || (j == 1 && (some >> i) & 1 != 0)
            } else {
                is_told[i] != is_told[j]
            };
        }
    }
    // It is missed at once if it is heard again.
    if r.random_range(0..2) == 0 {
        w.boot(0, 0);
    }
    w.run(w.now + r.random_range(0..3 * SECOND));
    w.cut.fill(false);
    // Whoever has switched may die just then.
    if r.random_range(0..3) == 0 {
        w.run(w.now + r.random_range(0..SECOND / 2));
        if let Some(p) = (2..n).find(|p| has_switched(&w, *p)) {
            w.crash(p);
        }
    }
    w.run(w.now + 12 * SECOND);
    if let Some(what) = w.wrong {
        return Err(what);
    }
    if !w.is_whole() {
        return Err(format!("seed {seed}: no view"));
    }
    Ok(w.acting().iter().any(Option::is_some))
}

/// What is wrong with one.
pub(crate) fn wrong(seed: u64) -> Option<String> {
    run(seed, Times::new(2000, 1500)).err()
}
