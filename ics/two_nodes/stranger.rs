// SPDX-License-Identifier: GPL-2.0

//! A stranger at the other end of a stream, who says what no honest node says.

use super::node::config;
use super::node::id;
use super::node::Node;
use super::node::KEY;
use super::node::LIFE;
use super::probe::PingL1;
use super::probe::PingL4;
use super::scene::LIMIT_MS;
use crate::admission;
use crate::admission::Session;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::TAG;
use crate::handshake::Hello;
use crate::handshake::Shaking;
use crate::handshake::HELLO;
use crate::handshake::ID;
use crate::handshake::PROOF;
use crate::lane::Lane;
use crate::lane::Side;
use crate::loopback::Hub;
use crate::net::keyring;
use crate::net::Identity;
use crate::service::Op;
use crate::transport::Stream;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::crypto;
use ssi::crypto::FrameKey;
use ssi::ids::Incarnation;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// Somebody who speaks as node 2 to node 1, by hand.
pub(super) struct Stranger {
    pub(super) stream: Stream,
    pub(super) key_out: FrameKey,
    key_in: FrameKey,
    seq: u64,
    /// The name of the stream.
    pub(super) id: [u8; ID],
}

impl Stranger {
    /// Has the right key, passes admission, and has asked nothing before.
    pub(super) fn new(hub: &Arc<Hub>, incarnation: Incarnation) -> Result<Self> {
        let mut s = Self::admitted(hub, incarnation)?;
        s.say_open(1, 1, &[])?;
        s.hear_open()?;
        Ok(s)
    }

    /// As [`Self::new`], before anything is said.
    pub(super) fn admitted(hub: &Arc<Hub>, incarnation: Incarnation) -> Result<Self> {
        Self::on_lane(hub, incarnation, Lane::Main)
    }

    /// On a stream beside the main one of that name.
    pub(super) fn beside(hub: &Arc<Hub>, side: Side, main: [u8; ID]) -> Result<Self> {
        Self::on_lane(hub, LIFE, Lane::Beside(side, main))
    }

    fn on_lane(hub: &Arc<Hub>, incarnation: Incarnation, lane: Lane) -> Result<Self> {
        let config = config(2, incarnation, KEY)?;
        let (me, keys) = (Identity::new(&config), keyring(&config));
        let stream = Stream::Loopback(hub.connect(id(2)?, id(1)?, 0)?);
        let session = admission::connect(&me, keys, &stream, id(1)?, lane).map_err(|_| EPERM)?;
        Ok(Self::after(stream, session))
    }

    fn after(stream: Stream, session: Session) -> Self {
        stream.set_receive_timeout(LIMIT_MS);
        Self {
            stream,
            key_out: FrameKey::new(&session.key_out),
            key_in: FrameKey::new(&session.key_in),
            seq: 0,
            id: session.id,
        }
    }

    /// On a main stream, before the last word of its handshake, which is to be sent: until then node 1 does not know it.
    pub(super) fn almost_admitted(hub: &Arc<Hub>) -> Result<(Self, [u8; PROOF])> {
        let config = config(2, LIFE, KEY)?;
        let (me, keys) = (Identity::new(&config), keyring(&config));
        let stream = Stream::Loopback(hub.connect(id(2)?, id(1)?, 0)?);
        let a = Hello::new(&me, 1, Lane::Main, crypto::random());
        stream.send(&[a.as_bytes()])?;
        let (mut b, mut proof) = ([0; HELLO], [0; PROOF]);
        stream.receive(&mut b)?;
        stream.receive(&mut proof)?;
        let shaking = Shaking::answered(&me, keys, a, id(1)?, b).map_err(|_| EPERM)?;
        let (mine, session) = shaking.proved_by_b(&proof).map_err(|_| EPERM)?;
        Ok((Self::after(stream, session), mine))
    }

    /// The head of the next frame.
    pub(super) fn head(&mut self, kind: Kind, xid: u64) -> Head {
        let mut h = Head::new(kind, xid);
        self.seq += 1;
        h.seq = Le64::new(self.seq);
        h
    }

