// SPDX-License-Identifier: GPL-2.0

//! Admission: both ends prove that they have the cluster key, and who they are, before anything else is said.
//!
//! `A` connects, `B` accepts. A says hello with a nonce; B says hello with a nonce and its proof over both hellos;
//! A sends its proof. Proofs differ by a letter, so that neither can be reflected. Two session keys, one for each direction, are derived from
//! the same bytes: a frame of another incarnation, another pair of nodes or another stream has a bad tag.

use crate::net::Identity;
use kernel::prelude::*;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::net::Socket;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// Version of everything on the wire below the services.
const VERSION: u32 = 1;

/// "SSIH", little-endian.
const MAGIC: u32 = 0x4849_5353;

/// How long each step of the handshake may take.
const STEP_MS: u32 = 2000;

/// Who speaks.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Hello {
    magic: Le32,
    version: Le32,
    cluster: [u8; 16],
    node: Le32,
    to: Le32,
    incarnation: Le64,
    nonce: [u8; 16],
}

const PROOF: usize = 32;

/// Whom the handshake has proved to be at the other end, and the key of this stream.
pub(crate) struct Session {
    /// The node.
    pub(crate) node: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// Key of the tags that this end makes.
    pub(crate) key_out: [u8; 32],
    /// Key of the tags that the other end makes: a frame that is sent back to its sender has a bad tag.
    pub(crate) key_in: [u8; 32],
}

fn hello(me: &Identity, to: u32) -> Hello {
    Hello {
        magic: Le32::new(MAGIC),
        version: Le32::new(VERSION),
        cluster: me.cluster,
        node: Le32::new(me.node.number()),
        to: Le32::new(to),
        incarnation: Le64::new(me.incarnation.0),
        nonce: crypto::random(),
    }
}

/// What a hello says, if it is for us.
fn check(me: &Identity, h: &Hello) -> Result<(NodeId, Incarnation)> {
    if h.magic.get() != MAGIC || h.cluster != me.cluster {
        return Err(EPERM);
    }
    if h.version.get() != VERSION {
        return Err(EPROTONOSUPPORT);
    }
    let node = NodeId::new(h.node.get()).ok_or(EPROTO)?;
    if node == me.node {
        return Err(EEXIST);
    }
    if h.to.get() != 0 && h.to.get() != me.node.number() {
        return Err(EPROTO);
    }
    Ok((node, Incarnation(h.incarnation.get())))
}

fn derive(me: &Identity, letter: &[u8], a: &Hello, b: &Hello) -> [u8; PROOF] {
    crypto::mac(&me.key, &[letter, a.as_bytes(), b.as_bytes()])
}

fn receive_hello(s: &Socket) -> Result<Hello> {
    let mut bytes = [0u8; core::mem::size_of::<Hello>()];
    s.receive(&mut bytes)?;
    Hello::read_from_bytes(&bytes).map_err(|_| EPROTO)
}

/// The connecting end: expects `peer` there.
///
/// # Errors
/// `EPERM` another cluster or key; `EPROTONOSUPPORT` another version; `EPROTO` another node; those of the socket.
pub(crate) fn connect(me: &Identity, s: &Socket, peer: NodeId) -> Result<Session> {
    s.set_receive_timeout(STEP_MS);
    let a = hello(me, peer.number());
    s.send(&[a.as_bytes()])?;
    let b = receive_hello(s)?;
    let (node, incarnation) = check(me, &b)?;
    if node != peer {
        return Err(EPROTO);
    }
    let mut proof = [0u8; PROOF];
    s.receive(&mut proof)?;
    if !crypto::equal(&proof, &derive(me, b"B", &a, &b)) {
        return Err(EPERM);
    }
    s.send(&[&derive(me, b"A", &a, &b)])?;
    s.set_receive_timeout(0);
    Ok(Session {
        node,
        incarnation,
        key_out: derive(me, b"SA", &a, &b),
        key_in: derive(me, b"SB", &a, &b),
    })
}

/// The accepting end.
///
/// # Errors
/// As [`connect`].
pub(crate) fn accept(me: &Identity, s: &Socket) -> Result<Session> {
    s.set_receive_timeout(STEP_MS);
    let a = receive_hello(s)?;
    let (node, incarnation) = check(me, &a)?;
    let b = hello(me, node.number());
    s.send(&[b.as_bytes(), &derive(me, b"B", &a, &b)])?;
    let mut proof = [0u8; PROOF];
    s.receive(&mut proof)?;
    if !crypto::equal(&proof, &derive(me, b"A", &a, &b)) {
        return Err(EPERM);
    }
    s.set_receive_timeout(0);
    Ok(Session {
        node,
        incarnation,
        key_out: derive(me, b"SB", &a, &b),
        key_in: derive(me, b"SA", &a, &b),
    })
}
