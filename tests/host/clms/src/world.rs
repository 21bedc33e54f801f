// SPDX-License-Identifier: GPL-2.0

//! Machines with clocks, and a network that loses, delays, doubles and cuts: everything from one seed.
//!
//! After each step it holds: of nodes that act, views of one number are one view, and each is in the views of those that
//! are ahead of it; a view has a majority.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::state::{Answer, Core, Effect, Heartbeat, Known, Millis, Phase, Row, Says, Times, View};
use crate::places::Places;
use crate::sent::Sent;

/// Microseconds since the world began.
pub(crate) type Micros = u64;

/// What the network does to a heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    /// Least and most time on the way; 0 and 0: it arrives in the same step.
    pub(crate) delay: (Micros, Micros),
    /// Of a thousand.
    pub(crate) lost: u32,
    /// Of a thousand.
    pub(crate) doubled: u32,
}

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A heartbeat counts from when it came, not from when that was sent which it answers.
    ComingCounts,
}

pub(crate) struct Machine<const W: usize> {
    core: Core<Vec<Known<Rc<Says<W>>>>, W>,
    sent: Sent,
    says: Rc<Says<W>>,
    pub(crate) incarnation: u64,
    booted: Micros,
    /// Of a million: how much faster its clock is.
    drift: i64,
    paused: bool,
    /// The last heartbeat taken from each: the transport drops older ones.
    news: Vec<(u64, u64)>,
    /// The lives of its view's members, in the order of the table.
    lives: Vec<u64>,
    /// Every view that was in force here.
    history: Vec<View<W>>,
}

/// What a clock shows after `real`.
fn clock(real: Micros, drift: i64) -> Millis {
    let real = real as i64;
    ((real + real * drift / 1_000_000) / 1000) as Millis
}

impl<const W: usize> Machine<W> {
    fn clock(&self, now: Micros) -> Millis {
        clock(now - self.booted, self.drift)
    }

    pub(crate) fn says(&self) -> Says<W> {
        self.core.says()
    }

    /// Its view, if it acts in one.
    fn acts(&self, now: Micros) -> Option<View<W>> {
        let acts = self.core.phase() == Phase::Up && !self.paused && self.core.may_act(self.clock(now));
        acts.then(|| self.core.says().view)
    }
}

struct Letter<const W: usize> {
    to: usize,
    from: usize,
    incarnation: u64,
    seq: u64,
    says: Rc<Says<W>>,
    answer: Answer,
}

/// A machine that is on, and no member: its clock, and when everybody has missed its last membership.
#[derive(Clone, Copy)]
struct Rejoin {
    booted: Micros,
    drift: i64,
    quiet_until: Millis,
}

enum Event<const W: usize> {
    Beat(usize, u64),
    Boot(usize),
    /// A machine that has left joins again.
    Join(usize, Rejoin),
    Letter(Letter<W>),
}

pub(crate) struct World<const W: usize> {
    pub(crate) now: Micros,
    rows: Vec<Row>,
    times: Times,
    beat: Micros,
    pub(crate) network: Network,
    pub(crate) broken: Broken,
    /// Machines that stop start again.
    pub(crate) restarts: bool,
    pub(crate) random: SmallRng,
    queue: BinaryHeap<Reverse<(Micros, u64)>>,
    events: HashMap<u64, Event<W>>,
    order: u64,
    pub(crate) machines: Vec<Option<Machine<W>>>,
    /// Directions that carry nothing.
    pub(crate) cut: Vec<bool>,
    lives: u64,
    pub(crate) wrong: Option<String>,
    /// Messages beside the regular heartbeats.
    pub(crate) messages: u64,
    pub(crate) last_install: Micros,
    pub(crate) installs: u64,
    /// How often each has left as it wished.
    pub(crate) left: Vec<u32>,
}

