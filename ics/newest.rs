// SPDX-License-Identifier: GPL-2.0

//! The newest heartbeat of each node: what comes again, or late, or of another life, is judged by it.

use crate::hearing;
use crate::heartbeat::Answer;
use crate::heartbeat::News;
use core::cmp::Ordering;
use kernel::prelude::*;
use kernel::sync::SpinLock;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

/// A member of which nothing came for so long, while a later life of it was heard, is over. One that lives says something every
/// 100 ms.
const OVER_MS: u64 = 1000;

/// Who has heard nothing of the later life for longer has not listened, and begins to count anew.
const PAUSE_MS: u64 = 300;

/// For so long a member that was heard after a later life has a twin.
const TWIN_MS: u64 = 10_000;

/// A later life of a member is heard, and the member not since.
#[derive(Clone, Copy)]
struct Challenge {
    since_ms: u64,
    last_ms: u64,
}

struct Heard {
    node: NodeId,
    incarnation: Incarnation,
    seq: u64,
    challenge: Option<Challenge>,
    /// When it was last heard after a later life.
    twin_ms: Option<u64>,
}

impl Heard {
    /// A later life of a member was heard. Returns whether this one is over.
    fn is_over(&mut self, now_ms: u64) -> bool {
        let goes_on = self.challenge.filter(|c| now_ms <= c.last_ms + PAUSE_MS);
        let since_ms = goes_on.map_or(now_ms, |c| c.since_ms);
        self.challenge = Some(Challenge {
            since_ms,
            last_ms: now_ms,
        });
        now_ms >= since_ms + OVER_MS
    }

    fn has_twin(&self, now_ms: u64) -> bool {
        self.twin_ms.is_some_and(|t| now_ms < t + TWIN_MS)
    }
}

/// That of each node. A heartbeat is of a life, and has a number in that.
#[pin_data]
pub(crate) struct Newest {
    /// Lock: level 15 `ics::heard`, spin; a leaf.
    #[pin]
    heard: SpinLock<KVec<Heard>>,
}

impl Newest {
    /// Of no node, with room for so many.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(room: usize) -> Result<impl PinInit<Self>> {
        let heard = KVec::with_capacity(room, GFP_KERNEL)?;
        Ok(pin_init!(Self {
            heard <- kernel::new_spinlock!(heard, "ics::heard"),
        }))
    }

    /// Hears of a node from now on, of which nothing was heard.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(crate) fn add(&self, node: NodeId) -> Result {
        let mut heard = self.heard.lock();
        heard.retain(|h| h.node != node);
        let none = Heard {
            node,
            incarnation: Incarnation(0),
            seq: 0,
            challenge: None,
            twin_ms: None,
        };
        heard.push_within_capacity(none).map_err(|_| ENOSPC)
    }

    /// Does not hear of a node any more.
    pub(crate) fn remove(&self, node: NodeId) {
        self.heard.lock().retain(|h| h.node != node);
    }

    /// What is said to a node: `clms`'s answer, or that a later life of it was heard, which `clms` need not have understood.
    pub(crate) fn answer(&self, node: NodeId, answer: Answer) -> Answer {
        let heard = self.heard.lock();
        match heard.iter().find(|h| h.node == node) {
            Some(h) if h.incarnation > answer.incarnation => Answer {
                incarnation: h.incarnation,
                seq: 0,
                supports: 0,
            },
            _ => answer,
        }
    }

    /// What a heartbeat is; a new one is the newest from then on. A member that is heard is not overtaken by another machine that
    /// takes its number: a machine that was started again has to wait until nothing of its last life can come any more.
    pub(crate) fn news(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        seq: u64,
        is_member: bool,
        now_ms: u64,
    ) -> News {
        let mut heard = self.heard.lock();
        let Some(h) = heard.iter_mut().find(|h| h.node == node) else {
            return News::Old;
        };
        let is_known = is_member && h.incarnation != Incarnation(0);
        match (incarnation, seq).cmp(&(h.incarnation, h.seq)) {
            Ordering::Greater if incarnation == h.incarnation => {
                h.seq = seq;
                if h.challenge.take().is_some() {
                    h.twin_ms = Some(now_ms);
                }
                News::New
            }
            Ordering::Greater if is_known && !h.is_over(now_ms) => match h.has_twin(now_ms) {
                true => News::Twin,
                false => News::Early,
            },
            Ordering::Greater => {
                (h.incarnation, h.seq) = (incarnation, seq);
                (h.challenge, h.twin_ms) = (None, None);
                News::New
            }
            Ordering::Equal => News::Again,
            // Two threads of its sender, or the network, have changed places: nobody need be told.
            Ordering::Less if incarnation == h.incarnation && !hearing::is_long_ago(seq, h.seq) => {
                News::Again
            }
            Ordering::Less => News::Old,
        }
    }
}
