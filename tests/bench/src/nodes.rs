// SPDX-License-Identifier: GPL-2.0

//! Benchmarks between two nodes: node 1 measures, node 2 is the other.

use crate::Problem;
use crate::peers;
use crate::peers::Calls;
use crate::peers::Over;
use crate::report::GoalIs;
use crate::report::Report;
use crate::rig;
use crate::rig::Rig;
use crate::stats;
use crate::stats::Pair;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

const BIN: &str = "/usr/lib/ssi-tests";
const ECHO_PORT: u16 = 7701;
const COPY_PORT: u16 = 7702;
const TIMING: &str = "/sys/kernel/debug/ssi/ics_timing";
/// Samples of the raw round trip before and after.
const DRIFT_SAMPLES: u32 = 500;

/// The JSON line of a program that times (ns).
#[derive(Debug, Deserialize)]
struct Line {
    p50: f64,
    p99: f64,
}

/// The JSON line of migclock (ns).
#[derive(Debug, Deserialize)]
struct Freeze {
    freeze: f64,
}

/// A command for node 1 and how to read what it prints.
enum Side {
    Timed(String),
    Freeze(String),
}

struct Bench {
    ours: Side,
    peer: Side,
    peer_name: &'static str,
    goal: Option<f64>,
    goal_p99: Option<f64>,
    /// Further peers, without a goal.
    others: Vec<(&'static str, Side)>,
}

impl Bench {
    /// Ours, the peer, the others.
    fn sides(&self) -> Vec<&Side> {
        let others = self.others.iter().map(|(_, side)| side);
        [&self.ours, &self.peer].into_iter().chain(others).collect()
    }
}

pub(crate) fn run(
    top: &Path,
    instance: Option<&Path>,
    names: &[&str],
    blocks: u32,
    samples: u32,
) -> (Vec<Report>, Vec<Problem>) {
    let session = match Session::open(top, instance, names) {
        Ok(s) => s,
        Err(e) => return (Vec::new(), vec![format!("{}: {e}", names.join(" "))]),
    };
    let mut reports = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        match session.measure(name, blocks, samples) {
            Ok(r) => reports.push(r),
            Err(e) => problems.push(format!("{name}: {e}")),
        }
    }
    (reports, problems)
}

/// Two nodes with the servers of all peers running on the second.
struct Session {
    rig: Rig,
    signal_peer: String,
    /// Address of node 2 on the first link.
    other: String,
    env: BTreeMap<String, String>,
}

impl Session {
    fn open(top: &Path, instance: Option<&Path>, names: &[&str]) -> Result<Self, Problem> {
        let rig = Rig::open(top, instance)?;
        let tab = rig.sh(1, 20, "cat /etc/clustertab")?;
        let on =
            |node: &str| address(&tab, node).ok_or_else(|| format!("no address of node {node} in clustertab:\n{tab}"));
        let other = on("2")?;
        if names.iter().any(|n| n.starts_with("ics_")) {
            peers::start(&rig, [&on("1")?, &other])?;
        }
        let start = |command: String| rig.sh(2, 30, &rig::background(&command));
        start(format!("{BIN}/tcpecho server {ECHO_PORT}"))?;
        start(format!("{BIN}/memcopy_tcp recv {COPY_PORT}"))?;
        // "peer PID PID": its own view of its pid, and the shell's; both are the cluster's.
        let peer = start(format!("{BIN}/sigecho peer"))?;
        let signal_peer = peer
            .split_whitespace()
            .nth(1)
            .ok_or_else(|| format!("sigecho peer said {peer:?}"))?
            .to_owned();
        let mut env = BTreeMap::new();
        let facts = rig.sh(1, 20, "uname -rv; nproc; sed -n 's/^MemTotal: *//p' /proc/meminfo")?;
        for (key, value) in ["kernel", "cpus", "memory"].iter().zip(facts.lines()) {
            env.insert((*key).to_owned(), value.to_owned());
        }
        env.insert("nodes".to_owned(), "2".to_owned());
        env.insert("accelerator".to_owned(), rig.accelerator()?);
        Ok(Self {
            rig,
            signal_peer,
            other,
            env,
        })
    }

