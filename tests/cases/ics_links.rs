// SPDX-License-Identifier: GPL-2.0

//! Several links between the nodes: one of them is pulled, and nobody notices.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Change;
use rig::fault::Chance;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ics_link_pulled",
        promise: "of two links one is pulled and put back during bulk calls and signals, three times: no error, no other \
                  view, and no call is held up for more than half a second",
        faults: "one link of two is cut between all nodes",
        links: 2,
        debug: true,
        seconds: 120,
        run: pulled,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_link_pulled_one_way",
        promise: "the same if the link goes on in one direction, whichever",
        faults: "one link of two is cut from node 1 to 2, and from 2 to 1",
        links: 2,
        long: true,
        seconds: 120,
        run: pulled_one_way,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_link_pulled_migrate",
        promise: "a process of 64 MiB moves while the link that it moves over is pulled, and is whole",
        faults: "one link of two is cut between all nodes",
        links: 2,
        debug: true,
        seconds: 120,
        run: pulled_migrate,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_bulk_delays_nobody",
        promise: "while calls of 1 MiB fill the way between two nodes, empty calls take at most a quarter of their time",
        debug: true,
        seconds: 120,
        run: bulk_delays_nobody,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_control_carries_l4",
        promise: "short requests of class L4 go on one stream, and no others do; it and heartbeats are marked CS6, the other streams not",
        run: control_carries_l4,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_control_passes_bulk_and_the_rest",
        promise: "while calls of 1 MiB and many short ones fill the way between two nodes, a short call of class L4 takes no \
                  longer than one of class L0, and at most a quarter of the time of one of 1 MiB",
        seconds: 180,
        run: control_passes,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_control_is_sent_again_soon",
        promise: "of calls on a link that loses a tenth of all, the slowest of class L4 are twice as fast as those of class L0",
        faults: "10 % of what goes between nodes 1 and 2 is lost",
        seconds: 180,
        run: control_under_loss,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_slow_link",
        promise: "a link whose heartbeats come late is neither taken for a replay nor used",
        faults: "one link of two is 400 ms late",
        links: 2,
        run: slow,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_small_mtu",
        promise: "while the MTU of one node of three becomes 600 and 1500 again, calls of 0 bytes to 1 MiB between all pairs bring back \
                  what was sent; the view stays, and nothing is refused",
        faults: "an MTU of 600 on node 3",
        seconds: 180,
        run: small_mtu,
        ..Case::DEFAULT
    },
];

const FILE: &str = "/sys/kernel/debug/ssi/ics_timing";

/// The longest that a call may be held up when the link under it is pulled: what `Documentation/ics.rst` promises.
const STALL: Duration = Duration::from_millis(500);

/// Calls of a run, after a tenth as many that are not timed; each brings [`BULK`] bytes back. Fewer where everything takes longer.
const CALLS: u64 = 300;
const BULK: u64 = 1 << 20;

/// Bytes that the switch was given from one node to another, on each of two links.
fn bytes(c: &Context, from: u32, to: u32) -> Result<[u64; 2]> {
    let lanes = c.client.status()?.lanes;
    let on = |link: u32| -> Result<u64> {
        let lane = lanes.iter().find(|l| (l.from, l.to, l.link) == (from, to, link));
        Ok(lane.context("no such lane")?.counters.bytes)
    };
    Ok([on(1)?, on(2)?])
}

/// Waits until one of two links has carried more than `least` bytes from node 2 to node 1 since `since`; gives which.
fn busy(c: &Context, since: [u64; 2], least: u64) -> Result<u32> {
    c.until("a link is busy", 60, || {
        let now = bytes(c, 2, 1)?;
        Ok((1..)
            .zip(now.into_iter().zip(since))
            .find_map(|(link, (n, s))| (n > s + least).then_some(link)))
    })
}

