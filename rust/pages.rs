// SPDX-License-Identifier: GPL-2.0

//! Memory of whole pages, for long messages: a socket sends it as it is, without a copy.

use crate::bindings;
use kernel::prelude::*;

/// From how many bytes on memory is of whole pages. Below it the copy costs less than pages do.
const LEAST: usize = 16 * 1024;

/// An empty vector with room for `len` bytes; of whole pages, if it is long.
///
/// # Errors
/// `ENOMEM`.
pub fn with_capacity(len: usize) -> Result<KVVec<u8>> {
    if len < LEAST {
        return Ok(KVVec::with_capacity(len, GFP_KERNEL)?);
    }
    let (start, len, capacity) = VVec::<u8>::with_capacity(len, GFP_KERNEL)?.into_raw_parts();
    // SAFETY: The parts are those of a vector. It is of vmalloc(), which is one of the two that `KVmalloc` stands for:
    // kvrealloc_node_align() and kvfree() ask which, and take both.
    Ok(unsafe { KVVec::from_raw_parts(start, len, capacity) })
}

/// Whether a vector's memory is of pages that a socket can keep.
pub fn is_of_pages(vec: &KVVec<u8>) -> bool {
    // SAFETY: An address only.
    vec.len() >= LEAST && unsafe { bindings::ssi_is_vmalloc(vec.as_ptr().cast()) }
}

#[kunit_tests(ssi_pages)]
mod tests {
    use super::*;

    /// That such a vector may do all that any other may.
    #[test]
    fn it_grows_and_is_freed() -> Result {
        for len in [0, 1, LEAST - 1, LEAST, 100_000] {
            let mut v = with_capacity(len)?;
            let at = v.as_ptr();
            v.resize(len, 7, GFP_KERNEL)?;
            let has_stayed = v.as_ptr() == at;
            assert!(has_stayed);
            assert_eq!(is_of_pages(&v), len >= LEAST);
            v.resize(len + 200_000, 8, GFP_KERNEL)?;
            assert!(v.iter().take(len).all(|b| *b == 7));
            assert!(v.iter().skip(len).all(|b| *b == 8));
            v.truncate(10);
            assert!(!is_of_pages(&v));
            v.clear();
        }
        Ok(())
    }
}
