// SPDX-License-Identifier: GPL-2.0

//! Calls over main streams that are torn, overtaken and attached late: every order of what either end does. A call is done
//! once at most, and in the end once if it is not given up; and nothing is kept of it after the next stream.
//!
//! The rules are those of `ics/peer/asking.rs`, `answering.rs` and `opening.rs`; the list of open calls is judged by the very code.

use crate::open::Open;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Frame {
    Open { number: usize, below: u64, list: Vec<u64> },
    Request(u64),
    Cancel(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Waiting,
    Cancelled,
    Done,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Stream {
    /// Frames to the end that answers, each with how many replies the asker had seen on this stream.
    to: Vec<(Frame, usize)>,
    /// All replies on it, how many the asker has seen, and how many of those it has said.
    replies: Vec<u64>,
    seen: usize,
    was_attached: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    /// Calls and streams that there may be.
    most: (u64, usize),
    /// Whether late streams are refused.
    judges_numbers: bool,
    streams: Vec<Stream>,
    // The asker.
    next: u64,
    pending: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    on: Option<usize>,
    /// A stream on which it has said what is open, that nobody else knows yet.
    coming: Option<(usize, Vec<u64>, u64)>,
    // The end that answers.
    main: Option<usize>,
    opened: Option<usize>,
    answers: BTreeMap<u64, Answer>,
    done: BTreeMap<u64, u32>,
}

impl World {
    fn new(most: (u64, usize), judges_numbers: bool) -> Self {
        Self {
            most,
            judges_numbers,
            streams: Vec::new(),
            next: 1,
            pending: BTreeSet::new(),
            given_up: BTreeSet::new(),
            on: None,
            coming: None,
            main: None,
            opened: None,
            answers: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    fn send(&mut self, on: usize, frame: Frame) {
        let s = &mut self.streams[on];
        s.to.push((frame, s.seen));
    }

    fn begin(&mut self) {
        let xid = self.next;
        self.next += 1;
        self.pending.insert(xid);
        if let Some(on) = self.on {
            self.send(on, Frame::Request(xid));
        }
    }

    /// The first frame of the next stream; the one before may still be in use.
    fn say_open(&mut self) {
        let (number, below) = (self.streams.len(), self.next);
        let list: Vec<u64> = self.pending.iter().copied().collect();
        self.streams.push(Stream::default());
        self.send(number, Frame::Open { number, below, list: list.clone() });
        self.coming = Some((number, list, below));
    }

    /// The asker uses it. That what is sent again is not sent all at once changes nothing here: each is looked at once.
    fn use_it(&mut self) {
        let Some((on, list, below)) = self.coming.take() else { return };
        self.on = Some(on);
        for xid in list.into_iter().chain(below..self.next) {
            let is_open = self.pending.contains(&xid);
            self.send(on, if is_open { Frame::Request(xid) } else { Frame::Cancel(xid) });
        }
    }

    fn give_up(&mut self, xid: u64) {
        self.pending.remove(&xid);
        self.given_up.insert(xid);
        if let Some(on) = self.on {
            self.send(on, Frame::Cancel(xid));
        }
    }

    fn can_hear(&self) -> bool {
        self.on.is_some_and(|on| self.streams[on].seen < self.streams[on].replies.len())
    }

    fn hear(&mut self) {
        let Some(on) = self.on else { return };
        let s = &mut self.streams[on];
        self.pending.remove(&s.replies[s.seen]);
        s.seen += 1;
    }

    fn attach(&mut self, n: usize) {
        self.streams[n].was_attached = true;
        self.main = Some(n);
    }

    fn reply(&mut self, xid: u64) {
        if let Some(main) = self.main {
            self.streams[main].replies.push(xid);
        }
    }

    fn can_read(&self) -> bool {
        self.main.is_some_and(|m| !self.streams[m].to.is_empty())
    }

    fn read(&mut self) {
        let Some(main) = self.main else { return };
        let (frame, seen) = self.streams[main].to.remove(0);
        for xid in self.streams[main].replies[..seen].to_vec() {
            self.forget(xid);
        }
        match frame {
            Frame::Open { number, below, list } => {
                if self.judges_numbers && self.opened.is_some_and(|o| number <= o) {
                    self.main = None;
                    return;
                }
                self.opened = Some(number);
                let body: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
                let open = Open::parse(below, &body).expect("an honest list");
                for xid in self.answers.keys().copied().collect::<Vec<_>>() {
                    if open.is_over(xid) {
                        self.forget(xid);
                        self.cancel(xid);
                    }
                }
            }
            Frame::Request(xid) => match self.answers.get(&xid) {
                None => drop(self.answers.insert(xid, Answer::Waiting)),
                Some(Answer::Done) => self.reply(xid),
                Some(_) => {}
            },
            Frame::Cancel(xid) => self.cancel(xid),
        }
    }

    fn forget(&mut self, xid: u64) {
        if self.answers.get(&xid) == Some(&Answer::Done) {
            self.answers.remove(&xid);
        }
    }

    fn cancel(&mut self, xid: u64) {
        if let Some(a @ Answer::Waiting) = self.answers.get_mut(&xid) {
            *a = Answer::Cancelled;
        }
    }

    fn finish(&mut self, xid: u64) {
        if self.answers.insert(xid, Answer::Done) == Some(Answer::Waiting) {
            *self.done.entry(xid).or_default() += 1;
        }
        self.reply(xid);
    }

    fn open_answers(&self) -> Vec<u64> {
        let is_open = |a: &Answer| *a != Answer::Done;
        self.answers.iter().filter(|(_, a)| is_open(a)).map(|(x, _)| *x).collect()
    }

    /// Everything that may happen next.
    fn steps(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut step = |f: &dyn Fn(&mut Self)| {
            let mut w = self.clone();
            f(&mut w);
            out.push(w);
        };
        if self.next <= self.most.0 {
            step(&Self::begin);
        }
        match self.coming {
            Some(_) => step(&Self::use_it),
            None if self.streams.len() < self.most.1 => step(&Self::say_open),
            None => {}
        }
        for xid in &self.pending {
            step(&|w| w.give_up(*xid));
        }
        if self.can_hear() {
            step(&Self::hear);
        }
        for n in 0..self.streams.len() {
            if !self.streams[n].was_attached {
                step(&|w| w.attach(n));
            }
        }
        if self.main.is_some() {
            step(&|w| w.main = None);
        }
        if self.can_read() {
            step(&Self::read);
        }
        for xid in self.open_answers() {
            step(&|w| w.finish(xid));
        }
        out
    }

    fn is_done_once(&self) -> bool {
        self.done.values().all(|n| *n <= 1)
    }

    /// A stream comes and stays, and all that can be done is done.
    fn settle(&mut self) {
        self.use_it();
        self.say_open();
        self.use_it();
        self.attach(self.streams.len() - 1);
        loop {
            if self.can_read() {
                self.read();
            } else if let Some(xid) = self.open_answers().first() {
                self.finish(*xid);
            } else if self.can_hear() {
                self.hear();
            } else {
                return;
            }
        }
    }

    /// What is promised of where every world may end.
    fn check_end(&self) {
        let mut w = self.clone();
        w.settle();
        assert!(w.pending.is_empty(), "a call without its reply");
        for xid in 1..w.next {
            let n = w.done.get(&xid).copied().unwrap_or(0);
            assert!(n == 1 || (n == 0 && w.given_up.contains(&xid)), "call {xid} done {n} times");
        }
        w.settle();
        assert!(w.answers.is_empty(), "kept for nobody");
        assert!(w.is_done_once());
    }
}

/// How many worlds there are, or `None` if in one of them a call is done twice.
fn search(most: (u64, usize), judges_numbers: bool) -> Option<usize> {
    let mut known = HashSet::new();
    let mut todo = vec![World::new(most, judges_numbers)];
    while let Some(w) = todo.pop() {
        if !w.is_done_once() {
            return None;
        }
        if !known.insert(w.clone()) {
            continue;
        }
        if judges_numbers {
            w.check_end();
        }
        todo.extend(w.steps());
    }
    Some(known.len())
}

#[test]
fn calls_are_done_once_over_torn_streams() {
    for most in [(1, 3), (2, 2)] {
        let n = search(most, true).expect("a call is done twice");
        assert!(n > 10_000, "{n} worlds");
    }
}

/// What the numbers of streams are for.
#[test]
fn a_late_stream_that_is_not_refused_does_calls_twice() {
    assert_eq!(search((1, 3), false), None);
}
