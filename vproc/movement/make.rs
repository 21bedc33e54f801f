// SPDX-License-Identifier: GPL-2.0

//! A new process makes itself, and is parked before its first instruction. All of this runs in it.

use super::arrival::Arrival;
use super::coming;
use super::pages;
use super::state::Event as Happened;
use crate::rexec;
use kernel::prelude::*;
use kernel::time::Delta;
use ssi::hooks::UserReturn;
use ssi::ids::ClusterPid;
use ssi::movement as steps;
use ssi::refusal::Refusal;

/// The new process makes itself. Runs in it, before it ever was in user mode.
///
/// # Errors
/// Any: it then ends silently.
pub(crate) fn arrive(pid: ClusterPid, movement: u64) -> Result {
    let a = coming::get(pid, movement).ok_or(ESRCH)?;
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
    let parts = a.header().parts(&a.image)?;
    ssi::image::create_memory(parts.rest)?;
    ssi::image::restore_memory(parts.rest)?;
    pages::take_all(a)?;
    ssi::image::finish_memory(parts.rest)?;
    rfile::import_fds(parts.files)?;
    ssi::image::restore_task(parts.task)?;
    a.header().cred.commit()?;
    ssi::image::finish_task(parts.task)?;
    Ok(())
}

/// The new process is complete and waits for the origin's word.
pub(super) fn park(m: u64) -> UserReturn {
    let pid = ssi::task::current_tgid();
    let Some(a) = coming::get(pid, m) else {
        return UserReturn::Vanish;
    };
    let task = if a.is_move {
        a.header().parts(&a.image).map_or(&[][..], |p| p.task)
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
    if !a.await_word() {
        return UserReturn::Vanish;
    }
    if a.is_move {
        // Accepted before: cannot be torn.
        let _started = ssi::image::start_timers(task, Delta::ZERO);
    }
    steps::forget();
    UserReturn::GoOn
}
