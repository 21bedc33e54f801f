// SPDX-License-Identifier: GPL-2.0

//! The KUnit suites that are compiled into the modules: one machine with the debug kernel runs them while it
//! loads the modules, and its console holds the result as KTAP.

use anyhow::Result;
use rig::Client;
use rig::Up;
use rig::images::Places;
use rig::up::Kernel;

use crate::console;

/// A suite.
#[derive(Debug, Default, PartialEq, Eq)]
struct Suite {
    name: String,
    planned: usize,
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
    is_closed: bool,
}

impl Suite {
    fn is_ok(&self) -> bool {
        self.is_closed && self.failed.is_empty() && self.passed + self.skipped == self.planned && self.planned > 0
    }
}

/// Reads suites from a console. Cases are indented by four; what is deeper are the parameters of one.
fn parse(text: &str) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for line in text.lines().map(console::without_stamp) {
        if let Some(name) = line.strip_prefix("    # Subtest: ") {
            suites.push(Suite {
                name: name.trim().to_owned(),
                ..Suite::default()
            });
            continue;
        }
        let Some(suite) = suites.last_mut().filter(|s| !s.is_closed) else {
            continue;
        };
        if let Some(rest) = line.strip_prefix("    ").filter(|r| !r.starts_with(' ')) {
            if let Some(n) = rest.strip_prefix("1..") {
                suite.planned = n.trim().parse().unwrap_or(0);
            } else if rest.starts_with("ok ") && rest.contains("# SKIP") {
                suite.skipped += 1;
            } else if rest.starts_with("ok ") {
                suite.passed += 1;
            } else if let Some(name) = rest.strip_prefix("not ok ") {
                suite.failed.push(name.trim().to_owned());
            }
        } else if line.starts_with("ok ") {
            suite.is_closed = true;
        } else if line.starts_with("not ok ") {
            suite.is_closed = true;
            if suite.failed.is_empty() {
                suite.failed.push("the suite itself".into());
            }
        }
    }
    suites
}

/// What the console then holds, and whether the machine came up with all modules.
fn boot(places: &Places) -> Result<(String, bool)> {
    let dir = places.top.join("build/cases/kunit");
    std::fs::create_dir_all(&dir)?;
    let up = Up {
        nodes: 1,
        kernel: Kernel::Debug,
        no_join: true,
        append: "kunit.enable=1 kunit.autorun=1 loglevel=7".into(),
        tie: Some(std::process::id()),
        ..Up::default()
    };
    let done = up.run(places, &dir, &mut |line| println!("# {line}"));
    // A suite that takes the machine down leaves its name on the console.
    let text = console::text(&console::bytes_since(&dir.join("node1.console"), 0));
    if let Ok(client) = Client::connect(&dir) {
        client.down()?;
    }
    if let Err(e) = &done {
        println!("# {e:#}");
        println!("# failed: boot");
    }
    Ok((text, done.is_ok()))
}

/// Runs the suites; gives the numbers of cases passed and failed.
pub(crate) fn run(places: &Places) -> (usize, usize) {
    let (text, is_up) = match boot(places) {
        Ok(booted) => booted,
        Err(e) => {
            println!("# {e:#}");
            return (0, 1);
        }
    };
    let suites = parse(&text);
    let alarms = console::alarms(&text, &[]);
    let (mut passed, mut failed) = (0, 0);
    for (number, suite) in (1..).zip(&suites) {
        passed += suite.passed;
        let missing = suite
            .planned
            .saturating_sub(suite.passed + suite.skipped + suite.failed.len());
        failed += suite.failed.len() + missing;
        for name in &suite.failed {
            println!("# failed: {name}");
        }
        if missing > 0 {
            println!("# {missing} of {} did not end", suite.planned);
        }
        println!(
            "{} {number} {} # {} cases",
            if suite.is_ok() { "ok" } else { "not ok" },
            suite.name,
            suite.passed
        );
        failed += usize::from(!suite.is_ok() && suite.failed.is_empty() && missing == 0);
    }
    for line in &alarms {
        println!("# console: {line}");
    }
    println!("1..{}", suites.len());
    println!("# {} suites", suites.len());
    if suites.is_empty() {
        println!("# no suite ran");
    }
    // Suites of a module that was not loaded are missing without a trace.
    let not_run = usize::from(!is_up) + usize::from(suites.is_empty());
    (passed, failed + alarms.len() + not_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[    9.1] KTAP version 1
[    9.1] 1..1
[    9.1]     KTAP version 1
[    9.1]     # Subtest: ssi_wire
[    9.1]     # module: ssi_core
[    9.1]     1..3
[    9.2]     ok 1 golden
[    9.2]         # Subtest: sizes
[    9.2]         ok 1 one
[    9.2]         ok 2 two
[    9.2]     ok 2 sizes
[    9.2]     ok 3 rare # SKIP not here
[    9.2] # ssi_wire: pass:2 fail:0 skip:1 total:3
[    9.2] ok 1 ssi_wire
";

    #[test]
    fn a_good_run() {
        let suites = parse(GOOD);
        assert_eq!(
            suites,
            [Suite {
                name: "ssi_wire".into(),
                planned: 3,
                passed: 2,
                failed: vec![],
                skipped: 1,
                is_closed: true
            }]
        );
        assert!(suites[0].is_ok());
    }

    #[test]
    fn failures_gaps_and_crashes_are_not_ok() {
        let bad = GOOD
            .replace("    ok 2 sizes", "    not ok 2 sizes")
            .replace("] ok 1 ssi", "] not ok 1 ssi");
        assert_eq!(parse(&bad)[0].failed, ["2 sizes"]);
        assert!(!parse(&bad)[0].is_ok());
        let gap = GOOD.replace("[    9.1]     1..3", "[    9.1]     1..4");
        assert!(!parse(&gap)[0].is_ok());
        let crash: String = GOOD.lines().take(7).map(|l| format!("{l}\n")).collect();
        assert!(!parse(&crash)[0].is_ok());
        let closed = GOOD.replace("] ok 1 ssi", "] not ok 1 ssi");
        assert!(!parse(&closed)[0].is_ok());
        assert!(parse("").is_empty());
    }
}
