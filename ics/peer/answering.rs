// SPDX-License-Identifier: GPL-2.0

//! Answering a peer: what comes from it, each request once, posts in their order, and replies that are kept until they
//! have arrived.

use super::credits;
use super::long_bytes;
use super::most_bytes;
use super::most_kept;
use super::Peer;
use super::State;
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
use ssi::reserve::Owned;
use ssi::reserve::Reserve;
use ssi::reserve::Shared;
use ssi::reserve::SharedSlot;
use ssi::reserve::Slot;
use ssi::table::Entry;
use ssi::table::Place;
use ssi::wire::Le32;

/// How memory is asked for in any context by who has another way: silently.
fn at_once() -> Flags {
    GFP_ATOMIC | __GFP_NOWARN
}

/// A request among all that ever came from a peer. Numbers of calls begin anew with each of its lives, and one that
/// keeps to no rule uses them twice.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    pub(crate) xid: u64,
    /// Given to no other one.
    serial: u64,
}

/// Memory for what is sent when a request is answered.
type ForReply = (SharedSlot<Reply>, link::Place);

/// Memory for a request that comes.
struct Spare {
    entry: Place<Kept>,
    for_reply: ForReply,
    job: Slot<Node<Order>>,
}

impl Spare {
    /// Of `home`, if that is something.
    fn of(home: Option<&Arc<Reserve>>, flags: Flags) -> Result<Self> {
        Ok(Self {
            entry: Place::of(home, flags)?,
            for_reply: (SharedSlot::of(home, flags)?, Slot::of(home, flags)?),
            job: Slot::of(home, flags)?,
        })
    }
}

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
    Done(Shared<Reply>),
}

/// A request with its class.
pub(super) struct Kept {
    serial: u64,
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
    /// [`long_bytes`] of its body, until its handler has ended.
    bytes: usize,
    /// Bytes of its reply that are counted.
    reply_bytes: usize,
    /// Until it is answered: who answers waits for none.
    for_reply: Option<ForReply>,
}

impl Kept {
    /// Whether it is a call that nobody waits for. The asker has its credit back, and asks more, however long this one is kept.
    /// A post is not given up by an honest peer.
    fn is_left(&self) -> bool {
        self.is_given_up && !self.is_post
    }

    /// Whether there is a reply.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.answer, Answer::Done(_))
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }
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
    /// To what.
    pub(crate) id: RequestId,
    status: u32,
    moved_to: u32,
    pub(crate) body: Bytes,
}

/// The posts of one class from the peer.
#[derive(Clone, Copy)]
pub(super) struct Posts {
    /// The one that is done next, or now.
    next: u64,
    /// Whether it is done now.
    busy: bool,
}

impl Posts {
    /// None came.
    pub(super) const NONE: Self = Self {
        next: 1,
        busy: false,
    };
}

/// Where a post is among those of all classes that are early. `None`: no honest peer has posted so many.
fn place(class: Class, order: u64) -> Option<u64> {
    // CAST: widens.
    order
        .checked_mul(Class::N as u64)?
        .checked_add(class as u64)
}

/// What was kept of a request, to be freed after unlocking.
pub(super) type Gone = Owned<Entry<Kept>>;

impl State {
    /// The next post of a class, if it is there and its turn.
    fn next_post(&mut self, class: Class) -> Option<Owned<Entry<Queued>>> {
        let posts = &mut self.posts[class as usize];
        if posts.busy {
            return None;
        }
        let next = self.early.remove(place(class, posts.next)?)?;
        posts.busy = true;
        Some(next)
    }

    /// A name for one that came.
    fn identify(&mut self, xid: u64) -> RequestId {
        self.n_requests += 1;
        RequestId {
            xid,
            serial: self.n_requests,
        }
    }

    /// Whether a request is of the peer's present life.
    pub(super) fn is_of_now(&self, id: RequestId) -> bool {
        id.serial > self.n_before
    }

    /// What is kept of a request.
    pub(super) fn request(&mut self, id: RequestId) -> Option<&mut Kept> {
        self.answers
            .get_mut(id.xid)
            .filter(|k| k.serial == id.serial)
    }

    /// A request is queued.
    fn keep(
        &mut self,
        (entry, for_reply): (Place<Kept>, ForReply),
        id: RequestId,
        class: Class,
        is_post: bool,
        bytes: usize,
    ) {
        let c = class as usize;
        self.asked[c] += 1;
        self.kept[c] += 1;
        self.held_bytes[c] += bytes;
        let kept = Kept {
            serial: id.serial,
            class,
            is_post,
            answer: Answer::Waiting,
            comes_again: false,
            has_arrived: false,
            is_given_up: false,
            bytes,
            reply_bytes: 0,
            for_reply: Some(for_reply),
        };
        let _none = self.answers.insert(entry, id.xid, kept);
    }

