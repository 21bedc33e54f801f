// SPDX-License-Identifier: GPL-2.0

//! One process on its way from one node to another: source and destination, step by step.
//!
//! The commit point is the origin's table (`home`), or the destination itself when the origin is down. The destination
//! runs a process only on its judge's word, the source lets go only on that word. From the moment [`commit`] has asked
//! until it has an answer, the source can do nothing but wait. Who decides what is in `state`.

use crate::agent;
use crate::children;
use crate::events;
use crate::migrate;
use crate::nodes;
use crate::progress;
use crate::proto::*;
use crate::rexec;
use ics::CallError;
use ics::Caller;
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
use ssi::pproc::Exit;
use ssi::pproc::Ids;
use ssi::pproc::Pins;
use ssi::pproc::SigInfo;
use ssi::wait::Event;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

pub(crate) mod image;
pub(crate) mod leaving;
pub(crate) mod state;

use state::Answer;
use state::Effect;
use state::Event as Happened;
use state::Judge as Asked;
use state::Stage;

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
    from: Caller,
    /// Whether it is a moved process, not a program to start.
    is_move: bool,
    /// The fixed part of what it is made of.
    header: image::Header,
    /// The rest.
    pub(crate) image: KVVec<u8>,
    /// How far it is; changed by [`Arrival::step`] alone. Lock: level 46 `vproc::stage`, spin.
    #[pin]
    stage: kernel::sync::SpinLock<Stage>,
    /// Whether its source is down and the origin must be asked.
    source_is_down: Atomic<u32>,
    /// Whether its end has been reported to its parent's node.
    end_is_told: Atomic<u32>,
    /// Its memory while pages come. Lock: `vproc::filling`, spin, a leaf.
    #[pin]
    filling: kernel::sync::SpinLock<Filling>,
    /// Held for each step. Lock: level 44 `vproc::turn`, mutex.
    #[pin]
    turn: kernel::sync::Mutex<Turn>,
    /// Told at every change of `stage`.
    #[pin]
    changed: Event,
}

/// What is kept for a process until it lives here.
struct Turn {
    /// Signals that were pending at the source, or came since.
    signals: KVVec<u8>,
    /// Its children that have ended meanwhile.
    ends: KVec<(ClusterPid, Exit)>,
    /// Whether its parent has died meanwhile.
    is_orphan: bool,
    /// Why it cannot be made.
    why: Option<Refusal>,
}

impl Arrival {
    /// The fixed part of what it is made of.
    pub(crate) fn header(&self) -> &image::Header {
        &self.header
    }

    fn stage(&self) -> Stage {
        *self.stage.lock()
    }

    fn is_active(&self) -> bool {
        self.stage() == Stage::Active
    }

    /// Takes one step; what makes the process live here is done before anybody sees that it does.
    fn step(&self, ev: Happened) -> Effect {
        let mut effect;
        {
            let mut turn = self.turn.lock();
            let before = self.stage();
            let (mut after, e) = state::arriving(before, ev);
            effect = e;
            if effect == Effect::Run
                && before != Stage::Active
                && self.bring_alive(&mut turn).is_err()
            {
                pr_err!("process {} died before it lived here\n", self.spawn.nr.0);
                (after, effect) = (Stage::Aborted, Effect::Never);
            }
            *self.stage.lock() = after;
        }
        if effect == Effect::AskOrigin {
            self.source_is_down.store(1, Relaxed);
        }
        self.changed.notify_all();
        progress::notify();
        if effect == Effect::Run {
            // Not while it is this process's turn: it may send.
            let ends = core::mem::take(&mut self.turn.lock().ends);
            for (child, exit) in ends {
                // ESRCH: reported twice.
                let _known = events::end_child(self.spawn.nr, child, exit);
            }
        }
        effect
    }

    fn fail(&self, why: Refusal) {
        self.turn.lock().why = Some(why);
        let _failed = self.step(Happened::Failed);
    }

