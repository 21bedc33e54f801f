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

/// A life that was heard so shortly ago goes on: a machine does not start so fast. It says something every 100 ms.
const ALIVE_MS: u64 = 1000;

struct Heard {
    node: NodeId,
    incarnation: Incarnation,
    seq: u64,
    came_ms: u64,
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
            came_ms: 0,
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
    /// takes its number.
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
        let was_heard = h.incarnation != Incarnation(0);
        let is_alive = is_member && was_heard && now_ms < h.came_ms + ALIVE_MS;
        match (incarnation, seq).cmp(&(h.incarnation, h.seq)) {
            Ordering::Greater if incarnation != h.incarnation && is_alive => News::Twin,
            Ordering::Greater => {
                (h.incarnation, h.seq, h.came_ms) = (incarnation, seq, now_ms);
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
