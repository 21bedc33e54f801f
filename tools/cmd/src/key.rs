// SPDX-License-Identifier: GPL-2.0

//! `cluster key`: which cluster keys the nodes use, and how that changes while the cluster runs.
//!
//! The kernel refuses every step that would cut off a member. The files are written after the kernel has taken a step, so
//! that a node that dies comes back one step behind at most, which the others understand.

use crate::failure;
use crate::failure::Failure;
use crate::ics;
use crate::ics::Key;
use crate::ics::Second;
use crate::keyfiles;
use crate::keyfiles::KeyFiles;
use crate::onnode;
use clap::ArgMatches;
use cluster::membership;
use cluster::membership::Node;
use cluster::membership::NodeState;
use cluster::netlink::Error;
use nix::errno::Errno;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Bytes of a generated key.
const BYTES: usize = 32;

/// How long the others' heartbeats may take to say that they are ready for a step.
const HEARD: Duration = Duration::from_secs(10);

/// Between two looks at what they say.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    match m.subcommand() {
        Some(("show", m)) => show(m.get_flag("json")),
        Some(("generate", m)) => generate(&path(m, "file")),
        Some(("stage", m)) => stage(&path(m, "file"), &files(m)?),
        Some(("unstage", m)) => unstage(&files(m)?),
        Some(("switch", m)) => switch(print(m), &files(m)?),
        Some(("drop", m)) => drop_old(print(m), &files(m)?),
        Some(("rotate", m)) => rotate(m),
        _ => Err(Failure::usage("no command given; see cluster key --help")),
    }
}

fn path(m: &ArgMatches, id: &str) -> PathBuf {
    m.get_one::<PathBuf>(id).cloned().unwrap_or_default()
}

fn files(m: &ArgMatches) -> Result<KeyFiles, Failure> {
    KeyFiles::beside(&path(m, "key"))
}

fn print(m: &ArgMatches) -> u64 {
    m.get_one::<u64>("print").copied().unwrap_or_default()
}

/// Reads a fingerprint as it is shown.
///
/// # Errors
/// It is none.
pub(crate) fn parse_print(word: &str) -> Result<u64, String> {
    let is_print = word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let print = is_print.then(|| u64::from_str_radix(word, 16).ok()).flatten();
    print.ok_or_else(|| "a fingerprint has 16 hexadecimal digits; see cluster key show".to_owned())
}

/// A row of what is shown. Names and types stay as they are; further fields may come.
#[derive(Debug, Serialize)]
struct Row {
    node: u32,
    name: String,
    in_use: String,
    second: Option<String>,
    second_is: Option<Second>,
}

/// Those that are up, by number.
fn members() -> Result<BTreeMap<u32, String>, Failure> {
    let s = membership::status()?;
    if s.this_node.is_none() {
        return Err(Failure::failed(
            "this node is in no cluster; join one with cluster join",
        ));
    }
    let is_member = |n: &Node| [NodeState::Up, NodeState::Shutdown].contains(&n.state);
    let up = s.nodes.into_iter().filter(is_member);
    Ok(up.map(|n| (n.id, n.name)).collect())
}

fn rows(keys: &[Key], names: &BTreeMap<u32, String>) -> Vec<Row> {
    let row = |k: &Key| Row {
        node: k.node,
        name: names.get(&k.node).cloned().unwrap_or_default(),
        in_use: hex(k.used),
        second: k.second.map(|(_, p)| hex(p)),
        second_is: k.second.map(|(what, _)| what),
    };
    let mut rows: Vec<_> = keys.iter().map(row).collect();
    rows.sort_by_key(|r| r.node);
    rows
}

fn hex(print: u64) -> String {
    format!("{print:016x}")
}

fn show(as_json: bool) -> Result<u8, Failure> {
    let rows = rows(&ask()?, &members()?);
    if as_json {
        let text = serde_json::to_string(&rows).map_err(|e| Failure::failed(e.to_string()))?;
        println!("{{\"nodes\":{text}}}");
    } else {
        std::print!("{}", table(&rows));
    }
    Ok(0)
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!(
        "{:>4}  {:width$}  {:16}  STAGED            NOT DROPPED\n",
        "NODE", "NAME", "IN USE"
    );
    for r in rows {
        let is = |what| r.second.as_deref().filter(|_| r.second_is == Some(what)).unwrap_or("-");
        out += &format!(
            "{:>4}  {:width$}  {}  {:16}  {}\n",
            r.node,
            r.name,
            r.in_use,
            is(Second::Staged),
            is(Second::Old)
        );
    }
    out
}

