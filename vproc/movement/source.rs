// SPDX-License-Identifier: GPL-2.0

//! The source's last steps: it asks for the commit, and lets go of the process or keeps it.
//!
//! What comes before, image and pages, is in `migrate` and `rexec`. All of it runs in the process that leaves.

use super::coming;
use super::family;
use super::judge;
use super::judge::RETRY_MS;
use super::leaving;
use super::state;
use crate::children;
use crate::events;
use crate::proto::*;
use ics::CallError;
use kernel::prelude::*;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement as steps;
use ssi::movement::Late as LateSignal;
use ssi::movement::Spawn;
use ssi::refusal::Refusal;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::IntoBytes;

/// Asks for the current process to be given to `to`, which has it prepared, and lets go of it here.
///
/// On success the caller makes the process vanish: it is at `to`, or nobody is left who knows whether it ran there.
/// On failure it is as before.
///
/// `children` is what the image says of them.
///
/// # Errors
/// `EAGAIN` the process is being killed, or its family, group or session has changed since its image was taken; what
/// `leave_check` refuses; `EHOSTDOWN`; `ENOMEM`.
pub(crate) fn commit(
    spawn: &Spawn,
    to: NodeId,
    children: &[u8],
) -> core::result::Result<(), Refusal> {
    let pid = spawn.nr;
    let parent_here = family::local_parent(spawn);
    if let Some(parent) = parent_here {
        // Before the task leaves its parent's list.
        children::insert(parent, pid, spawn.pgid, None)?;
    }
    let undo = || {
        if let Some(parent) = parent_here {
            children::remove(parent, pid);
        }
    };
    if let Err(e) = leaving::begin(pid) {
        undo();
        return Err(e.into());
    }
    let stay = |why: Refusal| {
        steps::unmark_moved();
        undo();
        leaving::stays(pid);
        Err(why)
    };
    let late = match steps::mark_moved() {
        Ok(l) => l,
        Err(e) => {
            undo();
            leaving::stays(pid);
            return Err(e.into());
        }
    };
    if let Err(why) = family::is_as_captured(spawn, children) {
        return stay(why);
    }
    if let Err(e) = send_late(pid, spawn.movement, to, &late) {
        return stay(e.into());
    }
    // Nobody has been asked yet: it can stay.
    if !clms::is_up(to) {
        return stay(EHOSTDOWN.into());
    }
    match judge::ask_for_commit(pid, spawn.movement, to) {
        state::Source::Vanish => {}
        _ => return stay(EHOSTDOWN.into()),
    }
    // The process is the destination's now: what follows cannot be undone, and does not fail but for memory.
    while steps::detach().is_err() {
        ssi::task::yield_now();
    }
    let mut ended = KVec::new();
    loop {
        // Reaped ones, which have no place in the list, go by themselves.
        let Ok(list) = children::of(pid) else {
            ssi::task::yield_now();
            continue;
        };
        // Room first: what has been taken out is nowhere else.
        while ended.reserve(list.len(), GFP_KERNEL).is_err() {
            ssi::task::yield_now();
        }
        for (child, _, _) in list {
            if let Some(exit) = children::take(pid, child) {
                let _ = ended.push_within_capacity((child, exit));
            }
        }
        break;
    }
    coming::forget(pid);
    leaving::left(pid, to);
    for (child, exit) in ended {
        events::tell_parent(pid, child, exit);
    }
    Ok(())
}

fn send_late(pid: ClusterPid, m: u64, to: NodeId, late: &[LateSignal]) -> Result {
    if late.is_empty() {
        return Ok(());
    }
    let req = LateReq {
        pid: Le32::new(pid.0),
        movement: Le64::new(m),
    };
    ics::call::<Late>(to, &req, late.as_bytes()).map_err(|e| e.to_errno())?;
    Ok(())
}

/// Tells the destination that the current process stays.
pub(crate) fn give_up(pid: ClusterPid, m: u64, to: NodeId) {
    let req = AbortReq {
        pid: Le32::new(pid.0),
        movement: Le64::new(m),
    };
    // A destination that is down has nothing to destroy. One that is not must know, or it waits for ever.
    while let Err(e) = ics::call::<Abort>(to, &req, &[]) {
        match e {
            CallError::Down(_) => return,
            _ => ssi::machine::sleep_ms(RETRY_MS),
        }
    }
}
