// SPDX-License-Identifier: GPL-2.0

//! One process and up to three movements of it, its origin and its parent's node, of which a bounded number crash.

use crate::world::{Action, Broken, Progress, Roles, World};
use stateright::{Checker, HasDiscoveries, Model, Property};

const SETTLES: &str = "everything settles";
const ONE_COPY: &str = "one copy runs at most";
const LOST_IS_LOST: &str = "what is lost does not run";
const NOT_BOTH: &str = "it goes on here or there";

struct Small {
    name: &'static str,
    roles: Roles,
    crashes: u8,
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.roles, self.crashes)]
    }

    fn actions(&self, w: &World, actions: &mut Vec<Action>) {
        w.actions(&self.roles, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut w = last.clone();
        w.act(&self.roles, action);
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no nonsense", |_, w: &World| w.wrong.is_none()),
            Property::always(ONE_COPY, |_, w: &World| w.runs() <= 1),
            Property::always(LOST_IS_LOST, |_, w: &World| !w.lost || w.runs() == 0),
            Property::always(NOT_BOTH, |_, w: &World| w.stayed & w.ran == 0),
            Property::always(SETTLES, |m: &Small, w: &World| {
                w.unsettled(&m.roles).is_none() || m.goes_on(w)
            }),
            Property::sometimes("the last movement succeeds", |m: &Small, w: &World| {
                w.ran & 1 << m.roles.to.len() != 0
            }),
            Property::sometimes("the process is lost", |m: &Small, w: &World| m.crashes == 0 || w.lost),
        ]
    }
}

impl Small {
    /// Whether anything happens by itself, which neither a crash nor a new movement does.
    fn goes_on(&self, w: &World) -> bool {
        // An answer always arrives; this is most states.
        if w.calls.iter().any(|c| matches!(c.progress, Progress::Replied(_))) {
            return true;
        }
        let mut all = Vec::new();
        w.actions(&self.roles, &mut all);
        !all.iter().all(|a| matches!(a, Action::Crash(_) | Action::Start(..)))
    }

    fn with(mut self, broken: Broken) -> Self {
        self.roles.broken = broken;
        self
    }

    /// One of the nodes that crashed may start again.
    fn restarts(mut self) -> Self {
        self.roles.restarts = true;
        self
    }

    /// Searches every state.
    fn holds(self) {
        let (name, crashes) = (self.name, self.crashes);
        let restart = if self.roles.restarts { ", 1 restart" } else { "" };
        let checker = self.checker().threads(1).spawn_bfs().join();
        println!(
            "{name}, {crashes} crashes{restart}: {} states, depth {}",
            checker.unique_state_count(),
            checker.max_depth()
        );
        for (property, path) in checker.discoveries() {
            if checker.discovery_classification(property).to_string() == "counterexample" {
                println!("{property}: {:?}", path.last_state());
                for a in path.into_actions() {
                    println!("  {a:?}");
                }
            }
        }
        checker.assert_properties();
    }

    /// Searches until it finds that `property` does not hold.
    fn breaks(self, property: &'static str) {
        let until = HasDiscoveries::AnyOf([property].into());
        let checker = self.checker().finish_when(until).threads(1).spawn_bfs().join();
        assert!(checker.discovery(property).is_some());
    }
}

const O: u8 = 0;

