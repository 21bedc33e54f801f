// SPDX-License-Identifier: GPL-2.0

//! Migration: a running process goes to another node between two of its instructions.
//!
//! The process is caught on its way to user mode and moves itself; whoever asked for it waits. Until the commit every
//! failure leaves it as it was, here, and the asker learns why.

use crate::movement;
use crate::movement::image::Header;
use crate::nodes;
use crate::proto::*;
use crate::rexec;
use kernel::prelude::*;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::SpinLock;
use kernel::time::Delta;
use ssi::hooks::UserReturn;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::image;
use ssi::movement as steps;
use ssi::movement::Spawn;
use ssi::pproc;
use ssi::refusal::Refusal;
use ssi::wait::Event;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::IntoBytes;

/// Image of a running process.
pub(crate) const KIND_MOVE: u32 = 2;

/// How long a process may take until it is on its way to user mode.
const CATCH_MS: u32 = 5000;

/// Pages of one message: enough that its own cost does not count, few enough that several can be under way.
const BATCH: usize = 64;

/// Messages with pages that may be without an answer.
const AHEAD: usize = 6;

/// How long pages may still be held that a finished write gave to a device or file system: those let go of them in
/// their own time.
const PINNED_MS: u32 = 1000;

/// How far a departure is.
#[derive(Clone, Copy)]
enum Stage {
    /// The process has not been caught yet.
    Asked,
    /// It is moving itself.
    Moving,
    /// It has moved, or not.
    Over(core::result::Result<(), Refusal>),
    /// Nobody waits any more, and it was not caught.
    Withdrawn,
}

/// A process that is to go.
#[pin_data]
struct Departure {
    pid: ClusterPid,
    movement: u64,
    to: NodeId,
    /// The process asked for it itself, and finds a refusal as its call's result.
    by_itself: bool,
    #[pin]
    stage: SpinLock<Stage>,
    #[pin]
    changed: Event,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 41 `vproc::departures`, mutex. Never held across a call to a node.
    unsafe(uninit) static DEPARTURES: Mutex<KVec<Arc<Departure>>> = KVec::new();
}

/// Makes the table. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { DEPARTURES.init() };
}

/// Frees the table at module unload.
pub(crate) fn clear() {
    *DEPARTURES.lock() = KVec::new();
}

fn forget(movement: u64) -> Option<Arc<Departure>> {
    let mut guard = DEPARTURES.lock();
    let i = guard.iter().position(|d| d.movement == movement)?;
    guard.remove(i).ok()
}

/// Moves a process of this node. Sleeps until it has moved or been refused; a process that moves itself goes when
/// it next enters user mode, and finds a refusal as its call's result.
///
/// # Errors
/// `EPERM`, `ESRCH`; `EINVAL` for this very node; `EAGAIN` if it could not be caught in time; `EINTR`; the refusals of
/// `Documentation/vproc.rst`.
pub(crate) fn ask(pid: ClusterPid, to: NodeId) -> Result {
    pproc::may_move(pid)?;
    if to == nodes::this() {
        return Err(EINVAL);
    }
    if pproc::ids(pid)?.tgid != pid {
        return Err(ESRCH);
    }
    let movement = movement::new_movement();
    // Another thread of the process waits as everybody does.
    let by_itself = pid == ssi::task::current_tgid() && ssi::task::is_leader();
    let d = Arc::pin_init(
        pin_init!(Departure {
            pid,
            movement,
            to,
            by_itself,
            stage <- kernel::new_spinlock!(Stage::Asked, "vproc::departure"),
            changed <- Event::new(),
        }),
        GFP_KERNEL,
    )?;
    {
        let mut guard = DEPARTURES.lock();
        // Those that were killed before they could leave.
        guard.retain(|d| pproc::exists(d.pid));
        guard.push(d.clone(), GFP_KERNEL)?;
    }
    if let Err(e) = steps::request(pid, movement) {
        forget(movement);
        return Err(e);
    }
    if d.by_itself {
        return Ok(());
    }
    d.changed
        .wait_timeout(CATCH_MS, || !matches!(*d.stage.lock(), Stage::Asked));
    let killed = !{
        let withdrawn = {
            let mut stage = d.stage.lock();
            if matches!(*stage, Stage::Asked) {
                *stage = Stage::Withdrawn;
            }
            matches!(*stage, Stage::Withdrawn)
        };
        if withdrawn {
            forget(movement);
            let why = Refusal::new(EAGAIN, b"not on its way to user mode in 5 s");
            movement::refusals::note(pid, why);
            return Err(EAGAIN);
        }
        d.changed
            .wait_killable(|| matches!(*d.stage.lock(), Stage::Over(_)))
    };
    if killed {
        return Err(EINTR);
    }
    let stage = *d.stage.lock();
    match stage {
        Stage::Over(Err(why)) => Err(why.errno),
        _ => Ok(()),
    }
}

/// The current process was caught to leave.
pub(crate) fn leave(movement: u64) -> UserReturn {
    let caught = forget(movement).filter(|d| {
        let mut stage = d.stage.lock();
        let asked = matches!(*stage, Stage::Asked);
        if asked {
            *stage = Stage::Moving;
        }
        asked
    });
    let Some(d) = caught else {
        steps::forget();
        return UserReturn::GoOn;
    };
    d.changed.notify_all();
    let result = go(&d);
    if let Err(why) = &result {
        movement::refusals::note(d.pid, *why);
    } else {
        movement::refusals::forget(d.pid);
    }
    *d.stage.lock() = Stage::Over(result);
    d.changed.notify_all();
    match result {
        Ok(()) => UserReturn::Vanish,
        Err(why) => {
            steps::forget();
            if d.by_itself {
                ssi::task::set_syscall_result(why.errno.to_errno() as isize);
            }
            UserReturn::GoOn
        }
    }
}

