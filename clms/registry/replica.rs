// SPDX-License-Identifier: GPL-2.0

//! This node's copy of the records, from join to leave: who takes its steps, and who sends what they ask for.
//!
//! Handlers, callers and the view thread take one step under one lock and leave. A thread of its own sends: it alone waits for
//! other nodes, and goes on as soon as they are declared down.

use crate::patience::Patience;
use crate::registry::contents;
use crate::registry::contents::new_core;
use crate::registry::contents::Core;
use crate::registry::contents::Op;
use crate::registry::proto::value;
use crate::registry::proto::Append;
use crate::registry::proto::AppendReq;
use crate::registry::proto::Commit;
use crate::registry::proto::CommitReq;
use crate::registry::proto::Fetch;
use crate::registry::proto::FetchReq;
use crate::registry::proto::Report;
use crate::registry::proto::ReportReq;
use crate::registry::proto::Start;
use crate::registry::proto::StartReq;
use crate::registry::proto::Want;
use crate::registry::proto::WantReq;
use crate::registry::proto::WireRequest;
use crate::registry::records::Change;
use crate::registry::records::Outcome;
use crate::registry::records::Slot;
use crate::registry::state::Duty;
use crate::registry::state::Mask;
use crate::registry::state::Place;
use crate::registry::state::Request;
use crate::registry::Name;
use crate::registry::Record;
use crate::registry::Value;
use crate::thread::MAX_NODES;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Release;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use kernel::types::ScopeGuard;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wait::Event;
use ssi::wire::Le64;

/// Between two tries of what failed for want of memory.
const AGAIN_MS: u32 = 100;

/// A caller that has no answer asks again. Nothing is known that would need it; nothing is lost by it either.
const ASK_AGAIN_MS: u32 = 2000;

struct Inner {
    core: Core,
    members: Mask,
    /// The lives of the members.
    lives: KVec<u64>,
}

/// One node's copy.
#[pin_data]
pub(crate) struct Replica {
    this: Place,
    life: u64,
    /// By place. Lock: level 29 `clms::nodes`, spin; a leaf.
    #[pin]
    nodes: SpinLock<[Option<NodeId>; MAX_NODES]>,
    /// Lock: level 28 `clms::registry`, mutex. Held for one step, never across a message.
    #[pin]
    inner: Mutex<Inner>,
    /// There may be something to send.
    #[pin]
    work: Event,
    /// A caller may go on: `answered`, `view` or `turn` is another one.
    #[pin]
    answers: Event,
    /// `seq` or `ready` is another one.
    #[pin]
    pub(crate) changed: Event,
    /// `stage` is another one.
    #[pin]
    pub(crate) staged: Event,
    /// Grows when the view changes, contents come, this node begins to lead, and with [`Self::touch`].
    stage: Atomic<u64>,
    leads: Atomic<u32>,
    /// The last view in which nobody had contents; 0: none.
    lost_in: Atomic<u64>,
    /// Steps after which there was something to send.
    steps: Atomic<u64>,
    view: Atomic<u64>,
    /// The last request of this life that is done.
    answered: Atomic<u64>,
    /// Committed changes, and one more once there are contents: 0 is none.
    known: Atomic<u64>,
    /// Callers are served in the order in which they came.
    tickets: Atomic<u64>,
    turn: Atomic<u64>,
    /// 1: no more changes are begun here.
    closed: Atomic<u32>,
    /// 1: this node has left.
    ended: Atomic<u32>,
}

