// SPDX-License-Identifier: GPL-2.0

//! The machine itself.

use crate::bindings;

/// Restarts at once: nothing is synced, nobody is told. For a node that must not act any more. Does not come back.
pub fn restart_now() {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_restart_now() }
}

/// Nanoseconds since the epoch by this machine's clock.
pub fn wall_clock_ns() -> u64 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_wall_clock_ns() }
}

/// Nanoseconds of a clock that never jumps.
pub fn monotonic_ns() -> u64 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_monotonic_ns() }
}

/// Ends the machine by a panic, for a failpoint.
pub(crate) fn die() -> ! {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_die() };
    loop {
        core::hint::spin_loop();
    }
}

/// Sleeps, unless a signal comes.
pub fn sleep_ms(ms: u32) {
    // SAFETY: Numbers only; the caller may sleep.
    unsafe { bindings::ssi_sleep_ms(ms) }
}
