// SPDX-License-Identifier: GPL-2.0

//! Every row of [`BEATS`] heartbeats on two links, each brought in time, late or never.

use crate::hearing::Hearing;
use crate::hearing::MISSED;
use crate::hearing::PERIOD_BITS;
use crate::sent::Sent;

const BEATS: u64 = 6;

/// The node has been up for long when this one begins to hear it.
const FIRST: u64 = 100;

/// The number of the first of a period.
fn number(beat: u64) -> u64 {
    beat << PERIOD_BITS
}

/// What a link does with a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Brought,
    Lost,
    /// Comes after the next one has come, if that comes on the other link.
    Late,
}

const FATES: [Fate; 3] = [Fate::Brought, Fate::Lost, Fate::Late];

#[derive(Clone, Copy)]
struct World {
    hearing: Hearing,
    /// The last heartbeat that each link brought, and one that is under way.
    last: [u64; 2],
    late: [Option<u64>; 2],
}

impl World {
    fn bring(&mut self, link: usize, beat: u64) {
        let is_new = beat + MISSED > self.last[link];
        assert_eq!(self.hearing.is_new_on(link, 1, number(beat)), is_new);
        self.hearing.heard(link, 1, number(beat));
        self.last[link] = self.last[link].max(beat);
        let newest = self.last[0].max(self.last[1]);
        for link in 0..2 {
            assert_eq!(self.hearing.is_silent(link), newest - self.last[link] >= MISSED);
        }
        for after in [None, Some(0), Some(1)] {
            let next = self.hearing.next(after);
            // The one that brought the newest is not silent, so there always is one.
            assert!(!self.hearing.is_silent(next));
            let in_turn = after.map_or(0, |a| 1 - a);
            assert!(next == in_turn || self.hearing.is_silent(in_turn));
        }
    }

    fn step(mut self, beat: u64, fates: [Fate; 2]) -> Self {
        for (link, fate) in fates.into_iter().enumerate() {
            if fate == Fate::Brought {
                self.bring(link, beat);
            }
        }
        for (link, fate) in fates.into_iter().enumerate() {
            if let Some(was) = self.late[link].take() {
                self.bring(link, was);
            }
            self.late[link] = (fate == Fate::Late).then_some(beat);
        }
        self
    }

    /// How many steps there are.
    fn search(self, beat: u64) -> u64 {
        if beat > FIRST + BEATS {
            return 0;
        }
        let rows = FATES.iter().flat_map(|a| FATES.map(|b| [*a, b]));
        rows.map(|fates| 1 + self.step(beat, fates).search(beat + 1)).sum()
    }
}

#[test]
fn silent_is_who_misses_what_another_link_brings() {
    for first in 0..2 {
        // It speaks for both links.
        let mut hearing = Hearing::new(2);
        hearing.heard(first, 1, number(FIRST));
        let world = World {
            hearing,
            last: [FIRST; 2],
            late: [None; 2],
        };
        assert_eq!(world.search(FIRST + 1), (9u64.pow(7) - 9) / 8);
    }
}

#[test]
fn a_new_life_begins_anew() {
    let mut h = Hearing::new(2);
    for beat in 1..20 {
        h.heard(0, 1, number(beat));
    }
    assert!(h.is_silent(1));
    h.heard(0, 2, number(1));
    assert!(!h.is_silent(0) && !h.is_silent(1));
    // The old one is over.
    h.heard(1, 1, number(50));
    assert!(!h.is_new_on(1, 1, number(51)));
    assert!(!h.is_silent(0) && !h.is_silent(1));
    for beat in 2..2 + MISSED {
        assert!(!h.is_silent(0));
        h.heard(1, 2, number(beat));
    }
    assert!(h.is_silent(0));
}

#[test]
fn nothing_is_silent_before_anything_is_heard_or_alone() {
    let h = Hearing::new(2);
    assert!(!h.is_silent(0) && !h.is_silent(1));
    assert_eq!((h.next(None), h.next(Some(0)), h.next(Some(1))), (0, 1, 0));
    let mut h = Hearing::new(1);
    for beat in [1, 5, 100] {
        h.heard(0, 1, number(beat));
        // No such link.
        h.heard(1, 1, number(beat + 50));
        assert!(!h.is_silent(0) && !h.is_silent(1));
        assert_eq!(h.next(Some(0)), 0);
    }
    assert_eq!(Hearing::new(0).next(None), 0);
    assert_eq!(Hearing::new(9).next(Some(3)), 0);
}

#[test]
fn what_went_to_others_is_not_missed() {
    let mut h = Hearing::new(2);
    h.heard(0, 1, number(1));
    h.heard(0, 1, number(2) + 200);
    assert!(!h.is_silent(1));
    assert!(h.is_new_on(1, 1, number(2)) && h.is_new_on(0, 1, number(2) + 201));
}

/// Numbers as they are given, and the period in which each was sent.
struct Sender {
    sent: Sent,
    period: u64,
    all: Vec<(u64, u64)>,
}

impl Sender {
    /// A period, in which there is news `n` times, and something to say to single nodes.
    fn period(&mut self, n: usize) {
        self.period += 1;
        let now = 100 * self.period;
        let mut numbers = vec![self.sent.beat_to_all(now)];
        for i in 0..n {
            numbers.push(self.sent.news_to_all(now + 1));
            numbers.extend((0..i % 3).map(|_| self.sent.beat_to_one(now + 1)));
        }
        self.all.extend(numbers.into_iter().map(|n| (n, self.period)));
    }
}

/// Every row of [`BEATS`] periods with little or much to say. One link brings all at once, the other one what is older than
/// some periods, and of the next one a part.
#[test]
fn what_is_said_at_once_is_missed_once() {
    const MUCH: [usize; 3] = [0, 2, 40];
    let mut n_silent = 0;
    for row in 0..MUCH.len().pow(BEATS as u32) {
        let mut sender = Sender { sent: Sent::new(), period: 0, all: Vec::new() };
        for i in 0..BEATS as u32 {
            sender.period(MUCH[row / MUCH.len().pow(i) % MUCH.len()]);
        }
        assert!(sender.all.is_sorted_by(|a, b| a.0 < b.0));
        for behind in 0..sender.all.len() {
            let mut hearing = Hearing::new(2);
            let (brought, _) = sender.all.split_at(sender.all.len() - behind);
            for (number, _) in &sender.all {
                hearing.heard(0, 1, *number);
            }
            for (number, _) in brought {
                hearing.heard(1, 1, *number);
            }
            // The first one spoke for both links.
            let last = brought.last().unwrap_or(&sender.all[0]);
            let is_silent = BEATS - last.1 >= MISSED;
            assert_eq!(hearing.is_silent(1), is_silent, "row {row}, {behind} behind");
            n_silent += u64::from(is_silent);
        }
    }
    assert!(n_silent > 0);
}

/// Seconds of heartbeats are remembered, each with its time, and no other number.
#[test]
fn times_are_those_of_what_went_to_all() {
    let mut sent = Sent::new();
    assert_eq!(sent.when(0), None);
    let mut all = Vec::new();
    for now in 1..200 {
        let number = if now % 3 == 0 { sent.beat_to_all(now) } else { sent.news_to_all(now) };
        all.push((number, now));
        for _ in 0..now % 4 {
            // Not later than it was.
            all.push((sent.beat_to_one(now + 1000), now));
        }
        for (number, time) in &all {
            let want = (now - time < 64).then_some(*time);
            assert_eq!(sent.when(*number), want);
        }
        let next = sent.beat_to_one(now) + 256;
        assert_eq!(sent.when(next), None);
        assert_eq!(sent.when(0), None);
    }
}
