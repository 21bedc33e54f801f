// SPDX-License-Identifier: GPL-2.0

//! The cluster inside WireGuard: what the networks carry, who gets in, and a node that dies.
//!
//! A node of the rig forgets its files with its power: what its disk would have is put back by the case.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

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

pub(crate) const CASES: &[Case] = &[Case {
    name: "ics_wireguard_hides_the_cluster",
    promise: "inside WireGuard three nodes are one cluster, ps, kill and migrate work, and no frame of theirs is on the network, \
              where one is without it; a node with an unknown key does not get to the handshake, nor who comes from outside; \
              one that dies returns",
    faults: "power cuts of all nodes, one of node 3; a key that nobody knows",
    join: false,
    fresh: true,
    seconds: 400,
    run: hides,
    ..Case::DEFAULT
}];

/// What the first bytes of handshake, heartbeat and frame are.
const MAGICS: [&[u8; 4]; 3] = [b"SSIH", b"SSIB", b"SSI1"];

const TABLE: &str = "/run/wireguard.toml";
const KEY: &str = "/run/wireguard.key";

/// WireGuard's modules of the kernel that runs, each after those that it needs.
fn modules(c: &Context) -> Result<Vec<PathBuf>> {
    let image = c.places.kernel(c.kernel.name())?;
    let tree = image.ancestors().nth(4).context("no tree")?;
    let order = fs::read_to_string(tree.join("modules.order"))?;
    let mut all = Vec::new();
    with_needs(tree, &order, "wireguard", &mut all)?;
    Ok(all)
}

fn with_needs(tree: &Path, order: &str, name: &str, all: &mut Vec<PathBuf>) -> Result<()> {
    let is_it = |l: &&str| l.strip_suffix(".o").is_some_and(|l| l.rsplit('/').next() == Some(name));
    let line = order.lines().find(is_it).with_context(|| format!("no module {name}"))?;
    let file = tree.join(line).with_extension("ko");
    if all.contains(&file) {
        return Ok(());
    }
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    let needs = bytes.split(|b| *b == 0).find_map(|s| s.strip_prefix(b"depends="));
    for n in String::from_utf8_lossy(needs.unwrap_or_default()).split(',').filter(|n| !n.is_empty()) {
        with_needs(tree, order, n, all)?;
    }
    all.push(file);
    Ok(())
}

/// What a freshly started node needs before it can be set up.
fn prepare(c: &Context, node: u32) -> Result<()> {
    for file in modules(c)? {
        let name = file.file_name().and_then(|n| n.to_str()).context("a name")?;
        let there = format!("/tmp/{name}");
        c.client.push(node, &file, &there)?;
        c.sh(node, &format!("insmod {there} && rm {there}"))?;
    }
    Ok(())
}

/// Writes a file that only root reads.
fn put(c: &Context, node: u32, file: &str, text: &str) -> Result<()> {
    let out = c.exec_with(node, &["sh", "-c", &format!("umask 077; cat > {file}")], text.as_bytes())?;
    ensure!(out.code == 0, "node {node}: {out:?}");
    Ok(())
}

fn line(c: &Context, node: u32) -> Result<String> {
    c.sh(node, &format!("cluster wireguard key --private-key {KEY}"))
}

fn set_up(c: &Context, node: u32) -> Result<()> {
    c.sh(node, &format!("cluster wireguard setup --wireguard {TABLE} --private-key {KEY}")).map(drop)
}

/// How often the magics are in a capture.
fn magics(file: &Path) -> Result<[usize; 3]> {
    let bytes = fs::read(file)?;
    ensure!(bytes.len() > 10_000, "a capture of {} bytes", bytes.len());
    Ok(MAGICS.map(|m| bytes.windows(4).filter(|w| w == m).count()))
}

/// Runs something under a capture; gives how often the magics are in it.
fn captured(c: &Context, name: &str, run: impl FnOnce() -> Result<()>) -> Result<[usize; 3]> {
    let file = c.scratch.join(name);
    c.client.capture(Some(&file), None, false)?;
    let done = run();
    c.client.capture(None, None, false)?;
    done?;
    magics(&file)
}

/// The cluster does what it is for.
fn use_it(c: &Context) -> Result<()> {
    let pid = cluster::sleeper(c, "root", 1, &["sleep", "1000"])?;
    for node in 2..=3 {
        let ps = c.sh(node, "ps")?;
        let word = pid.to_string();
        ensure!(ps.lines().any(|l| l.split_whitespace().next() == Some(&word)), "node {node}: {ps}");
    }
    for (from, to) in [(1, 2), (2, 3)] {
        c.sh(from, &format!("migrate {to} {pid}"))?;
        same("it is on", c.sh(1, &format!("where_pid {pid}"))?, to.to_string())?;
    }
    c.sh(2, &format!("kill -9 {pid}"))?;
    cluster::gone(c, 1, pid)?;
    let echo = "/sys/kernel/debug/ssi/ics_echo";
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        let said = c.sh(from, &format!("echo {to} 3 20 100000 2 0 >{echo} && cat {echo}"))?;
        ensure!(said.starts_with("calls 40 errors 0 "), "node {from}: {said}");
    }
    Ok(())
}

