// SPDX-License-Identifier: GPL-2.0

//! What a change does to the records.

use crate::registry::records::{Change, Outcome, Slot, Table};
use crate::registry::state::Machine;

fn table(n: usize) -> Table<Vec<Slot<u8, u8>>> {
    let empty = Slot {
        name: 0,
        value: 0,
        version: 0,
    };
    Table(vec![empty; n])
}

fn change(name: u8, expected: u64, value: Option<u8>) -> Change<u8, u8> {
    Change { name, expected, value }
}

#[test]
fn a_change_needs_the_right_version() {
    let mut t = table(2);
    assert_eq!(t.apply(1, &change(7, 1, Some(1))), Outcome::Lost(0));
    assert_eq!(t.apply(2, &change(7, 0, Some(1))), Outcome::Done(2));
    assert_eq!(t.apply(3, &change(7, 0, Some(2))), Outcome::Lost(2));
    assert_eq!(t.apply(4, &change(7, 2, Some(3))), Outcome::Done(4));
    assert_eq!(t.apply(5, &change(7, 2, Some(4))), Outcome::Lost(4));
    assert_eq!(t.get(7).map(|s| (s.value, s.version)), Some((3, 4)));
    assert!(t.get(8).is_none());
}

#[test]
fn a_record_made_anew_has_a_version_of_its_own() {
    let mut t = table(1);
    assert_eq!(t.apply(1, &change(7, 0, Some(1))), Outcome::Done(1));
    assert_eq!(t.apply(2, &change(7, 9, None)), Outcome::Lost(1));
    assert_eq!(t.apply(3, &change(7, 1, None)), Outcome::Done(3));
    assert!(t.get(7).is_none());
    assert_eq!(t.apply(4, &change(7, 1, Some(2))), Outcome::Lost(0));
    assert_eq!(t.apply(5, &change(7, 0, Some(2))), Outcome::Done(5));
}

#[test]
fn what_is_not_there_can_be_deleted() {
    let mut t = table(1);
    assert_eq!(t.apply(1, &change(7, 0, None)), Outcome::Done(1));
    assert_eq!(t.apply(2, &change(8, 0, Some(1))), Outcome::Done(2));
    assert_eq!(t.apply(3, &change(7, 0, None)), Outcome::Done(3));
    assert!(t.get(7).is_none() && t.get(8).is_some());
}

#[test]
fn a_full_table_takes_changes_but_no_records() {
    let mut t = table(1);
    assert_eq!(t.apply(1, &change(7, 0, Some(1))), Outcome::Done(1));
    assert_eq!(t.apply(2, &change(8, 0, Some(1))), Outcome::Full);
    assert_eq!(t.apply(3, &change(8, 5, Some(1))), Outcome::Lost(0));
    assert_eq!(t.apply(4, &change(7, 1, Some(2))), Outcome::Done(4));
    assert_eq!(t.apply(5, &change(7, 4, None)), Outcome::Done(5));
    assert_eq!(t.apply(6, &change(8, 0, Some(1))), Outcome::Done(6));
}
