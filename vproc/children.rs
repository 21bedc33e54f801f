// SPDX-License-Identifier: GPL-2.0

//! Children, on other nodes, of processes of this node. A record here is what `wait` finds; for a child that
//! has ended it is the zombie.
//!
//! A record is inserted before the child's task leaves its parent's list and removed after it is back in one, so
//! that a wait, which looks at tasks first and at records second, never misses a child.

use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::global_lock;
use ssi::hooks::Wait;
use ssi::hooks::WaitFor;
use ssi::hooks::Waited;
use ssi::ids::ClusterPid;
use ssi::pproc;
use ssi::pproc::Exit;
use ssi::pproc::Pins;

/// `wait` options, Source: `include/uapi/linux/wait.h`.
const WEXITED: u32 = 4;
const WNOWAIT: u32 = 0x0100_0000;

/// A child elsewhere.
#[derive(Clone, Copy)]
struct Child {
    /// Its process group, for `waitpid(-pgid)`.
    pgid: ClusterPid,
    state: ChildState,
}

#[derive(Clone, Copy)]
enum ChildState {
    /// It lives.
    Alive,
    /// It has ended so.
    Ended(Exit),
    /// Its parent has its status; [`reap`] is about to remove the record.
    Reaped,
}

impl Child {
    fn is_alive(&self) -> bool {
        matches!(self.state, ChildState::Alive)
    }
}

/// Parent's number as it is on this node, then the child's.
type Key = (u32, u32);

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 50 `vproc::children`, spin. Taken in `wait` with the task state set.
    unsafe(uninit) static RECORDS: SpinLock<Option<RBTree<Key, Child>>> = None;
}

/// Makes the table. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { RECORDS.init() };
    *RECORDS.lock() = Some(RBTree::new());
}

/// Frees the table at module unload.
pub(crate) fn clear() {
    let _gone = RECORDS.lock().take();
}

/// Notes that `child` is about to leave this node, where `parent` stays, or that `parent` has come here and has
/// it elsewhere. May sleep.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn insert(
    parent: ClusterPid,
    child: ClusterPid,
    pgid: ClusterPid,
    ended: Option<Exit>,
) -> Result {
    let state = ended.map_or(ChildState::Alive, ChildState::Ended);
    let node = RBTreeNodeReservation::new(GFP_KERNEL)?
        .into_node((parent.0, child.0), Child { pgid, state });
    pproc::pin(child, Pins::CHILD)?;
    if let Err(e) = pproc::pin(parent, Pins::PARENT) {
        pproc::unpin(child, Pins::CHILD);
        return Err(e);
    }
    let _old = RECORDS.lock().as_mut().and_then(|t| t.insert(node));
    Ok(())
}

/// Forgets a child: it is back, reaped, or nobody waits for it. May sleep. Returns whether it was known.
pub(crate) fn remove(parent: ClusterPid, child: ClusterPid) -> bool {
    let (gone, more) = {
        let mut guard = RECORDS.lock();
        let Some(table) = guard.as_mut() else {
            return false;
        };
        let gone = table.remove_node(&(parent.0, child.0));
        (gone, has_children(table, parent))
    };
    if gone.is_some() {
        pproc::unpin(child, Pins::CHILD);
        if !more {
            pproc::unpin(parent, Pins::PARENT);
        }
    }
    gone.is_some()
}

/// Forgets a child of a process that leaves. May sleep. Returns how it ended, if it has and nobody has its status yet.
pub(crate) fn take(parent: ClusterPid, child: ClusterPid) -> Option<Exit> {
    let ended = {
        let guard = RECORDS.lock();
        match guard.as_ref()?.get(&(parent.0, child.0))?.state {
            ChildState::Ended(exit) => Some(exit),
            ChildState::Alive | ChildState::Reaped => None,
        }
    };
    remove(parent, child);
    ended
}

fn has_children(table: &RBTree<Key, Child>, parent: ClusterPid) -> bool {
    table
        .cursor_lower_bound(&(parent.0, 0))
        .is_some_and(|c| c.current().0 .0 == parent.0)
}

/// A child has ended. Returns whether a record was there and had not ended before.
pub(crate) fn ended(parent: ClusterPid, child: ClusterPid, exit: Exit) -> bool {
    let mut guard = RECORDS.lock();
    match guard.as_mut().and_then(|t| t.get_mut(&(parent.0, child.0))) {
        Some(c) if matches!(c.state, ChildState::Alive) => {
            c.state = ChildState::Ended(exit);
            true
        }
        _ => false,
    }
}

