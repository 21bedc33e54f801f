// SPDX-License-Identifier: GPL-2.0

//! The life of a handle: each pair of state and event, and every order of a movement's events.

use crate::state::*;
use std::collections::HashSet;

const A: Peer = Peer { node: 1, incarnation: 10 };
const A2: Peer = Peer { node: 1, incarnation: 11 };
const B: Peer = Peer { node: 2, incarnation: 20 };
const C: Peer = Peer { node: 3, incarnation: 30 };

#[test]
fn each_pair() {
    let offered = State::Offered { by: A };
    let held = State::Held { by: B, offered_by: A };
    let table = [
        (offered, Event::Claim(B), Ok(After::Stays(held))),
        (offered, Event::Take, Ok(After::Ends)),
        (offered, Event::Release(A), Ok(After::Ends)),
        (offered, Event::Release(A2), Err(Refused)),
        (offered, Event::Release(B), Err(Refused)),
        (offered, Event::Down(A), Ok(After::Ends)),
        (offered, Event::Down(A2), Ok(After::Stays(offered))),
        (offered, Event::Down(B), Ok(After::Stays(offered))),
        (held, Event::Claim(B), Err(Refused)),
        (held, Event::Claim(C), Err(Refused)),
        (held, Event::Take, Err(Refused)),
        (held, Event::Release(B), Ok(After::Ends)),
        (held, Event::Release(A), Ok(After::Ends)),
        (held, Event::Release(C), Err(Refused)),
        (held, Event::Down(B), Ok(After::Ends)),
        (held, Event::Down(A), Ok(After::Stays(held))),
    ];
    for (s, e, want) in table {
        assert_eq!(s.step(e), want, "{s:?} {e:?}");
    }
    assert!(held.serves(B) && !held.serves(A) && !held.serves(C) && !offered.serves(A));
    assert!(!State::Held { by: A2, offered_by: B }.serves(A));
}

/// From an offer by `A`, whatever happens in whatever order: once both nodes are down, or have released, nothing is left;
/// and never do two nodes hold it.
#[test]
fn nothing_leaks() {
    let events = [
        Event::Claim(B),
        Event::Claim(C),
        Event::Take,
        Event::Release(A),
        Event::Release(B),
        Event::Release(C),
        Event::Down(A),
        Event::Down(B),
        Event::Down(C),
    ];
    let mut seen = HashSet::new();
    let mut todo = vec![State::Offered { by: A }];
    while let Some(s) = todo.pop() {
        if !seen.insert(s) {
            continue;
        }
        assert!([A, B, C].iter().filter(|p| s.serves(**p)).count() <= 1);
        for e in events {
            if let Ok(After::Stays(n)) = s.step(e) {
                todo.push(n);
            }
        }
        let mut left = Some(s);
        for e in [Event::Down(A), Event::Down(B), Event::Down(C)] {
            left = match left.map(|s| s.step(e)) {
                Some(Ok(After::Stays(s))) => Some(s),
                _ => None,
            };
        }
        assert_eq!(left, None, "{s:?} outlives all nodes");
    }
    assert_eq!(seen.len(), 3);
}
