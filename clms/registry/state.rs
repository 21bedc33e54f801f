// SPDX-License-Identifier: GPL-2.0

//! One order of changes on all members: a pure state machine. Imports nothing but `core`; `tests/host/registry` checks it
//! exhaustively.
//!
//! In each view its master leads. It *prepares* one change at a time at all members, and *commits* it when all of them
//! have it. In a new view every member reports how far it is, which is also its promise: it takes nothing more of an
//! earlier view. When all have reported, the master takes the contents of the furthest one, has every member take them
//! too, and then leads.
//!
//! What makes it safe: every change that was committed in a view was prepared at all members of that view while they were in
//! it, and a life that a view leaves out is in no later one. So whoever has contents at all has every change that was
//! committed before: it was in that view, or was given contents of a later one, which have it by the same argument. The
//! furthest contents are those of the latest view, and of these the longest: one node has made their order.
//!
//! In the cluster's first view all have contents: none. Later a view may be left with members that were given none yet. Then
//! nobody leads: they wait, for what was committed is not to be had any more.
//!
//! A request has a number of its node and its life, and its outcome is part of the contents: who asks again in a
//! later view gets the outcome of the first time.

use core::ops::Deref;
use core::ops::DerefMut;

/// A place in the table of nodes.
pub(crate) type Place = usize;

/// A set of places.
pub(crate) type Mask = u64;

fn bit(p: Place) -> Mask {
    u32::try_from(p)
        .ok()
        .and_then(|p| 1u64.checked_shl(p))
        .unwrap_or(0)
}

/// What the changes are made to.
pub(crate) trait Machine {
    /// A change.
    type Op: Copy + Eq;
    /// What became of one.
    type Outcome: Copy + Eq;

    /// Makes change number `seq`. Depends on nothing but the changes before it.
    fn apply(&mut self, seq: u64, op: &Self::Op) -> Self::Outcome;
}

/// A change that a node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request<O> {
    /// The node.
    pub(crate) by: Place,
    /// Its life.
    pub(crate) life: u64,
    /// The number of the request in that life, from 1 on.
    pub(crate) number: u64,
    /// The change.
    pub(crate) op: O,
}

/// The last request of a node that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Done<T> {
    /// The life it is of; 0: none is done.
    pub(crate) life: u64,
    /// Its number in that life.
    pub(crate) number: u64,
    /// What became of it.
    pub(crate) outcome: Option<T>,
}

impl<T> Done<T> {
    /// None yet.
    pub(crate) const NONE: Self = Self {
        life: 0,
        number: 0,
        outcome: None,
    };

    /// Whether a request is done. Of lives there is no order: another node may have the place now, whose clock is behind. One of a
    /// life before is committed before any of the life that is a member then, as it was prepared already, and is not taken any more.
    fn covers<O>(&self, r: &Request<O>) -> bool {
        self.life == r.life && self.number >= r.number
    }
}

/// How far contents are. The later view is further, in one view the longer contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The view whose members took these contents; 0: nobody gave any.
    pub(crate) view: u64,
    /// Changes in them, a prepared one included.
    pub(crate) seq: u64,
}

/// What is known of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer<O, T> {
    /// Part of the contents.
    done: Done<T>,
    /// What it wants of this node as the master of that view.
    wants: Option<(u64, Request<O>)>,
    /// How far it was when it came into that view.
    report: (u64, Position),
}

impl<O, T> Peer<O, T> {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        done: Done::NONE,
        wants: None,
        report: (0, Position { view: 0, seq: 0 }),
    };
}

/// All that a node must have to go on in another one's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contents<M, D, O> {
    /// Committed changes.
    pub(crate) seq: u64,
    /// The change after them, if one was prepared.
    pub(crate) prepared: Option<Request<O>>,
    /// What they were made to.
    pub(crate) machine: M,
    /// The last request of each node that is done.
    pub(crate) done: D,
}

/// What this node has to do with the others in its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// Another node leads; it has been told how far this one is, or not yet.
    Follows { has_reported: bool },
    /// Waits for the reports of all members.
    Collects,
    /// Members that have not taken the contents yet.
    Starts { missing: Mask },
    /// Members that do not have the prepared change yet; if there is none, those that were not told of the last commit.
    Leads { missing: Mask, untold: Mask },
}