/// All children elsewhere of `parent`, with whether they have ended.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn of(parent: ClusterPid) -> Result<KVec<(ClusterPid, ClusterPid, Option<Exit>)>> {
    let mut list = KVec::new();
    loop {
        // No allocation under the spinlock: reserve for what is there, look again.
        let n = {
            let guard = RECORDS.lock();
            let Some(table) = guard.as_ref() else {
                return Ok(list);
            };
            let n = table.keys().filter(|k| k.0 == parent.0).count();
            if n <= list.capacity() {
                for (key, c) in table.iter().filter(|(k, _)| k.0 == parent.0) {
                    // The capacity was checked; a full list drops nothing, as it cannot be full.
                    let ended = match c.state {
                        ChildState::Alive => None,
                        ChildState::Ended(e) => Some(e),
                        ChildState::Reaped => continue,
                    };
                    let _ = list.push_within_capacity((ClusterPid(key.1), c.pgid, ended));
                }
                return Ok(list);
            }
            n
        };
        list.reserve(n, GFP_KERNEL)?;
    }
}

/// Every (parent, child) whose child has not ended, for the end of a node.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn alive() -> Result<KVec<(ClusterPid, ClusterPid)>> {
    list(Child::is_alive)
}

/// Every (parent, child).
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn all() -> Result<KVec<(ClusterPid, ClusterPid)>> {
    list(|_| true)
}

fn list(chosen: impl Fn(&Child) -> bool) -> Result<KVec<(ClusterPid, ClusterPid)>> {
    let mut list = KVec::new();
    loop {
        // No allocation under the spinlock: reserve for what is there, look again.
        let n = {
            let guard = RECORDS.lock();
            let Some(table) = guard.as_ref() else {
                return Ok(list);
            };
            let n = table.values().filter(|c| chosen(c)).count();
            if n <= list.capacity() {
                for (key, _) in table.iter().filter(|(_, c)| chosen(c)) {
                    let _ = list.push_within_capacity((ClusterPid(key.0), ClusterPid(key.1)));
                }
                return Ok(list);
            }
            n
        };
        list.reserve(n, GFP_KERNEL)?;
    }
}

/// Removes the records of `child` whose parent has taken the status. May sleep. Returns whether there was one.
pub(crate) fn reap(child: ClusterPid) -> bool {
    let parent = {
        let guard = RECORDS.lock();
        guard.as_ref().and_then(|t| {
            t.iter()
                .find(|(k, c)| k.1 == child.0 && matches!(c.state, ChildState::Reaped))
                .map(|(k, _)| ClusterPid(k.0))
        })
    };
    parent.is_some_and(|p| remove(p, child))
}

/// What a wait finds among the records. Does not sleep. The record of a reaped child stays, seen by nobody,
/// until the event thread removes it.
pub(crate) fn wait(parent: ClusterPid, wait: Wait) -> Waited {
    let mut guard = RECORDS.lock();
    let Some(table) = guard.as_mut() else {
        return Waited::None;
    };
    let mut found = None;
    let mut eligible = false;
    let mut cursor = table.cursor_lower_bound_mut(&(parent.0, 0));
    while let Some(c) = cursor {
        let (key, child) = c.current();
        if key.0 != parent.0 {
            break;
        }
        let matches = match wait.who {
            WaitFor::Any => true,
            WaitFor::Process(p) => p.0 == key.1,
            WaitFor::Group(g) => g == child.pgid,
        };
        match child.state {
            ChildState::Ended(exit) if matches => {
                eligible = true;
                if wait.options & WEXITED != 0 {
                    found = Some((*key, exit));
                    break;
                }
            }
            ChildState::Alive if matches => eligible = true,
            _ => {}
        }
        cursor = c.move_next();
    }
    let Some((key, exit)) = found else {
        return if eligible {
            Waited::Alive
        } else {
            Waited::None
        };
    };
    let child = ClusterPid(key.1);
    if wait.options & WNOWAIT == 0 {
        // Claimed under the lock: no second waiter finds it.
        if let Some(c) = table.get_mut(&key) {
            c.state = ChildState::Reaped;
        }
        pproc::poke(child);
    }
    Waited::Ended(child, exit)
}
