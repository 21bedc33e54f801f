// SPDX-License-Identifier: GPL-2.0

//! No process, kernel thread or file whose loss stops a node, let alone the cluster. Nodes: `clms_leaders_die_in_turn`.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use crate::views::Mark;

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
    Case {
        name: "clms_no_thread_matters",
        promise: "a kernel thread that never goes on does not stop the others; its node is a member that answers, or stops itself \
                  in time, restarts and is back",
        faults: "each thread of ics and clms in turn hangs on a node; members leave and join meanwhile",
        expected: &["node stops itself: its lease has ended"],
        long: true,
        seconds: 900,
        run: hanging_threads,
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

/// What becomes of a node one of whose threads hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stops itself, for what the console has as the reason.
    Out(&'static str),
    /// It is a member, and answers calls; others leave and join.
    Member,
    /// The same, but who joins later waits for it: see `Documentation/status.rst`, Known to be wrong.
    Doorless,
    /// It is a member, but has no stream to that one: calls between them wait. See there too.
    Apart(u32),
}

/// A thread, the node on which it hangs, and what becomes of that.
struct Hang {
    thread: &'static str,
    node: u32,
    /// The node that leaves and joins, so that the thread comes to where it hangs. `None`: it comes there all the time.
    joins: Option<u32>,
    fate: Fate,
}

const fn hang(thread: &'static str, node: u32, joins: Option<u32>, fate: Fate) -> Hang {
    Hang {
        thread,
        node,
        joins,
        fate,
    }
}

/// On the master, but for the one that only the higher of two nodes has.
const HANGS: &[Hang] = &[
    hang("clms_beat", 1, None, Fate::Out("too few members are heard (timer)")),
    hang("ics_heartbeat", 1, None, Fate::Out("too few members are heard")),
    hang("clms_view", 1, Some(3), Fate::Doorless),
    hang("clms_fence", 1, Some(3), Fate::Member),
    hang("clms_registry", 1, Some(3), Fate::Member),
    hang("clms_watch", 1, Some(1), Fate::Member),
    hang("clms_keys", 1, Some(3), Fate::Member),
    hang("ics_listen", 1, None, Fate::Doorless),
    hang("ics_tear", 1, Some(1), Fate::Member),
    hang("ics_connect", 3, Some(1), Fate::Apart(1)),
];

/// Detection and lease, with the time of detection of a join that does not name one.
const OUT_WITHIN: f64 = 2.0 + 2.0 * 11.0 / 16.0;

fn hanging_threads(c: &Context) -> Result<()> {
    for h in HANGS {
        hangs(c, h).with_context(|| format!("{} hangs on node {}", h.thread, h.node))?;
    }
    Ok(())
}

/// Calls of every class from one node to another.
fn call(c: &Context, from: u32, to: u32) -> Result<()> {
    for class in 0..7 {
        let said = c.sh(from, &format!("echo {to} {class} 5 100 2 0 >{ECHO} && cat {ECHO}"))?;
        ensure!(
            said.starts_with("calls 10 errors 0 "),
            "node {from} to {to}, class {class}: {said}"
        );
    }
    Ok(())
}

fn command(c: &Context, node: u32, what: &str) -> Result<()> {
    let out = c.exec(node, &["cluster", what])?;
    ensure!(out.code == 0, "cluster {what} on node {node}: {out:?}");
    Ok(())
}

/// When a console has told of something, by its node's clock, in seconds.
fn when(text: &str, what: &str) -> Result<f64> {
    let line = text.lines().find(|l| l.contains(what)).with_context(|| what.to_owned())?;
    let stamp = line.strip_prefix('[').and_then(|l| l.split_once(']'));
    stamp
        .and_then(|(s, _)| s.trim().parse().ok())
        .with_context(|| format!("no time in {line:?}"))
}

fn others_than(c: &Context, node: u32) -> Vec<u32> {
    c.all().into_iter().filter(|n| *n != node).collect()
}

fn hangs(c: &Context, h: &Hang) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(h.node)?;
    let since = Mark::now(c);
    let arm = |when: &str| c.client.failpoint(h.node, &format!("Thread.{}=hang{when}", h.thread));
    if h.thread == "clms_view" {
        // After the view with that node, not the one without it.
        arm("@2")?;
    }
    if let Some(node) = h.joins {
        command(c, node, "leave")?;
    }
    if h.thread != "clms_view" {
        arm("")?;
    }
    if let Some(node) = h.joins {
        command(c, node, "join")?;
    }
    if matches!(h.fate, Fate::Doorless) {
        // It has taken this one when it hangs: who joins might be refused at first, and find nobody when it tries again.
        c.sh(others_than(c, h.node)[0], &format!("nc -w 1 10.73.1.{} 7373 </dev/null >/dev/null; true", h.node))?;
    }
    let told = format!("failpoint Thread.{}: hang", h.thread);
    c.until("it hangs", 10, || {
        Ok(since.text(c, h.node).contains(&told).then_some(()))
    })?;
    let others = others_than(c, h.node);
    let among_others = || call(c, others[0], others[1]).and_then(|()| call(c, others[1], others[0]));
    let with_it = |apart: Option<u32>| {
        for o in others.iter().filter(|o| Some(**o) != apart) {
            call(c, *o, h.node)?;
            call(c, h.node, *o)?;
        }
        // It is a member for both.
        c.until("a view of all", 10, || {
            let (a, b) = (cluster::status(c, others[0])?, cluster::status(c, others[1])?);
            Ok((a == b && a.quorate && a.members() == [1, 2, 3]).then_some(()))
        })
    };
    match h.fate {
        Fate::Out(_) => {}
        Fate::Member => {
            with_it(None)?;
            command(c, others[1], "leave")?;
            command(c, others[1], "join")?;
            with_it(None)?;
        }
        Fate::Doorless => with_it(None)?,
        Fate::Apart(from) => with_it(Some(from))?,
    }
    among_others()?;
    if !matches!(h.fate, Fate::Out(_)) {
        same("boots", c.boots(h.node)?, boots)?;
        // It cannot leave: that waits for all threads.
        c.power(h.node, Power::Reset)?;
    }
    let two = cluster::agree(c, &others, 10)?;
    ensure!(two.quorate && two.view > before.view, "{two:?}");
    among_others()?;
    c.wait(h.node, Event::Join, boots)?;
    if let Fate::Out(why) = h.fate {
        let text = since.text(c, h.node);
        let reason = format!("node stops itself: its lease has ended: {why}");
        let took = when(&text, &reason)? - when(&text, &told)?;
        ensure!(took <= OUT_WITHIN, "it stops after {took:.3} s");
        println!("# {}: node {} stops itself after {took:.3} s", h.thread, h.node);
    }
    let all = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(all.view > two.view, "{two:?} {all:?}");
    calls(c)
}