/// What this node should send next. It stays so until the answers are fed in, or the view changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Duty<O> {
    /// Nothing.
    None,
    /// Tell the master how far this node is; then [`Core::has_reported`].
    Report {
        /// The master.
        to: Place,
        /// The view.
        view: u64,
        /// How far.
        at: Position,
    },
    /// Ask a member for its contents; answered by [`Core::fetched`].
    Fetch {
        /// The member.
        from: Place,
        /// The view.
        view: u64,
    },
    /// Have members take this node's contents, those [`Core::lacks`] tells of with all of them; answered by
    /// [`Core::started`].
    Start {
        /// The members.
        to: Mask,
        /// The view.
        view: u64,
    },
    /// Have members prepare a change; answered by [`Core::appended`].
    Append {
        /// The members.
        to: Mask,
        /// The view.
        view: u64,
        /// The change's number. All before it are committed.
        seq: u64,
        /// The change.
        request: Request<O>,
    },
    /// Tell members what is committed; then [`Core::told`].
    Commit {
        /// The members.
        to: Mask,
        /// The view.
        view: u64,
        /// Up to this change.
        seq: u64,
    },
}

/// The message is of another view, or of a node that does not lead this one: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// One node's part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Core<M, P, O> {
    this: Place,
    life: u64,
    view: u64,
    members: Mask,
    master: Place,
    part: Part,
    /// The view whose members took these contents.
    of: u64,
    seq: u64,
    prepared: Option<Request<O>>,
    machine: M,
    peers: P,
    /// The last request of this node.
    number: u64,
    /// Whose turn it is to have a request prepared.
    turn: Place,
}

