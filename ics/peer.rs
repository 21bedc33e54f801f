// SPDX-License-Identifier: GPL-2.0

//! Another node as the transport sees it: here its stream and its membership, in `asking` the calls that wait for it, in
//! `answering` those of its that are answered here, in `kept` what is kept of them. All are one table under one lock.
//!
//! A call survives its stream: it is sent again, under the same number, on the next one to the same incarnation. The
//! answering side keeps each reply until the asker has seen it, so that what was done once is not done again. Posts are
//! calls that nobody waits for; they carry their place in the order of their class, and are done in that order.

use crate::error::CallError;
use crate::frame::Head;
use crate::frame::Kind;
use crate::handshake::ID;
use crate::hearing::Hearing;
use crate::lane;
use crate::lane::Side;
use crate::lane::SHORT;
use crate::link::Link;
use crate::pool::Order;
use crate::pool::Pool;
use crate::pool::Queued;
use crate::service::Class;
use crate::service::OpId;
use crate::stats;
use crate::stats::LinkStats;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::atomic::Release;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use kernel::sync::SpinLockIrq;
use ssi::fifo::Fifo;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::net::Ipv4;
use ssi::reserve::Reserve;
use ssi::reserve::Shared;
use ssi::table::Entries;
use ssi::table::Table;
use ssi::wait::Event;

mod answering;
mod asking;
mod beside;
mod kept;
mod opening;
mod waiting;

pub(crate) use answering::Begin;
pub(crate) use asking::Asked;
pub(crate) use asking::Pending;
use beside::Beside;
use kept::Answer;
use kept::Kept;
use kept::Posts;
pub(crate) use kept::Reply;
pub(crate) use kept::RequestId;

/// Calls of one class that may wait for one peer at once; more wait for a credit. Not for P.
const CREDITS: u32 = 64;

/// The same for P, where it only bounds what a peer can make us keep.
const CREDITS_P: u32 = 1 << 14;

/// Requests of one class that are kept for one peer at once, answered or not: so many are open, as many more may seem to be, whose
/// cancel was overtaken by who has their credit, so many were open when the stream began, and of the rest the peer has not said yet
/// that it has seen the reply. A peer with more does not say it. Those that were given up, and have no credit, do not count, but if
/// there are so many with them further calls are refused. A peer that gives up these too, and does not see that they are refused,
/// has twice as many at most.
const fn most_kept(class: usize) -> u32 {
    4 * credits(class)
}

const fn credits(class: usize) -> u32 {
    if class == Class::P as usize {
        CREDITS_P
    } else {
        CREDITS
    }
}

/// Small pieces of memory that are kept for calls of class L4 with a peer. At most so many are under way: of each call that has a
/// credit an entry, its frame and its cancel; of each that is answered, until the peer has said that the reply arrived, an entry,
/// the reply and its frame, all had when it comes, and until then a place in a queue; of each that seems not to be answered yet one
/// among the posts.
///
/// More are under way where callers that are answered have not run yet, where calls were given up whose frames a stream has no room
/// for, and where the peer keeps to no rule: whoever needs one of that peer's then, asking it or receiving from it, waits.
const N_SMALL: u32 = (3 + 3 * 4 + 4 + 2) * CREDITS;

/// Large ones: of each call that has a credit itself and its body, of each that is kept its body, until it is answered.
const N_LARGE: u32 = (2 + 4) * CREDITS;

/// Bytes of long bodies of one class that may be under way to one peer at once, and bytes of replies of one class that are kept
/// for it: beyond that, calls wait. Of requests that were given up as many more are kept.
const fn most_bytes(class: usize) -> usize {
    if class == Class::P as usize {
        32 << 20
    } else {
        8 << 20
    }
}

/// What a body of `len` bytes counts of that. Short ones are bounded by their number, and wait for no long ones: what is asked
/// with a long one may block until something is asked with a short one.
pub(crate) const fn long_bytes(len: usize) -> usize {
    if len > SHORT {
        len
    } else {
        0
    }
}

