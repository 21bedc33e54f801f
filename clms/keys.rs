// SPDX-License-Identifier: GPL-2.0

//! Key services: each has one serving node in the cluster. When that is down, the next candidate serves.
//!
//! A service is a record `key.NAME`: its server, and the candidates in the order in which they came. Every node sees to it that its own
//! candidates are in, and the master that those who are down are out; each by compare-and-swap, so that it does not
//! matter who is first. The new server is the longest candidate that lives.
//!
//! Never two at a time: a change is committed when all members of the view have it, and they take it only in that view. So when a node is
//! told to serve, every member is in a view without the one before, and its observers know that it is down. Unless
//! that one gave up by itself: then it did so before.

use crate::registry;
use crate::registry::Name;
use crate::registry::Outcome;
use crate::registry::Record;
use crate::registry::Replica;
use crate::registry::Value;
use crate::registry::Watcher;
use crate::registry::MAX_NAME;
use crate::registry::MAX_RECORDS;
use crate::registry::MAX_VALUE;
use crate::thread;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// What names of their records begin with.
pub(crate) const PREFIX: &[u8] = b"key.";

/// The longest name of a service.
pub const MAX_SERVICE: usize = MAX_NAME - PREFIX.len();

/// The most candidates of a service.
pub const MAX_CANDIDATES: usize = 16;

/// Between two tries of what failed for want of memory.
const AGAIN_MS: u32 = 100;

/// What can serve. Called by one thread; may sleep, must not register or withdraw.
pub trait KeyServer: Sync {
    /// This node serves from now on, until it withdraws or goes down. `before`: who did last and is down, in its life.
    fn serve(&self, before: Option<(NodeId, Incarnation)>);
}

/// A node in one life, in a record.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Life {
    node: Le32,
    incarnation: Le64,
}

impl Life {
    const NONE: Self = Self {
        node: Le32::new(0),
        incarnation: Le64::new(0),
    };

    fn new((node, incarnation): (NodeId, Incarnation)) -> Self {
        Self {
            node: Le32::new(node.number()),
            incarnation: Le64::new(incarnation.0),
        }
    }

    fn get(self) -> Option<(NodeId, Incarnation)> {
        let node = NodeId::new(self.node.get())?;
        Some((node, Incarnation(self.incarnation.get())))
    }
}

/// What a record says of its service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Key {
    server: Life,
    before: Life,
    /// First come first; behind them `NONE`.
    candidates: [Life; MAX_CANDIDATES],
}

const _: () = assert!(core::mem::size_of::<Key>() <= MAX_VALUE);

impl Key {
    const NONE: Self = Self {
        server: Life::NONE,
        before: Life::NONE,
        candidates: [Life::NONE; MAX_CANDIDATES],
    };

    fn of(record: &Record) -> Option<Self> {
        Self::read_from_bytes(&record.value).ok()
    }

    /// The key without the candidates that `is_out` holds of. If the server is one of them, or there is none, the first serves.
    fn without(&self, is_out: impl Fn(Life) -> bool) -> Self {
        let stay = |l: &Life| *l != Life::NONE && !is_out(*l);
        let mut new = Self {
            candidates: [Life::NONE; MAX_CANDIDATES],
            ..*self
        };
        let staying = self.candidates.iter().copied().filter(stay);
        for (to, from) in new.candidates.iter_mut().zip(staying) {
            *to = from;
        }
        new.elect();
        new
    }

    /// The key with another candidate, if there is room.
    fn with(&self, l: Life) -> Self {
        let mut new = *self;
        if !new.candidates.contains(&l) {
            if let Some(room) = new.candidates.iter_mut().find(|c| **c == Life::NONE) {
                *room = l;
            }
        }
        new.elect();
        new
    }

    fn elect(&mut self) {
        if self.server != Life::NONE && self.candidates.contains(&self.server) {
            return;
        }
        if self.server != Life::NONE {
            self.before = self.server;
        }
        self.server = self.candidates.first().copied().unwrap_or(Life::NONE);
    }
}

