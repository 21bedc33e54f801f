// SPDX-License-Identifier: GPL-2.0

//! The origin's table: where the processes of this node's number range are when they are not here.

use crate::movement;
use crate::nodes;
use crate::progress;
use ics::Caller;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::pproc;
use ssi::pproc::Pins;

pub(crate) mod state;

use state::Effect;
use state::Event;
use state::Place;

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 40 `vproc::home`, mutex. Held for one step; never across a call to a node.
    unsafe(uninit) static TABLE: Mutex<Option<RBTree<u32, Place>>> = None;
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Members that have not said yet which numbers of this node's range are in use there, and lives that have before
    /// this node knew that they are members. Lock: level 39 `vproc::awaited`, mutex.
    unsafe(uninit) static AWAITED: Mutex<Reports> = Reports { awaited: KVec::new(), early: KVec::new() };
}

struct Reports {
    awaited: KVec<(NodeId, Incarnation)>,
    early: KVec<(NodeId, Incarnation)>,
}

/// Makes the tables. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { TABLE.init() };
    // SAFETY: As above.
    unsafe { AWAITED.init() };
    *TABLE.lock() = Some(RBTree::new());
}

/// Frees the tables at module unload.
pub(crate) fn clear() {
    *TABLE.lock() = None;
    let mut reports = AWAITED.lock();
    reports.awaited = KVec::new();
    reports.early = KVec::new();
}

/// A member will say which numbers of this node's range are in use there: this node may have had another life.
pub(crate) fn await_report(node: NodeId, incarnation: Incarnation) {
    let mut reports = AWAITED.lock();
    let life = (node, incarnation);
    if reports.early.contains(&life) {
        return;
    }
    while reports.awaited.push(life, GFP_KERNEL).is_err() {
        ssi::task::yield_now();
    }
}

/// A member has said all.
pub(crate) fn reported(node: NodeId, incarnation: Incarnation) {
    {
        let mut reports = AWAITED.lock();
        reports.awaited.retain(|(n, _)| *n != node);
        // Its message may be answered before this node has been told that it is up.
        reports.early.retain(|(n, _)| *n != node);
        while reports.early.push((node, incarnation), GFP_KERNEL).is_err() {
            ssi::task::yield_now();
        }
    }
    progress::notify();
}

/// A node is down: it says nothing any more.
pub(crate) fn no_report(node: NodeId) {
    AWAITED.lock().awaited.retain(|(n, _)| *n != node);
    progress::notify();
}

/// Where a process executes, as far as this node knows: its origin does, for others it is a hint. Sleeps until each
/// member has reported, if this node has just joined and the number is of its range.
///
/// # Errors
/// `ESRCH` if it does not know.
pub(crate) fn locate(pid: ClusterPid) -> Result<NodeId> {
    if pid.origin() == Some(nodes::this()) && hint(pid).is_err() {
        progress::wait_until(|| AWAITED.lock().awaited.is_empty());
    }
    hint(pid)
}

/// As [`locate`], but does not wait for anybody: "no" is no proof while members have not reported.
///
/// # Errors
/// `ESRCH` if it does not know.
pub(crate) fn hint(pid: ClusterPid) -> Result<NodeId> {
    let this = nodes::this();
    let place = TABLE.lock().as_ref().and_then(|t| t.get(&pid.0).copied());
    match place {
        Some(Place::At { node, .. }) => NodeId::new(node).ok_or(ESRCH),
        Some(Place::Zombie { .. } | Place::Lost) => Err(ESRCH),
        None if pproc::exists(pid) || movement::coming::is_coming(pid) => Ok(this),
        // Of its own range this node knows everything.
        None if pid.origin() == Some(nodes::this()) => Err(ESRCH),
        None => movement::leaving::went_to(pid).ok_or(ESRCH),
    }
}

/// Takes one step for `pid` and keeps the pin in line with the entry: a number with an entry stays taken. May sleep.
pub(crate) fn step(pid: ClusterPid, ev: Event) -> Effect {
    step_with(pid, || ev)
}

/// The commit point: `from` gives `pid` to `to`. May sleep.
pub(crate) fn commit(pid: ClusterPid, from: Caller, to: NodeId, movement: u64) -> Effect {
    let is_here = pproc::exists(pid);
    // Who is a member is read while the table is held: a node's death changes the view first and the table then, so
    // that no process is given by or to a node whose processes have been counted as lost.
    step_with(pid, || Event::Move {
        from: from.node.number(),
        to: to.number(),
        movement,
        from_is_up: clms::is_member(from.node, from.incarnation),
        to_is_up: clms::is_up(to),
        is_here,
    })
}

/// The status of a lost process waits at `keeper`, or for nobody. May sleep.
pub(crate) fn mourned(pid: ClusterPid, keeper: Option<NodeId>) {
    // As in `commit`: a keeper that dies now is seen by `NodeDown`, one that is down keeps nothing.
    let is_up = |n: &NodeId| clms::is_up(*n);
    let _freed = step_with(pid, || {
        Event::Mourned(keeper.filter(is_up).map(NodeId::number))
    });
}

/// `ev` is called with the table held.
fn step_with(pid: ClusterPid, ev: impl Fn() -> Event) -> Effect {
    let this = nodes::this().number();
    // Freed after unlocking.
    let mut _old = None;
    let mut guard = TABLE.lock();
    // The pin and the entry change together. Nothing fails after the step.
    let spare = loop {
        let pinned = if pproc::pins(pid).contains(Pins::ORIGIN) {
            Ok(())
        } else {
            pproc::pin(pid, Pins::ORIGIN)
        };
        match (pinned, RBTreeNodeReservation::new(GFP_KERNEL)) {
            (Ok(()), Ok(spare)) => break spare,
            // A number that no process can have.
            (Err(e), _) if e != ENOMEM && e != EAGAIN => return Effect::NotThere,
            _ => ssi::task::yield_now(),
        }
    };
    let Some(table) = guard.as_mut() else {
        return Effect::NotThere;
    };
    let before = table.get(&pid.0).copied();
    let (after, effect) = state::step(this, before, ev());
    match after {
        Some(place) => match table.get_mut(&pid.0) {
            Some(p) => *p = place,
            None => _old = table.insert(spare.into_node(pid.0, place)),
        },
        None => {
            _old = table.remove_node(&pid.0);
            pproc::unpin(pid, Pins::ORIGIN);
        }
    }
    effect
}

/// Every number with an entry, and the node that the entry names; 0 if none.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn all() -> Result<KVec<(ClusterPid, u32)>> {
    let mut out = KVec::new();
    let guard = TABLE.lock();
    if let Some(table) = guard.as_ref() {
        for (pid, place) in table.iter() {
            let node = match place {
                Place::At { node, .. } => *node,
                Place::Zombie { record_at } => *record_at,
                Place::Lost => 0,
            };
            out.push((ClusterPid(*pid), node), GFP_KERNEL)?;
        }
    }
    Ok(out)
}

/// The numbers whose entry names `node`.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn at_node(node: NodeId) -> Result<KVec<ClusterPid>> {
    let mut out = KVec::new();
    for (pid, n) in all()? {
        if n == node.number() {
            out.push(pid, GFP_KERNEL)?;
        }
    }
    Ok(out)
}