struct State {
    /// The incarnation that `clms` admitted. `None`: no member; nothing is asked or answered.
    member: Option<Incarnation>,
    /// The main stream, and the incarnation at its other end.
    link: Option<(Arc<Link>, Incarnation)>,
    /// The name of the stream, or of the last one ...
    main: [u8; ID],
    /// ... and how many there were.
    n_attached: u64,
    /// The streams beside it, which come and go with it.
    beside: [Beside; Side::ALL.len()],
    /// The transport stops: there is no stream any more.
    is_closed: bool,
    /// The incarnation that all below, and the stream, is about. The member, if there is one.
    about: Option<Incarnation>,
    /// Counts those, so that what was begun for one does not end in another.
    epoch: u64,
    /// The last serial number that a request of the peer was given, in any of its lives ...
    n_requests: u64,
    /// ... and in those before this one.
    n_before: u64,
    next_xid: u64,
    /// Main streams to the peer so far, as this node counts them ...
    n_streams: u64,
    /// ... and the highest number that the peer has given to one.
    opened: u64,
    /// What the peer says first on the main stream has been dealt with.
    is_opened: bool,
    /// Place of the last post of each class.
    posted: [u64; Class::N],
    pending: Table<Shared<Pending>>,
    waiting: [u32; Class::N],
    /// Their [`long_bytes`].
    waiting_bytes: [usize; Class::N],
    answers: Table<Kept>,
    /// How many those are, by class ...
    kept: [u32; Class::N],
    /// ... and how many of them are calls that were given up.
    left: [u32; Class::N],
    /// Requests of each class that the peer waits for.
    asked: [u32; Class::N],
    /// [`long_bytes`] of those whose handler has not ended, wanted or not.
    held_bytes: [usize; Class::N],
    /// Bytes of the replies that are kept.
    reply_bytes: [usize; Class::N],
    /// Somebody waits until fewer are.
    is_waited_for: bool,
    /// Calls that begin then.
    parked: [Fifo<Order>; Class::N],
    posts: [Posts; Class::N],
    /// Posts that wait for earlier ones, by [`kept::place`].
    early: Table<Queued>,
}

/// Another node.
#[pin_data]
pub(crate) struct Peer {
    /// Its number.
    pub(crate) node: NodeId,
    /// Its addresses, one per link.
    pub(crate) addresses: KVec<Ipv4>,
    /// Its port.
    pub(crate) port: u16,
    /// The version of the protocol that both speak; 0: not known yet.
    version: Atomic<u32>,
    /// 1: the transport stops, or the node is not in the table any more.
    closed: Atomic<u32>,
    /// Who answers its requests.
    pub(crate) pool: Arc<Pool>,
    /// What short calls of class L4 are made of, in both directions.
    reserve: Arc<Reserve>,
    /// What came of each of its links, and at the end of streams of which the link is not known.
    pub(crate) links: KVec<Arc<LinkStats>>,
    /// Held from a change of the main stream until `clms` is told of it, so that it is told in the order of the changes.
    /// Lock: level 11 `ics::turn`, mutex.
    #[pin]
    pub(crate) turn: Mutex<()>,
    /// Which of its links are silent. Lock: level 15 `ics::hearing`, spin; a leaf.
    #[pin]
    hearing: SpinLock<Hearing>,
    /// Lock: level 14 `ics::peer`, spin, taken in softirqs.
    #[pin]
    state: SpinLockIrq<State>,
    /// Told when a credit comes back, the peer is admitted or fenced, or the stream comes or goes.
    #[pin]
    changed: Event,
    /// Told when fewer replies of class P are kept, or one that waits is not wanted any more.
    #[pin]
    has_room: Event,
}

/// Everything that was taken out of a peer under its lock and is ended after unlocking.
#[derive(Default)]
struct Ended {
    pending: Entries<Shared<Pending>>,
    _answers: Entries<Kept>,
    links: [Option<Arc<Link>>; lane::N],
    _early: Entries<Queued>,
    _parked: [Fifo<Order>; Class::N],
}

