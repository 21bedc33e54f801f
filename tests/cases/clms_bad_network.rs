// SPDX-License-Identifier: GPL-2.0

//! Networks that lose, double, delay, reorder and bend frames, on every way at once: the view stays, calls go on.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;
use rig::fault::Chance;
use rig::fault::Counters;

use crate::cluster;
use crate::cluster::Status;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use crate::views;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_loss_5_keeps_the_view",
        promise: "with 5 % of all frames lost for 10 s the view stays, and calls between all nodes complete",
        faults: "loss of 5 %, everywhere",
        run: |c| loss_5(c, Duration::from_secs(10)),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_loss_5_keeps_the_view_60s",
        promise: "the same for 60 s",
        faults: "loss of 5 %, everywhere",
        long: true,
        seconds: 120,
        run: |c| loss_5(c, Duration::from_secs(60)),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_doubled_and_reordered",
        promise: "with 20 % of all frames doubled and 20 % overtaken the view stays, and calls between all nodes complete",
        faults: "duplication and reordering, everywhere",
        run: doubled,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_late_frames",
        promise: "with every frame 1 to 300 ms late the view stays, and calls between all nodes complete",
        faults: "delay and jitter, everywhere",
        run: late,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_bent_frames",
        promise: "with a bit changed in 1 % of all frames, below the checksums or not, the view stays and calls complete; tags find it",
        faults: "corruption, everywhere",
        debug: true,
        seconds: 90,
        run: bent,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_forgotten_connections",
        promise: "after firewalls have forgotten all TCP connections between the nodes calls go on over new ones within 20 s, \
                  and the view stays",
        faults: "TCP of connections begun before is lost, everywhere",
        seconds: 60,
        run: forgotten,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_loss_30_is_safe",
        promise: "with 30 % of all frames lost a node dies and comes back: no two nodes have different views of one number",
        faults: "loss of 30 %, everywhere; power cut of node 1, the master",
        fresh: true,
        seconds: 120,
        long: true,
        run: loss_30,
        ..Case::DEFAULT
    },
];

const FILE: &str = "/sys/kernel/debug/ssi/ics_echo";

/// What all lanes together have done.
fn counted(c: &Context, of: fn(&Counters) -> u64) -> Result<u64> {
    Ok(c.client.status()?.lanes.iter().map(|l| of(&l.counters)).sum())
}

fn everywhere(c: &Context, change: Change) -> Result<()> {
    c.client.change(None, None, true, None, change)
}

/// 40 calls of 1000 bytes in class L0 from each node to the next.
fn calls(c: &Context) -> Result<()> {
    for from in c.all() {
        let to = from % c.nodes + 1;
        let script = format!("echo {to} 1 10 1000 4 0 >{FILE} && cat {FILE}");
        let said = c.sh_for(Duration::from_secs(60), from, &script)?;
        ensure!(said.starts_with("calls 40 errors 0 "), "node {from}: {said}");
    }
    Ok(())
}

/// Makes the network bad for a time, with calls all the while; nobody may notice. Gives the view.
fn bad(c: &Context, changes: &[Change], time: Duration) -> Result<Status> {
    let before = cluster::agree(c, &c.all(), 10)?;
    for change in changes {
        everywhere(c, *change)?;
    }
    let start = Instant::now();
    loop {
        calls(c)?;
        for n in c.all() {
            same(format!("node {n}: the status"), cluster::status(c, n)?, before.clone())?;
        }
        if start.elapsed() > time {
            break;
        }
    }
    c.heal()?;
    same("the view", cluster::agree(c, &c.all(), 5)?, before.clone())?;
    Ok(before)
}

fn loss_5(c: &Context, time: Duration) -> Result<()> {
    let lost = counted(c, |l| l.lost)?;
    bad(c, &[Change::Loss(Chance(50_000))], time)?;
    let lost = counted(c, |l| l.lost)? - lost;
    // Heartbeats alone are 60 frames per second.
    ensure!(lost > 2 * time.as_secs(), "only {lost} frames were lost");
    Ok(())
}

