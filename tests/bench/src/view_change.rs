// SPDX-License-Identifier: GPL-2.0

//! What a change of the view costs: `view_change` with 2 to 8 nodes of the rig, `view_change_simulated` with up to 4096.

mod real;

use crate::Problem;
use crate::curves;
use crate::curves::Kind;
use crate::curves::Point;
use std::path::Path;
use std::process::Command;

/// With nodes of the rig, or simulated: `view_change`, `view_change_simulated`.
pub(crate) fn run(top: &Path, kind: Kind) -> Vec<Problem> {
    let points = match kind {
        Kind::Real => real::points(top),
        Kind::Simulated => simulated(top),
    };
    let done = points.and_then(|p| curves::replace(top, kind, &p));
    done.err().map(|e| format!("view_change: {e}")).into_iter().collect()
}

/// Has the simulations of `tests/host/clms` run, those of thousands of nodes too: ten minutes, and 3 GiB.
fn simulated(top: &Path) -> Result<Vec<Point>, Problem> {
    let out = Command::new("cargo")
        .args(["test", "--quiet", "--locked", "--manifest-path"])
        .arg(top.join("tests/host/clms/Cargo.toml"))
        .args([
            "a_change_",
            "--",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        return Err(format!(
            "tests/host/clms: {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    let points: Vec<Point> = text.lines().filter_map(point).collect();
    if points.is_empty() {
        return Err(format!("tests/host/clms says nothing of a view_change: {text}"));
    }
    Ok(points)
}

/// Reads `view_change 16 nodes: 44 messages, 312 ms`.
fn point(line: &str) -> Option<Point> {
    // The harness ends no line before it.
    let words: Vec<&str> = line.trim_start_matches('.').split_whitespace().collect();
    let ["view_change", nodes, "nodes:", messages, "messages,", ms, "ms"] = words[..] else {
        return None;
    };
    Some(Point {
        kind: Kind::Simulated,
        nodes: nodes.parse().ok()?,
        messages: messages.parse().ok()?,
        ms: ms.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_simulation_is_read() {
        let p = point("view_change 16 nodes: 44 messages, 312 ms").expect("a point");
        assert_eq!((p.nodes, p.messages, p.ms), (16, 44, 312));
        assert!(point(".view_change 3 nodes: 5 messages, 19 ms").is_some());
        assert_eq!(point("running 2 tests"), None);
        assert_eq!(point("view_change x nodes: 44 messages, 312 ms"), None);
    }
}
