// SPDX-License-Identifier: GPL-2.0

//! What the guests boot from: an initramfs and read-only squashfs images, shared by all nodes.
//!
//! They lie outside the checkout, named by a hash of all that goes into them, and are made when they
//! are first asked for. Nothing is compressed: decompression is what an emulated CPU is worst at.

use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use sha2::Digest;
use sha2::Sha256;

use crate::cpio::Archive;

/// Packages of the Debian root on top of a minimal system.
const DEBIAN_PACKAGES: &[&str] = &[
    "procps",
    "bash",
    "python3-minimal",
    "python3",
    "bc",
    "strace",
    "stress-ng",
    "corosync",
    "openssh-client",
    "openssh-server",
    "psmisc",
    "util-linux",
    "file",
    "iproute2",
    "iputils-ping",
    "netcat-openbsd",
    "less",
    "lsof",
    "time",
    "tcpdump",
    "ethtool",
    "kmod",
    "dbench",
    "tmux",
    "expect",
    "ipmitool",
    "openipmi",
    "initramfs-tools-core",
    "gcc",
    "libc6-dev",
    "pkgconf",
];

/// The package of `fence_ipmilan`: Debian 12 has all agents in one, whose dependencies are those of all.
fn fence_package(suite: &str) -> &'static str {
    match suite {
        "bookworm" => "fence-agents",
        _ => "fence-agents-ipmilan",
    }
}

/// What one of those brings along for somebody's cloud, 78 MB.
const DEBIAN_WITHOUT: &[&str] = &["/usr/lib/python3/dist-packages/botocore/data/*"];

/// Raise when the recipes below change.
const RECIPE: u32 = 2;

/// The mount points and directories that the agent counts on, in every root.
const DIRS: &[&str] = &[
    "bin",
    "cluster",
    "dev",
    "etc",
    "home/user",
    "mnt",
    "overlay",
    "proc",
    "root",
    "run",
    "sbin",
    "shared",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib/modules",
    "usr/lib/openssi",
    "usr/sbin",
    "var/tmp",
];

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Top of the checkout.
    pub top: PathBuf,
    /// The cache outside of it.
    pub cache: PathBuf,
}

impl Places {
    /// From the environment: `RIG_TOP` (set by the launcher) and the user's cache directory.
    ///
    /// # Errors
    /// Not started by the launcher, or no home.
    pub fn find() -> Result<Self> {
        let top = std::env::var_os("RIG_TOP").context("RIG_TOP is not set: start tests/rig/rig or tests/run")?;
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
                .join(".cache"),
        };
        Ok(Self {
            top: top.into(),
            cache: cache.join("openssi"),
        })
    }

    fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// The kernel of a variant.
    ///
    /// # Errors
    /// It is not built.
    pub fn kernel(&self, variant: &str) -> Result<PathBuf> {
        let script = self.top.join("tools/build/kernel.sh");
        let out = Command::new(&script)
            .args(["--path", variant])
            .output()
            .with_context(|| script.display().to_string())?;
        let tree = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let image = Path::new(&tree).join("arch/x86/boot/bzImage");
        if !out.status.success() || !Path::new(&tree).join(".ssi-done").exists() || !image.exists() {
            bail!("the {variant} kernel is not built: run `make kernel KERNEL={variant}`");
        }
        Ok(image)
    }

    /// The module files of a variant in the order of loading.
    ///
    /// # Errors
    /// They are not built.
    pub fn modules(&self, variant: &str) -> Result<Vec<PathBuf>> {
        let dir = self.top.join("build/modules").join(variant);
        let order = fs::read_to_string(dir.join("order")).with_context(|| {
            format!(
                "the modules for {variant} are not built: run `make modules KERNEL={variant}`, or pass --no-modules"
            )
        })?;
        Ok(order.split_whitespace().map(|name| dir.join(name)).collect())
    }

    /// The `cluster` binary, if it is built.
    pub fn cluster_tool(&self) -> Option<PathBuf> {
        Some(self.top.join("build/bin/cluster")).filter(|p| p.exists())
    }

    fn tool_names(&self) -> Vec<String> {
        let names = fs::read_to_string(self.top.join("build/bin/names")).unwrap_or_default();
        names.split_whitespace().map(str::to_owned).collect()
    }
}

