// SPDX-License-Identifier: GPL-2.0

//! `/proc/<pid>` of processes on other nodes: asked for with the reader's credentials, answered where they run.

use crate::calls;
use crate::calls::Answer;
use crate::nodes;
use crate::proto::*;
use ics::CallError;
use kernel::prelude::*;
use kernel::str::CStr;
use ssi::cred::WireCred;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::pproc::ProcStat;
use ssi::wire::Le32;

/// Asks the node of `pid`. `/proc` of a process that is here, or nowhere, is not our business.
fn ask<T>(
    pid: ClusterPid,
    f: impl Fn(NodeId, WireCred) -> core::result::Result<T, CallError>,
) -> Result<T> {
    pid.origin().ok_or(ENOENT)?;
    let cred = WireCred::current()?;
    calls::on_process(pid, |node| {
        if node == nodes::this() {
            if calls::is_here(pid) {
                Answer::Done(Err(ENOENT))
            } else {
                Answer::NotHere
            }
        } else {
            Answer::from_call(f(node, cred))
        }
    })
}

/// Copies a reply's tail out; what does not fit is cut.
fn copy(tail: &[u8], buf: &mut [u8]) -> usize {
    let n = tail.len().min(buf.len());
    for (to, from) in buf.iter_mut().zip(tail) {
        *to = *from;
    }
    n
}

/// See `ssi::hooks::VprocHooks::proc_stat`.
pub(crate) fn stat(pid: ClusterPid, path: &CStr) -> Result<ProcStat> {
    ask(pid, |node, cred| {
        let req = ProcStatReq {
            pid: Le32::new(pid.0),
            cred,
        };
        ics::call::<crate::proto::ProcStat>(node, &req, path.to_bytes()).map(|(r, _)| ProcStat {
            mode: r.mode.get(),
            uid: r.uid.get(),
            gid: r.gid.get(),
            nlink: r.nlink.get(),
            size: r.size.get(),
        })
    })
}

/// See `ssi::hooks::VprocHooks::proc_read`.
pub(crate) fn read(pid: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    let tail = ask(pid, |node, cred| {
        let req = ProcReadReq {
            pid: Le32::new(pid.0),
            max: Le32::new(buf.len() as u32), // CAST: C gives at most 256 KiB.
            cred,
        };
        ics::call::<ProcRead>(node, &req, path.to_bytes()).map(|(_, t)| t)
    })?;
    Ok(copy(&tail, buf))
}

/// See `ssi::hooks::VprocHooks::proc_write`.
pub(crate) fn write(pid: ClusterPid, path: &CStr, data: &[u8]) -> Result<usize> {
    let mut tail = KVVec::new();
    tail.extend_from_slice(path.to_bytes(), GFP_KERNEL)?;
    tail.extend_from_slice(data, GFP_KERNEL)?;
    ask(pid, |node, cred| {
        let req = ProcWriteReq {
            pid: Le32::new(pid.0),
            path_len: Le32::new(path.to_bytes().len() as u32), // CAST: C gives short paths.
            cred,
        };
        ics::call::<ProcWrite>(node, &req, &tail).map(|(r, _)| r.written.get() as usize)
    })
}

/// See `ssi::hooks::VprocHooks::proc_readlink`.
pub(crate) fn readlink(pid: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    let tail = ask(pid, |node, cred| {
        let req = ProcReadlinkReq {
            pid: Le32::new(pid.0),
            cred,
        };
        ics::call::<ProcReadlink>(node, &req, path.to_bytes()).map(|(_, t)| t)
    })?;
    Ok(copy(&tail, buf))
}

/// See `ssi::hooks::VprocHooks::proc_readdir`.
pub(crate) fn readdir(pid: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    let tail = ask(pid, |node, cred| {
        let req = ProcReaddirReq {
            pid: Le32::new(pid.0),
            cred,
        };
        ics::call::<ProcReaddir>(node, &req, path.to_bytes()).map(|(_, t)| t)
    })?;
    Ok(copy(&tail, buf))
}
