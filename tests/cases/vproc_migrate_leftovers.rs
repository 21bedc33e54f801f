// SPDX-License-Identifier: GPL-2.0

//! A process that has moved on leaves nothing behind: counted in the kernel's own caches of objects.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::up::Kernel;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "vproc_migrate_leaves_nothing",
        promise: "5 s after a process has moved on, the nodes it left have the tasks, memories, files and numbers of before",
        append: "slab_nomerge",
        debug: true,
        seconds: 180,
        run: leaves_nothing,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_home_leaves_nothing",
        promise: "a process that ends where it began, after a tour, leaves nothing on any node",
        append: "slab_nomerge",
        debug: true,
        seconds: 180,
        run: home_leaves_nothing,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_orphan_leaves_nothing",
        promise: "a process whose parent ended while both were back home leaves nothing on any node when it ends",
        append: "slab_nomerge",
        debug: true,
        seconds: 180,
        run: orphan_leaves_nothing,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_leaks_no_memory",
        promise: "movements, refusals, commands and signals on other nodes leave no memory that nothing points to",
        kernel: Kernel::Debug,
        append: "kmemleak=on",
        debug: true,
        seconds: 180,
        run: leaks_no_memory,
        ..Case::DEFAULT
    },
];

/// What is counted. Kernel threads, which come and go, have those up to [`OF_TASKS`]: these are counted without what
/// living tasks have.
const SLABS: [&str; 8] = [
    "task_struct",
    "pid",
    "signal_cache",
    "sighand_cache",
    "mm_struct",
    "files_cache",
    "fs_cache",
    "filp",
];

/// How many of [`SLABS`] every task has.
const OF_TASKS: usize = 4;

/// How often a node is looked at for what it has when nothing happens.
const LOOKS: u32 = 20;

