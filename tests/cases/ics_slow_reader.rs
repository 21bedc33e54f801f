// SPDX-License-Identifier: GPL-2.0

//! A member that does not read what is sent to it.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::ics_strangers::available;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "ics_slow_reader",
    promise: "a member that does not read a stream for 20 s: calls of 1 MiB to it wait until the stream is given up, and complete, without \
              error; little memory is kept but their own; short calls to it and calls between the others go on; the view stays",
    faults: "node 3 reads nothing from a stream for 20 s",
    seconds: 120,
    run: slow_reader,
    ..Case::DEFAULT
}];

const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";
const POINTS: &str = "/sys/kernel/debug/ssi/failpoints";
const POINT: &str = "Ics.Reception.long";

/// How many calls of 1 MiB wait.
const CALLS: u64 = 40;

/// What may be kept beside their bodies, in KiB: sockets and whatever else happens there.
const BESIDE: u64 = 16 << 10;

/// How long a stream may stand still.
const GIVEN_UP: Duration = Duration::from_secs(10);

fn slow_reader(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let memory = available(c, 1)?;
    c.sh(3, &format!("echo {POINT}=delay:20000 >{POINTS}"))?;
    let script = format!("rm -f /tmp/over; echo 3 1 1 1048576 {CALLS} 0 >{ECHO}; echo $? >/tmp/over");
    let start = Instant::now();
    c.background(1, &["sh", "-c", &script])?;
    c.until("node 3 does not read", 10, || {
        let all = c.sh(3, &format!("cat {POINTS}"))?;
        Ok(all.lines().any(|l| l.starts_with(POINT) && l.ends_with(" 0") && !l.ends_with(" 0 0")).then_some(()))
    })?;
    let (mut kept, mut slowest, mut rounds) = (0, Duration::ZERO, 0);
    let took = loop {
        if c.exec(1, &["test", "-e", "/tmp/over"])?.code == 0 {
            break start.elapsed();
        }
        for to in [1, 3] {
            let begin = Instant::now();
            let said = c.sh(2, &format!("echo {to} 1 5 100 1 0 >{ECHO} && cat {ECHO}"))?;
            ensure!(said.starts_with("calls 5 errors 0 "), "node 2 to {to}: {said}");
            slowest = slowest.max(begin.elapsed());
        }
        kept = kept.max(memory.saturating_sub(available(c, 1)?));
        rounds += 1;
    };
    let said = c.sh(1, &format!("cat {ECHO}"))?;
    println!("# over after {took:?}, {kept} KiB kept, {rounds} rounds of the others, the slowest {slowest:?}");
    ensure!(said.starts_with(&format!("calls {CALLS} errors 0 ")), "{said}");
    ensure!(took > GIVEN_UP / 2, "they did not wait: {took:?}");
    ensure!(took < GIVEN_UP * 2, "they took {took:?}");
    ensure!(kept < (CALLS << 10) + BESIDE, "memory of node 1 fell by {kept} KiB");
    ensure!(slowest < Duration::from_secs(2), "the others were held up for {slowest:?}");
    same("the view", cluster::agree(c, &[1, 2, 3], 1)?, before).context("while node 3 did not read")
}
