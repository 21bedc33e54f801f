// SPDX-License-Identifier: GPL-2.0

//! `stress_3s`, `stress_1s`: nodes that live and are taken for dead while `stress-ng` saturates every processor of three
//! nodes, with that time until a silent node is out. In `stress_1s` Debian's corosync runs before us, for as long in the same
//! machines: one after the other, as a node that is taken for dead restarts, and corosync with it.
//!
//! Corosync waits for its token, and then at least 1.2 times as long for a consensus without the silent node. So it runs twice:
//! with a token of 5/11 of the time, by which the silent node is out after the same time as with us; and with a token of the
//! whole of it, by which it is out after 2.2 times that.
//!
//! Counted is the most that one node saw, by what its console says. A node that restarted joins again and is kept busy.

use crate::Problem;
use crate::members::Console;
use crate::report::GoalIs;
use crate::report::Report;
use crate::rig::Rig;
use crate::stats::Pair;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

const NODES: u32 = 3;

/// What corosync says when somebody is out: `A new membership (1.a) was formed. Members joined: 2 left: 3`, and without the words
/// that do not apply.
const MEMBERSHIP: &str = "A new membership";
const LEFT: &str = "left: ";

/// Between two looks at whether all still run.
const LOOK: Duration = Duration::from_secs(2);

/// All are one cluster after this time, or the benchmark fails.
const FORM_LIMIT: Duration = Duration::from_secs(120);

const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";

/// Of the time of a processor, as the node counts it, at most so much may be idle.
const IDLE_LIMIT: f64 = 0.05;

pub(crate) fn run(top: &Path, names: &[&str], seconds: u32) -> (Vec<Report>, Vec<Problem>) {
    let mut reports = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        match measure(top, name, Duration::from_secs(seconds.into())) {
            Ok(r) => reports.push(r),
            Err(e) => problems.push(format!("{name}: {e}")),
        }
    }
    (reports, problems)
}

fn measure(top: &Path, name: &str, time: Duration) -> Result<Report, Problem> {
    let is_beside = name == "stress_1s";
    let budget_ms = if is_beside { 1000 } else { 3000 };
    let count = NODES.to_string();
    let rig = Rig::start(top, "debian", &["-n", &count, "--no-join", "--mem", "1024"])?;
    let kernel = rig.sh(1, 60, "uname -rv")?.trim().to_owned();
    let corosync = |token_ms: u32| {
        let run = stressed(&rig, Side::Corosync { token_ms }, time)?;
        let end = "pkill -x corosync; while pgrep -x corosync; do sleep 1; done >/dev/null";
        rig.sh_all(60, end)?;
        Ok::<_, Problem>(run)
    };
    let theirs = is_beside
        .then(|| Ok::<_, Problem>((corosync(token_ms(budget_ms))?, corosync(budget_ms)?)))
        .transpose()?;
    let ours = stressed(&rig, Side::Ours { detect_ms: budget_ms }, time)?;
    let figure = |n: usize| Pair {
        p50: n as f64,
        p99: n as f64,
    };
    let env = BTreeMap::from(
        [
            ("nodes", count),
            ("budget_ms", budget_ms.to_string()),
            ("seconds", time.as_secs().to_string()),
            ("restarts", ours.restarts.to_string()),
            ("idle", format!("{:.3}", ours.idle)),
            ("accelerator", rig.accelerator()?),
            ("kernel", kernel),
        ]
        .map(|(k, v)| (k.to_owned(), v)),
    );
    let Some((theirs, slow)) = theirs else {
        let goal = Pair { p50: 0.0, p99: 0.0 };
        return Ok(Report::absolute(name, "losses", figure(ours.losses), goal, 1, &env));
    };
    let version = rig.sh(1, 60, "corosync -v | sed -n \"s/.*version '\\([^']*\\)'.*/\\1/p\"")?;
    let env = env.into_iter().chain([
        ("corosync".to_owned(), version.trim().to_owned()),
        ("corosync_idle".to_owned(), format!("{:.3}", theirs.idle)),
        ("corosync_losses_2200ms".to_owned(), slow.losses.to_string()),
        ("corosync_idle_2200ms".to_owned(), format!("{:.3}", slow.idle)),
    ]);
    let (ours, theirs) = (figure(ours.losses), figure(theirs.losses));
    let none: Option<(GoalIs, f64)> = None;
    Ok(Report::new(
        name,
        "losses",
        ours,
        ("corosync", theirs),
        none,
        1,
        &env.collect(),
    ))
}

/// Who is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours { detect_ms: u32 },
    Corosync { token_ms: u32 },
}

/// What the time under load has come to.
struct Stressed {
    /// Nodes that were taken for dead, as the one saw it that saw most.
    losses: usize,
    /// Nodes that came back with another boot.
    restarts: u32,
    /// The largest share of its time that a node was idle.
    idle: f64,
}

