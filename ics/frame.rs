// SPDX-License-Identifier: GPL-2.0

//! Frames: what a stream between two nodes is made of. `Documentation/protocol.rst` has the picture.

use crate::lane;
use kernel::prelude::*;
use ssi::crypto;
use ssi::crypto::BodySum;
use ssi::crypto::FrameKey;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// "SSI1", little-endian.
pub(crate) const MAGIC: u32 = 0x3149_5353;

/// Bytes of the tag behind every frame.
pub(crate) const TAG: usize = FrameKey::TAG;

/// The most bytes of a body: fixed part and tail.
pub(crate) const MAX_BODY: usize = crate::MAX_TAIL + 8192;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks.
    Request,
    /// Answers.
    Reply,
    /// The asker does not wait any more.
    Cancel,
    /// Which calls of its sender are open: the first frame of a main stream.
    Open,
    /// Nothing but what every head says: what has been dealt with. Much came, and nothing else was to be sent.
    Seen,
}

impl Kind {
    fn to_wire(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Cancel => 3,
            Self::Open => 4,
            Self::Seen => 5,
        }
    }

    /// Decodes a kind.
    pub(crate) fn from_wire(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Cancel,
            4 => Self::Open,
            5 => Self::Seen,
            _ => return None,
        })
    }
}

/// The head of every frame. The body and a tag over both follow.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Head {
    /// [`MAGIC`].
    pub(crate) magic: Le32,
    /// Bytes of the body.
    pub(crate) len: Le32,
    /// Number of the frame in its direction of its stream, from 1 on, without gaps.
    pub(crate) seq: Le64,
    /// Number of the call, given by the asker. Of the first frame: that of the next one.
    pub(crate) xid: Le64,
    /// Number of the last frame that was dealt with on each of the pair's streams, in the order of [`lane::place`]: replies up
    /// to it have arrived, and need not be kept.
    pub(crate) seen: [Le64; lane::N],
    /// Of a post: its place in the order of the posts of its class, from 1 on. 0: a call. Of the first frame: number of the
    /// stream, higher than those of earlier ones.
    pub(crate) order: Le64,
    /// Service.
    pub(crate) service: Le16,
    /// Op.
    pub(crate) op: Le16,
    /// See [`Kind`].
    pub(crate) kind: u8,
    /// See `Class`.
    pub(crate) class: u8,
    /// Of a request: version of the service.
    pub(crate) version: Le16,
    /// Of a reply: 0, an errno, or [`MOVED`].
    pub(crate) status: Le32,
    /// Of a reply with [`MOVED`]: where to.
    pub(crate) moved_to: Le32,
}

/// Status of a reply: what the call is about is elsewhere. No errno.
pub(crate) const MOVED: u32 = 0xffff_0001;

const _: () = assert!(core::mem::size_of::<Head>() == FrameKey::HEAD);
const _: () = assert!(MAX_BODY.div_ceil(FrameKey::PIECE) <= BodySum::PIECES);

impl Head {
    /// A head with everything but its sequence number.
    pub(crate) fn new(kind: Kind, xid: u64) -> Self {
        Self {
            magic: Le32::new(MAGIC),
            len: Le32::new(0),
            seq: Le64::new(0),
            xid: Le64::new(xid),
            seen: [Le64::new(0); lane::N],
            order: Le64::new(0),
            service: Le16::new(0),
            op: Le16::new(0),
            kind: kind.to_wire(),
            class: 0,
            version: Le16::new(0),
            status: Le32::new(0),
            moved_to: Le32::new(0),
        }
    }

    /// The length of the frame that begins with `bytes`, if it is one.
    pub(crate) fn frame_length(bytes: &[u8]) -> Option<usize> {
        let (head, _) = Self::ref_from_prefix(bytes).ok()?;
        let len = head.len.get() as usize;
        (head.magic.get() == MAGIC && len <= MAX_BODY)
            .then_some(core::mem::size_of::<Self>() + len + TAG)
    }

    /// Tag over head and body.
    pub(crate) fn tag(&self, key: &FrameKey, body: &[u8]) -> [u8; TAG] {
        self.tag_of(key, &BodySum::of(key, body))
    }

    /// Tag over head and what the body comes to.
    pub(crate) fn tag_of(&self, key: &FrameKey, body: &BodySum) -> [u8; TAG] {
        key.tag(zerocopy::transmute_ref!(self), body)
    }

    /// Whether this head, with a body of that sum and that tag, is frame `seq` of the stream whose key that is.
    ///
    /// # Errors
    /// See [`Bad`].
    pub(crate) fn check(
        &self,
        key: &FrameKey,
        body: &BodySum,
        tag: &[u8; TAG],
        seq: u64,
    ) -> core::result::Result<(), Bad> {
        if !crypto::equal(tag, &self.tag_of(key, body)) {
            return Err(Bad::Tag);
        }
        if self.seq.get() != seq {
            return Err(Bad::Order);
        }
        Ok(())
    }
}

/// Why a frame is not the one that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Its tag is wrong.
    Tag,
    /// It is another one of this stream.
    Order,
}

/// Head and body of a whole frame, if it is frame `seq` of the stream whose key that is.
pub(crate) fn open<'a>(frame: &'a [u8], key: &FrameKey, seq: u64) -> Option<(Head, &'a [u8])> {
    let (head, rest) = Head::read_from_prefix(frame).ok()?;
    let (body, tag) = rest.split_at_checked(head.len.get() as usize)?;
    let tag: &[u8; TAG] = tag.try_into().ok()?;
    head.check(key, &BodySum::of(key, body), tag, seq).ok()?;
    Some((head, body))
}

