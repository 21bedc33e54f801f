// SPDX-License-Identifier: GPL-2.0

//! A witness: a node that has a vote, and no processes. It takes part in views and leads none.
//!
//! Those above do not see it: the views that they are told of are without it, and on the witness itself nobody is told of
//! any. So it serves nobody, is not fenced, and has no history.
//!
//! But two majorities may meet in it alone. So it knows what the members of one must know of the other: it has the
//! records, and knows who is lost and not known to be off.

use crate::changes::NodeState;
use crate::places::Place;
use crate::places::Places;
use crate::set::NodeSet;
use crate::thread::Membership;
use crate::thread::TableView;
use crate::thread::View;
use crate::thread::VIEW;
use crate::thread::WORDS;
use kernel::prelude::*;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::trace;

impl Membership {
    /// Whether this node is one.
    pub(crate) fn is_witness(&self) -> bool {
        self.table()
            .rows()
            .any(|(_, r)| r.node == self.this && r.is_witness)
    }

    /// The others of a set.
    pub(crate) fn without_witnesses(&self, mut set: Places<WORDS>) -> Places<WORDS> {
        for (p, r) in self.table().rows() {
            if r.is_witness {
                set.remove(p);
            }
        }
        set
    }

    /// The nodes of a set of places.
    pub(crate) fn nodes(&self, set: &Places<WORDS>) -> NodeSet {
        let mut nodes = NodeSet::new();
        for (p, r) in self.table().rows() {
            if set.contains(p) {
                nodes.insert(r.node);
            }
        }
        nodes
    }

    /// What a witness does with a view: it shows it, knows who is off, and has the records.
    pub(crate) fn watch(&self, old: &TableView, v: &TableView, incarnations: &[u64]) {
        let came = v.members.minus(&old.members);
        let gone = old.members.minus(&v.members);
        let members = self.nodes(&self.without_witnesses(v.members));
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
        let master = view.master.map_or(0, NodeId::number);
        trace::clms_view(view.id, members.len(), master);
        *VIEW.lock() = (Some(self.this), view);
        self.fence_cut(&gone);
        for p in gone.iter() {
            self.watch_state(p, NodeState::GoingDown);
            self.cut_off(p);
        }
        for p in gone.iter() {
            let incarnation = self.incarnation_of(p);
            if self.fence_wait(p, incarnation) {
                self.fence_judged(p, incarnation);
                self.watch_state(p, NodeState::Down);
            }
        }
        for p in came.iter() {
            self.let_in(p, incarnations);
            self.watch_state(p, NodeState::Up);
        }
        self.enter_records(old, v, incarnations);
        {
            let mut done = self.done.lock();
            if done.joined.is_none() {
                done.joined = Some(Ok(()));
            }
        }
        self.changed.notify_all();
    }

    /// Notes the state of a node, which only this witness sees.
    fn watch_state(&self, p: Place, state: NodeState) {
        let node = self.table().node(p);
        let mut done = self.done.lock();
        done.cut.remove(p);
        if let (Some(s), Some(node)) = (done.states.get_mut(p), node) {
            // CAST: small numbers. A witness notes no causes.
            trace::clms_state(node, *s as u8, state as u8, 0);
            *s = state;
        }
    }

    /// A node is out: calls to it end.
    pub(crate) fn cut_off(&self, p: Place) {
        if let Some(node) = self.table().node(p) {
            ics::fence(node);
        }
    }

    /// A node is in: it may call this one, and be called.
    pub(crate) fn let_in(&self, p: Place, incarnations: &[u64]) {
        let incarnation = Incarnation(incarnations.get(p).copied().unwrap_or(0));
        if let Some(i) = self.done.lock().incarnations.get_mut(p) {
            *i = incarnation.0;
        }
        if let Some(node) = self.table().node(p).filter(|n| *n != self.this) {
            ics::admit(node, incarnation);
        }
    }

    /// The records are those of that view, unless somebody who is out is not known to be off.
    pub(crate) fn enter_records(&self, old: &TableView, v: &TableView, incarnations: &[u64]) {
        if self.has_judged(&v.members) {
            let [members] = *v.members.words();
            let [leaders] = *self.without_witnesses(v.members).words();
            let before = self.members_before(v.id).and(&v.members);
            let is_first = old.id == 0 && before.is_empty();
            self.replica
                .entered(v.id, (members, leaders), incarnations, is_first);
        }
    }
}
