// SPDX-License-Identifier: GPL-2.0

//! What of this node belongs to other nodes too, so that it cannot leave. Asks nobody.

use crate::children;
use crate::movement::coming;
use kernel::prelude::*;
use ssi::ids::ClusterPid;
use ssi::pproc;
use ssi::pproc::ProcessState;

/// The processes of this node with relations to others: those that came here, those whose parent is elsewhere, those with
/// children elsewhere.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn of_processes() -> Result<KVec<ClusterPid>> {
    let parents = children::alive()?;
    let came = coming::known()?;
    let mut list = KVec::new();
    let mut from = 1;
    while let Some(pid) = pproc::next_process(from) {
        from = pid.0.saturating_add(1);
        let is_related = came.contains(&pid)
            || parents.iter().any(|(parent, _)| *parent == pid)
            || pproc::ids(pid).is_ok_and(|ids| ids.remote_parent);
        if is_related {
            list.push(pid, GFP_KERNEL)?;
        }
    }
    Ok(list)
}

/// Those, what is under way to here, and what is still to be told of who has ended or gone.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn all() -> Result<KVec<ClusterPid>> {
    let mut all = of_processes()?;
    let parents = children::alive()?;
    let mut came = coming::known()?;
    for (parent, _) in parents {
        came.push(parent, GFP_KERNEL)?;
    }
    for pid in came {
        if !all.contains(&pid) {
            all.push(pid, GFP_KERNEL)?;
        }
    }
    // The dead wait for a parent here only: who has one elsewhere is not kept.
    all.retain(|p| pproc::process_state(*p) != ProcessState::Dead);
    Ok(all)
}
