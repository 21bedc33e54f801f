// SPDX-License-Identifier: GPL-2.0

//! The cluster key is changed while the cluster runs.
//!
//! A node of the rig forgets its files with its power: what its disk would have is put back by the case.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ics_key_changes_under_load",
        promise: "the cluster key is changed on three nodes: no call fails, streams begin anew, no heartbeat is refused, the \
                  view stays; where a node lacks the new key the command names it, changes nothing, and goes on when told",
        join: false,
        fresh: true,
        debug: true,
        seconds: 300,
        run: under_load,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_key_change_survives_deaths",
        promise: "a node dies after staging, and the one that runs the command after switching: it goes on on another one, \
                  and both come back",
        faults: "power cuts of node 3 and of node 1",
        join: false,
        fresh: true,
        seconds: 240,
        run: deaths,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_key_missed_is_refused_by_name",
        promise: "a node that was off while the key changed is refused, by its name and with what to do; so is a stranger's \
                  key; with the new key it joins",
        faults: "power cut of node 3",
        join: false,
        fresh: true,
        seconds: 180,
        run: missed,
        long: true,
        ..Case::DEFAULT
    },
];

/// The key's file, behind the link in /etc.
const KEY: &str = "/run/cluster/key";

/// Where the case puts new ones.
const NEW: &str = "/run/new.key";

/// All three join.
fn joined(c: &Context) -> Result<cluster::Status> {
    for node in c.all() {
        c.background(node, &["cluster", "join"])?;
    }
    cluster::agree(c, &c.all(), 30)
}

/// Makes a key on the first of some nodes, and brings it to the others as an administrator would.
fn new_key(c: &Context, nodes: &[u32]) -> Result<String> {
    let first = *nodes.first().context("no node")?;
    let key = c.sh(first, &format!("rm -f {NEW}; cluster key generate {NEW} && cat {NEW}"))?;
    nodes.iter().skip(1).try_for_each(|n| put(c, *n, NEW, &key))?;
    Ok(key)
}

fn put(c: &Context, node: u32, file: &str, key: &str) -> Result<()> {
    c.sh(node, &format!("umask 077; echo {key} > {file}")).map(drop)
}

/// A node: number, key in use, second key, what that is.
type Keys = (u64, String, Option<String>, Option<String>);

/// What a node says of all.
fn keys(c: &Context, node: u32) -> Result<Vec<Keys>> {
    let v: Value = serde_json::from_str(&c.sh(node, "cluster key show --json")?)?;
    let word = |v: &Value| v.as_str().map(str::to_owned);
    let row = |r: &Value| Some((r["node"].as_u64()?, word(&r["in_use"])?, word(&r["second"]), word(&r["second_is"])));
    let rows = v["nodes"].as_array().and_then(|all| all.iter().map(row).collect::<Option<_>>());
    rows.with_context(|| format!("{v}"))
}

/// Waits until some nodes say that they all use one key alone; gives its fingerprint.
fn one_key(c: &Context, nodes: &[u32]) -> Result<String> {
    let mut last = Vec::new();
    let one = c.until("one key", 10, || {
        last = nodes.iter().map(|n| keys(c, *n)).collect::<Result<Vec<_>>>()?;
        let print = last[0][0].1.clone();
        let want: Vec<_> = nodes.iter().map(|n| (u64::from(*n), print.clone(), None, None)).collect();
        Ok(last.iter().all(|l| *l == want).then_some(print))
    });
    one.with_context(|| format!("{last:#?}"))
}

/// What a node's files hold: the key, and the names beside it.
fn files(c: &Context, node: u32) -> Result<(String, String)> {
    let names = c.sh(node, &format!("cd /run/cluster && echo key* && stat -c %a {KEY}"))?;
    Ok((c.sh(node, &format!("cat {KEY}"))?, names))
}

/// Calls and posts from `$1` to `$2` until there is /tmp/enough, a line of results each time.
const LOAD: &str = "cd /sys/kernel/debug/ssi; rm -f /tmp/enough; while ! [ -e /tmp/enough ]; do \
                    echo $1 1 100 1000 4 0 > ics_echo && cat ics_echo || echo failed; done > /tmp/load; echo end >> /tmp/load";

/// Streams that there were on all links of a node.
fn streams(c: &Context, node: u32) -> Result<u64> {
    let all = cluster::ics(c, node)?;
    let rows = all["links"].as_array().context("no links")?;
    Ok(rows.iter().filter_map(|r| r["streams"].as_u64()).sum())
}

fn rounds(c: &Context, node: u32) -> Result<usize> {
    Ok(c.sh(node, "cat /tmp/load 2>/dev/null || true")?.lines().count())
}

