// SPDX-License-Identifier: GPL-2.0

//! Answering a peer: what comes from it, each request once, posts in their order, and replies that are kept until they
//! have arrived.

use super::credits;
use super::most_kept;
use super::Peer;
use super::State;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MOVED;
use crate::link::Body;
use crate::link::Link;
use crate::pool::Job;
use crate::pool::Place;
use crate::pool::Unknown;
use crate::refused::Refused;
use crate::service::Caller;
use crate::service::Class;
use crate::service::OpId;
use crate::service::Status;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::str::BStr;
use kernel::sync::Arc;
use ssi::kthread::ThreadId;
use ssi::wire::Le32;

/// A request of the peer's that is, or was, answered here.
pub(super) enum Answer {
    /// Queued.
    Waiting,
    /// Nobody waits for it any more.
    Cancelled,
    /// A thread answers it.
    Running(ThreadId),
    /// Its handler has ended, and whoever has the ticket answers it.
    Later,
    /// Answered; kept in case the reply got lost.
    Done(Arc<Reply>),
}

/// A request with its class.
pub(super) struct Kept {
    class: Class,
    is_post: bool,
    pub(super) answer: Answer,
    /// It is from before the main stream, on which the peer asks it once more, or cancels it. Until then it is not forgotten:
    /// that frame may be under way, and behind one that says that the reply has arrived.
    pub(super) comes_again: bool,
    /// Meanwhile the reply has arrived.
    has_arrived: bool,
    /// Nobody waits for the answer any more.
    is_given_up: bool,
}

impl Kept {
    /// Whether it is a call that nobody waits for. The asker has its credit back, and asks more, however long this one is kept.
    /// A post is not given up by an honest peer.
    fn is_left(&self) -> bool {
        self.is_given_up && !self.is_post
    }
}

/// Whether one more request may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    There,
    /// It is refused: too many calls are kept that were given up.
    TooManyLeft,
    /// An honest peer has no more.
    NoCredit,
}

/// A reply as it goes out.
pub(crate) struct Reply {
    status: u32,
    moved_to: u32,
    pub(crate) body: KVVec<u8>,
}

/// The posts of one class from the peer.
pub(super) struct Posts {
    /// The one that is done next, or now.
    next: u64,
    /// Whether it is done now.
    busy: bool,
    /// Those that came.
    parked: RBTree<u64, Job>,
}

