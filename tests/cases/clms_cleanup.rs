// SPDX-License-Identifier: GPL-2.0

//! Programs that are run when a node goes down or comes up, and UCLEANUP, the state of a node for which they run.
//!
//! Each node has programs of its own in `/tmp/down` and `/tmp/up`. `20-hold` reads from the pipe `/tmp/hold`, so it ends when the
//! case writes to it.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_cleanup_runs_programs",
        promise: "when a node dies, leaves or comes up the programs run on each member with a cleaner, with what they are told; it is \
                  UCLEANUP until its own cleaner has done, in status, history and libcluster; calls to it have ended",
        faults: "power cut of node 3; node 3 leaves",
        fresh: true,
        debug: true,
        seconds: 150,
        run: runs_programs,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_cleanup_holds_nobody_up",
        promise: "a node that comes back while programs for its death run is UP before they are over, and its next death has programs too",
        faults: "power cut of node 3, twice",
        fresh: true,
        seconds: 150,
        run: holds_nobody_up,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_cleanup_second_death",
        promise: "while programs for a death run a second one is carried out, and its programs are run after those; agreed numbers of \
                  transitions are the same with a cleaner and without",
        faults: "power cut of node 5, then of node 4",
        fresh: true,
        nodes: 5,
        seconds: 150,
        run: second_death,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_cleanup_daemon_dies",
        promise: "when the cleaner is killed the node is DOWN at once and its program ends; another one, one at a time and an \
                  administrator's, does the next death",
        faults: "power cut of node 3, twice; kill -9 of cluster noded",
        fresh: true,
        debug: true,
        seconds: 150,
        run: daemon_dies,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_cleanup_limit",
        promise: "a program that fails, or takes longer than the limit and is killed with what it started, stops neither the next one \
                  nor DOWN",
        faults: "power cut of node 3",
        fresh: true,
        seconds: 90,
        run: limit,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_cleanup_ends_with_leave",
        promise: "a node that leaves ends the UCLEANUP of others, and when it joins again its cleaner goes on",
        faults: "power cut of node 5; node 4 leaves while a program runs there",
        fresh: true,
        nodes: 5,
        seconds: 150,
        run: ends_with_leave,
        long: true,
        ..Case::DEFAULT
    },
];

const NODED: &str = "cluster noded --down-dir /tmp/down --up-dir /tmp/up";

/// Writes what it was told into a file of its node in /shared.
const SAY: &str = "echo $0 $* $CLUSTER_NODE $CLUSTER_NODE_NAME $CLUSTER_CAUSE $CLUSTER_MASTER $CLUSTER_INCARNATION \
                   >>/shared/said$CLUSTER_THIS_NODE";

/// As [`SAY`], once somebody writes to the pipe.
const HOLD: &str = "echo $$ >/tmp/held\nread x </tmp/hold\necho $0 $CLUSTER_NODE done >>/shared/said$CLUSTER_THIS_NODE";

/// Makes a program.
fn program(c: &Context, node: u32, path: &str, text: &str) -> Result<()> {
    let script = format!("mkdir -p $(dirname {path}); cat >{path}; chmod 755 {path}");
    let out = c.exec_with(node, &["sh", "-c", &script], format!("#!/bin/sh\n{text}\n").as_bytes())?;
    ensure!(out.code == 0, "{path}: {out:?}");
    Ok(())
}

/// Makes the usual programs on a node.
fn programs(c: &Context, node: u32) -> Result<()> {
    c.sh(node, "mkfifo /tmp/hold")?;
    program(c, node, "/tmp/down/10-say", SAY)?;
    program(c, node, "/tmp/down/20-hold", HOLD)?;
    program(c, node, "/tmp/up/10-say", SAY)
}

/// What the daemons of a node have said.
fn noded_says(c: &Context, node: u32) -> String {
    c.shared_text(&format!("noded{node}")).unwrap_or_default()
}

/// Starts the daemon on a node, and waits until it is the cleaner; gives its pid.
fn start(c: &Context, node: u32, options: &str) -> Result<i32> {
    let ready = |c: &Context| noded_says(c, node).matches("are run, ").count();
    let before = ready(c);
    let script = format!("exec {NODED} {options} >>/shared/noded{node} 2>&1");
    let pid = c.background(node, &["sh", "-c", &script])?.pid;
    c.until("the cleaner", 10, || Ok((ready(c) > before).then_some(())))
        .with_context(|| noded_says(c, node))?;
    Ok(pid)
}

