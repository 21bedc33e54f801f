// SPDX-License-Identifier: GPL-2.0

//! Nodes that come and go leave nothing with those that stay: counted in the kernel's own caches of objects.

use std::collections::BTreeMap;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::clms_memory::threads;
use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "clms_leaves_nothing",
    promise: "in twelve rounds of leaves, joins, calls, records and listeners, two of which are deaths, no cache of objects, nor sockets or threads, \
              grow by one in two rounds with the nodes that stay",
    faults: "node 3 leaves and joins, and dies",
    append: "slab_nomerge",
    fresh: true,
    seconds: 400,
    long: true,
    run: leaves_nothing,
    ..Case::DEFAULT
}];

/// Objects in use of each cache that ours are in. One that is shrunk gives back what it keeps for the processors and has freed but not
/// forgotten.
const COUNT: &str = "
for c in /sys/kernel/slab/kmalloc-* /sys/kernel/slab/TCP /sys/kernel/slab/UDP /sys/kernel/slab/sock_inode_cache; do
    echo 1 >$c/shrink; read -r n _ <$c/objects; echo ${c##*/} $n
done
awk '/^VmallocUsed/ { print \"vmalloc-16K\", int($2 / 16) }' /proc/meminfo";

/// Lists /proc forty times at once, by programs that stop while they do: a node remembers 32 listings, of readers that it tells
/// apart by their open files, and looking at threads makes some.
const LIST: &str = r#"
mkfifo /tmp/listings
exec 3<>/tmp/listings
for n in $(seq 40); do
    find /proc -maxdepth 1 -name 1 -exec sh -c 'kill -STOP $PPID; echo' \; >&3 &
done
for n in $(seq 40); do read -r _ <&3; done
kill -KILL $(jobs -p); wait; rm /tmp/listings"#;

/// How often a node is looked at for what it has when nothing happens: some have 60 objects more, which wait for RCU, three times of four.
const LOOKS: u32 = 20;

/// Rounds that are counted. Before them as many are not, in which what is kept on purpose fills up.
const ROUNDS: i64 = 12;

/// The least that a node has of each when nothing happens.
fn at_rest(c: &Context, node: u32) -> Result<BTreeMap<String, i64>> {
    let mut least = BTreeMap::new();
    for _ in 0..LOOKS {
        for line in c.sh(node, COUNT)?.lines() {
            let (name, n) = line.split_once(' ').with_context(|| line.to_owned())?;
            let n = n.parse()?;
            let known: &mut i64 = least.entry(name.to_owned()).or_insert(n);
            *known = n.min(*known);
        }
    }
    for (name, _) in threads(c, node)? {
        *least.entry(format!("thread {name}")).or_default() += 1;
    }
    Ok(least)
}

/// What a round does with node 3.
fn round(c: &Context, n: i64) -> Result<()> {
    if n % 6 == 5 {
        let boots = c.boots(3)?;
        c.power(3, Power::Reset)?;
        c.wait(3, Event::Join, boots)?;
        cluster::agree(c, &[1, 2, 3], 20)?;
        return Ok(());
    }
    c.sh(3, "cluster leave && cluster join")?;
    cluster::agree(c, &[1, 2, 3], 10)?;
    let said = c.sh(1, "echo 3 3 20 1000 2 0 >/sys/kernel/debug/ssi/ics_echo && cat /sys/kernel/debug/ssi/ics_echo")?;
    ensure!(said.starts_with("calls 40 errors 0 "), "{said}");
    for node in 1..=3 {
        c.sh(node, &format!("echo set leftovers {n}{node} >/sys/kernel/debug/ssi/registry"))?;
        c.sh(node, "timeout 1 cluster events --follow >/dev/null & cluster status >/dev/null; cluster node show 2 >/dev/null; wait; true")?;
    }
    Ok(())
}

fn leaves_nothing(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    for n in 0..ROUNDS {
        round(c, n)?;
    }
    for node in 1..=2 {
        c.sh(node, LIST)?;
    }
    let before = [at_rest(c, 1)?, at_rest(c, 2)?];
    for n in 0..ROUNDS {
        round(c, n)?;
    }
    for (node, before) in (1..).zip(&before) {
        let mut more = Vec::new();
        let found = c.until("nothing is left", 60, || {
            let now = at_rest(c, node)?;
            let grown = now.iter().map(|(name, n)| (name, n - before.get(name).unwrap_or(&0)));
            // One in each round is a leak; some come and go with whatever else the machine does.
            more = grown
                .filter(|(name, n)| *n >= if name.starts_with("thread") { 1 } else { ROUNDS / 2 })
                .map(|(name, n)| format!("{name}: {n} more"))
                .collect();
            println!("# node {node}: {}", if more.is_empty() { "nothing".to_owned() } else { more.join(", ") });
            Ok(more.is_empty().then_some(()))
        });
        found.with_context(|| format!("node {node}: {more:?}"))?;
    }
    let now = cluster::agree(c, &[1, 2, 3], 10)?;
    same("members", now.members(), [1, 2, 3])?;
    ensure!(now.quorate, "{now:?}");
    Ok(())
}
