// SPDX-License-Identifier: GPL-2.0

//! The life of a handle: the claim of another node on an open file of this one.
//!
//! Pure: only `core`. A handle holds one reference to its file for as long as it exists, so that the number of a
//! pipe's readers and writers is right on the node where the pipe is.

/// A node in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// Its number.
    pub(crate) node: u32,
    /// Its life.
    pub(crate) incarnation: u64,
}

/// Who has a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// It is in the image of a process that moves; nobody uses it.
    Offered {
        /// Who wrote the image, and gives the handle back if nobody takes it.
        by: Peer,
    },
    /// A proxy on another node uses it.
    Held {
        /// Whose proxy.
        by: Peer,
        /// Who wrote the image, and may still find that the movement failed.
        offered_by: Peer,
    },
}

/// What happens to a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A node makes a proxy for it.
    Claim(Peer),
    /// The process comes to this node: its file is opened natively.
    Take,
    /// A proxy is closed, or an image thrown away.
    Release(Peer),
    /// A node is dead.
    Down(Peer),
}

/// What is left of a handle.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum After {
    /// It stays.
    Stays(State),
    /// It ends: its reference is given back (or handed to the process, after [`Event::Take`]).
    Ends,
}

/// The event is not for who sent it, or too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Refused;

impl State {
    /// Applies `ev`.
    ///
    /// # Errors
    /// [`Refused`]; the state is as before.
    pub(crate) fn step(self, ev: Event) -> Result<After, Refused> {
        match (self, ev) {
            (Self::Offered { by }, Event::Claim(p)) => Ok(After::Stays(Self::Held {
                by: p,
                offered_by: by,
            })),
            (Self::Offered { .. }, Event::Take) => Ok(After::Ends),
            (Self::Offered { by }, Event::Release(p) | Event::Down(p)) if by == p => {
                Ok(After::Ends)
            }
            (Self::Held { by, .. }, Event::Release(p) | Event::Down(p)) if by == p => {
                Ok(After::Ends)
            }
            // The movement failed after the claim. Its process is being destroyed; whichever release is first counts.
            (Self::Held { offered_by, .. }, Event::Release(p)) if offered_by == p => {
                Ok(After::Ends)
            }
            (s, Event::Down(_)) => Ok(After::Stays(s)),
            (_, Event::Claim(_) | Event::Take | Event::Release(_)) => Err(Refused),
        }
    }

    /// Whether `p` may read, write and so on.
    pub(crate) fn serves(self, p: Peer) -> bool {
        matches!(self, Self::Held { by, .. } if by == p)
    }
}
