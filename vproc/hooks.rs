// SPDX-License-Identifier: GPL-2.0

//! The kernel's call-outs, handed to the file that does each.

use crate::calls;
use crate::children;
use crate::cluster_calls;
use crate::events;
use crate::listing;
use crate::movement;
use crate::procfs;
use crate::signals;
use kernel::prelude::*;
use kernel::str::CStr;
use ssi::hooks::ClusterCall;
use ssi::hooks::SignalCall;
use ssi::hooks::UserReturn;
use ssi::hooks::VprocAtomicHooks;
use ssi::hooks::VprocHooks;
use ssi::hooks::Wait;
use ssi::hooks::Waited;
use ssi::ids::ClusterPid;
use ssi::pproc::ProcStat;
use ssi::pproc::RemoteCall;
use ssi::pproc::SigInfo;

/// Proof that the hooks have our table.
pub(crate) type Registration = ssi::hooks::Registration<Hooks, AtomicHooks>;

/// Gives the kernel our table.
///
/// # Errors
/// Those of `ssi::hooks::Registration::new`.
pub(crate) fn register(module: &'static ThisModule) -> Result<Registration> {
    Registration::new(module)
}

/// Hooks that may sleep.
pub(crate) struct Hooks;

#[vtable]
impl VprocHooks for Hooks {
    fn syscall(call: &mut RemoteCall) -> isize {
        calls::syscall(call)
    }

    fn signal(call: SignalCall, info: &SigInfo) -> isize {
        signals::send(call, info)
    }

    fn user_return() -> UserReturn {
        movement::user_return()
    }

    fn arrive(nr: ClusterPid, movement: u64) -> Result {
        movement::make::arrive(nr, movement)
    }

    fn exit(tgid: ClusterPid) {
        events::parent_exits(tgid)
    }

    fn proc_stat(nr: ClusterPid, path: &CStr) -> Result<ProcStat> {
        procfs::stat(nr, path)
    }

    fn proc_read(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
        procfs::read(nr, path, buf)
    }

    fn proc_write(nr: ClusterPid, path: &CStr, data: &[u8]) -> Result<usize> {
        procfs::write(nr, path, data)
    }

    fn proc_readlink(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
        procfs::readlink(nr, path, buf)
    }

    fn proc_readdir(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
        procfs::readdir(nr, path, buf)
    }

    fn proc_next(lister: usize, from: u32) -> Option<ClusterPid> {
        listing::next(lister, from)
    }

    fn goto_node(tgid: ClusterPid, node: i32) -> Result {
        cluster_calls::goto_node(tgid, node)
    }

    fn goto_show(tgid: ClusterPid, buf: &mut [u8]) -> Result<usize> {
        cluster_calls::goto_show(tgid, buf)
    }

    fn cluster_call(call: ClusterCall<'_>) -> Result<isize> {
        cluster_calls::run(call)
    }
}

/// Hooks that must not sleep.
pub(crate) struct AtomicHooks;

#[vtable]
impl VprocAtomicHooks for AtomicHooks {
    fn wait(parent: ClusterPid, wait: Wait) -> Waited {
        children::wait(parent, wait)
    }
}
