// SPDX-License-Identifier: GPL-2.0

//! Calls over main streams that are torn, overtaken and attached late, and over those beside them: every order of what either
//! end does. A call is done once at most, and in the end once if it is not given up; and nothing is kept of it after the next
//! stream.
//!
//! The rules are those of `ics/peer/asking.rs`, `answering.rs`, `kept.rs`, `opening.rs` and `beside.rs`; the list of open calls
//! is judged by the very code. Each rule that a search is told to break leads to a call that is done twice, to a stream that is torn
//! though its peer is honest, or to something that is kept. A stream that is lost while those beside it go on is one that nothing
//! is read from any more.

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

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kept {
    answer: Answer,
    comes_again: bool,
    has_arrived: bool,
    /// The stream on which its reply went out last.
    went_on: Option<usize>,
}

/// Streams at once: the main one, then those beside it.
const LANES: usize = 3;

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Lane {
    /// Frames to the end that answers, each with how many replies the asker had seen on every lane.
    to: Vec<(Frame, [usize; LANES])>,
    /// All replies on it, and how many the asker has seen.
    replies: Vec<u64>,
    seen: usize,
    /// Of how many the end that answers knows that.
    told: usize,
    /// Whether either end has it.
    is_askers: bool,
    is_answerers: bool,
}

/// A main stream, and those beside it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Stream {
    lanes: [Lane; LANES],
    was_attached: bool,
}

/// What there may be in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Most {
    /// The lane of each call.
    calls: &'static [usize],
    /// Main streams.
    streams: usize,
    /// What is sent again is looked at one step after the other, not all of it in one.
    by_steps: bool,
}

impl Most {
    fn new(calls: &'static [usize], streams: usize) -> Self {
        Self { calls, streams, by_steps: false }
    }

    fn steps(calls: &'static [usize], streams: usize) -> Self {
        Self { by_steps: true, ..Self::new(calls, streams) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rules {
    /// Late streams are refused.
    judges_numbers: bool,
    /// What is open when a stream begins is kept until it has come again.
    awaits_again: bool,
    /// An answer is forgotten by the count of the lane that its reply went on.
    counts_apart: bool,
    /// A cancel of what is in hand is left to who has it there.
    leaves_what_is_in_hand: bool,
    /// What is not open any more when a stream begins is forgotten.
    forgets_what_is_over: bool,
    /// An answer whose call does not come again, but its cancel, is forgotten.
    forgets_what_is_cancelled_instead: bool,
    /// But not if its reply went out on this stream.
    keeps_what_is_on_its_way: bool,
}

const RULES: Rules = Rules {
    judges_numbers: true,
    awaits_again: true,
    counts_apart: true,
    leaves_what_is_in_hand: true,
    forgets_what_is_over: true,
    forgets_what_is_cancelled_instead: true,
    keeps_what_is_on_its_way: true,
};

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// A call is done twice.
    Twice,
    /// The stream of an honest peer is torn.
    Torn,
    /// In the end something is kept of a call.
    Kept,
    /// An answer is kept that no count of replies on this stream will ever name.
    Unnamed,
    /// A reply is on its way, and nothing is kept of its call: nobody counts it.
    Uncounted,
}

/// Who sends all again on a stream, one call after the other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sender {
    on: usize,
    /// What is left, the last one first.
    left: Vec<u64>,
    at: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Next,
    /// It has this one in hand.
    Taken(u64),
    /// It has sent this one.
    Sent(u64),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    most: Most,
    rules: Rules,
    streams: Vec<Stream>,
    // The asker.
    next: u64,
    pending: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    on: Option<usize>,
    /// The stream and lane that a request went on last.
    went_on: BTreeMap<u64, (usize, usize)>,
    /// A stream on which it has said what is open, that nobody else knows yet.
    coming: Option<(usize, Vec<u64>, u64)>,
    senders: Vec<Sender>,
    in_hand: BTreeSet<u64>,
    // The end that answers.
    main: Option<usize>,
    opened: Option<usize>,
    answers: BTreeMap<u64, Kept>,
    done: BTreeMap<u64, u32>,
    is_torn: bool,
}

impl World {
    fn new(most: Most, rules: Rules) -> Self {
        Self {
            most,
            rules,
            streams: Vec::new(),
            next: 1,
            pending: BTreeSet::new(),
            given_up: BTreeSet::new(),
            on: None,
            went_on: BTreeMap::new(),
            coming: None,
            senders: Vec::new(),
            in_hand: BTreeSet::new(),
            main: None,
            opened: None,
            answers: BTreeMap::new(),
            done: BTreeMap::new(),
            is_torn: false,
        }
    }