    fn measure(&self, name: &str, blocks: u32, samples: u32) -> Result<Report, Problem> {
        let b = self.bench(name, samples)?;
        let first = self.round_trip()?;
        let sides = b.sides();
        let mut taken: Vec<Vec<Pair>> = vec![Vec::new(); sides.len()];
        for n in (0..blocks).flat_map(|i| in_turn(i, sides.len())) {
            taken[n].push(self.block(sides[n])?);
        }
        let last = self.round_trip()?;
        // A freeze is one sample per block: the blocks are the distribution.
        let of = |(side, v): (&&Side, &Vec<Pair>)| match side {
            Side::Timed(_) => Pair::of_blocks(v),
            Side::Freeze(_) => Pair::of_samples(&v.iter().map(|p| p.p50).collect::<Vec<_>>()),
        };
        let figures: Vec<Pair> = sides
            .iter()
            .zip(&taken)
            .map(of)
            .collect::<Option<_>>()
            .ok_or("no samples")?;
        let [o, p, others @ ..] = figures.as_slice() else {
            return Err("no samples".to_owned());
        };
        // What was measured is of some use to who looks for a cause, and of none as a result.
        stats::check_drift(first, last).map_err(|e| {
            let us = |p: &Pair| format!("{:.0}", p.p50 / 1e3);
            let peers: Vec<String> = figures[1..].iter().map(us).collect();
            format!(
                "{e} (it was {} us against {} us, ratio {:.2})",
                us(o),
                peers.join(", "),
                o.p50 / p.p50
            )
        })?;
        let mut env = self.env.clone();
        env.insert(
            "rtt_us".to_owned(),
            format!("{:.1} before, {:.1} after", first / 1e3, last / 1e3),
        );
        let us = 1e3;
        let goal = b.goal.map(|g| (GoalIs::Ratio, g));
        let others = b.others.iter().zip(others).map(|((name, _), p)| (*name, p.scaled(us)));
        Ok(Report::new(
            name,
            "us",
            o.scaled(us),
            (b.peer_name, p.scaled(us)),
            goal,
            blocks as usize,
            &env,
        )
        .with_p99(b.goal_p99)
        .with_others(others))
    }

    fn bench(&self, name: &str, samples: u32) -> Result<Bench, Problem> {
        let other = &self.other;
        let copy =
            |mib: u32, rounds: u32| Side::Timed(format!("{BIN}/memcopy_tcp send {other} {COPY_PORT} {mib} {rounds}"));
        let migrate = |mib: u32, rounds: u32, goal| Bench {
            ours: Side::Timed(format!("{BIN}/migtime 2 {mib} {rounds}")),
            peer: copy(mib, rounds),
            peer_name: "TCP copy of the memory",
            goal,
            goal_p99: None,
            others: Vec::new(),
        };
        let freeze = |mib: u32| Bench {
            ours: Side::Freeze(freeze_script(mib)),
            peer: copy(mib, 1),
            peer_name: "TCP copy of the memory",
            goal: None,
            goal_p99: None,
            others: Vec::new(),
        };
        let calls = |callers: u32, count: u32, there: u32, back: u32, goal, goal_p99| {
            let count = count.max(10);
            let calls = Calls {
                callers,
                count,
                there,
                back,
            };
            let side = |over: Over| Side::Timed(over.command(other, calls));
            Bench {
                ours: Side::Timed(format!(
                    "echo 2 {callers} {count} {there} {back} >{TIMING} && cat {TIMING}"
                )),
                peer: side(Over::Tcp),
                peer_name: Over::Tcp.name(),
                goal: Some(goal),
                goal_p99,
                others: Over::beside(calls).into_iter().map(|o| (o.name(), side(o))).collect(),
            }
        };
        // A rate of 0.9 is a time of 1 / 0.9.
        const RATE: f64 = 1.0 / 0.9;
        Ok(match name {
            "ics_null_1" => calls(1, samples, 0, 0, 1.25, Some(2.0)),
            "ics_null_8" => calls(8, samples / 2, 0, 0, 1.25, Some(2.0)),
            "ics_null_64" => calls(64, samples / 4, 0, 0, 1.25, Some(2.0)),
            "ics_4k_in" => calls(1, samples, 4096, 0, RATE, None),
            "ics_4k_out" => calls(1, samples, 0, 4096, RATE, None),
            "ics_1m" => calls(1, samples / 20, 0, 1 << 20, RATE, None),
            "remote_kill" => Bench {
                ours: Side::Timed(format!("{BIN}/sigecho ping {} {samples}", self.signal_peer)),
                peer: Side::Timed(format!("{BIN}/tcpecho client {other} {ECHO_PORT} {samples}")),
                peer_name: "TCP echo of one byte",
                goal: Some(2.5),
                goal_p99: None,
                others: Vec::new(),
            },
            "onnode_true" => Bench {
                ours: Side::Timed(format!("{BIN}/forkexec -n {} -o 2", samples.div_ceil(10))),
                peer: Side::Timed(format!("{BIN}/forkexec -n {}", samples.div_ceil(10))),
                peer_name: "local fork+exec+wait",
                goal: None,
                goal_p99: None,
                others: Vec::new(),
            },
            "migrate_1m" => migrate(1, 20, None),
            "migrate_16m" => migrate(16, 10, None),
            "migrate_64m" => migrate(64, 5, Some(1.6)),
            "freeze_1m" => freeze(1),
            "freeze_64m" => freeze(64),
            _ => return Err("no such benchmark".to_owned()),
        })
    }

