// SPDX-License-Identifier: GPL-2.0

//! Networks that fall apart, and a cluster that loses one leader after the other.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use crate::views;
use crate::views::Mark;

const STOPS: &str = "node stops itself: ";
const NO_QUORUM: &str = "node stops itself: its lease has ended: too few members are heard";

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_partition_3_2",
        promise: "of five nodes cut in 3 and 2 the three go on, the two restart and have no view until it heals; then all are in one",
        faults: "1 and 2, the master and its successor, are cut from 3, 4 and 5",
        nodes: 5,
        expected: &[NO_QUORUM],
        seconds: 120,
        run: partition_3_2,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_partition_2_2_1",
        promise: "of five nodes cut in 2, 2 and 1 none goes on: all restart, have no view until it heals, and then all are in one",
        faults: "1 and 2, 3 and 4, and 5 are cut from each other",
        nodes: 5,
        expected: &[NO_QUORUM],
        seconds: 120,
        run: partition_2_2_1,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_leaders_die_in_turn",
        promise: "master and successor die in turn: the rest goes on down to 3 of 5, and stops itself below; returned, all are in one view",
        faults: "power cuts of nodes 1, 2 and 3",
        nodes: 5,
        expected: &[NO_QUORUM],
        seconds: 150,
        run: leaders_die,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_one_way_from_the_master",
        promise: "of five nodes three do not hear the master: it is out and restarts, once; the others go on, and their view stays",
        faults: "frames from 1 to 3, 4 and 5 are cut",
        nodes: 5,
        expected: &[STOPS],
        seconds: 120,
        run: |c| converges(c, &[&[2, 3, 4, 5]], |c| one_way(c, &[1], &[3, 4, 5])),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_one_way_to_the_master",
        promise: "of five nodes the master does not hear two, whom the others hear: it is out and restarts, once; then the view stays",
        faults: "frames from 4 and 5 to 1 are cut",
        nodes: 5,
        long: true,
        expected: &[STOPS],
        seconds: 120,
        run: |c| converges(c, &[&[2, 3, 4, 5]], |c| one_way(c, &[4, 5], &[1])),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_bridge_to_the_master",
        promise: "two halves that both hear only the master: it goes on with one, the other is out and restarts, once; then the view stays",
        faults: "2 and 3 are cut from 4 and 5",
        nodes: 5,
        long: true,
        expected: &[STOPS],
        seconds: 120,
        run: |c| converges(c, &[&[1, 2, 3], &[1, 4, 5]], |c| split(c, &[&[2, 3], &[4, 5]])),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_bridge",
        promise: "two halves that both hear only one node, the master in one: it goes on with one, the other is out, once; the view stays",
        faults: "1 and 2 are cut from 4 and 5",
        nodes: 5,
        expected: &[STOPS],
        seconds: 120,
        run: |c| converges(c, &[&[1, 2, 3], &[3, 4, 5]], |c| split(c, &[&[1, 2], &[4, 5]])),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_torn_names_the_pairs",
        promise: "where nobody can be left out all go on, logs name the pairs that are cut, and calls across the cut wait until it is mended",
        faults: "of four nodes 1 and 2 are cut from each other, and 3 and 4",
        nodes: 4,
        join: false,
        fresh: true,
        expected: &["do not hear each other"],
        seconds: 90,
        run: torn,
        ..Case::DEFAULT
    },
];

/// Cuts the groups from each other.
fn split(c: &Context, groups: &[&[u32]]) -> Result<()> {
    for (i, group) in groups.iter().enumerate() {
        for other in &groups[i + 1..] {
            for a in *group {
                for b in *other {
                    c.change(*a, *b, Change::Cut)?;
                }
            }
        }
    }
    Ok(())
}

fn all_boots(c: &Context) -> Result<Vec<u32>> {
    c.all().into_iter().map(|n| c.boots(n)).collect()
}