/// A candidate of this node.
struct Entry {
    id: u32,
    name: Name,
    server: &'static dyn KeyServer,
    /// The life of this node in which it was told to serve; 0: none.
    serves: u64,
}

struct List {
    entries: KVec<Entry>,
    next: u32,
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// Lock: level 18 `clms::keys`, mutex. Held while servers are told, not while records change.
    unsafe(uninit) static LIST: Mutex<List> = List { entries: KVec::new(), next: 1 };
}

/// The list of candidates, and the watch of the records.
pub(crate) struct State {
    _watch: registry::Watch,
}

impl State {
    /// Makes the lock. Once, at module load, after that of the watches.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Called exactly once, from module init.
        unsafe { LIST.init() };
        Ok(Self {
            _watch: registry::watch(PREFIX, &Records)?,
        })
    }
}

struct Records;

impl Watcher for Records {
    fn changed(&self, _name: Name, _record: Option<&Record>) {
        touch();
    }
}

/// Something may have to be done.
fn touch() {
    if let Some(r) = thread::replica() {
        r.touch();
    }
}

/// A candidate of this node. Dropping it withdraws it, after it was told its last; it has stopped serving before. The others hear of that in
/// their own time.
pub struct Candidate(u32);

/// Makes this node a candidate for a service, now and after every join, until the candidate is dropped.
///
/// # Errors
/// `EINVAL`, `ENAMETOOLONG` the name; `EEXIST` it is one; `ENOMEM`.
pub fn register(service: &[u8], server: &'static dyn KeyServer) -> Result<Candidate> {
    let name = record_name(service)?;
    let id = {
        let mut list = LIST.lock();
        if list.entries.iter().any(|e| e.name == name) {
            return Err(EEXIST);
        }
        let id = list.next;
        list.next += 1;
        let entry = Entry {
            id,
            name,
            server,
            serves: 0,
        };
        list.entries.push(entry, GFP_KERNEL)?;
        id
    };
    touch();
    Ok(Candidate(id))
}

impl Drop for Candidate {
    fn drop(&mut self) {
        {
            let mut list = LIST.lock();
            if let Some(i) = list.entries.iter().position(|e| e.id == self.0) {
                let _gone = list.entries.remove(i);
            }
        }
        touch();
    }
}

fn record_name(service: &[u8]) -> Result<Name> {
    if service.is_empty() {
        return Err(EINVAL);
    }
    let mut bytes = [0; MAX_NAME];
    let room = bytes
        .get_mut(..PREFIX.len() + service.len())
        .ok_or(ENAMETOOLONG)?;
    let (head, tail) = room.split_at_mut(PREFIX.len());
    head.copy_from_slice(PREFIX);
    tail.copy_from_slice(service);
    Name::new(room)
}

/// The node that serves, as this node knows it: no message. It may be down already.
///
/// # Errors
/// `EINVAL`, `ENAMETOOLONG` the name; those of [`registry::read`].
pub fn server(service: &[u8]) -> Result<Option<NodeId>> {
    let record = registry::read(record_name(service)?)?;
    let key = record.and_then(|r| Key::of(&r));
    Ok(key.and_then(|k| k.server.get()).map(|(n, _)| n))
}

/// Sees to this node's candidates, and as the master to those who are down, until the node leaves.
pub(crate) fn serve(replica: &Replica) {
    let mut done = 0;
    loop {
        let _armed = hit("Thread.clms_keys");
        let is_due = || replica.known() != 0 && replica.stage() != done;
        replica.staged.wait_until(|| replica.is_ended() || is_due());
        if replica.is_ended() {
            return;
        }
        let now = replica.stage();
        match tend(replica) {
            Ok(()) => done = now,
            Err(_) => {
                replica.staged.wait_timeout(AGAIN_MS, || replica.is_ended());
            }
        }
    }
}