impl Replica {
    /// That of a node which begins to join.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(this: Place, life: Incarnation) -> Result<Arc<Self>> {
        let core = new_core(this, life.0, MAX_NODES)?;
        let mut lives = KVec::new();
        lives.resize(MAX_NODES, 0, GFP_KERNEL)?;
        let inner = Inner {
            core,
            members: 0,
            lives,
        };
        Arc::pin_init(
            pin_init!(Self {
                this,
                life: life.0,
                nodes <- kernel::new_spinlock!([None; MAX_NODES], "clms::nodes"),
                inner <- kernel::new_mutex!(inner, "clms::registry"),
                work <- Event::new(),
                answers <- Event::new(),
                changed <- Event::new(),
                staged <- Event::new(),
                stage: Atomic::new(0),
                leads: Atomic::new(0),
                lost_in: Atomic::new(0),
                steps: Atomic::new(0),
                view: Atomic::new(0),
                answered: Atomic::new(0),
                known: Atomic::new(0),
                tickets: Atomic::new(0),
                turn: Atomic::new(0),
                closed: Atomic::new(0),
                ended: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// The place of a node.
    pub(crate) fn place(&self, node: NodeId) -> Option<Place> {
        self.nodes.lock().iter().position(|n| *n == Some(node))
    }

    /// A place has that node from now on, or is vacant.
    pub(crate) fn set_node(&self, p: Place, node: Option<NodeId>) {
        if let Some(n) = self.nodes.lock().get_mut(p) {
            *n = node;
        }
    }

    fn node_at(&self, p: Place) -> Option<NodeId> {
        self.nodes.lock().get(p).copied().flatten()
    }

    /// How many places there are.
    pub(crate) fn n_nodes(&self) -> usize {
        MAX_NODES
    }

    /// Looks, without changing anything. Sleeps.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
        f(&self.inner.lock().core)
    }

    /// Takes a step and wakes who may go on by it. Sleeps.
    pub(crate) fn step<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let (result, wakes) = {
            let mut inner = self.inner.lock();
            let result = f(&mut inner.core);
            (result, self.publish(&inner.core))
        };
        self.wake(wakes);
        result
    }

    /// Shows what those look at who must not sleep. Returns whether there is work, an answer, something new.
    fn publish(&self, core: &Core) -> (bool, bool, bool) {
        let done = core.done(self.this);
        let answered = if done.life == self.life {
            done.number
        } else {
            0
        };
        let known = if core.is_ready() { core.seq() + 1 } else { 0 };
        let is_answer =
            self.answered.load(Acquire) != answered || self.view.load(Acquire) != core.view();
        let before = self.known.load(Acquire);
        let is_new = before != known;
        let leads = u32::from(core.leads());
        let was = self.leads.load(Acquire);
        let is_staged =
            (before == 0) != (known == 0) || was != leads || self.view.load(Acquire) != core.view();
        self.leads.store(leads, Release);
        self.answered.store(answered, Release);
        self.view.store(core.view(), Release);
        self.known.store(known, Release);
        if is_staged {
            self.touch();
        }
        if core.is_lost() && self.lost_in.xchg(core.view(), Full) != core.view() {
            pr_err!(
                "view {}: no member has the records of the members before: they are lost, and nobody makes new ones; let \
                 all nodes leave, or restart them, so that a cluster begins anew\n",
                core.view()
            );
        }
        let is_work = core.is_busy();
        if is_work {
            self.steps.fetch_add(1, Full);
        }
        (is_work, is_answer, is_new)
    }

    /// Key services may need something. Any context.
    pub(crate) fn touch(&self) {
        self.stage.fetch_add(1, Full);
        self.staged.notify_all();
    }

    /// Any context.
    pub(crate) fn stage(&self) -> u64 {
        self.stage.load(Acquire)
    }

    fn wake(&self, (work, answer, new): (bool, bool, bool)) {
        if work {
            self.work.notify_all();
        }
        if answer {
            self.answers.notify_all();
        }
        if new {
            self.changed.notify_all();
        }
    }

    /// A view is in force on this node: links to its members are open, those who are out are known to be off, and
    /// observers know of it.
    /// The lowest of `leaders` leads.
    /// `is_first`: none of them was in a view before.
    pub(crate) fn entered(
        &self,
        view: u64,
        (members, leaders): (Mask, Mask),
        lives: &[u64],
        is_first: bool,
    ) {
        let wakes = {
            let mut inner = self.inner.lock();
            for (mine, l) in inner.lives.iter_mut().zip(lives) {
                *mine = *l;
            }
            inner.members = members;
            // CAST: below 64.
            let master = leaders.trailing_zeros() as Place;
            inner.core.enter(view, members, master, is_first);
            self.publish(&inner.core)
        };
        self.wake(wakes);
        // Also those who only look at the members.
        self.work.notify_all();
        self.changed.notify_all();
    }

    /// Whether a node is a member in that life, in the view that the records are in.
    pub(crate) fn has(&self, node: NodeId, life: Incarnation) -> bool {
        let Some(p) = self.place(node) else {
            return false;
        };
        let inner = self.inner.lock();
        inner.members & (1 << p) != 0 && inner.lives.get(p) == Some(&life.0)
    }

    /// Whether this node leads and all members are up to date.
    pub(crate) fn leads(&self) -> bool {
        self.look(|c| c.leads())
    }

    /// This node and its life.
    pub(crate) fn me(&self) -> Option<(NodeId, Incarnation)> {
        let node = self.node_at(self.this)?;
        Some((node, Incarnation(self.life)))
    }

    /// The view, in any context; 0: none yet.
    pub(crate) fn view(&self) -> u64 {
        self.view.load(Acquire)
    }

    /// Grows with everything that [`Self::read`] can see; 0: nothing yet. Any context.
    pub(crate) fn known(&self) -> u64 {
        self.known.load(Acquire)
    }

    /// Whether this node has left. Any context.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Acquire) != 0
    }