/// Moves the current process: everything up to and with the commit.
fn go(d: &Departure) -> core::result::Result<(), Refusal> {
    movement::check_outward()?;
    if steps::has_execed() {
        // Whoever asked had a right to another program.
        return Err(Refusal::new(EAGAIN, b"runs another program now"));
    }
    let (ids, leader) = steps::leave_check()?;
    check_image()?;
    let ppid = movement::family::wire_parent(&ids);
    let spawn = Spawn {
        movement: d.movement,
        nr: ids.tgid,
        ppid,
        pgid: ids.pgid,
        sid: ids.sid,
        exit_signal: ids.exit_signal,
        session_leader: leader,
    };
    let header = Header::capture(&ids, leader, ppid)?;
    let children = movement::family::children_record()?;
    let files = rfile::export_fds(true)?;
    let task = match image::capture_task() {
        Ok(t) => t,
        Err(e) => {
            rfile::abort_export(&files);
            return Err(e.into());
        }
    };
    let r = send(d, header, &files, &children, &task)
        .and_then(|()| movement::source::commit(&spawn, d.to, &children));
    if r.is_err() {
        movement::source::give_up(spawn.nr, d.movement, d.to);
        // What the destination has claimed it gives back itself; what it has not, goes here.
        rfile::abort_export(&files);
        // Its own image: cannot be torn.
        let _started = image::start_timers(&task, Delta::ZERO);
    }
    r
}

/// Whether an image can hold the current process.
fn check_image() -> core::result::Result<(), Refusal> {
    const STEP_MS: u32 = 10;
    let mut waited = 0;
    loop {
        match image::check() {
            Err(why) if why.cause().starts_with(b"pages pinned") && waited < PINNED_MS => {
                ssi::machine::sleep_ms(STEP_MS);
                waited += STEP_MS;
            }
            r => return r,
        }
    }
}

/// Sends the image; when this ends the process is parked at the destination.
fn send(
    d: &Departure,
    mut header: Header,
    files: &[u8],
    children: &[u8],
    task: &[u8],
) -> core::result::Result<(), Refusal> {
    let mm = image::capture_memory()?;
    let len = |b: &[u8]| Le32::new(b.len() as u32); // CAST: each is far below 4 GiB.
    header.files_len = len(files);
    header.children_len = len(children);
    header.task_len = len(task);
    let mut all = KVVec::<u8>::new();
    for part in [header.as_bytes(), files, children, task, &mm] {
        all.extend_from_slice(part, GFP_KERNEL)
            .map_err(Error::from)?;
    }
    let req = PrepareReq {
        pid: Le32::new(d.pid.0),
        kind: Le32::new(KIND_MOVE),
        movement: Le64::new(d.movement),
    };
    let (rep, why) = ics::call::<Prepare>(d.to, &req, &all).map_err(|e| e.to_errno())?;
    rexec::verdict(rep.errno.get(), &why)?;
    send_pages(d)?;
    let req = CompleteReq {
        pid: Le32::new(d.pid.0),
        movement: Le64::new(d.movement),
    };
    let (rep, why) = ics::call::<Complete>(d.to, &req, &[]).map_err(|e| e.to_errno())?;
    rexec::verdict(rep.errno.get(), &why)
}

/// Sends the pages, a few messages ahead of what the destination has put in.
fn send_pages(d: &Departure) -> Result {
    let mut addrs = [0u64; BATCH];
    let mut walk = image::Pages::new();
    let mut ahead = KVec::<ics::UnderWay<crate::proto::Pages>>::with_capacity(AHEAD, GFP_KERNEL)?;
    loop {
        let n = walk.next(&mut addrs)?;
        let batch = addrs.get(..n).ok_or(EIO)?;
        while ahead.len() >= AHEAD || (batch.is_empty() && !ahead.is_empty()) {
            let oldest = ahead.remove(0).map_err(|_| EIO)?;
            oldest.wait().map_err(|e| e.to_errno())?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let request = pages_request(d, batch).map_err(|e| e.to_errno())?;
        let sent = request.send(d.to).map_err(|e| e.to_errno())?;
        ahead.push(sent, GFP_KERNEL)?;
    }
}

/// The message with these pages of the current process.
fn pages_request(
    d: &Departure,
    batch: &[u64],
) -> core::result::Result<ics::Request<crate::proto::Pages>, ics::CallError> {
    let req = PagesReq {
        pid: Le32::new(d.pid.0),
        n_pages: Le32::new(batch.len() as u32), // CAST: at most BATCH.
        movement: Le64::new(d.movement),
    };
    let mut request = ics::Request::new(&req, batch.len() * (image::PAGE + 8))?;
    for a in batch {
        request.extend(&a.to_le_bytes())?;
    }
    // Guard pages have no content: the others are read in runs between them.
    for run in batch.split(|a| a & image::Pages::GUARD != 0) {
        let contents = request.extend_zeroed(run.len() * image::PAGE)?;
        image::read_pages(run, contents).map_err(ics::CallError::Local)?;
    }
    Ok(request)
}
