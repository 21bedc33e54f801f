// SPDX-License-Identifier: GPL-2.0

//! A node that has begun to join: who it is, which other nodes it talks to, and its keys. What it does: `streams`, `heartbeats`; who does
//! it: `running`.
//!
//! A kernel is one node of one cluster: [`start`] and [`stop`] keep that one. KUnit makes several, by [`Running`].

use crate::bytes::Bytes;
use crate::bytes::Text;
use crate::heartbeat::Answer;
use crate::heartbeat::Datagram;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::SAYS;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Refusal;
use crate::keyring::Said;
use crate::keyring::Second;
use crate::newest::Newest;
use crate::peer::Peer;
use crate::pool;
use crate::pool::Pool;
use crate::refused::Counters;
use crate::release::Speaks;
use crate::service::Caller;
use crate::service::Class;
use crate::transport::Transport;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use ssi::crypto;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::net::Ipv4;
use ssi::reserve::Reserve;
use ssi::wait::Event;

mod heartbeats;
mod running;
mod streams;

pub(crate) use running::Running;
use streams::Accepted;

/// The most other nodes.
const MAX_PEERS: usize = 64;

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
    /// The one that follows, if it is staged; else empty.
    pub next_key: KVec<u8>,
    /// The one before, if it is not dropped yet; else empty.
    pub old_key: KVec<u8>,
    /// This node.
    pub this: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// All nodes of the table, this one included.
    pub nodes: KVec<NodeConfig>,
}

/// What the transport tells the membership. Called from the transport's threads; may sleep, must not call nodes, and must not take
/// a lock under which the transport is stopped.
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
    /// The versions of the protocol.
    pub(crate) speaks: Speaks,
}

impl Identity {
    /// That of the node that the configuration is for.
    pub(crate) fn new(config: &Config) -> Self {
        let hash: [u8; 32] = crypto::mac(b"OpenSSI cluster name, version 1.", &[&config.name]);
        let mut cluster = [0; 16];
        for (to, from) in cluster.iter_mut().zip(hash) {
            *to = from;
        }
        Self {
            node: config.this,
            incarnation: config.incarnation,
            cluster,
            speaks: spoken(),
        }
    }
}

/// The versions that this node speaks. Failpoints make it one of a later release: `Ics.Release.next` of one that speaks the
/// next version too, `Ics.Release.only` of one that speaks no other.
fn spoken() -> Speaks {
    let mut s = Speaks::HERE;
    let is_only = hit("Ics.Release.only").is_err();
    if is_only || hit("Ics.Release.next").is_err() {
        s.newest += 1;
    }
    if is_only {
        s.oldest = s.newest;
    }
    s
}

/// The keys of this node, and what the others say of theirs.
struct Keys {
    ring: Keyring,
    said: KVec<(NodeId, Option<Said>)>,
}

impl Keys {
    fn said(&self, node: NodeId) -> Option<Said> {
        self.said.iter().find(|s| s.0 == node).and_then(|s| s.1)
    }
}

/// What the keys of a configuration make.
pub(crate) fn keyring(config: &Config) -> Keyring {
    let ring = Keyring::new(Key::from_file(&config.key));
    // A node that had both, and stopped in the middle of its switch, hears both.
    match (&config.next_key, &config.old_key) {
        (next, _) if !next.is_empty() => ring.with(Second::Next, Key::from_file(next)),
        (_, old) if !old.is_empty() => ring.with(Second::Old, Key::from_file(old)),
        _ => ring,
    }
}

/// A node as its links see it.
#[pin_data]
pub(crate) struct Net {
    pub(crate) me: Identity,
    pub(crate) pool: Arc<Pool>,
    /// For calls of class L4 to this node itself.
    reserve: Arc<Reserve>,
    counters: Arc<Counters>,
    /// Lock: level 15 `ics::peers`, spin; a leaf. A list does not change: another one takes its place, under `ics::running`.
    #[pin]
    peers: SpinLock<Arc<KVec<Arc<Peer>>>>,
    observer: &'static dyn LinkObserver,
    transport: Transport,
    stopping: Atomic<u32>,
    #[pin]
    stopped: Event,
    /// Told when a stream is to be torn, and at the stop.
    #[pin]
    condemned: Event,
    #[pin]
    pub(crate) newest: Newest,
    /// Lock: level 13 `ics::keys`, spin.
    #[pin]
    keys: SpinLock<Keys>,
    /// Accepted sockets under way, to be shut down at the stop. Lock: level 15 `ics::accepted`, mutex.
    #[pin]
    accepted: Mutex<KVec<(KThread, Arc<Accepted>)>>,
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

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 13 `ics::counters`, spin: a pointer is copied under it.
    unsafe(uninit) static COUNTERS: SpinLock<Option<Arc<Counters>>> = None;
}

/// Makes the locks. Once, at module load.
pub(crate) fn init(counters: Arc<Counters>) {
    // SAFETY: Called exactly once, from module init.
    unsafe { CURRENT.init() };
    // SAFETY: As above.
    unsafe { RUNNING.init() };
    // SAFETY: As above.
    unsafe { COUNTERS.init() };
    *COUNTERS.lock() = Some(counters);
}

/// Stops, and lets go of everything. Once, at module unload.
pub(crate) fn clear() {
    stop();
    let _counters = COUNTERS.lock().take();
}

