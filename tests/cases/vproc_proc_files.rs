// SPDX-License-Identifier: GPL-2.0

//! `/proc/<pid>` and the calls about processes of other nodes.

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
        name: "vproc_proc_files",
        promise: "the files of /proc/<pid> read on another node as on the process's own",
        root: Root::Debian,
        debug: true,
        run: files,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_remote_calls",
        promise: "getpgid getsid get/setpriority ioprio sched_* and prlimit work on a process of another node",
        root: Root::Debian,
        debug: true,
        run: calls,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_remote_calls_as_user",
        promise: "these calls have on another node the rights of their caller, no more and no less, as on its own",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: calls_as_user,
        ..Case::DEFAULT
    },
];

const FILES: &[&str] = &[
    "stat", "statm", "status", "cmdline", "comm", "environ", "maps", "limits", "io", "wchan", "cgroup",
];

fn files(c: &Context) -> Result<()> {
    let script = "exec 5</etc/passwd; exec 6>/tmp/six; cd /usr; COLOUR=blue exec sleep 1000";
    let pid = cluster::sleeper(c, "root", 2, &["sh", "-c", script])?;
    let mut wrong = Vec::new();
    let mut compare = |what: &str, script: &str, must_hold: &str| -> Result<()> {
        let local = c.exec(2, &["sh", "-c", script])?;
        ensure!(
            local.code == 0 && local.text().contains(must_hold),
            "{what} on its own node: {local:?}"
        );
        for node in [1, 3] {
            let remote = c.exec(node, &["sh", "-c", script])?;
            if (remote.code, &remote.stdout) != (local.code, &local.stdout) {
                wrong.push(format!(
                    "{what}: node {node}: exit {}: {:?} {} want {:?}",
                    remote.code,
                    String::from_utf8_lossy(&remote.stdout),
                    remote.error_text(),
                    String::from_utf8_lossy(&local.stdout)
                ));
            }
        }
        Ok(())
    };
    for file in FILES {
        let hold = match *file {
            "environ" => "COLOUR=blue",
            "comm" | "cmdline" => "sleep",
            "maps" => "[stack]",
            "status" | "stat" => &pid.to_string(),
            "limits" => "Max open files",
            "io" => "rchar",
            _ => "",
        };
        compare(file, &format!("cat /proc/{pid}/{file}"), hold)?;
    }
    for (link, hold) in [("exe", "sleep"), ("cwd", "/usr"), ("root", "/")] {
        compare(link, &format!("readlink /proc/{pid}/{link}"), hold)?;
    }
    compare("fd/", &format!("ls /proc/{pid}/fd"), "6")?;
    compare("fd/5", &format!("readlink /proc/{pid}/fd/5"), "/etc/passwd")?;
    compare("fd/6", &format!("readlink /proc/{pid}/fd/6"), "/tmp/six")?;
    compare("task/", &format!("ls /proc/{pid}/task"), &pid.to_string())?;
    compare("task comm", &format!("cat /proc/{pid}/task/{pid}/comm"), "sleep")?;
    compare("task stat", &format!("cat /proc/{pid}/task/{pid}/stat"), "sleep")?;
    compare("goto", &format!("cat /proc/{pid}/goto"), "2")?;
    compare("owner", &format!("stat -c '%u %g %F' /proc/{pid}"), "0 0 directory")?;
    compare("in the listing", &format!("ls /proc | grep -cx {pid}"), "1")?;
    compare("a missing file", &format!("cat /proc/{pid}/nonesuch 2>/dev/null; echo $?"), "1")?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    cluster::end(c, &[pid])
}

/// What Python has no name for: `struct sched_attr`, I/O priorities.
const MORE_CALLS: &str = "
import struct
ATTR = '<IIQiIQQQII'
def getattr_(p):
    buf = ctypes.create_string_buffer(56)
    syscall(315, p, buf, 56, 0)
    return struct.unpack(ATTR, buf.raw)[:9]
def setattr_(p, policy, nice, priority):
    syscall(314, p, struct.pack(ATTR, 56, policy, 0, nice, priority, 0, 0, 0, 0, 1024), 0)
def ioprio(p):
    return syscall(252, 1, p)
def set_ioprio(p, value):
    syscall(251, 1, p, value)
p = int(sys.argv[1])
";

/// Reads and changes all that can be, of the process `argv[1]`.
const CALLS: &str = "
print('pgid', os.getpgid(p) == p, 'sid', os.getsid(p) == p)
print('nice', os.getpriority(os.PRIO_PROCESS, p))
os.setpriority(os.PRIO_PROCESS, p, 7)
print('nice', os.getpriority(os.PRIO_PROCESS, p))
print('policy', os.sched_getscheduler(p))
os.sched_setscheduler(p, os.SCHED_BATCH, os.sched_param(0))
print('policy', os.sched_getscheduler(p) == os.SCHED_BATCH)
os.sched_setscheduler(p, os.SCHED_RR, os.sched_param(9))
print('param', os.sched_getparam(p).sched_priority)
os.sched_setparam(p, os.sched_param(4))
print('param', os.sched_getparam(p).sched_priority)
print('interval', os.sched_rr_get_interval(p) > 0)
os.sched_setscheduler(p, os.SCHED_OTHER, os.sched_param(0))
print('affinity', sorted(os.sched_getaffinity(p)))
os.sched_setaffinity(p, {0})
print('affinity', sorted(os.sched_getaffinity(p)))
soft = resource.prlimit(p, resource.RLIMIT_NOFILE, (100, 200))
print('was', soft[0] > 0, 'is', resource.prlimit(p, resource.RLIMIT_NOFILE))
print('ioprio', hex(ioprio(p)))
set_ioprio(p, 2 << 13 | 6)
print('ioprio', hex(ioprio(p)))
print('attr', getattr_(p))
setattr_(p, os.SCHED_BATCH, 9, 0)
print('attr', getattr_(p), os.getpriority(os.PRIO_PROCESS, p))
setattr_(p, os.SCHED_OTHER, 7, 0)
try_call('short attr', syscall, 315, p, ctypes.create_string_buffer(8), 8, 0)
try_call('bad ioprio', set_ioprio, p, 9 << 13)
try_call('no memory', syscall, 143, p, 8)
try_call('bad policy', os.sched_setscheduler, p, 77, os.sched_param(0))
try_call('bad limit', resource.prlimit, p, resource.RLIMIT_NOFILE, (300, 250 + 2 ** 40))
";

