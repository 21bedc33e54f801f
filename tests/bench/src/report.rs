// SPDX-License-Identifier: GPL-2.0

//! What a benchmark leaves: a JSON file and a line of the table.

use crate::stats::Pair;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What the goal is about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GoalIs {
    /// Ours divided by the peer's, at most the goal.
    Ratio,
    /// Ours less the peer's, in `unit`, at most the goal.
    Extra,
    /// Ours, in `unit`, at most the goal. There is no peer.
    Most,
}

/// The peer's side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Pair,
}

/// A further peer, whose figures are told and not judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Other {
    #[serde(flatten)]
    pub(crate) peer: Peer,
    /// Ours divided by its, of the medians and of the 99th percentiles.
    pub(crate) ratio: f64,
    pub(crate) ratio_p99: f64,
}

/// One benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: &'static str,
    pub(crate) ours: Pair,
    /// Whom the goal is about.
    pub(crate) peer: Option<Peer>,
    pub(crate) peers: Vec<Other>,
    /// Of the medians.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<f64>,
    /// As [`Self::ratio`], of the 99th percentiles.
    pub(crate) ratio_p99: Option<f64>,
    /// What that, or the 99th percentile itself, may be at most.
    pub(crate) goal_p99: Option<f64>,
    pub(crate) goal_is: GoalIs,
    /// `None` without a goal.
    pub(crate) met: Option<bool>,
    /// Blocks of each side.
    pub(crate) runs: usize,
    pub(crate) env: BTreeMap<String, String>,
}

impl Report {
    pub(crate) fn new(
        name: &str,
        unit: &'static str,
        ours: Pair,
        (peer, figures): (&str, Pair),
        goal: Option<(GoalIs, f64)>,
        runs: usize,
        env: &BTreeMap<String, String>,
    ) -> Self {
        let ratio = ours.p50 / figures.p50;
        let met = goal.map(|(is, g)| match is {
            GoalIs::Ratio => ratio <= g,
            GoalIs::Extra => ours.p50 - figures.p50 <= g,
            GoalIs::Most => ours.p50 <= g,
        });
        Self {
            name: name.to_owned(),
            unit,
            better: "lower",
            ours,
            peer: Some(Peer {
                name: peer.to_owned(),
                figures,
            }),
            peers: Vec::new(),
            ratio: Some(ratio).filter(|r| r.is_finite()),
            goal: goal.map(|g| g.1),
            ratio_p99: Some(ours.p99 / figures.p99).filter(|r| r.is_finite()),
            goal_p99: None,
            goal_is: goal.map_or(GoalIs::Ratio, |g| g.0),
            met,
            runs,
            env: env.clone(),
        }
    }

    /// Figures that are judged by themselves: at most `goal`, both of them.
    pub(crate) fn absolute(
        name: &str,
        unit: &'static str,
        ours: Pair,
        goal: Pair,
        runs: usize,
        env: &BTreeMap<String, String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            better: "lower",
            ours,
            peer: None,
            peers: Vec::new(),
            ratio: None,
            goal: Some(goal.p50),
            ratio_p99: None,
            goal_p99: Some(goal.p99),
            goal_is: GoalIs::Most,
            met: Some(ours.p50 <= goal.p50 && ours.p99 <= goal.p99),
            runs,
            env: env.clone(),
        }
    }

    /// Also has a goal for the ratio of the 99th percentiles.
    pub(crate) fn with_p99(mut self, goal: Option<f64>) -> Self {
        if let Some(g) = goal {
            self.met = Some(self.met.unwrap_or(true) && self.ratio_p99.is_none_or(|r| r <= g));
            self.goal_p99 = goal;
        }
        self
    }

    /// Also tells of these.
    pub(crate) fn with_others<'a>(mut self, others: impl Iterator<Item = (&'a str, Pair)>) -> Self {
        self.peers.extend(others.map(|(name, figures)| Other {
            peer: Peer {
                name: name.to_owned(),
                figures,
            },
            ratio: self.ours.p50 / figures.p50,
            ratio_p99: self.ours.p99 / figures.p99,
        }));
        self
    }

    /// Writes `build/bench/<name>.json` below `top`.
    pub(crate) fn save(&self, top: &Path) -> Result<(), String> {
        let dir = top.join("build/bench");
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let file = dir.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::write(&file, text + "\n").map_err(|e| format!("{}: {e}", file.display()))
    }
}

