// SPDX-License-Identifier: GPL-2.0

//! Nodes whose threads get no memory, and nodes that have none.

use std::time::Duration;
use std::time::Instant;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use rig::up::Kernel;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_memory_is_taken",
        promise: "while programs take all memory of two nodes, the master's too, and are killed for it, nobody is taken for dead and \
                  calls complete; the membership's threads, and those of class L4 and of short frames, wait for no writing",
        faults: "processes on nodes 1 and 2 that grow until the kernel kills them, for at least 20 s",
        fresh: true,
        // The kernel tells whom it kills, and how much memory there was.
        expected: &["Call Trace:"],
        seconds: 120,
        run: memory_is_taken,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_allocations_fail",
        promise: "while one in 20 allocations of the threads of transport and membership fails, but of those that begin later, on every \
                  node, nobody is taken for dead and calls end; afterwards none fails",
        faults: "failslab, fail_page_alloc, everywhere",
        kernel: Kernel::Debug,
        fresh: true,
        long: true,
        // The kernel tells where a larger allocation failed.
        expected: &["Call Trace:"],
        seconds: 300,
        run: allocations_fail,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_control_needs_no_memory",
        promise: "while every allocation of the threads of a node fails that answer calls, read and send, and its pools and the caller's have only \
                  what they keep, short calls and posts of class L4 end as ever; calls of another class are refused until there is memory again",
        faults: "failslab for threads of node 2, fail_mempool_alloc on nodes 1 and 2",
        kernel: Kernel::Debug,
        fresh: true,
        seconds: 120,
        run: control_needs_no_memory,
        ..Case::DEFAULT
    },
];

/// Takes all memory until the kernel kills it, again and again for `$1` seconds; then leaves how often, or why it did not.
const TAKE_ALL: &str = "/usr/lib/ssi-tests/memall $1 >/tmp/killed.new 2>&1; mv /tmp/killed.new /tmp/killed";

/// Of the kernel's `PF_*`: waits for nothing to be written.
const MEMALLOC_NOIO: u32 = 0x8_0000;

/// The threads of transport and membership, with their `PF_*`.
pub(crate) fn threads(c: &Context, node: u32) -> Result<Vec<(String, u32)>> {
    // Some may end meanwhile.
    let all = c.sh(node, "cat /proc/[0-9]*/stat 2>/dev/null; true")?;
    let mut ours = Vec::new();
    for line in all.lines() {
        let (_, rest) = line.split_once(" (").context("no name")?;
        let (name, rest) = rest.rsplit_once(") ").with_context(|| line.to_owned())?;
        if name.starts_with("ics_") || name.starts_with("clms_") {
            let flags = rest.split(' ').nth(6).with_context(|| line.to_owned())?;
            ours.push((name.to_owned(), flags.parse()?));
        }
    }
    Ok(ours)
}

/// Those that wait for nothing to be written.
fn without_io(c: &Context, node: u32) -> Result<Vec<String>> {
    let all = threads(c, node)?.into_iter();
    Ok(all.filter(|(_, flags)| flags & MEMALLOC_NOIO != 0).map(|(name, _)| name).collect())
}

/// Those of which there is one.
const ALONE: [&str; 9] = [
    "ics_listen",
    "ics_heartbeat",
    "ics_tear",
    "clms_view",
    "clms_fence",
    "clms_beat",
    "clms_registry",
    "clms_watch",
    "clms_keys",
];

/// Beside them four threads that answer class L4, and who reads the main stream, and that of control, of each other node.
fn threads_are_set(c: &Context, node: u32) -> Result<()> {
    let are_set = || {
        let all = without_io(c, node)?;
        let n = |name: &str| all.iter().filter(|n| *n == name).count();
        let others = all.len() == ALONE.len() + 4 + 2 * 2;
        Ok((others && n("ics_L4") == 4 && ALONE.into_iter().all(|name| n(name) == 1)).then_some(()))
    };
    c.until("threads are set", 10, are_set)
        .with_context(|| format!("node {node}: {:?}", without_io(c, node)))
}