    fn verdict(&self) -> core::result::Result<(), Refusal> {
        match self.stage() {
            Stage::Failed => Err(self.turn.lock().why.unwrap_or(ECANCELED.into())),
            Stage::Aborted => Err(ECANCELED.into()),
            _ => Ok(()),
        }
    }

    /// Makes the parked process the one that lives.
    ///
    /// # Errors
    /// `ESRCH` if it has no task any more.
    fn bring_alive(&self, turn: &mut Turn) -> Result {
        let pid = self.spawn.nr;
        // Before it can be waited for, or exit.
        let parts = self.header.parts(&self.image)?;
        for c in parts.children.chunks_exact(8) {
            let (child, pgid) = c.split_at(4);
            let number = |b: &[u8]| ClusterPid(b.try_into().map_or(0, u32::from_le_bytes));
            // It is committed: there is no way back.
            while children::insert(pid, number(child), number(pgid), None).is_err() {
                ssi::task::yield_now();
            }
        }
        let parent = nodes::to_local(self.spawn.ppid);
        let local = pproc::exists(parent) && !nodes::is_foreign_alias(self.spawn.ppid);
        let linked = movement::activate(pid, local.then_some(parent))?;
        if linked {
            // After it is in its parent's list: a wait must not miss it.
            children::remove(parent, pid);
        } else if turn.is_orphan || (local && pproc::exists(parent)) {
            // Its parent is dead, or about to be. ESRCH: it has ended itself.
            children::remove(parent, pid);
            let _ended = pproc::reparent_to_init(pid);
        }
        leaving::came_back(pid);
        let signals = core::mem::take(&mut turn.signals);
        for chunk in signals.chunks_exact(core::mem::size_of::<LateSignal>()) {
            let Ok(l) = LateSignal::read_from_bytes(chunk) else {
                continue;
            };
            // CAST: same bits. A signal that the process ignores is gone here as it would have been there.
            let _ = pproc::signal(
                pid,
                l.target(),
                l.sig.get() as i32,
                &SigInfo(l.info),
                0,
                true,
            );
        }
        Ok(())
    }

    /// The source is down: asks the origin what has become of the movement. Only in the parked process.
    fn settle(&self) {
        self.source_is_down.store(0, Relaxed);
        let req = AskReq {
            pid: Le32::new(self.spawn.nr.0),
            from: Le32::new(self.from.node.number()),
            incarnation: Le64::new(self.from.incarnation.0),
            movement: Le64::new(self.spawn.movement),
        };
        let answer = loop {
            let Some(origin) = nodes::live_origin(self.spawn.nr) else {
                break Answer::Down;
            };
            match ics::call::<Ask>(origin, &req, &[]) {
                Ok((rep, _)) => break answer_of(rep.answer.get()),
                Err(CallError::Down(_)) => {}
                // The origin has not seen the source's end yet, or there is no memory: nobody has decided.
                Err(_) => ssi::machine::sleep_ms(RETRY_MS),
            }
        };
        let _done = self.step(Happened::OriginSays(answer));
    }
}

/// How long to wait before a question is asked again that could not be answered.
const RETRY_MS: u32 = 20;

/// An answer from the wire. An unknown one is as good as none.
fn answer_of(wire: u32) -> Answer {
    match wire {
        1 => Answer::Committed,
        2 => Answer::Refused,
        3 => Answer::NotThere,
        _ => Answer::Down,
    }
}

/// An answer for the wire.
pub(crate) fn answer_to_wire(a: Answer) -> Le32 {
    Le32::new(match a {
        Answer::Committed => 1,
        Answer::Refused => 2,
        Answer::NotThere => 3,
        Answer::Down => 0,
    })
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
    leaving::init();
}

/// Frees the tables at module unload.
pub(crate) fn clear() {
    *ARRIVALS.lock() = KVec::new();
    *REFUSALS.lock() = KVec::new();
    leaving::clear();
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

fn any_arrival(pid: ClusterPid) -> Option<Arc<Arrival>> {
    let guard = ARRIVALS.lock();
    guard.iter().find(|a| a.spawn.nr == pid).cloned()
}

/// Processes that are about to live here.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn coming() -> Result<KVec<ClusterPid>> {
    let mut out = KVec::new();
    let guard = ARRIVALS.lock();
    for a in guard.iter().filter(|a| !a.is_active()) {
        out.push(a.spawn.nr, GFP_KERNEL)?;
    }
    Ok(out)
}

