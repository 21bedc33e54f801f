// SPDX-License-Identifier: GPL-2.0

//! A node that has begun to join: listener, connectors, heartbeat receiver.
//!
//! A kernel is one node of one cluster: [`start`] and [`stop`] keep that one. KUnit makes several, by [`Running`].

use crate::admission;
use crate::admission::Failed;
use crate::admission::Lane;
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
use crate::link::Link;
use crate::peer::Peer;
use crate::pool;
use crate::pool::Pool;
use crate::reception::Reception;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::refused::Source;
use crate::service::Caller;
use crate::transport::Stream;
use crate::transport::Transport;
use core::cmp::Ordering;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::net::Address;
use ssi::net::Ipv4;
use ssi::wait::Event;

/// Between two attempts to connect.
const RETRY_MS: u32 = 200;

/// The most streams that may be in the handshake, per configured node.
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
        }
    }
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
    pub(crate) peers: KVec<Arc<Peer>>,
    observer: &'static dyn LinkObserver,
    transport: Transport,
    stopping: Atomic<u32>,
    #[pin]
    stopped: Event,
    /// Told when a stream is to be torn, and at the stop.
    #[pin]
    condemned: Event,
    /// Lock: level 15 `ics::heard`, mutex: the last heartbeat of each node.
    #[pin]
    heard: Mutex<KVec<(NodeId, Incarnation, u64)>>,
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
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|p| p.node == node)
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

    /// A step of this node's keys, which is given what each member said of its own.
    pub(crate) fn change_keys(
        &self,
        step: impl FnOnce(
            Keyring,
            &mut dyn Iterator<Item = Option<Said>>,
        ) -> core::result::Result<Keyring, Refusal>,
    ) -> core::result::Result<(), Refusal> {
        let mut keys = self.keys.lock();
        let members = self.peers.iter().filter(|p| p.is_member());
        let ring = step(keys.ring, &mut members.map(|p| keys.said(p.node)))?;
        keys.ring = ring;
        Ok(())
    }

    /// Whether another node of the table has an address.
    fn is_of_table(&self, address: Ipv4) -> bool {
        self.peers.iter().any(|p| p.addresses.contains(&address))
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
                link.refuse(Refused::Stale, &"a stream of an old incarnation");
            }
            link.tear();
            peer.detach(link);
            drop(sender);
            return;
        }
        self.observer.link_up(link.node, link.incarnation);
        let _torn = Reception::run(peer, link);
        link.tear();
        drop(sender);
        if peer.detach(link) {
            self.observer.link_lost(link.node, link.incarnation);
        }
    }

    /// Keeps a stream for bulk beside the one to `peer`, which has a lower number.
    fn bulk_connector(&self, peer: &Arc<Peer>) {
        while let Some(main) = peer.wait_for_main(|| self.is_stopping()) {
            self.connect_bulk(peer, &main);
            if self.pause(RETRY_MS) {
                return;
            }
        }
    }

    fn connect_bulk(&self, peer: &Arc<Peer>, main: &Arc<Link>) {
        let Some(Ok(stream)) = main.over.map(|o| self.transport.connect(peer, o)) else {
            return;
        };
        match admission::connect(
            &self.me,
            self.ring(),
            &stream,
            peer.node,
            Lane::Bulk(main.id),
        ) {
            Ok(session) => {
                if let Ok(bulk) = main.beside(stream, session) {
                    self.serve_bulk(peer, main, &bulk);
                }
            }
            Err(Failed::Refused(what)) => {
                self.refuse_stream(Some(peer.node), stream.peer(), what);
            }
            Err(Failed::Torn) => {}
        }
    }

    /// Serves a stream for bulk until it is torn.
    fn serve_bulk(&self, peer: &Arc<Peer>, main: &Arc<Link>, bulk: &Arc<Link>) {
        let sender = {
            let bulk = bulk.clone();
            KThread::run(c"ics_send", move || bulk.send_waiting())
        };
        let Ok(sender) = sender else {
            bulk.tear();
            return;
        };
        if peer.attach_bulk(main, bulk).is_ok() {
            let _torn = Reception::run(peer, bulk);
        }
        bulk.tear();
        drop(sender);
        peer.detach(bulk);
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

    fn refuse_stream(&self, node: Option<NodeId>, address: Address, what: &str) {
        self.counters
            .refuse(Refused::Admission, &Source { node, address }, &what);
    }

    /// Keeps a stream to `peer`, which has a lower number, alive.
    fn connector(&self, peer: &Arc<Peer>) {
        let mut last = None;
        while !self.is_stopping() {
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
        let Ok(stream) = self.transport.connect(peer, over) else {
            return;
        };
        match admission::connect(&self.me, self.ring(), &stream, peer.node, Lane::Main) {
            Ok(session) => {
                if let Ok(link) = self.link(peer, stream, session, Some(over)) {
                    self.serve(peer, &link);
                }
            }
            Err(Failed::Refused(what)) => {
                self.refuse_stream(Some(peer.node), stream.peer(), what);
            }
            Err(Failed::Torn) => {}
        }
    }

    /// Handshake and service of a stream that somebody else began.
    fn accepted(&self, stream: Stream, accepted: &Accepted) {
        let address = stream.peer();
        let session = if self.is_of_table(address.ip) {
            admission::accept(&self.me, |node| self.key_towards(node).0, &stream)
        } else {
            // It came around the cluster's links, which may be the ones that nobody else can read.
            let what = "an address that no other node has: correct clustertab or wireguard.toml";
            Err(Failed::Refused(what))
        };
        match session {
            Ok(session) => {
                let node = session.node;
                if let Lane::Bulk(id) = session.lane {
                    // Without the stream that it belongs to it is of no use: both ends begin anew.
                    let named = |p: &Arc<Peer>| p.wait_for_named(&id, || self.is_stopping());
                    let on = self.peer(node).and_then(|p| Some((p, named(p)?)));
                    let made = on.and_then(|(p, m)| {
                        let bulk = m.beside(stream, session).ok()?;
                        Some((p, m, bulk))
                    });
                    if let Some((peer, main, bulk)) = made {
                        accepted.link.populate(bulk.clone());
                        if !self.is_stopping() {
                            self.serve_bulk(peer, &main, &bulk);
                        }
                    }
                } else if let Some(peer) = self.peer(node) {
                    // The other end connects from its address on that link.
                    let over = peer.link_of(address.ip);
                    if let Ok(link) = self.link(peer, stream, session, over) {
                        accepted.link.populate(link.clone());
                        if !self.is_stopping() {
                            self.serve(peer, &link);
                        }
                    }
                } else {
                    let what = "a node that is not in this node's table: correct clustertab";
                    self.refuse_stream(Some(node), address, what);
                }
            }
            Err(Failed::Refused(what)) => self.refuse_stream(None, address, what),
            Err(Failed::Torn) => {}
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

    fn take(self: &Arc<Self>, stream: Stream) -> Result {
        let mut list = self.accepted.lock();
        // Threads of ended streams are joined here: that does not sleep long.
        while let Some(i) = list.iter().position(|(_, a)| a.ended.load(Relaxed) != 0) {
            let _joined = list.remove(i);
        }
        // Of those that are proved there is one to each node, and one more while it takes over.
        let is_unproved = |(_, a): &&(KThread, Arc<Accepted>)| a.link.as_ref().is_none();
        let n = list.iter().filter(is_unproved).count();
        if n >= STREAMS_PER_NODE * (self.peers.len() + 1) {
            self.refuse_stream(None, stream.peer(), "too many streams");
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
                let on = peer.and_then(|p| Some((p, p.link_of(from.ip)?)));
                brought = on.map(|(p, link)| (p, link, incarnation, seq));
                match (self.news(node, incarnation, seq), on) {
                    // Late, on a link that is slower than another one.
                    (News::Old, Some((p, l))) if p.is_new_on(l, incarnation, seq) => News::Again,
                    (news, _) => news,
                }
            };
            let ring = self.ring();
            let checked = Datagram::check(&self.me, &ring, &self.counters, from, bytes, news);
            let is_heard = match &checked {
                Ok(_) => true,
                Err(e) => *e == EALREADY,
            };
            if let (true, Some((peer, link, incarnation, seq))) = (is_heard, brought) {
                self.brought(peer, link, incarnation, seq);
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
        loop {
            let mut found = None;
            self.condemned.wait_until(|| {
                found = self.peers.iter().find_map(|p| Some((p, p.condemned()?)));
                found.is_some() || self.is_stopping()
            });
            let Some((peer, stream)) = found else {
                return;
            };
            if let Some(silent) = stream.over.filter(|l| peer.state_of(*l).1) {
                pr_warn!(
                    "node {}: link {} is silent: the stream goes over another one\n",
                    peer.node.number(),
                    silent + 1
                );
            }
            stream.tear();
        }
    }

    /// Remembers what a node said of its keys.
    fn note_keys(&self, h: &Heartbeat) {
        let mut keys = self.keys.lock();
        if let Some(said) = keys.said.iter_mut().find(|s| s.0 == h.node) {
            said.1 = Some(h.keys);
        }
    }

    /// What a heartbeat is; a new one is the newest from then on.
    fn news(&self, node: NodeId, incarnation: Incarnation, seq: u64) -> News {
        let mut heard = self.heard.lock();
        let Some(h) = heard.iter_mut().find(|h| h.0 == node) else {
            return News::Old;
        };
        match (incarnation, seq).cmp(&(h.1, h.2)) {
            Ordering::Less => News::Old,
            Ordering::Equal => News::Again,
            Ordering::Greater => {
                (h.1, h.2) = (incarnation, seq);
                News::New
            }
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
        let mut said = KVec::new();
        let mut peers = KVec::new();
        let mut heard = KVec::new();
        for n in config.nodes {
            if n.node == config.this {
                continue;
            }
            heard.push((n.node, Incarnation(0), 0), GFP_KERNEL)?;
            said.push((n.node, None), GFP_KERNEL)?;
            let peer = Peer::new(n.node, n.addresses, n.port, pool.clone())?;
            peers.push(peer, GFP_KERNEL)?;
        }
        let net = Arc::pin_init(
            pin_init!(Net {
                me,
                pool,
                counters,
                peers,
                observer,
                transport,
                stopping: Atomic::new(0),
                stopped <- Event::new(),
                condemned <- Event::new(),
                heard <- kernel::new_mutex!(heard, "ics::heard"),
                keys <- kernel::new_spinlock!(Keys { ring, said }, "ics::keys"),
                accepted <- kernel::new_mutex!(KVec::new(), "ics::accepted"),
            }),
            GFP_KERNEL,
        )?;
        // Whatever fails from here on, dropping this ends what has begun.
        let mut running = Self {
            net,
            threads: KVec::new(),
        };
        let net = running.net.clone();
        running.spawn(c"ics_listen", move || net.listen())?;
        let net = running.net.clone();
        running.spawn(c"ics_heartbeat", move || net.receive_heartbeats())?;
        let net = running.net.clone();
        running.spawn(c"ics_tear", move || net.tear_condemned())?;
        for i in 0..running.net.peers.len() {
            let net = running.net.clone();
            let lower = net.peers.get(i).filter(|p| p.node < net.me.node).cloned();
            if let Some(peer) = lower {
                let (beside, of) = (net.clone(), peer.clone());
                running.spawn(c"ics_bulk", move || beside.bulk_connector(&of))?;
                running.spawn(c"ics_connect", move || net.connector(&peer))?;
            }
        }
        Ok(running)
    }

    fn spawn(&mut self, name: &CStr, f: impl FnOnce() + Send + 'static) -> Result {
        self.threads.reserve(1, GFP_KERNEL)?;
        self.threads.push(KThread::run(name, f)?, GFP_KERNEL)?;
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
        for p in &net.peers {
            p.close();
        }
        drop(core::mem::take(&mut self.threads));
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
        let d = Datagram::new(&net.me, net.key_towards(node), seq, answer, says);
        net.transport.send_datagram(p, d.as_bytes());
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
