// SPDX-License-Identifier: GPL-2.0

//! `cluster node add`, `remove`, `votes`, `finish`, `cancel`: the table of nodes, while the cluster runs.
//!
//! A change goes in steps on every member: the next table is written beside clustertab and staged; the kernels switch together;
//! then it takes clustertab's place. The kernel judges each step. Whoever dies in between comes back with a file that the others
//! understand, and any node can go on.

use crate::clustertab;
use crate::clustertab::Change;
use crate::clustertab::Row;
use crate::failure;
use crate::failure::Failure;
use crate::join;
use crate::onnode;
use crate::out::Out;
use clap::ArgMatches;
use cluster::membership;
use cluster::membership::Node;
use cluster::membership::NodeState;
use cluster::membership::Status;
use cluster::netlink::Error;
use nix::errno::Errno;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// How long members may take to switch, and their heartbeats to say so.
const SWITCH: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Whoever changes this node's files of the table, or the next one, has it locked. Only root can open it, and so hold up others.
const LOCK: &str = "/run/cluster.lock";

/// A line of `--json`. Names and types stay as they are; further fields and events may come.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Json<'a> {
    Added {
        node: u32,
        generation: u64,
    },
    Removed {
        node: u32,
        generation: u64,
    },
    Votes {
        node: u32,
        votes: u8,
        generation: u64,
    },
    Finished,
    Cancelled,
    /// A step that was not taken on a witness, and the command that takes it there.
    Witness {
        node: u32,
        step: &'a str,
        command: &'a str,
    },
}

/// The files of the table: `.next` is staged.
struct Files {
    tab: PathBuf,
}

fn about(path: &Path, e: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {e}", path.display()))
}

impl Files {
    /// Clustertab may be behind links.
    fn of(m: &ArgMatches) -> Result<Self, Failure> {
        let path = m.get_one::<PathBuf>("tab").cloned().unwrap_or_default();
        let tab = std::fs::canonicalize(&path).map_err(|e| about(&path, e))?;
        Ok(Self { tab })
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut path = self.tab.clone().into_os_string();
        path.push(what);
        path.into()
    }

    fn dir(&self) -> Result<File, Failure> {
        let dir = self.tab.parent().unwrap_or(Path::new("/"));
        File::open(dir).map_err(|e| about(dir, e))
    }

    fn text(&self) -> Result<String, Failure> {
        join::read_text(&self.tab)
    }

    fn next(&self) -> Result<Option<String>, Failure> {
        let next = self.beside(".next");
        match std::fs::read_to_string(&next) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(about(&next, e)),
        }
    }

    /// Puts a file in the place of another one, in one step and for good.
    fn place(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        std::fs::rename(from, to).map_err(|e| about(to, e))?;
        self.dir()?.sync_all().map_err(|e| about(to, e))
    }

    fn write_next(&self, text: &str) -> Result<(), Failure> {
        let tmp = self.beside(".tmp");
        File::create(&tmp)
            .and_then(|mut f| {
                f.write_all(text.as_bytes())?;
                f.sync_all()
            })
            .map_err(|e| about(&tmp, e))?;
        self.place(&tmp, &self.beside(".next"))
    }

    fn remove_next(&self) -> Result<(), Failure> {
        let next = self.beside(".next");
        match std::fs::remove_file(&next) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(about(&next, e)),
            _ => self.dir()?.sync_all().map_err(|e| about(&next, e)),
        }
    }

    fn switch(&self) -> Result<(), Failure> {
        self.place(&self.beside(".next"), &self.tab)
    }
}

/// One command at a time, until it is dropped.
fn lock(path: &Path) -> Result<File, Failure> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = how.open(path).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied => about(path, format!("{e}; run it as root")),
        _ => about(path, e),
    })?;
    file.lock().map_err(|e| about(path, e))?;
    Ok(file)
}

/// Fails if this process may not change the table.
fn may_change(m: &ArgMatches, files: &Files) -> Result<(), Failure> {
    let now = clustertab::table(&files.text()?).map_err(|e| about(&files.tab, e))?;
    match membership::settle_table(&join::for_kernel(m, now, None)?, true) {
        Err(Error::Refused(r)) if r.errno == Errno::EPERM => Err(refused(Error::Refused(r))),
        _ => Ok(()),
    }
}

