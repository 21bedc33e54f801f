// SPDX-License-Identifier: GPL-2.0

//! Joining, leaving, and who is not let in.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use rig::images::Root;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_three_nodes_one_view",
        promise: "cluster status is the same on every node: one view, all UP, a master, and exit 0",
        debug: true,
        run: one_view,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_leave_and_rmmod",
        promise: "a node leaves, the others have a view without it, and its modules can be removed",
        faults: "node 3 leaves, then boots again",
        debug: true,
        seconds: 90,
        run: leave,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_leave_needs_a_majority",
        promise: "leaving is refused with a reason if the rest would have no majority",
        faults: "node 3 leaves",
        fresh: true,
        seconds: 90,
        run: leave_refused,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_only_an_administrator",
        promise: "join and leave need CAP_SYS_ADMIN: an ordinary user, and one with CAP_NET_ADMIN only, gets EPERM",
        root: Root::Debian,
        run: only_administrator,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_wrong_key_refused",
        promise: "a node with another key does not become a member; the refusals are counted and logged",
        faults: "node 3 has another key",
        join: false,
        fresh: true,
        seconds: 90,
        run: wrong_key,
        ..Case::DEFAULT
    },
];

fn one_view(c: &Context) -> Result<()> {
    let s = cluster::agree(c, &[1, 2, 3], 10)?;
    same("exit code", s.code, 0)?;
    ensure!(s.quorate && s.view > 0 && !s.name.is_empty(), "{s:?}");
    same("master", s.master, Some(1))?;
    for node in 1..=3 {
        let row = s.node(node)?;
        ensure!(row.incarnation > 0 && row.name == format!("node{node}"), "{row:?}");
        same("clusternode_num", c.sh(node, "clusternode_num")?, node.to_string())?;
        same("clustername", c.sh(node, "clustername")?, s.name.clone())?;
        same("clusternode_getstate", c.sh(node, "clusternode_getstate 3")?, "UP")?;
    }
    let again = c.exec(2, &["cluster", "join"])?;
    ensure!(
        again.code == 1 && again.error_text().contains("EALREADY"),
        "a second join: {again:?}"
    );
    same("the view afterwards", cluster::status(c, 2)?, s)
}

/// Node 3 leaves; gives what the others then say.
fn leave_3(c: &Context) -> Result<cluster::Status> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let out = c.exec(3, &["cluster", "leave"])?;
    ensure!(out.code == 0, "cluster leave: {out:?}");
    let after = cluster::agree(c, &[1, 2], 10)?;
    ensure!(after.view > before.view && after.quorate, "{after:?}");
    same("its state for the others", &after.node(3)?.state[..], "DOWN")?;
    for node in 1..=2 {
        same(
            "incarnation",
            after.node(node)?.incarnation,
            before.node(node)?.incarnation,
        )?;
    }
    Ok(after)
}

fn leave(c: &Context) -> Result<()> {
    let after = leave_3(c)?;
    let own = cluster::status(c, 3)?;
    ensure!(
        own.code == 1 && own.nodes.is_empty() && own.view == 0 && !own.quorate,
        "{own:?}"
    );
    for module in ["ssi_vproc", "ssi_rfile", "ssi_clms", "ssi_ics", "ssi_core"] {
        let out = c.exec(3, &["rmmod", module])?;
        ensure!(out.code == 0, "rmmod {module}: {out:?}");
    }
    same("modules left", c.sh(3, "grep -c ^ssi_ /proc/modules || true")?, "0")?;
    same(
        "without modules",
        c.exec(3, &["cluster", "status"])?.code,
        3,
    )?;
    // A plain machine goes on.
    same("a process", c.sh(3, "sleep 0.1 & wait $! && echo $(hostname)")?, "node3")?;
    same("the others stay", cluster::agree(c, &[1, 2], 1)?, after.clone())?;

    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(back.view > after.view, "{back:?}");
    Ok(())
}

fn leave_refused(c: &Context) -> Result<()> {
    let two = leave_3(c)?;
    let out = c.exec(2, &["cluster", "leave"])?;
    ensure!(
        out.code == 1 && out.error_text().contains("EDQUOT") && out.error_text().contains("majority"),
        "{out:?}"
    );
    same("nothing has changed", cluster::agree(c, &[1, 2], 1)?, two)?;
    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)
}

fn only_administrator(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    c.sh(3, "umask 022; echo a-key-that-everybody-may-read >/tmp/key")?;
    // Name of the capability, its bit, and what joining once more ends with.
    for (capability, mask, errno) in [
        ("", 0u64, "EPERM"),
        ("net_admin", 1 << 12, "EPERM"),
        ("sys_admin", 1 << 21, "EALREADY"),
    ] {
        let with = |verb: &str| {
            let caps = if capability.is_empty() { "-all".to_owned() } else { format!("-all,+{capability}") };
            format!(
                "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps={caps} --ambient-caps={caps} \
                 sh -c 'grep CapEff /proc/self/status; cluster {verb} 2>&1; echo status $?'"
            )
        };
        let joined = c.sh(3, &with("join --key /tmp/key"))?;
        ensure!(
            joined.starts_with(&format!("CapEff:\t{mask:016x}\n")) && joined.contains(errno) && joined.ends_with("status 1"),
            "join with {capability:?}: {joined}"
        );
        if errno == "EPERM" {
            let left = c.sh(3, &with("leave"))?;
            ensure!(
                left.contains("EPERM") && left.contains("CAP_SYS_ADMIN") && left.ends_with("status 1"),
                "leave with {capability:?}: {left}"
            );
        }
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 1)?, before)
}

fn wrong_key(c: &Context) -> Result<()> {
    for node in 1..=2 {
        c.background(node, &["cluster", "join"])?;
    }
    let before = cluster::agree(c, &[1, 2], 20)?;
    for node in 1..=2 {
        same("refused before", cluster::refused(c, node)?.values().sum::<u64>(), 0)?;
    }

    c.sh(3, "umask 077; echo another-key-of-the-cluster >/tmp/key")?;
    let out = c.exec(3, &["timeout", "5", "cluster", "join", "--key", "/tmp/key"])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    for node in 1..=2 {
        let now = cluster::status(c, node)?;
        same("members", now.members(), [1, 2])?;
        same("view", now.view, before.view)?;
    }
    for node in 1..=2 {
        let count = cluster::refused(c, node)?;
        ensure!(
            count["admission"] > 0 && count["tag"] > 0,
            "node {node} does not count streams and heartbeats of node 3: {count:?}"
        );
        let lines = c.sh(node, "dmesg | grep 'ssi_ics: refused from'")?;
        for what in ["cluster key", "heartbeat"] {
            ensure!(
                lines.lines().any(|l| l.contains("10.73.1.3:") && l.contains(what)),
                "node {node} does not log the {what} of node 3's address: {lines}"
            );
        }
    }
    same("its own view", cluster::status(c, 3)?.members(), [0; 0])?;

    let out = c.exec(3, &["cluster", "join"])?;
    ensure!(out.code == 0, "with the right key: {out:?}");
    cluster::agree(c, &[1, 2, 3], 10).map(drop)
}
