// SPDX-License-Identifier: GPL-2.0

//! Whether this machine's KVM really boots a guest. A /dev/kvm that opens proves nothing.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::images::Places;
use crate::qemu;

/// A guest that can boot does it in two seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// `kvm` or `tcg`. Tried once per boot of this machine and version of QEMU.
pub(crate) fn accel(places: &Places, kernel: &Path, initramfs: &Path) -> &'static str {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return "tcg";
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = Command::new(qemu::QEMU)
        .arg("--version")
        .output()
        .map(|o| o.stdout)
        .unwrap_or_default();
    let key = format!(
        "{}\n{}",
        boot.trim(),
        String::from_utf8_lossy(&version).lines().next().unwrap_or_default()
    );
    let cache = places.cache.join("kvm-probe");
    if let Ok(known) = fs::read_to_string(&cache)
        && let Some(answer) = known.strip_prefix(&format!("{key}\n"))
    {
        return if answer.trim() == "kvm" { "kvm" } else { "tcg" };
    }
    let answer = if boots(kernel, initramfs) { "kvm" } else { "tcg" };
    // Not being able to remember only costs the next probe.
    let _ = fs::create_dir_all(&places.cache);
    let _ = fs::write(&cache, format!("{key}\n{answer}\n"));
    answer
}

fn boots(kernel: &Path, initramfs: &Path) -> bool {
    let mut command = Command::new(qemu::QEMU);
    command
        .args(qemu::common_args(
            "kvm",
            kernel,
            initramfs,
            "console=ttyS0 panic=-1 rig.probe",
        ))
        .args(["-m", "256", "-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let parent = nix::unistd::getpid();
    // SAFETY: the closure calls only system calls that are safe between fork and exec.
    unsafe { command.pre_exec(move || qemu::die_with_parent(parent)) };
    let Ok(mut child) = command.spawn() else { return false };
    let Some(mut stdout) = child.stdout.take() else {
        return false;
    };
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stdout, &mut text);
        text.contains("probe ok")
    });
    let start = Instant::now();
    while start.elapsed() < LIMIT && !reader.is_finished() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    reader.join().unwrap_or(false)
}
