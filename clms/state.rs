// SPDX-License-Identifier: GPL-2.0

//! Who is a member: a pure state machine. Imports nothing but `core`; `tests/host` checks it exhaustively.
//!
//! Everything is said in heartbeats, which may be lost, doubled or late: what a node is, its view, the view it proposes,
//! the proposal it promises. There is nothing to resend, for a heartbeat repeats it all.
//!
//! One node proposes: the lowest member that is alive and not leaving, or, where there is no view yet, the lowest of a
//! majority that hears each other. A proposal names its members and their incarnations. It becomes a view when every
//! member of it has promised it. A node promises one proposal at a time, for as long as its proposer is heard and
//! proposes it, and never one with a number not larger than those before. So of two proposals with a node in common and
//! one number at most one becomes a view, and as a view needs a majority of the table, any two have a node in common: it
//! is in the later one, and who is in the earlier one only finds itself excluded or without a majority.

use core::ops::Deref;
use core::ops::DerefMut;

/// The most nodes of a table. A set of nodes is a mask of places in it.
pub(crate) const MAX_NODES: usize = 64;

/// A place in the table, which is in the order of node numbers and the same on all nodes.
pub(crate) type Place = usize;

/// A set of places.
pub(crate) type Mask = u64;

/// Milliseconds of a clock that never jumps and that counts from the start of the machine.
pub(crate) type Millis = u64;

/// Time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Times {
    /// A node not heard for so long is taken for dead.
    pub(crate) detect: Millis,
    /// A node that hears no cluster waits so long for others before it forms one with fewer than all.
    pub(crate) form: Millis,
}

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
pub(crate) struct View {
    /// Its number; 0 is no view.
    pub(crate) id: u64,
    /// Its members.
    pub(crate) members: Mask,
    /// Digest of its members' incarnations.
    pub(crate) digest: u64,
}

/// What a node says in each heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Says {
    /// What it is.
    pub(crate) phase: Phase,
    /// The view in force there.
    pub(crate) view: View,
    /// The view it proposes; id 0: none.
    pub(crate) proposal: View,
    /// Number of the proposal it promises, 0: none.
    pub(crate) promised: u64,
    /// The proposer of it.
    pub(crate) promised_to: Place,
}

/// What is known of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Known {
    /// Its incarnation; 0: never heard.
    incarnation: u64,
    /// When it was last heard.
    at: Millis,
    /// What it said.
    says: Says,
    /// The incarnation that there is a stream to; 0: none. Streams and heartbeats of a new life come in any order.
    link: u64,
    /// Its incarnation when this node last promised something: that which the promised view is about.
    promised: u64,
}

/// What a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// This view is in force. The node says something new: a heartbeat should go now.
    Install(View),
    /// The node says something new: a heartbeat should go now.
    Say,
    /// It is out, as it wished.
    Left,
    /// It must stop at once: it is excluded, or its view has no majority.
    Stop(Why),
}

/// Why a node must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The others have a view without it.
    Excluded,
    /// Too few members are heard.
    NoQuorum,
}

/// One node's knowledge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Core<K> {
    this: Place,
    n: usize,
    times: Times,
    started: Millis,
    /// Before that others may count on what an earlier life of this node in the same boot has promised.
    quiet_until: Millis,
    phase: Phase,
    view: View,
    proposal: View,
    promised: View,
    promised_to: Place,
    /// The largest number of a view or proposal ever seen.
    newest: u64,
    /// One for each place. The caller's, as a kernel stack does not hold a table.
    known: K,
}

const fn bit(p: Place) -> Mask {
    1 << p
}

