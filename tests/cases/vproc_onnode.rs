// SPDX-License-Identifier: GPL-2.0

//! `onnode` and `rexec`: programs on other nodes with the caller's streams, parent and status.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use rig::images::Root;

use crate::cluster;
use crate::cluster::python;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "onnode_streams_and_status",
        promise: "a command on another node has its caller's streams and ends with its own status or signal",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: streams,
        ..Case::DEFAULT
    },
    Case {
        name: "onnode_inherits",
        promise: "a command on another node keeps pid, parent, group, session, directory, mask, environment, user and nice",
        root: Root::Debian,
        debug: true,
        run: inherits,
        ..Case::DEFAULT
    },
    Case {
        name: "onnode_sigchld_and_wait",
        promise: "the parent of a command on another node gets SIGCHLD with pid and status, and can wait for it",
        root: Root::Debian,
        debug: true,
        run: sigchld,
        ..Case::DEFAULT
    },
    Case {
        name: "onnode_bulk",
        promise: "megabytes go through a pipe to a command on another node and back unchanged",
        root: Root::Debian,
        debug: true,
        run: bulk,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_ps_sees_onnode_child",
        promise: "a process that onnode started is in ps and /proc of every node, its origin included",
        root: Root::Debian,
        debug: true,
        run: ps_of_child,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_parent_killed_orphans_child",
        promise: "the child on another node of a parent that is killed becomes a child of init",
        root: Root::Debian,
        run: orphan,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_bad_targets",
        promise: "onnode and migrate refuse each bad target with its errno",
        root: Root::Debian,
        debug: true,
        run: bad_targets,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_down_node_is_a_bad_target",
        promise: "onnode and migrate to a node that is down fail with EHOSTDOWN",
        root: Root::Debian,
        faults: "power cut of node 3",
        debug: true,
        seconds: 90,
        run: down_target,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_node_killed_ends_child",
        promise: "the parent of a process whose node dies learns that it was killed by signal 9",
        root: Root::Debian,
        faults: "power cut of node 3",
        debug: true,
        seconds: 90,
        run: node_killed,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_parents_node_killed_orphans_child",
        promise: "a child whose parent's node dies becomes a child of init and can still be found and killed",
        root: Root::Debian,
        faults: "power cut of node 3",
        seconds: 90,
        run: parents_node_killed,
        ..Case::DEFAULT
    },
];