/// The root file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// Small: busybox with all its names.
    Busybox,
    /// A real Debian tree.
    Debian,
}

struct Hash(Sha256);

impl Hash {
    fn new(kind: &str) -> Self {
        let mut h = Self(Sha256::new());
        h.text(kind);
        h.text(&RECIPE.to_string());
        h
    }

    fn text(&mut self, s: &str) {
        self.bytes(s.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // The length goes first, so that no two lists of parts look the same.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        self.bytes(&fs::read(path).with_context(|| path.display().to_string())?);
        Ok(())
    }

    fn tree(&mut self, dir: &Path) -> Result<()> {
        let context = || dir.display().to_string();
        let mut entries = fs::read_dir(dir)
            .with_context(context)?
            .collect::<Result<Vec<_>, _>>()
            .with_context(context)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
            self.text(&entry.file_name().to_string_lossy());
            self.text(&format!("{:o} {} {}", meta.mode(), meta.uid(), meta.gid()));
            if meta.is_dir() {
                self.tree(&path)?;
                self.text("..");
            } else if meta.is_symlink() {
                self.text(&fs::read_link(&path)?.to_string_lossy());
            } else if meta.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.0
            .clone()
            .finalize()
            .iter()
            .take(8)
            .map(|b| format!("{b:02x}"))
            .collect()
    }
}

/// Makes `name` in the cache by `make` if it is not there; one maker at a time.
fn cached(places: &Places, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = places.images();
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(name);
    if !path.exists() {
        let lock = File::create(dir.join("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
        if !path.exists() {
            let new = dir.join(format!("{name}.new"));
            remove(&new)?;
            make(&new)?;
            fs::rename(&new, &path)?;
            prune(&dir);
        }
    }
    // Its age is that of its last use.
    if let Ok(file) = File::open(&path) {
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

/// Images that were not used for a week go.
fn prune(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|t| t.elapsed().is_ok_and(|age| age > Duration::from_secs(7 * 86400)));
        if is_old && entry.file_type().is_ok_and(|t| t.is_file()) && entry.file_name() != "lock" {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Nothing compressed, nothing said.
const PLAIN: [&str; 6] = ["-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet"];

fn squash(tree: &Path, image: &Path) -> Result<()> {
    run(Command::new("mksquashfs")
        .args([tree, image])
        .args(PLAIN)
        .args(["-noappend", "-no-exports", "-all-root"]))
}

/// Runs a command whose output matters only when it fails.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .output()
        .with_context(|| format!("{name}: run tools/build/setup.sh"))?;
    if !out.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn busybox() -> Result<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
        .context("no busybox: run tools/build/setup.sh")
}

/// The initramfs: the agent as /init, busybox, the modules in order, and the `cluster` binary.
///
/// # Errors
/// Something that goes into it is missing.
pub fn initramfs(places: &Places, agent: &Path, modules: &[PathBuf], cluster: Option<&Path>) -> Result<PathBuf> {
    let busybox = busybox()?;
    let mut hash = Hash::new("initramfs");
    hash.file(agent)?;
    hash.file(&busybox)?;
    for path in modules.iter().map(PathBuf::as_path).chain(cluster) {
        hash.text(&path.to_string_lossy());
        hash.file(path)?;
    }
    cached(places, &format!("initramfs-{}.cpio", hash.name()), |new| {
        let mut a = Archive::default();
        for dir in [
            "bin", "dev", "etc", "modules", "proc", "run", "sys", "sysroot", "tmp", "usr", "usr/bin", "usr/sbin",
        ] {
            a.dir(dir);
        }
        a.device("dev/console", 0o600, 5, 1);
        a.file("init", 0o755, &fs::read(agent)?);
        a.file("bin/busybox", 0o755, &fs::read(&busybox)?);
        a.link("bin/sh", "busybox");
        for (name, target) in ETC_LINKS {
            a.link(&format!("etc/{name}"), target);
        }
        let mut order = String::new();
        for path in modules {
            let name = path.file_name().context("module without a name")?.to_string_lossy();
            a.file(&format!("modules/{name}"), 0o644, &fs::read(path)?);
            order.push_str(&format!("{name}\n"));
        }
        a.file("modules/order", 0o644, order.as_bytes());
        if let Some(path) = cluster {
            a.file("usr/sbin/cluster", 0o755, &fs::read(path)?);
        }
        fs::write(new, a.finish()).with_context(|| new.display().to_string())
    })
}

const ETC_LINKS: [(&str, &str); 5] = [
    ("clustertab", "/run/cluster/clustertab"),
    ("clustername", "/run/cluster/clustername"),
    ("cluster.key", "/run/cluster/key"),
    ("cluster", "/run/cluster"),
    ("mtab", "/proc/self/mounts"),
];

/// What every root has, as a script of the shell that is run in its top directory: mount points, the names of the tools,
/// the links to the node's own files. The tools have an image of their own, so that a new build of them does not touch
/// the root.
fn furnishing(names: &[String]) -> String {
    let mut script = format!("set -e\nmkdir -p {}\nchmod 1777 tmp var/tmp\n", DIRS.join(" "));
    let mut link = |target: &str, path: &str| script.push_str(&format!("rm -rf {path}\nln -s {target} {path}\n"));
    for (name, target) in ETC_LINKS {
        link(target, &format!("etc/{name}"));
    }
    link("../lib/openssi/bin/cluster", "usr/sbin/cluster");
    link("openssi/tests", "usr/lib/ssi-tests");
    for name in names.iter().filter(|n| *n != "cluster") {
        link("../sbin/cluster", &format!("usr/bin/{name}"));
    }
    let hosts: String = (1..=64).map(|n| format!("10.73.1.{n} node{n}\n")).collect();
    script.push_str(&format!("cat >etc/hosts <<EOF\n127.0.0.1 localhost\n{hosts}EOF\n"));
    script
}

/// The small root.
///
/// # Errors
/// busybox or mksquashfs is missing.
pub fn busybox_root(places: &Places) -> Result<PathBuf> {
    let busybox = busybox()?;
    let names = places.tool_names();
    let mut hash = Hash::new("busybox");
    hash.file(&busybox)?;
    hash.text(&names.join(" "));
    cached(places, &format!("busybox-{}.squashfs", hash.name()), |new| {
        let tree = new.with_extension("tree");
        remove(&tree)?;
        fs::create_dir_all(tree.join("bin"))?;
        run(Command::new("sh").args(["-c", &furnishing(&names)]).current_dir(&tree))?;
        fs::copy(&busybox, tree.join("bin/busybox"))?;
        let list = Command::new(&busybox)
            .arg("--list-full")
            .output()
            .context("busybox --list-full")?;
        for applet in String::from_utf8_lossy(&list.stdout)
            .split_whitespace()
            .filter(|a| *a != "bin/busybox")
        {
            let path = tree.join(applet);
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            if fs::symlink_metadata(&path).is_err() {
                symlink("/bin/busybox", path)?;
            }
        }
        fs::write(
            tree.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n\
             daemon:x:1:1:daemon:/:/bin/false\n\
             user:x:1000:1000:an ordinary user:/tmp:/bin/sh\n\
             other:x:1001:1001:another one:/tmp:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/bin/false\n",
        )?;
        fs::write(
            tree.join("etc/group"),
            "root:x:0:\ndaemon:x:1:\ntty:x:5:\nshared:x:100:user,other\nuser:x:1000:\nother:x:1001:\nnogroup:x:65534:\n",
        )?;
        squash(&tree, new)?;
        remove(&tree)
    })
}

/// Mirror and suite of this machine, from its own apt sources (one-line and deb822 form).
fn debian_source() -> Result<(String, String)> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no VERSION_CODENAME")?
        .trim_matches('"');
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        texts.push(fs::read_to_string(entry.path()).unwrap_or_default());
    }
    let listed = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mirror = mirror_of(texts.iter().flat_map(|t| t.lines()), &listed);
    Ok((mirror.context("no Debian mirror in /etc/apt")?, suite.to_owned()))
}

/// The mirror whose path ends in `/debian`, else the first that is not for security. A list of mirrors (`mirror+file:`)
/// stands for what it lists: `listed` reads it.
fn mirror_of<'a>(lines: impl Iterator<Item = &'a str>, listed: &dyn Fn(&str) -> String) -> Option<String> {
    let mut uris = Vec::new();
    for uri in lines.flat_map(uris_of_line) {
        match uri.strip_prefix("mirror+file:") {
            Some(path) => uris.extend(
                listed(path)
                    .lines()
                    .filter_map(|l| l.split_whitespace().next())
                    .filter(|w| !w.starts_with('#'))
                    .map(str::to_owned),
            ),
            None => uris.push(uri.to_owned()),
        }
    }
    let is_debian = |u: &&String| u.trim_end_matches('/').ends_with("/debian");
    let is_any = |u: &&String| !u.contains("security");
    uris.iter()
        .find(is_debian)
        .or_else(|| uris.iter().find(is_any))
        .cloned()
}

/// The addresses in a line of apt's sources, in either form.
fn uris_of_line(line: &str) -> Vec<&str> {
    match (line.strip_prefix("URIs:"), line.strip_prefix("deb ")) {
        (Some(rest), _) => rest.split_whitespace().collect(),
        (None, Some(rest)) => rest.split_whitespace().find(|w| w.contains(":/")).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

/// All packages, as mmdebstrap wants them.
fn debian_packages(suite: &str) -> String {
    [DEBIAN_PACKAGES, &[fence_package(suite)]].concat().join(",")
}

/// The Debian root. An ordinary user can make it as well: mmdebstrap then works in a user namespace.
///
/// # Errors
/// No mirror, no user namespace, or a tool is missing.
pub fn debian_root(places: &Places) -> Result<PathBuf> {
    let (mirror, suite) = debian_source()?;
    let furnishing = furnishing(&places.tool_names());
    let mut hash = Hash::new("debian");
    hash.text(&suite);
    hash.text(&debian_packages(&suite));
    hash.text(&DEBIAN_WITHOUT.join(" "));
    hash.text(&furnishing);
    cached(places, &format!("debian-{}.squashfs", hash.name()), |new| {
        eprintln!("rig: making the Debian root from {mirror} ({suite}); this takes some minutes, once");
        let tar = new.with_extension("tar");
        bootstrap(places, &mirror, &suite, &furnishing, &tar)?;
        run(Command::new("sqfstar").args(PLAIN).arg(new).stdin(File::open(&tar)?))?;
        remove(&tar)
    })
}

/// Accounts and leftovers, done in the top directory of the new tree, `$1`.
const DEBIAN_FINISH: &str = "set -e
chroot \"$1\" useradd -u 1000 -U -M -d /tmp -s /bin/bash user
chroot \"$1\" useradd -u 1001 -U -M -d /tmp -s /bin/bash other
chroot \"$1\" passwd -d root
cd \"$1\"
rm -rf usr/share/doc/* usr/share/man/* usr/share/locale/* etc/resolv.conf
echo node >etc/hostname
";

/// Unpacks and configures the packages of the Debian root into the archive `tar`, owners and all.
fn bootstrap(places: &Places, mirror: &str, suite: &str, furnishing: &str, tar: &Path) -> Result<()> {
    let log = places.cache.join("mmdebstrap.log");
    let done = Command::new("mmdebstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", debian_packages(suite)))
        .args(DEBIAN_WITHOUT.iter().map(|p| format!("--dpkgopt=path-exclude={p}")))
        .arg(format!("--customize-hook={DEBIAN_FINISH}{furnishing}"))
        .args([suite.as_ref(), tar.as_os_str(), mirror.as_ref()])
        .env_remove("TMPDIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).with_context(|| log.display().to_string())?)
        .status()
        .context("mmdebstrap: run tools/build/setup.sh")?;
    if !done.success() {
        bail!("mmdebstrap failed, see {}", log.display());
    }
    Ok(())
}

/// The cluster's tools and the guest test programs, as far as they are built, and the agent, for an initramfs that is not ours.
///
/// # Errors
/// mksquashfs fails.
pub fn tools(places: &Places) -> Result<PathBuf> {
    let mut hash = Hash::new("tools");
    let cluster = places.cluster_tool();
    if let Some(path) = &cluster {
        hash.file(path)?;
    }
    let agent = places.top.join("build/bin/rig-agent");
    hash.file(&agent)?;
    let programs = places.top.join("build/programs");
    if programs.is_dir() {
        hash.tree(&programs)?;
    }
    cached(places, &format!("tools-{}.squashfs", hash.name()), |new| {
        let tree = new.with_extension("tree");
        remove(&tree)?;
        fs::create_dir_all(tree.join("bin"))?;
        fs::create_dir_all(tree.join("tests"))?;
        if let Some(path) = &cluster {
            fs::copy(path, tree.join("bin/cluster"))?;
        }
        fs::copy(&agent, tree.join("bin/rig-agent"))?;
        if programs.is_dir() {
            for entry in fs::read_dir(&programs)?.flatten().filter(|e| e.path().is_file()) {
                fs::copy(entry.path(), tree.join("tests").join(entry.file_name()))?;
            }
        }
        squash(&tree, new)?;
        remove(&tree)
    })
}

/// Somebody's own directory, to be mounted at /overlay.
///
/// # Errors
/// It cannot be read.
pub fn overlay(places: &Places, dir: &Path) -> Result<PathBuf> {
    if !dir.is_dir() {
        bail!("--overlay {}: not a directory", dir.display());
    }
    let mut hash = Hash::new("overlay");
    hash.tree(dir)?;
    cached(places, &format!("overlay-{}.squashfs", hash.name()), |new| {
        squash(dir, new)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_forms_and_in_lists() {
        let list = |path: &str| match path {
            "/m.list" => "# mirrors\nhttp://m/debian\tpriority:1\nhttp://n/debian\n".to_owned(),
            _ => String::new(),
        };
        let mirror = |text: &str| mirror_of(text.lines(), &list);
        for (text, want) in [
            ("URIs: http://m/debian", Some("http://m/debian")),
            (
                "deb [signed-by=/k] http://m/debian/ bookworm main",
                Some("http://m/debian/"),
            ),
            ("URIs: http://m/debian-security", None),
            ("URIs: http://m/other\nURIs: http://m/debian", Some("http://m/debian")),
            ("URIs: http://m/other", Some("http://m/other")),
            ("URIs: mirror+file:/m.list", Some("http://m/debian")),
            ("URIs: mirror+file:/none.list\nURIs: http://m/x", Some("http://m/x")),
            ("# deb http://m/debian bookworm main", None),
        ] {
            assert_eq!(mirror(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn hashes_tell_lists_apart() {
        let name = |parts: &[&str]| {
            let mut h = Hash::new("x");
            parts.iter().for_each(|p| h.text(p));
            h.name()
        };
        assert_ne!(name(&["ab", "c"]), name(&["a", "bc"]));
        assert_eq!(name(&["ab", "c"]), name(&["ab", "c"]));
        assert_eq!(name(&[]).len(), 16);
    }
}
