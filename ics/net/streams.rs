// SPDX-License-Identifier: GPL-2.0

//! Streams: begun here or by somebody else, served until they are torn.

use super::Net;
use crate::admission;
use crate::admission::Failed;
use crate::admission::Session;
use crate::lane::Lane;
use crate::lane::Side;
use crate::link::Link;
use crate::peer::Peer;
use crate::reception::Reception;
use crate::refused::Refused;
use crate::refused::Source;
use crate::release::NoneInCommon;
use crate::transport::Stream;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::failpoint::hit;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::kthread::WithoutIo;
use ssi::machine;
use ssi::net::Address;

/// Between two attempts to connect.
const RETRY_MS: u32 = 200;

/// The most streams that may be in the handshake, per configured node.
const STREAMS_PER_NODE: usize = 6;

/// An accepted stream's thread.
pub(super) struct Accepted {
    pub(super) ended: Atomic<u32>,
    pub(super) link: kernel::sync::SetOnce<Arc<Link>>,
}

/// The thread that sends what waits for a stream. `None`: there is none, and the stream is torn.
fn sender(peer: &Arc<Peer>, link: &Arc<Link>) -> Option<KThread> {
    let (its_peer, its_link) = (peer.clone(), link.clone());
    let sender = KThread::run(c"ics_send", move || {
        its_link.send_waiting();
        its_peer.tear(&its_link);
    });
    if sender.is_err() {
        link.tear();
    }
    sender.ok()
}

impl Net {
    /// Serves a stream that has passed admission until it is torn. In the scope of a [`WithoutIo`].
    fn serve(&self, peer: &Arc<Peer>, link: &Arc<Link>) {
        let Some(sender) = sender(peer, link) else {
            return;
        };
        if let Err(e) = self.attach(peer, link) {
            if e == ESTALE {
                link.refuse(Refused::Stale, &"a stream of an old incarnation");
            }
            link.tear();
            self.detach(peer, link);
            drop(sender);
            return;
        }
        peer.agreed(link.version, self.me.speaks.newest);
        self.keep_keys(peer);
        let _torn = Reception::run(peer, link);
        link.tear();
        drop(sender);
        self.detach(peer, link);
    }

    /// Makes it the main stream, and tells the membership.
    fn attach(&self, peer: &Peer, link: &Arc<Link>) -> Result {
        let _turn = peer.turn.lock();
        // With a key that was dropped during the handshake nothing is said.
        if !self.ring().said().hears(link.print) {
            return Err(EKEYREVOKED);
        }
        peer.attach(link, link.incarnation)?;
        self.observer.link_up(link.node, link.incarnation);
        Ok(())
    }

    /// It is not the main stream any more: tells the membership, if it was. Another thread may have the next one by then.
    fn detach(&self, peer: &Peer, link: &Arc<Link>) {
        let _turn = peer.turn.lock();
        if peer.detach(link) {
            self.observer.link_lost(link.node, link.incarnation);
        }
    }

    /// Keeps a stream beside the main one to `peer`, which has a lower number.
    pub(super) fn connector_beside(&self, side: Side, peer: &Arc<Peer>) {
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
        let Some(sender) = sender(peer, link) else {
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
    pub(super) fn connector(&self, peer: &Arc<Peer>) {
        let mut last = None;
        while !self.is_done_with(peer) {
            let _armed = hit("Thread.ics_connect");
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

    pub(super) fn listen(self: &Arc<Self>) {
        while !self.is_stopping() {
            let _armed = hit("Thread.ics_listen");
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
        list.push((thread, a), GFP_KERNEL)?;
        Ok(())
    }
}
