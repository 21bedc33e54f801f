// SPDX-License-Identifier: GPL-2.0

//! Nodes of this kernel.

use super::probe::SERVICE;
use super::scene::Scene;
use super::scene::OBSERVER;
use crate::loopback;
use crate::loopback::Hub;
use crate::net::Config;
use crate::net::Net;
use crate::net::NodeConfig;
use crate::net::Running;
use crate::pool::Pool;
use crate::pool::Registration;
use crate::refused::Counters;
use crate::service::Class;
use crate::transport::Transport;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

/// The incarnation of the nodes of the cases.
pub(super) const LIFE: Incarnation = Incarnation(100);

/// Threads of class P that are not needed end soon, to be seen.
const IDLE_MS: u32 = 300;

pub(super) fn id(n: u32) -> Result<NodeId> {
    NodeId::new(n).ok_or(EINVAL)
}

pub(super) fn config(this: u32, incarnation: Incarnation, key: &[u8]) -> Result<Config> {
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

pub(super) const KEY: &[u8] = b"the key of the cases";

/// A node of this kernel. Dropped from top to bottom.
pub(super) struct Node {
    running: Running,
    _service: Registration,
    pub(super) counters: Arc<Counters>,
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
    pub(super) fn new(hub: &Arc<Hub>, n: u32) -> Result<Self> {
        let pool = Pool::new(IDLE_MS)?;
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

    pub(super) fn net(&self) -> &Arc<Net> {
        &self.running.net
    }

    /// Its table has one more node, which is not there.
    pub(super) fn add(&mut self, n: u32) -> Result {
        let row = NodeConfig {
            node: id(n)?,
            addresses: KVec::new(),
            port: 0,
        };
        self.running.add(row)
    }

    /// Its table has one less.
    pub(super) fn remove(&mut self, n: u32) -> Result {
        self.running.remove(id(n)?)
    }

    pub(super) fn n_waiting(&self, n: u32, class: Class) -> Option<u32> {
        Some(self.net().peer(NodeId::new(n)?)?.n_waiting(class))
    }

    /// Bytes of bodies of a class that are kept for a node: of its requests, and of replies.
    pub(super) fn n_bytes(&self, n: u32, class: Class) -> Option<(usize, usize)> {
        Some(self.net().peer(NodeId::new(n)?)?.n_bytes(class))
    }

    pub(super) fn n_asked(&self, n: u32, class: Class) -> Option<u32> {
        Some(self.net().peer(NodeId::new(n)?)?.n_asked(class))
    }

    /// As `clms` would.
    pub(super) fn admit(&self, n: u32, incarnation: Incarnation) -> Result {
        self.net().peer(id(n)?).ok_or(ENOENT)?.admit(incarnation);
        Ok(())
    }
}

/// Nodes 1 and 2, members of each other's cluster.
pub(super) fn two_nodes(s: &Scene) -> Result<(Node, Node)> {
    two_nodes_of(s, &Hub::new()?)
}

pub(super) fn two_nodes_of(s: &Scene, hub: &Arc<Hub>) -> Result<(Node, Node)> {
    let (a, b) = (Node::new(hub, 1)?, Node::new(hub, 2)?);
    if !s.comes(|s| s.links.load(Relaxed) == 2) {
        return Err(ETIMEDOUT);
    }
    a.admit(2, LIFE)?;
    b.admit(1, LIFE)?;
    Ok((a, b))
}
