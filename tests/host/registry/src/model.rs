// SPDX-License-Identifier: GPL-2.0

//! Three nodes, a bounded number of wishes and faults, every state.

use crate::world::{Action, Bounds, Broken, N, World};
use stateright::{Checker, HasDiscoveries, Model, Property};

const RIGHT: &str = "one order, nothing lost, everybody told the truth";
const SETTLES: &str = "everything settles";

struct Small {
    name: &'static str,
    bounds: Bounds,
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        w.actions(&self.bounds, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut w = last.clone();
        w.act(&self.bounds, action);
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RIGHT, |_, w: &World| w.wrong.is_none()),
            Property::always(SETTLES, |m: &Small, w: &World| {
                w.unsettled(&m.bounds).is_none() || m.goes_on(w)
            }),
            Property::sometimes("all are answered", |m: &Small, w: &World| {
                w.told.len() == m.bounds.wishes.iter().map(|n| usize::from(*n)).sum::<usize>()
            }),
            Property::sometimes("somebody asks again", |m: &Small, w: &World| {
                m.bounds.crashes == 0 || w.again
            }),
        ]
    }
}

impl Small {
    fn goes_on(&self, w: &World) -> bool {
        let mut all = Vec::new();
        w.actions(&self.bounds, &mut all);
        all.iter().any(|a| !a.is_fault())
    }

    /// Searches every state.
    fn holds(self) {
        let (name, b) = (self.name, self.bounds.clone());
        let start = std::time::Instant::now();
        let checker = self.checker().threads(1).spawn_bfs().join();
        println!(
            "{name}{}: wishes {:?}, {} crashes, {} restarts, {} exclusions, {} doubles{}: {} states, depth {}, {} s",
            if b.witnesses == 0 { "" } else { " and a witness" },
            b.wishes,
            b.crashes,
            b.restarts,
            b.exclusions,
            b.doubles,
            if b.fenced { "" } else { ", not fenced" },
            checker.unique_state_count(),
            checker.max_depth(),
            start.elapsed().as_secs(),
        );
        for (property, path) in checker.discoveries() {
            if checker.discovery_classification(property).to_string() == "counterexample" {
                let last = path.last_state();
                println!("{property}: {:?} {:?}", last.wrong, last.unsettled(&b));
                println!("{last:?}");
                for a in path.into_actions() {
                    println!("  {a:?}");
                }
            }
        }
        checker.assert_properties();
    }

    /// Searches until it finds that `property` does not hold.
    fn breaks(mut self, broken: Broken, property: &'static str) {
        self.bounds.broken = broken;
        let until = HasDiscoveries::AnyOf([property].into());
        let checker = self.checker().finish_when(until).threads(1).spawn_bfs().join();
        let path = checker.discovery(property).expect("not found");
        println!("{broken:?}: {:?}", path.last_state().wrong);
    }
}

fn small(name: &'static str, first: u64, wishes: [u8; N]) -> Small {
    Small {
        name,
        bounds: Bounds {
            first,
            witnesses: 0,
            wishes,
            crashes: 0,
            restarts: 0,
            exclusions: 0,
            doubles: 0,
            fenced: true,
            replaced: false,
            broken: Broken::Nothing,
        },
    }
}

impl Small {
    /// Those who are out are heard all the same: the views' numbers are enough.
    fn unfenced(mut self) -> Self {
        self.bounds.fenced = false;
        self
    }

    /// Whoever crashes is replaced by another node.
    fn replaced(mut self) -> Self {
        self.bounds.replaced = true;
        self
    }

    /// The last node is a witness.
    fn witness(mut self) -> Self {
        self.bounds.witnesses = 4;
        self
    }

    fn faults(mut self, crashes: u8, restarts: u8, exclusions: u8, doubles: u8) -> Self {
        self.bounds = Bounds {
            crashes,
            restarts,
            exclusions,
            doubles,
            ..self.bounds
        };
        self
    }
}

#[test]
fn no_faults() {
    small("three nodes", 7, [1, 1, 1]).holds();
    small("a joiner", 3, [1, 1, 0]).holds();
}

