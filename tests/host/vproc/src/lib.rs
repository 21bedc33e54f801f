// SPDX-License-Identifier: GPL-2.0

//! `vproc/home/state.rs` and `vproc/movement/state.rs` on the host. The tests search every state of a small world, see
//! [`model`].

#[path = "../../../../vproc/home/state.rs"]
#[allow(dead_code, missing_docs)]
#[rustfmt::skip]
mod home;
#[path = "../../../../vproc/movement/state.rs"]
#[allow(dead_code, missing_docs)]
#[rustfmt::skip]
mod movement;

#[cfg(test)]
mod model;
#[cfg(test)]
mod world;