    fn send(&mut self, on: usize, lane: usize, frame: Frame) {
        let lanes = &mut self.streams[on].lanes;
        let seen = lanes.each_ref().map(|l| l.seen);
        lanes[lane].to.push((frame, seen));
    }

    /// The lane for a call, if that end has it.
    fn lane(&self, on: usize, xid: u64, has: impl Fn(&Lane) -> bool) -> usize {
        let lane = self.most.calls[xid as usize - 1];
        if has(&self.streams[on].lanes[lane]) { lane } else { 0 }
    }

    fn begin(&mut self) {
        let xid = self.next;
        self.next += 1;
        self.pending.insert(xid);
        if let Some(on) = self.on {
            let lane = self.lane(on, xid, |l| l.is_askers);
            self.went_on.insert(xid, (on, lane));
            self.send(on, lane, Frame::Request(xid));
        }
    }

    /// The first frame of the next stream; the one before may still be in use.
    fn say_open(&mut self) {
        let (number, below) = (self.streams.len(), self.next);
        let list: Vec<u64> = self.pending.iter().copied().collect();
        self.streams.push(Stream::default());
        self.send(number, 0, Frame::Open { number, below, list: list.clone() });
        self.coming = Some((number, list, below));
    }

    /// The asker uses it, and begins to send all again.
    fn use_it(&mut self) {
        let Some((on, list, below)) = self.coming.take() else { return };
        self.on = Some(on);
        self.streams[on].lanes[0].is_askers = true;
        let mut left: Vec<u64> = list.into_iter().chain(below..self.next).collect();
        left.reverse();
        self.senders.push(Sender { on, left, at: Stage::Next });
        while !self.most.by_steps && !self.senders.is_empty() {
            self.send_again(0);
        }
    }

    /// The next step of a sender; each is one look at the table, or one frame.
    fn send_again(&mut self, n: usize) {
        let Sender { on, at, .. } = self.senders[n];
        let is_used = self.on == Some(on);
        self.senders[n].at = match at {
            Stage::Next => {
                let Some(xid) = self.senders[n].left.pop().filter(|_| is_used) else {
                    self.senders.remove(n);
                    return;
                };
                if self.pending.contains(&xid) {
                    self.in_hand.insert(xid);
                    Stage::Taken(xid)
                } else {
                    self.send(on, 0, Frame::Cancel(xid));
                    Stage::Next
                }
            }
            Stage::Taken(xid) => {
                self.send(on, 0, Frame::Request(xid));
                Stage::Sent(xid)
            }
            Stage::Sent(xid) => {
                if !self.pending.contains(&xid) {
                    self.send(on, 0, Frame::Cancel(xid));
                } else if is_used {
                    self.in_hand.remove(&xid);
                    self.went_on.insert(xid, (on, 0));
                }
                Stage::Next
            }
        };
    }

    fn give_up(&mut self, xid: u64) {
        self.pending.remove(&xid);
        self.given_up.insert(xid);
        if self.rules.leaves_what_is_in_hand && self.in_hand.contains(&xid) {
            return;
        }
        if let Some(on) = self.on {
            // On the lane of its request, if that is still there.
            let went = self.went_on.get(&xid).filter(|w| w.0 == on);
            self.send(on, went.map_or(0, |w| w.1), Frame::Cancel(xid));
        }
    }

    /// The lanes that a reply waits on.
    fn can_hear(&self) -> Vec<usize> {
        let Some(on) = self.on else { return Vec::new() };
        let waits = |l: &Lane| l.is_askers && l.seen < l.replies.len();
        (0..LANES).filter(|l| waits(&self.streams[on].lanes[*l])).collect()
    }

    fn hear(&mut self, lane: usize) {
        let Some(on) = self.on else { return };
        let l = &mut self.streams[on].lanes[lane];
        self.pending.remove(&l.replies[l.seen]);
        l.seen += 1;
    }

