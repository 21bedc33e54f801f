// SPDX-License-Identifier: GPL-2.0

//! The transport of a node that has begun to join: listener, connectors, heartbeat receiver, and what was refused.

use crate::admission;
use crate::heartbeat::Datagram;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::LEN;
use crate::heartbeat::SAYS;
use crate::link::Ahead;
use crate::link::Link;
use crate::peer::Peer;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::net::Ipv4;
use ssi::net::Socket;
use ssi::wait::Event;

/// Between two attempts to connect.
const RETRY_MS: u32 = 200;

/// How long an attempt may take.
const CONNECT_MS: u32 = 1000;

/// The most streams that may be in the handshake, or established, per configured node.
const STREAMS_PER_NODE: usize = 4;

/// A node of the cluster's table.
pub struct NodeConfig {
    /// Its number.
    pub node: NodeId,
    /// Its addresses, one per link.
    pub addresses: KVec<Ipv4>,
    /// Its port.
    pub port: u16,
}

/// What a node needs to begin to join.
pub struct Config {
    /// The cluster's name.
    pub name: KVec<u8>,
    /// The cluster key.
    pub key: KVec<u8>,
    /// This node.
    pub this: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// All nodes of the table, this one included.
    pub nodes: KVec<NodeConfig>,
}

/// What the transport tells the membership. Called from the transport's threads; may sleep, must not call nodes.
pub trait LinkObserver: Sync {
    /// There is a stream to that incarnation.
    fn link_up(&self, node: NodeId, incarnation: Incarnation);

    /// There is none any more.
    fn link_lost(&self, node: NodeId, incarnation: Incarnation);

    /// A heartbeat came.
    fn heartbeat(&self, h: &Heartbeat);
}

/// Who this node is.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// First half of a hash of the cluster's name.
    pub(crate) cluster: [u8; 16],
    /// Hash of the cluster key.
    pub(crate) key: [u8; 32],
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A handshake failed.
    Admission,
    /// A tag is wrong.
    Tag,
    /// A number has been used before.
    Replay,
    /// It is of an incarnation that is over.
    Stale,
    /// It is no frame at all.
    Torn,
}

/// How much was refused since the module was loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Failed handshakes.
    pub admission: u64,
    /// Wrong tags.
    pub tag: u64,
    /// Replayed frames.
    pub replay: u64,
    /// Old incarnations.
    pub stale: u64,
    /// Not frames.
    pub torn: u64,
}

static REFUSED: [Atomic<u64>; 5] = [const { Atomic::new(0) }; 5];

/// Counts a refusal, and logs it: the first ones, then ever more rarely.
pub(crate) fn refuse(why: Refused, node: Option<NodeId>) {
    let Some(count) = REFUSED.get(why as usize) else {
        return;
    };
    let n = count.fetch_add(1, Relaxed) + 1;
    if n <= 8 || n.is_power_of_two() {
        pr_warn!(
            "refused {:?} from node {} ({} times)\n",
            why,
            node.map_or(0, NodeId::number),
            n
        );
    }
}

/// What was refused so far.
pub fn stats() -> Stats {
    let n = |w: Refused| REFUSED.get(w as usize).map_or(0, |c| c.load(Relaxed));
    Stats {
        admission: n(Refused::Admission),
        tag: n(Refused::Tag),
        replay: n(Refused::Replay),
        stale: n(Refused::Stale),
        torn: n(Refused::Torn),
    }
}

/// The transport.
#[pin_data]
pub(crate) struct Net {
    pub(crate) me: Identity,
    peers: KVec<Arc<Peer>>,
    observer: &'static dyn LinkObserver,
    listener: Socket,
    datagrams: Socket,
    stopping: Atomic<u32>,
    heartbeats_sent: Atomic<u64>,
    #[pin]
    stopped: Event,
    /// Lock: level 15 `ics::heard`, mutex: the last heartbeat of each node.
    #[pin]
    heard: Mutex<KVec<(NodeId, Incarnation, u64)>>,
    /// Accepted sockets under way, to be shut down at the stop. Lock: level 15 `ics::accepted`, mutex.
    #[pin]
    accepted: Mutex<KVec<(KThread, Arc<Accepted>)>>,
}

/// An accepted stream's thread.
struct Accepted {
    ended: Atomic<u32>,
    link: kernel::sync::SetOnce<Arc<Link>>,
}

struct Running {
    net: Arc<Net>,
    threads: KVec<KThread>,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 13 `ics::net`, spin: a pointer is copied under it.
    unsafe(uninit) static CURRENT: SpinLock<Option<Arc<Net>>> = None;
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 10 `ics::running`, mutex: start and stop.
    unsafe(uninit) static RUNNING: Mutex<Option<Running>> = None;
}

/// Makes the locks. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { CURRENT.init() };
    // SAFETY: As above.
    unsafe { RUNNING.init() };
}

/// The transport, if this node has begun to join.
pub(crate) fn current() -> Option<Arc<Net>> {
    CURRENT.lock().clone()
}

