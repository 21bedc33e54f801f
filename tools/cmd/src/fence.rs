// SPDX-License-Identifier: GPL-2.0

//! How nodes are fenced: `fence.toml`, and running agents by the interface of ClusterLabs.
//!
//! An agent is a program that reads `key=value` lines from its standard input and exits 0 when it is done.

use crate::failure::Failure;
use crate::node;
use crate::out::Out;
use clap::ArgMatches;
use cluster::fencing;
use cluster::fencing::FenceState;
use cluster::membership;
use cluster::membership::JoinFence;
use cluster::membership::MAX_NODE;
use cluster::membership::NodeState;
use cluster::netlink;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::PipeWriter;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

/// Where it is unless an option says otherwise.
pub(crate) const FILE: &str = "/etc/cluster/fence.toml";

/// Longest text that the kernel takes.
const MAX_TEXT: usize = 200;

/// How long an agent may take, in seconds.
const TIMEOUT: u32 = 60;

/// How an agent ends that was asked for the status of a node that is off.
const IS_OFF: i32 = 2;

/// What the agent is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Switch the node off; somebody else switches it on.
    Off,
    /// Switch it off and on.
    Reboot,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Reboot => "reboot",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agent: Option<String>,
    action: Option<Action>,
    timeout: Option<u32>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    node: BTreeMap<String, FileNode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    agent: Option<String>,
    action: Option<Action>,
    plug: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// How one node is fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) agent: String,
    pub(crate) action: Action,
    /// What the agent is told, `action` and `nodename` apart.
    pub(crate) options: BTreeMap<String, String>,
}

/// How all nodes are fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) timeout: Duration,
    pub(crate) devices: BTreeMap<u32, Device>,
}

impl Config {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let timeout = file.timeout.unwrap_or(TIMEOUT);
        if !(1..=3600).contains(&timeout) {
            return Err(format!("timeout is {timeout}; 1 to 3600 seconds"));
        }
        let mut devices = BTreeMap::new();
        for (key, n) in file.node {
            let number = key
                .parse::<u32>()
                .ok()
                .filter(|n| (1..=MAX_NODE).contains(n))
                .ok_or_else(|| format!("[node.{key}]: {key:?} is no node number (1 to {MAX_NODE})"))?;
            let agent = n
                .agent
                .or_else(|| file.agent.clone())
                .ok_or_else(|| format!("[node.{key}]: no agent, and none for all nodes"))?;
            if agent.is_empty() || agent.chars().any(char::is_whitespace) {
                return Err(format!("[node.{key}]: agent {agent:?} is no program's name"));
            }
            let mut options = BTreeMap::from([("plug".to_owned(), n.plug.unwrap_or(key.clone()))]);
            options.extend(file.options.clone());
            options.extend(n.options);
            for (k, v) in &options {
                let is_bad = k.is_empty() || k.contains(['=', '\n']) || v.contains('\n');
                if is_bad || k == "action" || k == "nodename" {
                    return Err(format!("[node.{key}]: option {k:?} cannot be given"));
                }
            }
            let action = n.action.or(file.action).unwrap_or(Action::Reboot);
            let device = Device { agent, action, options };
            if devices.insert(number, device).is_some() {
                return Err(format!("[node.{key}]: node {number} is there twice"));
            }
        }
        Ok(Self {
            timeout: Duration::from_secs(timeout.into()),
            devices,
        })
    }

    /// Reads the file that the option `--fence` names. None at the usual place: no node is fenced.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub(crate) fn read(m: &ArgMatches) -> Result<Self, Failure> {
        let path = m.get_one::<PathBuf>("fence").cloned();
        let is_usual = path.is_none();
        let path = path.unwrap_or_else(|| FILE.into());
        let about = |e: &dyn std::fmt::Display| Failure::failed(format!("{}: {e}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Err(e) if is_usual && e.kind() == std::io::ErrorKind::NotFound => String::new(),
            r => r.map_err(|e| about(&e))?,
        };
        Self::parse(&text).map_err(|e| about(&e))
    }

    /// A number that is the same for the same meaning, and 0 if no node is fenced. (FNV-1a)
    pub(crate) fn digest(&self) -> u64 {
        if self.devices.is_empty() {
            return 0;
        }
        let mut text = format!("{}\n", self.timeout.as_secs());
        for (n, d) in &self.devices {
            text += &format!("{n} {} {} {:?}\n", d.agent, d.action.name(), d.options);
        }
        let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
    }

    /// What a join tells the kernel of it; `None` if no node is fenced.
    pub(crate) fn for_join(&self) -> Option<JoinFence> {
        let digest = self.digest();
        (digest != 0).then(|| JoinFence {
            digest,
            timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
        })
    }

    /// Whether every node that it names is in the table.
    ///
    /// # Errors
    /// The first that is not.
    pub(crate) fn check(&self, nodes: impl Iterator<Item = u32> + Clone) -> Result<(), String> {
        match self.devices.keys().find(|n| !nodes.clone().any(|m| m == **n)) {
            Some(n) => Err(format!("[node.{n}]: clustertab has no such node")),
            None => Ok(()),
        }
    }
}

