// SPDX-License-Identifier: GPL-2.0

//! Nodes that die and networks that break.

use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_nodedown_within_3s",
        promise: "3 s after a power cut every survivor has a view without the node; it rejoins as a new incarnation",
        faults: "power cut of node 3",
        debug: true,
        seconds: 90,
        run: nodedown,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_minority_restarts",
        promise: "a node cut off from the majority restarts itself, the others stay, and healed it is a member again",
        faults: "node 1 is cut from 2 and 3",
        expected: &["its lease has ended: too few members are heard"],
        seconds: 120,
        run: minority,
        ..Case::DEFAULT
    },
];

fn nodedown(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    let start = Instant::now();
    c.power(3, Power::Kill)?;
    // The host's clock; what it takes to ask counts against the promise.
    let mut down = Vec::new();
    for node in 1..=2 {
        let s = c.until(&format!("node {node}: node 3 DOWN"), 10, || {
            let s = cluster::status(c, node)?;
            Ok((s.node(3)?.state == "DOWN").then_some(s))
        })?;
        ensure!(s.view > before.view, "node {node}: view {} after {}", s.view, before.view);
        same("members", s.members(), [1, 2])?;
        down.push(start.elapsed());
    }
    ensure!(
        down.iter().all(|d| *d <= Duration::from_secs(3) * c.patience),
        "nodes 1 and 2 saw it after {down:?}"
    );
    let after = cluster::agree(c, &[1, 2], 5)?;

    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(back.view > after.view, "{back:?}");
    ensure!(
        back.node(3)?.incarnation > before.node(3)?.incarnation,
        "{before:?} {back:?}"
    );
    for node in 1..=2 {
        same(
            "incarnation of a survivor",
            back.node(node)?.incarnation,
            before.node(node)?.incarnation,
        )?;
    }
    Ok(())
}

fn minority(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = [c.boots(1)?, c.boots(2)?, c.boots(3)?];
    c.change(1, 2, Change::Cut)?;
    c.change(1, 3, Change::Cut)?;
    let two = cluster::agree(c, &[2, 3], 10)?;
    ensure!(two.quorate && two.view > before.view && two.master == Some(2), "{two:?}");
    same("node 1", &two.node(1)?.state[..], "DOWN")?;
    c.until("node 1 restarts", 20, || {
        Ok((c.boots(1)? > boots[0]).then_some(()))
    })?;
    ensure!(
        c.console(1).contains("node stops itself"),
        "node 1 does not say why it stopped"
    );
    c.heal()?;
    c.wait(1, Event::Join, boots[0])?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(
        back.view > two.view && back.node(1)?.incarnation > before.node(1)?.incarnation,
        "{back:?}"
    );
    same("boots of the others", [c.boots(2)?, c.boots(3)?], [boots[1], boots[2]])
}
