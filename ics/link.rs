// SPDX-License-Identifier: GPL-2.0

//! One stream to another node, after admission: frames with sequence numbers and tags.
//!
//! Whoever has a frame queues it and sends as much of the queue as the socket takes at once. What it does not take is
//! left to the stream's own thread: neither a caller (a signal would tear the stream) nor the receiving thread (two
//! nodes whose receivers both send would wait for each other) ever waits for room.

use crate::admission::Session;
use crate::bytes;
use crate::bytes::Bytes;
use crate::frame;
use crate::frame::Bad;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::TAG;
use crate::handshake::ID;
use crate::lane;
use crate::lane::Side;
use crate::peer::Pending;
use crate::peer::Reply;
use crate::peer::RequestId;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::refused::Source;
use crate::stats::LinkStats;
use crate::transport::Stream;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::atomic::Release;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLockIrq;
use ssi::crypto::BodySum;
use ssi::crypto::FrameKey;
use ssi::fifo::Fifo;
use ssi::fifo::Node;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::machine;
use ssi::net::How;
use ssi::pages;
use ssi::reserve::Reserve;
use ssi::reserve::Shared;
use ssi::reserve::Slot;
use ssi::wait::Event;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// So long may the head of a frame take, each piece of its body, and its tag: then the stream is torn. One bit of a length makes a
/// receiver wait for what nobody sends, and whatever comes next is taken for the rest of that frame.
pub(crate) const PIECE_MS: u32 = 5000;

/// After so long no other piece of a body is begun.
const BODY_MS: u64 = 10_000;

/// The bytes behind a head, kept by whoever may have to send them again.
#[derive(Clone)]
pub(crate) enum Body {
    /// None.
    Empty,
    /// A request's.
    Request(Shared<Pending>),
    /// A reply's.
    Reply(Shared<Reply>),
    /// The numbers of open calls.
    Open(Arc<KVVec<u8>>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Request(p) => &p.body,
            Self::Reply(r) => &r.body,
            Self::Open(numbers) => numbers,
        }
    }

    /// Whether the socket can send it without a copy: nobody writes to it any more.
    fn is_of_pages(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::Request(p) => p.body.is_of_pages(),
            Self::Reply(r) => r.body.is_of_pages(),
            Self::Open(numbers) => pages::is_of_pages(numbers),
        }
    }
}

/// What waits to be sent.
pub(crate) struct Frame {
    head: Head,
    body: Body,
}

/// Memory for a frame in the queue.
pub(crate) type Place = Slot<Node<Frame>>;

/// A frame of which a part has been sent.
struct Partly {
    head: Head,
    body: Body,
    /// Of a long one it is made while what is before it is on its way.
    tag: Option<[u8; TAG]>,
    sent: usize,
}

struct Sender {
    /// Number of the last frame begun.
    seq: u64,
    now: Option<Partly>,
}

struct Waiting {
    frames: Fifo<Frame>,
    /// Replies begun, by number: until the other end says that it has seen them.
    replies: Fifo<Frame>,
    /// That of [`Link::tell`], unless it is in the queue.
    telling: Option<Place>,
    /// The socket has no room: the stream's thread waits for some.
    blocked: bool,
    torn: bool,
}

enum Drained {
    All,
    NoRoom,
    Torn,
}

/// So many bytes are dealt with before the other end is told in a frame of its own. Less than it keeps for this node at most
/// ([`crate::peer`]), so that it never waits for what nobody says; more than a call, so that a call after the other needs none.
const TELL_BYTES: u64 = 2 << 20;

/// The number of the last frame that was dealt with on each of the streams of a pair: every frame tells all.
struct Seen([Atomic<u64>; lane::N]);

impl Seen {
    const fn new() -> Self {
        Self([const { Atomic::new(0) }; lane::N])
    }

    /// That of one stream.
    fn on(&self, side: Option<Side>) -> &Atomic<u64> {
        // PANIC: `place` is below the number of lanes.
        &self.0[lane::place(side)]
    }

    /// As a head tells them.
    fn to_wire(&self) -> [Le64; lane::N] {
        self.0.each_ref().map(|n| Le64::new(n.load(Relaxed)))
    }
}

/// What this end has seen on all streams of a pair.
struct Dealt {
    seen: Seen,
    /// Bytes of those frames since the last one was begun that tells of them.
    untold: Atomic<u64>,
}