impl Peer {
    /// A node that has not been heard of.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        node: NodeId,
        addresses: KVec<Ipv4>,
        port: u16,
        pool: Arc<Pool>,
    ) -> Result<Arc<Self>> {
        let state = State {
            member: None,
            link: None,
            main: [0; ID],
            n_attached: 0,
            beside: Beside::NONE,
            is_closed: false,
            about: None,
            epoch: 0,
            n_requests: 0,
            n_before: 0,
            next_xid: 1,
            n_streams: 0,
            opened: 0,
            is_opened: false,
            posted: [0; Class::N],
            pending: Table::new()?,
            waiting: [0; Class::N],
            waiting_bytes: [0; Class::N],
            answers: Table::new()?,
            kept: [0; Class::N],
            left: [0; Class::N],
            asked: [0; Class::N],
            held_bytes: [0; Class::N],
            reply_bytes: [0; Class::N],
            is_waited_for: false,
            parked: [const { Fifo::new() }; Class::N],
            posts: [Posts::NONE; Class::N],
            early: Table::new()?,
        };
        let reserve = Reserve::new(N_SMALL, N_LARGE)?;
        let hearing = Hearing::new(addresses.len());
        let mut links = KVec::new();
        for _ in 0..=addresses.len() {
            links.push(Arc::new(LinkStats::new(), GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                node,
                addresses,
                port,
                version: Atomic::new(0),
                closed: Atomic::new(0),
                pool,
                reserve,
                links,
                turn <- kernel::new_mutex!((), "ics::turn"),
                hearing <- kernel::new_spinlock!(hearing, "ics::hearing"),
                state <- kernel::new_spinlock_irq!(state, "ics::peer"),
                changed <- Event::new(),
                has_room <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Whose memory what belongs to a call of a class is.
    pub(crate) fn home(&self, class: Class) -> Option<&Arc<Reserve>> {
        (class == Class::L4).then_some(&self.reserve)
    }

    /// Whose memory the body of a frame with this head is, which is not proved yet.
    pub(crate) fn home_of(&self, head: &Head) -> Option<&Arc<Reserve>> {
        let is_request = Kind::from_wire(head.kind) == Some(Kind::Request);
        let op = OpId::of_request(head).filter(|_| is_request)?;
        self.home(op.class)
    }

    /// A stream was begun with it in that version. Says so if this node speaks a newer one.
    pub(crate) fn agreed(&self, version: u16, newest: u16) {
        let old = self.version.xchg(version.into(), Relaxed);
        if version < newest && old != version.into() {
            pr_info!(
                "node {} is of an older release: version {} of the protocol, {} here\n",
                self.node.number(),
                version,
                newest
            );
        }
    }

    /// The version of the protocol that both speak, once there was a stream.
    pub(crate) fn version(&self) -> Option<u16> {
        let version = self.version.load(Relaxed);
        u16::try_from(version).ok().filter(|v| *v != 0)
    }

    /// Whether `clms` has admitted it.
    pub(crate) fn is_member(&self) -> bool {
        self.state.lock().member.is_some()
    }

    /// The stream, if there is one.
    fn link(&self) -> Option<Arc<Link>> {
        let s = self.state.lock();
        s.link.as_ref().map(|(l, _)| l.clone())
    }

    /// The main stream.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn main_stream(&self) -> Option<Arc<Link>> {
        self.link()
    }

    /// A stream beside it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn stream_beside(&self, side: Side) -> Option<Arc<Link>> {
        self.state.lock().on(Some(side)).cloned()
    }

    /// What short calls of class L4 are made of.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// How many requests of the peer are kept, waiting, running or answered.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_answers(&self) -> usize {
        self.state.lock().answers.len()
    }

    /// How many of them are answered.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_answered(&self) -> usize {
        let s = self.state.lock();
        let answered = s.answers.iter().filter(|(_, k)| k.is_answered());
        answered.count()
    }

    /// How many calls and posts of a class have a credit.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_waiting(&self, class: Class) -> u32 {
        self.state.lock().waiting[class as usize]
    }

    /// Bytes of bodies of a class that are kept for the peer: of requests of its, and of replies.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_bytes(&self, class: Class) -> (usize, usize) {
        let (s, c) = (self.state.lock(), class as usize);
        (s.held_bytes[c], s.reply_bytes[c])
    }

    /// How many requests of a class the peer waits for.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_asked(&self, class: Class) -> u32 {
        self.state.lock().asked[class as usize]
    }

    /// A stream has passed admission: says on it which calls are open, and sends those.
    ///
    /// # Errors
    /// `ESTALE` for an older incarnation than one seen; `EAGAIN` while another incarnation is a member; `ESHUTDOWN` once
    /// the transport stops; `ENOMEM`; `EPIPE`.
    pub(crate) fn attach(&self, link: &Arc<Link>, incarnation: Incarnation) -> Result {
        let said = self.say_open(link, incarnation)?;
        let (old, end) = {
            let mut s = self.state.lock();
            s.admits(incarnation)?;
            // Of a member nothing ends here: what was asked since it was admitted waits for this stream.
            let mut old = s.turn_to(incarnation);
            if s.link.is_some() {
                old.links = s.take_streams();
            }
            s.link = Some((link.clone(), incarnation));
            s.main = link.id;
            s.n_attached += 1;
            s.is_opened = false;
            (old, s.next_xid)
        };
        old.end(self);
        link.stats.streams.add(1);
        self.changed.notify_all();
        // In the order of their numbers; later ones are sent by who asks.
        for xid in Iterator::chain(said.numbers(), said.next..end) {
            self.send_again(link, xid)?;
        }
        Ok(())
    }

    /// A stream is torn, and so are those beside it: what was lost with it is sent again on the next ones. Returns whether it
    /// was the main one.
    pub(crate) fn detach(&self, link: &Arc<Link>) -> bool {
        let (all, was_main) = {
            let mut s = self.state.lock();
            if s.is_main(link) {
                (s.take_streams(), true)
            } else if s.is_current(link) {
                // Not taken out: that is left to who serves the main one.
                (s.lose_beside(link), false)
            } else {
                ([const { None }; lane::N], false)
            }
        };
        for stream in all.iter().flatten() {
            stream.tear();
        }
        // Also for who waits with a frame of one of them.
        self.changed.notify_all();
        was_main
    }

    /// An incarnation of the peer was heard: a stream to an earlier one that is no member is of no use. Returns whether there
    /// is one, which [`Self::condemned`] gives then.
    pub(crate) fn heard(&self, incarnation: Incarnation) -> bool {
        let s = self.state.lock();
        match &s.link {
            Some((l, i)) if *i < incarnation && s.member.is_none() => {
                l.condemn();
                true
            }
            _ => false,
        }
    }

    /// Tears a stream, also where a frame of it waits until its sender is a member.
    pub(crate) fn tear(&self, stream: &Link) {
        stream.tear();
        self.changed.notify_all();
    }

    /// Of streams that were begun with a key that is not heard any more, none goes on: [`Self::condemned`] gives it then.
    pub(crate) fn keep_keys(&self, is_heard: impl Fn(u64) -> bool) {
        let s = self.state.lock();
        let Some((main, _)) = &s.link else {
            return;
        };
        if !s.streams().all(|l| is_heard(l.print)) {
            main.condemn();
        }
    }

    /// The stream, if it is to be torn and nobody was told so before.
    pub(crate) fn condemned(&self) -> Option<Arc<Link>> {
        let s = self.state.lock();
        let main = s.link.as_ref().map(|(l, _)| l);
        // Looked at in a wait: no reference is let go of here.
        main.filter(|l| l.take_condemned()).cloned()
    }

    /// The number of the link on which the node has an address.
    pub(crate) fn link_of(&self, address: Ipv4) -> Option<usize> {
        self.addresses.iter().position(|a| *a == address)
    }

    /// Where a stream over that link counts.
    pub(crate) fn stats_of(&self, over: Option<usize>) -> Option<Arc<LinkStats>> {
        let known = over.and_then(|l| self.links.get(l));
        known.or(self.links.last()).cloned()
    }

    /// Whether a link carries the stream, and whether it is silent.
    pub(crate) fn state_of(&self, link: usize) -> (bool, bool) {
        let carries = self.link().is_some_and(|s| s.over == Some(link));
        (carries, self.hearing.lock().is_silent(link))
    }

    /// The link to connect over after an attempt over `after`.
    pub(crate) fn next_link(&self, after: Option<usize>) -> usize {
        self.hearing.lock().next(after)
    }

    /// Whether a heartbeat that is not the newest is the newest of its link.
    pub(crate) fn is_new_on(&self, link: usize, incarnation: Incarnation, beat: u64) -> bool {
        self.hearing.lock().is_new_on(link, incarnation.0, beat)
    }

    /// A link brought a heartbeat. If the stream is on a link that misses what this one brings, it is to be torn: the calls
    /// that wait go out again on the next stream, which goes over another link. Returns whether it is;
    /// [`Self::condemned`] gives it then.
    pub(crate) fn heard_on(&self, link: usize, incarnation: Incarnation, beat: u64) -> bool {
        if self.addresses.len() < 2 {
            return false;
        }
        let stream = self.link();
        let is_silent = {
            let mut hearing = self.hearing.lock();
            hearing.heard(link, incarnation.0, beat);
            let over = stream.as_ref().and_then(|s| s.over);
            over.is_some_and(|l| hearing.is_silent(l))
        };
        if let Some(stream) = stream.filter(|_| is_silent) {
            stream.condemn();
        }
        is_silent
    }

    /// `clms` says that this incarnation is a member.
    pub(crate) fn admit(&self, incarnation: Incarnation) {
        let ended = {
            let mut s = self.state.lock();
            s.member = Some(incarnation);
            s.turn_to(incarnation)
        };
        ended.end(self);
        self.changed.notify_all();
    }

    /// `clms` says that it is down: every call to it ends, nothing of it is answered any more.
    pub(crate) fn fence(&self) {
        let ended = {
            let mut s = self.state.lock();
            s.member = None;
            s.end_all()
        };
        // Its next life may be of another release.
        self.version.store(0, Relaxed);
        ended.end(self);
        self.changed.notify_all();
    }

    /// Whether there is no stream to it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Acquire) != 0
    }

    /// The transport stops, or the node goes: as [`Self::fence`], and no stream is attached any more.
    pub(crate) fn close(&self) {
        self.closed.store(1, Release);
        self.state.lock().is_closed = true;
        self.fence();
    }
}

