// SPDX-License-Identifier: GPL-2.0

//! The loopback transport: several nodes in one kernel, for KUnit. Streams are rings of bytes in memory.
//!
//! Not for datagrams: nodes of one kernel live and die together.

use core::cell::Cell;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SpinLock;
use ssi::ids::NodeId;
use ssi::net::Address;
use ssi::net::Ipv4;
use ssi::wait::Event;
use ssi::wait::Queue;

/// Bytes that are under way in one direction: few, so that senders find no room.
const ROOM: usize = 16 << 10;

struct Ring {
    bytes: KVVec<u8>,
    first: usize,
    len: usize,
    is_shut: bool,
}

impl Ring {
    fn put(&mut self, from: &[u8]) -> usize {
        let n = from.len().min(ROOM - self.len);
        for (i, b) in from.iter().take(n).enumerate() {
            if let Some(to) = self.bytes.get_mut((self.first + self.len + i) % ROOM) {
                *to = *b;
            }
        }
        self.len += n;
        n
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let n = into.len().min(self.len);
        for (i, to) in into.iter_mut().take(n).enumerate() {
            *to = self
                .bytes
                .get((self.first + i) % ROOM)
                .copied()
                .unwrap_or(0);
        }
        self.first = (self.first + n) % ROOM;
        self.len -= n;
        n
    }
}

/// One direction of a stream.
#[pin_data]
struct Pipe {
    /// Lock: none, spin: a leaf.
    #[pin]
    ring: SpinLock<Ring>,
    #[pin]
    changed: Event,
}

impl Pipe {
    fn new() -> Result<Arc<Self>> {
        let ring = Ring {
            bytes: KVVec::from_elem(0, ROOM, GFP_KERNEL)?,
            first: 0,
            len: 0,
            is_shut: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                ring <- kernel::new_spinlock!(ring, "ics::loopback"),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn shut(&self) {
        self.ring.lock().is_shut = true;
        self.changed.notify_all();
    }
}

/// One end of a stream. Dropping it ends the stream.
pub(crate) struct End {
    out: Arc<Pipe>,
    into: Arc<Pipe>,
    timeout_ms: Atomic<u32>,
    peer: Address,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl End {
    /// See `Stream::send`.
    pub(crate) fn send(&self, parts: &[&[u8]]) -> Result {
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let n = self.send_some(&[rest], true)?;
                rest = rest.get(n..).unwrap_or(&[]);
            }
        }
        Ok(())
    }

    /// See `Stream::send_some`.
    pub(crate) fn send_some(&self, parts: &[&[u8]], wait: bool) -> Result<usize> {
        let (sent, shut) = (Cell::new(0), Cell::new(false));
        let attempt = || {
            let mut ring = self.out.ring.lock();
            for part in parts {
                sent.set(sent.get() + ring.put(part));
            }
            shut.set(ring.is_shut);
            shut.get() || sent.get() > 0
        };
        if wait {
            self.out.changed.wait_until(attempt);
        } else {
            let _done = attempt();
        }
        self.out.changed.notify_all();
        match sent.get() {
            _ if shut.get() => Err(EPIPE),
            0 => Err(EAGAIN),
            n => Ok(n),
        }
    }

    /// See `Stream::receive`.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> Result {
        let mut at = 0;
        while at < buf.len() {
            at += self.receive_some(buf.get_mut(at..).unwrap_or(&mut []))?;
        }
        Ok(())
    }

    /// See `Stream::receive_onto`.
    pub(crate) fn receive_onto(&self, vec: &mut KVVec<u8>, n: usize) -> Result {
        let at = vec.len();
        vec.resize(at + n, 0, GFP_KERNEL)?;
        self.receive(vec.get_mut(at..).unwrap_or(&mut []))
    }

    /// See `Stream::receive_some`. What came before the end of the stream is received.
    pub(crate) fn receive_some(&self, buf: &mut [u8]) -> Result<usize> {
        let mut n = 0;
        let mut attempt = || {
            let mut ring = self.into.ring.lock();
            n = ring.take(buf);
            ring.is_shut || n > 0
        };
        match self.timeout_ms.load(Relaxed) {
            0 => self.into.changed.wait_until(attempt),
            ms if !self.into.changed.wait_timeout(ms, &mut attempt) => return Err(EAGAIN),
            _ => {}
        }
        self.into.changed.notify_all();
        match n {
            0 => Err(ECONNRESET),
            n => Ok(n),
        }
    }

