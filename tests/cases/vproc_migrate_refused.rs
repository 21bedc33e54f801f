// SPDX-License-Identifier: GPL-2.0

//! Movements that are refused: by name, with nothing changed, and the process goes on where it is.

use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use rig::images::Root;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "vproc_migrate_refuses_other_content",
        promise: "a process whose file has other content under its name at the destination is refused and goes on",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: other_content,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_refuses_leaving_node",
        promise: "nothing moves to or from a node that is about to leave, and all does once it stays",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: leaving_node,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_after_restart",
        promise: "movements that a node gave up before it restarted do not stand in the way of those of its next life",
        faults: "reset of one node",
        fresh: true,
        seconds: 90,
        run: after_restart,
        ..Case::DEFAULT
    },
];

/// A file that differs between nodes 1 and 2, and what is said of a process of node 1 that uses it.
struct Differing {
    what: &'static str,
    /// Makes it, on node 1 and on node 2.
    make: [&'static str; 2],
    /// Undoes that on node 2.
    undo: &'static str,
    /// What the process does first.
    first: &'static str,
    /// Which program it then is, as its own `sh`.
    shell: &'static str,
    cause: &'static str,
}

const DIFFERING: &[Differing] = &[
    Differing {
        what: "a file of each node's own",
        make: ["echo of node 1 >/tmp/same", "echo of node 2 >/tmp/same"],
        undo: "true",
        first: "exec 3</tmp/same",
        shell: "/bin/sh",
        cause: "ESTALE fd 3 /tmp/same",
    },
    Differing {
        what: "a file of a common disk, with another one mounted over it",
        make: ["true", "mount --bind /etc/hostname /etc/profile"],
        undo: "umount /etc/profile",
        first: "exec 3</etc/profile",
        shell: "/bin/sh",
        cause: "ESTALE fd 3 /etc/profile",
    },
    Differing {
        what: "a working directory of each node's own",
        make: ["mkdir -p /tmp/here", "mkdir -p /tmp/here"],
        undo: "true",
        first: "cd /tmp/here",
        shell: "/bin/sh",
        cause: "ESTALE cwd /tmp/here",
    },
    Differing {
        what: "a program of each node's own",
        make: ["cp /bin/sh /tmp/program", "cp /bin/true /tmp/program"],
        undo: "true",
        first: ":",
        shell: "/tmp/program",
        cause: "ESTALE program /tmp/program: file of this node alone",
    },
    Differing {
        what: "a program of a common disk, with another one mounted over it",
        make: ["true", "mount --bind /bin/true /bin/bash"],
        undo: "umount /bin/bash",
        first: ":",
        shell: "/bin/bash",
        cause: "ESTALE program /usr/bin/bash: another file here",
    },
    Differing {
        what: "a library of a common disk, with another one mounted over it",
        make: ["true", "mount --bind /bin/true $(readlink -f /lib/x86_64-linux-gnu/libtinfo.so.6)"],
        undo: "umount $(readlink -f /lib/x86_64-linux-gnu/libtinfo.so.6)",
        first: ":",
        shell: "/bin/bash",
        cause: "ESTALE mapping",
    },
];

fn other_content(cx: &Context) -> Result<()> {
    let mut wrong = Vec::new();
    for d in DIFFERING {
        for (node, make) in (1..).zip(d.make) {
            cx.sh(node, make)?;
        }
        let said = refusal(cx, d);
        cx.sh(2, d.undo)?;
        if let Err(e) = said {
            wrong.push(format!("{}: {e:#}", d.what));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A process that counts until it is told to say what its file, if it has one, begins with. It is to be moved to 2.
fn refusal(cx: &Context, d: &Differing) -> Result<()> {
    let Differing { first, shell, cause, .. } = *d;
    let script = format!(
        "{first}; go=; trap 'go=1' USR2; echo ready; while [ -z \"$go\" ]; do :; done; \
         [ -e /proc/self/fd/3 ] && read -r line <&3; echo \"says $line\"; exit 0"
    );
    cx.sh(1, "rm -f /shared/says")?;
    let start = format!("exec {shell} -c \"$0\" </dev/null >/shared/says 2>&1");
    let pid = cx.background(1, &["sh", "-c", &start, &script])?.pid;
    let says = |word: &str| {
        cx.until(word, 10, || {
            let text = cx.sh(1, "cat /shared/says 2>/dev/null; true")?;
            Ok(text.lines().last().filter(|l| l.starts_with(word)).map(str::to_owned))
        })
    };
    says("ready")?;
    // From the node where it is, and from the one where it is to go.
    for node in [1, 2] {
        let out = cx.exec(node, &["migrate", "2", &pid.to_string()])?;
        let said = out.error_text();
        ensure!(
            out.code == 1 && said.starts_with(&format!("migrate: pid {pid}: to node 2: {cause}")),
            "from node {node}: exit {} {said}",
            out.code
        );
        let goto = cx.sh(node, &format!("cat /proc/{pid}/goto"))?;
        ensure!(goto.starts_with(cause), "from node {node}: goto reads {goto}");
        same("where it is", cx.sh(node, &format!("where_pid {pid}"))?, "1")?;
    }
    cx.sh(2, &format!("kill -USR2 {pid}"))?;
    let line = says("says")?;
    let want = match d.first.strip_prefix("exec 3<") {
        Some(file) => cx.sh(1, &format!("head -n 1 {file}"))?,
        None => String::new(),
    };
    same("what it reads afterwards", line, format!("says {want}").trim_end())
}

/// Where the kernel stops when a node has begun to refuse movements.
const LEAVING: &str = "vproc.leave.node.refusing";

/// Makes node 3 begin to leave, and stand there: it takes no process. Gives the pid of who asked for that.
fn begin_leave(cx: &Context) -> Result<u32> {
    cx.client.failpoint(3, &format!("{LEAVING}=hang"))?;
    let leave = cx.background(3, &["cluster", "leave"])?;
    cx.until("the leave", 10, || {
        let points = cx.sh(3, &format!("cat {}", rig::client::FAILPOINTS))?;
        Ok(points.lines().any(|l| l == format!("{LEAVING} 1 0")).then_some(()))
    })?;
    Ok(u32::try_from(leave.pid)?)
}

/// It gives up: the node stays.
fn give_up_leave(cx: &Context, leave: u32) -> Result<()> {
    cx.sh(3, &format!("kill -TERM {leave}"))?;
    cluster::gone(cx, 3, leave)?;
    cluster::agree(cx, &[1, 2, 3], 10).map(|_| ())
}

/// How many movements the case gives up, and makes after the restart.
const GIVEN_UP: u32 = 5;

fn after_restart(cx: &Context) -> Result<()> {
    let leave = begin_leave(cx)?;
    let pid = cluster::sleeper(cx, "root", 2, &["sleep", "1000"])?;
    for _ in 0..GIVEN_UP {
        let out = cx.exec(2, &["migrate", "3", &pid.to_string()])?;
        ensure!(out.code == 1 && out.error_text().contains("EHOSTUNREACH"), "{out:?}");
    }
    give_up_leave(cx, leave)?;

    let boots = cx.boots(2)?;
    cx.power(2, Power::Reset)?;
    cx.wait(2, Event::Join, boots)?;
    cluster::agree(cx, &[1, 2, 3], 20)?;
    let mut pids = Vec::new();
    for _ in 0..GIVEN_UP {
        let pid = cluster::sleeper(cx, "root", 2, &["sleep", "1000"])?;
        cx.sh(2, &format!("migrate 3 {pid}"))?;
        same("where it is", cx.sh(1, &format!("where_pid {pid}"))?, "3")?;
        pids.push(pid);
    }
    cluster::end(cx, &pids)
}

fn leaving_node(cx: &Context) -> Result<()> {
    let here = cluster::sleeper(cx, "root", 1, &["sleep", "1000"])?;
    let there = cluster::sleeper(cx, "root", 3, &["sleep", "1000"])?;
    let leave = begin_leave(cx)?;

    let refused = |from: u32, argv: &[&str], code: i32| -> Result<()> {
        let out = cx.exec(from, argv)?;
        ensure!(
            out.code == code && out.error_text().contains("EHOSTUNREACH"),
            "from node {from}: {argv:?}: {out:?}"
        );
        Ok(())
    };
    let (h, t) = (here.to_string(), there.to_string());
    for from in [1, 2] {
        refused(from, &["migrate", "3", &h], 1)?;
        refused(from, &["migrate", "2", &t], 1)?;
        refused(from, &["onnode", "3", "true"], 125)?;
    }
    refused(3, &["onnode", "1", "true"], 125)?;
    let said = cx.exec(1, &["migrate", "3", &h])?.error_text();
    ensure!(said.contains("node leaves"), "{said}");
    for (pid, node) in [(&h, "1"), (&t, "3")] {
        same("where it is", cx.sh(2, &format!("where_pid {pid}"))?, node)?;
    }

    give_up_leave(cx, leave)?;
    cx.sh(1, &format!("migrate 3 {h} && migrate 2 {t}"))?;
    same("onnode", cx.sh(1, "onnode 3 hostname")?, "node3")?;
    for (pid, node) in [(&h, "3"), (&t, "2")] {
        same("where it is", cx.sh(2, &format!("where_pid {pid}"))?, node)?;
        cx.sh(1, &format!("kill {pid}"))?;
    }
    for node in 1..=3 {
        cluster::gone(cx, node, here)?;
        cluster::gone(cx, node, there)?;
    }
    Ok(())
}
