// SPDX-License-Identifier: GPL-2.0

//! What the kernel noted where it could not sleep, and what follows from a process's end.

use crate::calls;
use crate::calls::Answer;
use crate::children;
use crate::movement;
use crate::nodes;
use crate::proto::*;
use crate::recovery;
use crate::signals;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::kthread::KThread;
use ssi::movement::Late;
use ssi::pproc;
use ssi::pproc::Event;
use ssi::pproc::Exit;
use ssi::pproc::Pins;
use ssi::pproc::Target;
use ssi::wire::Le32;
use ssi::wire::Le64;

global_lock! {
    // SAFETY: Initialised in `start()` before first use.
    /// Lock: level 35 `vproc::events`, mutex.
    unsafe(uninit) static THREAD: Mutex<Option<KThread>> = None;
}

/// Starts the event thread. Once per module load; joins again after a leave find it initialised.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn start() -> Result {
    *THREAD.lock() = Some(KThread::run(c"ssi_events", || {
        while let Some(ev) = pproc::wait_event() {
            act(ev);
        }
    })?);
    Ok(())
}

/// Ends the event thread after its queue is empty.
pub(crate) fn stop() {
    pproc::stop_events();
    let thread = THREAD.lock().take();
    drop(thread);
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { THREAD.init() };
}

fn act(ev: Event) {
    match ev {
        Event::Exit { nr, ppid, exit } => child_exited(nr, ppid, exit),
        Event::Idle(nr) => idle(nr),
        Event::Signal {
            nr,
            process,
            sig,
            info,
        } => {
            let kept = Late {
                process: Le32::new(u32::from(process)),
                sig: Le32::new(sig as u32), // CAST: same bits.
                info: info.0,
            };
            if movement::hold(nr, &kept) {
                return;
            }
            let target = if process {
                Target::Process
            } else {
                Target::Thread { tgid: None }
            };
            // Nobody to tell: the sender was told that it is queued. ESRCH: the target died.
            let _dead = signals::forward(nr, target, sig, &info);
        }
        Event::Group { pgid, sig } => signals::to_group_elsewhere(pgid, sig),
    }
}

/// A process of this node, whose parent is elsewhere, has ended.
fn child_exited(child: ClusterPid, parent: ClusterPid, exit: Exit) {
    movement::coming::end_is_told(child);
    tell_parent(parent, child, exit);
}

/// Tells a parent elsewhere how its child ended: the child's origin first, then the parent's node, so that the number
/// is not free before somebody holds the status.
pub(crate) fn tell_parent(parent: ClusterPid, child: ClusterPid, exit: Exit) {
    let parent_node = loop {
        match calls::locate(parent) {
            Ok(node) => break node,
            Err(e) if e == ESRCH => {
                // The parent is dead as well: nobody waits.
                gone(child);
                return;
            }
            // Without memory nobody is given up.
            Err(_) => ssi::task::yield_now(),
        }
    };
    if let Some(origin) = nodes::live_origin(child) {
        let req = ZombieReq {
            pid: Le32::new(child.0),
            record_at: Le32::new(parent_node.number()),
        };
        // A dead origin has no table.
        let _down = ics::call::<Zombie>(origin, &req, &[]);
    }
    let req = ChildEndedReq {
        parent: Le32::new(parent.0),
        child: Le32::new(child.0),
        status: Le32::new(exit.status as u32), // CAST: same bits.
        uid: Le32::new(exit.uid),
        exit_signal: Le32::new(exit.exit_signal as u32), // CAST: same bits.
        utime_ns: Le64::new(exit.utime_ns),
        stime_ns: Le64::new(exit.stime_ns),
        min_flt: Le64::new(exit.min_flt),
        maj_flt: Le64::new(exit.maj_flt),
        maxrss_kib: Le64::new(exit.maxrss_kib),
    };
    loop {
        let told = calls::on_process(parent, |node| {
            if node == nodes::this() {
                let told = end_child(parent, child, exit);
                if movement::coming::hold_end(parent, child, &told, exit) {
                    return Answer::Done(Ok(()));
                }
                Answer::from_local(told.map(|_kept| ()))
            } else {
                Answer::from_call(ics::call::<ChildEnded>(node, &req, &[]).map(|_| ()))
            }
        });
        match told {
            Ok(()) => return,
            Err(e) if e == ESRCH => {
                gone(child);
                return;
            }
            // Without memory nobody is given up.
            Err(_) => ssi::task::yield_now(),
        }
    }
}

/// A child elsewhere of a process of this node has ended. Returns whether the parent will wait for it.
///
/// # Errors
/// `ESRCH` if there is no such parent or child.
pub(crate) fn end_child(parent: ClusterPid, child: ClusterPid, exit: Exit) -> Result<bool> {
    let parent = nodes::to_local(parent);
    if !children::ended(parent, child, exit) {
        return Err(ESRCH);
    }
    let kept = pproc::child_ended(parent, child, &exit);
    if !kept {
        children::remove(parent, child);
        gone(child);
    }
    // After the record says so: a waiter that wakes must find it.
    pproc::wake_waiters(parent);
    Ok(kept)
}

/// A kept number lost its last task here, or its status has been taken.
fn idle(nr: ClusterPid) {
    if children::reap(nr) {
        gone(nr);
    }
    if pproc::has_task(nr) || !pproc::pins(nr).contains(Pins::EXEC) {
        return;
    }
    if movement::coming::forget_ended(nr) {
        // Its parent, here, has its status.
        gone(nr);
    }
    movement::coming::unpin_idle(nr);
}

/// Tells the origin that nobody uses the number any more.
fn gone(pid: ClusterPid) {
    let Some(origin) = nodes::live_origin(pid) else {
        return;
    };
    let req = GoneReq {
        pid: Le32::new(pid.0),
    };
    // A dead origin has no table.
    let _down = ics::call::<Gone>(origin, &req, &[]);
}

/// The last thread of a process here exits: its children elsewhere get a new parent, the statuses of those that
/// ended are nobody's.
pub(crate) fn parent_exits(parent: ClusterPid) {
    let list = loop {
        match children::of(parent) {
            Ok(list) => break list,
            Err(_) => ssi::task::yield_now(),
        }
    };
    for (child, _, ended) in list {
        children::remove(parent, child);
        if ended.is_some() {
            gone(child);
            continue;
        }
        recovery::adopt(child);
    }
}
