// SPDX-License-Identifier: GPL-2.0

//! The machine itself.

use crate::bindings;

/// Restarts at once: nothing is synced, nobody is told. For a node that must not act any more. Does not come back.
pub fn restart_now() {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_restart_now() }
}

/// Powers off in order: the command of the sysctl `kernel.poweroff_cmd` is run, which asks init. Where it cannot be run
/// the kernel does it. Returns when that has begun.
pub fn power_off() {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_power_off() }
}

/// Restarts in order: `/sbin/reboot` is run, which asks init. Where it cannot be run the kernel does it. Returns when
/// that has begun.
pub fn reboot() {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_reboot() }
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

/// Processors that this machine has.
pub fn total_cpus() -> u32 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_total_cpus() }
}

/// Processors that this machine uses.
pub fn online_cpus() -> u32 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_online_cpus() }
}

/// Speed of one processor: the kernel's loops per jiffy.
pub fn cpu_power() -> u32 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_cpu_power() }
}

/// Bytes of memory that the kernel manages.
pub fn total_memory() -> u64 {
    // SAFETY: No arguments.
    unsafe { bindings::ssi_total_memory() }
}
