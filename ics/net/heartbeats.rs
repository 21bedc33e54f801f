// SPDX-License-Identifier: GPL-2.0

//! Heartbeats that come, and what they show of the streams.

use super::Net;
use crate::heartbeat::Datagram;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::News;
use crate::heartbeat::LEN;
use crate::peer::Peer;
use kernel::prelude::*;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::kthread;
use ssi::machine;

impl Net {
    pub(super) fn receive_heartbeats(&self) {
        kthread::make_realtime();
        let mut bytes = [0u8; LEN + 1];
        while !self.is_stopping() {
            let _armed = hit("Thread.ics_heartbeat");
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
    pub(super) fn tear_condemned(&self) {
        while !self.is_stopping() {
            let _armed = hit("Thread.ics_tear");
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
