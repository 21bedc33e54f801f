// SPDX-License-Identifier: GPL-2.0

//! Services of the kernel's built-in half (`kernel/ssi/*.c`) for the process space.
//!
//! Not for decisions: each function does one step to tasks and numbers of this node.

use crate::bindings;
use crate::ids::ClusterPid;
use crate::ids::NodeId;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;

/// Reasons for which a number stays taken although no task of this node has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins(u32);

impl Pins {
    /// It is of this node's range and in use on another node.
    pub const ORIGIN: Self = Self(bindings::SSI_PIN_ORIGIN);
    /// It is a child, on another node, of a process here.
    pub const CHILD: Self = Self(bindings::SSI_PIN_CHILD);
    /// It is of another node's range and its process runs here.
    pub const EXEC: Self = Self(bindings::SSI_PIN_EXEC);
    /// Its process is here and has children on other nodes.
    pub const PARENT: Self = Self(bindings::SSI_PIN_PARENT);
    /// A movement of it is under way.
    pub const MOVE: Self = Self(bindings::SSI_PIN_MOVE);

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Keeps number `nr`, allocating it if need be. May sleep.
///
/// # Errors
/// `ENOMEM`; `EINVAL` for a number that no process can have.
pub fn pin(nr: ClusterPid, why: Pins) -> Result {
    // SAFETY: The function takes numbers only.
    to_result(unsafe { bindings::pproc_pin(nr.0, why.0) })
}

/// Drops reasons to keep `nr`; without any left it is free once no task has it. May sleep.
pub fn unpin(nr: ClusterPid, why: Pins) {
    // SAFETY: The function takes numbers only.
    unsafe { bindings::pproc_unpin(nr.0, why.0) }
}

/// The reasons for which `nr` is kept.
pub fn pins(nr: ClusterPid) -> Pins {
    // SAFETY: The function takes a number only.
    Pins(unsafe { bindings::pproc_pins(nr.0) })
}

/// Whether a process or thread of that number lives here, or is a zombie of this node. One that is not yet alive
/// here, or already gone elsewhere, does not count.
pub fn exists(nr: ClusterPid) -> bool {
    // SAFETY: The function takes a number only.
    unsafe { bindings::pproc_exists(nr.0) }
}

/// Whether a task of this node has that number, whatever its state.
pub fn has_task(nr: ClusterPid) -> bool {
    // SAFETY: The function takes a number only.
    unsafe { bindings::pproc_has_task(nr.0) }
}

/// The least number `>= from` of a process here; kernel threads are left out.
pub fn next_process(from: u32) -> Option<ClusterPid> {
    // SAFETY: The function takes a number only.
    match unsafe { bindings::pproc_next_tgid(from) } {
        u32::MAX => None,
        nr => Some(ClusterPid(nr)),
    }
}

/// Who a process or thread of this node is.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// Its process.
    pub tgid: ClusterPid,
    /// Its parent; in wire form if `remote_parent`, else as it is on this node.
    pub ppid: ClusterPid,
    /// Its process group.
    pub pgid: ClusterPid,
    /// Its session.
    pub sid: ClusterPid,
    /// Real user.
    pub uid: u32,
    /// Signal for its parent at its end; negative for a thread.
    pub exit_signal: i32,
    /// Threads of its process.
    pub n_threads: u32,
    /// Whether its parent is on another node.
    pub remote_parent: bool,
}

impl Ids {
    pub(crate) fn from_c(c: &bindings::ssi_ids) -> Self {
        Self {
            tgid: ClusterPid(c.tgid),
            ppid: ClusterPid(c.ppid),
            pgid: ClusterPid(c.pgid),
            sid: ClusterPid(c.sid),
            uid: c.uid,
            exit_signal: c.exit_signal,
            n_threads: c.nr_threads,
            remote_parent: c.remote_parent != 0,
        }
    }
}

/// Identity of `nr`.
///
/// # Errors
/// `ESRCH` if no task here has that number.
pub fn ids(nr: ClusterPid) -> Result<Ids> {
    let mut c = bindings::ssi_ids::default();
    // SAFETY: `c` is ours and lives through the call.
    to_result(unsafe { bindings::pproc_ids(nr.0, &mut c) })?;
    Ok(Ids::from_c(&c))
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// There is none of that number here.
    Gone,
    /// It runs or sleeps.
    Alive,
    /// It waits for something that no signal ends.
    Uninterruptible,
    /// It is stopped.
    Stopped,
    /// Its first thread has ended, others have not.
    Leaderless,
    /// It has ended, and its parent has not waited for it.
    Dead,
}

