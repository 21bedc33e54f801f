// SPDX-License-Identifier: GPL-2.0

//! The last changes of nodes' states, numbered so that a number means the same on every node.
//!
//! A view that all agree on makes the same transitions everywhere, in the same order: their numbers are made of the number
//! of the view and their place in it. What only this node sees, such as that it is about to leave, gets a number between those.

use crate::changes::NodeState;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::clms_history::Transition;
use ssi::clms_history::Which;
use ssi::ids::NodeId;

/// How many are kept.
const KEPT: usize = 1024;

/// Why a node changed its state, as far as this node knows. The numbers are those of the netlink family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cause {
    /// It joined.
    Joined = 1,
    /// It is in the first view of this node, and was a member before.
    Found = 2,
    /// It leaves, as it wished.
    Left = 3,
    /// The members have a view without it.
    Lost = 4,
    /// It wanted to leave, and stays.
    Stayed = 5,
}

/// Bits of a number below those of the view.
const VIEW_SHIFT: u32 = 24;

/// Those that are 0 in a number which all nodes give.
const OWN_BITS: u64 = 0xff;

/// The number of a transition that carries a view out.
///
/// `view << 24 | step << 21 | node << 11 | state << 8`, where the step is that of `Membership::install`: the links of those
/// who are out end (1); they are cleaned up, one after the other (2); links to those who are in (3); they are up (4). So numbers
/// ascend in the order in which it is done. The low 8 bits are for what comes between.
const fn agreed(view: u64, node: NodeId, to: NodeState) -> u64 {
    let step = match to {
        NodeState::NeverUp | NodeState::Shutdown => 0,
        NodeState::GoingDown => 1,
        NodeState::KCleanup | NodeState::UCleanup | NodeState::Down => 2,
        NodeState::ComingUp => 3,
        NodeState::Up => 4,
    };
    // CAST: widening; a node number has 10 bits, a state 3.
    view << VIEW_SHIFT | step << 21 | (node.number() as u64) << 11 | (to as u64) << 8
}

/// A change to be noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) node: NodeId,
    /// Its life; 0: not known.
    pub(crate) incarnation: u64,
    pub(crate) from: NodeState,
    pub(crate) to: NodeState,
    pub(crate) cause: Cause,
    /// The view that it carries out; `None`: only this node sees it.
    pub(crate) view: Option<u64>,
}

const NOTHING: Transition = Transition {
    id: 0,
    time_ns: 0,
    node: NodeId::lowest(),
    incarnation: 0,
    from: 0,
    to: 0,
    cause: 0,
};

fn is_simple(t: &Transition) -> bool {
    let up = NodeState::Up as u32;
    t.from == up || t.to == up
}

/// The last transitions of one membership, ascending.
struct History<const N: usize> {
    ring: [Transition; N],
    /// Where the next one goes.
    next: usize,
    len: usize,
    /// The newest number given out, also by an earlier membership.
    last: u64,
    /// Not all that follows a smaller number is known: it was dropped, or was before this membership.
    known_from: u64,
    /// The membership has begun and there is no transition yet.
    is_new: bool,
}

impl<const N: usize> History<N> {
    const fn new() -> Self {
        Self {
            ring: [NOTHING; N],
            next: 0,
            len: 0,
            last: 0,
            known_from: 0,
            is_new: true,
        }
    }

    /// Another membership begins: what happened since the last one ended is not known.
    fn begin(&mut self) {
        self.len = 0;
        self.is_new = true;
        if self.last != 0 {
            self.known_from = self.last.saturating_add(1);
        }
    }

    /// Notes a change and gives it its number.
    fn note(&mut self, c: Change, time_ns: u64) -> Transition {
        let after = match self.last.saturating_add(1) {
            // Only `agreed()` gives such a number.
            n if n & OWN_BITS == 0 => n | 1,
            n => n,
        };
        // A cluster that was formed anew counts from 1 on, and that is what its other members do.
        let least = if self.is_new { 0 } else { after };
        let id = match (c.view, c.cause) {
            // For the others it is none: before those that all have.
            (Some(view), Cause::Found) => least.max(view << VIEW_SHIFT),
            (Some(view), _) => least.max(agreed(view, c.node, c.to)),
            (None, _) => after,
        };
        if self.is_new {
            self.known_from = id;
            self.is_new = false;
        }
        self.last = id;
        let t = Transition {
            id,
            time_ns,
            node: c.node,
            incarnation: c.incarnation,
            from: c.from as u32,
            to: c.to as u32,
            cause: c.cause as u32,
        };
        if let Some(slot) = self.ring.get_mut(self.next) {
            if self.len == N {
                self.known_from = slot.id;
            }
            *slot = t;
        }
        self.next = (self.next + 1) % N;
        self.len = (self.len + 1).min(N);
        t
    }

