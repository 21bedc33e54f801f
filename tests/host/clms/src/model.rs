// SPDX-License-Identifier: GPL-2.0

//! Three nodes, of which a bounded number crash, restart, fall silent to each other and are cut off. Any heartbeat may be the
//! next one that arrives, or never arrive: that is loss. The same may arrive any number of times: that is duplication, of which
//! the transport leaves only what is newest. A bounded number are kept on their way, and arrive when their sender says something
//! else or is dead. Those that come after a time-out between the two prove nothing, as the heartbeat they answer is too old.
//!
//! A cut is there until the node and both others have missed each other, which they do at once. It ends with the first heartbeat
//! that crosses it, or never. That one side misses the other before, or alone, is what false silences are for.
//!
//! Time is left out: a node is heard or it is silent, and which of the two changes at any moment the budget allows.
//! So every interleaving of time-outs is covered, and the bounds are those of the budget, printed with the result.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ahash::RandomState;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::state::{Core, Effect, Heartbeat, Known, Phase, Row, Says, Times, View};
use crate::places::Places;

const N: usize = 3;
const NOW: u64 = 10_000;
const TIMES: Times = Times::new(5_000, 1);

type Said = (Says<1>, u64);

/// A rule that is broken on purpose, to see that the checker finds it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nothing,
    /// A node promises whatever anybody proposes, however many at a time.
    PromisesAll,
    /// A node that is cut off forgets what it has promised, before the others have missed it.
    ForgetsInCut,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    core: Core<Vec<Known<Says<1>>>, 1>,
    incarnation: u64,
    /// Every view that was in force here, in this life. A number that only the dead knew may be used again.
    history: Vec<View<1>>,
}

/// One of [`Small::nodes`], where each is once: where it lies says what it is.
#[derive(Clone, Debug)]
pub(crate) struct Kept(Arc<Node>);

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A heartbeat on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    from: usize,
    to: usize,
    incarnation: u64,
    /// When the heartbeat was sent that it answers: now, or so long ago that it proves nothing.
    answers: u64,
    said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    nodes: [Option<Kept>; N],
    /// A heartbeat that is late.
    late: Option<Sent>,
    /// The same for all; it stands still while the search goes on.
    now: u64,
    wrong: Option<&'static str>,
    crashes: u8,
    restarts: u8,
    silences: u8,
    cuts: u8,
    delays: u8,
    incarnations: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Delay(usize, usize),
    Late,
    Deliver(usize, usize),
    Silent(usize, usize),
    Cut(usize),
    Crash(usize),
    Restart(usize),
}

/// What happens at most.
#[derive(Default)]
pub(crate) struct Small {
    pub(crate) crashes: u8,
    pub(crate) restarts: u8,
    pub(crate) silences: u8,
    pub(crate) cuts: u8,
    pub(crate) delays: u8,
    /// The largest number of a view.
    pub(crate) newest: u64,
    pub(crate) broken: Broken,
    /// Nodes that are alike are kept once: a world takes little room.
    /// None goes away, or another could lie where it lay.
    pub(crate) nodes: Mutex<HashSet<Arc<Node>, RandomState>>,
    /// Digests of worlds from which all come into one view.
    pub(crate) calm: Mutex<HashSet<u64>>,
}

impl World {
    fn start(&mut self, i: usize) {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let known = vec![Known::new(Row::default()); N];
        self.nodes[i] = Some(Kept(Arc::new(Node {
            core: Core::new(i, known, 1, incarnation, TIMES, 0, 0),
            incarnation,
            history: Vec::new(),
        })));
    }

    /// Begins anew, in the same life.
    fn forget(&mut self, i: usize) {
        if let Some(Kept(n)) = self.nodes[i].clone() {
            let last = self.incarnations;
            self.incarnations = n.incarnation - 1;
            self.start(i);
            self.incarnations = last;
        }
    }

    fn node(&mut self, i: usize) -> Option<&mut Node> {
        self.nodes[i].as_mut().map(|n| Arc::make_mut(&mut n.0))
    }

    fn perform(&mut self, i: usize, effect: Effect<1>) {
        match effect {
            Effect::None | Effect::Say | Effect::SayTo(_) => {}
            Effect::Stop(_) | Effect::Left => self.end(i),
            Effect::Install { view: v, .. } => {
                if !v.members.contains(i) {
                    self.wrong = Some("a node has a view without itself");
                }
                if v.members.len() < 2 {
                    self.wrong = Some("a view without a majority");
                }
                for Kept(n) in self.nodes.iter().flatten() {
                    if n.history.iter().any(|h| h.id == v.id && *h != v) {
                        self.wrong = Some("two views of one number");
                    }
                }
                if let Some(n) = self.node(i) {
                    n.history.push(v);
                }
            }
        }
    }