    fn attach(&mut self, n: usize) {
        self.streams[n].was_attached = true;
        self.streams[n].lanes[0].is_answerers = true;
        self.main = Some(n);
    }

    fn reply(&mut self, xid: u64) {
        if let Some(main) = self.main {
            let lane = self.lane(main, xid, |l| l.is_answerers);
            self.streams[main].lanes[lane].replies.push(xid);
            self.kept(xid).went_on = Some(main);
        }
    }

    /// The lanes that a frame waits on; beside the main one only what comes after the list of open calls.
    fn can_read(&self) -> Vec<usize> {
        let Some(main) = self.main else { return Vec::new() };
        let is_opened = self.opened == Some(main);
        let waits = |n: usize, l: &Lane| l.is_answerers && !l.to.is_empty() && (n == 0 || is_opened);
        (0..LANES).filter(|l| waits(*l, &self.streams[main].lanes[*l])).collect()
    }

    fn read(&mut self, lane: usize) {
        let Some(main) = self.main else { return };
        let lanes = &mut self.streams[main].lanes;
        let (frame, seen) = lanes[lane].to.remove(0);
        let mut arrived = Vec::new();
        for (n, lane) in lanes.iter_mut().enumerate() {
            lane.told = lane.told.max(seen[n]);
            let counts = if self.rules.counts_apart { seen[n] } else { seen.into_iter().max().unwrap_or(0) };
            arrived.extend(&lane.replies[..counts.min(lane.replies.len())]);
        }
        for xid in arrived {
            self.arrived(xid);
        }
        match frame {
            Frame::Open { number, below, list } => {
                if self.rules.judges_numbers && self.opened.is_some_and(|o| number <= o) {
                    self.main = None;
                    return;
                }
                self.opened = Some(number);
                let body: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
                let open = Open::parse(below, &body).expect("an honest list");
                for xid in self.answers.keys().copied().collect::<Vec<_>>() {
                    if open.is_over(xid) {
                        self.cancelled(xid, self.rules.forgets_what_is_over);
                    } else if self.rules.awaits_again {
                        self.kept(xid).comes_again = true;
                    }
                }
            }
            Frame::Request(xid) => {
                let is_again = self.answers.get(&xid).is_none_or(|k| k.comes_again);
                self.is_torn |= !is_again;
                if self.came_again(xid) {
                    return;
                }
                match self.answers.get(&xid).map(|k| k.answer) {
                    None => {
                        let kept = Kept {
                            answer: Answer::Waiting,
                            comes_again: false,
                            has_arrived: false,
                            went_on: None,
                        };
                        self.answers.insert(xid, kept);
                    }
                    Some(Answer::Done) if !self.is_on_its_way(xid) => self.reply(xid),
                    Some(_) => {}
                }
            }
            Frame::Cancel(xid) => {
                self.cancelled(xid, self.rules.forgets_what_is_cancelled_instead);
            }
        }
    }

    fn kept(&mut self, xid: u64) -> &mut Kept {
        self.answers.get_mut(&xid).expect("it is kept")
    }

    fn forget(&mut self, xid: u64) {
        if self.answers.get(&xid).is_some_and(|k| k.answer == Answer::Done) {
            self.answers.remove(&xid);
        }
    }

    /// The reply has arrived.
    fn arrived(&mut self, xid: u64) {
        match self.answers.get_mut(&xid) {
            Some(k) if k.comes_again => k.has_arrived = true,
            _ => self.forget(xid),
        }
    }

    /// A request, or its cancel, came again. Returns whether it is over.
    fn came_again(&mut self, xid: u64) -> bool {
        let Some(k) = self.answers.get_mut(&xid) else { return false };
        k.comes_again = false;
        let is_over = k.has_arrived && k.answer == Answer::Done;
        if is_over {
            self.forget(xid);
        }
        is_over
    }

    /// Whether its reply went out on this stream.
    fn is_on_its_way(&self, xid: u64) -> bool {
        self.answers.get(&xid).is_some_and(|k| k.went_on == self.main)
    }