/// What a process of this node does. Any context.
pub fn process_state(nr: ClusterPid) -> ProcessState {
    // SAFETY: The function takes a number only.
    match unsafe { bindings::ssi_process_state(nr.0) } {
        bindings::SSI_PROCESS_ALIVE => ProcessState::Alive,
        bindings::SSI_PROCESS_UNINTERRUPTIBLE => ProcessState::Uninterruptible,
        bindings::SSI_PROCESS_STOPPED => ProcessState::Stopped,
        bindings::SSI_PROCESS_LEADERLESS => ProcessState::Leaderless,
        bindings::SSI_PROCESS_DEAD => ProcessState::Dead,
        _ => ProcessState::Gone,
    }
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One thread; its process is checked if given.
    Thread {
        /// The process that the sender named.
        tgid: Option<ClusterPid>,
    },
    /// A whole process.
    Process,
}

impl Target {
    /// The kernel's `enum pid_type`: `PIDTYPE_PID` and `PIDTYPE_TGID`.
    pub const fn pid_type(self) -> u32 {
        match self {
            Self::Thread { .. } => 0,
            Self::Process => 1,
        }
    }
}

/// The kernel's `struct kernel_siginfo`, opaque.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct SigInfo(pub [u8; SigInfo::LEN]);

impl SigInfo {
    /// Bytes of a `struct kernel_siginfo`.
    pub const LEN: usize = 48;
}

/// Signals a process or thread of this node for a sender elsewhere, judged with the current credentials, or
/// with none if `by_kernel`.
///
/// `sender_sid` lets SIGCONT through within a session. Source: `kernel/signal.c` `group_send_sig_info()`.
///
/// # Errors
/// `ESRCH` none such; `EPERM`; `EINVAL` bad signal; `EAGAIN` queue full.
pub fn signal(
    nr: ClusterPid,
    target: Target,
    sig: i32,
    info: &SigInfo,
    sender_sid: u32,
    by_kernel: bool,
) -> Result {
    let tgid = match target {
        Target::Thread { tgid: Some(t) } => t.0,
        _ => 0,
    };
    // SAFETY: `info` is as large as a `struct kernel_siginfo` and lives through the call.
    to_result(unsafe {
        bindings::pproc_signal(
            tgid,
            nr.0,
            target.pid_type(),
            sig,
            info.0.as_ptr().cast(),
            sender_sid,
            by_kernel,
        )
    })
}

/// Which processes a signal to many is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// The members of a process group.
    Group(ClusterPid),
    /// Everybody but init.
    All,
}

/// What became of a signal to many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signalled {
    /// Processes that have it.
    pub sent: u32,
    /// Processes that the sender may not signal.
    pub refused: u32,
    /// Last other error, or 0.
    pub error: i32,
}

/// Signals processes of this node for a sender elsewhere, judged with the current credentials. Those on their way to
/// or from this node are left out where they do not live. Source: `kernel/signal.c` `kill_something_info()`.
///
/// # Errors
/// `EINVAL` bad signal.
pub fn signal_many(whom: Many, sig: i32, info: &SigInfo, sender_sid: u32) -> Result<Signalled> {
    let pgid = match whom {
        Many::Group(g) => g.0,
        Many::All => 0,
    };
    let mut n = bindings::ssi_signalled::default();
    // SAFETY: `info` is as large as a `struct kernel_siginfo`; it and `n` live through the call.
    to_result(unsafe {
        bindings::pproc_signal_many(pgid, sig, info.0.as_ptr().cast(), sender_sid, &mut n)
    })?;
    Ok(Signalled {
        sent: n.sent,
        refused: n.refused,
        error: n.error,
    })
}

/// A signal of the kernel for the members here of a process group.
///
/// # Errors
/// `ESRCH` if it has none.
pub fn signal_group(pgid: ClusterPid, sig: i32) -> Result {
    // SAFETY: The function takes numbers only.
    to_result(unsafe { bindings::pproc_signal_pgrp(pgid.0, sig) })
}

/// How a process ended, and what it used, children included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    /// As `task_struct.exit_code`.
    pub status: i32,
    /// Real user.
    pub uid: u32,
    /// Signal for the parent.
    pub exit_signal: i32,
    /// User time in nanoseconds.
    pub utime_ns: u64,
    /// System time in nanoseconds.
    pub stime_ns: u64,
    /// Minor faults.
    pub min_flt: u64,
    /// Major faults.
    pub maj_flt: u64,
    /// Largest resident set in KiB.
    pub maxrss_kib: u64,
}

