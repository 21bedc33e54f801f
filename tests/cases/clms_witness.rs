// SPDX-License-Identifier: GPL-2.0

//! Two nodes, and a witness that votes and does nothing else.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;
use rig::spawn::Started;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

const NO_QUORUM: &str = "node stops itself: its lease has ended: too few members are heard";

/// What is known of records on a node, see `clms/registry/debugfs.rs`.
const RECORDS: &str = "/sys/kernel/debug/ssi/registry";

const CASE: Case = Case {
    join: false,
    fresh: true,
    seconds: 120,
    ..Case::DEFAULT
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_witness_and_one_of_two",
        promise: "of two nodes and a witness one may die: the other goes on and leads; the witness has no processes and never leads",
        faults: "power cut of node 1",
        run: one_dies,
        ..CASE
    },
    Case {
        name: "clms_witness_dies",
        promise: "when the witness dies both nodes go on",
        faults: "power cut of node 3, the witness",
        run: witness_dies,
        ..CASE
    },
    Case {
        name: "clms_witness_decides",
        promise: "of two nodes that are cut from each other and both hear the witness exactly one goes on",
        faults: "1 and 2 are cut from each other",
        expected: &[NO_QUORUM, "node stops itself: the others have a view without this node"],
        run: pair_is_cut,
        ..CASE
    },
    Case {
        name: "clms_witness_carries_records",
        promise: "two majorities that meet in the witness alone have the same records: one node dies as the other one comes",
        faults: "panic of node 1",
        expected: &["failpoint"],
        run: carries_records,
        ..CASE
    },
    Case {
        name: "clms_votes_refused",
        promise: "a table without votes, or whose witnesses could decide alone, is refused by name; who has other votes in it is not heard, and named",
        run: refused,
        ..CASE
    },
];

/// Writes a table whose rows end with these words.
fn table(c: &Context, node: u32, options: [&str; 3]) -> Result<()> {
    let rows: Vec<_> = (1..=3).zip(options).map(|(n, o)| format!("{n} 10.73.1.{n} {o}")).collect();
    c.sh(node, &format!("printf '%s\\n' '{}' >/tmp/tab", rows.join("' '"))).map(drop)
}

fn join(c: &Context, node: u32) -> Result<Started> {
    c.background(node, &["cluster", "join", "--tab", "/tmp/tab"])
}

/// Two nodes and a witness, in one view.
fn with_witness(c: &Context) -> Result<cluster::Status> {
    for node in c.all() {
        table(c, node, ["", "", "votes=1 witness"])?;
        join(c, node)?;
    }
    let all = cluster::agree(c, &[1, 2, 3], 30)?;
    same("members", all.members(), [1, 2, 3])?;
    same("master", all.master, Some(1))?;
    for node in c.all() {
        let text = c.sh(node, "cluster status --json")?;
        let s: serde_json::Value = serde_json::from_str(&text)?;
        let is_witness = |n: &serde_json::Value| n["witness"] == (n["id"] == 3);
        ensure!(s["nodes"].as_array().is_some_and(|n| n.len() == 3 && n.iter().all(is_witness)), "{text}");
        ensure!(c.sh(node, "cluster status")?.matches("witness").count() == 1, "cluster status of node {node}");
    }
    // Those who run processes do not see it.
    let out = c.exec(1, &["onnode", "3", "true"])?;
    ensure!(out.code == 125, "onnode of the witness: {out:?}");
    same("onnode of the other", c.sh(1, "onnode 2 echo here")?, "here")?;
    same("processes of the witness", c.sh(3, "onnode 1 true 2>/dev/null; echo $?")?, "125")?;
    Ok(all)
}

/// Waits until a node has a later view of these members; gives it.
fn goes_on(c: &Context, node: u32, before: &cluster::Status, members: &[u64]) -> Result<cluster::Status> {
    c.until(&format!("node {node} goes on with {members:?}"), 15, || {
        let now = cluster::status(c, node)?;
        Ok((now.view > before.view && now.members() == members && now.quorate).then_some(now))
    })
}

