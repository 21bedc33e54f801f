// SPDX-License-Identifier: GPL-2.0

//! The one way to act on a process that may be anywhere and may move meanwhile; and system calls that name one.

use crate::nodes;
use crate::proto::Locate;
use crate::proto::LocateReq;
use crate::proto::Search;
use crate::proto::SearchOver;
use crate::proto::SearchOverReq;
use crate::proto::SearchReq;
use crate::proto::Syscall;
use crate::proto::SyscallReq;
use ics::CallError;
use kernel::error::code::ERESTARTNOINTR;
use kernel::prelude::*;
use ssi::cred::WireCred;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::pproc;
use ssi::pproc::RemoteCall;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// What one node says to a request about a process.
pub(crate) enum Answer<T> {
    /// Done, or refused for good.
    Done(Result<T>),
    /// The process is not here, but there.
    Moved(NodeId),
    /// The process is not here.
    NotHere,
    /// The node is down.
    Down,
}

impl<T> Answer<T> {
    /// From a message's end.
    pub(crate) fn from_call(r: core::result::Result<T, CallError>) -> Self {
        match r {
            Ok(v) => Self::Done(Ok(v)),
            Err(CallError::Moved(n)) => Self::Moved(n),
            Err(CallError::Down(_)) => Self::Down,
            Err(CallError::Remote(e)) if e == ESRCH => Self::NotHere,
            Err(e) => Self::Done(Err(e.to_errno())),
        }
    }

    /// From an action on this node.
    pub(crate) fn from_local(r: Result<T>) -> Self {
        match r {
            Err(e) if e == ESRCH => Self::NotHere,
            r => Self::Done(r),
        }
    }
}

/// Where the process or thread `pid` executes. May sleep.
///
/// # Errors
/// `ESRCH` if it is nowhere; `EINTR` if the caller was killed.
pub(crate) fn locate(pid: ClusterPid) -> Result<NodeId> {
    if nodes::is_alias(pid) {
        return pid.origin().filter(|n| clms::is_up(*n)).ok_or(ESRCH);
    }
    let Some(origin) = nodes::live_origin(pid) else {
        pid.origin().ok_or(ESRCH)?;
        return search(pid);
    };
    let req = LocateReq {
        pid: Le32::new(pid.0),
    };
    match ics::call::<Locate>(origin, &req, &[]) {
        Ok((rep, _)) => NodeId::new(rep.node.get()).ok_or(EPROTO),
        Err(CallError::Down(_)) => search(pid),
        Err(e) => Err(e.to_errno()),
    }
}

/// Where a process executes whose origin is down: each member is asked whether it has it, or where it went.
///
/// # Errors
/// `ESRCH` if no member does.
fn search(pid: ClusterPid) -> Result<NodeId> {
    let req = LocateReq {
        pid: Le32::new(pid.0),
    };
    for node in clms::view().members.iter() {
        match ics::call::<Locate>(node, &req, &[]) {
            Ok((rep, _)) => return NodeId::new(rep.node.get()).ok_or(EPROTO),
            // A member that dies meanwhile does not have it any more.
            Err(CallError::Down(_)) => {}
            Err(CallError::Remote(e)) if e == ESRCH => {}
            Err(e) => return Err(e.to_errno()),
        }
    }
    Err(ESRCH)
}

/// Whether a process whose origin is down runs anywhere. Waits for movements of it, and nobody who said "no" takes it
/// meanwhile, so that it is not missed on its way.
pub(crate) fn search_all(pid: ClusterPid) -> bool {
    loop {
        let view = clms::view();
        let mut newest = view.id;
        let found = view.members.iter().any(|node| {
            let (found, its_view) = has_it(pid, node);
            newest = newest.max(its_view);
            found
        });
        let req = SearchOverReq {
            pid: Le32::new(pid.0),
        };
        for node in view.members.iter() {
            // Whoever goes down knows nothing of it any more.
            while let Err(CallError::Local(_)) = ics::call::<SearchOver>(node, &req, &[]) {
                ssi::task::yield_now();
            }
        }
        // A member that was not asked may have it.
        if found || newest == view.id && clms::view().id == view.id {
            return found;
        }
    }
}

/// Whether a process runs on `node`, and the view of who answers; 0 if that is down.
fn has_it(pid: ClusterPid, node: NodeId) -> (bool, u64) {
    let req = SearchReq {
        pid: Le32::new(pid.0),
    };
    loop {
        match ics::call::<Search>(node, &req, &[]) {
            Ok((rep, _)) => return (rep.found.get() != 0, rep.view.get()),
            Err(CallError::Down(_)) => return (false, 0),
            // Without memory nobody is declared dead.
            Err(_) => ssi::task::yield_now(),
        }
    }
}

/// Asks the node that executes `pid`, following the process if it moves. May sleep.
///
/// The origin is asked first: most processes never moved, so the first message usually is the last. `ESRCH`
/// is believed only when the origin, asked where the process is, names no other node than the one that said so.
///
/// # Errors
/// `ESRCH`; what `ask` gives.
pub(crate) fn on_process<T>(
    pid: ClusterPid,
    mut ask: impl FnMut(NodeId) -> Answer<T>,
) -> Result<T> {
    let mut node = if nodes::is_alias(pid) {
        locate(pid)?
    } else {
        nodes::origin_of(pid)?
    };
    loop {
        let next = match ask(node) {
            Answer::Done(r) => return r,
            Answer::Moved(n) => n,
            Answer::NotHere | Answer::Down => {
                let n = locate(pid)?;
                if n == node {
                    return Err(ESRCH);
                }
                n
            }
        };
        node = next;
    }
}

/// A hooked system call that found no process here. Fills the call's output; returns its result.
pub(crate) fn syscall(call: &mut RemoteCall) -> isize {
    match syscall_elsewhere(call) {
        Ok(ret) => ret,
        Err(e) => e.to_errno() as isize,
    }
}

fn syscall_elsewhere(call: &mut RemoteCall) -> Result<isize> {
    let cred = WireCred::current()?;
    let pid = call.pid();
    let req = SyscallReq {
        nr: Le32::new(call.nr()),
        pid: Le32::new(pid.0),
        args: call.args().map(Le64::new),
        out_len: Le32::new(call.out_len()),
        cred,
    };
    let (ret, out) = on_process(pid, |node| {
        if node == nodes::this() {
            // It came here after the native look-up missed it: the caller makes its call again.
            return Answer::from_local(if is_here(pid) {
                Err(ERESTARTNOINTR)
            } else {
                Err(ESRCH)
            });
        }
        Answer::from_call(
            ics::call::<Syscall>(node, &req, call.input()).map(|(rep, tail)| (rep.ret.get(), tail)),
        )
    })?;
    call.set_output(&out);
    Ok(ret as isize) // CAST: the wire carries the bits of a signed long.
}

/// Whether a task of this node has the number, after aliases are stripped.
pub(crate) fn is_here(pid: ClusterPid) -> bool {
    pproc::exists(nodes::to_local(pid))
}
