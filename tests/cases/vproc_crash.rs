// SPDX-License-Identifier: GPL-2.0

//! A node dies at a message of a movement: afterwards exactly one copy of the process runs, or none and its parent knows.
//!
//! The places are not written down here: a movement without faults is made first, and the hit counts of the failpoints,
//! which the service table defines for each message, tell what there is to die at.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

/// Messages after which the process may be the destination's.
const COMMIT: &[&str] = &["Move", "Activate"];

/// Messages of every movement of a process with a pending signal.
const MOVEMENT: &[&str] = &["Prepare", "Pages", "Complete", "Late", "Move", "Activate"];

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "vproc_crash_commit",
        promise: "source, destination or origin killed at each message of the commit: one copy runs, or none and its parent knows",
        faults: "panic of one node",
        expected: &["failpoint"],
        seconds: 600,
        run: |c| tour(c, THIRD, COMMIT),
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_crash_leaving_home",
        promise: "source, which is the origin, or destination killed at each message of a movement: the same",
        faults: "panic of one node",
        expected: &["failpoint"],
        long: true,
        seconds: 1200,
        run: |c| tour(c, LEAVING_HOME, &[]),
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_crash_between_others",
        promise: "source, destination or origin killed at each message of a movement: the same",
        faults: "panic of one node",
        expected: &["failpoint"],
        long: true,
        seconds: 1800,
        run: |c| tour(c, THIRD, &[]),
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_crash_coming_home",
        promise: "source, or destination, which is the origin, killed at each message of a movement: the same",
        faults: "panic of one node",
        expected: &["failpoint"],
        long: true,
        seconds: 1200,
        run: |c| tour(c, COMING_HOME, &[]),
        ..Case::DEFAULT
    },
    Case {
        name: "vproc_crash_two",
        promise: "two of source, destination and origin killed at each message of the commit: at most one copy runs, or its parent knows",
        faults: "panic of one of five nodes, power of another",
        nodes: 5,
        expected: &["failpoint"],
        long: true,
        seconds: 1200,
        run: two,
        ..Case::DEFAULT
    },
];

/// Who is where.
#[derive(Clone, Copy, Debug)]
struct Roles {
    origin: u32,
    source: u32,
    destination: u32,
    parent: u32,
}

const LEAVING_HOME: Roles = Roles { origin: 2, source: 2, destination: 3, parent: 1 };
const THIRD: Roles = Roles { origin: 1, source: 2, destination: 3, parent: 2 };
const COMING_HOME: Roles = Roles { origin: 3, source: 2, destination: 3, parent: 1 };

/// A message at one of its ends, and how often it was there in one movement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    node: u32,
    /// Failpoint: `Service.Message.end`.
    point: String,
    hits: u32,
}

impl Place {
    fn message(&self) -> &str {
        self.point.split('.').nth(1).unwrap_or_default()
    }
}

/// The process and its parent.
struct Family {
    dir: String,
    child: u32,
    parent: u32,
}

impl Family {
    /// How far the child has come.
    fn beats(&self, c: &Context) -> Result<u32> {
        let names = c.shared_names(&self.dir)?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).max().unwrap_or(0))
    }

    /// What the parent says of its child.
    fn status(&self, c: &Context) -> Option<String> {
        c.shared_text(&format!("{}-status", self.dir))
    }
}

