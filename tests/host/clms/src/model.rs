// SPDX-License-Identifier: GPL-2.0

//! Three nodes, of which a bounded number crash, restart and fall silent to each other. Any heartbeat may be the next one
//! that arrives, or never arrive; a bounded number are kept on their way, and arrive when their sender says something else.
//!
//! Time is left out: a node is heard or it is silent, and which of the two changes at any moment the budget allows.
//! So every interleaving of time-outs is covered, and the bounds are those of the budget, printed with the result.

use crate::places::Places;
use crate::state::{Core, Effect, Heartbeat, Known, Phase, Row, Says, Times, View};
use stateright::{Checker, HasDiscoveries, Model, Property};

const N: usize = 3;
const NOW: u64 = 10_000;
const TIMES: Times = Times::new(5_000, 1);

type Said = (Says<1>, u64);

/// A rule that is broken on purpose, to see that the checker finds it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A node promises whatever anybody proposes, however many at a time.
    PromisesAll,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    core: Core<Vec<Known<Says<1>>>, 1>,
    incarnation: u64,
    /// Every view that was in force here, in this life. A number that only the dead knew may be used again.
    history: Vec<View<1>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: [Option<Node>; N],
    /// A heartbeat that is late: from, to, incarnation.
    late: Option<(usize, usize, u64, Said)>,
    delays: u8,
    /// The same for all; it stands still while the search goes on.
    now: u64,
    wrong: Option<&'static str>,
    crashes: u8,
    restarts: u8,
    silences: u8,
    incarnations: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Delay(usize, usize),
    Late,
    Deliver(usize, usize),
    Silent(usize, usize),
    Crash(usize),
    Restart(usize),
}

struct Small {
    crashes: u8,
    restarts: u8,
    silences: u8,
    delays: u8,
    newest: u64,
    broken: Broken,
}

