// SPDX-License-Identifier: GPL-2.0

//! Facts of the current task that the `kernel` crate does not give.

use crate::bindings;
use crate::ids::ClusterPid;
use crate::pproc;

/// The number of the current process.
pub fn current_tgid() -> ClusterPid {
    // SAFETY: No arguments.
    ClusterPid(unsafe { bindings::ssi_current_tgid() })
}

/// The session of the current process; 0 if it has none.
pub fn current_session() -> ClusterPid {
    pproc::ids(current_tgid()).map_or(ClusterPid(0), |i| i.sid)
}

/// The process group of the current process.
pub fn current_group() -> ClusterPid {
    pproc::ids(current_tgid()).map_or(ClusterPid(0), |i| i.pgid)
}

/// Lets others run before trying again what only they can make possible.
pub fn yield_now() {
    // SAFETY: No arguments; the caller may sleep.
    unsafe { kernel::bindings::yield_() }
}

/// What the system call returns that the current process, on its way to user mode, has made.
pub fn set_syscall_result(result: isize) {
    // SAFETY: The current task is a user process on its way to user mode.
    unsafe { bindings::ssi_set_syscall_result(result) }
}
