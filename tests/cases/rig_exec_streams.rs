// SPDX-License-Identifier: GPL-2.0

//! `exec`: streams, exit status, users, sessions.

use anyhow::Result;
use anyhow::ensure;
use rig::control::NODE_GONE;
use rig::control::Power;
use rig::control::TIMED_OUT;
use rig::spawn;
use rig::spawn::What;
use rig::spawn::Winsize;
use rig::up::Kernel;
use std::time::Duration;
use std::time::Instant;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rig_exec_streams",
        promise: "standard input arrives, output and error stay apart, the exit status comes back",
        nodes: 2,
        modules: false,
        kernel: Kernel::Plain,
        debug: true,
        run: streams,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_exec_bulk",
        promise: "megabytes go through a command unchanged, and a reader that stops stops nobody else",
        nodes: 2,
        modules: false,
        run: bulk,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_exec_ends",
        promise: "a command that runs too long is killed with its whole session: 124; on a node that goes: 125",
        faults: "power cut of node 2",
        nodes: 2,
        modules: false,
        run: ends,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_exec_sessions",
        promise: "each command has a session of its own, no blocked signals, and the user's groups",
        nodes: 2,
        modules: false,
        run: sessions,
        ..Case::DEFAULT
    },
];

fn streams(c: &Context) -> Result<()> {
    let out = c.exec_with(1, &["sh", "-c", "cat; echo wrong >&2; exit 7"], b"in\0put\n")?;
    same("status", out.code, 7)?;
    same("stdout", &out.stdout[..], b"in\0put\n")?;
    same("stderr", &out.stderr[..], b"wrong\n")?;
    for (argv, want) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "kill -9 $$"], 128 + 9),
        (&["sh", "-c", "kill -34 $$"], 128 + 34),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        same(format!("{argv:?}"), c.exec(2, argv)?.code, want)?;
    }
    // No input is an empty one, not one that never ends.
    same("cat of nothing", c.exec(1, &["cat"])?.code, 0)?;
    same("words stay words", c.exec(1, &["printf", "%s,", "a b", "", "$x"])?.text(), "a b,,$x,")
}

fn bulk(c: &Context) -> Result<()> {
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    // This one never reads its input and never ends: its window fills, the port must not.
    let client = c.client.clone();
    let stuck = data.clone();
    let stuck = std::thread::spawn(move || {
        client.output(1, spawn::command(&["sleep", "1000"]), Some(Duration::from_secs(4)), &stuck)
    });
    let out = c.exec_with(1, &["sh", "-c", "cat; echo done >&2"], &data)?;
    ensure!(out.stdout == data, "{} bytes came back, and not those that went", out.stdout.len());
    same("stderr", out.error_text(), "done")?;
    ensure!(!stuck.is_finished(), "the one that is stuck ended early");
    let stuck = stuck.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    same("the one that is stuck", stuck.code, TIMED_OUT)
}

fn ends(c: &Context) -> Result<()> {
    // The session's members go too: also the one in another process group.
    // (a shell makes such only where it has a terminal).
    let script = "sleep 9871 & setsid sleep 9872 & sh -mc 'sleep 9873 & wait' & wait";
    let mut spawn = spawn::command(&["sh", "-c", script]);
    if let What::Exec { tty, .. } = &mut spawn.what {
        *tty = Some(Winsize { rows: 24, cols: 80 });
    }
    let start = Instant::now();
    let out = c.client.output(1, spawn, Some(Duration::from_secs(2)), b"")?;
    same("status", out.code, TIMED_OUT)?;
    ensure!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    c.until("the end of the session", 5, || {
        let left = c.sh(1, "ps -o args | grep '^sleep 987' || true")?;
        Ok((left == "sleep 9872").then_some(()))
    })?;
    // One that made a session of its own got away, as it should.
    c.sh(1, "kill $(pidof sleep)")?;

    let client = c.client.clone();
    let running = c.background(2, &["sleep", "1000"])?;
    let waiter = std::thread::spawn(move || client.output(2, spawn::command(&["sleep", "1000"]), None, b""));
    c.until("the other sleep", 5, || Ok((c.sh(2, "pidof sleep | wc -w")? == "2").then_some(())))?;
    ensure!(running.pid > 1, "pid {}", running.pid);
    c.power(2, Power::Kill)?;
    let out = waiter.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    same("status when the node goes", out.code, NODE_GONE)?;
    same("status when the node is off", c.exec(2, &["true"])?.code, NODE_GONE)?;
    same("a node that never was", c.exec(9, &["true"])?.code, 2)
}

fn sessions(c: &Context) -> Result<()> {
    // Fields 1, 5 and 6 of stat: pid, process group, session.
    let stat = c.sh(1, "set -- $(cat /proc/$$/stat); echo $1 $5 $6 $$")?;
    let ids: Vec<&str> = stat.split(' ').collect();
    ensure!(ids.len() == 4 && ids.iter().all(|i| *i == ids[0]), "pid, group, session: {stat}");
    let masks = c.sh(1, "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr -s '\\t\\n' ' '")?;
    same("masks", masks, "SigBlk: 0000000000000000 SigIgn: 0000000000000000")?;
    let id = c.exec_as("user", 1, &["sh", "-c", "id -u; id -g; id -G; echo $HOME $USER; cat /etc/cluster.key"])?;
    same("user", id.text(), "1000\n1000\n1000 100\n/tmp user")?;
    ensure!(id.code == 1, "an ordinary user reads the cluster's key");
    let nobody = c.exec_as("no-such-user", 1, &["true"])?;
    same("unknown user", nobody.code, 126)
}
