// SPDX-License-Identifier: GPL-2.0

//! Three members that have lost a fourth node, which hangs and may go on at any moment. A bounded number of members die,
//! agents fail, daemons die and time-outs come too early; the lost node may start again by itself.
//!
//! Each member does one thing at a time, as its thread does: a call to another ends with its answer, or with nothing once
//! that one is dead. Members see views one by one, each at its own pace. What the agent does to the machine is modelled too:
//! it ends whatever life runs there.

use crate::state::{Answer, Effect, Fencing, Slot, Times};
use stateright::{Checker, Model, Property};

const N: usize = 3;
/// The lost node.
const P: usize = 3;
const ALL: u64 = 0b1111;
const OLD: u64 = 1;
const NEW: u64 = 2;
const NOW: u64 = 1;
const TIMES: Times = Times { attempt: 1000, first_rest: 1000, longest_rest: 4000 };

/// A rule that is broken on purpose, to see that the checker finds it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// That an agent runs is taken for its success.
    BelievesTheWish,
    /// A node is heard while an agent runs against it.
    HearsAllTheTime,
    /// Who knows does not tell.
    TellsNobody,
    /// Nobody asks whether the node left before an agent runs.
    DoesNotAsk,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    fencing: Fencing<Vec<Slot>>,
    /// How many views it has seen.
    views: usize,
    call: Option<Effect>,
    /// Number of the job whose agent runs.
    agent: Option<u32>,
    daemon: bool,
}

/// What runs on the lost machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Machine {
    /// The old life hangs.
    Hangs,
    /// The old life has left, and does what it likes.
    Left,
    Off,
    /// The new life wants to join.
    Joins,
    /// The new life is a member.
    Member,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: [Option<Node>; N],
    /// Calls that nobody waits for any more, and whose.
    under_way: Vec<(usize, Effect)>,
    /// The views after the first, which is of all four.
    views: Vec<u64>,
    machine: Machine,
    wrong: Option<&'static str>,
    crashes: u8,
    failures: u8,
    daemons: u8,
    early: u8,
    late: u8,
    reboots: u8,
}

/// What the one who is asked says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Knows(bool),
    Runs(Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    View(usize),
    Next(usize),
    Deliver(usize),
    GiveUp(usize),
    ComesLate(usize),
    AgentDone(usize, bool),
    DaemonDies(usize),
    Expire(usize),
    Crash(usize),
    Reboot,
    Hear(usize),
    Join,
}

struct Small {
    crashes: u8,
    failures: u8,
    daemons: u8,
    early: u8,
    late: u8,
    reboots: u8,
    /// Nodes without a daemon.
    without: &'static [usize],
    /// The lost node has said to this one that it leaves.
    left: Option<usize>,
    broken: Broken,
}

impl World {
    fn look(&mut self) {
        for n in self.nodes.iter().flatten() {
            if n.fencing.is_over(P, OLD) && self.machine == Machine::Hangs {
                self.wrong = Some("a life is said to be over that is not");
            }
        }
    }

    fn perform(&mut self, i: usize, effect: Effect, broken: Broken) {
        let Some(n) = self.nodes[i].as_mut() else { return };
        match effect {
            Effect::Announce { job, .. } => n.agent = Some(job.number),
            Effect::Rest { .. } => {}
            Effect::Say { over: true, to, about, .. } if broken == Broken::TellsNobody => {
                n.fencing.answered(to, about, true, Some(true), NOW);
            }
            Effect::Say { over: false, to, about, .. } if broken == Broken::DoesNotAsk => {
                n.fencing.answered(to, about, false, Some(false), NOW);
            }
            e => n.call = Some(e),
        }
    }

    /// A call comes to who is asked, if he lives.
    fn serve(&mut self, i: usize, call: Effect) -> Option<Said> {
        match call {
            Effect::Say { to, about, life, over } => {
                let to = &mut self.nodes[to].as_mut()?.fencing;
                Some(Said::Knows(to.asked(i, about, life, over)))
            }
            Effect::Run { by, about, life, attempt } => {
                let by = &mut self.nodes[by].as_mut()?.fencing;
                Some(Said::Runs(by.run_asked(i, about, life, attempt, NOW)))
            }
            Effect::Report { to, about, life, attempt } => {
                self.nodes[to].as_mut()?.fencing.failed(about, life, attempt);
                None
            }
            Effect::Announce { .. } | Effect::Rest { .. } => None,
        }
    }

