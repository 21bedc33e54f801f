// SPDX-License-Identifier: GPL-2.0

//! Proposals, promises, and the views that come of them.

use super::Core;
use super::Known;
use super::Millis;
use super::Phase;
use super::Says;
use super::View;
use crate::places::Place;
use crate::places::Places;
use core::borrow::Borrow;
use core::ops::Deref;
use core::ops::DerefMut;

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    pub(super) fn digest(&self, members: &Places<W>) -> u64 {
        let mut d = 0xcbf2_9ce4_8422_2325_u64;
        for p in members.iter() {
            d = (d ^ (p as u64 + 1)).wrapping_mul(0x0100_0000_01b3);
            d = (d ^ self.incarnation(p)).wrapping_mul(0x0100_0000_01b3);
            d ^= d >> 29;
        }
        d
    }

    /// The members that a view should have now.
    fn wanted(&self, alive: &Places<W>, team: &Places<W>, now: Millis) -> Places<W> {
        let is_first = self.phase == Phase::Joining;
        let next = self.table_ahead(team);
        let mut set = if is_first {
            Places::one(self.this)
        } else {
            *team
        };
        for (p, k) in self.others() {
            let says: &Says<W> = k.says.borrow();
            let has_stream = k.link == k.incarnation;
            let may_join = if is_first { team } else { alive };
            let has_table = Self::can_be_in(says, self.table) && Self::can_be_in(says, next);
            let may_be_in = has_table && self.goes() != Some(p);
            let joins = may_join.contains(p)
                && has_stream
                && says.phase == Phase::Joining
                && may_be_in
                && !k.is_over();
            // Who joins is heard by all, or waits.
            let hears_all = set
                .minus(&Places::one(self.this))
                .minus(&says.hears)
                .is_empty();
            let is_content = set.and(&says.over).is_empty();
            if joins && hears_all && is_content {
                set.insert(p);
            }
        }
        if is_first {
            let all = set == self.rows;
            let waited = now >= self.started.saturating_add(self.times.form);
            if !all && !waited {
                return Places::EMPTY;
            }
        }
        set
    }

    /// Proposes, if that is this node's to do.
    pub(super) fn propose(&mut self, alive: &Places<W>, team: &Places<W>, now: Millis) {
        let mine = self.coordinator(team) == Some(self.this);
        let wanted = if mine {
            self.wanted(alive, team, now)
        } else {
            Places::EMPTY
        };
        // A member that has promised more than this view waits for what nobody proposes any more: it needs a new one.
        let ahead = |(p, k): (Place, &Known<S>)| {
            wanted.contains(p) && k.says.borrow().promised > self.view.id
        };
        let table = self.table_for(&wanted);
        // So does this node, if it gave up a proposal of its own: it would not support whom that left out.
        let is_settled = wanted == self.view.members
            && table == self.table
            && self.promised.id <= self.view.id
            && !self.others().any(ahead);
        if !mine || !self.is_quorate(&wanted) || is_settled {
            if !mine || self.proposal.members != wanted || self.proposal.table != table {
                self.proposal = View::default();
            }
            return;
        }
        let digest = self.digest(&wanted);
        // A member that has promised this number, or a larger one, to another node will not promise it to this one.
        let last = self.proposal;
        let taken = |(p, k): (Place, &Known<S>)| {
            let says: &Says<W> = k.says.borrow();
            let other = says.promised == last.id && says.promised_to != self.this;
            last.members.contains(p) && (other || says.promised > last.id)
        };
        let is_hopeless = self.others().any(taken);
        let is_same = last.members == wanted && last.digest == digest && last.table == table;
        if last.id != 0 && is_same && !is_hopeless {
            return;
        }
        self.newest = self.newest.max(self.view.id).saturating_add(1);
        self.proposal = View {
            id: self.newest,
            members: wanted,
            digest,
            table,
        };
        self.keep_promise(self.proposal, self.this);
    }

    /// Whether what this node has promised is still proposed.
    pub(super) fn is_proposed(&self, alive: &Places<W>) -> bool {
        if self.promised_to == self.this {
            return self.proposal == self.promised;
        }
        let proposer = self.known.get(self.promised_to);
        alive.contains(self.promised_to)
            && proposer.is_some_and(|k| k.says.borrow().proposal == self.promised)
    }

    /// Promises the coordinator's proposal, unless an earlier promise to it still stands.
    ///
    /// A promise is never taken back, only followed by one for a larger number: whoever was promised may have a view by
    /// it, of which this node has not heard. So no two views have one number.
    pub(super) fn promise(&mut self, alive: &Places<W>, team: &Places<W>, now: Millis) {
        let Some(c) = self.coordinator(team) else {
            return;
        };
        let is_promised = self.promised.id > self.view.id && self.promised_to == c;
        if c == self.this || (is_promised && self.is_proposed(alive)) {
            return;
        }
        let Some(v) = self.known.get(c).map(|k| k.says.borrow().proposal) else {
            return;
        };
        if v.id > self.view.id.max(self.promised.id)
            && v.members.contains(self.this)
            && v.members.minus(alive).is_empty()
            && self.has_table_of(&v)
            && self.is_quorate_in(v.table, &v.members)
            && v.digest == self.digest(&v.members)
            && !self.has_ended_life(&v.members)
        {
            if self.may_exclude(&v.members, now) {
                self.close(&v, now);
                self.keep_promise(v, c);
            } else {
                let members = self.view.members.or(&self.promised.members);
                self.giving_up = members.minus(&v.members);
            }
        }
    }

    pub(super) fn has_ended_life(&self, members: &Places<W>) -> bool {
        let mut others = self.others();
        others.any(|(p, k)| members.contains(p) && k.is_over())
    }

    pub(super) fn keep_promise(&mut self, v: View<W>, to: Place) {
        self.promised = v;
        self.promised_to = to;
        for k in self.known.iter_mut() {
            k.promised = k.incarnation;
        }
    }

    /// The own proposal, if every member of it has promised it and whoever is not in it has stopped.
    pub(super) fn conclude(&mut self, now: Millis) -> Option<View<W>> {
        let v = self.proposal;
        if v.id == 0 {
            return None;
        }
        let is_promised = |(p, k): (Place, &Known<S>)| {
            let says: &Says<W> = k.says.borrow();
            !v.members.contains(p) || (says.promised == v.id && says.promised_to == self.this)
        };
        let may_enter = self.may_enter(&v, now);
        if !self.others().all(is_promised) || !self.may_exclude(&v.members, now) || !may_enter {
            return None;
        }
        self.close(&v, now);
        self.proposal = View::default();
        Some(self.install(v))
    }

    /// Whether somebody says that the promised view is in force.
    pub(super) fn is_in_force(&self) -> bool {
        self.others()
            .any(|(_, k)| k.incarnation != 0 && k.says.borrow().view == self.promised)
    }

    /// Takes the promised view over once somebody says that it is in force.
    pub(super) fn follow(&mut self, now: Millis) -> Option<View<W>> {
        let v = self.promised;
        if v.id <= self.view.id || !self.has_table_of(&v) {
            return None;
        }
        (self.is_in_force() && self.may_enter(&v, now)).then(|| self.install(v))
    }

    pub(super) fn install(&mut self, v: View<W>) -> View<W> {
        self.turn_to(v.table);
        self.view = v;
        let this = self.this;
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            if p != this && v.members.contains(p) && k.incarnation != k.promised {
                // A later life of a member was heard of meanwhile. It waits until the one in the view is out.
                k.turn_to(k.promised);
                self.search.is_old = true;
            }
        }
        if self.phase == Phase::Joining || !self.may_leave() {
            self.phase = Phase::Up;
        }
        if self.proposal.id <= v.id {
            self.proposal = View::default();
        }
        v
    }
}
