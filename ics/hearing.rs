// SPDX-License-Identifier: GPL-2.0

//! Which links to a node bring its heartbeats. Every heartbeat goes out on all of them under one number, so a link that
//! misses what another one brings is silent: a stream over it would wait for nothing. Pure: imports only `core`.
//!
//! A number begins with that of the period in which it was sent. What counts is the time that a link misses, in periods: at
//! news a node says much at once, and a link that brings it later than another one is slow, not silent.
//!
//! Not for the node's life: a node that no link brings is the membership's.

/// Bits of a heartbeat's number below the period: they count what was sent in it.
pub const PERIOD_BITS: u32 = 16;

/// The most links to a node.
pub(crate) const MAX_LINKS: usize = 4;

/// So many periods in a row of which another link brings heartbeats and this one does not make it silent.
pub(crate) const MISSED: u64 = 3;

/// The period of a number.
const fn period(number: u64) -> u64 {
    number >> PERIOD_BITS
}

/// Whether a heartbeat is of so long before another one of its life that it is no late one.
pub(crate) const fn is_long_ago(number: u64, newest: u64) -> bool {
    period(newest).saturating_sub(period(number)) >= MISSED
}

/// What is heard of one node, link by link.
///
/// # Invariants
/// `newest` is the highest of `last` among the first `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hearing {
    n: usize,
    /// Of this life, as a number; 0: nothing was heard.
    life: u64,
    newest: u64,
    last: [u64; MAX_LINKS],
}

impl Hearing {
    /// Nothing so far, on so many links.
    pub(crate) const fn new(n: usize) -> Self {
        Self {
            n: if n < MAX_LINKS { n } else { MAX_LINKS },
            life: 0,
            newest: 0,
            last: [0; MAX_LINKS],
        }
    }

    /// A link brought a heartbeat of a life. The first of a life speaks for all links.
    pub(crate) fn heard(&mut self, link: usize, life: u64, number: u64) {
        if link >= self.n || life < self.life {
            return;
        }
        if life > self.life {
            self.life = life;
            self.newest = number;
            self.last = [number; MAX_LINKS];
            return;
        }
        if let Some(last) = self.last.get_mut(link) {
            *last = number.max(*last);
            self.newest = self.newest.max(number);
        }
    }

    /// Whether a heartbeat is the newest of its link, or a little late there, though perhaps not of the node: a slower link is no
    /// replay.
    pub(crate) fn is_new_on(&self, link: usize, life: u64, number: u64) -> bool {
        let last = self
            .last
            .get(link)
            .filter(|_| link < self.n && life == self.life);
        last.is_some_and(|last| !is_long_ago(number, *last))
    }

    /// Whether a link misses what another one brings.
    pub(crate) fn is_silent(&self, link: usize) -> bool {
        link < self.n
            && self
                .last
                .get(link)
                .is_some_and(|last| period(self.newest).saturating_sub(period(*last)) >= MISSED)
    }

    /// The link to connect over after an attempt over `after`: the next one that is not silent, or the next one.
    pub(crate) fn next(&self, after: Option<usize>) -> usize {
        let n = self.n.max(1);
        let first = after.map_or(0, |a| (a + 1) % n);
        let in_turn = |i: usize| (first + i) % n;
        (0..n)
            .map(in_turn)
            .find(|l| !self.is_silent(*l))
            .unwrap_or(first)
    }
}
