// SPDX-License-Identifier: GPL-2.0

//! How nodes changed their states: the history, who is told, libcluster.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use rig::images::Root;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_libcluster_follows",
        promise: "C programs, built with pkg-config, shared, static and in the guest, follow transitions by SIGCLUSTER and miss \
                  none; whoever is exec'd after is not hit; an ordinary user may",
        faults: "power cut of node 3",
        root: Root::Debian,
        seconds: 180,
        run: libcluster,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_libcluster_moves",
        promise: "a program that follows transitions moves to another node and goes on there with the number it has",
        faults: "power cut of node 3",
        root: Root::Debian,
        seconds: 120,
        run: moves,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_events_follow",
        promise: "cluster events --follow tells each transition and view once, in order, with the numbers of the history",
        faults: "power cut of node 3",
        debug: true,
        seconds: 120,
        run: follow,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_history_is_the_same",
        promise: "after two nodes died at once and came back three survivors have one history: same order, same numbers",
        faults: "power cut of nodes 4 and 5 at once",
        nodes: 5,
        seconds: 180,
        run: one_history,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_leave_is_told",
        promise: "a node that leaves is SHUTDOWN, then GOINGDOWN for itself, and UP again if it is refused; for the others \
                  it is GOINGDOWN to DOWN and left; --follow ends with 3 when the module goes",
        faults: "node 3 leaves, once refused",
        fresh: true,
        seconds: 120,
        run: leave,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_events_slow_listener",
        promise: "a listener that was stopped while its socket overflowed has every transition once, in order",
        faults: "200 refused leaves of node 3",
        seconds: 180,
        run: slow_listener,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_node_facts",
        promise: "cluster node list and show say the same on every node; what an administrator sets on one all see",
        run: facts,
        ..Case::DEFAULT
    },
];

/// A transition without its time: view, number, node, states and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transition {
    view: u64,
    id: u64,
    what: String,
}

fn transition(v: &Value) -> Result<Transition> {
    let text = |f: &str| v[f].as_str().with_context(|| format!("{f} in {v}"));
    let number = |f: &str| v[f].as_u64().with_context(|| format!("{f} in {v}"));
    Ok(Transition {
        view: number("view")?,
        id: number("id")?,
        what: format!(
            "{} {} {} {}",
            number("node")?,
            text("from")?,
            text("to")?,
            text("cause")?
        ),
    })
}

/// What `cluster events --json` prints on a node.
fn history(c: &Context, node: u32) -> Result<Vec<Transition>> {
    let text = c.sh(node, "cluster events --json")?;
    text.lines()
        .map(|l| transition(&serde_json::from_str(l).with_context(|| l.to_owned())?))
        .collect()
}

/// The last transition on a node.
fn last(c: &Context, node: u32) -> Result<u64> {
    Ok(history(c, node)?.last().context("an empty history")?.id)
}

/// Waits until nothing is under way: a member is in the view a little before it is UP.
fn settle(c: &Context, nodes: &[u32]) -> Result<()> {
    cluster::agree(c, nodes, 20)?;
    for node in nodes {
        c.until(&format!("all UP on node {node}"), 10, || {
            let s = cluster::status(c, *node)?;
            let up = nodes.iter().map(|n| Ok(s.node(*n)?.state == "UP")).collect::<Result<Vec<_>>>()?;
            Ok(up.iter().all(|u| *u).then_some(()))
        })?;
    }
    Ok(())
}

/// What a file in /shared has, once it has so many lines.
fn lines(c: &Context, file: &str, n: usize, seconds: u32) -> Result<Vec<String>> {
    let look = || {
        let text = c.shared_text(file).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        Ok((lines.len() >= n).then_some(lines))
    };
    c.until(&format!("{n} lines in {file}"), seconds, look)
        .with_context(|| c.shared_text(file).unwrap_or_default())
}

