// SPDX-License-Identifier: GPL-2.0

//! Bringing an instance up: images, the supervisor, and the wait until everything is there.

use std::fs;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use crate::client;
use crate::control::Reply;
use crate::fault::Rng;
use crate::images;
use crate::images::Places;
use crate::images::Root;
use crate::kvm;
use crate::qemu;
use crate::tsc;

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// As shipped.
    Plain,
    /// With every checker.
    Debug,
    /// Without the series.
    Unpatched,
}

impl Kernel {
    /// The name as kernel.sh has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
            Self::Unpatched => "unpatched",
        }
    }
}

/// A disk beside the images: `NAME:SIZE[:shared]`, `/dev/disk/NAME` in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// All nodes have the same one.
    pub shared: bool,
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = s.split(':');
        let (name, size) = (
            parts.next().unwrap_or_default(),
            parts.next().ok_or("NAME:SIZE[:shared] is wanted")?,
        );
        let shared = match parts.next() {
            None => false,
            Some("shared") => true,
            Some(other) => return Err(format!("{other}: only `shared` may stand there")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 16 || !name.chars().all(is_name) {
            return Err(format!("{name}: not a name of up to 16 letters, digits, - and _"));
        }
        if ["root", "tools", "overlay"].contains(&name) {
            return Err(format!("{name}: is taken"));
        }
        let (digits, shift) = match size.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']) {
            Some(d) => (
                d,
                [10, 20, 30]["kmg".find(&size[d.len()..].to_lowercase()).unwrap_or(0)],
            ),
            None => (size, 0),
        };
        let size = digits
            .parse::<u64>()
            .ok()
            .filter(|n| *n > 0)
            .and_then(|n| n.checked_mul(1 << shift));
        Ok(Self {
            name: name.to_owned(),
            size: size.ok_or_else(|| format!("{s}: no size"))?,
            shared,
        })
    }
}

impl Disk {
    /// The file behind it.
    pub(crate) fn path(&self, dir: &Path, node: u32) -> PathBuf {
        if self.shared {
            dir.join(format!("{}.disk", self.name))
        } else {
            dir.join(format!("node{node}.{}.disk", self.name))
        }
    }
}

/// What `rig up` is told.
#[derive(Clone, Debug, Args)]
pub struct Up {
    /// Number of nodes
    #[arg(short = 'n', long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub nodes: u32,
    /// Root file system
    #[arg(long, value_enum, default_value_t = Root::Busybox)]
    pub root: Root,
    /// A directory that every node sees, read-only, at /overlay, first in PATH
    #[arg(long, value_name = "DIR")]
    pub overlay: Option<PathBuf>,
    /// Which kernel
    #[arg(long, value_enum, default_value_t = Kernel::Plain)]
    pub kernel: Kernel,
    /// Boot from this initramfs, which goes to the root itself (implies --no-modules); {node} in it is the node's number
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Load no modules (implies --no-join)
    #[arg(long)]
    pub no_modules: bool,
    /// CPUs of a node [default: 1, 2 with the debug kernel]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: Option<u32>,
    /// MiB of memory of a node
    #[arg(long, value_name = "M")]
    pub mem: Option<u32>,
    /// Number of networks between the nodes
    #[arg(long, value_name = "L", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub links: u32,
    /// A disk of every node, or one that all share: NAME:SIZE[:shared]; /dev/disk/NAME in the guest
    #[arg(long = "disk", value_name = "SPEC")]
    pub disks: Vec<Disk>,
    /// Added to the kernel's command line; {node} in it is the node's number
    #[arg(long, value_name = "STR", default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// Nodes are fenced when they are lost: by the rig, through `cluster fenced` and the agent fence_rig
    #[arg(long)]
    pub fence: bool,
    /// Load the modules, but do not join
    #[arg(long)]
    pub no_join: bool,
    /// A node that exits by reboot stays off
    #[arg(long)]
    pub no_restart: bool,
    /// Seconds until it must be up [default: 60, 300 with the debug kernel, and 20 for each node above 3]
    #[arg(long, value_name = "S", value_parser = client::seconds)]
    pub timeout: Option<Duration>,
    /// Seed of all chance [default: another one each time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// The instance goes down when this process ends
    #[arg(long, value_name = "PID")]
    pub tie: Option<u32>,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            nodes: 3,
            root: Root::Busybox,
            overlay: None,
            kernel: Kernel::Plain,
            initrd: None,
            no_modules: false,
            smp: None,
            mem: None,
            links: 1,
            disks: Vec::new(),
            append: String::new(),
            fence: false,
            no_join: false,
            no_restart: false,
            timeout: None,
            seed: None,
            tie: None,
        }
    }
}