    /// See `Stream::set_receive_timeout`.
    pub(crate) fn set_receive_timeout(&self, timeout_ms: u32) {
        self.timeout_ms.store(timeout_ms, Relaxed);
    }

    /// The other end's node, as an address of its own.
    pub(crate) fn peer(&self) -> Address {
        self.peer
    }

    /// See `Stream::shutdown`.
    pub(crate) fn shutdown(&self) {
        self.out.shut();
        self.into.shut();
    }
}

/// 127.0.0.N is node N.
fn address(node: NodeId) -> Address {
    Address {
        ip: Ipv4(0x7f00_0000 + node.number()),
        port: 0,
    }
}

/// The two ends of a new stream.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn pair(a: NodeId, b: NodeId) -> Result<(End, End)> {
    let (there, back) = (Pipe::new()?, Pipe::new()?);
    let end = |out: &Arc<Pipe>, into: &Arc<Pipe>, peer| End {
        out: out.clone(),
        into: into.clone(),
        timeout_ms: Atomic::new(0),
        peer: address(peer),
    };
    Ok((end(&there, &back, b), end(&back, &there, a)))
}

/// Where the nodes of one kernel find each other.
#[pin_data]
pub(crate) struct Hub {
    /// Lock: none, spin: a leaf.
    #[pin]
    ports: SpinLock<KVec<(NodeId, Arc<Queue<Option<End>>>)>>,
}

/// The most nodes of a hub.
const MAX_NODES: usize = 4;

impl Hub {
    /// Without nodes.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let ports = KVec::with_capacity(MAX_NODES, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                ports <- kernel::new_spinlock!(ports, "ics::hub"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a node.
    ///
    /// # Errors
    /// `ENOMEM`; `ENOSPC`.
    pub(crate) fn add(self: &Arc<Self>, node: NodeId) -> Result<Arc<Port>> {
        let queue = Queue::new()?;
        {
            let mut ports = self.ports.lock();
            let entry = (node, queue.clone());
            ports.push_within_capacity(entry).map_err(|_| ENOSPC)?;
        }
        Arc::pin_init(
            pin_init!(Port {
                hub: self.clone(),
                node,
                queue,
                is_shut: Atomic::new(0),
                ended <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Connects a stream from one node to another; who begins it need not be there.
    ///
    /// # Errors
    /// `ECONNREFUSED` no such node; `ENOMEM`.
    pub(crate) fn connect(&self, from: NodeId, to: NodeId) -> Result<End> {
        let queue = {
            let ports = self.ports.lock();
            let found = ports.iter().find(|(n, _)| *n == to);
            found.map(|(_, q)| q.clone()).ok_or(ECONNREFUSED)?
        };
        let (mine, theirs) = pair(from, to)?;
        queue.push(Some(theirs))?;
        Ok(mine)
    }
}

/// A node of a hub.
#[pin_data]
pub(crate) struct Port {
    hub: Arc<Hub>,
    node: NodeId,
    /// Streams to be accepted; `None`: the end.
    queue: Arc<Queue<Option<End>>>,
    is_shut: Atomic<u32>,
    #[pin]
    ended: Event,
}

impl Port {
    /// See `Transport::accept`.
    pub(crate) fn accept(&self) -> Result<End> {
        self.queue.wait().ok_or(EINVAL)
    }

    /// See `Transport::connect`.
    pub(crate) fn connect(&self, to: NodeId) -> Result<End> {
        self.hub.connect(self.node, to)
    }

    /// In place of receiving datagrams: there are none.
    pub(crate) fn wait_for_end(&self) -> Result {
        self.ended.wait_until(|| self.is_shut.load(Relaxed) != 0);
        Err(EINVAL)
    }

    /// See `Transport::shutdown`.
    pub(crate) fn shutdown(&self) {
        self.is_shut.store(1, Relaxed);
        self.ended.notify_all();
        while self.queue.push(None).is_err() {
            ssi::task::yield_now();
        }
    }
}
