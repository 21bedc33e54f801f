// SPDX-License-Identifier: GPL-2.0

//! `rexec`: the current process goes on as another program on another node.
//!
//! Neither memory nor registers cross. An error of the exec itself comes back before the commit, so the caller
//! sees exactly what `execve` would have given.

use crate::movement;
use crate::movement::image::Header;
use crate::movement::Arrival;
use crate::nodes;
use crate::proto::*;
use kernel::prelude::*;
use kernel::str::CStr;
use ssi::hooks::ExecStrings;
use ssi::ids::NodeId;
use ssi::movement as steps;
use ssi::movement::Refusal;
use ssi::movement::Spawn;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::IntoBytes;

/// Image of a program to start.
const KIND_EXEC: u32 = 1;

/// Runs `exec` on `to` in place of the current process. On success the caller makes it vanish here.
///
/// # Errors
/// What `execve` gives; what `migrate` refuses; `EINVAL` for this very node.
pub(crate) fn run(to: NodeId, exec: &ExecStrings<'_>) -> Result {
    if to == nodes::this() {
        // Here, the caller does it itself.
        return Err(EINVAL);
    }
    let pid = ssi::task::current_tgid();
    try_run(to, exec).map_err(|why| {
        movement::note_refusal(pid, why);
        why.errno
    })
}

fn try_run(to: NodeId, exec: &ExecStrings<'_>) -> core::result::Result<(), Refusal> {
    let (ids, leader) = steps::leave_check()?;
    let pid = ids.tgid;
    let ppid = if ids.remote_parent {
        ids.ppid
    } else {
        nodes::to_wire(ids.ppid)
    };
    let m = movement::new_movement();
    let mut header = Header::capture(&ids, leader, ppid)?;
    let files = rfile::export_fds(false)?;
    let give_back = |r: Refusal| {
        rfile::abort_export(&files);
        r
    };
    header.files_len = Le32::new(files.len() as u32); // CAST: below one message.
    let mut image = KVVec::<u8>::new();
    let filled = image
        .extend_from_slice(header.as_bytes(), GFP_KERNEL)
        .and_then(|()| image.extend_from_slice(&files, GFP_KERNEL))
        .and_then(|()| {
            let counts = [Le32::new(exec.n_args), Le32::new(exec.n_envs)];
            image.extend_from_slice(counts.as_bytes(), GFP_KERNEL)
        })
        .and_then(|()| image.extend_from_slice(exec.path.to_bytes_with_nul(), GFP_KERNEL))
        .and_then(|()| image.extend_from_slice(exec.strings, GFP_KERNEL));
    if filled.is_err() {
        return Err(give_back(ENOMEM.into()));
    }
    let req = PrepareReq {
        pid: Le32::new(pid.0),
        origin_state: Le32::new(0),
        movement: Le64::new(m),
        kind: Le32::new(KIND_EXEC),
    };
    ics::call::<Prepare>(to, &req, &image).map_err(|e| give_back(e.to_errno().into()))?;
    let spawn = Spawn {
        movement: m,
        nr: pid,
        ppid,
        pgid: ids.pgid,
        sid: ids.sid,
        exit_signal: ids.exit_signal,
        session_leader: leader,
    };
    movement::commit(&spawn, to).map_err(|e| {
        movement::give_up(pid, m, to);
        Refusal::from(e)
    })
}

/// The new process makes itself. Runs in it.
///
/// # Errors
/// `EPROTO` for a torn image; those of the steps.
pub(crate) fn make(a: &Arrival) -> Result {
    let bytes = &a.image;
    let header = a.header();
    let (files, rest) = bytes
        .split_at_checked(header.files_len.get() as usize)
        .ok_or(EPROTO)?;
    let (counts, rest) = rest.split_at_checked(8).ok_or(EPROTO)?;
    let (n_args, n_envs) = counts.split_at_checked(4).ok_or(EPROTO)?;
    let number = |b: &[u8]| <[u8; 4]>::try_from(b).map(u32::from_le_bytes);
    let n_args = number(n_args).map_err(|_| EPROTO)?;
    let n_envs = number(n_envs).map_err(|_| EPROTO)?;
    let path = CStr::from_bytes_until_nul(rest).map_err(|_| EPROTO)?;
    let strings = rest
        .get(path.to_bytes_with_nul().len()..)
        .ok_or(EPROTO)?;
    header.exec.restore()?;
    rfile::import_fds(files).map_err(|r| r.errno)?;
    header.cred.commit()?;
    steps::execve(path, strings, n_args, n_envs)
}
