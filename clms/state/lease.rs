// SPDX-License-Identifier: GPL-2.0

//! Whom a node supports, and how long it acts on the support of others.

use super::Answer;
use super::Core;
use super::Effect;
use super::Known;
use super::Millis;
use super::Phase;
use super::Says;
use super::View;
use super::Why;
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
    /// What the next heartbeat says to one node. To be sent later than [`Self::says`] is asked, or with it.
    pub(crate) fn answer(&self, p: Place) -> Answer {
        let Some(k) = self.known.get(p) else {
            return Answer::default();
        };
        let supports = self.supports.contains(p) && k.heard.0 == k.incarnation;
        Answer {
            incarnation: k.heard.0,
            seq: k.heard.1,
            supports: if supports {
                self.promised.id.max(self.view.id)
            } else {
                0
            },
        }
    }

    /// Whether supporters with a majority were last heard so late that this node may act at `time`.
    pub(crate) fn may_act(&self, time: Millis) -> bool {
        self.is_backed(self.table, time, |_| true)
    }

    /// Whether it may begin to act in that view.
    pub(super) fn may_enter(&self, v: &View<W>, now: Millis) -> bool {
        // What others support it in later may be in force without this one: it enters that, or none.
        let is_joining = self.phase == Phase::Joining;
        // With another table it goes on only if its lease does.
        let is_same = !is_joining && v.table == self.table;
        is_same || self.is_backed(v.table, now, |k| !is_joining || k.backed_in == v.id)
    }

    /// Whether supporters that count have a majority in that table.
    pub(super) fn is_backed(
        &self,
        table: u64,
        time: Millis,
        counts: impl Fn(&Known<S>) -> bool,
    ) -> bool {
        let mut backers = Places::one(self.this);
        for (p, k) in self.others() {
            if k.backed != 0 && time < k.backed.saturating_add(self.times.lease) && counts(k) {
                backers.insert(p);
            }
        }
        self.is_quorate_in(table, &backers)
    }

    /// When this node must have stopped unless it is supported again; `None`: it does not act, or needs nobody.
    pub(crate) fn lease_end(&self, now: Millis) -> Option<Millis> {
        if self.phase != Phase::Up || self.may_act(Millis::MAX - 1) {
            return None;
        }
        // Nobody's support reaches further than from now: the end is found by halving.
        let (mut low, mut high) = (now, now.saturating_add(self.times.lease));
        while low < high {
            let mid = low + (high - low) / 2;
            if self.may_act(mid) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        Some(low)
    }

    /// Whether this node, if it is a member, may go on.
    pub(super) fn must_stop(&self, alive: &Places<W>, now: Millis) -> Option<Effect<W>> {
        if self.phase == Phase::Joining {
            return None;
        }
        let excludes = |(p, k): (Place, &Known<S>)| {
            let says: &Says<W> = k.says.borrow();
            alive.contains(p)
                && says.phase != Phase::Joining
                && says.view.id > self.view.id
                && !says.view.members.contains(self.this)
        };
        let why = if self.others().any(excludes) {
            Why::Excluded
        } else if !self.may_act(now) {
            Why::NoQuorum
        } else {
            return None;
        };
        Some(match self.phase {
            Phase::Leaving => Effect::Left,
            _ => Effect::Stop(why),
        })
    }

    /// Whether everybody that this node has supported and that is not among `members` has stopped by now.
    pub(super) fn may_exclude(&self, members: &Places<W>, now: Millis) -> bool {
        let is_over = |(p, k): (Place, &Known<S>)| {
            let stays = members.contains(p) && k.incarnation == k.supported_life;
            // Who wants out is waited for too: it may stay after all.
            k.supported == 0 || stays || now >= k.supported.saturating_add(self.times.judge)
        };
        self.others().all(is_over)
    }

    /// Lives that this node has supported and that are not in the view are over.
    pub(super) fn close(&mut self, v: &View<W>, now: Millis) {
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            let is_out = !v.members.contains(p) || k.incarnation != k.supported_life;
            if k.supported_life != 0 && is_out {
                (k.over, k.over_since) = (k.supported_life, now);
            }
        }
    }

    /// Notes whom this node supports from now on: the members of its view, or of a later one that it has promised, as
    /// long as it hears them and does not mean to promise a view without them.
    pub(super) fn support(&mut self, alive: &Places<W>, now: Millis) {
        let is_promised = self.promised.id > self.view.id;
        let is_joining = self.phase == Phase::Joining;
        let members = if is_joining && !self.is_proposed(alive) && !self.is_in_force() {
            &Places::EMPTY
        } else if is_promised {
            &self.promised.members
        } else {
            &self.view.members
        };
        let mut supports = members.and(alive).minus(&self.giving_up);
        let mut over = Places::EMPTY;
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            // Or a later life than the one in the promise.
            if k.is_over() || (is_promised && k.incarnation != k.promised) {
                supports.remove(p);
            }
            if k.is_over() {
                over.insert(p);
            }
            if supports.contains(p) {
                (k.supported, k.supported_life) = (k.came, k.incarnation);
            }
        }
        self.supports = supports;
        self.over = over;
        if !is_joining || !supports.is_empty() {
            self.supported = now;
        } else if now >= self.supported.saturating_add(self.times.detect) {
            // As after a restart of the machine: nobody counts on an earlier promise or support of this node any more.
            for k in self.known.iter_mut() {
                k.over = 0;
            }
        }
    }
}