/// What happened where nobody could sleep.
pub enum Event {
    /// A process whose parent is on another node has ended.
    Exit {
        /// The process.
        nr: ClusterPid,
        /// Its parent.
        ppid: ClusterPid,
        /// How it ended.
        exit: Exit,
    },
    /// A kept number has lost its last task here.
    Idle(ClusterPid),
    /// A signal came for a process that has been given to another node.
    Signal {
        /// Process or thread.
        nr: ClusterPid,
        /// Whether `nr` is a process.
        process: bool,
        /// Signal number.
        sig: i32,
        /// Its information.
        info: SigInfo,
    },
    /// The kernel signalled a process group that may have members elsewhere.
    Group {
        /// The group.
        pgid: ClusterPid,
        /// Signal number.
        sig: i32,
    },
}

/// Waits for the next event; `None` after [`stop_events`]. Sleeps.
pub fn wait_event() -> Option<Event> {
    loop {
        let mut ev = bindings::ssi_event::default();
        // SAFETY: `ev` is ours and lives through the call.
        if unsafe { bindings::pproc_event_wait(&mut ev) } != 0 {
            return None;
        }
        let nr = ClusterPid(ev.nr);
        match ev.kind {
            bindings::ssi_event_kind_SSI_EVENT_EXIT => {
                return Some(Event::Exit {
                    nr,
                    ppid: ClusterPid(ev.ppid),
                    exit: Exit {
                        status: ev.status,
                        uid: ev.uid,
                        exit_signal: ev.exit_signal,
                        utime_ns: ev.utime_ns,
                        stime_ns: ev.stime_ns,
                        min_flt: ev.min_flt,
                        maj_flt: ev.maj_flt,
                        maxrss_kib: ev.maxrss_kib,
                    },
                })
            }
            bindings::ssi_event_kind_SSI_EVENT_IDLE => return Some(Event::Idle(nr)),
            bindings::ssi_event_kind_SSI_EVENT_SIGNAL => {
                return Some(Event::Signal {
                    nr,
                    process: ev.type_ == Target::Process.pid_type(),
                    sig: ev.sig,
                    info: SigInfo(ev.info),
                })
            }
            bindings::ssi_event_kind_SSI_EVENT_PGRP => {
                return Some(Event::Group {
                    pgid: nr,
                    sig: ev.sig,
                })
            }
            // A kind of a newer kernel; registration has refused such a kernel.
            _ => continue,
        }
    }
}

/// Queues [`Event::Idle`] for a kept number. Does not sleep.
pub fn poke(nr: ClusterPid) {
    // SAFETY: The function takes a number only.
    unsafe { bindings::pproc_poke(nr.0) }
}

/// Makes [`wait_event`] return `None` once its queue is empty.
pub fn stop_events() {
    // SAFETY: No arguments; may be called at any time.
    unsafe { bindings::pproc_event_stop() }
}

/// Tells a process here that its child on another node has ended. Returns whether it will wait for it.
pub fn child_ended(parent: ClusterPid, child: ClusterPid, exit: &Exit) -> bool {
    let ev = bindings::ssi_event {
        nr: child.0,
        status: exit.status,
        uid: exit.uid,
        exit_signal: exit.exit_signal,
        utime_ns: exit.utime_ns,
        stime_ns: exit.stime_ns,
        ..Default::default()
    };
    let mut ignored = false;
    // SAFETY: Both live through the call.
    unsafe { bindings::pproc_child_event(parent.0, &ev, &mut ignored) };
    !ignored
}

/// Makes the threads of a process here look at their children again.
pub fn wake_waiters(parent: ClusterPid) {
    // SAFETY: The function takes a number only.
    unsafe { bindings::pproc_wake_waiters(parent.0) }
}

/// Makes this node's init the parent of a process whose parent elsewhere is gone.
///
/// # Errors
/// `ESRCH` if it is not here, is dead, or has a parent here.
pub fn reparent_to_init(nr: ClusterPid) -> Result {
    // SAFETY: The function takes a number only.
    to_result(unsafe { bindings::pproc_reparent_to_init(nr.0) })
}

/// Numbers processes for `node` and turns the hooks on. The calling kernel thread becomes the agent, the local
/// parent of every process whose real parent is on another node; it must not end before [`leave`].
///
/// # Errors
/// `EBUSY` if they are on; `ENOENT` if no hooks are registered.
pub fn join_as_agent(node: NodeId) -> Result {
    // SAFETY: The current task is a kernel thread that stays, as the function's contract says.
    to_result(unsafe { bindings::pproc_join(node.number(), bindings::ssi_kthread_current()) })
}

/// Turns the hooks off. No number may be kept any more.
pub fn leave() {
    // SAFETY: No arguments.
    unsafe { bindings::pproc_leave() }
}

/// Whether the current credentials may move a process of this node.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub fn may_move(nr: ClusterPid) -> Result {
    // SAFETY: The function takes a number only.
    to_result(unsafe { bindings::pproc_may_move(nr.0) })
}