/// Waits until nodes have stopped themselves because of `why`, and are started again.
fn stopped(c: &Context, nodes: &[u32], boots: &[u32], since: &Mark, why: &str) -> Result<()> {
    c.until(&format!("{nodes:?} restart"), 20, || {
        for n in nodes {
            if c.boots(*n)? == boots[*n as usize - 1] {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    for n in nodes {
        ensure!(since.text(c, *n).contains(why), "node {n} does not say why it stopped");
    }
    Ok(())
}

/// Waits until the nodes are up after that boot.
fn joined(c: &Context, nodes: &[u32], boots: &[u32]) -> Result<()> {
    for n in nodes {
        c.wait(*n, Event::Join, boots[*n as usize - 1])?;
    }
    Ok(())
}

/// Waits until the nodes have begun to join, and then as long as it would take them to form a view of their own.
fn would_form(c: &Context, nodes: &[u32], since: &Mark) -> Result<()> {
    for n in nodes {
        c.until(&format!("node {n} joins"), 40, || {
            Ok((c.client.node(*n)?.stage == "join").then_some(()))
        })?;
    }
    // No event: nothing is to happen. The time to hear, and that to wait for the rest of the table.
    std::thread::sleep(Duration::from_secs(4) * c.patience);
    for n in nodes {
        views::none_since(c, since, *n)?;
    }
    Ok(())
}

fn partition_3_2(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    let boots = all_boots(c)?;
    let cut = Mark::now(c);
    split(c, &[&[1, 2], &[3, 4, 5]])?;
    let three = cluster::agree(c, &[3, 4, 5], 10)?;
    ensure!(
        three.quorate && three.view > before.view && three.master == Some(3),
        "{three:?}"
    );
    stopped(c, &[1, 2], &boots, &cut, NO_QUORUM)?;
    would_form(c, &[1, 2], &cut)?;
    same("the three", cluster::agree(c, &[3, 4, 5], 1)?, three.clone())?;
    c.heal()?;
    joined(c, &[1, 2], &boots)?;
    let back = cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    ensure!(back.view > three.view, "{back:?}");
    same("boots of the three", &all_boots(c)?[2..], &boots[2..])?;
    views::are_one_history(c).map(drop)
}

fn partition_2_2_1(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    let boots = all_boots(c)?;
    let cut = Mark::now(c);
    split(c, &[&[1, 2], &[3, 4], &[5]])?;
    stopped(c, &[1, 2, 3, 4, 5], &boots, &cut, NO_QUORUM)?;
    would_form(c, &[1, 2, 3, 4, 5], &cut)?;
    c.heal()?;
    joined(c, &[1, 2, 3, 4, 5], &boots)?;
    cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    let again: Vec<u32> = boots.iter().map(|b| b + 1).collect();
    same("boots", all_boots(c)?, again)?;
    views::were_one_history(c, &cut)?;
    views::are_one_history_since(c, &cut).map(drop)
}

fn leaders_die(c: &Context) -> Result<()> {
    let mut last = cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    let boots = all_boots(c)?;
    for dead in 1..=2 {
        c.power(dead, Power::Kill)?;
        let rest: Vec<u32> = (dead + 1..=5).collect();
        let now = cluster::agree(c, &rest, 10)?;
        ensure!(
            now.quorate && now.view > last.view && now.master == Some(u64::from(dead) + 1),
            "after the death of {dead}: {now:?}"
        );
        last = now;
    }
    let short = Mark::now(c);
    c.power(3, Power::Kill)?;
    stopped(c, &[4, 5], &boots, &short, NO_QUORUM)?;
    would_form(c, &[4, 5], &short)?;
    views::are_one_history(c)?;
    // With one more there are enough.
    for n in 1..=3 {
        c.power(n, Power::Reset)?;
    }
    joined(c, &[1, 2, 3, 4, 5], &boots)?;
    cluster::agree(c, &[1, 2, 3, 4, 5], 10)?;
    views::were_one_history(c, &short)?;
    views::are_one_history_since(c, &short).map(drop)
}

/// Cuts what some say from others, but not what those say.
fn one_way(c: &Context, from: &[u32], to: &[u32]) -> Result<()> {
    for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (a, b))) {
        c.change_one_way(*a, *b, Change::Cut)?;
    }
    Ok(())
}

/// Cuts so that one of these teams goes on, and the nodes outside of it have to go until it heals.
fn converges(c: &Context, teams: &[&[u32]], cut: fn(&Context) -> Result<()>) -> Result<()> {
    let before = cluster::agree(c, &c.all(), 10)?;
    let boots = all_boots(c)?;
    let start = Mark::now(c);
    cut(c)?;
    let others = |team: &[u32]| -> Vec<u32> { c.all().into_iter().filter(|n| !team.contains(n)).collect() };
    let mut gone = Vec::new();
    let team = c
        .until("all but a team are out", 20, || {
            let now = all_boots(c)?;
            let is_gone = |n: &u32| now[*n as usize - 1] != boots[*n as usize - 1];
            gone = c.all().into_iter().filter(is_gone).collect();
            Ok(teams.iter().copied().find(|t| gone == others(t)))
        })
        .with_context(|| format!("out: {gone:?}, to stay: one of {teams:?}"))?;
    let out = others(team);
    stopped(c, &out, &boots, &start, STOPS)?;
    let back = Mark::now(c);
    let members: Vec<u64> = team.iter().map(|n| u64::from(*n)).collect();
    let rest = c.until("one view of the rest", 10, || {
        let all = team.iter().map(|n| cluster::status(c, *n)).collect::<Result<Vec<_>>>()?;
        let is_one = all.iter().all(|s| s.view == all[0].view && s.members() == members);
        Ok(is_one.then(|| all[0].clone()))
    })?;
    ensure!(
        rest.quorate && rest.view > before.view && rest.master == members.first().copied(),
        "{rest:?}"
    );
    // They are no members while they are cut, nor do the others change because they try.
    would_form(c, &out, &back)?;
    std::thread::sleep(Duration::from_secs(2) * c.patience);
    for n in team {
        // Who hears one sees it coming up, another one does not.
        let now = cluster::status(c, *n)?;
        let is = (now.view, now.members(), now.master);
        same(format!("node {n}: the view"), is, (rest.view, rest.members(), rest.master))?;
    }
    views::are_one_history(c)?;
    c.heal()?;
    joined(c, &out, &boots)?;
    let all = cluster::agree(c, &c.all(), 10)?;
    ensure!(all.view > rest.view, "{all:?}");
    let mut want = boots;
    for n in &out {
        want[*n as usize - 1] += 1;
    }
    same("boots", all_boots(c)?, want)?;
    views::are_one_history(c).map(drop)
}

fn torn(c: &Context) -> Result<()> {
    // No node can miss a second one here, not even for a moment: none is taken for lost because its machine stood still.
    for node in c.all() {
        c.background(node, &["cluster", "join", "--detect-ms", "5000"])?;
    }
    let before = cluster::agree(c, &c.all(), 30)?;
    let (boots, since) = (all_boots(c)?, Mark::now(c));
    c.change(1, 2, Change::Cut)?;
    c.change(3, 4, Change::Cut)?;
    let cut = |node: u32, a: u32, b: u32| {
        let line = format!("nodes {a} and {b} do not hear each other");
        c.until(&format!("node {node} says so of {a} and {b}"), 25, || {
            Ok(since.text(c, node).contains(&line).then_some(()))
        })
    };
    for node in c.all() {
        cut(node, 1, 2)?;
        cut(node, 3, 4)?;
    }
    let pid = c.background(1, &["sh", "-c", "onnode 2 true; echo $? >/shared/across; sync"])?.pid;
    same("through those who hear each other", c.sh(1, "onnode 3 echo here")?, "here")?;
    for node in c.all() {
        let now = cluster::status(c, node)?;
        same("view and members", (now.view, now.members()), (before.view, before.members()))?;
    }
    ensure!(c.shared_text("across").is_none(), "a call across the cut has ended (process {pid})");
    c.heal()?;
    c.until("the call across the cut ends", 15, || {
        Ok(c.shared_text("across").filter(|t| !t.is_empty()))
    })
    .and_then(|status| same("its status", status.trim(), "0"))?;
    for node in c.all() {
        c.until(&format!("node {node} says that it is over"), 10, || {
            Ok(since.text(c, node).contains("hears each other again").then_some(()))
        })?;
    }
    // Who heard more than the others meanwhile may have had all agree on the same members anew.
    let after = cluster::agree(c, &c.all(), 10)?;
    for node in c.all() {
        same(format!("node {node}"), after.node(node)?.incarnation, before.node(node)?.incarnation)?;
    }
    same("boots", all_boots(c)?, boots)
}