/// Leaves a script running that writes to a file in /shared, and in the end its status.
fn start(c: &Context, node: u32, file: &str, script: &str) -> Result<()> {
    let script = format!("{script} >/shared/{file} 2>&1; echo status $? >>/shared/{file}");
    c.background(node, &["sh", "-c", &script]).map(drop)
}

/// Power-cuts node 3, waits until the others have noted it, and gives it back. Gives the views after both.
fn lose_and_regain_3(c: &Context) -> Result<(u64, u64)> {
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    c.until("node 3 is out", 10, || {
        let s = cluster::status(c, 1)?;
        Ok((s.node(3)?.state == "DOWN").then_some(()))
    })?;
    let without = cluster::agree(c, &[1, 2], 5)?.view;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    settle(c, &[1, 2, 3])?;
    Ok((without, cluster::status(c, 1)?.view))
}

/// What `make install` installs, for the guest, and a program that a user builds there.
const BUILD: &str = "export PKG_CONFIG_PATH=/shared/installed/lib/pkgconfig
gcc -std=gnu11 -O2 -Wall -Wextra -Werror $(pkg-config --cflags libcluster) -o /shared/installed/transitions \
    /shared/installed/transitions.c $(pkg-config --libs libcluster) -Wl,-rpath,/shared/installed/lib";

fn build_in_guest(c: &Context, node: u32) -> Result<()> {
    let to = c.client.dir().join("shared/installed");
    let copied = Command::new("cp").arg("-a").arg(c.places.top.join("build/stage")).arg(&to).status()?;
    ensure!(copied.success(), "build/stage: run tests/programs/build.sh");
    std::fs::copy(c.places.top.join("tests/programs/libcluster/transitions.c"), to.join("transitions.c"))?;
    c.sh(node, BUILD).map(drop)
}

fn libcluster(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let dir = "/usr/lib/ssi-tests";
    let user = "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all";
    build_in_guest(c, 1)?;
    start(c, 1, "simple", &format!("{user} {dir}/transitions 2"))?;
    start(c, 1, "built", &format!("{user} /shared/installed/transitions -d 5"))?;
    start(c, 2, "detailed", &format!("{dir}/transitions-static -d -h 5"))?;
    let other = c.background(2, &[&format!("{dir}/transitions"), "-x", "sleep", "1000"])?;
    for file in ["simple", "built", "detailed"] {
        same(file, lines(c, file, 1, 10)?, ["up 1 2 3"])?;
    }
    same("a user sets facts", c.exec_as("user", 2, &[&format!("{dir}/transitions"), "-s", "7"])?.code, 1)?;

    let (without, with) = lose_and_regain_3(c)?;

    // Each line but the first and the last ends with the transition's number.
    let told = |file: &str, n: usize| -> Result<(Vec<String>, Vec<u64>)> {
        let mut all = lines(c, file, n + 2, 10)?;
        same(file, all.pop().as_deref(), Some("status 0"))?;
        let rest = all.iter().skip(1);
        let split = rest.map(|l| l.rsplit_once(' ').with_context(|| l.clone()));
        let split = split.collect::<Result<Vec<_>>>()?;
        let ids = split.iter().map(|(_, id)| Ok(id.parse()?)).collect::<Result<_>>()?;
        Ok((split.iter().map(|(what, _)| (*what).to_owned()).collect(), ids))
    };
    // Node, from, to, cause, by the numbers of libcluster.h: UP is 2.
    let (simple, simple_ids) = told("simple", 2)?;
    same("simple", simple, ["3 2 4 4", "3 1 2 1"])?;
    let (detailed, ids) = told("detailed", 5)?;
    same("detailed", &detailed[..], ["3 2 4 4", "3 4 5 4", "3 5 7 4", "3 7 1 1", "3 1 2 1"])?;
    same("numbers of the simple ones on the other node", simple_ids, [ids[0], ids[4]])?;
    ensure!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    same("the one that was built in the guest", told("built", 5)?, (detailed.clone(), ids.clone()))?;
    same(
        "their views",
        ids.iter().map(|id| id >> 24).collect::<Vec<_>>(),
        [without, without, without, with, with],
    )?;
    same("who was exec'd", c.sh(2, &format!("cat /proc/{}/comm", other.pid))?, "sleep")?;
    c.sh(2, &format!("kill {}", other.pid)).map(drop)
}