/// A text as the kernel takes it: one line of printable characters.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
    line.trim()
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .take(MAX_TEXT)
        .collect()
}

impl Device {
    /// Has the node switched off. Gives what to write into a log.
    ///
    /// # Errors
    /// Exit status (128 + signal, 254 too late, 255 not started) and what to write into a log.
    pub(crate) fn fence(&self, action: Action, name: &str, timeout: Duration) -> Result<String, (u32, String)> {
        let what = format!("{} {}", self.agent, action.name());
        let fail = |status: u32, why: String| Err((status, one_line(&format!("{what}: {why}"))));
        let (ended, said) = match self.run(&self.input(action.name(), name), timeout) {
            Ok(r) => r,
            Err(e) => return fail(255, e.to_string()),
        };
        match ended {
            None => fail(254, format!("not over after {} s", timeout.as_secs())),
            Some(s) if s.success() => Ok(what),
            Some(s) => {
                let code = s
                    .code()
                    .unwrap_or(128 + std::os::unix::process::ExitStatusExt::signal(&s).unwrap_or(0));
                fail(code.unsigned_abs(), format!("{s}: {}", one_line(&said)))
            }
        }
    }

    /// Asks whether the node is on. Switches nothing.
    ///
    /// # Errors
    /// All that the agent said.
    pub(crate) fn is_on(&self, name: &str, timeout: Duration) -> Result<bool, String> {
        let what = format!("{} status", self.agent);
        // By themselves ClusterLabs' agents do not tell what the program said that they run.
        let input = self.input("status", name) + "verbose=1\n";
        match self.run(&input, timeout) {
            Err(e) => Err(format!("{what}: {e}")),
            Ok((None, said)) => Err(format!("{said}{what}: not over after {} s", timeout.as_secs())),
            Ok((Some(s), said)) => match s.code() {
                Some(0) => Ok(true),
                Some(IS_OFF) => Ok(false),
                _ => Err(format!("{said}{what}: {s}")),
            },
        }
    }

    /// What the agent is told.
    fn input(&self, action: &str, name: &str) -> String {
        let options = self.options.iter().map(|(k, v)| format!("{k}={v}\n"));
        format!("action={action}\nnodename={name}\n") + &options.collect::<String>()
    }

    /// Runs the agent: how it ended, `None` if not in time, and its standard error.
    fn run(&self, input: &str, timeout: Duration) -> std::io::Result<(Option<ExitStatus>, String)> {
        let (mut from, to) = std::io::pipe()?;
        let (says, output) = mpsc::channel();
        std::thread::Builder::new().spawn(move || {
            let mut all = Vec::new();
            let _ = from.read_to_end(&mut all);
            // Nobody may listen any more.
            let _ = says.send(String::from_utf8_lossy(&all).into_owned());
        })?;
        let ended = std::thread::scope(|s| {
            // The children of this thread begin in a PID namespace of their own; it can have only one.
            let thread = std::thread::Builder::new().spawn_scoped(s, || self.attend(input, to, timeout))?;
            thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
        })?;
        // Where agents have no namespace, whoever this one left behind may hold the pipe: it is not waited for long.
        let said = output.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        Ok((ended, said))
    }

