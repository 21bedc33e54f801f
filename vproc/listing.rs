// SPDX-License-Identifier: GPL-2.0

//! The processes of other nodes, for readers of `/proc`: one message per node and listing.
//!
//! A listing is a picture taken when its reader starts from the beginning; a long one may be read in many calls.

use crate::movement;
use crate::nodes;
use crate::proto::List;
use crate::proto::ListReq;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::pproc;

/// Listings under way that are remembered; the oldest goes first.
const MAX_LISTINGS: usize = 32;

/// A picture of the processes elsewhere, ascending.
struct Listing {
    reader: usize,
    pids: KVVec<u32>,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 45 `vproc::listings`, mutex. Never held across a call to a node.
    unsafe(uninit) static LISTINGS: Mutex<KVec<Listing>> = KVec::new();
}

/// Makes the table. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { LISTINGS.init() };
}

/// Frees the table at module unload.
pub(crate) fn clear() {
    *LISTINGS.lock() = KVec::new();
}

/// The least number `>= from` of a process elsewhere. `reader` tells listings apart; 0 starts a new picture.
pub(crate) fn next(reader: usize, from: u32) -> Option<ClusterPid> {
    if from > 0 {
        let guard = LISTINGS.lock();
        if let Some(l) = guard.iter().find(|l| l.reader == reader) {
            return first_from(&l.pids, from);
        }
    }
    let pids = take().ok()?;
    let next = first_from(&pids, from);
    let listing = Listing { reader, pids };
    let _old = {
        let mut guard = LISTINGS.lock();
        let same = guard.iter().position(|l| l.reader == reader);
        let at = same.or((guard.len() >= MAX_LISTINGS).then_some(0));
        let old = at.and_then(|i| guard.remove(i).ok());
        // Without memory the next call takes a new picture.
        let _ = guard.push(listing, GFP_KERNEL);
        old
    };
    next
}

fn first_from(pids: &[u32], from: u32) -> Option<ClusterPid> {
    let i = pids.partition_point(|p| *p < from);
    pids.get(i).copied().map(ClusterPid)
}

/// Asks every other member. A node that dies meanwhile has no processes.
fn take() -> Result<KVVec<u32>> {
    let mut all = KVVec::new();
    for node in clms::view().members.iter() {
        if node == nodes::this() {
            continue;
        }
        let Ok((_, tail)) = ics::call::<List>(node, &ListReq {}, &[]) else {
            continue;
        };
        for chunk in tail.chunks_exact(4) {
            if let Ok(b) = <[u8; 4]>::try_from(chunk) {
                all.push(u32::from_le_bytes(b), GFP_KERNEL)?;
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// The processes of this node in wire form, for another node's listing.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn here() -> Result<KVVec<u8>> {
    let mut out = KVVec::new();
    let mut from = 1;
    while let Some(pid) = pproc::next_process(from) {
        from = pid.0.saturating_add(1);
        let wire = nodes::to_wire(pid);
        out.extend_from_slice(&wire.0.to_le_bytes(), GFP_KERNEL)?;
    }
    // The source of one that is about to live here may have been asked when it was gone already.
    for pid in movement::coming::all()? {
        out.extend_from_slice(&pid.0.to_le_bytes(), GFP_KERNEL)?;
    }
    Ok(out)
}
