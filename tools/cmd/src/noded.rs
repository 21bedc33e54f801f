// SPDX-License-Identifier: GPL-2.0

//! `cluster noded`: runs the programs of a directory when a node has gone down, and those of another one when one is UP.
//!
//! The kernel waits for nothing here: while the programs for a node run it is shown as UCLEANUP, and when this process ends it is
//! DOWN. Transitions are followed all the time; a thread runs the programs, one after the other, in the order of transitions.

use crate::failure::Failure;
use crate::fence;
use clap::ArgMatches;
use cluster::cleaner;
use cluster::cleaner::Cleaner;
use cluster::history;
use cluster::history::Listener;
use cluster::history::Transition;
use cluster::history::Which;
use cluster::membership;
use cluster::membership::NodeState;
use cluster::netlink::Error;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Between SIGTERM and SIGKILL for a program that takes too long.
const LAST_WORDS: Duration = Duration::from_secs(2);

struct Config {
    limit: Duration,
    down: PathBuf,
    up: PathBuf,
}

/// Which programs a transition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Down(Transition),
    Up(Transition),
}

impl Job {
    fn of(t: Transition) -> Option<Self> {
        match (t.from, t.to) {
            (_, NodeState::UCleanup) => Some(Self::Down(t)),
            // Not who wanted to leave, and stays.
            (NodeState::ComingUp, NodeState::Up) => Some(Self::Up(t)),
            _ => None,
        }
    }
}

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    let path = |id: &str| m.get_one::<PathBuf>(id).cloned().unwrap_or_default();
    let config = Config {
        limit: Duration::from_secs(m.get_one::<u32>("limit").copied().unwrap_or_default().into()),
        down: path("down-dir"),
        up: path("up-dir"),
    };
    let mut listener = Listener::new()?;
    let cleaner = Cleaner::new()?;
    let mut last = cleaner.begin()?;
    let (jobs, queue) = mpsc::channel();
    log(&format!(
        "programs of {} and {} are run, {} s each at most",
        config.down.display(),
        config.up.display(),
        config.limit.as_secs()
    ));
    let work = move || queue.into_iter().for_each(|job| perform(&config, job));
    std::thread::Builder::new()
        .spawn(work)
        .map_err(|e| Failure::failed(format!("no thread: {e}")))?;
    loop {
        drain(&cleaner, &mut last, &jobs)?;
        listener.wait()?;
    }
}

/// Gives the thread what the history has beyond `last`.
fn drain(cleaner: &Cleaner, last: &mut u64, jobs: &Sender<Job>) -> Result<(), Failure> {
    loop {
        match history::transition(Which::Next, *last, false) {
            Ok(Some(t)) => {
                *last = t.id;
                if let Some(job) = Job::of(t) {
                    jobs.send(job)
                        .map_err(|_| Failure::failed("the thread that runs programs has ended"))?;
                }
            }
            Ok(None) => return Ok(()),
            // Another membership, or far behind. All that is kept is new; of what is not nobody waits.
            Err(Error::Refused(r)) if r.errno == Errno::ESTALE && *last != 0 => {
                cleaner.begin()?;
                *last = 0;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn perform(config: &Config, job: Job) {
    match job {
        Job::Up(t) => run_all(&config.up, "up", &t, config.limit),
        Job::Down(t) => {
            run_all(&config.down, "down", &t, config.limit);
            match cleaner::cleaned(t.node, t.incarnation) {
                Ok(()) => {}
                // It came back meanwhile, or this node has left.
                Err(Error::Refused(r)) if matches!(r.errno, Errno::ENOENT | Errno::ENOTCONN) => {}
                Err(e) => {
                    let why = Failure::from(e).message;
                    log(&format!("node {}: the kernel cannot be told: {why}", t.node));
                    // Then no node may wait for this process.
                    std::process::exit(1);
                }
            }
        }
    }
}

/// Runs the programs of a directory for a transition, one after the other. What fails is written into the log.
fn run_all(dir: &Path, what: &str, t: &Transition, limit: Duration) {
    let all = match programs(dir) {
        Ok(all) => all,
        Err(e) => return log(&format!("node {}: {}: {e}", t.node, dir.display())),
    };
    for path in &all {
        if let Err(why) = run_one(command(path, t), limit) {
            log(&format!("node {}: {}: {why}", t.node, path.display()));
        }
    }
    log(&format!(
        "node {} incarnation {}: {what}: {} programs run",
        t.node,
        t.incarnation,
        all.len()
    ));
}

/// The programs of a directory, in the order of their names. No directory: none.
fn programs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        r => r?,
    };
    let mut all = Vec::new();
    for e in entries {
        let e = e?;
        // A link that leads nowhere is no program.
        let Ok(m) = std::fs::metadata(e.path()) else { continue };
        if is_name(e.file_name().as_encoded_bytes()) && m.is_file() && m.permissions().mode() & 0o111 != 0 {
            all.push(e.path());
        }
    }
    all.sort();
    Ok(all)
}

/// Whether `run-parts` takes such a name: no copies that an editor or a package manager left.
fn is_name(name: &[u8]) -> bool {
    name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b))
}

