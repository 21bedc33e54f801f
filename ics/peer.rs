// SPDX-License-Identifier: GPL-2.0

//! Another node as the transport sees it: its stream, the calls that wait for it, the calls of its that are answered
//! here.
//!
//! A call survives its stream: it is sent again, under the same number, on the next one to the same incarnation. The
//! answering side keeps each reply until the asker has seen it, so that what was done once is not done again. Posts are
//! calls that nobody waits for; they carry their place in the order of their class, and are done in that order.

use crate::error::CallError;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MOVED;
use crate::link::Body;
use crate::link::Link;
use crate::pool::Job;
use crate::pool::Place;
use crate::pool::Pool;
use crate::pool::Unknown;
use crate::refused::Refused;
use crate::service::Caller;
use crate::service::Class;
use crate::service::OpId;
use crate::service::Status;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::error::Error;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::Arc;
use kernel::sync::SpinLockIrq;
use kernel::sync::UniqueArc;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread::ThreadId;
use ssi::net::Ipv4;
use ssi::wait::Event;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// Calls of one class that may wait for one peer at once; more wait for a credit. Not for P.
const CREDITS: u32 = 64;

/// The same for P, where it only bounds what a peer can make us keep.
const CREDITS_P: u32 = 1 << 14;

const fn credits(class: usize) -> u32 {
    if class == Class::P as usize {
        CREDITS_P
    } else {
        CREDITS
    }
}

/// A call that waits for its reply, or a post that waits to be done.
#[pin_data]
pub(crate) struct Pending {
    xid: u64,
    op: OpId,
    /// Of a post: its place in the order of its class. 0: a call.
    order: u64,
    pub(crate) body: KVVec<u8>,
    /// Lock: level 18 `ics::outcome`, spin, taken in softirqs.
    #[pin]
    outcome: SpinLockIrq<Option<core::result::Result<KVVec<u8>, CallError>>>,
    #[pin]
    done: Event,
}

impl Pending {
    fn end(&self, r: core::result::Result<KVVec<u8>, CallError>) {
        {
            let mut outcome = self.outcome.lock();
            if outcome.is_none() {
                *outcome = Some(r);
            }
        }
        self.done.notify_all();
    }

    fn head(&self) -> Head {
        let mut h = Head::new(Kind::Request, self.xid);
        h.service = Le16::new(self.op.service);
        h.version = Le16::new(self.op.version);
        h.op = Le16::new(self.op.op);
        h.class = self.op.class as u8;
        h.order = Le64::new(self.order);
        h
    }
}

/// A request of the peer's that is, or was, answered here.
enum Answer {
    /// Queued.
    Waiting,
    /// Nobody waits for it any more.
    Cancelled,
    /// A thread answers it.
    Running(ThreadId),
    /// Answered; kept in case the reply got lost.
    Done(Arc<Reply>),
}

/// A reply as it goes out.
pub(crate) struct Reply {
    status: u32,
    moved_to: u32,
    pub(crate) body: KVVec<u8>,
}

/// The posts of one class from the peer.
struct Posts {
    /// The one that is done next, or now.
    next: u64,
    /// Whether it is done now.
    busy: bool,
    /// Those that came.
    parked: RBTree<u64, Job>,
}

impl Posts {
    fn new() -> Self {
        Self {
            next: 1,
            busy: false,
            parked: RBTree::new(),
        }
    }

    /// The next one, if it is there and its turn.
    fn take(&mut self) -> Option<RBTreeNode<u64, Job>> {
        if self.busy {
            return None;
        }
        let node = self.parked.remove_node(&self.next)?;
        self.busy = true;
        Some(node)
    }
}

