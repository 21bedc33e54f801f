// SPDX-License-Identifier: GPL-2.0

//! `clms/fencing/state.rs` on the host. The tests search every state of a small world, see [`model`].

#[path = "../../../../clms/fencing/state.rs"]
#[allow(dead_code, missing_docs)]
mod state;

#[cfg(test)]
mod model;

#[cfg(test)]
mod steps;