fn moves(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let script = "exec /usr/lib/ssi-tests/transitions -d -p 5 </dev/null >/shared/moves 2>&1";
    let pid = c.background(2, &["sh", "-c", script])?.pid;
    same("moves", lines(c, "moves", 1, 10)?, ["up 1 2 3"])?;
    c.sh(2, &format!("migrate 1 {pid}"))?;
    same("where it is", c.sh(1, &format!("where_pid {pid}"))?, "1")?;
    lose_and_regain_3(c)?;
    let told = lines(c, "moves", 6, 10)?;
    let what = told.iter().skip(1).map(|l| l.rsplit_once(' ').map_or("", |(what, _)| what));
    same("told", what.collect::<Vec<_>>(), ["3 2 4 4", "3 4 5 4", "3 5 7 4", "3 7 1 1", "3 1 2 1"])?;
    c.until("it ends", 10, || {
        let gone = c.exec(1, &["where_pid", &pid.to_string()])?.code == 1;
        Ok(gone.then_some(()))
    })
}

fn follow(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let before = history(c, 2)?;
    let from = before.last().context("an empty history")?;
    let script = "exec cluster events --follow --json >/shared/events 2>&1";
    let follower = c.background(2, &["sh", "-c", script])?;
    // It has written the history: so it listens.
    lines(c, "events", before.len(), 10)?;
    let (without, with) = lose_and_regain_3(c)?;
    let told = lines(c, "events", before.len() + 7, 10)?.split_off(before.len());
    let told: Vec<Value> = told.iter().map(|l| Ok(serde_json::from_str(l)?)).collect::<Result<_>>()?;
    let kinds: Vec<_> = told.iter().map(|v| v["event"].as_str().unwrap_or("")).collect();
    let t = "transition";
    same("events", kinds, [t, t, t, "view", t, t, "view"])?;
    let (views, changes): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|v| v["event"] == "view");
    for (got, number, members) in [(views[0], without, vec![1, 2]), (views[1], with, vec![1, 2, 3])] {
        let want = serde_json::json!({"event": "view", "view": number, "master": 1, "members": members});
        same("view", got, &want)?;
    }
    let changes = changes.into_iter().map(transition).collect::<Result<Vec<_>>>()?;
    let what: Vec<_> = changes.iter().map(|t| &t.what[..]).collect();
    same(
        "transitions",
        what,
        [
            "3 UP GOINGDOWN lost",
            "3 GOINGDOWN KCLEANUP lost",
            "3 KCLEANUP DOWN lost",
            "3 DOWN COMINGUP joined",
            "3 COMINGUP UP joined",
        ],
    )?;
    for node in 1..=2 {
        let mut all = history(c, node)?;
        all.retain(|t| t.view > from.view);
        same(format!("history of node {node}"), &all, &changes)?;
    }
    // The one that came back has them from its own first view on, with the same numbers.
    let own = history(c, 3)?;
    ensure!(own.iter().all(|t| t.view == with), "{own:?}");
    for t in &changes[3..] {
        let mine = own.iter().find(|o| o.id == t.id).with_context(|| format!("{t:?} in {own:?}"))?;
        ensure!(mine.what == t.what || mine.what == "3 NEVERUP COMINGUP joined", "{mine:?}");
    }
    // Somebody who asks for what is no more is told so.
    let gone = c.sh(3, &format!("cluster events --json --after {}", from.id))?;
    same("of an earlier life", gone.lines().next(), Some(r#"{"event":"gap"}"#))?;
    c.sh(2, &format!("kill {}", follower.pid)).map(drop)
}

fn one_history(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3, 4, 5])?;
    let boots = [c.boots(4)?, c.boots(5)?];
    c.power(4, Power::Kill)?;
    c.power(5, Power::Kill)?;
    c.until("both are out", 20, || {
        let s = cluster::status(c, 1)?;
        Ok((s.node(4)?.state == "DOWN" && s.node(5)?.state == "DOWN").then_some(()))
    })?;
    cluster::agree(c, &[1, 2, 3], 10)?;
    for (node, boots) in [(4, boots[0]), (5, boots[1])] {
        c.power(node, Power::Reset)?;
        c.wait(node, Event::Join, boots)?;
    }
    settle(c, &[1, 2, 3, 4, 5])?;
    let first = history(c, 1)?;
    let losses = first.iter().filter(|t| t.what.ends_with("UP GOINGDOWN lost")).count();
    same("losses", losses, 2)?;
    ensure!(first.is_sorted_by(|a, b| a.id < b.id), "{first:?}");
    for node in 2..=3 {
        let other = history(c, node)?;
        // Whom a node found in its first view is its own.
        let begin = first[0].view.max(other[0].view);
        let is_common = |t: &&Transition| t.view >= begin && !t.what.ends_with("found");
        let after = |all: &[Transition]| all.iter().filter(is_common).cloned().collect::<Vec<_>>();
        ensure!(after(&first).len() >= 10, "{first:?}");
        same(format!("node {node}"), after(&other), after(&first))?;
    }
    Ok(())
}