/// A program with what it is told of a transition.
fn command(path: &Path, t: &Transition) -> Command {
    // Asked for each: another node may be master meanwhile.
    let s = membership::status().ok();
    let named = s.as_ref().and_then(|s| s.nodes.iter().find(|n| n.id == t.node));
    let name = named.map_or(format!("node{}", t.node), |n| n.name.clone());
    let this = s.as_ref().and_then(|s| s.this_node);
    let master = s.as_ref().and_then(|s| s.master);
    let mut c = Command::new(path);
    c.arg(t.node.to_string()).arg(&name);
    c.env("CLUSTER_NODE", t.node.to_string());
    c.env("CLUSTER_NODE_NAME", name);
    c.env("CLUSTER_INCARNATION", t.incarnation.to_string());
    c.env("CLUSTER_CAUSE", t.cause.name());
    c.env("CLUSTER_THIS_NODE", this.unwrap_or(0).to_string());
    c.env(
        "CLUSTER_MASTER",
        if this.is_some() && this == master { "1" } else { "0" },
    );
    c
}

/// Runs a program, for at most so long.
///
/// # Errors
/// Why it is not done.
fn run_one(mut c: Command, limit: Duration) -> Result<(), String> {
    c.stdin(Stdio::null()).process_group(0);
    // SAFETY: the closure makes a system call only, which is safe between fork and exec.
    unsafe {
        // Nobody would wait for it any more.
        c.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    let mut child = c.spawn().map_err(|e| e.to_string())?;
    let in_time = wait(&mut child, limit);
    let status = child.wait().map_err(|e| e.to_string())?;
    match in_time {
        Ok(true) if status.success() => Ok(()),
        Ok(true) => Err(status.to_string()),
        Ok(false) => Err(format!("not over after {} s: killed", limit.as_secs_f32())),
        Err(e) => Err(e.to_string()),
    }
}

/// Waits for a program and ends it when it takes too long, with its process group. Returns whether it was in time.
fn wait(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let in_time = fence::wait(child, limit);
    if matches!(in_time, Ok(true)) {
        return in_time;
    }
    // A number that it has until it is waited for.
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    killpg(group, Signal::SIGTERM)?;
    // What it leaves behind in its group is ended too.
    let _ = fence::wait(child, LAST_WORDS);
    killpg(group, Signal::SIGKILL)?;
    in_time
}

fn log(text: &str) {
    let mut out = io::stdout();
    // A log that is full or closed stops nothing.
    let _ = writeln!(out, "cluster noded: {text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::history::Cause;
    use std::fs;
    use std::time::Instant;

    const LOST: Transition = Transition {
        id: 0x0302_1d01,
        time_ns: 1,
        node: 3,
        incarnation: 77,
        from: NodeState::KCleanup,
        to: NodeState::UCleanup,
        cause: Cause::Lost,
    };

    fn program(dir: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }

    #[test]
    fn transitions_that_have_programs() {
        let to = |from, to| Job::of(Transition { from, to, ..LOST });
        let is_down = |j| matches!(j, Some(Job::Down(_)));
        let is_up = |j| matches!(j, Some(Job::Up(_)));
        for a in NodeState::ALL {
            for b in NodeState::ALL {
                assert_eq!(is_down(to(a, b)), b == NodeState::UCleanup, "{a:?} {b:?}");
                let up = a == NodeState::ComingUp && b == NodeState::Up;
                assert_eq!(is_up(to(a, b)), up, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn programs_are_those_of_run_parts() {
        let dir = tempfile::tempdir().expect("a directory");
        let d = dir.path();
        for (name, mode) in [
            ("20-b", 0o755),
            ("10_a", 0o700),
            ("A9", 0o755),
            ("30-not-executable", 0o644),
            ("40-old.dpkg-old", 0o755),
            ("50-c~", 0o755),
            (".hidden", 0o755),
        ] {
            program(d, name, mode, "");
        }
        fs::create_dir(d.join("60-directory")).expect("a directory");
        std::os::unix::fs::symlink("A9", d.join("70-link")).expect("a link");
        std::os::unix::fs::symlink("nowhere", d.join("80-broken")).expect("a link");
        let all = programs(d).expect("programs");
        let names: Vec<_> = all.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(names, ["10_a", "20-b", "70-link", "A9"]);
        assert_eq!(programs(&d.join("none")).expect("none"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_program_is_told_what_happened() {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().join("out");
        let text = format!(
            "echo $* $CLUSTER_NODE $CLUSTER_NODE_NAME $CLUSTER_INCARNATION $CLUSTER_CAUSE >{}",
            out.display()
        );
        let path = program(dir.path(), "p", 0o755, &text);
        assert_eq!(run_one(command(&path, &LOST), Duration::from_secs(60)), Ok(()));
        assert_eq!(
            fs::read_to_string(out).expect("what it wrote"),
            "3 node3 3 node3 77 lost\n"
        );
    }

    #[test]
    fn how_programs_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let one = |text: &str, limit| {
            let path = program(dir.path(), "p", 0o755, text);
            run_one(command(&path, &LOST), limit)
        };
        let long = Duration::from_secs(60);
        assert_eq!(one("exit 3", long), Err("exit status: 3".to_owned()));
        assert!(one("kill -9 $$", long).is_err_and(|e| e.contains("signal: 9")));
        let begin = Instant::now();
        // What it has started goes with it; it may not refuse.
        let why = one("trap '' TERM; sleep 1000 & sleep 1000", Duration::from_millis(100));
        assert_eq!(why, Err("not over after 0.1 s: killed".to_owned()));
        assert!(begin.elapsed() < long);
        assert!(run_one(command(&dir.path().join("none"), &LOST), long).is_err());
    }
}
