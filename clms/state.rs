// SPDX-License-Identifier: GPL-2.0

//! Who is a member: a pure state machine. Imports nothing but `core` and `places`; `tests/host` checks it.
//!
//! Everything is said in heartbeats, which may be lost, doubled or late: what a node is, its view, the view it proposes,
//! the proposal it promises, whom it hears. There is nothing to resend, for a heartbeat repeats it all.
//!
//! **Heard** is a node that answers: its heartbeat names one of this node's, and counts from the time when that one was
//! sent. So who hears only one way does not hear, and what is old, late or replayed proves nothing.
//!
//! **One node proposes**: the lowest member that is heard and not leaving, or, where there is no view yet, the lowest of a
//! majority that hears each other. A proposal names members that hear each other, and their incarnations. It becomes a
//! view when every member of it has promised it. A node promises one proposal at a time, for as long as its proposer is
//! heard and proposes it, and never one with a number not larger than those before. So of two proposals with a node in
//! common and one number at most one becomes a view, and as a view needs a majority of the votes, any two have a node in
//! common.
//!
//! **The lease** keeps a node that is out from acting on. A node supports, in its heartbeats, the members of its view or
//! of the one it has promised. A member acts for `lease` after the sending of those of its heartbeats that supporters with
//! a majority of the votes have answered, then it stops itself. Nobody promises a view without a node before `judge` has
//! passed since the last heartbeat of that node which it may have answered with support; `judge` is longer than `lease`.
//! Two majorities have a node in common: so when a view is in force, whoever it leaves out has stopped. And a promise is
//! kept in mind: the view may be in force unheard of, so a life that it leaves out is over, and gets no support any more,
//! whatever is promised later.

use crate::places::Place;
use crate::places::Places;
use core::borrow::Borrow;
use core::ops::Deref;
use core::ops::DerefMut;

/// Milliseconds of a clock that never jumps and that counts from the start of the machine.
pub(crate) type Millis = u64;

/// Time-outs. `lease < judge <= detect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Times {
    /// A node not heard for so long is taken for dead.
    pub(crate) detect: Millis,
    /// A node that hears no cluster waits so long for others before it forms one with fewer than all.
    pub(crate) form: Millis,
    /// A member may act for so long on the support of others.
    pub(crate) lease: Millis,
    /// By this time after its last support a member has stopped, by anybody's clock.
    pub(crate) judge: Millis,
}

impl Times {
    /// Those that go with a time of detection: clocks may differ by an eleventh.
    pub(crate) const fn new(detect: Millis, form: Millis) -> Self {
        Self {
            detect,
            form,
            lease: detect * 11 / 16,
            judge: detect * 12 / 16,
        }
    }
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
pub(crate) struct View<const W: usize> {
    /// Its number; 0 is no view.
    pub(crate) id: u64,
    /// Its members.
    pub(crate) members: Places<W>,
    /// Digest of its members' incarnations.
    pub(crate) digest: u64,
}

/// What a node says in each heartbeat, to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Says<const W: usize> {
    /// What it is.
    pub(crate) phase: Phase,
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

/// A node of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    /// What it counts in a majority.
    pub(crate) votes: u8,
    /// It votes, and is nothing else: it never leads, and no one above sees it.
    pub(crate) is_witness: bool,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            votes: 1,
            is_witness: false,
        }
    }
}

/// What is known of another node. `S` holds what it says: [`Says`], or something that points to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Known<S> {
    row: Row,
    /// Its incarnation; 0: never heard.
    incarnation: u64,
    /// When the last own heartbeat was sent that it answered.
    at: Millis,
    /// When the last heartbeat of that incarnation came.
    came: Millis,
    /// The last heartbeat of any of its lives: what it is answered.
    heard: (u64, u64),
    /// When the last own heartbeat was sent that it answered with support.
    backed: Millis,
    /// Number of the view that it supported this node in.
    backed_in: u64,
    /// When the last heartbeat came that may have been answered with support, and from which life; 0: none.
    supported: Millis,
    supported_life: u64,
    /// A life that this node has supported, and then promised a view without: that may be in force, unheard of, so the
    /// life is never supported again, and in no view any more. Unless it proves later that it is no member yet. 0: none.
    over: u64,
    over_since: Millis,
    /// What it said.
    says: S,
    /// The incarnation that there is a stream to; 0: none. Streams and heartbeats of a new life come in any order.
    link: u64,
    /// Its incarnation when this node last promised something: that which the promised view is about.
    promised: u64,
}