fn refused(e: Error) -> Failure {
    match e {
        Error::Refused(r) if r.errno == Errno::EPERM => Failure::failed(format!("{}; run it as root", r.text())),
        e => e.into(),
    }
}

/// The table of a text, as the kernel is told.
fn parse(m: &ArgMatches, what: &Path, text: &str) -> Result<membership::Table, Failure> {
    let table = clustertab::table(text).map_err(|e| about(what, e))?;
    join::for_kernel(m, table, None)
}

fn status() -> Result<Status, Failure> {
    let s = membership::status()?;
    if s.this_node.is_none() {
        return Err(Failure::failed(crate::node::NOT_JOINED));
    }
    Ok(s)
}

/// The change that the command line asks for.
fn wish(m: &ArgMatches) -> Result<Change, Failure> {
    let usage = |e: String| Failure::usage(e);
    match m.subcommand() {
        Some(("add", m)) => Ok(Change::Add(Row {
            node: number(m),
            addresses: clustertab::parse_addresses(m.get_one::<String>("addresses").map_or("", |a| a))
                .map_err(usage)?,
            votes: votes(m),
            is_witness: m.get_flag("witness"),
            place: 0,
        })),
        Some(("remove", m)) => Ok(Change::Remove(number(m))),
        Some(("votes", m)) => Ok(Change::Votes(number(m), votes(m))),
        _ => Err(Failure::usage("no change given; see cluster node --help")),
    }
}

fn number(m: &ArgMatches) -> u32 {
    m.get_one::<u32>("number").copied().unwrap_or_default()
}

fn votes(m: &ArgMatches) -> u8 {
    m.get_one::<u8>("votes").copied().unwrap_or_default()
}

/// The words that ask for a change.
fn words(change: &Change) -> Vec<OsString> {
    let words = match change {
        Change::Add(r) => {
            let addresses: Vec<_> = r.addresses.iter().map(ToString::to_string).collect();
            let mut words = vec!["add".to_owned(), r.node.to_string(), addresses.join(",")];
            words.extend(["--votes".to_owned(), r.votes.to_string()]);
            words.extend(r.is_witness.then(|| "--witness".to_owned()));
            words
        }
        Change::Remove(n) => vec!["remove".to_owned(), n.to_string()],
        Change::Votes(n, votes) => vec!["votes".to_owned(), n.to_string(), votes.to_string()],
    };
    words.into_iter().map(OsString::from).collect()
}

/// `cluster node stage`: this node knows the next table.
pub(crate) fn stage(m: &ArgMatches) -> Result<u8, Failure> {
    let change = wish(m)?;
    let m = m.subcommand().map_or(m, |(_, m)| m);
    let files = Files::of(m)?;
    status()?;
    let _lock = lock(Path::new(LOCK))?;
    let s = status()?;
    if !s.settled {
        return Err(Failure::failed(
            "EBUSY the last change is not finished here; run cluster node finish",
        ));
    }
    let text = files.text()?;
    let Some(next) = clustertab::edit(&text, &change).map_err(|e| about(&files.tab, e))? else {
        return Ok(0);
    };
    let is_there = files.next()?.is_some_and(|n| n == next);
    if s.tables.staged != 0 && !is_there {
        return Err(Failure::failed(
            "EBUSY another change is under way here; run cluster node finish, or cluster node cancel",
        ));
    }
    let table = parse(m, &files.tab, &next)?;
    files.write_next(&next)?;
    membership::stage_table(&table).map(|()| 0).map_err(|e| {
        if s.tables.staged == 0 {
            // What cannot be staged is not kept: but if it stays, it does no harm.
            let _left = files.remove_next();
        }
        refused(e)
    })
}

/// `cluster node unstage`: it does not any more.
pub(crate) fn unstage(m: &ArgMatches) -> Result<u8, Failure> {
    let files = Files::of(m)?;
    status()?;
    let _lock = lock(Path::new(LOCK))?;
    membership::unstage_table().map_err(refused)?;
    if !status()?.settled {
        return Err(Failure::failed(
            "EBUSY the members have switched; run cluster node finish",
        ));
    }
    files.remove_next()?;
    Ok(0)
}

