// SPDX-License-Identifier: GPL-2.0

//! Clocks that jump. The membership counts by a clock that does not.

use std::time::Duration;
use std::time::Instant;

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
        name: "clms_clock_jumps",
        promise: "the clock of the master, and of another node, jumps by an hour forth and back: the view stays, calls complete",
        faults: "date -s on nodes 1 and 2",
        debug: true,
        run: jumps,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_rejoins_with_its_clock_set_back",
        promise: "a node that has left, and whose clock was then set back by an hour, joins again at once",
        faults: "node 3 leaves; date -s there",
        seconds: 90,
        run: rejoin,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_joins_with_its_clock_behind",
        promise: "a machine whose clock is behind its last join when it boots joins as a later life, when that one is missed",
        faults: "node 3 joins with its clock an hour ahead, and is reset",
        fresh: true,
        seconds: 90,
        run: behind,
        long: true,
        ..Case::DEFAULT
    },
];

/// Sets a node's clock off by so many seconds.
fn jump(c: &Context, node: u32, by: i64) -> Result<()> {
    let script = format!("before=$(date +%s); date -s @$((before + {by})) >/dev/null; echo $(($(date +%s) - before))");
    let passed: i64 = c.sh(node, &script)?.parse()?;
    ensure!((by..by + 5).contains(&passed), "node {node}: the clock went {passed} s, not {by}");
    Ok(())
}

fn jumps(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    for node in [1, 2] {
        for by in [3600, -7200, 3600] {
            jump(c, node, by)?;
            let start = Instant::now();
            // Longer than it takes to judge a node.
            while start.elapsed() < Duration::from_millis(2500) {
                let echo = "/sys/kernel/debug/ssi/ics_echo";
                for (from, to) in [(1, 2), (2, 3), (3, 1)] {
                    let said = c.sh(from, &format!("echo {to} 1 20 100 2 0 >{echo} && cat {echo}"))?;
                    ensure!(said.starts_with("calls 40 errors 0 "), "node {from}: {said}");
                }
            }
            same(format!("node {node} by {by} s"), cluster::agree(c, &[1, 2, 3], 1)?, before.clone())?;
        }
    }
    Ok(())
}

fn rejoin(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let refused = cluster::refused(c, 1)?;
    c.sh(3, "cluster leave")?;
    cluster::agree(c, &[1, 2], 10)?;
    jump(c, 3, -3600)?;
    let out = c.exec(3, &["timeout", "15", "cluster", "join"]);
    jump(c, 3, 3600)?;
    let out = out?;
    ensure!(out.code == 0, "cluster join: {out:?}");
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(
        back.node(3)?.incarnation > before.node(3)?.incarnation,
        "{before:?} {back:?}"
    );
    same("refused by node 1", cluster::refused(c, 1)?, refused)
}

fn behind(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    c.sh(3, "cluster leave")?;
    cluster::agree(c, &[1, 2], 10)?;
    jump(c, 3, 3600)?;
    c.sh(3, "cluster join")?;
    let ahead = cluster::agree(c, &[1, 2, 3], 10)?;

    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    // By its clock it would be an hour less.
    same(
        "its life",
        back.node(3)?.incarnation,
        ahead.node(3)?.incarnation + 1,
    )?;
    let said = c.sh(3, "dmesg | grep -c 'know a later life of this node'")?;
    same("lines that say why", said, "1".to_owned())
}
