// SPDX-License-Identifier: GPL-2.0

//! The streams beside the main one. A main stream has one of each side in its life, and they end together: what was on the
//! way on any is sent again on the next main stream.

use super::Peer;
use super::State;
use crate::handshake::ID;
use crate::lane;
use crate::lane::Side;
use crate::link::Link;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long a stream waits for the main one that it names: as long as that one may be in the handshake.
const PARKED_MS: u32 = 3000;

/// A stream beside the main one, in the life of that.
pub(super) enum Beside {
    /// It has not come yet: its frames take the main one.
    NotYet,
    /// It is there.
    There(Arc<Link>),
    /// It was torn, and the main one is to end.
    Gone,
}

impl Beside {
    /// Those of a main stream that has just come.
    pub(super) const NONE: [Self; Side::ALL.len()] = [const { Self::NotYet }; Side::ALL.len()];

    /// It, if it is there.
    pub(super) fn stream(&self) -> Option<&Arc<Link>> {
        match self {
            Self::There(link) => Some(link),
            Self::NotYet | Self::Gone => None,
        }
    }

    /// It, if it is there.
    pub(super) fn into_stream(self) -> Option<Arc<Link>> {
        match self {
            Self::There(link) => Some(link),
            Self::NotYet | Self::Gone => None,
        }
    }
}

impl State {
    /// What there is of a side.
    pub(super) fn beside(&self, side: Side) -> &Beside {
        // PANIC: `index` is below the number of sides.
        &self.beside[side.index()]
    }

    fn beside_mut(&mut self, side: Side) -> &mut Beside {
        // PANIC: As above.
        &mut self.beside[side.index()]
    }

    /// A stream beside the main one is torn: gives all that are to be torn now.
    pub(super) fn lose_beside(&mut self, link: &Arc<Link>) -> [Option<Arc<Link>>; lane::N] {
        let mut all = [const { None }; lane::N];
        for (to, stream) in all.iter_mut().zip(self.streams()) {
            *to = Some(stream.clone());
        }
        if let Some(side) = link.side {
            *self.beside_mut(side) = Beside::Gone;
        }
        all
    }
}

impl Peer {
    /// A stream beside `main` has passed admission.
    ///
    /// # Errors
    /// `ESTALE` if that is not the main stream any more; `EEXIST` if it has, or had, one on that side. What was on the way on
    /// that one may be lost, if the other end knows of the new one only: `main` is torn.
    pub(crate) fn attach_beside(&self, main: &Arc<Link>, link: &Arc<Link>) -> Result {
        let side = link.side.ok_or(EINVAL)?;
        let is_first = {
            let mut s = self.state.lock();
            if !s.is_main(main) || link.incarnation != main.incarnation {
                return Err(ESTALE);
            }
            let is_first = matches!(s.beside(side), Beside::NotYet);
            if is_first {
                *s.beside_mut(side) = Beside::There(link.clone());
            }
            is_first
        };
        if !is_first {
            main.tear();
            return Err(EEXIST);
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Sleeps until there is the main stream of that name, which may have been overtaken on the way here. `None` when it is
    /// gone, another one has come, it does not come in time, or at the end.
    pub(crate) fn wait_for_named(
        &self,
        id: &[u8; ID],
        is_end: impl Fn() -> bool,
    ) -> Option<Arc<Link>> {
        let before = self.state.lock().main;
        let mut found = None;
        self.changed.wait_timeout(PARKED_MS, || {
            let s = self.state.lock();
            found = s.on(None).filter(|l| l.id == *id).cloned();
            s.main == *id || s.main != before || is_end()
        });
        found.filter(|_| !is_end())
    }

    /// Sleeps until there is a main stream that has not had one on that side, or the end.
    pub(crate) fn wait_for_main(&self, side: Side, is_end: impl Fn() -> bool) -> Option<Arc<Link>> {
        let mut found = None;
        self.changed.wait_until(|| {
            let s = self.state.lock();
            let is_free = matches!(s.beside(side), Beside::NotYet);
            found = s.on(None).filter(|_| is_free).cloned();
            found.is_some() || is_end()
        });
        found.filter(|_| !is_end())
    }
}