fn doubled(c: &Context) -> Result<()> {
    let before = (counted(c, |l| l.duplicated)?, counted(c, |l| l.reordered)?);
    let stale = refused(c, "stale")?;
    let fifth = Chance(200_000);
    bad(c, &[Change::Dup(fifth), Change::Reorder(fifth)], Duration::from_secs(6))?;
    let after = (counted(c, |l| l.duplicated)?, counted(c, |l| l.reordered)?);
    ensure!(after.0 > before.0 + 20 && after.1 > before.1 + 20, "{before:?} {after:?}");
    // An overtaken heartbeat is an old one; else nothing is refused.
    let now = refused(c, "stale")?;
    same("refused, but for old heartbeats", now.others, stale.others)
}

fn late(c: &Context) -> Result<()> {
    let (least, jitter) = (Duration::from_millis(1), Duration::from_millis(299));
    bad(c, &[Change::Delay(least, jitter)], Duration::from_secs(6)).map(drop)
}

/// What all nodes have refused: of one kind, and of all others.
struct Refused {
    one: u64,
    others: u64,
}

fn refused(c: &Context, kind: &str) -> Result<Refused> {
    let mut r = Refused { one: 0, others: 0 };
    for n in c.all() {
        for (k, count) in cluster::refused(c, n)? {
            *(if k == kind { &mut r.one } else { &mut r.others }) += count;
        }
    }
    Ok(r)
}

fn bent(c: &Context) -> Result<()> {
    let one = Chance(10_000);
    let before = refused(c, "tag")?;
    bad(c, &[Change::Corrupt(one, false)], Duration::from_secs(4))?;
    let checksums = refused(c, "tag")?;
    same("refused, where the checksums find it", checksums.one + checksums.others, before.one + before.others)?;
    // Here they do not.
    let corrupted = counted(c, |l| l.corrupted)?;
    bad(c, &[Change::Corrupt(one, true)], Duration::from_secs(8))?;
    let n = counted(c, |l| l.corrupted)? - corrupted;
    let now = refused(c, "tag")?;
    let tags = now.one - checksums.one;
    let others = now.others - checksums.others;
    // A handshake that is bent fails at both ends.
    ensure!(n > 0 && tags > 0 && tags + others <= 2 * n, "{n} bent, {tags} wrong tags, {others} other refusals");
    Ok(())
}

fn forgotten(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &c.all(), 10)?;
    calls(c)?;
    everywhere(c, Change::Forget)?;
    let start = Instant::now();
    // An end with nothing under way looks by itself whether the other one is there, on either stream; only the node with the
    // higher number connects.
    let (to, from) = (1, c.nodes);
    let each = format!("echo \"{to} 1 10 $bytes 4 0\" >{FILE}");
    let both = format!("for bytes in 1000 100000; do {each} & done; wait; cat {FILE}");
    let said = c.sh_for(Duration::from_secs(60), from, &both)?;
    // The two runs share their counts.
    ensure!(said.contains(" errors 0 "), "node {from}: {said}");
    calls(c)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(20), "calls took {took:?}");
    let n = counted(c, |l| l.forgotten)?;
    ensure!(n > 0, "no frame was lost");
    calls(c)?;
    c.heal()?;
    same("the view", cluster::agree(c, &c.all(), 5)?, before)
}

fn loss_30(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(1)?;
    everywhere(c, Change::Loss(Chance(300_000)))?;
    c.power(1, Power::Kill)?;
    let two = cluster::agree(c, &[2, 3], 20)?;
    ensure!(two.view > before.view && two.master == Some(2), "{two:?}");
    c.power(1, Power::Reset)?;
    c.wait(1, Event::Join, boots)?;
    cluster::agree(c, &[1, 2, 3], 20).context("while frames are lost")?;
    c.heal()?;
    let back = cluster::agree(c, &[1, 2, 3], 10)?;
    ensure!(back.view > two.view, "{back:?}");
    ensure!(views::are_one_history(c)? >= 3, "fewer views than changes");
    calls(c)
}
