// SPDX-License-Identifier: GPL-2.0

//! The first frame of a main stream: which calls its sender waits for. The asker lists them before anybody can send on the
//! stream; the answering side forgets all others, before it hears anything else on it.
//!
//! A call that is not in the list was taken out of the asker's table before, and is sent again from there only: it cannot
//! come any more, on this stream or a later one. An earlier stream is refused, by its number, if it is that late.

use super::Peer;
use super::State;
use crate::frame::Head;
use crate::frame::Kind;
use crate::link::Body;
use crate::link::Link;
use crate::open::Open;
use crate::open::NUMBER;
use crate::refused::Refused;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::ScopeGuard;
use ssi::ids::Incarnation;
use ssi::reserve::Slot;
use ssi::wire::Le64;

/// What this node has said.
pub(super) struct Said {
    numbers: Arc<KVVec<u8>>,
    /// The number after those that it is about.
    pub(super) next: u64,
}

impl Said {
    /// The calls that are open.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let (numbers, _) = self.numbers.as_chunks();
        numbers.iter().map(|n| u64::from_le_bytes(*n))
    }
}

impl Peer {
    /// Queues what is said first on a stream to that incarnation. Nobody else knows the stream yet.
    ///
    /// # Errors
    /// See [`Peer::attach`].
    pub(super) fn say_open(&self, link: &Link, incarnation: Incarnation) -> Result<Said> {
        loop {
            // Memory is had without the lock ...
            let room = self.state.lock().pending.len();
            let mut numbers = KVVec::from_elem(0u8, NUMBER * room, GFP_KERNEL)?;
            let said = self.state.lock().list_open(incarnation, &mut numbers)?;
            // ... so there may be more by now.
            if let Some((head, len)) = said {
                numbers.truncate(NUMBER * len);
                let (listed, _) = numbers.as_chunks_mut();
                listed.sort_unstable_by_key(|n| u64::from_le_bytes(*n));
                let numbers = Arc::new(numbers, GFP_KERNEL)?;
                link.send(Slot::new(GFP_KERNEL)?, head, Body::Open(numbers.clone()))?;
                let next = head.xid.get();
                return Ok(Said { numbers, next });
            }
        }
    }

    /// The peer says which of its calls are open.
    ///
    /// # Errors
    /// `EPROTO`, `ESTALE`. The stream is torn.
    pub(super) fn open_came(&self, link: &Arc<Link>, head: &Head, body: &[u8]) -> Result {
        let Some(open) = Open::parse(head.xid.get(), body) else {
            link.refuse(Refused::Torn, &"no list of open calls");
            return Err(EPROTO);
        };
        let number = head.order.get();
        {
            let mut s = self.state.lock();
            if !s.is_main(link) {
                return Err(ESTALE);
            }
            if number <= s.opened {
                drop(s);
                link.refuse(Refused::Stale, &"a stream from before the last one");
                return Err(ESTALE);
            }
            s.opened = number;
        }
        // However this ends: who waits for the beginning, or for fewer replies.
        let _told = ScopeGuard::new(|| {
            self.go_on();
            self.changed.notify_all();
        });
        let mut last = None;
        loop {
            // Freed after unlocking.
            let _forgotten = {
                let mut s = self.state.lock();
                if !s.is_main(link) {
                    return Err(ESTALE);
                }
                let next = s.answers.iter_after(last).next();
                let Some(xid) = next.map(|(xid, _)| xid) else {
                    s.is_opened = true;
                    return Ok(());
                };
                last = Some(xid);
                if open.is_over(xid) {
                    s.cancelled(xid)
                } else {
                    // Also one that was asked while the list was made.
                    if let Some(kept) = s.answers.get_mut(xid) {
                        kept.comes_again = true;
                    }
                    None
                }
            };
        }
    }
}

impl State {
    /// Head of the frame that says what is open, and how many numbers were put into `room`; `None` if there are more.
    ///
    /// # Errors
    /// See [`Peer::attach`].
    fn list_open(
        &mut self,
        incarnation: Incarnation,
        room: &mut [u8],
    ) -> Result<Option<(Head, usize)>> {
        self.admits(incarnation)?;
        let mut len = 0;
        // What waits for another incarnation ends when the stream is attached.
        if self.about == Some(incarnation) {
            len = self.pending.len();
            let (room, _) = room.as_chunks_mut();
            if len > room.len() {
                return Ok(None);
            }
            for (to, (xid, _)) in room.iter_mut().zip(self.pending.iter()) {
                *to = xid.to_le_bytes();
            }
        }
        self.n_streams += 1;
        let mut head = Head::new(Kind::Open, self.next_xid);
        head.order = Le64::new(self.n_streams);
        Ok(Some((head, len)))
    }
}
