// SPDX-License-Identifier: GPL-2.0

//! Small records that every member has, the same everywhere: read without a message, changed by compare-and-swap, watched.
//! What a member was told is kept as long as the cluster is.
//!
//! Not for bulk, and not for what changes often: a change is a message to every member, one after the other.

use crate::thread;
use kernel::prelude::*;

mod contents;
mod debugfs;
mod proto;
mod record;
mod records;
mod replica;
mod server;
mod state;
mod watch;

pub use record::Name;
pub use record::Record;
pub use record::Value;
pub use record::MAX_NAME;
pub use record::MAX_RECORDS;
pub use record::MAX_VALUE;
pub use records::Outcome;
pub use watch::watch;
pub use watch::Watch;
pub use watch::Watcher;

pub(crate) use debugfs::Debugfs;
pub(crate) use replica::Replica;
pub(crate) use server::register;
pub(crate) use server::Registration;
pub(crate) use watch::serve as tell;
pub(crate) use watch::State;

/// A record, as this node knows it: no message. What one node has read is never older than what it read before, and the changes
/// of its own callers are in it. It may be older than what another node reads.
///
/// Sleeps.
///
/// # Errors
/// `ENOTCONN` this node is no member; `EAGAIN` nobody has told it yet what there is.
pub fn read(name: Name) -> Result<Option<Record>> {
    thread::replica().ok_or(ENOTCONN)?.read(name)
}

/// If the record has version `expected` (0: there is none), it holds `value` from now on (none: it is no more).
///
/// Sleeps until all members have it, whichever of them die meanwhile; no signal ends that. Where one that died must be fenced,
/// that has no bound. Not from handlers of class L4, from observers of the membership, nor with a lock that one of these
/// takes.
///
/// # Errors
/// `ENOTCONN` this node is no member; `ESHUTDOWN` it has left meanwhile: whether the change was made is not known.
pub fn change(name: Name, expected: u64, value: Option<Value>) -> Result<Outcome> {
    thread::replica()
        .ok_or(ENOTCONN)?
        .change(name, expected, value)
}