/// Signals to `$1`, one after the other, until `/tmp/enough` is there; then how many, and how many failed.
const SIGNALS: &str = "n=0; bad=0; while ! [ -e /tmp/enough ]; do kill -0 $1 || bad=$((bad + 1)); n=$((n + 1)); done; \
                       echo $n $bad > /tmp/signals";

/// Breaks `link`, waits until the other one is busy, and puts it back.
fn pull(c: &Context, link: u32, ways: &[(Option<u32>, Option<u32>)]) -> Result<()> {
    let since = bytes(c, 2, 1)?;
    for (from, to) in ways {
        c.client.change(*from, *to, false, Some(link), Change::Cut)?;
    }
    let other = c.until("the other link is busy", 20, || {
        let now = bytes(c, 2, 1)?;
        let other = if link == 1 { 1 } else { 0 };
        Ok((now[other] > since[other] + 5 * BULK).then_some(()))
    });
    c.heal()?;
    other
}

/// How often node 1 or 2 has said that a link to the other one is silent.
fn silences(c: &Context, link: u32) -> Result<u64> {
    let said = |node: u32| -> Result<u64> {
        let n = c.sh(node, &format!("dmesg | grep -c 'ssi_ics: node {}: link {link} is silent' || true", 3 - node))?;
        n.trim().parse().with_context(|| n.clone())
    };
    Ok(said(1)? + said(2)?)
}

/// What node 1 says of its links to node 2: states, streams that there were, requests that were sent again.
fn said(c: &Context) -> Result<([String; 2], u64, u64)> {
    let all = cluster::ics(c, 1)?;
    let rows = all["links"].as_array().context("no links")?;
    let row = |link: u64| {
        let found = rows.iter().find(|l| l["node"] == 2 && l["link"] == link);
        found.with_context(|| format!("no link {link} in {rows:?}"))
    };
    let state = |link: u64| Ok::<_, anyhow::Error>(row(link)?["state"].as_str().unwrap_or_default().to_owned());
    let sum = |field: &str| -> Result<u64> {
        let n = |link: u64| row(link)?[field].as_u64().context("no number");
        Ok(n(1)? + n(2)?)
    };
    Ok(([state(1)?, state(2)?], sum("streams")?, sum("resent")?))
}

/// Bulk calls from node 1 to node 2 and signals from node 3 to node 2, while the link that carries them is pulled. Gives the
/// longest call.
fn stall(c: &Context, ways: &[(Option<u32>, Option<u32>)]) -> Result<Duration> {
    let victim = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    c.sh(1, "rm -f /tmp/timed")?;
    c.sh(3, "rm -f /tmp/signals /tmp/enough")?;
    let since = bytes(c, 2, 1)?;
    let signals = c.background(3, &["sh", "-c", SIGNALS, "sh", &victim.to_string()])?;
    let n_calls = CALLS / u64::from(c.patience);
    let script = format!("echo 2 1 {n_calls} 0 {BULK} > {FILE}; echo $? > /tmp/timed");
    let calls = c.background(1, &["sh", "-c", &script])?;
    // Those that are not timed are over.
    let link = busy(c, since, BULK * (n_calls / 10 + 5))?;
    let (before, silent) = (said(c)?, silences(c, 3 - link)?);
    pull(c, link, ways)?;
    let status = c.until("the calls are done", 60, || {
        let out = c.sh(1, "cat /tmp/timed 2>/dev/null; true")?;
        Ok((!out.is_empty()).then_some(out))
    })?;
    same("status of the calls", status.trim(), "0")?;
    c.sh(3, "touch /tmp/enough")?;
    let sent = c.until("the signals are sent", 20, || {
        let out = c.sh(3, "cat /tmp/signals 2>/dev/null; true")?;
        Ok((!out.is_empty()).then_some(out))
    })?;
    drop((signals, calls));
    let (n, bad) = sent.trim().split_once(' ').with_context(|| sent.clone())?;
    ensure!(n.parse::<u64>()? > 50 && bad == "0", "{n} signals, {bad} failed");
    cluster::end(c, &[victim])?;
    let figures: Value = serde_json::from_str(&c.sh(1, &format!("cat {FILE}"))?)?;
    same("calls", figures["n"].as_u64(), Some(n_calls))?;
    let max = figures["max"].as_u64().context("no longest call")?;
    let (states, streams, resent) = c.until("the link is heard again", 10, || {
        let now = said(c)?;
        Ok((!now.0.contains(&"silent".to_owned())).then_some(now))
    })?;
    let used = if link == 1 { ["idle", "used"] } else { ["used", "idle"] };
    // A busy host may keep the other one silent for three periods as well: then the streams have moved once more.
    if states != used {
        let again = silences(c, 3 - link)? - silent;
        println!("# link {} was silent {again} times too", 3 - link);
        ensure!(again > 0, "links: got {states:?}, want {used:?}");
    }
    ensure!(streams > before.1 && resent > before.2, "{streams} streams, {resent} sent again, before {before:?}");
    println!(
        "# link {link} pulled: longest call {} ms, of {n} signals none lost",
        max / 1_000_000
    );
    Ok(Duration::from_nanos(max))
}

