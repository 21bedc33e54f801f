// SPDX-License-Identifier: GPL-2.0

//! Crate `vproc`: one process space. Every process has one number on all nodes and is seen, signalled, waited
//! for and moved from any of them.
//!
//! Not for files (`rfile`), membership (`clms`) or the choice of a node (`loadlevel`).

use kernel::prelude::*;

mod agent;
mod calls;
mod children;
mod cluster_calls;
mod debugfs;
mod drain;
mod events;
mod home;
mod hooks;
mod listing;
mod migrate;
mod movement;
mod nodes;
mod procfs;
mod progress;
mod proto;
mod recovery;
mod relations;
mod rexec;
mod server;
mod signals;

/// The module.
struct Vproc {
    // Fields are dropped in this order: first nobody calls us, then the state goes.
    _debugfs: Pin<KBox<debugfs::Debugfs>>,
    _observer: nodes::Registration,
    _service: ics::Registration,
    _hooks: hooks::Registration,
    _state: nodes::State,
}

impl kernel::Module for Vproc {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let state = nodes::State::new()?;
        let hooks = hooks::register(module)?;
        let service = ics::register(&server::SERVER)?;
        Ok(Self {
            _debugfs: debugfs::Debugfs::new()?,
            _observer: nodes::register()?,
            _service: service,
            _hooks: hooks,
            _state: state,
        })
    }
}

module! {
    type: Vproc,
    name: "ssi_vproc",
    authors: ["OpenSSI for Linux developers"],
    description: "OpenSSI: single process space",
    license: "GPL",
}
