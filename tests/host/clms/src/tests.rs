// SPDX-License-Identifier: GPL-2.0

//! What holds in the worlds, and that it does not where a rule is broken.

use crate::shapes::Outcome;
use crate::state::Times;
use crate::world::Broken;
use crate::{faults, leaving, shapes, tables, work};

/// How many worlds a test runs; `SEEDS` says more.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300)
}

const TIMES: Times = Times::new(2000, 1500);

#[test]
fn faults_of_every_kind_do_no_harm() {
    for seed in 0..seeds() {
        assert_eq!(faults::run(seed, TIMES, Broken::Nothing), None);
    }
    println!("{} worlds of 2 to 9 nodes, 30 s of faults each", seeds());
}

#[test]
fn faults_among_more_nodes_do_no_harm() {
    for seed in 0..seeds() / 100 {
        assert_eq!(faults::run_of::<1>(16, seed, TIMES), None);
    }
    assert_eq!(faults::run_of::<1>(32, 0, TIMES), None);
}

#[test]
#[ignore = "minutes"]
fn faults_among_many_nodes_do_no_harm() {
    for seed in 0..3 {
        assert_eq!(faults::run_of::<1>(64, seed, TIMES), None);
    }
    assert_eq!(faults::run_of::<4>(256, 0, TIMES), None);
}

#[test]
fn of_any_cuts_one_set_that_hears_each_other_goes_on() {
    let (mut best, mut torn) = (0, 0);
    for seed in 0..seeds() {
        match shapes::run(seed) {
            Ok(Outcome::Whole) => best += 1,
            Ok(Outcome::Torn) => torn += 1,
            Ok(Outcome::Gone) => {}
            Err(what) => panic!("{what}"),
        }
    }
    println!("{} worlds: the best set went on in {best}; {torn} were torn", seeds());
    assert!(best > 0 && torn > 0);
}

#[test]
fn who_wants_out_does_not_wait_for_ever() {
    for seed in 0..seeds() {
        assert_eq!(leaving::cut_off(seed), None);
        assert_eq!(leaving::together(seed), None);
        assert_eq!(leaving::comes_back(seed), None);
        assert_eq!(leaving::reborn(seed), None);
    }
}

#[test]
fn who_has_another_table_does_no_harm_and_comes_back() {
    let mut acting = 0;
    for seed in 0..seeds() {
        assert_eq!(tables::apart(seed), None);
        assert_eq!(tables::alone(seed), None);
        acting += u64::from(tables::in_part_ends(seed).unwrap());
    }
    // Four of six may die, or be cut off for as long as a lease: then nobody acts, and that is right.
    println!("{acting} of {} worlds have members in the end", seeds());
    assert!(acting * 2 > seeds());
}

#[test]
fn the_table_changes_under_faults_of_every_kind() {
    let mut changed = 0;
    for seed in 0..seeds() {
        match tables::run(seed, TIMES) {
            Ok(n) => changed += n.saturating_sub(1),
            Err(what) => panic!("{what}"),
        }
    }
    println!("{} worlds: {changed} other tables were in force", seeds());
    assert!(changed > 0);
}

#[test]
fn heartbeats_cost_what_is_new() {
    for seed in 0..3 {
        assert_eq!(work::run(seed), None);
    }
}

/// Whether some world goes wrong, and says so.
fn is_found(run: impl Fn(u64) -> Option<String>) -> bool {
    let found = (0..3000).find_map(run);
    println!("{found:?}");
    found.is_some_and(|what| what.contains("without it"))
}

#[test]
fn promises_without_waiting_for_the_lease_are_found() {
    let times = Times { judge: 0, ..TIMES };
    assert!(is_found(|seed| faults::run(seed, times, Broken::Nothing)));
}

#[test]
fn a_lease_longer_than_the_judgement_is_found() {
    let times = Times { lease: 4000, ..TIMES };
    assert!(is_found(|seed| faults::run(seed, times, Broken::Nothing)));
}

#[test]
fn a_lease_from_the_time_of_coming_is_found() {
    assert!(is_found(|seed| faults::run(seed, TIMES, Broken::ComingCounts)));
}

/// A test for each rule that is broken: some world goes wrong, and says so.
macro_rules! found {
    ($($rule:ident: $module:ident, $run:expr, $says:literal;)*) => {
        $(
            #[test]
            fn $rule() {
                use crate::mutants::$rule::$module;
                let found = (0..3000).find_map(|seed| $run(seed).filter(|what: &String| what.contains($says)));
                println!("{found:?}");
                assert!(found.is_some());
            }
        )*
    };
}

found! {
    searches_at_each_heartbeat: work, work::run, "rows";
    who_left_goes_on: leaving, leaving::cut_off, "though it has left";
    begins_at_once: leaving, leaving::reborn, "without it";
    nobody_is_given_up: shapes, shapes::wrong, "the teams are";
    lowest_member_leads: shapes, shapes::wrong, "the teams are";
    who_leaves_needs_no_lease: leaving, leaving::cut_off, "waits";
    all_leavers_go: leaving, leaving::together, "waits";
    leavers_are_apart_from_who_promised: leaving, leaving::together, "have left";
    who_may_not_begin_hears_all: leaving, leaving::comes_back, "comes in";
    two_votes_at_once: tables, tables::apart, "view";
    stages_before_it_is_settled: tables, tables::apart, "view";
    majority_of_the_old_table: tables, tables::wrong, "no majority";
    switches_when_some_have_staged: tables, tables::wrong, "no peace";
    goes_back_though_one_has_switched: tables, tables::in_part, "no view";
    settles_when_it_alone_has_switched: tables, tables::alone, "not back";
}
