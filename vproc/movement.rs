// SPDX-License-Identifier: GPL-2.0

//! One process on its way from one node to another: source and destination, step by step.
//!
//! The commit point is the origin's table (`home`), or the destination itself when the origin is down. The destination
//! runs a process only on its judge's word, the source lets go only on that word. From the moment [`source::commit`]
//! has asked until it has an answer, the source can do nothing but wait. Who decides what is in `state`.
//!
//! ```text
//! source                                     destination
//! migrate, rexec  the image    --Prepare-->  destination  lists an arrival in coming, has its task made
//!                                            make         the new process makes itself
//! migrate         the pages    --Pages---->  pages        puts them into its memory
//! migrate                      --Complete->  make         makes the rest, parks before its first instruction
//! source          is marked moved
//! leaving         keeps what comes for it    arrival      keeps what comes for it
//! source          its signals  --Late----->  arrival      keeps them too
//! judge           asks the origin (Move), which flips its entry in home and tells the destination (Activate)
//!                                            arrival      makes it the one that lives
//! source          lets go, vanishes          make         goes to user mode
//! ```
//!
//! `family` is the process's parent and children on that way, `image` the head of what is sent, `refusals` why one did
//! not go. Here is what concerns both directions.
//!
//! Not for choosing and catching a process, and not for making and sending its image: that is `migrate` and `rexec`.

use crate::migrate;
use crate::nodes;
use crate::progress;
use ics::Caller;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use ssi::hooks::UserReturn;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement as steps;
use ssi::movement::Late as LateSignal;
use ssi::movement::Role;
use ssi::pproc;
use ssi::refusal::Refusal;

pub(crate) mod arrival;
pub(crate) mod coming;
pub(crate) mod destination;
pub(crate) mod family;
pub(crate) mod image;
pub(crate) mod judge;
pub(crate) mod leaving;
pub(crate) mod make;
pub(crate) mod pages;
pub(crate) mod refusals;
pub(crate) mod source;
pub(crate) mod state;

/// Counts movements that start here. Begins at the time, in microseconds, at which the module was loaded: no number is used
/// again in a later life of the node, of which others may still know the former.
static NEXT: Atomic<u64> = Atomic::new(1);

/// Bits of the count in a movement's number; above is the node's.
const COUNT_BITS: u32 = 48;

/// Which movements may begin: [`CLOSED`], [`OUTWARD`] or [`OPEN`].
static WAYS: Atomic<u32> = Atomic::new(OPEN);

/// None.
const CLOSED: u32 = 0;

/// From here only.
const OUTWARD: u32 = 1;

/// To here as well.
const OPEN: u32 = 2;

/// Makes the tables. Once, at module load.
pub(crate) fn init() {
    NEXT.store(ssi::machine::wall_clock_ns() / 1000, Relaxed);
    coming::init();
    refusals::init();
    leaving::init();
}

/// Frees the tables at module unload.
pub(crate) fn clear() {
    coming::clear();
    refusals::clear();
    leaving::clear();
}

/// The node is about to leave: nothing starts to move any more.
pub(crate) fn refuse_new() {
    WAYS.store(CLOSED, Relaxed);
}

/// The node is being shut down: nothing comes any more.
pub(crate) fn refuse_newcomers() {
    WAYS.store(OUTWARD, Relaxed);
}

/// The node has joined, or stays after all.
pub(crate) fn allow_new() {
    WAYS.store(OPEN, Relaxed);
}

fn check(least: u32) -> core::result::Result<(), Refusal> {
    if WAYS.load(Relaxed) < least {
        return Err(Refusal::new(EHOSTUNREACH, b"this node leaves"));
    }
    Ok(())
}

/// Whether processes may come.
///
/// # Errors
/// `EHOSTUNREACH` while this node leaves, or is being shut down.
pub(crate) fn check_open() -> core::result::Result<(), Refusal> {
    check(OPEN)
}

/// Whether processes may go.
///
/// # Errors
/// `EHOSTUNREACH` while this node leaves.
pub(crate) fn check_outward() -> core::result::Result<(), Refusal> {
    check(OUTWARD)
}

/// A number for a movement that starts on this node.
pub(crate) fn new_movement() -> u64 {
    let count = NEXT.fetch_add(1, Relaxed) & ((1 << COUNT_BITS) - 1);
    u64::from(nodes::this().number()) << COUNT_BITS | count
}

/// Whether a movement starts on that node.
fn starts_on(movement: u64, node: NodeId) -> bool {
    movement >> COUNT_BITS == u64::from(node.number())
}

/// The current task is about to enter user mode and is in a movement.
pub(crate) fn user_return() -> UserReturn {
    match steps::current() {
        (m, Role::Arriving) => make::park(m),
        (m, Role::Leaving) => migrate::leave(m),
        (_, Role::None) => UserReturn::GoOn,
    }
}

/// Keeps a signal that came for a process which is about to live here, or is about to leave. Returns whether it did;
/// if not the signal is for a process that is where it is.
pub(crate) fn hold(pid: ClusterPid, signal: &LateSignal) -> bool {
    if leaving::hold(pid, signal) {
        return true;
    }
    coming::hold(pid, signal)
}

/// Whether a process lives here, once no movement of it from or to here is under way; if not it does not come here
/// until [`leaving::unbar`]. Sleeps.
pub(crate) fn is_here_for_good(pid: ClusterPid, caller: Caller) -> Result<bool> {
    let searcher = caller.node;
    leaving::bar(pid, searcher)?;
    // Its end was told before it was in the table, or will be.
    if !clms::is_member(searcher, caller.incarnation) {
        leaving::unbar(pid, searcher);
    }
    progress::wait_until(|| !coming::is_coming(pid) && !leaving::is_leaving(pid));
    let is_here = pproc::exists(pid);
    if is_here {
        leaving::unbar(pid, searcher);
    }
    Ok(is_here)
}

/// A node is down: what it was sending here and is not complete goes, what is complete asks the origin.
pub(crate) fn node_down(node: NodeId) {
    leaving::searcher_down(node);
    coming::source_down(node);
}
