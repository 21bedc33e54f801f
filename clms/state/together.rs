// SPDX-License-Identifier: GPL-2.0

//! Who belongs together, and who of them leads.
//!
//! A *team* is a set of nodes that hear each other and have a majority; the best has the most votes, then the most nodes,
//! then the lowest. Each node looks for the best that it is in itself. It hears all whom that could have, and so knows
//! whom they hear: the best team of all is the best for each of its nodes, and they follow the same leader, whatever
//! those outside of it think. That is what makes views come about; that they do no harm is up to promises and the lease.

use super::Core;
use super::Known;
use super::Millis;
use super::Phase;
use super::Says;
use crate::places::Place;
use crate::places::Places;
use core::borrow::Borrow;
use core::ops::Deref;
use core::ops::DerefMut;

/// How many sets a node looks at. Where so many cuts cross each other that this is too few, it takes the best so far, and
/// a view may have to wait until fewer do.
const MAX_LOOKS: usize = 512;

/// How many sets it keeps in mind meanwhile: with each choice one more, and each makes the set smaller.
const MAX_OPEN: usize = 64;

/// How many rows of the table are looked at on account of heartbeats between two ticks before the rest waits for the second: a
/// step looks at all, and so does a search at each of its sets.
const MAX_WORK: usize = 4096;

/// What was found of who belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Search<const W: usize> {
    team: Places<W>,
    /// This node's part in what it was found of.
    of: Own<W>,
    /// What others say of it has changed.
    pub(super) is_old: bool,
    /// Rows looked at since the last tick.
    work: usize,
}

/// What of a node itself decides with whom it belongs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Own<const W: usize> {
    phase: Phase,
    view: u64,
    alive: Places<W>,
    over: Places<W>,
}

impl<const W: usize> Default for Search<W> {
    fn default() -> Self {
        Self {
            team: Places::EMPTY,
            of: Own::default(),
            is_old: true,
            work: 0,
        }
    }
}

impl<const W: usize> Search<W> {
    /// Time has passed.
    pub(super) fn begins_anew(&mut self) {
        self.work = 0;
    }

    /// Whether a heartbeat may have this node think now, with a table of `n`.
    pub(super) fn may_think(&mut self, n: usize) -> bool {
        let may = self.work < MAX_WORK;
        if may {
            self.work += n;
        }
        may
    }
}

