// SPDX-License-Identifier: GPL-2.0

//! Every list of up to four numbers below [`TOP`], in any order, over every bound.

use crate::open::NUMBER;
use crate::open::Open;

const TOP: u64 = 6;

fn bytes(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// How many lists there are.
fn check(list: &mut Vec<u64>) -> u64 {
    let body = bytes(list);
    let is_list = list.windows(2).all(|w| w[0] < w[1]);
    for below in 0..=TOP {
        let open = Open::parse(below, &body);
        let is_right = is_list && list.iter().all(|n| *n < below);
        assert_eq!(open.is_some(), is_right, "{list:?} below {below}");
        for number in 0..=TOP + 1 {
            let is_over = number < below && !list.contains(&number);
            assert!(open.is_none_or(|o| o.is_over(number) == is_over));
        }
    }
    let mut n = 1;
    for next in 0..TOP {
        if list.len() < 4 {
            list.push(next);
            n += check(list);
            list.pop();
        }
    }
    n
}

#[test]
fn what_is_asked_again_is_not_over() {
    assert_eq!(check(&mut Vec::new()), (TOP.pow(5) - 1) / (TOP - 1));
}

#[test]
fn half_a_number_is_none() {
    let body = bytes(&[1, u64::MAX - 1]);
    for len in 0..body.len() {
        let is_whole = len % NUMBER == 0;
        assert_eq!(Open::parse(u64::MAX, &body[..len]).is_some(), is_whole);
    }
    let open = Open::parse(u64::MAX, &body).unwrap();
    assert!(!open.is_over(u64::MAX - 1) && open.is_over(u64::MAX - 2) && !open.is_over(u64::MAX));
}
