// SPDX-License-Identifier: GPL-2.0

//! The rate of the time stamp counter that emulated guests read, which is the host's own.
//!
//! A guest that measures it itself, on a loaded host, now and then comes to a fifth of it: its clock then runs five
//! times too fast, for good.

use std::time::Duration;
use std::time::Instant;

/// How long to measure: a reading is off by less than a microsecond, so the rate by a few millionths.
const LENGTH: Duration = Duration::from_millis(100);

/// The least disturbed of so many readings counts.
const READINGS: u32 = 20;

/// A time and what the counter shows then.
#[cfg(target_arch = "x86_64")]
fn reading() -> (Instant, u64) {
    let one = || {
        let before = Instant::now();
        // SAFETY: Every x86-64 processor has the instruction.
        #[allow(unused_unsafe, reason = "safe in newer compilers")]
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        (before.elapsed(), before, ticks)
    };
    let best = (1..READINGS).fold(one(), |best, _| std::cmp::min_by_key(best, one(), |r| r.0));
    (best.1, best.2)
}

/// The rate in kHz; nothing where guests have another counter.
#[cfg(target_arch = "x86_64")]
pub(crate) fn khz() -> Option<u64> {
    let (t1, c1) = reading();
    std::thread::sleep(LENGTH);
    let (t2, c2) = reading();
    let micros = (t2 - t1).as_micros();
    let ticks = u128::from(c2.checked_sub(c1)?);
    u64::try_from(ticks * 1000 / micros).ok().filter(|khz| *khz > 0)
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn khz() -> Option<u64> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (a, b) = (khz().unwrap(), khz().unwrap());
        assert!(a.abs_diff(b) < a / 100, "{a} and {b} kHz");
        assert!((100_000..20_000_000).contains(&a), "{a} kHz");
    }
}