/// Whether a process is about to live here.
pub(crate) fn is_coming(pid: ClusterPid) -> bool {
    any_arrival(pid)
        .is_some_and(|a| matches!(a.stage(), Stage::Making | Stage::Filling | Stage::Parked))
}

/// Whether a process lives here, once no movement of it from or to here is under way; if not it does not come here
/// until [`leaving::unbar`]. Sleeps.
pub(crate) fn is_here_for_good(pid: ClusterPid, caller: Caller) -> Result<bool> {
    let searcher = caller.node;
    leaving::bar(pid, searcher)?;
    // Its end was told before it was in the table, or will be.
    if !clms::is_member(searcher, caller.incarnation) {
        leaving::unbar(pid, searcher);
    }
    progress::wait_until(|| !is_coming(pid) && !leaving::is_leaving(pid));
    let is_here = pproc::exists(pid);
    if is_here {
        leaving::unbar(pid, searcher);
    }
    Ok(is_here)
}

fn forget(pid: ClusterPid) -> Option<Arc<Arrival>> {
    let gone = {
        let mut guard = ARRIVALS.lock();
        let i = guard.iter().position(|a| a.spawn.nr == pid)?;
        guard.remove(i).ok()
    };
    progress::notify();
    gone
}

fn forget_one(pid: ClusterPid, m: u64) {
    let _gone = {
        let mut guard = ARRIVALS.lock();
        let is = |a: &Arc<Arrival>| a.spawn.nr == pid && a.spawn.movement == m;
        guard.iter().position(is).map(|i| guard.remove(i))
    };
    progress::notify();
}

// ---- Destination -------------------------------------------------------------------------------------------

