// SPDX-License-Identifier: GPL-2.0

//! A node dies at a step of a change of the view: the others have one history, lose nobody else, and it comes back.
//!
//! A change is proposed, promised and installed, and carried out; the failpoints are in `clms/thread.rs` and `clms/changes.rs`.
//! Five nodes, so that two may be missing.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use crate::views;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_crash_change",
        promise: "who makes a view, or joins, dies when it has said what it proposes, or installs: one history, nobody else lost",
        faults: "power cut of node 5, panic of node 1; panic of node 5, which joins",
        expected: &["failpoint"],
        nodes: 5,
        seconds: 300,
        run: |c| {
            tour(c, Cause::Loss, 1, &["View.proposed", "View.installed"])?;
            tour(c, Cause::Join, JOINER, &["View.promised", "View.admitted"])
        },
        ..Case::DEFAULT
    },
    Case {
        name: "clms_crash_loss",
        promise: "who makes a view, or another member, killed at each step of a change that a death causes: the same",
        faults: "power cut of node 5, panic of node 1 or 2",
        expected: &["failpoint"],
        nodes: 5,
        long: true,
        seconds: 1800,
        run: |c| {
            tour(c, Cause::Loss, 1, &[LEADS, CARRIES_OUT, &["View.cut"]].concat())?;
            tour(c, Cause::Loss, 2, &[FOLLOWS, CARRIES_OUT, &["View.cut"]].concat())
        },
        ..Case::DEFAULT
    },
    Case {
        name: "clms_crash_join",
        promise: "who makes a view, another member, or the joiner, killed at each step of a join: the same",
        faults: "panic of node 1, 2 or 5",
        expected: &["failpoint"],
        nodes: 5,
        long: true,
        seconds: 1800,
        run: |c| {
            tour(c, Cause::Join, 1, &[LEADS, CARRIES_OUT].concat())?;
            tour(c, Cause::Join, 2, &[FOLLOWS, CARRIES_OUT].concat())?;
            tour(c, Cause::Join, JOINER, &[FOLLOWS, CARRIES_OUT].concat())
        },
        ..Case::DEFAULT
    },
];

const LEADS: &[&str] = &["View.propose", "View.proposed", "View.install", "View.installed"];
const FOLLOWS: &[&str] = &["View.promise", "View.promised", "View.take", "View.taken"];
const CARRIES_OUT: &[&str] = &["View.begin", "View.admitted", "View.done"];

/// The node that joins, or whose death causes the change.
const JOINER: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Node 5 dies.
    Loss,
    /// Node 5 joins.
    Join,
}

fn tour(c: &Context, cause: Cause, victim: u32, points: &[&str]) -> Result<()> {
    for point in points {
        strike(c, cause, victim, point).with_context(|| format!("{cause:?}: node {victim} dies at {point}"))?;
    }
    views::are_one_history(c).map(drop)
}

fn strike(c: &Context, cause: Cause, victim: u32, point: &str) -> Result<()> {
    let all = c.all();
    let before = cluster::agree(c, &all, 30)?;
    let boots = |nodes: &[u32]| nodes.iter().map(|n| c.boots(*n)).collect::<Result<Vec<_>>>();
    let others: Vec<u32> = all.iter().copied().filter(|n| ![victim, JOINER].contains(n)).collect();
    let (lives, dead_boots, joiner_boots) = (boots(&others)?, c.boots(victim)?, c.boots(JOINER)?);
    if cause == Cause::Join {
        let out = c.exec(JOINER, &["cluster", "leave"])?;
        ensure!(out.code == 0, "{out:?}");
        cluster::agree(c, &[1, 2, 3, 4], 20)?;
    }
    c.client.failpoint(victim, &format!("{point}=panic"))?;
    match cause {
        Cause::Loss => c.power(JOINER, Power::Kill)?,
        Cause::Join => c.background(JOINER, &["cluster", "join"]).map(drop)?,
    }
    c.wait(victim, Event::Down, dead_boots)?;
    if cause == Cause::Loss {
        // The victim may be back already.
        for node in &others {
            c.until(&format!("node {node}: node {JOINER} is out"), 30, || {
                let is_out = cluster::status(c, *node)?.node(JOINER)?.state == "DOWN";
                Ok(is_out.then_some(()))
            })?;
        }
        c.power(JOINER, Power::Reset)?;
        c.wait(JOINER, Event::Join, joiner_boots)?;
    }
    // It is started again by the rig, and joins.
    c.wait(victim, Event::Join, dead_boots)?;
    let after = cluster::agree(c, &all, 40)?;
    ensure!(after.view > before.view, "{before:?} {after:?}");
    ensure!(after.node(victim)?.incarnation > before.node(victim)?.incarnation, "{before:?} {after:?}");
    same(format!("boots of nodes {others:?}"), boots(&others)?, lives)?;
    println!("# {cause:?}: node {victim} dies at {point}: views {} to {}", before.view, after.view);
    Ok(())
}
