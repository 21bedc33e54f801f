// SPDX-License-Identifier: GPL-2.0

//! `detect`: from a node's power cut until every survivor has a view without it and has told its subsystems.
//!
//! Nodes are killed in turn and come back. Both ends of a sample are stamped by this program: before the rig is asked to
//! cut the power, and when a survivor's console says `node N is down`. The consoles are files here: nothing runs in the
//! guests for it.

use crate::Problem;
use crate::report::Report;
use crate::rig::Rig;
use crate::stats::Pair;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// What may be at most, in ms: median and 99th percentile.
const GOAL: Pair = Pair {
    p50: 500.0,
    p99: 1000.0,
};

/// Between two looks at the consoles.
const POLL: Duration = Duration::from_millis(1);

/// What a node says before it restarts itself.
const STOPPED: &str = "ssi_clms: node stops itself";

/// A death that nobody has seen after this time is not seen.
const LIMIT: Duration = Duration::from_secs(30);

/// What is killed, how often, and when a silent node is dead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: u32,
    pub(crate) kills: u32,
    pub(crate) detect_ms: u32,
}

pub(crate) fn run(top: &Path, plan: Plan) -> (Vec<Report>, Vec<Problem>) {
    match measure(top, plan) {
        Ok(report) => (vec![report], Vec::new()),
        Err(e) => (Vec::new(), vec![format!("detect: {e}")]),
    }
}

fn measure(top: &Path, plan: Plan) -> Result<Report, Problem> {
    let count = plan.nodes.to_string();
    let rig = Rig::start(top, &["-n", &count, "--no-join"])?;
    rig.wait_up(1)?;
    let kernel = rig.sh(1, 20, "uname -rv")?.trim().to_owned();
    let mut samples = Vec::new();
    let (mut false_alarms, mut lost) = (0, 0);
    while samples.len() < plan.kills as usize {
        all_join(&rig, plan)?;
        let i = samples.len() as u32 + lost;
        let dead = i % plan.nodes + 1;
        // Heartbeats go every 100 ms: no fixed distance from them.
        std::thread::sleep(Duration::from_millis(500 + u64::from(i) * 37 % 100));
        let mut consoles = (1..=plan.nodes)
            .filter(|n| *n != dead)
            .map(|n| Console::at_end(rig.console(n)))
            .collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        rig.kill(dead)?;
        let took = wait(&mut consoles, dead, start)?;
        rig.give_back(dead)?;
        for c in &mut consoles {
            c.read()?;
            false_alarms += c.others(dead);
        }
        if let Some(took) = took {
            samples.push(took.as_secs_f64() * 1e3);
            let (n, all) = (samples.len(), plan.kills);
            eprintln!(
                "bench: detect: {n} of {all}: node {dead}, {:.0} ms",
                took.as_secs_f64() * 1e3
            );
        } else {
            lost += 1;
            eprintln!("bench: detect: node {dead} and a survivor with it: not counted");
            if lost > plan.kills {
                return Err(format!("{false_alarms} nodes that lived were taken for dead"));
            }
        }
    }
    let ours = Pair::of_samples(&samples).ok_or("no samples")?;
    let max = samples.iter().copied().fold(0.0, f64::max);
    let env = BTreeMap::from(
        [
            ("nodes", count),
            ("kills", plan.kills.to_string()),
            ("detect_ms", plan.detect_ms.to_string()),
            ("max_ms", format!("{max:.0}")),
            ("false_alarms", false_alarms.to_string()),
            ("accelerator", rig.accelerator()?),
            ("kernel", kernel),
        ]
        .map(|(k, v)| (k.to_owned(), v)),
    );
    Ok(Report::absolute("detect", "ms", ours, GOAL, samples.len(), &env))
}

/// Waits until every node takes commands, and is a member of one cluster with the others.
fn all_join(rig: &Rig, plan: Plan) -> Result<(), Problem> {
    // Those that are members need not do it, and all others at once: one alone has no majority.
    let join = format!(
        "clusternode_num >/dev/null 2>&1 || cluster join --detect-ms {}",
        plan.detect_ms
    );
    let once = || {
        for n in 1..=plan.nodes {
            rig.wait_up(n)?;
        }
        rig.sh_all(60, &join)?;
        (1..=plan.nodes)
            .map(|n| members(&rig.sh(n, 20, "cluster status --json || true")?))
            .collect::<Result<Vec<_>, _>>()
    };
    let start = Instant::now();
    loop {
        // On a loaded host one may be taken for dead meanwhile.
        let seen = once();
        let is_one = |v: &Vec<(u64, usize)>| v.iter().all(|w| w.1 == plan.nodes as usize && w.0 == v[0].0);
        if seen.as_ref().is_ok_and(is_one) {
            return Ok(());
        }
        if start.elapsed() > JOIN_LIMIT {
            return Err(format!("not in one view after {JOIN_LIMIT:?}: {seen:?}"));
        }
    }
}

