// SPDX-License-Identifier: GPL-2.0

//! What the two ends of a new stream say to prove that they have the cluster key, and who they are. No stream here:
//! `admission.rs` sends and receives.
//!
//! `A` connects, `B` accepts. A says hello with a nonce; B says hello with a nonce and its proof over both hellos;
//! A sends its proof. While keys change B says by its proof which of them it means, and A takes that one. Proofs differ by a letter, so that neither can be reflected. Two session keys, one for each direction, are derived from
//! the same bytes: a frame of another incarnation, another pair of nodes or another stream has a bad tag.

use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::With;
use crate::lane::Lane;
use crate::net::Identity;
use crate::release::Speaks;
use kernel::prelude::*;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// "SSIH", little-endian.
const MAGIC: u32 = 0x4849_5353;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 16;

/// Bytes of a proof.
pub(crate) const PROOF: usize = 32;

/// How a hello of every release begins, whatever follows.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Greeting {
    pub(crate) magic: Le32,
    /// See [`Speaks::to_wire`].
    pub(crate) speaks: Le32,
}

/// Bytes of it.
pub(crate) const GREETING: usize = core::mem::size_of::<Greeting>();

impl Greeting {
    /// The version that this node and whoever said it agree on.
    ///
    /// # Errors
    /// [`Failed::Refused`]; [`Failed::Release`].
    pub(crate) fn agree(&self, me: &Identity) -> Outcome<u16> {
        if self.magic.get() != MAGIC {
            return Err(Failed::Refused("no hello"));
        }
        let there = Speaks::from_wire(self.speaks.get());
        me.speaks.agree(there).ok_or(Failed::Release(there))
    }
}

/// Who speaks.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Hello {
    pub(crate) greeting: Greeting,
    pub(crate) cluster: [u8; 16],
    pub(crate) node: Le32,
    pub(crate) to: Le32,
    pub(crate) incarnation: Le64,
    nonce: [u8; NONCE],
    /// Which stream of the two nodes it is; of who connects. See [`Lane::to_wire`].
    pub(crate) lane: Le32,
    /// The main one, if this is one beside it.
    of: [u8; ID],
}

/// Bytes of what names a stream to its two ends.
pub(crate) const ID: usize = 16;

/// Bytes of a hello.
pub(crate) const HELLO: usize = core::mem::size_of::<Hello>();

/// Why a handshake failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failed {
    /// By what the other end said, or did not say.
    Refused(&'static str),
    /// The other end says that it speaks these versions: none that this node does.
    Release(Speaks),
    /// The stream broke.
    Torn,
}

/// What a wrong proof shows.
pub(crate) const ANOTHER_KEY: &str =
    "another cluster key: who of the two missed a change needs the key file of the others";

/// What a proof with the last key shows.
pub(crate) const DROPPED_KEY: &str =
    "a cluster key that was dropped here: copy the key file of this node to that one, and join it again";

/// How a handshake ends.
pub(crate) type Outcome<T> = core::result::Result<T, Failed>;

/// Whom the handshake has proved to be at the other end, and the keys of this stream.
pub(crate) struct Session {
    /// The node.
    pub(crate) node: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// Which stream it is.
    pub(crate) lane: Lane,
    /// The version of the protocol.
    pub(crate) version: u16,
    /// Fingerprint of the cluster key that it was begun with.
    pub(crate) print: u64,
    /// Its name.
    pub(crate) id: [u8; ID],
    /// Key of the tags that this end makes.
    pub(crate) key_out: [u8; 32],
    /// Key of the tags that the other end makes: a frame that is sent back to its sender has a bad tag.
    pub(crate) key_in: [u8; 32],
}

impl Hello {
    /// This node's, to another.
    pub(crate) fn new(me: &Identity, to: u32, lane: Lane, nonce: [u8; NONCE]) -> Self {
        let (number, of) = lane.to_wire();
        Self {
            greeting: Greeting {
                magic: Le32::new(MAGIC),
                speaks: Le32::new(me.speaks.to_wire()),
            },
            cluster: me.cluster,
            node: Le32::new(me.node.number()),
            to: Le32::new(to),
            incarnation: Le64::new(me.incarnation.0),
            nonce,
            lane: Le32::new(number),
            of,
        }
    }

    /// What is said to one with which there is no version in common: which ones this node speaks, and nothing else, as nothing is
    /// proved.
    pub(crate) fn refusal(me: &Identity) -> Self {
        let mut hello: Self = zerocopy::transmute!([0u8; HELLO]);
        hello.greeting = Greeting {
            magic: Le32::new(MAGIC),
            speaks: Le32::new(me.speaks.to_wire()),
        };
        hello
    }

    /// Which stream it is for.
    fn lane(&self) -> Outcome<Lane> {
        let unknown = Failed::Refused("a stream of an unknown kind");
        Lane::from_wire(self.lane.get(), self.of).ok_or(unknown)
    }