impl Net {
    /// A node of the table, not this one.
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|p| p.node == node)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed) != 0
    }

    /// Sleeps; returns early, with `true`, when the transport stops.
    fn pause(&self, ms: u32) -> bool {
        self.stopped.wait_timeout(ms, || self.is_stopping())
    }

    /// Serves a stream that has passed admission until it is torn.
    fn serve(&self, peer: &Arc<Peer>, link: &Arc<Link>) {
        let sender = {
            let link = link.clone();
            KThread::run(c"ics_send", move || link.send_waiting())
        };
        let Ok(sender) = sender else {
            link.tear();
            return;
        };
        if let Err(e) = peer.attach(link, link.incarnation) {
            if e == ESTALE {
                refuse(Refused::Stale, Some(link.node));
            }
            link.tear();
            peer.detach(link);
            drop(sender);
            return;
        }
        self.observer.link_up(link.node, link.incarnation);
        let mut seq = 1;
        let mut ahead = Ahead::new();
        loop {
            let r = ahead
                .as_mut()
                .map_err(|e| *e)
                .and_then(|a| link.receive(a, seq))
                .and_then(|(head, body)| peer.receive(link, &head, body));
            if r.is_err() {
                break;
            }
            seq += 1;
        }
        link.tear();
        drop(sender);
        if peer.detach(link) {
            self.observer.link_lost(link.node, link.incarnation);
        }
    }

    /// Keeps a stream to `peer`, which has a lower number, alive.
    fn connector(&self, peer: &Arc<Peer>) {
        let mut turn = 0;
        while !self.is_stopping() {
            let ip = peer.addresses.get(turn % peer.addresses.len().max(1));
            turn += 1;
            if let Some(ip) = ip {
                if let Ok(socket) = Socket::connect(*ip, peer.port, CONNECT_MS) {
                    match admission::connect(&self.me, &socket, peer.node) {
                        Ok(session) => {
                            if let Ok(link) = Link::new(socket, session) {
                                self.serve(peer, &link);
                            }
                        }
                        Err(e) if e == EPERM || e == EPROTO || e == EPROTONOSUPPORT => {
                            refuse(Refused::Admission, Some(peer.node));
                        }
                        Err(_) => {}
                    }
                }
            }
            if self.pause(RETRY_MS) {
                return;
            }
        }
    }

    /// Handshake and service of a stream that somebody else began.
    fn accepted(&self, socket: Socket, accepted: &Accepted) {
        match admission::accept(&self.me, &socket) {
            Ok(session) => {
                let node = session.node;
                match (self.peer(node), Link::new(socket, session)) {
                    (Some(peer), Ok(link)) => {
                        accepted.link.populate(link.clone());
                        if !self.is_stopping() {
                            self.serve(peer, &link);
                        }
                    }
                    (None, _) => refuse(Refused::Admission, Some(node)),
                    _ => {}
                }
            }
            Err(e) if e == EAGAIN || e == ECONNRESET => {}
            Err(_) => refuse(Refused::Admission, None),
        }
        accepted.ended.store(1, Relaxed);
    }

    fn listen(self: &Arc<Self>) {
        while !self.is_stopping() {
            let Ok(socket) = self.listener.accept() else {
                if self.pause(RETRY_MS) {
                    return;
                }
                continue;
            };
            if let Err(e) = self.take(socket) {
                pr_warn!("cannot take a stream: {:?}\n", e);
            }
        }
    }

    fn take(self: &Arc<Self>, socket: Socket) -> Result {
        let mut list = self.accepted.lock();
        // Threads of ended streams are joined here: that does not sleep long.
        while let Some(i) = list.iter().position(|(_, a)| a.ended.load(Relaxed) != 0) {
            let _joined = list.remove(i);
        }
        if list.len() >= STREAMS_PER_NODE * (self.peers.len() + 1) {
            refuse(Refused::Admission, None);
            return Err(EBUSY);
        }
        let a = Arc::new(
            Accepted {
                ended: Atomic::new(0),
                link: kernel::sync::SetOnce::new(),
            },
            GFP_KERNEL,
        )?;
        list.reserve(1, GFP_KERNEL)?;
        let thread = {
            let net = self.clone();
            let a = a.clone();
            KThread::run(c"ics_stream", move || net.accepted(socket, &a))?
        };
        list.push(thread_entry(thread, a), GFP_KERNEL)?;
        Ok(())
    }

    fn receive_heartbeats(&self) {
        kthread::make_realtime();
        let mut bytes = [0u8; LEN + 1];
        while !self.is_stopping() {
            let Ok(n) = self.datagrams.receive_datagram(&mut bytes) else {
                continue;
            };
            if self.is_stopping() {
                return;
            }
            let bytes = bytes.get(..n).unwrap_or(&[]);
            let fresh = |node, incarnation, seq| self.is_fresh(node, incarnation, seq);
            if let Ok(h) = Datagram::check(&self.me, bytes, fresh) {
                if let Some(peer) = self.peer(h.node) {
                    peer.heard(h.incarnation);
                }
                self.observer.heartbeat(&h);
            }
        }
    }

    /// Whether a heartbeat is newer than what was heard of the node, which it then is.
    fn is_fresh(&self, node: NodeId, incarnation: Incarnation, seq: u64) -> bool {
        let mut heard = self.heard.lock();
        let Some(h) = heard.iter_mut().find(|h| h.0 == node) else {
            return false;
        };
        // Heartbeats of several links carry the same number: the second one is no news, and no attack.
        if incarnation < h.1 || (incarnation == h.1 && seq < h.2) {
            return false;
        }
        h.1 = incarnation;
        h.2 = seq;
        true
    }
}

