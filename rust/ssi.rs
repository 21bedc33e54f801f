// SPDX-License-Identifier: GPL-2.0

//! Crate `ssi`: safe wrappers for what the `kernel` crate lacks, identifiers, hook traits.
//!
//! Not for policy, messages or cluster state: those belong to the subsystems above.

use kernel::prelude::*;

mod bindings;
pub mod clms_cleaner;
pub mod clms_history;
pub mod clms_netlink;
pub mod cred;
pub mod crypto;
pub mod debugfs;
pub mod failpoint;
pub mod fifo;
pub mod files;
pub mod hooks;
pub mod ics_netlink;
pub mod ids;
pub mod image;
pub mod inbox;
pub mod kthread;
pub mod machine;
pub mod movement;
pub mod net;
pub mod pages;
pub mod pproc;
pub mod refusal;
pub mod reserve;
pub mod table;
pub mod task;
pub mod text;
pub mod trace;
pub mod wait;
pub mod wire;

/// The module that carries this crate.
struct SsiCore {
    _failpoints: Pin<KBox<failpoint::Debugfs>>,
}

impl kernel::Module for SsiCore {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        failpoint::init();
        debugfs::init();
        let dir = debugfs::dir().ok_or(ENOMEM)?;
        Ok(Self {
            _failpoints: KBox::pin_init(failpoint::Debugfs::new(&dir), GFP_KERNEL)?,
        })
    }
}

impl Drop for SsiCore {
    fn drop(&mut self) {
        debugfs::clear();
    }
}

module! {
    type: SsiCore,
    name: "ssi_core",
    authors: ["OpenSSI for Linux developers"],
    description: "OpenSSI: wrappers, identifiers and hooks",
    license: "GPL",
}
