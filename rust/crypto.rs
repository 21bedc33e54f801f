// SPDX-License-Identifier: GPL-2.0

//! Keyed BLAKE2s, tags of frames, random numbers. Source: `lib/crypto/{blake2s,poly1305}.c`.

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

/// Tags the frames of one direction of a stream: Poly1305 with a multiplier for the stream and a pad for each frame.
pub struct FrameKey(bindings::ssi_frame_key);

impl FrameKey {
    /// Bytes of a tag.
    pub const TAG: usize = 16;

    /// From the stream's key.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut k = bindings::ssi_frame_key::default();
        // SAFETY: `key` has the 32 bytes that are read, and `k` is writable.
        unsafe { bindings::ssi_frame_key_init(&mut k, key.as_ptr()) };
        Self(k)
    }

    /// The tag of frame `number`, which is never used for another one. The parts, at most four, must tell their lengths:
    /// zeros behind one of them do not change the tag.
    pub fn tag(&self, number: u64, parts: &[&[u8]]) -> [u8; Self::TAG] {
        let mut out = [0; Self::TAG];
        let c = pieces(parts);
        // CAST: at most four.
        let n = parts.len().min(c.len()) as u32;
        // SAFETY: All live through the call; lengths are theirs.
        unsafe { bindings::ssi_frame_tag(out.as_mut_ptr(), &self.0, number, c.as_ptr(), n) };
        out
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
