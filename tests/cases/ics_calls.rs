// SPDX-License-Identifier: GPL-2.0

//! Calls between nodes, driven through the echo service of the interconnect (`ics/echo.rs`).

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;
use rig::fault::Chance;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ics_every_class_answers",
        promise: "calls of every class, of every size up to 1 MiB, alone and at once, bring back what was sent",
        debug: true,
        run: every_class,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_full_l0_stops_nobody_else",
        promise: "while every thread and credit of class L0 is taken, calls of all other classes complete",
        debug: true,
        seconds: 120,
        run: full_l0,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_calls_survive_a_cut",
        promise: "calls and posts under way when the network is cut for a second complete, once and in order",
        faults: "cuts of 1 s",
        debug: true,
        seconds: 90,
        run: survive_cut,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_calls_survive_loss",
        promise: "with 5 % of the frames lost, doubled and late, calls complete, those of 1 MiB too, with what was sent and no tag wrong; \
                  the view stays",
        faults: "loss, duplication",
        debug: true,
        seconds: 90,
        run: survive_loss,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_calls_end_with_the_node",
        promise: "calls that wait for a node end with an error within 3 s of its death, and new ones at once",
        faults: "power cut of node 2",
        debug: true,
        seconds: 90,
        run: end_with_node,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_kill_reaches_class_p",
        promise: "a killed caller of class P ends at once, and its handler on the other node with it",
        debug: true,
        run: kill_p,
        ..Case::DEFAULT
    },
];

const FILE: &str = "/sys/kernel/debug/ssi/ics_echo";

/// What the last run on a node came to.
#[derive(Debug)]
struct Ran {
    calls: u64,
    errors: u64,
    disorder: u64,
    holding: u64,
}

fn parse(text: &str) -> Result<Ran> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |name: &str| -> Result<u64> {
        let at = words.iter().position(|w| *w == name);
        let word = at.and_then(|i| words.get(i + 1)).with_context(|| format!("no {name} in {text:?}"))?;
        Ok(word.parse()?)
    };
    Ok(Ran {
        calls: number("calls")?,
        errors: number("errors")?,
        disorder: number("disorder")?,
        holding: number("holding")?,
    })
}

fn result(c: &Context, node: u32) -> Result<Ran> {
    parse(&c.sh(node, &format!("cat {FILE}"))?)
}

/// `TO CLASS COUNT BYTES THREADS HOLD_MS`, or `post TO COUNT BYTES`, from `node`.
fn run(c: &Context, node: u32, what: &str) -> Result<Ran> {
    parse(&c.sh(node, &format!("echo {what} > {FILE} && cat {FILE}"))?)
}

fn clean(c: &Context, node: u32, what: &str, calls: u64) -> Result<()> {
    let r = run(c, node, what)?;
    ensure!(r.calls == calls && r.errors == 0, "{what}: {r:?}");
    Ok(())
}

fn every_class(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    for class in 0..7 {
        // The longest frame that is received in a softirq has 1964 bytes of tail.
        for bytes in [0, 1, 1963, 1964, 1965, 4096, 8188, 8189, 1 << 20] {
            clean(c, 1, &format!("2 {class} 3 {bytes} 1 0"), 3)?;
        }
        clean(c, 3, &format!("2 {class} 10 100 20 0"), 200)?;
        clean(c, 2, &format!("2 {class} 5 100 1 0"), 5)?;
    }
    clean(c, 1, "post 3 2000 100", 2000)?;
    // Whoever answers the call has not necessarily done the posts: another class.
    c.until("the posts are done", 10, || {
        Ok(run(c, 1, "3 6 1 0 1 0").is_ok().then_some(()))
    })?;
    same("posts out of order", result(c, 3)?.disorder, 0)
}

fn full_l0(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let victim = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    // 64 credits; 8 threads. 80 threads ask and each handler holds its thread for 2 s: 20 s in all.
    let waiting = c.background(1, &["sh", "-c", &format!("echo 2 1 1 0 80 2000 > {FILE}")])?;
    c.until("class L0 is full", 10, || {
        Ok((result(c, 2)?.holding == 8).then_some(()))
    })?;
    let start = Instant::now();
    for class in [0, 2, 3, 4, 5, 6] {
        clean(c, 3, &format!("2 {class} 20 100 4 0"), 80)?;
    }
    // A signal waits for nobody.
    for from in [1, 3] {
        c.sh(from, &format!("kill -0 {victim}"))?;
    }
    c.sh(3, &format!("kill -9 {victim}"))?;
    cluster::gone(c, 2, victim)?;
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(8) * c.patience,
        "the other classes took {took:?}, as if they had waited for class L0"
    );
    drop(waiting);
    c.until("class L0 is done", 60, || {
        let r = result(c, 1)?;
        Ok((r.calls == 80 && r.errors == 0).then_some(()))
    })
}