impl<const W: usize> World<W> {
    /// A world of machines that have been on for long, one to each row.
    pub(crate) fn new(rows: Vec<Row>, times: Times, beat: Micros, network: Network, seed: u64) -> Self {
        let n = rows.len();
        let mut w = Self {
            now: 3_600_000_000,
            rows,
            times,
            beat,
            network,
            broken: Broken::Nothing,
            restarts: true,
            random: SmallRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            order: 0,
            machines: (0..n).map(|_| None).collect(),
            cut: vec![false; if network.delay.1 == 0 { 0 } else { n * n }],
            lives: 0,
            wrong: None,
            messages: 0,
            last_install: 0,
            installs: 0,
            left: vec![0; n],
        };
        for i in 0..n {
            w.boot(i, 1000 * 1_000_000);
        }
        w
    }

    fn n(&self) -> usize {
        self.rows.len()
    }

    fn push(&mut self, at: Micros, e: Event<W>) {
        self.order += 1;
        self.events.insert(self.order, e);
        self.queue.push(Reverse((at, self.order)));
    }

    /// Starts a machine whose clock has run for `age`.
    pub(crate) fn boot(&mut self, i: usize, age: Micros) {
        let how = Rejoin {
            booted: self.now - age,
            drift: self.random.random_range(-40_000..=40_000),
            quiet_until: 0,
        };
        self.join(i, how);
    }

    fn join(&mut self, i: usize, how: Rejoin) {
        let Rejoin {
            booted,
            drift,
            quiet_until,
        } = how;
        self.lives += 1;
        let says = Rc::<Says<W>>::default();
        let known = self.rows.iter().map(|r| Known::new(*r)).collect();
        let clock = clock(self.now - booted, drift);
        let m = Machine {
            core: Core::new(i, known, self.lives, self.times, clock, quiet_until),
            sent: Sent::new(),
            says,
            incarnation: self.lives,
            booted,
            drift,
            paused: false,
            news: vec![(0, 0); self.n()],
            lives: Vec::new(),
            history: Vec::new(),
        };
        let life = m.incarnation;
        self.machines[i] = Some(m);
        let first = self.now + self.random.random_range(0..self.beat);
        self.push(first, Event::Beat(i, life));
    }

    /// Switches a machine off.
    pub(crate) fn crash(&mut self, i: usize) {
        self.machines[i] = None;
    }

    /// Switches it on again after a while, unless it is on.
    pub(crate) fn restart(&mut self, i: usize, after: Micros) {
        self.push(self.now + after, Event::Boot(i));
    }

    /// Stops or continues a machine; its clock goes on.
    pub(crate) fn pause(&mut self, i: usize, paused: bool) {
        if let Some(m) = self.machines[i].as_mut() {
            m.paused = paused;
        }
    }

    pub(crate) fn is_paused(&self, i: usize) -> bool {
        self.machines[i].as_ref().is_some_and(|m| m.paused)
    }

    /// Wishes a machine out.
    pub(crate) fn leave(&mut self, i: usize) {
        if let Some(m) = self.machines[i].as_mut() {
            m.core.leave();
        }
    }

    /// Whether a machine still wants out.
    pub(crate) fn is_leaving(&self, i: usize) -> bool {
        let m = self.machines[i].as_ref();
        m.is_some_and(|m| m.core.phase() == Phase::Leaving)
    }

    /// The view that each machine acts in, if it does.
    pub(crate) fn acting(&self) -> Vec<Option<View<W>>> {
        let acts = |m: &Option<Machine<W>>| m.as_ref().and_then(|m| m.acts(self.now));
        self.machines.iter().map(acts).collect()
    }

    /// What a machine says of members that do not hear each other, if it says that no view can be made because of them.
    pub(crate) fn torn(&self, i: usize) -> Option<Vec<(usize, usize)>> {
        let m = self.machines[i].as_ref()?;
        let is_torn = m.core.is_torn(m.clock(self.now));
        is_torn.then(|| m.core.cut_pairs().collect())
    }