/// `cluster node settle`: clustertab has the table in force.
pub(crate) fn settle(m: &ArgMatches) -> Result<u8, Failure> {
    let files = Files::of(m)?;
    status()?;
    let _lock = lock(Path::new(LOCK))?;
    settle_files(m, &files)?;
    Ok(0)
}

/// Whether a table is in force; waits until all members are heard to have switched.
fn is_in_force(table: &membership::Table) -> Result<bool, Failure> {
    let start = Instant::now();
    loop {
        match membership::settle_table(table, true) {
            Ok(()) => return Ok(true),
            Err(Error::Refused(r)) if r.errno == Errno::EINVAL => return Ok(false),
            Err(Error::Refused(r)) if r.errno == Errno::EAGAIN && start.elapsed() < SWITCH => {
                std::thread::sleep(LOOK);
            }
            Err(e) => return Err(refused(e)),
        }
    }
}

fn settle_files(m: &ArgMatches, files: &Files) -> Result<(), Failure> {
    let tab = parse(m, &files.tab, &files.text()?)?;
    if is_in_force(&tab)? {
        // It may have taken its place when this was asked before.
        return membership::settle_table(&tab, false).map_err(refused);
    }
    if let Some(text) = files.next()? {
        let next = parse(m, &files.beside(".next"), &text)?;
        if is_in_force(&next)? {
            files.switch()?;
            return membership::settle_table(&next, false).map_err(refused);
        }
    }
    Err(about(
        &files.tab,
        "it is not the table in force; copy that of another member",
    ))
}

/// After a join: what it begins with may be what the others have switched to.
pub(crate) fn settle_after_join(m: &ArgMatches) -> Result<(), Failure> {
    if status()?.settled {
        return Ok(());
    }
    let files = Files::of(m)?;
    let _lock = lock(Path::new(LOCK))?;
    settle_files(m, &files)
}

/// The table that is staged, for a join: one that does not follow the other is left out.
pub(crate) fn next_for_join(m: &ArgMatches, now: &clustertab::Table) -> Result<Option<clustertab::Table>, Failure> {
    let files = Files::of(m)?;
    let path = files.beside(".next");
    let Some(text) = files.next()? else {
        return Ok(None);
    };
    let next = clustertab::table(&text).map_err(|e| about(&path, e))?;
    if next.generation == now.generation + 1 {
        return Ok(Some(next));
    }
    eprintln!("warning: {} does not follow clustertab; it is not used", path.display());
    Ok(None)
}

/// What a change is told of the others by.
struct Members<'a> {
    all: Vec<Node>,
    m: &'a ArgMatches,
}

impl<'a> Members<'a> {
    fn now(m: &'a ArgMatches) -> Result<Self, Failure> {
        let is_member = |n: &Node| [NodeState::Up, NodeState::Shutdown].contains(&n.state);
        let all = status()?.nodes.into_iter().filter(is_member).collect();
        Ok(Self { all, m })
    }

    /// The command of one step.
    fn command(&self, step: &str, words: &[OsString]) -> Vec<OsString> {
        let mut args: Vec<_> = ["cluster", "node", step].map(OsString::from).into();
        args.extend(words.iter().cloned());
        for id in ["tab", "fence", "wireguard"] {
            if let Some(path) = self.m.get_one::<PathBuf>(id) {
                args.push(format!("--{id}").into());
                args.push(path.clone().into_os_string());
            }
        }
        args
    }