fn generate(file: &std::path::Path) -> Result<u8, Failure> {
    let mut bytes = [0; BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Failure::failed(format!("/dev/urandom: {e}")))?;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    keyfiles::create(file, format!("{hex}\n").as_bytes())?;
    Ok(0)
}

/// The keys of this node and of the members.
fn ask() -> Result<Vec<Key>, Failure> {
    ics::keys().map_err(refused)
}

fn refused(e: Error) -> Failure {
    match e {
        Error::Refused(r) if r.errno == Errno::EPERM => Failure::failed(format!("{}; run it as root", r.text())),
        e => e.into(),
    }
}

fn own() -> Result<Key, Failure> {
    let first = ask()?.into_iter().next();
    first.ok_or_else(|| Failure::failed("this node is in no cluster; join one with cluster join"))
}

fn stage(file: &std::path::Path, files: &KeyFiles) -> Result<u8, Failure> {
    let secret = keyfiles::read(file)?;
    ics::stage_key(secret.clone()).map_err(refused)?;
    if own()?.second.is_some_and(|(what, _)| what == Second::Staged) {
        files.stage(&secret)?;
    }
    Ok(0)
}

fn unstage(files: &KeyFiles) -> Result<u8, Failure> {
    ics::unstage_key().map_err(refused)?;
    files.unstage()?;
    Ok(0)
}

fn switch(print: u64, files: &KeyFiles) -> Result<u8, Failure> {
    let staged = files.staged()?;
    if own()?.second == Some((Second::Staged, print)) {
        // The file may be left over from another try: the kernel knows whether it has the key that is staged.
        if let Some(secret) = &staged {
            ics::stage_key(secret.clone()).map_err(refused)?;
        }
        if staged.is_none() || own()?.second != Some((Second::Staged, print)) {
            return Err(Failure::failed(
                "the staged key is in no file: run cluster key stage FILE again",
            ));
        }
    }
    when_heard(|| ics::switch_key(print))?;
    // It may have taken the step when it was asked before, and the file not.
    if let (Some((Second::Old, _)), Some(secret)) = (own()?.second, staged) {
        // Refused if it is another one than that in use.
        ics::stage_key(secret).map_err(refused)?;
        files.switch()?;
    }
    Ok(0)
}

fn drop_old(print: u64, files: &KeyFiles) -> Result<u8, Failure> {
    when_heard(|| ics::drop_key(print))?;
    files.drop_old()?;
    Ok(0)
}

/// Takes a step that the kernel refuses with EAGAIN until it has heard that every member is ready for it: each node hears
/// that in the others' next heartbeats, at a time of its own.
fn when_heard(step: impl Fn() -> Result<(), Error>) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        match step() {
            Err(Error::Refused(r)) if r.errno == Errno::EAGAIN && start.elapsed() < HEARD => {
                std::thread::sleep(LOOK);
            }
            r => return r.map_err(refused),
        }
    }
}

/// What a rotation is to end with, by what all say: every node with this key alone. A key that was given is staged here,
/// or in use.
///
/// # Errors
/// There is nothing to do, or this node cannot know.
fn target(keys: &[Key], is_given: bool) -> Result<u64, Failure> {
    let own = keys
        .first()
        .ok_or_else(|| Failure::failed("this node is in no cluster"))?;
    let of_others = || keys.iter().skip(1);
    match own.second {
        Some((Second::Staged, print)) => Ok(print),
        Some((Second::Old, _)) => Ok(own.used),
        None if is_given => Ok(own.used),
        None => {
            // Those who lack the key in use here have one that this node has not.
            match of_others().find(|k| k.second.is_some_and(|(w, p)| w == Second::Staged && p != own.used)) {
                Some(k) => Err(Failure::failed(format!(
                    "node {} has staged a key that this node has not; stage it here with cluster key stage FILE, or \
                     begin with cluster key rotate FILE",
                    k.node
                ))),
                None if of_others().all(|k| k.second.is_none()) => Err(Failure::failed(
                    "no key is staged; begin with cluster key rotate FILE, where FILE is on every node",
                )),
                None => Ok(own.used),
            }
        }
    }
}

/// Those who do not hear a key.
fn lacking(keys: &[Key], print: u64) -> Vec<u32> {
    let hears = |k: &&Key| k.used == print || k.second.is_some_and(|(_, p)| p == print);
    keys.iter().filter(|k| !hears(k)).map(|k| k.node).collect()
}

