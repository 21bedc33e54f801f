// SPDX-License-Identifier: GPL-2.0

//! A witness: a node that has a vote, and no processes. It takes part in views and leads none.
//!
//! Those above do not see it: the views that they are told of are without it, and on the witness itself nobody is told of
//! any. So nobody calls it, it is not fenced, and it has no records and no history.

use crate::changes::NodeState;
use crate::places::Places;
use crate::set::NodeSet;
use crate::thread::Membership;
use crate::thread::TableView;
use crate::thread::View;
use crate::thread::VIEW;
use crate::thread::WORDS;
use kernel::prelude::*;
use ssi::ids::NodeId;

impl Membership {
    /// Whether this node is one.
    pub(crate) fn is_witness(&self) -> bool {
        self.rows
            .iter()
            .any(|r| r.node == self.this && r.is_witness)
    }

    /// The others of a set.
    pub(crate) fn without_witnesses(&self, mut set: Places<WORDS>) -> Places<WORDS> {
        for (p, r) in self.rows.iter().enumerate() {
            if r.is_witness {
                set.remove(p);
            }
        }
        set
    }

    /// The nodes of a set of places.
    pub(crate) fn nodes(&self, set: &Places<WORDS>) -> NodeSet {
        let mut nodes = NodeSet::new();
        for (p, r) in self.rows.iter().enumerate() {
            if set.contains(p) {
                nodes.insert(r.node);
            }
        }
        nodes
    }

    /// What a witness does with a view: it shows it.
    pub(crate) fn watch(&self, v: &TableView, incarnations: &[u64]) {
        let members = self.nodes(&v.members);
        let view = View {
            id: v.id,
            members,
            master: members.first(),
        };
        pr_info!(
            "view {}: {} members, master {}; this node is a witness\n",
            view.id,
            members.len(),
            view.master.map_or(0, NodeId::number)
        );
        *VIEW.lock() = (Some(self.this), view);
        {
            let mut done = self.done.lock();
            for (p, incarnation) in incarnations.iter().enumerate() {
                let is_in = v.members.contains(p);
                if let Some(i) = done.incarnations.get_mut(p).filter(|_| is_in) {
                    *i = *incarnation;
                }
                if let Some(s) = done.states.get_mut(p) {
                    *s = match *s {
                        _ if is_in => NodeState::Up,
                        NodeState::NeverUp => NodeState::NeverUp,
                        _ => NodeState::Down,
                    };
                }
            }
            if done.joined.is_none() {
                done.joined = Some(Ok(()));
            }
        }
        self.changed.notify_all();
    }
}
