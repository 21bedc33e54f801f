// SPDX-License-Identifier: GPL-2.0

//! KUnit: nodes of one kernel that talk over the loopback transport, through the queues, threads, credits and frames of
//! every transport; and a stranger at the other end of a stream who says what no honest node says.

use crate::admission;
use crate::admission::Lane;
use crate::call::Request;
use crate::error::CallError;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::TAG;
use crate::hearing::MISSED;
use crate::hearing::SINGLE_BITS;
use crate::heartbeat::Heartbeat;
use crate::loopback;
use crate::loopback::Hub;
use crate::net::keyring;
use crate::net::Config;
use crate::net::Identity;
use crate::net::LinkObserver;
use crate::net::Net;
use crate::net::NodeConfig;
use crate::net::Running;
use crate::pool::Pool;
use crate::pool::Registration;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::service::Caller;
use crate::service::Class;
use crate::service::Handle;
use crate::service::Op;
use crate::service::Reply;
use crate::transport::Stream;
use crate::transport::Transport;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SetOnce;
use ssi::crypto;
use ssi::crypto::FrameKey;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::wait::Event;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;

crate::service! {
    /// What the cases ask.
    service Probe { id: 0xffff, version: 7 }
    /// Answered when the gate is open.
    op 1 Hold (class: L0) {} -> {}
    /// Answered at once, by one more than `n`.
    op 2 PingP (class: P) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 3 PingU (class: U) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 4 PingL1 (class: L1) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 5 PingL2 (class: L2) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 6 PingL3 (class: L3) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 7 PingL4 (class: L4) { n: Le64 } -> { n: Le64 }
    /// As many bytes.
    op 8 Fetch (class: L3) { len: Le32 } -> {}
}

/// What happens in a case; every change is told.
#[pin_data]
struct Scene {
    is_open: Atomic<u32>,
    holding: Atomic<u32>,
    pings: Atomic<u32>,
    held: Atomic<u32>,
    errors: Atomic<u32>,
    links: Atomic<u32>,
    lost: Atomic<u32>,
    #[pin]
    changed: Event,
}

static SCENE: SetOnce<Arc<Scene>> = SetOnce::new();

/// Waiting for longer than this is a failure.
const LIMIT_MS: u32 = 30_000;

impl Scene {
    fn now() -> Option<&'static Arc<Self>> {
        SCENE.as_ref()
    }

    /// The scene, as it is before a case.
    fn begin() -> Result<&'static Arc<Self>> {
        if Self::now().is_none() {
            let scene = Arc::pin_init(
                pin_init!(Self {
                    is_open: Atomic::new(0),
                    holding: Atomic::new(0),
                    pings: Atomic::new(0),
                    held: Atomic::new(0),
                    errors: Atomic::new(0),
                    links: Atomic::new(0),
                    lost: Atomic::new(0),
                    changed <- Event::new(),
                }),
                GFP_KERNEL,
            )?;
            SCENE.populate(scene);
        }
        let s = Self::now().ok_or(ENOMEM)?;
        for n in [
            &s.is_open, &s.holding, &s.pings, &s.held, &s.errors, &s.links, &s.lost,
        ] {
            n.store(0, Relaxed);
        }
        Ok(s)
    }

    fn count(&self, what: &Atomic<u32>) {
        what.fetch_add(1, Full);
        self.changed.notify_all();
    }

    fn open(&self) {
        self.count(&self.is_open);
    }

    /// Waits for a condition that somebody's [`Self::count`] makes true. Returns whether it came true.
    fn comes(&self, cond: impl Fn(&Self) -> bool) -> bool {
        self.changed.wait_timeout(LIMIT_MS, || cond(self))
    }
}

/// Waits for a condition that nobody tells of. Returns whether it came true.
fn until(cond: impl Fn() -> bool) -> bool {
    for _ in 0..LIMIT_MS / 10 {
        if cond() {
            return true;
        }
        machine::sleep_ms(10);
    }
    false
}

struct Server;

