// SPDX-License-Identifier: GPL-2.0

//! The guests' files: images, `/shared`, push and pull.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use anyhow::ensure;
use rig::Up;

use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "rig_files_are_one",
        promise: "a program is the very same file on every node, and nobody can change it",
        nodes: 2,
        modules: false,
        run: one,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_shared",
        promise: "what one node writes to /shared the other reads at once, and so does the host",
        nodes: 2,
        modules: false,
        run: shared,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_push_pull",
        promise: "a file goes to a node and back with its bytes and permissions; what cannot is said",
        nodes: 2,
        modules: false,
        run: push_pull,
        ..Case::DEFAULT
    },
    Case {
        name: "rig_overlay_and_disks",
        promise: "an overlay is first in PATH; own disks are apart, a shared one is one",
        nodes: 2,
        modules: false,
        run: overlay,
        ..Case::DEFAULT
    },
];

fn one(c: &Context) -> Result<()> {
    for path in ["/bin/busybox", "/usr/lib/openssi/bin", "/etc/passwd"] {
        let all = c.sh_all(&format!("stat -L -c '%d %i %s %Y' {path}"))?;
        ensure!(all.windows(2).all(|w| w[0] == w[1]), "{path}: {all:?}");
    }
    for dir in ["/", "/etc", "/usr/bin", "/usr/lib/openssi"] {
        let out = c.exec(1, &["touch", &format!("{dir}/x")])?;
        ensure!(out.code == 1 && out.error_text().contains("Read-only"), "{dir}: {out:?}");
    }
    for dir in ["/tmp", "/run", "/var/tmp", "/root"] {
        same(dir, c.sh(1, &format!("touch {dir}/x && stat -f -c %T {dir} && rm {dir}/x"))?, "tmpfs")?;
    }
    same("overlayfs", c.sh(1, "grep -c overlay /proc/filesystems || true")?, "0")
}

fn shared(c: &Context) -> Result<()> {
    let path = c.client.dir().join("shared/rig_shared");
    c.sh(1, "echo one > /shared/rig_shared")?;
    same("node 2", c.sh(2, "cat /shared/rig_shared")?, "one")?;
    same("host", std::fs::read_to_string(&path)?, "one\n")?;
    c.sh(2, "echo two >> /shared/rig_shared")?;
    same("node 1", c.sh(1, "cat /shared/rig_shared")?, "one\ntwo")?;
    let all = c.sh_all("stat -c '%i %s' /shared/rig_shared")?;
    same("identity", &all[0], &all[1])?;
    let user = c.exec_as("user", 2, &["sh", "-c", "echo x > /shared/rig_mine && stat -c %u /shared/rig_mine"])?;
    same("owner", user.text(), "1000")?;
    c.sh(1, "rm /shared/rig_shared /shared/rig_mine").map(drop)
}

fn push_pull(c: &Context) -> Result<()> {
    let (here, back) = (c.scratch.join("here"), c.scratch.join("back"));
    let data: Vec<u8> = (0..1_000_003_u32).map(|i| (i ^ (i >> 7)) as u8).collect();
    std::fs::write(&here, &data)?;
    std::fs::set_permissions(&here, std::fs::Permissions::from_mode(0o775))?;
    c.client.push(1, &here, "/tmp/there")?;
    same("there", c.sh(1, "stat -c '%a %s' /tmp/there")?, "775 1000003")?;
    c.client.pull(1, "/tmp/there", &back)?;
    ensure!(std::fs::read(&back)? == data, "it came back changed");
    same("mode", std::fs::metadata(&back)?.permissions().mode() & 0o777, 0o775)?;
    c.sh(1, "rm /tmp/there")?;
    // Control files take a value in one write.
    c.client.put(1, Box::new(std::io::Cursor::new(b"rigged\n".to_vec())), "/proc/sys/kernel/domainname", 0o644)?;
    same("sysctl", c.sh(1, "cat /proc/sys/kernel/domainname")?, "rigged")?;
    ensure!(c.client.push(1, &here, "/etc/no").is_err_and(|e| e.to_string().contains("Read-only")), "/etc/no");
    ensure!(c.client.pull(1, "/no/such", &back).is_err_and(|e| e.to_string().contains("No such file")), "/no/such");
    Ok(())
}

fn overlay(c: &Context) -> Result<()> {
    let dir = c.scratch.join("overlay");
    std::fs::create_dir_all(dir.join("bin"))?;
    std::fs::write(dir.join("bin/hostname"), "#!/bin/sh\necho from the overlay\n")?;
    std::fs::set_permissions(dir.join("bin/hostname"), std::fs::Permissions::from_mode(0o755))?;
    let disk = |s: &str| s.parse().map_err(anyhow::Error::msg);
    let up = Up {
        nodes: 2,
        no_modules: true,
        overlay: Some(dir),
        disks: vec![disk("own:1m")?, disk("all:2m:shared")?],
        links: 2,
        ..c.up()
    };
    let other = c.instance("overlay-instance", &up)?;
    let sh = |node, script: &str| -> Result<String> {
        let out = other.client.output(node, rig::spawn::command(&["sh", "-c", script]), None, b"")?;
        ensure!(out.code == 0, "{script}: {out:?}");
        Ok(out.text())
    };
    // Not by way of a shell: Debian's busybox runs its own applets before it looks at PATH.
    let out = other.client.output(1, rig::spawn::command(&["hostname"]), None, b"")?;
    same("PATH", out.text(), "from the overlay")?;
    for name in ["own", "all"] {
        sh(1, &format!("echo {name} | dd of=/dev/disk/{name} conv=fsync 2>/dev/null"))?;
    }
    same("shared disk", sh(2, "dd if=/dev/disk/all bs=4 count=1 2>/dev/null")?, "all")?;
    same("own disk", sh(2, "dd if=/dev/disk/own bs=4 count=1 2>/dev/null | tr -d '\\0'")?, "")?;
    same("second link", sh(1, "ping -c 1 -W 5 10.73.2.2 >/dev/null && echo yes")?, "yes")?;
    same("clustertab", sh(2, "awk '$1 == 2 { print $2, $3 }' /etc/clustertab")?, "10.73.1.2,10.73.2.2 52:54:00:00:01:02")
}
