// SPDX-License-Identifier: GPL-2.0

//! What a heartbeat says, on the wire. The datagram around it, with its tag, is the transport's.

use crate::places::Places;
use crate::state::Phase;
use crate::thread::Says;
use crate::thread::TableView as View;
use kernel::prelude::*;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// Bytes that a heartbeat has for us.
pub(crate) const LEN: usize = 176;

/// The largest number of a view, proposal or promise that is read: whatever a member says, there are numbers above it.
const MAX_NUMBER: u64 = 1 << 62;

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireView {
    id: Le64,
    members: Le64,
    digest: Le64,
    table: Le64,
}

fn words(p: &Places<1>) -> Le64 {
    let [word] = p.words();
    Le64::new(*word)
}

fn places(word: Le64) -> Places<1> {
    Places::from_words([word.get()])
}

fn number(n: Le64) -> Option<u64> {
    Some(n.get()).filter(|n| *n <= MAX_NUMBER)
}

impl WireView {
    fn new(v: View) -> Self {
        Self {
            id: Le64::new(v.id),
            members: words(&v.members),
            digest: Le64::new(v.digest),
            table: Le64::new(v.table),
        }
    }

    fn get(self) -> Option<View> {
        Some(View {
            id: number(self.id)?,
            members: places(self.members),
            digest: self.digest.get(),
            table: self.table.get(),
        })
    }
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireSays {
    phase: Le32,
    promised_to: Le32,
    /// Digests of the table, and of the one that is staged: nodes that have neither are not heard.
    table: Le64,
    staged: Le64,
    view: WireView,
    proposal: WireView,
    promised: Le64,
    hears: Le64,
    over: Le64,
    /// 1: the node is being shut down, and takes no processes.
    drains: Le32,
    reserved: [u8; 60],
}

const _: () = assert!(core::mem::size_of::<WireSays>() == LEN);

/// Encodes.
pub(crate) fn encode(s: &Says) -> [u8; LEN] {
    let phase = match s.phase {
        Phase::Joining => 1,
        Phase::Up => 2,
        Phase::Leaving => 3,
    };
    let w = WireSays {
        phase: Le32::new(phase),
        promised_to: Le32::new(s.promised_to as u32), // CAST: below 64.
        table: Le64::new(s.table),
        staged: Le64::new(s.staged),
        view: WireView::new(s.view),
        proposal: WireView::new(s.proposal),
        promised: Le64::new(s.promised),
        hears: words(&s.hears),
        over: words(&s.over),
        drains: Le32::new(0),
        reserved: [0; 60],
    };
    zerocopy::transmute!(w)
}

/// Adds that the sender is being shut down.
pub(crate) fn say_draining(says: &mut [u8; LEN]) {
    let mut w: WireSays = zerocopy::transmute!(*says);
    w.drains = Le32::new(1);
    *says = zerocopy::transmute!(w);
}

/// Whether the sender is being shut down.
pub(crate) fn says_draining(says: &[u8; LEN]) -> bool {
    let w: WireSays = zerocopy::transmute!(*says);
    w.drains.get() == 1
}

/// Decodes; `None` for a number above [`MAX_NUMBER`], or nonsense.
pub(crate) fn decode(bytes: &[u8; LEN]) -> Option<Says> {
    let w: WireSays = zerocopy::transmute!(*bytes);
    Some(Says {
        phase: match w.phase.get() {
            1 => Phase::Joining,
            2 => Phase::Up,
            3 => Phase::Leaving,
            _ => return None,
        },
        table: w.table.get(),
        staged: w.staged.get(),
        view: w.view.get()?,
        proposal: w.proposal.get()?,
        promised: number(w.promised)?,
        promised_to: w.promised_to.get() as usize,
        hears: places(w.hears),
        over: places(w.over),
    })
}

#[kunit_tests(ssi_clms_proto)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        let v = |id| View {
            id,
            members: Places::from_words([7]),
            digest: id * 3,
            table: id + 90,
        };
        for phase in [Phase::Joining, Phase::Up, Phase::Leaving] {
            let says = Says {
                phase,
                table: 99,
                staged: 98,
                view: v(1),
                proposal: v(2),
                promised: 3,
                promised_to: 2,
                hears: Places::from_words([6]),
                over: Places::from_words([1]),
            };
            let mut bytes = encode(&says);
            assert_eq!(decode(&bytes), Some(says));
            assert!(!says_draining(&bytes));
            say_draining(&mut bytes);
            assert!(says_draining(&bytes));
            assert_eq!(decode(&bytes), Some(says));
        }
        assert_eq!(decode(&[0; LEN]), None);
    }

    #[test]
    fn numbers_have_an_end() {
        type Set = fn(&mut Says, u64);
        let places: [Set; 3] = [
            |s, n| s.view.id = n,
            |s, n| s.proposal.id = n,
            |s, n| s.promised = n,
        ];
        for set in places {
            for (n, is_read) in [
                (0, true),
                (1 << 62, true),
                ((1 << 62) + 1, false),
                (u64::MAX, false),
            ] {
                let mut says = Says::default();
                set(&mut says, n);
                assert_eq!(decode(&encode(&says)), is_read.then_some(says));
            }
        }
    }
}
