// SPDX-License-Identifier: GPL-2.0

//! One process space: every process is seen, found and signalled from every node, as far as permissions go.

use anyhow::Result;
use anyhow::ensure;
use rig::images::Root;

use crate::cluster;
use crate::cluster::python;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "vproc_ps_sees_all",
        promise: "ps on every node shows the processes of all nodes, each once, with one pid",
        root: Root::Debian,
        debug: true,
        run: ps,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_where_pid",
        promise: "where_pid prints the node of a process on every node, and exits 1 if there is none",
        root: Root::Debian,
        debug: true,
        run: where_pid,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_from_any_node",
        promise: "signals to a process or thread of another node do what they do locally",
        root: Root::Debian,
        debug: true,
        run: kill,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_group_from_any_node",
        promise: "a signal to a process group reaches its members on other nodes",
        root: Root::Debian,
        run: kill_group,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_all_from_any_node",
        promise: "kill(-1) reaches what the sender may signal on every node, but neither itself nor any node's init",
        root: Root::Debian,
        debug: true,
        run: kill_all,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_bad_signal",
        promise: "a number that is no signal is EINVAL also for a process of another node",
        root: Root::Debian,
        debug: true,
        run: bad_signal,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_tells_the_sender",
        promise: "the receiver of a signal from another node learns pid, user and code of the sender",
        root: Root::Debian,
        debug: true,
        run: sender,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_kill_errors_as_local",
        promise: "an ordinary user can neither signal, renice, schedule, limit nor move a stranger's process on another node",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: errors,
        ..Case::DEFAULT
    },
];

fn ps(c: &Context) -> Result<()> {
    let mut pids = Vec::new();
    for node in 1..=c.nodes {
        pids.push(cluster::sleeper(c, "root", node, &["sleep", &format!("77{node}")])?);
    }
    for node in 1..=c.nodes {
        let list = c.sh(node, "ps -e -o pid=,args=")?;
        for (owner, pid) in (1..=c.nodes).zip(&pids) {
            let rows: Vec<_> = list
                .lines()
                .filter(|l| l.trim_end().ends_with(&format!(" sleep 77{owner}")))
                .map(|l| l.split_whitespace().next().unwrap_or_default().to_owned())
                .collect();
            same(format!("ps on node {node}: sleep 77{owner}"), rows, [pid.to_string()])?;
        }
    }
    cluster::end(c, &pids)?;
    for node in 1..=c.nodes {
        let list = c.sh(node, "ps -e -o args=")?;
        ensure!(!list.contains("sleep 77"), "ps on node {node} after the end: {list}");
    }
    Ok(())
}

fn where_pid(c: &Context) -> Result<()> {
    for owner in 1..=c.nodes {
        let pid = cluster::sleeper(c, "root", owner, &["sleep", "1000"])?;
        for node in 1..=c.nodes {
            same(
                format!("from node {node}"),
                c.sh(node, &format!("where_pid {pid}"))?,
                owner.to_string(),
            )?;
        }
        cluster::end(c, &[pid])?;
        for node in 1..=c.nodes {
            let out = c.exec(node, &["where_pid", &pid.to_string()])?;
            same("after the end", (out.code, out.text()), (1, String::new()))?;
            ensure!(out.error_text().contains("ESRCH"), "{out:?}");
        }
    }
    same("no number", c.exec(1, &["where_pid", "x"])?.code, 2)
}

fn kill(c: &Context) -> Result<()> {
    for target in 1..=c.nodes {
        for from in (1..=c.nodes).filter(|n| *n != target) {
            let pid = cluster::sleeper(c, "root", target, &["sleep", "1000"])?;
            let state = |want: &str| {
                c.until(&format!("state {want}"), 5, || {
                    let stat = c.sh(from, &format!("cat /proc/{pid}/stat"))?;
                    Ok(stat.split(' ').nth(2).is_some_and(|s| s == want).then_some(()))
                })
            };
            c.sh(from, &format!("kill -0 {pid}"))?;
            c.sh(from, &format!("kill -STOP {pid}"))?;
            state("T")?;
            c.sh(from, &format!("kill -CONT {pid}"))?;
            state("S")?;
            c.sh(from, &format!("kill {pid}"))?;
            for node in 1..=c.nodes {
                cluster::gone(c, node, pid)?;
            }
            let out = c.exec(from, &["/bin/kill", "-0", &pid.to_string()])?;
            ensure!(out.code == 1 && out.error_text().contains("No such process"), "{out:?}");
        }
    }
    // One thread.
    let pid = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    python(c, "root", 1, "p = int(sys.argv[1]); syscall(234, p, p, 15)", &[&pid.to_string()])?;
    cluster::gone(c, 2, pid)
}