/// # Errors
/// Not all is as it should be: another node was faster, or there was no memory.
fn tend(replica: &Replica) -> Result {
    let me = replica.me().ok_or(ENOTCONN)?;
    let mut names = KVec::with_capacity(MAX_RECORDS, GFP_KERNEL)?;
    replica.names(PREFIX, &mut names)?;
    for e in LIST.lock().entries.iter() {
        if !names.contains(&e.name) {
            names.push(e.name, GFP_KERNEL)?;
        }
    }
    let leads = replica.leads();
    for name in names {
        tend_one(replica, name, Life::new(me), leads)?;
    }
    tell(replica, me)
}

/// One service: who should be in its record is, and who should not is not.
fn tend_one(replica: &Replica, name: Name, me: Life, leads: bool) -> Result {
    let is_mine = || LIST.lock().entries.iter().any(|e| e.name == name);
    let record = replica.read(name)?;
    let old = match &record {
        Some(r) => match Key::of(r) {
            Some(k) => k,
            // Not made by this code: left alone.
            None => return Ok(()),
        },
        None => Key::NONE,
    };
    let is_down = |l: Life| l.get().is_none_or(|(n, i)| !replica.has(n, i));
    let mine = is_mine();
    let mut new = if leads { old.without(is_down) } else { old };
    new = if mine {
        new.with(me)
    } else {
        new.without(|l| l == me)
    };
    if new == old {
        return Ok(());
    }
    let version = record.map_or(0, |r| r.version);
    match replica.change(name, version, Some(Value::new(new.as_bytes())?))? {
        Outcome::Done(_) => Ok(()),
        Outcome::Lost(_) => Err(EAGAIN),
        Outcome::Full => Err(ENOSPC),
    }
}

/// Tells this node's candidates that are the servers now.
fn tell(replica: &Replica, me: (NodeId, Incarnation)) -> Result {
    for e in LIST.lock().entries.iter_mut() {
        let Some(key) = replica.read(e.name)?.and_then(|r| Key::of(&r)) else {
            continue;
        };
        if key.server == Life::new(me) && e.serves != me.1 .0 {
            e.serves = me.1 .0;
            e.server.serve(key.before.get());
        }
    }
    Ok(())
}

#[kunit_tests(ssi_clms_keys)]
mod tests {
    use super::*;

    fn life(n: u32) -> Life {
        Life {
            node: Le32::new(n),
            incarnation: Le64::new(u64::from(n) * 10),
        }
    }

    #[test]
    fn size_is_pinned() {
        assert_eq!(core::mem::size_of::<Key>(), 216);
    }

    #[test]
    fn the_first_serves_until_it_is_out() {
        let k = Key::NONE.with(life(2)).with(life(1)).with(life(3));
        assert!(k.server == life(2) && k.before == Life::NONE);
        assert!(k.with(life(1)) == k);
        // Another one goes: nothing moves.
        let other = k.without(|l| l == life(1));
        assert!(other.server == life(2) && other.before == Life::NONE);
        // The server goes: the longest candidate is next, whatever its number.
        let next = other.without(|l| l == life(2));
        assert!(next.server == life(3) && next.before == life(2));
        let none = next.without(|_| true);
        assert!(none.server == Life::NONE && none.before == life(3));
        // Who comes back, comes last; who comes to nobody, serves.
        let back = none.with(life(2)).with(life(3));
        assert!(back.server == life(2) && back.before == life(3));
    }

    #[test]
    fn who_finds_no_room_is_not_in() {
        let mut k = Key::NONE;
        for n in 1..=17 {
            k = k.with(life(n));
        }
        assert!(k.server == life(1) && !k.candidates.contains(&life(17)));
        assert!(k
            .without(|l| l == life(1))
            .with(life(17))
            .candidates
            .contains(&life(17)));
    }
}
