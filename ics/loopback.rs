// SPDX-License-Identifier: GPL-2.0

//! The loopback transport: several nodes in one kernel, for KUnit. Streams are rings of bytes in memory, over links that can
//! be pulled: then nothing comes out at the other end, not even that a stream has ended.
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
use ssi::net::How;
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

/// A link between the nodes.
#[pin_data]
struct Wire {
    is_cut: Atomic<u32>,
    /// Whoever ends a stream waits, as for a socket that a sender has.
    is_held: Atomic<u32>,
    #[pin]
    released: Event,
    /// What to wake when it is put back. Lock: none, spin: a leaf.
    #[pin]
    pipes: SpinLock<KVec<Arc<Pipe>>>,
}

/// The most streams that are ever on a link.
const MAX_STREAMS: usize = 96;

impl Wire {
    fn new() -> Result<Arc<Self>> {
        let pipes = KVec::with_capacity(2 * MAX_STREAMS, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                is_cut: Atomic::new(0),
                is_held: Atomic::new(0),
                released <- Event::new(),
                pipes <- kernel::new_spinlock!(pipes, "ics::wire"),
            }),
            GFP_KERNEL,
        )
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed) != 0
    }

    fn add(&self, pipe: &Arc<Pipe>) -> Result {
        let mut pipes = self.pipes.lock();
        pipes
            .push_within_capacity(pipe.clone())
            .map_err(|_| ENOSPC)?;
        Ok(())
    }
}

/// One end of a stream. Dropping it ends the stream.
pub(crate) struct End {
    wire: Arc<Wire>,
    out: Arc<Pipe>,
    into: Arc<Pipe>,
    timeout_ms: Atomic<u32>,
    /// This end has ended it.
    is_shut: Atomic<u32>,
    peer: Address,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl End {
    /// Whether the stream has ended, as far as this end can know.
    fn is_over(&self, ring: &Ring) -> bool {
        self.is_shut.load(Relaxed) != 0 || (ring.is_shut && !self.wire.is_cut())
    }

    /// See `Stream::send`.
    pub(crate) fn send(&self, parts: &[&[u8]]) -> Result {
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let n = self.send_some(&[rest], How::WAIT)?;
                rest = rest.get(n..).unwrap_or(&[]);
            }
        }
        Ok(())
    }

    /// See `Stream::send_some`.
    pub(crate) fn send_some(&self, parts: &[&[u8]], how: How) -> Result<usize> {
        let (sent, shut) = (Cell::new(0), Cell::new(false));
        let attempt = || {
            let mut ring = self.out.ring.lock();
            for part in parts {
                sent.set(sent.get() + ring.put(part));
            }
            shut.set(self.is_over(&ring));
            shut.get() || sent.get() > 0
        };
        if how.wait {
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
            n = if self.wire.is_cut() {
                0
            } else {
                ring.take(buf)
            };
            self.is_over(&ring) || n > 0
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
        self.wire
            .released
            .wait_until(|| self.wire.is_held.load(Relaxed) == 0);
        self.is_shut.store(1, Relaxed);
        self.out.shut();
        self.into.shut();
    }
}

/// The links of a hub.
pub(crate) const LINKS: usize = 2;

/// 127.0.L.N is node N on link L.
pub(crate) fn address(node: NodeId, over: usize) -> Ipv4 {
    // CAST: there are few links.
    Ipv4(0x7f00_0000 + ((over as u32) << 8) + node.number())
}

/// The two ends of a new stream.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn pair(a: NodeId, b: NodeId) -> Result<(End, End)> {
    pair_on(&Wire::new()?, 0, a, b)
}

fn pair_on(wire: &Arc<Wire>, over: usize, a: NodeId, b: NodeId) -> Result<(End, End)> {
    let (there, back) = (Pipe::new()?, Pipe::new()?);
    wire.add(&there)?;
    wire.add(&back)?;
    let end = |out: &Arc<Pipe>, into: &Arc<Pipe>, peer| End {
        wire: wire.clone(),
        out: out.clone(),
        into: into.clone(),
        timeout_ms: Atomic::new(0),
        is_shut: Atomic::new(0),
        peer: Address {
            ip: address(peer, over),
            port: 0,
        },
    };
    Ok((end(&there, &back, b), end(&back, &there, a)))
}

/// Where the nodes of one kernel find each other.
#[pin_data]
pub(crate) struct Hub {
    /// Lock: none, spin: a leaf.
    #[pin]
    ports: SpinLock<KVec<(NodeId, Arc<Queue<Option<End>>>)>>,
    wires: [Arc<Wire>; LINKS],
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
        let wires = [Wire::new()?, Wire::new()?];
        Arc::pin_init(
            pin_init!(Self {
                ports <- kernel::new_spinlock!(ports, "ics::hub"),
                wires,
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

    /// Pulls a link.
    pub(crate) fn cut(&self, over: usize) {
        if let Some(w) = self.wires.get(over) {
            w.is_cut.store(1, Relaxed);
        }
    }

    /// Makes whoever ends a stream on a link wait, or not any more.
    pub(crate) fn hold(&self, over: usize, is_held: bool) {
        if let Some(w) = self.wires.get(over) {
            w.is_held.store(is_held.into(), Relaxed);
            w.released.notify_all();
        }
    }

    /// Puts a link back: what was under way arrives.
    pub(crate) fn heal(&self, over: usize) {
        if let Some(w) = self.wires.get(over) {
            w.is_cut.store(0, Relaxed);
            for p in w.pipes.lock().iter() {
                p.changed.notify_all();
            }
        }
    }

    /// Connects a stream from one node to another over a link; who begins it need not be there.
    ///
    /// # Errors
    /// `ECONNREFUSED` no such node; `ENETUNREACH` no such link; `ETIMEDOUT` it is pulled; `ENOMEM`.
    pub(crate) fn connect(&self, from: NodeId, to: NodeId, over: usize) -> Result<End> {
        let wire = self.wires.get(over).ok_or(ENETUNREACH)?;
        if wire.is_cut() {
            return Err(ETIMEDOUT);
        }
        let queue = {
            let ports = self.ports.lock();
            let found = ports.iter().find(|(n, _)| *n == to);
            found.map(|(_, q)| q.clone()).ok_or(ECONNREFUSED)?
        };
        let (mine, theirs) = pair_on(wire, over, from, to)?;
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
    pub(crate) fn connect(&self, to: NodeId, over: usize) -> Result<End> {
        self.hub.connect(self.node, to, over)
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
