// SPDX-License-Identifier: GPL-2.0

//! Where one number of this node's range is: a pure state machine. The commit point of every movement is here.
//!
//! Imports nothing but `core`; `tests/host` runs it on the host too.

/// A node number. This file knows no other property of a node than that two are equal.
pub(crate) type Node = u32;

/// Where a process of this node's range is. A number without an entry is here, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// It executes on that node, given to it by that movement.
    At {
        /// The execution node.
        node: Node,
        /// The movement that brought it there.
        movement: u64,
    },
    /// It has ended; its status waits for its parent on that node.
    Zombie {
        /// The parent's node.
        record_at: Node,
    },
}

/// What is asked of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// `from` gives the process to `to`. `here`: a task of this node has the number and is not vanishing.
    Move {
        /// The source.
        from: Node,
        /// The destination.
        to: Node,
        /// The movement.
        movement: u64,
        /// Whether `to` is a member.
        to_is_up: bool,
    },
    /// The process has ended.
    Zombie {
        /// Where its status waits.
        record_at: Node,
    },
    /// Nobody uses the number any more.
    Gone,
    /// A node is down.
    NodeDown(Node),
}

/// What the origin answers or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The movement is committed: activate the process at the destination.
    Committed,
    /// The movement was committed before: say so again.
    AlreadyCommitted,
    /// The movement cannot be: the process is not at the source.
    NotThere,
    /// The movement cannot be: the destination is no member.
    DestinationDown,
    /// The number is free.
    Free,
    /// The process died with its node: free the number once its parent has been told.
    Lost,
}

/// One step for one number of node `this`'s range.
pub(crate) fn step(this: Node, place: Option<Place>, ev: Event) -> (Option<Place>, Effect) {
    let at = match place {
        None => Some(this),
        Some(Place::At { node, .. }) => Some(node),
        Some(Place::Zombie { .. }) => None,
    };
    match ev {
        Event::Move {
            from,
            to,
            movement,
            to_is_up,
        } => {
            if let Some(Place::At { movement: m, .. }) = place {
                if m == movement {
                    return (place, Effect::AlreadyCommitted);
                }
            }
            if at != Some(from) {
                return (place, Effect::NotThere);
            }
            if !to_is_up {
                return (place, Effect::DestinationDown);
            }
            // Kept for the hop home as well, until the process moves on or ends: a repeated question
            // must get the same answer.
            (Some(Place::At { node: to, movement }), Effect::Committed)
        }
        Event::Zombie { record_at } => (Some(Place::Zombie { record_at }), Effect::None),
        Event::Gone => (None, Effect::Free),
        Event::NodeDown(node) => match place {
            Some(Place::At { node: n, .. }) if n == node => (None, Effect::Lost),
            Some(Place::Zombie { record_at }) if record_at == node => (None, Effect::Free),
            _ => (place, Effect::None),
        },
    }
}
