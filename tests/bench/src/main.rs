// SPDX-License-Identifier: GPL-2.0

//! Benchmarks: our figure beside a peer's, both taken in one run on the same machines in interleaved blocks.
//!
//! Writes a table and `build/bench/<name>.json`. Exits 0 if everything asked for was measured, goal met or not;
//! 1 if something could not be measured, 2 for wrong usage. Two guests' clocks are never compared: a sample is
//! stamped twice by the same program, or counted in instructions.

mod curves;
mod detect;
mod hooks;
mod members;
mod nodes;
mod peers;
mod report;
mod rig;
mod stats;
mod stressed;
mod view_change;

use clap::Parser;
use curves::Kind;
use report::Report;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

/// Every benchmark, in the order they run.
const NAMES: &[&str] = &[
    "ics_null_1",
    "ics_null_8",
    "ics_null_64",
    "ics_4k_in",
    "ics_4k_out",
    "ics_1m",
    "remote_kill",
    "onnode_true",
    "migrate_1m",
    "migrate_16m",
    "migrate_64m",
    "freeze_1m",
    "freeze_64m",
    "detect",
    "view_change",
    "view_change_simulated",
    "stress_3s",
    "stress_1s",
    "hook_getpid",
    "hook_kill",
    "hook_fork",
    "hook_open",
    "hook_fault",
];

#[derive(Parser)]
#[command(about = "Measure against peers; see Documentation/tools.rst", version)]
struct Args {
    /// What to measure (default: everything)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print the names and exit
    #[arg(long)]
    list: bool,
    /// Interleaved blocks of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=1000))]
    blocks: u32,
    /// Samples in a block of the quick benchmarks
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    samples: u32,
    /// How many nodes `detect` kills
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Nodes of `detect`
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=64))]
    nodes: u32,
    /// `--detect-ms` of the join in `detect`
    #[arg(long, default_value_t = 350, value_parser = clap::value_parser!(u32).range(300..=60_000))]
    detect_ms: u32,
    /// How long `stress_*` keeps all processors busy
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(10..=86_400))]
    stress_seconds: u32,
    /// Root of the checkout
    #[arg(long, default_value = ".")]
    top: PathBuf,
    /// Use the nodes of this rig instance instead of starting two
    #[arg(short = 'C', long, value_name = "DIR")]
    instance: Option<PathBuf>,
}

/// Why something was not measured.
pub(crate) type Problem = String;

/// What was measured: the commit of the checkout, and whether anything in it has changed since.
fn commit(top: &Path) -> String {
    let git = Command::new("git")
        .arg("-C")
        .arg(top)
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    match git {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        _ => "?".to_owned(),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        NAMES.iter().for_each(|n| println!("{n}"));
        return ExitCode::SUCCESS;
    }
    if let Some(n) = args.names.iter().find(|n| !NAMES.contains(&n.as_str())) {
        eprintln!("bench: {n}: no such benchmark; --list prints them");
        return ExitCode::from(2);
    }
    let wanted: Vec<&str> = NAMES
        .iter()
        .copied()
        .filter(|n| args.names.is_empty() || args.names.iter().any(|w| w == n))
        .collect();
    let (hooks, others): (Vec<&str>, Vec<&str>) = wanted.into_iter().partition(|n| n.starts_with("hook_"));
    let (membership, others): (Vec<&str>, Vec<&str>) = others
        .into_iter()
        .partition(|n| *n == "detect" || n.starts_with("view_change"));
    let (stressed, nodes): (Vec<&str>, Vec<&str>) = others.into_iter().partition(|n| n.starts_with("stress_"));

    let mut reports: Vec<Report> = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    let mut take = |(done, failed): (Vec<Report>, Vec<Problem>)| {
        reports.extend(done);
        problems.extend(failed);
    };
    if !nodes.is_empty() {
        take(nodes::run(
            &args.top,
            args.instance.as_deref(),
            &nodes,
            args.blocks,
            args.samples,
        ));
    }
    for (name, kind) in [("view_change", Kind::Real), ("view_change_simulated", Kind::Simulated)] {
        if membership.contains(&name) {
            take((Vec::new(), view_change::run(&args.top, kind)));
        }
    }
    if membership.contains(&"detect") {
        let plan = detect::Plan {
            nodes: args.nodes,
            kills: args.kills,
            detect_ms: args.detect_ms,
        };
        take(detect::run(&args.top, plan));
    }
    if !stressed.is_empty() {
        take(stressed::run(&args.top, &stressed, args.stress_seconds));
    }
    if !hooks.is_empty() {
        take(hooks::run(&args.top, &hooks, args.blocks));
    }

    let commit = commit(&args.top);
    for r in &mut reports {
        r.env.insert("commit".to_owned(), commit.clone());
        if let Err(e) = r.save(&args.top) {
            problems.push(format!("{}: {e}", r.name));
        }
    }
    print!("{}", report::table(&reports));
    for p in &problems {
        eprintln!("bench: {p}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
