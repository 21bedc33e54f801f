// SPDX-License-Identifier: GPL-2.0

//! Identifiers that cross nodes.

/// A node's number, `1..=NodeId::MAX`. Given by `/etc/clustertab`; node 0 is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// Bits of a node number, part of every cluster-wide pid.
    pub const BITS: u32 = 10;

    /// The largest node number. 1023 is left free, so that every pid stays below `FUTEX_TID_MASK`.
    pub const MAX: u32 = (1 << Self::BITS) - 2;

    /// Returns the node with that number, or `None` if no node can have it.
    pub const fn new(number: u32) -> Option<Self> {
        if number >= 1 && number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The lowest node number.
    pub const fn lowest() -> Self {
        Self(1)
    }

    /// The number, `1..=MAX`.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// One life of a node: new and larger at every join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The last one: no clock shows it before the year 2116, and whoever lies cannot use up those that follow.
    pub const LAST: Self = Self(1 << 62);
}

/// A process or thread number that means the same on every node: `node << 20 | local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterPid(pub u32);

impl ClusterPid {
    /// Bits of the part that the origin node gives out.
    pub const LOCAL_BITS: u32 = 20;

    /// The node whose range the number is from, `None` for a node-private number (made before the join).
    pub const fn origin(self) -> Option<NodeId> {
        NodeId::new(self.0 >> Self::LOCAL_BITS)
    }
}