struct State {
    /// The incarnation that `clms` admitted. `None`: no member; nothing is asked or answered.
    member: Option<Incarnation>,
    /// The stream, and the incarnation at its other end.
    link: Option<(Arc<Link>, Incarnation)>,
    /// The transport stops: there is no stream any more.
    is_closed: bool,
    /// The incarnation that all below, and the stream, is about. The member, if there is one.
    about: Option<Incarnation>,
    /// Counts those, so that what was begun for one does not end in another.
    epoch: u64,
    next_xid: u64,
    /// Place of the last post of each class.
    posted: [u64; Class::N],
    pending: RBTree<u64, Arc<Pending>>,
    waiting: [u32; Class::N],
    answers: RBTree<u64, Answer>,
    /// Requests of each class that the peer waits for.
    asked: [u32; Class::N],
    posts: [Posts; Class::N],
}

/// Another node.
#[pin_data]
pub(crate) struct Peer {
    /// Its number.
    pub(crate) node: NodeId,
    /// Its addresses, one per link.
    pub(crate) addresses: KVec<Ipv4>,
    /// Its port.
    pub(crate) port: u16,
    /// Who answers its requests.
    pool: Arc<Pool>,
    /// Lock: level 14 `ics::peer`, spin, taken in softirqs.
    #[pin]
    state: SpinLockIrq<State>,
    /// Told when a credit comes back, the peer is admitted or fenced, or the stream comes or goes.
    #[pin]
    changed: Event,
}

/// A call under way.
pub(crate) struct Asked {
    peer: Arc<Peer>,
    pending: Arc<Pending>,
}

impl Asked {
    /// Waits for the reply: its body. Sleeps.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) fn wait(self) -> core::result::Result<KVVec<u8>, CallError> {
        let pending = &self.pending;
        let mut outcome = None;
        let ended = {
            let take = || {
                outcome = pending.outcome.lock().take();
                outcome.is_some()
            };
            if pending.op.class == Class::P {
                pending.done.wait_killable(take)
            } else {
                pending.done.wait_until(take);
                true
            }
        };
        if !ended {
            self.peer.cancel(pending);
            // The reply, or the end of the peer, may have come first.
            outcome = pending.outcome.lock().take();
        }
        outcome.unwrap_or(Err(CallError::Interrupted))
    }
}

/// Everything that was taken out of a peer under its lock and is ended after unlocking.
struct Ended {
    pending: RBTree<u64, Arc<Pending>>,
    _answers: RBTree<u64, Answer>,
    link: Option<Arc<Link>>,
    _posts: Option<[Posts; Class::N]>,
}

impl Default for Ended {
    fn default() -> Self {
        Self {
            pending: RBTree::new(),
            _answers: RBTree::new(),
            link: None,
            _posts: None,
        }
    }
}

