// SPDX-License-Identifier: GPL-2.0

//! What this crate registers with the layers below: its service, and the wish to know which nodes die.

use crate::home;
use crate::home::Server;
use crate::proto::RfileService;
use crate::proxy;
use crate::state::Peer;
use clms::Phase;
use clms::ViewObserver;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

static SERVICE: RfileService<Server> = RfileService(Server);

/// This node is being shut down: 1 yes.
static IS_DRAINED: Atomic<u32> = Atomic::new(0);

struct Observer;

impl ViewObserver for Observer {
    fn joined(&self, _this: NodeId) -> Result {
        IS_DRAINED.store(0, Relaxed);
        Ok(())
    }

    fn node_up(&self, _node: NodeId, _incarnation: Incarnation) {}

    /// The other end of each pipe that the dead node had an end of sees it closed; what it served here ends.
    fn node_down(&self, node: NodeId, incarnation: Incarnation) {
        proxy::node_down(node);
        home::node_down(Peer {
            node: node.number(),
            incarnation: incarnation.0,
        });
    }

    /// A node whose files are in use elsewhere, or that uses files of others, stays; but not one that is being shut down.
    fn leaving(&self) -> Result {
        if IS_DRAINED.load(Relaxed) != 0 {
            return Ok(());
        }
        if home::count() > 0 || proxy::count() > 0 {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Files keep nobody from going: their users have had their time.
    fn drain(&self, _grace_ms: u32) -> Result {
        IS_DRAINED.store(1, Relaxed);
        Ok(())
    }

    fn stays(&self) {
        IS_DRAINED.store(0, Relaxed);
    }

    fn left(&self) {
        proxy::end_all();
        home::clear();
    }
}

static OBSERVER: Observer = Observer;

/// Starts to answer.
pub(crate) fn serve() -> Result<ics::Registration> {
    ics::register(&SERVICE)
}

/// Starts to hear of dead nodes.
pub(crate) fn observe() -> Result<clms::ObserverRegistration> {
    clms::register_observer(Phase::Files, &OBSERVER)
}