fn small(name: &'static str, source: u8, parent: u8, to: &'static [&'static [u8]], crashes: u8) -> Small {
    let roles = Roles {
        origin: O,
        source,
        parent,
        to,
        restarts: false,
        broken: Broken::Nothing,
    };
    Small { name, roles, crashes }
}

fn to_a_third(crashes: u8) -> Small {
    small("between two nodes that are not its origin", 1, 3, &[&[2]], crashes)
}

fn away(crashes: u8) -> Small {
    small("away from its origin", O, 3, &[&[1]], crashes)
}

fn home(crashes: u8) -> Small {
    small("to its origin", 1, 3, &[&[O]], crashes)
}

fn twice(crashes: u8) -> Small {
    small("two movements", 1, 3, &[&[O, 2], &[O, 1, 2]], crashes)
}

fn away_twice(crashes: u8) -> Small {
    small(
        "two movements, the first from its origin",
        O,
        3,
        &[&[1, 2], &[O, 1, 2]],
        crashes,
    )
}

#[test]
fn one_movement() {
    to_a_third(3).holds();
    away(3).holds();
    home(3).holds();
}

#[test]
fn one_movement_with_the_parent_on_one_of_the_nodes() {
    small("parent on the origin", 1, O, &[&[2]], 2).holds();
    small("parent on the source", 1, 1, &[&[2]], 2).holds();
    small("parent on the destination", 1, 2, &[&[2]], 2).holds();
    small("parent on the source, away from its origin", O, O, &[&[1]], 1).holds();
    small("parent on the destination, away from its origin", O, 1, &[&[1]], 1).holds();
    small("parent on the source, to its origin", 1, 1, &[&[O]], 1).holds();
    small("parent on the destination, to its origin", 1, O, &[&[O]], 1).holds();
}

#[test]
fn two_movements() {
    twice(3).holds();
}

#[test]
fn two_movements_from_the_origin() {
    away_twice(3).holds();
}

#[test]
fn two_movements_with_the_parent_on_one_of_the_nodes() {
    small("two movements, parent on the origin", 1, O, &[&[O, 2], &[O, 1, 2]], 2).holds();
    small("two movements, parent on the source", 1, 1, &[&[O, 2], &[O, 1, 2]], 2).holds();
    small(
        "two movements, parent on the destination",
        1,
        2,
        &[&[O, 2], &[O, 1, 2]],
        2,
    )
    .holds();
}

#[test]
fn three_movements_to_and_fro() {
    small("three movements to and fro", 1, 3, &[&[2], &[1], &[2]], 2).holds();
}

/// A minute and 1.5 GiB.
#[test]
#[ignore = "long"]
fn three_movements() {
    small("three movements", 1, 3, &[&[O, 2], &[O, 1, 2], &[O, 1, 2]], 2).holds();
}

#[test]
fn a_source_that_goes_on_without_an_answer_is_found() {
    to_a_third(2).with(Broken::StaysOnDown).breaks(ONE_COPY);
    home(1).with(Broken::StaysOnDown).breaks(NOT_BOTH);
}

#[test]
fn a_source_that_asks_only_the_origin_is_found() {
    to_a_third(1).with(Broken::AsksOnlyTheOrigin).breaks(SETTLES);
}

#[test]
fn a_source_that_mourns_is_found() {
    twice(1).with(Broken::SourceMourns).breaks(LOST_IS_LOST);
}

#[test]
fn a_destination_that_runs_without_its_source_is_found() {
    to_a_third(1).with(Broken::RunsWithoutSource).breaks(LOST_IS_LOST);
    twice(1).with(Broken::RunsWithoutSource).breaks(ONE_COPY);
}

#[test]
fn a_destination_that_runs_without_source_and_origin_is_found() {
    to_a_third(2).with(Broken::RunsWithoutOrigin).breaks(NOT_BOTH);
    away_twice(1).with(Broken::RunsWithoutOrigin).breaks(ONE_COPY);
}

#[test]
fn a_destination_that_mourns_is_found() {
    away_twice(1).with(Broken::DestinationMourns).breaks(LOST_IS_LOST);
}

#[test]
fn a_destination_that_forgets_what_it_had_is_found() {
    twice(1).with(Broken::Forgets).breaks(NOT_BOTH);
}

#[test]
fn a_destination_that_prepares_for_the_dead_is_found() {
    to_a_third(1).with(Broken::PrepareUnchecked).breaks(SETTLES);
}

#[test]
fn an_origin_that_answers_before_it_sees_the_source_dead_is_found() {
    to_a_third(1).with(Broken::AskBeforeItsView).breaks(SETTLES);
}

#[test]
fn an_origin_that_does_not_look_whether_the_source_is_up_is_found() {
    to_a_third(1).with(Broken::FromUpIgnored).breaks(LOST_IS_LOST);
}

#[test]
fn an_origin_that_does_not_look_whether_the_destination_is_up_is_found() {
    to_a_third(1).with(Broken::ToUpIgnored).breaks(SETTLES);
}

#[test]
fn an_origin_that_gives_a_status_to_the_dead_is_found() {
    to_a_third(2).with(Broken::RecordAtTheDead).breaks(SETTLES);
}

#[test]
fn a_search_that_does_not_keep_the_process_away_is_found() {
    to_a_third(2).with(Broken::TakesBackNo).breaks(LOST_IS_LOST);
}

#[test]
fn a_search_that_does_not_wait_for_movements_is_found() {
    to_a_third(2).with(Broken::SearchDoesNotWait).breaks(SETTLES);
}

#[test]
fn a_search_that_holds_up_its_own_node_is_found() {
    let s = small("parent on the destination", 1, 2, &[&[2]], 2);
    s.with(Broken::SearchHoldsUp).breaks(SETTLES);
}

#[test]
fn calls_that_hold_up_views_are_found() {
    to_a_third(2).with(Broken::CallsHoldUpViews).breaks(SETTLES);
}

#[test]
fn one_movement_and_a_restart() {
    to_a_third(2).restarts().holds();
    away(2).restarts().holds();
    home(2).restarts().holds();
}

#[test]
fn two_movements_and_a_restart() {
    twice(1).restarts().holds();
}

#[test]
fn two_movements_from_the_origin_and_a_restart() {
    let s = small("away from its origin, and home or on", O, 3, &[&[1], &[O, 2]], 1);
    s.restarts().holds();
}

#[test]
fn an_origin_that_takes_a_life_for_the_next_is_found() {
    to_a_third(1).restarts().with(Broken::AnyLife).breaks(SETTLES);
}

#[test]
fn a_source_that_stays_silently_is_found() {
    to_a_third(2).restarts().with(Broken::StaysSilently).breaks(SETTLES);
}

#[test]
fn a_search_among_the_old_is_found() {
    to_a_third(2)
        .restarts()
        .with(Broken::SearchAmongTheOld)
        .breaks(LOST_IS_LOST);
}

#[test]
#[ignore = "long"]
fn two_movements_two_crashes_and_a_restart() {
    small("two movements there and back", 1, 3, &[&[2], &[1]], 2)
        .restarts()
        .holds();
}

#[test]
fn an_origin_that_looks_twice_is_found() {
    let s = small("there and back", 1, 3, &[&[2], &[O], &[2]], 1);
    s.restarts().with(Broken::SecondLook).breaks(LOST_IS_LOST);
}

#[test]
fn a_search_only_while_the_origin_is_down_is_found() {
    to_a_third(2)
        .restarts()
        .with(Broken::SearchOnlyWhileDown)
        .breaks(SETTLES);
}
