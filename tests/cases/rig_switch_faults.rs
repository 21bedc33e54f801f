// SPDX-License-Identifier: GPL-2.0

//! The switch's faults, as the guests see them.

use std::time::Duration;

use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::fault::Chance;
use rig::fault::Counters;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rig_switch_faults",
        promise: "cut, one-way cut, loss, delay, duplication and corruption do what they say, to the named pair only",
        faults: "every fault of the switch between nodes 1 and 2",
        nodes: 3,
        modules: false,
        debug: true,
        run: faults,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_capture",
        promise: "a capture holds the frames that went, with the host's time",
        nodes: 3,
        modules: false,
        run: capture,
        ..Case::DEFAULT
    },
];

/// Port 7777 in state LISTEN.
const LISTENS: &str = ":1E61 .* 0A ";

/// Sends `n` pings; gives how many were answered.
fn pings(c: &Context, from: u32, to: u32, n: u32) -> Result<u32> {
    let out = c.exec(from, &["ping", "-q", "-i", "0.01", "-W", "1", "-c", &n.to_string(), &format!("10.73.1.{to}")])?;
    let text = out.text();
    let received = text.lines().find_map(|l| l.split(", ").nth(1)?.split(' ').next()?.parse().ok());
    received.ok_or_else(|| anyhow::anyhow!("ping: {text} {}", out.error_text()))
}

fn counters(c: &Context, from: u32, to: u32) -> Result<Counters> {
    let lanes = c.client.status()?.lanes;
    Ok(lanes.iter().find(|l| (l.from, l.to) == (from, to)).map(|l| l.counters).unwrap_or_default())
}

fn faults(c: &Context) -> Result<()> {
    same("healthy", pings(c, 1, 2, 20)?, 20)?;

    c.change(1, 2, Change::Cut)?;
    same("cut", pings(c, 1, 2, 5)?, 0)?;
    same("others", (pings(c, 1, 3, 5)?, pings(c, 2, 3, 5)?), (5, 5))?;
    c.heal()?;
    same("healed", pings(c, 1, 2, 5)?, 5)?;

    // Requests arrive, answers do not: the receiver's count tells it from a full cut.
    c.change_one_way(2, 1, Change::Cut)?;
    let before = counters(c, 1, 2)?;
    same("one way", pings(c, 1, 2, 5)?, 0)?;
    let after = counters(c, 1, 2)?;
    ensure!(after.frames >= before.frames + 5 && after.cut == before.cut, "{before:?} {after:?}");
    c.heal()?;

    c.change_one_way(1, 2, Change::Loss(Chance(500_000)))?;
    let got = pings(c, 1, 2, 200)?;
    ensure!((60..=140).contains(&got), "50 % loss: {got} of 200");
    c.heal()?;

    c.change_one_way(1, 2, Change::Delay(Duration::from_millis(100), Duration::ZERO))?;
    let text = c.sh(1, "ping -q -c 3 -i 0.05 10.73.1.2")?;
    let best = text.split("min/avg/max = ").nth(1).and_then(|t| t.split('.').next()?.parse::<u32>().ok());
    ensure!(best.is_some_and(|ms| (100..200).contains(&ms)), "100 ms delay: {text}");
    c.heal()?;

    c.change_one_way(1, 2, Change::Dup(Chance(1_000_000)))?;
    let text = c.sh(1, "ping -q -c 5 -i 0.05 10.73.1.2")?;
    ensure!(text.contains("duplicates"), "duplicates: {text}");
    c.heal()?;

    // The checksum finds the bit; what is repaired goes through and is wrong.
    let send = |text: &str| -> Result<Vec<u8>> {
        let receiver = c.background(2, &["nc", "-l", "-p", "7777"])?;
        c.until("the listener", 5, || Ok(c.exec(2, &["grep", "-q", LISTENS, "/proc/net/tcp", "/proc/net/tcp6"])?.code.eq(&0).then_some(())))?;
        c.sh(1, &format!("printf {text} | nc -w 5 10.73.1.2 7777"))?;
        c.until("the end of the listener", 5, || {
            Ok(c.exec(2, &["test", "-e", &format!("/proc/{}", receiver.pid)])?.code.eq(&1).then_some(()))
        })?;
        // Not as text: a bent byte may be none.
        Ok(c.exec(2, &["cat", &format!("{}.out", receiver.log.unwrap_or_default())])?.stdout)
    };
    let text = "abcdefghijklmnopqrstuvwxyz0123456789";
    same("clean stream", send(text)?, text.as_bytes())?;
    c.change_one_way(1, 2, Change::Corrupt(Chance(1_000_000), true))?;
    let got = send(text)?;
    let bits: u32 = got.iter().zip(text.bytes()).map(|(a, b)| (a ^ b).count_ones()).sum();
    ensure!(got.len() == text.len() && bits == 1, "deep corruption: {got:?} differs in {bits} bits");
    let before = counters(c, 1, 2)?;
    c.change_one_way(1, 2, Change::Corrupt(Chance(1_000_000), false))?;
    let got = pings(c, 1, 2, 20)?;
    ensure!(got < 20 && counters(c, 1, 2)?.corrupted > before.corrupted, "corruption: {got} of 20 pings");
    c.heal()?;
    same("healed again", pings(c, 1, 2, 5)?, 5)
}

fn capture(c: &Context) -> Result<()> {
    let file = c.scratch.join("x.pcap");
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs() as u32);
    let before = now()?;
    c.client.capture(Some(&file), None, false)?;
    same("pings", pings(c, 1, 3, 10)?, 10)?;
    c.client.capture(None, None, false)?;
    let after = now()?;
    same("after the end", pings(c, 1, 3, 2)?, 2)?;
    let bytes = std::fs::read(&file)?;
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (mut at, mut echoes) = (24, 0);
    while let (Some(time), Some(len)) = (word(at), word(at + 8)) {
        ensure!((before..=after).contains(&time), "a frame of {time}, not of {before} to {after}");
        let frame = &bytes[at + 16..at + 16 + len as usize];
        // IPv4, ICMP.
        echoes += u32::from(frame[12..14] == [8, 0] && frame[23] == 1);
        at += 16 + len as usize;
    }
    same("echoes and replies", echoes, 20)
}
