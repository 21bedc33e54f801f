// SPDX-License-Identifier: GPL-2.0

//! Who is a member: a pure state machine. Imports nothing but `core` and `places`; `tests/host` checks it.
//!
//! Everything is said in heartbeats, which may be lost, doubled or late: what a node is, its view, the view it proposes,
//! the proposal it promises, whom it hears. There is nothing to resend, for a heartbeat repeats it all.
//!
//! **Heard** is a node that answers: its heartbeat names one of this node's, and counts from the time when that one was
//! sent. So who hears only one way does not hear, and what is old, late or replayed proves nothing.
//!
//! **One node proposes**: the lowest of the best set of members that hear each other and have a majority, or, where there
//! is no view yet, of such joiners. A proposal names members that hear each other, and their incarnations. It becomes a
//! view when every member of it has promised it. A node promises one proposal at a time, for as long as its proposer leads
//! and proposes it, and never one with a number not larger than those before. So of two proposals with a node in
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
//!
//! **The table** of nodes changes by views too: see [`table`].

// Where they are is said, as hosts include this file by its path.
#[path = "state/input.rs"]
mod input;
#[path = "state/lease.rs"]
mod lease;
#[path = "state/proposals.rs"]
mod proposals;
#[path = "state/says.rs"]
mod says;
#[path = "state/table.rs"]
mod table;
#[path = "state/together.rs"]
mod together;

use crate::places::Place;
use crate::places::Places;
use core::borrow::Borrow;
use core::ops::Deref;
use core::ops::DerefMut;

pub(crate) use input::Input;
pub(crate) use says::Answer;
pub(crate) use says::Heartbeat;
pub(crate) use says::Phase;
pub(crate) use says::Says;
pub(crate) use says::View;
pub(crate) use table::Change;
pub(crate) use table::Unfit;
use together::Search;

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

/// What is known of another node. `S` holds what it says: [`Says`], or something that points to it. The default is that of a vacant
/// place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Known<S> {
    row: Option<Row>,
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
            row: Some(row),
            ..Self::default()
        }
    }
}

impl<S> Known<S> {
    fn is_over(&self) -> bool {
        self.over != 0 && self.over == self.incarnation
    }
}

impl<S: Default> Known<S> {
    /// Another life is known: nothing that the one before has said counts for it.
    fn turn_to(&mut self, incarnation: u64) {
        *self = Self {
            row: self.row,
            incarnation,
            heard: self.heard,
            supported: self.supported,
            supported_life: self.supported_life,
            over: self.over,
            over_since: self.over_since,
            link: self.link,
            promised: self.promised,
            ..Self::default()
        };
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
    /// It is out, as it wished: the others have a view without it, or it has lost its lease while it waited for that. The
    /// last effect of all.
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
    /// Places below which all rows are.
    n: usize,
    /// Places that have a row.
    rows: Places<W>,
    /// Digest of the table.
    table: u64,
    staged: Option<Change>,
    /// The next life begins with this table.
    settled: bool,
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
    /// Since when this node acts though there is no team; 0: it is not so.
    torn_since: Millis,
    /// [`Effect::Left`] has been.
    has_left: bool,
    /// Votes of all.
    votes: u32,
    /// Who has one vote.
    single: Places<W>,
    witnesses: Places<W>,
    /// What was found last of who belongs together.
    search: Search<W>,
    /// One for each place. The caller's, as a kernel stack does not hold a table.
    known: K,
}

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    /// A node that begins to join, in the table of `known`, which has that digest. Nobody has missed its last membership
    /// before `quiet_until`; 0: there was none in this boot.
    pub(crate) fn new(
        this: Place,
        mut known: K,
        table: u64,
        incarnation: u64,
        times: Times,
        now: Millis,
        quiet_until: Millis,
    ) -> Self {
        if let Some(me) = known.get_mut(this) {
            me.incarnation = incarnation;
            me.link = incarnation;
        }
        let mut core = Self {
            this,
            n: 0,
            rows: Places::EMPTY,
            table,
            staged: None,
            settled: true,
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
            torn_since: 0,
            has_left: false,
            votes: 0,
            single: Places::EMPTY,
            witnesses: Places::EMPTY,
            search: Search::default(),
            known,
        };
        core.count();
        core
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
        let others = set.minus(&self.single);
        let votes: u32 = others
            .iter()
            .filter_map(|p| self.known.get(p)?.row)
            .map(|r| u32::from(r.votes))
            .sum();
        // CAST: at most `ROOM`.
        votes + set.and(&self.single).len() as u32
    }

