// SPDX-License-Identifier: GPL-2.0

//! What `cluster status` shows.

use crate::changes::NodeState;
use crate::history;
use crate::set::NodeSet;
use crate::state::Phase;
use crate::thread::current;
use crate::thread::view;
use crate::thread::View;
use kernel::prelude::*;
use ssi::clms_netlink::Loss;
use ssi::clms_netlink::Tables;
use ssi::ids::NodeId;

/// What `status` shows of a node.
pub(crate) struct NodeStatus {
    pub(crate) node: NodeId,
    pub(crate) name: KVec<u8>,
    pub(crate) state: NodeState,
    pub(crate) incarnation: u64,
    pub(crate) is_witness: bool,
    pub(crate) loss: Loss,
    pub(crate) tables: Tables,
}

/// What `status` shows.
pub(crate) struct Status {
    pub(crate) name: KVec<u8>,
    pub(crate) this: Option<NodeId>,
    pub(crate) state: NodeState,
    pub(crate) view: View,
    pub(crate) quorate: bool,
    /// Whether the next life of this node begins with its table.
    pub(crate) settled: bool,
    pub(crate) nodes: KVec<NodeStatus>,
}

/// The membership as this node sees it.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn status() -> Result<Status> {
    let mut s = Status {
        name: KVec::new(),
        this: None,
        state: NodeState::NeverUp,
        view: view(),
        quorate: false,
        settled: false,
        nodes: KVec::new(),
    };
    let Some(m) = current() else {
        return Ok(s);
    };
    s.name.extend_from_slice(&m.name, GFP_KERNEL)?;
    s.this = Some(m.this);
    s.state = NodeState::ComingUp;
    let (phase, quorate, coming, agreed) = {
        let shown = m.shown.lock();
        s.settled = shown.is_settled;
        (shown.phase, shown.is_quorate, shown.coming, shown.members)
    };
    s.quorate = quorate && s.view.id != 0;
    let table = m.table();
    for (p, r) in table.rows() {
        let mut state = m.state_of(p);
        let idle = matches!(state, NodeState::NeverUp | NodeState::Down);
        if idle && coming.contains(p) {
            state = NodeState::ComingUp;
        }
        // Those above do not see a witness: it has no state of theirs.
        if r.is_witness && agreed.contains(p) {
            state = NodeState::Up;
        }
        if r.node == m.this {
            s.state = match phase {
                Phase::Leaving => NodeState::GoingDown,
                _ => state,
            };
        }
        let mut name = KVec::new();
        name.extend_from_slice(&r.name, GFP_KERNEL)?;
        let (tables, incarnation) = {
            let shown = m.shown.lock();
            (
                shown.tables.get(p).copied().unwrap_or_default(),
                shown.incarnations.get(p).copied().unwrap_or_default(),
            )
        };
        let incarnation = if r.node == m.this {
            m.incarnation.0
        } else if r.is_witness {
            incarnation
        } else {
            m.incarnation_of(p).0
        };
        s.nodes.push(
            NodeStatus {
                node: r.node,
                name,
                state,
                incarnation,
                is_witness: r.is_witness,
                loss: m.loss(p),
                tables,
            },
            GFP_KERNEL,
        )?;
    }
    Ok(s)
}

/// Who is up, and the newest transition, together. Before any transition, or without a membership, `last` is 0.
pub(crate) struct Members {
    pub(crate) view: View,
    pub(crate) last: u64,
    pub(crate) up: NodeSet,
}

/// The members as the transitions so far have made them.
///
/// # Errors
/// `ENOTCONN` this node has not joined.
pub(crate) fn members() -> Result<Members> {
    let m = current().ok_or(ENOTCONN)?;
    let mut up = NodeSet::new();
    let table = m.table();
    // Transitions are noted under this lock.
    let done = m.done.lock();
    for (p, r) in table.rows() {
        if done.states.get(p) == Some(&NodeState::Up) {
            up.insert(r.node);
        }
    }
    Ok(Members {
        view: view(),
        last: history::last(),
        up,
    })
}

/// A node as this one sees it.
///
/// # Errors
/// `ENOTCONN` this node has not joined; `ENOENT` no such node; `ENOMEM`.
pub(crate) fn node(node: NodeId) -> Result<NodeStatus> {
    let s = status()?;
    if s.this.is_none() {
        return Err(ENOTCONN);
    }
    s.nodes.into_iter().find(|n| n.node == node).ok_or(ENOENT)
}