impl Dealt {
    const fn new() -> Self {
        Self {
            seen: Seen::new(),
            untold: Atomic::new(0),
        }
    }

    /// For the head of a frame that is begun now.
    fn tell(&self) -> [Le64; lane::N] {
        // In this order: what comes in between is told, and counted once more.
        if self.untold.load(Relaxed) != 0 {
            self.untold.xchg(0, Full);
        }
        self.seen.to_wire()
    }
}

/// It is of use.
const NOT_CONDEMNED: u32 = 0;

/// It is to be torn.
const CONDEMNED: u32 = 1;

/// Somebody was told to tear it.
const TOLD: u32 = 2;

/// A stream.
#[pin_data]
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) node: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// Which of the node's links it is on, if that is known.
    pub(crate) over: Option<usize>,
    key_out: FrameKey,
    key_in: FrameKey,
    pub(crate) stream: Stream,
    counters: Arc<Counters>,
    /// What its link came to.
    pub(crate) stats: Arc<LinkStats>,
    /// Somebody queued a frame since the queue was last looked at.
    wanted: Atomic<u32>,
    /// Whether it is to be torn by somebody who may wait for its socket: one of the three below.
    doom: Atomic<u32>,
    /// The version of the protocol.
    pub(crate) version: u16,
    /// Fingerprint of the cluster key that it was begun with.
    pub(crate) print: u64,
    /// Its name at both ends.
    pub(crate) id: [u8; ID],
    /// Which one it is, if it is beside the main one.
    pub(crate) side: Option<Side>,
    dealt: Arc<Dealt>,
    /// The most that the other end has said, on this one, that it has seen.
    heard: Seen,
    /// Lock: level 16 `ics::send`, mutex: the socket's way out. Not waited for, except by the stream's thread.
    #[pin]
    sender: Mutex<Sender>,
    /// Lock: level 17 `ics::frames`, spin, taken in softirqs.
    #[pin]
    waiting: SpinLockIrq<Waiting>,
    #[pin]
    room: Event,
}