/// What the supervisor works from: `DIR/setup.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Number of nodes.
    pub nodes: u32,
    /// Kernel variant.
    pub kernel: Kernel,
    /// Its file.
    pub kernel_image: PathBuf,
    /// The initramfs, the rig's or that of each node.
    pub initramfs: PathBuf,
    /// Read-only images by name.
    pub images: Vec<(String, PathBuf)>,
    /// Further disks.
    pub disks: Vec<Disk>,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// CPUs.
    pub smp: u32,
    /// MiB.
    pub mem: u32,
    /// Networks.
    pub links: u32,
    /// The rig's own words on the kernel command line.
    pub cmdline: String,
    /// The user's.
    pub append: String,
    /// Load modules.
    pub modules: bool,
    /// Join.
    pub join: bool,
    /// Nodes are fenced.
    pub fence: bool,
    /// Start again after a reboot.
    pub restart: bool,
    /// Until all are up.
    pub timeout: Duration,
    /// Seed of all chance.
    pub seed: u64,
    /// Go down with this process.
    pub tie: Option<u32>,
    /// The cluster's key.
    pub key: String,
}

fn some_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    Rng::new(u64::from(now.subsec_nanos()) ^ now.as_secs() << 20 ^ u64::from(std::process::id())).number() % 1_000_000
}

/// How long so many nodes may take to be up: emulated ones share the machine's processors.
fn boot_seconds(nodes: u32, is_debug: bool) -> u64 {
    let few = if is_debug { 300 } else { 60 };
    few + 20 * u64::from(nodes.saturating_sub(3))
}

/// What an initramfs that is not the rig's is told: where the root is, that the rig's agent is there, and the address.
const ROOTED: &str = " root=/dev/vda rootfstype=squashfs ro init=/usr/lib/openssi/bin/rig-agent rig.rooted net.ifnames=0 \
                      ip=10.73.1.{node}:::255.255.255.0:node{node}:eth0:off";

/// What the kernel of every guest is told.
fn cmdline(is_debug: bool, accel: &str) -> String {
    // A case lasts seconds: what hangs longer than this hangs for good.
    let mut line = format!(
        "sysctl.kernel.hung_task_timeout_secs={}",
        if is_debug { 120 } else { 40 }
    );
    if is_debug {
        // An interrupt while the kernel reads the processor's features anew finds none of them: KASAN then takes the
        // direct map of five levels of page tables for wild memory.
        line.push_str(" no5lvl");
    }
    if accel == "tcg" {
        // On a loaded host the interrupts that a booting kernel counts on to come in time do not: it takes its timer for
        // broken, and panics.
        line.push_str(" no_timer_check");
    }
    if let Some(khz) = tsc::khz().filter(|_| accel == "tcg") {
        line.push_str(&format!(" tsc_early_khz={khz}"));
    }
    line
}

impl Up {
    fn setup(&self, places: &Places) -> Result<Setup> {
        let is_debug = self.kernel == Kernel::Debug;
        let with_modules = !self.no_modules && self.initrd.is_none() && self.kernel != Kernel::Unpatched;
        let join = with_modules && !self.no_join;
        let kernel_image = places.kernel(self.kernel.name())?;
        let modules = if with_modules {
            places.modules(self.kernel.name())?
        } else {
            Vec::new()
        };
        let cluster = places.cluster_tool();
        if join && cluster.is_none() {
            bail!("build/bin/cluster is not built: run `make tools`, or pass --no-join");
        }
        let agent = places.top.join("build/bin/rig-agent");
        let initramfs = images::initramfs(places, &agent, &modules, cluster.as_deref())?;
        let root = match self.root {
            Root::Busybox => images::busybox_root(places)?,
            Root::Debian => images::debian_root(places)?,
        };
        let mut images = vec![("root".to_owned(), root), ("tools".to_owned(), images::tools(places)?)];
        if let Some(dir) = &self.overlay {
            images.push(("overlay".to_owned(), images::overlay(places, dir)?));
        }
        let seed = self.seed.unwrap_or_else(some_seed);
        let accel = kvm::accel(places, &kernel_image, &initramfs);
        let mut cmdline = cmdline(is_debug, accel);
        if self.initrd.is_some() {
            cmdline.push_str(ROOTED);
        }
        let mut key_rng = Rng::new(seed ^ u64::from(std::process::id()) << 32);
        Ok(Setup {
            nodes: self.nodes,
            kernel: self.kernel,
            accel: accel.to_owned(),
            kernel_image,
            initramfs: self.initrd.clone().unwrap_or(initramfs),
            images,
            disks: self.disks.clone(),
            smp: self.smp.unwrap_or(if is_debug { 2 } else { 1 }),
            mem: self.mem.unwrap_or(match (is_debug, self.root) {
                (false, Root::Busybox) => 256,
                (false, Root::Debian) => 384,
                (true, _) => 768,
            }),
            links: self.links,
            cmdline,
            append: self.append.clone(),
            modules: with_modules,
            join,
            fence: self.fence,
            restart: !self.no_restart,
            timeout: self
                .timeout
                .unwrap_or(Duration::from_secs(boot_seconds(self.nodes, is_debug))),
            seed,
            tie: self.tie,
            key: format!("{:016x}{:016x}", key_rng.number(), key_rng.number()),
        })
    }