impl Posts {
    pub(super) fn new() -> Self {
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

impl State {
    /// A request is queued.
    fn keep(
        &mut self,
        place: RBTreeNodeReservation<u64, Kept>,
        xid: u64,
        class: Class,
        is_post: bool,
    ) {
        let c = class as usize;
        self.asked[c] += 1;
        self.kept[c] += 1;
        let kept = Kept {
            class,
            is_post,
            answer: Answer::Waiting,
            comes_again: false,
            has_arrived: false,
            is_given_up: false,
        };
        let _none = self.answers.insert(place.into_node(xid, kept));
    }

    /// Whether the peer may ask one more of a class.
    fn room_for(&self, class: Class, is_post: bool) -> Room {
        let c = class as usize;
        let (kept, most) = (self.kept[c], most_kept(c));
        let wanted = kept.saturating_sub(self.left[c]);
        if self.asked[c] >= credits(c) || wanted >= most || kept >= 2 * most {
            Room::NoCredit
        } else if kept >= most && !is_post {
            Room::TooManyLeft
        } else {
            Room::There
        }
    }

    /// Takes out a request.
    fn remove(&mut self, xid: u64) -> Option<RBTreeNode<u64, Kept>> {
        let kept = self.answers.get(&xid)?;
        let (c, is_left) = (kept.class as usize, kept.is_left());
        self.kept[c] = self.kept[c].saturating_sub(1);
        self.left[c] = self.left[c].saturating_sub(u32::from(is_left));
        self.answers.remove_node(&xid)
    }

    /// Takes out a request that is answered: it does not come again.
    pub(super) fn forget(&mut self, xid: u64) -> Option<RBTreeNode<u64, Kept>> {
        let is_done = |k: &&Kept| matches!(k.answer, Answer::Done(_));
        self.answers.get(&xid).filter(is_done)?;
        self.remove(xid)
    }

    /// The reply to a request has arrived at the peer. Takes out what is left of it, unless it comes again.
    fn arrived(&mut self, xid: u64) -> Option<RBTreeNode<u64, Kept>> {
        if let Some(kept) = self.answers.get_mut(&xid).filter(|k| k.comes_again) {
            kept.has_arrived = true;
            return None;
        }
        self.forget(xid)
    }

    /// A request, or its cancel, came again on this main stream. Takes out what is left of one whose reply has arrived.
    fn came_again(&mut self, xid: u64) -> Option<RBTreeNode<u64, Kept>> {
        let kept = self.answers.get_mut(&xid)?;
        kept.comes_again = false;
        if kept.has_arrived {
            self.forget(xid)
        } else {
            None
        }
    }

    /// Nobody waits for the answer any more: it is interrupted, or does not begin, and has no credit. Takes out what only a ticket
    /// is left of, which may be kept for ever.
    pub(super) fn give_up(&mut self, xid: u64) -> Option<RBTreeNode<u64, Kept>> {
        let kept = self.answers.get_mut(&xid)?;
        let was_left = kept.is_left();
        kept.is_given_up = true;
        if kept.is_left() && !was_left {
            let c = kept.class as usize;
            self.left[c] += 1;
            // What is answered has none any more.
            if !matches!(kept.answer, Answer::Done(_)) {
                self.asked[c] = self.asked[c].saturating_sub(1);
            }
        }
        match &kept.answer {
            // SAFETY: The entry says so until `finish`, which takes the lock that our caller holds.
            Answer::Running(thread) => unsafe { thread.interrupt() },
            // Found out by `begin`, which then finishes it.
            Answer::Waiting => kept.answer = Answer::Cancelled,
            Answer::Cancelled | Answer::Done(_) => {}
            Answer::Later => return self.remove(xid),
        }
        None
    }
}

impl Peer {
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
        let kind = Kind::from_wire(head.kind).ok_or(EPROTO)?;
        // What comes beside it may come before what the main stream begins with.
        if link.side.is_some() {
            self.changed.wait_until(|| {
                let s = self.state.lock();
                s.is_opened || !s.is_current(link) || link.is_torn()
            });
        }
        if link.is_first(head) != (kind == Kind::Open) {
            link.refuse(
                Refused::Torn,
                &"open calls are not said at the beginning, or only there",
            );
            return Err(EPROTO);
        }
        self.forget_answered(link, head);
        match kind {
            Kind::Reply => self.reply_came(head, body),
            Kind::Request => self.request_came(link, head, body)?,
            Kind::Cancel => self.cancel_came(link, head.xid.get()),
            Kind::Open => self.open_came(link, head, &body)?,
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
        if link.is_first(head) || link.side.is_some() && !self.state.lock().is_opened {
            return false;
        }
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
            Some(Kind::Open) | None => false,
        };
        if is_done {
            self.forget_answered(link, head);
        }
        is_done
    }

    /// Forgets the answers that have arrived at the peer.
    fn forget_answered(&self, link: &Arc<Link>, head: &Head) {
        for (side, seen) in link.news(head) {
            let arrived = if side == link.side {
                Some(link.arrived(seen))
            } else {
                let s = self.state.lock();
                // If it was replaced, what it says is not about those that came after.
                let is_current = s.is_current(link);
                // Not cloned: here nobody may free a stream.
                let beside = s.on(side).filter(|_| is_current);
                beside.map(|l| l.arrived(seen))
            };
            for xid in arrived.into_iter().flatten() {
                // Freed after unlocking.
                let _done = self.state.lock().arrived(xid);
            }
        }
    }

    fn request_came(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: KVVec<u8>) -> Result {
        let xid = head.xid.get();
        if !is_number(xid) {
            link.refuse(Refused::Torn, &"a request without a number");
            return Err(EPROTO);
        }
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
            s.member == Some(incarnation) || !s.is_current(link) || link.is_torn()
        });
        // Freed after unlocking.
        let _arrived;
        let (again, job) = {
            let mut s = self.state.lock();
            if s.member != Some(incarnation) || !s.is_current(link) {
                return Err(ESTALE);
            }
            if s.answers.get(&xid).is_some_and(|k| !k.comes_again) {
                drop(s);
                link.refuse(Refused::Torn, &"a request twice on one stream");
                return Err(EPROTO);
            }
            _arrived = s.came_again(xid);
            if _arrived.is_some() {
                return Ok(());
            }
            let again = match s.answers.get(&xid).map(|k| &k.answer) {
                Some(Answer::Done(r)) => Some(r.clone()),
                Some(_) => return Ok(()),
                None => None,
            };
            if again.is_some() {
                (again, None)
            } else {
                let room = s.room_for(op.class, order != 0);
                if room == Room::NoCredit {
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
                s.keep(spare, xid, op.class, order != 0);
                if room == Room::TooManyLeft {
                    let epoch = s.epoch;
                    drop(s);
                    self.finish(epoch, xid, op.class, Err(Status::Errno(EAGAIN)));
                    return Ok(());
                }
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
            self.send_reply(xid, op.class, &reply);
            return Ok(());
        }
        if let Some(job) = job {
            self.start(job);
        }
        Ok(())
    }

    /// Queues a request of a member that is new and has a credit and a class, in the usual case. Returns whether it did.
    fn request_at_once(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: KVVec<u8>) -> bool {
        let Some(op) = OpId::of_request(head) else {
            return false;
        };
        let xid = head.xid.get();
        // A post has its place among others.
        if !is_number(xid)
            || head.order.get() != 0
            || !self.pool.class_of(&op).is_ok_and(|here| here == op.class)
        {
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
            || s.room_for(op.class, false) != Room::There
            || s.answers.get(&xid).is_some()
        {
            return false;
        }
        job.epoch = s.epoch;
        // In one step with its entry: whoever takes it begins by asking for that. Of class P a thread must be idle.
        match self.pool.submit_at_once(job, place) {
            Ok(()) => {
                s.keep(spare, xid, op.class, false);
                true
            }
            Err(refused) => {
                // What it holds is freed without the lock.
                drop(s);
                drop(refused);
                false
            }
        }
    }

    /// Hands a request to who answers it.
    fn start(&self, mut job: Job) {
        // A loop: the posts behind one that is refused may all be refused too.
        loop {
            let (epoch, class, order) = (job.epoch, job.op.class, job.order);
            if self.submit(job) || order == 0 {
                return;
            }
            match self.next_post(epoch, class) {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Queues a request for its class, or answers that it is refused. Returns whether it is queued.
    fn submit(&self, job: Job) -> bool {
        let (epoch, xid, op) = (job.epoch, job.xid, job.op);
        let refusal = match self.pool.class_of(&op) {
            Ok(class) if class != op.class => EPROTO,
            Ok(_) => match self.pool.submit(job) {
                Ok(()) => return true,
                Err(e) => e,
            },
            Err(Unknown::Absent) => EPROTONOSUPPORT,
            Err(Unknown::Version(here)) => {
                // Its own name is in memory of a module that may go.
                let name = self.pool.stats.name(op.service).unwrap_or(b"?");
                if let Some(link) = self.link() {
                    link.refuse(
                        Refused::Version,
                        &fmt!(
                            "a request of version {} of service {}, which is {} here: \
                             load modules of one release on all nodes",
                            op.version,
                            BStr::from_bytes(name),
                            here
                        ),
                    );
                }
                EPROTONOSUPPORT
            }
        };
        self.finish(epoch, xid, op.class, Err(Status::Errno(refusal)));
        false
    }

    fn cancel_came(&self, link: &Arc<Link>, xid: u64) {
        // Freed after unlocking.
        let (_arrived, _left);
        let mut s = self.state.lock();
        if !s.is_current(link) {
            return; // of another life, whose numbers are others
        }
        _arrived = s.came_again(xid);
        _left = s.give_up(xid);
    }

    /// A thread is about to answer. Returns whether anybody still wants it.
    pub(crate) fn begin(&self, epoch: u64, xid: u64, thread: ThreadId) -> bool {
        let mut s = self.state.lock();
        if s.epoch != epoch {
            return false;
        }
        match s.answers.get_mut(&xid).map(|k| &mut k.answer) {
            Some(a @ Answer::Waiting) => {
                *a = Answer::Running(thread);
                true
            }
            _ => false,
        }
    }

    /// A handler has ended, and its thread does other work: it is not interrupted for this request any more.
    pub(crate) fn goes_on_without_thread(&self, epoch: u64, xid: u64) {
        // Freed after unlocking.
        let _left;
        let mut s = self.state.lock();
        if s.epoch != epoch {
            return;
        }
        let Some(k) = s.answers.get_mut(&xid) else {
            return;
        };
        k.answer = Answer::Later;
        if k.is_given_up {
            _left = s.give_up(xid);
        }
    }

    /// Whether anybody still waits for a request to be answered.
    pub(crate) fn is_wanted(&self, epoch: u64, xid: u64) -> bool {
        let s = self.state.lock();
        s.epoch == epoch && s.answers.get(&xid).is_some()
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
            // Who has a ticket answers with it.
            Err(Status::Later(_)) => (EPROTO.to_errno().unsigned_abs(), 0, KVVec::new()),
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
            let Some(k) = s.answers.get_mut(&xid) else {
                return; // given up, after its handler had ended
            };
            k.answer = Answer::Done(reply.clone());
            if !k.is_left() {
                let c = class as usize;
                s.asked[c] = s.asked[c].saturating_sub(1);
            }
        }
        self.send_reply(xid, class, &reply);
    }

    /// A post was done: the next one of its class may begin.
    pub(crate) fn post_done(&self, epoch: u64, class: Class) {
        if let Some(job) = self.next_post(epoch, class) {
            self.start(job);
        }
    }

    /// The post behind the one that is over, if it has come.
    fn next_post(&self, epoch: u64, class: Class) -> Option<Job> {
        let mut s = self.state.lock();
        if s.epoch != epoch {
            return None;
        }
        let posts = &mut s.posts[class as usize];
        posts.next += 1;
        posts.busy = false;
        posts.take().map(|n| n.to_key_value().1)
    }

    fn send_reply(&self, xid: u64, class: Class, reply: &Arc<Reply>) {
        let link = self.state.lock().stream_for(class, reply.body.len());
        if let Some(link) = link {
            let mut h = Head::new(Kind::Reply, xid);
            h.status = Le32::new(reply.status);
            h.moved_to = Le32::new(reply.moved_to);
            // Without memory for a place in the queue the stream is torn: the asker asks again on the next one.
            if link.send(h, Body::Reply(reply.clone())).is_err() {
                link.tear();
            }
        }
    }
}

/// Whether an honest peer gives a request that number: they begin with 1, and there is always a next one.
const fn is_number(xid: u64) -> bool {
    xid != 0 && xid != u64::MAX
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