/// Tries all of them on the process `argv[1]`, of which most only its owner may use and some only root.
const TRIES: &str = "
def show(name, call, *args):
    try:
        print(name, call(*args))
    except OSError as e:
        print(name, errno.errorcode[e.errno])
show('getpgid', lambda: os.getpgid(p) == p)
show('getsid', lambda: os.getsid(p) == p)
show('getpriority', os.getpriority, os.PRIO_PROCESS, p)
show('nicer', os.setpriority, os.PRIO_PROCESS, p, 4)
show('less nice', os.setpriority, os.PRIO_PROCESS, p, -3)
show('back', os.setpriority, os.PRIO_PROCESS, p, 0)
show('getscheduler', os.sched_getscheduler, p)
show('batch', os.sched_setscheduler, p, os.SCHED_BATCH, os.sched_param(0))
show('real time', os.sched_setscheduler, p, os.SCHED_RR, os.sched_param(5))
show('setparam', os.sched_setparam, p, os.sched_param(0))
show('getparam', lambda: os.sched_getparam(p).sched_priority)
show('interval', lambda: os.sched_rr_get_interval(p) >= 0)
show('getaffinity', os.sched_getaffinity, p)
show('setaffinity', os.sched_setaffinity, p, {0})
show('getattr', getattr_, p)
show('setattr', setattr_, p, os.SCHED_OTHER, 6, 0)
show('setattr real time', setattr_, p, os.SCHED_FIFO, 0, 3)
show('ioprio', ioprio, p)
show('set ioprio', set_ioprio, p, 2 << 13 | 7)
show('set real-time ioprio', set_ioprio, p, 1 << 13 | 4)
show('limit', resource.prlimit, p, resource.RLIMIT_NOFILE)
show('lower', resource.prlimit, p, resource.RLIMIT_NOFILE, (60, 80))
show('raise', resource.prlimit, p, resource.RLIMIT_NOFILE, (60, 90))
show('limit', resource.prlimit, p, resource.RLIMIT_NOFILE)
show('no signal', os.kill, p, 0)
show('signal', os.kill, p, signal.SIGCONT)
";

fn calls_as_user(c: &Context) -> Result<()> {
    let program = format!("{MORE_CALLS}{TRIES}");
    for (owner, caller, must_hold) in [
        ("user", "user", &["nicer None", "less nice EACCES", "real time EPERM", "raise EPERM", "signal None"][..]),
        ("other", "user", &["getpgid True", "nicer EPERM", "batch EPERM", "limit EPERM", "signal EPERM"]),
        ("root", "user", &["getpgid True", "nicer EPERM", "setattr EPERM", "lower EPERM", "no signal EPERM"]),
        ("user", "root", &["less nice None", "real time None", "raise (60, 80)", "signal None"]),
    ] {
        let twin = cluster::sleeper(c, owner, 2, &["sleep", "1000"])?;
        let local = python(c, caller, 2, &program, &[&twin.to_string()])?;
        for line in must_hold {
            ensure!(local.lines().any(|l| l == *line), "{caller} on {owner}'s: no {line:?} in {local}");
        }
        for node in [1, 3] {
            let pid = cluster::sleeper(c, owner, 2, &["sleep", "1000"])?;
            let remote = python(c, caller, node, &program, &[&pid.to_string()])?;
            same(format!("{caller} on {owner}'s from node {node}"), remote, &local[..])?;
            cluster::end(c, &[pid])?;
        }
        cluster::end(c, &[twin])?;
    }
    Ok(())
}

fn calls(c: &Context) -> Result<()> {
    let twin = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    let program = format!("{MORE_CALLS}{CALLS}");
    let local = python(c, "root", 2, &program, &[&twin.to_string()])?;
    ensure!(local.contains("nice 7") && local.contains("is (100, 200)"), "{local}");
    for node in [1, 3] {
        let pid = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
        same(
            format!("from node {node}"),
            python(c, "root", node, &program, &[&pid.to_string()])?,
            &local[..],
        )?;
        // The process's own node sees what was changed.
        same("nice there", c.sh(2, &format!("cut -d ' ' -f 19 /proc/{pid}/stat"))?, "7")?;
        let limit = c.sh(2, &format!("grep 'Max open files' /proc/{pid}/limits | tr -s ' '"))?;
        same("limit there", limit, "Max open files 100 200 files")?;
        cluster::end(c, &[pid])?;
    }
    cluster::end(c, &[twin])
}