    fn text(&self, step: &str, words: &[OsString]) -> String {
        let words = self.command(step, words);
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn on(&self, n: &Node, step: &str, words: &[OsString]) -> Result<(), Failure> {
        if n.is_witness {
            // Nobody reaches it from here; whether it has taken the step is seen in what it says.
            return Ok(());
        }
        let named = |what: String| Failure::new(failure::FAILED, format!("node {} ({}): {step}: {what}", n.id, n.name));
        let code = onnode::run_this(n.id, self.command(step, words)).map_err(|f| named(f.message))?;
        if code == 0 {
            Ok(())
        } else {
            Err(named(format!("exit {code}")))
        }
    }

    /// The first error, with every member asked.
    fn on_all(&self, step: &str, words: &[OsString]) -> Result<(), Failure> {
        let results: Vec<_> = self.all.iter().map(|n| self.on(n, step, words)).collect();
        results.into_iter().collect()
    }

    fn witnesses(&self) -> impl Iterator<Item = &Node> {
        self.all.iter().filter(|n| n.is_witness)
    }

    /// Says what is left to do on witnesses, which were not asked.
    fn tell_of_witnesses(&self, step: &str) -> Result<(), Failure> {
        let command = &self.text(step, &[]);
        for n in self.witnesses() {
            if let Some(text) = not_asked(n, step, command) {
                let node = n.id;
                Out::of(self.m).say(&Json::Witness { node, step, command }, &text)?;
            }
        }
        Ok(())
    }

    /// Waits until all members go by one table.
    fn wait(&self, words: &[OsString]) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let members = Members::now(self.m)?.all;
            match behind(&members) {
                None => return Ok(()),
                Some(_) if start.elapsed() < SWITCH => std::thread::sleep(LOOK),
                Some(what) => {
                    let mut message =
                        format!("EAGAIN {what}; run cluster node finish to go on, or cluster node cancel");
                    for n in self.witnesses() {
                        let command = self.text("stage", words);
                        message += &format!("; node {} is a witness, and was not asked: run there: {command}", n.id);
                    }
                    return Err(Failure::failed(message));
                }
            }
        }
    }
}

/// What is left to do on a witness. That it has staged nothing is seen; not what is in its files.
fn not_asked(n: &Node, step: &str, command: &str) -> Option<String> {
    let is_left = step != "unstage" || n.tables.staged != 0;
    is_left.then(|| format!("node {} is a witness, and was not asked: run there: {command}", n.id))
}

/// Why not all members go by one table, if they do not.
fn behind(members: &[Node]) -> Option<String> {
    let in_force = members.first()?.tables.in_force;
    if let Some(n) = members.iter().find(|n| n.tables.in_force != in_force) {
        return Some(format!("node {} has not switched", n.id));
    }
    let staged = members.iter().find(|n| n.tables.staged != 0)?;
    let other = members.iter().find(|n| n.tables.staged != staged.tables.staged);
    Some(match other {
        Some(o) if o.tables.staged == 0 => {
            format!("node {} has not staged the change that node {} has", o.id, staged.id)
        }
        Some(o) => format!("nodes {} and {} have staged different changes", staged.id, o.id),
        None => "the members have not switched".to_owned(),
    })
}

/// The changes that lead to what is wished: votes go up and down one by one.
fn steps(rows: &[Row], change: Change) -> Vec<Change> {
    let votes_of = |n: u32| rows.iter().find(|r| r.node == n).map(|r| r.votes);
    match change {
        Change::Votes(n, to) => match votes_of(n) {
            Some(from) if from < to => (from + 1..=to).map(|v| Change::Votes(n, v)).collect(),
            Some(from) if from > to => (to..from).rev().map(|v| Change::Votes(n, v)).collect(),
            _ => vec![Change::Votes(n, to)],
        },
        Change::Remove(n) => {
            let down = (1..votes_of(n).unwrap_or(0)).rev().map(|v| Change::Votes(n, v));
            down.chain([Change::Remove(n)]).collect()
        }
        add @ Change::Add(_) => vec![add],
    }
}

fn take(m: &ArgMatches, change: &Change) -> Result<(), Failure> {
    let words = words(change);
    let members = Members::now(m)?;
    // The lowest first: of two changes that begin at once one comes first there, and the other is refused before it is anywhere.
    for (i, n) in members.all.iter().enumerate() {
        let Err(f) = members.on(n, "stage", &words) else {
            continue;
        };
        for done in members.all.iter().take(i) {
            // One that is left is seen, and said, by the next change.
            let _left = members.on(done, "unstage", &[]);
        }
        return Err(f);
    }
    members.wait(&words)?;
    members.on_all("settle", &[])
}

