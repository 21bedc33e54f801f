// SPDX-License-Identifier: GPL-2.0

//! Nodes of two releases: which versions of the protocol each speaks, and the one on which two of them agree. Pure.
//!
//! A version is that of everything on the wire below the services: handshake, heartbeat, frame. A hello says which ones its
//! node speaks, so that a cluster can be given another release node by node, as long as the two have one in common. Both
//! ends agree on the newest of those; the proofs are over what both said.

use kernel::fmt;

/// The versions that a release speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaks {
    /// The oldest.
    pub(crate) oldest: u16,
    /// The newest, and all between.
    pub(crate) newest: u16,
}

impl Speaks {
    /// Those of this release.
    pub(crate) const HERE: Self = Self {
        oldest: 11,
        newest: 11,
    };

    /// As a hello has them. Before version 7 a hello had one version alone.
    pub(crate) const fn from_wire(n: u32) -> Self {
        let newest = n as u16; // CAST: the lower half
        let oldest = match (n >> 16) as u16 {
            0 => newest,
            n => n,
        };
        Self { oldest, newest }
    }

    /// As a hello has them.
    pub(crate) const fn to_wire(self) -> u32 {
        (self.oldest as u32) << 16 | self.newest as u32
    }

    /// The newest version that both speak; `None`: there is none.
    pub(crate) fn agree(self, other: Self) -> Option<u16> {
        let version = self.newest.min(other.newest);
        (version != 0 && version >= self.oldest.max(other.oldest)).then_some(version)
    }

    /// Whether a version is among them.
    pub(crate) fn has(self, version: u32) -> bool {
        (u32::from(self.oldest)..=u32::from(self.newest)).contains(&version)
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "version {}", self.newest)
        } else {
            write!(f, "versions {} to {}", self.oldest, self.newest)
        }
    }
}

/// What is logged of a node with which there is no version in common.
pub(crate) struct NoneInCommon {
    /// What this node speaks.
    pub(crate) here: Speaks,
    /// What the other one says that it speaks.
    pub(crate) there: Speaks,
}

impl fmt::Display for NoneInCommon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another release: it speaks ")?;
        fmt::Display::fmt(&self.there, f)?;
        write!(f, " of the protocol, this node ")?;
        fmt::Display::fmt(&self.here, f)?;
        write!(f, ": give both the same release, or one between")
    }
}