    /// Lets a machine stay that has not got out.
    pub(crate) fn stay(&mut self, i: usize) {
        if let Some(m) = self.machines[i].as_mut() {
            m.core.stay();
        }
    }

    /// Sends what a machine says to one, or to all, as it is time or as there is news.
    fn send(&mut self, from: usize, to: Option<usize>, in_time: bool) {
        let now = self.now;
        let Some(m) = self.machines[from].as_mut() else { return };
        let clock = m.clock(now);
        let seq = match to {
            Some(_) => m.sent.beat_to_one(clock),
            None if in_time => m.sent.beat_to_all(clock),
            None => m.sent.news_to_all(clock),
        };
        let says = m.core.says();
        if *m.says != says {
            m.says = Rc::new(says);
        }
        let (says, incarnation) = (m.says.clone(), m.incarnation);
        let all = match to {
            Some(p) => p..p + 1,
            None => 0..self.n(),
        };
        for to in all.filter(|to| *to != from) {
            let Some(m) = self.machines[from].as_ref() else { return };
            let letter = Letter {
                to,
                from,
                incarnation,
                seq,
                says: says.clone(),
                answer: m.core.answer(to),
            };
            self.post(letter);
        }
    }

    fn post(&mut self, l: Letter<W>) {
        if self.network.delay.1 == 0 {
            self.arrive(l);
            return;
        }
        if self.cut[l.from * self.n() + l.to] {
            return;
        }
        let copies = if self.random.random_range(0..1000) < self.network.doubled {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.random.random_range(0..1000) < self.network.lost {
                continue;
            }
            let (least, most) = self.network.delay;
            let at = self.now + self.random.random_range(least..=most);
            let copy = Letter {
                says: l.says.clone(),
                ..l
            };
            self.push(at, Event::Letter(copy));
        }
    }

    /// What the transport does with a heartbeat, and `thread.rs`.
    fn arrive(&mut self, l: Letter<W>) {
        let now = self.now;
        let broken = self.broken;
        let Some(m) = self.machines[l.to].as_mut().filter(|m| !m.paused) else {
            return;
        };
        if (l.incarnation, l.seq) <= m.news[l.from] {
            return;
        }
        m.news[l.from] = (l.incarnation, l.seq);
        let clock = m.clock(now);
        let is_answer = l.answer.incarnation == m.incarnation;
        let mut answers = is_answer.then_some(l.answer.seq).and_then(|seq| m.sent.when(seq));
        if broken == Broken::ComingCounts {
            answers = answers.map(|_| clock);
        }
        let h = Heartbeat {
            incarnation: l.incarnation,
            seq: l.seq,
            answers,
            supports: if is_answer { l.answer.supports } else { 0 },
            says: l.says,
        };
        // There is a stream to whoever is heard.
        m.core.link_up(l.from, l.incarnation);
        let e = m.core.heard(l.from, h, clock);
        self.perform(l.to, e);
    }

    fn perform(&mut self, i: usize, e: Effect<W>) {
        match e {
            Effect::None => {}
            Effect::Say => {
                self.messages += self.n() as u64 - 1;
                self.send(i, None, false);
            }
            Effect::SayTo(p) => {
                self.messages += 1;
                self.send(i, Some(p), false);
            }
            Effect::Install { view, is_mine } => {
                self.installed(i, view);
                if is_mine {
                    self.messages += self.n() as u64 - 1;
                    self.send(i, None, false);
                }
            }
            Effect::Left => {
                self.left[i] += 1;
                let Some(m) = self.machines[i].take() else { return };
                let quiet_until = m.clock(self.now) + self.times.detect;
                let how = Rejoin {
                    booted: m.booted,
                    drift: m.drift,
                    quiet_until,
                };
                if self.restarts {
                    let after = self.random.random_range(0..1_000_000);
                    self.push(self.now + after, Event::Join(i, how));
                }
            }
            Effect::Stop(_) => {
                self.crash(i);
                if self.restarts {
                    let after = self.random.random_range(500_000..3_000_000);
                    self.restart(i, after);
                }
            }
        }
    }

