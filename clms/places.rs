// SPDX-License-Identifier: GPL-2.0

//! Sets of places in the table. Pure: imports nothing but `core`.

/// A place in the table, which is in the order of node numbers and the same on all nodes.
pub(crate) type Place = usize;

/// A set of places below `64 * W`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Places<const W: usize>([u64; W]);

impl<const W: usize> Default for Places<W> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const W: usize> Places<W> {
    /// The set without a place.
    pub(crate) const EMPTY: Self = Self([0; W]);

    /// How many places there can be.
    pub(crate) const ROOM: usize = 64 * W;

    /// The set of one place; one that there cannot be is left out.
    pub(crate) fn one(p: Place) -> Self {
        let mut s = Self::EMPTY;
        s.insert(p);
        s
    }

    /// The set with these bits, lowest place first.
    pub(crate) const fn from_words(words: [u64; W]) -> Self {
        Self(words)
    }

    /// Its bits, lowest place first.
    pub(crate) const fn words(&self) -> &[u64; W] {
        &self.0
    }

    /// Adds a place; one that there cannot be is left out.
    pub(crate) fn insert(&mut self, p: Place) {
        if let Some(w) = self.0.get_mut(p / 64) {
            *w |= 1 << (p % 64);
        }
    }

    /// Takes a place out.
    pub(crate) fn remove(&mut self, p: Place) {
        if let Some(w) = self.0.get_mut(p / 64) {
            *w &= !(1 << (p % 64));
        }
    }

    /// Whether a place is in it.
    pub(crate) fn contains(&self, p: Place) -> bool {
        self.0.get(p / 64).is_some_and(|w| w & (1 << (p % 64)) != 0)
    }

    fn zip(mut self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        self
    }

    /// Those in either.
    pub(crate) fn or(self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Those in both.
    pub(crate) fn and(self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Those in this one only.
    pub(crate) fn minus(self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether all of them are in the other.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a & !b == 0)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The lowest.
    pub(crate) fn first(&self) -> Option<Place> {
        self.iter().next()
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.0.iter().enumerate().flat_map(|(i, w)| {
            let mut left = *w;
            core::iter::from_fn(move || {
                let p = i * 64 + left.trailing_zeros() as usize;
                (left != 0).then(|| {
                    left &= left - 1;
                    p
                })
            })
        })
    }
}
