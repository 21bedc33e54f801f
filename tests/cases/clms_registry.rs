// SPDX-License-Identifier: GPL-2.0

//! The replicated records and the key services, driven through `/sys/kernel/debug/ssi/registry` (`clms/registry/debugfs.rs`).

use std::collections::BTreeMap;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_registry_counts_exactly",
        promise: "compare-and-swap from all nodes at once loses nothing: a counter comes to the sum, the same records everywhere",
        debug: true,
        seconds: 120,
        run: counts,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_watches_in_order",
        promise: "who watches is told every record that there is, changes in the order of versions, and deletions",
        debug: true,
        run: watches,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_watch_begins_anew",
        promise: "who watches is told the records of a cluster that was formed anew, also those with the numbers of the one before",
        nodes: 1,
        join: false,
        fresh: true,
        run: watch_anew,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_full",
        promise: "129 records do not fit, and nothing else suffers; names and values that are too long are refused",
        run: full,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_master_dies",
        promise: "the master killed at each message while others count: every change's outcome is known, the counter is exact",
        faults: "panic of node 1",
        expected: &["failpoint"],
        seconds: 600,
        run: |c| tour(c, 1),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_member_dies",
        promise: "a member killed at each message while others count: the same",
        faults: "panic of node 2",
        expected: &["failpoint"],
        long: true,
        seconds: 600,
        run: |c| tour(c, 2),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_dies_bringing_up",
        promise: "a joiner that leads is brought up to date; who gives it the contents, or takes them, dies meanwhile: nothing is lost",
        faults: "power cut of node 1, panic of node 2 or 3",
        expected: &["failpoint"],
        long: true,
        seconds: 300,
        run: bringing_up,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_registry_leaver_knows",
        promise: "a node that leaves while it counts knows what became of every change that it began",
        faults: "reset of node 3",
        seconds: 90,
        run: leaver,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_key_server_moves_on_death",
        promise: "a key service moves to its longest candidate when its server dies, never before that is out everywhere",
        faults: "power cut of the server",
        debug: true,
        seconds: 120,
        run: key_server,
        ..Case::DEFAULT
    },
];

const FILE: &str = "/sys/kernel/debug/ssi/registry";

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ran {
    won: u64,
    lost: u64,
    unknown: u64,
    failed: u64,
    ns: u64,
}

/// What a node says.
#[derive(Clone, Debug, Default)]
struct Facts {
    seq: u64,
    ready: bool,
    leads: bool,
    /// By name: version and value.
    records: BTreeMap<String, (u64, String)>,
    servers: BTreeMap<String, u32>,
    told: BTreeMap<String, u64>,
    disorder: u64,
    serves: BTreeMap<String, u32>,
    run: Option<Ran>,
}

fn parse(text: &str) -> Result<Facts> {
    let mut f = Facts::default();
    for line in text.lines() {
        let w: Vec<&str> = line.split(' ').collect();
        match w[..] {
            ["view", _, "seq", seq, "ready", ready, "leads", leads] => {
                f.seq = seq.parse()?;
                f.ready = ready == "1";
                f.leads = leads == "1";
            }
            ["record", name, version, value] => {
                f.records.insert(name.into(), (version.parse()?, value.into()));
            }
            ["server", service, node] => {
                f.servers.insert(service.into(), node.parse()?);
            }
            ["told", name, version] => {
                f.told.insert(name.into(), version.parse()?);
            }
            ["order", n] => f.disorder = n.parse()?,
            ["serves", name, before] => {
                f.serves.insert(name.into(), before.parse()?);
            }
            ["run", "won", won, "lost", lost, "unknown", unknown, "failed", failed, "ns", ns] => {
                f.run = Some(Ran {
                    won: won.parse()?,
                    lost: lost.parse()?,
                    unknown: unknown.parse()?,
                    failed: failed.parse()?,
                    ns: ns.parse()?,
                });
            }
            _ => bail!("a line of {FILE}: {line:?}"),
        }
    }
    Ok(f)
}