/// Frames from one node to another that the switch has not let pass.
fn lost(c: &Context, from: u32, to: u32) -> Result<u64> {
    let lanes = c.client.status()?.lanes;
    let lane = lanes.iter().find(|l| (l.from, l.to) == (from, to));
    Ok(lane.context("no such lane")?.counters.cut)
}

/// Waits until the run on a node goes on. A run that is over would not notice a cut.
fn progress(c: &Context, node: u32, all: u64) -> Result<()> {
    let before = result(c, node)?.calls;
    let now = c.until("the run goes on", 30, || {
        let now = result(c, node)?.calls;
        Ok((now > before).then_some(now))
    })?;
    ensure!(now < all, "node {node}: the run is over before the cut");
    Ok(())
}

/// Posts, and calls of each of four threads, that two cuts fit into.
const POSTS: u64 = 20_000;
const CALLS: u64 = 2000;

fn survive_cut(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let posts = c.background(1, &["sh", "-c", &format!("echo post 2 {POSTS} 200 > {FILE}")])?;
    let calls = c.background(3, &["sh", "-c", &format!("echo 2 1 {CALLS} 1000 4 0 > {FILE}")])?;
    for (a, b) in [(1, 2), (2, 3)] {
        // Not before there is something to cut, and until both ends have tried in vain to get through.
        progress(c, 1, POSTS)?;
        progress(c, 3, 4 * CALLS)?;
        let before = (lost(c, a, b)?, lost(c, b, a)?);
        c.change(a, b, Change::Cut)?;
        c.until("frames are lost both ways", 20, || {
            let now = (lost(c, a, b)?, lost(c, b, a)?);
            Ok((now.0 >= before.0 + 8 && now.1 >= before.1 + 8).then_some(()))
        })?;
        c.heal()?;
    }
    c.until("the posts went", 30, || Ok((result(c, 1)?.calls == POSTS).then_some(())))?;
    c.until("the calls are done", 30, || Ok((result(c, 3)?.calls == 4 * CALLS).then_some(())))?;
    drop((posts, calls));
    same("errors of posts", result(c, 1)?.errors, 0)?;
    same("errors of calls", result(c, 3)?.errors, 0)?;
    same("posts out of order", result(c, 2)?.disorder, 0)?;
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

fn survive_loss(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let refused = [cluster::refused(c, 1)?, cluster::refused(c, 2)?];
    c.change(1, 2, Change::Loss(Chance(50_000)))?;
    clean(c, 1, "2 1 100 1000 4 0", 400)?;
    c.change(1, 2, Change::Dup(Chance(50_000)))?;
    clean(c, 1, "2 1 100 1000 4 0", 400)?;
    // What is lost of these is read from the caller's pages again.
    clean(c, 1, "2 5 5 1048576 4 0", 20)?;
    c.heal()?;
    for node in 1..=2 {
        same("frames refused", cluster::refused(c, node)?, refused[node as usize - 1].clone())?;
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

fn end_with_node(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(2)?;
    let waiting = c.background(1, &["sh", "-c", &format!("echo 2 0 1 0 20 60000 > {FILE}")])?;
    c.until("node 2 answers", 10, || Ok((result(c, 2)?.holding == 20).then_some(())))?;
    let start = Instant::now();
    c.power(2, Power::Kill)?;
    c.until("the calls have ended", 20, || Ok((result(c, 1)?.errors == 20).then_some(())))?;
    let took = start.elapsed();
    drop(waiting);
    ensure!(took < Duration::from_secs(3) * c.patience, "they ended after {took:?}");
    let r = run(c, 1, "2 1 1 0 1 0")?;
    ensure!(r.errors == 1, "a call to a dead node: {r:?}");
    c.power(2, Power::Reset)?;
    c.wait(2, Event::Join, boots)?;
    cluster::agree(c, &[1, 2, 3], 10)?;
    clean(c, 1, "2 1 10 0 1 0", 10)
}

fn kill_p(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let asker = c.background(1, &["sh", "-c", &format!("echo 2 0 1 0 1 50000 > {FILE}")])?;
    c.until("node 2 answers", 10, || Ok((result(c, 2)?.holding == 1).then_some(())))?;
    let start = Instant::now();
    c.sh(1, &format!("kill -9 {}", asker.pid))?;
    cluster::gone(c, 1, u32::try_from(asker.pid)?)?;
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(2) * c.patience,
        "the caller ended {took:?} after its kill"
    );
    c.until("its handler has ended", 5, || Ok((result(c, 2)?.holding == 0).then_some(())))?;
    // The next call of class P finds the handler's thread idle, not interrupted.
    clean(c, 1, "2 0 1 0 1 300", 1)
}