/// Does it for each of some faults; all in all nobody else notices.
fn unnoticed(c: &Context, faults: &[&[(Option<u32>, Option<u32>)]]) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let refused = (1..=3).map(|n| cluster::refused(c, n)).collect::<Result<Vec<_>>>()?;
    // What the machine under the rig makes of such a call when nothing is pulled.
    let (_, usual) = time(c, 50, BULK)?;
    let limit = STALL * c.patience + Duration::from_micros(usual);
    for ways in faults {
        let longest = stall(c, ways)?;
        ensure!(longest <= limit, "a call took {longest:?}, at most {limit:?} is promised");
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)?;
    for (node, refused) in (1..).zip(refused) {
        same(format!("what node {node} refused"), cluster::refused(c, node)?, refused)?;
    }
    Ok(())
}

const ALL: &[(Option<u32>, Option<u32>)] = &[(None, None)];

fn pulled(c: &Context) -> Result<()> {
    // The one that was put back is used again: it is what remains when the other is pulled.
    unnoticed(c, &[ALL, ALL, ALL])
}

fn pulled_one_way(c: &Context) -> Result<()> {
    unnoticed(c, &[&[(Some(1), Some(2))], &[(Some(2), Some(1))]])
}

fn pulled_migrate(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    c.sh(2, "rm -f /tmp/moved")?;
    let hog = "exec /usr/lib/ssi-tests/memhog 64 </dev/null >/shared/hog 2>&1";
    let pid = c.background(2, &["sh", "-c", hog])?.pid;
    c.until("memory is written", 20, || Ok(c.shared_text("hog")))?;
    let since = bytes(c, 2, 1)?;
    let script = format!("migrate 1 {pid}; echo $? > /tmp/moved");
    let moving = c.background(2, &["sh", "-c", &script])?;
    let link = busy(c, since, 8 * BULK)?;
    pull(c, link, ALL)?;
    let status = c.until("it has moved", 30, || {
        let out = c.sh(2, "cat /tmp/moved 2>/dev/null; true")?;
        Ok((!out.is_empty()).then_some(out))
    })?;
    drop(moving);
    same("migrate", status.trim(), "0")?;
    same("where_pid", c.sh(3, &format!("where_pid {pid}"))?, "1".to_owned())?;
    c.sh(3, &format!("kill -TERM {pid}"))?;
    cluster::gone(c, 1, u32::try_from(pid)?)?;
    let said = c.shared_text("hog").unwrap_or_default();
    ensure!(said.ends_with("ok\n"), "memhog: {said}");
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

fn slow(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let refused = cluster::refused(c, 1)?;
    for link in [1, 2] {
        let late = Change::Delay(Duration::from_millis(400), Duration::ZERO);
        c.client.change(None, None, true, Some(link), late)?;
        // Whatever comes over the slow one takes 400 ms.
        c.until("calls are quick", 10, || {
            c.sh(1, &format!("echo 2 1 10 0 100 > {FILE}"))?;
            let figures: Value = serde_json::from_str(&c.sh(1, &format!("cat {FILE}"))?)?;
            Ok(figures["max"].as_u64().is_some_and(|ns| ns < 200_000_000).then_some(()))
        })?;
        c.heal()?;
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)?;
    same("what node 1 refused", cluster::refused(c, 1)?, refused)
}

/// Calls of every size to the nodes `$2` and `$3`, until `/tmp/enough` is there; what came of each run is a line of `/tmp/calls`.
const ALL_SIZES: &str = "until [ -e /tmp/enough ]; do for to in $2 $3; do for bytes in 0 1000 100000 1048576; do \
                         echo $to 1 2 $bytes 2 0 >$1; cat $1; done; done; done >/tmp/calls; echo >/tmp/ended";

/// Lines of a round of those.
const ROUND: usize = 2 * 4;

/// Waits until every node has made a whole round of calls from now on.
fn a_round(c: &Context) -> Result<()> {
    let lines = |node: u32| Ok(c.sh(node, "cat /tmp/calls 2>/dev/null; true")?.lines().count());
    let before = c.all().into_iter().map(lines).collect::<Result<Vec<_>>>()?;
    for (node, before) in (1..).zip(before) {
        // It may be in the middle of one.
        c.until(&format!("calls of node {node}"), 40, || Ok((lines(node)? >= before + 2 * ROUND).then_some(())))?;
    }
    Ok(())
}

/// Sets the MTU of a node's only network device.
fn set_mtu(c: &Context, node: u32, mtu: u32) -> Result<()> {
    let set = format!("for d in /sys/class/net/*/device; do echo {mtu} >${{d%device}}mtu && cat ${{d%device}}mtu; done");
    same(format!("MTU of node {node}"), c.sh(node, &set)?.trim(), mtu.to_string())
}

/// Frames that a node has sent, and their bytes.
fn sent(c: &Context, node: u32) -> Result<(u64, u64)> {
    let lanes = c.client.status()?.lanes;
    let of_node = || lanes.iter().filter(|l| l.from == node).map(|l| &l.counters);
    Ok((of_node().map(|n| n.frames).sum(), of_node().map(|n| n.bytes).sum()))
}

/// Heartbeats, of 304 bytes with the heads of IP and UDP, fit in that as they are; TCP sends shorter segments, also on streams that are
/// there. What comes may be longer.
fn small_mtu(c: &Context) -> Result<()> {
    const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let refused = (1..=3).map(|n| cluster::refused(c, n)).collect::<Result<Vec<_>>>()?;
    c.sh_all("rm -f /tmp/enough /tmp/ended /tmp/calls")?;
    let mut running = Vec::new();
    for (node, others) in [(1, ["2", "3"]), (2, ["1", "3"]), (3, ["1", "2"])] {
        running.push(c.background(node, &["sh", "-c", ALL_SIZES, "sh", ECHO, others[0], others[1]])?);
    }
    a_round(c)?;
    set_mtu(c, 3, 600)?;
    let since = sent(c, 3)?;
    a_round(c)?;
    let now = sent(c, 3)?;
    set_mtu(c, 3, 1500)?;
    a_round(c)?;
    c.sh_all("touch /tmp/enough")?;
    for node in c.all() {
        c.until(&format!("calls of node {node} are over"), 60, || {
            Ok((c.exec(node, &["test", "-e", "/tmp/ended"])?.code == 0).then_some(()))
        })?;
        let said = c.sh(node, "cat /tmp/calls")?;
        let bad = said.lines().find(|l| !l.starts_with("calls 4 errors 0 "));
        ensure!(bad.is_none(), "node {node}: {}", bad.unwrap_or_default());
    }
    drop(running);
    let (frames, bytes) = (now.0 - since.0, now.1 - since.1);
    println!("# node 3 sent {frames} frames of {} bytes on average", bytes / frames.max(1));
    // With the head of Ethernet. Were they not shorter, most bytes would come in frames of 1514.
    ensure!(frames > 0 && bytes <= frames * 614, "{frames} frames, {bytes} bytes");
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)?;
    for (node, refused) in (1..).zip(refused) {
        same(format!("what node {node} refused"), cluster::refused(c, node)?, refused)?;
    }
    Ok(())
}