/// Prints the number of tasks, of objects in each cache, and of tasks again. A cache that is shrunk gives back what it
/// keeps for the processors and has freed but not forgotten, so that what it counts is in use.
const COUNT: &str = "
read -r _ _ _ t _ </proc/loadavg; echo ${t#*/}
for c in $SLABS; do echo 1 >/sys/kernel/slab/$c/shrink; read -r n _ </sys/kernel/slab/$c/objects; echo $n; done
read -r _ _ _ t _ </proc/loadavg; echo ${t#*/}";

type Counts = [i64; SLABS.len()];

/// Counts on a node; nothing if a task came or went meanwhile.
fn count(cx: &Context, node: u32) -> Result<Option<Counts>> {
    let script = COUNT.replace("$SLABS", &SLABS.join(" "));
    let out = cx.sh(node, &script)?;
    let numbers = out.split_whitespace().map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let [tasks, counts @ .., tasks_after] = &numbers[..] else {
        anyhow::bail!("{out}");
    };
    let mut counts = Counts::try_from(counts).with_context(|| format!("not {} counts: {out}", SLABS.len()))?;
    for n in &mut counts[..OF_TASKS] {
        *n -= tasks;
    }
    Ok((tasks == tasks_after).then_some(counts))
}

/// The least that a node has of each when nothing happens: whatever is still being freed is not counted.
fn at_rest(cx: &Context, node: u32) -> Result<Counts> {
    let mut least = [i64::MAX; SLABS.len()];
    for _ in 0..LOOKS {
        for (l, n) in least.iter_mut().zip(count(cx, node)?.into_iter().flatten()) {
            *l = n.min(*l);
        }
    }
    ensure!(!least.contains(&i64::MAX), "node {node} is never at rest");
    Ok(least)
}

/// Waits until a node has no more of anything than before, but for `pids` numbers.
fn is_as_before(cx: &Context, node: u32, before: &Counts, pids: i64) -> Result<()> {
    let mut left = String::new();
    let found = cx.until(&format!("node {node} without leftovers"), 5, || {
        let Some(now) = count(cx, node)? else { return Ok(None) };
        left = SLABS
            .iter()
            .zip(now.iter().zip(before))
            .filter(|(name, (now, before))| **now > **before + if **name == "pid" { pids } else { 0 })
            .map(|(name, (now, before))| format!(" {name}: {before} before, {now} now;"))
            .collect();
        Ok(left.is_empty().then_some(()))
    });
    found.with_context(|| left.clone())
}

/// Runs a program that spins, without anything of node 1 in its hands.
const SPIN: &str = "/usr/lib/ssi-tests/regs -n 200000 </dev/null >/shared/regs 2>&1";

/// Starts it by a script; gives the pids of the script and of the program.
fn start_by(cx: &Context, script: &str) -> Result<(u32, u32)> {
    cx.sh(1, "rm -f /shared/regs")?;
    let script_pid = u32::try_from(cx.background(1, &["sh", "-c", script])?.pid)?;
    let pid = cx.until("spinning", 10, || {
        let said = cx.sh(1, "cat /shared/regs 2>/dev/null; true")?;
        let word = said.strip_prefix("spinning ").and_then(|l| l.split_whitespace().next());
        Ok(word.and_then(|w| w.parse().ok()))
    })?;
    Ok((script_pid, pid))
}

/// Starts it as a child of init.
fn start(cx: &Context) -> Result<u32> {
    let (script, pid) = start_by(cx, &format!("exec {SPIN}"))?;
    same("its number", pid, script)?;
    Ok(pid)
}

/// Moves it 2, 3, 1, 2, ... `moves` times.
fn travel(cx: &Context, pid: u32, moves: u32) -> Result<()> {
    for i in 0..moves {
        let node = (i + 1) % cx.nodes + 1;
        // Asked by each node in turn, the one it is on and the one it goes to included.
        cx.sh(i / 3 % cx.nodes + 1, &format!("migrate {node} {pid} && [ $(where_pid {pid}) = {node} ]"))?;
    }
    Ok(())
}

/// Ends it where it is, and looks at what it says.
fn finish(cx: &Context, pid: u32) -> Result<()> {
    cx.sh(2, &format!("kill -USR2 {pid}"))?;
    for node in 1..=cx.nodes {
        cluster::gone(cx, node, pid)?;
    }
    let said = cx.sh(1, "cat /shared/regs")?;
    same("its last word", said.lines().last(), Some("ok"))
}

/// What each node has at rest, after a tour that made what is made once.
fn all_at_rest(cx: &Context) -> Result<Vec<Counts>> {
    let pid = start(cx)?;
    travel(cx, pid, 5)?;
    finish(cx, pid)?;
    (1..=cx.nodes).map(|n| at_rest(cx, n)).collect()
}

fn leaves_nothing(cx: &Context) -> Result<()> {
    let before = all_at_rest(cx)?;
    let pid = start(cx)?;
    travel(cx, pid, 23)?;
    same("where it is", cx.sh(2, &format!("where_pid {pid}"))?, "3")?;
    // Its number stays taken where it began.
    is_as_before(cx, 1, &before[0], 1)?;
    is_as_before(cx, 2, &before[1], 0)?;
    finish(cx, pid)?;
    for (node, before) in (1..).zip(&before) {
        is_as_before(cx, node, before, 0)?;
    }
    Ok(())
}

fn home_leaves_nothing(cx: &Context) -> Result<()> {
    let before = all_at_rest(cx)?;
    // Several: one alone might hide in what comes and goes.
    for _ in 0..3 {
        let pid = start(cx)?;
        travel(cx, pid, 6)?;
        same("where it is", cx.sh(2, &format!("where_pid {pid}"))?, "1")?;
        finish(cx, pid)?;
    }
    for (node, before) in (1..).zip(&before) {
        is_as_before(cx, node, before, 0)?;
    }
    Ok(())
}

fn orphan_leaves_nothing(cx: &Context) -> Result<()> {
    let before = all_at_rest(cx)?;
    for _ in 0..3 {
        let (parent, pid) = start_by(cx, &format!("{SPIN} & wait"))?;
        travel(cx, pid, 6)?;
        cx.sh(2, &format!("kill -9 {parent}"))?;
        cx.until("a child of init", 10, || {
            let stat = cx.sh(1, &format!("cat /proc/{pid}/stat"))?;
            Ok((stat.split(' ').nth(3) == Some("1")).then_some(()))
        })?;
        finish(cx, pid)?;
    }
    for (node, before) in (1..).zip(&before) {
        is_as_before(cx, node, before, 0)?;
    }
    Ok(())
}

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

fn leaks_no_memory(cx: &Context) -> Result<()> {
    // What the boot and the join have left is not this case's.
    cx.sh_all(&format!("echo scan >{KMEMLEAK}; echo clear >{KMEMLEAK}"))?;
    let pid = start(cx)?;
    travel(cx, pid, 12)?;
    for node in 1..=cx.nodes {
        let to = node % cx.nodes + 1;
        // What is refused at its source, and what at its destination.
        cx.sh(
            node,
            &format!(
                "exec 3</etc/group; ! migrate {to} 1; ! migrate 1000 {pid}; cat /proc/{pid}/status >/dev/null\n\
                 /usr/lib/ssi-tests/fdzoo epoll >/dev/null & ! migrate {to} $!; kill $!\n\
                 onnode {to} sh -c 'exit 3'; echo x | onnode {to} cat; onnode {to} /no/such; kill -WINCH {pid}; true"
            ),
        )?;
    }
    finish(cx, pid)?;
    // It does not look at what is younger than five seconds, and believes only what it has seen twice.
    let found = cx.sh_all(&format!("sleep 6; echo scan >{KMEMLEAK}; echo scan >{KMEMLEAK}; cat {KMEMLEAK}"))?;
    for (node, text) in (1..).zip(found) {
        ensure!(text.is_empty(), "node {node}: {text}");
    }
    Ok(())
}