/// Makes a process from its image. Sleeps until it is parked, or waits for its pages, or has failed.
///
/// # Errors
/// `EPROTO` bad image; `EEXIST` the number is in use here; `EHOSTUNREACH` this node leaves; those of making it.
pub(crate) fn prepare(
    from: Caller,
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
    let is_number = |b: &[u8]| {
        b.try_into()
            .is_ok_and(|b| ClusterPid(u32::from_le_bytes(b)).origin().is_some())
    };
    if !header.parts(rest)?.children.chunks(4).all(is_number) {
        return Err(EPROTO.into());
    }
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
            source_is_down: Atomic::new(0),
            end_is_told: Atomic::new(0),
            turn <- kernel::new_mutex!(
                Turn { signals: KVVec::new(), ends: KVec::new(), is_orphan: false, why: None },
                "vproc::turn"
            ),
            changed <- Event::new(),
        }),
        GFP_KERNEL,
    )?;
    {
        let mut guard = ARRIVALS.lock();
        // One that was destroyed and whose end has not been seen yet is of no interest any more.
        guard.retain(|a| a.spawn.nr != pid || !matches!(a.stage(), Stage::Failed | Stage::Aborted));
        guard.push(a.clone(), GFP_KERNEL).map_err(Error::from)?;
    }
    // The end of its source was told before it was in the table, or will be told to it.
    if !clms::is_member(from.node, from.incarnation) {
        let _destroyed = a.step(Happened::SourceDown);
    }
    // An order to give up may overtake the one to begin.
    if leaving::is_given_up(movement) {
        let _destroyed = a.step(Happened::Abort);
    }
    // Somebody who looks for it was told that it is not here.
    if leaving::is_barred(pid) {
        forget_one(pid, movement);
        return Err(Refusal::new(EAGAIN, b"its parent's node looks for it"));
    }
    let was_pinned = pproc::pins(pid).contains(Pins::EXEC);
    let made = pproc::pin(pid, Pins::EXEC).and_then(|()| agent::spawn(spawn));
    if let Err(e) = made {
        forget_one(pid, movement);
        if !was_pinned {
            pproc::unpin(pid, Pins::EXEC);
        }
        return Err(e.into());
    }
    a.changed.wait_until(|| a.stage() != Stage::Making);
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
        a.fail(why);
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
    let _filling = a.step(Happened::Laid);
    a.changed
        .wait_until(|| a.filling.lock().complete || a.stage() == Stage::Aborted);
    // Whoever still puts pages in ends first, and nobody begins.
    let target = a.filling.lock().target.take();
    drop(target);
    a.changed.wait_until(|| a.filling.lock().busy == 0);
    if a.stage() == Stage::Aborted {
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
    match ready {
        Ok(()) => {
            let _parked = a.step(Happened::Made);
        }
        Err(e) => a.fail(e.into()),
    }
    loop {
        let asks = || a.source_is_down.load(Relaxed) != 0;
        a.changed
            .wait_until(|| a.stage() != Stage::Parked || asks());
        match a.stage() {
            Stage::Parked => a.settle(),
            Stage::Active => break,
            _ => return UserReturn::Vanish,
        }
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
/// `ESRCH` if it is not known here, or was destroyed.
pub(crate) fn activate(pid: ClusterPid, m: u64) -> Result {
    match arrival(pid, m).map(|a| a.step(Happened::Activate)) {
        Some(Effect::Run) => Ok(()),
        _ => Err(ESRCH),
    }
}

/// The source asks for its commit, as the origin is down.
pub(crate) fn judge(pid: ClusterPid, m: u64) -> Answer {
    match arrival(pid, m).map(|a| a.step(Happened::Judge)) {
        // What is not known any more was complete, and has run.
        Some(Effect::Run) | None => Answer::Committed,
        Some(_) => Answer::Refused,
    }
}

/// Signals that were pending at the source.
///
/// # Errors
/// `ESRCH` if the process is not known here; `ENOMEM`.
pub(crate) fn late(pid: ClusterPid, m: u64, tail: &[u8]) -> Result {
    let a = arrival(pid, m).ok_or(ESRCH)?;
    let mut turn = a.turn.lock();
    turn.signals.extend_from_slice(tail, GFP_KERNEL)?;
    Ok(())
}

/// Keeps a signal that came for a process which is about to live here, or is about to leave. Returns whether it did;
/// if not the signal is for a process that is where it is.
pub(crate) fn hold(pid: ClusterPid, signal: &LateSignal) -> bool {
    if leaving::hold(pid, signal) {
        return true;
    }
    let Some(a) = any_arrival(pid) else {
        return false;
    };
    let mut turn = a.turn.lock();
    let holds = matches!(a.stage(), Stage::Making | Stage::Filling | Stage::Parked);
    while holds
        && turn
            .signals
            .extend_from_slice(signal.as_bytes(), GFP_KERNEL)
            .is_err()
    {
        ssi::task::yield_now();
    }
    holds
}

/// A process has died: those that come here are its children no more.
pub(crate) fn parent_is_lost(parent: ClusterPid) {
    let mut children = KVec::new();
    {
        let guard = ARRIVALS.lock();
        for a in guard.iter().filter(|a| a.spawn.ppid == parent) {
            // Without memory it keeps the dead parent's number.
            let _ = children.push(a.clone(), GFP_KERNEL);
        }
    }
    for a in children {
        a.turn.lock().is_orphan = true;
    }
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
    if arrival(pid, m).is_none() {
        leaving::give_up(m);
    }
    // It may have been listed meanwhile.
    if let Some(a) = arrival(pid, m) {
        let _destroyed = a.step(Happened::Abort);
    }
}

/// The end of a process that came here has been reported to its parent's node.
pub(crate) fn end_is_told(pid: ClusterPid) {
    if let Some(a) = any_arrival(pid) {
        a.end_is_told.store(1, Relaxed);
    }
}

/// A process that came here lost its last task. Returns whether it had lived here and nobody has been told of its end.
pub(crate) fn forget_arrival(pid: ClusterPid) -> bool {
    let gone = {
        let mut guard = ARRIVALS.lock();
        let is_over =
            |a: &Arc<Arrival>| matches!(a.stage(), Stage::Active | Stage::Failed | Stage::Aborted);
        // It may be on its way here again.
        let place = guard.iter().position(|a| a.spawn.nr == pid && is_over(a));
        place.and_then(|i| guard.remove(i).ok())
    };
    progress::notify();
    gone.is_some_and(|a| a.is_active() && a.end_is_told.load(Relaxed) == 0)
}

/// Drops the pin of a number of another node that has no task here any more, unless its process is on its way here.
pub(crate) fn unpin_idle(pid: ClusterPid) {
    let guard = ARRIVALS.lock();
    if !guard.iter().any(|a| a.spawn.nr == pid) {
        pproc::unpin(pid, Pins::EXEC);
    }
}

/// The parent of a process has died, which is about to live here, if it is.
pub(crate) fn orphan_arrival(pid: ClusterPid) {
    if let Some(a) = any_arrival(pid) {
        a.turn.lock().is_orphan = true;
    }
}

/// Keeps the end of a child whose parent is about to live here: its records are not made yet. Returns whether it did;
/// `told` is what looking for a record gave.
pub(crate) fn hold_end(
    parent: ClusterPid,
    child: ClusterPid,
    told: &Result<bool>,
    exit: Exit,
) -> bool {
    if told.is_ok() {
        return false;
    }
    let Some(a) = any_arrival(parent) else {
        return false;
    };
    let mut turn = a.turn.lock();
    let holds = matches!(a.stage(), Stage::Making | Stage::Filling | Stage::Parked);
    while holds && turn.ends.push((child, exit), GFP_KERNEL).is_err() {
        ssi::task::yield_now();
    }
    holds
}

// ---- Source ------------------------------------------------------------------------------------------------

/// Asks for the current process to be given to `to`, which has it prepared, and lets go of it here.
///
/// On success the caller makes the process vanish: it is at `to`, or nobody is left who knows whether it ran there.
/// On failure it is as before.
///
/// `children` is what the image says of them.
///
/// # Errors
/// `EAGAIN` the process is being killed, or its family, group or session has changed since its image was taken; what
/// `leave_check` refuses; `EHOSTDOWN`; `ENOMEM`.
pub(crate) fn commit(
    spawn: &Spawn,
    to: NodeId,
    children: &[u8],
) -> core::result::Result<(), Refusal> {
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
    if let Err(e) = leaving::begin(pid) {
        undo();
        return Err(e.into());
    }
    let stay = |why: Refusal| {
        movement::unmark_moved();
        undo();
        leaving::stays(pid);
        Err(why)
    };
    let late = match movement::mark_moved() {
        Ok(l) => l,
        Err(e) => {
            undo();
            leaving::stays(pid);
            return Err(e.into());
        }
    };
    if let Err(why) = is_as_captured(spawn, children) {
        return stay(why);
    }
    if let Err(e) = send_late(pid, spawn.movement, to, &late) {
        return stay(e.into());
    }
    // Nobody has been asked yet: it can stay.
    if !clms::is_up(to) {
        return stay(EHOSTDOWN.into());
    }
    match ask(pid, spawn.movement, to) {
        state::Source::Vanish => {}
        _ => return stay(EHOSTDOWN.into()),
    }
    // The process is the destination's now: what follows cannot be undone, and does not fail but for memory.
    while movement::detach().is_err() {
        ssi::task::yield_now();
    }
    let mut ended = KVec::new();
    loop {
        // Reaped ones, which have no place in the list, go by themselves.
        let Ok(list) = children::of(pid) else {
            ssi::task::yield_now();
            continue;
        };
        // Room first: what has been taken out is nowhere else.
        while ended.reserve(list.len(), GFP_KERNEL).is_err() {
            ssi::task::yield_now();
        }
        for (child, _, _) in list {
            if let Some(exit) = children::take(pid, child) {
                let _ = ended.push_within_capacity((child, exit));
            }
        }
        break;
    }
    forget(pid);
    leaving::left(pid, to);
    for (child, exit) in ended {
        events::tell_parent(pid, child, exit);
    }
    Ok(())
}

/// The parent's number here, if the parent is here.
fn local_parent(spawn: &Spawn) -> Option<ClusterPid> {
    let parent = nodes::to_local(spawn.ppid);
    (!nodes::is_foreign_alias(spawn.ppid) && pproc::exists(parent)).then_some(parent)
}

/// Whether the current process may still leave, and is who its image says. Others may have changed that since.
fn is_as_captured(spawn: &Spawn, children: &[u8]) -> core::result::Result<(), Refusal> {
    let (ids, _) = movement::leave_check()?;
    let ppid = wire_parent(&ids);
    if (ids.pgid, ids.sid, ppid) != (spawn.pgid, spawn.sid, spawn.ppid) {
        return Err(Refusal::new(EAGAIN, b"its parent or group has changed"));
    }
    if children_record()?[..] != *children {
        return Err(Refusal::new(EAGAIN, b"its children have changed"));
    }
    Ok(())
}

/// A process's parent, in wire form.
pub(crate) fn wire_parent(ids: &Ids) -> ClusterPid {
    if ids.remote_parent {
        ids.ppid
    } else {
        nodes::to_wire(ids.ppid)
    }
}

fn send_late(pid: ClusterPid, m: u64, to: NodeId, late: &[LateSignal]) -> Result {
    if late.is_empty() {
        return Ok(());
    }
    let req = LateReq {
        pid: Le32::new(pid.0),
        movement: Le64::new(m),
    };
    ics::call::<Late>(to, &req, late.as_bytes()).map_err(|e| e.to_errno())?;
    Ok(())
}

/// Asks for the commit until somebody has decided.
fn ask(pid: ClusterPid, m: u64, to: NodeId) -> state::Source {
    let origin = pid.origin();
    let mut judge = state::first_judge(nodes::live_origin(pid).is_some());
    loop {
        let r = match (judge, origin) {
            (Asked::Origin, Some(origin)) => {
                let req = MoveReq {
                    pid: Le32::new(pid.0),
                    to: Le32::new(to.number()),
                    movement: Le64::new(m),
                };
                ics::call::<Move>(origin, &req, &[]).map(|(rep, _)| rep.answer)
            }
            _ => {
                let req = JudgeReq {
                    pid: Le32::new(pid.0),
                    movement: Le64::new(m),
                };
                ics::call::<Judge>(to, &req, &[]).map(|(rep, _)| rep.answer)
            }
        };
        let answer = match r {
            Ok(answer) => answer_of(answer.get()),
            Err(CallError::Down(_)) => Answer::Down,
            // Without memory there, or here: nobody has decided, or the answer got lost.
            Err(_) => {
                ssi::machine::sleep_ms(RETRY_MS);
                continue;
            }
        };
        match state::answered(judge, answer, origin == Some(to)) {
            state::Source::Ask(next) => judge = next,
            done => return done,
        }
    }
}

/// Tells the destination that the current process stays.
pub(crate) fn give_up(pid: ClusterPid, m: u64, to: NodeId) {
    let req = AbortReq {
        pid: Le32::new(pid.0),
        movement: Le64::new(m),
    };
    // A destination that is down has nothing to destroy. One that is not must know, or it waits for ever.
    while let Err(e) = ics::call::<Abort>(to, &req, &[]) {
        match e {
            CallError::Down(_) => return,
            _ => ssi::machine::sleep_ms(RETRY_MS),
        }
    }
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

/// A node is down: what it was sending here and is not complete goes, what is complete asks the origin.
pub(crate) fn node_down(node: NodeId) {
    leaving::searcher_down(node);
    loop {
        let mut coming = KVec::new();
        let complete = {
            let guard = ARRIVALS.lock();
            guard
                .iter()
                .filter(|a| a.from.node == node && !a.is_active())
                .all(|a| coming.push(a.clone(), GFP_KERNEL).is_ok())
        };
        for a in &coming {
            let _parked_ones_ask = a.step(Happened::SourceDown);
        }
        if complete {
            return;
        }
        ssi::task::yield_now();
    }
}
