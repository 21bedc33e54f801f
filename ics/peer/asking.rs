// SPDX-License-Identifier: GPL-2.0

//! Asking a peer: calls and posts, their credits, and what waits for a reply.

use super::credits;
use super::long_bytes;
use super::most_bytes;
use super::Peer;
use super::State;
use crate::bytes::Bytes;
use crate::bytes::Text;
use crate::error::CallError;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::MAX_BODY;
use crate::frame::MOVED;
use crate::lane;
use crate::lane::Side;
use crate::link;
use crate::link::Body;
use crate::link::Link;
use crate::service::Class;
use crate::service::OpId;
use crate::stats::Ended;
use kernel::error::Error;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SpinLockIrq;
use kernel::time::Msecs;
use ssi::ids::NodeId;
use ssi::machine;
use ssi::reserve::Shared;
use ssi::reserve::SharedSlot;
use ssi::reserve::Slot;
use ssi::table::Place;
use ssi::trace;
use ssi::wait::Event;
use ssi::wire::Le16;
use ssi::wire::Le64;

/// A place of no stream: who sends it again will say, if it is given up meanwhile, that it is.
const IN_HAND: u32 = u32::MAX;

/// A call that waits for its reply, or a post that waits to be done.
#[pin_data]
pub(crate) struct Pending {
    pub(super) xid: u64,
    op: OpId,
    /// Of a post: its place in the order of its class. 0: a call.
    order: u64,
    /// When it began, by the monotonic clock.
    began: u64,
    /// Some stream has had it.
    was_sent: Atomic<u32>,
    /// The place of the last one among the peer's, or [`IN_HAND`]. Under the peer's lock.
    place: Atomic<u32>,
    pub(crate) body: Bytes,
    /// Lock: level 18 `ics::outcome`, spin, taken in softirqs.
    #[pin]
    outcome: SpinLockIrq<Outcome>,
    #[pin]
    done: Event,
}

/// What becomes of a call.
struct Outcome {
    /// `None`: it is under way.
    result: Option<core::result::Result<Bytes, CallError>>,
    /// Memory for a long reply, if the caller gave some and no stream has taken it.
    room: Option<KVVec<u8>>,
}

impl Pending {
    pub(super) fn end(&self, r: core::result::Result<Bytes, CallError>) {
        {
            let mut outcome = self.outcome.lock();
            if outcome.result.is_none() {
                outcome.result = Some(r);
            }
        }
        self.done.notify_all();
    }

    /// The stream that it is sent on next. Under the peer's lock.
    fn goes_on(&self, link: Option<&Arc<Link>>) {
        let side = link.and_then(|l| l.side);
        // CAST: there are few.
        self.place.store(lane::place(side) as u32, Relaxed);
    }

    /// Somebody is about to send it again. Under the peer's lock.
    fn take_in_hand(&self) {
        self.place.store(IN_HAND, Relaxed);
    }

    fn is_in_hand(&self) -> bool {
        self.place.load(Relaxed) == IN_HAND
    }

    /// Which stream that was. Under the peer's lock.
    fn went_on(&self) -> Option<Side> {
        let place = self.place.load(Relaxed) as usize;
        lane::ALL.get(place).copied().flatten()
    }

    /// It is about to be sent. Returns whether it was sent before.
    pub(super) fn is_sent_again(&self) -> bool {
        let again = self.was_sent.load(Relaxed) != 0;
        self.was_sent.store(1, Relaxed);
        again
    }

    pub(super) fn head(&self) -> Head {
        let mut h = Head::new(Kind::Request, self.xid);
        h.service = Le16::new(self.op.service);
        h.version = Le16::new(self.op.version);
        h.op = Le16::new(self.op.op);
        h.class = self.op.class as u8;
        h.order = Le64::new(self.order);
        h
    }
}