#[test]
fn a_message_comes_twice() {
    small("three nodes", 7, [1, 1, 0]).faults(0, 0, 0, 1).holds();
}

#[test]
fn one_crash() {
    small("three nodes", 7, [1, 1, 1]).faults(1, 0, 0, 0).holds();
}

#[test]
fn a_joiner_and_a_crash() {
    small("a joiner", 3, [1, 1, 0]).faults(1, 0, 0, 0).holds();
    small("a joiner that leads", 6, [1, 1, 0]).faults(1, 0, 0, 0).holds();
}

#[test]
fn two_crashes_and_a_restart() {
    small("three nodes", 7, [0, 1, 0]).faults(2, 1, 0, 0).holds();
}

#[test]
fn another_node_comes_in_the_place_of_one_that_is_gone() {
    small("three nodes", 7, [0, 2, 0]).replaced().faults(1, 1, 0, 0).holds();
    small("three nodes", 7, [1, 1, 0]).replaced().faults(1, 1, 0, 0).holds();
}

#[test]
fn one_is_taken_for_dead() {
    small("three nodes", 7, [1, 1, 0]).faults(0, 0, 1, 0).holds();
    small("three nodes", 7, [1, 0, 1]).faults(0, 0, 1, 1).holds();
}

#[test]
fn one_is_taken_for_dead_and_still_heard() {
    small("three nodes", 7, [1, 1, 0]).faults(0, 0, 1, 0).unfenced().holds();
}

#[test]
fn one_is_taken_for_dead_and_one_crashes_and_comes_back() {
    small("three nodes", 7, [0, 1, 0]).faults(1, 1, 1, 0).holds();
}

#[test]
fn a_crash_and_a_message_that_comes_twice() {
    small("three nodes", 7, [0, 1, 0]).faults(1, 0, 0, 1).holds();
}

#[test]
fn a_master_that_commits_early_is_found() {
    small("three nodes", 7, [1, 0, 0])
        .faults(2, 1, 0, 0)
        .breaks(Broken::CommitsEarly, RIGHT);
}

#[test]
fn a_master_that_asks_nobody_is_found() {
    small("a joiner that leads", 6, [0, 1, 1])
        .faults(1, 0, 0, 0)
        .breaks(Broken::AsksNobody, SETTLES);
}

#[test]
fn a_member_that_takes_changes_of_old_views_is_found() {
    let s = small("three nodes", 7, [1, 1, 0]).faults(0, 0, 1, 0);
    s.unfenced().breaks(Broken::TakesOldViews, RIGHT);
}

#[test]
fn a_caller_that_asks_anew_is_found() {
    small("three nodes", 7, [0, 1, 1])
        .faults(1, 0, 0, 0)
        .breaks(Broken::AsksAnew, RIGHT);
}

#[test]
fn a_member_that_begins_anew_is_found() {
    small("a joiner", 3, [1, 0, 0])
        .faults(2, 1, 0, 0)
        .breaks(Broken::BeginsAnew, RIGHT);
}

#[test]
fn where_nobody_has_the_records_nobody_leads() {
    small("a joiner", 3, [1, 0, 0]).faults(2, 1, 0, 0).holds();
}

#[test]
fn a_caller_that_is_told_early_is_found() {
    small("three nodes", 7, [1, 1, 0])
        .faults(2, 1, 0, 0)
        .breaks(Broken::TellsEarly, RIGHT);
}

#[test]
fn two_majorities_meet_in_a_witness() {
    // View {0, w}, then {0, 1, w}, then {1, w}.
    small("a joiner", 5, [1, 1, 0]).witness().faults(1, 0, 0, 0).holds();
    small("a joiner", 5, [1, 1, 0]).witness().faults(0, 0, 1, 0).holds();
    small("two nodes", 7, [0, 1, 0]).witness().faults(2, 1, 0, 0).holds();
}

#[test]
fn a_witness_that_keeps_nothing_is_found() {
    let s = small("a joiner", 5, [1, 0, 0]).witness().faults(1, 0, 0, 0);
    s.breaks(Broken::WitnessesKeepNothing, SETTLES);
}
