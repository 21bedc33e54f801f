// SPDX-License-Identifier: GPL-2.0

//! Answering a peer: what comes from it, each request once, posts in their order, and their replies.

use super::kept::place;
use super::kept::Answer;
use super::kept::Reply;
use super::kept::RequestId;
use super::kept::Room;
use super::kept::Spare;
use super::long_bytes;
use super::Peer;
use crate::bytes::Bytes;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MOVED;
use crate::link;
use crate::link::Body;
use crate::link::Link;
use crate::pool::Job;
use crate::pool::Order;
use crate::pool::Queued;
use crate::pool::Unknown;
use crate::refused::Refused;
use crate::service::Caller;
use crate::service::Class;
use crate::service::OpId;
use crate::service::Status;
use crate::ticket::Answered;
use kernel::alloc::flags::__GFP_NOWARN;
use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::str::BStr;
use kernel::sync::Arc;
use ssi::fifo::Node;
use ssi::kthread::ThreadId;
use ssi::reserve::Shared;
use ssi::table::Place;
use ssi::wire::Le32;

/// How memory is asked for in any context by who has another way: silently.
fn at_once() -> Flags {
    GFP_ATOMIC | __GFP_NOWARN
}

/// Whether a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Now,
    /// Nobody waits for that any more.
    NotWanted,
    /// Too much is kept of replies: see [`Peer::unless_full`].
    Later,
}