/// What programs of a node have said, once it is so many lines.
fn said(c: &Context, node: u32, n: usize) -> Result<Vec<String>> {
    let mut last = Vec::new();
    c.until(&format!("{n} lines of node {node}"), 10, || {
        let text = c.shared_text(&format!("said{node}")).unwrap_or_default();
        last = text.lines().map(str::to_owned).collect();
        Ok((last.len() >= n).then_some(()))
    })
    .with_context(|| format!("{last:?} {}", noded_says(c, node)))?;
    Ok(last)
}

/// Lets the program that reads from the pipe go on.
fn release(c: &Context, node: u32) -> Result<()> {
    c.sh(node, "echo go >/tmp/hold").map(drop)
}

fn state(c: &Context, node: u32, of: u32) -> Result<String> {
    Ok(cluster::status(c, node)?.node(of)?.state.clone())
}

/// Waits until a node sees another one in that state.
fn until_state(c: &Context, node: u32, of: u32, want: &str) -> Result<()> {
    let mut last = String::new();
    c.until(&format!("node {node}: node {of} {want}"), 15, || {
        last = state(c, node, of)?;
        Ok((last == want).then_some(()))
    })
    .with_context(|| format!("it is {last}"))
}

/// Waits until the program on a node holds.
fn until_held(c: &Context, node: u32) -> Result<String> {
    c.until("the program", 10, || {
        let out = c.exec(node, &["cat", "/tmp/held"])?;
        Ok((out.code == 0 && !out.text().is_empty()).then(|| out.text().trim().to_owned()))
    })
}

/// Starts a node again, and waits until some see it UP.
fn back(c: &Context, node: u32, for_nodes: &[u32]) -> Result<()> {
    let boots = c.boots(node)?;
    c.power(node, Power::Reset)?;
    c.wait(node, Event::Join, boots)?;
    for n in for_nodes {
        until_state(c, *n, node, "UP")?;
    }
    Ok(())
}

/// The transitions that a node has: number and what.
fn history(c: &Context, node: u32) -> Result<Vec<(u64, String)>> {
    let text = c.sh(node, "cluster events --json")?;
    let one = |l: &str| {
        let v: Value = serde_json::from_str(l)?;
        let text = |f: &str| v[f].as_str().with_context(|| format!("{f} in {v}"));
        let what = format!("{} {} {} {}", v["node"], text("from")?, text("to")?, text("cause")?);
        Ok((v["id"].as_u64().context("id")?, what))
    };
    text.lines().map(one).collect()
}

/// The last transitions of one node that another one has.
fn last_of(c: &Context, node: u32, of: u32, n: usize) -> Result<Vec<(u64, String)>> {
    let mut all = history(c, node)?;
    all.retain(|(_, what)| what.starts_with(&format!("{of} ")));
    Ok(all.split_off(all.len().saturating_sub(n)))
}

fn what(all: &[(u64, String)]) -> Vec<&str> {
    all.iter().map(|(_, what)| &what[..]).collect()
}

fn stop(c: &Context, node: u32, pid: i32) -> Result<()> {
    c.sh(node, &format!("kill {pid}")).map(drop)
}

