// SPDX-License-Identifier: GPL-2.0

//! Heartbeats: authenticated datagrams, one on every link. What they say is `clms`'s.

use crate::net;
use crate::net::Identity;
use crate::net::Refused;
use kernel::prelude::*;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// "SSIB", little-endian.
const MAGIC: u32 = 0x4249_5353;

/// Bytes that a heartbeat carries for `clms`.
pub(crate) const SAYS: usize = 192;

/// A heartbeat that has passed its checks.
pub struct Heartbeat {
    /// Who sent it.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What it says.
    pub says: [u8; SAYS],
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Datagram {
    magic: Le32,
    node: Le32,
    incarnation: Le64,
    seq: Le64,
    cluster: [u8; 16],
    says: [u8; SAYS],
    tag: [u8; 16],
}

/// Bytes of a datagram.
pub(crate) const LEN: usize = core::mem::size_of::<Datagram>();

const SIGNED: usize = LEN - 16;

impl Datagram {
    /// One of this node's.
    pub(crate) fn new(me: &Identity, seq: u64, says: &[u8; SAYS]) -> Self {
        let mut d = Self {
            magic: Le32::new(MAGIC),
            node: Le32::new(me.node.number()),
            incarnation: Le64::new(me.incarnation.0),
            seq: Le64::new(seq),
            cluster: me.cluster,
            says: *says,
            tag: [0; 16],
        };
        d.tag = d.sign(me);
        d
    }

    fn sign(&self, me: &Identity) -> [u8; 16] {
        let signed = self.as_bytes().get(..SIGNED).unwrap_or(&[]);
        crypto::mac(&me.key, &[b"H", signed])
    }

    /// Checks what came. `newest` is what is known of the sender: incarnation and number of its last heartbeat.
    ///
    /// # Errors
    /// `EBADMSG`, `ESTALE`; counted.
    pub(crate) fn check(
        me: &Identity,
        bytes: &[u8],
        mut newest: impl FnMut(NodeId, Incarnation, u64) -> bool,
    ) -> Result<Heartbeat> {
        let d = Self::ref_from_bytes(bytes).map_err(|_| {
            net::refuse(Refused::Torn, None);
            EBADMSG
        })?;
        if d.magic.get() != MAGIC || d.cluster != me.cluster || !crypto::equal(&d.tag, &d.sign(me))
        {
            net::refuse(Refused::Tag, None);
            return Err(EBADMSG);
        }
        let node = NodeId::new(d.node.get()).ok_or(EBADMSG)?;
        let incarnation = Incarnation(d.incarnation.get());
        if node == me.node || !newest(node, incarnation, d.seq.get()) {
            net::refuse(Refused::Stale, Some(node));
            return Err(ESTALE);
        }
        Ok(Heartbeat {
            node,
            incarnation,
            says: d.says,
        })
    }
}
