// SPDX-License-Identifier: GPL-2.0

//! How long somebody who wants to leave waits for what is under way.

use kernel::prelude::*;
use kernel::time::Msecs;
use ssi::wait::Event;

/// Between two questions whether it is over.
const LOOK_MS: Msecs = 100;

/// What ends the waiting.
pub(crate) enum Patience<'a> {
    /// A signal.
    Signal,
    /// This, which is asked now and then: a thread that nobody signals.
    Until(&'a dyn Fn() -> bool),
}

impl Patience<'_> {
    /// Sleeps until `cond` holds. Returns whether it does.
    pub(crate) fn wait(&self, event: &Event, mut cond: impl FnMut() -> bool) -> bool {
        let is_over = match self {
            Self::Signal => return event.wait_interruptible(cond),
            Self::Until(is_over) => is_over,
        };
        loop {
            if event.wait_timeout(LOOK_MS, &mut cond) {
                return true;
            }
            if is_over() {
                return false;
            }
        }
    }

    /// What whoever waits is told then: `EINTR` of a signal, else `EAGAIN`.
    pub(crate) fn error(&self) -> Error {
        match self {
            Self::Signal => EINTR,
            Self::Until(_) => EAGAIN,
        }
    }
}
