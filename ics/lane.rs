// SPDX-License-Identifier: GPL-2.0

//! The lanes between two nodes: a main stream and those beside it; and which frame goes on which. Pure.
//!
//! Not for the life of a stream: `peer/beside.rs`.

use crate::frame::Head;
use crate::frame::TAG;
use crate::handshake::ID;
use crate::service::Class;
use kernel::prelude::*;
use ssi::inbox::MAX_FRAME;

/// A frame with a longer body is for bulk: nothing that reception takes waits behind it.
pub(crate) const SHORT: usize = MAX_FRAME - core::mem::size_of::<Head>() - TAG;

/// Streams of two nodes.
pub(crate) const N: usize = ALL.len();

/// All of them, each at its [`place`].
pub(crate) const ALL: [Option<Side>; 3] = [None, Some(Side::Control), Some(Side::Bulk)];

/// A stream beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// For short frames of class L4.
    Control,
    /// For long ones, of whatever class.
    Bulk,
}

impl Side {
    /// All of them, each at its [`Self::index`].
    pub(crate) const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// Its place among them.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Bulk => 1,
        }
    }

    /// Where a frame about a call of that class, with a body of `len` bytes, goes as soon as there is that stream; `None`: on
    /// the main one.
    pub(crate) fn of_frame(class: Class, len: usize) -> Option<Self> {
        match class {
            _ if len > SHORT => Some(Self::Bulk),
            Class::L4 => Some(Self::Control),
            Class::P | Class::L0 | Class::U | Class::L1 | Class::L2 | Class::L3 => None,
        }
    }
}

/// The place of a stream among all of two nodes, as a frame tells of them; `None` is the main one.
pub(crate) const fn place(side: Option<Side>) -> usize {
    match side {
        None => 0,
        Some(s) => 1 + s.index(),
    }
}

/// Which stream of two nodes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The first one.
    Main,
    /// One beside the main one of that name.
    Beside(Side, [u8; ID]),
}

impl Lane {
    /// As a hello has it: the place of the stream, and the name of the main one, if it is another.
    pub(crate) fn to_wire(self) -> (u32, [u8; ID]) {
        match self {
            Self::Main => (0, [0; ID]),
            Self::Beside(Side::Control, of) => (1, of),
            Self::Beside(Side::Bulk, of) => (2, of),
        }
    }

    /// Decodes it; of a main stream `of` is not looked at.
    pub(crate) fn from_wire(number: u32, of: [u8; ID]) -> Option<Self> {
        Some(match number {
            0 => Self::Main,
            1 => Self::Beside(Side::Control, of),
            2 => Self::Beside(Side::Bulk, of),
            _ => return None,
        })
    }
}

#[kunit_tests(ssi_ics_lane)]
mod tests {
    use super::*;

    #[test]
    fn short_frames_of_l4_are_control_and_long_ones_bulk() {
        let classes = [
            Class::P,
            Class::L0,
            Class::U,
            Class::L1,
            Class::L2,
            Class::L3,
            Class::L4,
        ];
        assert_eq!(SHORT, 8192);
        for class in classes {
            let short = (class == Class::L4).then_some(Side::Control);
            for (len, want) in [
                (0, short),
                (SHORT, short),
                (SHORT + 1, Some(Side::Bulk)),
                (crate::frame::MAX_BODY, Some(Side::Bulk)),
            ] {
                assert_eq!(Side::of_frame(class, len), want);
            }
        }
    }

    #[test]
    fn lanes_round_trip_and_have_places_of_their_own() {
        let of = [7; ID];
        let lanes = [
            (Lane::Main, None),
            (Lane::Beside(Side::Control, of), Some(Side::Control)),
            (Lane::Beside(Side::Bulk, of), Some(Side::Bulk)),
        ];
        assert_eq!(lanes.len(), N);
        for (at, (lane, side)) in lanes.into_iter().enumerate() {
            let (number, named) = lane.to_wire();
            assert_eq!((number as usize, place(side)), (at, at));
            assert_eq!(named, if side.is_some() { of } else { [0; ID] });
            assert_eq!(Lane::from_wire(number, of), Some(lane));
        }
        for (at, side) in Side::ALL.into_iter().enumerate() {
            assert_eq!(side.index(), at);
        }
        for (at, side) in ALL.into_iter().enumerate() {
            assert_eq!(place(side), at);
        }
        assert_eq!(Lane::from_wire(3, of), None);
    }
}
