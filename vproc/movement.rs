// SPDX-License-Identifier: GPL-2.0

//! One process on its way from one node to another: source and destination, step by step.
//!
//! The only commit point is the origin's table (`home`). The destination runs a process only on the origin's word,
//! the source lets go only on the origin's word. From the moment [`commit`] has asked the origin until it has an
//! answer, the source can do nothing but wait.

use crate::agent;
use crate::children;
use crate::migrate;
use crate::nodes;
use crate::proto::*;
use crate::rexec;
use ics::CallError;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::time::Delta;
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
#[derive(Clone, Copy)]
enum Stage {
    /// It makes itself from its image.
    Making,
    /// It waits for pages.
    Filling,
    /// It waits for the origin's word.
    Parked,
    /// It cannot be made, for that reason.
    Failed(Refusal),
    /// It lives.
    Active,
    /// It is to end silently.
    Aborted,
}

/// The memory of a process that waits for its pages. Who brings pages puts them in himself, and answers then: what is
/// under way is bounded by what the source sends ahead, and by the threads of the pages' class.
struct Filling {
    /// `None`: not yet, or not any more.
    target: Option<Arc<ssi::image::Target>>,
    /// Handlers that put pages in now.
    busy: u32,
    /// The last page has been put in.
    complete: bool,
}

/// A process that comes here.
#[pin_data]
pub(crate) struct Arrival {
    /// Who it is.
    pub(crate) spawn: Spawn,
    /// Where it comes from.
    pub(crate) from: NodeId,
    /// Whether it is a moved process, not a program to start.
    is_move: bool,
    /// The fixed part of what it is made of.
    header: image::Header,
    /// The rest.
    pub(crate) image: KVVec<u8>,
    #[pin]
    stage: kernel::sync::SpinLock<Stage>,
    /// Its memory while pages come. Lock: `vproc::filling`, spin, a leaf.
    #[pin]
    filling: kernel::sync::SpinLock<Filling>,
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