fn under_load(c: &Context) -> Result<()> {
    let before = joined(c)?;
    let first = one_key(c, &[1, 2, 3])?;
    for node in 1..=3 {
        c.until("all streams", 10, || Ok((streams(c, node)? >= 2).then_some(())))?;
    }
    let begun = (1..=3).map(|n| streams(c, n)).collect::<Result<Vec<_>>>()?;
    let to = |node: u32| (node % 3 + 1).to_string();
    for node in 1..=3 {
        c.background(node, &["sh", "-c", LOAD, "sh", &to(node)])?;
    }
    let goes_on = || -> Result<()> {
        for node in 1..=3 {
            let n = rounds(c, node)?;
            c.until("the calls go on", 30, || Ok((rounds(c, node)? > n + 1).then_some(())))?;
        }
        Ok(())
    };
    goes_on()?;

    // Node 3 lacks it.
    let key = new_key(c, &[1, 2])?;
    let out = c.exec(1, &["cluster", "key", "rotate", NEW])?;
    ensure!(out.code == 1 && out.error_text().contains("node 3 (node3) did not stage"), "{out:?}");
    let said = keys(c, 2)?;
    ensure!(
        said.iter().all(|k| k.1 == first) && said[0].3.as_deref() == Some("staged") && said[2].3.is_none(),
        "{said:?}"
    );
    // Nothing is used that it does not know, whoever asks.
    let staged = said[0].2.clone().context("no key is staged")?;
    let out = c.exec(2, &["cluster", "key", "switch", &staged])?;
    ensure!(out.code == 1 && out.error_text().contains("EAGAIN"), "{out:?}");
    let out = c.exec(2, &["cluster", "key", "rotate"])?;
    ensure!(
        out.code == 1 && out.error_text().contains("node 3 has not staged key"),
        "{out:?}"
    );
    goes_on()?;
    put(c, 3, NEW, &key)?;
    let out = c.exec(1, &["cluster", "key", "rotate", NEW])?;
    ensure!(out.code == 0, "{out:?}");
    let second = one_key(c, &[1, 2, 3])?;
    ensure!(first != second && second == staged, "{first} {second} {staged}");
    for node in 1..=3 {
        same("the files", files(c, node)?, (key.clone(), "key\n600".to_owned()))?;
    }
    goes_on()?;
    // Once more changes nothing; the next one is changed from another node.
    let out = c.exec(1, &["cluster", "key", "rotate", NEW])?;
    ensure!(out.code == 0, "{out:?}");
    let third = new_key(c, &[3, 2, 1])?;
    let out = c.exec(3, &["cluster", "key", "rotate", NEW])?;
    ensure!(out.code == 0, "{out:?}");
    ensure!(one_key(c, &[1, 2, 3])? != second, "the same key");
    same("the file", files(c, 1)?.0, third)?;
    goes_on()?;

    for node in 1..=3 {
        c.sh(node, "touch /tmp/enough")?;
        c.until("the calls are done", 30, || {
            Ok(c.sh(node, "tail -n 1 /tmp/load")?.contains("end").then_some(()))
        })?;
        let load = c.sh(node, "cat /tmp/load")?;
        let good = load.lines().filter(|l| l.starts_with("calls 400 errors 0 ")).count();
        same(format!("node {node}: rounds without an error"), good, load.lines().count() - 1)?;
        same("refused", cluster::refused(c, node)?.values().sum::<u64>(), 0)?;
        // With each key that was dropped, those that it began ended.
        let (now, before) = (streams(c, node)?, begun[node as usize - 1]);
        ensure!(now >= 3 * before, "node {node}: {before} streams, {now} after two changes");
    }
    same("the view", cluster::agree(c, &[1, 2, 3], 5)?, before)
}

/// Cuts a node's power, and lets it boot again after `meanwhile`, without the rest of its files.
fn boot_again(c: &Context, node: u32, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let boots = c.boots(node)?;
    let others: Vec<u32> = c.all().into_iter().filter(|n| *n != node).collect();
    c.power(node, Power::Kill)?;
    cluster::agree(c, &others, 20)?;
    meanwhile()?;
    c.power(node, Power::Reset)?;
    c.wait(node, Event::Up, boots)
}

fn join(c: &Context, node: u32) -> Result<()> {
    let out = c.exec(node, &["cluster", "join"])?;
    ensure!(out.code == 0, "node {node} joins: {out:?}");
    cluster::agree(c, &c.all(), 20).map(drop)
}