fn facts(c: &Context, node: u32) -> Result<Facts> {
    parse(&c.sh(node, &format!("cat {FILE}"))?)
}

fn write(c: &Context, node: u32, what: &str) -> Result<()> {
    c.sh(node, &format!("echo {what} >{FILE}")).map(drop)
}

/// Waits until these nodes are the members, of whom one leads, and know the same.
fn settled(c: &Context, nodes: &[u32], seconds: u32) -> Result<Facts> {
    cluster::agree(c, nodes, seconds)?;
    let all = known(c, nodes, seconds)?;
    c.until("one leads", seconds, || {
        let leaders = nodes.iter().map(|n| Ok(u32::from(facts(c, *n)?.leads))).sum::<Result<u32>>()?;
        Ok((leaders == 1).then_some(()))
    })?;
    Ok(all)
}

/// Waits until these nodes know the same, whoever else is a member.
fn known(c: &Context, nodes: &[u32], seconds: u32) -> Result<Facts> {
    let mut last = Vec::new();
    c.until("the same records", seconds, || {
        last = nodes.iter().map(|n| facts(c, *n)).collect::<Result<Vec<_>>>()?;
        let is_same = |f: &Facts| f.ready && f.seq == last[0].seq && f.records == last[0].records;
        Ok(last.iter().all(is_same).then(|| last[0].clone()))
    })
    .with_context(|| format!("{last:?}"))
}

/// A name that no case before has used.
fn fresh(c: &Context) -> String {
    format!("n{}", c.unique())
}

/// What a counter has come to.
fn value(f: &Facts, name: &str) -> Result<u64> {
    match f.records.get(name) {
        Some((_, text)) => Ok(text.parse()?),
        None => Ok(0),
    }
}

/// A count that others can be made beside.
fn count_beside(c: &Context, node: u32, name: &str, times: u32, threads: u32) -> Result<()> {
    let before = format!("/tmp/{name}-done");
    let script = format!("rm -f {before}; echo count {name} {times} {threads} >{FILE}; echo $? >{before}");
    c.background(node, &["sh", "-c", &script]).map(drop)
}

/// Waits for the end of one.
fn counted(c: &Context, node: u32, name: &str, seconds: u32) -> Result<Ran> {
    c.until(&format!("the count of node {node}"), seconds, || {
        let done = c.sh(node, &format!("cat /tmp/{name}-done 2>/dev/null || true"))?;
        Ok((!done.is_empty()).then_some(()))
    })?;
    facts(c, node)?.run.context("no count")
}

fn counts(c: &Context) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    let name = fresh(c);
    for node in 1..=3 {
        count_beside(c, node, &name, 15, 2)?;
    }
    let mut lost = 0;
    for node in 1..=3 {
        let ran = counted(c, node, &name, 60)?;
        ensure!((ran.won, ran.unknown, ran.failed) == (30, 0, 0), "node {node}: {ran:?}");
        lost += ran.lost;
    }
    // Otherwise they have not met.
    ensure!(lost > 0, "nobody lost a change to another");
    let f = settled(c, &[1, 2, 3], 10)?;
    same("the counter", value(&f, &name)?, 90)?;
    // One caller alone, for the figures in the documentation; and the messages of each change.
    for node in [1, 2] {
        let name = fresh(c);
        c.sh_all("echo reset >/sys/kernel/debug/ssi/failpoints")?;
        write(c, node, &format!("count {name} 20 1"))?;
        let ran = facts(c, node)?.run.context("no count")?;
        ensure!((ran.won, ran.lost) == (20, 0), "{ran:?}");
        println!("# node {node} alone: {} us per change", ran.ns / 20_000);
        settled(c, &[1, 2, 3], 10)?;
        for at in 1..=3 {
            let places = places(c, at)?;
            let hits = |op: &str| places.iter().find(|(p, _)| *p == format!("Registry.{op}.serve")).map_or(0, |p| p.1);
            let (wants, appends) = if at == 1 { (if node == 1 { 0 } else { 20 }, 0) } else { (0, 20) };
            same(format!("Want and Append at node {at}"), [hits("Want"), hits("Append")], [wants, appends])?;
            // Fewer where the next change said the same.
            let commits = hits("Commit");
            ensure!(commits <= appends && (at != node || at == 1 || commits == 20), "{commits} Commits at node {at}");
        }
    }
    Ok(())
}

