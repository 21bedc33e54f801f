// SPDX-License-Identifier: GPL-2.0

//! The system calls the patched kernel adds. They answer `ENOSYS` while no module is loaded.

use nix::errno::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::ptr;

const SYS_REXEC: libc::c_long = 549;
const SYS_MIGRATE: libc::c_long = 550;
const SYS_WHERE_PID: libc::c_long = 551;

/// Replaces this program by `path` on `node`. Returns only if that failed.
pub(crate) fn rexec(node: i32, path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let table = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (table(argv), table(envp));
    // SAFETY: `path` and the strings in both tables end with a zero and outlive the call; the tables end with NULL.
    unsafe { libc::syscall(SYS_REXEC, node, path.as_ptr(), argv.as_ptr(), envp.as_ptr(), 0u32) };
    Errno::last()
}

/// Moves process `pid` to `node`.
pub(crate) fn migrate(pid: i32, node: i32) -> Result<(), Errno> {
    // SAFETY: All arguments are plain numbers.
    Errno::result(unsafe { libc::syscall(SYS_MIGRATE, pid, node, 0u32) }).map(drop)
}

/// The node on which process `pid` runs.
pub(crate) fn where_pid(pid: i32) -> Result<libc::c_long, Errno> {
    // SAFETY: The argument is a plain number.
    Errno::result(unsafe { libc::syscall(SYS_WHERE_PID, pid) })
}

/// Undoes what the Rust runtime does to SIGPIPE before `main`: an ignored signal would be inherited by the program
/// that `onnode` runs, and our own output into a closed pipe shall end us silently.
pub(crate) fn restore_sigpipe() {
    // SAFETY: No handler is installed, only the default action restored.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