impl Peer {
    /// A node that has not been heard of.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        node: NodeId,
        addresses: KVec<Ipv4>,
        port: u16,
        pool: Arc<Pool>,
    ) -> Result<Arc<Self>> {
        let state = State {
            member: None,
            link: None,
            is_closed: false,
            about: None,
            epoch: 0,
            next_xid: 1,
            posted: [0; Class::N],
            pending: RBTree::new(),
            waiting: [0; Class::N],
            answers: RBTree::new(),
            asked: [0; Class::N],
            posts: core::array::from_fn(|_| Posts::new()),
        };
        Arc::pin_init(
            pin_init!(Self {
                node,
                addresses,
                port,
                pool,
                state <- kernel::new_spinlock_irq!(state, "ics::peer"),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// How many calls and posts of a class have a credit.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_waiting(&self, class: Class) -> u32 {
        self.state.lock().waiting[class as usize]
    }

    /// How many requests of a class the peer waits for.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_asked(&self, class: Class) -> u32 {
        self.state.lock().asked[class as usize]
    }

    // ---- Asking --------------------------------------------------------------------------------------------

    /// Asks. Sleeps for a credit.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) fn ask(
        self: &Arc<Self>,
        op: OpId,
        body: KVVec<u8>,
    ) -> core::result::Result<Asked, CallError> {
        Ok(Asked {
            pending: self.begin_asking(op, body, false)?,
            peer: self.clone(),
        })
    }

    /// Asks and does not wait: done after every post of its class that was begun before. Sleeps for a credit.
    ///
    /// # Errors
    /// See [`CallError`]; what the peer answers is not told.
    pub(crate) fn post(&self, op: OpId, body: KVVec<u8>) -> core::result::Result<(), CallError> {
        self.begin_asking(op, body, true)?;
        Ok(())
    }

    fn begin_asking(
        &self,
        op: OpId,
        body: KVVec<u8>,
        is_post: bool,
    ) -> core::result::Result<Arc<Pending>, CallError> {
        let spare = RBTreeNodeReservation::new(GFP_KERNEL).map_err(CallError::Local)?;
        let room =
            UniqueArc::<Pending>::new_uninit(GFP_KERNEL).map_err(|e| CallError::Local(e.into()))?;
        let mut made = Some((spare, room, body));
        // A credit, a number, and a place in the table, in one step: then the order of numbers is that of the table.
        let mut begun = None;
        self.changed.wait_until(|| {
            begun = self.try_begin(op, is_post, &mut made);
            begun.is_some()
        });
        let (pending, link) = begun.unwrap_or(Err(CallError::Down(self.node)))?;
        if let Some(link) = link {
            // Without memory for a place in the queue the stream is torn: the next one starts with this request.
            let body = Body::Request(pending.clone());
            if link.send(pending.head(), body).is_err() {
                link.tear();
            }
        }
        Ok(pending)
    }

    /// `None`: no credit.
    #[expect(clippy::type_complexity)]
    fn try_begin(
        &self,
        op: OpId,
        is_post: bool,
        made: &mut Option<(
            RBTreeNodeReservation<u64, Arc<Pending>>,
            UniqueArc<core::mem::MaybeUninit<Pending>>,
            KVVec<u8>,
        )>,
    ) -> Option<core::result::Result<(Arc<Pending>, Option<Arc<Link>>), CallError>> {
        let c = op.class as usize;
        let mut s = self.state.lock();
        if s.member.is_none() {
            return Some(Err(CallError::Down(self.node)));
        }
        if s.waiting[c] >= credits(c) {
            return None;
        }
        let (spare, room, body) = made.take()?;
        let xid = s.next_xid;
        let order = if is_post { s.posted[c] + 1 } else { 0 };
        let init = pin_init!(Pending {
            xid,
            op,
            order,
            body,
            outcome <- kernel::new_spinlock_irq!(None, "ics::outcome"),
            done <- Event::new(),
        });
        let pending: Arc<Pending> = match room.write_pin_init(init) {
            Ok(p) => p.into(),
            Err(never) => match never {},
        };
        s.next_xid += 1;
        s.posted[c] += u64::from(is_post);
        s.waiting[c] += 1;
        let _none = s.pending.insert(spare.into_node(xid, pending.clone()));
        // No stream: sent when there is one again.
        let link = s.link.as_ref().map(|(l, _)| l.clone());
        Some(Ok((pending, link)))
    }

    /// Takes a call or post out of the table and gives its credit back.
    fn take_pending(&self, xid: u64) -> Option<Arc<Pending>> {
        let (node, was_full) = {
            let mut s = self.state.lock();
            let node = s.pending.remove_node(&xid)?;
            let (_, p) = node.to_key_value();
            let c = p.op.class as usize;
            let was_full = s.waiting[c] >= credits(c);
            s.waiting[c] = s.waiting[c].saturating_sub(1);
            (p, was_full)
        };
        if was_full {
            self.changed.notify_all();
        }
        Some(node)
    }

    fn cancel(&self, pending: &Pending) {
        if self.take_pending(pending.xid).is_none() {
            return;
        }
        let link = self.link();
        if let Some(link) = link {
            // A cancel that is lost with its stream leaves an answer that nobody waits for.
            let _torn = link.send(Head::new(Kind::Cancel, pending.xid), Body::Empty);
        }
    }

    fn link(&self) -> Option<Arc<Link>> {
        let s = self.state.lock();
        s.link.as_ref().map(|(l, _)| l.clone())
    }

    // ---- Answering -----------------------------------------------------------------------------------------

    /// Takes a frame that has passed all checks. Sleeps until the peer is a member, and for memory.
    ///
    /// # Errors
    /// `EPROTO` for what no honest peer sends; `ESTALE`; `ENOMEM`. The stream is torn.
    pub(crate) fn receive(
        self: &Arc<Self>,
        link: &Arc<Link>,
        head: &Head,
        body: KVVec<u8>,
    ) -> Result {
        self.forget_answered(link, head);
        match Kind::from_wire(head.kind).ok_or(EPROTO)? {
            Kind::Reply => self.reply_came(head, body),
            Kind::Request => self.request_came(link, head, body)?,
            Kind::Cancel => self.cancel_came(link, head.xid.get()),
        }
        Ok(())
    }

    /// As [`Self::receive`], but without sleeping; any context. Returns whether it is done: if not, nothing has changed.
    pub(crate) fn receive_at_once(
        self: &Arc<Self>,
        link: &Arc<Link>,
        head: &Head,
        body: &[u8],
    ) -> bool {
        let is_done = match Kind::from_wire(head.kind) {
            Some(Kind::Reply) => copy_at_once(body).is_ok_and(|b| {
                self.reply_came(head, b);
                true
            }),
            Some(Kind::Request) => {
                copy_at_once(body).is_ok_and(|b| self.request_at_once(link, head, b))
            }
            Some(Kind::Cancel) => {
                self.cancel_came(link, head.xid.get());
                true
            }
            None => false,
        };
        if is_done {
            self.forget_answered(link, head);
        }
        is_done
    }

    /// Forgets the answers that have arrived at the peer.
    fn forget_answered(&self, link: &Link, head: &Head) {
        for xid in link.arrived(head.seen.get()) {
            // Freed after unlocking.
            let _done = {
                let mut s = self.state.lock();
                match s.answers.get(&xid) {
                    Some(Answer::Done(_)) => s.answers.remove_node(&xid),
                    _ => None,
                }
            };
        }
    }

    fn reply_came(&self, head: &Head, body: KVVec<u8>) {
        let Some(pending) = self.take_pending(head.xid.get()) else {
            return; // cancelled, or a second reply
        };
        pending.end(match head.status.get() {
            0 => Ok(body),
            MOVED => match NodeId::new(head.moved_to.get()) {
                Some(n) => Err(CallError::Moved(n)),
                None => Err(CallError::Protocol),
            },
            // CAST: an errno is at most 4095.
            e @ 1..=4095 => Err(CallError::Remote(Error::from_errno(-(e as i32)))),
            _ => Err(CallError::Protocol),
        });
    }

    fn request_came(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: KVVec<u8>) -> Result {
        let xid = head.xid.get();
        let incarnation = link.incarnation;
        let op = OpId::of_request(head).ok_or(EPROTO)?;
        let c = op.class as usize;
        let order = head.order.get();
        let spare = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let place = RBTreeNodeReservation::new(GFP_KERNEL)?;
        // The peer may have the new view before this node has: its requests wait here, in order, until this node
        // has it too, or the stream goes.
        self.changed.wait_until(|| {
            let s = self.state.lock();
            s.member == Some(incarnation) || !s.is_current(link)
        });
        let (again, job) = {
            let mut s = self.state.lock();
            if s.member != Some(incarnation) || !s.is_current(link) {
                return Err(ESTALE);
            }
            let again = match s.answers.get(&xid) {
                Some(Answer::Done(r)) => Some(r.clone()),
                Some(_) => return Ok(()),
                None => None,
            };
            if again.is_some() {
                (again, None)
            } else {
                if s.asked[c] >= credits(c) {
                    drop(s);
                    link.refuse(Refused::Torn, &"more requests than credits");
                    return Err(EPROTO);
                }
                let posts = &s.posts[c];
                if order != 0 && (order < posts.next || posts.parked.get(&order).is_some()) {
                    drop(s);
                    link.refuse(Refused::Torn, &"a post whose place is taken");
                    return Err(EPROTO);
                }
                s.asked[c] += 1;
                let _none = s.answers.insert(spare.into_node(xid, Answer::Waiting));
                let job = Job {
                    peer: self.clone(),
                    from: Caller {
                        node: self.node,
                        incarnation,
                    },
                    epoch: s.epoch,
                    xid,
                    op,
                    order,
                    body,
                };
                if order == 0 {
                    (None, Some(job))
                } else {
                    let _none = s.posts[c].parked.insert(place.into_node(order, job));
                    (None, s.posts[c].take().map(|n| n.to_key_value().1))
                }
            }
        };
        if let Some(reply) = again {
            self.send_reply(xid, &reply);
            return Ok(());
        }
        let Some(job) = job else {
            return Ok(());
        };
        self.start(job)
    }

    /// Queues a request of a member that is new and has a credit and a class, in the usual case. Returns whether it did.
    fn request_at_once(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: KVVec<u8>) -> bool {
        let Some(op) = OpId::of_request(head) else {
            return false;
        };
        let xid = head.xid.get();
        let c = op.class as usize;
        // A post has its place among others.
        if head.order.get() != 0 || !self.pool.class_of(&op).is_ok_and(|here| here == op.class) {
            return false;
        }
        let flags = GFP_ATOMIC | __GFP_NOWARN;
        let (Ok(spare), Ok(place)) = (RBTreeNodeReservation::new(flags), Place::new(flags)) else {
            return false;
        };
        let mut job = Job {
            peer: self.clone(),
            from: Caller {
                node: self.node,
                incarnation: link.incarnation,
            },
            epoch: 0,
            xid,
            op,
            order: 0,
            body,
        };
        let mut s = self.state.lock();
        if s.member != Some(link.incarnation)
            || !s.is_current(link)
            || s.asked[c] >= credits(c)
            || s.answers.get(&xid).is_some()
        {
            return false;
        }
        job.epoch = s.epoch;
        // In one step with its entry: whoever takes it begins by asking for that. Of class P a thread must be idle.
        let is_queued = self.pool.submit_at_once(job, place);
        if is_queued {
            s.asked[c] += 1;
            let _none = s.answers.insert(spare.into_node(xid, Answer::Waiting));
        }
        is_queued
    }

    /// Hands a request to who answers it.
    fn start(&self, job: Job) -> Result {
        let (epoch, xid, op, order) = (job.epoch, job.xid, job.op, job.order);
        let refusal = match self.pool.class_of(&op) {
            Ok(class) if class != op.class => EPROTO,
            Ok(_) => match self.pool.submit(job) {
                Ok(()) => return Ok(()),
                Err(e) => e,
            },
            Err(Unknown::Absent) => EPROTONOSUPPORT,
            Err(Unknown::Version(name, here)) => {
                if let Some(link) = self.link() {
                    link.refuse(
                        Refused::Version,
                        &fmt!(
                            "a request of version {} of service {}, which is {} here: \
                             load modules of one release on all nodes",
                            op.version,
                            name,
                            here
                        ),
                    );
                }
                EPROTONOSUPPORT
            }
        };
        self.finish(epoch, xid, op.class, Err(Status::Errno(refusal)));
        if order != 0 {
            self.post_done(epoch, op.class);
        }
        Ok(())
    }

    fn cancel_came(&self, link: &Arc<Link>, xid: u64) {
        let mut s = self.state.lock();
        if !s.is_current(link) {
            return; // of another life, whose numbers are others
        }
        if let Some(Answer::Running(thread)) = s.answers.get(&xid) {
            // SAFETY: The entry says so until `finish`, which takes this lock, is called by that thread.
            unsafe { thread.interrupt() }
        } else if let Some(a @ Answer::Waiting) = s.answers.get_mut(&xid) {
            // Found out by `begin`, which then finishes it.
            *a = Answer::Cancelled;
        }
    }

    /// A thread is about to answer. Returns whether anybody still wants it.
    pub(crate) fn begin(&self, epoch: u64, xid: u64, thread: ThreadId) -> bool {
        let mut s = self.state.lock();
        if s.epoch != epoch {
            return false;
        }
        match s.answers.get_mut(&xid) {
            Some(a @ Answer::Waiting) => {
                *a = Answer::Running(thread);
                true
            }
            _ => false,
        }
    }

    /// A request is answered: keeps the reply and sends it.
    pub(crate) fn finish(
        &self,
        epoch: u64,
        xid: u64,
        class: Class,
        result: core::result::Result<KVVec<u8>, Status>,
    ) {
        let (status, moved_to, body) = match result {
            Ok(body) => (0, 0, body),
            // CAST: errnos are small.
            Err(Status::Errno(e)) => (e.to_errno().unsigned_abs(), 0, KVVec::new()),
            Err(Status::Moved(n)) => (MOVED, n.number(), KVVec::new()),
        };
        let mut reply = Reply {
            status,
            moved_to,
            body,
        };
        // It was done, so the asker must be told: for an object this small the kernel finds memory.
        let reply = loop {
            match Arc::new(reply, GFP_KERNEL) {
                Ok(r) => break r,
                Err(_) => {
                    reply = Reply {
                        status: ENOMEM.to_errno().unsigned_abs(),
                        moved_to: 0,
                        body: KVVec::new(),
                    };
                    ssi::task::yield_now();
                }
            }
        };
        {
            let mut s = self.state.lock();
            if s.epoch != epoch {
                return; // the asker is down
            }
            let c = class as usize;
            s.asked[c] = s.asked[c].saturating_sub(1);
            match s.answers.get_mut(&xid) {
                Some(a) => *a = Answer::Done(reply.clone()),
                None => return,
            }
        }
        self.send_reply(xid, &reply);
    }

    /// A post was done: the next one of its class may begin.
    pub(crate) fn post_done(&self, epoch: u64, class: Class) {
        let job = {
            let mut s = self.state.lock();
            if s.epoch != epoch {
                return;
            }
            let posts = &mut s.posts[class as usize];
            posts.next += 1;
            posts.busy = false;
            posts.take().map(|n| n.to_key_value().1)
        };
        if let Some(job) = job {
            // Recursion is bounded: `start` comes back here only when it refuses, and then with a shorter queue.
            let _done = self.start(job);
        }
    }

    fn send_reply(&self, xid: u64, reply: &Arc<Reply>) {
        if let Some(link) = self.link() {
            let mut h = Head::new(Kind::Reply, xid);
            h.status = Le32::new(reply.status);
            h.moved_to = Le32::new(reply.moved_to);
            // Without memory for a place in the queue the stream is torn: the asker asks again on the next one.
            if link.send(h, Body::Reply(reply.clone())).is_err() {
                link.tear();
            }
        }
    }

    // ---- Streams and membership ------------------------------------------------------------------------------

    /// A stream has passed admission. Calls that wait are sent on it.
    ///
    /// # Errors
    /// `ESTALE` for an older incarnation than one seen; `EAGAIN` while another incarnation is a member; `ESHUTDOWN` once
    /// the transport stops.
    pub(crate) fn attach(&self, link: &Arc<Link>, incarnation: Incarnation) -> Result {
        let (old, end) = {
            let mut s = self.state.lock();
            if s.is_closed {
                return Err(ESHUTDOWN);
            }
            if s.about.is_some_and(|a| incarnation < a) {
                return Err(ESTALE);
            }
            if s.member.is_some_and(|m| m != incarnation) {
                return Err(EAGAIN);
            }
            // Of a member nothing ends here: what was asked since it was admitted waits for this stream.
            let mut old = s.turn_to(incarnation);
            let replaced = s.link.replace((link.clone(), incarnation));
            old.link = old.link.or(replaced.map(|(l, _)| l));
            (old, s.next_xid)
        };
        old.end(self.node);
        self.changed.notify_all();
        // In the order of their numbers, and only those that were there: later ones are sent by who asks.
        let mut from = 0;
        loop {
            let next = {
                let s = self.state.lock();
                let cursor = s.pending.cursor_lower_bound(&from);
                cursor.map(|c| c.current().1.clone())
            };
            let Some(p) = next.filter(|p| p.xid < end) else {
                return Ok(());
            };
            from = p.xid + 1;
            link.send(p.head(), Body::Request(p.clone()))?;
        }
    }

    /// A stream is torn. Returns whether it was the current one.
    pub(crate) fn detach(&self, link: &Arc<Link>) -> bool {
        let gone = {
            let mut s = self.state.lock();
            let was = s.is_current(link);
            was.then(|| s.link.take())
        };
        self.changed.notify_all();
        gone.is_some()
    }

    /// An incarnation of the peer was heard: a stream to an earlier one that is no member is of no use.
    pub(crate) fn heard(&self, incarnation: Incarnation) {
        let old = {
            let s = self.state.lock();
            match &s.link {
                Some((l, i)) if *i < incarnation && s.member.is_none() => Some(l.clone()),
                _ => None,
            }
        };
        if let Some(link) = old {
            link.tear();
        }
    }

    /// `clms` says that this incarnation is a member.
    pub(crate) fn admit(&self, incarnation: Incarnation) {
        let ended = {
            let mut s = self.state.lock();
            s.member = Some(incarnation);
            s.turn_to(incarnation)
        };
        ended.end(self.node);
        self.changed.notify_all();
    }

    /// `clms` says that it is down: every call to it ends, nothing of it is answered any more.
    pub(crate) fn fence(&self) {
        let ended = {
            let mut s = self.state.lock();
            s.member = None;
            s.end_all()
        };
        ended.end(self.node);
        self.changed.notify_all();
    }

    /// The transport stops: as [`Self::fence`], and no stream is attached any more.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.fence();
    }
}

