// SPDX-License-Identifier: GPL-2.0

//! Short ways to say what is to run on a node.

pub use rig_agent::wire::Spawn;
pub use rig_agent::wire::Started;
pub use rig_agent::wire::What;
pub use rig_agent::wire::Winsize;

/// A program and its arguments, as root.
pub fn command(argv: &[&str]) -> Spawn {
    let argv = argv.iter().map(|a| (*a).to_owned()).collect();
    Spawn {
        what: What::Exec { argv, tty: None },
        user: None,
        background: false,
        env: Vec::new(),
    }
}

/// A program and its arguments, as somebody.
pub fn command_as(user: &str, argv: &[&str]) -> Spawn {
    Spawn {
        user: Some(user.to_owned()),
        ..command(argv)
    }
}