static SERVICE: ProbeService<Server> = ProbeService(Server);

impl Handle<Hold> for Server {
    fn handle(&self, _from: Caller, _req: &HoldReq, _tail: &[u8]) -> Reply<Hold> {
        let s = Scene::now().ok_or(ENODEV)?;
        s.count(&s.holding);
        s.changed.wait_until(|| s.is_open.load(Relaxed) != 0);
        Ok((HoldRep {}, KVVec::new()))
    }
}

impl Handle<Fetch> for Server {
    fn handle(&self, _from: Caller, req: &FetchReq, _tail: &[u8]) -> Reply<Fetch> {
        let s = Scene::now().ok_or(ENODEV)?;
        s.count(&s.pings);
        let tail =
            KVVec::from_elem(7u8, req.len.get() as usize, GFP_KERNEL).map_err(Error::from)?;
        Ok((FetchRep {}, tail))
    }
}

/// As `ics::call`, from one of several nodes.
fn call_from<O: Op>(
    net: &Net,
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
    let mut request = Request::<O>::new(req, tail.len())?;
    request.extend(tail)?;
    request.send_from(net, to)?.wait()
}

macro_rules! pings {
    ($($op:ident $req:ident $rep:ident),*) => {
        $(
            impl Handle<$op> for Server {
                fn handle(&self, _from: Caller, req: &$req, _tail: &[u8]) -> Reply<$op> {
                    let s = Scene::now().ok_or(ENODEV)?;
                    s.count(&s.pings);
                    Ok(($rep { n: Le64::new(req.n.get().wrapping_add(1)) }, KVVec::new()))
                }
            }
        )*

        /// One call of each class but L0. Returns how many were answered as they should be.
        fn ping_all(net: &Net, to: NodeId, n: u64) -> u32 {
            let mut right = 0;
            $(
                let r = call_from::<$op>(net, to, &$req { n: Le64::new(n) }, &[]);
                right += u32::from(r.is_ok_and(|(rep, _)| rep.n.get() == n + 1));
            )*
            right
        }
    };
}

pings!(
    PingP PingPReq PingPRep,
    PingU PingUReq PingURep,
    PingL1 PingL1Req PingL1Rep,
    PingL2 PingL2Req PingL2Rep,
    PingL3 PingL3Req PingL3Rep,
    PingL4 PingL4Req PingL4Rep
);

/// How many calls [`ping_all`] makes.
const ALL: u32 = 6;

struct Observer;

static OBSERVER: Observer = Observer;

impl LinkObserver for Observer {
    fn link_up(&self, _node: NodeId, _incarnation: Incarnation) {
        if let Some(s) = Scene::now() {
            s.count(&s.links);
        }
    }

    fn link_lost(&self, _node: NodeId, _incarnation: Incarnation) {
        if let Some(s) = Scene::now() {
            s.count(&s.lost);
        }
    }

    fn heartbeat(&self, _h: &Heartbeat) {}
}

/// The incarnation of the nodes of the cases.
const LIFE: Incarnation = Incarnation(100);

fn id(n: u32) -> Result<NodeId> {
    NodeId::new(n).ok_or(EINVAL)
}

fn config(this: u32, incarnation: Incarnation, key: &[u8]) -> Result<Config> {
    let mut nodes = KVec::new();
    for n in 1..=2 {
        let mut addresses = KVec::new();
        for over in 0..loopback::LINKS {
            addresses.push(loopback::address(id(n)?, over), GFP_KERNEL)?;
        }
        let row = NodeConfig {
            node: id(n)?,
            addresses,
            port: 0,
        };
        nodes.push(row, GFP_KERNEL)?;
    }
    let mut c = Config {
        name: KVec::new(),
        key: KVec::new(),
        next_key: KVec::new(),
        old_key: KVec::new(),
        this: id(this)?,
        incarnation,
        nodes,
    };
    c.key.extend_from_slice(key, GFP_KERNEL)?;
    Ok(c)
}

const KEY: &[u8] = b"the key of the cases";

