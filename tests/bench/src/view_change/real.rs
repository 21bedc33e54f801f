// SPDX-License-Identifier: GPL-2.0

//! Changes of the view with real nodes: the coordinator's power is cut.
//!
//! Messages are counted by the steps that each survivor recorded (`clms/recorder.rs`): what an effect sends beside the
//! regular heartbeats, to the dead node too. The time is stamped here, from before the rig is asked to cut the power until
//! the last survivor's console says that the node is down.

use super::Point;
use crate::Problem;
use crate::curves::Kind;
use crate::members;
use crate::members::Console;
use crate::rig::Rig;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// How many nodes there are in turn.
const SIZES: std::ops::RangeInclusive<u32> = 2..=8;

/// Changes with each; what is kept is their median.
const CHANGES: usize = 5;

/// Who proposes: the lowest.
const DEAD: u32 = 1;

const STEPS: &str = "/sys/kernel/debug/ssi/membership";

/// A node records from its join on. One of two goes on alone only with the more votes.
const JOIN: &str = "{ sed 's/^2[[:space:]].*/& votes=2/' /etc/clustertab >/tmp/two; [ $(grep -c '^[0-9]' /tmp/two) = 2 ] || \
                    cp /etc/clustertab /tmp/two; echo on >/sys/kernel/debug/ssi/membership; cluster join --tab /tmp/two; }";

pub(super) fn points(top: &Path) -> Result<Vec<Point>, Problem> {
    SIZES.map(|n| of_size(top, n)).collect()
}

fn of_size(top: &Path, nodes: u32) -> Result<Point, Problem> {
    let rig = Rig::start(top, "busybox", &["-n", &nodes.to_string(), "--no-join"])?;
    let mut seen = Vec::new();
    let mut lost = 0;
    while seen.len() < CHANGES {
        members::all_join(&rig, nodes, JOIN)?;
        match change(&rig, nodes, seen.len() + lost)? {
            Some(c) => {
                let ms = c.took.as_millis();
                eprintln!("bench: view_change: {nodes} nodes: {} messages, {ms} ms", c.messages);
                seen.push(c);
            }
            None => {
                lost += 1;
                eprintln!("bench: view_change: {nodes} nodes: node {DEAD} and a survivor with it: not counted");
                if lost > CHANGES {
                    return Err(format!("{nodes} nodes: {lost} times a survivor was taken for dead"));
                }
            }
        }
        rig.give_back(DEAD)?;
    }
    Ok(Point {
        kind: Kind::Real,
        nodes,
        messages: median(seen.iter().map(|c| c.messages)),
        ms: median(
            seen.iter()
                .map(|c| u32::try_from(c.took.as_millis()).unwrap_or(u32::MAX)),
        ),
    })
}

/// What a change has come to.
struct Change {
    messages: u32,
    took: Duration,
}

/// Cuts the coordinator's power. `None`: on a loaded host a survivor was taken for dead as well, and has stopped itself.
fn change(rig: &Rig, nodes: u32, i: usize) -> Result<Option<Change>, Problem> {
    let survivors = || (1..=nodes).filter(|n| *n != DEAD);
    let mut consoles = survivors()
        .map(|n| Console::at_end(rig.console(n)))
        .collect::<Result<Vec<_>, _>>()?;
    let sent = || -> Result<u32, Problem> { survivors().map(|n| sent_by(rig, n, nodes)).sum() };
    let before = sent()?;
    // Heartbeats go every 100 ms: no fixed distance from them.
    std::thread::sleep(Duration::from_millis(500 + i as u64 * 37 % 100));
    let begin = Instant::now();
    rig.kill(DEAD)?;
    let Some(took) = members::all_see(&mut consoles, DEAD, begin)? else {
        return Ok(None);
    };
    let messages = sent()?
        .checked_sub(before)
        .ok_or("a survivor has joined again meanwhile")?;
    Ok(Some(Change { messages, took }))
}

/// What a node has sent beside the regular heartbeats since it joined.
fn sent_by(rig: &Rig, node: u32, nodes: u32) -> Result<u32, Problem> {
    let steps = rig.sh(node, 60, &format!("cat {STEPS}"))?;
    messages(&steps, nodes).map_err(|e| format!("node {node}: {e}"))
}

/// Messages by the effects of recorded steps.
fn messages(steps: &str, nodes: u32) -> Result<u32, Problem> {
    if !steps.starts_with("join ") || steps.ends_with("full\n") {
        return Err(format!("{STEPS} has no beginning, or no end"));
    }
    let of_step = |line: &str| {
        let (_, effect) = line.split_once(" => ")?;
        let (effect, _) = effect.split_once("; ")?;
        Some(match effect {
            "Say" | "Left" => nodes - 1,
            e if e.starts_with("SayTo(") => 1,
            e if e.starts_with("Install ") && e.ends_with("is_mine: true }") => nodes - 1,
            _ => 0,
        })
    };
    Ok(steps.lines().filter_map(of_step).sum())
}

fn median(values: impl Iterator<Item = u32>) -> u32 {
    let mut all: Vec<u32> = values.collect();
    all.sort_unstable();
    all[all.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_beside_the_regular_ones() {
        let steps = "join 1 77 2000 1500 5 0 1 1 1\n\
                     10 tick => None; Says { phase: Up }\n\
                     11 tick => Say; Says { phase: Up }\n\
                     12 heard 2 7 65536 - false 2 1 7 9 0 0 0 0 0 7 0 => SayTo(2); Says { phase: Up }\n\
                     13 tick => Install { view: View { id: 3 }, is_mine: true }; Says { phase: Up }\n\
                     14 tick => Install { view: View { id: 4 }, is_mine: false }; Says { phase: Up }\n";
        assert_eq!(messages(steps, 3), Ok(5));
        assert!(messages("", 3).is_err());
        assert!(messages("join 1\n11 tick => Say; Says\nfull\n", 3).is_err());
        assert_eq!(median([5, 9, 5].into_iter()), 5);
    }
}
