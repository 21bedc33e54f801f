// SPDX-License-Identifier: GPL-2.0

//! Who is told of changes, in which order: the same on every node.

use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;

/// When an observer's turn is. After a node is down, all of one phase are done before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What others send with.
    Transport,
    /// File systems.
    Cfs,
    /// IPC and its name server.
    Ipc,
    /// Remote files.
    Files,
    /// Processes.
    Processes,
}

/// How far an observer has emptied this node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drained {
    /// Processes that went to other nodes.
    pub moved: u32,
    /// Processes that were told to end, and have.
    pub ended: u32,
    /// What keeps this node still.
    pub left: u32,
    /// A process among those.
    pub process: Option<ClusterPid>,
}

/// Is told of changes, by one thread, one change at a time. May sleep.
pub trait ViewObserver: Sync {
    /// This node has become a member.
    ///
    /// # Errors
    /// Any: the node leaves again.
    fn joined(&self, _this: NodeId) -> Result {
        Ok(())
    }

    /// This node wants to leave. Called in reverse order.
    ///
    /// # Errors
    /// Any: the node stays.
    fn leaving(&self) -> Result {
        Ok(())
    }

    /// This node is being shut down: it takes nothing new, and what belongs to other nodes goes, or ends when `grace_ms` are
    /// over. Begins that and returns; may be called again.
    ///
    /// # Errors
    /// Any: the node stays.
    fn drain(&self, _grace_ms: u32) -> Result {
        Ok(())
    }

    /// How far that is.
    fn drained(&self) -> Drained {
        Drained::default()
    }

    /// It is not shut down: as before.
    fn stays(&self) {}

    /// This node is out, and leaves now.
    fn left(&self) {}

    /// A node has become a member.
    fn node_up(&self, _node: NodeId, _incarnation: Incarnation) {}

    /// A node is down. Every call to it has ended.
    fn node_down(&self, _node: NodeId, _incarnation: Incarnation) {}
}

struct Entry {
    phase: Phase,
    id: u32,
    observer: &'static dyn ViewObserver,
}

struct List {
    entries: KVec<Entry>,
    next: u32,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 20 `clms::observers`, mutex. Held while observers run: they do not register from there.
    unsafe(uninit) static LIST: Mutex<List> = List { entries: KVec::new(), next: 1 };
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { LIST.init() };
}

/// A registered observer. Dropping it waits until it is told nothing any more.
pub struct ObserverRegistration(u32);

/// Tells `observer` of changes from now on.
///
/// # Errors
/// `ENOMEM`.
pub fn register_observer(
    phase: Phase,
    observer: &'static dyn ViewObserver,
) -> Result<ObserverRegistration> {
    let mut list = LIST.lock();
    let id = list.next;
    list.next += 1;
    list.entries.push(
        Entry {
            phase,
            id,
            observer,
        },
        GFP_KERNEL,
    )?;
    list.entries.sort_unstable_by_key(|e| (e.phase, e.id));
    Ok(ObserverRegistration(id))
}

impl Drop for ObserverRegistration {
    fn drop(&mut self) {
        let mut list = LIST.lock();
        if let Some(i) = list.entries.iter().position(|e| e.id == self.0) {
            let _gone = list.entries.remove(i);
        }
    }
}

/// Tells all, in order.
pub(crate) fn tell(f: impl Fn(&dyn ViewObserver)) {
    for e in LIST.lock().entries.iter() {
        f(e.observer);
    }
}

/// This node has become a member. On an error those already told are told that it leaves.
///
/// # Errors
/// The first that an observer gives.
pub(crate) fn joined(this: NodeId) -> Result {
    let list = LIST.lock();
    for (i, e) in list.entries.iter().enumerate() {
        if let Err(err) = e.observer.joined(this) {
            for done in list.entries.iter().take(i).rev() {
                let _stays = done.observer.leaving();
            }
            return Err(err);
        }
    }
    Ok(())
}

/// This node wants to leave. On an error those already told are told that it stays.
///
/// # Errors
/// The first that an observer gives.
pub(crate) fn leaving(this: NodeId) -> Result {
    let list = LIST.lock();
    let n = list.entries.len();
    for (i, e) in list.entries.iter().rev().enumerate() {
        if let Err(err) = e.observer.leaving() {
            for done in list.entries.iter().skip(n - i) {
                let _down = done.observer.joined(this);
            }
            return Err(err);
        }
    }
    Ok(())
}

/// This node is being shut down.
///
/// # Errors
/// The first that an observer gives.
pub(crate) fn drain(grace_ms: u32) -> Result {
    for e in LIST.lock().entries.iter().rev() {
        e.observer.drain(grace_ms)?;
    }
    Ok(())
}

/// How far that is, all observers together.
pub(crate) fn drained() -> Drained {
    let mut all = Drained::default();
    for e in LIST.lock().entries.iter() {
        let one = e.observer.drained();
        all.moved = all.moved.saturating_add(one.moved);
        all.ended = all.ended.saturating_add(one.ended);
        all.left = all.left.saturating_add(one.left);
        all.process = all.process.or(one.process);
    }
    all
}