fn memory_is_taken(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 20)?;
    for node in c.all() {
        threads_are_set(c, node)?;
    }
    for node in [1, 2] {
        c.background(node, &["sh", "-c", TAKE_ALL, "sh", "20"])?;
    }
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    loop {
        for (from, to) in [(3, 1), (3, 2)] {
            for (class, bytes) in [(1, 0), (6, 0), (6, 4000), (1, 100_000)] {
                let begin = Instant::now();
                let said = c.sh(from, &format!("echo {to} {class} 10 {bytes} 2 0 >{ECHO} && cat {ECHO}"))?;
                longest = longest.max(begin.elapsed());
                ensure!(said.starts_with("calls 20 errors 0 "), "to node {to}: {said}");
            }
        }
        rounds += 1;
        if [1, 2].iter().all(|n| c.sh(*n, "cat /tmp/killed").is_ok()) {
            break;
        }
    }
    for node in [1, 2] {
        let said = c.sh(node, "cat /tmp/killed")?;
        let killed: u32 = said.trim().parse().with_context(|| format!("node {node}: {said}"))?;
        let oom: u32 = c.sh(node, "sed -n 's/^oom_kill //p' /proc/vmstat")?.parse()?;
        println!("# node {node}: {killed} killed, {rounds} rounds of calls, 20 of them took at most {} ms", longest.as_millis());
        ensure!(killed >= 5 && oom >= killed, "node {node}: its memory was taken {killed} times; the kernel says {oom}");
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 10)?, before)
}

const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";

/// Failures that are allowed: enough for all.
const ROOM: u64 = 1_000_000;

/// Has allocations of the threads fail; `$1` is that, in percent.
const FAIL: &str = "for f in failslab fail_page_alloc; do cd /sys/kernel/debug/$f; echo Y >task-filter; echo N >ignore-gfp-wait; \
                    echo 1 >interval; echo 0 >verbose; echo 1000000 >times; echo $1 >probability; done; \
                    echo 0 >/sys/kernel/debug/fail_page_alloc/min-order; n=0; \
                    for d in /proc/[0-9]*; do case $(cat $d/comm 2>/dev/null) in \
                    ics_*|clms_*) echo 1 >$d/make-it-fail && n=$((n + 1));; esac; done; echo $n";

/// Calls to `$1` until /tmp/enough is there, and what came of each round. What makes them has memory, what answers has not.
const CALLS: &str = "while ! [ -e /tmp/enough ]; do \
                     echo $1 1 50 1000 2 0 >/sys/kernel/debug/ssi/ics_echo && cat /sys/kernel/debug/ssi/ics_echo || echo failed; \
                     echo $1 1 5 100000 2 0 >/sys/kernel/debug/ssi/ics_echo && cat /sys/kernel/debug/ssi/ics_echo || echo failed; \
                     done >/tmp/calls; echo end >>/tmp/calls";

fn allocations_fail(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 20)?;
    let set = |node: u32, percent: u32| c.sh(node, &format!("set -- {percent}; {FAIL}"));
    for node in c.all() {
        let threads: u32 = set(node, 5)?.trim().parse()?;
        ensure!(threads >= 8, "node {node}: {threads} threads");
        c.background(node, &["sh", "-c", CALLS, "sh", &(node % 3 + 1).to_string()])?;
    }
    let rounds = |node: u32| -> Result<usize> { Ok(c.sh(node, "cat /tmp/calls")?.lines().count()) };
    for node in c.all() {
        c.until("15 rounds", 120, || Ok((rounds(node)? >= 15).then_some(())))?;
    }
    for node in c.all() {
        let left = c.sh(node, "cat /sys/kernel/debug/failslab/times")?;
        set(node, 0)?;
        let failed = ROOM - left.trim().parse::<u64>().with_context(|| left.clone())?;
        ensure!(failed > 100, "node {node}: {failed} allocations failed");
        c.sh(node, "touch /tmp/enough")?;
        let calls = c.until("the calls are done", 60, || {
            let text = c.sh(node, "cat /tmp/calls")?;
            Ok(text.ends_with("end").then_some(text))
        })?;
        let good = calls.lines().filter(|l| l.contains(" errors 0 ")).count();
        println!("# node {node}: {failed} allocations failed, of {} rounds {good} had no error", calls.lines().count() - 1);
        ensure!(good >= 5, "node {node}: {calls}");
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 10)?, before)?;
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        for bytes in [1000, 100_000] {
            let said = c.sh(from, &format!("echo {to} 1 50 {bytes} 2 0 >{ECHO} && cat {ECHO}"))?;
            ensure!(said.starts_with("calls 100 errors 0 "), "node {from}: {said}");
        }
    }
    Ok(())
}