/// The right to one more call or post of a class, which whoever has not used it gives back.
struct Credit<'a> {
    peer: &'a Peer,
    class: Class,
    /// [`long_bytes`] of its body.
    bytes: usize,
    /// See the peer's state.
    epoch: u64,
    is_used: bool,
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let was_full = {
            let mut s = self.peer.state.lock();
            s.epoch == self.epoch && s.give_credit_back(self.class, self.bytes)
        };
        if was_full {
            self.peer.changed.notify_all();
        }
    }
}

/// All that a call or post is made of.
struct Made {
    op: OpId,
    is_post: bool,
    began: u64,
    body: Bytes,
    room: Option<KVVec<u8>>,
    entry: Place<Shared<Pending>>,
    slot: SharedSlot<Pending>,
}

/// A call under way.
pub(crate) struct Asked {
    peer: Arc<Peer>,
    pending: Shared<Pending>,
}

impl Asked {
    /// Waits for the reply: its body. Sleeps.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) fn wait(self) -> core::result::Result<Bytes, CallError> {
        let pending = &self.pending;
        let mut outcome = None;
        let ended = {
            let take = || {
                outcome = pending.outcome.lock().result.take();
                outcome.is_some()
            };
            if pending.op.class == Class::P {
                pending.done.wait_killable(take)
            } else {
                pending.done.wait_until(take);
                true
            }
        };
        if ended {
            outcome.unwrap_or(Err(CallError::Interrupted))
        } else {
            self.give_up();
            self.last_word()
        }
    }

    /// As [`Self::wait`], but gives the call up after that time.
    pub(crate) fn wait_for(self, timeout_ms: Msecs) -> core::result::Result<Bytes, CallError> {
        let mut outcome = None;
        let ended = self.pending.done.wait_timeout(timeout_ms, || {
            outcome = self.pending.outcome.lock().result.take();
            outcome.is_some()
        });
        match outcome {
            Some(r) if ended => r,
            _ => {
                self.give_up();
                self.last_word()
            }
        }
    }

    /// After [`Self::give_up`]: the reply, or the end of the peer, may have come first.
    fn last_word(&self) -> core::result::Result<Bytes, CallError> {
        let outcome = self.pending.outcome.lock().result.take();
        outcome.unwrap_or(Err(CallError::Interrupted))
    }

    /// Nobody waits any more: the other node is told.
    pub(crate) fn give_up(&self) {
        self.peer.cancel(&self.pending);
    }
}

impl State {
    /// A call or post is over, or is not made. Returns whether somebody may wait for that.
    fn give_credit_back(&mut self, class: Class, bytes: usize) -> bool {
        let c = class as usize;
        let was_full = self.waiting[c] >= credits(c)
            || bytes > 0 && self.waiting_bytes[c] + MAX_BODY > most_bytes(c);
        self.waiting[c] = self.waiting[c].saturating_sub(1);
        self.waiting_bytes[c] = self.waiting_bytes[c].saturating_sub(bytes);
        was_full
    }
}

