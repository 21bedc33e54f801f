// SPDX-License-Identifier: GPL-2.0

//! The destination's answers to the source and the origin of a movement.
//!
//! What the new process does meanwhile is in `make`, how far it is in its `arrival`, the pages it gets are in `pages`.

use super::arrival::Arrival;
use super::check_open;
use super::coming;
use super::family;
use super::image;
use super::leaving;
use super::pages;
use super::starts_on;
use super::state::Answer;
use super::state::Effect;
use super::state::Event as Happened;
use super::state::Stage;
use crate::agent;
use crate::migrate;
use crate::proto::*;
use crate::recovery;
use crate::rexec;
use ics::Caller;
use kernel::prelude::*;
use ssi::ids::ClusterPid;
use ssi::pproc;
use ssi::pproc::Pins;
use ssi::refusal::Refusal;
use zerocopy::FromBytes;

/// Makes a process from its image. Sleeps until it is parked, or waits for its pages, or has failed.
///
/// # Errors
/// `EPROTO` bad image, or a movement that does not start on that node; `EEXIST` the number is in use here; `EAGAIN` its
/// parent's node looks for it; `EHOSTUNREACH` this node leaves; those of making it.
pub(crate) fn prepare(
    from: Caller,
    req: &PrepareReq,
    tail: &[u8],
) -> core::result::Result<(), Refusal> {
    check_open()?;
    let pid = ClusterPid(req.pid.get());
    let movement = req.movement.get();
    if !starts_on(movement, from.node) {
        return Err(EPROTO.into());
    }
    let is_move = match req.kind.get() {
        rexec::KIND_EXEC => false,
        migrate::KIND_MOVE => true,
        _ => return Err(EPROTO.into()),
    };
    let (header, rest) = image::Header::ref_from_prefix(tail).map_err(|_| EPROTO)?;
    let spawn = header.spawn(pid, movement)?;
    if !family::is_record(header.parts(rest)?.children) {
        return Err(EPROTO.into());
    }
    let a = Arrival::new(from, spawn, is_move, *header, rest)?;
    coming::insert(&a)?;
    // Who leaves has closed before it looked who is here.
    if let Err(e) = check_open() {
        coming::forget_one(pid, movement);
        return Err(e);
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
        coming::forget_one(pid, movement);
        return Err(Refusal::new(EAGAIN, b"its parent's node looks for it"));
    }
    let was_pinned = pproc::pins(pid).contains(Pins::EXEC);
    let made = pproc::pin(pid, Pins::EXEC).and_then(|()| agent::spawn(spawn));
    if let Err(e) = made {
        coming::forget_one(pid, movement);
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
/// `ESRCH` if it does not come from there; those of making it.
pub(crate) fn complete(
    source: Caller,
    pid: ClusterPid,
    m: u64,
) -> core::result::Result<(), Refusal> {
    let a = coming::from(source, pid, m).ok_or(ESRCH)?;
    pages::all_sent(&a);
    a.changed
        .wait_until(|| !matches!(a.stage(), Stage::Making | Stage::Filling));
    a.verdict()
}

/// The origin's word: the process is ours. Repeated words change nothing.
///
/// # Errors
/// `ESRCH` if it is not known here, or was destroyed; `EPROTO` if `origin` is not.
pub(crate) fn activate(origin: Caller, pid: ClusterPid, m: u64) -> Result {
    if pid.origin() != Some(origin.node) {
        return Err(EPROTO);
    }
    match coming::get(pid, m).map(|a| a.step(Happened::Activate)) {
        Some(Effect::Run) => Ok(()),
        _ => Err(ESRCH),
    }
}

/// The source asks for its commit, as the origin is down.
pub(crate) fn judge(source: Caller, pid: ClusterPid, m: u64) -> Answer {
    match coming::from(source, pid, m).map(|a| a.step(Happened::Judge)) {
        Some(Effect::Run) => {
            // If the origin is up again meanwhile, it was told of those that lived here before.
            if let Some(origin) = pid.origin().filter(|o| clms::is_up(*o)) {
                recovery::node_up(origin);
            }
            Answer::Committed
        }
        // What is not known any more was complete, and has run.
        None => Answer::Committed,
        Some(_) => Answer::Refused,
    }
}

/// Signals that were pending at the source.
///
/// # Errors
/// `ESRCH` if the process does not come from there; `EPROTO` for more than a source sends, or parts of signals; `ENOMEM`.
pub(crate) fn late(source: Caller, pid: ClusterPid, m: u64, tail: &[u8]) -> Result {
    let a = coming::from(source, pid, m).ok_or(ESRCH)?;
    a.keep_late(tail)
}

/// A movement to here will not be: what was prepared goes. One that is committed stays.
///
/// # Errors
/// `EPROTO` for a movement that does not start on that node.
pub(crate) fn abort(source: Caller, pid: ClusterPid, m: u64) -> Result {
    if !starts_on(m, source.node) {
        return Err(EPROTO);
    }
    if coming::from(source, pid, m).is_none() {
        leaving::give_up(m);
    }
    // It may have been listed meanwhile.
    if let Some(a) = coming::from(source, pid, m) {
        let _destroyed = a.step(Happened::Abort);
    }
    Ok(())
}
