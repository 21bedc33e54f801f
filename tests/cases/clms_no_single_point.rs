// SPDX-License-Identifier: GPL-2.0

//! No process, kernel thread or file whose loss stops a node, let alone the cluster. Nodes: `clms_leaders_die_in_turn`.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_no_process_matters",
        promise: "a node has no process of the cluster, and its kernel threads take no signal: after each was sent all go on",
        faults: "SIGKILL to every kernel thread of ics and clms on node 1",
        run: processes,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_no_file_matters",
        promise: "after the join no node needs clustertab, name or key: without them all go on, and are judged and let in as before",
        faults: "the files are removed on all nodes; power cut of node 3, which the rig gives new ones",
        seconds: 90,
        run: files,
        ..Case::DEFAULT
    },
];

const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";

/// Calls of every class, each way between all nodes.
fn calls(c: &Context) -> Result<()> {
    for from in c.all() {
        for class in 0..7 {
            let to = from % c.nodes + 1;
            let said = c.sh(from, &format!("echo {to} {class} 5 100 2 0 >{ECHO} && cat {ECHO}"))?;
            ensure!(said.starts_with("calls 10 errors 0 "), "node {from}, class {class}: {said}");
        }
    }
    Ok(())
}

/// The threads of our modules: `PID NAME` each.
fn threads(c: &Context, node: u32) -> Result<Vec<String>> {
    let script = "for p in /proc/[0-9]*; do n=$(cat $p/comm 2>/dev/null); case $n in \
                  ics_*|clms_*) echo ${p#/proc/} $n;; esac; done; true";
    let mut all: Vec<String> = c.sh(node, script)?.lines().map(str::to_owned).collect();
    all.sort();
    Ok(all)
}

fn processes(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    for node in c.all() {
        // Whoever has a program, but pid 1, which is the rig's, and this shell.
        let script = "for p in /proc/[0-9]*; do p=${p#/proc/}; e=$(readlink /proc/$p/exe 2>/dev/null); \
                      [ -z \"$e\" ] || [ $p = 1 ] || [ $p = $$ ] || [ $((p >> 20)) != NODE ] || echo $p $e; done; true";
        let script = script.replace("NODE", &node.to_string());
        let mut others = c.sh(node, &script)?;
        // The subshell that asks is gone when it is asked about.
        others.retain(|ch| ch != '\r');
        same(format!("node {node}: processes"), others, "")?;
    }
    // After calls of each class, so that all threads are there.
    calls(c)?;
    let all = threads(c, 1)?;
    for name in [
        "clms_beat", "clms_view", "ics_listen", "ics_stream", "ics_send", "ics_heartbeat", "ics_L0", "ics_L4",
    ] {
        ensure!(all.iter().any(|t| t.contains(name)), "no thread {name} in {all:?}");
    }
    for t in &all {
        let pid = t.split(' ').next().unwrap_or_default();
        c.sh(1, &format!("kill -9 {pid}; kill -TERM {pid}; kill -STOP {pid}; true"))?;
    }
    calls(c)?;
    // Threads of class P come and go.
    let stay = |all: &[String]| -> Vec<String> { all.iter().filter(|t| !t.contains("ics_P")).cloned().collect() };
    same("the threads", stay(&threads(c, 1)?), stay(&all))?;
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

fn files(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    // Those in /etc point there.
    let removed = "cd /run/cluster && rm clustertab clustername key && ! cat /etc/clustertab /etc/clustername /etc/cluster.key 2>/dev/null";
    c.sh_all(removed)?;
    calls(c)?;
    same("the status", cluster::agree(c, &[1, 2, 3], 5)?, before.clone())?;
    for node in c.all() {
        same("clustername", c.sh(node, "clustername")?, before.name.clone())?;
    }
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    let two = cluster::agree(c, &[1, 2], 10)?;
    ensure!(two.view > before.view, "{two:?}");
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(back.view > two.view, "{back:?}");
    calls(c)
}
