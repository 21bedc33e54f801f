// SPDX-License-Identifier: GPL-2.0

//! A node dies at a step of a change of the view: the others have one history, lose nobody else, and it comes back.
//!
//! Who joins shakes hands with each member: the node of the higher number connects, the other one accepts; the failpoints are in
//! `ics/admission.rs`. A change is proposed, promised and installed, and carried out: `clms/thread.rs` and `clms/changes.rs`.
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
use crate::views::Mark;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_crash_change",
        promise: "who makes a view, or joins, dies when it has said what it proposes, or installs, or in its handshake: one history, \
                  nobody else lost",
        faults: "power cut of node 5, panic of node 1; panic of node 5, which joins",
        expected: &["failpoint"],
        nodes: 5,
        seconds: 300,
        run: |c| {
            tour(c, Cause::Loss, 1, &["View.proposed", "View.installed"])?;
            tour(c, Cause::Join(5), 5, &["Ics.Admission.connect.proof", "View.promised", "View.admitted"])
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
        promise: "who makes a view, another member, or the joiner, killed at each step of a join, the handshakes included: the same",
        faults: "panic of node 1, 2 or 5; 5 joins, or 1",
        expected: &["failpoint"],
        nodes: 5,
        long: true,
        seconds: 1800,
        run: |c| {
            tour(c, Cause::Join(5), 5, CONNECTS)?;
            tour(c, Cause::Join(5), 1, ACCEPTS)?;
            tour(c, Cause::Join(5), 2, ACCEPTS)?;
            tour(c, Cause::Join(1), 1, ACCEPTS)?;
            tour(c, Cause::Join(1), 2, CONNECTS)?;
            tour(c, Cause::Join(1), 5, CONNECTS)?;
            tour(c, Cause::Join(5), 1, &[LEADS, CARRIES_OUT].concat())?;
            tour(c, Cause::Join(5), 2, &[FOLLOWS, CARRIES_OUT].concat())?;
            tour(c, Cause::Join(5), 5, &[FOLLOWS, CARRIES_OUT].concat())
        },
        ..Case::DEFAULT
    },
    Case {
        name: "clms_crash_formation",
        promise: "three nodes start at once and one dies when it first proposes: the others form one cluster, and it joins when it is back",
        faults: "panic of node 1",
        expected: &["failpoint"],
        join: false,
        fresh: true,
        seconds: 120,
        run: |c| form(c, 1, "View.proposed"),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_crash_formation_each",
        promise: "as clms_crash_formation, at each step of the handshakes and of the first view",
        faults: "panic of node 1, 2 or 3",
        expected: &["failpoint"],
        join: false,
        fresh: true,
        long: true,
        seconds: 900,
        run: |c| {
            for (victim, points) in [
                (1, [ACCEPTS, LEADS].concat()),
                (2, [ACCEPTS, CONNECTS, FOLLOWS].concat()),
                (3, [CONNECTS, FOLLOWS].concat()),
            ] {
                for point in points {
                    form(c, victim, point)?;
                }
            }
            Ok(())
        },
        ..Case::DEFAULT
    },
];

const LEADS: &[&str] = &["View.propose", "View.proposed", "View.install", "View.installed"];
const FOLLOWS: &[&str] = &["View.promise", "View.promised", "View.take", "View.taken"];
const CARRIES_OUT: &[&str] = &["View.begin", "View.admitted", "View.done"];

const CONNECTS: &[&str] = &["Ics.Admission.connect.hello", "Ics.Admission.connect.proof"];
const ACCEPTS: &[&str] = &["Ics.Admission.accept.hello", "Ics.Admission.accept.proof"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Node 5 dies.
    Loss,
    /// That node joins.
    Join(u32),
}

impl Cause {
    fn node(self) -> u32 {
        match self {
            Cause::Loss => 5,
            Cause::Join(node) => node,
        }
    }
}

fn tour(c: &Context, cause: Cause, victim: u32, points: &[&str]) -> Result<()> {
    for point in points {
        strike(c, cause, victim, point).with_context(|| format!("{cause:?}: node {victim} dies at {point}"))?;
    }
    views::are_one_history(c).map(drop)
}

fn strike(c: &Context, cause: Cause, victim: u32, point: &str) -> Result<()> {
    let (all, joiner) = (c.all(), cause.node());
    let before = cluster::agree(c, &all, 30)?;
    let boots = |nodes: &[u32]| nodes.iter().map(|n| c.boots(*n)).collect::<Result<Vec<_>>>();
    let others: Vec<u32> = all.iter().copied().filter(|n| ![victim, joiner].contains(n)).collect();
    let (lives, dead_boots, joiner_boots) = (boots(&others)?, c.boots(victim)?, c.boots(joiner)?);
    if cause != Cause::Loss {
        let out = c.exec(joiner, &["cluster", "leave"])?;
        ensure!(out.code == 0, "{out:?}");
        let rest: Vec<u32> = all.iter().copied().filter(|n| *n != joiner).collect();
        cluster::agree(c, &rest, 20)?;
    }
    c.client.failpoint(victim, &format!("{point}=panic"))?;
    match cause {
        Cause::Loss => c.power(joiner, Power::Kill)?,
        Cause::Join(_) => c.background(joiner, &["cluster", "join"]).map(drop)?,
    }
    c.wait(victim, Event::Down, dead_boots)?;
    if cause == Cause::Loss {
        // The victim may be back already.
        for node in &others {
            c.until(&format!("node {node}: node {joiner} is out"), 30, || {
                let is_out = cluster::status(c, *node)?.node(joiner)?.state == "DOWN";
                Ok(is_out.then_some(()))
            })?;
        }
        c.power(joiner, Power::Reset)?;
        c.wait(joiner, Event::Join, joiner_boots)?;
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

/// All are switched on at once, and one dies at that point while it joins.
fn form(c: &Context, victim: u32, point: &str) -> Result<()> {
    form_without(c, victim, point).with_context(|| format!("node {victim} dies at {point}"))
}

fn form_without(c: &Context, victim: u32, point: &str) -> Result<()> {
    let since = Mark::now(c);
    let all = c.all();
    let all_boots = || all.iter().map(|n| c.boots(*n)).collect::<Result<Vec<_>>>();
    let before = all_boots()?;
    for node in &all {
        c.power(*node, Power::Reset)?;
    }
    for node in &all {
        c.wait(*node, Event::Up, before[*node as usize - 1])?;
    }
    let boots = all_boots()?;
    c.client.failpoint(victim, &format!("{point}=panic"))?;
    for node in &all {
        c.background(*node, &["cluster", "join"])?;
    }
    let dead_boots = boots[victim as usize - 1];
    c.wait(victim, Event::Down, dead_boots)?;
    let others: Vec<u32> = all.iter().copied().filter(|n| *n != victim).collect();
    let two = cluster::agree(c, &others, 20)?;
    ensure!(two.quorate, "{two:?}");
    c.wait(victim, Event::Up, dead_boots)?;
    let out = c.exec(victim, &["cluster", "join"])?;
    ensure!(out.code == 0, "{out:?}");
    let three = cluster::agree(c, &all, 20)?;
    ensure!(three.view > two.view && three.name == two.name, "{two:?} {three:?}");
    for node in &others {
        same(format!("node {node}: boots"), c.boots(*node)?, boots[*node as usize - 1])?;
        same(format!("node {node}: its life"), three.node(*node)?.incarnation, two.node(*node)?.incarnation)?;
    }
    println!("# node {victim} dies at {point}: views {} and {}", two.view, three.view);
    views::are_one_history_since(c, &since).map(drop)
}
