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
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

static SERVICE: RfileService<Server> = RfileService(Server);

struct Observer;

impl ViewObserver for Observer {
    fn joined(&self, _this: NodeId) -> Result {
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

    /// A node whose files are in use elsewhere, or that uses files of others, stays.
    fn leaving(&self) -> Result {
        if home::count() > 0 || proxy::count() > 0 {
            return Err(EBUSY);
        }
        Ok(())
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