    /// Those that are kept, ascending.
    fn kept(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        let oldest = (self.next + N - self.len) % N;
        (0..self.len).filter_map(move |i| self.ring.get((oldest + i) % N))
    }

    /// Finds one.
    ///
    /// # Errors
    /// `ESTALE` those after that number are not all kept, or the number is larger than any.
    fn find(&self, which: Which, simple: bool) -> Result<Option<Transition>> {
        let mut kept = self.kept().filter(|t| !simple || is_simple(t));
        let found = match which {
            Which::This(id) => kept.find(|t| t.id == id),
            Which::Next(id) => {
                if id != 0 && (id < self.known_from || id > self.last) {
                    return Err(ESTALE);
                }
                kept.find(|t| t.id > id)
            }
            Which::Previous(id) => kept.rfind(|t| t.id < id),
            Which::First => kept.next(),
            Which::Last => kept.next_back(),
        };
        Ok(found.copied())
    }
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 27 `clms::history`, spin: written while `clms::done` is held.
    unsafe(uninit) static HISTORY: SpinLock<History<KEPT>> = History::new();
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { HISTORY.init() };
}

/// A membership begins.
pub(crate) fn begin() {
    HISTORY.lock().begin();
}

/// Notes a change. Does not sleep.
pub(crate) fn note(c: Change) -> Transition {
    let now = ssi::machine::wall_clock_ns();
    HISTORY.lock().note(c, now)
}

/// The newest number; 0: none yet in this membership.
pub(crate) fn last() -> u64 {
    let h = HISTORY.lock();
    if h.len == 0 {
        0
    } else {
        h.last
    }
}

/// Finds a transition.
///
/// # Errors
/// `ESTALE` those after that number are not all kept, or the number is larger than any.
pub(crate) fn find(which: Which, simple: bool) -> Result<Option<Transition>> {
    HISTORY.lock().find(which, simple)
}

#[kunit_tests(ssi_clms_history)]
mod tests {
    use super::*;

    fn change(view: Option<u64>, node: u32, to: NodeState) -> Change {
        Change {
            node: NodeId::new(node).unwrap_or(NodeId::lowest()),
            incarnation: 0,
            from: if to == NodeState::GoingDown || to == NodeState::Shutdown {
                NodeState::Up
            } else {
                NodeState::Down
            },
            to,
            cause: Cause::Joined,
            view,
        }
    }

    /// What carrying a view out makes, in its order.
    const STEPS: [(u32, NodeState); 10] = [
        (2, NodeState::GoingDown),
        (1022, NodeState::GoingDown),
        (2, NodeState::KCleanup),
        (2, NodeState::Down),
        (1022, NodeState::KCleanup),
        (1022, NodeState::Down),
        (1, NodeState::ComingUp),
        (3, NodeState::ComingUp),
        (1, NodeState::Up),
        (3, NodeState::Up),
    ];

    #[test]
    fn numbers_ascend_and_are_the_same_everywhere() {
        let mut a = History::<64>::new();
        let mut b = History::<64>::new();
        let mut before = 0;
        for view in [1, 2, 9] {
            for (i, (node, to)) in STEPS.into_iter().enumerate() {
                // Only `a` wants to leave now and then.
                for _ in 0..i % 3 {
                    let own = a.note(change(None, 7, NodeState::Shutdown), 0).id;
                    assert!(own > before);
                    before = own;
                }
                let id = a.note(change(Some(view), node, to), 1).id;
                assert!(id > before);
                assert_eq!(id >> VIEW_SHIFT, view);
                assert_eq!(b.note(change(Some(view), node, to), 2).id, id);
                before = id;
            }
        }
        let node = NodeId::new(3).unwrap_or(NodeId::lowest());
        assert_eq!(agreed(5, node, NodeState::Up), 0x0580_1a00);
    }

    #[test]
    fn own_numbers_are_nobody_elses() {
        let mut h = History::<4>::new();
        for view in [3, 4] {
            let mut last = h.note(change(Some(view), 2, NodeState::KCleanup), 0).id;
            for _ in 0..600 {
                let id = h.note(change(None, 2, NodeState::UCleanup), 0).id;
                assert!(id > last && id & OWN_BITS != 0);
                last = id;
            }
            // They have gone beyond the number that this one has elsewhere.
            let id = h.note(change(Some(view), 2, NodeState::Down), 0).id;
            assert!(id > last && id & OWN_BITS != 0);
        }
        let id = h.note(change(Some(5), 2, NodeState::KCleanup), 0).id;
        assert_eq!(id & OWN_BITS, 0);
    }

