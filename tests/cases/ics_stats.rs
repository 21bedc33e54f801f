// SPDX-License-Identifier: GPL-2.0

//! What calls and links came to, as `cluster ics show` tells it.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Power;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ics_show_counts_calls",
        promise: "cluster ics show counts calls, replies, bytes and latencies of a known load exactly, at both ends",
        debug: true,
        run: counts_calls,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_show_counts_errors",
        promise: "calls that were interrupted or whose node died are counted as errors, and as nothing else",
        faults: "power cut of node 2",
        fresh: true,
        run: counts_errors,
        ..Case::DEFAULT
    },
];

const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";

/// The numbers of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Op {
    calls: u64,
    replies: u64,
    errors: u64,
    bytes_out: u64,
    bytes_in: u64,
    served: u64,
    served_errors: u64,
    timed: u64,
}

fn number(v: &Value, field: &str) -> Result<u64> {
    v[field].as_u64().with_context(|| format!("no {field} in {v}"))
}

fn op(c: &Context, node: u32, service: &str, name: &str) -> Result<Op> {
    let all = cluster::ics(c, node)?;
    let ops = all["ops"].as_array().context("no ops")?;
    let o = ops.iter().find(|o| o["service"] == service && o["op"] == name);
    let o = o.with_context(|| format!("no {service}.{name}"))?;
    let latency = o["latency"].as_array().context("no latency")?;
    same("classes of latencies", latency.len(), 24)?;
    Ok(Op {
        calls: number(o, "calls")?,
        replies: number(o, "replies")?,
        errors: number(o, "errors")?,
        bytes_out: number(o, "bytes_out")?,
        bytes_in: number(o, "bytes_in")?,
        served: number(o, "served")?,
        served_errors: number(o, "served_errors")?,
        timed: latency.iter().filter_map(Value::as_u64).sum(),
    })
}

/// Frames and bytes to and from a node, on all links.
fn traffic(c: &Context, node: u32, to: u32) -> Result<[u64; 4]> {
    let all = cluster::ics(c, node)?;
    let mut sum = [0; 4];
    for l in all["links"].as_array().context("no links")? {
        if number(l, "node")? == u64::from(to) {
            for (sum, field) in sum.iter_mut().zip(["frames_out", "bytes_out", "frames_in", "bytes_in"]) {
                *sum += number(l, field)?;
            }
        }
    }
    Ok(sum)
}

/// Bytes of a frame beside its body: head and tag.
const FRAME: u64 = 72 + 16;

fn counts_calls(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    // Below and above what a softirq takes; the fixed part of a request has 4 bytes, that of a reply none.
    for (calls, bytes) in [(100, 0), (50, 1000), (20, 100_000)] {
        let before = (op(c, 1, "Echo", "EchoL0")?, op(c, 2, "Echo", "EchoL0")?);
        let moved = (traffic(c, 1, 2)?, traffic(c, 2, 1)?);
        c.sh(1, &format!("echo 2 1 {} {bytes} 2 0 > {ECHO}", calls / 2))?;
        let after = (op(c, 1, "Echo", "EchoL0")?, op(c, 2, "Echo", "EchoL0")?);
        let want = Op {
            calls: before.0.calls + calls,
            replies: before.0.replies + calls,
            bytes_out: before.0.bytes_out + calls * (4 + bytes),
            bytes_in: before.0.bytes_in + calls * bytes,
            timed: before.0.timed + calls,
            ..before.0
        };
        same("who asks", after.0, want)?;
        let want = Op { served: before.1.served + calls, ..before.1 };
        same("who answers", after.1, want)?;
        // Nobody else uses an idle cluster.
        let frames = [calls, calls * (FRAME + 4 + bytes), calls, calls * (FRAME + bytes)];
        let sum = |a: [u64; 4], b: [u64; 4]| -> Vec<u64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        same("frames of who asks", traffic(c, 1, 2)?.to_vec(), sum(moved.0, frames))?;
        let back = [frames[2], frames[3], frames[0], frames[1]];
        same("frames of who answers", traffic(c, 2, 1)?.to_vec(), sum(moved.1, back))?;
    }
    let before = (op(c, 1, "Echo", "Row")?, op(c, 3, "Echo", "Row")?);
    c.sh(1, &format!("echo post 3 200 10 > {ECHO}"))?;
    c.until("the posts are done", 10, || {
        let after = op(c, 1, "Echo", "Row")?;
        Ok((after.replies == before.0.replies + 200).then_some(()))
    })?;
    same("posts", op(c, 1, "Echo", "Row")?.bytes_out, before.0.bytes_out + 200 * 18)?;
    same("posts done", op(c, 3, "Echo", "Row")?.served, before.1.served + 200)?;
    // A call to the own node is none between nodes.
    let before = op(c, 1, "Echo", "EchoL0")?;
    c.sh(1, &format!("echo 1 1 10 0 1 0 > {ECHO}"))?;
    same("calls to the own node", op(c, 1, "Echo", "EchoL0")?, before)?;
    let text = c.exec_as("user", 1, &["cluster", "ics", "show"])?;
    ensure!(text.code == 0 && text.text().contains("Echo.EchoL0"), "{text:?}");
    Ok(())
}

fn counts_errors(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let before = op(c, 1, "Echo", "EchoP")?;
    let asker = c.background(1, &["sh", "-c", &format!("echo 2 0 1 0 1 50000 > {ECHO}")])?;
    c.until("a call is under way", 10, || {
        Ok((op(c, 1, "Echo", "EchoP")?.calls == before.calls + 1).then_some(()))
    })?;
    same("a call under way", op(c, 1, "Echo", "EchoP")?.errors, before.errors)?;
    c.sh(1, &format!("kill -9 {}", asker.pid))?;
    let interrupted = Op {
        calls: before.calls + 1,
        errors: before.errors + 1,
        bytes_out: before.bytes_out + 4,
        ..before
    };
    c.until("the call has ended", 10, || {
        Ok((op(c, 1, "Echo", "EchoP")? == interrupted).then_some(()))
    })?;
    c.until("the handler has ended", 10, || {
        let there = op(c, 2, "Echo", "EchoP")?;
        Ok((there.served == 1 && there.served_errors == 1).then_some(()))
    })?;
    let waiting = c.background(1, &["sh", "-c", &format!("echo 2 1 1 0 5 60000 > {ECHO}")])?;
    c.until("calls are under way", 10, || Ok((op(c, 1, "Echo", "EchoL0")?.calls == 5).then_some(())))?;
    c.power(2, Power::Kill)?;
    let lost = Op {
        calls: 5,
        replies: 0,
        errors: 5,
        bytes_out: 20,
        bytes_in: 0,
        served: 0,
        served_errors: 0,
        timed: 0,
    };
    c.until("the calls have ended", 20, || Ok((op(c, 1, "Echo", "EchoL0")? == lost).then_some(())))?;
    drop(waiting);
    Ok(())
}
