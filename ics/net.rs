// SPDX-License-Identifier: GPL-2.0

//! A node that has begun to join: listener, connectors, heartbeat receiver.
//!
//! A kernel is one node of one cluster: [`start`] and [`stop`] keep that one. KUnit makes several, by [`Running`].

use crate::admission;
use crate::admission::Failed;
use crate::admission::Session;
use crate::heartbeat::Answer;
use crate::heartbeat::Datagram;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::News;
use crate::heartbeat::LEN;
use crate::heartbeat::SAYS;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Refusal;
use crate::keyring::Said;
use crate::keyring::Second;
use crate::lane::Lane;
use crate::lane::Side;
use crate::link::Link;
use crate::newest::Newest;
use crate::peer::Peer;
use crate::pool;
use crate::pool::Pool;
use crate::reception::Reception;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::refused::Source;
use crate::release::NoneInCommon;
use crate::release::Speaks;
use crate::service::Caller;
use crate::transport::Stream;
use crate::transport::Transport;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::atomic::Release;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use ssi::crypto;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::kthread::WithoutIo;
use ssi::machine;
use ssi::net::Address;
use ssi::net::Ipv4;
use ssi::wait::Event;

/// Between two attempts to connect.
const RETRY_MS: u32 = 200;

/// The most other nodes.
const MAX_PEERS: usize = 64;

/// The most streams that may be in the handshake, per configured node.
const STREAMS_PER_NODE: usize = 6;

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

/// An accepted stream's thread.
struct Accepted {
    ended: Atomic<u32>,
    link: kernel::sync::SetOnce<Arc<Link>>,
}

/// A node that has begun to join. Dropping it ends all its streams and threads: calls that wait end with `Down`.
pub(crate) struct Running {
    pub(crate) net: Arc<Net>,
    threads: KVec<KThread>,
    /// Those that connect to a node.
    connectors: KVec<Connector>,
}

/// A thread that connects to a node, until it, or the node, is not wanted any more.
struct Connector {
    thread: KThread,
    peer: Arc<Peer>,
    ended: Arc<Atomic<u32>>,
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

    /// Serves a stream that has passed admission until it is torn.
    fn serve(&self, peer: &Arc<Peer>, link: &Arc<Link>) {
        let _memory = WithoutIo::begin();
        let sender = {
            let (peer, link) = (peer.clone(), link.clone());
            KThread::run(c"ics_send", move || {
                link.send_waiting();
                peer.tear(&link);
            })
        };
        let Ok(sender) = sender else {
            link.tear();
            return;
        };
        // With a key that was dropped during the handshake nothing is said.
        let attached = if self.ring().said().hears(link.print) {
            peer.attach(link, link.incarnation)
        } else {
            Err(EKEYREVOKED)
        };
        if let Err(e) = attached {
            if e == ESTALE {
                link.refuse(Refused::Stale, &"a stream of an old incarnation");
            }
            link.tear();
            peer.detach(link);
            drop(sender);
            return;
        }
        peer.agreed(link.version, self.me.speaks.newest);
        self.keep_keys(peer);
        self.observer.link_up(link.node, link.incarnation);
        let _torn = Reception::run(peer, link);
        link.tear();
        drop(sender);
        if peer.detach(link) {
            self.observer.link_lost(link.node, link.incarnation);
        }
    }

    /// Keeps a stream beside the main one to `peer`, which has a lower number.
    fn connector_beside(&self, side: Side, peer: &Arc<Peer>) {
        while let Some(main) = peer.wait_for_main(side, || self.is_done_with(peer)) {
            self.connect_beside(side, peer, &main);
            if self.pause(RETRY_MS) {
                return;
            }
        }
    }