fn kill_group(c: &Context) -> Result<()> {
    // One group with members on nodes 3 and 2; the second form has none on the sender's node.
    for (sender, victims) in [(3, 2), (1, 2)] {
        let group = c.background(3, &["sh", "-c", "sleep 1001 & onnode 2 sleep 1002 & wait"])?;
        let count = || -> Result<usize> {
            let rows = c.sh(1, &format!("ps -e -o pgid=,args= | grep '^ *{} .*sleep 100[12]$' || true", group.pid))?;
            Ok(rows.lines().filter(|l| !l.contains("sh -c") && !l.contains("onnode")).count())
        };
        c.until("the group", 10, || Ok((count()? == victims).then_some(())))?;
        // A stranger may not, and learns so as locally.
        let out = c.exec_as("user", sender, &["/bin/kill", "-KILL", "--", &format!("-{}", group.pid)])?;
        ensure!(out.code == 1 && out.error_text().contains("not permitted"), "a stranger: {out:?}");
        same("after that", count()?, victims)?;
        c.sh(sender, &format!("/bin/kill -KILL -- -{}", group.pid))?;
        c.until("the end of the group", 10, || Ok((count()? == 0).then_some(())))?;
    }
    let out = c.exec(1, &["/bin/kill", "-KILL", "--", "-3145727"])?;
    ensure!(out.code == 1 && out.error_text().contains("No such process"), "no group: {out:?}");
    Ok(())
}

fn kill_all(c: &Context) -> Result<()> {
    let program = "os.kill(-1, signal.SIGTERM); print('alive')";
    for from in 1..=c.nodes {
        let sleepers = |user| -> Result<Vec<u32>> {
            (1..=c.nodes)
                .map(|n| cluster::sleeper(c, user, n, &["sleep", "1000"]))
                .collect()
        };
        let (own, others) = (sleepers("user")?, sleepers("other")?);
        // One whose parent is on another node.
        let away = c.client.background(from, rig::spawn::command_as("user", &["onnode", "2", "sleep", "1003"]))?;
        let children = |want: &str| {
            c.until(&format!("{want} children on node 2"), 10, || {
                Ok((c.sh(2, "pgrep -c -x -f 'sleep 1003' || true")? == want).then_some(()))
            })
        };
        children("1")?;
        same("user's own", python(c, "user", from, program, &[])?, "alive")?;
        for node in 1..=c.nodes {
            for pid in own.iter().chain([&u32::try_from(away.pid)?]) {
                cluster::gone(c, node, *pid)?;
            }
        }
        children("0")?;
        for pid in &others {
            c.sh(from, &format!("kill -0 {pid}"))?;
        }
        // An administrator's reaches them all.
        same("root's own", python(c, "root", from, program, &[])?, "alive")?;
        for node in 1..=c.nodes {
            for pid in &others {
                cluster::gone(c, node, *pid)?;
            }
        }
    }
    cluster::agree(c, &[1, 2, 3], 10).map(|_| ())
}

fn bad_signal(c: &Context) -> Result<()> {
    let pid = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    let program = "try_call('kill', os.kill, int(sys.argv[1]), 99)";
    for node in [2, 1, 3] {
        same(format!("from node {node}"), python(c, "root", node, program, &[&pid.to_string()])?, "kill EINVAL")?;
    }
    cluster::end(c, &[pid])
}