    #[test]
    fn who_joins_has_the_same_numbers() {
        use NodeState::{ComingUp, Up};
        let mut member = History::<64>::new();
        let mut joiner = History::<64>::new();
        member.note(change(Some(6), 1, Up), 0);
        for found in [1, 9] {
            let c = change(Some(7), found, ComingUp);
            joiner.note(
                Change {
                    cause: Cause::Found,
                    ..c
                },
                0,
            );
        }
        for to in [ComingUp, Up] {
            if to == Up {
                for found in [1, 9] {
                    let c = change(Some(7), found, Up);
                    joiner.note(
                        Change {
                            cause: Cause::Found,
                            ..c
                        },
                        0,
                    );
                }
            }
            for node in [3, 5] {
                let id = member.note(change(Some(7), node, to), 0).id;
                assert_eq!(joiner.note(change(Some(7), node, to), 0).id, id);
            }
        }
        // So whoever has seen all on one of them has seen all on the other.
        assert_eq!(joiner.last, member.last);
        assert!(joiner.kept().is_sorted_by(|a, b| a.id < b.id));
        assert!(joiner.kept().all(|t| t.id >> VIEW_SHIFT == 7));
    }

    #[test]
    fn all_directions() {
        let mut h = History::<64>::new();
        assert_eq!(h.find(Which::First, false), Ok(None));
        assert_eq!(h.find(Which::Next(0), false), Ok(None));
        assert_eq!(h.find(Which::Next(1), false), Err(ESTALE));
        for (node, to) in STEPS {
            h.note(change(Some(3), node, to), 0);
        }
        let all: KVec<u64> = {
            let mut v = KVec::new();
            let mut id = 0;
            while let Ok(Some(t)) = h.find(Which::Next(id), false) {
                id = t.id;
                assert!(v.push(id, GFP_KERNEL).is_ok());
            }
            v
        };
        assert_eq!(all.len(), STEPS.len());
        let at = |i: usize| all.get(i).copied().unwrap_or(0);
        let id_of = |w, simple| h.find(w, simple).map(|t| t.map_or(0, |t| t.id));
        assert_eq!(id_of(Which::First, false), Ok(at(0)));
        assert_eq!(id_of(Which::Last, false), Ok(at(9)));
        assert_eq!(id_of(Which::Previous(at(4)), false), Ok(at(3)));
        assert_eq!(id_of(Which::Previous(at(0)), false), Ok(0));
        assert_eq!(id_of(Which::This(at(4)), false), Ok(at(4)));
        assert_eq!(id_of(Which::This(at(4) + 1), false), Ok(0));
        // From UP: 0 and 1. To UP: 8 and 9.
        assert_eq!(id_of(Which::Next(at(0)), true), Ok(at(1)));
        assert_eq!(id_of(Which::Next(at(1)), true), Ok(at(8)));
        assert_eq!(id_of(Which::Previous(at(8)), true), Ok(at(1)));
        assert_eq!(id_of(Which::This(at(4)), true), Ok(0));
        assert_eq!(id_of(Which::Next(at(9)), false), Ok(0));
        assert_eq!(id_of(Which::Next(at(9) + 1), false), Err(ESTALE));
    }

    #[test]
    fn what_was_dropped_is_said() {
        let mut h = History::<4>::new();
        let mut ids = [0; 6];
        for (i, id) in ids.iter_mut().enumerate() {
            *id = h.note(change(Some(1 + i as u64), 2, NodeState::Up), 0).id;
        }
        let [a, b, c, _, _, f] = ids;
        let id_of = |w| h.find(w, false).map(|t| t.map_or(0, |t| t.id));
        assert_eq!(id_of(Which::Next(a)), Err(ESTALE));
        assert_eq!(id_of(Which::Next(b)), Ok(c));
        assert_eq!(id_of(Which::Next(0)), Ok(c));
        assert_eq!(id_of(Which::Previous(c)), Ok(0));
        assert_eq!(id_of(Which::Last), Ok(f));
    }

    #[test]
    fn another_membership_is_another_history() {
        let mut h = History::<4>::new();
        let old = h.note(change(Some(5), 1, NodeState::Up), 0).id;
        h.begin();
        assert_eq!(h.find(Which::Last, false), Ok(None));
        assert_eq!(h.find(Which::Next(old), false), Err(ESTALE));
        // It goes on: nothing is known of views 6 and 7.
        let new = h.note(change(Some(8), 1, NodeState::Up), 0).id;
        assert_eq!(h.find(Which::Next(old), false), Err(ESTALE));
        assert_eq!(
            h.find(Which::Next(0), false).map(|t| t.map(|t| t.id)),
            Ok(Some(new))
        );
        // It counts from 1 on: the numbers are those of the other members.
        h.begin();
        let again = h.note(change(Some(1), 1, NodeState::ComingUp), 0).id;
        assert_eq!(again >> VIEW_SHIFT, 1);
        assert_eq!(h.find(Which::Next(new), false), Err(ESTALE));
        let up = h.note(change(Some(1), 1, NodeState::Up), 0).id;
        assert_eq!(
            h.find(Which::Next(again), true).map(|t| t.map(|t| t.id)),
            Ok(Some(up))
        );
    }
}
