// SPDX-License-Identifier: GPL-2.0

//! `rfork`, `rexec`, `migrate`, `where_pid` and `/proc/<pid>/goto`.

use crate::calls;
use crate::calls::Answer;
use crate::migrate;
use crate::movement;
use crate::nodes;
use crate::procfs;
use crate::rexec;
use kernel::prelude::*;
use ssi::hooks::ClusterCall;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::pproc;
use ssi::task;

/// Runs one of the four calls.
///
/// # Errors
/// Each call's own; see `Documentation/vproc.rst`.
pub(crate) fn run(call: ClusterCall<'_>) -> Result<isize> {
    match call {
        ClusterCall::Rfork { .. } => Err(EOPNOTSUPP),
        ClusterCall::Rexec { node, exec } => {
            let to = destination(node)?;
            rexec::run(to, &exec).map(|()| 0)
        }
        ClusterCall::Migrate { pid, node, flags } => {
            if flags != 0 || pid < 0 {
                return Err(EINVAL);
            }
            let pid = ClusterPid(pid as u32); // CAST: checked above.
            let pid = if pid.0 == 0 {
                task::current_tgid()
            } else {
                pid
            };
            move_to(pid, node).map(|()| 0)
        }
        ClusterCall::WherePid { pid } => where_pid(pid),
    }
}

/// The node that a caller names.
///
/// # Errors
/// `EINVAL` for a number that no node can have; `EHOSTDOWN` if it is no member; `EHOSTUNREACH` while it leaves.
fn destination(node: i32) -> Result<NodeId> {
    let node = u32::try_from(node)
        .ok()
        .and_then(NodeId::new)
        .ok_or(EINVAL)?;
    if !clms::is_up(node) {
        return Err(EHOSTDOWN);
    }
    Ok(node)
}

fn move_to(pid: ClusterPid, node: i32) -> Result {
    let to = destination(node)?;
    if pproc::exists(pid) {
        return migrate::ask(pid, to);
    }
    // It runs elsewhere: its node does it, as if its /proc/<pid>/goto had been written there.
    let mut text = [0u8; 12];
    let n = decimal(node, &mut text);
    procfs::write(pid, c"goto", text.get(..n).ok_or(EINVAL)?)
        .map(|_| ())
        .map_err(|e| match e {
            e if e == ENOENT => ESRCH,
            // The file is its owner's; the call says what it says for a process of this node.
            e if e == EACCES => EPERM,
            e => e,
        })
}

/// Writes a non-negative number; returns its length.
fn decimal(n: i32, out: &mut [u8; 12]) -> usize {
    let mut digits = [0u8; 12];
    let mut len = 0;
    let mut n = n.unsigned_abs();
    for d in &mut digits {
        *d = b'0' + (n % 10) as u8; // CAST: below 10.
        n /= 10;
        len += 1;
        if n == 0 {
            break;
        }
    }
    for (to, from) in out.iter_mut().zip(digits.iter().take(len).rev()) {
        *to = *from;
    }
    len
}

fn where_pid(pid: i32) -> Result<isize> {
    if pid < 0 {
        return Err(EINVAL);
    }
    let pid = ClusterPid(pid as u32); // CAST: checked above.
    let node = if pid.0 == 0 || pproc::exists(pid) {
        nodes::this()
    } else {
        calls::on_process(pid, |n| {
            if n == nodes::this() {
                return Answer::from_local(if calls::is_here(pid) {
                    Ok(n)
                } else {
                    Err(ESRCH)
                });
            }
            // The origin knows; another node is only a hop on the way.
            Answer::Done(calls::locate(pid))
        })?
    };
    Ok(node.number() as isize) // CAST: at most 1022.
}

/// `/proc/<tgid>/goto` of a process here is written.
///
/// # Errors
/// Those of `migrate`.
pub(crate) fn goto_node(tgid: ClusterPid, node: i32) -> Result {
    migrate::ask(tgid, destination(node)?)
}

/// `/proc/<tgid>/goto` of a process here is read: why it last could not move, or the node it is on.
///
/// # Errors
/// `ENOSPC` if the reader's buffer is too small.
pub(crate) fn goto_show(tgid: ClusterPid, buf: &mut [u8]) -> Result<usize> {
    movement::refusals::show(tgid, buf)
}
