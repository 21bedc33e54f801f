// SPDX-License-Identifier: GPL-2.0

//! Machines with clocks, and a network that loses, delays, doubles and cuts: everything from one seed.
//!
//! After each step it holds: of nodes that act, views of one number are one view, and each is in the views of those that
//! are ahead of it; a view has a majority; a life that is left out of a view which all its members took over is in no later
//! one; who has left does nothing any more.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::state::{Answer, Change, Core, Effect, Heartbeat, Input, Known, Millis, Phase, Row, Says, Times, View};
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

/// What a machine says, shared by all that heard it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Said<const W: usize>(Option<Rc<Says<W>>>);

impl<const W: usize> Said<W> {
    const NO_VIEW: View<W> = View {
        id: 0,
        members: Places::EMPTY,
        digest: 0,
        table: 0,
    };

    const NOTHING: Says<W> = Says {
        phase: Phase::Joining,
        table: 0,
        staged: 0,
        view: Self::NO_VIEW,
        proposal: Self::NO_VIEW,
        promised: 0,
        promised_to: 0,
        hears: Places::EMPTY,
        over: Places::EMPTY,
    };
}

impl<const W: usize> Borrow<Says<W>> for Said<W> {
    fn borrow(&self) -> &Says<W> {
        self.0.as_deref().unwrap_or(&Self::NOTHING)
    }
}

/// A table of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    /// How many changes it has seen: one that was changed back is another.
    pub(crate) generation: u64,
    /// By place.
    pub(crate) rows: Vec<Option<Row>>,
}

pub(crate) type Tab = Rc<Table>;

/// What a machine has of it when it starts: a table, and the one that is staged.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) tab: Tab,
    pub(crate) next: Option<Tab>,
}

pub(crate) fn digest(tab: &Tab) -> u64 {
    let mut hasher = DefaultHasher::new();
    tab.hash(&mut hasher);
    hasher.finish()
}

/// What becomes of a table, if it is one change.
pub(crate) fn change(from: &Tab, to: &Tab) -> Option<Change> {
    let mut places = (0..from.rows.len()).filter(|p| from.rows[*p] != to.rows[*p]);
    let place = places.next().filter(|_| places.next().is_none())?;
    (to.generation == from.generation + 1).then(|| Change {
        table: digest(to),
        place,
        row: to.rows[place],
    })
}

pub(crate) struct Machine<const W: usize> {
    core: Core<Vec<Known<Said<W>>>, W>,
    sent: Sent,
    says: Said<W>,
    pub(crate) incarnation: u64,
    booted: Micros,
    /// Of a million: how much faster its clock is.
    drift: i64,
    paused: bool,
    /// It is out, as it wished, and about to end.
    has_left: bool,
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
    says: Said<W>,
    answer: Answer,
}

/// A machine that is on, and no member: its clock, and when everybody has missed its last membership.
#[derive(Clone, Copy)]
struct Rejoin {
    booted: Micros,
    drift: i64,
    quiet_until: Millis,
}

/// A view that some have taken over.
struct Taken<const W: usize> {
    view: View<W>,
    lives: Vec<u64>,
    by: Places<W>,
}

impl<const W: usize> Taken<W> {
    fn is_whole(&self) -> bool {
        self.by == self.view.members
    }

    fn has(&self, p: usize, life: u64) -> bool {
        self.view.members.contains(p) && self.lives[p] == life
    }
}

enum Event<const W: usize> {
    Beat(usize, u64),
    Boot(usize),
    /// A machine that has left ends.
    Out(usize, u64),
    /// It joins again.
    Join(usize, Rejoin),
    Letter(Letter<W>),
}

pub(crate) struct World<const W: usize> {
    pub(crate) now: Micros,
    /// By place, as are the machines.
    pub(crate) files: Vec<File>,
    /// Every table that there was.
    tabs: HashMap<u64, Tab>,
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
    taken: Vec<Taken<W>>,
    /// By life: the place in `taken` of the first view that it took over.
    first: HashMap<u64, usize>,
    pub(crate) wrong: Option<String>,
    /// Messages beside the regular heartbeats.
    pub(crate) messages: u64,
    pub(crate) last_install: Micros,
    pub(crate) installs: u64,
    /// Rows of the table that a machine has looked at between two ticks, at most, and the time of one heartbeat, at most.
    pub(crate) most_work: usize,
    pub(crate) longest: Duration,
    /// How often each has left as it wished.
    pub(crate) left: Vec<u32>,
}