    /// Runs the agent as a child of this thread.
    fn attend(&self, input: &str, stderr: PipeWriter, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
        let mut child = self.start(stderr)?;
        if let Some(mut stdin) = child.stdin.take() {
            // An agent that has ended without reading says why by its status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let ended = wait(&mut child, timeout);
        if !matches!(ended, Ok(true)) {
            let _ = child.kill();
        }
        let status = child.wait()?;
        Ok(ended?.then_some(status))
    }

    /// Starts the agent: nothing of it lives longer than it, nor than this thread.
    fn start(&self, stderr: PipeWriter) -> std::io::Result<Child> {
        let mut c = Command::new(&self.agent);
        c.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let is_confined = match nix::sched::unshare(CloneFlags::CLONE_NEWPID) {
            Ok(()) => true,
            // Only who may fence may do it. What anybody else's agents leave behind switches nothing off.
            Err(nix::Error::EPERM) => false,
            Err(e) => {
                let why = format!("no PID namespace for it: {e}");
                return Err(std::io::Error::new(std::io::Error::from(e).kind(), why));
            }
        };
        // SAFETY: the closure makes system calls only, which is safe between fork and exec.
        unsafe {
            c.pre_exec(move || {
                // Nobody would tell the kernel how it ended: another node begins anew, and this one must not go on.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                if is_confined {
                    begin_namespace()?;
                }
                Ok(())
            });
        }
        c.spawn()
    }
}

/// The first process of a PID namespace, with whose end all others in it are killed (pid_namespaces(7)), begins a second one,
/// in which this returns, and ends as that does: with its exit status, or with 128 + the signal.
///
/// Makes nothing but system calls.
fn begin_namespace() -> std::io::Result<()> {
    // SAFETY: this process has one thread, as it has just been forked.
    let agent = match unsafe { libc::fork() } {
        0 => return Ok(()),
        n if n < 0 => return Err(std::io::Error::last_os_error()),
        n => n,
    };
    // SAFETY: nothing is used afterwards that needs a descriptor. Who reads the agent's output must see it end with the agent.
    unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours.
        let ended = unsafe { libc::wait(&mut status) };
        let code = match () {
            () if ended == agent && libc::WIFEXITED(status) => libc::WEXITSTATUS(status),
            () if ended == agent => 128 + libc::WTERMSIG(status),
            // The agent is a child of this process: it is always found.
            () if ended < 0 => 255,
            () => continue,
        };
        // SAFETY: ends this process, without what the other one has to do at its end.
        unsafe { libc::_exit(code) };
    }
}

/// Waits until a child has ended; `false`: it has not in that time.
pub(crate) fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<bool> {
    // SAFETY: pidfd_open takes two integers and gives a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = i32::try_from(fd).map_err(std::io::Error::other)?;
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let end = Instant::now() + timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) if Instant::now() >= end => return Ok(false),
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// A line of `--json`. Names and types stay as they are; further fields and events may come.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Json<'a> {
    Status {
        node: u32,
        power: &'static str,
    },
    Fenced {
        node: u32,
        agent: &'a str,
        action: &'static str,
    },
    Confirmed {
        node: u32,
    },
}

/// `cluster node fence NODE`: fences a node by hand, or asks its agent how it is.
pub(crate) fn by_hand(m: &ArgMatches) -> Result<u8, Failure> {
    let config = Config::read(m)?;
    let s = membership::status()?;
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    let n = node::find(&s, word)?;
    let device = || {
        config.devices.get(&n.id).ok_or_else(|| {
            Failure::failed(format!(
                "node {}: no [node.{}] in {FILE}; add it on every node",
                n.id, n.id
            ))
        })
    };
    if m.get_flag("status") {
        let is_on = device()?
            .is_on(&n.name, config.timeout)
            .map_err(|why| Failure::failed(format!("node {}: its fence agent cannot tell:\n{why}", n.id)))?;
        let power = if is_on { "on" } else { "off" };
        Out::of(m).say(&Json::Status { node: n.id, power }, &format!("node {}: {power}", n.id))?;
        return Ok(0);
    }
    if s.this_node == Some(n.id) {
        return Err(Failure::failed(format!(
            "node {}: this is it; fence it from another node, or reboot it",
            n.id
        )));
    }
    let device = device()?;
    if n.incarnation == 0 {
        return Err(Failure::failed(format!("node {}: it was never a member", n.id)));
    }
    let is_ready = n.state == NodeState::Up || n.fence == FenceState::Wanted || m.get_flag("force");
    if !is_ready {
        return Err(Failure::failed(format!(
            "node {}: it is {} and waits for nobody; --force fences it all the same",
            n.id,
            n.state.name()
        )));
    }
    let action = if m.get_flag("off") { Action::Off } else { device.action };
    let said = device
        .fence(action, &n.name, config.timeout)
        .map_err(|(_, why)| Failure::failed(format!("node {}: not fenced: {why}", n.id)))?;
    fencing::fence_confirm(n.id, Some(n.incarnation), &said)?;
    let fenced = Json::Fenced {
        node: n.id,
        agent: &device.agent,
        action: action.name(),
    };
    Out::of(m).say(&fenced, &format!("node {}: fenced: {said}", n.id))?;
    Ok(0)
}

