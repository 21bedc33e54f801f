// SPDX-License-Identifier: GPL-2.0

//! Debian's `fence_ipmilan` fences, by BMCs that OpenIPMI's `ipmi_sim` stands for.
//!
//! Nodes 1 to 3 are the cluster. Node 4 never joins: there `rig_bmc` runs for each of them, at an address of its own, and
//! switches the virtual machine.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Phase;
use rig::control::Power;
use rig::images::Root;

use crate::clms_fencing::in_order;
use crate::clms_fencing::judged;
use crate::clms_fencing::unjudged;
use crate::clms_fencing::waiting;
use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

const CASE: Case = Case {
    nodes: 4,
    root: Root::Debian,
    join: false,
    fresh: true,
    long: true,
    seconds: 240,
    ..Case::DEFAULT
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_fence_ipmi_switches_off",
        promise: "fence_ipmilan switches a node off that hangs, before anybody acts on its death; switched on by its BMC it comes back",
        faults: "node 3 is paused",
        long: false,
        run: switches_off,
        ..CASE
    },
    Case {
        name: "clms_fence_ipmi_bmc_is_silent",
        promise: "while a BMC does not answer its node is not judged dead, and cluster status says so; when it answers the node is fenced",
        faults: "the network of node 3's BMC is cut; power cut of node 3",
        run: bmc_is_silent,
        ..CASE
    },
    Case {
        name: "clms_fence_ipmi_wrong_password",
        promise: "a wrong password of a BMC: the log names node, agent and next step, which shows the reason; mended, the node is fenced",
        faults: "wrong password; node 3 is paused",
        run: wrong_password,
        ..CASE
    },
    Case {
        name: "clms_fence_ipmi_bmc_lies",
        promise: "a BMC that says that it has switched off and has not is believed by nobody",
        faults: "node 3's BMC switches nothing; node 3 is paused",
        run: bmc_lies,
        ..CASE
    },
];

/// The node with the BMCs.
const BMCS: u32 = 4;

const PASSWORD: &str = "secret";

/// Starts the BMCs and the cluster; its nodes are fenced by `action`.
fn set_up(c: &Context, action: &str) -> Result<cluster::Status> {
    for node in 1..=3 {
        let (number, address) = (node.to_string(), address(node));
        c.background(BMCS, &["/usr/lib/ssi-tests/rig_bmc", &number, &address])?;
    }
    for node in 1..=3 {
        c.until(&format!("the BMC of node {node}"), 20, || Ok(bmc(c, node, "status").is_ok().then_some(())))
            .with_context(|| format!("{:?}", bmc(c, node, "status")))?;
    }
    let rows: Vec<_> = (1..=3).map(|n| format!("{n} 10.73.1.{n}\n")).collect();
    let devices: Vec<_> = (1..=3).map(|n| format!("[node.{n}]\noptions = {{ ip = \"{}\" }}\n", address(n))).collect();
    let fence = format!(
        "agent = \"fence_ipmilan\"\naction = \"{action}\"\n[options]\nlanplus = \"1\"\ncipher = \"3\"\nusername = \"admin\"\n\
         password_script = \"/tmp/password\"\n{}",
        devices.concat()
    );
    for node in 1..=3 {
        put(c, node, "/tmp/tab", &rows.concat())?;
        put(c, node, "/tmp/fence.toml", &fence)?;
        password(c, node, PASSWORD)?;
        join(c, node)?;
    }
    let all = cluster::agree(c, &[1, 2, 3], 30)?;
    for node in 1..=3 {
        let daemon = c.background(node, &["cluster", "fenced", "--fence", "/tmp/fence.toml"])?;
        let log = format!("{}.out", daemon.log.context("a log")?);
        c.sh(node, &format!("ln -s {log} /tmp/fenced.log"))?;
        c.until("the daemon", 10, || Ok(daemon_log(c, node)?.contains("can be fenced from here").then_some(())))?;
    }
    Ok(all)
}

fn address(node: u32) -> String {
    format!("10.73.1.{}", 100 + node)
}

