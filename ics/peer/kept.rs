// SPDX-License-Identifier: GPL-2.0

//! What is kept of the requests of a peer: from when one comes until its reply has arrived, or nobody waits for it and its
//! handler has ended. The counts that bound it are kept with it.

use super::credits;
use super::most_bytes;
use super::most_kept;
use super::State;
use crate::bytes::Bytes;
use crate::link;
use crate::pool::Order;
use crate::pool::Queued;
use crate::service::Class;
use kernel::alloc::Flags;
use kernel::prelude::*;
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

/// A request among all that ever came from a peer. Numbers of calls begin anew with each of its lives, and one that
/// keeps to no rule uses them twice.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    pub(crate) xid: u64,
    /// Given to no other one.
    serial: u64,
}

/// Memory for what is sent when a request is answered.
pub(super) type ForReply = (SharedSlot<Reply>, link::Place);

/// Memory for a request that comes.
pub(super) struct Spare {
    pub(super) entry: Place<Kept>,
    pub(super) for_reply: ForReply,
    pub(super) job: Slot<Node<Order>>,
}

impl Spare {
    /// Of `home`, if that is something.
    pub(super) fn of(home: Option<&Arc<Reserve>>, flags: Flags) -> Result<Self> {
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
    pub(super) class: Class,
    pub(super) is_post: bool,
    pub(super) answer: Answer,
    /// It is from before the main stream, on which the peer asks it once more, or cancels it. Until then it is not forgotten:
    /// that frame may be under way, and behind one that says that the reply has arrived.
    pub(super) comes_again: bool,
    /// Meanwhile the reply has arrived.
    has_arrived: bool,
    /// The [`State::n_attached`] of the streams on which its reply went out last.
    went_on: u64,
    /// Nobody waits for the answer any more.
    pub(super) is_given_up: bool,
    /// [`long_bytes`](super::long_bytes) of its body, until its handler has ended.
    bytes: usize,
    /// Bytes of its reply that are counted.
    reply_bytes: usize,
    /// Until it is answered: who answers waits for none.
    pub(super) for_reply: Option<ForReply>,
}

impl Kept {
    /// Whether it is a call that nobody waits for. The asker has its credit back, and asks more, however long this one is kept.
    /// A post is not given up by an honest peer.
    pub(super) fn is_left(&self) -> bool {
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

/// Whether one more request may come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
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
    pub(super) status: u32,
    pub(super) moved_to: u32,
    pub(crate) body: Bytes,
}

/// The posts of one class from the peer.
#[derive(Clone, Copy)]
pub(super) struct Posts {
    /// The one that is done next, or now.
    pub(super) next: u64,
    /// Whether it is done now.
    pub(super) busy: bool,
}

impl Posts {
    /// None came.
    pub(super) const NONE: Self = Self {
        next: 1,
        busy: false,
    };
}

/// Where a post is among those of all classes that are early. `None`: no honest peer has posted so many.
pub(super) fn place(class: Class, order: u64) -> Option<u64> {
    // CAST: widens.
    order
        .checked_mul(Class::N as u64)?
        .checked_add(class as u64)
}

/// What was kept of a request, to be freed after unlocking.
pub(super) type Gone = Owned<Entry<Kept>>;

impl State {
    /// The next post of a class, if it is there and its turn.
    pub(super) fn next_post(&mut self, class: Class) -> Option<Owned<Entry<Queued>>> {
        let posts = &mut self.posts[class as usize];
        if posts.busy {
            return None;
        }
        let next = self.early.remove(place(class, posts.next)?)?;
        posts.busy = true;
        Some(next)
    }

    /// A name for one that came.
    pub(super) fn identify(&mut self, xid: u64) -> RequestId {
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
    pub(super) fn keep(
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
            went_on: 0,
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
    pub(super) fn room_for(&self, class: Class, is_post: bool, bytes: usize) -> Room {
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
    pub(super) fn let_go(&mut self, xid: u64) {
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
    pub(super) fn arrived(&mut self, id: RequestId) -> Option<Gone> {
        let kept = self.request(id)?;
        if kept.comes_again {
            kept.has_arrived = true;
            return None;
        }
        self.forget(id.xid)
    }

    /// A request, or its cancel, came again on this main stream. Takes out what is left of one whose reply has arrived.
    pub(super) fn came_again(&mut self, xid: u64) -> Option<Gone> {
        let kept = self.answers.get_mut(xid)?;
        kept.comes_again = false;
        if kept.has_arrived {
            self.forget(xid)
        } else {
            None
        }
    }

    /// The reply to a request goes out on the streams of now.
    pub(super) fn goes_out(&mut self, xid: u64) {
        let now = self.n_attached;
        if let Some(kept) = self.answers.get_mut(xid) {
            kept.went_on = now;
        }
    }

    /// Whether it has: then they will say that it has arrived, or be torn.
    pub(super) fn is_on_its_way(&self, xid: u64) -> bool {
        let kept = self.answers.get(xid);
        kept.is_some_and(|k| k.went_on == self.n_attached)
    }

    /// Nobody waits for a request any more, and it does not come again. Takes out what is left of it if nothing is to come of it any
    /// more. A reply that is on its way is kept, so that what a peer cancels and does not read is counted; any other goes out on no
    /// stream, so that nothing would say that it has arrived.
    pub(super) fn cancelled(&mut self, xid: u64) -> Option<Gone> {
        let gone = self.came_again(xid).or_else(|| self.give_up(xid));
        if gone.is_none() && !self.is_on_its_way(xid) {
            return self.forget(xid);
        }
        gone
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
            // SAFETY: The entry says so until its handler has ended: `finish` and `goes_on_without_thread` take the lock that our
            // caller holds before the thread goes on.
            Answer::Running(thread) => unsafe { thread.interrupt() },
            // Found out by `begin`, which then finishes it.
            Answer::Waiting => kept.answer = Answer::Cancelled,
            Answer::Cancelled | Answer::Done(_) => {}
            Answer::Later => return self.remove(xid),
        }
        None
    }
}
