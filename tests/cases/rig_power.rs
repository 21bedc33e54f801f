// SPDX-License-Identifier: GPL-2.0

//! Pause, resume and power cut.

use std::time::Duration;

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Phase;
use rig::control::Power;
use rig::control::TIMED_OUT;
use rig::spawn;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rig_pause",
        promise: "a paused node does nothing; after a pause its clock has stood still, after a freeze it has not",
        faults: "node 2 pauses and freezes",
        nodes: 2,
        modules: false,
        run: pause,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_kill_stays_off",
        promise: "a node whose power is cut stays off until it is given back",
        faults: "power cut of node 2",
        nodes: 2,
        modules: false,
        run: kill,
        ..Case::DEFAULT
    },
];

fn uptime(c: &Context, node: u32) -> Result<f64> {
    Ok(c.sh(node, "cut -d ' ' -f 1 /proc/uptime")?.parse()?)
}

fn pause(c: &Context) -> Result<()> {
    for (action, stands_still) in [(Power::Pause, true), (Power::Freeze, false)] {
        let before = uptime(c, 2)?;
        c.power(2, action)?;
        ensure!(c.client.node(2)?.paused, "{action:?} does not show");
        let out = c.client.output(2, spawn::command(&["true"]), Some(Duration::from_secs(3)), b"")?;
        same(format!("a command after {action:?}"), out.code, TIMED_OUT)?;
        c.power(2, Power::Resume)?;
        let passed = uptime(c, 2)? - before;
        ensure!((passed < 2.0) == stands_still, "{action:?}: {passed} s passed on the node");
    }
    Ok(())
}

fn kill(c: &Context) -> Result<()> {
    let boots = c.boots(2)?;
    c.power(2, Power::Kill)?;
    c.wait(2, Event::Down, 0)?;
    same("node 1", c.sh(1, "ping -c 1 -W 1 10.73.1.2 >/dev/null || echo silent")?, "silent")?;
    let node = c.client.node(2)?;
    same("state", (node.phase, node.boots, node.pid), (Phase::Off, boots, None))?;
    ensure!(c.power(2, Power::Pause).is_err(), "a node that is off can be paused");
    c.power(2, Power::Reset)?;
    c.wait(2, Event::Up, boots)?;
    same("node 2", c.sh(2, "hostname")?, "node2")
}
