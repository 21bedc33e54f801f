// SPDX-License-Identifier: GPL-2.0

//! What carries bytes between nodes: TCP and UDP over IPv4, and for KUnit the memory of one kernel.
//!
//! Not for frames or admission: above this all but the inbox is the same whatever carries it.

use crate::lane::Side;
#[cfg(CONFIG_KUNIT = "y")]
use crate::loopback;
use crate::peer::Peer;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::inbox::Inbox;
use ssi::inbox::Reader;
use ssi::net::Address;
use ssi::net::How;
use ssi::net::Socket;

/// How long an attempt to connect may take ...
const CONNECT_MS: u32 = 1000;

/// ... and over one of several links.
const CONNECT_OVER_MS: u32 = 400;

/// How long a receive of a datagram may take: a shut-down datagram socket does not always wake its receiver.
const DATAGRAM_MS: u32 = 200;

/// A stream of bytes to another node. Its methods are those of [`Socket`].
pub(crate) enum Stream {
    /// Over the network.
    Tcp(Socket),
    /// To another node of this kernel.
    #[cfg(CONFIG_KUNIT = "y")]
    Loopback(loopback::End),
}

/// Does the same with either kind of stream.
macro_rules! either {
    ($of:expr, $s:ident => $do:expr) => {
        match $of {
            Self::Tcp($s) => $do,
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback($s) => $do,
        }
    };
}

impl Stream {
    /// See [`Socket::send`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn send(&self, parts: &[&[u8]]) -> Result {
        either!(self, s => s.send(parts))
    }

    /// See [`Socket::send_some`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn send_some(&self, parts: &[&[u8]], how: How) -> Result<usize> {
        either!(self, s => s.send_some(parts, how))
    }

    /// See [`Inbox::open`]. `None`: everything is left to the thread.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn inbox<R: Reader>(&self, reader: &Arc<R>) -> Result<Option<Inbox<'_, R>>> {
        match self {
            Self::Tcp(s) => Inbox::open(s, reader.clone()).map(Some),
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(_) => Ok(None),
        }
    }

    /// See [`Socket::receive`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> Result {
        either!(self, s => s.receive(buf))
    }

    /// See [`Socket::receive_some`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn receive_some(&self, buf: &mut [u8]) -> Result<usize> {
        either!(self, s => s.receive_some(buf))
    }

    /// See [`Socket::receive_onto`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn receive_onto(&self, vec: &mut KVVec<u8>, n: usize) -> Result {
        either!(self, s => s.receive_onto(vec, n))
    }

    /// See [`Socket::set_receive_timeout`].
    pub(crate) fn set_receive_timeout(&self, timeout_ms: u32) {
        either!(self, s => s.set_receive_timeout(timeout_ms))
    }

    /// See [`Socket::set_for_control`], [`Socket::set_for_bulk`].
    pub(crate) fn set_for(&self, side: Side) {
        match (self, side) {
            (Self::Tcp(s), Side::Control) => s.set_for_control(),
            (Self::Tcp(s), Side::Bulk) => s.set_for_bulk(),
            // Nothing is lost there, or waits in a queue.
            #[cfg(CONFIG_KUNIT = "y")]
            (Self::Loopback(_), _) => {}
        }
    }

    /// See [`Socket::peer`].
    pub(crate) fn peer(&self) -> Address {
        either!(self, s => s.peer())
    }

    /// See [`Socket::shutdown`].
    pub(crate) fn shutdown(&self) {
        either!(self, s => s.shutdown())
    }
}

/// Where a node's streams and datagrams come from and go to.
pub(crate) enum Transport {
    /// The network.
    Ip {
        /// Where others connect.
        listener: Socket,
        /// For heartbeats.
        datagrams: Socket,
    },
    /// Other nodes of this kernel.
    #[cfg(CONFIG_KUNIT = "y")]
    Loopback(Arc<loopback::Port>),
}

impl Transport {
    /// The network, on `port` of every address.
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub(crate) fn ip(port: u16) -> Result<Self> {
        let listener = Socket::listen(port)?;
        let datagrams = Socket::datagram(port)?;
        datagrams.set_receive_timeout(DATAGRAM_MS);
        Ok(Self::Ip {
            listener,
            datagrams,
        })
    }

    /// Sleeps until somebody connects.
    ///
    /// # Errors
    /// `EINVAL` after [`Self::shutdown`]; `ENOMEM`.
    pub(crate) fn accept(&self) -> Result<Stream> {
        match self {
            Self::Ip { listener, .. } => listener.accept().map(Stream::Tcp),
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(port) => port.accept().map(Stream::Loopback),
        }
    }

    /// Connects to a node over one of its links.
    ///
    /// # Errors
    /// See [`Socket::connect`]; `EADDRNOTAVAIL` for a node without that address.
    pub(crate) fn connect(&self, peer: &Peer, over: usize) -> Result<Stream> {
        match self {
            Self::Ip { .. } => {
                let ip = peer.addresses.get(over).ok_or(EADDRNOTAVAIL)?;
                let ms = if peer.addresses.len() > 1 {
                    CONNECT_OVER_MS
                } else {
                    CONNECT_MS
                };
                Socket::connect(*ip, peer.port, ms).map(Stream::Tcp)
            }
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(port) => port.connect(peer.node, over).map(Stream::Loopback),
        }
    }

    /// Sends a datagram to a node, on every link. One that is lost is lost.
    pub(crate) fn send_datagram(&self, peer: &Peer, bytes: &[u8]) {
        match self {
            Self::Ip { datagrams, .. } => {
                for ip in &peer.addresses {
                    // A link without a way to the node: the other links, or the detection, deal with it.
                    let _lost = datagrams.send_to(*ip, peer.port, bytes);
                }
            }
            // Two nodes of one kernel do not watch each other.
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(_) => {}
        }
    }

    /// Receives a datagram. Sleeps.
    ///
    /// # Errors
    /// See [`Socket::receive_datagram`]: not often, and never again after the end.
    pub(crate) fn receive_datagram(&self, buf: &mut [u8]) -> Result<(usize, Address)> {
        match self {
            Self::Ip { datagrams, .. } => datagrams.receive_datagram(buf),
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(port) => port.wait_for_end().map(|()| (0, Address::NONE)),
        }
    }

    /// Makes everybody who sleeps here return.
    pub(crate) fn shutdown(&self) {
        match self {
            Self::Ip {
                listener,
                datagrams,
            } => {
                listener.shutdown();
                datagrams.shutdown();
            }
            #[cfg(CONFIG_KUNIT = "y")]
            Self::Loopback(port) => port.shutdown(),
        }
    }
}
