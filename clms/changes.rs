// SPDX-License-Identifier: GPL-2.0

//! Carries views out, in order, on a thread that may take its time: links first, then observers, then the state shown.

use crate::history;
use crate::history::Cause;
use crate::observers;
use crate::places::Places;
use crate::table::Table;
use crate::thread::Membership;
use crate::thread::TableView;
use crate::thread::View;
use crate::thread::VIEW;
use crate::thread::WORDS;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::clms_history;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::trace;

/// The eight states of a node. Source: OpenSSI's CLMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum NodeState {
    NeverUp = 0,
    ComingUp = 1,
    Up = 2,
    Shutdown = 3,
    GoingDown = 4,
    KCleanup = 5,
    UCleanup = 6,
    Down = 7,
}

/// What the thread is asked for.
pub(crate) enum Change {
    /// This table is in force.
    Table(Arc<Table>),
    /// This view is in force; the incarnations of its members in table order.
    Install(TableView, KVec<u64>),
    /// This node is out, as it wished.
    Left,
    /// End the thread.
    Stop,
}

impl Membership {
    /// Carries changes out.
    pub(crate) fn carry_out(&self) {
        let mut old = TableView::default();
        loop {
            let _armed = hit("Thread.clms_view");
            match self.changes.wait() {
                Change::Table(table) => {
                    if let Err(e) = self.take_table(&table) {
                        pr_emerg!("no memory for another node: {:?}\n", e);
                        ssi::machine::restart_now();
                    }
                }
                Change::Install(v, incarnations) if self.is_witness() => {
                    self.watch(&old, &v, &incarnations);
                    old = v;
                }
                Change::Install(v, incarnations) => {
                    self.install(&old, &v, &incarnations);
                    old = v;
                }
                Change::Left => {
                    self.done.lock().left = true;
                    self.changed.notify_all();
                }
                Change::Stop => {
                    self.end_cleanups();
                    return;
                }
            }
        }
    }

    /// The state of a node, as carried out so far; GOINGDOWN as soon as calls to it have ended.
    pub(crate) fn state_of(&self, place: usize) -> NodeState {
        let done = self.done.lock();
        match done.states.get(place).copied() {
            Some(NodeState::Up | NodeState::Shutdown) if done.cut.contains(place) => {
                NodeState::GoingDown
            }
            state => state.unwrap_or(NodeState::NeverUp),
        }
    }

    /// Changes the state of a node, notes it and tells programs. `view`: the one that is carried out, `None`: none says so.
    /// Waits for nobody.
    pub(crate) fn set_state(
        &self,
        place: usize,
        state: NodeState,
        cause: Cause,
        view: Option<u64>,
    ) {
        self.change_life(place, |_, _| true, state, cause, view);
    }

    /// As [`Self::set_state`], where `applies` holds for the state that it has.
    pub(crate) fn change_state(
        &self,
        place: usize,
        applies: impl FnOnce(NodeState) -> bool,
        state: NodeState,
        cause: Cause,
        view: Option<u64>,
    ) {
        self.change_life(place, |s, _| applies(s), state, cause, view);
    }

    /// As [`Self::set_state`], where `applies` holds for the state that it has, and the life that was last a member. Gives the
    /// node if it does.
    pub(crate) fn change_life(
        &self,
        place: usize,
        applies: impl FnOnce(NodeState, Incarnation) -> bool,
        state: NodeState,
        cause: Cause,
        view: Option<u64>,
    ) -> Option<NodeId> {
        let node = self.table().node(place)?;
        let noted = {
            let mut done = self.done.lock();
            let from = done.states.get(place).copied()?;
            let life = done.incarnations.get(place).copied().unwrap_or(0);
            if !applies(from, Incarnation(life)) {
                return None;
            }
            done.cut.remove(place);
            if state == NodeState::Up {
                done.leaving.remove(place);
            }
            if let Some(s) = done.states.get_mut(place) {
                *s = state;
            }
            // CAST: small numbers.
            trace::clms_state(node, from as u8, state as u8, cause as u8);
            history::note(history::Change {
                node,
                incarnation: match state {
                    // That of the life before.
                    NodeState::ComingUp => 0,
                    _ => life,
                },
                from,
                to: state,
                cause,
                view,
            })
        };
        clms_history::tell_transition(&noted);
        Some(node)
    }

    /// The nodes that were members before `view`, of which this node is one.
    pub(crate) fn members_before(&self, view: u64) -> Places<WORDS> {
        let mut before = Places::EMPTY;
        for (p, m) in self.done.lock().met.iter().enumerate() {
            if m.was_member_before(view) {
                before.insert(p);
            }
        }
        before
    }

