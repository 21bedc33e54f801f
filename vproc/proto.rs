// SPDX-License-Identifier: GPL-2.0

//! The messages of the process space. `Documentation/protocol.rst` has the same list.

use ssi::cred::WireCred;
use ssi::wire::Le32;
use ssi::wire::Le64;

ics::service! {
    /// What the nodes tell each other of processes.
    service Vproc { id: 3, version: 1 }

    /// Asked of the origin node (or its surrogate): where does a process run?
    /// Errors: `ESRCH` no such process.
    op 1 Locate (class: L1) { pid: Le32 } -> { node: Le32 }

    /// Signals a process or thread. Source: `kernel/signal.c` `group_send_sig_info()`.
    /// Errors: `ESRCH`, `EPERM` by the sender's credentials, `EINVAL`, `EAGAIN`; `Moved(node)`: ask there.
    op 2 Signal (class: L4) {
        pid: Le32, tgid: Le32, process: Le32, sig: Le32, by_kernel: Le32, sender_sid: Le32,
        info: [u8; 48], cred: WireCred,
    } -> { }

    /// Runs a system call on a process. The tail holds what the input pointer points to, the reply's tail what
    /// the output pointer receives. `ret` is the call's result, negative for an errno.
    /// Errors: `ESRCH`; `Moved(node)`.
    op 3 Syscall (class: L0) {
        nr: Le32, pid: Le32, args: [Le64; 6], out_len: Le32, cred: WireCred,
    } -> { ret: Le64 }

    /// Attributes of a file in `/proc/<pid>`, its path in the tail (empty: the directory itself).
    /// Errors: `ENOENT`, `EACCES`; `Moved(node)`.
    op 4 ProcStat (class: L0) { pid: Le32, cred: WireCred } -> {
        mode: Le32, uid: Le32, gid: Le32, nlink: Le32, size: Le64,
    }

    /// Text of a file there, in the reply's tail.
    op 5 ProcRead (class: L0) { pid: Le32, max: Le32, cred: WireCred } -> { }

    /// Writes a file there: the tail is the path, `path_len` bytes, then the data. Writing `goto` waits for the movement.
    op 6 ProcWrite (class: P) { pid: Le32, path_len: Le32, cred: WireCred } -> { written: Le32 }

    /// Text of a link there, in the reply's tail.
    op 7 ProcReadlink (class: L0) { pid: Le32, cred: WireCred } -> { }

    /// Names in a directory there, in the reply's tail: type, length, name.
    op 8 ProcReaddir (class: L0) { pid: Le32, cred: WireCred } -> { }

    /// Numbers of the processes that execute on the asked node, ascending, in the reply's tail.
    op 9 List (class: L0) { } -> { }

    /// A signal of the kernel for the members of a process group on the asked node.
    op 10 SignalGroup (class: L4) { pgid: Le32, sig: Le32 } -> { members: Le32 }

    /// To the parent's node: a child elsewhere has ended.
    /// Errors: `ESRCH` no such parent; `Moved(node)`.
    op 11 ChildEnded (class: L1) {
        parent: Le32, child: Le32, status: Le32, uid: Le32, exit_signal: Le32,
        utime_ns: Le64, stime_ns: Le64, min_flt: Le64, maj_flt: Le64, maxrss_kib: Le64,
    } -> { }

    /// To the origin: the process has ended and its status waits on node `record_at` for its parent.
    op 12 Zombie (class: L2) { pid: Le32, record_at: Le32 } -> { }

    /// To the origin: nobody uses the number any more.
    op 13 Gone (class: L3) { pid: Le32 } -> { }

    /// To a child's node: its parent is dead.
    /// Errors: `ESRCH`; `Moved(node)`.
    op 14 Orphan (class: L1) { child: Le32 } -> { }

    /// To the destination: make a process from the image in the tail. A program to start (`kind` 1) is parked when
    /// this ends; a moved process (`kind` 2) then waits for `Pages` and `Complete`. May take long.
    /// `errno`: 0, or why it cannot be; the reply's tail then names the cause.
    op 15 Prepare (class: P) { pid: Le32, kind: Le32, movement: Le64 } -> { errno: Le32 }

    /// To the destination of a movement that will not be: destroy what was prepared.
    op 16 Abort (class: L2) { pid: Le32, movement: Le64 } -> { }

    /// To the origin: the commit point. The asker gives the process to `to`. `answer`: 1 committed, 2 refused for good
    /// (`to` is no member), 3 the process is not at the asker.
    op 17 Move (class: L1) { pid: Le32, to: Le32, movement: Le64 } -> { answer: Le32 }

    /// From the origin to the destination: the process is yours, let it run.
    op 18 Activate (class: L2) { pid: Le32, movement: Le64 } -> { }

    /// Pages of memory. The tail is `n_pages` addresses, then the contents of those that are no guard pages.
    op 19 Pages (class: L3) { pid: Le32, n_pages: Le32, movement: Le64 } -> { }

    /// Signals that were pending, or came, until the source let go. The tail is entries of
    /// `process u32, sig u32, info[48]`.
    op 20 Late (class: L2) { pid: Le32, movement: Le64 } -> { }

    /// To the destination: that was the last page. Ends when the process is parked. `errno` and tail as in `Prepare`.
    op 21 Complete (class: P) { pid: Le32, movement: Le64 } -> { errno: Le32 }

    /// To the destination, when the origin is down: the commit point. `answer` as of `Move`.
    op 22 Judge (class: L1) { pid: Le32, movement: Le64 } -> { answer: Le32 }

    /// From the destination to the origin, when the source is down: was that committed? `answer` as of `Move`.
    /// Errors: `EAGAIN` the origin has not seen the source's end yet.
    op 23 Ask (class: L1) {
        pid: Le32, from: Le32, incarnation: Le64, movement: Le64,
    } -> { answer: Le32 }

    /// To every member: the process died with its node. `kept`: its status waits at the asked node.
    op 24 Lost (class: L1) { pid: Le32 } -> { kept: Le32 }

    /// To a node that has just joined: these numbers of its range, in the tail, are in use at the sender.
    op 25 Here (class: L2) { } -> { }

    /// Signals the members of group `pgid` on the asked node, or with 0 every process there but init, by the sender's
    /// credentials. `error`: last errno but `EPERM`, or 0.
    /// Errors: `EINVAL`.
    op 26 SignalMany (class: L4) {
        pgid: Le32, sig: Le32, sender_sid: Le32, info: [u8; 48], cred: WireCred,
    } -> { sent: Le32, refused: Le32, error: Le32 }

    /// When the origin of a process is down: does it run on the asked node? Answered when no movement of it from or to
    /// there is under way. After a "no" it does not come there until `SearchOver`, or the end of the asker. `view` is the asked node's.
    /// Errors: `ENOMEM`.
    op 27 Search (class: P) { pid: Le32 } -> { found: Le32, view: Le64 }

    /// The process was found, or is dead.
    op 28 SearchOver (class: L1) { pid: Le32 } -> { }
}
