// SPDX-License-Identifier: GPL-2.0

//! Processes that are between their image and their end here: what happens to them meanwhile is kept, and given to
//! them wherever they then are. Where those went that left; and which must not come, as somebody who looks for them was
//! told that they are not here.

use crate::progress;
use crate::recovery;
use crate::signals;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement::Late as LateSignal;
use ssi::pproc::SigInfo;

/// A process that is leaving.
struct Leaving {
    pid: ClusterPid,
    /// Signals that came.
    signals: KVec<LateSignal>,
    /// Whether its parent elsewhere has died.
    is_orphan: bool,
}

/// The most departures that are remembered.
const MAX_LEFT: usize = 256;

struct Tables {
    leaving: KVec<Leaving>,
    /// Where those went that left, newest last.
    left: KVec<(ClusterPid, NodeId)>,
    /// Processes that must not come here, and the nodes that look for them.
    barred: KVec<(ClusterPid, NodeId)>,
    /// Movements to here that were given up before they were known here, newest last.
    given_up: KVec<u64>,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 47 `vproc::leaving`, mutex. Never held across a call to a node.
    unsafe(uninit) static TABLES: Mutex<Tables> = Tables {
        leaving: KVec::new(),
        left: KVec::new(),
        barred: KVec::new(),
        given_up: KVec::new(),
    };
}

/// Makes the tables. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { TABLES.init() };
}

/// Frees the tables at module unload.
pub(crate) fn clear() {
    let mut guard = TABLES.lock();
    guard.leaving = KVec::new();
    guard.left = KVec::new();
    guard.barred = KVec::new();
    guard.given_up = KVec::new();
}

/// `pid` must not come here while `searcher` looks for it.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn bar(pid: ClusterPid, searcher: NodeId) -> Result {
    TABLES.lock().barred.push((pid, searcher), GFP_KERNEL)?;
    Ok(())
}

/// `searcher` has ended its search for `pid`.
pub(crate) fn unbar(pid: ClusterPid, searcher: NodeId) {
    TABLES.lock().barred.retain(|b| *b != (pid, searcher));
}

/// A node is down: it looks for nobody.
pub(crate) fn searcher_down(node: NodeId) {
    TABLES.lock().barred.retain(|(_, n)| *n != node);
}

/// A movement to here that is not known here was given up: it must not begin.
pub(crate) fn give_up(movement: u64) {
    let mut guard = TABLES.lock();
    if guard.given_up.len() >= MAX_LEFT {
        let _oldest = guard.given_up.remove(0);
    }
    while guard.given_up.push(movement, GFP_KERNEL).is_err() {
        ssi::task::yield_now();
    }
}

/// Whether a movement to here was given up before it was known.
pub(crate) fn is_given_up(movement: u64) -> bool {
    TABLES.lock().given_up.contains(&movement)
}

/// Whether a process must not come here.
pub(crate) fn is_barred(pid: ClusterPid) -> bool {
    TABLES.lock().barred.iter().any(|(p, _)| *p == pid)
}

/// Whether a process is leaving.
pub(crate) fn is_leaving(pid: ClusterPid) -> bool {
    TABLES.lock().leaving.iter().any(|l| l.pid == pid)
}

/// The current process's signals are kept from now on.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn begin(pid: ClusterPid) -> Result {
    let mut guard = TABLES.lock();
    guard.left.reserve(1, GFP_KERNEL)?;
    guard.leaving.push(
        Leaving {
            pid,
            signals: KVec::new(),
            is_orphan: false,
        },
        GFP_KERNEL,
    )?;
    Ok(())
}

/// Keeps a signal for `pid` if that is leaving. Returns whether it is.
pub(crate) fn hold(pid: ClusterPid, signal: &LateSignal) -> bool {
    let mut guard = TABLES.lock();
    let Some(l) = guard.leaving.iter_mut().find(|l| l.pid == pid) else {
        return false;
    };
    while l.signals.push(*signal, GFP_KERNEL).is_err() {
        ssi::task::yield_now();
    }
    true
}

/// Notes that the parent elsewhere of `pid` has died, if `pid` is leaving. Returns whether it is.
pub(crate) fn orphan(pid: ClusterPid) -> bool {
    let mut guard = TABLES.lock();
    match guard.leaving.iter_mut().find(|l| l.pid == pid) {
        Some(l) => {
            l.is_orphan = true;
            true
        }
        None => false,
    }
}

/// All that are leaving.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn all() -> Result<KVec<ClusterPid>> {
    let mut out = KVec::new();
    for l in TABLES.lock().leaving.iter() {
        out.push(l.pid, GFP_KERNEL)?;
    }
    Ok(out)
}

fn end(tables: &mut Tables, pid: ClusterPid) -> Option<Leaving> {
    let i = tables.leaving.iter().position(|l| l.pid == pid)?;
    tables.leaving.remove(i).ok()
}

/// The current process stays after all.
pub(crate) fn stays(pid: ClusterPid) {
    let kept = end(&mut TABLES.lock(), pid);
    progress::notify();
    give(pid, kept);
}

/// The current process has gone to `to`.
pub(crate) fn left(pid: ClusterPid, to: NodeId) {
    let kept = {
        let mut guard = TABLES.lock();
        if guard.left.len() >= MAX_LEFT {
            let _oldest = guard.left.remove(0);
        }
        // `begin` has made room, but another may have taken it: then it is asked for at its origin.
        let _ = guard.left.push((pid, to), GFP_KERNEL);
        end(&mut guard, pid)
    };
    progress::notify();
    give(pid, kept);
}

/// Gives a process what came while it was leaving, wherever it is now.
fn give(pid: ClusterPid, kept: Option<Leaving>) {
    let Some(kept) = kept else {
        return;
    };
    for s in &kept.signals {
        // CAST: same bits. ESRCH: it has died there.
        let _dead = signals::forward(pid, s.target(), s.sig.get() as i32, &SigInfo(s.info));
    }
    if kept.is_orphan {
        recovery::adopt(pid);
    }
}

/// A process lives here: where it once went from here is of no interest.
pub(crate) fn came_back(pid: ClusterPid) {
    TABLES.lock().left.retain(|(p, _)| *p != pid);
}

/// Where a process went that left this node.
pub(crate) fn went_to(pid: ClusterPid) -> Option<NodeId> {
    let guard = TABLES.lock();
    guard
        .left
        .iter()
        .rev()
        .find(|(p, _)| *p == pid)
        .map(|(_, to)| *to)
}