impl<S: Default> Known<S> {
    /// A node that was never heard.
    pub(crate) fn new(row: Row) -> Self {
        Self {
            row,
            ..Self::default()
        }
    }
}

impl<S> Known<S> {
    fn is_over(&self) -> bool {
        self.over != 0 && self.over == self.incarnation
    }
}

/// What a step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Effect<const W: usize> {
    /// Nothing.
    None,
    /// This view is in force. If it was made here, everybody should hear so now; else the next heartbeat will do.
    Install { view: View<W>, is_mine: bool },
    /// The node says something new to all: heartbeats should go now.
    Say,
    /// It says something new to one: a heartbeat should go there now.
    SayTo(Place),
    /// It is out, as it wished.
    Left,
    /// It must stop at once: it is excluded, or it has no majority.
    Stop(Why),
}

/// Why a node must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// The others have a view without it.
    Excluded,
    /// Its lease has ended: those that support it have no majority.
    NoQuorum,
}

/// One node's knowledge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Core<K, const W: usize> {
    this: Place,
    n: usize,
    times: Times,
    started: Millis,
    /// Before that others may count on what an earlier life of this node has promised or supported.
    quiet_until: Millis,
    phase: Phase,
    view: View<W>,
    proposal: View<W>,
    promised: View<W>,
    promised_to: Place,
    /// Whom the last step heard.
    hears: Places<W>,
    /// When this node last supported anybody, or was a member.
    supported: Millis,
    /// Those whose life is over.
    over: Places<W>,
    /// Members that this node does not support any more, as it is about to promise a view without them.
    giving_up: Places<W>,
    /// Whom this node supports.
    supports: Places<W>,
    /// The largest number of a view or proposal ever seen.
    newest: u64,
    /// One for each place. The caller's, as a kernel stack does not hold a table.
    known: K,
}

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    /// A node that begins to join, in the table of `known`. Nobody has missed its last membership before `quiet_until`;
    /// 0: there was none in this boot.
    pub(crate) fn new(
        this: Place,
        mut known: K,
        incarnation: u64,
        times: Times,
        now: Millis,
        quiet_until: Millis,
    ) -> Self {
        if let Some(me) = known.get_mut(this) {
            me.incarnation = incarnation;
            me.link = incarnation;
        }
        Self {
            this,
            n: known.len().min(Places::<W>::ROOM),
            times,
            started: now,
            quiet_until,
            phase: Phase::Joining,
            view: View::default(),
            proposal: View::default(),
            promised: View::default(),
            promised_to: 0,
            hears: Places::one(this),
            supported: 0,
            over: Places::EMPTY,
            giving_up: Places::EMPTY,
            supports: Places::EMPTY,
            newest: 0,
            known,
        }
    }

    fn rows<'a>(&'a self) -> impl Iterator<Item = (Place, &'a Known<S>)>
    where
        S: 'a,
    {
        self.known.iter().enumerate().take(self.n)
    }

    fn others<'a>(&'a self) -> impl Iterator<Item = (Place, &'a Known<S>)>
    where
        S: 'a,
    {
        let this = self.this;
        self.rows().filter(move |(p, _)| *p != this)
    }

    /// Votes of a set.
    fn votes(&self, set: &Places<W>) -> u32 {
        set.iter()
            .filter_map(|p| self.known.get(p))
            .map(|k| u32::from(k.row.votes))
            .sum()
    }

    /// Votes that make a majority of the table.
    pub(crate) fn quorum(&self) -> u32 {
        let all: u32 = self.rows().map(|(_, k)| u32::from(k.row.votes)).sum();
        all / 2 + 1
    }

    /// Whether a set has a majority.
    pub(crate) fn is_quorate(&self, set: &Places<W>) -> bool {
        self.votes(set) >= self.quorum()
    }

    fn without_witnesses(&self, mut set: Places<W>) -> Places<W> {
        for (p, k) in self.rows() {
            if k.row.is_witness {
                set.remove(p);
            }
        }
        set
    }

    /// What this node is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The incarnation known of a node; 0: none.
    pub(crate) fn incarnation(&self, p: Place) -> u64 {
        self.known.get(p).map_or(0, |k| k.incarnation)
    }

    /// Whether the rest of the view has a majority without this node.
    pub(crate) fn may_leave(&self) -> bool {
        self.is_quorate(&self.view.members.minus(&Places::one(self.this)))
    }

    /// What a node proposes, as far as this one heard.
    #[allow(dead_code, reason = "tests/host breaks rules with it")]
    pub(crate) fn proposal_of(&self, p: Place) -> View<W> {
        self.known
            .get(p)
            .map_or(View::default(), |k| k.says.borrow().proposal)
    }

    /// What the next heartbeat says to all.
    pub(crate) fn says(&self) -> Says<W> {
        Says {
            phase: self.phase,
            view: self.view,
            proposal: self.proposal,
            promised: self.promised.id,
            promised_to: self.promised_to,
            hears: self.hears,
            over: self.over,
        }
    }

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

    /// The nodes that are heard, this one included.
    pub(crate) fn alive(&self, now: Millis) -> Places<W> {
        let mut set = Places::one(self.this);
        for (p, k) in self.others() {
            if k.at != 0 && now < k.at.saturating_add(self.times.detect) {
                set.insert(p);
            }
        }
        set
    }

    /// The nodes that are heard and wait to become members, this one included.
    pub(crate) fn coming(&self, now: Millis) -> Places<W> {
        self.in_phase(self.alive(now), Phase::Joining)
    }

    fn phase_of(&self, p: Place, k: &Known<S>) -> Phase {
        if p == self.this {
            self.phase
        } else {
            k.says.borrow().phase
        }
    }

    fn in_phase(&self, mut set: Places<W>, phase: Phase) -> Places<W> {
        for (p, k) in self.rows() {
            if self.phase_of(p, k) != phase {
                set.remove(p);
            }
        }
        set
    }

    /// Whether supporters with a majority were last heard so late that this node may act at `time`.
    pub(crate) fn may_act(&self, time: Millis) -> bool {
        self.is_backed(time, |_| true)
    }

    /// Whether it may begin to act in that view.
    fn may_enter(&self, id: u64, now: Millis) -> bool {
        // What others support it in later may be in force without this one: it enters that, or none.
        self.phase != Phase::Joining || self.is_backed(now, |k| k.backed_in == id)
    }

    fn is_backed(&self, time: Millis, counts: impl Fn(&Known<S>) -> bool) -> bool {
        let mut backers = Places::one(self.this);
        for (p, k) in self.others() {
            if k.backed != 0 && time < k.backed.saturating_add(self.times.lease) && counts(k) {
                backers.insert(p);
            }
        }
        self.is_quorate(&backers)
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

    fn digest(&self, members: &Places<W>) -> u64 {
        let mut d = 0xcbf2_9ce4_8422_2325_u64;
        for p in members.iter() {
            d = (d ^ (p as u64 + 1)).wrapping_mul(0x0100_0000_01b3);
            d = (d ^ self.incarnation(p)).wrapping_mul(0x0100_0000_01b3);
            d ^= d >> 29;
        }
        d
    }

    /// There is a stream to a node.
    pub(crate) fn link_up(&mut self, p: Place, incarnation: u64) {
        if let Some(k) = self.known.get_mut(p) {
            k.link = incarnation;
        }
    }

    /// There is none any more.
    pub(crate) fn link_lost(&mut self, p: Place, incarnation: u64) {
        if let Some(k) = self.known.get_mut(p) {
            if k.link == incarnation {
                k.link = 0;
            }
        }
    }

    /// As if all the times of a node were over.
    #[allow(dead_code, reason = "tests/host has a world without time")]
    pub(crate) fn silent(&mut self, p: Place, now: Millis) -> Effect<W> {
        if let Some(k) = self.known.get_mut(p) {
            (k.at, k.backed, k.supported) = (0, 0, 0);
        }
        self.think(now)
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
    pub(crate) fn heard(&mut self, p: Place, h: Heartbeat<S>, now: Millis) -> Effect<W> {
        let is_member = self.view.members.contains(p);
        let was_heard = self.hears.contains(p);
        if p >= self.n || p == self.this {
            return Effect::None;
        }
        let Some(k) = self.known.get_mut(p) else {
            return Effect::None;
        };
        // Even one that proves nothing is answered, and its sender acts on the answer.
        k.heard = (h.incarnation, h.seq);
        if k.incarnation == h.incarnation {
            k.came = now;
            if self.supports.contains(p) {
                k.supported = now;
            }
        }
        let Some(sent) = h.answers else {
            return Effect::None;
        };
        if k.incarnation != h.incarnation {
            if is_member && k.incarnation != 0 {
                // A member was started again: its old life is not heard any more. The new one waits until the old one is
                // out of the view.
                k.at = 0;
                return self.think(now);
            }
            *k = Known {
                row: k.row,
                incarnation: h.incarnation,
                came: now,
                heard: k.heard,
                supported: k.supported,
                supported_life: k.supported_life,
                over: k.over,
                over_since: k.over_since,
                link: k.link,
                promised: k.promised,
                ..Known::default()
            };
        }
        let is_news = k.says != h.says || (h.supports != 0 && k.backed_in != h.supports);
        k.at = k.at.max(sent);
        if h.supports != 0 {
            k.backed = k.backed.max(sent);
            k.backed_in = h.supports;
        }
        k.says = h.says;
        let says: &Says<W> = k.says.borrow();
        if says.phase == Phase::Joining && sent >= k.over_since {
            k.over = 0;
        }
        let newest = says.view.id.max(says.proposal.id).max(says.promised);
        self.newest = self.newest.max(newest);
        if is_news || !was_heard {
            self.think(now)
        } else {
            Effect::None
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Millis) -> Effect<W> {
        self.think(now)
    }

    /// Draws the conclusions. All of it is repeated at every event, so that none can be missed.
    fn think(&mut self, now: Millis) -> Effect<W> {
        let alive = self.alive(now);
        self.hears = alive;
        self.giving_up = Places::EMPTY;
        let before = (self.proposal.id, self.promised.id);
        if let Some(e) = self.must_stop(&alive, now) {
            return e;
        }
        let mut installed = self.follow(now);
        let mut is_mine = false;
        if self.may_begin(now) {
            self.promise(&alive, now);
            self.propose(&alive, now);
            if installed.is_none() {
                installed = self.conclude(now);
                is_mine = installed.is_some();
            }
        }
        self.support(&alive, now);
        if let Some(view) = installed {
            return Effect::Install { view, is_mine };
        }
        if self.proposal.id != 0 && self.proposal.id != before.0 {
            Effect::Say
        } else if self.promised.id != before.1 {
            Effect::SayTo(self.promised_to)
        } else {
            Effect::None
        }
    }

    /// Whether this node may have a part in a view. Its clock counts from the start of the machine: when that is longer
    /// ago than a time-out, everybody has missed an earlier life of it, and nobody counts on what that promised or
    /// supported. The same is true of an earlier membership in this boot.
    fn may_begin(&self, now: Millis) -> bool {
        now >= self.times.detect.max(self.quiet_until)
    }

    /// Whether this node, if it is a member, may go on.
    fn must_stop(&self, alive: &Places<W>, now: Millis) -> Option<Effect<W>> {
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
        if self.others().any(excludes) {
            return Some(if self.phase == Phase::Leaving {
                Effect::Left
            } else {
                Effect::Stop(Why::Excluded)
            });
        }
        // Who wants out does not act any more. If it stays after all, its lease counts again.
        let acts = self.phase == Phase::Up;
        (acts && !self.may_act(now)).then_some(Effect::Stop(Why::NoQuorum))
    }

    /// Whether somebody says that the promised view is in force.
    fn is_in_force(&self) -> bool {
        self.others()
            .any(|(_, k)| k.incarnation != 0 && k.says.borrow().view == self.promised)
    }

    /// Takes the promised view over once somebody says that it is in force.
    fn follow(&mut self, now: Millis) -> Option<View<W>> {
        if self.promised.id <= self.view.id {
            return None;
        }
        (self.is_in_force() && self.may_enter(self.promised.id, now))
            .then(|| self.install(self.promised))
    }

    fn install(&mut self, v: View<W>) -> View<W> {
        self.view = v;
        let this = self.this;
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            if p != this && v.members.contains(p) && k.incarnation != k.promised {
                // A later life of a member was heard of meanwhile. It waits until the one in the view is out.
                *k = Known {
                    row: k.row,
                    incarnation: k.promised,
                    promised: k.promised,
                    heard: k.heard,
                    supported: k.supported,
                    supported_life: k.supported_life,
                    over: k.over,
                    over_since: k.over_since,
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

    /// Those among `set` that do not want out.
    fn staying(&self, set: Places<W>) -> Places<W> {
        let out = self.in_phase(set, Phase::Leaving);
        set.minus(&out)
    }

    /// The members that a member hears and that stay: those of its view, and those with a view that it has missed. It is
    /// in that, or it would have stopped.
    fn peers(&self, alive: &Places<W>) -> Places<W> {
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
    fn in_majority(&self, alive: &Places<W>) -> Places<W> {
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
    fn coordinator(&self, alive: &Places<W>) -> Option<Place> {
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

    /// Whether everybody that this node has supported and that is not among `members` has stopped by now.
    fn may_exclude(&self, members: &Places<W>, now: Millis) -> bool {
        let is_over = |(p, k): (Place, &Known<S>)| {
            let stays = members.contains(p) && k.incarnation == k.supported_life;
            // Who wants out is waited for too: it may stay after all.
            k.supported == 0 || stays || now >= k.supported.saturating_add(self.times.judge)
        };
        self.others().all(is_over)
    }

    /// Whether what this node has promised is still proposed.
    fn is_proposed(&self, alive: &Places<W>) -> bool {
        if self.promised_to == self.this {
            return self.proposal == self.promised;
        }
        let proposer = self.known.get(self.promised_to);
        alive.contains(self.promised_to)
            && proposer.is_some_and(|k| k.says.borrow().proposal == self.promised)
    }

    /// Promises the coordinator's proposal, unless an earlier promise still stands.
    ///
    /// A promise is never taken back, only followed by one for a larger number: whoever was promised may have a view by
    /// it, of which this node has not heard. So no two views have one number.
    fn promise(&mut self, alive: &Places<W>, now: Millis) {
        let Some(c) = self.coordinator(alive) else {
            return;
        };
        if c == self.this || (self.promised.id > self.view.id && self.is_proposed(alive)) {
            return;
        }
        let Some(v) = self.known.get(c).map(|k| k.says.borrow().proposal) else {
            return;
        };
        if v.id > self.view.id.max(self.promised.id)
            && v.members.contains(self.this)
            && v.members.minus(alive).is_empty()
            && self.is_quorate(&v.members)
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

    fn has_ended_life(&self, members: &Places<W>) -> bool {
        let mut others = self.others();
        others.any(|(p, k)| members.contains(p) && k.is_over())
    }

    /// Lives that this node has supported and that are not in the view are over.
    fn close(&mut self, v: &View<W>, now: Millis) {
        for (p, k) in self.known.iter_mut().enumerate().take(self.n) {
            let is_out = !v.members.contains(p) || k.incarnation != k.supported_life;
            if k.supported_life != 0 && is_out {
                (k.over, k.over_since) = (k.supported_life, now);
            }
        }
    }

    fn keep_promise(&mut self, v: View<W>, to: Place) {
        self.promised = v;
        self.promised_to = to;
        for k in self.known.iter_mut() {
            k.promised = k.incarnation;
        }
    }

    /// Notes whom this node supports from now on: the members of its view, or of a later one that it has promised, as
    /// long as it hears them and does not mean to promise a view without them.
    fn support(&mut self, alive: &Places<W>, now: Millis) {
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

    /// Whether two nodes say of each other that they do not hear each other. What only one says is not counted: it may
    /// have been the first to miss a node that is dead.
    fn are_apart(&self, a: Place, b: Place) -> bool {
        let misses = |by: Place, whom: Place| {
            self.known
                .get(by)
                .is_some_and(|k| !k.says.borrow().hears.contains(whom))
        };
        a != b && a != self.this && b != self.this && misses(a, b) && misses(b, a)
    }

    /// Of a set of nodes that this one hears, those that hear each other too: who is apart from most goes first, of
    /// equals the highest.
    fn together(&self, mut set: Places<W>) -> Places<W> {
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

    /// The members that a view should have now.
    fn wanted(&self, alive: &Places<W>, now: Millis) -> Places<W> {
        let mut set = if self.phase == Phase::Joining {
            Places::one(self.this)
        } else {
            self.together(self.peers(alive))
        };
        for (p, k) in self.others() {
            let says: &Says<W> = k.says.borrow();
            let has_stream = k.row.is_witness || k.link == k.incarnation;
            let joins =
                alive.contains(p) && has_stream && says.phase == Phase::Joining && !k.is_over();
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
        if self.phase == Phase::Joining {
            let all = set.len() == self.n;
            let waited = now >= self.started.saturating_add(self.times.form);
            if !all && !waited {
                return Places::EMPTY;
            }
        }
        set
    }

    /// Proposes, if that is this node's to do.
    fn propose(&mut self, alive: &Places<W>, now: Millis) {
        let mine = self.coordinator(alive) == Some(self.this);
        let wanted = if mine {
            self.wanted(alive, now)
        } else {
            Places::EMPTY
        };
        // A member that has promised more than this view waits for what nobody proposes any more: it needs a new one.
        let ahead = |(p, k): (Place, &Known<S>)| {
            wanted.contains(p) && k.says.borrow().promised > self.view.id
        };
        // So does this node, if it gave up a proposal of its own: it would not support whom that left out.
        let is_settled = wanted == self.view.members
            && self.promised.id <= self.view.id
            && !self.others().any(ahead);
        if !mine || !self.is_quorate(&wanted) || is_settled {
            if !mine || self.proposal.members != wanted {
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
        if last.id != 0 && last.members == wanted && last.digest == digest && !is_hopeless {
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

    /// The own proposal, if every member of it has promised it and whoever is not in it has stopped.
    fn conclude(&mut self, now: Millis) -> Option<View<W>> {
        let v = self.proposal;
        if v.id == 0 {
            return None;
        }
        let is_promised = |(p, k): (Place, &Known<S>)| {
            let says: &Says<W> = k.says.borrow();
            !v.members.contains(p) || (says.promised == v.id && says.promised_to == self.this)
        };
        let may_enter = self.may_enter(v.id, now);
        if !self.others().all(is_promised) || !self.may_exclude(&v.members, now) || !may_enter {
            return None;
        }
        self.close(&v, now);
        self.proposal = View::default();
        Some(self.install(v))
    }
}