impl Peer {
    /// Takes a frame that has passed all checks. Sleeps until the peer is a member, and for memory.
    ///
    /// # Errors
    /// `EPROTO` for what no honest peer sends; `ESTALE`; `ENOMEM`. The stream is torn.
    pub(crate) fn receive(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: Bytes) -> Result {
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
            Kind::Seen if !is_alone(head) => {
                link.refuse(
                    Refused::Torn,
                    &"a frame that only says what was seen, and more",
                );
                return Err(EPROTO);
            }
            Kind::Seen => {}
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
            Some(Kind::Reply) => Bytes::of(body, &[], None, at_once()).is_ok_and(|b| {
                self.reply_came(head, b);
                true
            }),
            Some(Kind::Request) => self.request_at_once(link, head, body),
            Some(Kind::Cancel) => {
                self.cancel_came(link, head.xid.get());
                true
            }
            Some(Kind::Seen) => is_alone(head),
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
            let mut is_waited_for = false;
            for id in arrived.into_iter().flatten() {
                // Freed after unlocking.
                let _done;
                let mut s = self.state.lock();
                // If it was replaced meanwhile, the reply may be on its way once more.
                let is_current = s.is_current(link);
                _done = if is_current { s.arrived(id) } else { None };
                is_waited_for = s.is_waited_for;
            }
            if is_waited_for {
                self.go_on();
            }
        }
    }

    fn request_came(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: Bytes) -> Result {
        let xid = head.xid.get();
        if !is_number(xid) {
            link.refuse(Refused::Torn, &"a request without a number");
            return Err(EPROTO);
        }
        let incarnation = link.incarnation;
        let op = OpId::of_request(head).ok_or(EPROTO)?;
        let c = op.class as usize;
        let order = head.order.get();
        let home = self.home(op.class);
        let spare = Spare::of(home, GFP_KERNEL)?;
        let early = match order {
            0 => None,
            _ => Some(Place::of(home, GFP_KERNEL)?),
        };
        // The peer may have the new view before this node has: its requests wait here, in order, until this node
        // has it too, or the stream goes.
        self.changed.wait_until(|| {
            let s = self.state.lock();
            s.member == Some(incarnation) || !s.is_current(link) || link.is_torn()
        });
        // Freed after unlocking.
        let (_arrived, mut next);
        let (again, job) = {
            let mut s = self.state.lock();
            if s.member != Some(incarnation) || !s.is_current(link) {
                return Err(ESTALE);
            }
            let bytes = long_bytes(body.len());
            if s.answers.get(xid).is_some_and(|k| !k.comes_again) {
                drop(s);
                link.refuse(Refused::Torn, &"a request twice on one stream");
                return Err(EPROTO);
            }
            _arrived = s.came_again(xid);
            if _arrived.is_some() {
                drop(s);
                self.go_on();
                return Ok(());
            }
            let again = match s.answers.get(xid).map(|k| &k.answer) {
                Some(Answer::Done(r)) if !s.is_on_its_way(xid) => Some(r.clone()),
                Some(_) => return Ok(()),
                None => None,
            };
            if let Some(reply) = again {
                let on = s.stream_for(op.class, reply.body.len());
                s.goes_out(xid);
                (Some((on, reply, spare.for_reply.1)), None)
            } else {
                let room = s.room_for(op.class, order != 0, bytes);
                if room == Room::NoCredit {
                    drop(s);
                    link.refuse(Refused::Torn, &"more requests than credits");
                    return Err(EPROTO);
                }
                let place = place(op.class, order);
                let is_taken = order < s.posts[c].next
                    || place.is_none_or(|place| s.early.get(place).is_some());
                if order != 0 && is_taken {
                    drop(s);
                    link.refuse(Refused::Torn, &"a post whose place is taken");
                    return Err(EPROTO);
                }
                let id = s.identify(xid);
                let memory = (spare.entry, spare.for_reply);
                if room == Room::TooManyLeft {
                    s.keep(memory, id, op.class, false, 0);
                    drop(s);
                    self.finish(id, Err(Status::Errno(EAGAIN)));
                    return Ok(());
                }
                s.keep(memory, id, op.class, order != 0, bytes);
                let job = Job {
                    peer: self.clone(),
                    from: Caller {
                        node: self.node,
                        incarnation,
                    },
                    id,
                    op,
                    order,
                    body,
                };
                let job = Node::fill(spare.job, Order::Run(job));
                match place.zip(early) {
                    None => (None, Some(job)),
                    Some((place, early)) => {
                        let _none = s.early.insert(early, place, job);
                        next = s.next_post(op.class);
                        (None, next.take().map(|n| n.into_inner().value))
                    }
                }
            }
        };
        if let Some((on, reply, place)) = again {
            send_reply(on, &reply, place);
            return Ok(());
        }
        if let Some(job) = job {
            self.start(job);
        }
        Ok(())
    }

    /// Queues a request of a member that is new and has a credit and a class, in the usual case. Returns whether it did.
    fn request_at_once(self: &Arc<Self>, link: &Arc<Link>, head: &Head, body: &[u8]) -> bool {
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
        let home = self.home(op.class);
        let (Ok(body), Ok(spare)) = (
            Bytes::of(body, &[], home, at_once()),
            Spare::of(home, at_once()),
        ) else {
            return false;
        };
        let mut s = self.state.lock();
        if s.member != Some(link.incarnation)
            || !s.is_current(link)
            || s.room_for(op.class, false, 0) != Room::There
            || s.answers.get(xid).is_some()
        {
            // What it has is freed without the lock.
            drop(s);
            return false;
        }
        let id = s.identify(xid);
        let job = Job {
            peer: self.clone(),
            from: Caller {
                node: self.node,
                incarnation: link.incarnation,
            },
            id,
            op,
            order: 0,
            body,
        };
        // In one step with its entry: whoever takes it begins by asking for that. Of class P a thread must be idle.
        match self
            .pool
            .submit_at_once(Node::fill(spare.job, Order::Run(job)))
        {
            Ok(()) => {
                s.keep((spare.entry, spare.for_reply), id, op.class, false, 0);
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
    fn start(&self, mut queued: Queued) {
        // A loop: the posts behind one that is refused may all be refused too.
        while let Order::Run(job) = &queued.value {
            let (id, class, order) = (job.id, job.op.class, job.order);
            if self.submit(queued) || order == 0 {
                return;
            }
            match self.next_post(id, class) {
                Some(next) => queued = next,
                None => return,
            }
        }
    }

    /// Queues a request for its class, or answers that it is refused. Returns whether it is queued.
    fn submit(&self, queued: Queued) -> bool {
        let Order::Run(job) = &queued.value else {
            return false;
        };
        let (id, op) = (job.id, job.op);
        let refusal = match self.pool.class_of(&op) {
            Ok(class) if class != op.class => EPROTO,
            Ok(_) => {
                self.pool.submit(queued);
                return true;
            }
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
        self.finish(id, Err(Status::Errno(refusal)));
        false
    }

    fn cancel_came(&self, link: &Arc<Link>, xid: u64) {
        // Freed after unlocking.
        let _gone;
        let is_waited_for = {
            let mut s = self.state.lock();
            if !s.is_current(link) {
                return; // of another life, whose numbers are others
            }
            _gone = s.cancelled(xid);
            s.is_waited_for
        };
        if is_waited_for {
            self.go_on();
        }
    }

    /// A thread is about to answer.
    pub(crate) fn begin(&self, id: RequestId, thread: ThreadId) -> Begin {
        let mut s = self.state.lock();
        let Some(kept) = s.request(id) else {
            return Begin::NotWanted;
        };
        if !matches!(kept.answer, Answer::Waiting) {
            return Begin::NotWanted;
        }
        let (class, is_post) = (kept.class, kept.is_post);
        // Class P has a thread for each, which waits when it has the reply: what does not begin may be what others wait for. Of a
        // post no reply is kept.
        if class != Class::P && !is_post && s.is_full_of_replies(class) {
            return Begin::Later;
        }
        if let Some(kept) = s.request(id) {
            kept.answer = Answer::Running(thread);
        }
        Begin::Now
    }

    /// A handler has ended, and its thread does other work: it is not interrupted for this request any more.
    pub(crate) fn goes_on_without_thread(&self, id: RequestId) {
        // Freed after unlocking.
        let _left;
        let mut s = self.state.lock();
        let Some(k) = s.request(id) else {
            return;
        };
        k.answer = Answer::Later;
        let is_given_up = k.is_given_up;
        s.let_go(id.xid);
        if is_given_up {
            _left = s.give_up(id.xid);
        }
    }

    /// Whether anybody still waits for a request to be answered.
    pub(crate) fn is_wanted(&self, id: RequestId) -> bool {
        self.state.lock().request(id).is_some()
    }

    /// A request is answered: keeps the reply and sends it. Does not sleep long.
    pub(crate) fn finish(&self, id: RequestId, result: Answered) {
        let (status, moved_to, mut body) = match result {
            Ok(body) => (0, 0, body),
            // CAST: errnos are small.
            Err(Status::Errno(e)) => (e.to_errno().unsigned_abs(), 0, Bytes::EMPTY),
            Err(Status::Moved(n)) => (MOVED, n.number(), Bytes::EMPTY),
            // Who has a ticket answers with it.
            Err(Status::Later(_)) => (EPROTO.to_errno().unsigned_abs(), 0, Bytes::EMPTY),
        };
        // Freed after unlocking.
        let _unwanted;
        let (on, reply, place, is_waited_for) = {
            let mut s = self.state.lock();
            // Else the asker is down, or has given it up after its handler had ended.
            let Some(k) = s.request(id) else { return };
            let Some((slot, place)) = k.for_reply.take() else {
                return;
            };
            let (class, is_left) = (k.class, k.is_left());
            if is_left {
                _unwanted = core::mem::replace(&mut body, Bytes::EMPTY);
            }
            let bytes = body.len();
            let reply = slot.share(Reply {
                id,
                status,
                moved_to,
                body,
            });
            k.answer = Answer::Done(reply.clone());
            s.let_go(id.xid);
            s.count_reply(id, bytes);
            if !is_left {
                let asked = &mut s.asked[class as usize];
                *asked = asked.saturating_sub(1);
            }
            // The stream of this life: another one has other calls of these numbers.
            let on = s.stream_for(class, bytes);
            if on.is_some() {
                s.goes_out(id.xid);
            }
            // It may have had room for a reply that nobody wants.
            (on, reply, place, is_left && s.is_waited_for)
        };
        if is_waited_for {
            self.go_on();
        }
        send_reply(on, &reply, place);
    }

    /// A post was done: the next one of its class may begin.
    pub(crate) fn post_done(&self, id: RequestId, class: Class) {
        if let Some(job) = self.next_post(id, class) {
            self.start(job);
        }
    }

    /// The post behind this one, which is over, if it has come.
    fn next_post(&self, id: RequestId, class: Class) -> Option<Queued> {
        let next = {
            let mut s = self.state.lock();
            if !s.is_of_now(id) {
                return None;
            }
            let posts = &mut s.posts[class as usize];
            posts.next += 1;
            posts.busy = false;
            s.next_post(class)
        };
        next.map(|n| n.into_inner().value)
    }
}

/// Whether a frame that says what was seen says nothing else.
fn is_alone(head: &Head) -> bool {
    let mut alone = Head::new(Kind::Seen, 0);
    (alone.seq, alone.seen) = (head.seq, head.seen);
    alone.as_bytes() == head.as_bytes()
}

/// Sends a reply, if there is a stream. When that is torn the asker asks again on the next one.
fn send_reply(on: Option<Arc<Link>>, reply: &Shared<Reply>, place: link::Place) {
    if let Some(link) = on {
        let mut h = Head::new(Kind::Reply, reply.id.xid);
        h.status = Le32::new(reply.status);
        h.moved_to = Le32::new(reply.moved_to);
        let _torn = link.send(place, h, Body::Reply(reply.clone()));
    }
}

/// Whether an honest peer gives a request that number: they begin with 1, and there is always a next one.
const fn is_number(xid: u64) -> bool {
    xid != 0 && xid != u64::MAX
}