fn runs_programs(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 20)?;
    let mut cleaners = Vec::new();
    for node in [1, 2] {
        programs(c, node)?;
        cleaners.push((node, start(c, node, "")?));
    }
    let script = "exec /usr/lib/ssi-tests/transitions-static -d -h 4 >/shared/transitions 2>&1";
    c.background(2, &["sh", "-c", script])?;
    c.until("it follows", 10, || Ok(c.shared_text("transitions")))?;
    let call = c.background(1, &["sh", "-c", "onnode 3 sleep 1000; echo $? >/shared/call"])?;
    c.until("the call", 10, || {
        let at = c.exec(3, &["pidof", "sleep"])?;
        Ok((at.code == 0).then_some(()))
    })
    .with_context(|| format!("{call:?}"))?;
    let life = cluster::status(c, 1)?.node(3)?.incarnation;

    c.power(3, Power::Kill)?;
    for node in [1, 2] {
        until_held(c, node)?;
        until_state(c, node, 3, "UCLEANUP")?;
        same("clusternode_getstate", c.sh(node, "clusternode_getstate 3")?, "UCLEANUP")?;
        let master = u32::from(node == 1);
        let lines = said(c, node, 1)?;
        same("told", lines, [format!("/tmp/down/10-say 3 node3 3 node3 lost {master} {life}")])?;
        same("a new call", c.exec(node, &["onnode", "3", "true"])?.code, 125)?;
    }
    c.until("the call has ended", 5, || Ok(c.shared_text("call")))?;
    release(c, 1)?;
    until_state(c, 1, 3, "DOWN")?;
    same("node 2, whose program runs", state(c, 2, 3)?, "UCLEANUP")?;
    release(c, 2)?;
    until_state(c, 2, 3, "DOWN")?;
    let lost: Vec<_> = [1, 2].into_iter().map(|n| last_of(c, n, 3, 4)).collect::<Result<_>>()?;
    for all in &lost {
        let want = [
            "3 UP GOINGDOWN lost",
            "3 GOINGDOWN KCLEANUP lost",
            "3 KCLEANUP UCLEANUP lost",
            "3 UCLEANUP DOWN lost",
        ];
        same("history", what(all), want)?;
        let own: Vec<_> = all.iter().map(|(id, _)| id & 0xff != 0).collect();
        same("numbers that only this node gives", own, [false, false, true, true])?;
    }
    same("the others' numbers", &lost[0][..2], &lost[1][..2])?;
    // By the numbers of libcluster.h: GOINGDOWN 4, KCLEANUP 5, UCLEANUP 6, DOWN 7.
    let told = c.until("libcluster", 10, || Ok(c.shared_text("transitions").filter(|t| t.lines().count() >= 5)))?;
    let told: Vec<_> = told.lines().skip(1).take(4).collect();
    let told: Vec<_> = told.iter().map(|l| l.rsplit_once(' ').map_or("", |(what, _)| what)).collect();
    same("libcluster", told, ["3 2 4 4", "3 4 5 4", "3 5 6 4", "3 6 7 4"])?;

    back(c, 3, &[1, 2])?;
    let life = cluster::status(c, 1)?.node(3)?.incarnation;
    for (node, master) in [(1, 1), (2, 0)] {
        let lines = said(c, node, 3)?;
        same("done", &lines[1], "/tmp/down/20-hold 3 done")?;
        same("told", &lines[2], &format!("/tmp/up/10-say 3 node3 3 node3 joined {master} {life}"))?;
    }

    c.sh(3, "cluster leave")?;
    for node in [1, 2] {
        until_state(c, node, 3, "UCLEANUP")?;
        let lines = said(c, node, 4)?;
        ensure!(lines[3].contains(" left "), "{lines:?}");
        release(c, node)?;
        until_state(c, node, 3, "DOWN")?;
        let all = last_of(c, node, 3, 2)?;
        same("history", what(&all), ["3 KCLEANUP UCLEANUP left", "3 UCLEANUP DOWN left"])?;
    }
    for (node, pid) in cleaners {
        stop(c, node, pid)?;
    }
    c.sh(3, "cluster join")?;
    cluster::agree(c, &[1, 2, 3], 20).map(drop)
}

fn holds_nobody_up(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 20)?;
    programs(c, 1)?;
    let pid = start(c, 1, "")?;
    c.power(3, Power::Kill)?;
    until_held(c, 1)?;
    until_state(c, 1, 3, "UCLEANUP")?;
    back(c, 3, &[1, 2])?;
    let lines = said(c, 1, 1)?;
    same("what was said before", lines.len(), 1)?;
    let all = last_of(c, 1, 3, 3)?;
    same("history", what(&all), ["3 UCLEANUP DOWN lost", "3 DOWN COMINGUP joined", "3 COMINGUP UP joined"])?;
    same("the last two on node 2", &last_of(c, 2, 3, 2)?, &all[1..])?;
    // Its next death, while the programs for the first one run still.
    c.sh(1, "rm /tmp/held")?;
    c.power(3, Power::Kill)?;
    until_state(c, 1, 3, "UCLEANUP")?;
    release(c, 1)?;
    // The first death's programs, that it was UP, the second death's.
    let lines = said(c, 1, 4)?;
    same("done", &lines[1], "/tmp/down/20-hold 3 done")?;
    ensure!(lines[2].contains("/tmp/up/10-say 3 node3"), "{lines:?}");
    let lives: Vec<_> = lines.iter().filter_map(|l| l.rsplit_once(' ')).map(|(_, life)| life).collect();
    ensure!(lives[0] != lives[2] && lives[2] == lives[3], "{lines:?}");
    until_held(c, 1)?;
    same("what is said of the first life", state(c, 1, 3)?, "UCLEANUP")?;
    release(c, 1)?;
    until_state(c, 1, 3, "DOWN")?;
    stop(c, 1, pid)?;
    back(c, 3, &[1, 2])
}

