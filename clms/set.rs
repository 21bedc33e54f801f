// SPDX-License-Identifier: GPL-2.0

//! Sets of nodes.

use ssi::ids::NodeId;

const WORDS: usize = 16;

/// A set of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NodeSet([u64; WORDS]);

impl NodeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    fn place(node: NodeId) -> (usize, u64) {
        // CAST: node numbers are below 1024.
        let n = node.number() as usize;
        (n / 64, 1 << (n % 64))
    }

    /// Adds a node.
    pub fn insert(&mut self, node: NodeId) {
        let (word, bit) = Self::place(node);
        if let Some(w) = self.0.get_mut(word) {
            *w |= bit;
        }
    }

    /// The same without a node.
    pub(crate) fn without(&self, node: NodeId) -> Self {
        let mut out = *self;
        let (word, bit) = Self::place(node);
        if let Some(w) = out.0.get_mut(word) {
            *w &= !bit;
        }
        out
    }

    /// Whether a node is in it.
    pub fn contains(&self, node: NodeId) -> bool {
        let (word, bit) = Self::place(node);
        self.0.get(word).is_some_and(|w| w & bit != 0)
    }

    /// The nodes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        (1..=NodeId::MAX)
            .filter_map(NodeId::new)
            .filter(|n| self.contains(*n))
    }

    /// The lowest node.
    pub fn first(&self) -> Option<NodeId> {
        self.iter().next()
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