fn put(c: &Context, node: u32, path: &str, text: &str) -> Result<()> {
    let out = c.exec_with(node, &["sh", "-c", &format!("cat >{path}")], text.as_bytes())?;
    same(path, out.code, 0)
}

/// The password that a node's agent gives to the BMCs.
fn password(c: &Context, node: u32, password: &str) -> Result<()> {
    put(c, node, "/tmp/password", &format!("#!/bin/sh\necho {password}\n"))?;
    c.sh(node, "chmod 700 /tmp/password").map(drop)
}

fn join(c: &Context, node: u32) -> Result<()> {
    c.background(node, &["cluster", "join", "--tab", "/tmp/tab", "--fence", "/tmp/fence.toml"]).map(drop)
}

fn daemon_log(c: &Context, node: u32) -> Result<String> {
    c.sh(node, "cat /tmp/fenced.log")
}

/// Has an administrator use the BMC of a node: `chassis power ACTION`.
fn bmc(c: &Context, node: u32, action: &str) -> Result<String> {
    c.sh(
        BMCS,
        &format!("ipmitool -I lanplus -C 3 -H {} -U admin -P {PASSWORD} chassis power {action}", address(node)),
    )
}

/// Makes sure that node 3 is switched off, by what the rig knows and by what its BMC says.
fn is_off(c: &Context, qemu: u32) -> Result<()> {
    let node = c.client.node(3)?;
    same("node 3", (node.phase, node.pid), (Phase::Off, None))?;
    ensure!(!Path::new(&format!("/proc/{qemu}")).exists(), "the QEMU of node 3 runs");
    same("its BMC", bmc(c, 3, "status")?, "Chassis Power is off")
}

/// The process that is node 3.
fn qemu(c: &Context) -> Result<u32> {
    c.client.node(3)?.pid.context("node 3 is off")
}

/// Waits until nodes 1 and 2 act on the death of node 3, which must be off by then.
fn wait_judged(c: &Context, qemu: u32) -> Result<()> {
    c.until(&judged(3), 90, || {
        if ![1, 2].iter().any(|n| c.console(*n).contains(&judged(3))) {
            return Ok(None);
        }
        ensure!(!Path::new(&format!("/proc/{qemu}")).exists(), "node 3 is judged dead, and runs");
        Ok([1, 2].iter().all(|n| c.console(*n).contains(&judged(3))).then_some(()))
    })
    .with_context(|| format!("fenced: {:?} {:?}", daemon_log(c, 1), daemon_log(c, 2)))
}

/// Waits for a line of the log of node 1's daemon.
fn said(c: &Context, words: &str) -> Result<String> {
    let text = c.until(&format!("fenced: {words}"), 90, || {
        let text = daemon_log(c, 1)?;
        Ok(text.lines().find(|l| l.contains(words)).map(str::to_owned))
    });
    text.with_context(|| format!("{:?}", daemon_log(c, 1)))
}

/// Node 3, which is on again, joins, and all are one cluster.
fn comes_back(c: &Context, before: &cluster::Status, boots: u32) -> Result<()> {
    c.wait(3, Event::Up, boots)?;
    put(c, 3, "/tmp/tab", &c.sh(1, "cat /tmp/tab")?)?;
    put(c, 3, "/tmp/fence.toml", &c.sh(1, "cat /tmp/fence.toml")?)?;
    join(c, 3)?;
    let back = cluster::agree(c, &[1, 2, 3], 30)?;
    ensure!(back.node(3)?.incarnation > before.node(3)?.incarnation, "{before:?} {back:?}");
    same("boots", c.boots(3)?, boots + 1)
}