    /// No more: callers go, threads end.
    pub(crate) fn end(&self) {
        self.ended.store(1, Release);
        self.wake((true, true, true));
        self.touch();
    }

    /// A record.
    ///
    /// # Errors
    /// `EAGAIN` there are no contents yet.
    pub(crate) fn read(&self, name: Name) -> Result<Option<Record>> {
        self.look(|c| {
            if !c.is_ready() {
                return Err(EAGAIN);
            }
            Ok(c.machine().get(name).map(record))
        })
    }

    /// The record with the smallest version above `version`.
    pub(crate) fn after(&self, version: u64) -> Option<Record> {
        self.look(|c| {
            let later = c.machine().0.iter().filter(|s| s.version > version);
            later.min_by_key(|s| s.version).map(record)
        })
    }

    /// The names that begin with `prefix`, into a vector with room for all.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn names(&self, prefix: &[u8], into: &mut KVec<Name>) -> Result {
        self.look(|c| {
            let all = c.machine().0.iter().filter(|s| s.version != 0);
            for s in all.filter(|s| s.name.as_bytes().starts_with(prefix)) {
                into.push(s.name, GFP_KERNEL)?;
            }
            Ok(())
        })
    }

    /// This node wants to leave: begins no more changes, and waits for those under way. Sleeps.
    ///
    /// # Errors
    /// [`Patience::error`]: it stays. Changes wait as long as a node that was lost is not known to be off.
    pub(crate) fn close(&self, patience: &Patience<'_>) -> Result {
        // Before anybody looks who is under way: ordered against the ticket that a caller takes before it looks.
        let _before = self.closed.xchg(1, Full);
        let is_idle = || self.turn.load(Acquire) == self.tickets.load(Acquire);
        if !patience.wait(&self.answers, is_idle) {
            self.reopen();
            return Err(patience.error());
        }
        Ok(())
    }

    /// It stays after all.
    pub(crate) fn reopen(&self) {
        self.closed.store(0, Release);
    }

    /// Changes a record.
    ///
    /// # Errors
    /// `ENOTCONN`; `ESHUTDOWN`.
    pub(crate) fn change(
        &self,
        name: Name,
        expected: u64,
        value: Option<Value>,
    ) -> Result<Outcome> {
        if self.view() == 0 {
            return Err(ENOTCONN);
        }
        let mine = self.tickets.fetch_add(1, Full);
        self.answers
            .wait_until(|| self.turn.load(Acquire) == mine || self.is_ended());
        if self.is_ended() {
            return Err(ENOTCONN);
        }
        let _next = ScopeGuard::new(|| {
            self.turn.store(mine.wrapping_add(1), Release);
            self.answers.notify_all();
        });
        if self.closed.load(Acquire) != 0 {
            return Err(ENOTCONN);
        }
        let request = self.inner.lock().core.request(Change {
            name,
            expected,
            value,
        });
        self.ask(&request)
    }

    /// Asks in each view until there is an answer.
    fn ask(&self, request: &Request<Op>) -> Result<Outcome> {
        let number = request.number;
        loop {
            let (view, master) = self.look(|c| (c.view(), c.master()));
            let to = self.node_at(master);
            let is_asked = if master == self.this {
                self.step(|c| c.wanted(view, *request));
                true
            } else {
                let req = WantReq {
                    view: Le64::new(view),
                    request: WireRequest::new(request),
                };
                let to = to.ok_or(ENOTCONN)?;
                ics::post::<Want>(to, &req, value(request)).is_ok()
            };
            let goes_on =
                || self.answered.load(Acquire) >= number || self.view() != view || self.is_ended();
            let patience = if is_asked { ASK_AGAIN_MS } else { AGAIN_MS };
            self.answers.wait_timeout(patience, goes_on);
            if let Some(o) = self.look(|c| c.outcome(number)) {
                return Ok(o);
            }
            if self.is_ended() {
                return Err(ESHUTDOWN);
            }
        }
    }

    /// Sends what there is to send, until [`Self::end`].
    pub(crate) fn serve(&self) {
        while !self.is_ended() {
            let _armed = hit("Thread.clms_registry");
            let before = self.steps.load(Acquire);
            let view = self.view();
            let duty = self.look(|c| c.duty());
            if matches!(duty, Duty::None) {
                self.work
                    .wait_until(|| self.steps.load(Acquire) != before || self.is_ended());
            } else if !self.perform(&duty) {
                // Somebody is down, or has gone on to another view: a view comes. Or there was no memory.
                let goes_on = || self.view() != view || self.is_ended();
                self.work.wait_timeout(AGAIN_MS, goes_on);
            }
        }
    }

    fn node(&self, p: Place) -> Result<NodeId> {
        self.node_at(p).ok_or(EINVAL)
    }

    /// Returns whether all of it was done.
    fn perform(&self, duty: &Duty<Op>) -> bool {
        let done = match duty {
            Duty::None => Ok(()),
            Duty::Report { to, view, at } => {
                let req = ReportReq {
                    view: Le64::new(*view),
                    of: Le64::new(at.view),
                    seq: Le64::new(at.seq),
                };
                let r = self.node(*to).and_then(|to| post::<Report>(to, &req));
                r.map(|()| self.step(|c| c.has_reported(*view)))
            }
            Duty::Fetch { from, view } => self.fetch(*from, *view),
            Duty::Start { to, view } => self.start(*to, *view),
            Duty::Append {
                to,
                view,
                seq,
                request,
            } => self.append(*to, *view, *seq, request),
            Duty::Commit { to, view, seq } => self.commit(*to, *view, *seq),
        };
        done.is_ok()
    }

    /// The nodes at those places.
    fn each(&self, mask: Mask) -> impl Iterator<Item = (Place, NodeId)> + '_ {
        let places = (0..MAX_NODES).filter(move |p| mask & (1 << p) != 0);
        places.filter_map(|p| Some((p, self.node_at(p)?)))
    }

    fn fetch(&self, from: Place, view: u64) -> Result {
        let req = FetchReq {
            view: Le64::new(view),
        };
        let got = ics::call::<Fetch>(self.node(from)?, &req, &[]);
        let (rep, tail) = got.map_err(ics::CallError::to_errno)?;
        let whole = contents::decode(&tail, MAX_NODES)?;
        if self.step(|c| c.fetched(from, view, rep.of.get(), whole)) {
            Ok(())
        } else {
            Err(EPROTO)
        }
    }

    fn start(&self, to: Mask, view: u64) -> Result {
        let req = StartReq {
            view: Le64::new(view),
        };
        let mut asked = KVec::with_capacity(MAX_NODES, GFP_KERNEL)?;
        let mut result = Ok(());
        for (p, node) in self.each(to) {
            let tail = self.look(|c| {
                if c.lacks(p) {
                    contents::encode(c, MAX_NODES)
                } else {
                    Ok(KVVec::new())
                }
            })?;
            match begin::<Start>(node, &req, &tail) {
                Ok(call) => asked.push((p, call), GFP_KERNEL)?,
                Err(e) => result = Err(e),
            }
        }
        for (p, call) in asked {
            match call.wait() {
                Ok(_) => self.step(|c| c.started(p, view)),
                Err(e) => result = Err(e.to_errno()),
            }
        }
        result
    }

    fn append(&self, to: Mask, view: u64, seq: u64, request: &Request<Op>) -> Result {
        let req = AppendReq {
            view: Le64::new(view),
            seq: Le64::new(seq),
            request: WireRequest::new(request),
        };
        let mut asked = KVec::with_capacity(MAX_NODES, GFP_KERNEL)?;
        let mut result = Ok(());
        for (p, node) in self.each(to) {
            match begin::<Append>(node, &req, value(request)) {
                Ok(call) => asked.push((p, call), GFP_KERNEL)?,
                Err(e) => result = Err(e),
            }
        }
        for (p, call) in asked {
            match call.wait() {
                Ok(_) => self.step(|c| c.appended(p, view, seq)),
                Err(e) => result = Err(e.to_errno()),
            }
        }
        result
    }

    fn commit(&self, to: Mask, view: u64, seq: u64) -> Result {
        let req = CommitReq {
            view: Le64::new(view),
            seq: Le64::new(seq),
        };
        let mut told = 0;
        let mut result = Ok(());
        for (p, node) in self.each(to) {
            match post::<Commit>(node, &req) {
                Ok(()) => told |= 1 << p,
                Err(e) => result = Err(e),
            }
        }
        self.step(|c| c.told(view, seq, told));
        result
    }
}

/// What is shown of a record.
pub(crate) fn record(s: &Slot<Name, Value>) -> Record {
    Record {
        name: s.name,
        value: s.value,
        version: s.version,
    }
}

fn begin<O: ics::Op>(to: NodeId, req: &O::Req, tail: &[u8]) -> Result<ics::UnderWay<O>> {
    ics::ask::<O>(to, req, tail).map_err(ics::CallError::to_errno)
}

fn post<O: ics::Op>(to: NodeId, req: &O::Req) -> Result {
    ics::post::<O>(to, req, &[]).map_err(ics::CallError::to_errno)
}