/// Leaves a process of node 1 on node 3, so that its leave is refused; gives its number.
fn keep_3(c: &Context) -> Result<i32> {
    let process = c.background(1, &["onnode", "3", "sleep", "1000"])?.pid;
    c.until("the process is there", 10, || {
        let at = c.exec(1, &["where_pid", &process.to_string()])?.text();
        Ok((at.trim() == "3").then_some(process))
    })
}

fn slow_listener(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let before = history(c, 3)?.len();
    let script = "exec cluster events --follow --json >/shared/slow 2>&1";
    let listener = c.background(3, &["sh", "-c", script])?.pid;
    lines(c, "slow", before, 10)?;
    let process = keep_3(c)?;
    let drops = "awk '$2 == 16 { d += $9 } END { print d + 0 }' /proc/net/netlink";
    let dropped = c.sh(3, drops)?;
    c.sh(3, &format!("kill -STOP {listener}"))?;
    let tries = "for i in $(seq 200); do cluster leave 2>/dev/null && exit 1; done; true";
    c.sh_for(Duration::from_secs(120), 3, tries)?;
    ensure!(c.sh(3, drops)? != dropped, "no event was dropped: {dropped}");
    c.sh(3, &format!("kill -CONT {listener}"))?;
    let told = lines(c, "slow", before + 400, 20)?;
    let told = told.iter().map(|l| transition(&serde_json::from_str(l)?));
    same("what it has", told.collect::<Result<Vec<_>>>()?, history(c, 3)?)?;
    c.sh(3, &format!("kill {listener}"))?;
    c.sh(1, &format!("kill {process}")).map(drop)
}