/// A system call on a process, made on one node and run on another.
pub struct RemoteCall(pub(crate) bindings::ssi_remote_call);

impl RemoteCall {
    /// Bytes that either buffer holds.
    pub const BUF: usize = 128;

    /// Builds a call from what came over the wire; `input` beyond [`Self::BUF`] is cut.
    pub fn new(nr: u32, pid: ClusterPid, args: [u64; 6], input: &[u8], out_len: u32) -> Self {
        let mut c = bindings::ssi_remote_call {
            nr,
            pid: pid.0,
            args,
            in_len: input.len().min(Self::BUF) as u32, // CAST: at most 128.
            out_len,
            ..Default::default()
        };
        for (to, from) in c.in_.iter_mut().zip(input) {
            *to = *from;
        }
        Self(c)
    }

    /// The system call's number.
    pub fn nr(&self) -> u32 {
        self.0.nr
    }

    /// The process or thread it acts on.
    pub fn pid(&self) -> ClusterPid {
        ClusterPid(self.0.pid)
    }

    /// The arguments as in the registers.
    pub fn args(&self) -> &[u64; 6] {
        &self.0.args
    }

    /// What the input pointer points to.
    pub fn input(&self) -> &[u8] {
        self.0
            .in_
            .get(..self.0.in_len as usize)
            .unwrap_or(&self.0.in_)
    }

    /// Bytes that the caller wants back.
    pub fn out_len(&self) -> u32 {
        self.0.out_len
    }

    /// What the output pointer is to receive.
    pub fn output(&self) -> &[u8] {
        self.0
            .out
            .get(..self.0.out_len as usize)
            .unwrap_or(&self.0.out)
    }

    /// Sets what the output pointer receives; more than [`Self::BUF`] is cut.
    pub fn set_output(&mut self, bytes: &[u8]) {
        for (to, from) in self.0.out.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// Runs the call here, with the current credentials. Only in a kernel thread. Returns the call's result.
    pub fn run(&mut self) -> isize {
        // SAFETY: `self.0` is valid; lengths are checked by the function.
        unsafe { bindings::pproc_exec_call(&mut self.0) as isize }
    }
}

/// Attributes of a file below `/proc/<pid>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcStat {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
}

/// Turns a byte count or negative errno into a `Result`.
fn length(ret: isize) -> Result<usize> {
    if ret < 0 {
        // CAST: errnos fit.
        Err(to_result(ret as i32).err().unwrap_or(EIO))
    } else {
        Ok(ret as usize)
    }
}

/// Attributes of `path` below `/proc/<nr>` of this node.
///
/// # Errors
/// `ENOENT`, `EACCES` and what the look-up gives.
pub fn proc_stat(nr: ClusterPid, path: &CStr) -> Result<ProcStat> {
    let mut st = bindings::ssi_proc_stat::default();
    // SAFETY: `path` is a C string; both live through the call.
    to_result(unsafe { bindings::pproc_proc_stat(nr.0, path.as_char_ptr(), &mut st) })?;
    Ok(ProcStat {
        mode: st.mode,
        uid: st.uid,
        gid: st.gid,
        nlink: st.nlink,
        size: st.size,
    })
}

/// Reads the text of `path` below `/proc/<nr>` of this node into `buf`. Only in a kernel thread.
///
/// # Errors
/// What opening and reading give.
pub fn proc_read(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length; `path` is a C string.
    length(unsafe {
        bindings::pproc_proc_read(nr.0, path.as_char_ptr(), buf.as_mut_ptr().cast(), buf.len())
    })
}

/// Writes `path` below `/proc/<nr>` of this node. Only in a kernel thread.
///
/// # Errors
/// What opening and writing give.
pub fn proc_write(nr: ClusterPid, path: &CStr, data: &[u8]) -> Result<usize> {
    // SAFETY: `data` is readable for its length; `path` is a C string.
    length(unsafe {
        bindings::pproc_proc_write(nr.0, path.as_char_ptr(), data.as_ptr().cast(), data.len())
    })
}

/// Reads the link `path` below `/proc/<nr>` of this node. Only in a kernel thread.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EINVAL` if it is none.
pub fn proc_readlink(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length; `path` is a C string.
    length(unsafe {
        bindings::pproc_proc_readlink(nr.0, path.as_char_ptr(), buf.as_mut_ptr().cast(), buf.len())
    })
}

/// Lists the directory `path` below `/proc/<nr>` of this node: type, length of the name, name, and so on.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES`.
pub fn proc_readdir(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length; `path` is a C string.
    length(unsafe {
        bindings::pproc_proc_readdir(nr.0, path.as_char_ptr(), buf.as_mut_ptr().cast(), buf.len())
    })
}