/// Only what pools keep is given, if `$1` is 100. Each is told.
const POOLS: &str = "set -e; echo 4 >/proc/sys/kernel/printk; cd /sys/kernel/debug/fail_mempool_alloc; echo 1 >interval; echo 0 >verbose; \
                     echo -1 >times; echo $1 >probability";

/// Fails every `kmalloc()` of the threads that answer in classes L0 and L4, read and send, if `$1` is 100: the sockets have caches of
/// their own. Prints how many sizes and threads that are.
const THREADS: &str = "caches=0; for s in 8 16 32 64 96 128 192 256 512 1k; do echo 1 >/sys/kernel/slab/kmalloc-$s/failslab && \
                       caches=$((caches + 1)); done; cd /sys/kernel/debug/failslab; echo Y >cache-filter; echo Y >task-filter; \
                       echo N >ignore-gfp-wait; echo 1 >interval; echo 0 >verbose; echo 1000000 >times; echo $1 >probability; \
                       n=0; for d in /proc/[0-9]*; do case $(cat $d/comm 2>/dev/null) in \
                       ics_L0|ics_L4|ics_stream|ics_control|ics_bulk|ics_connect|ics_send) echo 1 >$d/make-it-fail && n=$((n + 1));; \
                       esac; done; echo $caches $n";

fn control_needs_no_memory(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 20)?;
    let set = |percent: u32| -> Result<String> {
        for node in [1, 2] {
            c.sh(node, &format!("set -- {percent}; {POOLS}"))?;
        }
        c.sh(2, &format!("set -- {percent}; {THREADS}"))
    };
    let set_to = set(100)?;
    let numbers = set_to.split(' ').map(|n| Ok(n.parse()?)).collect::<Result<Vec<u32>>>()?;
    ensure!(matches!(numbers[..], [caches, threads] if caches >= 8 && threads >= 8 + 4 + 2 * 6), "{set_to}");
    let of_class_l0 = || c.sh(3, &format!("echo 2 1 10 1000 1 0 >{ECHO} && cat {ECHO}"));
    let said = of_class_l0()?;
    ensure!(said.starts_with("calls 10 errors 10 "), "calls of class L0: {said}");
    for _ in 0..5 {
        let said = c.sh(1, &format!("echo 2 6 50 0 4 0 >{ECHO} && cat {ECHO}"))?;
        ensure!(said.starts_with("calls 200 errors 0 "), "calls: {said}");
        let said = c.sh(1, &format!("echo post 2 100 400 >{ECHO} && cat {ECHO}"))?;
        ensure!(said.starts_with("calls 100 errors 0 "), "posts: {said}");
    }
    let said = c.sh(2, &format!("cat {ECHO}"))?;
    ensure!(said.contains(" disorder 0 "), "{said}");
    let forced = |node| -> Result<u32> { Ok(c.sh(node, "dmesg | grep -c 'forcing mempool usage for .*ssi_ics'")?.parse()?) };
    let (asking, answering) = (forced(1)?, forced(2)?);
    let left: u64 = c.sh(2, "cat /sys/kernel/debug/failslab/times")?.parse()?;
    println!("# {asking} pieces of node 1 and {answering} of node 2 were of its pools, {} allocations failed", ROOM - left);
    // The log keeps less than all.
    ensure!(asking > 500 && answering > 500, "{asking}, {answering}");
    ensure!((10..ROOM).contains(&(ROOM - left)), "{left} more allocations were to fail");
    let said = of_class_l0()?;
    ensure!(said.starts_with("calls 10 errors 10 "), "calls of class L0: {said}");
    set(0)?;
    let said = of_class_l0()?;
    ensure!(said.starts_with("calls 10 errors 0 "), "calls of class L0: {said}");
    same("the view", cluster::agree(c, &[1, 2, 3], 10)?, before)
}
