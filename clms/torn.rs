// SPDX-License-Identifier: GPL-2.0

//! Names the nodes that do not hear each other, where because of them no view can be made.

use crate::places::Place;
use crate::table::Table;
use crate::thread::now_ms;
use crate::thread::Core;
use kernel::prelude::*;

/// How many pairs are named.
const MAX_PAIRS: usize = 16;

/// The pairs, as they were looked at or told last; none: a view can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Torn([Option<(Place, Place)>; MAX_PAIRS]);

impl Torn {
    /// As it is now.
    pub(crate) fn new(core: &Core) -> Self {
        let mut torn = Self::default();
        if core.is_torn(now_ms()) {
            for (to, pair) in torn.0.iter_mut().zip(core.cut_pairs()) {
                *to = Some(pair);
            }
        }
        torn
    }

    /// Tells what is not as it was when it was told last.
    pub(crate) fn tell(&mut self, now: Self, table: &Table) {
        if *self == now {
            return;
        }
        *self = now;
        for (a, b) in now.0.iter().flatten() {
            pr_err!(
                "nodes {} and {} do not hear each other, and no majority does: nobody can be left out, calls between \
                 them wait; mend the network between them\n",
                table.number(*a),
                table.number(*b)
            );
        }
        if now == Self::default() {
            pr_notice!("a majority of the nodes hears each other again\n");
        }
    }
}
