// SPDX-License-Identifier: GPL-2.0

//! KUnit: nodes of one kernel that talk over the loopback transport, through the queues, threads, credits and frames of
//! every transport; and a stranger at the other end of a stream who says what no honest node says.

mod beside;
mod bounds;
mod calls;
mod later;
mod node;
mod opening;
mod probe;
mod refusals;
mod scene;
mod stranger;
mod streams;