/// Has all nodes be members, keeps them busy for a time, and sees that all are members again.
fn stressed(rig: &Rig, side: Side, time: Duration) -> Result<Stressed, Problem> {
    let mut consoles = (1..=NODES)
        .map(|n| Console::at_end(rig.console(n)))
        .collect::<Result<Vec<_>, _>>()?;
    for node in 1..=NODES {
        rig.start_on(node, &side.members_script())?;
    }
    formed(rig, side)?;
    let before = side.losses(&mut consoles)?;
    let mut runs = vec![Run::default(); NODES as usize];
    let mut restarts = 0;
    let begin = Instant::now();
    while begin.elapsed() < time {
        for (node, run) in (1..=NODES).zip(&mut runs) {
            restarts += u32::from(keep_busy(rig, side, node, run)?);
        }
        std::thread::sleep(LOOK);
    }
    let after = side.losses(&mut consoles)?;
    let mut idle: f64 = 0.0;
    for (node, run) in (1..=NODES).zip(&runs) {
        // One that has just restarted has nothing to say.
        if let Some(share) = Times::of(rig, node).ok().and_then(|now| now.idle_since(run.times?)) {
            if share > IDLE_LIMIT {
                return Err(format!("node {node} was idle for {:.0} % of the time", share * 100.0));
            }
            idle = idle.max(share);
        }
    }
    rig.sh_all(60, "pkill -x stress-ng || true")?;
    formed(rig, side)?;
    let losses = after.iter().zip(&before).map(|(a, b)| a.saturating_sub(*b)).max();
    Ok(Stressed {
        losses: losses.unwrap_or(0),
        restarts,
        idle,
    })
}

impl Side {
    /// Makes the node a member.
    fn members_script(self) -> String {
        match self {
            Self::Ours { detect_ms } => format!("cluster join --detect-ms {detect_ms}"),
            Self::Corosync { token_ms } => corosync_script(token_ms),
        }
    }

    /// Says `formed` if this node sees all as members.
    fn is_formed_script(self) -> String {
        match self {
            Self::Ours { .. } => format!(
                "test \"$(cluster status --json | grep -o '\"state\":\"UP\"' | wc -l)\" = {NODES} && echo formed"
            ),
            Self::Corosync { .. } => {
                format!("test \"$(corosync-quorumtool -s | sed -n 's/^Total votes: *//p')\" = {NODES} && echo formed")
            }
        }
    }

    /// How many each node has taken for dead so far.
    fn losses(self, consoles: &mut [Console]) -> Result<Vec<usize>, Problem> {
        let of = |c: &mut Console| {
            let text = c.read()?;
            Ok(match self {
                Self::Corosync { .. } => corosync_losses(text),
                Self::Ours { .. } => c.others(0),
            })
        };
        consoles.iter_mut().map(of).collect()
    }
}

/// The token by which corosync has a silent node out after this time: 1.2 times as long for the consensus comes behind it.
fn token_ms(budget_ms: u32) -> u32 {
    budget_ms * 5 / 11
}

fn consensus_ms(token_ms: u32) -> u32 {
    token_ms * 12 / 10
}

fn corosync_script(token_ms: u32) -> String {
    let nodes: String = (1..=NODES)
        .map(|n| format!("node {{\\n ring0_addr: 10.73.1.{n}\\n nodeid: {n}\\n name: node{n}\\n }}\\n"))
        .collect();
    let consensus_ms = consensus_ms(token_ms);
    let conf = format!(
        "totem {{\\n version: 2\\n cluster_name: bench\\n transport: knet\\n token: {token_ms}\\n \
         consensus: {consensus_ms}\\n token_coefficient: 0\\n \
         crypto_cipher: none\\n crypto_hash: none\\n }}\\nnodelist {{\\n{nodes}}}\\n\
         quorum {{\\n provider: corosync_votequorum\\n }}\\n\
         logging {{\\n to_stderr: yes\\n to_syslog: no\\n to_logfile: no\\n timestamp: on\\n }}\\n"
    );
    format!(
        "mkdir -p /dev/shm; grep -q ' /dev/shm ' /proc/mounts || mount -t tmpfs shm /dev/shm; \
         grep -q ' /var/lib/corosync ' /proc/mounts || mount -t tmpfs ring /var/lib/corosync; \
         printf '{conf}' >/tmp/corosync.conf; exec corosync -f -c /tmp/corosync.conf </dev/null >/dev/console 2>&1"
    )
}

