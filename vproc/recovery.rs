// SPDX-License-Identifier: GPL-2.0

//! What follows from the death of a node: who was on it is lost, their parents learn so, their children become init's.
//!
//! The origin of a lost process tells every member; each looks for the parent and the children among its own. Where
//! the origin is down too, each node asks all others for the parents and children of its own processes, after every
//! death. All of it is done by one thread, one search at a time: the thread that installs views must never wait for
//! another node.

use crate::calls;
use crate::calls::Answer;
use crate::children;
use crate::events;
use crate::home;
use crate::home::state::Effect;
use crate::home::state::Event as HomeEvent;
use crate::movement;
use crate::nodes;
use crate::proto::*;
use ics::CallError;
use kernel::prelude::*;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::pproc;
use ssi::pproc::Exit;
use ssi::wait::Queue;
use ssi::wire::Le32;

/// What is to be done.
#[derive(Clone, Copy)]
enum Work {
    /// A process of this node's range is lost: tell everybody.
    Mourn(ClusterPid),
    /// A node is down: look for relations whose origin cannot tell.
    Sweep(NodeId),
    /// No more.
    Stop,
}

struct Recovery {
    work: Arc<Queue<Work>>,
    thread: KThread,
    /// Nodes that came up; `None`: no more. A thread of its own tells them where processes of their range are: they
    /// answer no question about those before.
    up: Arc<Queue<Option<NodeId>>>,
    reporter: KThread,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 37 `vproc::recovery`, mutex. Never held across a call to a node.
    unsafe(uninit) static RECOVERY: Mutex<Option<Recovery>> = None;
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { RECOVERY.init() };
}

/// Starts the threads.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn start() -> Result {
    let work = Queue::new()?;
    let up = Queue::new()?;
    let mine = work.clone();
    let thread = KThread::run(c"ssi_recovery", move || loop {
        match mine.wait() {
            Work::Mourn(pid) => tell_all(pid),
            Work::Sweep(node) => sweep(node),
            Work::Stop => return,
        }
    })?;
    let mine = up.clone();
    let reporter = KThread::run(c"ssi_report", move || {
        while let Some(node) = mine.wait() {
            report(node);
        }
    });
    let reporter = match reporter {
        Ok(r) => r,
        Err(e) => {
            insist(&work, Work::Stop);
            return Err(e);
        }
    };
    *RECOVERY.lock() = Some(Recovery {
        work,
        thread,
        up,
        reporter,
    });
    Ok(())
}

/// Ends the threads after their work.
pub(crate) fn stop() {
    let Some(r) = RECOVERY.lock().take() else {
        return;
    };
    insist(&r.work, Work::Stop);
    insist(&r.up, None);
    drop(r.thread);
    drop(r.reporter);
}

/// Queues something, however long memory is short.
fn insist<T: Copy + Send + Unpin>(queue: &Queue<T>, item: T) {
    while queue.push(item).is_err() {
        ssi::task::yield_now();
    }
}

fn push(work: Work) {
    let Some(queue) = RECOVERY.lock().as_ref().map(|r| r.work.clone()) else {
        return;
    };
    insist(&queue, work);
}

/// A process is lost, and this node is the one to say so. May sleep, waits for nobody.
pub(crate) fn mourn(pid: ClusterPid) {
    push(Work::Mourn(pid));
}

/// A node is down. May sleep, waits for nobody.
pub(crate) fn node_down(node: NodeId) {
    let there = loop {
        match home::at_node(node) {
            Ok(there) => break there,
            Err(_) => ssi::task::yield_now(),
        }
    };
    for pid in there {
        if home::step(pid, HomeEvent::NodeDown(node.number())) == Effect::Lost {
            mourn(pid);
        }
    }
    push(Work::Sweep(node));
}

/// A node is up. May sleep, waits for nobody.
pub(crate) fn node_up(node: NodeId) {
    let queue = RECOVERY.lock().as_ref().map(|r| r.up.clone());
    if let Some(queue) = queue {
        insist(&queue, Some(node));
    }
}

/// Tells every member that a process is lost, and notes where its status waits.
fn tell_all(pid: ClusterPid) {
    let req = LostReq {
        pid: Le32::new(pid.0),
    };
    let mut keeper = None;
    for node in clms::view().members.iter() {
        loop {
            match ics::call::<Lost>(node, &req, &[]) {
                Ok((rep, _)) => {
                    if rep.kept.get() != 0 {
                        keeper = Some(node);
                    }
                    break;
                }
                // A member that dies meanwhile has no parent of anybody any more.
                Err(CallError::Down(_)) => break,
                Err(_) => ssi::task::yield_now(),
            }
        }
    }
    if pid.origin() == Some(nodes::this()) {
        home::mourned(pid, keeper);
    }
}