impl<M, P, O: Copy + Eq> Core<M, P, O>
where
    M: Machine<Op = O>,
    P: Deref<Target = [Peer<O, M::Outcome>]> + DerefMut,
{
    /// A node without a view, in a table with as many nodes as there are `peers`, at most 64.
    pub(crate) fn new(this: Place, life: u64, machine: M, peers: P) -> Self {
        Self {
            this,
            life,
            view: 0,
            members: 0,
            master: 0,
            part: Part::Follows { has_reported: true },
            of: 0,
            seq: 0,
            prepared: None,
            machine,
            peers,
            number: 0,
            turn: 0,
        }
    }

    /// The view that this node is in; 0: none.
    pub(crate) fn view(&self) -> u64 {
        self.view
    }

    /// Who leads it.
    pub(crate) fn master(&self) -> Place {
        self.master
    }

    /// Whether this node has contents that a member of the cluster gave it, or that it gave as the first master.
    pub(crate) fn is_ready(&self) -> bool {
        self.of != 0
    }

    /// Whether this node leads, and has brought all members up to date.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.part, Part::Leads { .. })
    }

    /// Committed changes.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// What they were made to.
    pub(crate) fn machine(&self) -> &M {
        &self.machine
    }

    /// The prepared change, if there is one.
    pub(crate) fn prepared(&self) -> Option<&Request<O>> {
        self.prepared.as_ref()
    }

    /// The last request of a node that is done.
    pub(crate) fn done(&self, p: Place) -> Done<M::Outcome> {
        self.peers.get(p).map_or(Done::NONE, |k| k.done)
    }

    /// How far this node is.
    pub(crate) fn position(&self) -> Position {
        Position {
            view: self.of,
            seq: self.seq + u64::from(self.prepared.is_some()),
        }
    }

    /// A new request of this node. It must ask for one at a time, and ask again in each view until it is answered.
    pub(crate) fn request(&mut self, op: O) -> Request<O> {
        self.number += 1;
        Request {
            by: self.this,
            life: self.life,
            number: self.number,
            op,
        }
    }

    /// What became of a request of this node, once it is known.
    pub(crate) fn outcome(&self, number: u64) -> Option<M::Outcome> {
        let done = self.done(self.this);
        (done.life == self.life && done.number == number)
            .then_some(done.outcome)
            .flatten()
    }

    /// This view is in force here. `is_first`: none of its members was in one before.
    pub(crate) fn enter(&mut self, view: u64, members: Mask, master: Place, is_first: bool) {
        if view <= self.view {
            return;
        }
        if is_first && self.view == 0 {
            self.of = view;
        }
        self.view = view;
        self.members = members;
        self.master = master;
        self.part = if master == self.this {
            Part::Collects
        } else {
            Part::Follows {
                has_reported: false,
            }
        };
        for k in self.peers.iter_mut() {
            // Who wanted it asks again in this view.
            k.wants = k.wants.filter(|(v, _)| *v >= view);
        }
        self.go_on();
    }

    /// The master of this view was told how far this node is.
    pub(crate) fn has_reported(&mut self, view: u64) {
        if let Part::Follows { has_reported } = &mut self.part {
            *has_reported |= view == self.view;
        }
    }

    /// A member of a view that this node leads, or will lead, says how far it is.
    pub(crate) fn reported(&mut self, from: Place, view: u64, at: Position) {
        if let Some(k) = self.peers.get_mut(from) {
            if k.report.0 < view {
                k.report = (view, at);
            }
        }
        self.go_on();
    }

    /// Whether the master of this view may have this node's contents.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn fetch(&self, from: Place, view: u64) -> Result<(), Stale> {
        if view == self.view && from == self.master {
            Ok(())
        } else {
            Err(Stale)
        }
    }

    /// The contents asked for have come. Returns whether they were taken: they must be as far as was reported.
    pub(crate) fn fetched<D>(
        &mut self,
        from: Place,
        view: u64,
        of: u64,
        contents: Contents<M, D, O>,
    ) -> bool
    where
        D: Deref<Target = [Done<M::Outcome>]>,
    {
        let at = Position {
            view: of,
            seq: contents.seq + u64::from(contents.prepared.is_some()),
        };
        let is_reported = self.peers.get(from).is_some_and(|k| k.report == (view, at));
        if view != self.view || self.part != Part::Collects || !is_reported {
            return false;
        }
        self.take(of, contents);
        self.go_on();
        true
    }

    /// Takes contents over, without losing sight of what is known to be committed.
    fn take<D>(&mut self, of: u64, contents: Contents<M, D, O>)
    where
        D: Deref<Target = [Done<M::Outcome>]>,
    {
        let known = self.seq;
        self.of = of;
        self.seq = contents.seq;
        self.prepared = contents.prepared;
        self.machine = contents.machine;
        for (k, d) in self.peers.iter_mut().zip(contents.done.iter()) {
            k.done = *d;
        }
        if self.seq < known {
            // Prepared there, and committed here already.
            self.commit_prepared();
        }
    }

    /// Whether a member must be sent all contents with [`Duty::Start`].
    pub(crate) fn lacks(&self, p: Place) -> bool {
        let at = self
            .peers
            .get(p)
            .map_or(Position::default(), |k| k.report.1);
        // This node's own report: the furthest, whose contents it has.
        let best = self
            .peers
            .get(self.this)
            .map_or(Position::default(), |k| k.report.1);
        at != best
    }

    /// The master says: these are the contents, or those which this node has.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn start<D>(
        &mut self,
        from: Place,
        view: u64,
        contents: Option<Contents<M, D, O>>,
    ) -> Result<(), Stale>
    where
        D: Deref<Target = [Done<M::Outcome>]>,
    {
        if view != self.view || from != self.master || from == self.this {
            return Err(Stale);
        }
        if self.of == view {
            return Ok(());
        }
        match contents {
            Some(c) => self.take(view, c),
            None => self.of = view,
        }
        Ok(())
    }

    /// A member has taken the contents.
    pub(crate) fn started(&mut self, from: Place, view: u64) {
        if view != self.view {
            return;
        }
        if let Part::Starts { missing } = &mut self.part {
            *missing &= !bit(from);
        }
        self.go_on();
    }

    /// The master says: prepare this, and commit all before it.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn append(
        &mut self,
        from: Place,
        view: u64,
        seq: u64,
        request: Request<O>,
    ) -> Result<(), Stale> {
        self.follow(from, view, seq.saturating_sub(1))?;
        if seq == self.seq + 1 {
            self.prepared = Some(request);
        }
        if seq <= self.seq + 1 {
            Ok(())
        } else {
            Err(Stale)
        }
    }

    /// The master says: all up to this change is committed.
    ///
    /// # Errors
    /// [`Stale`].
    pub(crate) fn committed(&mut self, from: Place, view: u64, seq: u64) -> Result<(), Stale> {
        self.follow(from, view, seq)
    }

    fn follow(&mut self, from: Place, view: u64, committed: u64) -> Result<(), Stale> {
        if view != self.view || self.of != view || from != self.master || from == self.this {
            return Err(Stale);
        }
        if committed == self.seq + 1 {
            self.commit_prepared();
        }
        Ok(())
    }

    /// A member has prepared a change.
    pub(crate) fn appended(&mut self, from: Place, view: u64, seq: u64) {
        if view != self.view || seq != self.seq + 1 {
            return;
        }
        if let Part::Leads { missing, .. } = &mut self.part {
            *missing &= !bit(from);
        }
        self.go_on();
    }

    /// Members were told that all up to this change is committed.
    pub(crate) fn told(&mut self, view: u64, seq: u64, to: Mask) {
        if view != self.view || seq != self.seq {
            return;
        }
        if let Part::Leads { untold, .. } = &mut self.part {
            *untold &= !to;
        }
    }

    /// A node wants a change, of this node as the master of a view.
    pub(crate) fn wanted(&mut self, view: u64, request: Request<O>) {
        if view < self.view {
            return;
        }
        if let Some(k) = self.peers.get_mut(request.by) {
            let newest = k.wants.is_none_or(|(v, _)| v <= view);
            if newest && !k.done.covers(&request) {
                k.wants = Some((view, request));
            }
        }
        self.go_on();
    }

    fn commit_prepared(&mut self) {
        let Some(r) = self.prepared.take() else {
            return;
        };
        self.seq += 1;
        let Some(k) = self.peers.get_mut(r.by) else {
            return;
        };
        if !k.done.covers(&r) {
            k.done = Done {
                life: r.life,
                number: r.number,
                outcome: Some(self.machine.apply(self.seq, &r.op)),
            };
        }
    }

    fn others(&self) -> Mask {
        self.members & !bit(self.this)
    }

    /// The furthest of all members, if all have reported and one has contents.
    fn furthest(&self) -> Option<(Place, Position)> {
        self.best().filter(|(_, at)| at.view != 0)
    }

    /// Whether this node would lead, and no member has contents: what was committed is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.part == Part::Collects && self.best().is_some_and(|(_, at)| at.view == 0)
    }

    /// How far the furthest is, if all have reported.
    fn best(&self) -> Option<(Place, Position)> {
        let mut best = (self.this, self.position());
        for (p, k) in self.peers.iter().enumerate() {
            if self.others() & bit(p) == 0 {
                continue;
            }
            if k.report.0 != self.view {
                return None;
            }
            if k.report.1 > best.1 {
                best = (p, k.report.1);
            }
        }
        Some(best)
    }

    /// Draws the conclusions of a leading node.
    fn go_on(&mut self) {
        if self.part == Part::Collects {
            match self.furthest() {
                Some((p, at)) if p == self.this => {
                    if let Some(me) = self.peers.get_mut(self.this) {
                        me.report = (self.view, at);
                    }
                    self.of = self.view;
                    self.part = Part::Starts {
                        missing: self.others(),
                    };
                }
                _ => return,
            }
        }
        if self.part == (Part::Starts { missing: 0 }) {
            // All members have what was prepared. This node may have committed it in an earlier view, and they not.
            self.part = Part::Leads {
                missing: 0,
                untold: self.others(),
            };
        }
        while let Part::Leads { missing: 0, .. } = self.part {
            if self.prepared.is_some() {
                self.commit_prepared();
                self.part = Part::Leads {
                    missing: 0,
                    untold: self.others(),
                };
            }
            self.prepared = self.next();
            if self.prepared.is_none() {
                return;
            }
            // Who is asked to prepare the next one is told of the last one thereby.
            self.part = Part::Leads {
                missing: self.others(),
                untold: 0,
            };
        }
    }

    /// The next request, in turn.
    fn next(&mut self) -> Option<Request<O>> {
        let n = self.peers.len();
        for i in 0..n {
            let p = (self.turn + i) % n;
            let is_member = self.members & bit(p) != 0;
            let Some(k) = self.peers.get_mut(p) else {
                continue;
            };
            let Some((view, request)) = k.wants else {
                continue;
            };
            if view != self.view || !is_member {
                continue;
            }
            k.wants = None;
            if !k.done.covers(&request) {
                self.turn = p + 1;
                return Some(request);
            }
        }
        None
    }

    /// Whether there is something to send.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.duty(), Duty::None)
    }

    /// What this node should send next.
    pub(crate) fn duty(&self) -> Duty<O> {
        let view = self.view;
        match self.part {
            Part::Follows {
                has_reported: false,
            } => Duty::Report {
                to: self.master,
                view,
                at: self.position(),
            },
            Part::Follows { has_reported: true } => Duty::None,
            Part::Collects => match self.furthest() {
                Some((from, _)) if from != self.this => Duty::Fetch { from, view },
                _ => Duty::None,
            },
            Part::Starts { missing } => Duty::Start { to: missing, view },
            Part::Leads { missing, untold } => match self.prepared {
                Some(request) => Duty::Append {
                    to: missing,
                    view,
                    seq: self.seq + 1,
                    request,
                },
                None if untold != 0 => Duty::Commit {
                    to: untold,
                    view,
                    seq: self.seq,
                },
                None => Duty::None,
            },
        }
    }
}