fn watches(c: &Context) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    let (early, late, gone) = (fresh(c), fresh(c), fresh(c));
    write(c, 1, &format!("set {early} a"))?;
    write(c, 1, &format!("set {gone} b"))?;
    c.sh_all(&format!("echo watch >{FILE}"))?;
    write(c, 2, &format!("set {late} c"))?;
    for node in 1..=3 {
        c.until(&format!("node {node} is told of all"), 10, || {
            let f = facts(c, node)?;
            let is_told = |(name, (version, _)): (&String, &(u64, String))| f.told.get(name) == Some(version);
            Ok((f.records.contains_key(&late) && f.records.iter().all(is_told)).then_some(()))
        })?;
    }
    write(c, 3, &format!("delete {gone}"))?;
    write(c, 3, &format!("count {early}x 20 1"))?;
    let f = settled(c, &[1, 2, 3], 10)?;
    ensure!(!f.records.contains_key(&gone), "{f:?}");
    for node in 1..=3 {
        c.until(&format!("node {node} is told of the deletion and the last change"), 10, || {
            let told = facts(c, node)?.told;
            let last = f.records.get(&format!("{early}x")).map(|r| r.0);
            Ok((told.get(&gone) == Some(&0) && told.get(&format!("{early}x")).copied() == last).then_some(()))
        })?;
        same("told out of order", facts(c, node)?.disorder, 0)?;
    }
    Ok(())
}

fn watch_anew(c: &Context) -> Result<()> {
    // Alone, so that all records are gone when it leaves.
    c.sh(1, "echo '1 10.73.1.1' >/tmp/alone")?;
    let alone = |value: u32| {
        c.sh(1, "cluster join --tab /tmp/alone")?;
        if value == 1 {
            write(c, 1, "watch")?;
        }
        write(c, 1, &format!("set x {value}"))?;
        c.until("the watcher is told", 10, || {
            let f = facts(c, 1)?;
            let told = f.told.get("x").copied();
            Ok((told.is_some() && told == f.records.get("x").map(|r| r.0) && f.disorder + 1 >= value.into()).then_some(f))
        })
    };
    let first = alone(1)?;
    same("told out of order", first.disorder, 0)?;
    c.sh(1, "cluster leave")?;
    let second = alone(2)?;
    // Or this shows nothing.
    same("the number of the change", second.records["x"].0, first.records["x"].0)?;
    same("the value", second.records["x"].1.as_str(), "2")
}

fn full(c: &Context) -> Result<()> {
    let f = settled(c, &[1, 2, 3], 10)?;
    let room = 128 - f.records.len();
    let script = format!(
        "i=0; while [ $i -lt {room} ]; do echo set full$i x >{FILE} || exit 1; i=$((i+1)); done; \
         echo set one-more x 2>&1 >{FILE} | grep -c 'No space left'"
    );
    same("one more", c.sh(2, &script)?, "1")?;
    // What is there can be changed.
    write(c, 3, "set full0 y")?;
    let g = settled(c, &[1, 2, 3], 10)?;
    same("records", g.records.len(), 128)?;
    same("a changed one", g.records["full0"].1.as_str(), "y")?;
    let script = format!("i=0; while [ $i -lt {room} ]; do echo delete full$i >{FILE} || exit 1; i=$((i+1)); done");
    c.sh(1, &script)?;
    same("records again", settled(c, &[1, 2, 3], 10)?.records.len(), f.records.len())?;
    for (what, error) in [
        ("set 123456789012345678901234567890123 x".to_owned(), "File name too long"),
        (format!("set long {}", "v".repeat(257)), "Message too long"),
    ] {
        let said = c.sh(1, &format!("echo {what} 2>&1 >{FILE} || true"))?;
        ensure!(said.contains(error), "{what}: {said}");
    }
    write(c, 1, &format!("set {} {}", "n".repeat(32), "v".repeat(256)))?;
    let f = settled(c, &[1, 2, 3], 10)?;
    same("the longest", f.records[&"n".repeat(32)].1.len(), 256)?;
    write(c, 1, &format!("delete {}", "n".repeat(32)))
}