impl State {
    /// Whether a stream to that incarnation may come.
    ///
    /// # Errors
    /// See [`Peer::attach`].
    fn admits(&self, incarnation: Incarnation) -> Result {
        if self.is_closed {
            return Err(ESHUTDOWN);
        }
        if self.about.is_some_and(|a| incarnation < a) {
            return Err(ESTALE);
        }
        if self.member.is_some_and(|m| m != incarnation) {
            return Err(EAGAIN);
        }
        Ok(())
    }

    /// Whether this is the main stream.
    fn is_main(&self, link: &Arc<Link>) -> bool {
        self.link
            .as_ref()
            .is_some_and(|(l, _)| Arc::ptr_eq(l, link))
    }

    /// Whether this is one of the streams.
    fn is_current(&self, link: &Arc<Link>) -> bool {
        self.on(link.side).is_some_and(|l| Arc::ptr_eq(l, link))
    }

    /// A stream: one beside the main one, or that.
    fn on(&self, side: Option<Side>) -> Option<&Arc<Link>> {
        match side {
            None => self.link.as_ref().map(|(l, _)| l),
            Some(side) => self.beside(side).stream(),
        }
    }

    /// All streams.
    fn streams(&self) -> impl Iterator<Item = &Arc<Link>> {
        lane::ALL.into_iter().filter_map(|side| self.on(side))
    }

