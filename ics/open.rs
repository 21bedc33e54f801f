// SPDX-License-Identifier: GPL-2.0

//! What each end says first on a main stream: which of its calls and posts are open, that is, have no reply yet. Whatever
//! else it asked before is over: it is never asked again, so that what was answered need not be kept. Pure: imports only
//! `core`.

/// Bytes of a number in the list.
pub(crate) const NUMBER: usize = 8;

/// The list of a peer's open calls.
///
/// # Invariants
/// `numbers` rises, and is below `below`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open<'a> {
    below: u64,
    numbers: &'a [[u8; NUMBER]],
}

impl<'a> Open<'a> {
    /// Reads one: it is about all numbers below `below`, and `body` has those that are open. `None` if no honest peer
    /// says that.
    pub(crate) fn parse(below: u64, body: &'a [u8]) -> Option<Self> {
        let (numbers, rest) = body.as_chunks();
        let number = |b: &[u8; NUMBER]| u64::from_le_bytes(*b);
        let rises = numbers.is_sorted_by(|a, b| number(a) < number(b));
        let is_below = numbers.last().is_none_or(|last| number(last) < below);
        // INVARIANT: Checked.
        (rest.is_empty() && rises && is_below).then_some(Self { below, numbers })
    }

    /// Whether the call of that number was asked before, and is over.
    pub(crate) fn is_over(&self, number: u64) -> bool {
        let find = |b: &[u8; NUMBER]| u64::from_le_bytes(*b);
        number < self.below && self.numbers.binary_search_by_key(&number, find).is_err()
    }
}
