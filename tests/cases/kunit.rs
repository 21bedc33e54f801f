// SPDX-License-Identifier: GPL-2.0

//! The KUnit suites that are compiled into the modules: one machine with the debug kernel runs them while it
//! loads the modules, and its console holds the result as KTAP.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rig::Client;
use rig::Up;
use rig::images::Places;
use rig::spawn;
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

/// What a boot tells.
struct Boot {
    /// What each suite logged, or the console if there is nobody to ask.
    results: String,
    console: String,
    /// The machine came up with all modules.
    is_up: bool,
}

fn boot(places: &Places) -> Result<Boot> {
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
    let console = console::text(&console::bytes_since(&dir.join("node1.console"), 0));
    // A suite that takes the machine down leaves its name on the console, which may lose lines of a machine that lives.
    let mut results = console.clone();
    if let Ok(client) = Client::connect(&dir) {
        if done.is_ok() {
            let out = client.output(
                1,
                spawn::command(&["sh", "-c", "cat /sys/kernel/debug/kunit/*/results"]),
                None,
                b"",
            )?;
            ensure!(out.code == 0, "the suites' results: {out:?}");
            results = out.text();
        }
        client.down()?;
    }
    if let Err(e) = &done {
        println!("# {e:#}");
        println!("# failed: boot");
    }
    Ok(Boot {
        results,
        console,
        is_up: done.is_ok(),
    })
}

/// The names of the suites in the sources of the modules.
fn written(top: &Path) -> Result<BTreeSet<String>> {
    const ATTRIBUTE: &str = "#[kunit_tests(";
    let mut names = BTreeSet::new();
    let mut dirs: Vec<_> = ["rust", "ics", "clms", "vproc", "ipc"]
        .iter()
        .map(|d| top.join(d))
        .collect();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                names.extend(
                    text.lines()
                        .filter_map(|l| l.trim().strip_prefix(ATTRIBUTE)?.split(')').next())
                        .map(str::to_owned),
                );
            }
        }
    }
    Ok(names)
}

/// Runs the suites; gives the numbers of cases passed and failed.
pub(crate) fn run(places: &Places) -> (usize, usize) {
    let (wanted, boot) = match written(&places.top).and_then(|w| Ok((w, boot(places)?))) {
        Ok(both) => both,
        Err(e) => {
            println!("# {e:#}");
            return (0, 1);
        }
    };
    let suites = parse(&boot.results);
    let alarms = console::alarms(&boot.console, &[]);
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
    let missing: Vec<_> = wanted
        .iter()
        .filter(|w| !suites.iter().any(|s| s.name == **w))
        .collect();
    for name in &missing {
        println!("# did not run: {name}");
    }
    (passed, failed + alarms.len() + missing.len() + usize::from(!boot.is_up))
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