impl<K: Deref<Target = [Known]> + DerefMut> Core<K> {
    /// A node that begins to join, in a table with as many nodes as `known` has defaults. Nobody has missed its last
    /// membership of this boot before `quiet_until`; 0: there was none.
    pub(crate) fn new(
        this: Place,
        mut known: K,
        incarnation: u64,
        times: Times,
        now: Millis,
        quiet_until: Millis,
    ) -> Self {
        let n = known.len();
        if let Some(me) = known.get_mut(this) {
            me.incarnation = incarnation;
            me.link = incarnation;
        }
        Self {
            this,
            n: if n > MAX_NODES { MAX_NODES } else { n },
            times,
            started: now,
            quiet_until,
            phase: Phase::Joining,
            view: View::default(),
            proposal: View::default(),
            promised: View::default(),
            promised_to: 0,
            newest: 0,
            known,
        }
    }

    /// Members that make a majority of the table.
    pub(crate) fn quorum(&self) -> u32 {
        (self.n / 2 + 1) as u32
    }

    /// What this node is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The incarnation known of a node; 0: none.
    pub(crate) fn incarnation(&self, p: Place) -> u64 {
        self.known.get(p).map_or(0, |k| k.incarnation)
    }

    /// What a node proposes, as far as this one heard.
    #[allow(dead_code, reason = "tests/host breaks rules with it")]
    pub(crate) fn proposal_of(&self, p: Place) -> View {
        self.known
            .get(p)
            .map_or(View::default(), |k| k.says.proposal)
    }

    /// What the next heartbeat says.
    pub(crate) fn says(&self) -> Says {
        Says {
            phase: self.phase,
            view: self.view,
            proposal: self.proposal,
            promised: self.promised.id,
            promised_to: self.promised_to,
        }
    }

