// SPDX-License-Identifier: GPL-2.0

//! Another node as the transport sees it: its stream, the calls that wait for it, the calls of its that are answered
//! here.
//!
//! A call survives its stream: it is sent again, under the same number, on the next one to the same incarnation. The
//! answering side keeps each reply until the asker says that it waits for nothing below a later number, so that what
//! was done once is not done again.

use crate::error::CallError;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MOVED;
use crate::link::Link;
use crate::pool;
use crate::pool::Job;
use crate::service::Caller;
use crate::service::Class;
use crate::service::Status;
use kernel::error::Error;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::Arc;
use kernel::sync::SpinLock;
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

/// A call that waits for its reply.
#[pin_data]
pub(crate) struct Pending {
    xid: u64,
    service: u16,
    op: u16,
    class: Class,
    body: KVVec<u8>,
    #[pin]
    outcome: SpinLock<Option<core::result::Result<KVVec<u8>, CallError>>>,
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

    fn head(&self, floor: u64) -> Head {
        let mut h = Head::new(Kind::Request, self.xid);
        h.service = Le16::new(self.service);
        h.op = Le16::new(self.op);
        h.class = self.class as u8;
        h.floor = Le64::new(floor);
        h
    }
}

/// A request of the peer's that is, or was, answered here.
enum Answer {
    /// Queued.
    Waiting,
    /// A thread answers it.
    Running(ThreadId),
    /// Answered; kept in case the reply got lost.
    Done(Arc<Reply>),
}

/// A reply as it goes out.
struct Reply {
    status: u32,
    moved_to: u32,
    body: KVVec<u8>,
}

struct State {
    /// The incarnation that `clms` admitted. `None`: no member; nothing is asked or answered.
    member: Option<Incarnation>,
    /// The stream, and the incarnation at its other end.
    link: Option<(Arc<Link>, Incarnation)>,
    /// The incarnation that `pending` and `answers` are about.
    about: Option<Incarnation>,
    next_xid: u64,
    pending: RBTree<u64, Arc<Pending>>,
    waiting: [u32; Class::N],
    answers: RBTree<u64, Answer>,
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
    /// Lock: level 14 `ics::peer`, spin.
    #[pin]
    state: SpinLock<State>,
    /// Told when a credit comes back, the peer is fenced, or the stream comes or goes.
    #[pin]
    changed: Event,
}

/// Everything that was taken out of a peer under its lock and is ended after unlocking.
#[derive(Default)]
struct Ended {
    pending: KVec<Arc<Pending>>,
    link: Option<Arc<Link>>,
}

