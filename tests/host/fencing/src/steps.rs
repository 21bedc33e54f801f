// SPDX-License-Identifier: GPL-2.0

//! Single steps, with times.

use crate::state::{Answer, Effect, Fencing, Slot, Times};

const TIMES: Times = Times { attempt: 60_000, first_rest: 1_000, longest_rest: 4_000 };

/// Node 0 of a table of four, all of which are fenced, with a daemon or without.
fn first(daemon: bool) -> Fencing<Vec<Slot>> {
    let mut f = Fencing::new(0, vec![Slot::default(); 4], TIMES, 0b1111, 0);
    f.daemon(daemon);
    f
}

/// Loses node 3 in its life 5, and hears from all that they know nothing of it.
fn lose(f: &mut Fencing<Vec<Slot>>) {
    f.view(0b1111, 0b0111, |_| 5);
    for to in [1, 2] {
        assert_eq!(f.next(0), Some(Effect::Say { to, about: 3, life: 5, over: false }));
        f.answered(to, 3, false, Some(false), 0);
    }
}

/// The number of the job that is announced now.
fn announced(f: &mut Fencing<Vec<Slot>>, now: u64) -> u32 {
    match f.next(now) {
        Some(Effect::Announce { about: 3, job }) => job.number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_lowest_asks_runs_and_tells() {
    let mut f = first(true);
    lose(&mut f);
    let job = announced(&mut f, 0);
    assert!(f.is_pending(3) && !f.is_over(3, 5));
    assert!(!f.done(3, job + 1, true), "another job");
    assert!(f.done(3, job, true));
    assert!(f.is_over(3, 5) && !f.is_over(3, 6));
    for to in [1, 2] {
        assert_eq!(f.next(0), Some(Effect::Say { to, about: 3, life: 5, over: true }));
        f.answered(to, 3, true, Some(true), 0);
    }
    assert_eq!(f.next(0), None);
    assert!(!f.is_busy());
}

#[test]
fn after_a_failure_the_next_holder_then_a_rest_that_doubles() {
    let mut f = first(true);
    lose(&mut f);
    let mut now = 0;
    for wait in [1_000, 2_000, 4_000, 4_000] {
        let job = announced(&mut f, now);
        assert!(f.done(3, job, false));
        let Some(Effect::Run { by: 1, attempt, .. }) = f.next(now) else { panic!("node 1") };
        f.ran(3, attempt, Some(Answer::Taken));
        assert_eq!(f.next(now), None);
        f.failed(3, 5, attempt);
        let Some(Effect::Run { by: 2, attempt, .. }) = f.next(now) else { panic!("node 2") };
        f.ran(3, attempt, None);
        assert_eq!(f.next(now), Some(Effect::Rest { about: 3, wait }));
        assert_eq!(f.next(now + wait - 1), None);
        now += wait;
    }
}

#[test]
fn an_agent_that_says_nothing_has_failed() {
    let mut f = first(true);
    lose(&mut f);
    let job = announced(&mut f, 0);
    assert_eq!(f.next(59_999), None);
    assert!(matches!(f.next(60_000), Some(Effect::Run { by: 1, .. })));
    assert!(!f.heard(3, 5, false), "it may run still");
    assert!(f.done(3, job, true));
    assert!(f.is_over(3, 5) && f.heard(3, 6, false));
}

#[test]
fn a_daemon_that_comes_ends_a_rest() {
    let mut f = first(false);
    lose(&mut f);
    for by in [1, 2] {
        let Some(Effect::Run { by: at, attempt, .. }) = f.next(0) else { panic!("node {by}") };
        assert_eq!(at, by);
        f.ran(3, attempt, Some(Answer::No));
    }
    assert!(matches!(f.next(0), Some(Effect::Rest { .. })));
    f.daemon(true);
    announced(&mut f, 0);
}

#[test]
fn others_are_not_fenced_and_a_wish_to_leave_is_enough() {
    let mut f = Fencing::new(0, vec![Slot::default(); 4], TIMES, 0b0111, 0);
    f.view(0b1111, 0b0111, |_| 5);
    assert!(f.is_over(3, 5) && !f.is_pending(3));
    let mut f = first(true);
    f.heard(3, 5, true);
    f.view(0b1111, 0b0111, |_| 5);
    assert!(f.is_over(3, 5));
    // It stayed after all, and was lost then.
    let mut f = first(true);
    f.heard(3, 5, true);
    f.heard(3, 5, false);
    f.view(0b1111, 0b0111, |_| 5);
    assert!(f.is_pending(3));
}

#[test]
fn a_node_is_not_heard_while_an_agent_runs_against_it() {
    let mut f = first(true);
    assert!(f.heard(3, 5, false));
    lose(&mut f);
    let job = announced(&mut f, 0);
    assert!(!f.heard(3, 6, false));
    assert!(f.is_over(3, 5), "its next life is proof");
    f.done(3, job, false);
    assert!(f.heard(3, 6, false));
    assert_eq!(f.run_asked(1, 3, 5, 1, 0), Answer::Over);
    assert_eq!(f.run_asked(1, 3, 6, 2, 0), Answer::Taken);
}

#[test]
fn who_is_told_by_hand_tells_the_others() {
    let mut f = Fencing::new(1, vec![Slot::default(); 4], TIMES, 0b1111, 0);
    f.view(0b1111, 0b0111, |_| 5);
    assert_eq!(f.next(0), None, "the duty is node 0's");
    f.confirm(3, 5);
    assert!(f.is_over(3, 5));
    assert_eq!(f.next(0), Some(Effect::Say { to: 0, about: 3, life: 5, over: true }));
    f.answered(0, 3, true, None, 0);
    assert_eq!(f.next(0), Some(Effect::Say { to: 2, about: 3, life: 5, over: true }));
    f.answered(2, 3, true, Some(true), 0);
    assert_eq!(f.next(499), None);
    assert_eq!(f.next(500), Some(Effect::Say { to: 0, about: 3, life: 5, over: true }));
}

/// Each time one of the lost nodes has its turn, the others come before it again.
#[test]
fn who_does_not_answer_holds_up_only_what_is_about_it() {
    let mut f = first(true);
    f.view(0b1111, 0b0011, |_| 5);
    let mut asked = [0; 4];
    for now in 0..4 {
        let Some(Effect::Say { about, over: false, .. }) = f.next(now) else {
            panic!("nobody is asked");
        };
        asked[about] += 1;
        // Node 2 keeps asking: it is as if its answer were about to come.
    }
    assert_eq!(asked, [0, 0, 2, 2]);
}

/// A leave that a view refuses is none: the node is fenced when it is lost later.
#[test]
fn a_node_that_stays_after_all_is_fenced() {
    let mut f = first(true);
    assert!(f.heard(3, 5, true));
    f.view(0b1111, 0b1111, |_| 5);
    f.view(0b1111, 0b0111, |_| 5);
    assert!(!f.is_over(3, 5) && f.is_pending(3));
    assert!(matches!(f.next(0), Some(Effect::Say { about: 3, over: false, .. })));
}