fn sender(c: &Context) -> Result<()> {
    let waiter = "
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print('ready', flush=True)
i = signal.sigwaitinfo({signal.SIGUSR1})
print(i.si_pid, i.si_uid, i.si_code, flush=True)";
    let text = format!("{}{waiter}", cluster::PYTHON);
    let receiver = c.client.background(2, rig::spawn::command_as("user", &["python3", "-c", &text]))?;
    let log = format!("{}.out", receiver.log.clone().unwrap_or_default());
    c.until("the receiver", 20, || {
        Ok((c.sh(2, &format!("cat {log}"))? == "ready").then_some(()))
    })?;
    let pid = receiver.pid.to_string();
    let sender = python(c, "user", 3, "os.kill(int(sys.argv[1]), signal.SIGUSR1); print(os.getpid())", &[&pid])?;
    let said = c.until("the receiver's answer", 10, || {
        Ok(c.sh(2, &format!("cat {log}"))?.lines().nth(1).map(str::to_owned))
    })?;
    same("sender, user, code", said, format!("{sender} 1000 0"))
}

/// Everything that a stranger may not do, on the process `argv[1]`; the move is to node `argv[2]`.
const STRANGER: &str = "
p, to = int(sys.argv[1]), int(sys.argv[2])
for sig in (0, 9, 15):
    try_call('kill %d' % sig, os.kill, p, sig)
try_call('tgkill', syscall, 234, p, p, 15)
try_call('setpriority', os.setpriority, os.PRIO_PROCESS, p, 5)
try_call('sched_setscheduler', os.sched_setscheduler, p, os.SCHED_BATCH, os.sched_param(0))
try_call('sched_setparam', os.sched_setparam, p, os.sched_param(0))
try_call('sched_setaffinity', os.sched_setaffinity, p, {0})
try_call('prlimit', resource.prlimit, p, resource.RLIMIT_NOFILE, (100, 200))
try_call('environ', open, '/proc/%d/environ' % p)
try_call('exe', os.readlink, '/proc/%d/exe' % p)
try_call('fd', os.listdir, '/proc/%d/fd' % p)
try_call('migrate', syscall, 550, p, to, 0)
try_call('goto', lambda: os.write(os.open('/proc/%d/goto' % p, os.O_WRONLY), str(to).encode()))
try_call('getpgid', os.getpgid, p)
";

fn errors(c: &Context) -> Result<()> {
    for owner in ["root", "other"] {
        let pid = cluster::sleeper(c, owner, 2, &["sleep", "1000"])?;
        let word = pid.to_string();
        let stat = |node| c.sh(node, &format!("cut -d ' ' -f 3-8,18-19 /proc/{word}/stat; cat /proc/{word}/limits"));
        let before = stat(2)?;
        let local = python(c, "user", 2, STRANGER, &[&word, "3"])?;
        for node in [1, 3] {
            let to = if node == 3 { "1" } else { "3" };
            let remote = python(c, "user", node, STRANGER, &[&word, to])?;
            same(format!("{owner}'s process from node {node}"), &remote, &local)?;
        }
        for line in local.lines() {
            let want = match line.split_once(' ').map_or("", |(name, _)| name) {
                "environ" | "exe" | "fd" | "goto" => "EACCES",
                "getpgid" => "ok",
                _ => "EPERM",
            };
            ensure!(line.ends_with(want) || (want == "EACCES" && line.ends_with("EPERM")), "{line}");
        }
        for argv in [&["kill", &word][..], &["renice", "-n", "5", "-p", &word], &["migrate", "3", &word]] {
            let out = c.exec_as("user", 1, argv)?;
            ensure!(
                out.code != 0 && (out.error_text().contains("EPERM") || out.error_text().contains("not permitted")),
                "{argv:?}: {out:?}"
            );
        }
        same("the process afterwards", stat(2)?, before)?;
        cluster::end(c, &[pid])?;
        let after = python(c, "user", 1, STRANGER, &[&word, "3"])?;
        for line in after.lines() {
            let want = match line.split_once(' ').map_or("", |(name, _)| name) {
                "environ" | "exe" | "fd" | "goto" => "ENOENT",
                _ => "ESRCH",
            };
            ensure!(line.ends_with(want), "there is none: {line}");
        }
    }
    // One's own, on another node.
    let pid = cluster::sleeper(c, "user", 2, &["sleep", "1000"])?;
    let out = c.exec_as("user", 3, &["renice", "-n", "3", "-p", &pid.to_string()])?;
    ensure!(out.code == 0, "one's own: {out:?}");
    let out = c.exec_as("user", 3, &["kill", &pid.to_string()])?;
    ensure!(out.code == 0, "one's own: {out:?}");
    cluster::gone(c, 2, pid)
}