impl State {
    /// Whether this is the stream.
    fn is_current(&self, link: &Arc<Link>) -> bool {
        self.link
            .as_ref()
            .is_some_and(|(l, _)| Arc::ptr_eq(l, link))
    }

    /// Makes the tables be about an incarnation: ends what is about another one.
    fn turn_to(&mut self, incarnation: Incarnation) -> Ended {
        if self.about == Some(incarnation) {
            return Ended::default();
        }
        self.about = Some(incarnation);
        self.end_all()
    }

    /// Empties the tables: takes each whole, so that nothing is allocated or freed here.
    fn end_all(&mut self) -> Ended {
        self.epoch += 1;
        self.waiting = [0; Class::N];
        self.asked = [0; Class::N];
        self.posted = [0; Class::N];
        let answers = take(&mut self.answers);
        for a in answers.values() {
            if let Answer::Running(thread) = a {
                // SAFETY: The entry says so until `finish`, which takes the lock that our caller holds.
                unsafe { thread.interrupt() }
            }
        }
        Ended {
            pending: take(&mut self.pending),
            _answers: answers,
            link: self.link.take().map(|(l, _)| l),
            _posts: Some(core::mem::replace(
                &mut self.posts,
                core::array::from_fn(|_| Posts::new()),
            )),
        }
    }
}

impl Ended {
    /// Wakes those who wait, tears the stream, and frees the rest.
    fn end(self, node: NodeId) {
        for p in self.pending.values() {
            p.end(Err(CallError::Down(node)));
        }
        if let Some(link) = &self.link {
            link.tear();
        }
    }
}

/// A body of its own, without sleeping. Any context.
///
/// # Errors
/// `ENOMEM`, silently: who asks has another way.
fn copy_at_once(body: &[u8]) -> Result<KVVec<u8>> {
    let mut copy = KVVec::new();
    copy.extend_from_slice(body, GFP_ATOMIC | __GFP_NOWARN)?;
    Ok(copy)
}

fn take<V>(table: &mut RBTree<u64, V>) -> RBTree<u64, V> {
    core::mem::replace(table, RBTree::new())
}
