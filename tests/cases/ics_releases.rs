// SPDX-License-Identifier: GPL-2.0

//! Nodes of two releases in one cluster.

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use anyhow::Result;
use anyhow::ensure;

pub(crate) const CASES: &[Case] = &[
    Case {
    name: "ics_releases_speak_what_is_common",
    promise: "of three releases of which each has a version in common with the next one only, the two in the majority talk in \
              theirs, heartbeats too; the third is not let in",
    join: false,
    fresh: true,
    debug: true,
    seconds: 180,
    run: what_is_common,
    long: true,
    ..Case::DEFAULT
},
    Case {
    name: "ics_releases_agree_or_refuse",
    promise: "a node of a later release that still speaks this one's version is a member like all others; one that does not is \
              refused at both ends by what each speaks, and nobody else notices",
    join: false,
    fresh: true,
    debug: true,
    seconds: 180,
    run: agree_or_refuse,
    ..Case::DEFAULT
}
];

/// What is logged of a node that speaks `there` alone, by one that speaks `here`.
fn another(there: &str, here: &str) -> String {
    format!("another release: it speaks {there} of the protocol, this node {here}: give both the same release, or one between")
}

fn refuses(c: &Context, node: u32, text: &str) -> Result<()> {
    let log = c.sh(node, "dmesg | grep 'ssi_ics: refused from'")?;
    ensure!(log.lines().any(|l| l.contains(text)), "node {node}: {text:?} is not in {log}");
    ensure!(cluster::refused(c, node)?["version"] > 0, "node {node} counts nothing");
    Ok(())
}

fn what_is_common(c: &Context) -> Result<()> {
    // Node 1 speaks 11, node 2 also 12, node 3 that alone: which does not hear a heartbeat of version 11.
    c.client.failpoint(2, "Ics.Release.next=errno:1")?;
    c.client.failpoint(3, "Ics.Release.only=errno:1")?;
    for node in [2, 3] {
        c.background(node, &["cluster", "join"])?;
    }
    let before = cluster::agree(c, &[2, 3], 30)?;
    let out = c.exec(1, &["timeout", "5", "cluster", "join"])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    refuses(c, 1, &another("version 12", "version 11"))?;
    refuses(c, 3, &another("version 11", "version 12"))?;
    same("the view", cluster::agree(c, &[2, 3], 5)?, before)?;
    for (from, to) in [(2, 3), (3, 2)] {
        let said = c.sh(from, &format!("echo {to} 3 50 1000 2 0 >{ECHO} && cat {ECHO}"))?;
        ensure!(said.starts_with("calls 100 errors 0 "), "node {from}: {said}");
    }
    Ok(())
}

const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";

fn agree_or_refuse(c: &Context) -> Result<()> {
    // Node 3 speaks the next version as well.
    c.client.failpoint(3, "Ics.Release.next=errno:1")?;
    for node in c.all() {
        c.background(node, &["cluster", "join"])?;
    }
    cluster::agree(c, &[1, 2, 3], 30)?;
    for (from, to) in [(1, 3), (3, 2)] {
        let said = c.sh(from, &format!("echo {to} 3 50 1000 2 0 >{ECHO} && cat {ECHO}"))?;
        ensure!(said.starts_with("calls 100 errors 0 "), "node {from}: {said}");
    }
    let log = c.sh(3, "dmesg | grep 'ssi_ics: node'")?;
    for other in [1, 2] {
        let line = format!("ssi_ics: node {other} is of an older release: version 11 of the protocol, 12 here");
        same("lines", log.lines().filter(|l| l.contains(&line)).count(), 1)?;
    }
    for node in c.all() {
        same("refused", cluster::refused(c, node)?.values().sum::<u64>(), 0)?;
    }

    // And now that one alone.
    c.sh(3, "cluster leave")?;
    let before = cluster::agree(c, &[1, 2], 20)?;
    c.client.failpoint(3, "Ics.Release.only=errno:1")?;
    let out = c.exec(3, &["timeout", "5", "cluster", "join"])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    for node in [1, 2] {
        refuses(c, node, &another("version 12", "version 11"))?;
    }
    refuses(c, 3, &another("version 11", "version 12"))?;
    same("the view", cluster::agree(c, &[1, 2], 5)?, before)?;

    // With this release it is let in.
    for point in ["Ics.Release.next=off", "Ics.Release.only=off"] {
        c.client.failpoint(3, point)?;
    }
    let out = c.exec(3, &["cluster", "join"])?;
    ensure!(out.code == 0, "node 3 joins: {out:?}");
    cluster::agree(c, &[1, 2, 3], 20).map(drop)
}