impl Peer {
    /// A node that has not been heard of.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(node: NodeId, addresses: KVec<Ipv4>, port: u16) -> Result<Arc<Self>> {
        let state = State {
            member: None,
            link: None,
            about: None,
            next_xid: 1,
            pending: RBTree::new(),
            waiting: [0; Class::N],
            answers: RBTree::new(),
        };
        Arc::pin_init(
            pin_init!(Self {
                node,
                addresses,
                port,
                state <- kernel::new_spinlock!(state, "ics::peer"),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    // ---- Asking --------------------------------------------------------------------------------------------

    /// Asks and waits for the reply: its body. Sleeps.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) fn ask(
        self: &Arc<Self>,
        service: u16,
        op: u16,
        class: Class,
        body: KVVec<u8>,
    ) -> core::result::Result<KVVec<u8>, CallError> {
        let spare = RBTreeNodeReservation::new(GFP_KERNEL).map_err(|e| CallError::Local(e.into()))?;
        let c = class as usize;
        let admitted = |s: &State| s.member.is_some();
        let down = CallError::Down(self.node);
        // A credit, a number and a place in the table, in one step.
        let mut spare = Some(spare);
        let mut body = Some(body);
        let start = || {
            let mut s = self.state.lock();
            if !admitted(&s) {
                return Some(Err(down));
            }
            if class != Class::P && s.waiting[c] >= CREDITS {
                return None;
            }
            s.waiting[c] += 1;
            let xid = s.next_xid;
            s.next_xid += 1;
            Some(Ok(xid))
        };
        let mut xid = start();
        if xid.is_none() {
            self.changed.wait_until(|| {
                xid = start();
                xid.is_some()
            });
        }
        let Some(xid) = xid else {
            return Err(down);
        };
        let xid = xid?;
        let (Some(spare), Some(body)) = (spare.take(), body.take()) else {
            return Err(CallError::Protocol);
        };
        let made = Arc::pin_init(
            pin_init!(Pending {
                xid,
                service,
                op,
                class,
                body,
                outcome <- kernel::new_spinlock!(None, "ics::outcome"),
                done <- Event::new(),
            }),
            GFP_KERNEL,
        );
        let pending = match made {
            Ok(p) => p,
            Err(e) => {
                self.give_credit_back(class);
                return Err(CallError::Local(e));
            }
        };
        let link = {
            let mut s = self.state.lock();
            if !admitted(&s) {
                s.waiting[c] -= 1;
                return Err(down);
            }
            let _none = s.pending.insert(spare.into_node(xid, pending.clone()));
            // No stream: sent when there is one again.
            s.link.as_ref().map(|(l, _)| l.clone())
        };
        if let Some(link) = link {
            // A torn stream: sent again on the next one, or ended by a fence.
            let _torn = link.send(&mut pending.head(self.floor()), &pending.body);
        }
        let mut outcome = None;
        let ended = {
            let take = || {
                outcome = pending.outcome.lock().take();
                outcome.is_some()
            };
            if class == Class::P {
                pending.done.wait_interruptible(take)
            } else {
                pending.done.wait_until(take);
                true
            }
        };
        if !ended {
            self.cancel(&pending);
            outcome = Some(Err(CallError::Interrupted));
        }
        self.give_credit_back(class);
        outcome.unwrap_or(Err(CallError::Interrupted))
    }

    fn give_credit_back(&self, class: Class) {
        self.state.lock().waiting[class as usize] -= 1;
        self.changed.notify_all();
    }

    /// The least number that still waits.
    fn floor(&self) -> u64 {
        let s = self.state.lock();
        first(&s.pending).unwrap_or(s.next_xid)
    }

    fn cancel(&self, pending: &Pending) {
        let (_gone, link) = {
            let mut s = self.state.lock();
            let gone = s.pending.remove_node(&pending.xid);
            (gone, s.link.as_ref().map(|(l, _)| l.clone()))
        };
        if let Some(link) = link {
            let mut h = Head::new(Kind::Cancel, pending.xid);
            h.floor = Le64::new(self.floor());
            let _torn = link.send(&mut h, &[]);
        }
    }

    // ---- Answering -----------------------------------------------------------------------------------------

    /// Takes a frame that has passed all checks.
    ///
    /// # Errors
    /// `EPROTO` for what no honest peer sends: the stream is torn.
    pub(crate) fn receive(
        self: &Arc<Self>,
        incarnation: Incarnation,
        head: &Head,
        body: KVVec<u8>,
    ) -> Result {
        match Kind::from_wire(head.kind).ok_or(EPROTO)? {
            Kind::Reply => self.reply_came(head, body),
            Kind::Request => self.request_came(incarnation, head, body)?,
            Kind::Cancel => self.cancel_came(head.xid.get()),
        }
        Ok(())
    }

    fn reply_came(&self, head: &Head, body: KVVec<u8>) {
        let node = self.state.lock().pending.remove_node(&head.xid.get());
        let Some(node) = node else {
            return; // cancelled, or a second reply
        };
        let pending = node.to_key_value().1;
        pending.end(match head.status.get() {
            0 => Ok(body),
            MOVED => match NodeId::new(head.moved_to.get()) {
                Some(n) => Err(CallError::Moved(n)),
                None => Err(CallError::Protocol),
            },
            // CAST: an errno; anything else becomes EINVAL's like in `from_errno`.
            e @ 1..=4095 => Err(CallError::Remote(Error::from_errno(-(e as i32)))),
            _ => Err(CallError::Protocol),
        });
    }

    fn request_came(
        self: &Arc<Self>,
        incarnation: Incarnation,
        head: &Head,
        body: KVVec<u8>,
    ) -> Result {
        let xid = head.xid.get();
        let service = head.service.get();
        let spare = RBTreeNodeReservation::new(GFP_KERNEL)?;
        // The peer may have the new view before this node has: its requests wait here, in order, until this node
        // has it too, or the stream goes.
        self.changed.wait_until(|| {
            let s = self.state.lock();
            s.member == Some(incarnation) || s.link.is_none()
        });
        let again = {
            let mut s = self.state.lock();
            if s.member != Some(incarnation) {
                return Err(ESTALE);
            }
            prune(&mut s.answers, head.floor.get());
            match s.answers.get(&xid) {
                Some(Answer::Done(r)) => Some(r.clone()),
                Some(_) => return Ok(()),
                None => {
                    let _none = s.answers.insert(spare.into_node(xid, Answer::Waiting));
                    None
                }
            }
        };
        if let Some(reply) = again {
            self.send_reply(xid, &reply);
            return Ok(());
        }
        let Some(class) = pool::class_of(service, head.op.get()) else {
            self.finish(xid, Err(Status::Errno(EPROTONOSUPPORT)));
            return Ok(());
        };
        if Class::from_wire(head.class) != Some(class) {
            self.finish(xid, Err(Status::Errno(EPROTO)));
            return Ok(());
        }
        let job = Job {
            peer: self.clone(),
            from: Caller {
                node: self.node,
                incarnation,
            },
            xid,
            service,
            op: head.op.get(),
            body,
        };
        if let Err(e) = pool::submit(class, job) {
            self.finish(xid, Err(Status::Errno(e)));
        }
        Ok(())
    }

    fn cancel_came(&self, xid: u64) {
        let mut s = self.state.lock();
        match s.answers.get(&xid) {
            Some(Answer::Running(thread)) => {
                // SAFETY: The entry says so until `finish`, which takes this lock, is called by that thread.
                unsafe { thread.interrupt() }
            }
            Some(Answer::Waiting) => {
                let _gone = s.answers.remove_node(&xid);
            }
            _ => {}
        }
    }

    /// A thread is about to answer. Returns whether anybody still wants it.
    pub(crate) fn begin(&self, xid: u64, thread: ThreadId) -> bool {
        match self.state.lock().answers.get_mut(&xid) {
            Some(a @ Answer::Waiting) => {
                *a = Answer::Running(thread);
                true
            }
            _ => false,
        }
    }

    /// A request is answered: keeps the reply and sends it.
    pub(crate) fn finish(&self, xid: u64, result: core::result::Result<KVVec<u8>, Status>) {
        let (status, moved_to, body) = match result {
            Ok(body) => (0, 0, body),
            // CAST: errnos are small.
            Err(Status::Errno(e)) => (e.to_errno().unsigned_abs(), 0, KVVec::new()),
            Err(Status::Moved(n)) => (MOVED, n.number(), KVVec::new()),
        };
        let reply = Arc::new(
            Reply {
                status,
                moved_to,
                body,
            },
            GFP_KERNEL,
        );
        let Ok(reply) = reply else {
            // No memory for the reply: forget the request. It was done; a repetition would do it again.
            pr_err!("node {}: no memory for a reply\n", self.node.number());
            return;
        };
        {
            let mut s = self.state.lock();
            match s.answers.get_mut(&xid) {
                Some(a) => *a = Answer::Done(reply.clone()),
                None => return, // the asker is down or does not wait
            }
        }
        self.send_reply(xid, &reply);
    }

    fn send_reply(&self, xid: u64, reply: &Reply) {
        let link = {
            let s = self.state.lock();
            s.link.as_ref().map(|(l, _)| l.clone())
        };
        if let Some(link) = link {
            let mut h = Head::new(Kind::Reply, xid);
            h.status = Le32::new(reply.status);
            h.moved_to = Le32::new(reply.moved_to);
            // A torn stream: the asker asks again on the next one.
            let _torn = link.send(&mut h, &reply.body);
        }
    }

    // ---- Streams and membership ------------------------------------------------------------------------------

    /// A stream has passed admission. Calls that wait are sent on it.
    ///
    /// # Errors
    /// `ESTALE` for an older incarnation than one seen; `EAGAIN` while another incarnation is a member.
    pub(crate) fn attach(&self, link: &Arc<Link>, incarnation: Incarnation) -> Result {
        let (again, old) = {
            let mut s = self.state.lock();
            if s.about.is_some_and(|a| incarnation < a) {
                return Err(ESTALE);
            }
            if s.member.is_some_and(|m| m != incarnation) {
                return Err(EAGAIN);
            }
            let mut old = Ended::default();
            if s.about != Some(incarnation) {
                old = s.end_all();
                s.about = Some(incarnation);
            }
            let replaced = s.link.replace((link.clone(), incarnation));
            old.link = old.link.or(replaced.map(|(l, _)| l));
            let mut again = KVec::new();
            for p in s.pending.values() {
                // Without memory for the list the stream is refused and tried again.
                again.push(p.clone(), GFP_ATOMIC)?;
            }
            (again, old)
        };
        old.end(self.node);
        let floor = self.floor();
        for p in again {
            link.send(&mut p.head(floor), &p.body)?;
        }
        self.changed.notify_all();
        Ok(())
    }

    /// A stream is torn. Returns whether it was the current one.
    pub(crate) fn detach(&self, link: &Arc<Link>) -> bool {
        let mut ended = Ended::default();
        let was = {
            let mut s = self.state.lock();
            let was = s.link.as_ref().is_some_and(|(l, _)| Arc::ptr_eq(l, link));
            if was {
                ended.link = s.link.take().map(|(l, _)| l);
            }
            was
        };
        ended.end(self.node);
        self.changed.notify_all();
        was
    }

    /// `clms` says that this incarnation is a member.
    pub(crate) fn admit(&self, incarnation: Incarnation) {
        self.state.lock().member = Some(incarnation);
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

    /// Whether there is a stream, and to whom.
    #[expect(dead_code)]
    pub(crate) fn linked(&self) -> Option<Incarnation> {
        self.state.lock().link.as_ref().map(|(_, i)| *i)
    }
}

impl State {
    /// Empties the tables. Does not allocate: the list of calls is the table itself, taken whole.
    fn end_all(&mut self) -> Ended {
        let mut pending = KVec::new();
        while let Some(key) = first(&self.pending) {
            if let Some(node) = self.pending.remove_node(&key) {
                let p = node.to_key_value().1;
                if pending.push(p.clone(), GFP_ATOMIC).is_err() {
                    // Ending it here only wakes its waiter.
                    p.end(Err(CallError::Interrupted));
                }
            }
        }
        for a in self.answers.values() {
            if let Answer::Running(thread) = a {
                // SAFETY: The entry says so until `finish`, which takes the same lock.
                unsafe { thread.interrupt() }
            }
        }
        while let Some(key) = first(&self.answers) {
            let _gone = self.answers.remove_node(&key);
        }
        Ended {
            pending,
            link: self.link.take().map(|(l, _)| l),
        }
    }
}

impl Ended {
    fn end(self, node: NodeId) {
        for p in self.pending {
            p.end(Err(CallError::Down(node)));
        }
        if let Some(link) = self.link {
            link.tear();
        }
    }
}

/// The least number of a table.
fn first<V>(table: &RBTree<u64, V>) -> Option<u64> {
    let mut keys = table.keys();
    keys.next().copied()
}

/// Forgets replies that nobody waits for.
fn prune(answers: &mut RBTree<u64, Answer>, floor: u64) {
    while let Some(key) = first(answers).filter(|k| *k < floor) {
        if !matches!(answers.get(&key), Some(Answer::Done(_))) {
            return;
        }
        let _gone = answers.remove_node(&key);
    }
}
