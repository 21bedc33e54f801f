// SPDX-License-Identifier: GPL-2.0

//! From the start of pid 1 to a node that takes commands.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use nix::mount::MsFlags;
use nix::sys::reboot::RebootMode;
use rig_agent::wire::Config;
use rig_agent::wire::Frame;
use rig_agent::wire::Hello;
use rig_agent::wire::Kind;

use crate::net;
use crate::port::Port;

/// Search path of everything that the agent starts.
pub(crate) const PATH: &str = "/overlay:/overlay/bin:/overlay/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/ssi-tests";

/// How nodes are fenced.
const FENCE_TOML: &str = "/run/cluster/fence.toml";

/// Makes the console pid 1's standard streams, in case the kernel found no /dev/console to open.
pub(crate) fn console() {
    let _ = fs::create_dir("/dev");
    // Already mounted by the kernel in some configurations: not an error.
    let _ = mount("devtmpfs", "/dev", "devtmpfs", MsFlags::empty(), "");
    if let Ok(file) = fs::OpenOptions::new().read(true).write(true).open("/dev/console") {
        let _ = nix::unistd::dup2_stdin(&file);
        let _ = nix::unistd::dup2_stdout(&file);
        let _ = nix::unistd::dup2_stderr(&file);
    }
}

/// Stops here for ever, so that the node's memory and console stay to be looked at.
pub(crate) fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

fn mount(source: &str, target: &str, fstype: &str, flags: MsFlags, data: &str) -> Result<(), String> {
    nix::mount::mount(Some(source), target, Some(fstype), flags, Some(data))
        .map_err(|e| format!("mount {fstype} {source} on {target}: {e}"))
}

/// Whether an initramfs that is not the rig's has gone to the root already: what it mounts is there, and the network.
pub(crate) fn is_rooted() -> bool {
    fs::read_to_string("/proc/cmdline").is_ok_and(|l| l.split_whitespace().any(|w| w == "rig.rooted"))
}

/// Number after the last `name=` on the kernel command line.
fn parameter(name: &str) -> Option<u32> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    line.split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// The mounts that everything needs, and the port.
pub(crate) fn early() -> Result<Port, String> {
    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !is_rooted() {
        mounts(nosuid)?;
    }
    fs::create_dir_all("/dev/shm").map_err(|e| format!("/dev/shm: {e}"))?;
    mount(
        "tmpfs",
        "/dev/shm",
        "tmpfs",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=1777",
    )?;
    // What a configuration may lack.
    let _ = mount("debugfs", "/sys/kernel/debug", "debugfs", nosuid, "");
    let _ = mount("tracefs", "/sys/kernel/tracing", "tracefs", nosuid, "");
    let _ = mount("cgroup2", "/sys/fs/cgroup", "cgroup2", nosuid, "");
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, format!("/dev/{link}"));
    }
    disks();
    Port::open()
}

/// What every initramfs mounts.
fn mounts(nosuid: MsFlags) -> Result<(), String> {
    mount("proc", "/proc", "proc", nosuid, "")?;
    mount("sysfs", "/sys", "sysfs", nosuid, "")?;
    if fs::read_to_string("/proc/cmdline").is_ok_and(|l| l.split_whitespace().any(|w| w == "rig.probe")) {
        eprintln!("rig-agent: probe ok");
        let _ = nix::sys::reboot::reboot(RebootMode::RB_POWER_OFF);
    }
    fs::create_dir_all("/dev/pts").map_err(|e| format!("/dev/pts: {e}"))?;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::empty(),
        "mode=620,ptmxmode=666,gid=5",
    )?;
    mount(
        "tmpfs",
        "/run",
        "tmpfs",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=755",
    )
}

/// `/dev/disk/NAME` for every virtio disk that was given a name.
fn disks() {
    let _ = fs::create_dir_all("/dev/disk");
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if !serial.trim().is_empty() {
            let device = format!("../{}", entry.file_name().to_string_lossy());
            let _ = std::os::unix::fs::symlink(device, format!("/dev/disk/{}", serial.trim()));
        }
    }
}

/// Everything after the first word to the host.
pub(crate) fn late(port: &mut Port) -> Result<(), String> {
    let node = parameter("ssi.node").ok_or("no ssi.node= on the kernel command line")?;
    let read = |path: &str| {
        fs::read_to_string(path)
            .map(|s| s.trim().to_owned())
            .map_err(|e| format!("{path}: {e}"))
    };
    let hello = Hello {
        boot_id: read("/proc/sys/kernel/random/boot_id")?,
        node,
        release: read("/proc/sys/kernel/osrelease")?,
    };
    port.send_now(&Frame::json(Kind::Hello, 0, &hello))
        .map_err(|e| format!("port: {e}"))?;
    let frame = port.receive_now()?;
    if frame.kind != Kind::Config {
        return Err(format!("{:?} where Config was due", frame.kind));
    }
    let config: Config = frame.parse().map_err(|e| e.to_string())?;

    port.stage("network")?;
    nix::unistd::sethostname(format!("node{node}")).map_err(|e| format!("sethostname: {e}"))?;
    if !is_rooted() {
        network(node, parameter("ssi.links").unwrap_or(1))?;
    }
    cluster_files(&config)?;
    if config.modules {
        port.stage("modules")?;
        modules()?;
    }
    if config.join {
        port.stage("join")?;
        join(config.fence.is_some())?;
    }
    if config.root {
        port.stage("root")?;
        root()?;
    }
    if config.join && config.root && config.fence.is_some() {
        port.stage("fenced")?;
        fenced()?;
    }
    port.send_now(&Frame::raw(Kind::Ready, 0, b""))
        .map_err(|e| format!("port: {e}"))
}

