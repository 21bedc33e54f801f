// SPDX-License-Identifier: GPL-2.0

//! Small records that every member has, the same everywhere: read without a message, changed by compare-and-swap, watched.
//! What a member was told is kept as long as the cluster is.
//!
//! Not for bulk, and not for what changes often: a change is a message to every member, one after the other.

use crate::thread;
use core::ops::Deref;
use kernel::prelude::*;

mod contents;
mod debugfs;
mod proto;
mod records;
mod replica;
mod server;
mod state;
mod watch;

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

/// The longest name.
pub const MAX_NAME: usize = 32;

/// The longest value.
pub const MAX_VALUE: usize = 256;

/// The most records.
pub const MAX_RECORDS: usize = 128;

/// A record's name: 1 to 32 bytes, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name([u8; MAX_NAME]);

impl Name {
    /// That of these bytes.
    ///
    /// # Errors
    /// `EINVAL` none or a 0 among them; `ENAMETOOLONG`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(EINVAL);
        }
        let mut name = [0; MAX_NAME];
        let room = name.get_mut(..bytes.len()).ok_or(ENAMETOOLONG)?;
        room.copy_from_slice(bytes);
        Ok(Self(name))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0);
        self.0.get(..len.unwrap_or(MAX_NAME)).unwrap_or(&self.0)
    }
}

/// What a record holds: at most 256 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    len: usize,
    /// Zeros behind `len`.
    bytes: [u8; MAX_VALUE],
}

impl Value {
    /// These bytes.
    ///
    /// # Errors
    /// `EMSGSIZE`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut all = [0; MAX_VALUE];
        let room = all.get_mut(..bytes.len()).ok_or(EMSGSIZE)?;
        room.copy_from_slice(bytes);
        Ok(Self {
            len: bytes.len(),
            bytes: all,
        })
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// A record as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub value: Value,
    /// The number of the change that made it so, in the one order of all changes: no version comes twice.
    pub version: u64,
}

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
