// SPDX-License-Identifier: GPL-2.0

//! How this node leaves: first those above, then its membership.

use crate::changes::NodeState;
use crate::history::Cause;
use crate::observers;
use crate::recorder::Input;
use crate::thread::current;
use crate::thread::end;
use crate::thread::view;
use crate::thread::Membership;
use kernel::prelude::*;

impl Membership {
    /// Those above leave; they stay if one of them does. A witness has none.
    ///
    /// # Errors
    /// What an observer gives; `EBUSY` a record is being changed.
    fn close_above(&self) -> Result {
        if self.is_witness() {
            return Ok(());
        }
        self.set_own_state(NodeState::Shutdown, Cause::Left);
        if let Err(e) = observers::leaving(self.this) {
            self.set_own_state(NodeState::Up, Cause::Stayed);
            return Err(e);
        }
        // While this node is a member still: whoever changes a record here learns what became of it.
        if let Err(e) = self.replica.close() {
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

/// Leaves. Sleeps until the others have a view without this node, or do not support it any more.
///
/// # Errors
/// `ENOTCONN` it has not joined; `EDQUOT` the rest would have no majority, or others left first; `EAGAIN` a lost node is not known to be off;
/// `EBUSY` a subsystem is in use; `EINTR`.
pub(crate) fn leave() -> Result {
    let m = current().ok_or(ENOTCONN)?;
    let v = view();
    if v.id == 0 {
        return Err(ENOTCONN);
    }
    let alone = m.rows.len() == 1;
    if !alone && !m.heart.lock().core.may_leave() {
        return Err(EDQUOT);
    }
    if m.fence_pending() {
        return Err(EAGAIN);
    }
    m.close_above()?;
    // That took its time.
    if m.fence_pending() {
        m.reopen_above()?;
        return Err(EAGAIN);
    }
    if !alone {
        m.step(|_| Input::Leave);
        let is_decided = || {
            let done = m.done.lock();
            done.left || !done.wants_out
        };
        // After a signal too the others may have their view without this node, and who stays then is excluded, and
        // stops. If they do not have it in that time either, no view can be made of them.
        let decided = m.changed.wait_interruptible(is_decided)
            || m.changed.wait_timeout(2 * m.detect_ms, is_decided);
        if !m.done.lock().left {
            // Who has lost its lease meanwhile stops here, before it acts again.
            m.step(|_| Input::Stay);
            m.reopen_above()?;
            return Err(if decided { EDQUOT } else { EINTR });
        }
    }
    end();
    Ok(())
}
