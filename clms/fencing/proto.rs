// SPDX-License-Identifier: GPL-2.0

//! The messages of fencing. `Documentation/protocol.rst` has the same list.

use ssi::wire::Le32;
use ssi::wire::Le64;

ics::service! {
    /// What the members tell each other of nodes that are lost.
    service Fencing { id: 8, version: 1 }

    /// Asks whether an incarnation of a node is over for all that the asked node knows; with `over` 1 the asker says that
    /// it is.
    op 1 Over (class: L4) { node: Le32, over: Le32, incarnation: Le64 } -> { over: Le32 }

    /// Wants an agent to run on the asked node. `answer`: 1 no need, that incarnation is over; 2 it does; 3 it cannot.
    op 2 Run (class: L4) { node: Le32, attempt: Le32, incarnation: Le64 } -> { answer: Le32 }

    /// To who asked for it: the agent of that attempt has failed.
    op 3 Failed (class: L4) { node: Le32, attempt: Le32, incarnation: Le64 } -> { }
}
