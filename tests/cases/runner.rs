// SPDX-License-Identifier: GPL-2.0

//! Runs the cases: boots what they need, judges them and their consoles, and reports in KTAP.

use std::any::Any;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use clap::Parser;
use rig::Client;
use rig::Up;
use rig::control::Change;
use rig::control::Phase;
use rig::images::Places;
use rig::images::Root;
use rig::spawn;
use rig::up::Kernel;

use crate::console;
use crate::context::Context;
use crate::kunit;

/// A case. Its row says all that it needs; what it does not say is as in [`Case::DEFAULT`].
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `<subsystem>_<behaviour>`.
    pub(crate) name: &'static str,
    /// What is promised, in a sentence.
    pub(crate) promise: &'static str,
    /// What the case does to the cluster.
    pub(crate) faults: &'static str,
    /// How many nodes it needs.
    pub(crate) nodes: u32,
    /// Which root.
    pub(crate) root: Root,
    /// Which kernel. What needs the debug kernel runs with `--debug`, or by its full name.
    pub(crate) kernel: Kernel,
    /// The modules are loaded ...
    pub(crate) modules: bool,
    /// ... and the nodes have joined.
    pub(crate) join: bool,
    /// Nodes are fenced by the rig.
    pub(crate) fence: bool,
    /// How many networks.
    pub(crate) links: u32,
    /// Added to the kernel's command line.
    pub(crate) append: &'static str,
    /// A cluster that no case has used before.
    pub(crate) fresh: bool,
    /// Also run on the debug kernel, with `--debug`.
    pub(crate) debug: bool,
    /// Takes many minutes, or shows one variant more of what a shorter case shows: runs only with `--long`, with `--debug` if it is
    /// meant for that too, or by its full name.
    pub(crate) long: bool,
    /// Words of console lines that look like a bug and are meant to be there.
    pub(crate) expected: &'static [&'static str],
    /// What is not as promised yet: such a case is shown as skipped, and runs only with `--broken` or by its full name.
    pub(crate) broken: &'static str,
    /// It fails after so many seconds.
    pub(crate) seconds: u32,
    /// The case itself.
    pub(crate) run: fn(&Context) -> Result<()>,
}

impl Case {
    /// Three joined nodes, busybox, plain kernel, no faults.
    pub(crate) const DEFAULT: Self = Self {
        name: "",
        promise: "",
        faults: "none",
        nodes: 3,
        root: Root::Busybox,
        kernel: Kernel::Plain,
        modules: true,
        join: true,
        fence: false,
        links: 1,
        append: "",
        fresh: false,
        debug: false,
        long: false,
        expected: &[],
        broken: "",
        seconds: 60,
        run: |_| Ok(()),
    };
}

/// How a cluster is booted. Cases that agree about it share one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    nodes: u32,
    root: Root,
    kernel: Kernel,
    modules: bool,
    join: bool,
    fence: bool,
    links: u32,
    append: &'static str,
}

/// Runs the cases
#[derive(Parser)]
#[command(name = "run")]
struct Options {
    /// Only cases whose name contains one of these
    filter: Vec<String>,
    /// Show the cases and what they promise
    #[arg(long)]
    list: bool,
    /// Run all on this kernel; what it cannot run is skipped
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Run the subset that is meant for the debug kernel, on it
    #[arg(long, conflicts_with_all = ["kernel", "kunit"])]
    debug: bool,
    /// Also run the cases that take many minutes, and further variants
    #[arg(long)]
    long: bool,
    /// Also run the cases that are known to fail
    #[arg(long)]
    broken: bool,
    /// Leave the cluster of a failed case running, and stop there
    #[arg(long)]
    keep: bool,
    /// Stop after the first failed case
    #[arg(long)]
    stop: bool,
    /// Run the KUnit suites of the modules, in one machine with the debug kernel
    #[arg(long)]
    kunit: bool,
    /// Seed of all chance
    #[arg(long)]
    seed: Option<u64>,
}