fn leave(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let view = cluster::status(c, 1)?.view;
    start(c, 3, "own", &format!("cluster events --follow --json --after {}", last(c, 3)?))?;
    let process = keep_3(c)?;
    let refused = c.exec(3, &["cluster", "leave"])?;
    ensure!(refused.code == 1 && refused.error_text().contains("EBUSY"), "{refused:?}");
    c.sh(1, &format!("kill {process}"))?;
    c.until("the process is gone", 10, || {
        let out = c.exec(3, &["cluster", "leave"])?;
        Ok((out.code == 0).then_some(()))
    })?;
    let told = lines(c, "own", 4, 10)?;
    let told: Vec<_> = told
        .iter()
        .map(|l| transition(&serde_json::from_str(l)?))
        .collect::<Result<_>>()?;
    // A try may have been too early, and was refused too.
    let what: Vec<_> = told.iter().map(|t| &t.what[..]).collect();
    let (tries, end) = what.split_at(what.len() - 2);
    same("its end", end, ["3 UP SHUTDOWN left", "3 SHUTDOWN GOINGDOWN left"])?;
    ensure!(!tries.is_empty(), "{what:?}");
    for pair in tries.chunks(2) {
        same("a refused leave", pair, ["3 UP SHUTDOWN left", "3 SHUTDOWN UP stayed"])?;
    }
    ensure!(told.is_sorted_by(|a, b| a.id < b.id), "{told:?}");

    c.until("node 3 is DOWN", 10, || {
        let down = (1..=2).map(|n| Ok(cluster::status(c, n)?.node(3)?.state == "DOWN"));
        Ok(down.collect::<Result<Vec<_>>>()?.iter().all(|d| *d).then_some(()))
    })?;
    let mut all = [history(c, 1)?, history(c, 2)?];
    for h in &mut all {
        h.retain(|t| t.view > view);
        let what: Vec<_> = h.iter().map(|t| &t.what[..]).collect();
        same(
            "for the others",
            what,
            ["3 UP GOINGDOWN left", "3 GOINGDOWN KCLEANUP left", "3 KCLEANUP DOWN left"],
        )?;
    }
    same("numbers", &all[0], &all[1])?;
    let gone: Value = serde_json::from_str(&c.sh(1, "cluster node show 3 --json")?)?;
    same("what is known of one that is down", (&gone["state"], &gone["total_cpus"]), (&"DOWN".into(), &0.into()))?;

    for module in ["ssi_vproc", "ssi_rfile", "ssi_clms"] {
        let out = c.exec(3, &["rmmod", module])?;
        ensure!(out.code == 0, "rmmod {module}: {out:?}");
    }
    let end = lines(c, "own", told.len() + 2, 10)?;
    same("how --follow ends", end.last().map(String::as_str), Some("status 3"))?;
    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)
}

fn facts(c: &Context) -> Result<()> {
    settle(c, &[1, 2, 3])?;
    let list = c.sh_all("cluster node list --json")?;
    same("node 2", &list[1], &list[0])?;
    same("node 3", &list[2], &list[0])?;
    let all: Vec<Value> = serde_json::from_str(&list[0])?;
    same("nodes", all.len(), 3)?;
    for (node, v) in (1u32..).zip(&all) {
        same("state", v["state"].as_str(), Some("UP"))?;
        let cpus = c.sh(node, "grep -c ^processor /proc/cpuinfo")?;
        same("processors", v["online_cpus"].to_string(), cpus)?;
        let kib: u64 = c.sh(node, "sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")?.parse()?;
        same("memory", v["total_memory"].as_u64(), Some(kib * 1024))?;
    }
    let shown: Value = serde_json::from_str(&c.sh(1, "cluster node show 2 --json")?)?;
    same("its last transition", shown["transition"]["to"].as_str(), Some("UP"))?;
    same("-V", c.sh(1, "cluster -V 2")?, c.sh(1, "cluster node show node2")?)?;
    same("-v", c.sh(1, "cluster -v")?, c.sh(1, "cluster node list")?)?;
    same("no such node", c.exec(1, &["cluster", "node", "show", "9"])?.code, 1)?;

    let power = |from: u32| -> Result<Option<u64>> {
        let v: Value = serde_json::from_str(&c.sh(from, "cluster node show 2 --json")?)?;
        Ok(v["cpu_power"].as_u64())
    };
    let before = power(1)?;
    ensure!(before.is_some_and(|p| p > 0 && p != 4242), "{before:?}");
    c.sh(2, "/usr/lib/ssi-tests/transitions-static -s 4242")?;
    for from in 1..=3 {
        same("its speed", power(from)?, Some(4242))?;
    }
    c.sh(2, "/usr/lib/ssi-tests/transitions-static -s 0")?;
    same("its own speed again", power(3)?, before)
}
