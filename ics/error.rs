// SPDX-License-Identifier: GPL-2.0

//! How a call ends when not with its reply.

use kernel::prelude::*;
use ssi::ids::NodeId;

/// Why a call did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The node is no member, or was declared down before it replied.
    Down(NodeId),
    /// What the call is about is on that node now: ask there.
    Moved(NodeId),
    /// The other node refused.
    Remote(Error),
    /// The other node did not understand, or answered nonsense.
    Protocol,
    /// A signal ended the wait. The other node has been told.
    Interrupted,
    /// This node could not even ask.
    Local(Error),
}

impl CallError {
    /// The errno at the edge to user space. `Documentation/ics.rst` has the table.
    pub fn to_errno(self) -> Error {
        match self {
            Self::Down(_) => EHOSTDOWN,
            Self::Moved(_) => ESTALE,
            Self::Remote(e) | Self::Local(e) => e,
            Self::Protocol => EPROTO,
            Self::Interrupted => ERESTARTSYS,
        }
    }
}