    fn end(&mut self, i: usize) {
        self.nodes[i] = None;
        self.late.take_if(|l| l.to == i);
    }

    /// What is on its way from there proves nothing any more.
    fn outdate(&mut self, is_old: impl Fn(&Sent) -> bool) {
        if let Some(l) = self.late.as_mut().filter(|l| is_old(l)) {
            l.answers = 1;
        }
    }

    fn deliver(&mut self, sent: Sent) {
        let now = self.now;
        let Sent {
            from,
            to,
            incarnation,
            answers,
            said: (says, supports),
        } = sent;
        let Some(node) = self.node(to) else {
            return;
        };
        let view = node.core.says().view;
        let old_life = view.members.contains(from) && node.core.incarnation(from) != incarnation;
        if !old_life {
            // The transport has a stream to it, and tells before the first heartbeat.
            node.core.link_up(from, incarnation);
        }
        let before = view;
        let heartbeat = Heartbeat {
            incarnation,
            seq: 1,
            answers: Some(answers),
            supports,
            says,
        };
        let effect = node.core.heard(from, heartbeat, now);
        if let Effect::Install { view: v, .. } = effect
            && v.id <= before.id
        {
            self.wrong = Some("views go back");
        }
        self.perform(to, effect);
        // A beat of its own that changes nothing else: what a node could conclude, it has concluded.
        self.tick(to);
    }

    fn tick(&mut self, i: usize) {
        let now = self.now;
        if let Some(node) = self.node(i) {
            let effect = node.core.tick(now);
            self.perform(i, effect);
        }
    }

    fn silence(&mut self, from: usize, to: usize) {
        let now = self.now;
        self.outdate(|l| (l.from, l.to) == (from, to) || (l.from, l.to) == (to, from));
        if let Some(node) = self.node(to) {
            let effect = node.core.silent(from, now);
            self.perform(to, effect);
        }
    }

    fn hears(&self, to: usize, from: usize) -> bool {
        self.nodes[to]
            .as_ref()
            .is_some_and(|n| n.0.core.alive(self.now).contains(from))
    }

