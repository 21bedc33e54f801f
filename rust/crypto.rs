// SPDX-License-Identifier: GPL-2.0

//! Keyed BLAKE2s, tags of frames, random numbers. Source: `lib/crypto/blake2s.c`, `lib/siphash.c`.

use crate::bindings;
use crate::net::pieces;

/// A tag of `N` bytes, at most 32, over the parts (at most four), one after the other.
pub fn mac<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
    const { assert!(N <= 32) };
    let mut out = [0; N];
    let c = pieces(parts);
    // SAFETY: All live through the call; lengths are theirs.
    unsafe {
        bindings::ssi_mac(
            out.as_mut_ptr(),
            N as u32,
            key.as_ptr(),
            32,
            c.as_ptr(),
            parts.len() as u32,
        )
    };
    out
}

/// Tags the frames of one direction of a stream: SipHash-2-4 over the head and what the body comes to, which another
/// SipHash-2-4 says: that of the body, or if it is longer than a piece, that of those of its pieces.
pub struct FrameKey(bindings::ssi_frame_key);

impl FrameKey {
    /// Bytes of a tag. The second half is zero: room for a longer one.
    pub const TAG: usize = 16;

    /// Bytes of a head.
    pub const HEAD: usize = bindings::SSI_FRAME_HEAD as usize;

    /// Bytes of each piece of a body but the last.
    pub const PIECE: usize = 64 * 1024;

    /// From the stream's key.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut k = bindings::ssi_frame_key::default();
        // SAFETY: `key` has the 32 bytes that are read, and `k` is writable.
        unsafe { bindings::ssi_frame_key_init(&mut k, key.as_ptr()) };
        Self(k)
    }

    fn sum(&self, bytes: &[u8]) -> u64 {
        // SAFETY: Both live through the call; the length is that of `bytes`.
        unsafe { bindings::ssi_body_sum(&self.0, bytes.as_ptr(), bytes.len()) }
    }

    /// The tag of a frame. The head must tell the length of the body, and be of no other frame of the stream.
    pub fn tag(&self, head: &[u8; Self::HEAD], body: &BodySum) -> [u8; Self::TAG] {
        let mut tag = [0; Self::TAG];
        // SAFETY: Both live through the call; a head is as long as is read.
        let sum = unsafe { bindings::ssi_frame_tag(&self.0, head.as_ptr(), body.total(self)) };
        let (first, _) = tag.split_at_mut(8);
        first.copy_from_slice(&sum.to_le_bytes());
        tag
    }
}

/// What a body comes to, piece by piece as it is there.
#[derive(Default)]
pub struct BodySum {
    n: usize,
    sums: [[u8; 8]; Self::PIECES],
}

impl BodySum {
    /// The most pieces.
    pub const PIECES: usize = 17;

    /// Of a whole body.
    pub fn of(key: &FrameKey, body: &[u8]) -> Self {
        let mut sum = Self::default();
        for piece in body.chunks(FrameKey::PIECE) {
            sum.add(key, piece);
        }
        sum
    }

    /// The next piece. Those behind the first [`Self::PIECES`], of which no frame has any, go into the last sum.
    pub fn add(&mut self, key: &FrameKey, piece: &[u8]) {
        let sum = key.sum(piece).to_le_bytes();
        if let Some(place) = self.sums.get_mut(self.n) {
            *place = sum;
            self.n += 1;
        } else if let Some(last) = self.sums.last_mut() {
            *last = key.sum([*last, sum].as_flattened()).to_le_bytes();
        }
    }

    fn total(&self, key: &FrameKey) -> u64 {
        match self.sums.get(..self.n).unwrap_or(&[]) {
            [] => key.sum(&[]),
            [one] => u64::from_le_bytes(*one),
            all => key.sum(all.as_flattened()),
        }
    }
}

/// Whether two tags are equal, in constant time.
pub fn equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    // SAFETY: Both are readable for `N` bytes.
    unsafe { bindings::ssi_mac_equal(a.as_ptr(), b.as_ptr(), N as u32) }
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // SAFETY: `out` is writable for `N` bytes.
    unsafe { bindings::ssi_random(out.as_mut_ptr(), N as u32) };
    out
}