impl World {
    fn start(&mut self, i: usize) {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let known = vec![Known::new(Row::default()); N];
        self.nodes[i] = Some(Node {
            core: Core::new(i, known, 1, incarnation, TIMES, 0, 0),
            incarnation,
            history: Vec::new(),
        });
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
                for n in self.nodes.iter().flatten() {
                    if n.history.iter().any(|h| h.id == v.id && *h != v) {
                        self.wrong = Some("two views of one number");
                    }
                }
                if let Some(n) = self.nodes[i].as_mut() {
                    n.history.push(v);
                }
            }
        }
    }

    fn end(&mut self, i: usize) {
        self.nodes[i] = None;
        if self.late.is_some_and(|(from, to, ..)| from == i || to == i) {
            self.late = None;
        }
    }

    fn deliver(&mut self, from: usize, to: usize, incarnation: u64, (says, supports): Said) {
        let now = self.now;
        let Some(node) = self.nodes[to].as_mut() else {
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
            answers: Some(now),
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
        if let Some(node) = self.nodes[i].as_mut() {
            let effect = node.core.tick(now);
            self.perform(i, effect);
        }
    }

    fn silence(&mut self, from: usize, to: usize) {
        let now = self.now;
        if let Some(node) = self.nodes[to].as_mut() {
            let effect = node.core.silent(from, now);
            self.perform(to, effect);
        }
    }

    fn hears(&self, to: usize, from: usize) -> bool {
        self.nodes[to]
            .as_ref()
            .is_some_and(|n| n.core.alive(self.now).contains(from))
    }

    /// Without further faults, and with those restarted that stopped, everybody is in one view at last.
    fn converges(&self) -> bool {
        let mut w = self.clone();
        let mut calm = 0;
        for _ in 0..60 {
            w.now += TIMES.judge / 4;
            for i in 0..N {
                if w.nodes[i].is_none() {
                    // By then its times are over for all.
                    (0..N).for_each(|j| w.silence(i, j));
                    w.start(i);
                }
            }
            for from in 0..N {
                for to in 0..N {
                    if from == to {
                        continue;
                    }
                    if let Some(n) = w.nodes[from].as_ref() {
                        let (incarnation, says) = (n.incarnation, said(n, to));
                        w.deliver(from, to, incarnation, says);
                    }
                }
            }
            for i in 0..N {
                w.tick(i);
            }
            let all = Places::from_words([(1 << N) - 1]);
            let views: Vec<_> = w.nodes.iter().flatten().map(|n| n.core.says().view).collect();
            let one = views.len() == N && views.iter().all(|v| *v == views[0] && v.members == all);
            let up = w.nodes.iter().flatten().all(|n| n.core.phase() == Phase::Up);
            calm = if one && up { calm + 1 } else { 0 };
            if calm == 3 {
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
            delays: self.delays,
            now: NOW,
            wrong: None,
            crashes: self.crashes,
            restarts: self.restarts,
            silences: self.silences,
            incarnations: 0,
        };
        for i in 0..N {
            w.start(i);
        }
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
                let n = w.nodes[i].as_ref()?;
                w.late = Some((i, j, n.incarnation, self.says(n, j)));
                w.delays -= 1;
            }
            Action::Late => {
                let (from, to, incarnation, says) = w.late.take()?;
                w.deliver(from, to, incarnation, says);
            }
            Action::Deliver(i, j) => {
                let n = w.nodes[i].as_ref()?;
                let (incarnation, says) = (n.incarnation, self.says(n, j));
                // A later one is no news any more for the transport.
                if w.late.is_some_and(|(from, to, ..)| (from, to) == (i, j)) {
                    w.late = None;
                }
                w.deliver(i, j, incarnation, says);
            }
            Action::Silent(i, j) => {
                if w.nodes[i].is_some() {
                    w.silences -= 1;
                }
                w.silence(i, j);
            }
            Action::Crash(i) => {
                w.crashes -= 1;
                w.end(i);
            }
            Action::Restart(i) => {
                w.restarts -= 1;
                w.start(i);
            }
        }
        (w != *last).then_some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("safe", |_, w: &World| w.wrong.is_none()),
            Property::always("converges", |m: &Small, w: &World| {
                m.broken != Broken::Nothing || w.wrong.is_some() || w.converges()
            }),
            Property::sometimes("all three are in a view", |_, w: &World| {
                w.nodes
                    .iter()
                    .flatten()
                    .any(|n| n.core.says().view.members == Places::from_words([7]))
            }),
        ]
    }

    fn within_boundary(&self, w: &World) -> bool {
        w.nodes.iter().flatten().all(|n| {
            let s = n.core.says();
            s.view.id.max(s.proposal.id) <= self.newest
        })
    }
}

impl Small {
    /// What a node says to `to`.
    fn says(&self, n: &Node, to: usize) -> Said {
        let (mut says, supports) = said(n, to);
        if self.broken == Broken::PromisesAll {
            says.promised = n.core.proposal_of(to).id;
            says.promised_to = to;
            return (says, says.promised);
        }
        (says, supports)
    }
}

fn said(n: &Node, to: usize) -> Said {
    (n.core.says(), n.core.answer(to).supports)
}

fn search(m: Small) -> impl Checker<Small> {
    let (c, r, s, d, n) = (m.crashes, m.restarts, m.silences, m.delays, m.newest);
    let checker = m
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "3 nodes, {c} crashes, {r} restarts, {s} false silences, {d} late heartbeats, views up to {n}: {} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker
}

#[test]
fn racing_nodes_form_one_cluster_and_silences_do_no_harm() {
    search(Small {
        crashes: 0,
        restarts: 0,
        silences: 1,
        delays: 0,
        newest: 2,
        broken: Broken::Nothing,
    })
    .assert_properties();
}

#[test]
fn a_crash_and_a_restart_do_no_harm() {
    search(Small {
        crashes: 1,
        restarts: 1,
        silences: 0,
        delays: 0,
        newest: 3,
        broken: Broken::Nothing,
    })
    .assert_properties();
}

#[test]
fn a_node_that_promises_everybody_is_found() {
    let checker = search(Small {
        crashes: 0,
        restarts: 0,
        silences: 1,
        delays: 0,
        newest: 3,
        broken: Broken::PromisesAll,
    });
    assert!(checker.discovery("safe").is_some());
}
