// SPDX-License-Identifier: GPL-2.0

//! One stream to another node, after admission: frames with sequence numbers and tags.

use crate::admission::Session;
use crate::frame::Head;
use crate::frame::MAGIC;
use crate::frame::MAX_BODY;
use crate::frame::TAG;
use crate::net;
use crate::net::Refused;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::net::Socket;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// A stream.
#[pin_data]
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) node: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    key: [u8; 32],
    socket: Socket,
    /// Number of the last frame sent. Lock: level 16 `ics::send`, mutex; held while the socket takes the frame.
    #[pin]
    sent: Mutex<u64>,
}

impl Link {
    /// A stream that has passed admission.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(socket: Socket, session: Session) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                node: session.node,
                incarnation: session.incarnation,
                key: session.key,
                socket,
                sent <- kernel::new_mutex!(0, "ics::send"),
            }),
            GFP_KERNEL,
        )
    }

    /// Sends a frame. Sleeps while the other end takes nothing.
    ///
    /// # Errors
    /// Any: the stream is torn.
    pub(crate) fn send(&self, head: &mut Head, body: &[u8]) -> Result {
        let mut sent = self.sent.lock();
        *sent += 1;
        head.seq = Le64::new(*sent);
        head.len = Le32::new(u32::try_from(body.len()).map_err(|_| EMSGSIZE)?);
        let tag = head.tag(&self.key, body);
        let r = self.socket.send(&[head.as_bytes(), body, &tag]);
        if r.is_err() {
            self.tear();
        }
        r
    }

    /// Receives the next frame. Sleeps.
    ///
    /// # Errors
    /// `EPROTO`, `EBADMSG` for what no honest peer sends; those of the socket. The stream is torn.
    pub(crate) fn receive(&self, seq: u64) -> Result<(Head, KVVec<u8>)> {
        let mut bytes = [0u8; core::mem::size_of::<Head>()];
        self.socket.receive(&mut bytes)?;
        let head = Head::read_from_bytes(&bytes).map_err(|_| EPROTO)?;
        let len = head.len.get() as usize;
        if head.magic.get() != MAGIC || len > MAX_BODY {
            net::refuse(Refused::Torn, Some(self.node));
            return Err(EPROTO);
        }
        let mut body = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        self.socket.receive(&mut body)?;
        let mut tag = [0u8; TAG];
        self.socket.receive(&mut tag)?;
        if !crypto::equal(&tag, &head.tag(&self.key, &body)) {
            net::refuse(Refused::Tag, Some(self.node));
            return Err(EBADMSG);
        }
        if head.seq.get() != seq {
            net::refuse(Refused::Replay, Some(self.node));
            return Err(EPROTO);
        }
        Ok((head, body))
    }

    /// Ends the stream: whoever sends or receives on it returns.
    pub(crate) fn tear(&self) {
        self.socket.shutdown();
    }
}