fn switches_off(c: &Context) -> Result<()> {
    let before = set_up(c, "off")?;
    let boots = c.boots(3)?;
    same("asked by the cluster", fence_status(c, 2)?, (0, "node 3: on".to_owned()))?;
    let qemu = qemu(c)?;
    c.power(3, Power::Pause)?;
    waiting(c, &[1, 2], 3)?;
    same("its BMC", bmc(c, 3, "status")?, "Chassis Power is on")?;
    wait_judged(c, qemu)?;
    is_off(c, qemu)?;
    in_order(
        c,
        1,
        &["node 3 is to be fenced from here", "node 3 is fenced: fence_ipmilan off", &judged(3), "node 3 is down"],
    )?;
    same("asked by the cluster", fence_status(c, 2)?, (0, "node 3: off".to_owned()))?;
    bmc(c, 3, "on")?;
    comes_back(c, &before, boots)
}

fn bmc_is_silent(c: &Context) -> Result<()> {
    let before = set_up(c, "reboot")?;
    let boots = c.boots(3)?;
    let qemu = qemu(c)?;
    for node in [1, 2] {
        c.change(node, BMCS, Change::Cut)?;
    }
    c.power(3, Power::Kill)?;
    waiting(c, &[1, 2], 3)?;
    c.until("the agents of both have failed", 120, || {
        let has = |n| Ok::<_, anyhow::Error>(daemon_log(c, n)?.contains("not fenced: fence_ipmilan reboot: exit status: 1"));
        Ok((has(1)? && has(2)?).then_some(()))
    })?;
    unjudged(c, &[1, 2], 3, Duration::from_secs(2))?;
    let text = c.sh(1, "cluster status")?;
    ensure!(text.contains("Node 3 is lost and not known to be off"), "{text}");
    c.until("node 1 says what is to be done", 10, || {
        Ok(c.console(1).contains("cluster node confirm-down 3").then_some(()))
    })?;
    c.heal()?;
    wait_judged(c, qemu)?;
    comes_back(c, &before, boots)
}

fn wrong_password(c: &Context) -> Result<()> {
    let before = set_up(c, "off")?;
    let boots = c.boots(3)?;
    let qemu = qemu(c)?;
    for node in [1, 2] {
        password(c, node, "guessed")?;
    }
    c.power(3, Power::Pause)?;
    waiting(c, &[1, 2], 3)?;
    let line = said(c, "not fenced: fence_ipmilan off: exit status: 1")?;
    ensure!(line.contains("node 3") && line.contains("cluster node fence 3 --status"), "{line}");
    in_order(c, 1, &["node 3 is not fenced: fence_ipmilan off: exit status: 1"])?;
    unjudged(c, &[1, 2], 3, Duration::from_secs(1))?;
    let (code, text) = fence_status(c, 1)?;
    ensure!(code == 1 && text.contains("Unable to establish IPMI v2"), "{code} {text}");
    ensure!(c.client.node(3)?.pid == Some(qemu), "it was switched off");
    for node in [1, 2] {
        password(c, node, PASSWORD)?;
    }
    wait_judged(c, qemu)?;
    is_off(c, qemu)?;
    bmc(c, 3, "on")?;
    comes_back(c, &before, boots)
}

fn bmc_lies(c: &Context) -> Result<()> {
    set_up(c, "off")?;
    let qemu = qemu(c)?;
    c.sh(BMCS, "touch /run/bmc/3/lies")?;
    c.power(3, Power::Pause)?;
    waiting(c, &[1, 2], 3)?;
    bmc(c, 3, "off").context("the BMC does not say that it has done it")?;
    let line = said(c, "not fenced: fence_ipmilan off: exit status: 1")?;
    ensure!(line.contains("Timed out waiting to power OFF"), "{line}");
    unjudged(c, &[1, 2], 3, Duration::from_secs(1))?;
    ensure!(c.client.node(3)?.pid == Some(qemu), "it was switched off");
    c.sh(BMCS, "rm /run/bmc/3/lies")?;
    wait_judged(c, qemu)?;
    is_off(c, qemu)
}

/// What `cluster node fence 3 --status` says on a node: exit status and output.
fn fence_status(c: &Context, node: u32) -> Result<(i32, String)> {
    let out = c.exec(node, &["cluster", "node", "fence", "--fence", "/tmp/fence.toml", "3", "--status"])?;
    Ok((out.code, out.text() + &out.error_text()))
}
