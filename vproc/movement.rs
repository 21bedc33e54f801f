// SPDX-License-Identifier: GPL-2.0

//! One process on its way from one node to another: source and destination, step by step.
//!
//! The only commit point is the origin's table (`home`). The destination runs a process only on the origin's word,
//! the source lets go only on the origin's word. From the moment [`commit`] has asked the origin until it has an
//! answer, the source can do nothing but wait.

use crate::agent;
use crate::children;
use crate::nodes;
use crate::proto::*;
use crate::rexec;
use ics::CallError;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use ssi::hooks::UserReturn;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement;
use ssi::movement::Late as LateSignal;
use ssi::movement::Refusal;
use ssi::movement::Role;
use ssi::movement::Spawn;
use ssi::pproc;
use ssi::pproc::Pins;
use ssi::pproc::SigInfo;
use ssi::pproc::Target;
use ssi::wait::Event;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

pub(crate) mod image;

/// How far a process that comes here is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It makes itself from its image.
    Making,
    /// It waits for the origin's word.
    Parked,
    /// It cannot be made, for that reason.
    Failed(Error),
    /// It lives.
    Active,
    /// It is to end silently.
    Aborted,
}

/// A process that comes here.
#[pin_data]
pub(crate) struct Arrival {
    /// Who it is.
    pub(crate) spawn: Spawn,
    /// Where it comes from.
    pub(crate) from: NodeId,
    /// The fixed part of what it is made of.
    header: image::Header,
    /// The rest.
    pub(crate) image: KVVec<u8>,
    #[pin]
    stage: kernel::sync::SpinLock<Stage>,
    /// Signals that were pending at the source.
    #[pin]
    late: kernel::sync::Mutex<KVVec<u8>>,
    /// Told at every change of `stage`.
    #[pin]
    changed: Event,
}

impl Arrival {
    fn set(&self, stage: Stage) {
        *self.stage.lock() = stage;
        self.changed.notify_all();
    }

    /// The fixed part of what it is made of.
    pub(crate) fn header(&self) -> &image::Header {
        &self.header
    }

    fn stage(&self) -> Stage {
        *self.stage.lock()
    }
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 42 `vproc::arrivals`, mutex. Never held across a call to a node.
    unsafe(uninit) static ARRIVALS: Mutex<KVec<Arc<Arrival>>> = KVec::new();
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Why processes last could not move, newest last. Lock: level 43 `vproc::refusals`, mutex.
    unsafe(uninit) static REFUSALS: Mutex<KVec<(ClusterPid, Refusal)>> = KVec::new();
}

/// Refusals that are remembered.
const MAX_REFUSALS: usize = 64;

/// Counts movements that start here; the node number makes them unique.
static NEXT: Atomic<u64> = Atomic::new(1);

/// Whether movements may start: 0 no, 1 yes.
static OPEN: Atomic<u32> = Atomic::new(1);

/// Makes the tables. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { ARRIVALS.init() };
    // SAFETY: As above.
    unsafe { REFUSALS.init() };
}

/// Frees the tables at module unload.
pub(crate) fn clear() {
    *ARRIVALS.lock() = KVec::new();
    *REFUSALS.lock() = KVec::new();
}

/// The node is about to leave: nothing starts to move any more.
pub(crate) fn refuse_new() {
    OPEN.store(0, Relaxed);
}

/// The node stays after all.
pub(crate) fn allow_new() {
    OPEN.store(1, Relaxed);
}

/// A number for a movement that starts on this node.
pub(crate) fn new_movement() -> u64 {
    u64::from(nodes::this().number()) << 48 | NEXT.fetch_add(1, Relaxed)
}

fn arrival(pid: ClusterPid, movement: u64) -> Option<Arc<Arrival>> {
    let guard = ARRIVALS.lock();
    guard
        .iter()
        .find(|a| a.spawn.nr == pid && a.spawn.movement == movement)
        .cloned()
}

