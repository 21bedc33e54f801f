// SPDX-License-Identifier: GPL-2.0

//! The table of nodes, and how it changes while the cluster runs.
//!
//! A place is a row of the table, or vacant. One change is about one place, and alters the sum of the votes by one at most:
//! so any majority before it and any after it have a node in common, and all that holds of views of one table holds of
//! views of the two. It goes in steps:
//!
//! *Staged*: a member knows the next table beside its own. It says both, and hears whoever says either.
//!
//! *Switched*: when all members of the view have staged the same one, the coordinator proposes a view of the same members
//! with that table. Who promises it has it staged; where it is in force the table is that one, from that step on. Until
//! then, and if it never is, everything goes on with the old one.
//!
//! *Settled*: the node will begin its next life with that table. It may, when all members of its view have switched; and
//! stages no further one before. So a majority has left a table for good before there is a second one after it.
//!
//! A node that begins a life with both tables takes the next one over where that is in force, or was.

use super::Core;
use super::Known;
use super::Phase;
use super::Row;
use super::Says;
use super::View;
use crate::places::Place;
use crate::places::Places;
use core::borrow::Borrow;
use core::ops::Deref;
use core::ops::DerefMut;

/// A change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    /// The table that comes of it.
    pub(crate) table: u64,
    /// The place that it is about.
    pub(crate) place: Place,
    /// What is there then; `None`: nothing.
    pub(crate) row: Option<Row>,
}