/// Figures of `count` calls of `bytes` back from node 1 to node 2, one after the other: half of them, and 99 of 100, take
/// at most so many microseconds.
fn time(c: &Context, count: u32, bytes: u64) -> Result<(u64, u64)> {
    time_of(c, &format!("{count} 0 {bytes}"))
}

/// The same of empty calls of class L4.
fn time_control(c: &Context, count: u32) -> Result<(u64, u64)> {
    time_of(c, &format!("{count} 0 0 control"))
}

fn time_of(c: &Context, calls: &str) -> Result<(u64, u64)> {
    let v: Value = serde_json::from_str(&c.sh(1, &format!("echo 2 1 {calls} > {FILE}; cat {FILE}"))?)?;
    let us = |name: &str| Ok::<_, anyhow::Error>(v[name].as_u64().with_context(|| v.to_string())? / 1000);
    Ok((us("p50")?, us("p99")?))
}

/// Calls from node 1 to node 2, again and again, while `f` runs; each load is an op and what `ics_echo` gets.
fn beside<T>(c: &Context, loads: &[(&str, &str)], f: impl FnOnce() -> Result<T>) -> Result<T> {
    const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";
    let script = "while ! [ -e /tmp/enough ]; do echo $2 > $1; done; echo > /tmp/ended.$3";
    c.sh(1, "rm -f /tmp/enough /tmp/ended.*")?;
    let mut running = Vec::new();
    for (op, line) in loads {
        running.push(c.background(1, &["sh", "-c", script, "sh", ECHO, line, op])?);
        c.until(&format!("{op} is under way"), 20, || {
            let all = cluster::ics(c, 1)?;
            let ops = all["ops"].as_array().context("no ops")?;
            Ok(ops.iter().any(|o| o["op"] == *op && o["replies"].as_u64() > Some(5)).then_some(()))
        })?;
    }
    let done = f();
    c.sh(1, "touch /tmp/enough")?;
    for (op, _) in loads {
        let ended = format!("/tmp/ended.{op}");
        c.until(&format!("{op} is over"), 60, || Ok((c.exec(1, &["test", "-e", &ended])?.code == 0).then_some(())))?;
    }
    drop(running);
    done
}