    /// So many bytes of the reply to a request are kept.
    pub(super) fn count_reply(&mut self, id: RequestId, bytes: usize) {
        if let Some(k) = self.request(id) {
            let (c, before) = (
                k.class as usize,
                core::mem::replace(&mut k.reply_bytes, bytes),
            );
            self.reply_bytes[c] = (self.reply_bytes[c] + bytes).saturating_sub(before);
        }
    }

    /// Whether the peer may ask one more of a class, with a body of which so many bytes count.
    fn room_for(&self, class: Class, is_post: bool, bytes: usize) -> Room {
        let c = class as usize;
        let (kept, most) = (self.kept[c], most_kept(c));
        let wanted = kept.saturating_sub(self.left[c]);
        // The cancel of a call may be overtaken by who has its credit: twice as many seem to be under way, at most. Of bytes,
        // an honest peer has the most that may be under way, and beside that only calls that it gave up: these are refused
        // before they take what a post needs.
        let (held, most_held) = (self.held_bytes[c] + bytes, 2 * most_bytes(c));
        let is_too_long = bytes > 0 && held > most_held;
        if self.asked[c] >= 2 * credits(c)
            || wanted >= most
            || kept >= 2 * most
            || is_post && bytes > 0 && held > most_held + most_bytes(c)
        {
            Room::NoCredit
        } else if (kept >= most || is_too_long) && !is_post {
            Room::TooManyLeft
        } else {
            Room::There
        }
    }

    /// Its handler has ended, or will not begin: its body is not kept any more.
    fn let_go(&mut self, xid: u64) {
        if let Some(kept) = self.answers.get_mut(xid) {
            let (c, bytes) = (kept.class as usize, core::mem::take(&mut kept.bytes));
            self.held_bytes[c] = self.held_bytes[c].saturating_sub(bytes);
        }
    }

    /// Takes out a request.
    fn remove(&mut self, xid: u64) -> Option<Gone> {
        self.let_go(xid);
        let kept = self.answers.get(xid)?;
        let (c, is_left) = (kept.class as usize, kept.is_left());
        self.kept[c] = self.kept[c].saturating_sub(1);
        self.left[c] = self.left[c].saturating_sub(u32::from(is_left));
        self.reply_bytes[c] = self.reply_bytes[c].saturating_sub(kept.reply_bytes);
        self.answers.remove(xid)
    }

    /// Takes out a request that is answered: it does not come again.
    pub(super) fn forget(&mut self, xid: u64) -> Option<Gone> {
        let is_done = |k: &&Kept| matches!(k.answer, Answer::Done(_));
        self.answers.get(xid).filter(is_done)?;
        self.remove(xid)
    }

    /// The reply to a request has arrived at the peer. Takes out what is left of it, unless it comes again.
    fn arrived(&mut self, id: RequestId) -> Option<Gone> {
        let kept = self.request(id)?;
        if kept.comes_again {
            kept.has_arrived = true;
            return None;
        }
        self.forget(id.xid)
    }

    /// A request, or its cancel, came again on this main stream. Takes out what is left of one whose reply has arrived.
    fn came_again(&mut self, xid: u64) -> Option<Gone> {
        let kept = self.answers.get_mut(xid)?;
        kept.comes_again = false;
        if kept.has_arrived {
            self.forget(xid)
        } else {
            None
        }
    }

    /// Nobody waits for the answer any more: it is interrupted, or does not begin, and has no credit. Takes out what only a ticket
    /// is left of, which may be kept for ever.
    pub(super) fn give_up(&mut self, xid: u64) -> Option<Gone> {
        let kept = self.answers.get_mut(xid)?;
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
                _done = s.arrived(id);
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
                Some(Answer::Done(r)) => Some(r.clone()),
                Some(_) => return Ok(()),
                None => None,
            };
            if let Some(reply) = again {
                let on = s.stream_for(op.class, reply.body.len());
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
        let (_arrived, _left);
        let is_waited_for = {
            let mut s = self.state.lock();
            if !s.is_current(link) {
                return; // of another life, whose numbers are others
            }
            _arrived = s.came_again(xid);
            _left = s.give_up(xid);
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