fn one_dies(c: &Context) -> Result<()> {
    let all = with_witness(c)?;
    let boots = [c.boots(2)?, c.boots(3)?];
    c.power(1, Power::Kill)?;
    for node in [2, 3] {
        same("master", goes_on(c, node, &all, &[2, 3])?.master, Some(2))?;
    }
    same("it works", c.sh(2, "onnode 2 echo here")?, "here")?;
    same("boots", [c.boots(2)?, c.boots(3)?], boots)
}

fn witness_dies(c: &Context) -> Result<()> {
    let all = with_witness(c)?;
    let boots = [c.boots(1)?, c.boots(2)?];
    c.power(3, Power::Kill)?;
    for node in [1, 2] {
        goes_on(c, node, &all, &[1, 2])?;
    }
    same("it works", c.sh(1, "onnode 2 echo here")?, "here")?;
    same("boots", [c.boots(1)?, c.boots(2)?], boots)
}

fn pair_is_cut(c: &Context) -> Result<()> {
    let all = with_witness(c)?;
    let boots = [c.boots(1)?, c.boots(2)?, c.boots(3)?];
    c.change(1, 2, Change::Cut)?;
    let two = goes_on(c, 1, &all, &[1, 3])?;
    c.until("node 2 restarts", 15, || Ok((c.boots(2)? > boots[1]).then_some(())))?;
    same("the witness", goes_on(c, 3, &all, &[1, 3])?.view, two.view)?;
    same("boots", [c.boots(1)?, c.boots(3)?], [boots[0], boots[2]])
}

fn carries_records(c: &Context) -> Result<()> {
    for node in c.all() {
        table(c, node, ["", "", "witness"])?;
    }
    join(c, 1)?;
    join(c, 3)?;
    let two = cluster::agree(c, &[1, 3], 30)?;
    c.sh(1, &format!("echo set kept here >{RECORDS}"))?;
    let kept = |node: u32| Ok(c.sh(node, &format!("cat {RECORDS}"))?.contains("record kept 1 here").then_some(()));
    for node in [1, 3] {
        c.until(&format!("node {node} has the record"), 10, || kept(node))?;
    }
    // Node 1 is told how far node 2 is, which has nothing yet, and dies.
    c.client.failpoint(1, "Registry.Report.serve=panic@1")?;
    let boots = c.boots(1)?;
    join(c, 2)?;
    c.wait(1, Event::Down, boots)?;
    same("the master", goes_on(c, 2, &two, &[2, 3])?.master, Some(2))?;
    c.until("node 2 has the record", 10, || kept(2))?;
    c.sh(2, &format!("echo set kept2 here >{RECORDS}"))?;
    same("who is told to serve on the witness", c.sh(3, &format!("grep -c serves {RECORDS} || true"))?, "0")
}

fn refused(c: &Context) -> Result<()> {
    for (options, why) in [
        (["votes=0", "votes=0", "votes=0"], "no node has a vote"),
        (["", "votes=0", "witness"], "witnesses have 1 votes"),
        (["votes=2", "votes=2 witness", "votes=2 witness"], "witnesses have 4 votes"),
    ] {
        table(c, 1, options)?;
        let out = c.exec(1, &["cluster", "join", "--tab", "/tmp/tab"])?;
        ensure!(out.code == 1 && out.error_text().contains(why), "{options:?}: {out:?}");
    }
    table(c, 1, ["", "", "witness"])?;
    table(c, 2, ["", "", "witness"])?;
    table(c, 3, ["", "", ""])?;
    for node in c.all() {
        join(c, node)?;
    }
    let two = cluster::agree(c, &[1, 2], 30)?;
    same("members", two.members(), [1, 2])?;
    c.until("node 3 is named", 10, || {
        let text = c.sh(1, "dmesg")?;
        Ok(text.contains("node 3 has another clustertab").then_some(()))
    })
}
