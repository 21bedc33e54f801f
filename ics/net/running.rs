// SPDX-License-Identifier: GPL-2.0

//! What runs while a node has begun to join: its threads.

use super::keyring;
use super::Config;
use super::Identity;
use super::Keys;
use super::LinkObserver;
use super::Net;
use super::NodeConfig;
use super::MAX_PEERS;
use crate::lane::Side;
use crate::newest::Newest;
use crate::peer::Peer;
use crate::pool::Pool;
use crate::refused::Counters;
use crate::transport::Transport;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::atomic::Release;
use kernel::sync::Arc;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::kthread::WithoutIo;
use ssi::reserve::Reserve;
use ssi::wait::Event;

/// Bodies of short calls of class L4 to this node itself for which memory is kept: their handlers wait for nobody.
const OWN_CALLS: u32 = 8;

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
        let reserve = Reserve::new(1, OWN_CALLS)?;
        let net = Arc::pin_init(
            pin_init!(Net {
                me,
                pool,
                reserve,
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