/// Changes the table on all members.
pub(crate) fn change(m: &ArgMatches) -> Result<u8, Failure> {
    let change = wish(m)?;
    let m = m.subcommand().map_or(m, |(_, m)| m);
    let files = Files::of(m)?;
    let s = status()?;
    // Who may not do it is told so before anything else is said.
    may_change(m, &files)?;
    if let Change::Remove(n) = change {
        let is_up = |n: &&Node| ![NodeState::NeverUp, NodeState::ComingUp, NodeState::Down].contains(&n.state);
        if let Some(node) = s.nodes.iter().filter(|x| x.id == n).find(is_up) {
            return Err(Failure::failed(format!(
                "EBUSY node {n} is {}; run cluster node shutdown {n} first",
                node.state.name()
            )));
        }
    }
    // What an earlier one has left is finished first.
    Members::now(m)?.on_all("settle", &[])?;
    let rows = clustertab::parse(&files.text()?).map_err(|e| about(&files.tab, e))?;
    for step in steps(&rows, change.clone()) {
        take(m, &step)?;
    }
    let generation = clustertab::table(&files.text()?)
        .map_err(|e| about(&files.tab, e))?
        .generation;
    let (j, text) = done(&change, generation, &files.tab);
    Out::of(m).say(&j, &text)?;
    Members::now(m)?.tell_of_witnesses("settle")?;
    Ok(0)
}

/// What is said of a change that is made: to programs, and to people with what they do next.
fn done(change: &Change, generation: u64, tab: &Path) -> (Json<'static>, String) {
    match *change {
        Change::Add(ref r) => {
            let node = r.node;
            let mut text = format!(
                "node {node} is in the table on all members (generation {generation})\n\
                 copy {} to it, and run cluster join there",
                tab.display()
            );
            if r.votes == 0 && !r.is_witness {
                text += &format!("\nit has no vote; once it is up: cluster node votes {node} 1");
            }
            (Json::Added { node, generation }, text)
        }
        Change::Remove(node) => (
            Json::Removed { node, generation },
            format!(
                "node {node} is out of the table on all members (generation {generation})\n\
                 its machine still has the cluster key: cluster key rotate, unless it is trusted"
            ),
        ),
        Change::Votes(node, votes) => (
            Json::Votes {
                node,
                votes,
                generation,
            },
            format!("node {node} has votes={votes} on all members (generation {generation})"),
        ),
    }
}

/// `cluster node finish`: goes on with a change.
pub(crate) fn finish(m: &ArgMatches) -> Result<u8, Failure> {
    let members = Members::now(m)?;
    members.wait(&["add|remove|votes ...".into()])?;
    members.on_all("settle", &[])?;
    Out::of(m).say(
        &Json::Finished,
        "all members go by one table; those that were asked have it in their files",
    )?;
    members.tell_of_witnesses("settle")?;
    Ok(0)
}