fn second_death(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3, 4, 5], 30)?;
    programs(c, 1)?;
    let pid = start(c, 1, "")?;
    c.background(1, &["sh", "-c", "onnode 4 sleep 1000; echo $? >/shared/call"])?;
    c.until("the call", 10, || Ok((c.exec(4, &["pidof", "sleep"])?.code == 0).then_some(())))?;
    c.power(5, Power::Kill)?;
    until_held(c, 1)?;
    c.power(4, Power::Kill)?;
    until_state(c, 1, 4, "UCLEANUP")?;
    c.until("the call has ended", 5, || Ok(c.shared_text("call")))?;
    for of in [4, 5] {
        same("node 1", state(c, 1, of)?, "UCLEANUP")?;
        until_state(c, 2, of, "DOWN")?;
    }
    same("what programs have said", said(c, 1, 1)?.len(), 1)?;
    c.sh(1, "rm /tmp/held")?;
    release(c, 1)?;
    until_state(c, 1, 5, "DOWN")?;
    until_held(c, 1)?;
    same("node 4", state(c, 1, 4)?, "UCLEANUP")?;
    release(c, 1)?;
    until_state(c, 1, 4, "DOWN")?;
    let order: Vec<_> = said(c, 1, 4)?.iter().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let want = ["/tmp/down/10-say 5", "/tmp/down/20-hold 5", "/tmp/down/10-say 4", "/tmp/down/20-hold 4"];
    same("order", order, want)?;
    let (one, two) = (history(c, 1)?, history(c, 2)?);
    ensure!(one.is_sorted_by(|a, b| a.0 < b.0), "{one:?}");
    let mut common = 0;
    for t in one.iter().filter(|t| t.0 & 0xff == 0) {
        if let Some(other) = two.iter().find(|o| o.0 == t.0) {
            // Who found whom is a node's own.
            ensure!(other == t || t.1.ends_with("found") || other.1.ends_with("found"), "{t:?} {other:?}");
            common += 1;
        }
    }
    ensure!(common >= 4, "{one:?} {two:?}");
    let down: Vec<_> = last_of(c, 2, 4, 1)?;
    same("without a cleaner", what(&down), ["4 KCLEANUP DOWN lost"])?;
    stop(c, 1, pid)?;
    back(c, 4, &[1, 2, 3])?;
    back(c, 5, &[1, 2, 3])
}

fn daemon_dies(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 20)?;
    programs(c, 1)?;
    let first = start(c, 1, "")?;
    let second = c.exec(1, &["cluster", "noded"])?;
    ensure!(second.code == 1 && second.error_text().contains("EBUSY"), "{second:?}");
    let user = c.exec_as("user", 2, &["cluster", "noded"])?;
    ensure!(user.code == 1 && user.error_text().contains("EPERM"), "{user:?}");
    c.power(3, Power::Kill)?;
    let program = until_held(c, 1)?;
    until_state(c, 1, 3, "UCLEANUP")?;
    c.sh(1, &format!("kill -9 {first}; rm /tmp/held"))?;
    c.until("node 3 is DOWN", 2, || Ok((state(c, 1, 3)? == "DOWN").then_some(())))?;
    same("history", what(&last_of(c, 1, 3, 1)?), ["3 UCLEANUP DOWN lost"])?;
    c.until("the program has ended", 5, || {
        let out = c.exec(1, &["test", "-e", &format!("/proc/{program}")])?;
        Ok((out.code == 1).then_some(()))
    })?;
    // Nobody cleans, so nobody is UCLEANUP.
    back(c, 3, &[1, 2])?;
    c.power(3, Power::Kill)?;
    until_state(c, 1, 3, "DOWN")?;
    same("history", what(&last_of(c, 1, 3, 1)?), ["3 KCLEANUP DOWN lost"])?;
    let next = start(c, 1, "")?;
    back(c, 3, &[1, 2])?;
    c.power(3, Power::Kill)?;
    until_held(c, 1)?;
    until_state(c, 1, 3, "UCLEANUP")?;
    release(c, 1)?;
    until_state(c, 1, 3, "DOWN")?;
    // The first death, that it was UP, the third death: the first program was not over, and the second death had none.
    let lines = said(c, 1, 4)?;
    let names: Vec<_> = lines.iter().filter_map(|l| l.split(' ').next()).collect();
    same("programs", names, ["/tmp/down/10-say", "/tmp/up/10-say", "/tmp/down/10-say", "/tmp/down/20-hold"])?;
    stop(c, 1, next)?;
    back(c, 3, &[1, 2])
}

