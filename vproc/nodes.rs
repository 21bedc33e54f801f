// SPDX-License-Identifier: GPL-2.0

//! What the process space asks of the membership, and what it does when the membership changes.

use crate::agent;
use crate::children;
use crate::drain;
use crate::events;
use crate::home;
use crate::listing;
use crate::migrate;
use crate::movement;
use crate::progress;
use crate::recovery;
use crate::relations;
use kernel::prelude::*;
use ssi::failpoint;
use ssi::ids::ClusterPid;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

/// This node. Only after the join; hooks are off before.
pub(crate) fn this() -> NodeId {
    clms::this_node()
}

/// The origin of a number, if it is a member.
pub(crate) fn live_origin(pid: ClusterPid) -> Option<NodeId> {
    pid.origin().filter(|o| *o == this() || clms::is_up(*o))
}

/// The node that is asked first for a process: its origin, or while that is down the lowest member.
///
/// # Errors
/// `ESRCH` for a node-private number.
pub(crate) fn origin_of(pid: ClusterPid) -> Result<NodeId> {
    pid.origin().ok_or(ESRCH)?;
    live_origin(pid)
        .or_else(|| clms::view().members.first())
        .ok_or(ESRCH)
}

/// Locals below this name processes from before the join, on their own node only.
const ALIASES: u32 = 32768;

/// The number by which other nodes know a process of this node: itself, or its alias.
pub(crate) fn to_wire(pid: ClusterPid) -> ClusterPid {
    match pid.origin() {
        None => ClusterPid(this().number() << ClusterPid::LOCAL_BITS | pid.0),
        Some(_) => pid,
    }
}

/// The number that a process known by `pid` has on this node: strips this node's aliases.
pub(crate) fn to_local(pid: ClusterPid) -> ClusterPid {
    let local = pid.0 & ((1 << ClusterPid::LOCAL_BITS) - 1);
    if pid.origin() == Some(this()) && local < ALIASES {
        ClusterPid(local)
    } else {
        pid
    }
}

/// Whether `pid` is an alias of another node's process.
pub(crate) fn is_foreign_alias(pid: ClusterPid) -> bool {
    is_alias(pid) && pid.origin() != Some(this())
}

/// Whether `pid` is an alias, of whichever node: such a process never moves.
pub(crate) fn is_alias(pid: ClusterPid) -> bool {
    pid.origin().is_some() && pid.0 & ((1 << ClusterPid::LOCAL_BITS) - 1) < ALIASES
}

/// The tables. Dropping it frees them.
pub(crate) struct State(());

impl State {
    /// Makes the tables. Once, at module load.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        agent::init();
        events::init();
        home::init();
        children::init();
        listing::init();
        migrate::init();
        drain::init();
        recovery::init();
        movement::init();
        progress::init()?;
        Ok(Self(()))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        drain::end();
        movement::clear();
        progress::clear();
        migrate::clear();
        listing::clear();
        children::clear();
        home::clear();
    }
}

/// Proof that the membership tells us of changes.
pub(crate) type Registration = clms::ObserverRegistration;

struct Observer;

static OBSERVER: Observer = Observer;

/// Asks the membership to tell us of changes.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn register() -> Result<Registration> {
    clms::register_observer(clms::Phase::Processes, &OBSERVER)
}

impl clms::ViewObserver for Observer {
    fn joined(&self, this: NodeId) -> Result {
        agent::start(this)?;
        events::start()?;
        recovery::start()?;
        movement::allow_new();
        Ok(())
    }

    fn leaving(&self) -> Result {
        movement::refuse_new();
        // A process of ours elsewhere, or of others here, keeps the node.
        let free = failpoint::hit("vproc.leave.node.refusing").and_then(|()| {
            if relations::all().map_or(true, |all| !all.is_empty()) {
                Err(EBUSY)
            } else {
                Ok(())
            }
        });
        if free.is_err() {
            movement::allow_new();
            return free;
        }
        drain::stop();
        recovery::stop();
        events::stop();
        agent::stop();
        Ok(())
    }

    fn drain(&self, grace_ms: u32) -> Result {
        movement::refuse_newcomers();
        drain::begin(grace_ms)
    }

    fn drained(&self) -> clms::Drained {
        drain::drained()
    }

    fn stays(&self) {
        drain::give_up();
        movement::allow_new();
    }

    fn left(&self) {
        drain::give_up();
    }

    fn node_up(&self, node: NodeId, incarnation: Incarnation) {
        home::await_report(node, incarnation);
        recovery::node_up(node);
    }

    fn node_down(&self, node: NodeId, _incarnation: Incarnation) {
        movement::node_down(node);
        home::no_report(node);
        recovery::node_down(node);
    }
}
