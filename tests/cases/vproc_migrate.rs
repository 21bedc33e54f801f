// SPDX-License-Identifier: GPL-2.0

//! Migration: a running program goes from node to node and notices nothing.

use anyhow::Result;
use anyhow::ensure;
use rig::images::Root;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "vproc_migrate_shell",
        promise: "a computing shell that moves 2, 3, 1 ends with the right answer, and its parent has its status",
        run: shell,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_registers",
        promise: "registers, blocked and pending signals, TLS and alternate stack are unchanged after 12 moves",
        seconds: 120,
        run: registers,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_memory",
        promise: "8 MiB of patterns are unchanged after 6 moves",
        seconds: 120,
        run: memory,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_bc",
        promise: "bc, moved 2, 3, 1 while it computes pi, writes the same digits as when it stays; ps shows it once",
        root: Root::Debian,
        seconds: 240,
        run: bc,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_refused_by_name",
        promise: "what cannot move is refused before anything moved, with the cause in the message and in goto",
        run: refused,
        ..Case::DEFAULT
    },
];

/// Moves `$pid` round the nodes `$n` times, from node 1, then does `then` to end it; prints what it prints.
fn tour(cx: &Context, start: &str, moves: u32, then: &str) -> Result<String> {
    cx.sh(
        1,
        &format!(
            "{start} & pid=$!\n\
             while [ \"$(where_pid $pid)\" != 1 ]; do :; done\n\
             i=0; node=2\n\
             while [ $i -lt {moves} ]; do\n\
               migrate $node $pid || exit 9\n\
               [ \"$(where_pid $pid)\" = $node ] || exit 8\n\
               node=$((node % 3 + 1)); i=$((i + 1))\n\
             done\n\
             {then}\n\
             wait $pid; echo status $?"
        ),
    )
}

fn shell(cx: &Context) -> Result<()> {
    let out = tour(
        cx,
        "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo counted $i; exit 7'",
        3,
        ":",
    )?;
    same("output", out.trim_end(), "counted 200000\nstatus 7")
}

fn registers(cx: &Context) -> Result<()> {
    let out = tour(
        cx,
        "/usr/lib/ssi-tests/regs -n 20000",
        12,
        "kill -USR2 $pid",
    )?;
    ensure!(
        out.contains("\nok\n") && out.trim_end().ends_with("status 0"),
        "regs: {out}"
    );
    Ok(())
}

fn memory(cx: &Context) -> Result<()> {
    let out = tour(cx, "/usr/lib/ssi-tests/memhog 8", 6, "kill -TERM $pid")?;
    ensure!(
        out.contains("ok") && out.trim_end().ends_with("status 0"),
        "memhog: {out}"
    );
    Ok(())
}

fn bc(cx: &Context) -> Result<()> {
    let pi = "echo 'scale=2000; 4*a(1)' | bc -l";
    cx.sh(1, &format!("{pi} > /shared/stayed"))?;
    cx.sh(
        1,
        "echo 'scale=2000; 4*a(1)' > /shared/pi.bc\n\
         bc -l /shared/pi.bc < /dev/null > /shared/moved & pid=$!\n\
         for node in 2 3 1; do\n\
           migrate $node $pid || exit 9\n\
           for n in 1 2 3; do\n\
             [ \"$(onnode $n ps -e -o pid= 2>/dev/null | grep -c \"^ *$pid$\")\" = 1 ] || exit 7\n\
           done\n\
         done\n\
         wait $pid",
    )?;
    let out = cx.sh(1, "cmp /shared/stayed /shared/moved && echo same")?;
    same("comparison", out.trim_end(), "same")
}

fn refused(cx: &Context) -> Result<()> {
    for (kind, cause) in [
        ("epoll", "EOPNOTSUPP"),
        ("io_uring", "EOPNOTSUPP"),
        ("deleted", "ESTALE"),
    ] {
        let p = cx.background(1, &["/usr/lib/ssi-tests/fdzoo", kind])?;
        let pid = p.pid;
        let out = cx.exec(1, &["migrate", "2", &pid.to_string()])?;
        let said = out.error_text();
        ensure!(
            out.code == 1 && said.starts_with(&format!("migrate: pid {pid}: to node 2: {cause} ")),
            "{kind}: status {}, said {said}",
            out.code
        );
        let goto = cx.sh(1, &format!("cat /proc/{pid}/goto"))?;
        ensure!(goto.starts_with(cause), "{kind}: goto reads {goto}");
        same("where it is", cx.sh(1, &format!("where_pid {pid}"))?.trim_end(), "1")?;
        cx.sh(1, &format!("kill {pid}"))?;
    }
    Ok(())
}
