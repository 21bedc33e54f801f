// SPDX-License-Identifier: GPL-2.0

//! When this node's last heartbeats were sent: an answer to one proves that its sender lived after that time. Pure.
//!
//! A number is that of the beat, which goes to all, and in its low bits that of what went to single nodes since then.

use crate::state::Millis;

/// How many are remembered: seconds, also while each step says something new.
const ROOM: usize = 64;

/// Bits of a number below the beat.
pub(crate) const SINGLE_BITS: u32 = 8;

/// The numbers and times of the last heartbeats.
pub(crate) struct Sent {
    /// The last beat; 0: none.
    beat: u64,
    /// What went to single nodes since then.
    since: u64,
    times: [Millis; ROOM],
}

impl Sent {
    /// None has been sent.
    pub(crate) const fn new() -> Self {
        Self {
            beat: 0,
            since: 0,
            times: [0; ROOM],
        }
    }

    /// Gives the number of a beat that is sent to all now.
    pub(crate) fn beat_to_all(&mut self, now: Millis) -> u64 {
        self.beat += 1;
        self.since = 0;
        if let Some(t) = self.times.get_mut(self.beat as usize % ROOM) {
            *t = now;
        }
        self.beat << SINGLE_BITS
    }

    /// Gives the number of one that is sent to a single node now. It counts as sent with the last beat.
    pub(crate) fn beat_to_one(&mut self, now: Millis) -> u64 {
        if self.beat == 0 || self.since + 1 == 1 << SINGLE_BITS {
            return self.beat_to_all(now);
        }
        self.since += 1;
        self.beat << SINGLE_BITS | self.since
    }

    /// When a heartbeat was sent, at the earliest; `None` for one that is forgotten, or that was never sent.
    pub(crate) fn when(&self, seq: u64) -> Option<Millis> {
        let beat = seq >> SINGLE_BITS;
        let is_known = beat != 0 && beat <= self.beat && self.beat - beat < ROOM as u64;
        let t = self.times.get(beat as usize % ROOM);
        t.copied().filter(|_| is_known)
    }
}