fn rotate(m: &ArgMatches) -> Result<u8, Failure> {
    let key = path(m, "key").into_os_string();
    let members = members()?;
    let on_all = |step: &str, word: OsString| -> Result<(), Failure> {
        for (node, name) in &members {
            let args = ["cluster", "key", step, "--key"].map(OsString::from);
            let args = args.into_iter().chain([key.clone(), word.clone()]).collect();
            let failed = |f: Failure| Failure {
                message: format!("node {node} ({name}): {step}: {}", f.message),
                ..f
            };
            let code = onnode::run_this(*node, args).map_err(failed)?;
            if code != 0 {
                let what = format!(
                    "node {node} ({name}) did not {step} (exit {code}); mend that, then run cluster key rotate again: it goes on"
                );
                return Err(Failure::new(failure::FAILED, what));
            }
        }
        Ok(())
    };
    let file = m.get_one::<PathBuf>("file");
    if let Some(file) = file {
        on_all("stage", file.clone().into_os_string())?;
    }
    let is_settled = |keys: &[Key]| target(keys, file.is_some()).map_or(true, |print| lacking(keys, print).is_empty());
    let keys = wait_for(is_settled)?;
    let print = target(&keys, file.is_some())?;
    if let Some(node) = lacking(&keys, print).first() {
        return Err(Failure::failed(format!(
            "node {node} has not staged key {}; copy its file there and run cluster key stage FILE on it, then cluster key \
             rotate again",
            hex(print)
        )));
    }
    on_all("switch", hex(print).into())?;
    on_all("drop", hex(print).into())?;
    let nodes: Vec<_> = members.keys().map(u32::to_string).collect();
    println!("key {} is the only one on nodes {}", hex(print), nodes.join(" "));
    Ok(0)
}

/// Looks at the keys until `is_enough` or time is over: what others have staged is in their next heartbeats.
fn wait_for(is_enough: impl Fn(&[Key]) -> bool) -> Result<Vec<Key>, Failure> {
    let start = Instant::now();
    loop {
        let keys = ask()?;
        if is_enough(&keys) || start.elapsed() > HEARD {
            return Ok(keys);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(node: u32, used: u64, second: Option<(Second, u64)>) -> Key {
        Key { node, used, second }
    }

    #[test]
    fn a_rotation_goes_on_from_where_it_is() {
        let next = Some((Second::Staged, 2));
        let old = Some((Second::Old, 1));
        for (keys, want) in [
            (vec![key(1, 1, next), key(2, 1, next)], Ok(2)),
            (vec![key(1, 2, old), key(2, 1, next)], Ok(2)),
            (vec![key(1, 1, next), key(2, 2, old)], Ok(2)),
            (vec![key(1, 2, None), key(2, 2, old)], Ok(2)),
            (vec![key(1, 2, None), key(2, 1, next)], Ok(2)),
            (vec![key(1, 1, None), key(2, 1, next)], Err("node 2 has staged")),
            (vec![key(1, 1, None), key(2, 1, None)], Err("no key is staged")),
        ] {
            match (target(&keys, false), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{keys:?}"),
                (Err(f), Err(part)) => assert!(f.message.contains(part), "{keys:?}: {}", f.message),
                (got, _) => panic!("{keys:?}: {got:?}"),
            }
        }
        assert_eq!(target(&[key(1, 2, None), key(2, 2, None)], true), Ok(2));
        let keys = [key(1, 1, next), key(2, 1, None), key(3, 2, old)];
        assert_eq!(lacking(&keys, 2), [2]);
    }

    #[test]
    fn shown_by_node() {
        let names = [(1, "one".to_owned()), (2, "second".to_owned())].into();
        let keys = [key(2, 0x1f, Some((Second::Old, 3))), key(1, 0x1f, None)];
        let rows = rows(&keys, &names);
        assert_eq!(
            table(&rows),
            "NODE  NAME    IN USE            STAGED            NOT DROPPED\n   \
             1  one     000000000000001f  -                 -\n   \
             2  second  000000000000001f  -                 0000000000000003\n"
        );
        assert_eq!(
            serde_json::to_string(&rows[1]).expect("json"),
            r#"{"node":2,"name":"second","in_use":"000000000000001f","second":"0000000000000003","second_is":"old"}"#
        );
    }

    #[test]
    fn fingerprints_are_read_as_shown() {
        assert_eq!(parse_print(&hex(0xabc)), Ok(0xabc));
        for bad in ["", "abc", "00000000000000000", "000000000000000g", "+00000000000000a"] {
            assert!(parse_print(bad).is_err(), "{bad}");
        }
    }
}
