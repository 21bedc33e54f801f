// SPDX-License-Identifier: GPL-2.0

//! `kill` and its relatives for processes of other nodes.

use crate::calls;
use crate::calls::Answer;
use crate::nodes;
use crate::proto::Signal;
use crate::proto::SignalGroup;
use crate::proto::SignalGroupReq;
use crate::proto::SignalMany;
use crate::proto::SignalManyReq;
use crate::proto::SignalReq;
use ics::CallError;
use kernel::prelude::*;
use ssi::cred::WireCred;
use ssi::hooks::SignalCall;
use ssi::ids::ClusterPid;
use ssi::pproc;
use ssi::pproc::Many;
use ssi::pproc::SigInfo;
use ssi::pproc::Target;
use ssi::task;
use ssi::wire::Le32;

/// System call numbers, x86-64. Source: `arch/x86/entry/syscalls/syscall_64.tbl`.
const KILL: u32 = 62;
const TKILL: u32 = 200;
const TGKILL: u32 = 234;
const RT_SIGQUEUEINFO: u32 = 129;
const RT_TGSIGQUEUEINFO: u32 = 297;

/// What a signal call names.
enum Whom {
    One(ClusterPid, Target, i32),
    Many(Many, i32),
}

/// Continues a signal call whose local part found nobody, or has done its members of a group.
pub(crate) fn send(call: SignalCall, info: &SigInfo) -> isize {
    // CAST: the kernel takes these arguments as ints.
    let arg = |i: usize| call.args.get(i).copied().unwrap_or(0) as i32;
    let whom = match call.nr {
        KILL if arg(0) > 0 => Whom::One(ClusterPid(arg(0) as u32), Target::Process, arg(1)),
        KILL => match arg(0) {
            -1 => Whom::Many(Many::All, arg(1)),
            0 => Whom::Many(Many::Group(task::current_group()), arg(1)),
            g => Whom::Many(Many::Group(ClusterPid(g.unsigned_abs())), arg(1)),
        },
        RT_SIGQUEUEINFO => Whom::One(ClusterPid(arg(0) as u32), Target::Process, arg(1)),
        TKILL => Whom::One(
            ClusterPid(arg(0) as u32),
            Target::Thread { tgid: None },
            arg(1),
        ),
        TGKILL | RT_TGSIGQUEUEINFO => Whom::One(
            ClusterPid(arg(1) as u32),
            Target::Thread {
                tgid: Some(ClusterPid(arg(0) as u32)),
            },
            arg(2),
        ),
        _ => return call.native,
    };
    match whom {
        Whom::One(pid, target, sig) => match to_process(pid, target, sig, info) {
            Ok(()) => 0,
            Err(e) => e.to_errno() as isize,
        },
        Whom::Many(whom, sig) => to_many(whom, sig, info, call.native),
    }
}

/// Signals the members on other nodes, after those here were: `native` is what that gave. One message to each node.
///
/// Returns what `kill` does: 0 if one has it; else `EPERM` if one may not have it; else `ESRCH`.
fn to_many(whom: Many, sig: i32, info: &SigInfo, native: isize) -> isize {
    let [eperm, esrch] = [EPERM, ESRCH].map(|e| e.to_errno() as isize);
    let pgid = match whom {
        // From before the join: no member elsewhere.
        Many::Group(g) if g.origin().is_none() => return native,
        Many::Group(g) => g.0,
        Many::All => 0,
    };
    if ![0, eperm, esrch].contains(&native) {
        return native;
    }
    let Ok(cred) = WireCred::current() else {
        return native;
    };
    let req = SignalManyReq {
        pgid: Le32::new(pgid),
        sig: Le32::new(sig as u32), // CAST: same bits, decoded as i32.
        sender_sid: Le32::new(sender_sid()),
        info: info.0,
        cred,
    };
    let mut sent = native == 0;
    let mut refused = native == eperm;
    let mut error = None;
    for node in clms::view().members.iter() {
        if node == nodes::this() {
            continue;
        }
        match ics::call::<SignalMany>(node, &req, &[]) {
            Ok((rep, _)) => {
                sent |= rep.sent.get() != 0;
                refused |= rep.refused.get() != 0;
                if rep.error.get() != 0 {
                    error = Some(-(rep.error.get() as isize)); // CAST: an errno.
                }
            }
            // Its processes are gone with it.
            Err(CallError::Down(_)) => {}
            Err(e) => error = Some(e.to_errno().to_errno() as isize),
        }
    }
    match error {
        _ if sent => 0,
        Some(e) => e,
        None if refused => eperm,
        None => esrch,
    }
}

/// Signals one process or thread, wherever it is, with the current credentials.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`, `EAGAIN`.
pub(crate) fn to_process(pid: ClusterPid, target: Target, sig: i32, info: &SigInfo) -> Result {
    let cred = WireCred::current()?;
    deliver(pid, target, sig, info, sender_sid(), false, cred)
}

/// The session of the current process for the wire; 0 if other nodes may have one of the same number: it is from before
/// the join.
fn sender_sid() -> u32 {
    let sid = Some(task::current_session()).filter(|s| s.origin().is_some());
    sid.map_or(0, |s| s.0)
}

/// Signals one process or thread, wherever it is, on the kernel's behalf.
///
/// # Errors
/// `ESRCH`, `EAGAIN`.
pub(crate) fn forward(pid: ClusterPid, target: Target, sig: i32, info: &SigInfo) -> Result {
    let cred = WireCred::current()?;
    deliver(pid, target, sig, info, 0, true, cred)
}

fn deliver(
    pid: ClusterPid,
    target: Target,
    sig: i32,
    info: &SigInfo,
    sender_sid: u32,
    by_kernel: bool,
    cred: WireCred,
) -> Result {
    let tgid = match target {
        Target::Thread { tgid: Some(t) } => t.0,
        _ => 0,
    };
    calls::on_process(pid, |node| {
        if node == nodes::this() {
            return Answer::from_local(pproc::signal(
                nodes::to_local(pid),
                target,
                sig,
                info,
                sender_sid,
                by_kernel,
            ));
        }
        let req = SignalReq {
            pid: Le32::new(pid.0),
            tgid: Le32::new(tgid),
            process: Le32::new(u32::from(target == Target::Process)),
            sig: Le32::new(sig as u32), // CAST: same bits, decoded as i32.
            by_kernel: Le32::new(u32::from(by_kernel)),
            sender_sid: Le32::new(sender_sid),
            info: info.0,
            cred,
        };
        Answer::from_call(ics::call::<Signal>(node, &req, &[]).map(|_| ()))
    })
}

/// Signals the members on other nodes of a process group, on the kernel's behalf.
pub(crate) fn to_group_elsewhere(pgid: ClusterPid, sig: i32) {
    if pgid.origin().is_none() {
        return; // from before the join: no member elsewhere
    }
    let req = SignalGroupReq {
        pgid: Le32::new(pgid.0),
        sig: Le32::new(sig as u32), // CAST: same bits, decoded as i32.
    };
    for node in clms::view().members.iter() {
        if node != nodes::this() {
            // A node that is gone has no members any more.
            let _gone = ics::call::<SignalGroup>(node, &req, &[]);
        }
    }
}
