// SPDX-License-Identifier: GPL-2.0

//! The messages of planned shutdowns. `Documentation/protocol.rst` has the same list.

use ssi::wire::Le32;

ics::service! {
    /// Planned shutdowns.
    service Shutdown { id: 10, version: 1 }

    /// To the node that is to go. `action` is the netlink family's. Answered when it has begun.
    /// Errors: `ENOTCONN` no member; `EALREADY` it leaves already; `EDQUOT` the rest would have no majority; `EAGAIN` a lost
    /// node is not known to be off; `EOPNOTSUPP` a witness; `EINVAL`, `ENOMEM`.
    op 1 Begin (class: L0) { action: Le32, grace_ms: Le32 } -> { }

    /// How far the last one of the asked node is. Changes nothing.
    op 2 Look (class: L0) { } -> {
        stage: Le32, error: Le32, moved: Le32, ended: Le32, left: Le32, process: Le32,
    }
}

const _: () = assert!(core::mem::size_of::<BeginReq>() == 8);
const _: () = assert!(core::mem::size_of::<LookRep>() == 24);
