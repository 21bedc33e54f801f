// SPDX-License-Identifier: GPL-2.0

//! What is left to user space when a node has gone down: between KCLEANUP and DOWN it is UCLEANUP, as long as the cleaner of
//! this node, a daemon, runs programs for it. Nobody waits for the cleaner; without one no node is UCLEANUP.

use crate::changes::NodeState;
use crate::history;
use crate::history::Cause;
use crate::places::Places;
use crate::thread::current;
use crate::thread::Membership;
use crate::thread::MAX_NODES;
use crate::thread::WORDS;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::clms_cleaner;
use ssi::clms_cleaner::Answerer;
use ssi::clms_netlink::Refusal;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

/// The registered answers.
pub(crate) type Registration = clms_cleaner::Registration<Cleanup>;

/// Registers them. Before the family is.
///
/// # Errors
/// `EEXIST`.
pub(crate) fn register() -> Result<Registration> {
    Registration::new()
}

/// Who cleans.
struct Cleaner {
    /// Its socket; `None`: there is none.
    port: Option<u32>,
    /// How often somebody has begun to clean.
    turn: u64,
    /// Of those that are UCLEANUP, those that left.
    left: Places<WORDS>,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 29 `clms::cleaner`, spin; a leaf.
    unsafe(uninit) static CLEANER: SpinLock<Cleaner> = Cleaner { port: None, turn: 0, left: Places::EMPTY };
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { CLEANER.init() };
}

/// Which cleaner there is; `None`: none.
fn turn() -> Option<u64> {
    let c = CLEANER.lock();
    c.port.map(|_| c.turn)
}

impl Membership {
    /// All observers have been told that a node is down: now it is the cleaner's turn, if there is one. Does not wait for it.
    pub(crate) fn clean_up(&self, place: usize, cause: Cause, view: u64) {
        let Some(before) = turn() else {
            if let Some(node) =
                self.change_life(place, |_, _| true, NodeState::Down, cause, Some(view))
            {
                pr_info!("node {} is down\n", node.number());
            }
            return;
        };
        {
            let left = &mut CLEANER.lock().left;
            if cause == Cause::Left {
                left.insert(place);
            } else {
                left.remove(place);
            }
        }
        // Who has a cleaner when is this node's own affair.
        self.set_state(place, NodeState::UCleanup, cause, None);
        // A cleaner that ends after this look finds it UCLEANUP; one that begins after it was not told.
        if turn() != Some(before) {
            self.end_cleanup(place);
        }
    }

    /// If a node is UCLEANUP, it is DOWN.
    pub(crate) fn end_cleanup(&self, place: usize) {
        self.end_cleanup_of(place, |_| true);
    }

    /// All that are UCLEANUP are DOWN.
    pub(crate) fn end_cleanups(&self) {
        for place in 0..MAX_NODES {
            self.end_cleanup(place);
        }
    }

    /// Returns whether it was UCLEANUP, and that life of it.
    fn end_cleanup_of(&self, place: usize, is_it: impl FnOnce(Incarnation) -> bool) -> bool {
        let cause = if CLEANER.lock().left.contains(place) {
            Cause::Left
        } else {
            Cause::Lost
        };
        let applies = |s, life| s == NodeState::UCleanup && is_it(life);
        match self.change_life(place, applies, NodeState::Down, cause, None) {
            Some(node) => {
                pr_info!("node {} is down\n", node.number());
                true
            }
            None => false,
        }
    }
}

/// No node is UCLEANUP: whoever was to clean up is gone, or has begun anew.
fn abandon() {
    if let Some(m) = current() {
        m.end_cleanups();
    }
}

/// Answers for the family.
pub(crate) struct Cleanup;

impl Answerer for Cleanup {
    fn begin(port: u32) -> core::result::Result<u64, Refusal> {
        // Before it is known: what becomes UCLEANUP for it has a larger number.
        let last = history::last();
        let had = {
            let mut c = CLEANER.lock();
            if c.port.is_some_and(|p| p != port) {
                return Err(Refusal(
                    EBUSY,
                    Some(c"this node has a cleaner: one runs already"),
                ));
            }
            c.turn += 1;
            c.port.replace(port)
        };
        if had.is_some() {
            abandon();
        }
        Ok(last)
    }

    fn cleaned(node: NodeId, incarnation: Incarnation) -> core::result::Result<(), Refusal> {
        let m = current().ok_or(Refusal(ENOTCONN, Some(c"this node has not joined")))?;
        let place = m.place(node).ok_or(ENOENT)?;
        if m.end_cleanup_of(place, |life| life == incarnation) {
            Ok(())
        } else {
            Err(Refusal(
                ENOENT,
                Some(c"nothing is cleaned up for that life of it"),
            ))
        }
    }

    fn closed(port: u32) {
        {
            let mut c = CLEANER.lock();
            if c.port != Some(port) {
                return;
            }
            c.port = None;
        }
        abandon();
    }
}