fn network(node: u32, links: u32) -> Result<(), String> {
    net::up("lo", None)?;
    let last = u8::try_from(node).map_err(|_| format!("ssi.node={node}: the rig's nodes are 1 to 254"))?;
    for link in 1..=u8::try_from(links).map_err(|_| format!("ssi.links={links}"))? {
        let mac = format!("52:54:00:00:{link:02x}:{last:02x}");
        let name = net::find(&mac).ok_or_else(|| format!("no network device {mac}"))?;
        // Router solicitations and the like only blur the switch's counts.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        net::up(
            &name,
            Some((Ipv4Addr::new(10, 73, link, last), Ipv4Addr::new(255, 255, 255, 0))),
        )?;
    }
    Ok(())
}

fn cluster_files(config: &Config) -> Result<(), String> {
    let err = |e: std::io::Error| format!("/run/cluster: {e}");
    fs::create_dir_all("/run/cluster").map_err(err)?;
    fs::create_dir_all("/run/rig").map_err(err)?;
    fs::write("/run/cluster/clustertab", &config.clustertab).map_err(err)?;
    fs::write("/run/cluster/clustername", format!("{}\n", config.clustername)).map_err(err)?;
    fs::write("/run/cluster/key", format!("{}\n", config.key)).map_err(err)?;
    if let Some(text) = &config.fence {
        fs::write(FENCE_TOML, text).map_err(err)?;
    }
    fs::set_permissions("/run/cluster/key", fs::Permissions::from_mode(0o600)).map_err(err)
}

fn modules() -> Result<(), String> {
    let order = fs::read_to_string("/modules/order").map_err(|e| format!("/modules/order: {e}"))?;
    for name in order.split_whitespace() {
        let path = Path::new("/modules").join(name);
        let file = fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        nix::kmod::finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty())
            .map_err(|e| format!("insmod {name}: {e}{}", hint(e)))?;
    }
    Ok(())
}

/// What an error of insmod means most often.
fn hint(e: nix::Error) -> &'static str {
    match e {
        nix::Error::ENOENT | nix::Error::ENOEXEC | nix::Error::EINVAL => " (built for another kernel? see the console)",
        _ => "",
    }
}

fn join(fenced: bool) -> Result<(), String> {
    let fence: &[&str] = if fenced { &["--fence", FENCE_TOML] } else { &[] };
    let out = Command::new("/usr/sbin/cluster")
        .arg("join")
        .args(fence)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cluster join: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let text = [out.stdout, out.stderr].concat();
    Err(format!(
        "cluster join: {}: {}",
        out.status,
        String::from_utf8_lossy(&text).trim()
    ))
}

/// Starts the daemon that runs fence agents. Its pid and what it says are in `/run/rig/fenced.*`.
fn fenced() -> Result<(), String> {
    let err = |e: std::io::Error| format!("cluster fenced: {e}");
    let log = fs::File::create("/run/rig/fenced.log").map_err(err)?;
    let child = Command::new("/usr/sbin/cluster")
        .args(["fenced", "--fence", FENCE_TOML])
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(err)?)
        .stderr(log)
        .spawn()
        .map_err(err)?;
    fs::write("/run/rig/fenced.pid", format!("{}\n", child.id())).map_err(err)
}

/// Mounts what belongs into the root, which is at `top`.
fn furnish(top: &str) -> Result<(), String> {
    if Path::new("/dev/disk/overlay").exists() {
        mount(
            "/dev/disk/overlay",
            &format!("{top}/overlay"),
            "squashfs",
            MsFlags::MS_RDONLY,
            "",
        )?;
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for (dir, mode) in [("tmp", "1777"), ("var/tmp", "1777"), ("root", "700")] {
        mount("tmpfs", &format!("{top}/{dir}"), "tmpfs", safe, &format!("mode={mode}"))?;
    }
    mount(
        "shared",
        &format!("{top}/shared"),
        "9p",
        safe,
        "trans=virtio,version=9p2000.L,cache=none,msize=131072,access=client",
    )
}

/// Goes from the initramfs to the root image.
fn root() -> Result<(), String> {
    if is_rooted() {
        return furnish("");
    }
    let ro = MsFlags::MS_RDONLY;
    let io = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| format!("{what}: {e}")
    };
    mount("/dev/disk/root", "/sysroot", "squashfs", ro, "")?;
    if Path::new("/dev/disk/tools").exists() {
        mount("/dev/disk/tools", "/sysroot/usr/lib/openssi", "squashfs", ro, "")?;
    }
    furnish("/sysroot")?;
    for dir in ["dev", "proc", "sys", "run"] {
        let (from, to) = (format!("/{dir}"), format!("/sysroot/{dir}"));
        nix::mount::mount(
            Some(from.as_str()),
            to.as_str(),
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .map_err(|e| format!("move {from}: {e}"))?;
    }
    // The modules are loaded; their files would stay in memory until the node dies.
    let _ = fs::remove_dir_all("/modules");
    std::env::set_current_dir("/sysroot").map_err(io("/sysroot"))?;
    nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|e| format!("move the root: {e}"))?;
    std::os::unix::fs::chroot(".").map_err(io("chroot"))?;
    std::env::set_current_dir("/").map_err(io("/"))
}