/// The cuts in a set.
struct Cuts<const W: usize> {
    /// The lowest node that has any, and from whom it is apart.
    first: Option<(Place, Places<W>)>,
    /// What is worth at least less without them.
    loss: u64,
}

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    /// The members that this node hears: those of its view, or, while it has none, of the newest that it hears of; and those
    /// with a view that it has missed: it is in that, or it would have stopped.
    fn peers(&self, alive: &Places<W>) -> Places<W> {
        let is_joining = self.phase == Phase::Joining;
        let others = alive.minus(&Places::one(self.this));
        let mut members = others.minus(&self.in_phase(others, Phase::Joining));
        let mut view = self.view;
        for (p, k) in self.others().filter(|(p, _)| others.contains(*p)) {
            let says: &Says<W> = k.says.borrow();
            if says.view.id <= self.view.id {
                members.remove(p);
            } else if is_joining && members.contains(p) && says.view.id > view.id {
                view = says.view;
            }
        }
        if !is_joining {
            members.insert(self.this);
        }
        members.or(&alive.and(&view.members))
    }

    /// Of joiners, those that hear a majority.
    fn in_majority(&self, alive: &Places<W>) -> Places<W> {
        let mut set = Places::EMPTY;
        for p in alive.iter() {
            let is_of_table = p == self.this
                || self
                    .known
                    .get(p)
                    .is_some_and(|k| k.says.borrow().table == self.table);
            if is_of_table && self.is_quorate(self.heard_by(p)) {
                set.insert(p);
            }
        }
        set
    }

    /// The team, if it is as it was or may be looked for now; at a tick it always may.
    pub(super) fn find_team(&mut self, alive: &Places<W>) -> Option<Places<W>> {
        let of = Own {
            phase: self.phase,
            view: self.view.id,
            alive: *alive,
            over: self.over,
        };
        if self.search.is_old || self.search.of != of {
            if self.search.work > MAX_WORK {
                return None;
            }
            let mut looks = 0;
            self.search.team = self.team(alive, &mut looks);
            self.search.of = of;
            self.search.is_old = false;
            self.search.work += looks * self.n;
        }
        Some(self.search.team)
    }

    /// Rows of the table looked at since the last tick: `tests/host/clms` bounds it.
    #[cfg(test)]
    pub(crate) fn work(&self) -> usize {
        self.search.work
    }

    /// The best team, as far as this node is concerned: of the members that stay; if those have none, of those and as many
    /// of those that want out as have to stay, the lowest; where there are no members, of joiners. Empty: there is none.
    fn team(&self, alive: &Places<W>, looks: &mut usize) -> Places<W> {
        let peers = self.peers(alive);
        if self.without_witnesses(peers).is_empty() {
            return self.best(self.in_majority(alive), looks);
        }
        let out = self.in_phase(peers, Phase::Leaving);
        // Somebody has promised a view without them already.
        let gone = out.and(&self.over_for_any(&peers));
        let mut team = Places::EMPTY;
        let mut last = Places::EMPTY;
        for set in [peers.minus(&out), peers.minus(&gone), peers] {
            if team.is_empty() && set != last {
                last = set;
                team = self.best(set, looks);
            }
        }
        for p in (0..self.n).rev().filter(|p| out.contains(*p)) {
            let rest = team.minus(&Places::one(p));
            if self.is_quorate(&rest) {
                team = rest;
            }
        }
        team
    }

    /// Who proposes: the lowest of the team. A member that has not taken its view over yet follows the others.
    pub(super) fn coordinator(&self, team: &Places<W>) -> Option<Place> {
        let team = self.without_witnesses(*team);
        let members = team.minus(&self.in_phase(team, Phase::Joining));
        members.first().or(team.first())
    }

    /// Notes since when no view can be made of those who act.
    pub(super) fn note_torn(&mut self, team: &Places<W>, now: Millis) {
        self.torn_since = match self.torn_since {
            _ if self.phase == Phase::Joining || !team.is_empty() => 0,
            0 => now,
            since => since,
        };
    }

    /// Whether members hear a majority each, and no majority hears each other, for so long that it is no transition.
    pub(crate) fn is_torn(&self, now: Millis) -> bool {
        self.torn_since != 0 && now >= self.torn_since.saturating_add(self.times.detect)
    }

    /// The members that do not hear each other, as far as this node knows, in pairs.
    pub(crate) fn cut_pairs(&self) -> impl Iterator<Item = (Place, Place)> + '_ {
        let members = &self.view.members;
        let pairs = members
            .iter()
            .flat_map(|p| members.iter().map(move |q| (p, q)));
        pairs.filter(|(p, q)| p < q && self.is_cut(*p, *q))
    }

    fn is_cut(&self, p: Place, q: Place) -> bool {
        let both = Places::one(p).or(&Places::one(q));
        let heard = both.and(&self.hears);
        if both.contains(self.this) {
            heard != both
        } else {
            heard == both && self.apart_from(p, &both, &Places::EMPTY).contains(q)
        }
    }

    /// Whom a node hears, as far as this one heard.
    fn heard_by<'a>(&'a self, p: Place) -> &'a Places<W>
    where
        S: 'a,
    {
        if p == self.this {
            return &self.hears;
        }
        let k = self.known.get(p);
        k.map_or(&Places::EMPTY, |k| &k.says.borrow().hears)
    }

    /// Whose lives are over for a node.
    fn over_for<'a>(&'a self, p: Place) -> &'a Places<W>
    where
        S: 'a,
    {
        if p == self.this {
            return &self.over;
        }
        let k = self.known.get(p);
        k.map_or(&Places::EMPTY, |k| &k.says.borrow().over)
    }

    /// Whose lives are over for anybody in `set`.
    fn over_for_any(&self, set: &Places<W>) -> Places<W> {
        let each = set.iter().map(|p| self.over_for(p));
        each.fold(Places::EMPTY, |all, over| all.or(over))
    }

    /// From whom in `set` a node is apart. Two are, if each says that it does not hear the other: what only one says may be
    /// that it was the first to miss a node that is dead. Or if the life of one is over for the other. `over`: all whose
    /// life is over for anybody.
    fn apart_from(&self, p: Place, set: &Places<W>, over: &Places<W>) -> Places<W> {
        let mut apart = set.and(self.over_for(p));
        if p != self.this {
            let missed = set.minus(self.heard_by(p));
            for q in missed.iter().filter(|q| *q != self.this && *q != p) {
                if !self.heard_by(q).contains(p) {
                    apart.insert(q);
                }
            }
        }
        if over.contains(p) {
            for q in set.iter().filter(|q| self.over_for(*q).contains(p)) {
                apart.insert(q);
            }
        }
        apart.remove(p);
        apart
    }

    /// Votes come first, then nodes.
    fn weight(&self, set: &Places<W>) -> u64 {
        // CAST: at most `ROOM`.
        u64::from(self.votes(set)) * Self::VOTE + set.len() as u64
    }

    /// What a vote weighs: more than all nodes.
    const VOTE: u64 = Places::<W>::ROOM as u64 + 1;

    fn cuts(&self, set: &Places<W>, over: &Places<W>) -> Cuts<W> {
        let mut cuts = Cuts {
            first: None,
            loss: 0,
        };
        let mut left = *set;
        // Most hear all.
        let is_near = |p: Place| {
            let hears_all = p == self.this || set.is_within(self.heard_by(p));
            hears_all && !over.contains(p) && self.over_for(p).is_empty()
        };
        for p in set.iter().filter(|p| !is_near(*p)) {
            let apart = self.apart_from(p, set, over);
            if !apart.is_empty() && cuts.first.is_none() {
                cuts.first = Some((p, apart));
            }
            // Of two that are apart one goes.
            let pair = apart.and(&left).first().filter(|_| left.contains(p));
            if let Some(q) = pair {
                left = left.minus(&Places::one(p)).minus(&Places::one(q));
                let weight = |p| self.weight(&Places::one(p));
                cuts.loss += weight(p).min(weight(q));
            }
        }
        cuts
    }

    /// The best team among `from`, with this node if it is one of them. Empty: there is none.
    fn best(&self, mut from: Places<W>, looks: &mut usize) -> Places<W> {
        let over = self.over_for_any(&from);
        if from.contains(self.this) {
            from = from.minus(&self.apart_from(self.this, &from, &over));
        }
        let (mut best, mut best_weight) = (Places::EMPTY, u64::from(self.quorum()) * Self::VOTE);
        let mut open = [from; MAX_OPEN];
        let mut n_open = 1_usize;
        for _ in 0..MAX_LOOKS {
            let next = n_open.checked_sub(1).and_then(|n| Some((n, *open.get(n)?)));
            let Some((n, set)) = next else {
                break;
            };
            n_open = n;
            *looks += 1;
            let cuts = self.cuts(&set, &over);
            let weight = self.weight(&set).saturating_sub(cuts.loss);
            if weight <= best_weight {
                continue;
            }
            let Some((p, apart)) = cuts.first else {
                (best, best_weight) = (set, weight);
                continue;
            };
            // Looked at in the order of the second: with the lowest first, of equals the lowest is found first.
            for next in [set.minus(&Places::one(p)), set.minus(&apart)] {
                if let Some(o) = open.get_mut(n_open) {
                    *o = next;
                    n_open += 1;
                }
            }
        }
        best
    }
}