/// All of them, aligned, one per line, and below it one for each further peer.
pub(crate) fn table(reports: &[Report]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        [
            "NAME", "OURS p50", "p99", "PEER p50", "p99", "UNIT", "RATIO", "GOAL", "MET", "PEER",
        ]
        .map(str::to_owned),
    ];
    for r in reports {
        let goal = match (r.goal, r.goal_is) {
            (None, _) => "-".to_owned(),
            (Some(g), GoalIs::Ratio | GoalIs::Most) => r.goal_p99.map_or(format!("{g}"), |p| format!("{g}, {p}")),
            (Some(g), GoalIs::Extra) => format!("+{g}"),
        };
        let met = match r.met {
            None => "-",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        rows.push([
            r.name.clone(),
            figure(r.ours.p50),
            figure(r.ours.p99),
            r.peer.as_ref().map_or("-".to_owned(), |p| figure(p.figures.p50)),
            r.peer.as_ref().map_or("-".to_owned(), |p| figure(p.figures.p99)),
            r.unit.to_owned(),
            r.ratio.map_or("-".to_owned(), |a| {
                ratios(a, r.ratio_p99.filter(|_| r.goal_p99.is_some()))
            }),
            goal,
            met.to_owned(),
            r.peer.as_ref().map_or("-".to_owned(), |p| p.name.clone()),
        ]);
        rows.extend(r.peers.iter().map(|o| {
            let nothing = String::new;
            [
                nothing(),
                nothing(),
                nothing(),
                figure(o.peer.figures.p50),
                figure(o.peer.figures.p99),
                r.unit.to_owned(),
                ratios(o.ratio, r.goal_p99.map(|_| o.ratio_p99)),
                "-".to_owned(),
                "-".to_owned(),
                o.peer.name.clone(),
            ]
        }));
    }
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..10).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (i, (cell, w)) in row.iter().zip(&widths).enumerate() {
            let numeric = matches!(i, 1..=4 | 6 | 7);
            out += &if numeric {
                format!("{cell:>w$}  ")
            } else {
                format!("{cell:<w$}  ")
            };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// Of the medians and, where that counts, of the 99th percentiles.
fn ratios(p50: f64, p99: Option<f64>) -> String {
    p99.map_or(format!("{p50:.4}"), |p99| format!("{p50:.4}, {p99:.4}"))
}

fn figure(v: f64) -> String {
    if v >= 1000.0 {
        format!("{v:.0}")
    } else {
        format!("{v:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: f64, peer: f64, goal: Option<(GoalIs, f64)>) -> Report {
        let p = |v| Pair { p50: v, p99: v * 2.0 };
        Report::new(
            "hook_getpid",
            "instructions",
            p(ours),
            ("unpatched", p(peer)),
            goal,
            5,
            &BTreeMap::new(),
        )
    }

    #[test]
    fn goals_are_judged() {
        for (ours, peer, goal, met) in [
            (193.0, 191.0, Some((GoalIs::Extra, 2.0)), Some(true)),
            (193.1, 191.0, Some((GoalIs::Extra, 2.0)), Some(false)),
            (250.0, 100.0, Some((GoalIs::Ratio, 2.5)), Some(true)),
            (251.0, 100.0, Some((GoalIs::Ratio, 2.5)), Some(false)),
            (251.0, 100.0, None, None),
        ] {
            assert_eq!(report(ours, peer, goal).met, met, "{ours} {peer} {goal:?}");
        }
    }

    #[test]
    fn figures_without_a_peer_are_judged_by_themselves() {
        let goal = Pair {
            p50: 500.0,
            p99: 1000.0,
        };
        for (p50, p99, met) in [(500.0, 1000.0, true), (501.0, 900.0, false), (400.0, 1001.0, false)] {
            let r = Report::absolute("detect", "ms", Pair { p50, p99 }, goal, 9, &BTreeMap::new());
            assert_eq!(r.met, Some(met), "{p50} {p99}");
            assert!(table(&[r]).contains("500, 1000"));
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let dir = tempfile::tempdir().expect("a folder");
        report(200.0, 100.0, Some((GoalIs::Ratio, 2.5)))
            .save(dir.path())
            .expect("a file");
        let text = std::fs::read_to_string(dir.path().join("build/bench/hook_getpid.json")).expect("a file");
        let v: serde_json::Value = serde_json::from_str(&text).expect("json");
        for key in [
            "name", "unit", "better", "ours", "peer", "peers", "ratio", "goal", "met", "runs", "env",
        ] {
            assert!(v.get(key).is_some(), "{key}");
        }
        assert_eq!(v["ours"]["p99"], 400.0);
        assert_eq!(v["peer"]["name"], "unpatched");
        assert_eq!(v["peer"]["p50"], 100.0);
        assert_eq!(v["ratio"], 2.0);
        assert_eq!(v["met"], true);
    }

    #[test]
    fn further_peers_are_told_and_not_judged() {
        let p = |v| Pair { p50: v, p99: v * 4.0 };
        let plain = report(100.0, 200.0, Some((GoalIs::Ratio, 1.25))).with_p99(Some(2.0));
        let r = plain
            .clone()
            .with_others([("echo over X", p(50.0)), ("NULL over Y", p(400.0))].into_iter());
        // Slower than X by more than the goal, and still met.
        assert_eq!((r.met, r.ratio, &r.peer), (Some(true), Some(0.5), &plain.peer));
        let v = serde_json::to_value(&r).expect("json");
        assert_eq!(v["peer"]["name"], "unpatched");
        for (i, name, p50, ratio, ratio_p99) in [
            (0, "echo over X", 50.0, 2.0, 1.0),
            (1, "NULL over Y", 400.0, 0.25, 0.125),
        ] {
            let o = &v["peers"][i];
            assert_eq!(o["name"], name);
            assert_eq!(o["p50"], p50);
            assert_eq!(o["p99"], p50 * 4.0);
            assert_eq!(o["ratio"], ratio);
            assert_eq!(o["ratio_p99"], ratio_p99);
        }
        assert_eq!(v["peers"][2], serde_json::Value::Null);
        assert_eq!(
            serde_json::to_value(&plain).expect("json")["peers"],
            serde_json::json!([])
        );

        let t = table(&[r, plain]);
        let lines: Vec<Vec<&str>> = t.lines().map(|l| l.split_whitespace().collect()).collect();
        let x = [
            "50.00",
            "200.00",
            "instructions",
            "2.0000,",
            "1.0000",
            "-",
            "-",
            "echo",
            "over",
            "X",
        ];
        assert_eq!(lines[2], x, "{t}");
        assert_eq!(lines[3].last(), Some(&"Y"), "{t}");
        assert_eq!(lines.len(), 5, "{t}");
        let at = |line: usize, what: &str| t.lines().nth(line).and_then(|l| l.find(what));
        assert_eq!(at(1, "unpatched"), at(2, "echo over X"), "{t}");
    }

    #[test]
    fn table_is_aligned() {
        let t = table(&[
            report(191.0, 191.0, None),
            report(1910.4, 191.0, Some((GoalIs::Extra, 2.0))),
        ]);
        let columns: Vec<_> = t
            .lines()
            .map(|l| l.find("unpatched").or(l.find("PEER\n")).unwrap_or(l.len() - 4))
            .collect();
        assert!(columns.windows(2).all(|w| w[0] == w[1]), "{t}");
        assert!(t.contains("1910") && t.contains("NO") && t.contains("+2"), "{t}");
        assert_eq!(table(&[]), "");
    }
}