    /// What was said, if anything was, comes to who asked.
    fn answer(&mut self, i: usize, call: Effect, said: Option<Said>, broken: Broken) -> Option<()> {
        let n = &mut self.nodes[i].as_mut()?.fencing;
        match (call, said) {
            (Effect::Say { to, about, over, .. }, said) => {
                let knows = said.map(|s| s == Said::Knows(true));
                n.answered(to, about, over, knows, NOW);
            }
            (Effect::Run { about, life, .. }, Some(Said::Runs(Answer::Taken))) if broken == Broken::BelievesTheWish => {
                n.confirm(about, life);
            }
            (Effect::Run { about, attempt, .. }, said) => {
                let answer = match said {
                    Some(Said::Runs(a)) => Some(a),
                    _ => None,
                };
                n.ran(about, attempt, answer);
            }
            _ => {}
        }
        Some(())
    }

    fn deliver(&mut self, i: usize, broken: Broken) -> Option<()> {
        let call = self.nodes[i].as_mut()?.call.take()?;
        let said = self.serve(i, call);
        self.answer(i, call, said, broken)
    }

    /// The one who asks waits no longer. What he asks may still come.
    fn give_up(&mut self, i: usize, broken: Broken) -> Option<()> {
        let call = self.nodes[i].as_mut()?.call.take()?;
        self.under_way.push((i, call));
        self.answer(i, call, None, broken)
    }

    fn agent_done(&mut self, i: usize, is_off: bool) -> Option<()> {
        let job = self.nodes[i].as_mut()?.agent.take()?;
        if is_off {
            match self.machine {
                Machine::Hangs | Machine::Joins | Machine::Off => self.machine = Machine::Off,
                Machine::Left => self.wrong = Some("a node is fenced that has left"),
                Machine::Member => self.wrong = Some("a member is fenced"),
            }
        }
        self.nodes[i].as_mut()?.fencing.done(P, job, is_off);
        Some(())
    }

    fn see(&mut self, i: usize) -> Option<()> {
        let views = self.views.clone();
        let n = self.nodes[i].as_mut()?;
        let new = *views.get(n.views)?;
        let old = if n.views == 0 { ALL } else { views[n.views - 1] };
        n.views += 1;
        n.fencing.view(old, new, |_| OLD);
        Some(())
    }

    fn crash(&mut self, i: usize) {
        self.nodes[i] = None;
        let last = self.views.last().copied().unwrap_or(ALL);
        self.views.push(last & !(1 << i));
    }

    /// The new life is heard where it may be; whether it may become a member of everybody's.
    fn joins(&mut self, broken: Broken) -> bool {
        let mut all = true;
        for n in self.nodes.iter_mut().flatten() {
            let may = n.fencing.heard(P, NEW, false) || broken == Broken::HearsAllTheTime;
            all &= may && n.views == self.views.len();
        }
        all
    }

    fn is_settled(&self) -> bool {
        self.nodes.iter().flatten().all(|n| n.fencing.is_over(P, OLD))
    }

