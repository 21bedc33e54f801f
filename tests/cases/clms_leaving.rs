// SPDX-License-Identifier: GPL-2.0

//! Nodes that want out when not all of them can, or when nobody hears them.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_leave_two_at_once",
        promise: "of two nodes that leave at once, of which only one can, one does, and the other is told so and stays",
        faults: "nodes 2 and 3 of three leave at once",
        fresh: true,
        seconds: 90,
        run: two_at_once,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_leave_cut_off",
        promise: "a node that leaves while nobody hears it is out when its lease ends, and does not restart",
        faults: "node 3 is cut from 1 and 2",
        fresh: true,
        seconds: 90,
        run: cut_off,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_join_waits_alone",
        promise: "while a join waits for a majority, families of netlink come and go and status is answered; the module cannot be removed; \
                  the join ends with its program",
        join: false,
        fresh: true,
        seconds: 90,
        run: waits_alone,
        ..Case::DEFAULT
    },
];

/// How many hold the module, other modules among them.
fn holders(c: &Context) -> Result<u32> {
    Ok(c.sh(1, "cat /sys/module/ssi_clms/refcnt")?.trim().parse()?)
}

fn waits_alone(c: &Context) -> Result<()> {
    let before = holders(c)?;
    c.background(1, &["cluster", "join"])?;
    let is_joining = || {
        let its = cluster::status(c, 1)?.nodes.into_iter().find(|n| n.id == 1);
        Ok(its.is_some_and(|n| n.state == "COMINGUP").then_some(()))
    };
    c.until("node 1 is coming up", 10, is_joining)?;
    // Each registers, and removes, a family.
    for _ in 0..3 {
        c.sh(1, "insmod /usr/lib/ssi-tests/tipc.ko && rmmod tipc")?;
    }
    ensure!(is_joining()?.is_some(), "node 1 does not wait any more");
    same("holders of the module", holders(c)?, before + 1)?;
    c.sh(1, "killall cluster")?;
    c.until("the join has ended", 10, || Ok(cluster::status(c, 1)?.nodes.is_empty().then_some(())))?;
    c.until("it holds the module no more", 10, || Ok((holders(c)? == before).then_some(())))?;
    for node in 1..=3 {
        c.background(node, &["cluster", "join"])?;
    }
    cluster::agree(c, &[1, 2, 3], 20).map(drop)
}

fn two_at_once(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    for node in [2, 3] {
        let script = format!("cluster leave >/shared/leave{node} 2>&1; echo status $? >>/shared/leave{node}");
        c.background(node, &["sh", "-c", &script])?;
    }
    let ends = |node: u32| {
        c.until(&format!("the leave of {node} ends"), 15, || {
            Ok(c.shared_text(&format!("leave{node}")).filter(|t| t.contains("status ")))
        })
    };
    let ends = [ends(2)?, ends(3)?];
    let out = if ends[0].trim() == "status 0" { 2 } else { 3 };
    let stays = 5 - out;
    same("the one that leaves", ends[out as usize - 2].trim(), "status 0")?;
    let other = &ends[stays as usize - 2];
    ensure!(other.contains("EDQUOT") && other.contains("status 1"), "node {stays}: {other}");
    let two = cluster::agree(c, &[1, stays], 10)?;
    same("members", two.members(), [1, u64::from(stays)])?;
    c.sh(out, "cluster join")?;
    cluster::agree(c, &[1, 2, 3], 10).map(drop)
}

fn cut_off(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    for other in [1, 2] {
        c.change(other, 3, Change::Cut)?;
    }
    let out = c.exec(3, &["cluster", "leave"])?;
    ensure!(out.code == 0, "{out:?}");
    same("its own view", cluster::status(c, 3)?.members(), [0; 0])?;
    c.until("the others have a view without it", 10, || {
        Ok((cluster::status(c, 1)?.members() == [1, 2]).then_some(()))
    })?;
    c.heal()?;
    c.sh(3, "cluster join")?;
    cluster::agree(c, &[1, 2, 3], 10)?;
    same("boots of node 3", c.boots(3)?, boots)
}
