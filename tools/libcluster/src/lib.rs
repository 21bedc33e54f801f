// SPDX-License-Identifier: GPL-2.0

//! The cluster's membership for programs: who is a member, and what became of them.
//!
//! In C `libcluster.h` (also as `sys/cluster.h`), in Rust the modules here: the commands use these. No thread, no state of
//! its own: each question is a netlink socket that is closed again, so that the program can go on to move to another node.

pub mod capi;
pub mod cleaner;
pub mod fencing;
pub mod history;
pub mod membership;
pub mod netlink;
pub mod shutdown;