    fn block(&self, side: &Side) -> Result<Pair, Problem> {
        match side {
            Side::Timed(command) => {
                let l: Line = self.last_json(command)?;
                Ok(Pair { p50: l.p50, p99: l.p99 })
            }
            Side::Freeze(script) => {
                let l: Freeze = self.last_json(script)?;
                Ok(Pair {
                    p50: l.freeze,
                    p99: l.freeze,
                })
            }
        }
    }

    /// Median of the raw round trip, ns.
    fn round_trip(&self) -> Result<f64, Problem> {
        let other = &self.other;
        let l: Line = self.last_json(&format!("{BIN}/tcpecho client {other} {ECHO_PORT} {DRIFT_SAMPLES}"))?;
        Ok(l.p50)
    }

    fn last_json<T: for<'a> Deserialize<'a>>(&self, script: &str) -> Result<T, Problem> {
        read_json(&self.rig.sh(1, 300, script)?)
    }
}

/// In which order the sides of block `i` run: A B C, C B A, A B C, ...
fn in_turn(i: u32, sides: usize) -> impl Iterator<Item = usize> {
    (0..sides).map(move |n| if i.is_multiple_of(2) { n } else { sides - 1 - n })
}

fn read_json<T: for<'a> Deserialize<'a>>(out: &str) -> Result<T, Problem> {
    let line = out
        .lines()
        .rev()
        .find(|l| l.starts_with('{'))
        .ok_or_else(|| format!("no figures in {out:?}"))?;
    serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))
}

/// The first address of `node` in the text of a clustertab.
fn address(tab: &str, node: &str) -> Option<String> {
    tab.lines().find_map(|l| {
        let mut columns = l.split_whitespace();
        let first = (columns.next()? == node).then(|| columns.next())??.split(',').next()?;
        Some(first.to_owned())
    })
}

/// Starts a beating program, moves it once, and prints the line that tells how long it stood still.
fn freeze_script(mib: u32) -> String {
    let seconds = 3 + mib / 16;
    format!(
        "f=/tmp/bench.$$; mkfifo $f && exec 3<>$f && rm $f; {BIN}/migclock pipe {mib} {seconds} >&3 </dev/null & \
         read -r -t 60 word pid <&3 || exit 1; migrate 2 $pid || exit 1; read -r -t 60 line <&3 || exit 1; echo \"$line\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_nodes_address_is_that_of_its_first_link() {
        let tab = "# node IP\n1 10.73.1.1 - P Y -\n2\t10.73.1.2,10.73.2.2\t-\n";
        assert_eq!(address(tab, "2").as_deref(), Some("10.73.1.2"));
        assert_eq!(address(tab, "3"), None);
        assert_eq!(address("2", "2"), None);
    }

    #[test]
    fn blocks_alternate() {
        let order = |sides| (0..3).flat_map(|i| in_turn(i, sides)).collect::<Vec<_>>();
        assert_eq!(order(2), [0, 1, 1, 0, 0, 1]);
        assert_eq!(order(4), [0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn the_last_json_line_counts() {
        let l: Line = read_json("listening\n{\"p50\":1,\"p99\":2}\n{\"name\":\"x\",\"p50\":3,\"p99\":4.5}\nbye\n")
            .expect("a line");
        assert_eq!((l.p50, l.p99), (3.0, 4.5));
        assert!(read_json::<Line>("nothing").is_err());
        assert!(read_json::<Freeze>("{\"p50\":1}").is_err());
    }
}
