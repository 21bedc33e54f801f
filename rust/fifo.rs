// SPDX-License-Identifier: GPL-2.0

//! A queue whose nodes are allocated apart from it, so that what goes in under a spinlock needs no memory there.
//!
//! Not for searching: see [`crate::table`] and `kernel::rbtree`.

use crate::reserve::Owned;
use crate::reserve::Slot;
use kernel::prelude::*;

/// One element and its memory.
pub struct Node<T> {
    /// The element.
    pub value: T,
    next: Option<Owned<Node<T>>>,
}

impl<T> Node<T> {
    /// Allocates a node. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(value: T) -> Result<Owned<Self>> {
        Ok(Self::fill(Slot::new(GFP_KERNEL)?, value))
    }

    /// Makes a node of memory that is there already. Any context.
    pub fn fill(slot: Slot<Self>, value: T) -> Owned<Self> {
        slot.fill(Self { value, next: None })
    }
}

/// A chain of nodes.
struct Stack<T>(Option<Owned<Node<T>>>);

impl<T> Stack<T> {
    fn push(&mut self, mut node: Owned<Node<T>>) {
        node.next = self.0.take();
        self.0 = Some(node);
    }

    fn pop(&mut self) -> Option<Owned<Node<T>>> {
        let mut node = self.0.take()?;
        self.0 = node.next.take();
        Some(node)
    }
}

/// First in, first out. Every operation takes constant time on average.
///
/// Made of two stacks: what comes in is turned around once when the way out is empty.
pub struct Fifo<T> {
    out: Stack<T>,
    into: Stack<T>,
    len: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Fifo<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            out: Stack(None),
            into: Stack(None),
            len: 0,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds at the end.
    pub fn push_back(&mut self, node: Owned<Node<T>>) {
        self.into.push(node);
        self.len += 1;
    }

    /// Adds at the front.
    pub fn push_front(&mut self, node: Owned<Node<T>>) {
        self.out.push(node);
        self.len += 1;
    }

    fn turn(&mut self) {
        if self.out.0.is_none() {
            while let Some(node) = self.into.pop() {
                self.out.push(node);
            }
        }
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<Owned<Node<T>>> {
        self.turn();
        let node = self.out.pop()?;
        self.len -= 1;
        Some(node)
    }

    /// The first.
    pub fn front(&mut self) -> Option<&T> {
        self.turn();
        self.out.0.as_ref().map(|node| &node.value)
    }

    /// Puts all of `other` behind what is here.
    pub fn append(&mut self, other: &mut Self) {
        while let Some(node) = other.pop_front() {
            self.push_back(node);
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Self {
        core::mem::take(self)
    }
}

impl<T> Drop for Fifo<T> {
    fn drop(&mut self) {
        // One by one: dropping a chain would recurse.
        while self.pop_front().is_some() {}
    }
}