    fn connect_beside(&self, side: Side, peer: &Arc<Peer>, main: &Arc<Link>) {
        let memory = WithoutIo::begin();
        let Some(Ok(stream)) = main.over.map(|o| self.transport.connect(peer, o)) else {
            return;
        };
        let lane = Lane::Beside(side, main.id);
        match admission::connect(&self.me, self.ring(), &stream, peer.node, lane) {
            Ok(session) => {
                if let Ok(link) = main.beside(side, stream, session) {
                    drop(memory);
                    self.serve_beside(peer, main, &link);
                }
            }
            Err(failed) => self.refuse_stream(Some(peer.node), stream.peer(), &failed),
        }
    }

    /// The key of a stream that has come in may have been dropped meanwhile. Whoever drops it looks for streams after this one
    /// came in, or has dropped it by now.
    fn keep_keys(&self, peer: &Peer) {
        let said = self.ring().said();
        peer.keep_keys(|print| said.hears(print));
        self.condemned.notify_all();
    }

    /// Serves a stream beside the main one until it is torn.
    fn serve_beside(&self, peer: &Arc<Peer>, main: &Arc<Link>, link: &Arc<Link>) {
        let memory = WithoutIo::begin();
        let sender = {
            let (peer, link) = (peer.clone(), link.clone());
            KThread::run(c"ics_send", move || {
                link.send_waiting();
                peer.tear(&link);
            })
        };
        let Ok(sender) = sender else {
            link.tear();
            return;
        };
        if peer.attach_beside(main, link).is_ok() {
            self.keep_keys(peer);
            // For so much memory whatever gets it free is waited for.
            let _memory = (link.side != Some(Side::Bulk)).then_some(memory);
            let _torn = Reception::run(peer, link);
        }
        link.tear();
        drop(sender);
        peer.detach(link);
    }

    fn link(
        &self,
        peer: &Peer,
        stream: Stream,
        session: Session,
        over: Option<usize>,
    ) -> Result<Arc<Link>> {
        let stats = peer.stats_of(over).ok_or(EINVAL)?;
        Link::new(stream, session, over, self.counters.clone(), stats)
    }

    fn refuse_stream(&self, node: Option<NodeId>, address: Address, failed: &Failed) {
        let from = Source { node, address };
        match failed {
            Failed::Refused(what) => self.counters.refuse(Refused::Admission, &from, what),
            Failed::Release(there) => {
                let (here, there) = (self.me.speaks, *there);
                let what = NoneInCommon { here, there };
                self.counters.refuse(Refused::Version, &from, &what);
            }
            Failed::Torn => {}
        }
    }

    /// Keeps a stream to `peer`, which has a lower number, alive.
    fn connector(&self, peer: &Arc<Peer>) {
        let mut last = None;
        while !self.is_done_with(peer) {
            let over = peer.next_link(last);
            last = Some(over);
            let began = machine::monotonic_ns();
            self.connect_over(peer, over);
            // One that was of use is followed by the next one at once: calls wait.
            let lived = machine::monotonic_ns().saturating_sub(began) / 1_000_000;
            if lived < RETRY_MS.into() && self.pause(RETRY_MS) {
                return;
            }
        }
    }

    /// A stream over one link of a node, until it is torn.
    fn connect_over(&self, peer: &Arc<Peer>, over: usize) {
        let _memory = WithoutIo::begin();
        let Ok(stream) = self.transport.connect(peer, over) else {
            return;
        };
        match admission::connect(&self.me, self.ring(), &stream, peer.node, Lane::Main) {
            Ok(session) => {
                if let Ok(link) = self.link(peer, stream, session, Some(over)) {
                    self.serve(peer, &link);
                }
            }
            Err(failed) => self.refuse_stream(Some(peer.node), stream.peer(), &failed),
        }
    }

