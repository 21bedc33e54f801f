// SPDX-License-Identifier: GPL-2.0

//! The stream for bulk beside the main one. A main stream has one in its life, and they end together: what was on the way on
//! either is sent again on the next main stream.

use super::Peer;
use crate::handshake::ID;
use crate::link::Link;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long a stream for bulk waits for its main one: as long as that one may be in the handshake.
const PARKED_MS: u32 = 3000;

impl Peer {
    /// The stream for bulk beside `main` has passed admission.
    ///
    /// # Errors
    /// `ESTALE` if that is not the stream any more; `EEXIST` if it has one. What was on the way on that one may be lost, if
    /// the other end knows of the new one only: `main` is torn.
    pub(crate) fn attach_bulk(&self, main: &Arc<Link>, bulk: &Arc<Link>) -> Result {
        {
            let mut s = self.state.lock();
            if !s.is_main(main) || bulk.incarnation != main.incarnation {
                return Err(ESTALE);
            }
            if s.bulk.is_none() {
                s.bulk = Some(bulk.clone());
            } else {
                drop(s);
                main.tear();
                return Err(EEXIST);
            }
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
            let main = s.link.as_ref().map(|(l, _)| l);
            found = main.filter(|l| l.id == *id).cloned();
            s.main == *id || s.main != before || is_end()
        });
        found.filter(|_| !is_end())
    }

    /// Sleeps until there is a stream without one for bulk beside it, or the end.
    pub(crate) fn wait_for_main(&self, is_end: impl Fn() -> bool) -> Option<Arc<Link>> {
        let mut found = None;
        self.changed.wait_until(|| {
            let s = self.state.lock();
            found = match &s.link {
                Some((l, _)) if s.bulk.is_none() => Some(l.clone()),
                _ => None,
            };
            found.is_some() || is_end()
        });
        found.filter(|_| !is_end())
    }
}
