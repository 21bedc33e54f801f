// SPDX-License-Identifier: GPL-2.0

//! Parent and children of a process that moves: as its image records them at the source, and as they are made at the
//! destination.

use crate::children;
use crate::nodes;
use kernel::prelude::*;
use ssi::ids::ClusterPid;
use ssi::movement as steps;
use ssi::movement::Spawn;
use ssi::pproc;
use ssi::pproc::Ids;
use ssi::refusal::Refusal;

/// A process's parent, in wire form.
pub(crate) fn wire_parent(ids: &Ids) -> ClusterPid {
    if ids.remote_parent {
        ids.ppid
    } else {
        nodes::to_wire(ids.ppid)
    }
}

/// The parent's number here, if the parent is here.
pub(super) fn local_parent(spawn: &Spawn) -> Option<ClusterPid> {
    let parent = nodes::to_local(spawn.ppid);
    (!nodes::is_foreign_alias(spawn.ppid) && pproc::exists(parent)).then_some(parent)
}

/// The children of the current process, as its image records them.
///
/// # Errors
/// `EBUSY` if one elsewhere has ended and waits for it; `E2BIG`, `ENOMEM`.
pub(crate) fn children_record() -> Result<KVVec<u8>> {
    let mut out = KVVec::new();
    let pid = ssi::task::current_tgid();
    for (child, pgid) in steps::children()? {
        out.extend_from_slice(&nodes::to_wire(child).0.to_le_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(&nodes::to_wire(pgid).0.to_le_bytes(), GFP_KERNEL)?;
    }
    // Those elsewhere that have ended and wait for it are lost with its records: they keep it here.
    for (child, pgid, ended) in children::of(pid)? {
        if ended.is_some() {
            return Err(EBUSY);
        }
        out.extend_from_slice(&child.0.to_le_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(&pgid.0.to_le_bytes(), GFP_KERNEL)?;
    }
    Ok(out)
}

/// Whether the current process may still leave, and is who its image says. Others may have changed that since.
pub(super) fn is_as_captured(spawn: &Spawn, children: &[u8]) -> core::result::Result<(), Refusal> {
    let (ids, _) = steps::leave_check()?;
    let ppid = wire_parent(&ids);
    if (ids.pgid, ids.sid, ppid) != (spawn.pgid, spawn.sid, spawn.ppid) {
        return Err(Refusal::new(EAGAIN, b"its parent or group has changed"));
    }
    if children_record()?[..] != *children {
        return Err(Refusal::new(EAGAIN, b"its children have changed"));
    }
    Ok(())
}

/// Whether bytes can be what [`children_record`] makes.
pub(super) fn is_record(children: &[u8]) -> bool {
    let is_number = |b: &[u8]| {
        b.try_into()
            .is_ok_and(|b| ClusterPid(u32::from_le_bytes(b)).origin().is_some())
    };
    children.len().is_multiple_of(8) && children.chunks(4).all(is_number)
}

/// Makes the children of a record those, elsewhere, of `pid`. May sleep.
pub(super) fn keep_children(pid: ClusterPid, record: &[u8]) {
    for c in record.chunks_exact(8) {
        let (child, pgid) = c.split_at(4);
        let number = |b: &[u8]| ClusterPid(b.try_into().map_or(0, u32::from_le_bytes));
        // It is committed: there is no way back.
        while children::insert(pid, number(child), number(pgid), None).is_err() {
            ssi::task::yield_now();
        }
    }
}