    /// The stream for a frame about a call of a class, with a body of `len` bytes.
    fn stream_for(&self, class: Class, len: usize) -> Option<Arc<Link>> {
        let beside = Side::of_frame(class, len).and_then(|side| self.on(Some(side)));
        beside.or(self.on(None)).cloned()
    }

    /// Takes out all streams.
    fn take_streams(&mut self) -> [Option<Arc<Link>>; lane::N] {
        let [control, bulk] = core::mem::replace(&mut self.beside, Beside::NONE);
        let main = self.link.take().map(|(l, _)| l);
        [main, control.into_stream(), bulk.into_stream()]
    }

    /// Makes the tables be about an incarnation: ends what is about another one.
    fn turn_to(&mut self, incarnation: Incarnation) -> Ended {
        if self.about == Some(incarnation) {
            return Ended::default();
        }
        self.about = Some(incarnation);
        self.end_all()
    }

    /// Empties the tables: takes each whole, so that nothing is allocated or freed here.
    fn end_all(&mut self) -> Ended {
        self.epoch += 1;
        self.n_before = self.n_requests;
        self.waiting = [0; Class::N];
        self.waiting_bytes = [0; Class::N];
        self.asked = [0; Class::N];
        self.kept = [0; Class::N];
        self.left = [0; Class::N];
        self.held_bytes = [0; Class::N];
        self.reply_bytes = [0; Class::N];
        self.is_waited_for = false;
        self.opened = 0;
        self.posted = [0; Class::N];
        self.posts = [Posts::NONE; Class::N];
        let answers = self.answers.take();
        for (_, a) in answers.iter() {
            if let Answer::Running(thread) = &a.answer {
                // SAFETY: The entry says so until its handler has ended: `finish` and `goes_on_without_thread` take the lock that our
                // caller holds before the thread goes on.
                unsafe { thread.interrupt() }
            }
        }
        Ended {
            pending: self.pending.take(),
            _answers: answers,
            links: self.take_streams(),
            _early: self.early.take(),
            _parked: self.parked.each_mut().map(Fifo::take),
        }
    }
}

impl Ended {
    /// Wakes those who wait, tears the streams, and frees the rest.
    fn end(self, peer: &Peer) {
        for (_, p) in self.pending.iter() {
            peer.count_end(p, stats::Ended::Lost, 0);
            p.end(Err(CallError::Down(peer.node)));
        }
        for link in self.links.iter().flatten() {
            link.tear();
        }
        peer.has_room.notify_all();
    }
}
