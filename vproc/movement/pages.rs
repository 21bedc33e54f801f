// SPDX-License-Identifier: GPL-2.0

//! The memory of a process that comes here, while its pages come.
//!
//! Who brings pages puts them in himself, and answers then: what is under way is bounded by what the source sends
//! ahead, and by the threads of the pages' class.

use super::arrival::Arrival;
use super::coming;
use super::state::Event as Happened;
use super::state::Stage;
use ics::Caller;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::ids::ClusterPid;

/// Who puts pages in, and whether more will come.
pub(super) struct Filling {
    /// `None`: not yet, or not any more.
    target: Option<Arc<ssi::image::Target>>,
    /// Handlers that put pages in now.
    busy: u32,
    /// The last page has been put in.
    complete: bool,
}

impl Filling {
    /// Nothing can be put in yet.
    pub(super) fn new() -> Self {
        Self {
            target: None,
            busy: 0,
            complete: false,
        }
    }
}

/// Lets pages in until the last one has been put in. Runs in the new process; sleeps.
///
/// # Errors
/// `ECANCELED` if the movement was given up; `EINVAL`, `ENOMEM`.
pub(super) fn take_all(a: &Arrival) -> Result {
    let target = Arc::new(ssi::image::Target::current()?, GFP_KERNEL)?;
    a.filling.lock().target = Some(target);
    let _filling = a.step(Happened::Laid);
    a.changed
        .wait_until(|| a.filling.lock().complete || a.stage() == Stage::Aborted);
    // Whoever still puts pages in ends first, and nobody begins.
    let target = a.filling.lock().target.take();
    drop(target);
    a.changed.wait_until(|| a.filling.lock().busy == 0);
    if a.stage() == Stage::Aborted {
        return Err(ECANCELED);
    }
    Ok(())
}

/// The last page has been sent.
pub(super) fn all_sent(a: &Arrival) {
    a.filling.lock().complete = true;
    a.changed.notify_all();
}

/// Pages of a process that comes here: puts them into it. Sleeps.
///
/// # Errors
/// `ESRCH` if the process does not come from there; `ECANCELED` if it does not wait for pages; `EPROTO`; those of writing them.
pub(crate) fn put(source: Caller, pid: ClusterPid, m: u64, n_pages: u32, tail: &[u8]) -> Result {
    let a = coming::from(source, pid, m).ok_or(ESRCH)?;
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