fn forget(pid: ClusterPid) -> Option<Arc<Arrival>> {
    let mut guard = ARRIVALS.lock();
    let i = guard.iter().position(|a| a.spawn.nr == pid)?;
    guard.remove(i).ok()
}

// ---- Destination -------------------------------------------------------------------------------------------

/// Makes a process from its image and parks it. Sleeps until it is parked or has failed.
///
/// # Errors
/// `EPROTO` bad image; `EEXIST` the number is in use here; those of making it.
pub(crate) fn prepare(from: NodeId, req: &PrepareReq, tail: &[u8]) -> Result {
    if OPEN.load(Relaxed) == 0 {
        return Err(EHOSTUNREACH);
    }
    let pid = ClusterPid(req.pid.get());
    let movement = req.movement.get();
    let (header, rest) = image::Header::ref_from_prefix(tail).map_err(|_| EPROTO)?;
    let spawn = header.spawn(pid, movement)?;
    let mut bytes = KVVec::new();
    bytes.extend_from_slice(rest, GFP_KERNEL)?;
    let a = Arc::pin_init(
        pin_init!(Arrival {
            spawn,
            from,
            header: *header,
            image: bytes,
            stage <- kernel::new_spinlock!(Stage::Making, "vproc::stage"),
            late <- kernel::new_mutex!(KVVec::new(), "vproc::late"),
            changed <- Event::new(),
        }),
        GFP_KERNEL,
    )?;
    ARRIVALS.lock().push(a.clone(), GFP_KERNEL)?;
    let made = pproc::pin(pid, Pins::EXEC).and_then(|()| agent::spawn(spawn));
    if let Err(e) = made {
        forget(pid);
        pproc::unpin(pid, Pins::EXEC);
        return Err(e);
    }
    a.changed.wait_until(|| a.stage() != Stage::Making);
    match a.stage() {
        Stage::Failed(e) => Err(e),
        Stage::Aborted => Err(ECANCELED),
        _ => Ok(()),
    }
}

/// The new process makes itself. Runs in it, before it ever was in user mode.
///
/// # Errors
/// Any: it then ends silently.
pub(crate) fn arrive(pid: ClusterPid, movement: u64) -> Result {
    let a = arrival(pid, movement).ok_or(ESRCH)?;
    let made = a.spawn.take_ids().and_then(|()| rexec::make(&a));
    if let Err(e) = made {
        a.set(Stage::Failed(e));
        return Err(e);
    }
    Ok(())
}

/// The current task is about to enter user mode and is in a movement.
pub(crate) fn user_return() -> UserReturn {
    match movement::current() {
        (m, Role::Arriving) => park(m),
        (m, Role::Leaving) => leave(m),
        (_, Role::None) => UserReturn::GoOn,
    }
}

/// The new process is complete and waits for the origin's word.
fn park(m: u64) -> UserReturn {
    let pid = ssi::task::current_tgid();
    let Some(a) = arrival(pid, m) else {
        return UserReturn::Vanish;
    };
    {
        let mut stage = a.stage.lock();
        if *stage == Stage::Making {
            *stage = Stage::Parked;
        }
    }
    a.changed.notify_all();
    a.changed
        .wait_until(|| matches!(a.stage(), Stage::Active | Stage::Aborted));
    if a.stage() == Stage::Aborted {
        return UserReturn::Vanish;
    }
    movement::forget();
    UserReturn::GoOn
}