    /// Says that this is stream `number`, and which calls are open of those below `below`.
    pub(super) fn say_open(&mut self, number: u64, below: u64, open: &[u64]) -> Result {
        let mut body = KVec::new();
        for xid in open {
            body.extend_from_slice(&xid.to_le_bytes(), GFP_KERNEL)?;
        }
        let mut h = self.head(Kind::Open, below);
        h.order = Le64::new(number);
        // CAST: few.
        h.len = Le32::new(body.len() as u32);
        self.send(&h, &body)
    }

    /// Node 1 says which of its calls are open.
    pub(super) fn hear_open(&self) -> Result<KVVec<u8>> {
        let (head, body) = self.frame()?;
        let is_open = Kind::from_wire(head.kind) == Some(Kind::Open);
        (is_open && head.seq.get() == 1)
            .then_some(body)
            .ok_or(EPROTO)
    }

    /// The head of the next frame: a request of `PingL1`.
    pub(super) fn ping(&mut self, xid: u64) -> Head {
        self.request::<PingL1>(xid)
    }

    /// The same of `PingL4`.
    pub(super) fn ping_l4(&mut self, xid: u64) -> Head {
        self.request::<PingL4>(xid)
    }

    /// The head of the next frame: a request of `O`, with a body of 8 bytes.
    pub(super) fn request<O: Op>(&mut self, xid: u64) -> Head {
        let mut h = self.head(Kind::Request, xid);
        h.service = Le16::new(O::SERVICE);
        h.version = Le16::new(O::VERSION);
        h.op = Le16::new(O::OP);
        h.class = O::CLASS as u8;
        h.len = Le32::new(8);
        h
    }

    /// Answers a call of node 1.
    pub(super) fn answer(&mut self, xid: u64) -> Result {
        let mut h = self.head(Kind::Reply, xid);
        h.len = Le32::new(8);
        self.send(&h, &[0; 8])
    }

    pub(super) fn send(&self, head: &Head, body: &[u8]) -> Result {
        let tag = head.tag(&self.key_out, body);
        self.stream.send(&[head.as_bytes(), body, &tag])
    }

    /// The next frame that comes, but for those that only say what was dealt with.
    pub(super) fn frame(&self) -> Result<(Head, KVVec<u8>)> {
        loop {
            let (head, body) = self.any_frame()?;
            if Kind::from_wire(head.kind) != Some(Kind::Seen) {
                return Ok((head, body));
            }
        }
    }

    fn any_frame(&self) -> Result<(Head, KVVec<u8>)> {
        let mut bytes = [0u8; core::mem::size_of::<Head>()];
        self.stream.receive(&mut bytes)?;
        let head = Head::read_from_bytes(&bytes).map_err(|_| EPROTO)?;
        let mut body = KVVec::from_elem(0u8, head.len.get() as usize, GFP_KERNEL)?;
        self.stream.receive(&mut body)?;
        let mut tag = [0u8; TAG];
        self.stream.receive(&mut tag)?;
        if !crypto::equal(&tag, &head.tag(&self.key_in, &body)) {
            return Err(EBADMSG);
        }
        Ok((head, body))
    }

    /// The status of the next reply, and its body.
    pub(super) fn reply(&self, xid: u64) -> Result<(u32, KVVec<u8>)> {
        let (head, body) = self.frame()?;
        if head.xid.get() != xid || Kind::from_wire(head.kind) != Some(Kind::Reply) {
            return Err(EPROTO);
        }
        Ok((head.status.get(), body))
    }

    /// Whether node 1 ends the stream without another word, but for what was dealt with.
    pub(super) fn is_torn(&self) -> bool {
        self.frame().is_err_and(|e| e == ECONNRESET)
    }
}

/// Node 1, and a stranger in the place of node 2 whom it takes for a member.
pub(super) fn one_node() -> Result<(Arc<Hub>, Node, Stranger)> {
    let hub = Hub::new()?;
    let node = Node::new(&hub, 1)?;
    let stranger = Stranger::new(&hub, LIFE)?;
    node.admit(2, LIFE)?;
    Ok((hub, node, stranger))
}