/// The transport, if this node has begun to join.
pub(crate) fn current() -> Option<Arc<Net>> {
    CURRENT.lock().clone()
}

impl Net {
    /// This node as one that calls.
    pub(crate) fn myself(&self) -> Caller {
        Caller {
            node: self.me.node,
            incarnation: self.me.incarnation,
        }
    }

    /// A node of the table, not this one.
    pub(crate) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.lock().iter().find(|p| p.node == node).cloned()
    }

    /// The body of a call of this node to itself.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn body(&self, class: Class, text: Text<'_>) -> Result<Bytes> {
        text.into_bytes((class == Class::L4).then_some(&self.reserve))
    }

    /// The other nodes of the table as it is now. Whoever drops the list may free peers: not in a wait, nor under a lock.
    pub(crate) fn peers(&self) -> Arc<KVec<Arc<Peer>>> {
        self.peers.lock().clone()
    }

    /// Puts another list in the place of that one.
    fn set_peers(&self, list: KVec<Arc<Peer>>) -> Result {
        let list = Arc::new(list, GFP_KERNEL)?;
        let old = core::mem::replace(&mut *self.peers.lock(), list);
        drop(old);
        Ok(())
    }

    /// Whether a list is that of the table as it is now.
    fn has_peers(&self, list: &Arc<KVec<Arc<Peer>>>) -> bool {
        Arc::ptr_eq(&*self.peers.lock(), list)
    }

    /// This node's keys.
    pub(crate) fn ring(&self) -> Keyring {
        self.keys.lock().ring
    }

    /// What a node said of its keys.
    pub(crate) fn keys_of(&self, node: NodeId) -> Option<Said> {
        self.keys.lock().said(node)
    }

    /// The key to use towards a node, and what to say with it.
    fn key_towards(&self, node: NodeId) -> (Key, Said) {
        let keys = self.keys.lock();
        keys.ring.towards(keys.said(node))
    }

    /// A step of this node's keys, which is given what each member said of its own. Streams that were begun with a key that is
    /// not heard after it are torn; what waits for a reply goes out again on the next ones.
    pub(crate) fn change_keys(
        &self,
        step: impl FnOnce(
            Keyring,
            &mut dyn Iterator<Item = Option<Said>>,
        ) -> core::result::Result<Keyring, Refusal>,
    ) -> core::result::Result<(), Refusal> {
        let peers = self.peers();
        let said = {
            let mut keys = self.keys.lock();
            let members = peers.iter().filter(|p| p.is_member());
            keys.ring = step(keys.ring, &mut members.map(|p| keys.said(p.node)))?;
            keys.ring.said()
        };
        for peer in peers.iter() {
            peer.keep_keys(|print| said.hears(print));
        }
        self.condemned.notify_all();
        Ok(())
    }

    /// Whether another node of the table has an address.
    fn is_of_table(&self, address: Ipv4) -> bool {
        let peers = self.peers.lock();
        peers.iter().any(|p| p.addresses.contains(&address))
    }

    /// Whether there is nothing more to do for a node.
    fn is_done_with(&self, peer: &Peer) -> bool {
        self.is_stopping() || peer.is_closed()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed) != 0
    }

    /// Sleeps; returns early, with `true`, when the transport stops.
    fn pause(&self, ms: u32) -> bool {
        self.stopped.wait_timeout(ms, || self.is_stopping())
    }
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
    let transport = Transport::ip(mine.ok_or(EINVAL)?.port)?;
    let pool = pool::current().ok_or(ENODEV)?;
    let counters = COUNTERS.lock().clone().ok_or(ENODEV)?;
    let r = Running::start(config, observer, transport, pool, counters)?;
    *CURRENT.lock() = Some(r.net.clone());
    *running = Some(r);
    Ok(())
}

/// Talks to one more node of the table from now on. Sleeps.
///
/// # Errors
/// `ESHUTDOWN` nobody has begun; `EEXIST` there is one of that number; `ENOSPC`; `ENOMEM`.
pub fn add_node(node: NodeConfig) -> Result {
    let mut running = RUNNING.lock();
    running.as_mut().ok_or(ESHUTDOWN)?.add(node)
}

/// Does not talk any more to a node that is no member. Sleeps, and waits for nobody.
///
/// # Errors
/// `ENOMEM`.
pub fn remove_node(node: NodeId) -> Result {
    RUNNING.lock().as_mut().map_or(Ok(()), |r| r.remove(node))
}

/// Ends all streams and threads. Calls that wait end with `Down`.
pub fn stop() {
    let running = RUNNING.lock().take();
    if running.is_some() {
        *CURRENT.lock() = None;
    }
    drop(running);
}

/// Sends the heartbeat with that number to a node, on every link. It says the same to all, and `answer` to this one.
pub fn send_heartbeat(node: NodeId, seq: u64, answer: Answer, says: &[u8; SAYS]) {
    let Some(net) = current() else {
        return;
    };
    if let Some(p) = net.peer(node) {
        // A release is followed by one that speaks its version too: the oldest is what both are likely to understand.
        let version = p.version().unwrap_or(net.me.speaks.oldest);
        let answer = net.newest.answer(node, answer);
        let keys = net.key_towards(node);
        let d = Datagram::new(&net.me, (node, version), keys, seq, answer, says);
        net.transport.send_datagram(&p, d.as_bytes());
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
