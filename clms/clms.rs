// SPDX-License-Identifier: GPL-2.0

//! Crate `clms`: cluster membership. Who is a member, in numbered views that all members agree on, and who is down.
//!
//! Not for links (`ics`). Decisions are in `state`, which is pure; `thread` feeds it, `changes` carries its views out.

use kernel::prelude::*;

mod changes;
mod cleanup;
mod facts;
mod fencing;
mod history;
mod keys;
mod lease;
mod leave;
mod met;
mod netlink;
mod observers;
mod patience;
mod places;
mod proto;
mod recorder;
mod registry;
mod sent;
mod set;
mod shown;
mod shutdown;
mod state;
mod status;
mod table;
mod thread;
mod torn;
mod witness;

pub use keys::register as register_key_server;
pub use keys::server as key_server;
pub use keys::Candidate;
pub use keys::KeyServer;
pub use keys::MAX_CANDIDATES;
pub use keys::MAX_SERVICE;
pub use observers::register_observer;
pub use observers::Drained;
pub use observers::ObserverRegistration;
pub use observers::Phase;
pub use observers::ViewObserver;
pub use registry::change;
pub use registry::read;
pub use registry::watch;
pub use registry::Name;
pub use registry::Outcome;
pub use registry::Record;
pub use registry::Value;
pub use registry::Watch;
pub use registry::Watcher;
pub use registry::MAX_NAME;
pub use registry::MAX_RECORDS;
pub use registry::MAX_VALUE;
pub use set::NodeSet;
pub use shutdown::stay_behind;
pub use thread::is_member;
pub use thread::is_up;
pub use thread::this_node;
pub use thread::view;
pub use thread::View;

/// The module.
struct Clms {
    // Dropped in this order.
    _netlink: netlink::Registration,
    _cleanup: cleanup::Registration,
    _asked: ics::Registration,
    _shutdown: shutdown::State,
    _fencing: ics::Registration,
    _tests: Pin<KBox<registry::Debugfs>>,
    _recorder: Pin<KBox<recorder::Debugfs>>,
    _facts: ics::Registration,
    _thread: thread::State,
    _registry: registry::Registration,
    _keys: keys::State,
    _watches: registry::State,
}

impl kernel::Module for Clms {
    fn init(module: &'static ThisModule) -> Result<Self> {
        observers::init();
        history::init();
        cleanup::init();
        let state = thread::State::new();
        let shutdown = shutdown::State::new();
        let watches = registry::State::new();
        Ok(Self {
            _thread: state,
            _asked: shutdown::register()?,
            _shutdown: shutdown,
            _fencing: fencing::register()?,
            _watches: watches,
            _keys: keys::State::new()?,
            _registry: registry::register()?,
            _tests: registry::Debugfs::new()?,
            _recorder: recorder::Debugfs::new()?,
            _facts: facts::register()?,
            _cleanup: cleanup::register()?,
            _netlink: netlink::register(module)?,
        })
    }
}

module! {
    type: Clms,
    name: "ssi_clms",
    authors: ["OpenSSI for Linux developers"],
    description: "OpenSSI: cluster membership",
    license: "GPL",
}