fn limit(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 20)?;
    c.sh(1, "mkfifo /tmp/hold")?;
    program(c, 1, "/tmp/down/10-fails", "exit 3")?;
    let text = "trap '' TERM\nsh -c 'echo $$ >/tmp/child; read x </tmp/hold' &\necho $$ >/tmp/held; read x </tmp/hold";
    program(c, 1, "/tmp/down/20-stays", text)?;
    program(c, 1, "/tmp/down/30-say", SAY)?;
    let pid = start(c, 1, "--limit 1")?;
    c.power(3, Power::Kill)?;
    until_held(c, 1)?;
    let lines = said(c, 1, 1)?;
    ensure!(lines[0].starts_with("/tmp/down/30-say 3 node3"), "{lines:?}");
    until_state(c, 1, 3, "DOWN")?;
    same("history", what(&last_of(c, 1, 3, 1)?), ["3 UCLEANUP DOWN lost"])?;
    for file in ["held", "child"] {
        let left = c.sh(1, &format!("p=$(cat /tmp/{file}); test -e /proc/$p && echo there || echo gone"))?;
        same(file, left, "gone")?;
    }
    c.until("the log", 5, || Ok(noded_says(c, 1).contains("3 programs run").then_some(())))?;
    let log = noded_says(c, 1);
    for line in [
        "node 3: /tmp/down/10-fails: exit status: 3",
        "node 3: /tmp/down/20-stays: not over after 1 s: killed",
    ] {
        ensure!(log.contains(line), "{line:?} in {log}");
    }
    stop(c, 1, pid)?;
    back(c, 3, &[1, 2])
}

fn ends_with_leave(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3, 4, 5], 30)?;
    programs(c, 4)?;
    let pid = start(c, 4, "")?;
    c.power(5, Power::Kill)?;
    until_held(c, 4)?;
    until_state(c, 4, 5, "UCLEANUP")?;
    c.sh(4, "cluster leave")?;
    let own = history(c, 4)?;
    same("its last transition", own.last().map(|t| &t.1[..]), Some("5 UCLEANUP DOWN lost"))?;
    release(c, 4)?;
    said(c, 4, 2)?;
    c.sh(4, "cluster join")?;
    // They do not agree on node 5, which node 4 has not seen since.
    for (node, of) in [(1, 4), (4, 1), (4, 2), (4, 3), (4, 4)] {
        until_state(c, node, of, "UP")?;
    }
    let lines = said(c, 4, 6)?.split_off(2);
    let mut told: Vec<_> = lines
        .iter()
        .map(|l| l.split(' ').skip(1).step_by(4).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    told.sort();
    same("who is UP", told, ["1 found", "2 found", "3 found", "4 joined"])?;
    back(c, 5, &[1, 2, 3, 4])?;
    said(c, 4, 7)?;
    c.sh(4, "rm /tmp/held")?;
    c.power(5, Power::Kill)?;
    until_held(c, 4)?;
    until_state(c, 4, 5, "UCLEANUP")?;
    release(c, 4)?;
    until_state(c, 4, 5, "DOWN")?;
    stop(c, 4, pid)?;
    back(c, 5, &[1, 2, 3, 4])
}
