// SPDX-License-Identifier: GPL-2.0

//! Instances beside each other, and what is left of one: nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use anyhow::ensure;
use rig::Up;
use rig::control::Change;
use rig::control::Power;
use rig::spawn;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rig_two_instances",
        promise: "two instances with the same node numbers do not disturb each other",
        faults: "cut and power cut in one of them",
        nodes: 2,
        modules: false,
        seconds: 90,
        run: two,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_nothing_survives",
        promise: "after `down`, after the supervisor is killed and after the tied process ends, no process is left",
        faults: "SIGKILL of the supervisor",
        nodes: 2,
        modules: false,
        seconds: 90,
        run: nothing_survives,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_up_fails_clean",
        promise: "an `up` that cannot succeed says why, returns not 0 and leaves nothing running",
        nodes: 2,
        modules: false,
        seconds: 90,
        run: up_fails,
        ..Case::DEFAULT
    },
];

fn small(c: &Context) -> Up {
    Up { nodes: 1, no_modules: true, mem: Some(128), ..c.up() }
}

/// Processes that have a directory in their command line.
fn processes(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|e| fs::read(e.path().join("cmdline")).ok())
        .map(|c| String::from_utf8_lossy(&c).replace('\0', " "))
        .filter(|c| c.contains(&dir))
        .collect()
}

fn two(c: &Context) -> Result<()> {
    let other = c.instance("other", &Up { nodes: 2, ..small(c) })?;
    let ping = "ping -q -c 3 -i 0.05 -W 1 10.73.1.2 >/dev/null && echo yes || echo no";
    let in_other = |script: &str| -> Result<String> {
        Ok(other.client.output(1, spawn::command(&["sh", "-c", script]), None, b"")?.text())
    };
    other.client.change(None, None, true, None, Change::Cut)?;
    same("the cut one", in_other(ping)?, "no")?;
    same("this one", c.sh(1, ping)?, "yes")?;
    c.sh(1, "echo here > /shared/where")?;
    same("shared files", in_other("ls /shared | wc -l")?, "0")?;
    other.client.power(2, Power::Kill)?;
    same("this one", c.sh(2, "hostname")?, "node2")?;
    other.client.down()?;
    same("this one", c.sh(1, ping)?, "yes")?;
    ensure!(other.client.status().is_err(), "the other one still answers");
    Ok(())
}

fn nothing_survives(c: &Context) -> Result<()> {
    let gone = |dir: &Path, how: &str| {
        c.until(&format!("the end by {how}"), 5, || {
            Ok((processes(dir).is_empty() && !rig::client::is_up(dir)).then_some(()))
        })
    };
    let one = c.instance("survivor", &small(c))?;
    let dir = one.client.dir().to_owned();
    // The QEMU and its supervisor: otherwise this case sees nothing at all.
    ensure!(processes(&dir).len() == 2, "{:?}", processes(&dir));
    one.client.down()?;
    ensure!(processes(&dir).is_empty(), "after down: {:?}", processes(&dir));

    let one = c.instance("survivor", &small(c))?;
    let pid = one.client.status()?.pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL)?;
    gone(&dir, "SIGKILL")?;

    let mut tied = Command::new("sleep").arg("1000").spawn()?;
    let one_tied = c.instance("survivor", &Up { tie: Some(tied.id()), ..small(c) });
    tied.kill()?;
    tied.wait()?;
    let _one = one_tied?;
    gone(&dir, "the tied process")?;

    // A command of a client that is killed goes with it.
    let rig = c.places.top.join("build/bin/rig");
    let mut client = Command::new(rig)
        .arg("-C")
        .arg(c.client.dir())
        .args(["exec", "1", "--", "sleep", "98765"])
        .stdin(std::process::Stdio::null())
        .spawn()?;
    let count = || c.sh(1, "pidof sleep | wc -w");
    c.until("the command", 5, || Ok((count()? == "1").then_some(())))?;
    client.kill()?;
    client.wait()?;
    c.until("the end of the command", 5, || Ok((count()? == "0").then_some(())))
}

fn up_fails(c: &Context) -> Result<()> {
    let dir = c.scratch.join("fails");
    fs::create_dir_all(&dir)?;
    let fails = |up: &Up, want: &str| -> Result<()> {
        match up.run(&c.places, &dir, &mut |_| {}) {
            Ok(()) => anyhow::bail!("came up, without {want}"),
            Err(e) => ensure!(format!("{e:#}").contains(want), "{e:#} does not say {want}"),
        }
        ensure!(processes(&dir).is_empty(), "left: {:?}", processes(&dir));
        Ok(())
    };
    // The guest misses a device that it was promised.
    fails(&Up { append: "ssi.links=2".into(), ..small(c) }, "no network device")?;
    fails(&Up { append: "init=/no rdinit=/no panic=-1".into(), ..small(c) }, "boot step `kernel`")?;
    fails(&Up { timeout: Some(Duration::from_millis(300)), ..small(c) }, "not up after 0.3 s")
}
