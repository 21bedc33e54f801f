// SPDX-License-Identifier: GPL-2.0

//! What the host side of the rig and its guest agent say to each other. The agent itself is the
//! binary of this crate.

pub mod wire;
