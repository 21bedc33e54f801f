// SPDX-License-Identifier: GPL-2.0

//! `rexec`: the current process goes on as another program on another node.
//!
//! Neither memory nor registers cross. An error of the exec itself comes back before the commit, so the caller
//! sees exactly what `execve` would have given.

use crate::movement;
use crate::movement::arrival::Arrival;
use crate::movement::image::Header;
use crate::nodes;
use crate::proto::*;
use kernel::prelude::*;
use kernel::str::CStr;
use ssi::hooks::ExecStrings;
use ssi::ids::NodeId;
use ssi::movement as steps;
use ssi::movement::Spawn;
use ssi::refusal::Refusal;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::IntoBytes;

/// Image of a program to start.
pub(crate) const KIND_EXEC: u32 = 1;

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
        movement::refusals::note(pid, why);
        why.errno
    })
}

fn try_run(to: NodeId, exec: &ExecStrings<'_>) -> core::result::Result<(), Refusal> {
    movement::check_outward()?;
    let (ids, leader) = steps::leave_check()?;
    let pid = ids.tgid;
    let ppid = movement::family::wire_parent(&ids);
    let m = movement::new_movement();
    let mut header = Header::capture(&ids, leader, ppid)?;
    let children = movement::family::children_record()?;
    let files = rfile::export_fds(false)?;
    let give_back = |r: Refusal| {
        rfile::abort_export(&files);
        r
    };
    // CAST: both are below one message.
    header.files_len = Le32::new(files.len() as u32);
    header.children_len = Le32::new(children.len() as u32);
    let mut image = KVVec::<u8>::new();
    let filled = image
        .extend_from_slice(header.as_bytes(), GFP_KERNEL)
        .and_then(|()| image.extend_from_slice(&files, GFP_KERNEL))
        .and_then(|()| image.extend_from_slice(&children, GFP_KERNEL))
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
        kind: Le32::new(KIND_EXEC),
        movement: Le64::new(m),
    };
    let prepared = ics::call::<Prepare>(to, &req, &image)
        .map_err(|e| Refusal::from(e.to_errno()))
        .and_then(|(rep, why)| verdict(rep.errno.get(), &why));
    if let Err(why) = prepared {
        movement::source::give_up(pid, m, to);
        return Err(give_back(why));
    }
    let spawn = Spawn {
        movement: m,
        nr: pid,
        ppid,
        pgid: ids.pgid,
        sid: ids.sid,
        exit_signal: ids.exit_signal,
        session_leader: leader,
    };
    movement::source::commit(&spawn, to, &children).map_err(|why| {
        movement::source::give_up(pid, m, to);
        give_back(why)
    })
}

/// What a destination says of an image: 0, or an errno and its cause.
pub(crate) fn verdict(errno: u32, why: &[u8]) -> core::result::Result<(), Refusal> {
    match errno {
        0 => Ok(()),
        // CAST: checked.
        e @ 1..=4095 => Err(Refusal::new(Error::from_errno(-(e as i32)), why)),
        _ => Err(EPROTO.into()),
    }
}

/// The new process makes itself. Runs in it.
///
/// # Errors
/// `EPROTO` for a torn image; those of the steps.
pub(crate) fn make(a: &Arrival) -> core::result::Result<(), Refusal> {
    let header = a.header();
    let parts = header.parts(&a.image)?;
    let rest = parts.rest;
    let (counts, rest) = rest.split_at_checked(8).ok_or(EPROTO)?;
    let (n_args, n_envs) = counts.split_at_checked(4).ok_or(EPROTO)?;
    let number = |b: &[u8]| <[u8; 4]>::try_from(b).map(u32::from_le_bytes);
    let n_args = number(n_args).map_err(|_| EPROTO)?;
    let n_envs = number(n_envs).map_err(|_| EPROTO)?;
    let path = CStr::from_bytes_until_nul(rest).map_err(|_| EPROTO)?;
    let strings = rest.get(path.to_bytes_with_nul().len()..).ok_or(EPROTO)?;
    header.exec.restore()?;
    rfile::import_fds(parts.files)?;
    header.cred.commit()?;
    steps::execve(path, strings, n_args, n_envs)?;
    Ok(())
}
