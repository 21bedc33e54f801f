// SPDX-License-Identifier: GPL-2.0

//! The processes that come here, from their image until their end is known: the mirror of `leaving`.

use super::arrival::Arrival;
use super::state::Event as Happened;
use super::state::Stage;
use crate::progress;
use ics::Caller;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement::Late as LateSignal;
use ssi::pproc;
use ssi::pproc::Exit;
use ssi::pproc::Pins;

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 42 `vproc::arrivals`, mutex. Never held across a call to a node.
    unsafe(uninit) static ARRIVALS: Mutex<KVec<Arc<Arrival>>> = KVec::new();
}

/// Makes the table. Once, at module load.
pub(super) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { ARRIVALS.init() };
}

/// Frees the table at module unload.
pub(super) fn clear() {
    *ARRIVALS.lock() = KVec::new();
}

/// All that came here and whose end is not told, and those that are about to live here.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn known() -> Result<KVec<ClusterPid>> {
    let mut out = KVec::new();
    for a in ARRIVALS.lock().iter() {
        out.push(a.spawn.nr, GFP_KERNEL)?;
    }
    Ok(out)
}

/// Adds one that begins to come.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn insert(a: &Arc<Arrival>) -> Result {
    let pid = a.spawn.nr;
    let mut guard = ARRIVALS.lock();
    // One that was destroyed and whose end has not been seen yet is of no interest any more.
    guard.retain(|a| a.spawn.nr != pid || !matches!(a.stage(), Stage::Failed | Stage::Aborted));
    guard.push(a.clone(), GFP_KERNEL)?;
    Ok(())
}

/// The arrival of that movement.
pub(super) fn get(pid: ClusterPid, movement: u64) -> Option<Arc<Arrival>> {
    let guard = ARRIVALS.lock();
    guard
        .iter()
        .find(|a| a.spawn.nr == pid && a.spawn.movement == movement)
        .cloned()
}

/// The arrival of that movement, if `source` is who it comes from, in that life.
pub(super) fn from(source: Caller, pid: ClusterPid, movement: u64) -> Option<Arc<Arrival>> {
    get(pid, movement)
        .filter(|a| (a.from.node, a.from.incarnation) == (source.node, source.incarnation))
}

/// An arrival of that process, whatever the movement.
fn any(pid: ClusterPid) -> Option<Arc<Arrival>> {
    let guard = ARRIVALS.lock();
    guard.iter().find(|a| a.spawn.nr == pid).cloned()
}

/// Processes that are about to live here.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn all() -> Result<KVec<ClusterPid>> {
    let mut out = KVec::new();
    let guard = ARRIVALS.lock();
    for a in guard.iter().filter(|a| !a.is_active()) {
        out.push(a.spawn.nr, GFP_KERNEL)?;
    }
    Ok(out)
}

/// Whether a process is about to live here.
pub(crate) fn is_coming(pid: ClusterPid) -> bool {
    any(pid).is_some_and(|a| a.is_coming())
}

/// A process has gone on to another node: that it came here is of no interest.
pub(super) fn forget(pid: ClusterPid) -> Option<Arc<Arrival>> {
    let gone = {
        let mut guard = ARRIVALS.lock();
        let i = guard.iter().position(|a| a.spawn.nr == pid)?;
        guard.remove(i).ok()
    };
    progress::notify();
    gone
}

/// A movement to here is not begun.
pub(super) fn forget_one(pid: ClusterPid, m: u64) {
    let _gone = {
        let mut guard = ARRIVALS.lock();
        let is = |a: &Arc<Arrival>| a.spawn.nr == pid && a.spawn.movement == m;
        guard.iter().position(is).map(|i| guard.remove(i))
    };
    progress::notify();
}

/// The end of a process that came here has been reported to its parent's node.
pub(crate) fn end_is_told(pid: ClusterPid) {
    if let Some(a) = any(pid) {
        a.end_is_told.store(1, Relaxed);
    }
}

/// A process that came here lost its last task. Returns whether it had lived here and nobody has been told of its end.
pub(crate) fn forget_ended(pid: ClusterPid) -> bool {
    let gone = {
        let mut guard = ARRIVALS.lock();
        let is_over =
            |a: &Arc<Arrival>| matches!(a.stage(), Stage::Active | Stage::Failed | Stage::Aborted);
        // It may be on its way here again.
        let place = guard.iter().position(|a| a.spawn.nr == pid && is_over(a));
        place.and_then(|i| guard.remove(i).ok())
    };
    progress::notify();
    gone.is_some_and(|a| a.is_active() && a.end_is_told.load(Relaxed) == 0)
}

/// Drops the pin of a number of another node that has no task here any more, unless its process is on its way here.
pub(crate) fn unpin_idle(pid: ClusterPid) {
    let guard = ARRIVALS.lock();
    if !guard.iter().any(|a| a.spawn.nr == pid) {
        pproc::unpin(pid, Pins::EXEC);
    }
}

/// The parent of a process has died, which is about to live here, if it is.
pub(crate) fn orphan(pid: ClusterPid) {
    if let Some(a) = any(pid) {
        a.orphan();
    }
}

/// A process has died: those that come here are its children no more.
pub(crate) fn parent_is_lost(parent: ClusterPid) {
    for_each(|a| a.spawn.ppid == parent, Arrival::orphan);
}

/// Keeps a signal for a process that is about to live here. Returns whether it is.
pub(super) fn hold(pid: ClusterPid, signal: &LateSignal) -> bool {
    any(pid).is_some_and(|a| a.hold(signal))
}

/// Keeps the end of a child whose parent is about to live here: its records are not made yet. Returns whether it did;
/// `told` is what looking for a record gave.
pub(crate) fn hold_end(
    parent: ClusterPid,
    child: ClusterPid,
    told: &Result<bool>,
    exit: Exit,
) -> bool {
    if told.is_ok() {
        return false;
    }
    any(parent).is_some_and(|a| a.hold_end(child, exit))
}

/// A node is down: what it was sending here and is not complete goes, what is complete asks the origin.
pub(super) fn source_down(node: NodeId) {
    for_each(
        |a| a.from.node == node && !a.is_active(),
        |a| {
            let _parked_ones_ask = a.step(Happened::SourceDown);
        },
    );
}

/// Does something, outside the table's lock, with those that `which` chooses; again with some where memory is short.
fn for_each(which: impl Fn(&Arrival) -> bool, act: impl Fn(&Arrival)) {
    loop {
        let mut chosen = KVec::new();
        let all = {
            let guard = ARRIVALS.lock();
            guard
                .iter()
                .filter(|a| which(a))
                .all(|a| chosen.push(a.clone(), GFP_KERNEL).is_ok())
        };
        chosen.iter().for_each(|a: &Arc<Arrival>| act(a));
        if all {
            return;
        }
        ssi::task::yield_now();
    }
}
