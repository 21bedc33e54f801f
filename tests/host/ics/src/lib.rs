// SPDX-License-Identifier: GPL-2.0

//! The pure parts of `ics`, compiled from the very files that the module is made of.

#[path = "../../../../ics/hearing.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod hearing;
#[path = "../../../../ics/open.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod open;
#[path = "../../../../clms/sent.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod sent;

/// As in `clms`.
#[allow(dead_code)]
mod state {
    pub(crate) type Millis = u64;
}

#[cfg(test)]
mod hearing_tests;
#[cfg(test)]
mod open_tests;
#[cfg(test)]
mod replay_tests;
