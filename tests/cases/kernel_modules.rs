// SPDX-License-Identifier: GPL-2.0

//! The patched kernel without modules, and modules that do not belong together.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::images::Root;
use rig::up::Kernel;

use crate::cluster::python;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

const ONE_MACHINE: Case = Case {
    nodes: 1,
    root: Root::Debian,
    modules: false,
    join: false,
    ..Case::DEFAULT
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "kernel_without_modules_is_plain",
        promise: "without modules the system calls 548 to 551 answer ENOSYS, and nothing else of the cluster is there",
        debug: true,
        run: plain,
        ..ONE_MACHINE
    },
    Case {
        name: "modules_of_another_build_are_refused",
        promise: "a module for another kernel, or of another build than ssi_core, is refused with errno and message",
        debug: true,
        run: other_builds,
        ..ONE_MACHINE
    },
];

const CALLS: &str = r"
EMPTY = (ctypes.c_char_p * 1)(None)
PATH = ctypes.c_char_p(b'/bin/true')
me = os.getpid()
for name, args in [
    ('rfork', (548, 1, 0)), ('rfork-bad', (548, -1, 77)),
    ('rexec', (549, 1, PATH, EMPTY, EMPTY, 0)), ('rexec-bad', (549, 0, None, None, None, 1)),
    ('migrate', (550, 0, 1, 0)), ('migrate-me', (550, me, 2, 0)), ('migrate-bad', (550, -5, -5, 77)),
    ('where_pid', (551, 0)), ('where_pid-me', (551, me)), ('where_pid-far', (551, 2 << 20 | 40000)),
    # No call at all: what ENOSYS is compared with.
    ('none', (552, 0)),
]:
    try_call(name, syscall, *args)
# A process of node 2, in a cluster.
far = 2 << 20 | 40000
for name, args in [('kill', (62, far, 0)), ('getpgid', (121, far)), ('getsid', (124, far)), ('getpriority', (140, 0, far))]:
    try_call(name, syscall, *args)
try_call('goto', lambda: open('/proc/self/goto', 'rb', buffering=0).read())
try_call('goto-write', lambda: open('/proc/self/goto', 'wb', buffering=0).write(b'1'))
try_call('far', lambda: os.stat('/proc/%d' % far))
print('small', me < 1 << 20)
";

fn plain(c: &Context) -> Result<()> {
    let mut want = String::new();
    for name in [
        "rfork", "rfork-bad", "rexec", "rexec-bad", "migrate", "migrate-me", "migrate-bad", "where_pid", "where_pid-me",
        "where_pid-far", "none",
    ] {
        want += &format!("{name} ENOSYS\n");
    }
    for name in ["kill", "getpgid", "getsid", "getpriority"] {
        want += &format!("{name} ESRCH\n");
    }
    want += "goto ENOSYS\ngoto-write ENOSYS\nfar ENOENT\nsmall True";
    for user in ["root", "user"] {
        same(format!("as {user}"), python(c, user, 1, CALLS, &[])?, want.clone())?;
    }
    let threads = c.sh(1, "cat /proc/[0-9]*/comm | grep -E '^(ics|clms|ssi|vproc|rfile)' || true")?;
    same("threads of the cluster", threads, "")?;
    same("modules", c.sh(1, "grep -c ssi /proc/modules || true")?, "0")?;
    same("files in debugfs", c.sh(1, "ls /sys/kernel/debug | grep -c ssi || true")?, "0")?;
    // What a kernel of two or fewer CPUs has by itself.
    same("pid_max", c.sh(1, "cat /proc/sys/kernel/pid_max")?, "32768")?;
    same("cluster status", c.exec(1, &["cluster", "status"])?.code, 3)
}

/// Where `prefix` and `N` hexadecimal digits stand in a file.
fn marks<const N: usize>(bytes: &[u8], prefix: &[u8]) -> Vec<usize> {
    let is_mark = |w: &[u8]| w.starts_with(prefix) && w[prefix.len()..].iter().all(u8::is_ascii_hexdigit);
    (0..bytes.len().saturating_sub(prefix.len() + N))
        .filter(|i| is_mark(&bytes[*i..*i + prefix.len() + N]))
        .map(|i| i + prefix.len())
        .collect()
}

/// Another digit, wherever it stands.
fn change(bytes: &mut [u8], at: &[usize]) {
    for i in at {
        bytes[*i] = if bytes[*i] == b'0' { b'1' } else { b'0' };
    }
}

/// Loads a file that must not load; gives what the kernel then says.
fn refused(c: &Context, file: &str, errno: &str) -> Result<String> {
    c.sh(1, "dmesg -c >/dev/null")?;
    let before = c.sh(1, "cut -d' ' -f1 /proc/modules")?;
    let program = r"
fd = os.open(sys.argv[1], os.O_RDONLY)
try_call('insmod', syscall, 313, fd, b'', 0)
";
    same(file, python(c, "root", 1, program, &[file])?, format!("insmod {errno}"))?;
    same("modules after it", c.sh(1, "cut -d' ' -f1 /proc/modules")?, before)?;
    c.sh(1, "dmesg")
}

fn other_builds(c: &Context) -> Result<()> {
    let variant = if c.kernel == Kernel::Debug { "debug" } else { "plain" };
    let modules = c.places.modules(variant)?;
    ensure!(modules.len() == 5, "{modules:?}");
    let push = |bytes: &[u8], name: &str| -> Result<String> {
        let on_host = c.scratch.join(name);
        let there = format!("/tmp/{name}");
        fs::write(&on_host, bytes)?;
        c.client.push(1, &on_host, &there)?;
        Ok(there)
    };
    let mut loaded = Vec::new();
    for path in &modules {
        let name = path.file_stem().and_then(|n| n.to_str()).context("a name")?;
        let good = fs::read(path)?;

        // The key of the kernel that it was built for is in its version magic.
        let mut other_kernel = good.clone();
        let release = c.sh(1, "uname -r")?;
        let key = release.rsplit_once('-').context("a release with a key")?.0.to_owned() + "-";
        let at = marks::<8>(&good, format!("vermagic={key}").as_bytes());
        same(format!("version magics of {name}"), at.len(), 1)?;
        change(&mut other_kernel, &at);
        let file = push(&other_kernel, &format!("{name}-kernel.ko"))?;
        let log = refused(c, &file, "ENOEXEC")?;
        let line = format!("{name}: version magic '{key}");
        ensure!(
            log.lines().any(|l| l.contains(&line) && l.contains(&format!("should be '{release} "))),
            "no line that names both kernels: {log}"
        );

        // ssi_core has the mark that the others need.
        if name != "ssi_core" {
            let mut other_build = good.clone();
            let at = marks::<16>(&good, b"ssi_core_of_build_");
            ensure!(!at.is_empty(), "{name} needs no build");
            change(&mut other_build, &at);
            let file = push(&other_build, &format!("{name}-build.ko"))?;
            let log = refused(c, &file, "ENOENT")?;
            let mark = String::from_utf8_lossy(&other_build[at[0]..at[0] + 16]).into_owned();
            ensure!(
                log.contains(&format!("{name}: Unknown symbol ssi_core_of_build_{mark} ")),
                "no line that names the build: {log}"
            );
        }

        let file = push(&good, &format!("{name}.ko"))?;
        c.sh(1, &format!("insmod {file}"))?;
        loaded.insert(0, name.to_owned());
    }
    for name in loaded {
        c.sh(1, &format!("rmmod {name} && rm /tmp/{name}*.ko"))?;
    }
    Ok(())
}