    /// What it says, if it is for this node.
    fn check(&self, me: &Identity) -> Outcome<Greeted> {
        let refused = |why| Err(Failed::Refused(why));
        let version = self.greeting.agree(me)?;
        if self.cluster != me.cluster {
            return refused("another cluster's name");
        }
        let Some(node) = NodeId::new(self.node.get()) else {
            return refused("a number that no node has");
        };
        if node == me.node {
            return refused("this node's own number: correct clustertab on one of the two");
        }
        if self.incarnation.get() > Incarnation::LAST.0 {
            return refused("an incarnation that no clock shows");
        }
        if self.to.get() != me.node.number() {
            return refused("a hello for another node: correct the addresses in clustertab");
        }
        Ok(Greeted {
            node,
            incarnation: Incarnation(self.incarnation.get()),
            lane: self.lane()?,
            version,
        })
    }
}

/// What a hello for this node says, and the version that both speak.
struct Greeted {
    node: NodeId,
    incarnation: Incarnation,
    lane: Lane,
    version: u16,
}

/// MAC over both hellos; the letter says what for.
pub(crate) fn derive(key: &Key, letter: &[u8], a: &Hello, b: &Hello) -> [u8; PROOF] {
    crypto::mac(&key.secret, &[letter, a.as_bytes(), b.as_bytes()])
}

/// A handshake in which both hellos have been said; `Keys` is a key, or those that it may be.
pub(crate) struct Shaking<Keys> {
    keys: Keys,
    a: Hello,
    b: Hello,
    with: Greeted,
}

impl Shaking<Keyring> {
    /// The connecting end: it said `a` to `peer` and heard `bytes`.
    ///
    /// # Errors
    /// [`Failed::Refused`].
    pub(crate) fn answered(
        me: &Identity,
        keys: Keyring,
        a: Hello,
        peer: NodeId,
        bytes: [u8; HELLO],
    ) -> Outcome<Self> {
        let b: Hello = zerocopy::transmute!(bytes);
        let mut with = b.check(me)?;
        if with.node != peer {
            return Err(Failed::Refused(
                "another node's number: correct the addresses in clustertab",
            ));
        }
        with.lane = a.lane()?;
        Ok(Self { keys, a, b, with })
    }

    /// The connecting end heard the other's proof: its own, and whom it has proved.
    ///
    /// # Errors
    /// [`Failed::Refused`].
    pub(crate) fn proved_by_b(self, proof: &[u8; PROOF]) -> Outcome<([u8; PROOF], Session)> {
        let is_by = |k: &Key| crypto::equal(proof, &derive(k, b"B", &self.a, &self.b));
        let key = match self.keys.find(is_by) {
            With::Heard(key) => key,
            With::Dropped => return Err(Failed::Refused(DROPPED_KEY)),
            With::Nothing => return Err(Failed::Refused(ANOTHER_KEY)),
        };
        let mine = derive(&key, b"A", &self.a, &self.b);
        Ok((mine, self.session(&key, b"SA", b"SB")))
    }
}

impl Shaking<Key> {
    /// The accepting end: it heard `bytes`, and answers with [`Self::answer`]. `key` gives the one to use towards a node.
    ///
    /// # Errors
    /// [`Failed::Refused`].
    pub(crate) fn asked(
        me: &Identity,
        key: impl FnOnce(NodeId) -> Key,
        bytes: [u8; HELLO],
        nonce: [u8; NONCE],
    ) -> Outcome<Self> {
        let a: Hello = zerocopy::transmute!(bytes);
        let with = a.check(me)?;
        Ok(Self {
            keys: key(with.node),
            a,
            b: Hello::new(me, with.node.number(), with.lane, nonce),
            with,
        })
    }

    /// What the accepting end says: its hello and its proof.
    pub(crate) fn answer(&self) -> (&Hello, [u8; PROOF]) {
        (&self.b, derive(&self.keys, b"B", &self.a, &self.b))
    }

    /// The accepting end heard the other's proof: whom it has proved.
    ///
    /// # Errors
    /// [`Failed::Refused`].
    pub(crate) fn proved_by_a(self, proof: &[u8; PROOF]) -> Outcome<Session> {
        if crypto::equal(proof, &derive(&self.keys, b"A", &self.a, &self.b)) {
            Ok(self.session(&self.keys, b"SB", b"SA"))
        } else {
            Err(Failed::Refused(ANOTHER_KEY))
        }
    }
}

impl<Keys> Shaking<Keys> {
    fn session(&self, key: &Key, out: &[u8], into: &[u8]) -> Session {
        Session {
            node: self.with.node,
            incarnation: self.with.incarnation,
            lane: self.with.lane,
            version: self.with.version,
            print: key.print,
            id: crypto::mac(&key.secret, &[b"ID", self.a.as_bytes(), self.b.as_bytes()]),
            key_out: derive(key, out, &self.a, &self.b),
            key_in: derive(key, into, &self.a, &self.b),
        }
    }
}