/// The origin's word: the process is ours. Repeated words change nothing.
///
/// # Errors
/// `ESRCH` if it is not known here.
pub(crate) fn activate(pid: ClusterPid, m: u64) -> Result {
    let a = arrival(pid, m).ok_or(ESRCH)?;
    if a.stage() == Stage::Active {
        return Ok(());
    }
    let parent = nodes::to_local(a.spawn.ppid);
    let local = pproc::exists(parent) && !nodes::is_foreign_alias(a.spawn.ppid);
    movement::activate(pid, local.then_some(parent))?;
    if local {
        // After it is in its parent's list: a wait must not miss it.
        children::remove(parent, pid);
    }
    if pid.origin() == Some(nodes::this()) {
        pproc::unpin(pid, Pins::EXEC);
    }
    let late = core::mem::take(&mut *a.late.lock());
    for chunk in late.chunks_exact(core::mem::size_of::<LateSignal>()) {
        let Ok(l) = LateSignal::read_from_bytes(chunk) else {
            continue;
        };
        let target = if l.process.get() != 0 {
            Target::Process
        } else {
            Target::Thread { tgid: None }
        };
        // CAST: same bits. A signal that the process ignores is gone here as it would have been there.
        let _ = pproc::signal(pid, target, l.sig.get() as i32, &SigInfo(l.info), 0, true);
    }
    a.set(Stage::Active);
    Ok(())
}

/// Signals that were pending at the source.
///
/// # Errors
/// `ESRCH` if the process is not known here; `ENOMEM`.
pub(crate) fn late(pid: ClusterPid, m: u64, tail: &[u8]) -> Result {
    let a = arrival(pid, m).ok_or(ESRCH)?;
    let mut late = a.late.lock();
    late.extend_from_slice(tail, GFP_KERNEL)?;
    Ok(())
}

/// More of an image.
///
/// # Errors
/// `EOPNOTSUPP`.
pub(crate) fn pages(_pid: ClusterPid, _m: u64, _tail: &[u8]) -> Result {
    Err(EOPNOTSUPP)
}

/// A movement to here will not be: what was prepared goes. One that is committed stays.
pub(crate) fn abort(pid: ClusterPid, m: u64) {
    if let Some(a) = arrival(pid, m) {
        let aborted = {
            let mut stage = a.stage.lock();
            if *stage != Stage::Active {
                *stage = Stage::Aborted;
            }
            *stage == Stage::Aborted
        };
        if aborted {
            a.changed.notify_all();
        }
    }
}

/// A process that came here lost its last task. Returns whether it had lived here and its parent is elsewhere;
/// `None` if it never lived here or has moved on.
pub(crate) fn forget_arrival(pid: ClusterPid) -> Option<bool> {
    let a = forget(pid)?;
    if a.stage() != Stage::Active {
        return None;
    }
    let parent = nodes::to_local(a.spawn.ppid);
    Some(!pproc::exists(parent))
}

// ---- Source ------------------------------------------------------------------------------------------------

/// Asks the origin to give the current process to `to`, which has it prepared, and lets go of it here.
///
/// On success the caller makes the process vanish. On failure it is as before.
///
/// # Errors
/// `EAGAIN` the process is being killed; `EHOSTDOWN`; `ENOMEM`.
pub(crate) fn commit(spawn: &Spawn, to: NodeId) -> Result {
    let pid = spawn.nr;
    let parent_here = local_parent(spawn);
    if let Some(parent) = parent_here {
        // Before the task leaves its parent's list.
        children::insert(parent, pid, spawn.pgid, None)?;
    }
    let undo = || {
        if let Some(parent) = parent_here {
            children::remove(parent, pid);
        }
    };
    let late = match movement::mark_moved() {
        Ok(l) => l,
        Err(e) => {
            undo();
            return Err(e);
        }
    };
    let r = hand_over(pid, spawn.movement, to, &late);
    if r.is_err() {
        movement::unmark_moved();
        undo();
        return r;
    }
    // The process is the destination's now: what follows cannot be undone, and does not fail but for memory.
    while movement::detach().is_err() {
        ssi::task::yield_now();
    }
    if pid.origin() != Some(nodes::this()) {
        forget(pid);
    }
    Ok(())
}

/// The parent's number here, if the parent is here.
fn local_parent(spawn: &Spawn) -> Option<ClusterPid> {
    let parent = nodes::to_local(spawn.ppid);
    (!nodes::is_foreign_alias(spawn.ppid) && pproc::exists(parent)).then_some(parent)
}