fn streams(c: &Context) -> Result<()> {
    let mut wrong = Vec::new();
    for (script, code, stdout, stderr) in [
        ("onnode 2 hostname | cat", 0, "node2", ""),
        ("onnode node3 hostname", 0, "node3", ""),
        ("echo x | onnode 2 cat", 0, "x", ""),
        ("onnode 2 sh -c 'exit 3'", 3, "", ""),
        ("onnode 2 sh -c 'kill -9 $$'; echo $?", 0, "137", "Killed"),
        ("onnode 2 sh -c 'kill -TERM $$'; echo $?", 0, "143", "Terminated"),
        ("onnode 2 sh -c 'echo out; echo wrong >&2'", 0, "out", "wrong"),
        ("onnode 2 cat </dev/null", 0, "", ""),
        ("printf abc | onnode 2 wc -c", 0, "3", ""),
        ("onnode 2 sh -c 'read a; read b; echo $b$a' <<-E\none\ntwo\nE", 0, "twoone", ""),
        ("onnode 2 onnode 3 hostname", 0, "node3", ""),
        ("onnode 2 onnode 1 hostname", 0, "node1", ""),
        ("onnode 2 onnode 3 onnode 2 sh -c 'hostname; exit 5'", 5, "node2", ""),
        ("{ onnode 2 yes; echo $? >&2; } | head -n 1", 0, "y", "141"),
        ("onnode 2 sh -c 'onnode 3 false; echo $?'", 0, "1", ""),
        ("onnode 2 sh -c 'echo a | onnode 3 cat | cat'", 0, "a", ""),
        ("onnode 2 echo a b ''  'c  d'", 0, "a b  c  d", ""),
        ("for i in 1 2 3; do onnode $i hostname & wait $!; done", 0, "node1\nnode2\nnode3", ""),
        ("onall hostname", 0, "node1\nnode2\nnode3", ""),
    ] {
        let out = c.exec(1, &["sh", "-c", script])?;
        if (out.code, &out.text()[..], &out.error_text()[..]) != (code, stdout, stderr) {
            wrong.push(format!("{script}: {} {:?} {:?}", out.code, out.text(), out.error_text()));
        }
    }
    for (argv, code) in [
        (&["onnode", "2", "/no/such/program"][..], 127),
        (&["onnode", "2", "no-such-program"], 127),
        (&["onnode", "2", "/etc/passwd"], 126),
        (&["onnode", "2"], 2),
    ] {
        let out = c.exec(1, argv)?;
        if out.code != code || out.error_text().is_empty() || !out.stdout.is_empty() {
            wrong.push(format!("{argv:?}: {out:?}"));
        }
    }
    let out = c.exec_with(3, &["onnode", "1", "cat"], b"in\0put\n")?;
    if (out.code, &out.stdout[..]) != (0, b"in\0put\n") {
        wrong.push(format!("standard input of the rig's own pipe: {out:?}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn inherits(c: &Context) -> Result<()> {
    // Fields 4 to 6, 19 of stat: parent, group, session, nice.
    let show = "hostname >&2; pwd; umask; echo $COLOUR $0 $$ $PPID; id -u -n; id -G; \
        cut -d ' ' -f 4-6,19 /proc/$$/stat; ulimit -n; grep -E 'Sig(Blk|Ign)' /proc/$$/status";
    let script = "cd /usr/share; umask 027; ulimit -n 77; COLOUR=blue; export COLOUR; trap '' HUP; \
        exec nice -n 5 $1 sh -c \"$2\" name";
    let run = |user, how| c.exec_as(user, 1, &["sh", "-c", script, "sh", how, show]);
    for user in ["root", "user"] {
        // Only the numbers of pid, group and session are its own: each is made the same word.
        let own = |how| -> Result<(String, String)> {
            let out = run(user, how)?;
            ensure!(out.code == 0, "{how}: {out:?}");
            let text = out.text();
            let pid = text.lines().nth(2).and_then(|l| l.split(' ').nth(2)).unwrap_or_default().to_owned();
            ensure!(pid.parse::<u32>().is_ok_and(|p| p >> 20 == 1), "{how}: no pid of node 1: {text}");
            Ok((text.replace(&pid, "PID"), out.error_text()))
        };
        let (local, host) = own("env")?;
        same("where", host, "node1")?;
        let (remote, host) = own("onnode 2")?;
        same("where", host, "node2")?;
        same(format!("as {user}"), remote, local)?;
    }
    let ppid = c.sh(1, "echo $$; onnode 2 sh -c 'echo $PPID'; true")?;
    let (parent, seen) = ppid.split_once('\n').unwrap_or_default();
    same("getppid", seen, parent)
}

fn sigchld(c: &Context) -> Result<()> {
    let program = "
def become(*argv):
    if sys.argv[1] != 'here':
        argv = ('onnode', sys.argv[1]) + argv
    os.execvp(argv[0], argv)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
for script in ('exit 6', 'kill -15 $$'):
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        become('sh', '-c', script)
    i = signal.sigwaitinfo({signal.SIGCHLD})
    print('chld', i.si_pid == pid, i.si_code, i.si_status)
    r = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    print('waitid', r.si_pid == pid, r.si_code, r.si_status)
    print('wait', os.wait4(-1, 0)[:2] == (pid, 6 << 8 if script == 'exit 6' else 15))
    try_call('again', os.waitpid, pid, 0)
pid = os.fork()
if pid == 0:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    become('sleep', '1000')
print('nohang', os.waitpid(pid, os.WNOHANG))
os.kill(pid, 19)
print('stopped', os.waitpid(pid, os.WUNTRACED) == (pid, 0x137f))
os.kill(pid, 18)
print('continued', os.waitpid(pid, os.WCONTINUED) == (pid, 0xffff))
os.kill(pid, 9)
print('killed', os.waitpid(pid, 0) == (pid, 9))
try_call('none left', os.wait)
";
    let local = python(c, "root", 1, program, &["here"])?;
    ensure!(
        local.starts_with("chld True 1 6\nwaitid True 1 6\nwait True\nagain ECHILD\nchld True 2 15\n")
            && local.ends_with("killed True\nnone left ECHILD"),
        "on its own node: {local}"
    );
    for node in ["2", "3"] {
        same(format!("on node {node}"), python(c, "root", 1, program, &[node])?, &local[..])?;
    }
    Ok(())
}

fn bulk(c: &Context) -> Result<()> {
    let make = "head -c 3000000 /dev/zero | tr '\\0' 'x' | sed 's/xxxxxxx/&\\n/g' | nl";
    let local = c.sh(1, &format!("{make} | md5sum"))?;
    same("there and back", c.sh(1, &format!("{make} | onnode 2 cat | md5sum"))?, &local[..])?;
    same("made there", c.sh(1, &format!("onnode 3 sh -c \"{make}\" | md5sum"))?, &local[..])
}

/// Starts, on `node`, a shell whose child runs `sleep` on `to`; gives the pids of both and where the shell writes.
fn family(c: &Context, node: u32, to: u32, tag: u32) -> Result<(u32, u32, String)> {
    let script = format!("onnode {to} sleep {tag}; echo status $?");
    let shell = c.background(node, &["sh", "-c", &script])?;
    let parent = u32::try_from(shell.pid)?;
    let child = c.until("the child", 10, || {
        let list = c.sh(to, &format!("pgrep -f '^sleep {tag}$' || true"))?;
        Ok(list.parse::<u32>().ok())
    })?;
    same("where the child is", c.sh(node, &format!("where_pid {child}"))?, to.to_string())?;
    same("its parent", parent_of(c, to, child)?, parent)?;
    Ok((parent, child, format!("{}.out", shell.log.unwrap_or_default())))
}

fn parent_of(c: &Context, node: u32, pid: u32) -> Result<u32> {
    Ok(c.sh(node, &format!("cut -d ' ' -f 4 /proc/{pid}/stat"))?.parse()?)
}

/// Waits until a process is a child of init, and then ends it from another node.
fn is_orphan(c: &Context, node: u32, child: u32, from: u32) -> Result<()> {
    c.until("the orphan's new parent", 10, || {
        Ok((parent_of(c, node, child)? == 1).then_some(()))
    })?;
    same("for others", parent_of(c, from, child)?, 1)?;
    c.sh(from, &format!("kill {child}"))?;
    cluster::gone(c, node, child)?;
    cluster::gone(c, from, child)
}

fn ps_of_child(c: &Context) -> Result<()> {
    let (parent, child, _) = family(c, 1, 2, 880)?;
    for node in 1..=c.nodes {
        let list = c.sh(node, "ps -e -o pid=,ppid=,args=")?;
        let rows = list.lines().filter(|l| l.trim_end().ends_with(" sleep 880"));
        let rows: Vec<String> = rows.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        same(format!("ps on node {node}"), rows, [format!("{child} {parent} sleep 880")])?;
    }
    c.sh(3, &format!("kill {child}"))?;
    for node in 1..=c.nodes {
        cluster::gone(c, node, child)?;
    }
    Ok(())
}

fn orphan(c: &Context) -> Result<()> {
    let (parent, child, _) = family(c, 1, 2, 881)?;
    c.sh(3, &format!("kill -9 {parent}"))?;
    cluster::gone(c, 1, parent)?;
    is_orphan(c, 2, child, 1)
}

fn node_killed(c: &Context) -> Result<()> {
    let (parent, child, log) = family(c, 1, 3, 882)?;
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    let said = c.until("the parent's status", 10, || {
        let text = c.sh(1, &format!("cat {log}"))?;
        Ok((!text.is_empty()).then_some(text))
    })?;
    ensure!(said.lines().last() == Some("status 137"), "the parent says {said:?}");
    cluster::gone(c, 1, parent)?;
    for node in 1..=2 {
        cluster::gone(c, node, child)?;
        same("where_pid", c.exec(node, &["where_pid", &child.to_string()])?.code, 1)?;
    }
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)
}

fn parents_node_killed(c: &Context) -> Result<()> {
    let (parent, child, _) = family(c, 3, 2, 883)?;
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    c.until("node 3 DOWN", 10, || {
        Ok((cluster::status(c, 2)?.node(3)?.state == "DOWN").then_some(()))
    })?;
    same("where_pid", c.sh(1, &format!("where_pid {child}"))?, "2")?;
    cluster::gone(c, 1, parent)?;
    is_orphan(c, 2, child, 1)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)
}

/// Checks what `onnode TARGET true` and `migrate TARGET PID` say.
fn refused(c: &Context, argv: &[&str], code: i32, what: &str) -> Result<Option<String>> {
    let out = c.exec(1, argv)?;
    let text = out.error_text();
    let is_good = out.code == code && text.contains(what) && text.lines().count() == 1 && out.stdout.is_empty();
    Ok((!is_good).then(|| format!("{argv:?}: exit {} {text:?}, want {code} with {what}", out.code)))
}

fn bad_targets(c: &Context) -> Result<()> {
    let mut wrong = Vec::new();
    for (node, what) in [
        ("0", "EINVAL"),
        ("1023", "EINVAL"),
        ("2147483647", "EINVAL"),
        ("4", "EHOSTDOWN"),
        ("1022", "EHOSTDOWN"),
        ("x", "no such node"),
        ("", "no such node"),
    ] {
        wrong.extend(refused(c, &["onnode", node, "true"], 125, what)?);
    }
    // The own node is no bad target for a command: it runs here.
    same("onnode to the own node", c.sh(1, "onnode 1 hostname")?, "node1")?;

    for owner in 1..=2 {
        let pid = cluster::sleeper(c, "root", owner, &["sleep", "1000"])?;
        let word = pid.to_string();
        for (node, what) in [
            ("0", "EINVAL"),
            ("1023", "EINVAL"),
            ("2147483647", "EINVAL"),
            ("4", "EHOSTDOWN"),
            ("1022", "EHOSTDOWN"),
            ("x", "no such node"),
            (if owner == 1 { "1" } else { "2" }, "EINVAL"),
        ] {
            wrong.extend(refused(c, &["migrate", node, &word], 1, what)?);
        }
        same("it is where it was", c.sh(3, &format!("where_pid {pid}"))?, owner.to_string())?;
        cluster::end(c, &[pid])?;
        wrong.extend(refused(c, &["migrate", "3", &word], 1, "ESRCH")?);
    }
    // kthreadd, on this node and by its alias on another one.
    for pid in [2, 2 << 20 | 2] {
        wrong.extend(refused(c, &["migrate", "3", &pid.to_string()], 1, "EPERM")?);
    }
    wrong.extend(refused(c, &["migrate", "3", "1"], 1, "EPERM")?);
    for argv in [&["migrate"][..], &["migrate", "2"], &["migrate", "2", "x"]] {
        same(format!("{argv:?}"), c.exec(1, argv)?.code, 2)?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn down_target(c: &Context) -> Result<()> {
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2], 10)?;
    let mut wrong = Vec::new();
    wrong.extend(refused(c, &["onnode", "3", "true"], 125, "EHOSTDOWN")?);
    for owner in 1..=2 {
        let pid = cluster::sleeper(c, "root", owner, &["sleep", "1000"])?;
        wrong.extend(refused(c, &["migrate", "3", &pid.to_string()], 1, "EHOSTDOWN")?);
        cluster::end(c, &[pid])?;
    }
    // A process that would be of the node that is down.
    wrong.extend(refused(c, &["migrate", "2", &(3 << 20 | 40000).to_string()], 1, "ESRCH")?);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)
}
