// SPDX-License-Identifier: GPL-2.0

//! The commands of the cluster: one program under many names.
//!
//! `cluster NAME ...` and a link called `NAME` do the same. Membership is asked over generic netlink, processes
//! are moved by system calls; nothing here keeps state of its own.

mod cli;
mod clustertab;
mod config;
mod docs;
mod events;
mod failure;
mod fence;
mod fenced;
mod ics;
mod join;
mod key;
mod keyfiles;
mod migrate;
mod node;
mod noded;
mod onnode;
mod out;
mod shutdown;
mod status;
mod syscalls;
mod table;
mod wgnet;
mod wgtab;
mod wireguard;

use failure::Failure;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    syscalls::restore_sigpipe();
    let args: Vec<OsString> = std::env::args_os().collect();
    let (name, result) = run(args);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(f) => {
            eprintln!("{name}: {}", f.message);
            ExitCode::from(f.code)
        }
    }
}

/// Runs the command that `args` names. Returns the name it speaks under, and its exit code.
fn run(args: Vec<OsString>) -> (String, Result<u8, Failure>) {
    let called_as = args
        .first()
        .and_then(|a| std::path::Path::new(a).file_name())
        .and_then(|n| n.to_str())
        .unwrap_or("cluster")
        .to_owned();
    let is_link = cli::LINKS.contains(&called_as.as_str());
    let command = match is_link.then(|| cli::link(&called_as)).flatten() {
        Some(c) => c,
        None => cli::cluster(),
    };
    let matches = match command.try_get_matches_from(args) {
        Ok(m) => m,
        Err(e) => {
            // Help and version are no errors; everything else is wrong usage.
            let code = if e.use_stderr() { failure::USAGE } else { 0 };
            let _ = e.print(); // There is nowhere left to say that standard error is gone.
            return (called_as, Ok(code));
        }
    };
    if is_link {
        let result = dispatch(&called_as, &matches);
        return (called_as, result);
    }
    match matches.subcommand() {
        Some((sub, m)) => {
            let speaks_as = if cli::LINKS.contains(&sub) {
                sub.to_owned()
            } else {
                format!("cluster {sub}")
            };
            (speaks_as, dispatch(sub, m))
        }
        None => {
            let result = match matches.get_one::<String>("show") {
                Some(word) => node::show(word, false),
                None if matches.get_flag("list") => node::list(false),
                None => Err(Failure::usage("no command given; see cluster --help")),
            };
            (called_as, result)
        }
    }
}

fn dispatch(name: &str, m: &clap::ArgMatches) -> Result<u8, Failure> {
    match name {
        "status" => status::run(m),
        "events" => events::run(m),
        "node" => match m.subcommand() {
            Some(("list", m)) => node::list(m.get_flag("json")),
            Some(("show", m)) => {
                let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
                node::show(word, m.get_flag("json"))
            }
            Some(("shutdown", m)) => shutdown::run(m),
            Some(("add" | "remove" | "votes", _)) => table::change(m),
            Some(("finish", m)) => table::finish(m),
            Some(("cancel", m)) => table::cancel(m),
            Some(("stage", m)) => table::stage(m),
            Some(("unstage", m)) => table::unstage(m),
            Some(("settle", m)) => table::settle(m),
            Some(("fence", m)) => fence::by_hand(m),
            Some(("confirm-down", m)) => fence::confirm_down(m),
            _ => Err(Failure::usage("no command given; see cluster node --help")),
        },
        "join" => join::join(m),
        "leave" => join::leave(),
        "ics" => ics::run(m),
        "key" => key::run(m),
        "wireguard" => wireguard::run(m),
        "fenced" => fenced::run(m),
        "noded" => noded::run(m),
        "clusternode_num" => node::number(),
        "clusternode_shutdown" => shutdown::run(m),
        "clustername" => node::cluster_name(),
        "clusternode_getstate" => node::state(m),
        "migrate" => migrate::migrate(m),
        "where_pid" => migrate::where_pid(m),
        "onnode" => onnode::onnode(m),
        "onall" => onnode::onall(m),
        "names" => docs::names(),
        "docs" => docs::write(m),
        _ => Err(Failure::usage(format!("{name}: no such command; see cluster --help"))),
    }
}
