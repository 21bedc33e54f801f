// SPDX-License-Identifier: GPL-2.0

//! How this node leaves: first those above, then its membership.

use crate::changes::NodeState;
use crate::history::Cause;
use crate::observers;
use crate::patience::Patience;
use crate::recorder::Input;
use crate::thread::current;
use crate::thread::end;
use crate::thread::view;
use crate::thread::Membership;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;

impl Membership {
    /// Those above leave; they stay if one of them does. A witness has none.
    ///
    /// # Errors
    /// What an observer gives; [`Patience::error`] a record is being changed.
    fn close_above(&self, patience: &Patience<'_>) -> Result {
        if self.is_witness() {
            return Ok(());
        }
        self.set_own_state(NodeState::Shutdown, Cause::Left);
        if let Err(e) = observers::leaving(self.this) {
            self.set_own_state(NodeState::Up, Cause::Stayed);
            return Err(e);
        }
        // While this node is a member still: whoever changes a record here learns what became of it.
        if let Err(e) = self.replica.close(patience) {
            observers::joined(self.this)?;
            self.set_own_state(NodeState::Up, Cause::Stayed);
            return Err(e);
        }
        self.set_own_state(NodeState::GoingDown, Cause::Left);
        Ok(())
    }

    /// Those above stay after all.
    ///
    /// # Errors
    /// What an observer gives.
    fn reopen_above(&self) -> Result {
        if self.is_witness() {
            return Ok(());
        }
        self.replica.reopen();
        observers::joined(self.this)?;
        self.set_own_state(NodeState::Up, Cause::Stayed);
        Ok(())
    }
}

/// Whether somebody has this node leave: 1 yes.
static GOING: Atomic<u32> = Atomic::new(0);

/// The right to have this node leave, which one at a time has.
pub(crate) struct Turn(());

impl Turn {
    /// Takes it.
    ///
    /// # Errors
    /// `EALREADY` somebody has it.
    pub(crate) fn take() -> Result<Self> {
        match GOING.xchg(1, Full) {
            0 => Ok(Self(())),
            _ => Err(EALREADY),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        GOING.xchg(0, Full);
    }
}

/// Leaves. Sleeps until the others have a view without this node, or do not support it any more.
///
/// # Errors
/// `ENOTCONN` it has not joined; `EALREADY` it leaves, or is being shut down; those of [`Membership::leave`].
pub(crate) fn leave() -> Result {
    let m = current().ok_or(ENOTCONN)?;
    let turn = Turn::take()?;
    m.leave(&turn, &Patience::Signal)
}

impl Membership {
    /// Whether this node can leave now, as far as the others go.
    ///
    /// # Errors
    /// `ENOTCONN` it is no member; `EDQUOT` the rest would have no majority; `EAGAIN` a lost node is not known to be off.
    pub(crate) fn check_leave(&self) -> Result {
        if view().id == 0 {
            return Err(ENOTCONN);
        }
        if !self.is_alone() && !self.heart.lock().core.may_leave() {
            return Err(EDQUOT);
        }
        if self.fence_pending() {
            return Err(EAGAIN);
        }
        Ok(())
    }

    /// Whether the table has this node only.
    fn is_alone(&self) -> bool {
        self.table().is_of_one()
    }

    /// Leaves, as [`leave`].
    ///
    /// # Errors
    /// Those of [`Self::check_leave`]; `EDQUOT` others left first; `EBUSY` a subsystem is in use; [`Patience::error`].
    pub(crate) fn leave(&self, _turn: &Turn, patience: &Patience<'_>) -> Result {
        self.check_leave()?;
        self.close_above(patience)?;
        // That took its time.
        if self.fence_pending() {
            self.reopen_above()?;
            return Err(EAGAIN);
        }
        if !self.is_alone() {
            self.step(|_| Input::Leave);
            let is_decided = || {
                let done = self.done.lock();
                done.left || !done.wants_out
            };
            // After that too the others may have their view without this node, and who stays then is excluded, and
            // stops. If they do not have it in that time either, no view can be made of them.
            let decided = patience.wait(&self.changed, is_decided)
                || self.changed.wait_timeout(2 * self.detect_ms, is_decided);
            if !self.done.lock().left {
                // Who has lost its lease meanwhile stops here, before it acts again.
                self.step(|_| Input::Stay);
                // Unless it was out just before.
                if !self.heart.lock().core.has_left() {
                    self.reopen_above()?;
                    return Err(if decided { EDQUOT } else { patience.error() });
                }
            }
        }
        observers::tell(|o| o.left());
        end();
        Ok(())
    }
}