/// What a node says of another one's tunnel: seconds since the handshake, bytes from it and to it.
fn seen(c: &Context, by: u32, node: u32) -> Result<(Option<u64>, u64, u64)> {
    let v: Value = serde_json::from_str(&c.sh(by, &format!("cluster wireguard show --json --wireguard {TABLE}"))?)?;
    let rows = v["nodes"].as_array().context("no nodes")?;
    let row = rows.iter().find(|r| r["node"] == node).context("no such node")?;
    same("address", row["address"].as_str(), Some(&*format!("10.222.0.{node}")))?;
    same("endpoint", row["endpoint"].as_str(), Some(&*format!("10.73.1.{node}:51820")))?;
    let bytes = |way: &str| row[way].as_u64().context("no bytes");
    Ok((row["handshake_seconds"].as_u64(), bytes("bytes_in")?, bytes("bytes_out")?))
}

fn boot_again(c: &Context, nodes: &[u32]) -> Result<()> {
    let boots = nodes.iter().map(|n| c.boots(*n)).collect::<Result<Vec<_>>>()?;
    nodes.iter().try_for_each(|n| c.power(*n, Power::Reset))?;
    nodes.iter().zip(boots).try_for_each(|(n, b)| c.wait(*n, Event::Up, b))
}

fn hides(c: &Context) -> Result<()> {
    // Without it.
    let clear = captured(c, "clear.pcap", || {
        for node in c.all() {
            c.background(node, &["cluster", "join"])?;
        }
        cluster::agree(c, &c.all(), 30)?;
        use_it(c)
    })?;
    ensure!(clear.iter().all(|n| *n > 0), "the capture of the clear cluster has {clear:?}");
    boot_again(c, &[1, 2, 3])?;

    for node in c.all() {
        prepare(c, node)?;
    }
    let lines = c.all().into_iter().map(|n| line(c, n)).collect::<Result<Vec<_>>>()?;
    same("its mode", c.sh(1, &format!("stat -c %a {KEY}"))?, "600")?;
    same("a second time", line(c, 1)?, lines[0].clone())?;
    let table = format!("[keys]\n{}\n", lines.join("\n"));
    let hidden = captured(c, "hidden.pcap", || {
        for node in c.all() {
            put(c, node, TABLE, &table)?;
            let early = c.exec(node, &["cluster", "join", "--wireguard", TABLE])?;
            ensure!(early.code == 1 && early.error_text().contains("cluster wireguard setup first"), "{early:?}");
            set_up(c, node)?;
            c.background(node, &["cluster", "join", "--wireguard", TABLE])?;
        }
        cluster::agree(c, &c.all(), 30)?;
        use_it(c)
    })?;
    same("magics in the capture", hidden, [0; 3])?;
    for node in 2..=3 {
        let (handshake, bytes, _) = seen(c, 1, node)?;
        ensure!(handshake.is_some_and(|s| s < 180) && bytes > 100_000, "{handshake:?} {bytes}");
    }
    // 1500 without the heads; once more is the same, and interrupts nobody.
    same("the MTU", c.sh(1, "cat /sys/class/net/ssi-wg0/mtu")?, "1440")?;
    let before = cluster::agree(c, &c.all(), 5)?;
    for node in c.all() {
        set_up(c, node)?;
    }
    use_it(c)?;
    same("the view", cluster::agree(c, &c.all(), 5)?, before)?;
    let out = c.exec(1, &["cluster", "wireguard", "remove"])?;
    ensure!(out.code == 1 && out.error_text().contains("cluster leave first"), "{out:?}");

    // A node dies, and somebody with a key of his own is there in its place.
    let disk = c.sh(3, &format!("cat {KEY}"))?;
    c.power(3, Power::Kill)?;
    let two = cluster::agree(c, &[1, 2], 20)?;
    boot_again(c, &[3])?;
    prepare(c, 3)?;
    let strange = line(c, 3)?;
    ensure!(strange != lines[2], "the same key");
    put(c, 3, TABLE, &table.replace(&lines[2], &strange))?;
    set_up(c, 3)?;
    let refused = (cluster::refused(c, 1)?, cluster::refused(c, 2)?);
    let bytes = seen(c, 1, 3)?.1;
    let out = c.exec(3, &["timeout", "6", "cluster", "join", "--wireguard", TABLE])?;
    ensure!(out.code != 0, "it joined: {out:?}");
    let (handshake, _, tried) = seen(c, 3, 1)?;
    ensure!(handshake.is_none() && tried > 0, "it did not even try: {tried}");
    same("refused meanwhile", (cluster::refused(c, 1)?, cluster::refused(c, 2)?), refused.clone())?;
    same("bytes from it", seen(c, 1, 3)?.1, bytes)?;
    // From outside a stream is closed before a word.
    let out = c.exec(3, &["sh", "-c", "sleep 3 | nc 10.73.1.1 7373 | wc -c"])?;
    same("bytes to a stranger", out.text(), "0".to_owned())?;
    let now = cluster::refused(c, 1)?;
    same("refused", now["admission"], refused.0["admission"] + 1)?;
    let log = c.sh(1, "dmesg | grep 'ssi_ics: refused from' | tail -n 1")?;
    ensure!(log.contains("from 10.73.1.3:") && log.contains("an address that no other node has"), "{log}");
    same("the view", cluster::agree(c, &[1, 2], 5)?, two)?;

    // With its own key it returns.
    put(c, 3, KEY, &format!("{disk}\n"))?;
    put(c, 3, TABLE, &table)?;
    set_up(c, 3)?;
    let out = c.exec(3, &["cluster", "join", "--wireguard", TABLE])?;
    ensure!(out.code == 0, "{out:?}");
    cluster::agree(c, &c.all(), 20)?;
    use_it(c)?;

    // And leaves.
    let out = c.exec(3, &["cluster", "leave"])?;
    ensure!(out.code == 0, "{out:?}");
    c.sh(3, "cluster wireguard remove && ! [ -e /sys/class/net/ssi-wg0 ]").map(drop)
}