    /// Without further faults, and with those restarted that stopped, everybody is in one view at last.
    fn converges(&self, known: &mut HashSet<u64>) -> bool {
        let mut w = Self {
            late: None,
            crashes: 0,
            restarts: 0,
            silences: 0,
            cuts: 0,
            delays: 0,
            ..self.clone()
        };
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let mut calm = 0;
        let mut passed = Vec::new();
        for _ in 0..60 {
            let nodes = w.nodes.each_ref().map(|n| n.as_ref().map(|n| &n.0));
            let digest = hasher.hash_one((nodes, w.wrong, w.now, w.incarnations, calm));
            if known.contains(&digest) {
                known.extend(passed);
                return true;
            }
            passed.push(digest);
            w.now += TIMES.judge / 4;
            for i in 0..N {
                if w.nodes[i].is_none() {
                    // By then its times are over for all.
                    (0..N).for_each(|j| w.silence(i, j));
                    w.start(i);
                }
            }
            for from in 0..N {
                for to in (0..N).filter(|to| *to != from) {
                    if let Some(Kept(n)) = w.nodes[from].as_ref() {
                        let sent = Sent {
                            from,
                            to,
                            incarnation: n.incarnation,
                            answers: w.now,
                            said: said(n, to),
                        };
                        w.deliver(sent);
                    }
                }
            }
            for i in 0..N {
                w.tick(i);
            }
            let all = Places::from_words([(1 << N) - 1]);
            let views: Vec<_> = w.nodes.iter().flatten().map(|n| n.0.core.says().view).collect();
            let one = views.len() == N && views.iter().all(|v| *v == views[0] && v.members == all);
            let up = w.nodes.iter().flatten().all(|n| n.0.core.phase() == Phase::Up);
            calm = if one && up { calm + 1 } else { 0 };
            if calm == 3 {
                if w.wrong.is_none() {
                    known.extend(passed);
                }
                return w.wrong.is_none();
            }
        }
        false
    }
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut w = World {
            nodes: [None, None, None],
            late: None,
            now: NOW,
            wrong: None,
            crashes: self.crashes,
            restarts: self.restarts,
            silences: self.silences,
            cuts: self.cuts,
            delays: self.delays,
            incarnations: 0,
        };
        for i in 0..N {
            w.start(i);
        }
        self.keep(&mut w, &[const { None }; N]);
        vec![w]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        if w.late.is_some() {
            actions.push(Action::Late);
        }
        for i in 0..N {
            match &w.nodes[i] {
                Some(_) => {
                    if w.crashes > 0 {
                        actions.push(Action::Crash(i));
                    }
                    if w.cuts > 0 {
                        actions.push(Action::Cut(i));
                    }
                    for j in (0..N).filter(|j| *j != i && w.nodes[*j].is_some()) {
                        actions.push(Action::Deliver(i, j));
                        if w.delays > 0 && w.late.is_none() {
                            actions.push(Action::Delay(i, j));
                        }
                    }
                }
                // A node that was started promises nothing before the others have missed its earlier life.
                None if w.restarts > 0 && (0..N).all(|j| !w.hears(j, i)) => {
                    actions.push(Action::Restart(i));
                }
                None => {}
            }
            for j in 0..N {
                // Who is gone falls silent by itself; anything else is a fault.
                if i != j && w.hears(j, i) && (w.nodes[i].is_none() || w.silences > 0) {
                    actions.push(Action::Silent(i, j));
                }
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut w = last.clone();
        match action {
            Action::Delay(i, j) => {
                w.late = Some(self.heartbeat(&w, i, j)?);
                w.delays -= 1;
            }
            Action::Late => {
                let sent = w.late.take()?;
                w.deliver(sent);
            }
            Action::Deliver(i, j) => {
                // A later one is no news any more for the transport.
                w.late.take_if(|l| (l.from, l.to) == (i, j));
                let sent = self.heartbeat(&w, i, j)?;
                w.deliver(sent);
            }
            Action::Silent(i, j) => {
                if w.nodes[i].is_some() {
                    w.silences -= 1;
                }
                w.silence(i, j);
            }
            Action::Cut(i) => {
                w.cuts -= 1;
                if self.broken == Broken::ForgetsInCut {
                    w.forget(i);
                } else {
                    for j in (0..N).filter(|j| *j != i) {
                        w.silence(i, j);
                        w.silence(j, i);
                    }
                }
            }
            Action::Crash(i) => {
                w.crashes -= 1;
                w.end(i);
            }
            Action::Restart(i) => {
                w.restarts -= 1;
                w.outdate(|l| l.from == i);
                w.start(i);
            }
        }
        self.keep(&mut w, &last.nodes);
        (w != *last).then_some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("safe", |_, w: &World| w.wrong.is_none()),
            Property::always("converges", |m: &Small, w: &World| {
                m.broken != Broken::Nothing || w.wrong.is_some() || w.converges(&mut m.calm.lock().unwrap())
            }),
            Property::sometimes("all three are in a view", |_, w: &World| {
                w.nodes
                    .iter()
                    .flatten()
                    .any(|n| n.0.core.says().view.members == Places::from_words([7]))
            }),
        ]
    }

    fn within_boundary(&self, w: &World) -> bool {
        w.nodes.iter().flatten().all(|n| {
            let s = n.0.core.says();
            s.view.id.max(s.proposal.id) <= self.newest
        })
    }
}

impl Small {
    fn keep(&self, w: &mut World, last: &[Option<Kept>; N]) {
        let mut nodes = self.nodes.lock().unwrap();
        for (n, before) in w.nodes.iter_mut().zip(last) {
            let Some(n) = n.as_mut().filter(|n| Some(&**n) != before.as_ref()) else {
                continue;
            };
            match nodes.get(&n.0) {
                Some(known) => n.0 = known.clone(),
                None => _ = nodes.insert(n.0.clone()),
            }
        }
    }

    /// What a node says to `to` now.
    fn heartbeat(&self, w: &World, from: usize, to: usize) -> Option<Sent> {
        let Kept(n) = w.nodes[from].as_ref()?;
        let (mut says, mut supports) = said(n, to);
        if self.broken == Broken::PromisesAll {
            says.promised = n.core.proposal_of(to).id;
            says.promised_to = to;
            supports = says.promised;
        }
        Some(Sent {
            from,
            to,
            incarnation: n.incarnation,
            answers: w.now,
            said: (says, supports),
        })
    }

    /// Looks at every state.
    pub(crate) fn search(self) -> impl Checker<Self> {
        let (c, r, s, k, d, v) = (self.crashes, self.restarts, self.silences, self.cuts, self.delays, self.newest);
        let begin = Instant::now();
        let checker = self.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!(
            "3 nodes, {c} crashes, {r} restarts, {s} false silences, {k} cuts, {d} late heartbeats, views up to {v}: \
             {} states, depth {}, {} s",
            checker.unique_state_count(),
            checker.max_depth(),
            begin.elapsed().as_secs()
        );
        checker
    }
}

fn said(n: &Node, to: usize) -> Said {
    (n.core.says(), n.core.answer(to).supports)
}