    /// Brings the instance in `dir` up; lines of progress go to `progress`. When this fails nothing is left running.
    ///
    /// # Errors
    /// The reason why it is not up.
    pub fn run(&self, places: &Places, dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
        check_ours(dir)?;
        let setup = self.setup(places)?;
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = fs::canonicalize(dir)?;
        if client::is_up(&dir) {
            bail!("{} is up already: `rig down` first", dir.display());
        }
        // From here on the directory is known as ours.
        fs::write(dir.join("setup.json"), serde_json::to_vec_pretty(&setup)?)?;
        fs::create_dir_all(dir.join("shared"))?;
        clean(&dir)?;
        // Every user of every node may write there, as in /tmp.
        fs::set_permissions(dir.join("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
        qemu::make_disks(&setup.disks, &dir, setup.nodes)?;
        progress(&format!(
            "{} nodes, {} kernel, {}, seed {}",
            setup.nodes,
            setup.kernel.name(),
            setup.accel,
            setup.seed
        ));
        let (ours, theirs) = UnixStream::pair()?;
        let log = File::create(dir.join("rig.log"))?;
        let mut command = Command::new(places.top.join("build/bin/rig"));
        command
            .arg("-C")
            .arg(&dir)
            .arg("supervise")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir("/");
        // SAFETY: setsid is safe between fork and exec.
        unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
        let mut child = command.spawn().context("the supervisor")?;
        drop(command);
        let reply = client::follow(ours, progress);
        match reply {
            Ok(Reply { code: 0, .. }) => Ok(()),
            Ok(Reply { error, .. }) => {
                let _ = child.wait();
                bail!("{}", error.unwrap_or_default())
            }
            Err(_) => {
                let _ = child.wait();
                let log = fs::read_to_string(dir.join("rig.log")).unwrap_or_default();
                bail!("the supervisor ended: {}", log.trim())
            }
        }
    }
}

/// `up` empties its directory: it must be new, empty, or that of an instance before.
fn check_ours(dir: &Path) -> Result<()> {
    let mut entries = fs::read_dir(dir).into_iter().flatten();
    if entries.next().is_some() && !dir.join("setup.json").exists() {
        bail!("{} is not empty and no rig's directory", dir.display());
    }
    Ok(())
}

/// Takes away what the instance before left. Never more than the rig's own files.
fn clean(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with("node") || name.ends_with(".disk") || name == "rig.sock";
        if is_ours && entry.file_type()?.is_file() || name == "rig.sock" {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(dir.join("shared"))?.flatten() {
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_directory_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("rig-strange-{}", std::process::id()));
        assert!(check_ours(&dir).is_ok());
        fs::create_dir_all(dir.join("shared")).unwrap();
        assert!(check_ours(&dir).is_err());
        fs::write(dir.join("setup.json"), "").unwrap();
        assert!(check_ours(&dir).is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn disks_are_parsed() {
        let disk = |s: &str| s.parse::<Disk>();
        let want = |name: &str, size, shared| {
            Ok(Disk {
                name: name.into(),
                size,
                shared,
            })
        };
        assert_eq!(disk("a:64m"), want("a", 64 << 20, false));
        assert_eq!(disk("quorum:1G:shared"), want("quorum", 1 << 30, true));
        assert_eq!(disk("b:512"), want("b", 512, false));
        for bad in [
            "a",
            "a:",
            "a:0",
            "a:m",
            ":1m",
            "root:1m",
            "a:1m:own",
            "a b:1m",
            "a,x=y:1m",
            "a:99999999999999g",
        ] {
            assert!(disk(bad).is_err(), "{bad}");
        }
    }
}