/// Failpoints of the records' messages that a node came by.
fn places(c: &Context, node: u32) -> Result<Vec<(String, u32)>> {
    let mut places = Vec::new();
    for line in c.sh(node, "cat /sys/kernel/debug/ssi/failpoints")?.lines() {
        let mut words = line.split_whitespace();
        let (Some(point), Some(Ok(hits))) = (words.next(), words.next().map(str::parse)) else {
            bail!("a line of failpoints: {line:?}");
        };
        if hits > 0 && point.starts_with("Registry.") {
            places.push((point.to_owned(), hits));
        }
    }
    Ok(places)
}

/// Kills `victim` at each message while the others count.
fn tour(c: &Context, victim: u32) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    let others: Vec<u32> = c.all().into_iter().filter(|n| *n != victim).collect();
    c.sh(victim, "echo reset >/sys/kernel/debug/ssi/failpoints")?;
    let name = fresh(c);
    for node in &others {
        count_beside(c, *node, &name, 20, 1)?;
    }
    for node in &others {
        counted(c, *node, &name, 60)?;
    }
    let places = places(c, victim)?;
    for wanted in if victim == 1 { &["Append", "Want"][..] } else { &["Append", "Commit"][..] } {
        ensure!(places.iter().any(|(p, _)| p.contains(wanted)), "no {wanted} in {places:?}");
    }
    let mut wrong = Vec::new();
    for (point, _) in &places {
        // In the middle: some changes are done, others to come.
        for hit in [1, 7] {
            match strike(c, victim, &others, point, hit) {
                Ok(end) => println!("# node {victim} dies at {point}@{hit}: {end}"),
                Err(e) => {
                    wrong.push(format!("node {victim} dies at {point}@{hit}: {e:#}"));
                    c.wait(victim, Event::Join, 0)?;
                    cluster::agree(c, &c.all(), 20)?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn strike(c: &Context, victim: u32, others: &[u32], point: &str, hit: u32) -> Result<String> {
    let boots = c.boots(victim)?;
    let name = fresh(c);
    c.client.failpoint(victim, &format!("{point}=panic@{hit}"))?;
    for node in others {
        count_beside(c, *node, &name, 60, 2)?;
    }
    c.wait(victim, Event::Down, boots)?;
    let mut sum = 0;
    let mut said = Vec::new();
    for node in others {
        let ran = counted(c, *node, &name, 60)?;
        ensure!((ran.won, ran.unknown, ran.failed) == (120, 0, 0), "node {node}: {ran:?}");
        sum += ran.won;
        said.push(format!("node {node} lost {}", ran.lost));
    }
    // It may be back already.
    let f = known(c, others, 10)?;
    same("the counter", value(&f, &name)?, sum)?;
    // It comes back, and has everything.
    c.wait(victim, Event::Join, boots)?;
    let back = settled(c, &c.all(), 20)?;
    same("the records with the joiner", &back.records, &f.records)?;
    Ok(said.join(", "))
}

fn bringing_up(c: &Context) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    // Node 1 leads as soon as it is back. Node 2 is the lowest that has the contents: it is asked for them.
    for (victim, point) in [
        (2, "Registry.Fetch.serve"),
        (2, "Registry.Fetch.served"),
        (2, "Registry.Start.serve"),
        (3, "Registry.Start.serve"),
        (3, "Registry.Start.served"),
    ] {
        let witness = 5 - victim;
        let name = fresh(c);
        let boots = (c.boots(1)?, c.boots(victim)?);
        c.power(1, Power::Kill)?;
        settled(c, &[2, 3], 20)?;
        write(c, victim, &format!("count {name} 5 1"))?;
        c.client.failpoint(victim, &format!("{point}=panic@1"))?;
        c.power(1, Power::Reset)?;
        c.wait(victim, Event::Down, boots.1)?;
        // While only an empty one is left to lead.
        write(c, witness, &format!("count {name} 7 1"))?;
        let f = known(c, &[1, witness], 30)?;
        same(format!("the counter after {point}"), value(&f, &name)?, 12)?;
        c.wait(1, Event::Join, boots.0)?;
        c.wait(victim, Event::Join, boots.1)?;
        let all = settled(c, &[1, 2, 3], 20)?;
        same("the records", &all.records, &f.records)?;
        println!("# node {victim} dies at {point}: node {witness} goes on");
    }
    Ok(())
}

fn leaver(c: &Context) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    let name = fresh(c);
    count_beside(c, 3, &name, 1_000_000, 3)?;
    c.until("some changes", 10, || Ok((value(&facts(c, 1)?, &name)? > 20).then_some(())))?;
    let out = c.exec(3, &["cluster", "leave"])?;
    ensure!(out.code == 0, "cluster leave: {out:?}");
    let ran = counted(c, 3, &name, 10)?;
    ensure!(ran.unknown == 0 && ran.failed == 3, "{ran:?}");
    let f = settled(c, &[1, 2], 10)?;
    same("the counter", value(&f, &name)?, ran.won)?;
    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    same("the joiner", &settled(c, &[1, 2, 3], 20)?.records, &f.records)
}

/// Waits until a node serves; it must not while `dead` is a member anywhere.
fn serves(c: &Context, node: u32, service: &str, others: &[u32], dead: Option<u32>) -> Result<u32> {
    c.until(&format!("node {node} serves {service}"), 15, || {
        let Some(before) = facts(c, node)?.serves.get(service).copied() else {
            return Ok(None);
        };
        for n in others {
            if let Some(d) = dead {
                let state = cluster::status(c, *n)?.node(d)?.state.clone();
                ensure!(state == "DOWN", "node {node} serves, and for node {n} node {d} is {state}");
            }
            same(format!("the server for node {n}"), facts(c, *n)?.servers.get(service), Some(&node))?;
            ensure!(
                *n == node || !facts(c, *n)?.serves.contains_key(service),
                "node {n} serves too"
            );
        }
        Ok(Some(before))
    })
}

fn key_server(c: &Context) -> Result<()> {
    settled(c, &[1, 2, 3], 10)?;
    let service = fresh(c);
    // Not the lowest first: who came first serves.
    write(c, 3, &format!("candidate {service}"))?;
    same("before node 3", serves(c, 3, &service, &[1, 2, 3], None)?, 0)?;
    let key = format!("key.{service}");
    for node in [2, 1] {
        let before = facts(c, 3)?.records.get(&key).map_or(0, |r| r.0);
        write(c, node, &format!("candidate {service}"))?;
        c.until("the candidate is in the record", 10, || {
            let now = facts(c, 3)?.records.get(&key).map_or(0, |r| r.0);
            Ok((now > before).then_some(()))
        })?;
    }
    serves(c, 3, &service, &[1, 2, 3], None)?;

    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    same("before node 2", serves(c, 2, &service, &[1, 2], Some(3))?, 3)?;

    // It comes back and is none any more; as a candidate again it is the last.
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    settled(c, &[1, 2, 3], 20)?;
    write(c, 3, &format!("candidate {service}"))?;
    settled(c, &[1, 2, 3], 10)?;
    serves(c, 2, &service, &[1, 2, 3], None)?;

    // Who gives up is followed at once.
    write(c, 2, &format!("withdraw {service}"))?;
    same("before node 1", serves(c, 1, &service, &[1, 2, 3], None)?, 2)?;
    for node in [1, 3] {
        write(c, node, &format!("withdraw {service}"))?;
    }
    for node in 1..=3 {
        c.until(&format!("node {node} knows that nobody serves"), 10, || {
            Ok((facts(c, node)?.servers.get(&service) == Some(&0)).then_some(()))
        })?;
    }
    Ok(())
}
