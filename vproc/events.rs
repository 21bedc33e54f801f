// SPDX-License-Identifier: GPL-2.0

//! What the kernel noted where it could not sleep, and what follows from a process's end.

use crate::calls;
use crate::calls::Answer;
use crate::children;
use crate::home;
use crate::home::state::Effect;
use crate::home::state::Event as HomeEvent;
use crate::movement;
use crate::nodes;
use crate::proto::*;
use crate::signals;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
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

/// A process of this node, whose parent is elsewhere, has ended: the origin first, then the parent's node, so
/// that the number is not free before somebody holds the status.
fn child_exited(child: ClusterPid, parent: ClusterPid, exit: Exit) {
    let Ok(parent_node) = calls::locate(parent) else {
        // The parent is dead as well: nobody waits.
        gone(child);
        return;
    };
    if let Ok(origin) = nodes::origin_of(child) {
        let req = ZombieReq {
            pid: Le32::new(child.0),
            record_at: Le32::new(parent_node.number()),
        };
        // A dead origin is rebuilt from what the nodes report.
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
    let told = calls::on_process(parent, |node| {
        if node == nodes::this() {
            Answer::Done(end_child(parent, child, exit))
        } else {
            Answer::from_call(ics::call::<ChildEnded>(node, &req, &[]).map(|_| ()))
        }
    });
    if told.is_err() {
        gone(child);
    }
}

/// A child elsewhere of a process of this node has ended.
///
/// # Errors
/// `ESRCH` if there is no such parent or child.
pub(crate) fn end_child(parent: ClusterPid, child: ClusterPid, exit: Exit) -> Result {
    let parent = nodes::to_local(parent);
    if !children::ended(parent, child, exit) {
        return Err(ESRCH);
    }
    if !pproc::child_ended(parent, child, &exit) {
        children::remove(parent, child);
        gone(child);
    }
    // After the record says so: a waiter that wakes must find it.
    pproc::wake_waiters(parent);
    Ok(())
}

/// A kept number lost its last task here, or its status has been taken.
fn idle(nr: ClusterPid) {
    if children::reap(nr) {
        gone(nr);
    }
    if pproc::has_task(nr) || !pproc::pins(nr).contains(Pins::EXEC) {
        return;
    }
    let parent_was_elsewhere = movement::forget_arrival(nr);
    if let Some(false) = parent_was_elsewhere {
        // Its parent, here, has its status.
        gone(nr);
    }
    pproc::unpin(nr, Pins::EXEC);
}

/// Tells the origin that nobody uses the number any more.
fn gone(pid: ClusterPid) {
    let Ok(origin) = nodes::origin_of(pid) else {
        return;
    };
    let req = GoneReq {
        pid: Le32::new(pid.0),
    };
    // A dead origin is rebuilt from what the nodes report.
    let _down = ics::call::<Gone>(origin, &req, &[]);
}

/// The last thread of a process here exits: its children elsewhere get a new parent, the statuses of those that
/// ended are nobody's.
pub(crate) fn parent_exits(parent: ClusterPid) {
    let Ok(list) = children::of(parent) else {
        return;
    };
    for (child, _, ended) in list {
        children::remove(parent, child);
        if ended.is_some() {
            gone(child);
            continue;
        }
        let req = OrphanReq {
            child: Le32::new(child.0),
        };
        // ESRCH: it ended meanwhile; its node finds no parent and frees it.
        let _ended = calls::on_process(child, |node| {
            if node == nodes::this() {
                Answer::from_local(pproc::reparent_to_init(child))
            } else {
                Answer::from_call(ics::call::<Orphan>(node, &req, &[]).map(|_| ()))
            }
        });
    }
}

/// A node is down: processes of our range that ran there are dead, and so are children of processes here.
pub(crate) fn node_down(node: NodeId) {
    let mut lost = KVec::new();
    if home::at_node(node, &mut lost).is_err() {
        return;
    }
    for pid in lost {
        let effect = home::step(pid, HomeEvent::NodeDown(node.number()));
        if matches!(effect, Ok(Effect::Lost)) {
            lose(pid);
        }
    }
}

/// Status of a process that was lost with its node: killed.
const LOST_STATUS: i32 = 9;

/// Tells the parent, if it is here, that a child died with its node.
fn lose(child: ClusterPid) {
    let Ok(alive) = children::alive() else {
        return;
    };
    for (parent, c) in alive {
        if c == child {
            let exit = Exit {
                status: LOST_STATUS,
                exit_signal: 17,
                ..Exit::default()
            };
            let _no_parent = end_child(parent, child, exit);
        }
    }
}
