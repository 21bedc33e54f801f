// SPDX-License-Identifier: GPL-2.0

//! pid 1 of the rig's guests: brings the node up, runs what the host asks for, reaps what is left over.
//!
//! One thread and one poll loop, so that no process that a command starts was made before the join,
//! and none inherits a lock. Whatever may block on another node is done in a child of its own
//! (`rig-agent --put` and its like).

mod boot;
mod helper;
mod net;
mod port;
mod serve;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(name) = args
        .get(1)
        .filter(|a| a.starts_with("--") && !nix::unistd::getpid().eq(&INIT))
    {
        return helper::run(name, &args[2..]);
    }
    if nix::unistd::getpid() != INIT {
        eprintln!("rig-agent: is pid 1 of a test guest and nothing else");
        return ExitCode::from(2);
    }
    if !boot::is_rooted() {
        boot::console();
    }
    match boot::early() {
        Err(e) => {
            eprintln!("rig-agent: {e}");
            boot::hold()
        }
        Ok(mut port) => {
            if let Err(e) = boot::late(&mut port) {
                eprintln!("rig-agent: {e}");
                port.fail(&e);
                boot::hold()
            }
            eprintln!("rig-agent: ready");
            match serve::run(port) {
                Err(e) => eprintln!("rig-agent: {e}"),
                Ok(never) => match never {},
            }
            boot::hold()
        }
    }
}

const INIT: nix::unistd::Pid = nix::unistd::Pid::from_raw(1);