/// Waits until all nodes see all members.
fn formed(rig: &Rig, side: Side) -> Result<(), Problem> {
    let begin = Instant::now();
    let script = side.is_formed_script();
    let mut last = String::new();
    while begin.elapsed() < FORM_LIMIT {
        let is_formed = (1..=NODES).all(|n| match rig.sh(n, 30, &script) {
            Ok(said) => said.contains("formed"),
            Err(e) => {
                last = e;
                false
            }
        });
        if is_formed {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("no cluster after {FORM_LIMIT:?}: {last}"))
}

/// A boot of a node under load.
#[derive(Clone, Default)]
struct Run {
    boot: String,
    /// When the load had begun.
    times: Option<Times>,
}

/// Time of a node's processors, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    all: u64,
    idle: u64,
}

impl Times {
    fn of(rig: &Rig, node: u32) -> Result<Self, Problem> {
        let stat = rig.sh(node, 60, "cat /proc/stat")?;
        Self::parse(&stat).ok_or_else(|| format!("node {node}: /proc/stat: {stat}"))
    }

    /// Of the first line of `/proc/stat`: user, nice, system, idle, waiting for I/O, and more.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let n: Vec<u64> = line.split_whitespace().map_while(|w| w.parse().ok()).collect();
        Some(Self {
            all: n.iter().take(8).sum(),
            idle: n.get(3)? + n.get(4)?,
        })
    }

    /// The share of the time since then that was idle; `None`: no time has passed.
    fn idle_since(self, then: Self) -> Option<f64> {
        let all = self.all.checked_sub(then.all).filter(|n| *n > 0)?;
        Some(self.idle.checked_sub(then.idle)? as f64 / all as f64)
    }
}

/// Sees that a node is a member and works without a pause. Returns whether it has restarted.
fn keep_busy(rig: &Rig, side: Side, node: u32, run: &mut Run) -> Result<bool, Problem> {
    // A node that restarts just now is looked at next time.
    let Ok(boot) = rig.sh(node, 60, BOOT_ID) else {
        return Ok(false);
    };
    if run.boot == boot {
        return match rig.sh(node, 60, "pgrep -x stress-ng >/dev/null && echo busy || true") {
            Ok(said) if !said.contains("busy") => Err(format!("node {node}: stress-ng has ended")),
            _ => Ok(false),
        };
    }
    let is_again = !run.boot.is_empty();
    let begin = || -> Result<Times, Problem> {
        if is_again {
            rig.start_on(node, &side.members_script())?;
        }
        rig.start_on(node, "exec stress-ng --temp-path /tmp --cpu 0 --timeout 0")?;
        rig.sh(node, 60, "while ! pgrep -x stress-ng-cpu >/dev/null; do sleep 1; done")?;
        Times::of(rig, node)
    };
    let times = match begin() {
        Ok(times) => times,
        // It may have restarted meanwhile.
        Err(e) => match rig.sh(node, 60, BOOT_ID) {
            Ok(now) if now == boot => return Err(format!("node {node}: no load: {e}")),
            _ => return Ok(false),
        },
    };
    *run = Run {
        boot,
        times: Some(times),
    };
    Ok(is_again)
}

/// How many nodes corosync said were out.
fn corosync_losses(log: &str) -> usize {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(MEMBERSHIP)?;
        let (_, left) = rest.split_once(LEFT)?;
        Some(left.split_whitespace().map_while(|w| w.parse::<u32>().ok()).count())
    };
    log.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_nodes_that_left_a_membership() {
        let log = "Nov 21 [TOTEM ] A new membership (1.5) was formed. Members joined: 1\n\
                   Nov 21 [TOTEM ] A new membership (1.9) was formed. Members left: 3 1\n\
                   Nov 21 [TOTEM ] Failed to receive the leave message. failed: 3\n\
                   Nov 21 [TOTEM ] A new membership (1.d) was formed. Members joined: 3 left: 2\n";
        assert_eq!(corosync_losses(log), 3);
        assert_eq!(corosync_losses(""), 0);
    }

    #[test]
    fn both_get_the_same_time() {
        let token_ms = token_ms(1000);
        assert!((990..=1000).contains(&(token_ms + consensus_ms(token_ms))));
        let script = Side::Corosync { token_ms }.members_script();
        let times = "token: 454\\n consensus: 544\\n token_coefficient: 0";
        assert!(script.contains(times), "{script}");
        assert_eq!(script.matches("ring0_addr").count(), 3);
        let ours = Side::Ours { detect_ms: 1000 };
        assert_eq!(ours.members_script(), "cluster join --detect-ms 1000");
    }

    #[test]
    fn idle_is_told_by_the_node() {
        let then = Times::parse("cpu  100 0 50 20 5 0 5 0 0 0\ncpu0 1 2 3 4\n").expect("times");
        assert_eq!(then, Times { all: 180, idle: 25 });
        let now = Times::parse("cpu  190 0 55 25 5 0 5 0 0 0\n").expect("times");
        assert_eq!(now.idle_since(then), Some(0.05));
        assert_eq!(then.idle_since(then), None);
        assert_eq!(Times::parse("intr 1"), None);
    }
}
