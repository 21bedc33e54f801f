// SPDX-License-Identifier: GPL-2.0

//! The origin's table: where the processes of this node's number range are when they are not here.

use crate::nodes;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
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

/// Makes the table. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { TABLE.init() };
    *TABLE.lock() = Some(RBTree::new());
}

/// Frees the table at module unload.
pub(crate) fn clear() {
    *TABLE.lock() = None;
}

/// Where a process of this node's range executes.
///
/// # Errors
/// `ESRCH` if it exists nowhere.
pub(crate) fn locate(pid: ClusterPid) -> Result<NodeId> {
    let this = nodes::this();
    let place = TABLE.lock().as_ref().and_then(|t| t.get(&pid.0).copied());
    match place {
        Some(Place::At { node, .. }) => NodeId::new(node).ok_or(ESRCH),
        Some(Place::Zombie { .. }) => Err(ESRCH),
        None if pproc::exists(pid) => Ok(this),
        None => Err(ESRCH),
    }
}

/// Takes one step for `pid` and keeps the pin in line with the entry: a number with an entry stays taken.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn step(pid: ClusterPid, ev: Event) -> Result<Effect> {
    let this = nodes::this().number();
    // Reserve before the lock; commit without failing.
    let spare = RBTreeNodeReservation::new(GFP_KERNEL)?;
    let had = pproc::pins(pid).contains(Pins::ORIGIN);
    if !had {
        pproc::pin(pid, Pins::ORIGIN)?;
    }
    let effect;
    let after;
    // Freed after unlocking.
    let mut _old = None;
    {
        let mut guard = TABLE.lock();
        let Some(table) = guard.as_mut() else {
            return Err(ESHUTDOWN);
        };
        let before = table.get(&pid.0).copied();
        (after, effect) = state::step(this, before, ev);
        match after {
            Some(place) => match table.get_mut(&pid.0) {
                Some(p) => *p = place,
                None => _old = table.insert(spare.into_node(pid.0, place)),
            },
            None => _old = table.remove_node(&pid.0),
        }
    }
    if after.is_none() {
        pproc::unpin(pid, Pins::ORIGIN);
    }
    Ok(effect)
}

/// Appends the numbers whose entry names `node`.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn at_node(node: NodeId, out: &mut KVec<ClusterPid>) -> Result {
    let guard = TABLE.lock();
    if let Some(table) = guard.as_ref() {
        for (pid, place) in table.iter() {
            let n = match place {
                Place::At { node, .. } => *node,
                Place::Zombie { record_at } => *record_at,
            };
            if n == node.number() {
                out.push(ClusterPid(*pid), GFP_KERNEL)?;
            }
        }
    }
    Ok(())
}
