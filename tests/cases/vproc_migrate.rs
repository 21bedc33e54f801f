// SPDX-License-Identifier: GPL-2.0

//! Migration: a running program goes from node to node and notices nothing.

use std::time::Duration;

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
        debug: true,
        run: shell,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_registers",
        promise: "registers, blocked and pending signals, TLS, rseq and alternate stack are unchanged after 50 moves",
        debug: true,
        seconds: 180,
        run: registers,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_python",
        promise: "Python that computes with floats writes the same digits over 50 moves as when it stays",
        root: Root::Debian,
        debug: true,
        seconds: 240,
        run: python,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_migrate_memory",
        promise: "8 MiB of patterns are unchanged after 6 moves",
        debug: true,
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
        debug: true,
        run: refused,
        ..Case::DEFAULT
    },
];

/// How long a tour of 50 moves may take.
const TOUR: Duration = Duration::from_secs(120);

/// Moves `$pid`, which `start` sets, round the nodes `$n` times, from node 1, then does `then` to end it; prints what
/// it prints.
fn tour(cx: &Context, start: &str, moves: u32, then: &str) -> Result<String> {
    cx.sh_for(
        TOUR,
        1,
        &format!(
            "{start}\n\
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
        "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo counted $i; exit 7' & pid=$!",
        3,
        ":",
    )?;
    same("output", out.trim_end(), "counted 200000\nstatus 7")
}

fn registers(cx: &Context) -> Result<()> {
    let out = tour(
        cx,
        "GLIBC_TUNABLES=glibc.pthread.rseq=0 /usr/lib/ssi-tests/regs -r -n 200000 & pid=$!",
        50,
        "kill -USR2 $pid",
    )?;
    ensure!(
        out.contains("\nok\n") && out.trim_end().ends_with("status 0"),
        "regs: {out}"
    );
    Ok(())
}

/// Floats of every kind, in rounds that depend on each other: `argv[1]` of them, or until SIGUSR2. A line per round.
const FLOATS: &str = r#"import math, signal, sys
stop = False
def enough(*_):
    global stop
    stop = True
signal.signal(signal.SIGUSR2, enough)
x, y, total, z = 0.3, 1.0, 0.0, complex(0.1, 0.2)
matrix = [[math.sin(7 * i + j) for j in range(6)] for i in range(6)]
done = 0
while done < int(sys.argv[1]) and not stop:
    for i in range(300):
        x = 3.999 * x * (1.0 - x)
        y = math.fmod(y * 1.000001 + math.sqrt(x), 97.0)
        total += math.exp(-y) * math.atan2(x, y) + round(x * y, 7) ** 3
        z = z * z + complex(x - 0.7, y / 1000)
        if abs(z) > 2:
            z = complex(x, -x) / 3
    matrix = [[math.fsum(a * b for a, b in zip(row, col)) for col in zip(*matrix)] for row in matrix]
    top = max(abs(a) for row in matrix for a in row)
    matrix = [[a / top + x / 100 for a in row] for row in matrix]
    done += 1
    trace = math.fsum(matrix[i][i] for i in range(6))
    print(done, x.hex(), repr(y), total.hex(), z, '%.17g' % trace, flush=True)
"#;

fn python(cx: &Context) -> Result<()> {
    std::fs::write(cx.client.dir().join("shared/floats.py"), FLOATS)?;
    let out = tour(
        cx,
        "python3 /shared/floats.py 1000000000 </dev/null >/shared/moved & pid=$!\n\
         while ! [ -s /shared/moved ]; do :; done",
        50,
        "kill -USR2 $pid",
    )?;
    same("the tour", out.trim_end(), "status 0")?;
    let rounds: u32 = cx.sh(1, "wc -l </shared/moved")?.trim().parse()?;
    cx.sh_for(TOUR, 1, &format!("python3 /shared/floats.py {rounds} >/shared/stayed"))?;
    let last = cx.sh(1, "tail -n 1 /shared/stayed")?;
    ensure!(rounds > 50 && last.starts_with(&format!("{rounds} ")), "{rounds} rounds: {last}");
    let out = cx.exec(1, &["cmp", "/shared/stayed", "/shared/moved"])?;
    ensure!(out.code == 0, "{} {}", out.text(), out.error_text());
    Ok(())
}

fn memory(cx: &Context) -> Result<()> {
    let out = tour(cx, "/usr/lib/ssi-tests/memhog 8 & pid=$!", 6, "kill -TERM $pid")?;
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
             list=$(onnode $n ps -e -o pid=,stat=,args=)\n\
             [ $(echo \"$list\" | grep -c \"^ *$pid \") = 1 ] ||\n\
               { echo \"$pid on $node, seen from $n, $(where_pid $pid): $list\"; exit 7; }\n\
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
