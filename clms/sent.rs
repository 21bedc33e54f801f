// SPDX-License-Identifier: GPL-2.0

//! When this node's last heartbeats were sent: an answer to one proves that its sender lived after that time. Pure.
//!
//! A number is that of the period, by which links are judged; then how many more went to all in it, as there was news; then
//! what went to single nodes since the last that went to all.

use crate::state::Millis;

/// How many are remembered: seconds, also while each step says something new.
const ROOM: usize = 64;

/// Bits of a number below those of what goes to all.
const SINGLE_BITS: u32 = 8;

/// Bits of a number below the period.
pub(crate) const PERIOD_BITS: u32 = 16;

/// Of the number of what went to all, without the bits below it: those of news.
const NEWS_BITS: u32 = PERIOD_BITS - SINGLE_BITS;

/// The numbers and times of the last heartbeats.
pub(crate) struct Sent {
    /// The last that went to all; 0: none.
    last: u64,
    /// What went to single nodes since then.
    since: u64,
    /// Those that went to all, and where the next one is put.
    times: [(u64, Millis); ROOM],
    next: usize,
}

impl Sent {
    /// None has been sent.
    pub(crate) const fn new() -> Self {
        Self {
            last: 0,
            since: 0,
            times: [(0, 0); ROOM],
            next: 0,
        }
    }

    /// Gives the number of the heartbeat that is sent to all now, as it is time.
    pub(crate) fn beat_to_all(&mut self, now: Millis) -> u64 {
        self.number_for_all(((self.last >> NEWS_BITS) + 1) << NEWS_BITS, now)
    }

    /// Gives the number of one that is sent to all now, as there is news.
    pub(crate) fn news_to_all(&mut self, now: Millis) -> u64 {
        self.number_for_all(self.last + 1, now)
    }

    fn number_for_all(&mut self, number: u64, now: Millis) -> u64 {
        self.last = number;
        self.since = 0;
        if let Some(t) = self.times.get_mut(self.next) {
            *t = (number, now);
        }
        self.next = (self.next + 1) % ROOM;
        number << SINGLE_BITS
    }

    /// Gives the number of one that is sent to a single node now. It counts as sent with the last that went to all.
    pub(crate) fn beat_to_one(&mut self, now: Millis) -> u64 {
        if self.last == 0 || self.since + 1 == 1 << SINGLE_BITS {
            return self.news_to_all(now);
        }
        self.since += 1;
        self.last << SINGLE_BITS | self.since
    }

    /// When a heartbeat was sent, at the earliest; `None` for one that is forgotten, or that was never sent.
    pub(crate) fn when(&self, seq: u64) -> Option<Millis> {
        let number = seq >> SINGLE_BITS;
        let found = self.times.iter().find(|t| t.0 == number);
        found.filter(|_| number != 0).map(|t| t.1)
    }
}