/// `cluster node confirm-down NODE`: somebody takes the responsibility.
pub(crate) fn confirm_down(m: &ArgMatches) -> Result<u8, Failure> {
    let s = membership::status()?;
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    let n = node::find(&s, word)?;
    fencing::fence_confirm(n.id, None, "confirm-down").map_err(|e| match e {
        netlink::Error::Refused(r) => Failure::failed(format!("node {}: {}", n.id, r.text())),
        e => e.into(),
    })?;
    Out::of(m).say(&Json::Confirmed { node: n.id }, "")?;
    Ok(0)
}

/// Whether a program can be found.
pub(crate) fn is_there(agent: &str) -> bool {
    if agent.contains('/') {
        return Path::new(agent).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|d| d.join(agent).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
agent = "fence_ipmilan"
timeout = 30
[options]
lanplus = "1"
[node.1]
options = { ip = "10.0.0.1" }
[node.2]
agent = "fence_rig"
action = "off"
plug = "two"
options = { lanplus = "0" }
"#;

    #[test]
    fn a_file_is_read() {
        let c = Config::parse(TEXT).expect("a configuration");
        assert_eq!(c.timeout, Duration::from_secs(30));
        let one = &c.devices[&1];
        assert_eq!((one.agent.as_str(), one.action), ("fence_ipmilan", Action::Reboot));
        let options = |d: &Device| d.options.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
        assert_eq!(options(one), ["ip=10.0.0.1", "lanplus=1", "plug=1"]);
        let two = &c.devices[&2];
        assert_eq!((two.agent.as_str(), two.action), ("fence_rig", Action::Off));
        assert_eq!(options(two), ["lanplus=0", "plug=two"]);
        assert!(Config::parse("").expect("an empty one").devices.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[node.3]", "no agent"),
            ("agent = \"a\"\n[node.0]", "no node number"),
            ("agent = \"a\"\n[node.1023]", "no node number"),
            ("agent = \"a\"\n[node.x]", "no node number"),
            ("agent = \"a\"\n[node.3]\n[node.03]", "twice"),
            ("agent = \"a b\"\n[node.3]", "no program"),
            ("timeout = 0", "3600"),
            ("agnet = \"a\"", "unknown field"),
            ("action = \"on\"", "unknown variant"),
            (
                "agent = \"a\"\n[node.3]\noptions = { action = \"on\" }",
                "cannot be given",
            ),
            (
                "agent = \"a\"\n[node.3]\noptions = { x = \"1\\n2\" }",
                "cannot be given",
            ),
            ("agent =", ""),
        ] {
            let e = Config::parse(text).expect_err(text);
            assert!(e.contains(part), "{text:?}: {e}");
        }
        let c = Config::parse(TEXT).expect("a configuration");
        assert!(c.check([1].into_iter()).is_err_and(|e| e.contains("node.2")));
    }

    #[test]
    fn the_digest_is_that_of_the_meaning() {
        let digest = |t: &str| Config::parse(t).expect("a configuration").digest();
        assert_eq!(digest("timeout = 5"), 0);
        let it = digest(TEXT);
        assert_ne!(it, 0);
        assert_eq!(digest(&format!("# a comment\n{TEXT}")), it);
        assert_ne!(digest(&TEXT.replace("10.0.0.1", "10.0.0.2")), it);
        assert_ne!(digest(&TEXT.replace("off", "reboot")), it);
        assert_ne!(digest(&TEXT.replace("30", "31")), it);
    }

    fn agent(script: &str) -> (tempfile::TempDir, Device) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("an agent");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("its mode");
        let device = Device {
            agent: path.display().to_string(),
            action: Action::Off,
            options: BTreeMap::from([("plug".to_owned(), "3".to_owned())]),
        };
        (dir, device)
    }

    #[test]
    fn an_agent_is_told_on_its_standard_input() {
        let (dir, device) = agent("cat >$0.in");
        let long = Duration::from_secs(20);
        device.fence(Action::Reboot, "three", long).expect("success");
        let told = std::fs::read_to_string(dir.path().join("agent.in")).expect("what it was told");
        assert_eq!(told, "action=reboot\nnodename=three\nplug=3\n");
    }

    #[test]
    fn an_agent_is_asked_for_the_status() {
        let long = Duration::from_secs(20);
        for (script, want) in [("cat >$0.in", Ok(true)), ("cat >$0.in; exit 2", Ok(false))] {
            let (dir, device) = agent(script);
            assert_eq!(device.is_on("three", long), want, "{script}");
            let told = std::fs::read_to_string(dir.path().join("agent.in")).expect("what it was told");
            assert_eq!(told, "action=status\nnodename=three\nplug=3\nverbose=1\n");
        }
        for (script, limit, part) in [
            (
                "echo first >&2; echo 'no such plug' >&2; exit 1",
                long,
                "first\nno such plug\n",
            ),
            ("exec sleep 60", Duration::from_millis(200), "not over"),
        ] {
            let (_dir, device) = agent(script);
            let why = device.is_on("three", limit).expect_err(script);
            assert!(why.contains(part) && why.contains("agent status: "), "{script}: {why}");
        }
    }

    #[test]
    fn lines_have_the_promised_fields() {
        let fenced = Json::Fenced {
            node: 3,
            agent: "fence_ipmilan",
            action: Action::Off.name(),
        };
        for (j, want) in [
            (
                Json::Status { node: 3, power: "on" },
                r#"{"event":"status","node":3,"power":"on"}"#,
            ),
            (
                fenced,
                r#"{"event":"fenced","node":3,"agent":"fence_ipmilan","action":"off"}"#,
            ),
            (Json::Confirmed { node: 3 }, r#"{"event":"confirmed","node":3}"#),
        ] {
            assert_eq!(serde_json::to_string(&j).expect("json"), want);
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let long = Duration::from_secs(20);
        for (script, limit, status, part) in [
            (
                "echo first >&2; echo 'no such plug' >&2; exit 1",
                long,
                1,
                "no such plug",
            ),
            ("exit 2", long, 2, "exit status: 2"),
            ("kill -9 $$", long, 137, ""),
            ("exec sleep 60", Duration::from_millis(200), 254, "not over"),
        ] {
            let (_dir, device) = agent(script);
            let (code, why) = device.fence(Action::Off, "three", limit).expect_err(script);
            assert_eq!(code, status, "{script}: {why}");
            assert!(why.contains(part) && why.len() <= MAX_TEXT, "{script}: {why}");
        }
        let (_dir, mut device) = agent("");
        device.agent += "-not";
        assert_eq!(device.fence(Action::Off, "three", long).map_err(|e| e.0), Err(255));
    }

    #[test]
    fn nothing_of_an_agent_lives_longer_than_it() {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: who may not make a namespace may not fence");
            return;
        }
        let second = Duration::from_secs(1);
        for (script, is_late) in [
            ("sleep 100 & sleep 100", true),
            ("sleep 100 & setsid sleep 100 &", false),
        ] {
            let (dir, device) = agent(&format!("exec 9>$0.lock; flock 9; {script}"));
            let r = device.fence(Action::Off, "three", second);
            assert_eq!(r.is_err(), is_late, "{script}: {r:?}");
            // Whoever has the file open has the lock.
            let file = std::fs::File::open(dir.path().join("agent.lock")).expect("the file that it locked");
            let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock);
            assert!(lock.is_ok(), "{script}: {:?}", lock.map_err(|e| e.1));
        }
    }

    #[test]
    fn texts_are_one_printable_line() {
        assert_eq!(one_line("a\nb\tc\u{7}d\n\n"), "b c d");
        assert_eq!(one_line(""), "");
        assert_eq!(one_line(&"x".repeat(500)).len(), MAX_TEXT);
    }
}