    /// Nobody waits for it, and it does not come again.
    fn cancelled(&mut self, xid: u64, forgets: bool) {
        let is_kept = self.rules.keeps_what_is_on_its_way && self.is_on_its_way(xid);
        self.came_again(xid);
        self.cancel(xid);
        if forgets && !is_kept {
            self.forget(xid);
        }
    }

    fn cancel(&mut self, xid: u64) {
        if let Some(Kept { answer: a @ Answer::Waiting, .. }) = self.answers.get_mut(&xid) {
            *a = Answer::Cancelled;
        }
    }

    fn finish(&mut self, xid: u64) {
        let was = std::mem::replace(&mut self.kept(xid).answer, Answer::Done);
        if was == Answer::Waiting {
            *self.done.entry(xid).or_default() += 1;
        }
        self.reply(xid);
    }

    fn open_answers(&self) -> Vec<u64> {
        let is_open = |k: &Kept| k.answer != Answer::Done;
        self.answers.iter().filter(|(_, a)| is_open(a)).map(|(x, _)| *x).collect()
    }

    /// Everything that may happen next.
    fn steps(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut step = |f: &dyn Fn(&mut Self)| {
            let mut w = self.clone();
            f(&mut w);
            w.drop_unread();
            out.push(w);
        };
        if self.next <= self.most.calls.len() as u64 {
            step(&Self::begin);
        }
        match self.coming {
            Some(_) => step(&Self::use_it),
            None if self.streams.len() < self.most.streams => step(&Self::say_open),
            None => {}
        }
        for n in 0..self.senders.len() {
            step(&|w| w.send_again(n));
        }
        for xid in &self.pending {
            step(&|w| w.give_up(*xid));
        }
        for lane in self.can_hear() {
            step(&|w| w.hear(lane));
        }
        for n in 0..self.streams.len() {
            if !self.streams[n].was_attached {
                step(&|w| w.attach(n));
            }
        }
        if self.main.is_some() {
            step(&|w| w.main = None);
        }
        for lane in self.can_read() {
            step(&|w| w.read(lane));
        }
        // Those beside the main one come at either end, or do not.
        for lane in 1..LANES {
            if !self.most.calls.contains(&lane) {
                continue;
            }
            if let Some(on) = self.on.filter(|on| !self.streams[*on].lanes[lane].is_askers) {
                step(&|w| w.streams[on].lanes[lane].is_askers = true);
            }
            if let Some(main) = self.main.filter(|m| !self.streams[*m].lanes[lane].is_answerers) {
                step(&|w| w.streams[main].lanes[lane].is_answerers = true);
            }
        }
        for xid in self.open_answers() {
            step(&|w| w.finish(xid));
        }
        out
    }

    /// What nobody reads any more makes no other world.
    fn drop_unread(&mut self) {
        for (n, stream) in self.streams.iter_mut().enumerate() {
            let is_left = stream.was_attached && self.main != Some(n);
            let is_used = self.on == Some(n)
                || self.coming.as_ref().is_some_and(|c| c.0 == n)
                || self.senders.iter().any(|s| s.on == n);
            for lane in &mut stream.lanes {
                match (is_left, is_used) {
                    (true, false) => *lane = Lane::default(),
                    (true, true) => lane.to.clear(),
                    (false, _) => {}
                }
            }
        }
    }

    fn is(&self, wrong: Wrong) -> bool {
        match wrong {
            Wrong::Twice => self.done.values().any(|n| *n > 1),
            Wrong::Torn => self.is_torn,
            Wrong::Kept => {
                let mut w = self.clone();
                w.settle();
                w.settle();
                !w.answers.is_empty()
            }
            Wrong::Unnamed => {
                let mut w = self.clone();
                w.run_out();
                let Some(main) = w.main.filter(|m| w.on == Some(*m) && w.opened == Some(*m)) else {
                    return false;
                };
                let is_named = |xid| w.streams[main].lanes.iter().any(|l| l.replies.contains(xid));
                !w.answers.keys().all(is_named)
            }
            Wrong::Uncounted => self.main.is_some_and(|main| {
                let on_their_way = self.streams[main].lanes.iter().flat_map(|l| l.replies.iter().skip(l.told));
                on_their_way.into_iter().any(|xid| !self.answers.contains_key(xid))
            }),
        }
    }