fn deaths(c: &Context) -> Result<()> {
    joined(c)?;
    let old = files(c, 1)?.0;
    let key = new_key(c, &[1, 2, 3])?;
    for node in 1..=3 {
        c.sh(node, &format!("cluster key stage {NEW}"))?;
        same("the files", files(c, node)?, (old.clone(), "key key.next\n600".to_owned()))?;
    }
    // Between staging and switching; the change goes on without it.
    boot_again(c, 3, || {
        let out = c.exec(1, &["cluster", "key", "rotate"])?;
        ensure!(out.code == 0, "{out:?}");
        one_key(c, &[1, 2]).map(drop)
    })?;
    put(c, 3, KEY, &old)?;
    put(c, 3, &format!("{KEY}.next"), &key)?;
    join(c, 3)?;
    let out = c.exec(2, &["cluster", "key", "rotate"])?;
    ensure!(out.code == 0, "{out:?}");
    let second = one_key(c, &[1, 2, 3])?;
    same("its files", files(c, 3)?, (key.clone(), "key\n600".to_owned()))?;

    // Who runs it dies after its own switch, the first one.
    let third = new_key(c, &[1, 2, 3])?;
    for node in 1..=2 {
        c.sh(node, &format!("cluster key stage {NEW}"))?;
    }
    let print = keys(c, 1)?[0].2.clone().context("nothing is staged")?;
    // It waits until it has heard of every node that it is ready.
    c.background(1, &["sh", "-c", "cluster key switch $1; echo $? > /tmp/switched", "sh", &print])?;
    // clock_nanosleep(2) between two looks.
    c.until("it waits", 10, || {
        let waits = c.exec(1, &["sh", "-c", "grep -q '^230 ' /proc/$(pidof cluster)/syscall"])?;
        Ok((waits.code == 0).then_some(()))
    })?;
    c.until("it hears node 2", 5, || {
        let said = keys(c, 1)?;
        Ok((said[1].2.as_ref() == Some(&print)).then_some(()))
    })?;
    same("in use without node 3", keys(c, 1)?[0].2.as_ref(), Some(&print))?;
    c.sh(3, &format!("cluster key stage {NEW}"))?;
    let code = c.until("it has switched", 10, || {
        let code = c.sh(1, "cat /tmp/switched 2>/dev/null || true")?;
        Ok((!code.is_empty()).then_some(code))
    })?;
    same("exit code", code.as_str(), "0")?;
    same("the files", files(c, 1)?, (third.clone(), "key key.old\n600".to_owned()))?;
    // It does not forget the old one while others use it.
    c.until("node 2 hears it", 5, || {
        Ok((keys(c, 2)?[0].1 == print).then_some(()))
    })?;
    boot_again(c, 1, || {
        let out = c.exec(2, &["cluster", "key", "rotate"])?;
        ensure!(out.code == 0, "{out:?}");
        one_key(c, &[2, 3]).map(drop)
    })?;
    put(c, 1, KEY, &third)?;
    put(c, 1, &format!("{KEY}.old"), &key)?;
    join(c, 1)?;
    let said = keys(c, 1)?;
    ensure!(said[0].3.as_deref() == Some("old") && said[1].3.is_none(), "{said:?}");
    let out = c.exec(1, &["cluster", "key", "rotate"])?;
    ensure!(out.code == 0, "{out:?}");
    ensure!(one_key(c, &[1, 2, 3])? != second, "the same key");
    same("its files", files(c, 1)?, (third, "key\n600".to_owned()))
}

fn missed(c: &Context) -> Result<()> {
    joined(c)?;
    let mut key = String::new();
    boot_again(c, 3, || {
        key = new_key(c, &[1, 2])?;
        let out = c.exec(2, &["cluster", "key", "rotate", NEW])?;
        ensure!(out.code == 0, "{out:?}");
        Ok(())
    })?;
    let before = cluster::agree(c, &[1, 2], 5)?;
    // The rig has given it the key of the beginning.
    let out = c.exec(3, &["timeout", "5", "cluster", "join"])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    for node in 1..=2 {
        let lines = c.sh(node, "dmesg | grep 'ssi_ics: refused from'")?;
        let is_named = |l: &str| {
            l.contains("refused from node 3 at 10.73.1.3:")
                && l.contains("a cluster key that was dropped here: copy the key file of this node to that one, and join it again")
        };
        ensure!(lines.lines().any(is_named), "node {node}: {lines}");
    }
    let lines = c.sh(3, "dmesg | grep 'ssi_ics: refused from'")?;
    ensure!(
        lines.lines().any(|l| l.contains("refused from node 1 at 10.73.1.1:") && l.contains("another cluster key")),
        "node 3: {lines}"
    );
    // Neither with one that nobody ever had.
    c.sh(3, "umask 077; echo another-key-of-the-cluster >/tmp/key")?;
    let out = c.exec(3, &["timeout", "5", "cluster", "join", "--key", "/tmp/key"])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    for node in 1..=2 {
        same("members", cluster::status(c, node)?.members(), [1, 2])?;
        same("the view", cluster::status(c, node)?.view, before.view)?;
    }
    put(c, 3, KEY, &key)?;
    join(c, 3)?;
    one_key(c, &[1, 2, 3]).map(drop)
}
