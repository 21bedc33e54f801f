// SPDX-License-Identifier: GPL-2.0

//! What anybody may ask of the state machine, apart from it. Its lock is a mutex, and the threads that take its steps are realtime: a
//! program that asks and has little processor time would hold them up if it held that.

use crate::places::Places;
use crate::state::Millis;
use crate::state::Phase;
use crate::thread::Core;
use crate::thread::MAX_NODES;
use crate::thread::WORDS;
use ssi::clms_netlink::Tables;

/// As it was after the last step.
pub(crate) struct Shown {
    pub(crate) phase: Phase,
    pub(crate) members: Places<WORDS>,
    pub(crate) is_quorate: bool,
    pub(crate) is_settled: bool,
    /// Nodes that are heard and wait to be let in.
    pub(crate) coming: Places<WORDS>,
    pub(crate) tables: [Tables; MAX_NODES],
    pub(crate) incarnations: [u64; MAX_NODES],
}

impl Shown {
    /// That of `core`.
    pub(crate) fn new(core: &Core, now: Millis) -> Self {
        let mut s = Self {
            phase: core.phase(),
            members: Places::EMPTY,
            is_quorate: false,
            is_settled: false,
            coming: Places::EMPTY,
            tables: [Tables::default(); MAX_NODES],
            incarnations: [0; MAX_NODES],
        };
        s.update(core, now);
        s
    }

    /// Takes over that of `core`.
    pub(crate) fn update(&mut self, core: &Core, now: Millis) {
        self.phase = core.phase();
        self.members = core.says().view.members;
        self.is_quorate = core.is_quorate(&self.members);
        self.is_settled = core.is_settled();
        self.coming = core.coming(now);
        for (p, (tables, incarnation)) in self
            .tables
            .iter_mut()
            .zip(&mut self.incarnations)
            .enumerate()
        {
            let (in_force, staged) = core.tables_of(p);
            *tables = Tables { in_force, staged };
            *incarnation = core.incarnation(p);
        }
    }
}