fn hand_over(pid: ClusterPid, m: u64, to: NodeId, late: &[LateSignal]) -> Result {
    let id = Le32::new(pid.0);
    let movement = Le64::new(m);
    if !late.is_empty() {
        let req = LateReq { pid: id, movement };
        ics::call::<Late>(to, &req, late.as_bytes()).map_err(|e| e.to_errno())?;
    }
    let req = MoveReq {
        pid: id,
        from: Le32::new(nodes::this().number()),
        to: Le32::new(to.number()),
        movement,
    };
    loop {
        let origin = nodes::origin_of(pid)?;
        match ics::call::<Move>(origin, &req, &[]) {
            Ok(_) => return Ok(()),
            // The origin died with or without having flipped: its surrogate knows or decides afresh.
            Err(CallError::Down(_)) => continue,
            Err(e) => return Err(e.to_errno()),
        }
    }
}

/// Tells the destination that the current process stays.
pub(crate) fn give_up(pid: ClusterPid, m: u64, to: NodeId) {
    let req = AbortReq {
        pid: Le32::new(pid.0),
        movement: Le64::new(m),
    };
    // A destination that is down has nothing to destroy.
    let _down = ics::call::<Abort>(to, &req, &[]);
}

/// Moves a process of this node. Sleeps until it has moved or been refused.
///
/// # Errors
/// `EPERM`, `ESRCH`; `EINVAL` for this very node; the refusals of `Documentation/vproc.rst`.
pub(crate) fn migrate(pid: ClusterPid, to: NodeId) -> Result {
    if to == nodes::this() {
        return Err(EINVAL);
    }
    pproc::may_move(pid)?;
    Err(EOPNOTSUPP)
}

/// The current process was caught to leave.
fn leave(_m: u64) -> UserReturn {
    movement::forget();
    UserReturn::GoOn
}

// ---- Both --------------------------------------------------------------------------------------------------

/// Remembers why a process could not move.
pub(crate) fn note_refusal(pid: ClusterPid, why: Refusal) {
    let mut guard = REFUSALS.lock();
    if let Some(i) = guard.iter().position(|(p, _)| *p == pid) {
        let _old = guard.remove(i);
    } else if guard.len() >= MAX_REFUSALS {
        let _old = guard.remove(0);
    }
    // Without memory the reason is lost, the errno is not.
    let _ = guard.push((pid, why), GFP_KERNEL);
}

/// What `/proc/<pid>/goto` reads: `ERRNO cause` of the last refusal, else the node.
///
/// # Errors
/// `ENOSPC`.
pub(crate) fn show_refusal(pid: ClusterPid, buf: &mut [u8]) -> Result<usize> {
    let why = {
        let guard = REFUSALS.lock();
        guard.iter().find(|(p, _)| *p == pid).map(|(_, w)| *w)
    };
    let mut out = ssi::text::Writer::new(buf);
    match why {
        Some(w) => {
            out.put(ssi::text::errno_name(w.errno))?;
            if !w.cause().is_empty() {
                out.put(b" ")?;
                out.put(w.cause())?;
            }
        }
        None => out.put_number(nodes::this().number())?,
    }
    out.put(b"\n")?;
    Ok(out.len())
}

/// Whether any process has relations to other nodes, so that this node cannot leave.
pub(crate) fn any_relations() -> bool {
    !ARRIVALS.lock().is_empty() || children::alive().map_or(true, |l| !l.is_empty())
}

/// A node is down: what it was sending here and has not been committed goes.
pub(crate) fn node_down(node: NodeId) {
    let mut gone = KVec::new();
    {
        let guard = ARRIVALS.lock();
        for a in guard.iter().filter(|a| a.from == node) {
            // Without memory the process stays parked; it does no harm.
            let _ = gone.push((a.spawn.nr, a.spawn.movement), GFP_KERNEL);
        }
    }
    for (pid, m) in gone {
        abort(pid, m);
    }
}
