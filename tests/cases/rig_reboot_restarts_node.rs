// SPDX-License-Identifier: GPL-2.0

//! A node that reboots, panics or powers off by itself.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::NODE_GONE;
use rig::control::Phase;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "rig_reboot_restarts_node",
    promise: "a node that exits by reboot or panic is started again, unless the case says no; one that powers off is not",
    faults: "node 2 reboots, panics, powers off",
    nodes: 2,
    modules: false,
    expected: &["sysrq triggered crash", "Kernel panic", "Call Trace:"],
    run: reboot,
    ..Case::DEFAULT
}];

fn reboot(c: &Context) -> Result<()> {
    for (what, script) in [
        ("reboot", "reboot -f"),
        ("an orderly reboot", "reboot; sleep 1000"),
        ("panic", "echo c > /proc/sysrq-trigger"),
    ] {
        let before = c.client.node(2)?;
        same(what, c.exec(2, &["sh", "-c", script])?.code, NODE_GONE)?;
        c.wait(2, Event::Up, before.boots)?;
        let after = c.client.node(2)?;
        ensure!(after.boots == before.boots + 1 && after.boot_id != before.boot_id, "{what}: {before:?} {after:?}");
    }
    ensure!(c.console(2).contains("sysrq triggered crash"), "the panic is not on the console");

    c.client.restart(2, false)?;
    same("reboot", c.exec(2, &["reboot", "-f"])?.code, NODE_GONE)?;
    c.until("node 2 off", 10, || Ok((c.client.node(2)?.phase == Phase::Off).then_some(())))?;
    c.client.restart(2, true)?;
    same("still off", c.client.node(2)?.phase, Phase::Off)?;

    c.power(2, rig::control::Power::Reset)?;
    let boots = c.boots(2)?;
    c.wait(2, Event::Up, 0)?;
    same("poweroff", c.exec(2, &["poweroff", "-f"])?.code, NODE_GONE)?;
    c.until("node 2 off", 10, || Ok((c.client.node(2)?.phase == Phase::Off).then_some(())))?;
    same("boots", c.boots(2)?, boots)?;
    same("node 1 never noticed", c.boots(1)?, 1)
}
