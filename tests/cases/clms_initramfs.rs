// SPDX-License-Identifier: GPL-2.0

//! Nodes that join in an initramfs of Debian's making, before the root file system is mounted.
//!
//! The case's own guest runs `mkinitramfs` with what `make install-system` installs; nodes then boot from what came out.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::Up;
use rig::control::Event;
use rig::control::Power;
use rig::cpio::Archive;
use rig::images::Root;

use crate::clms_fencing::in_order;
use crate::cluster;
use crate::context::Context;
use crate::context::Instance;
use crate::context::same;
use crate::runner::Case;

const CASE: Case = Case {
    nodes: 1,
    root: Root::Debian,
    modules: false,
    join: false,
    long: true,
    seconds: 600,
    ..Case::DEFAULT
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_initramfs_joins",
        promise: "nodes join in Debian's initramfs, before the root is mounted, and are members afterwards; one that is fenced comes back so",
        faults: "power cut of node 3",
        run: joins,
        ..CASE
    },
    Case {
        name: "clms_initramfs_wrong_key",
        promise: "a node with another key in its initramfs says so and boots without the cluster; mended, its service joins",
        faults: "node 3 has another key in its initramfs",
        run: wrong_key,
        ..CASE
    },
    Case {
        name: "clms_initramfs_must",
        promise: "a node that must join to boot, and cannot, reboots as panic= says",
        faults: "node 3 has another key in its initramfs",
        run: must,
        ..CASE
    },
    Case {
        name: "clms_initramfs_without",
        promise: "a machine without ip= says so and boots without the cluster; with ssi.join=no it boots as if there were none",
        faults: "no ip= on the kernel command line",
        run: without,
        ..CASE
    },
];

const KEY: &str = "a-key-of-more-than-16-bytes\n";
const NAME: &str = "rig\n";
const JOINED: &str = "openssi: a member of the cluster, before the root file system is mounted";

/// What the rig's own script says when the initramfs is about to look for the root.
const ROOT: &str = "rig: the root file system is mounted next";

