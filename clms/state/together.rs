// SPDX-License-Identifier: GPL-2.0

//! Who belongs together, and who of them leads.

use super::Core;
use super::Known;
use super::Phase;
use super::Says;
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
    /// Those among `set` that do not want out.
    pub(super) fn staying(&self, set: Places<W>) -> Places<W> {
        let out = self.in_phase(set, Phase::Leaving);
        set.minus(&out)
    }

    /// The members that a member hears and that stay: those of its view, and those with a view that it has missed. It is
    /// in that, or it would have stopped.
    pub(super) fn peers(&self, alive: &Places<W>) -> Places<W> {
        let mut peers = alive.and(&self.view.members);
        for (p, k) in self.others() {
            let says: &Says<W> = k.says.borrow();
            let is_member = says.phase != Phase::Joining;
            if alive.contains(p) && is_member && says.view.id > self.view.id {
                peers.insert(p);
            }
        }
        self.staying(peers.or(&Places::one(self.this)))
    }

    /// Of joiners, those that hear a majority; all, if none does.
    pub(super) fn in_majority(&self, alive: &Places<W>) -> Places<W> {
        let mut set = Places::EMPTY;
        for (p, k) in self.rows().filter(|(p, _)| alive.contains(*p)) {
            let hears = if p == self.this {
                alive
            } else {
                &k.says.borrow().hears
            };
            if self.is_quorate(hears) {
                set.insert(p);
            }
        }
        if set.is_empty() {
            *alive
        } else {
            set
        }
    }

    /// Who may propose, as far as this node knows.
    pub(super) fn coordinator(&self, alive: &Places<W>) -> Option<Place> {
        // Who has not taken its view over yet does not lead: a joiner follows the members that it hears, and they lead it.
        let others = alive.minus(&Places::one(self.this));
        let members = others.minus(&self.in_phase(others, Phase::Joining));
        let may_lead = if self.phase != Phase::Joining {
            let others = self.peers(alive).and(&members);
            others.or(&self.staying(Places::one(self.this)))
        } else if !self.without_witnesses(self.staying(members)).is_empty() {
            self.staying(members)
        } else {
            self.in_majority(alive)
        };
        self.without_witnesses(may_lead).first()
    }

    /// Whether two nodes say of each other that they do not hear each other. What only one says is not counted: it may
    /// have been the first to miss a node that is dead.
    pub(super) fn are_apart(&self, a: Place, b: Place) -> bool {
        let misses = |by: Place, whom: Place| {
            self.known
                .get(by)
                .is_some_and(|k| !k.says.borrow().hears.contains(whom))
        };
        a != b && a != self.this && b != self.this && misses(a, b) && misses(b, a)
    }

    /// Of a set of nodes that this one hears, those that hear each other too: who is apart from most goes first, of
    /// equals the highest.
    pub(super) fn together(&self, mut set: Places<W>) -> Places<W> {
        // Nobody is together with a life that is over for him.
        for (p, k) in self.rows() {
            let over = if p == self.this {
                self.over
            } else {
                k.says.borrow().over
            };
            if over.contains(self.this) {
                // A majority thinks otherwise, or this node has no lease.
                set.remove(p);
            } else if set.contains(p) {
                set = set.minus(&over);
            }
        }
        loop {
            let apart = |p: Place| {
                let missed = self
                    .known
                    .get(p)
                    .map_or(Places::EMPTY, |k| set.minus(&k.says.borrow().hears));
                missed.iter().filter(|q| self.are_apart(p, *q)).count()
            };
            let others = set.iter().filter(|p| *p != self.this);
            let worst = others.map(|p| (apart(p), p)).max();
            match worst {
                Some((n, p)) if n > 0 => set.remove(p),
                _ => return set,
            }
        }
    }
}