impl Link {
    /// A stream that has passed admission, on one of the other node's links.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        stream: Stream,
        session: Session,
        over: Option<usize>,
        counters: Arc<Counters>,
        stats: Arc<LinkStats>,
    ) -> Result<Arc<Self>> {
        let dealt = Arc::new(Dealt::new(), GFP_KERNEL)?;
        Self::make(stream, session, over, counters, stats, dealt, None)
    }

    /// A stream beside this main one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn beside(&self, side: Side, stream: Stream, session: Session) -> Result<Arc<Self>> {
        let (counters, stats) = (self.counters.clone(), self.stats.clone());
        let dealt = self.dealt.clone();
        stream.set_for(side);
        Self::make(
            stream,
            session,
            self.over,
            counters,
            stats,
            dealt,
            Some(side),
        )
    }

    fn make(
        stream: Stream,
        session: Session,
        over: Option<usize>,
        counters: Arc<Counters>,
        stats: Arc<LinkStats>,
        dealt: Arc<Dealt>,
        side: Option<Side>,
    ) -> Result<Arc<Self>> {
        let waiting = Waiting {
            frames: Fifo::new(),
            replies: Fifo::new(),
            telling: Some(Slot::new(GFP_KERNEL)?),
            blocked: false,
            torn: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                node: session.node,
                incarnation: session.incarnation,
                over,
                key_out: FrameKey::new(&session.key_out),
                key_in: FrameKey::new(&session.key_in),
                stream,
                counters,
                stats,
                wanted: Atomic::new(0),
                doom: Atomic::new(NOT_CONDEMNED),
                version: session.version,
                print: session.print,
                id: session.id,
                side,
                dealt,
                heard: Seen::new(),
                sender <- kernel::new_mutex!(Sender { seq: 0, now: None }, "ics::send"),
                waiting <- kernel::new_spinlock_irq!(waiting, "ics::frames"),
                room <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Queues a frame, in that memory, and sends it, unless others wait before it. Does not sleep long; not for softirqs.
    ///
    /// # Errors
    /// `EPIPE`: the stream is torn. A frame that was queued may still not arrive.
    pub(crate) fn send(&self, place: Place, head: Head, body: Body) -> Result {
        let node = Node::fill(place, Frame { head, body });
        {
            let mut w = self.waiting.lock();
            if w.torn {
                return Err(EPIPE);
            }
            w.frames.push_back(node);
        }
        self.flush();
        Ok(())
    }

    /// Sends what is queued and can go at once, unless somebody is at it: then they do.
    fn flush(&self) {
        // Ordering: a frame is queued before `wanted` is set, and `wanted` is read after the sender is unlocked. Either
        // we get the sender, or its holder sees `wanted`.
        self.wanted.xchg(1, Full);
        while let Some(mut sender) = self.sender.try_lock() {
            self.wanted.xchg(0, Full);
            match self.drain(&mut sender, false) {
                Drained::All => {}
                Drained::Torn => return,
                Drained::NoRoom => {
                    self.waiting.lock().blocked = true;
                    self.room.notify_all();
                    return;
                }
            }
            drop(sender);
            // A full barrier, so that the unlocking is seen by whoever sets `wanted` after this looked at it.
            if self.wanted.fetch_add(0, Full) == 0 {
                return;
            }
        }
    }

    /// Whether a frame is on its way, or would be if the stream were there. Waits while the thread is at it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn is_sending(&self) -> bool {
        self.sender.lock().now.is_some()
    }

    /// The stream's thread: sends what had no room. Returns when the stream is torn.
    pub(crate) fn send_waiting(&self) {
        loop {
            let mut torn = false;
            self.room.wait_until(|| {
                let w = self.waiting.lock();
                torn = w.torn;
                w.torn || w.blocked
            });
            if torn {
                // Whoever is at it has a socket that is shut down; nobody begins another frame.
                self.sender.lock().now = None;
                return;
            }
            {
                let mut sender = self.sender.lock();
                if matches!(self.drain(&mut sender, true), Drained::Torn) {
                    return;
                }
                self.waiting.lock().blocked = false;
            }
            self.flush();
        }
    }

    fn drain(&self, sender: &mut Sender, wait: bool) -> Drained {
        loop {
            if sender.now.is_none() && !self.begin(sender) {
                return Drained::All;
            }
            let Some(now) = sender.now.as_mut() else {
                return Drained::All;
            };
            let tag = now.tag.as_ref().map_or(&[][..], |t| t);
            let mut parts: [&[u8]; 3] = [now.head.as_bytes(), now.body.bytes(), tag];
            let mut skip = now.sent;
            let mut left = 0;
            for part in parts.iter_mut() {
                let n = skip.min(part.len());
                *part = part.get(n..).unwrap_or(&[]);
                skip -= n;
                left += part.len();
            }
            let in_pages = now.body.is_of_pages().then_some(1);
            let is_whole = now.tag.is_some();
            let how = How {
                in_pages,
                more: !is_whole,
                wait,
            };
            let r = self.stream.send_some(&parts, how);
            if now.tag.is_none() {
                now.tag = Some(now.head.tag(&self.key_out, now.body.bytes()));
            }
            match r {
                Ok(n) if n == left && is_whole => {
                    self.stats.sent(now.sent + n);
                    sender.now = None;
                }
                Ok(n) if n > 0 && n <= left => now.sent += n,
                Err(e) if e == EAGAIN && !wait => return Drained::NoRoom,
                Err(e) if e == EAGAIN => {}
                _ => {
                    self.tear();
                    sender.now = None;
                    return Drained::Torn;
                }
            }
        }
    }

    /// Takes the next frame out of the queue and gives it its number and tag. Returns whether there was one.
    fn begin(&self, sender: &mut Sender) -> bool {
        let (mut head, body) = {
            let mut w = self.waiting.lock();
            let Some(mut node) = w.frames.pop_front() else {
                return false;
            };
            sender.seq += 1;
            node.value.head.seq = Le64::new(sender.seq);
            let (head, body) = (node.value.head, node.value.body.clone());
            match body {
                Body::Reply(_) => w.replies.push_back(node),
                _ if Kind::from_wire(head.kind) == Some(Kind::Seen) => {
                    w.telling = Some(node.into_slot().0)
                }
                // Freed here, which is short.
                _ => {}
            }
            (head, body)
        };
        // CAST: a body is at most MAX_BODY long.
        head.len = Le32::new(body.bytes().len() as u32);
        head.seen = self.dealt.tell();
        let is_long = body.bytes().len() > FrameKey::PIECE;
        let tag = (!is_long).then(|| head.tag(&self.key_out, body.bytes()));
        sender.now = Some(Partly {
            head,
            body,
            tag,
            sent: 0,
        });
        true
    }

    /// How far the other end has seen each stream, as a frame that came on this one says: those of which it had not said so
    /// much before. Only who has the frame asks.
    pub(crate) fn news<'a>(
        &'a self,
        head: &'a Head,
    ) -> impl Iterator<Item = (Option<Side>, u64)> + 'a {
        lane::ALL.into_iter().filter_map(|side| {
            // PANIC: `place` is below the number of lanes.
            let seen = head.seen[lane::place(side)].get();
            let heard = self.heard.on(side);
            let is_more = seen > heard.load(Relaxed);
            if is_more {
                heard.store(seen, Relaxed);
            }
            is_more.then_some((side, seen))
        })
    }

    /// The requests whose replies have arrived at the other end, now that it has seen all frames up to `seen`.
    pub(crate) fn arrived(&self, seen: u64) -> Arrived {
        let mut out = Fifo::new();
        let mut w = self.waiting.lock();
        while w.replies.front().is_some_and(|f| f.head.seq.get() <= seen) {
            if let Some(node) = w.replies.pop_front() {
                out.push_back(node);
            }
        }
        Arrived(out)
    }

    /// Whether a frame that came is the first of a main stream.
    pub(crate) fn is_first(&self, head: &Head) -> bool {
        self.side.is_none() && head.seq.get() == 1
    }

    /// Counts and logs what the other end said.
    pub(crate) fn refuse(&self, why: Refused, what: &dyn fmt::Display) {
        let from = Source {
            node: Some(self.node),
            address: self.stream.peer(),
        };
        self.counters.refuse(why, &from, what);
    }

    /// Head and body of a whole frame, if its number is `seq` and its tag is right.
    pub(crate) fn open<'a>(&self, frame: &'a [u8], seq: u64) -> Option<(Head, &'a [u8])> {
        frame::open(frame, &self.key_in, seq)
    }

    /// Receives the next frame; a long one into what `room` gives for its head, if that is something, a short one into memory of
    /// what `home` gives. Sleeps.
    ///
    /// # Errors
    /// `EPROTO`, `EBADMSG` for what no honest peer sends; `EAGAIN`: its end did not come in time; those of the socket. The
    /// stream is torn.
    pub(crate) fn receive(
        &self,
        seq: u64,
        room: impl FnOnce(&Head) -> Option<KVVec<u8>>,
        home: impl FnOnce(&Head) -> Option<Arc<Reserve>>,
    ) -> Result<(Head, Bytes)> {
        self.receive_all(seq, room, home).inspect_err(|e| {
            if *e == EAGAIN {
                self.refuse(Refused::Torn, &"a frame whose end does not come");
            }
        })
    }

    fn receive_all(
        &self,
        seq: u64,
        room: impl FnOnce(&Head) -> Option<KVVec<u8>>,
        home: impl FnOnce(&Head) -> Option<Arc<Reserve>>,
    ) -> Result<(Head, Bytes)> {
        let mut start = [0u8; core::mem::size_of::<Head>()];
        self.stream.receive(&mut start)?;
        if Head::frame_length(&start).is_none() {
            self.refuse(Refused::Torn, &"no frame, or one that is too long");
            return Err(EPROTO);
        }
        let head = Head::read_from_bytes(&start).map_err(|_| EPROTO)?;
        let len = head.len.get() as usize;
        if len <= bytes::SHORT {
            let body = self.receive_short(seq, &head, len, home)?;
            return Ok((head, body));
        }
        let body = self.receive_long(seq, &head, len, room)?;
        Ok((head, body.into()))
    }

    /// The rest of a frame whose body needs no memory before it is proved.
    fn receive_short(
        &self,
        seq: u64,
        head: &Head,
        len: usize,
        home: impl FnOnce(&Head) -> Option<Arc<Reserve>>,
    ) -> Result<Bytes> {
        let mut room = [0u8; bytes::SHORT];
        let body = room.get_mut(..len).ok_or(EPROTO)?;
        self.stream.receive(body)?;
        self.receive_tag(seq, head, &BodySum::of(&self.key_in, body))?;
        Bytes::of(body, &[], home(head).as_ref(), GFP_KERNEL)
    }

    fn receive_long(
        &self,
        seq: u64,
        head: &Head,
        len: usize,
        room: impl FnOnce(&Head) -> Option<KVVec<u8>>,
    ) -> Result<KVVec<u8>> {
        let mut body = match room(head) {
            Some(room) => room,
            None => KVVec::with_capacity(len, GFP_KERNEL)?,
        };
        let mut sum = BodySum::default();
        let began = machine::monotonic_ns();
        while body.len() < len {
            let at = body.len();
            if machine::monotonic_ns().saturating_sub(began) > BODY_MS * 1_000_000 {
                return Err(EAGAIN);
            }
            self.stream
                .receive_onto(&mut body, FrameKey::PIECE.min(len - at))?;
            // While the next piece is on its way.
            sum.add(&self.key_in, body.get(at..).unwrap_or(&[]));
        }
        self.receive_tag(seq, head, &sum)?;
        Ok(body)
    }

    /// The end of a frame: it is the next one, and proved.
    fn receive_tag(&self, seq: u64, head: &Head, sum: &BodySum) -> Result {
        let mut tag = [0u8; TAG];
        self.stream.receive(&mut tag)?;
        match head.check(&self.key_in, sum, &tag, seq) {
            Ok(()) => Ok(()),
            Err(Bad::Tag) => {
                self.refuse(Refused::Tag, &"a frame with a wrong tag");
                Err(EBADMSG)
            }
            Err(Bad::Order) => {
                self.refuse(Refused::Replay, &"a frame out of its order");
                Err(EPROTO)
            }
        }
    }

    /// All frames up to this one, of `body` bytes beside head and tag, are dealt with: the other end, when it is told,
    /// forgets the replies among them.
    pub(crate) fn dealt_with(&self, seq: u64, body: usize) {
        self.stats
            .received(core::mem::size_of::<Head>() + body + TAG);
        self.dealt.seen.on(self.side).store(seq, Relaxed);
        // Ordering: who takes that number away tells of the frame.
        self.dealt.untold.fetch_add(body as u64, Release); // CAST: widens.
    }

    /// Whether so much has been dealt with that the other end is to be told ([`Self::tell`]) with the next frame. Any context.
    pub(crate) fn owes(&self) -> bool {
        self.dealt.untold.load(Relaxed) >= TELL_BYTES
    }

    /// Tells the other end what has been dealt with, if that is much. The memory for it is always there. Does not sleep long; not
    /// for softirqs.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub(crate) fn tell(&self) -> Result {
        if !self.owes() {
            return Ok(());
        }
        let place = self.waiting.lock().telling.take();
        match place {
            Some(place) => self.send(place, Head::new(Kind::Seen, 0), Body::Empty),
            // The one in the queue tells this too. Until it is begun what comes is left to the stream's thread.
            None => Ok(()),
        }
    }

    /// It is to be torn. Any context: neither sleeps nor waits for a sender.
    pub(crate) fn condemn(&self) {
        let _before = self.doom.cmpxchg(NOT_CONDEMNED, CONDEMNED, Full);
    }

    /// Whether it is to be torn, and nobody was told so before.
    pub(crate) fn take_condemned(&self) -> bool {
        self.doom.cmpxchg(CONDEMNED, TOLD, Full).is_ok()
    }

    /// Whether it was torn.
    pub(crate) fn is_torn(&self) -> bool {
        self.waiting.lock().torn
    }

    /// Ends the stream: whoever sends or receives on it returns, and what is queued is dropped. Waits for its socket.
    pub(crate) fn tear(&self) {
        let _dropped_unlocked = {
            let mut w = self.waiting.lock();
            w.torn = true;
            (
                core::mem::take(&mut w.frames),
                core::mem::take(&mut w.replies),
            )
        };
        self.stream.shutdown();
        self.room.notify_all();
    }
}

/// Replies that have arrived.
pub(crate) struct Arrived(Fifo<Frame>);

impl Iterator for Arrived {
    type Item = RequestId;

    fn next(&mut self) -> Option<RequestId> {
        match &self.0.pop_front()?.value.body {
            Body::Reply(reply) => Some(reply.id),
            // Nothing else is kept there.
            Body::Empty | Body::Request(_) | Body::Open(_) => None,
        }
    }
}