/// What `cluster-join.service` runs.
fn service(c: &Context) -> Result<String> {
    let text = std::fs::read_to_string(c.places.top.join("tools/cluster-join.service"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("ExecStart=/bin/sh -c '"));
    Ok(line.and_then(|l| l.strip_suffix('\'')).context("ExecStart")?.to_owned())
}

fn clustertab() -> String {
    (1..=3).map(|n| format!("{n} 10.73.1.{n}\n")).collect()
}

fn fence_toml() -> String {
    let nodes: String = (1..=3).map(|n| format!("[node.{n}]\n")).collect();
    format!("agent = \"/usr/lib/ssi-tests/fence_rig\"\n{nodes}")
}

/// Writes the cluster's files on a node.
fn files(c: &Context, node: u32) -> Result<()> {
    for (name, text) in [
        ("clustertab", &clustertab()[..]),
        ("clustername", NAME),
        ("key", KEY),
        ("fence.toml", &fence_toml()),
    ] {
        let out = c.exec_with(node, &["sh", "-c", &format!("umask 077; mkdir -p /run/cluster; cat >/run/cluster/{name}")], text.as_bytes())?;
        same(name, out.code, 0)?;
    }
    Ok(())
}

/// As an administrator of the guest would: install, configure, `mkinitramfs`. What is written there is a tmpfs over a
/// directory of the root, which cannot be written.
const MAKE: &str = r"set -e
over() {
	mkdir -p /tmp/over$1
	cp -a $1/. /tmp/over$1
	[ ! -d /tmp/system$1 ] || cp -a /tmp/system$1/. /tmp/over$1
	mount --bind /tmp/over$1 $1
}
over /etc/default
over /usr/lib/modules
over /usr/share/initramfs-tools
over /boot
over /etc/initramfs-tools
sed -i s/^SSI_JOIN=.*/SSI_JOIN=yes/ /etc/default/openssi
mkinitramfs -o /shared/initrd $(ls /usr/lib/modules) 2>/shared/log || { cat /shared/log; exit 1; }
ls -l /shared/initrd
";

/// The rig's own scripts: one tells in the kernel log, which unlike the console has an order, how far the boot is; one mounts what
/// the rig's agent needs beside the root.
const RIG: [(&str, &str); 2] = [
    (
        "local-top",
        "#!/bin/sh\n[ \"${1:-}\" = prereqs ] || echo '<6>rig: the root file system is mounted next' >/dev/kmsg\n",
    ),
    (
        "init-bottom",
        "#!/bin/sh\n[ \"${1:-}\" = prereqs ] || mount -t squashfs -o ro /dev/vdb ${rootmnt}/usr/lib/openssi\n",
    ),
];

/// Has the case's guest make the initramfs, once for all cases.
fn initramfs(c: &Context) -> Result<PathBuf> {
    static MADE: Mutex<bool> = Mutex::new(false);
    let mut is_made = MADE.lock().map_err(|e| anyhow::anyhow!("{e}"))?;
    let dir = c.places.top.join("build/cases/initramfs");
    if *is_made {
        return Ok(dir.join("initrd"));
    }
    let _ = std::fs::remove_dir_all(&dir);
    let system = dir.join("system");
    std::fs::create_dir_all(system.join("boot"))?;
    let variant = c.kernel.name();
    let script = c.places.top.join("tools/build/tools.sh");
    let out = Command::new(&script).arg("--install-system").arg(&system).arg(variant).output()?;
    ensure!(out.status.success(), "install-system: {out:?}");
    let release = std::fs::read_dir(system.join("usr/lib/modules"))?.flatten().next().context("no modules")?;
    let tree = c.places.kernel(variant)?;
    let tree = tree.ancestors().nth(4).context("the kernel's tree")?;
    let config = system.join("boot").join(format!("config-{}", release.file_name().to_string_lossy()));
    std::fs::copy(tree.join(".config"), config)?;
    for (when, text) in RIG {
        let dir = system.join("etc/initramfs-tools/scripts").join(when);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("rig"), text)?;
        std::fs::set_permissions(dir.join("rig"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let tar = Command::new("tar").arg("-C").arg(&system).args(["-c", "."]).output()?;
    ensure!(tar.status.success(), "{tar:?}");

    let out = c.exec_with(1, &["sh", "-c", "mkdir -p /tmp/system && tar -C /tmp/system -x --no-same-owner"], &tar.stdout)?;
    same(out.error_text(), out.code, 0)?;
    files(c, 1)?;
    let listed = c.sh_for(Duration::from_secs(300), 1, MAKE)?;
    ensure!(listed.starts_with("-rw------- 1 root root "), "others may read it: {listed}");
    let made = dir.join("initrd");
    std::fs::copy(c.client.dir().join("shared/initrd"), &made)?;
    *is_made = true;
    Ok(made)
}

/// Files for the nodes, in which node 3 has another key, and these lines at the end of its configuration.
fn with_wrong_key(c: &Context, lines: &str) -> Result<PathBuf> {
    let right = std::fs::read(initramfs(c)?)?;
    let dir = &c.scratch;
    for node in 1..=2 {
        std::fs::write(dir.join(format!("initrd-{node}")), &right)?;
    }
    let mut more = Archive::default();
    more.file("etc/cluster.key", 0o600, b"another-key-of-the-cluster\n");
    more.file("etc/default/openssi", 0o600, format!("SSI_JOIN=yes\n{lines}\n").as_bytes());
    // A further archive begins at a multiple of four.
    let padding = vec![0; right.len().next_multiple_of(4) - right.len()];
    std::fs::write(dir.join("initrd-3"), [right, padding, more.finish()].concat())?;
    Ok(dir.join("initrd-{node}"))
}

fn up(c: &Context, initrd: PathBuf) -> Up {
    Up {
        root: Root::Debian,
        initrd: Some(initrd),
        timeout: Some(Duration::from_secs(180)),
        ..c.up()
    }
}

/// Nodes that boot from it, as a context of their own.
fn nodes(c: &Context, name: &str, up: &Up) -> Result<(Instance, Context)> {
    let instance = c.instance(name, up)?;
    let context = Context {
        client: instance.client.clone(),
        places: c.places.clone(),
        nodes: up.nodes,
        kernel: c.kernel,
        scratch: c.scratch.clone(),
        patience: c.patience,
    };
    Ok((instance, context))
}

fn joins(outer: &Context) -> Result<()> {
    let (_instance, c) = &nodes(outer, "cluster", &up(outer, initramfs(outer)?))?;
    let before = cluster::agree(c, &[1, 2, 3], 30)?;
    for node in 1..=3 {
        in_order(c, node, &[JOINED, ROOT, "rig-agent: ready"])?;
        same("its name", c.sh(node, "clustername")?, NAME.trim())?;
        // They are the files of the root from here on.
        files(c, node)?;
        c.sh(node, &format!("sh -c '{}'", service(c)?))?;
        let daemon = c.background(node, &["cluster", "fenced"])?;
        let log = format!("{}.out", daemon.log.context("a log")?);
        c.until("the daemon", 10, || Ok(c.sh(node, &format!("cat {log}"))?.contains("3 nodes can be fenced").then_some(())))?;
    }
    same("joined once", cluster::agree(c, &[1, 2, 3], 10)?, before.clone())?;
    same("onnode", c.sh(1, "onnode 3 hostname")?, "node3")?;
    let sleeper = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    same("ps", c.sh(3, &format!("ps -o comm= -p {sleeper}"))?, "sleep")?;

    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    c.wait(3, Event::Up, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 30)?;
    ensure!(back.node(3)?.incarnation > before.node(3)?.incarnation, "{before:?} {back:?}");
    in_order(c, 1, &["node 3 is fenced", "node 3 is judged dead"])
}

fn wrong_key(outer: &Context) -> Result<()> {
    let initrd = with_wrong_key(outer, "SSI_JOIN_TIMEOUT=10")?;
    let (_instance, c) = &nodes(outer, "cluster", &up(outer, initrd))?;
    cluster::agree(c, &[1, 2], 30)?;
    in_order(c, 3, &["openssi: not a member after 10 s", "cluster.key", "going on without the cluster", ROOT, "rig-agent: ready"])?;
    ensure!(!c.console(3).contains(JOINED), "it says that it has joined");
    same("its cluster", c.exec(3, &["clustername"])?.code, 1)?;
    let why = c.sh(3, "cat /run/openssi/not-joined")?;
    ensure!(why.starts_with("not a member after 10 s"), "{why}");
    // Its root has them on a machine on which they are installed.
    let modules = outer.places.top.join("build/cases/initramfs/system/usr/lib/modules");
    let tar = Command::new("tar").arg("-C").arg(modules).args(["-c", "."]).output()?;
    let unpack = "mkdir /tmp/modules && tar -C /tmp/modules -x --no-same-owner && mount --bind /tmp/modules /usr/lib/modules";
    same("unpacking", c.exec_with(3, &["sh", "-c", unpack], &tar.stdout)?.code, 0)?;
    files(c, 3)?;
    c.sh(3, &format!("sh -c '{}'", service(c)?))?;
    cluster::agree(c, &[1, 2, 3], 10).map(drop)
}

fn must(outer: &Context) -> Result<()> {
    let initrd = with_wrong_key(outer, "SSI_JOIN=must\nSSI_JOIN_TIMEOUT=3")?;
    let Err(e) = nodes(outer, "cluster", &up(outer, initrd)) else {
        anyhow::bail!("node 3 boots");
    };
    let why = format!("{e:#}");
    ensure!(why.contains("node 3: ended in boot step"), "{why}");
    let text = std::fs::read_to_string(outer.scratch.join("cluster/node3.console"))?;
    let mut rest = &text[..];
    for words in ["openssi: not a member after 3 s", "it must be one to boot", "Rebooting automatically due to panic="] {
        rest = rest.split_once(words).with_context(|| format!("{words}: {text}"))?.1;
    }
    ensure!(!text.contains(ROOT), "its root is mounted");
    Ok(())
}

fn without(outer: &Context) -> Result<()> {
    let one = |name: &str, append: &str| {
        let up = Up {
            nodes: 1,
            append: append.to_owned(),
            ..up(outer, initramfs(outer)?)
        };
        nodes(outer, name, &up)
    };
    let (_first, c) = &one("no-network", "ip=off")?;
    let words = ["openssi: not a member: no network: ", "going on without the cluster", ROOT, "rig-agent: ready"];
    in_order(c, 1, &words)?;
    let (_second, c) = &one("no", "ssi.join=no")?;
    in_order(c, 1, &[ROOT, "rig-agent: ready"])?;
    ensure!(!c.console(1).contains("openssi: "), "it speaks of the cluster");
    same("exit code without the modules", c.exec(1, &["clustername"])?.code, 3)
}
