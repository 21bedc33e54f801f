// SPDX-License-Identifier: GPL-2.0

//! Where one number of this node's range is: a pure state machine. The commit point of every movement whose origin is
//! alive is here.
//!
//! Imports nothing but `core`; `tests/host/vproc` searches its states together with those of `movement/state.rs`.

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
    /// It died with its node, and it is not known yet who waits for it.
    Lost,
    /// It has ended; its status waits for its parent on that node.
    Zombie {
        /// The parent's node.
        record_at: Node,
    },
}

/// What is asked of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// `from` gives the process to `to`.
    Move {
        /// The source.
        from: Node,
        /// The destination.
        to: Node,
        /// The movement.
        movement: u64,
        /// Whether `from` is a member, in the life that sent this.
        from_is_up: bool,
        /// Whether `to` is a member, in the life that has it prepared.
        to_is_up: bool,
        /// Whether a task of this node has the number.
        is_here: bool,
    },
    /// The destination of a movement asks, whose source is down: was it committed? Not before that life of the source
    /// is down for this node as well: then a "no" is for good.
    Ask {
        /// The movement.
        movement: u64,
    },
    /// The process has ended.
    Zombie {
        /// Where its status waits.
        record_at: Node,
    },
    /// Of a lost process: the node where its status waits, if anybody does and that node is a member.
    Mourned(Option<Node>),
    /// Nobody uses the number any more.
    Gone,
    /// This node has just joined, and learns where a number of its range is in use.
    Reported {
        /// The execution node.
        at: Node,
        /// Whether a task of this node has the number.
        is_here: bool,
    },
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
    /// The movement cannot be: the process is not at the source, or that is down. Its task there is no process.
    NotThere,
    /// The movement cannot be: the destination is no member.
    DestinationDown,
    /// The number is free.
    Free,
    /// The process died with its node: find who waits for it, then [`Event::Mourned`].
    Lost,
}

/// One step for one number of node `this`'s range.
pub(crate) fn step(this: Node, place: Option<Place>, ev: Event) -> (Option<Place>, Effect) {
    match ev {
        Event::Move {
            from,
            to,
            movement,
            from_is_up,
            to_is_up,
            is_here,
        } => {
            let is_at_source = match place {
                Some(Place::At { movement: m, .. }) if m == movement => {
                    return (place, Effect::AlreadyCommitted);
                }
                Some(Place::At { node, .. }) => node == from,
                // A number that this node gave away in an earlier life is where it is said to be.
                None => is_here == (from == this),
                Some(_) => false,
            };
            if !is_at_source || !from_is_up {
                (place, Effect::NotThere)
            } else if !to_is_up {
                (place, Effect::DestinationDown)
            } else {
                // Kept for the hop home as well, until the process moves on or ends: a repeated question
                // must get the same answer.
                (Some(Place::At { node: to, movement }), Effect::Committed)
            }
        }
        Event::Ask { movement } => match place {
            Some(Place::At { movement: m, .. }) if m == movement => {
                (place, Effect::AlreadyCommitted)
            }
            // If it died with the source, NodeDown says so. It may be at the source again, in a life after that.
            _ => (place, Effect::NotThere),
        },
        Event::Zombie { record_at } => (Some(Place::Zombie { record_at }), Effect::None),
        Event::Mourned(by) => match (place, by) {
            (Some(Place::Lost), Some(record_at)) => {
                (Some(Place::Zombie { record_at }), Effect::None)
            }
            (Some(Place::Lost), None) => (None, Effect::Free),
            // Its parent was quicker.
            _ => (place, Effect::None),
        },
        Event::Gone => (None, Effect::Free),
        Event::Reported { at, is_here } => match place {
            // No movement has the number 0.
            None if !is_here => (
                Some(Place::At {
                    node: at,
                    movement: 0,
                }),
                Effect::None,
            ),
            _ => (place, Effect::None),
        },
        Event::NodeDown(node) => match place {
            Some(Place::At { node: n, .. }) if n == node => (Some(Place::Lost), Effect::Lost),
            Some(Place::Zombie { record_at }) if record_at == node => (None, Effect::Free),
            _ => (place, Effect::None),
        },
    }
}
