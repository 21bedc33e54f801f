// SPDX-License-Identifier: GPL-2.0

//! Crate `rfile`: the open files of a process that goes to another node.
//!
//! A file that the other node has as well is opened there; one that must stay (pipe, terminal, socket, a regular file
//! whose offset is shared) is served from its node and a proxy file stands for it. Not for processes or memory.

use kernel::prelude::*;

mod export;
mod home;
mod image;
mod import;
mod ioctls;
mod observer;
mod proto;
mod proxy;
mod state;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

pub use export::abort_export;
pub use export::export_fds;
pub use import::import_fds;

/// The module that carries this crate.
struct Rfile {
    // Dropped in this order: nobody asks for a handle any more when they end.
    _observer: clms::ObserverRegistration,
    _service: ics::Registration,
    _handles: Handles,
}

/// What is left when the module goes.
struct Handles;

impl Drop for Handles {
    fn drop(&mut self) {
        home::clear();
    }
}

impl kernel::Module for Rfile {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: A module is loaded once.
        unsafe { home::init() };
        // SAFETY: As above.
        unsafe { proxy::init() };
        Ok(Self {
            _handles: Handles,
            _service: observer::serve()?,
            _observer: observer::observe()?,
        })
    }
}

module! {
    type: Rfile,
    name: "ssi_rfile",
    authors: ["OpenSSI for Linux developers"],
    description: "OpenSSI: open files served from another node",
    license: "GPL",
}