    /// Without further faults everybody knows at last that the life is over.
    fn settles(&self, broken: Broken) -> bool {
        let mut w = self.clone();
        for _ in 0..40 {
            for i in 0..N {
                while w.see(i).is_some() {}
                if let Some(n) = w.nodes[i].as_mut() {
                    n.daemon = true;
                    n.fencing.daemon(true);
                    n.fencing.expire(P);
                    for _ in 0..8 {
                        let Some(n) = w.nodes[i].as_mut() else { break };
                        if n.call.is_none() {
                            let Some(e) = n.fencing.next(NOW) else { break };
                            w.perform(i, e, broken);
                        }
                        w.deliver(i, broken);
                        w.agent_done(i, true);
                    }
                }
            }
            if w.is_settled() {
                return true;
            }
        }
        false
    }
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let node = |i: usize| {
            let mut fencing = Fencing::new(i, vec![Slot::default(); N + 1], TIMES, 1 << P, 0);
            fencing.heard(P, OLD, self.left == Some(i));
            let daemon = !self.without.contains(&i);
            fencing.daemon(daemon);
            Some(Node { fencing, views: 0, call: None, agent: None, daemon })
        };
        vec![World {
            nodes: std::array::from_fn(node),
            views: vec![ALL & !(1 << P)],
            machine: if self.left.is_some() { Machine::Left } else { Machine::Hangs },
            wrong: None,
            crashes: self.crashes,
            failures: self.failures,
            daemons: self.daemons,
            early: self.early,
            late: self.late,
            under_way: vec![],
            reboots: self.reboots,
        }]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        for i in 0..N {
            let Some(n) = &w.nodes[i] else { continue };
            if n.views < w.views.len() {
                actions.push(Action::View(i));
            }
            actions.push(if n.call.is_some() { Action::Deliver(i) } else { Action::Next(i) });
            if n.call.is_some() && w.late > 0 {
                actions.push(Action::GiveUp(i));
            }
            if n.agent.is_some() {
                actions.push(Action::AgentDone(i, true));
                if w.failures > 0 {
                    actions.push(Action::AgentDone(i, false));
                }
            }
            if n.daemon && w.daemons > 0 {
                actions.push(Action::DaemonDies(i));
            }
            if w.early > 0 {
                actions.push(Action::Expire(i));
            }
            if w.crashes > 0 {
                actions.push(Action::Crash(i));
            }
            if w.machine == Machine::Joins {
                actions.push(Action::Hear(i));
            }
        }
        actions.extend((0..w.under_way.len()).map(Action::ComesLate));
        if w.reboots > 0 && matches!(w.machine, Machine::Hangs | Machine::Off) {
            actions.push(Action::Reboot);
        }
        if w.machine == Machine::Joins {
            actions.push(Action::Join);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut w = last.clone();
        match action {
            Action::View(i) => w.see(i)?,
            Action::Next(i) => {
                let e = w.nodes[i].as_mut()?.fencing.next(NOW);
                if let Some(e) = e {
                    w.perform(i, e, self.broken);
                }
            }
            Action::Deliver(i) => w.deliver(i, self.broken)?,
            Action::GiveUp(i) => {
                w.late -= 1;
                w.give_up(i, self.broken)?;
            }
            Action::ComesLate(n) => {
                let (i, call) = w.under_way.remove(n);
                w.serve(i, call);
            }
            Action::AgentDone(i, is_off) => {
                w.failures -= u8::from(!is_off);
                w.agent_done(i, is_off)?;
            }
            Action::DaemonDies(i) => {
                w.daemons -= 1;
                let n = w.nodes[i].as_mut()?;
                n.agent = None;
                n.daemon = false;
                n.fencing.daemon(false);
            }
            Action::Expire(i) => {
                w.early -= 1;
                w.nodes[i].as_mut()?.fencing.expire(P);
            }
            Action::Crash(i) => {
                w.crashes -= 1;
                w.crash(i);
            }
            Action::Reboot => {
                w.reboots -= 1;
                w.machine = Machine::Joins;
            }
            Action::Hear(i) => {
                w.nodes[i].as_mut()?.fencing.heard(P, NEW, false);
            }
            Action::Join => {
                if w.joins(self.broken) {
                    w.machine = Machine::Member;
                }
            }
        }
        w.look();
        (w != *last).then_some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("safe", |_, w: &World| w.wrong.is_none()),
            Property::always("settles", |m: &Small, w: &World| w.wrong.is_some() || w.settles(m.broken)),
            Property::sometimes("all know", |_, w: &World| w.is_settled()),
        ]
    }
}

impl Small {
    const CALM: Self = Self {
        crashes: 0,
        failures: 0,
        daemons: 0,
        early: 0,
        late: 0,
        reboots: 0,
        without: &[],
        left: None,
        broken: Broken::Nothing,
    };
}

fn search(m: Small) -> impl Checker<Small> {
    let faults = format!(
        "{} deaths, {} failures of agents, {} deaths of daemons, {} early time-outs, {} late answers, {} restarts",
        m.crashes, m.failures, m.daemons, m.early, m.late, m.reboots
    );
    let checker = m.checker().threads(2).spawn_bfs().join();
    println!("3 survivors, {faults}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker
}

#[test]
fn members_that_die_and_agents_that_fail_do_no_harm() {
    search(Small { crashes: 2, failures: 1, early: 1, ..Small::CALM }).assert_properties();
}

#[test]
fn daemons_that_die_do_no_harm() {
    search(Small { crashes: 1, daemons: 2, failures: 1, without: &[0], ..Small::CALM }).assert_properties();
}

#[test]
fn answers_that_are_too_late_do_no_harm() {
    search(Small { crashes: 1, late: 2, failures: 1, ..Small::CALM }).assert_properties();
    search(Small { late: 1, reboots: 1, failures: 1, ..Small::CALM }).assert_properties();
}

#[test]
fn a_node_that_starts_again_is_fenced_before_it_is_a_member_or_not_at_all() {
    search(Small { crashes: 1, early: 1, failures: 1, reboots: 1, ..Small::CALM }).assert_properties();
}

#[test]
fn a_node_that_left_is_not_fenced() {
    for knows in 0..N {
        search(Small { left: Some(knows), ..Small::CALM }).assert_properties();
    }
}

#[test]
fn broken_rules_are_found() {
    for (broken, what, world) in [
        (Broken::BelievesTheWish, "safe", Small { without: &[0], ..Small::CALM }),
        (Broken::HearsAllTheTime, "safe", Small { reboots: 1, ..Small::CALM }),
        (Broken::TellsNobody, "settles", Small::CALM),
        (Broken::DoesNotAsk, "safe", Small { left: Some(2), ..Small::CALM }),
    ] {
        let checker = search(Small { broken, ..world });
        assert!(checker.discovery(what).is_some(), "{what} is not found broken");
    }
}