    /// Votes that make a majority of the table.
    pub(crate) fn quorum(&self) -> u32 {
        self.votes / 2 + 1
    }

    /// Whether a set has a majority.
    pub(crate) fn is_quorate(&self, set: &Places<W>) -> bool {
        self.votes(set) >= self.quorum()
    }

    fn without_witnesses(&self, set: Places<W>) -> Places<W> {
        set.minus(&self.witnesses)
    }

    /// What this node is.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The incarnation known of a node; 0: none.
    pub(crate) fn incarnation(&self, p: Place) -> u64 {
        self.known.get(p).map_or(0, |k| k.incarnation)
    }

    /// Whether [`Effect::Left`] has been: nothing comes after it.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left
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
            table: self.table,
            staged: self.staged().unwrap_or(0),
            view: self.view,
            proposal: self.proposal,
            promised: self.promised.id,
            promised_to: self.promised_to,
            hears: self.hears,
            over: self.over,
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

    /// Wants out, unless the rest of the view has no majority. Until it is out it stays under its lease, and it stays a
    /// member if others leave first and the rest would have no majority then.
    pub(crate) fn leave(&mut self) {
        if self.phase == Phase::Up && self.may_leave() {
            self.phase = Phase::Leaving;
        }
    }

    /// Stays after all.
    pub(crate) fn stay(&mut self) {
        if self.phase == Phase::Leaving && !self.has_left {
            self.phase = Phase::Up;
        }
    }

    /// A heartbeat came. Costs what its news are worth: what many heartbeats change is thought over when time passes, if
    /// there is much of it.
    pub(crate) fn heard(&mut self, p: Place, h: Heartbeat<S>, now: Millis) -> Effect<W> {
        let is_member = self.view.members.contains(p);
        let was_heard = self.hears.contains(p);
        if !self.rows.contains(p) || p == self.this {
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
            k.turn_to(h.incarnation);
            k.came = now;
            self.supports.remove(p);
            self.search.is_old = true;
        }
        let is_news = k.says != h.says || (h.supports != 0 && k.backed_in != h.supports);
        self.search.is_old |= k.says != h.says && !h.says.borrow().is_as_near(k.says.borrow());
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
        let is_urgent = is_news && self.is_urgent(p);
        if is_urgent || ((is_news || !was_heard) && self.search.may_think(self.n)) {
            self.think(now)
        } else {
            Effect::None
        }
    }

    /// Whether what a node says now is such that this one has to act on it: it proposes, promises, or has a view.
    fn is_urgent(&self, p: Place) -> bool {
        let Some(k) = self.known.get(p) else {
            return false;
        };
        let says: &Says<W> = k.says.borrow();
        let proposes = says.proposal.id > self.promised.id.max(self.view.id);
        let promises = self.proposal.id != 0 && says.promised == self.proposal.id;
        let has_promised = self.promised.id > self.view.id && says.view == self.promised;
        let excludes = says.view.id > self.view.id && !says.view.members.contains(self.this);
        proposes || promises || has_promised || (excludes && self.phase != Phase::Joining)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Millis) -> Effect<W> {
        self.search.begins_anew();
        let effect = self.think(now);
        self.search.begins_anew();
        effect
    }

    /// Draws the conclusions. All of it is repeated at every event, so that none can be missed.
    fn think(&mut self, now: Millis) -> Effect<W> {
        if self.has_left {
            return Effect::None;
        }
        let alive = self.alive(now);
        self.adopt(&alive);
        let alive = alive.and(&self.rows);
        // Who may not begin yet says that it hears nobody: so nobody waits for what it cannot promise.
        self.hears = if self.may_begin(now) {
            alive
        } else {
            Places::one(self.this)
        };
        let before = (self.proposal.id, self.promised.id);
        if let Some(e) = self.must_stop(&alive, now) {
            self.has_left = e == Effect::Left;
            if self.has_left {
                self.supports = Places::EMPTY;
            }
            return e;
        }
        let mut installed = self.follow(now);
        // Somebody may be out of the table since then.
        let alive = alive.and(&self.rows);
        let mut is_mine = false;
        if self.may_begin(now) {
            // Without a new team nothing is promised or proposed, and nobody is supported again.
            if let Some(team) = self.find_team(&alive) {
                self.note_torn(&team, now);
                self.giving_up = Places::EMPTY;
                self.promise(&alive, &team, now);
                self.propose(&alive, &team, now);
            }
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
}