/// Why a change cannot be staged, given up, or settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// This node is no member.
    NoMember,
    /// The table before is not settled.
    NotSettled,
    /// Another one is staged.
    Staged,
    /// The row cannot become that one.
    Row,
    /// The sum of the votes changes by more than one.
    Votes,
    /// The node that goes is a member.
    Member,
    /// The members would be no majority.
    Quorum,
    /// The switch is under way: it may have happened.
    UnderWay,
    /// Not all members have switched.
    NotSwitched,
}

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    /// The table in force here.
    pub(crate) fn table(&self) -> u64 {
        self.table
    }

    /// The one that is staged; `None`: none.
    pub(crate) fn staged(&self) -> Option<u64> {
        self.staged.map(|c| c.table)
    }

    /// The tables that a node says: in force there, and staged; 0: none.
    pub(crate) fn tables_of(&self, p: Place) -> (u64, u64) {
        if p == self.this {
            return (self.table, self.staged().unwrap_or(0));
        }
        let says = self.known.get(p).map(|k| k.says.borrow());
        says.map_or((0, 0), |s: &Says<W>| (s.table, s.staged))
    }

    /// Whether the next life begins with the table in force.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Counts the rows anew.
    pub(super) fn count(&mut self) {
        (self.n, self.votes) = (0, 0);
        let (mut rows, mut single, mut witnesses) = (Places::EMPTY, Places::EMPTY, Places::EMPTY);
        for (p, k) in self.known.iter().enumerate().take(Places::<W>::ROOM) {
            let Some(row) = k.row else { continue };
            self.n = p + 1;
            self.votes += u32::from(row.votes);
            rows.insert(p);
            if row.votes == 1 {
                single.insert(p);
            }
            if row.is_witness {
                witnesses.insert(p);
            }
        }
        (self.rows, self.single, self.witnesses) = (rows, single, witnesses);
        self.search.is_old = true;
    }

    fn votes_at(&self, p: Place) -> u32 {
        let row = self.known.get(p).and_then(|k| k.row);
        row.map_or(0, |r| r.votes.into())
    }

    /// Whether a set has a majority after a change.
    fn is_quorate_after(&self, c: &Change, set: &Places<W>) -> bool {
        let (mut votes, mut all) = (self.votes(set), self.votes);
        let before = self.votes_at(c.place);
        let after = c.row.map_or(0, |r| u32::from(r.votes));
        all = all - before + after;
        if set.contains(c.place) {
            votes = votes - before + after;
        }
        votes * 2 > all
    }

    /// Whether a set has a majority in that table, of which this node knows.
    pub(super) fn is_quorate_in(&self, table: u64, set: &Places<W>) -> bool {
        if table == self.table {
            return self.is_quorate(set);
        }
        let change = self.staged.filter(|c| c.table == table);
        change.is_some_and(|c| self.is_quorate_after(&c, set))
    }

    /// Whether this node can be in a view with that table and those members.
    pub(super) fn has_table_of(&self, v: &View<W>) -> bool {
        v.table == self.table
            || self
                .staged
                .is_some_and(|c| c.table == v.table && !c.takes_out(&v.members))
    }

    /// Whether another node can.
    pub(super) fn can_be_in(says: &Says<W>, table: u64) -> bool {
        says.table == table || says.staged == table
    }

    /// Whether a node hears what that one says: they have a table in common.
    pub(crate) fn understands(&self, says: &Says<W>) -> bool {
        let own = [Some(self.table), self.staged()];
        own.into_iter().flatten().any(|t| Self::can_be_in(says, t))
    }

    /// The place that will be vacant.
    pub(super) fn goes(&self) -> Option<Place> {
        let change = self.staged.filter(|c| c.row.is_none());
        change.map(|c| c.place)
    }

    /// Whether the next table is in force at another node of a set, a member.
    fn is_ahead(&self, set: &Places<W>) -> bool {
        let Some(c) = self.staged else { return false };
        let has_switched = |(p, k): (Place, &Known<S>)| {
            let says: &Says<W> = k.says.borrow();
            set.contains(p) && says.phase != Phase::Joining && says.table == c.table
        };
        self.others().any(has_switched)
    }

    /// The table that a team's next view has at least: who joins must be able to be in it too.
    pub(super) fn table_ahead(&self, team: &Places<W>) -> u64 {
        match self.staged {
            Some(c) if self.is_ahead(team) => c.table,
            _ => self.table,
        }
    }

    /// The table that a view with those members is proposed with: the next one where all of this view have it, or where one has
    /// switched. Nobody goes back, so without that one's table there would be no view any more; and it was in a view with it, so
    /// all of the view before had it. If the one is lost just then, the next proposal has the old table again, and a larger number:
    /// who has promised the first of the two may promise the second.
    pub(super) fn table_for(&self, wanted: &Places<W>) -> u64 {
        let Some(c) = self.staged else {
            return self.table;
        };
        let has_it = |(p, k): (Place, &Known<S>)| {
            !wanted.contains(p) || Self::can_be_in(k.says.borrow(), c.table)
        };
        let is_ready = *wanted == self.view.members && self.others().all(has_it);
        let is_time = self.phase != Phase::Joining
            && !c.takes_out(wanted)
            && self.is_quorate_in(c.table, wanted)
            && (is_ready || self.is_ahead(wanted));
        if is_time {
            c.table
        } else {
            self.table
        }
    }

    /// Goes on with the staged table.
    fn turn(&mut self, c: Change) {
        if let Some(k) = self.known.get_mut(c.place) {
            match (k.row, c.row) {
                // Only its votes are others.
                (Some(_), Some(_)) => k.row = c.row,
                _ => {
                    *k = Known {
                        row: c.row,
                        ..Known::default()
                    };
                }
            }
        }
        self.table = c.table;
        self.staged = None;
        self.settled = false;
        for set in [&mut self.hears, &mut self.supports, &mut self.over] {
            if c.row.is_none() {
                set.remove(c.place);
            }
        }
        self.count();
    }

    /// A view with that table is in force.
    pub(super) fn turn_to(&mut self, table: u64) {
        if let Some(c) = self.staged.filter(|c| c.table == table) {
            self.turn(c);
        }
    }

    /// A node that is no member yet takes the next table over: a member has it, or one that had settled in it. But not while
    /// it may be in a view with the old one.
    pub(super) fn adopt(&mut self, alive: &Places<W>) {
        let Some(c) = self.staged.filter(|_| self.phase == Phase::Joining) else {
            return;
        };
        let has_switched = |p: Place| {
            let says = self.known.get(p).map(|k| k.says.borrow());
            says.is_some_and(|s: &Says<W>| p != self.this && s.table == c.table)
        };
        let is_promised = self.promised.id != 0 && (self.is_proposed(alive) || self.is_in_force());
        if !is_promised && alive.iter().any(has_switched) {
            self.turn(c);
        }
    }

    /// Whether a change can be staged.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_stage(&self, c: &Change) -> Result<(), Unfit> {
        if self.phase == Phase::Joining || self.has_left {
            return Err(Unfit::NoMember);
        }
        if self.staged.is_some_and(|s| s != *c) {
            return Err(Unfit::Staged);
        }
        if !self.settled {
            return Err(Unfit::NotSettled);
        }
        let before = self.known.get(c.place).ok_or(Unfit::Row)?.row;
        let fits = match (before, c.row) {
            (None, Some(_)) => c.place < Places::<W>::ROOM,
            (Some(a), Some(b)) => a.is_witness == b.is_witness && a != b,
            (Some(_), None) => c.place != self.this,
            (None, None) => false,
        };
        if !fits || c.table == self.table {
            return Err(Unfit::Row);
        }
        let votes = |row: Option<Row>| row.map_or(0, |r| r.votes);
        if votes(before).abs_diff(votes(c.row)) > 1 {
            return Err(Unfit::Votes);
        }
        if c.takes_out(&self.view.members) {
            return Err(Unfit::Member);
        }
        if !self.is_quorate_after(c, &self.view.members) {
            return Err(Unfit::Quorum);
        }
        Ok(())
    }

    /// Whether what is staged can be given up.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_unstage(&self) -> Result<(), Unfit> {
        let is_promised = self.promised.id > self.view.id;
        match self.staged {
            // The others may have switched before this node came.
            _ if self.phase == Phase::Joining || self.has_left => Err(Unfit::NoMember),
            Some(c) if is_promised && self.promised.table == c.table => Err(Unfit::UnderWay),
            _ => Ok(()),
        }
    }

    /// Whether the node may have its next life with this table.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_settle(&self) -> Result<(), Unfit> {
        let has_switched = |(p, k): (Place, &Known<S>)| {
            !self.view.members.contains(p) || k.says.borrow().table == self.table
        };
        if self.phase == Phase::Joining || self.has_left {
            Err(Unfit::NoMember)
        } else if self.others().all(has_switched) {
            Ok(())
        } else {
            Err(Unfit::NotSwitched)
        }
    }

    /// Knows the next table from now on, or gives it up; does nothing where it may not. Returns whether it did.
    pub(super) fn stage(&mut self, change: Option<Change>) -> bool {
        let may = match change {
            Some(c) => self.may_stage(&c),
            None => self.may_unstage(),
        };
        if may.is_ok() {
            self.staged = change;
        }
        may.is_ok()
    }

    /// The next life begins with this table.
    pub(super) fn settle(&mut self) {
        if self.may_settle().is_ok() {
            self.settled = true;
        }
    }

    /// The same, of a node that begins its life with a table and the next one.
    pub(crate) fn with_next(mut self, change: Option<Change>) -> Self {
        self.staged = change;
        self
    }
}

impl Change {
    /// Whether it takes a node out of the table that is in a set.
    fn takes_out<const W: usize>(&self, set: &Places<W>) -> bool {
        self.row.is_none() && set.contains(self.place)
    }
}