#[kunit_tests(ssi_ics_frame)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let mut h = Head::new(Kind::Request, 0x0102_0304_0506_0708);
        h.len = Le32::new(5);
        h.seq = Le64::new(9);
        h.seen = [6, 0x0c0d, 0x0a0b].map(Le64::new);
        h.order = Le64::new(4);
        h.service = Le16::new(3);
        h.op = Le16::new(2);
        h.class = 1;
        h.version = Le16::new(0x0201);
        let golden: [u8; 72] = [
            0x53, 0x53, 0x49, 0x31, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 6,
            0, 0, 0, 0, 0, 0, 0, 0x0d, 0x0c, 0, 0, 0, 0, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0,
            0, 0, 0, 0, 0, 0, 3, 0, 2, 0, 1, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(h.as_bytes(), &golden[..]);
        let back = Head::read_from_bytes(&golden[..]).map(|b| b.xid.get());
        assert_eq!(back.unwrap_or(0), 0x0102_0304_0506_0708);
    }

    #[test]
    fn every_bit_counts_for_the_tag() {
        let h = Head::new(Kind::Reply, 7);
        let key = FrameKey::new(&[1u8; 32]);
        let tag = h.tag(&key, b"body");
        let mut other = h;
        other.seq = Le64::new(1);
        assert!(other.tag(&key, b"body") != tag);
        assert!(h.tag(&key, b"bodY") != tag);
        assert!(h.tag(&FrameKey::new(&[2u8; 32]), b"body") != tag);
        assert!(h.tag(&key, b"body") == tag);
    }

    #[test]
    fn every_byte_of_a_body_counts_for_the_tag() {
        let key = FrameKey::new(&[3u8; 32]);
        let mut body = [5u8; 600];
        for len in [1, 7, 8, 9, 600] {
            let mut h = Head::new(Kind::Request, 7);
            h.len = Le32::new(len as u32);
            let body = &mut body[..len];
            let tag = h.tag(&key, body);
            for i in 0..len {
                body[i] ^= 0x80;
                assert!(h.tag(&key, body) != tag);
                body[i] ^= 0x80;
            }
            assert!(h.tag(&key, body) == tag);
        }
    }

    #[test]
    fn golden_tags() {
        let key = FrameKey::new(&[1u8; 32]);
        let mut h = Head::new(Kind::Request, 7);
        h.seq = Le64::new(9);
        h.len = Le32::new(4);
        let golden: [u8; TAG] = [
            0xc6, 0x0d, 0xba, 0x6b, 0x79, 0x2e, 0xe9, 0x29, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(h.tag(&key, b"body"), golden);
        let mut body = [0u8; 600];
        for (i, b) in body.iter_mut().enumerate() {
            *b = (i % 251) as u8;
        }
        h.len = Le32::new(600);
        let golden: [u8; TAG] = [
            0xc5, 0x4f, 0x77, 0xb1, 0xb6, 0x99, 0x0d, 0x99, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(h.tag(&key, &body), golden);
    }

    /// So many bytes, no two pieces alike.
    fn long(len: usize) -> Result<KVVec<u8>> {
        let mut body = KVVec::with_capacity(len, GFP_KERNEL)?;
        for i in 0..len {
            body.extend_from_slice(&[(i % 251) as u8], GFP_KERNEL)?;
        }
        Ok(body)
    }

    #[test]
    fn a_long_body_is_summed_by_pieces() -> Result {
        let key = FrameKey::new(&[1u8; 32]);
        let h = Head::new(Kind::Request, 7);
        for len in [FrameKey::PIECE, FrameKey::PIECE + 1, MAX_BODY] {
            let body = long(len)?;
            let tag = h.tag(&key, &body);
            let mut sum = BodySum::default();
            for piece in body.chunks(FrameKey::PIECE) {
                sum.add(&key, piece);
            }
            assert!(h.tag_of(&key, &sum) == tag);
            for at in [0, FrameKey::PIECE - 1, len - 1] {
                let (front, back) = body.split_at(at);
                let mut other = KVVec::with_capacity(len, GFP_KERNEL)?;
                other.extend_from_slice(front, GFP_KERNEL)?;
                other.extend_from_slice(&[body[at] ^ 1], GFP_KERNEL)?;
                other.extend_from_slice(back.get(1..).unwrap_or(&[]), GFP_KERNEL)?;
                assert!(h.tag(&key, &other) != tag);
            }
        }
        // Pieces in another order are another body.
        let (body, mut sum) = (long(2 * FrameKey::PIECE)?, BodySum::default());
        let (one, two) = body.split_at(FrameKey::PIECE);
        sum.add(&key, two);
        sum.add(&key, one);
        assert!(h.tag_of(&key, &sum) != h.tag(&key, &body));
        let golden: [u8; TAG] = [
            0x2e, 0x8d, 0x61, 0x5f, 0x3c, 0x53, 0xa5, 0xe6, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(h.tag(&key, &body), golden);
        Ok(())
    }

    #[test]
    fn kinds_round_trip() {
        for k in [
            Kind::Request,
            Kind::Reply,
            Kind::Cancel,
            Kind::Open,
            Kind::Seen,
        ] {
            assert_eq!(Kind::from_wire(k.to_wire()), Some(k));
        }
        assert_eq!(Kind::from_wire(0), None);
        assert_eq!(Kind::from_wire(6), None);
    }
}
