// SPDX-License-Identifier: GPL-2.0

//! The pure parts of `ipc/rfile`, compiled from the very files that the module is made of.

#![allow(dead_code)]

#[path = "../../../../ipc/rfile/image.rs"]
mod image;
#[path = "../../../../ipc/rfile/ioctls.rs"]
mod ioctls;
#[path = "../../../../ipc/rfile/state.rs"]
mod state;

#[cfg(test)]
#[path = "../../fuzz.rs"]
mod fuzz;
#[cfg(test)]
mod fuzz_image;
#[cfg(test)]
mod image_tests;
#[cfg(test)]
mod state_tests;