/// 8 threads with calls of 1 MiB there and back.
const MUCH: (&str, &str) = ("EchoL3", "2 5 5 1048576 8 0");

/// 32 with calls of 4 KiB.
const MANY: (&str, &str) = ("EchoL0", "2 1 20 4096 32 0");

fn control_passes(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    println!("# p50 and p99 in us: idle: L4 {:?}, L0 {:?}", time_control(c, 200)?, time(c, 200, 0)?);
    // In turn, as the processors are not equally busy all the time.
    let rounds = beside(c, &[MUCH, MANY], || {
        let round = |_| Ok([time_control(c, 50)?, time(c, 50, 0)?, time(c, 5, BULK)?]);
        (0..4).map(round).collect::<Result<Vec<_>>>()
    })?;
    for [control, rest, large] in &rounds {
        println!("# beside all: L4 {control:?}, L0 {rest:?}, 1 MiB {large:?}");
    }
    let [control, rest, large] = [0, 1, 2].map(|i| rounds.iter().map(|r| r[i].0).sum::<u64>());
    ensure!(control <= rest && control * 4 <= large, "sums of the halves: L4 {control}, L0 {rest}, 1 MiB {large}");
    Ok(())
}

fn control_under_loss(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    c.client.change(Some(1), Some(2), true, None, Change::Loss(Chance(100_000)))?;
    let (control, rest) = (time_control(c, 200)?, time(c, 200, 0)?);
    c.heal()?;
    println!("# 10 % lost: p50 and p99 in us: L4 {control:?}, L0 {rest:?}");
    ensure!(control.1 * 2 <= rest.1, "L4 {control:?}, L0 {rest:?}");
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

fn bulk_delays_nobody(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let idle = time(c, 200, 0)?;
    let (busy, large) = beside(c, &[MUCH], || Ok((time(c, 100, 0)?, time(c, 20, BULK)?)))?;
    println!("# empty calls, p50 and p99 in us: idle {idle:?}, beside bulk {busy:?}; 1 MiB beside bulk {large:?}");
    ensure!(busy.0 * 4 <= large.0 && busy.1 <= large.1, "empty calls {busy:?}, calls of 1 MiB {large:?}");
    Ok(())
}

/// CS6, as the byte of an IPv4 header has it.
const CS6: u8 = 0xc0;

fn control_carries_l4(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    // The streams beside the main one have come by then: what is asked before takes that.
    c.until("a call of class L4 is marked", 10, || Ok(requests(c, 6, 100)?.iter().any(|r| r.is_marked).then_some(())))?;
    // Class, and bytes.
    for (class, bytes) in [(6, 100), (6, 20_000), (0, 100), (1, 100), (5, 100)] {
        let seen = requests(c, class, bytes)?;
        let is_control = class == 6 && bytes < 8192;
        ensure!(seen.len() >= 5, "class {class}, {bytes} bytes: only {seen:?}");
        ensure!(seen.iter().all(|r| r.is_marked == is_control), "class {class}, {bytes} bytes: {seen:?}");
    }
    Ok(())
}

/// A request that began a segment.
#[derive(Debug)]
struct Seen {
    is_marked: bool,
}

/// Those of a class, from node 1 to node 2, that were on the way while it made ten such calls. Heartbeats beside them are all marked.
fn requests(c: &Context, class: u8, bytes: u32) -> Result<Vec<Seen>> {
    let file = c.scratch.join("requests.pcap");
    c.client.capture(Some(&file), None, false)?;
    let echo = "/sys/kernel/debug/ssi/ics_echo";
    let said = c.sh(1, &format!("echo 2 {class} 10 {bytes} 1 0 >{echo} && sleep 0.3 && cat {echo}"));
    c.client.capture(None, None, false)?;
    let said = said?;
    ensure!(said.starts_with("calls 10 errors 0 "), "{said}");
    let capture = std::fs::read(&file)?;
    let (mut at, mut seen, mut heartbeats) = (24, Vec::new(), 0);
    while let Some(len) = capture.get(at + 8..at + 12) {
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        let frame = capture.get(at + 16..at + 16 + len).context("half a frame")?;
        at += 16 + len;
        // IPv4 without options.
        if frame.get(12..15) != Some(&[8, 0, 0x45]) {
            continue;
        }
        let (tos, protocol) = (frame[15], frame[23]);
        let payload = match protocol {
            6 => frame.get(34 + usize::from(frame[46] >> 4) * 4..).unwrap_or(&[]),
            17 => frame.get(42..).unwrap_or(&[]),
            _ => continue,
        };
        if protocol == 17 && payload.starts_with(b"SSIB") {
            heartbeats += 1;
            ensure!(tos == CS6, "a heartbeat is marked {tos:#x}");
        }
        // The head of a request of Echo: its service, kind and class.
        let is_request = payload.starts_with(b"SSI1") && payload.get(56..58) == Some(&[2, 0]) && payload.get(60..62) == Some(&[1, class]);
        if protocol == 6 && is_request {
            // The lower two bits are the network's.
            seen.push(Seen { is_marked: tos & 0xfc == CS6 });
        }
    }
    ensure!(heartbeats > 0, "no heartbeats in {} bytes", capture.len());
    Ok(seen)
}