    /// Handshake and service of a stream that somebody else began.
    fn accepted(&self, stream: Stream, accepted: &Accepted) {
        let address = stream.peer();
        let memory = WithoutIo::begin();
        let session = admission::accept(&self.me, |node| self.key_towards(node).0, &stream);
        match session {
            Ok(session) => {
                let node = session.node;
                if let Lane::Beside(side, id) = session.lane {
                    // Without the stream that it belongs to it is of no use: both ends begin anew.
                    let named = |p: &Arc<Peer>| p.wait_for_named(&id, || self.is_done_with(p));
                    let on = self.peer(node).and_then(|p| {
                        let main = named(&p)?;
                        Some((p, main))
                    });
                    let made = on.and_then(|(p, m)| {
                        let link = m.beside(side, stream, session).ok()?;
                        Some((p, m, link))
                    });
                    if let Some((peer, main, link)) = made {
                        accepted.link.populate(link.clone());
                        drop(memory);
                        if !self.is_stopping() {
                            self.serve_beside(&peer, &main, &link);
                        }
                    }
                } else if let Some(peer) = self.peer(node) {
                    // The other end connects from its address on that link.
                    let over = peer.link_of(address.ip);
                    if let Ok(link) = self.link(&peer, stream, session, over) {
                        accepted.link.populate(link.clone());
                        if !self.is_stopping() {
                            self.serve(&peer, &link);
                        }
                    }
                } else {
                    let what = "a node that is not in this node's table: correct clustertab";
                    self.refuse_stream(Some(node), address, &Failed::Refused(what));
                }
            }
            Err(failed) => self.refuse_stream(None, address, &failed),
        }
        accepted.ended.store(1, Relaxed);
    }

    fn listen(self: &Arc<Self>) {
        while !self.is_stopping() {
            let Ok(stream) = self.transport.accept() else {
                if self.pause(RETRY_MS) {
                    return;
                }
                continue;
            };
            if let Err(e) = self.take(stream) {
                pr_warn!("cannot take a stream: {:?}\n", e);
            }
        }
    }

    /// Begins the handshake of a stream, or refuses it.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn take(self: &Arc<Self>, stream: Stream) -> Result {
        let address = stream.peer();
        if !self.is_of_table(address.ip) {
            // It came around the cluster's links, which may be the ones that nobody else can read.
            let what = "an address that no other node has: correct clustertab or wireguard.toml";
            self.refuse_stream(None, address, &Failed::Refused(what));
            return Ok(());
        }
        let peers = self.peers().len();
        let mut list = self.accepted.lock();
        // Threads of ended streams are joined here: that does not sleep long.
        while let Some(i) = list.iter().position(|(_, a)| a.ended.load(Relaxed) != 0) {
            let _joined = list.remove(i);
        }
        // Of those that are proved there are three to each node, and as many more while they take over.
        let is_unproved = |(_, a): &&(KThread, Arc<Accepted>)| a.link.as_ref().is_none();
        let n = list.iter().filter(is_unproved).count();
        if n >= STREAMS_PER_NODE * (peers + 1) {
            self.refuse_stream(None, address, &Failed::Refused("too many streams"));
            return Ok(());
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
            KThread::run(c"ics_stream", move || net.accepted(stream, &a))?
        };
        list.push(thread_entry(thread, a), GFP_KERNEL)?;
        Ok(())
    }

    fn receive_heartbeats(&self) {
        kthread::make_realtime();
        let mut bytes = [0u8; LEN + 1];
        while !self.is_stopping() {
            let Ok((n, from)) = self.transport.receive_datagram(&mut bytes) else {
                continue;
            };
            if self.is_stopping() {
                return;
            }
            let bytes = bytes.get(..n).unwrap_or(&[]);
            // Hashing is the expensive part: nobody but nodes of the table gets that far.
            if !self.is_of_table(from.ip) {
                continue;
            }
            let mut brought = None;
            let news = |node, incarnation, seq| {
                let peer = self.peer(node);
                let is_member = peer.as_ref().is_some_and(|p| p.is_member());
                let on = peer.and_then(|p| {
                    let link = p.link_of(from.ip)?;
                    Some((p, link))
                });
                let now_ms = machine::monotonic_ns() / 1_000_000;
                let news = self.newest.news(node, incarnation, seq, is_member, now_ms);
                let news = match (news, &on) {
                    // Late, on a link that is slower than another one.
                    (News::Old, Some((p, l))) if p.is_new_on(*l, incarnation, seq) => News::Again,
                    (news, _) => news,
                };
                brought = on.map(|(p, link)| (p, link, incarnation, seq));
                news
            };
            let ring = self.ring();
            let checked = Datagram::check(&self.me, &ring, &self.counters, from, bytes, news);
            let is_heard = match &checked {
                Ok(_) => true,
                Err(e) => *e == EALREADY,
            };
            if let (true, Some((peer, link, incarnation, seq))) = (is_heard, brought) {
                self.brought(&peer, link, incarnation, seq);
            }
            if let Ok(h) = checked {
                if self.peer(h.node).is_some_and(|p| p.heard(h.incarnation)) {
                    self.condemned.notify_all();
                }
                self.note_keys(&h);
                self.observer.heartbeat(&h);
            }
        }
    }

    /// A link to a node brought a heartbeat. Waits for nobody.
    pub(crate) fn brought(&self, peer: &Peer, link: usize, incarnation: Incarnation, seq: u64) {
        if peer.heard_on(link, incarnation, seq) {
            self.condemned.notify_all();
        }
    }

    /// Tears the streams that heartbeats show to be of no use. The thread that receives those does not: tearing waits for
    /// whoever has the socket.
    fn tear_condemned(&self) {
        while !self.is_stopping() {
            let mut found = None;
            let peers = self.peers();
            self.condemned.wait_until(|| {
                found = peers.iter().find_map(|p| {
                    let stream = p.condemned()?;
                    Some((p, stream))
                });
                found.is_some() || self.is_stopping() || !self.has_peers(&peers)
            });
            let Some((peer, stream)) = found else {
                continue;
            };
            if let Some(silent) = stream.over.filter(|l| peer.state_of(*l).1) {
                pr_warn!(
                    "node {}: link {} is silent: the stream goes over another one\n",
                    peer.node.number(),
                    silent + 1
                );
            }
            peer.tear(&stream);
        }
    }

    /// Remembers what a node said of its keys.
    fn note_keys(&self, h: &Heartbeat) {
        let mut keys = self.keys.lock();
        if let Some(said) = keys.said.iter_mut().find(|s| s.0 == h.node) {
            said.1 = Some(h.keys);
        }
    }
}

