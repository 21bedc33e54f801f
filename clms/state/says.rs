// SPDX-License-Identifier: GPL-2.0

//! What nodes say in their heartbeats.

use super::Millis;
use crate::places::Place;
use crate::places::Places;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    /// It wants to become a member.
    #[default]
    Joining,
    /// It is a member.
    Up,
    /// It is a member and wants out.
    Leaving,
}

/// A view, or a proposal for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct View<const W: usize> {
    /// Its number; 0 is no view.
    pub(crate) id: u64,
    /// Its members.
    pub(crate) members: Places<W>,
    /// Digest of its members' incarnations.
    pub(crate) digest: u64,
    /// The table that it counts votes by.
    pub(crate) table: u64,
}

/// What a node says in each heartbeat, to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Says<const W: usize> {
    /// What it is.
    pub(crate) phase: Phase,
    /// Its table, and the one that is staged; 0: none.
    pub(crate) table: u64,
    pub(crate) staged: u64,
    /// The view in force there.
    pub(crate) view: View<W>,
    /// The view it proposes; id 0: none.
    pub(crate) proposal: View<W>,
    /// Number of the proposal it promises, 0: none.
    pub(crate) promised: u64,
    /// The proposer of it.
    pub(crate) promised_to: Place,
    /// Whom it hears, itself included.
    pub(crate) hears: Places<W>,
    /// Whose lives are over for it: it has promised a view without them.
    pub(crate) over: Places<W>,
}

impl<const W: usize> Says<W> {
    /// Whether it says the same of what decides who belongs together.
    pub(super) fn is_as_near(&self, other: &Self) -> bool {
        self.phase == other.phase
            && self.table == other.table
            && self.view == other.view
            && self.hears == other.hears
            && self.over == other.over
    }
}

/// A heartbeat, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Heartbeat<S> {
    /// The life of the node that sent it.
    pub(crate) incarnation: u64,
    /// Its number in that life.
    pub(crate) seq: u64,
    /// When that heartbeat of this node was sent which it answers; `None`: it answers none that is known.
    pub(crate) answers: Option<Millis>,
    /// Number of the view in which its sender supports this node as a member; 0: it does not.
    pub(crate) supports: u64,
    /// What it says.
    pub(crate) says: S,
}

/// What a heartbeat says to one node: which of its heartbeats was the last to come, and whether it is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Answer {
    /// The life that the heartbeat was of; 0: none came.
    pub(crate) incarnation: u64,
    /// Its number in that life.
    pub(crate) seq: u64,
    /// Number of the view, in force or promised, in which that life is supported; 0: it is not.
    pub(crate) supports: u64,
}
