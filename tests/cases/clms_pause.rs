// SPDX-License-Identifier: GPL-2.0

//! Nodes that stand still, and go on after the others have judged them dead.

use std::time::Duration;

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

const STOPS: &str = "node stops itself: ";

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_paused_node_restarts",
        promise: "a node that stood still beyond its judgement restarts itself, and signals nobody after it",
        faults: "pause of node 3",
        expected: &[STOPS],
        seconds: 90,
        run: |c| pause(c, Power::Pause, Duration::ZERO),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_frozen_node_restarts",
        promise: "the same when its clock goes on meanwhile",
        faults: "freeze of node 3",
        expected: &[STOPS],
        long: true,
        seconds: 90,
        run: |c| pause(c, Power::Freeze, Duration::ZERO),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_paused_for_30s_restarts",
        promise: "the same after 30 s",
        faults: "pause of node 3",
        expected: &[STOPS],
        long: true,
        seconds: 120,
        run: |c| pause(c, Power::Pause, Duration::from_secs(30)),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_short_pause_is_nothing",
        promise: "a node that stands still for less than the time after which it is judged stays, and nobody notices",
        faults: "pauses of node 3",
        run: short,
        ..Case::DEFAULT
    },
];

/// Counts the signals that it gets in `/tmp/signals`.
const VICTIM: &str = ">/tmp/signals; trap 'echo >>/tmp/signals' USR1; while :; do read -t 1 x </dev/zero; done";

/// How many signals the victim has got.
fn signals(c: &Context) -> Result<u32> {
    Ok(c.sh(1, "wc -l </tmp/signals")?.trim().parse()?)
}

fn pause(c: &Context, how: Power, time: Duration) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    let victim = c.background(1, &["sh", "-c", VICTIM])?.pid;
    c.until("the victim", 5, || Ok(c.exec(1, &["test", "-e", "/tmp/signals"])?.code.eq(&0).then_some(())))?;
    c.background(3, &["sh", "-c", &format!("while :; do kill -USR1 {victim}; done")])?;
    c.until("signals of node 3", 10, || Ok((signals(c)? > 3).then_some(())))?;

    let paused = Mark::now(c);
    c.power(3, how)?;
    let two = cluster::agree(c, &[1, 2], 10)?;
    ensure!(two.view > before.view, "{two:?}");
    c.until("node 3 is down for both", 5, || {
        let is_down = |n| Ok::<bool, anyhow::Error>(cluster::status(c, n)?.node(3)?.state == "DOWN");
        Ok((is_down(1)? && is_down(2)?).then_some(()))
    })?;
    // No event: a pause of that length is what is tried.
    std::thread::sleep(time);
    let judged = signals(c)?;
    c.power(3, Power::Resume)?;
    c.until("node 3 restarts", 20, || Ok((c.boots(3)? > boots).then_some(())))?;
    ensure!(
        paused.text(c, 3).contains(STOPS),
        "node 3 does not say why it stopped"
    );
    same("signals of node 3 after it was judged", signals(c)?, judged)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(back.view > two.view, "{back:?}");
    same("signals in the end", signals(c)?, judged)?;
    c.sh(1, &format!("kill -9 {victim}; rm /tmp/signals"))?;
    views::are_one_history(c).map(drop)
}

fn short(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    for _ in 0..3 {
        c.power(3, Power::Pause)?;
        // No event: a pause of that length is what is tried. It is judged after 2 s.
        std::thread::sleep(Duration::from_millis(1000));
        c.power(3, Power::Resume)?;
        same("the status", cluster::agree(c, &[1, 2, 3], 5)?, before.clone())?;
    }
    same("boots of node 3", c.boots(3)?, boots)
}