fn thread_entry(thread: KThread, a: Arc<Accepted>) -> (KThread, Arc<Accepted>) {
    (thread, a)
}

/// Begins to talk to the nodes of the table.
///
/// # Errors
/// `EBUSY` if it has begun; `EINVAL` if this node is not in the table; `EADDRINUSE`; `ENOMEM`.
pub fn start(config: Config, observer: &'static dyn LinkObserver) -> Result {
    let mut running = RUNNING.lock();
    if running.is_some() {
        return Err(EBUSY);
    }
    let mine = config.nodes.iter().find(|n| n.node == config.this);
    let port = mine.ok_or(EINVAL)?.port;
    let hash: [u8; 32] = crypto::mac(b"OpenSSI cluster name, version 1.", &[&config.name]);
    let mut cluster = [0; 16];
    for (to, from) in cluster.iter_mut().zip(hash) {
        *to = from;
    }
    let me = Identity {
        node: config.this,
        incarnation: config.incarnation,
        cluster,
        key: crypto::mac(b"OpenSSI cluster key, version 1..", &[&config.key]),
    };
    let mut peers = KVec::new();
    let mut heard = KVec::new();
    for n in config.nodes {
        if n.node == config.this {
            continue;
        }
        heard.push((n.node, Incarnation(0), 0), GFP_KERNEL)?;
        peers.push(Peer::new(n.node, n.addresses, n.port)?, GFP_KERNEL)?;
    }
    let net = Arc::pin_init(
        pin_init!(Net {
            me,
            peers,
            observer,
            listener: Socket::listen(port)?,
            datagrams: Socket::datagram(port)?,
            stopping: Atomic::new(0),
            heartbeats_sent: Atomic::new(0),
            stopped <- Event::new(),
            heard <- kernel::new_mutex!(heard, "ics::heard"),
            accepted <- kernel::new_mutex!(KVec::new(), "ics::accepted"),
        }? Error),
        GFP_KERNEL,
    )?;
    // So that the receiver sees the stop: a shut-down datagram socket does not always wake it.
    net.datagrams.set_receive_timeout(RETRY_MS);
    let mut threads = KVec::new();
    let result = (|| {
        let n = net.clone();
        threads.push(KThread::run(c"ics_listen", move || n.listen())?, GFP_KERNEL)?;
        let n = net.clone();
        threads.push(
            KThread::run(c"ics_heartbeat", move || n.receive_heartbeats())?,
            GFP_KERNEL,
        )?;
        for peer in net.peers.iter().filter(|p| p.node < net.me.node) {
            let n = net.clone();
            let peer = peer.clone();
            threads.push(
                KThread::run(c"ics_connect", move || n.connector(&peer))?,
                GFP_KERNEL,
            )?;
        }
        Ok(())
    })();
    *CURRENT.lock() = Some(net.clone());
    *running = Some(Running { net, threads });
    drop(running);
    if result.is_err() {
        stop();
    }
    result
}

/// Ends all streams and threads. Calls that wait end with `Down`.
pub fn stop() {
    let Some(r) = RUNNING.lock().take() else {
        return;
    };
    *CURRENT.lock() = None;
    r.net.stopping.store(1, Relaxed);
    r.net.stopped.notify_all();
    r.net.listener.shutdown();
    r.net.datagrams.shutdown();
    for p in &r.net.peers {
        p.fence();
    }
    drop(r.threads);
    let accepted = core::mem::take(&mut *r.net.accepted.lock());
    for (_, a) in &accepted {
        if let Some(link) = a.link.as_ref() {
            link.tear();
        }
    }
    drop(accepted);
}

/// Sends a heartbeat to every node of the table, on every link.
pub fn send_heartbeats(says: &[u8; SAYS]) {
    let Some(net) = current() else {
        return;
    };
    let seq = net.heartbeats_sent.fetch_add(1, Relaxed) + 1;
    let d = Datagram::new(&net.me, seq, says);
    for p in &net.peers {
        for ip in &p.addresses {
            // A link without a way to the node: the other links, or the detection, deal with it.
            let _lost = net.datagrams.send_to(*ip, p.port, d.as_bytes());
        }
    }
}

/// `clms` says that an incarnation of a node is a member.
pub fn admit(node: NodeId, incarnation: Incarnation) {
    if let Some(net) = current() {
        if let Some(p) = net.peer(node) {
            p.admit(incarnation);
        }
    }
}

/// `clms` says that a node is down. When this returns every call to it has ended.
pub fn fence(node: NodeId) {
    if let Some(net) = current() {
        if let Some(p) = net.peer(node) {
            p.fence();
        }
    }
}