    /// Why a node is out of the view.
    fn cause_of_loss(&self, place: usize) -> Cause {
        if self.done.lock().leaving.contains(place) {
            Cause::Left
        } else {
            Cause::Lost
        }
    }

    /// Whether all who are out are known to be off. If not, this node is on its way out itself, and takes no part in views
    /// that act on it.
    pub(crate) fn has_judged(&self, members: &Places<WORDS>) -> bool {
        let done = self.done.lock();
        let mut states = done.states.iter().enumerate();
        !states.any(|(p, s)| *s == NodeState::GoingDown && !members.contains(p))
    }

    fn install(&self, old: &TableView, new: &TableView, incarnations: &[u64]) {
        let _begin = hit("View.begin");
        let all_came = new.members.minus(&old.members);
        let all_gone = old.members.minus(&new.members);
        // Those above see no witness.
        let came = self.without_witnesses(all_came);
        let gone = self.without_witnesses(all_gone);
        let members = self.nodes(&self.without_witnesses(new.members));
        let view = View {
            id: new.id,
            members,
            master: members.first(),
        };
        let master = view.master.map_or(0, NodeId::number);
        pr_info!(
            "view {}: {} members, master {}\n",
            view.id,
            members.len(),
            master
        );
        trace::clms_view(view.id, members.len(), master);
        // Those who are out: nobody may begin a call to them, then those under way end, then observers hear of it.
        let mut visible = view;
        let table = self.table();
        for (p, r) in table.rows() {
            if came.contains(p) && r.node != self.this {
                visible.members = visible.members.without(r.node);
            }
        }
        *VIEW.lock() = (Some(self.this), visible);
        self.fence_cut(&all_gone);
        for p in all_gone.iter() {
            if gone.contains(p) {
                self.set_state(p, NodeState::GoingDown, self.cause_of_loss(p), Some(new.id));
            }
            self.cut_off(p);
        }
        let _cut = hit("View.cut");
        for (p, r) in table.rows() {
            if gone.contains(p) {
                let incarnation = self.incarnation_of(p);
                if !self.fence_wait(p, incarnation) {
                    // This node is on its way out: it acts on nobody's death any more.
                    continue;
                }
                self.fence_judged(p, incarnation);
                let cause = self.cause_of_loss(p);
                self.set_state(p, NodeState::KCleanup, cause, Some(new.id));
                observers::tell(|o| o.node_down(r.node, incarnation));
                self.clean_up(p, cause, new.id);
            }
        }
        // Those whom this node finds in its first view come before those who join by it, as they do for the others.
        let found = if old.id == 0 {
            self.members_before(new.id).and(&came)
        } else {
            Places::EMPTY
        };
        let parts = [(found, Cause::Found), (came.minus(&found), Cause::Joined)];
        for (part, cause) in parts {
            for p in part.iter() {
                self.end_cleanup(p);
                self.set_state(p, NodeState::ComingUp, cause, Some(new.id));
            }
        }
        if old.id == 0 {
            self.first_view();
        }
        for p in all_came.iter() {
            self.let_in(p, incarnations);
        }
        let _admitted = hit("View.admitted");
        *VIEW.lock() = (Some(self.this), view);
        self.enter_records(old, new, incarnations);
        for (part, cause) in parts {
            for (p, r) in table.rows() {
                if !part.contains(p) {
                    continue;
                }
                self.set_state(p, NodeState::Up, cause, Some(new.id));
                if r.node != self.this {
                    let incarnation = self.incarnation_of(p);
                    observers::tell(|o| o.node_up(r.node, incarnation));
                    pr_info!("node {} is up\n", r.node.number());
                }
            }
        }
        let _done = hit("View.done");
        clms_history::tell_view(view.id, view.master, view.members.iter());
        {
            let mut done = self.done.lock();
            if done.joined.is_none() {
                done.joined = Some(Ok(()));
            }
        }
        self.changed.notify_all();
    }

    /// The life of a node that was last a member; 0: none.
    pub(crate) fn incarnation_of(&self, p: usize) -> Incarnation {
        Incarnation(self.done.lock().incarnations.get(p).copied().unwrap_or(0))
    }

    fn first_view(&self) {
        if let Err(e) = observers::joined(self.this) {
            pr_err!("a subsystem cannot join: {:?}\n", e);
            self.done.lock().joined = Some(Err(e));
        } else {
            self.done.lock().entered = true;
        }
    }
}
