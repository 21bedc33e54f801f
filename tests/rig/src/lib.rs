// SPDX-License-Identifier: GPL-2.0

//! The rig: boots a cluster of virtual machines, talks to them and breaks them. The manual is
//! `Documentation/rig.rst`.
//!
//! [`Client`] is the way in for programs; the binary `rig` is a thin user of it.

pub mod client;
pub mod control;
pub mod cpio;
pub mod fault;
pub mod images;
mod kvm;
mod node;
pub mod pcap;
mod qemu;
mod qmp;
pub mod spawn;
pub mod supervisor;
pub mod switch;
mod tsc;
pub mod up;

pub use client::Client;
pub use up::Up;