/// Kills each node at each place that matters, one after the other.
fn tour(c: &Context, roles: Roles, messages: &[&str]) -> Result<()> {
    let places: Vec<Place> = dry_run(c, roles)?
        .into_iter()
        .filter(|p| messages.is_empty() || messages.contains(&p.message()))
        .collect();
    ensure!(!places.is_empty(), "no place to die at: {messages:?}");
    for wanted in if messages.is_empty() { MOVEMENT } else { messages } {
        ensure!(places.iter().any(|p| p.message() == *wanted), "no {wanted} in {places:?}");
    }
    let mut wrong = Vec::new();
    for place in &places {
        // The first and the last of several messages of a kind.
        let mut hits = vec![1, place.hits];
        hits.dedup();
        for hit in hits {
            // A parent that lives, to hear what it is told, if there is a node for it.
            let parent = (1..=c.nodes).find(|n| ![place.node, roles.source, roles.destination].contains(n));
            let roles = Roles { parent: parent.unwrap_or(roles.source), ..roles };
            match strike(c, roles, place, hit, None) {
                Ok(end) => println!("# {roles:?}: node {} dies at {}@{hit}: {end}", place.node, place.point),
                Err(e) => {
                    wrong.push(format!("node {} dies at {}@{hit}: {e:#}", place.node, place.point));
                    // The next one begins with three nodes.
                    c.wait(place.node, Event::Join, 0)?;
                    cluster::agree(c, &c.all(), 20)?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{roles:?}:\n{}", wrong.join("\n"));
    Ok(())
}

/// Kills two of the three at each place of the commit: one there, and another as soon as the first is dead.
fn two(c: &Context) -> Result<()> {
    let roles = Roles { parent: 4, ..THIRD };
    let places = dry_run(c, roles)?;
    let mut wrong = Vec::new();
    for place in places.iter().filter(|p| COMMIT.contains(&p.message())) {
        for other in [roles.origin, roles.source, roles.destination].into_iter().filter(|n| *n != place.node) {
            let what = format!("node {} dies at {}, then node {other}", place.node, place.point);
            match strike(c, roles, place, 1, Some(other)) {
                Ok(end) => println!("# {what}: {end}"),
                Err(e) => {
                    wrong.push(format!("{what}: {e:#}"));
                    cluster::agree(c, &c.all(), 60)?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{roles:?}:\n{}", wrong.join("\n"));
    Ok(())
}

/// Starts the family and brings both where they belong.
fn family(c: &Context, roles: Roles) -> Result<Family> {
    let dir = format!("beat-{}", c.unique());
    c.sh(roles.origin, &format!("mkdir /shared/{dir}"))?;
    let script = format!(
        "exec </dev/null >/shared/{dir}-log 2>&1; cd /; /usr/lib/ssi-tests/beat /shared/{dir} & echo $! >/shared/{dir}-pid; \
         wait $!; s=$?; while [ $s = 140 ]; do wait; s=$?; done; echo $s >/shared/{dir}-status"
    );
    let parent = u32::try_from(c.background(roles.origin, &["sh", "-c", &script])?.pid)?;
    let child = c.until("the child", 10, || {
        Ok(c.shared_text(&format!("{dir}-pid")).and_then(|t| t.trim().parse().ok()))
    })?;
    let f = Family { dir, child, parent };
    c.until("the first beat", 10, || Ok((f.beats(c)? > 0).then_some(())))?;
    if roles.source != roles.origin {
        c.sh(roles.origin, &format!("migrate {} {child}", roles.source))?;
    }
    if roles.parent != roles.origin {
        c.sh(roles.origin, &format!("migrate {} {parent}", roles.parent))?;
    }
    same("where the child is", place_of(c, &c.all(), child)?, vec![roles.source])?;
    same("where the parent is", place_of(c, &c.all(), parent)?, vec![roles.parent])?;
    Ok(f)
}

/// What each node knows of a process: `runs` in user mode, `coming`, `leaving` (a source that waits for its judge).
fn knowledge(c: &Context, nodes: &[u32], pid: u32) -> Result<Vec<(u32, &'static str)>> {
    let mut found = Vec::new();
    for n in nodes {
        let text = c.sh(*n, "cat /sys/kernel/debug/ssi/vproc")?;
        let says = |what: &str| text.lines().any(|l| l == format!("{what} {pid}"));
        if says("leaving") {
            found.push((*n, "leaving"));
        } else if says("runs") {
            found.push((*n, "runs"));
        } else if says("coming") {
            found.push((*n, "coming"));
        }
    }
    Ok(found)
}

/// The nodes on which a process runs, by what each knows of its own tasks.
fn place_of(c: &Context, nodes: &[u32], pid: u32) -> Result<Vec<u32>> {
    let found = knowledge(c, nodes, pid)?;
    Ok(found.iter().filter(|(_, what)| *what == "runs").map(|(n, _)| *n).collect())
}

/// One movement without faults; what every node was asked, and asked, meanwhile.
fn dry_run(c: &Context, roles: Roles) -> Result<Vec<Place>> {
    let f = family(c, roles)?;
    c.sh_all("echo reset >/sys/kernel/debug/ssi/failpoints")?;
    c.sh(roles.source, &format!("migrate {} {}", roles.destination, f.child))?;
    let mut places = Vec::new();
    for node in 1..=c.nodes {
        for line in c.sh(node, "cat /sys/kernel/debug/ssi/failpoints")?.lines() {
            let mut words = line.split_whitespace();
            let (Some(point), Some(Ok(hits))) = (words.next(), words.next().map(str::parse)) else {
                bail!("a line of failpoints: {line:?}");
            };
            if hits > 0 && point.starts_with("Vproc.") && !is_of_the_test(point) {
                places.push(Place { node, point: point.to_owned(), hits });
            }
        }
    }
    same("where it went", place_of(c, &c.all(), f.child)?, vec![roles.destination])?;
    let beats = f.beats(c)?;
    c.until("beats after the movement", 5, || Ok((f.beats(c)? > beats).then_some(())))?;
    end(c, &f, roles.destination)?;
    Ok(places)
}

/// Messages of the commands that the case uses, not of the movement.
fn is_of_the_test(point: &str) -> bool {
    ["Locate", "Signal", "Proc", "List", "Syscall"]
        .iter()
        .any(|op| point.starts_with(&format!("Vproc.{op}")))
}

/// Ends a family whose child runs on `node`, and checks that it noticed nothing.
fn end(c: &Context, f: &Family, node: u32) -> Result<()> {
    c.sh(node, &format!("kill -USR2 {}", f.child))?;
    c.until("the end of the child", 10, || {
        Ok(place_of(c, &[node], f.child)?.is_empty().then_some(()))
    })?;
    let names = c.shared_names(&f.dir)?;
    ensure!(!names.iter().any(|n| n == "twice"), "a beat came twice");
    same("beats without a gap", u32::try_from(names.len())?, f.beats(c)?)
}

/// One movement during which a node dies, and a second one as soon as the first is dead; what became of the process.
fn strike(c: &Context, roles: Roles, place: &Place, hit: u32, second: Option<u32>) -> Result<String> {
    let f = family(c, roles)?;
    let victim = place.node;
    let mut victims = vec![(victim, c.boots(victim)?)];
    if let Some(n) = second {
        victims.push((n, c.boots(n)?));
    }
    let dies = |n: u32| victims.iter().any(|(v, _)| *v == n);
    let others: Vec<u32> = c.all().into_iter().filter(|n| !dies(*n)).collect();
    c.client.failpoint(victim, &format!("{}=panic@{hit}", place.point))?;
    // Nobody waits for the command: it may die with its node.
    c.background(roles.source, &["migrate", &roles.destination.to_string(), &f.child.to_string()])?;
    c.wait(victim, Event::Down, victims[0].1)?;
    if let Some(n) = second {
        c.power(n, Power::Reset)?;
    }
    let parent_lives = !dies(roles.parent);

    let mut last = String::new();
    let settled = c.until("the outcome", 20, || {
        let view = cluster::status(c, others[0])?;
        let is_member = |v: u32| view.nodes.iter().any(|n| n.id == u64::from(v) && n.state == "UP");
        let mut is_out = true;
        for (v, boots) in &victims {
            is_out &= !is_member(*v) || c.boots(*v)? > *boots;
        }
        let known = knowledge(c, &others, f.child)?;
        let here: Vec<u32> = known.iter().filter(|(_, w)| *w == "runs").map(|(n, _)| *n).collect();
        last = format!("{known:?}, parent says {:?}", f.status(c));
        ensure!(here.len() <= 1, "it runs on nodes {here:?}");
        let is_settled = is_out && here.len() == known.len() && (!here.is_empty() || !parent_lives || f.status(c).is_some());
        Ok(is_settled.then(|| here.first().copied()))
    });
    let node = settled.with_context(|| last.clone())?;
    let beats = f.beats(c)?;
    for (v, boots) in &victims {
        c.wait(*v, Event::Join, *boots)?;
    }
    cluster::agree(c, &c.all(), 20)?;
    for (v, _) in &victims {
        same("on a node that died", knowledge(c, &[*v], f.child)?, Vec::new())?;
    }

    // The process is on neither of the dead node's sides: nobody but the destination is lost after the commit, nobody but
    // the source before it.
    let is_committed = place.point == "Vproc.Move.answered" || place.point.starts_with("Vproc.Activate.");
    let must_live = if second.is_some() {
        // Two may take with them all who know whether it runs, but not after its destination knows.
        !dies(roles.destination)
            && ["Activate.served", "Activate.answered", "Move.served", "Move.answered"]
                .iter()
                .any(|after| place.point.ends_with(after))
    } else if victim == roles.source && roles.source != roles.origin {
        is_committed
    } else if victim == roles.destination {
        !COMMIT.contains(&place.message())
    } else {
        victim != roles.source
    };
    match node {
        None => {
            ensure!(!must_live, "it is dead");
            ensure!(
                parent_lives || place_of(c, &c.all(), f.child)?.is_empty(),
                "it runs after all"
            );
            same("beats after its death", f.beats(c)?, beats)?;
            if parent_lives {
                same("what its parent says", f.status(c).unwrap_or_default().trim().to_owned(), "137")?;
            }
            Ok("dead, its parent knows".into())
        }
        Some(n) => {
            c.until("beats afterwards", 5, || Ok((f.beats(c)? > beats).then_some(())))?;
            same("found from everywhere", c.sh(others[0], &format!("where_pid {}", f.child))?, n.to_string())?;
            end(c, &f, n)?;
            if parent_lives {
                let status = c.until("its parent's word", 10, || Ok(f.status(c)))?;
                same("what its parent says", status.trim(), "0")?;
            } else {
                same("its parent", place_of(c, &c.all(), f.parent)?, Vec::<u32>::new())?;
            }
            Ok(format!("runs on node {n}"))
        }
    }
}
