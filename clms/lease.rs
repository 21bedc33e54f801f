// SPDX-License-Identifier: GPL-2.0

//! The timer that stops this node when its lease ends, whatever its threads do: it runs in the timer interrupt.

use crate::thread::now_ms;
use kernel::impl_has_hr_timer;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::ArcBorrow;
use kernel::time::hrtimer::ArcHrTimerHandle;
use kernel::time::hrtimer::HrTimer;
use kernel::time::hrtimer::HrTimerCallback;
use kernel::time::hrtimer::HrTimerCallbackContext;
use kernel::time::hrtimer::HrTimerPointer;
use kernel::time::hrtimer::HrTimerRestart;
use kernel::time::hrtimer::RelativeMode;
use kernel::time::Delta;
use kernel::time::Monotonic;

/// How often the timer looks, at least: a lease that begins is seen by then.
const LOOK_MS: u64 = 20;

/// No lease.
const NONE: u64 = u64::MAX;

/// When this node must have stopped.
#[pin_data]
pub(crate) struct Lease {
    #[pin]
    timer: HrTimer<Self>,
    /// By this node's clock in ms.
    end: Atomic<u64>,
}

/// A timer that runs. Dropping it waits until it does not.
pub(crate) struct Running(#[expect(dead_code, reason = "dropped")] ArcHrTimerHandle<Lease>);

impl Lease {
    /// One that does not end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                timer <- HrTimer::new(),
                end: Atomic::new(NONE),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts the timer.
    pub(crate) fn run(self: &Arc<Self>) -> Running {
        // CAST: a small constant.
        Running(self.clone().start(Delta::from_millis(LOOK_MS as i64)))
    }

    /// It ends at `end`, or not.
    pub(crate) fn set(&self, end: Option<u64>) {
        self.end.store(end.unwrap_or(NONE), Relaxed);
    }
}

impl HrTimerCallback for Lease {
    type Pointer<'a> = Arc<Self>;

    fn run(
        this: ArcBorrow<'_, Self>,
        mut context: HrTimerCallbackContext<'_, Self>,
    ) -> HrTimerRestart {
        let left = this.end.load(Relaxed).saturating_sub(now_ms());
        if left == 0 {
            pr_emerg!(
                "node stops itself: its lease has ended: too few members are heard (timer)\n"
            );
            ssi::machine::restart_now();
        }
        // CAST: at most LOOK_MS.
        context.forward_now(Delta::from_millis(left.min(LOOK_MS) as i64));
        HrTimerRestart::Restart
    }
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Lease {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}
