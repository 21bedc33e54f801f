// SPDX-License-Identifier: GPL-2.0

//! Keyed BLAKE2s and random numbers. Source: `lib/crypto/blake2s.c`.

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