/// A node of this kernel. Dropped from top to bottom.
struct Node {
    running: Running,
    _service: Registration,
    counters: Arc<Counters>,
    _threads: Threads,
}

/// Ends a pool.
struct Threads(Arc<Pool>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Node {
    fn new(hub: &Arc<Hub>, n: u32) -> Result<Self> {
        let pool = Pool::new()?;
        let threads = Threads(pool.clone());
        let service = pool.register(&SERVICE)?;
        let counters = Counters::new()?;
        let transport = Transport::Loopback(hub.add(id(n)?)?);
        let c = config(n, LIFE, KEY)?;
        Ok(Self {
            running: Running::start(c, &OBSERVER, transport, pool, counters.clone())?,
            _service: service,
            counters,
            _threads: threads,
        })
    }

    fn net(&self) -> &Arc<Net> {
        &self.running.net
    }

    fn n_waiting(&self, n: u32, class: Class) -> Option<u32> {
        Some(self.net().peer(NodeId::new(n)?)?.n_waiting(class))
    }

    fn n_asked(&self, n: u32, class: Class) -> Option<u32> {
        Some(self.net().peer(NodeId::new(n)?)?.n_asked(class))
    }

    /// As `clms` would.
    fn admit(&self, n: u32, incarnation: Incarnation) -> Result {
        self.net().peer(id(n)?).ok_or(ENOENT)?.admit(incarnation);
        Ok(())
    }
}

/// Nodes 1 and 2, members of each other's cluster.
fn two_nodes(s: &Scene) -> Result<(Node, Node)> {
    two_nodes_of(s, &Hub::new()?)
}

fn two_nodes_of(s: &Scene, hub: &Arc<Hub>) -> Result<(Node, Node)> {
    let (a, b) = (Node::new(hub, 1)?, Node::new(hub, 2)?);
    if !s.comes(|s| s.links.load(Relaxed) == 2) {
        return Err(ETIMEDOUT);
    }
    a.admit(2, LIFE)?;
    b.admit(1, LIFE)?;
    Ok((a, b))
}

/// Somebody who speaks as node 2 to node 1, by hand.
struct Stranger {
    stream: Stream,
    key_out: FrameKey,
    key_in: FrameKey,
    seq: u64,
}

impl Stranger {
    /// Has the right key, and passes admission.
    fn new(hub: &Arc<Hub>, incarnation: Incarnation) -> Result<Self> {
        let config = config(2, incarnation, KEY)?;
        let (me, keys) = (Identity::new(&config), keyring(&config));
        let stream = Stream::Loopback(hub.connect(id(2)?, id(1)?, 0)?);
        let session =
            admission::connect(&me, keys, &stream, id(1)?, Lane::Main).map_err(|_| EPERM)?;
        stream.set_receive_timeout(LIMIT_MS);
        Ok(Self {
            stream,
            key_out: FrameKey::new(&session.key_out),
            key_in: FrameKey::new(&session.key_in),
            seq: 0,
        })
    }

    /// The head of the next frame: a request of `PingL1`.
    fn ping(&mut self, xid: u64) -> Head {
        let mut h = Head::new(Kind::Request, xid);
        self.seq += 1;
        h.seq = Le64::new(self.seq);
        h.service = Le16::new(PingL1::SERVICE);
        h.version = Le16::new(PingL1::VERSION);
        h.op = Le16::new(PingL1::OP);
        h.class = PingL1::CLASS as u8;
        h.len = Le32::new(8);
        h
    }

    fn send(&self, head: &Head, body: &[u8]) -> Result {
        let tag = head.tag(&self.key_out, body);
        self.stream.send(&[head.as_bytes(), body, &tag])
    }

    /// The status of the next reply, and its body.
    fn reply(&self, xid: u64) -> Result<(u32, KVVec<u8>)> {
        let mut bytes = [0u8; core::mem::size_of::<Head>()];
        self.stream.receive(&mut bytes)?;
        let head = Head::read_from_bytes(&bytes).map_err(|_| EPROTO)?;
        let mut body = KVVec::from_elem(0u8, head.len.get() as usize, GFP_KERNEL)?;
        self.stream.receive(&mut body)?;
        let mut tag = [0u8; TAG];
        self.stream.receive(&mut tag)?;
        let is_good = crypto::equal(&tag, &head.tag(&self.key_in, &body));
        if !is_good || head.xid.get() != xid || Kind::from_wire(head.kind) != Some(Kind::Reply) {
            return Err(EPROTO);
        }
        Ok((head.status.get(), body))
    }

    /// Whether node 1 ends the stream without another word.
    fn is_torn(&self) -> bool {
        self.stream.receive(&mut [0]) == Err(ECONNRESET)
    }
}

/// Node 1, and a stranger in the place of node 2 whom it takes for a member.
fn one_node() -> Result<(Arc<Hub>, Node, Stranger)> {
    let hub = Hub::new()?;
    let node = Node::new(&hub, 1)?;
    let stranger = Stranger::new(&hub, LIFE)?;
    node.admit(2, LIFE)?;
    Ok((hub, node, stranger))
}

#[kunit_tests(ssi_ics_two_nodes)]
mod tests {
    use super::*;

    #[test]
    fn every_class_answers() -> Result {
        let s = Scene::begin()?;
        s.open();
        let (a, b) = two_nodes(s)?;
        for n in 0..50 {
            assert_eq!(ping_all(a.net(), id(2)?, n), ALL);
            assert_eq!(ping_all(b.net(), id(1)?, n), ALL);
            assert_eq!(ping_all(a.net(), id(1)?, n), ALL);
        }
        let r = call_from::<Hold>(a.net(), id(2)?, &HoldReq {}, &[]);
        assert!(r.is_ok());
        Ok(())
    }

    #[test]
    fn large_calls_pass_a_small_pipe() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let tail = KVVec::from_elem(7u8, crate::MAX_TAIL, GFP_KERNEL)?;
        for n in 0..4 {
            let r = call_from::<PingL3>(a.net(), id(2)?, &PingL3Req { n: Le64::new(n) }, &tail);
            assert!(r.is_ok_and(|(rep, _)| rep.n.get() == n + 1));
        }
        assert_eq!(s.pings.load(Relaxed), 4);
        Ok(())
    }

    /// The threads of class L0 are 8, its credits 64; 80 ask.
    #[test]
    fn full_l0_stops_no_other_class() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let mut askers = KVec::new();
        for _ in 0..80 {
            let (net, to) = (a.net().clone(), id(2)?);
            let asker = KThread::run(c"ics_case", move || {
                let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
                s.count(if r.is_ok() { &s.held } else { &s.errors });
            })?;
            askers.push(asker, GFP_KERNEL)?;
        }
        let peer = a.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        assert!(s.comes(|s| s.holding.load(Relaxed) == 8));
        assert!(until(|| peer.n_waiting(Class::L0) == 64));

        let (there, back) = (a.net().clone(), b.net().clone());
        let (one, two) = (id(1)?, id(2)?);
        let right = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let mine = right.clone();
        let pings = KThread::run(c"ics_case", move || {
            for n in 0..20 {
                mine.fetch_add(ping_all(&there, two, n) + ping_all(&back, one, n), Full);
            }
        })?;
        let ended = s.comes(|s| s.pings.load(Relaxed) == 40 * ALL);
        // Nothing of class L0 has moved meanwhile.
        let stuck = (
            s.holding.load(Relaxed),
            s.held.load(Relaxed) + s.errors.load(Relaxed),
        );
        s.open();
        assert!(ended);
        assert_eq!(stuck, (8, 0));
        drop(pings);
        assert_eq!(right.load(Relaxed), 40 * ALL);
        assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == 80));
        assert_eq!(s.errors.load(Relaxed), 0);
        assert_eq!(s.holding.load(Relaxed), 80);
        Ok(())
    }

    #[test]
    fn calls_end_when_the_node_is_down() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let (net, to) = (a.net().clone(), id(2)?);
        let asker = KThread::run(c"ics_case", move || {
            let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
            let is_down = r.is_err_and(|e| e == CallError::Down(to));
            s.count(if is_down { &s.held } else { &s.errors });
        })?;
        assert!(s.comes(|s| s.holding.load(Relaxed) == 1));
        a.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        assert!(s.comes(|s| s.held.load(Relaxed) == 1));
        drop(asker);
        assert_eq!(ping_all(a.net(), id(2)?, 1), 0);
        s.open();
        Ok(())
    }

    /// Heartbeats come over link `over` only, each way.
    fn silence_all_but(over: usize, a: &Node, b: &Node, beat: &mut u64) -> Result {
        for _ in 0..=MISSED {
            *beat += 1;
            for (hearer, said) in [(a, 2), (b, 1)] {
                let peer = hearer.net().peer(id(said)?).ok_or(ENOENT)?;
                peer.heard_on(over, LIFE, *beat << SINGLE_BITS);
            }
        }
        Ok(())
    }

    /// Calls whose replies, and calls that themselves, are on a link when it is pulled: each is done, and once.
    #[test]
    fn a_link_dies_and_each_call_is_done_once() -> Result {
        const HELD: u32 = 8;
        const ASKED: u32 = 20;
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let (a, b) = two_nodes_of(s, &hub)?;
        let mut beat = 0;
        // What was put back is used again: the stream goes to and fro.
        for round in 1..=4 {
            let (dead, other) = if round % 2 == 1 { (0, 1) } else { (1, 0) };
            let mut askers = KVec::new();
            s.is_open.store(0, Relaxed);
            for _ in 0..HELD {
                let (net, to) = (a.net().clone(), id(2)?);
                let asker = KThread::run(c"ics_case", move || {
                    let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
                    s.count(if r.is_ok() { &s.held } else { &s.errors });
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(s.comes(|s| s.holding.load(Relaxed) == round * HELD));
            hub.cut(dead);
            // Replies into the dark ...
            s.open();
            assert!(until(|| b.n_asked(1, Class::L0) == Some(0)));
            // ... and requests.
            for _ in 0..ASKED {
                let (net, to) = (a.net().clone(), id(2)?);
                let asker = KThread::run(c"ics_case", move || {
                    let r = call_from::<PingL2>(&net, to, &PingL2Req { n: Le64::new(1) }, &[]);
                    s.count(if r.is_ok() { &s.held } else { &s.errors });
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(until(|| a.n_waiting(2, Class::L2) == Some(ASKED)));
            assert_eq!(a.n_waiting(2, Class::L0), Some(HELD));
            assert_eq!(s.held.load(Relaxed), (round - 1) * (HELD + ASKED));
            assert_eq!(s.pings.load(Relaxed), (round - 1) * ASKED);
            silence_all_but(other, &a, &b, &mut beat)?;
            let ended = |s: &Scene| s.held.load(Relaxed) + s.errors.load(Relaxed);
            assert!(s.comes(|s| ended(s) == round * (HELD + ASKED)));
            hub.heal(dead);
            drop(askers);
            assert_eq!(s.errors.load(Relaxed), 0);
            assert_eq!(s.holding.load(Relaxed), round * HELD);
            assert_eq!(s.pings.load(Relaxed), round * ASKED);
        }
        Ok(())
    }

    /// Both streams, at both ends.
    fn has_bulk(a: &Node, b: &Node) -> bool {
        let bulk = |n: &Node, of: u32| n.net().peer(NodeId::new(of)?)?.bulk();
        bulk(a, 2).is_some() && bulk(b, 1).is_some()
    }

    fn fetch(net: &Net, to: NodeId, len: u32) -> bool {
        let req = FetchReq {
            len: Le32::new(len),
        };
        let r = call_from::<Fetch>(net, to, &req, &[]);
        r.is_ok_and(|(_, tail)| tail.len() == len as usize)
    }

    /// What was answered on one stream is forgotten by what is said on the other.
    #[test]
    fn both_streams_tell_what_arrived() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        assert!(until(|| has_bulk(&a, &b)));
        let asker = b.net().peer(id(1)?).ok_or(ENOENT)?.clone();
        for _ in 0..10 {
            assert!(fetch(a.net(), id(2)?, 100_000));
        }
        for n in 0..2 {
            let r = call_from::<PingL2>(a.net(), id(2)?, &PingL2Req { n: Le64::new(n) }, &[]);
            assert!(r.is_ok());
        }
        // The last reply is not known to have arrived.
        assert!(until(|| asker.n_answers() <= 1));
        // The other way round: bulk requests, short replies.
        let tail = KVVec::from_elem(7u8, 100_000, GFP_KERNEL)?;
        for n in 0..10 {
            let r = call_from::<PingL3>(a.net(), id(2)?, &PingL3Req { n: Le64::new(n) }, &tail);
            assert!(r.is_ok());
        }
        assert!(until(|| asker.n_answers() <= 1));
        Ok(())
    }

    /// Either stream is torn at either end while both are in use.
    #[test]
    fn a_stream_is_torn_and_each_call_is_done_once() -> Result {
        const ASKERS: u32 = 4;
        const CALLS: u32 = 10;
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let all = 3 * ASKERS * CALLS;
        for round in 0..8 {
            assert!(until(|| has_bulk(&a, &b)));
            let mut askers = KVec::new();
            for i in 0..3 * ASKERS {
                let (net, to) = (a.net().clone(), id(2)?);
                let tail = KVVec::from_elem(7u8, 50_000, GFP_KERNEL)?;
                let asker = KThread::run(c"ics_case", move || {
                    for _ in 0..CALLS {
                        let n = Le64::new(1);
                        let is_right = match i % 3 {
                            0 => call_from::<PingL3>(&net, to, &PingL3Req { n }, &tail).is_ok(),
                            1 => call_from::<PingL2>(&net, to, &PingL2Req { n }, &[]).is_ok(),
                            _ => fetch(&net, to, 50_000),
                        };
                        s.count(if is_right { &s.held } else { &s.errors });
                    }
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(s.comes(|s| s.pings.load(Relaxed) > round * all + all / 4));
            let (node, of) = if round % 2 == 0 { (&a, 2) } else { (&b, 1) };
            let peer = node.net().peer(id(of)?).ok_or(ENOENT)?;
            let torn = if round / 2 % 2 == 0 {
                peer.bulk()
            } else {
                peer.main_stream()
            };
            torn.ok_or(ENOENT)?.tear();
            let ended = |s: &Scene| s.held.load(Relaxed) + s.errors.load(Relaxed);
            assert!(s.comes(|s| ended(s) == (round + 1) * all));
            drop(askers);
            assert_eq!(s.errors.load(Relaxed), 0);
            assert_eq!(s.pings.load(Relaxed), (round + 1) * all);
        }
        Ok(())
    }

    #[test]
    fn calls_wait_for_the_first_stream_to_a_member() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let a = Node::new(&hub, 1)?;
        a.admit(2, LIFE)?;
        let (net, to) = (a.net().clone(), id(2)?);
        let asker = KThread::run(c"ics_case", move || {
            let r = call_from::<PingL1>(&net, to, &PingL1Req { n: Le64::new(1) }, &[]);
            s.count(if r.is_ok() { &s.held } else { &s.errors });
        })?;
        let peer = a.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        assert!(until(|| peer.n_waiting(Class::L1) == 1));
        let b = Node::new(&hub, 2)?;
        b.admit(1, LIFE)?;
        assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == 1));
        assert_eq!(s.errors.load(Relaxed), 0);
        drop(asker);
        // What was asked of one life does not go to the next one.
        peer.fence();
        a.admit(2, Incarnation(LIFE.0 + 1))?;
        assert_eq!(peer.n_waiting(Class::L1), 0);
        Ok(())
    }

    #[test]
    fn a_post_whose_place_is_taken_takes_no_credit() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        // The first is done; the third waits for the second; then there are two for one place, parked and done.
        for (xid, order, is_bad) in [(1, 1, false), (2, 3, false), (3, 3, true)] {
            let mut head = stranger.ping(xid);
            head.order = Le64::new(order);
            stranger.send(&head, &[0; 8])?;
            if is_bad {
                assert!(stranger.is_torn());
            } else if order == 1 {
                assert_eq!(stranger.reply(xid)?.0, 0);
            }
        }
        assert_eq!(peer.n_asked(Class::L1), 1);
        assert_eq!(s.pings.load(Relaxed), 1);
        assert_eq!(node.counters.count(Refused::Torn), 1);
        Ok(())
    }

    #[test]
    fn garbage_is_not_admitted() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        for (bytes, is_shut) in [(&[0x5a; 200][..], false), (&b"SSIH"[..], true), (&[], true)] {
            let before = node.counters.count(Refused::Admission);
            let stream = Stream::Loopback(hub.connect(id(2)?, id(1)?, 0)?);
            stream.send(&[bytes])?;
            if is_shut {
                stream.shutdown();
            }
            stream.set_receive_timeout(LIMIT_MS);
            assert_eq!(stream.receive(&mut [0]), Err(ECONNRESET));
            drop(stream);
            assert!(until(
                || node.counters.count(Refused::Admission) == before + 1
            ));
        }
        assert_eq!(s.links.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn no_member_is_answered() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        let mut stranger = Stranger::new(&hub, LIFE)?;
        let head = stranger.ping(1);
        stranger.send(&head, &41u64.to_le_bytes())?;
        stranger.stream.set_receive_timeout(500);
        assert_eq!(stranger.stream.receive(&mut [0]), Err(EAGAIN));
        assert_eq!(s.pings.load(Relaxed), 0);
        // It becomes one: what it asked is answered.
        stranger.stream.set_receive_timeout(LIMIT_MS);
        node.admit(2, LIFE)?;
        let (status, body) = stranger.reply(1)?;
        assert_eq!(status, 0);
        assert_eq!(body.as_slice(), &42u64.to_le_bytes()[..]);
        // It is none any more.
        node.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        assert!(stranger.is_torn());
        Ok(())
    }

    #[test]
    fn bad_frames_tear_the_stream() -> Result {
        type Bend = fn(&mut Head, &mut [u8; TAG]);
        let cases: [(Bend, Refused); 7] = [
            (|_, tag| tag[0] ^= 1, Refused::Tag),
            (|_, tag| tag[15] ^= 0x80, Refused::Tag),
            (|_, tag| *tag = [0; TAG], Refused::Tag),
            // After the tag was made: a changed head has a wrong tag too.
            (|h, _| h.xid = Le64::new(9), Refused::Tag),
            (|h, _| h.magic = Le32::new(0), Refused::Torn),
            (
                |h, _| h.len = Le32::new(crate::frame::MAX_BODY as u32 + 1),
                Refused::Torn,
            ),
            (|h, _| h.len = Le32::new(u32::MAX), Refused::Torn),
        ];
        for (bend, why) in cases {
            let s = Scene::begin()?;
            let (_hub, node, mut stranger) = one_node()?;
            let mut head = stranger.ping(1);
            let body = [0u8; 8];
            let mut tag = head.tag(&stranger.key_out, &body);
            bend(&mut head, &mut tag);
            stranger.stream.send(&[head.as_bytes(), &body, &tag])?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(why), 1);
            assert_eq!(s.pings.load(Relaxed), 0);
        }
        Ok(())
    }

    #[test]
    fn frames_out_of_order_tear_the_stream() -> Result {
        for bad in [0, 1, 3] {
            let s = Scene::begin()?;
            let (_hub, node, mut stranger) = one_node()?;
            let head = stranger.ping(1);
            stranger.send(&head, &[0; 8])?;
            assert_eq!(stranger.reply(1)?.0, 0);
            let mut head = stranger.ping(2);
            head.seq = Le64::new(bad);
            stranger.send(&head, &[0; 8])?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(Refused::Replay), 1);
            assert_eq!(s.pings.load(Relaxed), 1);
        }
        Ok(())
    }

    #[test]
    fn truncated_frames_do_nothing() -> Result {
        let whole = core::mem::size_of::<Head>() + 8 + TAG;
        for n in [1, 63, 64, 68, 72, whole - 1] {
            let s = Scene::begin()?;
            let (_hub, _node, mut stranger) = one_node()?;
            let head = stranger.ping(1);
            let body = [0u8; 8];
            let tag = head.tag(&stranger.key_out, &body);
            let mut bytes = KVec::new();
            for part in [head.as_bytes(), &body, &tag] {
                bytes.extend_from_slice(part, GFP_KERNEL)?;
            }
            stranger.stream.send(&[bytes.get(..n).ok_or(EINVAL)?])?;
            stranger.stream.shutdown();
            assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
            assert_eq!(s.pings.load(Relaxed), 0);
        }
        Ok(())
    }

    #[test]
    fn refused_posts_that_were_parked_are_answered() -> Result {
        let unknown = EPROTONOSUPPORT.to_errno().unsigned_abs();
        let s = Scene::begin()?;
        let (_hub, _node, mut stranger) = one_node()?;
        // As many as there are credits, all of which wait for the first.
        for place in Iterator::chain(2..=64, [1]) {
            let mut head = stranger.ping(place);
            head.service = Le16::new(0xfffe);
            head.order = Le64::new(place);
            stranger.send(&head, &[0; 8])?;
        }
        for place in 1..=64 {
            assert_eq!(stranger.reply(place)?.0, unknown);
        }
        let mut head = stranger.ping(65);
        head.order = Le64::new(65);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(65)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn bad_requests_are_answered_with_an_errno() -> Result {
        type Bend = fn(&mut Head);
        let unknown = EPROTONOSUPPORT.to_errno().unsigned_abs();
        let nonsense = EPROTO.to_errno().unsigned_abs();
        let cases: [(Bend, u32, u64); 6] = [
            (|h| h.service = Le16::new(0xfffe), unknown, 0),
            (|h| h.op = Le16::new(99), unknown, 0),
            (|h| h.version = Le16::new(6), unknown, 1),
            (|h| h.version = Le16::new(8), unknown, 2),
            (|h| h.class = Class::L2 as u8, nonsense, 2),
            // The fixed part is 8 bytes.
            (|h| h.len = Le32::new(7), nonsense, 2),
        ];
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        for (xid, (bend, status, versions)) in (1..).zip(cases) {
            let mut head = stranger.ping(xid);
            bend(&mut head);
            let body = [0u8; 8];
            let body = body.get(..head.len.get() as usize).ok_or(EINVAL)?;
            stranger.send(&head, body)?;
            assert_eq!(stranger.reply(xid)?.0, status);
            assert_eq!(node.counters.count(Refused::Version), versions);
        }
        let head = stranger.ping(99);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(99)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn an_old_incarnation_is_refused() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        let mut old = Stranger::new(&hub, Incarnation(LIFE.0 - 1))?;
        let head = old.ping(1);
        // It may be torn before it has said that.
        let _torn = old.send(&head, &[0; 8]);
        assert!(old.is_torn());
        assert_eq!(node.counters.count(Refused::Stale), 1);
        // The stream of the member is as it was.
        let head = stranger.ping(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn more_requests_than_credits_tear_the_stream() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        for xid in 1..=65 {
            let mut head = stranger.ping(xid);
            head.op = Le16::new(Hold::OP);
            head.class = Hold::CLASS as u8;
            head.len = Le32::new(0);
            stranger.send(&head, &[])?;
        }
        assert!(stranger.is_torn());
        assert_eq!(node.counters.count(Refused::Torn), 1);
        assert!(s.comes(|s| s.holding.load(Relaxed) == 8));
        s.open();
        Ok(())
    }
}
