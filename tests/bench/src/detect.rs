// SPDX-License-Identifier: GPL-2.0

//! `detect`: from a node's power cut until every survivor has a view without it and has told its subsystems.
//!
//! Nodes are killed in turn and come back. Both ends of a sample are stamped by this program: before the rig is asked to
//! cut the power, and when a survivor's console says `node N is down`. The consoles are files here: nothing runs in the
//! guests for it.

use crate::Problem;
use crate::members;
use crate::members::Console;
use crate::report::Report;
use crate::rig::Rig;
use crate::stats::Pair;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// What may be at most, in ms: median and 99th percentile.
const GOAL: Pair = Pair {
    p50: 500.0,
    p99: 1000.0,
};

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
    let rig = Rig::start(top, "busybox", &["-n", &count, "--no-join"])?;
    rig.wait_up(1)?;
    let kernel = rig.sh(1, 20, "uname -rv")?.trim().to_owned();
    let mut samples = Vec::new();
    let (mut false_alarms, mut lost) = (0, 0);
    while samples.len() < plan.kills as usize {
        members::all_join(
            &rig,
            plan.nodes,
            &format!("cluster join --detect-ms {}", plan.detect_ms),
        )?;
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
        let took = members::all_see(&mut consoles, dead, start)?;
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