    /// The nodes that are heard, this one included.
    pub(crate) fn alive(&self, now: Millis) -> Mask {
        let mut mask = bit(self.this);
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            if p != self.this && k.incarnation != 0 && now < k.at.saturating_add(self.times.detect)
            {
                mask |= bit(p);
            }
        }
        mask
    }

    /// The nodes that are heard and wait to become members, this one included.
    pub(crate) fn coming(&self, now: Millis) -> Mask {
        let alive = self.alive(now);
        let mut mask = 0;
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            let phase = if p == self.this {
                self.phase
            } else {
                k.says.phase
            };
            if alive & bit(p) != 0 && phase == Phase::Joining {
                mask |= bit(p);
            }
        }
        mask
    }

    fn digest(&self, members: Mask) -> u64 {
        let mut d = 0xcbf2_9ce4_8422_2325_u64;
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            if members & bit(p) != 0 {
                d = (d ^ (p as u64 + 1)).wrapping_mul(0x0100_0000_01b3);
                d = (d ^ k.incarnation).wrapping_mul(0x0100_0000_01b3);
                d ^= d >> 29;
            }
        }
        d
    }

    /// There is a stream to a node.
    pub(crate) fn link_up(&mut self, p: Place, incarnation: u64) {
        if let Some(k) = self.known.get_mut(p) {
            k.link = incarnation;
        }
    }

    /// Nothing is heard of a node any more: as if its time were over.
    pub(crate) fn silent(&mut self, p: Place, now: Millis) -> Effect {
        if let Some(k) = self.known.get_mut(p) {
            k.at = 0;
        }
        self.think(now)
    }

    /// There is none any more.
    pub(crate) fn link_lost(&mut self, p: Place, incarnation: u64) {
        if let Some(k) = self.known.get_mut(p) {
            if k.link == incarnation {
                k.link = 0;
            }
        }
    }

    /// Wants out.
    pub(crate) fn leave(&mut self) {
        if self.phase == Phase::Up {
            self.phase = Phase::Leaving;
        }
    }

    /// Stays after all.
    pub(crate) fn stay(&mut self) {
        if self.phase == Phase::Leaving {
            self.phase = Phase::Up;
        }
    }

    /// A heartbeat came.
    pub(crate) fn heard(&mut self, p: Place, incarnation: u64, says: Says, now: Millis) -> Effect {
        let member_before = self.view.members & bit(p) != 0;
        let Some(k) = self.known.get_mut(p) else {
            return Effect::None;
        };
        if p >= self.n || p == self.this {
            return Effect::None;
        }
        if k.incarnation != incarnation {
            if member_before && k.incarnation != 0 {
                // A member was started again: its old life is over, it is not heard as that any more. The new
                // one waits until the old one is out of the view.
                return self.silent(p, now);
            }
            k.incarnation = incarnation;
        }
        k.at = now;
        k.says = says;
        for id in [says.view.id, says.proposal.id, says.promised] {
            if id > self.newest {
                self.newest = id;
            }
        }
        self.think(now)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Millis) -> Effect {
        self.think(now)
    }

    fn lowest(mask: Mask) -> Option<Place> {
        (mask != 0).then(|| mask.trailing_zeros() as Place)
    }

    /// Those among `mask` that do not want out.
    fn staying(&self, mask: Mask) -> Mask {
        let mut out = mask;
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            let phase = if p == self.this {
                self.phase
            } else {
                k.says.phase
            };
            if phase == Phase::Leaving {
                out &= !bit(p);
            }
        }
        out
    }

    /// Draws the conclusions. All of it is repeated at every event, so that none can be missed.
    fn think(&mut self, now: Millis) -> Effect {
        let alive = self.alive(now);
        let before = self.says();
        if let Some(e) = self.must_stop(alive) {
            return e;
        }
        let mut installed = self.follow();
        if self.may_begin(now) {
            self.promise(alive);
            self.propose(alive, now);
        }
        installed = installed.or_else(|| self.conclude());
        if let Some(v) = installed {
            return Effect::Install(v);
        }
        if self.says() == before {
            Effect::None
        } else {
            Effect::Say
        }
    }

    /// Whether this node may have a part in a view. Its clock counts from the start of the machine: when that is longer
    /// ago than a time-out, everybody has missed an earlier life of it, and nobody counts on what that promised. The same
    /// is true of an earlier membership in this boot.
    fn may_begin(&self, now: Millis) -> bool {
        now >= self.times.detect.max(self.quiet_until)
    }

    /// Whether this node, if it is a member, may go on.
    fn must_stop(&self, alive: Mask) -> Option<Effect> {
        if self.phase == Phase::Joining {
            return None;
        }
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            let v = k.says.view;
            let is_member = k.says.phase != Phase::Joining && alive & bit(p) != 0 && p != self.this;
            if is_member && v.id > self.view.id && v.members & bit(self.this) == 0 {
                return Some(if self.phase == Phase::Leaving {
                    Effect::Left
                } else {
                    Effect::Stop(Why::Excluded)
                });
            }
        }
        if (alive & self.view.members).count_ones() < self.quorum() {
            return Some(Effect::Stop(Why::NoQuorum));
        }
        None
    }

    /// Takes the promised view over once somebody says that it is in force.
    fn follow(&mut self) -> Option<View> {
        if self.promised.id <= self.view.id {
            return None;
        }
        let told = |k: &Known| k.incarnation != 0 && k.says.view == self.promised;
        if self.known.iter().take(self.n).any(told) {
            return Some(self.install(self.promised));
        }
        None
    }

    fn install(&mut self, v: View) -> View {
        self.view = v;
        let this = self.this;
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            if p != this && v.members & bit(p) != 0 && k.incarnation != k.promised {
                // A later life of a member was heard of meanwhile. It waits until the one in the view is out.
                *k = Known {
                    incarnation: k.promised,
                    promised: k.promised,
                    link: k.link,
                    ..Known::default()
                };
            }
        }
        if self.phase == Phase::Joining {
            self.phase = Phase::Up;
        }
        if self.proposal.id <= v.id {
            self.proposal = View::default();
        }
        v
    }

    /// Who may propose, as far as this node knows.
    fn coordinator(&self, alive: Mask) -> Option<Place> {
        // Who has not taken its view over yet does not lead: a joiner follows the members that it hears, and they lead it.
        let mut members = 0;
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            if p != self.this && alive & bit(p) != 0 && k.says.phase != Phase::Joining {
                members |= bit(p);
            }
        }
        if self.phase != Phase::Joining {
            return Self::lowest(self.staying((members & self.view.members) | bit(self.this)));
        }
        if members != 0 {
            Self::lowest(self.staying(members))
        } else {
            Self::lowest(alive)
        }
    }

    /// Promises the coordinator's proposal, unless an earlier promise still stands.
    ///
    /// A promise is never taken back, only followed by one for a larger number: whoever was promised may have a view by
    /// it, of which this node has not heard. So no two views have one number.
    fn promise(&mut self, alive: Mask) {
        let Some(c) = self.coordinator(alive) else {
            return;
        };
        let stands = self.promised.id > self.view.id
            && alive & bit(self.promised_to) != 0
            && self
                .known
                .get(self.promised_to)
                .is_some_and(|k| k.says.proposal == self.promised);
        if c == self.this || stands {
            return;
        }
        let Some(v) = self.known.get(c).map(|k| k.says.proposal) else {
            return;
        };
        if v.id > self.view.id.max(self.promised.id)
            && v.members & bit(self.this) != 0
            && v.members & !alive == 0
            && v.members.count_ones() >= self.quorum()
            && v.digest == self.digest(v.members)
        {
            self.keep_promise(v, c);
        }
    }

    fn keep_promise(&mut self, v: View, to: Place) {
        self.promised = v;
        self.promised_to = to;
        for k in self.known.iter_mut() {
            k.promised = k.incarnation;
        }
    }

    /// The members that a view should have now.
    fn wanted(&self, alive: Mask, now: Millis) -> Mask {
        let mut mask = if self.phase == Phase::Joining {
            bit(self.this)
        } else {
            self.staying(alive & self.view.members)
        };
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            let joins =
                alive & bit(p) != 0 && k.link == k.incarnation && k.says.phase == Phase::Joining;
            if p != self.this && joins {
                mask |= bit(p);
            }
        }
        if self.phase == Phase::Joining {
            let all = mask.count_ones() as usize == self.n;
            let waited = now >= self.started.saturating_add(self.times.form);
            if !all && !waited {
                return 0;
            }
        }
        mask
    }

    /// Proposes, if that is this node's to do.
    fn propose(&mut self, alive: Mask, now: Millis) {
        let mine = self.coordinator(alive) == Some(self.this);
        let wanted = self.wanted(alive, now);
        // A member that has promised more than this view waits for what nobody proposes any more: it needs a new one.
        let ahead = |(p, k): (Place, &Known)| {
            p != self.this && wanted & bit(p) != 0 && k.says.promised > self.view.id
        };
        let is_settled =
            wanted == self.view.members && !self.known.iter().enumerate().take(self.n).any(ahead);
        if !mine || wanted.count_ones() < self.quorum() || is_settled {
            if !mine || self.proposal.members != wanted {
                self.proposal = View::default();
            }
            return;
        }
        let digest = self.digest(wanted);
        // A member that has promised this number, or a larger one, to another node will not promise it to this one.
        let this = self.this;
        let now = self.proposal;
        let taken = |(p, k): (Place, &Known)| {
            let other = k.says.promised == now.id && k.says.promised_to != this;
            p != this && now.members & bit(p) != 0 && (other || k.says.promised > now.id)
        };
        let is_hopeless = self.known.iter().enumerate().take(self.n).any(taken);
        if now.id != 0 && now.members == wanted && now.digest == digest && !is_hopeless {
            return;
        }
        self.newest = self.newest.max(self.view.id).saturating_add(1);
        self.proposal = View {
            id: self.newest,
            members: wanted,
            digest,
        };
        self.keep_promise(self.proposal, self.this);
    }

    /// The own proposal, if every member of it has promised it.
    fn conclude(&mut self) -> Option<View> {
        let v = self.proposal;
        if v.id == 0 {
            return None;
        }
        for (p, k) in self.known.iter().enumerate().take(self.n) {
            let promised = k.says.promised == v.id && k.says.promised_to == self.this;
            if p != self.this && v.members & bit(p) != 0 && !promised {
                return None;
            }
        }
        self.proposal = View::default();
        Some(self.install(v))
    }
}