/// Status of a process that was lost with its node: killed.
const LOST: Exit = Exit {
    status: 9,
    uid: 0,
    exit_signal: 17,
    utime_ns: 0,
    stime_ns: 0,
    min_flt: 0,
    maj_flt: 0,
    maxrss_kib: 0,
};

/// A process is lost: its parent here has its status, its children here get a new parent. Returns whether a parent here
/// will wait for it.
pub(crate) fn lost(pid: ClusterPid) -> bool {
    let mut kept = false;
    for (parent, _) in alive_children(|_, child| child == pid) {
        kept |= matches!(events::end_child(parent, pid, LOST), Ok(true));
    }
    movement::coming::parent_is_lost(pid);
    for child in fostered(|ppid| ppid == pid) {
        // ESRCH: it has ended, or left before the death was known here; its new node is told as well.
        let _elsewhere = adopt_here(child);
    }
    kept
}

/// The (parent, child) that `f` chooses among living children elsewhere of processes here.
fn alive_children(f: impl Fn(ClusterPid, ClusterPid) -> bool) -> KVec<(ClusterPid, ClusterPid)> {
    loop {
        if let Ok(mut list) = children::alive() {
            list.retain(|(parent, child)| f(*parent, *child));
            return list;
        }
        ssi::task::yield_now();
    }
}

/// Processes here whose parent elsewhere `f` chooses.
fn fostered(f: impl Fn(ClusterPid) -> bool) -> KVec<ClusterPid> {
    let mut list = KVec::new();
    let mut from = 1;
    while let Some(pid) = pproc::next_process(from) {
        if pproc::ids(pid).is_ok_and(|ids| ids.remote_parent && f(ids.ppid)) {
            while list.push(pid, GFP_KERNEL).is_err() {
                ssi::task::yield_now();
            }
        }
        from = pid.0 + 1;
    }
    list
}

/// The parent elsewhere of `child` is gone: init of the node where `child` is takes over. May call other nodes.
pub(crate) fn adopt(child: ClusterPid) {
    let req = OrphanReq {
        child: Le32::new(child.0),
    };
    // ESRCH: it ended meanwhile; its node finds no parent and frees it.
    let _ended = calls::on_process(child, |node| {
        if node == nodes::this() {
            Answer::from_local(adopt_here(child))
        } else {
            Answer::from_call(ics::call::<Orphan>(node, &req, &[]).map(|_| ()))
        }
    });
}

/// As [`adopt`], if the child is here.
///
/// # Errors
/// `ESRCH` if it is not, or has a parent here.
pub(crate) fn adopt_here(child: ClusterPid) -> Result {
    if movement::leaving::orphan(child) {
        return Ok(());
    }
    // Where it is now is told as well.
    movement::coming::orphan(child);
    pproc::reparent_to_init(child)
}

/// Whether nobody can say what became of a process when `node` died but those who have it.
fn is_untold(pid: ClusterPid, node: NodeId) -> bool {
    pid.origin() == Some(node) || nodes::live_origin(pid).is_none()
}

/// Whether a process, whose origin cannot tell, is lost with `node`.
fn is_lost(pid: ClusterPid, node: NodeId) -> bool {
    if nodes::is_alias(pid) {
        return pid.origin() == Some(node);
    }
    !calls::search_all(pid)
}

/// A node is down: looks for relations of processes here to lost ones whose origin is down as well.
fn sweep(node: NodeId) {
    for (parent, child) in alive_children(|_, child| is_untold(child, node)) {
        if is_lost(child, node) {
            let _no_parent = events::end_child(parent, child, LOST);
        }
    }
    for child in fostered(|ppid| is_untold(ppid, node)) {
        let parent = pproc::ids(child).map(|ids| ids.ppid);
        if parent.is_ok_and(|p| is_untold(p, node) && is_lost(p, node)) {
            adopt(child);
        }
    }
}

/// A node is up: it learns which numbers of its range are in use here.
fn report(node: NodeId) {
    let mut pids = KVVec::new();
    let mut from = 1;
    while let Some(pid) = pproc::next_process(from) {
        if pid.origin() == Some(node) {
            while pids
                .extend_from_slice(&pid.0.to_le_bytes(), GFP_KERNEL)
                .is_err()
            {
                ssi::task::yield_now();
            }
        }
        from = pid.0 + 1;
    }
    // The node waits for it even if there is none. One that is down again learns it when it is back.
    while let Err(CallError::Local(_)) = ics::call::<Here>(node, &HereReq {}, &pids) {
        ssi::task::yield_now();
    }
}