fn thread_entry(thread: KThread, a: Arc<Accepted>) -> (KThread, Arc<Accepted>) {
    (thread, a)
}

impl Running {
    /// Begins to talk to the nodes of the table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn start(
        config: Config,
        observer: &'static dyn LinkObserver,
        transport: Transport,
        pool: Arc<Pool>,
        counters: Arc<Counters>,
    ) -> Result<Self> {
        let me = Identity::new(&config);
        let ring = keyring(&config);
        let room = config.nodes.len().max(MAX_PEERS);
        let said = KVec::with_capacity(room, GFP_KERNEL)?;
        let peers = Arc::new(KVec::new(), GFP_KERNEL)?;
        let newest = Newest::new(room)?;
        let net = Arc::pin_init(
            pin_init!(Net {
                me,
                pool,
                counters,
                peers <- kernel::new_spinlock!(peers, "ics::peers"),
                observer,
                transport,
                stopping: Atomic::new(0),
                stopped <- Event::new(),
                condemned <- Event::new(),
                newest <- newest,
                keys <- kernel::new_spinlock!(Keys { ring, said }, "ics::keys"),
                accepted <- kernel::new_mutex!(KVec::new(), "ics::accepted"),
            }),
            GFP_KERNEL,
        )?;
        // Whatever fails from here on, dropping this ends what has begun.
        let mut running = Self {
            net,
            threads: KVec::new(),
            connectors: KVec::new(),
        };
        // Who comes is judged by the nodes that are known.
        for n in config.nodes {
            if n.node != config.this {
                running.add(n)?;
            }
        }
        let net = running.net.clone();
        running.spawn(c"ics_listen", move || net.listen())?;
        let net = running.net.clone();
        running.spawn(c"ics_heartbeat", move || net.receive_heartbeats())?;
        let net = running.net.clone();
        running.spawn(c"ics_tear", move || net.tear_condemned())?;
        Ok(running)
    }

    /// Talks to one more node from now on.
    ///
    /// # Errors
    /// `EEXIST` there is one of that number; `ENOSPC`; `ENOMEM`.
    pub(crate) fn add(&mut self, n: NodeConfig) -> Result {
        let net = self.net.clone();
        if net.peer(n.node).is_some() {
            return Err(EEXIST);
        }
        self.reap();
        let node = n.node;
        let peer = Peer::new(node, n.addresses, n.port, net.pool.clone())?;
        net.newest.add(node)?;
        {
            let mut keys = net.keys.lock();
            keys.said.retain(|s| s.0 != node);
            keys.said
                .push_within_capacity((node, None))
                .map_err(|_| ENOSPC)?;
        }
        let before = net.peers();
        let mut list = KVec::with_capacity(before.len() + 1, GFP_KERNEL)?;
        list.extend_from_slice(&before, GFP_KERNEL)?;
        list.push(peer.clone(), GFP_KERNEL)?;
        net.set_peers(list)?;
        net.condemned.notify_all();
        if node < net.me.node {
            for (name, side) in [(c"ics_control", Side::Control), (c"ics_bulk", Side::Bulk)] {
                let (of, beside) = (peer.clone(), net.clone());
                self.connect(name, &peer, move || beside.connector_beside(side, &of))?;
            }
            let of = peer.clone();
            self.connect(c"ics_connect", &peer, move || net.connector(&of))?;
        }
        Ok(())
    }

    /// Does not talk to a node any more: it is no member. Waits for nobody.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn remove(&mut self, node: NodeId) -> Result {
        let net = &self.net;
        let gone = net.peer(node);
        let before = net.peers();
        let mut list = KVec::with_capacity(before.len(), GFP_KERNEL)?;
        for p in before.iter().filter(|p| p.node != node) {
            list.push(p.clone(), GFP_KERNEL)?;
        }
        net.set_peers(list)?;
        net.newest.remove(node);
        net.keys.lock().said.retain(|s| s.0 != node);
        if let Some(peer) = gone {
            peer.close();
        }
        net.stopped.notify_all();
        net.condemned.notify_all();
        self.reap();
        Ok(())
    }

    /// Joins threads of nodes that were removed, if they have ended.
    fn reap(&mut self) {
        let is_over = |c: &Connector| c.peer.is_closed() && c.ended.load(Acquire) != 0;
        while let Some(i) = self.connectors.iter().position(is_over) {
            let _joined = self.connectors.remove(i);
        }
    }

    /// Starts a thread that connects to a node.
    fn connect(
        &mut self,
        name: &CStr,
        peer: &Arc<Peer>,
        f: impl FnOnce() + Send + 'static,
    ) -> Result {
        self.connectors.reserve(1, GFP_KERNEL)?;
        let ended = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let mine = ended.clone();
        let thread = KThread::run(name, move || {
            f();
            mine.store(1, Release);
        })?;
        let connector = Connector {
            thread,
            peer: peer.clone(),
            ended,
        };
        self.connectors.push(connector, GFP_KERNEL)?;
        Ok(())
    }

    fn spawn(&mut self, name: &CStr, f: impl FnOnce() + Send + 'static) -> Result {
        self.threads.reserve(1, GFP_KERNEL)?;
        let thread = KThread::run(name, move || {
            let _memory = WithoutIo::begin();
            f();
        })?;
        self.threads.push(thread, GFP_KERNEL)?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let net = &self.net;
        net.stopping.store(1, Relaxed);
        net.stopped.notify_all();
        net.condemned.notify_all();
        net.transport.shutdown();
        for p in net.peers().iter() {
            p.close();
        }
        drop(core::mem::take(&mut self.threads));
        for c in core::mem::take(&mut self.connectors) {
            drop(c.thread);
        }
        let accepted = core::mem::take(&mut *net.accepted.lock());
        for (_, a) in &accepted {
            if let Some(link) = a.link.as_ref() {
                link.tear();
            }
        }
        drop(accepted);
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
