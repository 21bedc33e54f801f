// SPDX-License-Identifier: GPL-2.0

//! What can happen to a node. Each is one step: it, the time and what was before decide what comes of it.

use super::*;

/// What a step begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input<S> {
    /// Time has passed.
    Tick,
    /// A heartbeat of that place came.
    Heard(Place, Heartbeat<S>),
    /// There is a stream to that incarnation of a place.
    LinkUp(Place, u64),
    /// There is none any more.
    LinkLost(Place, u64),
    /// This node wants out; the others should hear so now.
    Leave,
    /// It stays after all.
    Stay,
    /// It knows the next table of nodes; `None`: there will be none. The others should hear so now.
    Stage(Option<Change>),
    /// Its next life begins with the table that is in force.
    Settle,
}

impl<S, K, const W: usize> Core<K, W>
where
    S: Borrow<Says<W>> + PartialEq + Default,
    K: Deref<Target = [Known<S>]> + DerefMut,
{
    /// Takes a step.
    pub(crate) fn take(&mut self, input: Input<S>, now: Millis) -> Effect<W> {
        match input {
            Input::Tick => {}
            Input::Heard(p, heartbeat) => return self.heard(p, heartbeat, now),
            Input::LinkUp(p, incarnation) => self.link_up(p, incarnation),
            Input::LinkLost(p, incarnation) => self.link_lost(p, incarnation),
            Input::Leave => {
                self.leave();
                return match self.tick(now) {
                    Effect::None => Effect::Say,
                    effect => effect,
                };
            }
            Input::Stay => self.stay(),
            Input::Stage(change) => {
                let is_new = self.stage(change);
                return match self.tick(now) {
                    Effect::None if is_new => Effect::Say,
                    effect => effect,
                };
            }
            Input::Settle => self.settle(),
        }
        self.tick(now)
    }
}
