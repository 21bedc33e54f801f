// SPDX-License-Identifier: GPL-2.0

//! The command line of a node's QEMU, and its start.
//!
//! All sockets are made by the supervisor and inherited, so there is no path that could be too long, left over,
//! or another instance's. The QEMU dies with the thread that started it, however that one ends.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use nix::sys::signal::Signal;
use rig_agent::wire::FENCE_PORT;
use rig_agent::wire::PORT;
use tokio::process::Child;
use tokio::process::Command;

use crate::up::Disk;
use crate::up::Setup;

/// Name of the program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// A QEMU and our ends of its sockets.
pub(crate) struct Vm {
    pub(crate) child: Child,
    pub(crate) qmp: UnixStream,
    pub(crate) agent: UnixStream,
    pub(crate) fence: UnixStream,
    pub(crate) links: Vec<UnixStream>,
}

/// What QEMU gets whatever it runs.
pub(crate) fn common_args(accel: &str, kernel: &Path, initrd: &Path, cmdline: &str) -> Vec<OsString> {
    let accel = if accel == "tcg" {
        "tcg,thread=multi,tb-size=192"
    } else {
        accel
    };
    let mut args: Vec<OsString> = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-M",
        "q35,usb=off",
        "-cpu",
        "max",
        "-no-reboot",
        "-accel",
        accel,
        "-kernel",
    ]
    .map(OsString::from)
    .to_vec();
    args.extend([
        kernel.into(),
        "-initrd".into(),
        initrd.into(),
        "-append".into(),
        cmdline.into(),
    ]);
    args
}

/// Hardware address of a node's device on a link.
pub(crate) fn mac(node: u32, link: u32) -> String {
    format!("52:54:00:00:{link:02x}:{node:02x}")
}

/// Starts the QEMU of a node.
pub(crate) fn start(setup: &Setup, dir: &Path, node: u32) -> Result<Vm> {
    let mut fds: Vec<OwnedFd> = Vec::new();
    let mut pair = || -> io::Result<(UnixStream, i32)> {
        let (ours, theirs) = UnixStream::pair()?;
        let fd = theirs.as_raw_fd();
        fds.push(theirs.into());
        Ok((ours, fd))
    };
    let (qmp, qmp_fd) = pair()?;
    let (agent, agent_fd) = pair()?;
    let (fence, fence_fd) = pair()?;
    let links = (0..setup.links).map(|_| pair()).collect::<io::Result<Vec<_>>>()?;

    let cmdline = format!(
        "console=ttyS0 panic=-1 tsc=nowatchdog {} ssi.node={node} ssi.nodes={} ssi.links={} {}",
        setup.cmdline, setup.nodes, setup.links, setup.append
    );
    let own = |text: &str| text.replace("{node}", &node.to_string());
    let initramfs = own(&setup.initramfs.to_string_lossy());
    let mut args = common_args(
        &setup.accel,
        &setup.kernel_image,
        Path::new(&initramfs),
        own(cmdline.trim()).as_str(),
    );
    let mut arg = |a: &str, b: String| args.extend([a.into(), b.into()]);
    arg("-name", format!("node{node}"));
    arg("-smp", setup.smp.to_string());
    arg("-m", setup.mem.to_string());
    let log = dir.join(format!("node{node}.console"));
    // A file takes all: to a socket that is full QEMU gives a character once more, and has it twice in its log.
    arg("-chardev", format!("file,id=con,path={},append=on", comma(&log)));
    arg("-serial", "chardev:con".into());
    arg("-chardev", format!("socket,id=qmp,fd={qmp_fd}"));
    arg("-mon", "chardev=qmp,mode=control".into());
    arg("-chardev", format!("socket,id=agent,fd={agent_fd}"));
    arg("-device", "virtio-serial-pci".into());
    arg("-device", format!("virtserialport,chardev=agent,name={PORT}"));
    arg("-chardev", format!("socket,id=fence,fd={fence_fd}"));
    arg("-device", format!("virtserialport,chardev=fence,name={FENCE_PORT}"));
    for (link, (_, fd)) in (1..).zip(&links) {
        arg(
            "-netdev",
            format!("stream,id=net{link},server=off,addr.type=fd,addr.str={fd}"),
        );
        arg(
            "-device",
            format!("virtio-net-pci,netdev=net{link},mac={},romfile=", mac(node, link)),
        );
    }
    for (name, image) in &setup.images {
        arg(
            "-drive",
            format!("if=none,id={name},format=raw,readonly=on,file={}", comma(image)),
        );
        arg("-device", format!("virtio-blk-pci,drive={name},serial={name}"));
    }
    for disk in &setup.disks {
        let path = disk.path(dir, node);
        let (locking, share) = if disk.shared {
            (",file.locking=off,cache=none", ",share-rw=on")
        } else {
            ("", "")
        };
        arg(
            "-drive",
            format!(
                "if=none,id=disk-{},format=raw,file={}{locking}",
                disk.name,
                comma(&path)
            ),
        );
        arg(
            "-device",
            format!("virtio-blk-pci,drive=disk-{0},serial={0}{share}", disk.name),
        );
    }
    // Only root can give files the owners that the guest asks for.
    let model = if nix::unistd::geteuid().is_root() {
        "passthrough"
    } else {
        "mapped-xattr"
    };
    let shared = comma(&dir.join("shared"));
    arg(
        "-fsdev",
        format!("local,id=shared,security_model={model},multidevs=remap,path={shared}"),
    );
    arg("-device", "virtio-9p-pci,fsdev=shared,mount_tag=shared".into());

    let stderr = File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("node{node}.qemu")))?;
    let mut command = Command::new(QEMU);
    command
        .args(&args)
        .stdin(Stdio::null())
        .stdout(stderr.try_clone()?)
        .stderr(stderr)
        .kill_on_drop(true);
    let inherited: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = nix::unistd::getpid();
    // SAFETY: the closure calls only system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for fd in &inherited {
                keep_over_exec(*fd)?;
            }
            die_with_parent(parent)
        });
    }
    let child = command.spawn().with_context(|| QEMU.to_owned())?;
    drop(fds);
    let links = links.into_iter().map(|(stream, _)| stream).collect();
    Ok(Vm {
        child,
        qmp,
        agent,
        fence,
        links,
    })
}

/// In a child: the descriptor is for the program that it becomes.
fn keep_over_exec(fd: i32) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer and touches no memory; a number that is not open gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// In a child: be killed when the thread that made it ends.
pub(crate) fn die_with_parent(parent: nix::unistd::Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != parent {
        // It ended before the call.
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

/// QEMU's option parser takes a doubled comma for one.
fn comma(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Makes the files behind the disks.
pub(crate) fn make_disks(disks: &[Disk], dir: &Path, nodes: u32) -> Result<()> {
    for disk in disks {
        for node in 1..=nodes {
            let path = disk.path(dir, node);
            let file = File::create(&path).with_context(|| path.display().to_string())?;
            file.set_len(disk.size).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