    /// A stream comes and stays, and all that can be done is done.
    fn settle(&mut self) {
        self.use_it();
        self.say_open();
        self.use_it();
        self.attach(self.streams.len() - 1);
        self.run_out();
    }

    /// All is done that can be done on the streams that there are.
    fn run_out(&mut self) {
        loop {
            if !self.senders.is_empty() {
                self.send_again(0);
            } else if let Some(lane) = self.can_read().first() {
                self.read(*lane);
            } else if let Some(xid) = self.open_answers().first() {
                self.finish(*xid);
            } else if let Some(lane) = self.can_hear().first() {
                self.hear(*lane);
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
        assert!(!w.is(Wrong::Twice) && !w.is(Wrong::Torn));
    }
}

/// How many worlds there are, or `None` if in one of them something is wrong in that way.
fn search(most: Most, rules: Rules, wrong: Wrong) -> Option<usize> {
    let mut known = HashSet::new();
    let mut todo = vec![World::new(most, rules)];
    while let Some(w) = todo.pop() {
        if w.is(wrong) {
            return None;
        }
        if !known.insert(w.clone()) {
            continue;
        }
        if rules == RULES {
            assert!(!w.is(Wrong::Torn), "the stream of an honest peer is torn");
            assert!(!w.is(Wrong::Unnamed), "kept as long as the stream lives");
            assert!(!w.is(Wrong::Uncounted), "on its way, and not counted");
            w.check_end();
        }
        todo.extend(w.steps());
    }
    Some(known.len())
}

#[test]
fn calls_are_done_once_over_torn_streams() {
    for most in [
        Most::steps(&[0], 3),
        Most::steps(&[1], 2),
        Most::new(&[0, 0], 2),
        Most::new(&[0, 1], 2),
        Most::new(&[1, 2], 1),
    ] {
        let n = search(most, RULES, Wrong::Twice).expect("a call is done twice");
        println!("{most:?}: {n} worlds");
        assert!(n > 5_000, "{n} worlds");
    }
}

/// What the numbers of streams are for.
#[test]
fn a_late_stream_that_is_not_refused_does_calls_twice() {
    let rules = Rules { judges_numbers: false, ..RULES };
    assert_eq!(search(Most::new(&[0], 3), rules, Wrong::Twice), None);
}

/// On a lane of its own a later call says that the reply has arrived, while the request is on its way once more.
#[test]
fn an_answer_that_is_forgotten_before_its_call_came_again_is_made_twice() {
    let rules = Rules { awaits_again: false, ..RULES };
    assert_eq!(search(Most::new(&[0, 1], 2), rules, Wrong::Twice), None);
}

/// Replies on one lane are not those on another.
#[test]
fn an_answer_that_is_forgotten_by_the_count_of_another_lane_is_made_twice() {
    let rules = Rules { counts_apart: false, ..RULES };
    assert_eq!(search(Most::new(&[0, 1, 0], 2), rules, Wrong::Twice), None);
}

/// The cancel comes first, and takes the place of the request.
#[test]
fn a_cancel_that_overtakes_what_is_in_hand_tears_the_stream() {
    let rules = Rules { leaves_what_is_in_hand: false, ..RULES };
    assert_eq!(search(Most::steps(&[0], 2), rules, Wrong::Torn), None);
}

#[test]
fn an_answer_that_is_not_forgotten_when_its_call_is_over_is_kept_for_ever() {
    let rules = Rules { forgets_what_is_over: false, ..RULES };
    assert_eq!(search(Most::new(&[0], 2), rules, Wrong::Kept), None);
}

/// Its reply does not go out once more.
#[test]
fn an_answer_whose_call_is_cancelled_instead_is_kept_as_long_as_the_stream_lives() {
    let rules = Rules { forgets_what_is_cancelled_instead: false, ..RULES };
    assert_eq!(search(Most::new(&[0], 2), rules, Wrong::Unnamed), None);
}

/// Its handler ended when the stream was there, before its cancel came.
#[test]
fn an_answer_that_is_forgotten_while_it_is_on_its_way_is_not_counted() {
    let rules = Rules { keeps_what_is_on_its_way: false, ..RULES };
    assert_eq!(search(Most::new(&[0], 2), rules, Wrong::Uncounted), None);
}
