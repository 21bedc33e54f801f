// SPDX-License-Identifier: GPL-2.0

//! What a heartbeat says, on the wire. The datagram around it, with its tag, is the transport's.

use crate::state::Phase;
use crate::state::Says;
use crate::state::View;
use kernel::prelude::*;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// Bytes that a heartbeat has for us.
pub(crate) const LEN: usize = 192;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireView {
    id: Le64,
    members: Le64,
    digest: Le64,
}

impl WireView {
    fn new(v: View) -> Self {
        Self {
            id: Le64::new(v.id),
            members: Le64::new(v.members),
            digest: Le64::new(v.digest),
        }
    }

    fn get(self) -> View {
        View {
            id: self.id.get(),
            members: self.members.get(),
            digest: self.digest.get(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireSays {
    phase: Le32,
    promised_to: Le32,
    /// Digest of the table: nodes with another one are not heard.
    table: Le64,
    view: WireView,
    proposal: WireView,
    promised: Le64,
    reserved: [u8; 120],
}

const _: () = assert!(core::mem::size_of::<WireSays>() == LEN);

/// Encodes.
pub(crate) fn encode(s: &Says, table: u64) -> [u8; LEN] {
    let phase = match s.phase {
        Phase::Joining => 1,
        Phase::Up => 2,
        Phase::Leaving => 3,
    };
    let w = WireSays {
        phase: Le32::new(phase),
        promised_to: Le32::new(s.promised_to as u32), // CAST: below 64.
        table: Le64::new(table),
        view: WireView::new(s.view),
        proposal: WireView::new(s.proposal),
        promised: Le64::new(s.promised),
        reserved: [0; 120],
    };
    zerocopy::transmute!(w)
}

/// Decodes; `None` for another table or nonsense.
pub(crate) fn decode(bytes: &[u8; LEN], table: u64) -> Option<Says> {
    let w: WireSays = zerocopy::transmute!(*bytes);
    if w.table.get() != table {
        return None;
    }
    Some(Says {
        phase: match w.phase.get() {
            1 => Phase::Joining,
            2 => Phase::Up,
            3 => Phase::Leaving,
            _ => return None,
        },
        view: w.view.get(),
        proposal: w.proposal.get(),
        promised: w.promised.get(),
        promised_to: w.promised_to.get() as usize,
    })
}

#[kunit_tests(ssi_clms_proto)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        let v = |id| View {
            id,
            members: 7,
            digest: id * 3,
        };
        for phase in [Phase::Joining, Phase::Up, Phase::Leaving] {
            let says = Says {
                phase,
                view: v(1),
                proposal: v(2),
                promised: 3,
                promised_to: 2,
            };
            let bytes = encode(&says, 99);
            assert_eq!(decode(&bytes, 99), Some(says));
            assert_eq!(decode(&bytes, 98), None);
        }
        assert_eq!(decode(&[0; LEN], 0), None);
    }
}