    fn verdict(&self) -> core::result::Result<(), Refusal> {
        match self.stage() {
            Stage::Failed(why) => Err(why),
            Stage::Aborted => Err(ECANCELED.into()),
            _ => Ok(()),
        }
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

/// The node has joined, or stays after all.
pub(crate) fn allow_new() {
    OPEN.store(1, Relaxed);
}

/// Whether processes may come and go.
///
/// # Errors
/// `EHOSTUNREACH` while this node leaves.
pub(crate) fn check_open() -> core::result::Result<(), Refusal> {
    if OPEN.load(Relaxed) == 0 {
        return Err(Refusal::new(EHOSTUNREACH, b"this node leaves"));
    }
    Ok(())
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

fn forget_one(pid: ClusterPid, m: u64) {
    let mut guard = ARRIVALS.lock();
    let is = |a: &Arc<Arrival>| a.spawn.nr == pid && a.spawn.movement == m;
    if let Some(i) = guard.iter().position(is) {
        let _gone = guard.remove(i);
    }
}

// ---- Destination -------------------------------------------------------------------------------------------

/// Makes a process from its image. Sleeps until it is parked, or waits for its pages, or has failed.
///
/// # Errors
/// `EPROTO` bad image; `EEXIST` the number is in use here; `EHOSTUNREACH` this node leaves; those of making it.
pub(crate) fn prepare(
    from: NodeId,
    req: &PrepareReq,
    tail: &[u8],
) -> core::result::Result<(), Refusal> {
    check_open()?;
    let pid = ClusterPid(req.pid.get());
    let movement = req.movement.get();
    let is_move = match req.kind.get() {
        rexec::KIND_EXEC => false,
        migrate::KIND_MOVE => true,
        _ => return Err(EPROTO.into()),
    };
    let (header, rest) = image::Header::ref_from_prefix(tail).map_err(|_| EPROTO)?;
    let spawn = header.spawn(pid, movement)?;
    let mut bytes = KVVec::new();
    bytes
        .extend_from_slice(rest, GFP_KERNEL)
        .map_err(Error::from)?;
    let a = Arc::pin_init(
        pin_init!(Arrival {
            spawn,
            from,
            is_move,
            header: *header,
            image: bytes,
            filling <- kernel::new_spinlock!(
                Filling { target: None, busy: 0, complete: false },
                "vproc::filling"
            ),
            stage <- kernel::new_spinlock!(Stage::Making, "vproc::stage"),
            late <- kernel::new_mutex!(KVVec::new(), "vproc::late"),
            changed <- Event::new(),
        }? Error),
        GFP_KERNEL,
    )?;
    ARRIVALS
        .lock()
        .push(a.clone(), GFP_KERNEL)
        .map_err(Error::from)?;
    let made = pproc::pin(pid, Pins::EXEC).and_then(|()| agent::spawn(spawn));
    if let Err(e) = made {
        forget_one(pid, movement);
        pproc::unpin(pid, Pins::EXEC);
        return Err(e.into());
    }
    a.changed.wait_until(|| !matches!(a.stage(), Stage::Making));
    a.verdict()
}

/// The last page has been sent. Sleeps until the process is parked or has failed.
///
/// # Errors
/// `ESRCH` if it is not known here; those of making it.
pub(crate) fn complete(pid: ClusterPid, m: u64) -> core::result::Result<(), Refusal> {
    let a = arrival(pid, m).ok_or(ESRCH)?;
    a.filling.lock().complete = true;
    a.changed.notify_all();
    a.changed
        .wait_until(|| !matches!(a.stage(), Stage::Making | Stage::Filling));
    a.verdict()
}

/// The new process makes itself. Runs in it, before it ever was in user mode.
///
/// # Errors
/// Any: it then ends silently.
pub(crate) fn arrive(pid: ClusterPid, movement: u64) -> Result {
    let a = arrival(pid, movement).ok_or(ESRCH)?;
    let made = a.spawn.take_ids().map_err(Refusal::from).and_then(|()| {
        if a.is_move {
            make(&a)
        } else {
            rexec::make(&a)
        }
    });
    if let Err(why) = made {
        a.set(Stage::Failed(why));
        return Err(why.errno);
    }
    Ok(())
}

/// The new process makes itself from the image of a running one: memory first, the rest when all pages are there.
fn make(a: &Arrival) -> core::result::Result<(), Refusal> {
    let parts = a.header.parts(&a.image)?;
    ssi::image::create_memory(parts.rest)?;
    ssi::image::restore_memory(parts.rest)?;
    let target = Arc::new(ssi::image::Target::current()?, GFP_KERNEL).map_err(Error::from)?;
    a.filling.lock().target = Some(target);
    {
        let mut stage = a.stage.lock();
        if matches!(*stage, Stage::Making) {
            *stage = Stage::Filling;
        }
    }
    a.changed.notify_all();
    a.changed
        .wait_until(|| a.filling.lock().complete || matches!(a.stage(), Stage::Aborted));
    // Whoever still puts pages in ends first, and nobody begins.
    let target = a.filling.lock().target.take();
    drop(target);
    a.changed.wait_until(|| a.filling.lock().busy == 0);
    if matches!(a.stage(), Stage::Aborted) {
        return Err(ECANCELED.into());
    }
    ssi::image::finish_memory(parts.rest)?;
    rfile::import_fds(parts.files)?;
    ssi::image::restore_task(parts.task)?;
    a.header.cred.commit()?;
    ssi::image::finish_task(parts.task)?;
    Ok(())
}

/// Puts `n` pages into a new process: their addresses, then the contents of those that are no guard pages.
fn fill(target: &ssi::image::Target, n: usize, bytes: &[u8]) -> Result {
    let len = n.checked_mul(8).ok_or(EPROTO)?;
    let (list, mut contents) = bytes.split_at_checked(len).ok_or(EPROTO)?;
    let mut addrs = KVec::with_capacity(n, GFP_KERNEL)?;
    for a in list.chunks_exact(8) {
        let a = u64::from_le_bytes(a.try_into().map_err(|_| EPROTO)?);
        addrs.push(a, GFP_KERNEL)?;
    }
    let is_guard = |a: &u64| a & ssi::image::Pages::GUARD != 0;
    for run in addrs.chunk_by(|a, b| is_guard(a) == is_guard(b)) {
        if run.first().is_some_and(is_guard) {
            target.install_guards(run)?;
        } else {
            let len = run.len().checked_mul(ssi::image::PAGE).ok_or(EPROTO)?;
            let (these, rest) = contents.split_at_checked(len).ok_or(EPROTO)?;
            contents = rest;
            target.write_pages(run, these)?;
        }
    }
    Ok(())
}

/// The current task is about to enter user mode and is in a movement.
pub(crate) fn user_return() -> UserReturn {
    match movement::current() {
        (m, Role::Arriving) => park(m),
        (m, Role::Leaving) => migrate::leave(m),
        (_, Role::None) => UserReturn::GoOn,
    }
}

/// The new process is complete and waits for the origin's word.
fn park(m: u64) -> UserReturn {
    let pid = ssi::task::current_tgid();
    let Some(a) = arrival(pid, m) else {
        return UserReturn::Vanish;
    };
    let task = if a.is_move {
        a.header.parts(&a.image).map_or(&[][..], |p| p.task)
    } else {
        &[]
    };
    let ready = if a.is_move {
        ssi::image::install_registers(task)
    } else {
        Ok(())
    };
    {
        let mut stage = a.stage.lock();
        if matches!(*stage, Stage::Making | Stage::Filling) {
            *stage = match ready {
                Ok(()) => Stage::Parked,
                Err(e) => Stage::Failed(e.into()),
            };
        }
    }
    a.changed.notify_all();
    if ready.is_err() {
        return UserReturn::Vanish;
    }
    a.changed
        .wait_until(|| matches!(a.stage(), Stage::Active | Stage::Aborted));
    if matches!(a.stage(), Stage::Aborted) {
        return UserReturn::Vanish;
    }
    if a.is_move {
        // Accepted before: cannot be torn.
        let _started = ssi::image::start_timers(task, Delta::ZERO);
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
    if matches!(a.stage(), Stage::Active) {
        return Ok(());
    }
    // Before it can be waited for, or exit.
    let parts = a.header.parts(&a.image)?;
    for c in parts.children.chunks_exact(8) {
        let (child, pgid) = c.split_at(4);
        let number = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
        children::insert(
            pid,
            ClusterPid(number(child)),
            ClusterPid(number(pgid)),
            None,
        )?;
    }
    let parent = nodes::to_local(a.spawn.ppid);
    let local = pproc::exists(parent) && !nodes::is_foreign_alias(a.spawn.ppid);
    movement::activate(pid, local.then_some(parent))?;
    if local {
        // After it is in its parent's list: a wait must not miss it.
        children::remove(parent, pid);
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

/// Pages of a process that comes here: puts them into it. Sleeps.
///
/// # Errors
/// `ESRCH` if the process is not known here; `ECANCELED` if it does not wait for pages; `EPROTO`; those of writing them.
pub(crate) fn pages(pid: ClusterPid, m: u64, n_pages: u32, tail: &[u8]) -> Result {
    let a = arrival(pid, m).ok_or(ESRCH)?;
    let target = {
        let mut f = a.filling.lock();
        let t = f.target.clone().ok_or(ECANCELED)?;
        f.busy += 1;
        t
    };
    let r = fill(&target, n_pages as usize, tail);
    // Before the process is told that it has its memory to itself.
    drop(target);
    let is_waited_for = {
        let mut f = a.filling.lock();
        f.busy -= 1;
        f.busy == 0 && f.target.is_none()
    };
    if is_waited_for {
        a.changed.notify_all();
    }
    r
}

/// A movement to here will not be: what was prepared goes. One that is committed stays.
pub(crate) fn abort(pid: ClusterPid, m: u64) {
    if let Some(a) = arrival(pid, m) {
        let aborted = {
            let mut stage = a.stage.lock();
            if !matches!(*stage, Stage::Active) {
                *stage = Stage::Aborted;
            }
            matches!(*stage, Stage::Aborted)
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
    if !matches!(a.stage(), Stage::Active) {
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
    for (child, _, _) in children::of(pid).unwrap_or_default() {
        children::remove(pid, child);
    }
    forget(pid);
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

/// The children of the current process on this node, as its image records them.
///
/// # Errors
/// `E2BIG`, `ENOMEM`.
pub(crate) fn children_record() -> Result<KVVec<u8>> {
    let mut out = KVVec::new();
    let pid = ssi::task::current_tgid();
    for (child, pgid) in movement::children()? {
        out.extend_from_slice(&nodes::to_wire(child).0.to_le_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(&nodes::to_wire(pgid).0.to_le_bytes(), GFP_KERNEL)?;
    }
    // Those elsewhere that have ended and wait for it are lost with its records: they keep it here.
    for (child, pgid, ended) in children::of(pid)? {
        if ended.is_some() {
            return Err(EBUSY);
        }
        out.extend_from_slice(&child.0.to_le_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(&pgid.0.to_le_bytes(), GFP_KERNEL)?;
    }
    Ok(out)
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

/// A process has moved: why it once could not is of no interest.
pub(crate) fn forget_refusal(pid: ClusterPid) {
    let mut guard = REFUSALS.lock();
    if let Some(i) = guard.iter().position(|(p, _)| *p == pid) {
        let _old = guard.remove(i);
    }
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
