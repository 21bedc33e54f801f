// SPDX-License-Identifier: GPL-2.0

//! The one event of this module for what may take a while and ends without a message to who waits: a movement from or to
//! this node, a report of another one.

use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use ssi::wait::Event;

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 48 `vproc::progress`, spin.
    unsafe(uninit) static CHANGED: SpinLock<Option<Arc<Event>>> = None;
}

/// Counts calls of [`notify`].
static STEPS: Atomic<u64> = Atomic::new(0);

/// Makes the event. Once, at module load.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn init() -> Result {
    // SAFETY: Called exactly once, from module init.
    unsafe { CHANGED.init() };
    let event = Arc::pin_init(Event::new(), GFP_KERNEL)?;
    *CHANGED.lock() = Some(event);
    Ok(())
}

/// Frees the event at module unload.
pub(crate) fn clear() {
    let _event = CHANGED.lock().take();
}

fn changed() -> Option<Arc<Event>> {
    CHANGED.lock().clone()
}

/// Something has changed that somebody may wait for. Does not sleep.
pub(crate) fn notify() {
    STEPS.fetch_add(1, Full);
    if let Some(event) = changed() {
        event.notify_all();
    }
}

/// Sleeps until `cond` holds; it is looked at after each [`notify`] and may sleep itself.
pub(crate) fn wait_until(cond: impl Fn() -> bool) {
    let Some(event) = changed() else {
        return;
    };
    loop {
        let seen = STEPS.load(Acquire);
        if cond() {
            return;
        }
        event.wait_until(|| STEPS.load(Acquire) != seen);
    }
}