/// A cluster that is up.
struct Cluster {
    shape: Shape,
    client: Client,
    was_used: bool,
    /// How much of each node's console has been judged.
    judged: Vec<u64>,
    /// What the last case expects there.
    expected: &'static [&'static str],
}

impl Cluster {
    /// The alarms on the consoles since this was last asked.
    fn alarms(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for (node, judged) in (1..).zip(&mut self.judged) {
            let mut bytes = console::bytes_since(&self.client.console(node), *judged);
            // The rest of a line that is still being written is judged next time.
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            bytes.truncate(whole);
            *judged += bytes.len() as u64;
            let text = console::text(&bytes);
            let alarms = console::alarms(&text, self.expected);
            found.extend(alarms.iter().take(5).map(|l| format!("node {node}: {l}")));
        }
        found
    }
}

/// How a case ended.
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Runner {
    places: Places,
    dir: PathBuf,
    options: Options,
    cluster: Option<Cluster>,
    /// Alarms that came when no case was running, and have not been shown.
    late: Vec<String>,
}

/// The whole program.
pub(crate) fn main(files: &[&[Case]]) -> ExitCode {
    let options = Options::parse();
    let cases: Vec<Case> = files
        .iter()
        .flat_map(|f| f.iter())
        .copied()
        .filter(|c| is_chosen(c, &options))
        .collect();
    if options.list {
        for c in &cases {
            let debug = if c.debug { " [debug]" } else { "" };
            let long = if c.long { " [long]" } else { "" };
            println!(
                "{:36} {} node(s), faults: {}{debug}{long}\n{:36} {}",
                c.name, c.nodes, c.faults, "", c.promise
            );
            if !c.broken.is_empty() {
                println!("{:36} NOT YET: {}", "", c.broken);
            }
        }
        return ExitCode::SUCCESS;
    }
    let places = match Places::find() {
        Ok(p) => p,
        Err(e) => {
            eprintln!("run: {e:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("KTAP version 1");
    let (passed, failed) = if options.kunit {
        kunit::run(&places)
    } else {
        let dir = places.top.join("build/cases");
        Runner {
            places,
            dir,
            options,
            cluster: None,
            late: Vec::new(),
        }
        .run_all(&group(cases))
    };
    println!("{passed} passed, {failed} failed");
    // Nothing tested is nothing shown.
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_chosen(case: &Case, options: &Options) -> bool {
    let is_named = options.filter.is_empty() || options.filter.iter().any(|f| case.name.contains(f.as_str()));
    let is_by_name = options.filter.iter().any(|f| f == case.name);
    let is_debug = options.debug || options.kernel == Some(Kernel::Debug);
    let fits = case.kernel != Kernel::Debug || is_debug || is_by_name;
    let is_in_time = !case.long || options.long || options.debug || options.list || is_by_name;
    is_named && fits && is_in_time && (!options.debug || case.debug)
}

fn shape(case: &Case, options: &Options) -> Shape {
    let kernel = if options.debug {
        Kernel::Debug
    } else {
        options.kernel.unwrap_or(case.kernel)
    };
    Shape {
        nodes: case.nodes,
        root: case.root,
        kernel,
        modules: case.modules,
        join: case.join,
        fence: case.fence,
        links: case.links,
        append: case.append,
    }
}

/// Cases of one shape go one after the other, shapes in the order of their first case.
fn group(cases: Vec<Case>) -> Vec<Case> {
    let key = |c: &Case| (c.nodes, c.root, c.kernel, c.modules, c.join, c.fence, c.links, c.append);
    let mut keys: Vec<_> = Vec::new();
    for c in &cases {
        if !keys.contains(&key(c)) {
            keys.push(key(c));
        }
    }
    keys.iter()
        .flat_map(|k| cases.iter().filter(move |c| key(c) == *k))
        .copied()
        .collect()
}

impl Runner {
    fn run_all(&mut self, cases: &[Case]) -> (usize, usize) {
        println!("1..{}", cases.len());
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for (number, case) in (1..).zip(cases) {
            let start = Instant::now();
            let verdict = self.run_case(case);
            let seconds = start.elapsed().as_secs_f64();
            failed += self.tell_late(None);
            match verdict {
                Verdict::Passed => {
                    passed += 1;
                    println!("ok {number} {} # {seconds:.1} s", case.name);
                }
                Verdict::Skipped(why) => {
                    skipped += 1;
                    println!("ok {number} {} # SKIP {why}", case.name);
                }
                Verdict::Failed(why) => {
                    failed += 1;
                    println!("# {}: {}", case.name, case.promise);
                    for line in why.lines() {
                        println!("# {line}");
                    }
                    println!("not ok {number} {} # {seconds:.1} s", case.name);
                    if self.options.keep {
                        self.keep();
                    }
                    if self.options.keep || self.options.stop {
                        break;
                    }
                }
            }
        }
        let late = self.retire();
        failed += self.tell_late(late);
        if skipped > 0 {
            println!("# {skipped} skipped");
        }
        (passed, failed)
    }

    /// Leaves the cluster for a look, and waits with it: it would end with this process.
    fn keep(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        println!("# kept: tests/rig/rig -C {} shell 1", cluster.client.dir().display());
        println!("# it goes when this is interrupted, or by `rig down`");
        while rig::client::is_up(cluster.client.dir()) {
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Shows the alarms that came between cases. Returns how many failures they are.
    fn tell_late(&mut self, more: Option<String>) -> usize {
        self.late.extend(more);
        for late in &self.late {
            println!("# after the end of the case before:");
            for line in late.lines() {
                println!("# {line}");
            }
        }
        std::mem::take(&mut self.late).len()
    }

    /// Takes the cluster down. What its consoles said after the last case of it was judged.
    fn retire(&mut self) -> Option<String> {
        let mut cluster = self.cluster.take()?;
        let late = cluster.alarms();
        if let Err(e) = cluster.client.down() {
            println!("# down: {e:#}");
        }
        (!late.is_empty()).then(|| late.join("\n"))
    }

    /// The cluster that a case needs.
    fn cluster(&mut self, case: &Case) -> Result<&mut Cluster> {
        let shape = shape(case, &self.options);
        let fits = |c: &Cluster| c.shape == shape && !(case.fresh && c.was_used);
        if !self.cluster.as_ref().is_some_and(fits) {
            if let Some(late) = self.retire() {
                self.late.push(late);
            }
            let dir = self.dir.join("cluster");
            let shape_nodes = shape.nodes as usize;
            fs::create_dir_all(&dir)?;
            let up = Up {
                nodes: shape.nodes,
                root: shape.root,
                kernel: shape.kernel,
                no_modules: !shape.modules,
                no_join: !shape.join,
                fence: shape.fence,
                links: shape.links,
                append: shape.append.to_owned(),
                seed: self.options.seed,
                tie: Some(std::process::id()),
                ..Up::default()
            };
            up.run(&self.places, &dir, &mut |line| println!("# {line}"))
                .context("the cluster does not come up")?;
            self.cluster = Some(Cluster {
                shape,
                client: Client::connect(&dir)?,
                was_used: false,
                judged: vec![0; shape_nodes],
                expected: &[],
            });
        }
        self.cluster.as_mut().context("no cluster")
    }

    fn run_case(&mut self, case: &Case) -> Verdict {
        let shape = shape(case, &self.options);
        if shape.modules && shape.kernel == Kernel::Unpatched {
            return Verdict::Skipped("needs modules".into());
        }
        let is_asked_for = self.options.broken || self.options.filter.iter().any(|f| f == case.name);
        if !case.broken.is_empty() && !is_asked_for {
            return Verdict::Skipped(format!("not as promised yet: {}", case.broken));
        }
        // The boot of a new cluster is judged with its first case.
        let client = match self.cluster(case) {
            Ok(cluster) => {
                if cluster.was_used {
                    let late = cluster.alarms();
                    if !late.is_empty() {
                        let late = late.join("\n");
                        self.late.push(late);
                    }
                }
                let cluster = self.cluster.as_mut();
                let Some(cluster) = cluster else {
                    return Verdict::Failed("no cluster".into());
                };
                cluster.was_used = true;
                cluster.expected = case.expected;
                cluster.client.clone()
            }
            Err(e) => {
                let unborn = Client::unchecked(self.dir.join("cluster"));
                let saved = self.save_consoles(case, &unborn, &(1..=shape.nodes).collect::<Vec<_>>());
                return Verdict::Failed(format!("{e:#}\nconsoles: {}", saved.display()));
            }
        };
        let nodes: Vec<u32> = (1..=shape.nodes).collect();
        let boots_before = boots(&client);
        let patience = if shape.kernel == Kernel::Debug { 5 } else { 1 };
        let scratch = self.dir.join(case.name);
        if let Err(e) = fs::create_dir_all(&scratch) {
            return Verdict::Failed(format!("{}: {e}", scratch.display()));
        }
        let context = Context {
            client: client.clone(),
            places: self.places.clone(),
            nodes: shape.nodes,
            kernel: shape.kernel,
            scratch,
            patience,
        };
        let mut result = run_limited(case, context, Duration::from_secs(u64::from(case.seconds)) * patience);
        let mut alarms = self.cluster.as_mut().map(Cluster::alarms).unwrap_or_default();
        if case.faults == Case::DEFAULT.faults {
            alarms.extend(unplanned_boots(&boots_before, &boots(&client)));
        }
        if !alarms.is_empty() {
            let e = result.as_ref().err().map_or(String::new(), |e| format!("{e:#}\n"));
            result = Err(anyhow!("{e}{}", alarms.join("\n")));
        }
        match result {
            Ok(()) => {
                if !self.is_healthy(&boots_before)
                    && let Some(late) = self.retire()
                {
                    let saved = self.save_consoles(case, &client, &nodes);
                    return Verdict::Failed(format!("{late}\nconsoles: {}", saved.display()));
                }
                Verdict::Passed
            }
            Err(e) => {
                let saved = self.save_consoles(case, &client, &nodes);
                if !self.options.keep {
                    // What else it says is in the consoles that are kept.
                    let _late = self.retire();
                }
                Verdict::Failed(format!("{e:#}\nconsoles: {}", saved.display()))
            }
        }
    }

    /// The next cluster writes over them.
    fn save_consoles(&self, case: &Case, client: &Client, nodes: &[u32]) -> PathBuf {
        let dir = self.dir.join(case.name);
        // Best effort: the verdict stands without it.
        let _ = fs::create_dir_all(&dir);
        for node in nodes {
            let from = client.console(*node);
            if let Some(name) = from.file_name() {
                let _ = fs::copy(&from, dir.join(name));
            }
        }
        dir
    }

    /// Whether the next case may have this cluster: same boots, no faults, nobody left.
    fn is_healthy(&self, boots_before: &[u32]) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        let client = &cluster.client;
        let heal = client
            .change(None, None, true, None, Change::Heal)
            .and_then(|()| client.capture(None, None, false));
        let Ok(status) = heal.and_then(|()| client.status()) else {
            return false;
        };
        if !status.nodes.iter().all(|n| n.phase == Phase::Up && !n.paused) || boots(client) != boots_before {
            return false;
        }
        status.nodes.iter().all(|n| {
            let out = client.output(
                n.id,
                spawn::command(&["sh", "-c", LEFTOVERS]),
                Some(Duration::from_secs(20)),
                b"",
            );
            out.is_ok_and(|o| o.code == 0 && o.text().is_empty())
        })
    }
}

/// Names the processes with a program that are neither pid 1 nor this one or its children.
const LEFTOVERS: &str = r#"for p in /proc/[0-9]*; do
	n=${p#/proc/}
	[ "$n" = 1 ] || [ "$n" = $$ ] || { read -r _ _ _ parent _ <$p/stat && [ "$parent" = $$ ]; } && continue
	[ -e $p/exe ] && echo "$n"
done 2>/dev/null; true"#;

fn boots(client: &Client) -> Vec<u32> {
    client
        .status()
        .map(|s| s.nodes.iter().map(|n| n.boots).collect())
        .unwrap_or_default()
}

/// The nodes that booted although the case says that it does nothing to them.
fn unplanned_boots(before: &[u32], after: &[u32]) -> Vec<String> {
    let pairs = (1..).zip(before.iter().zip(after));
    pairs
        .filter(|(_, (b, a))| b != a)
        .map(|(node, (b, a))| format!("node {node} booted in a case without faults: boot {b}, now {a}"))
        .collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// Runs a case; one that does not end is left behind, and its cluster taken from under it.
fn run_limited(case: &Case, context: Context, limit: Duration) -> Result<()> {
    let (done, wait) = mpsc::channel();
    let run = case.run;
    std::thread::spawn(move || {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| run(&context)));
        let _ = done.send(result.unwrap_or_else(|p| Err(anyhow!(panic_text(&*p)))));
    });
    wait.recv_timeout(limit)
        .unwrap_or_else(|_| Err(anyhow!("not over after {} s", limit.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::parse_from(["run"])
    }

    #[test]
    fn cases_of_a_shape_run_together() {
        let case = |name, nodes| Case {
            name,
            nodes,
            ..Case::DEFAULT
        };
        let order = group(vec![
            case("a", 2),
            case("b", 3),
            case("c", 2),
            case("d", 3),
            case("e", 1),
        ]);
        assert_eq!(order.iter().map(|c| c.name).collect::<String>(), "acbde");
    }

    #[test]
    fn filters_and_the_debug_subset() {
        let a = Case {
            name: "ics_x",
            debug: true,
            ..Case::DEFAULT
        };
        let b = Case {
            name: "vproc_y",
            ..Case::DEFAULT
        };
        assert!(is_chosen(&a, &options()) && is_chosen(&b, &options()));
        let debug = Options {
            debug: true,
            ..options()
        };
        assert!(is_chosen(&a, &debug) && !is_chosen(&b, &debug));
        assert_eq!(shape(&a, &debug).kernel, Kernel::Debug);
        let filter = Options {
            filter: vec!["nothing".into(), "vproc".into()],
            ..options()
        };
        assert!(!is_chosen(&a, &filter) && is_chosen(&b, &filter));
        let c = Case {
            name: "vproc_z",
            kernel: Kernel::Debug,
            debug: true,
            ..Case::DEFAULT
        };
        assert!(is_chosen(&c, &debug) && !is_chosen(&c, &options()) && !is_chosen(&c, &filter));
        let by_name = Options {
            filter: vec!["vproc_z".into()],
            ..options()
        };
        assert!(is_chosen(&c, &by_name));
    }

    #[test]
    fn every_case_is_named_once_and_says_what_it_promises() {
        let mut names: Vec<_> = crate::CASES.iter().flat_map(|f| f.iter()).map(|c| c.name).collect();
        assert!(
            crate::CASES
                .iter()
                .flat_map(|f| f.iter())
                .all(|c| !c.promise.is_empty())
        );
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
    }

    #[test]
    fn boots_that_nobody_planned_are_named() {
        assert_eq!(unplanned_boots(&[1, 1], &[1, 1]), [""; 0]);
        let found = unplanned_boots(&[1, 1, 2], &[1, 2, 2]);
        assert_eq!(found, ["node 2 booted in a case without faults: boot 1, now 2"]);
    }

    #[test]
    fn a_case_that_hangs_or_panics_fails() {
        let context = || Context {
            client: Client::unchecked("/nonexistent".into()),
            places: Places {
                top: "/".into(),
                cache: "/".into(),
            },
            nodes: 1,
            kernel: Kernel::Plain,
            scratch: "/".into(),
            patience: 1,
        };
        let limited = |run, limit| run_limited(&Case { run, ..Case::DEFAULT }, context(), limit);
        // Long enough for a slow machine to write a back trace.
        let run = |run| limited(run, Duration::from_secs(20));
        assert!(run(|_| Ok(())).is_ok());
        assert_eq!(run(|_| panic!("oh")).unwrap_err().to_string(), "panicked: oh");
        let hang: fn(&Context) -> Result<()> = |_| loop {
            std::thread::park();
        };
        assert!(limited(hang, Duration::from_millis(100)).is_err());
    }
}
