// SPDX-License-Identifier: GPL-2.0

//! Steps of a movement that the kernel's built-in half does to a process (`kernel/ssi/move.c`).
//!
//! Not for the order of the steps or for messages: that is `vproc`'s.

use crate::bindings;
use crate::ids::ClusterPid;
use crate::pproc::Ids;
use crate::pproc::SigInfo;
use crate::pproc::Target;
use crate::refusal::Refusal;
use crate::wire::Le32;
use crate::wire::Le64;
use core::mem::size_of;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// A process to be made on this node.
#[derive(Clone, Copy, Debug)]
pub struct Spawn {
    /// The movement it belongs to.
    pub movement: u64,
    /// Its number.
    pub nr: ClusterPid,
    /// Its parent, in wire form.
    pub ppid: ClusterPid,
    /// Its process group.
    pub pgid: ClusterPid,
    /// Its session.
    pub sid: ClusterPid,
    /// Signal for its parent at its end.
    pub exit_signal: i32,
    /// Whether it leads its session.
    pub session_leader: bool,
}

impl Spawn {
    fn to_c(self) -> bindings::ssi_spawn {
        bindings::ssi_spawn {
            movement: self.movement,
            nr: self.nr.0,
            ppid: self.ppid.0,
            pgid: self.pgid.0,
            sid: self.sid.0,
            exit_signal: self.exit_signal,
            session_leader: u32::from(self.session_leader),
        }
    }

    /// Makes the process: it takes over its number, then runs `VprocHooks::arrive`. Only in the agent.
    ///
    /// # Errors
    /// `EEXIST` if the number has a task; `ESRCH` if it is not kept; `ENOMEM`, `EAGAIN`.
    pub fn start(self) -> Result {
        // SAFETY: The argument lives through the call.
        to_result(unsafe { bindings::pproc_spawn(&self.to_c()) })
    }

    /// Takes its place in group and session. Only in the new process.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL`.
    pub fn take_ids(self) -> Result {
        // SAFETY: The argument lives through the call.
        to_result(unsafe { bindings::pproc_arrive_ids(&self.to_c()) })
    }
}

/// Whether the current process may leave its node at all; says who it is and whether it leads its session.
///
/// # Errors
/// `EPERM` init; `EBUSY` threads, tracing; `EXDEV` namespaces, numbers from before the join; `EAGAIN` exiting.
pub fn leave_check() -> core::result::Result<(Ids, bool), Refusal> {
    let mut ids = bindings::ssi_ids::default();
    let mut leader = 0;
    let mut why = [0u8; Refusal::TEXT];
    // SAFETY: All live through the call; `why` is writable for its length.
    to_result(unsafe {
        bindings::pproc_leave_check(&mut ids, &mut leader, why.as_mut_ptr().cast(), why.len())
    })
    .map_err(|e| Refusal::new(e, &why))?;
    Ok((Ids::from_c(&ids), leader != 0))
}

/// A signal that was pending when its process left, in wire form.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Late {
    /// 1 if it is for the process, 0 for its thread.
    pub process: Le32,
    /// Signal number.
    pub sig: Le32,
    /// The kernel's `struct kernel_siginfo`.
    pub info: [u8; SigInfo::LEN],
}

impl Late {
    /// Whom it is for.
    pub fn target(&self) -> Target {
        if self.process.get() != 0 {
            Target::Process
        } else {
            Target::Thread { tgid: None }
        }
    }
}

/// The most pending signals that a process can leave with.
pub const MAX_LATE: usize = 1024;

/// From now on signals for the current process are forwarded. Returns those that are pending; they stay pending
/// too, should the process stay.
///
/// # Errors
/// `EAGAIN` if it is being killed; `E2BIG` with more than [`MAX_LATE`]; `ENOMEM`.
pub fn mark_moved() -> Result<KVVec<Late>> {
    let mut c = KVVec::<bindings::ssi_pending>::with_capacity(MAX_LATE, GFP_KERNEL)?;
    // SAFETY: The vector has room for `MAX_LATE` entries.
    let n = unsafe { bindings::pproc_mark_moved(c.as_mut_ptr(), MAX_LATE as u32) };
    if n < 0 {
        return Err(to_result(n).err().unwrap_or(EAGAIN));
    }
    // SAFETY: The function has initialised the first `n <= MAX_LATE` entries.
    unsafe { c.inc_len(n as usize) };
    let mut late = KVVec::with_capacity(c.len(), GFP_KERNEL)?;
    for p in &c {
        let entry = Late {
            process: Le32::new(p.process),
            sig: Le32::new(p.sig as u32), // CAST: positive.
            info: p.info,
        };
        late.push(entry, GFP_KERNEL)?;
    }
    Ok(late)
}

/// Ends what [`mark_moved`] began: the current process stays.
pub fn unmark_moved() {
    // SAFETY: No arguments; acts on the current process.
    unsafe { bindings::pproc_unmark_moved() }
}

/// The most children that a process can leave with.
pub const MAX_CHILDREN: usize = 4096;

