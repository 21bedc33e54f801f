// SPDX-License-Identifier: GPL-2.0

//! The records and what a change does to them: pure, and the same on every node. Imports nothing but `core`.
//!
//! A record's version is the number of the change that made it, in the one order of all changes. So no version comes
//! twice, not even after a record was deleted and made again.

use crate::registry::state::Machine;
use core::ops::Deref;
use core::ops::DerefMut;

/// A record, or room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot<N, V> {
    /// Its name.
    pub(crate) name: N,
    /// What it holds.
    pub(crate) value: V,
    /// The change that made it so; 0: no record.
    pub(crate) version: u64,
}

/// A wish: if the record has version `expected` (0: there is none), it shall hold `value` (none: not be).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change<N, V> {
    /// The record.
    pub(crate) name: N,
    /// The version it must have.
    pub(crate) expected: u64,
    /// What it shall hold.
    pub(crate) value: Option<V>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was made. The record's version, or after a deletion the number of the change.
    Done(u64),
    /// The record has another version, this one; 0: there is none.
    Lost(u64),
    /// There is no room for one more record.
    Full,
}

/// All records. The memory is the caller's, as a kernel stack does not hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Table<S>(pub(crate) S);

impl<S, N: Copy + Eq, V: Copy + Eq> Table<S>
where
    S: Deref<Target = [Slot<N, V>]> + DerefMut,
{
    /// A record.
    pub(crate) fn get(&self, name: N) -> Option<&Slot<N, V>> {
        self.0.iter().find(|s| s.version != 0 && s.name == name)
    }
}

impl<S, N: Copy + Eq, V: Copy + Eq> Machine for Table<S>
where
    S: Deref<Target = [Slot<N, V>]> + DerefMut<Target = [Slot<N, V>]>,
{
    type Op = Change<N, V>;
    type Outcome = Outcome;

    fn apply(&mut self, seq: u64, op: &Change<N, V>) -> Outcome {
        let is_it = |s: &Slot<N, V>| s.version != 0 && s.name == op.name;
        let place = match self.0.iter().position(is_it) {
            Some(p) => Some(p),
            None => self.0.iter().position(|s| s.version == 0),
        };
        let Some(slot) = place.and_then(|p| self.0.get_mut(p)) else {
            return match op {
                Change {
                    expected: 0,
                    value: Some(_),
                    ..
                } => Outcome::Full,
                Change {
                    expected: 0,
                    value: None,
                    ..
                } => Outcome::Done(seq),
                _ => Outcome::Lost(0),
            };
        };
        if slot.version != op.expected {
            return Outcome::Lost(slot.version);
        }
        match op.value {
            Some(value) => {
                *slot = Slot {
                    name: op.name,
                    value,
                    version: seq,
                }
            }
            None => slot.version = 0,
        }
        Outcome::Done(seq)
    }
}
