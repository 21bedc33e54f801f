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
        run: files,
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_remote_calls",
        promise: "getpgid getsid get/setpriority sched_* and prlimit work on a process of another node",
        root: Root::Debian,
        run: calls,
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

/// Reads and changes all that can be, of the process `argv[1]`.
const CALLS: &str = "
p = int(sys.argv[1])
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
try_call('bad policy', os.sched_setscheduler, p, 77, os.sched_param(0))
try_call('bad limit', resource.prlimit, p, resource.RLIMIT_NOFILE, (300, 250 + 2 ** 40))
";

fn calls(c: &Context) -> Result<()> {
    let twin = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    let local = python(c, "root", 2, CALLS, &[&twin.to_string()])?;
    ensure!(local.contains("nice 7") && local.contains("is (100, 200)"), "{local}");
    for node in [1, 3] {
        let pid = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
        same(
            format!("from node {node}"),
            python(c, "root", node, CALLS, &[&pid.to_string()])?,
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