/// A cluster that is not there after this time does not come.
const JOIN_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Deserialize)]
struct Status {
    view: u64,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    state: String,
}

/// The view's number, and how many nodes are up in it.
fn members(json: &str) -> Result<(u64, usize), Problem> {
    let s: Status = serde_json::from_str(json.trim()).map_err(|e| format!("{json}: {e}"))?;
    Ok((s.view, s.nodes.iter().filter(|n| n.state == "UP").count()))
}

/// What a node's console says from some time on.
struct Console {
    path: PathBuf,
    file: File,
    text: String,
}

impl Console {
    fn at_end(path: PathBuf) -> Result<Self, Problem> {
        let open = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))?;
        Ok(Self {
            path,
            file,
            text: String::new(),
        })
    }

    fn read(&mut self) -> Result<(), Problem> {
        let mut more = Vec::new();
        self.file
            .read_to_end(&mut more)
            .map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.text.push_str(&String::from_utf8_lossy(&more));
        Ok(())
    }

    fn deaths(&self) -> impl Iterator<Item = u32> {
        self.text.split_inclusive('\n').filter_map(|l| {
            l.trim_end()
                .split_once("ssi_clms: node ")?
                .1
                .strip_suffix(" is down")?
                .parse()
                .ok()
        })
    }

    fn says(&self, dead: u32) -> bool {
        self.deaths().any(|n| n == dead)
    }

    fn has_stopped(&self) -> bool {
        self.text.contains(STOPPED)
    }

    /// How many nodes it took for dead that nobody killed, itself included.
    fn others(&self, dead: u32) -> usize {
        self.deaths().filter(|n| *n != dead).count() + usize::from(self.has_stopped())
    }
}

/// From `start` until the last console says so; `None`: a survivor has stopped itself.
fn wait(consoles: &mut [Console], dead: u32, start: Instant) -> Result<Option<Duration>, Problem> {
    loop {
        let mut is_seen = true;
        for c in consoles.iter_mut().filter(|c| !c.says(dead)) {
            c.read()?;
            is_seen &= c.says(dead);
        }
        let took = start.elapsed();
        if is_seen {
            return Ok(Some(took));
        }
        if consoles.iter().any(Console::has_stopped) {
            return Ok(None);
        }
        if took > LIMIT {
            return Err(format!("node {dead} is not down for all after {took:?}"));
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_death_is_read_off_the_consoles_of_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let line = "[    1.0] ssi_clms: node 3 is down\r\n";
        let path = |n: u32| dir.path().join(format!("node{n}.console"));
        let append = |n, text: &str| {
            let mut f = File::options().append(true).create(true).open(path(n)).expect("a file");
            f.write_all(text.as_bytes()).expect("written");
        };
        // What was said before does not count.
        for n in [1, 2] {
            append(n, line);
        }
        let mut consoles = [1, 2].map(|n| Console::at_end(path(n)).expect("a console"));
        append(1, line);
        append(2, &line[..20]);
        consoles.iter_mut().for_each(|c| c.read().expect("read"));
        assert!(consoles[0].says(3) && !consoles[1].says(3) && !consoles[0].says(1));
        append(2, &line[20..]);
        assert!(wait(&mut consoles, 3, Instant::now()).is_ok());
        assert_eq!(consoles[0].others(3), 0);
        append(
            2,
            "[    2.0] ssi_clms: node 1 is down\r\n[    2.0] ssi_clms: node stops itself: x\r\n",
        );
        consoles[1].read().expect("read");
        assert_eq!(consoles[1].others(3), 2);
    }

    #[test]
    fn members_are_those_up() {
        let json = r#"{"name":"x","view":4,"nodes":[{"id":1,"state":"UP"},{"id":2,"state":"DOWN"}]}"#;
        assert_eq!(members(json), Ok((4, 1)));
        assert!(members("").is_err());
    }
}