/// The children on this node of the current process, with their groups.
///
/// # Errors
/// `E2BIG` with more than [`MAX_CHILDREN`]; `ENOMEM`.
pub fn children() -> Result<KVVec<(ClusterPid, ClusterPid)>> {
    let mut nrs = KVVec::from_elem(0u32, MAX_CHILDREN, GFP_KERNEL)?;
    let mut pgids = KVVec::from_elem(0u32, MAX_CHILDREN, GFP_KERNEL)?;
    // SAFETY: Both are writable for `MAX_CHILDREN` entries.
    let n = unsafe {
        bindings::pproc_children(nrs.as_mut_ptr(), pgids.as_mut_ptr(), MAX_CHILDREN as u32)
    };
    if n < 0 {
        return Err(E2BIG);
    }
    let mut out = KVVec::new();
    for (nr, pgid) in nrs.iter().zip(pgids.iter()).take(n as usize) {
        out.push((ClusterPid(*nr), ClusterPid(*pgid)), GFP_KERNEL)?;
    }
    Ok(out)
}

/// Lets go of everything that would notice the end of the current process here.
///
/// # Errors
/// `ENOMEM`, after which nothing has changed.
pub fn detach() -> Result {
    // SAFETY: No arguments; acts on the current process.
    to_result(unsafe { bindings::pproc_detach() })
}

/// The parked process is the one that lives, as a child of `local_parent` if that lives here. Returns whether it is.
///
/// # Errors
/// `ESRCH` if there is none.
pub fn activate(nr: ClusterPid, local_parent: Option<ClusterPid>) -> Result<bool> {
    // SAFETY: The function takes numbers only.
    match unsafe { bindings::pproc_activate(nr.0, local_parent.map_or(0, |p| p.0)) } {
        e if e < 0 => Err(to_result(e).err().unwrap_or(ESRCH)),
        linked => Ok(linked != 0),
    }
}

/// Whether the current process, which was caught to leave, runs another program than when that was asked for.
pub fn has_execed() -> bool {
    // SAFETY: No arguments; looks at the current task.
    unsafe { bindings::pproc_has_execed() }
}

/// Has a process of this node caught before it next enters user mode.
///
/// # Errors
/// `ESRCH`; `EBUSY` if a movement of it is under way; `ENOMEM`.
pub fn request(nr: ClusterPid, movement: u64) -> Result {
    // SAFETY: The function takes numbers only.
    to_result(unsafe { bindings::pproc_request_move(nr.0, movement) })
}

/// The current task's part in a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// None.
    None,
    /// It was caught to leave.
    Leaving,
    /// It is new.
    Arriving,
}

/// The current task's movement and its part in it.
pub fn current() -> (u64, Role) {
    let mut role = 0;
    // SAFETY: The argument lives through the call.
    let movement = unsafe { bindings::pproc_current_move(&mut role) };
    let role = match role {
        1 => Role::Leaving,
        2 => Role::Arriving,
        _ => Role::None,
    };
    (movement, role)
}

/// The current task's movement is over.
pub fn forget() {
    // SAFETY: No arguments; acts on the current task.
    unsafe { bindings::pproc_forget_move() }
}

/// What a process keeps over an exec, in wire form.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct ExecState {
    blocked: Le64,
    ignored: Le64,
    limits: [[Le64; 2]; bindings::SSI_NLIMITS as usize],
    nice: Le32,
    personality: Le32,
    oom_score_adj: Le32,
    ctx_node: Le32,
    timer_slack_ns: Le64,
    utime_ns: Le64,
    stime_ns: Le64,
}

const _: () = assert!(size_of::<ExecState>() == 312);

impl ExecState {
    /// That of the current process.
    pub fn capture() -> Self {
        let mut c = bindings::ssi_exec_state::default();
        // SAFETY: The argument lives through the call.
        unsafe { bindings::pproc_exec_capture(&mut c) };
        // CAST: signed numbers keep their bits.
        Self {
            blocked: Le64::new(c.blocked),
            ignored: Le64::new(c.ignored),
            limits: c.limits.map(|l| l.map(Le64::new)),
            nice: Le32::new(c.nice as u32),
            personality: Le32::new(c.personality),
            oom_score_adj: Le32::new(c.oom_score_adj as u32),
            ctx_node: Le32::new(c.ctx_node),
            timer_slack_ns: Le64::new(c.timer_slack_ns),
            utime_ns: Le64::new(c.utime_ns),
            stime_ns: Le64::new(c.stime_ns),
        }
    }

    /// Gives it to the current, new process.
    ///
    /// # Errors
    /// `EINVAL` for what no process can have.
    pub fn restore(&self) -> Result {
        // CAST: signed numbers keep their bits.
        let c = bindings::ssi_exec_state {
            blocked: self.blocked.get(),
            ignored: self.ignored.get(),
            limits: self.limits.map(|l| l.map(Le64::get)),
            nice: self.nice.get() as i32,
            personality: self.personality.get(),
            oom_score_adj: self.oom_score_adj.get() as i32,
            ctx_node: self.ctx_node.get(),
            timer_slack_ns: self.timer_slack_ns.get(),
            utime_ns: self.utime_ns.get(),
            stime_ns: self.stime_ns.get(),
        };
        // SAFETY: The argument lives through the call.
        to_result(unsafe { bindings::pproc_exec_restore(&c) })
    }
}

/// Runs a program in the current, new process, which goes to user mode afterwards.
///
/// # Errors
/// What exec gives; `EINVAL` for torn strings.
pub fn execve(path: &CStr, strings: &[u8], n_args: u32, n_envs: u32) -> Result {
    // SAFETY: `path` is a C string, `strings` readable for its length; both live through the call.
    to_result(unsafe {
        bindings::pproc_execve(
            path.as_char_ptr(),
            strings.as_ptr().cast(),
            strings.len(),
            n_args,
            n_envs,
        )
    })
}