impl Peer {
    /// Asks. A long reply comes into `room`, if it has room for that. Sleeps for a credit, of class P killably, and for memory.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) fn ask(
        self: &Arc<Self>,
        op: OpId,
        text: Text<'_>,
        room: Option<KVVec<u8>>,
    ) -> core::result::Result<Asked, CallError> {
        Ok(Asked {
            pending: self.begin_asking(op, text, room, false)?,
            peer: self.clone(),
        })
    }

    /// Asks and does not wait: done after every post of its class that was begun before. Sleeps for a credit, of class P killably,
    /// and for memory.
    ///
    /// # Errors
    /// See [`CallError`]: then it is not posted. What the peer answers is not told.
    pub(crate) fn post(&self, op: OpId, text: Text<'_>) -> core::result::Result<(), CallError> {
        self.begin_asking(op, text, None, true)?;
        Ok(())
    }

    fn begin_asking(
        &self,
        op: OpId,
        text: Text<'_>,
        room: Option<KVVec<u8>>,
        is_post: bool,
    ) -> core::result::Result<Shared<Pending>, CallError> {
        let began = machine::monotonic_ns();
        let (class, bytes) = (op.class, long_bytes(text.len()));
        let home = self.home(class);
        let make = || -> Result<(link::Place, Made)> {
            let made = Made {
                op,
                is_post,
                began,
                body: text.into_bytes(home)?,
                room,
                entry: Place::of(home, GFP_KERNEL)?,
                slot: SharedSlot::of(home, GFP_KERNEL)?,
            };
            Ok((Slot::of(home, GFP_KERNEL)?, made))
        };
        let ((frame, made), credit) = if home.is_some() {
            // There is some for those that have credits; who waits for one must have none of it.
            let credit = self.credit(class, bytes)?;
            (make().map_err(CallError::Local)?, credit)
        } else {
            // Who waits for memory must not keep credits from others.
            let made = make().map_err(CallError::Local)?;
            (made, self.credit(class, bytes)?)
        };
        let (pending, link) = self.enter(credit, made)?;
        if let Some(stats) = self.pool.stats.op(&op) {
            stats.asked(pending.body.len());
        }
        if let Some(link) = link {
            let _first = pending.is_sent_again();
            // What a torn stream does not take is sent on the next one.
            let _torn = link.send(frame, pending.head(), Body::Request(pending.clone()));
        }
        Ok(pending)
    }

    /// Waits until the peer may be asked once more; of class P killably.
    fn credit(&self, class: Class, bytes: usize) -> core::result::Result<Credit<'_>, CallError> {
        let c = class as usize;
        let mut taken = None;
        let take = || {
            let mut s = self.state.lock();
            if s.member.is_none() {
                taken = Some(Err(CallError::Down(self.node)));
                return true;
            }
            if s.waiting[c] >= credits(c) || s.waiting_bytes[c] + bytes > most_bytes(c) {
                return false;
            }
            s.waiting[c] += 1;
            s.waiting_bytes[c] += bytes;
            taken = Some(Ok(s.epoch));
            true
        };
        if class == Class::P {
            self.changed.wait_killable(take);
        } else {
            self.changed.wait_until(take);
        }
        Ok(Credit {
            peer: self,
            class,
            bytes,
            epoch: taken.unwrap_or(Err(CallError::Interrupted))?,
            is_used: false,
        })
    }

    /// Gives a number and a place in the table, in one step: then the order of numbers is that of the table.
    fn enter(
        &self,
        mut credit: Credit<'_>,
        made: Made,
    ) -> core::result::Result<(Shared<Pending>, Option<Arc<Link>>), CallError> {
        let Made { op, body, .. } = made;
        let c = op.class as usize;
        let mut s = self.state.lock();
        if s.epoch != credit.epoch {
            // What it has is freed without the lock.
            drop(s);
            return Err(CallError::Down(self.node));
        }
        let xid = s.next_xid;
        let order = if made.is_post { s.posted[c] + 1 } else { 0 };
        let outcome = Outcome {
            result: None,
            room: made.room,
        };
        let pending = made.slot.share(pin_init!(Pending {
            xid,
            op,
            order,
            began: made.began,
            was_sent: Atomic::new(0),
            place: Atomic::new(0),
            body,
            outcome <- kernel::new_spinlock_irq!(outcome, "ics::outcome"),
            done <- Event::new(),
        }));
        // Before anybody can answer it.
        trace::ics_asked(self.node, op.traced(xid, pending.body.len()));
        s.next_xid += 1;
        s.posted[c] += u64::from(made.is_post);
        let _none = s.pending.insert(made.entry, xid, pending.clone());
        credit.is_used = true;
        // No stream: sent when there is one again.
        let link = s.stream_for(op.class, pending.body.len());
        pending.goes_on(link.as_ref());
        Ok((pending, link))
    }

    /// The memory that a caller gave for what comes with this head, if it is long enough. The head is not proved yet: whoever bent
    /// it has a stream torn, and memory given back.
    pub(crate) fn room_for(&self, head: &Head) -> Option<KVVec<u8>> {
        if Kind::from_wire(head.kind) != Some(Kind::Reply) {
            return None;
        }
        let pending = self.state.lock().pending.get(head.xid.get()).cloned()?;
        let mut outcome = pending.outcome.lock();
        let is_long_enough = |room: &mut KVVec<u8>| room.capacity() >= head.len.get() as usize;
        outcome.room.take_if(is_long_enough)
    }

    /// Takes a call or post out of the table and gives its credit back.
    fn take_pending(&self, xid: u64) -> Option<Shared<Pending>> {
        let (entry, was_full) = {
            let mut s = self.state.lock();
            let p = s.pending.remove(xid)?;
            let (class, bytes) = (p.value.op.class, long_bytes(p.value.body.len()));
            let was_full = s.give_credit_back(class, bytes);
            (p, was_full)
        };
        if was_full {
            self.changed.notify_all();
        }
        Some(entry.into_inner().value)
    }

    fn cancel(&self, pending: &Pending) {
        if self.take_pending(pending.xid).is_none() {
            return;
        }
        self.count_end(pending, Ended::Lost, 0);
        // Where the request went, so that it comes behind it; or what is there now, if that is torn.
        let link = {
            let s = self.state.lock();
            if pending.is_in_hand() {
                return; // or this overtakes the request
            }
            s.on(pending.went_on()).or(s.on(None)).cloned()
        };
        if let Some(link) = link {
            // What is lost with its stream is said by the beginning of the next one.
            let head = Head::new(Kind::Cancel, pending.xid);
            if let Ok(place) = Slot::of(self.home(pending.op.class), GFP_KERNEL) {
                let _torn = link.send(place, head, Body::Empty);
            }
        }
    }

    /// Sends a call again on the next main stream, or says that nobody waits for it any more: then its cancel, if it was sent,
    /// was lost, or is before the request here.
    ///
    /// # Errors
    /// `ENOMEM`; `EPIPE`: it is torn, or not the main stream any more.
    pub(super) fn send_again(&self, main: &Arc<Link>, xid: u64) -> Result {
        let open = {
            let s = self.state.lock();
            if !s.is_main(main) {
                return Err(EPIPE);
            }
            let open = s.pending.get(xid).cloned();
            if let Some(p) = &open {
                p.take_in_hand();
            }
            open
        };
        if let Some(p) = open {
            main.stats.resent.add(u64::from(p.is_sent_again()));
            let place = Slot::of(self.home(p.op.class), GFP_KERNEL)?;
            main.send(place, p.head(), Body::Request(p.clone()))?;
        }
        let is_open = {
            let s = self.state.lock();
            let p = s.pending.get(xid);
            // Else the next main stream has it in hand.
            if let Some(p) = p.filter(|_| s.is_main(main)) {
                p.goes_on(Some(main));
            }
            p.is_some()
        };
        if is_open {
            return Ok(());
        }
        main.send(
            Slot::new(GFP_KERNEL)?,
            Head::new(Kind::Cancel, xid),
            Body::Empty,
        )
    }

    /// Counts the end of a call or post.
    pub(super) fn count_end(&self, pending: &Pending, how: Ended, bytes: usize) {
        let ns = machine::monotonic_ns().saturating_sub(pending.began);
        let request = pending.op.traced(pending.xid, pending.body.len());
        // CAST: its number.
        trace::ics_ended(self.node, request, how as u8, bytes, ns);
        if let Some(stats) = self.pool.stats.op(&pending.op) {
            stats.ended(how, bytes, ns);
        }
    }

    pub(super) fn reply_came(&self, head: &Head, body: Bytes) {
        let Some(pending) = self.take_pending(head.xid.get()) else {
            return; // cancelled, or a second reply
        };
        let how = match head.status.get() {
            0 | MOVED => Ended::Replied,
            _ => Ended::Refused,
        };
        self.count_end(&pending, how, body.len());
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
}