/// `cluster node cancel`: gives up what is staged.
pub(crate) fn cancel(m: &ArgMatches) -> Result<u8, Failure> {
    let members = Members::now(m)?;
    members.on_all("unstage", &[])?;
    Out::of(m).say(&Json::Cancelled, "no change is staged on any member that was asked")?;
    members.tell_of_witnesses("unstage")?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::fencing::FenceState;
    use cluster::membership::Tables;
    use std::net::Ipv4Addr;

    fn row(node: u32, votes: u8) -> Row {
        Row {
            node,
            addresses: vec![Ipv4Addr::new(10, 0, 0, 1)],
            votes,
            is_witness: false,
            place: 0,
        }
    }

    #[test]
    fn votes_go_one_by_one() {
        let rows = [row(1, 1), row(2, 3)];
        for (change, want) in [
            (Change::Votes(1, 3), vec![Change::Votes(1, 2), Change::Votes(1, 3)]),
            (Change::Votes(2, 1), vec![Change::Votes(2, 2), Change::Votes(2, 1)]),
            (Change::Votes(1, 1), vec![Change::Votes(1, 1)]),
            (Change::Votes(9, 4), vec![Change::Votes(9, 4)]),
            (Change::Remove(1), vec![Change::Remove(1)]),
            (
                Change::Remove(2),
                vec![Change::Votes(2, 2), Change::Votes(2, 1), Change::Remove(2)],
            ),
            (Change::Remove(9), vec![Change::Remove(9)]),
            (Change::Add(row(3, 1)), vec![Change::Add(row(3, 1))]),
        ] {
            assert_eq!(steps(&rows, change.clone()), want, "{change:?}");
        }
    }

    fn node(id: u32, in_force: u64, staged: u64) -> Node {
        Node {
            id,
            name: String::new(),
            state: NodeState::Up,
            incarnation: 1,
            fence: FenceState::None,
            detection_ms: None,
            judgement_ms: None,
            is_witness: false,
            tables: Tables { in_force, staged },
        }
    }

    #[test]
    fn lines_have_the_promised_fields() {
        let json = |j: &Json<'_>| serde_json::to_string(j).expect("json");
        for (change, want, texts) in [
            (
                Change::Add(row(4, 0)),
                r#"{"event":"added","node":4,"generation":7}"#,
                &[
                    "node 4 is in the table on all members (generation 7)",
                    "copy /tab to it, and run cluster join there",
                    "it has no vote; once it is up: cluster node votes 4 1",
                ][..],
            ),
            (
                Change::Add(row(4, 1)),
                r#"{"event":"added","node":4,"generation":7}"#,
                &[
                    "node 4 is in the table on all members (generation 7)",
                    "copy /tab to it, and run cluster join there",
                ],
            ),
            (
                Change::Remove(4),
                r#"{"event":"removed","node":4,"generation":7}"#,
                &[
                    "node 4 is out of the table on all members (generation 7)",
                    "its machine still has the cluster key: cluster key rotate, unless it is trusted",
                ],
            ),
            (
                Change::Votes(4, 2),
                r#"{"event":"votes","node":4,"votes":2,"generation":7}"#,
                &["node 4 has votes=2 on all members (generation 7)"],
            ),
        ] {
            let (j, text) = done(&change, 7, Path::new("/tab"));
            assert_eq!(json(&j), want);
            assert_eq!(text.lines().collect::<Vec<_>>(), texts, "{change:?}");
        }
        assert_eq!(json(&Json::Finished), r#"{"event":"finished"}"#);
        assert_eq!(json(&Json::Cancelled), r#"{"event":"cancelled"}"#);
        let witness = Json::Witness {
            node: 3,
            step: "settle",
            command: "cluster node settle --tab /tab",
        };
        assert_eq!(
            json(&witness),
            r#"{"event":"witness","node":3,"step":"settle","command":"cluster node settle --tab /tab"}"#
        );
    }

    #[test]
    fn only_root_can_hold_the_lock() {
        let path = std::env::temp_dir().join(format!("cluster-lock-{}", std::process::id()));
        let held = lock(&path).expect("a lock");
        let mode = std::os::unix::fs::PermissionsExt::mode(&held.metadata().expect("a file").permissions());
        let second = File::open(&path).expect("the same file").try_lock();
        std::fs::remove_file(&path).expect("the file");
        assert_eq!(mode & 0o777, 0o600);
        assert!(second.is_err());
    }

    #[test]
    fn what_is_left_to_do_on_a_witness_is_said() {
        let said = |staged, step| not_asked(&node(3, 1, staged), step, "cluster node x");
        let text = "node 3 is a witness, and was not asked: run there: cluster node x";
        assert_eq!(said(0, "settle").as_deref(), Some(text));
        assert_eq!(said(2, "unstage").as_deref(), Some(text));
        assert_eq!(said(0, "unstage"), None);
    }

    #[test]
    fn who_is_behind_is_named() {
        for (tables, want) in [
            ([(1, 0), (1, 0)], None),
            ([(2, 0), (1, 2)], Some("node 2 has not switched")),
            (
                [(1, 2), (1, 0)],
                Some("node 2 has not staged the change that node 1 has"),
            ),
            (
                [(1, 0), (1, 2)],
                Some("node 1 has not staged the change that node 2 has"),
            ),
            ([(1, 2), (1, 3)], Some("nodes 1 and 2 have staged different changes")),
            ([(1, 2), (1, 2)], Some("the members have not switched")),
        ] {
            let nodes: Vec<_> = (1..).zip(tables).map(|(i, (f, s))| node(i, f, s)).collect();
            assert_eq!(behind(&nodes).as_deref(), want);
        }
    }
}