    fn installed(&mut self, i: usize, view: View<W>) {
        self.last_install = self.now;
        self.installs += 1;
        let votes = |set: &Places<W>| set.iter().map(|p| u32::from(self.rows[p].votes)).sum::<u32>();
        let all: u32 = self.rows.iter().map(|r| u32::from(r.votes)).sum();
        if votes(&view.members) * 2 <= all || !view.members.contains(i) {
            self.wrong = Some(format!("view {} has no majority, or not its own node", view.id));
        }
        let Some(m) = self.machines[i].as_mut() else { return };
        m.history.push(view);
        m.lives = (0..self.rows.len()).map(|p| m.core.incarnation(p)).collect();
    }

    /// Of two nodes that act, either both are in one view, or who is behind is in the other's.
    fn check(&mut self) {
        let acting = self.machines.iter().enumerate().filter_map(|(p, m)| {
            let m = m.as_ref()?;
            Some((p, m, m.acts(self.now)?))
        });
        let acting: Vec<_> = acting.collect();
        for (p, m, v) in &acting {
            for (q, other, w) in &acting {
                let is_in = v.members.contains(*q) && m.lives[*q] == other.incarnation;
                let is_one = v.id != w.id || v == w;
                let agree = |a: &View<W>| other.history.iter().all(|b| a.id != b.id || a == b);
                if !is_one || (v.id > w.id && !is_in) {
                    let id = v.id;
                    self.wrong = Some(format!(
                        "node {q} acts in view {}, though {p} acts in view {id} without it",
                        w.id
                    ));
                } else if !m.history.iter().all(agree) {
                    self.wrong = Some(format!("nodes {p} and {q} had two views of one number"));
                }
                if self.wrong.is_some() {
                    return;
                }
            }
        }
    }

    /// Runs until a time, or until something is wrong.
    pub(crate) fn run(&mut self, until: Micros) {
        let is_small = self.n() <= 64;
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > until || self.wrong.is_some() {
                break;
            }
            self.queue.pop();
            self.now = at;
            match self.events.remove(&id) {
                Some(Event::Letter(l)) => self.arrive(l),
                Some(Event::Boot(i)) if self.machines[i].is_none() => self.boot(i, 0),
                Some(Event::Join(i, how)) if self.machines[i].is_none() => self.join(i, how),
                Some(Event::Beat(i, life)) => self.beat(i, life),
                Some(Event::Boot(_) | Event::Join(..)) | None => {}
            }
            if is_small {
                self.check();
            }
        }
        self.now = self.now.max(until);
    }

    fn beat(&mut self, i: usize, life: u64) {
        let now = self.now;
        let Some(m) = self.machines[i].as_mut().filter(|m| m.incarnation == life) else {
            return;
        };
        self.queue.push(Reverse((now + self.beat, self.order + 1)));
        self.order += 1;
        self.events.insert(self.order, Event::Beat(i, life));
        if m.paused {
            return;
        }
        let clock = m.clock(now);
        let e = m.core.tick(clock);
        self.perform(i, e);
        self.send(i, None, true);
    }

    /// The one view that all machines that are on are in, if there is one, and they are all.
    pub(crate) fn agreed(&self) -> Option<View<W>> {
        let mut views = self
            .machines
            .iter()
            .flatten()
            .map(|m| (m.core.phase(), m.core.says().view));
        let first = views.next()?.1;
        let on = self.machines.iter().flatten().count();
        let all = self
            .machines
            .iter()
            .flatten()
            .all(|m| m.core.phase() == Phase::Up && m.core.says().view == first);
        (all && first.members.len() == on).then_some(first)
    }
}
