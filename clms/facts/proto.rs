// SPDX-License-Identifier: GPL-2.0

//! The messages of facts. `Documentation/protocol.rst` has the same list.

use ssi::wire::Le32;
use ssi::wire::Le64;

ics::service! {
    /// Facts of a node's machine.
    service Facts { id: 9, version: 1 }

    /// Processors it has and uses, the speed of one, bytes of memory. Changes nothing.
    op 1 Tell (class: L0) { } -> { total_cpus: Le32, online_cpus: Le32, cpu_power: Le32, total_memory: Le64 }
}

const _: () = assert!(core::mem::size_of::<TellRep>() == 20);
const _: () = assert!(core::mem::size_of::<TellReq>() == 0);
