// SPDX-License-Identifier: GPL-2.0

//! Searches of every state of [`crate::model`], and rules that are broken there on purpose.

use stateright::Checker;

use crate::model::{Broken, Small};

#[test]
fn racing_nodes_form_one_cluster_and_silences_do_no_harm() {
    let m = Small { silences: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

#[test]
fn a_crash_and_a_restart_do_no_harm() {
    let m = Small { crashes: 1, restarts: 1, newest: 3, ..Small::default() };
    m.search().assert_properties();
}

#[test]
fn two_crashes_and_a_restart_do_no_harm() {
    let m = Small { crashes: 2, restarts: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

/// `cargo test --release --locked -- --nocapture --ignored a_crash_and_a_silence`
#[test]
#[ignore = "41 s of processor time"]
fn a_crash_and_a_silence_do_no_harm() {
    let m = Small { crashes: 1, silences: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

#[test]
fn a_crash_and_a_late_heartbeat_do_no_harm() {
    let m = Small { crashes: 1, delays: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

#[test]
fn two_crashes_and_a_cut_do_no_harm() {
    let m = Small { crashes: 2, cuts: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

/// `cargo test --release --locked -- --nocapture --ignored two_crashes_a_restart_and_a_cut`
#[test]
#[ignore = "35 minutes of one processor, 15 GiB"]
fn two_crashes_a_restart_and_a_cut_do_no_harm() {
    let m = Small { crashes: 2, restarts: 1, cuts: 1, newest: 2, ..Small::default() };
    m.search().assert_properties();
}

#[test]
fn a_node_that_promises_everybody_is_found() {
    let m = Small { silences: 1, newest: 3, broken: Broken::PromisesAll, ..Small::default() };
    assert!(m.search().discovery("safe").is_some());
}

/// Nothing but a cut makes a node forget.
#[test]
fn a_promise_forgotten_in_a_cut_is_found() {
    let m = Small { cuts: 1, newest: 2, broken: Broken::ForgetsInCut, ..Small::default() };
    assert!(m.search().discovery("safe").is_some());
}