impl<const W: usize> World<W> {
    /// A world of machines that have been on for long, one to each row.
    pub(crate) fn new(rows: Vec<Row>, times: Times, beat: Micros, network: Network, seed: u64) -> Self {
        let rows = rows.into_iter().map(Some).collect();
        Self::of_table(rows, times, beat, network, seed)
    }

    /// The same, where places may be vacant.
    pub(crate) fn of_table(rows: Vec<Option<Row>>, times: Times, beat: Micros, network: Network, seed: u64) -> Self {
        let n = rows.len();
        let tab = Rc::new(Table { generation: 0, rows });
        let file = File {
            tab: tab.clone(),
            next: None,
        };
        let mut w = Self {
            now: 3_600_000_000,
            files: vec![file; n],
            tabs: HashMap::from([(digest(&tab), tab)]),
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
            taken: Vec::new(),
            first: HashMap::new(),
            wrong: None,
            messages: 0,
            last_install: 0,
            installs: 0,
            most_work: 0,
            longest: Duration::ZERO,
            left: vec![0; n],
        };
        for i in 0..n {
            w.boot(i, 1000 * 1_000_000);
        }
        w
    }

    fn n(&self) -> usize {
        self.files.len()
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
        let File { tab, next } = self.files[i].clone();
        if tab.rows[i].is_none() {
            return;
        }
        self.lives += 1;
        let says = Said::default();
        let known = tab.rows.iter().map(|r| r.map_or_else(Known::default, Known::new)).collect();
        let clock = clock(self.now - booted, drift);
        let next = next.and_then(|next| change(&tab, &next));
        let m = Machine {
            core: Core::new(i, known, digest(&tab), self.lives, self.times, clock, quiet_until).with_next(next),
            sent: Sent::new(),
            says,
            incarnation: self.lives,
            booted,
            drift,
            paused: false,
            has_left: false,
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

    /// The table that a machine has, if it is a member.
    pub(crate) fn tab(&self, i: usize) -> Option<Tab> {
        let m = self.machines[i].as_ref().filter(|m| !m.paused && m.core.phase() != Phase::Joining)?;
        self.tabs.get(&m.core.table()).cloned()
    }

    /// What the administrator's tool does on a machine: it writes the next table, and has the node stage it, unless it dies before.
    pub(crate) fn stage(&mut self, i: usize, next: &Tab, dies: bool) -> bool {
        let Some(c) = self.tab(i).and_then(|tab| change(&tab, next)) else {
            return false;
        };
        self.tabs.insert(c.table, next.clone());
        let now = self.now;
        let Some(m) = self.machines[i].as_mut() else {
            return false;
        };
        if m.core.may_stage(&c).is_err() {
            return false;
        }
        self.files[i].next = Some(next.clone());
        if !dies {
            let e = m.core.take(Input::Stage(Some(c)), m.clock(now));
            self.perform(i, e);
        }
        true
    }

    /// It gives up what is staged.
    pub(crate) fn unstage(&mut self, i: usize) {
        let now = self.now;
        let Some(m) = self.machines[i].as_mut().filter(|m| !m.paused) else {
            return;
        };
        if m.core.may_unstage().is_ok() && m.core.staged().is_some() {
            let e = m.core.take(Input::Stage(None), m.clock(now));
            self.files[i].next = None;
            self.perform(i, e);
        }
    }

    /// It has the node's next life begin with the table in force.
    pub(crate) fn settle(&mut self, i: usize) {
        let now = self.now;
        let Some(tab) = self.tab(i) else { return };
        let Some(m) = self.machines[i].as_mut() else { return };
        if !m.core.is_settled() && m.core.may_settle().is_ok() {
            self.files[i] = File { tab, next: None };
            let e = m.core.take(Input::Settle, m.clock(now));
            self.perform(i, e);
        }
    }

    /// How many tables were in force.
    pub(crate) fn tables(&self) -> usize {
        let all: HashSet<_> = self.taken.iter().map(|t| t.view.table).collect();
        all.len()
    }

    /// Whether a machine waits to join.
    pub(crate) fn is_joining(&self, i: usize) -> bool {
        let m = self.machines[i].as_ref();
        m.is_some_and(|m| m.core.phase() == Phase::Joining)
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
        if m.says.0.as_deref() != Some(&says) {
            m.says = Said(Some(Rc::new(says)));
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
        if (l.incarnation, l.seq) <= m.news[l.from] || !m.core.understands(l.says.borrow()) {
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
        let begin = (m.news.len() <= 64).then(Instant::now);
        let e = m.core.heard(l.from, h, clock);
        self.longest = self.longest.max(begin.map_or(Duration::ZERO, |b| b.elapsed()));
        self.most_work = self.most_work.max(m.core.work());
        self.perform(l.to, e);
    }

    fn perform(&mut self, i: usize, e: Effect<W>) {
        if e != Effect::None && self.machines[i].as_ref().is_some_and(|m| m.has_left) {
            self.wrong = Some(format!("node {i} goes on though it has left: {e:?}"));
        }
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
                let Some(m) = self.machines[i].as_mut() else { return };
                m.has_left = true;
                let life = m.incarnation;
                let after = self.random.random_range(0..200_000);
                self.push(self.now + after, Event::Out(i, life));
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

    /// A machine that has left hears nobody any more.
    fn out(&mut self, i: usize, life: u64) {
        let Some(m) = self.machines[i].take_if(|m| m.incarnation == life) else {
            return;
        };
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

    fn installed(&mut self, i: usize, view: View<W>) {
        self.last_install = self.now;
        self.installs += 1;
        let tab = self.tabs[&view.table].clone();
        let votes = |p: usize| tab.rows[p].map_or(0, |r| u32::from(r.votes));
        let all: u32 = (0..tab.rows.len()).map(votes).sum();
        if view.members.iter().map(votes).sum::<u32>() * 2 <= all || !view.members.contains(i) {
            self.wrong = Some(format!("view {} has no majority, or not its own node", view.id));
        }
        let has = self.machines[i].as_ref().map(|m| m.core.table());
        if has != Some(view.table) || view.members.iter().any(|p| tab.rows[p].is_none()) {
            self.wrong = Some(format!("node {i} is in view {} with another table", view.id));
        }
        let Some(m) = self.machines[i].as_mut() else { return };
        m.history.push(view);
        m.lives = (0..self.files.len()).map(|p| m.core.incarnation(p)).collect();
        let lives = m.lives.clone();
        if self.n() < 64 {
            self.take(i, view, lives);
        }
    }

    /// Notes who took a view over, and holds it against all others.
    fn take(&mut self, i: usize, view: View<W>, lives: Vec<u64>) {
        let life = lives[i];
        let is_it = |t: &Taken<W>| t.view == view && view.members.iter().all(|p| t.lives[p] == lives[p]);
        let at = self.taken.iter().position(is_it).unwrap_or_else(|| {
            self.taken.push(Taken {
                view,
                lives,
                by: Places::EMPTY,
            });
            self.taken.len() - 1
        });
        self.taken[at].by.insert(i);
        self.first.entry(life).or_insert(at);
        for other in 0..self.taken.len() {
            // A cluster of which nobody is left may have had larger numbers: what came about later in it is not meant.
            let (x, y) = (at.min(other), at.max(other));
            let (a, b) = (&self.taken[x], &self.taken[y]);
            if a.view.id >= b.view.id || !a.is_whole() {
                continue;
            }
            let comes_back = |p: &usize| {
                let first = self.first.get(&b.lives[*p]);
                !a.has(*p, b.lives[*p]) && first.is_some_and(|f| *f < x)
            };
            if let Some(p) = b.view.members.iter().find(comes_back) {
                self.wrong = Some(format!(
                    "node {p} is out of view {}, and in view {} again",
                    a.view.id, b.view.id
                ));
            }
        }
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
        // Each pair that acts is looked at: with many nodes, only when each has had a heartbeat of each other one.
        let every = if self.n() < 64 { 1 } else { self.n() * self.n() };
        let mut steps = 0;
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
                Some(Event::Out(i, life)) => self.out(i, life),
                Some(Event::Beat(i, life)) => self.beat(i, life),
                Some(Event::Boot(_) | Event::Join(..)) | None => {}
            }
            steps += 1;
            if steps % every == 0 {
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

    /// Whether all machines that are members are in one view, and nobody else is in it.
    pub(crate) fn is_whole(&self) -> bool {
        let on = self.machines.iter().enumerate().filter_map(|(p, m)| Some((p, m.as_ref()?)));
        let members: Vec<_> = on.filter(|(_, m)| m.core.phase() != Phase::Joining).collect();
        let Some((_, first)) = members.first() else { return true };
        let view = first.core.says().view;
        let is_in = |p: usize, m: &Machine<W>| m.core.says().view == view && view.members.contains(p);
        members.iter().all(|(p, m)| is_in(*p, m)) && view.members.len() == members.len()
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
