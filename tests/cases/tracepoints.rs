// SPDX-License-Identifier: GPL-2.0

//! The events `ssi:*` of tracefs.

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Power;
use std::collections::BTreeMap;

pub(crate) const CASES: &[Case] = &[Case {
    name: "tracepoints_tell_calls_and_views",
    promise: "each call between nodes is traced at both ends with one number, and each view and state; nothing when it is off",
    faults: "power cut of node 3",
    fresh: true,
    debug: true,
    run: calls_and_views,
    ..Case::DEFAULT
}];

const TRACING: &str = "/sys/kernel/tracing";
const ECHO: &str = "/sys/kernel/debug/ssi/ics_echo";

/// Calls of the load, and the bytes of each request: four in front of the body.
const CALLS: usize = 30;
const BODY: u64 = 1000;

/// One line: what is behind the event's name, `key=value` or a word alone.
#[derive(Debug)]
struct Event {
    name: String,
    words: Vec<String>,
}

impl Event {
    fn get(&self, key: &str) -> Result<u64> {
        let value = self.words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        let value = value.with_context(|| format!("no {key} in {self:?}"))?;
        value.parse().with_context(|| format!("{key} of {self:?}"))
    }
}

/// What a node has traced so far.
fn traced(c: &Context, node: u32) -> Result<Vec<Event>> {
    let text = c.sh(node, &format!("cat {TRACING}/trace"))?;
    let event = |line: &str| {
        let (_, rest) = line.split_once(": ssi_")?;
        let (name, rest) = rest.split_once(": ")?;
        Some(Event {
            name: name.to_owned(),
            words: rest.split_whitespace().map(str::to_owned).collect(),
        })
    };
    Ok(text.lines().filter(|l| !l.starts_with('#')).filter_map(event).collect())
}

fn trace(c: &Context, node: u32, on: bool) -> Result<()> {
    let mount = format!("[ -e {TRACING}/events ] || mount -t tracefs tracefs {TRACING}");
    let on = u8::from(on);
    c.sh(node, &format!("{mount}; echo {on} >{TRACING}/events/ssi/enable")).map(drop)
}

/// The events of that name with another node whose `key` has that value, by their number.
fn numbered<'a>(all: &'a [Event], name: &str, node: u64, key: &str, value: u64) -> Result<BTreeMap<u64, &'a Event>> {
    let mut found = BTreeMap::new();
    for e in all.iter().filter(|e| e.name == name) {
        if e.get("node")? == node && e.get(key)? == value {
            let twice = found.insert(e.get("xid")?, e);
            ensure!(twice.is_none(), "one number twice: {e:?}");
        }
    }
    Ok(found)
}

fn calls_and_views(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    for node in [1, 2] {
        trace(c, node, true)?;
    }
    let load = format!("echo 2 1 {} {BODY} 2 0 > {ECHO}", CALLS / 2);
    c.sh(1, &load)?;
    let (here, there) = (traced(c, 1)?, traced(c, 2)?);
    let asked = numbered(&here, "ics_asked", 2, "bytes", BODY + 4)?;
    same("calls that began", asked.len(), CALLS)?;
    let served = numbered(&there, "ics_serving", 1, "bytes", BODY + 4)?;
    ensure!(asked.keys().eq(served.keys()), "{asked:?} {served:?}");
    let first = *asked.values().next().context("no call")?;
    let of_echo = |name, all, node| -> Result<BTreeMap<u64, &Event>> {
        let mut found = numbered(all, name, node, "service", first.get("service")?)?;
        found.retain(|xid, _| asked.contains_key(xid));
        Ok(found)
    };
    let ended = of_echo("ics_ended", &here, 2)?;
    ensure!(asked.keys().eq(ended.keys()), "{asked:?} {ended:?}");
    for e in ended.values() {
        let is_replied = e.words.iter().any(|w| w == "replied");
        ensure!(is_replied && e.get("bytes")? == BODY && e.get("ns")? > 0, "{e:?}");
    }
    let done = of_echo("ics_served", &there, 1)?;
    ensure!(asked.keys().eq(done.keys()), "{asked:?} {done:?}");
    for e in done.values() {
        same("error", e.get("error")?, 0)?;
    }

    // A signal to a process that node 2 does not have: numbers say whose they are.
    let nobody = c.sh(2, "sh -c 'echo $$'")?;
    c.sh(1, &format!("! kill -0 {} 2>/dev/null", nobody.trim()))?;
    let is = |e: &Event, word: &str| e.words.iter().any(|w| w == word);
    let here = traced(c, 1)?;
    let refused: Vec<_> = here.iter().filter(|e| e.name == "ics_ended" && is(e, "refused")).collect();
    ensure!(!refused.is_empty(), "no call was refused: {here:?}");
    let there = traced(c, 2)?;
    for e in refused {
        let (node, xid) = (e.get("node")?, e.get("xid")?);
        let of_it = |e: &&Event| e.name == "ics_served" && e.get("node").ok() == Some(1) && e.get("xid").ok() == Some(xid);
        let is_told = node == 2 && there.iter().filter(of_it).any(|e| is(e, "error=-3"));
        ensure!(is_told, "{e:?} is not in {there:?}");
    }

    let waiting = c.background(1, &["sh", "-c", &format!("echo 3 1 1 0 1 60000 > {ECHO}")])?;
    c.until("a call to node 3 is under way", 10, || {
        let to_3 = |e: &Event| e.name == "ics_asked" && e.get("node").ok() == Some(3) && e.get("bytes").ok() == Some(4);
        Ok(traced(c, 1)?.iter().any(to_3).then_some(()))
    })?;
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2], 20)?;
    c.until("that call is lost", 10, || {
        let lost = |e: &Event| e.name == "ics_ended" && e.get("node").ok() == Some(3) && is(e, "lost");
        Ok(traced(c, 1)?.iter().any(lost).then_some(()))
    })?;
    drop(waiting);
    let down = |e: &&Event| e.name == "clms_state" && e.get("node").ok() == Some(3);
    // UP, GOINGDOWN, KCLEANUP, DOWN.
    let states = [(2, 4), (4, 5), (5, 7)];
    for node in [1, 2] {
        let all = c.until("node 3 is down", 10, || {
            let all = traced(c, node)?;
            Ok((all.iter().filter(down).count() >= states.len()).then_some(all))
        })?;
        let steps = all.iter().filter(down).map(|e| Ok((e.get("from")?, e.get("to")?)));
        same("states", steps.collect::<Result<Vec<_>>>()?, states)?;
        let views: Vec<_> = all.iter().filter(|e| e.name == "clms_view").collect();
        let view = cluster::status(c, node)?.view;
        ensure!(
            matches!(views[..], [e] if e.get("view")? == view && e.get("members")? == 2 && e.get("master")? == 1),
            "view {view}: {views:?}"
        );
    }

    for node in [1, 2] {
        trace(c, node, false)?;
        c.sh(node, &format!("echo >{TRACING}/trace"))?;
    }
    c.sh(1, &load)?;
    for node in [1, 2] {
        let all = traced(c, node)?;
        ensure!(all.is_empty(), "node {node}: {all:?}");
    }
    Ok(())
}
