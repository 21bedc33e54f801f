// SPDX-License-Identifier: GPL-2.0

//! Who is told of changed records.
//!
//! A watcher is told the difference between what it was told and what there is: first the records that are no more, then
//! the new and changed ones in the order of their versions. Of changes in quick succession it may be told only the last. So
//! nothing is queued, and whoever joins late is told everything.

use crate::registry::contents::Core;
use crate::registry::replica::record;
use crate::registry::replica::Replica;
use crate::registry::Name;
use crate::registry::Record;
use crate::registry::MAX_RECORDS;
use crate::thread;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::global_lock;
use ssi::failpoint::hit;

/// Is told of changed records by one thread, one record at a time. May sleep and may change records, but must not
/// begin or end a watch.
pub trait Watcher: Sync {
    /// The record with that name is another one now, or is no more.
    fn changed(&self, name: Name, record: Option<&Record>);
}

struct Entry {
    id: u32,
    prefix: KVec<u8>,
    watcher: &'static dyn Watcher,
    /// What it was told. Has room for all records.
    told: KVec<(Name, u64)>,
}

struct List {
    entries: KVec<Entry>,
    next: u32,
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// Lock: level 19 `clms::watchers`, mutex. Held while watchers run: they neither begin nor end a watch.
    unsafe(uninit) static LIST: Mutex<List> = List { entries: KVec::new(), next: 1 };
}

/// Grows with every new watch.
static BEGUN: Atomic<u64> = Atomic::new(0);

/// The list of watchers.
pub(crate) struct State(());

impl State {
    /// Makes the lock. Once, at module load.
    pub(crate) fn new() -> Self {
        // SAFETY: Called exactly once, from module init.
        unsafe { LIST.init() };
        Self(())
    }
}

/// A watch. Dropping it waits until the watcher is told nothing any more.
pub struct Watch(u32);

/// Tells `watcher` of all records whose names begin with `prefix`, and of their changes from now on.
///
/// # Errors
/// `ENOMEM`.
pub fn watch(prefix: &[u8], watcher: &'static dyn Watcher) -> Result<Watch> {
    let mut bytes = KVec::new();
    bytes.extend_from_slice(prefix, GFP_KERNEL)?;
    let told = KVec::with_capacity(MAX_RECORDS, GFP_KERNEL)?;
    let id = {
        let mut list = LIST.lock();
        let id = list.next;
        list.next += 1;
        let entry = Entry {
            id,
            prefix: bytes,
            watcher,
            told,
        };
        list.entries.push(entry, GFP_KERNEL)?;
        id
    };
    BEGUN.fetch_add(1, Full);
    if let Some(r) = thread::replica() {
        r.changed.notify_all();
    }
    Ok(Watch(id))
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut list = LIST.lock();
        if let Some(i) = list.entries.iter().position(|e| e.id == self.0) {
            let _gone = list.entries.remove(i);
        }
    }
}

/// Tells watchers until the node leaves.
pub(crate) fn serve(replica: &Replica) {
    for e in LIST.lock().entries.iter_mut() {
        // Versions of an earlier membership: those of this one may be the same.
        e.told.iter_mut().for_each(|(_, version)| *version = 0);
    }
    let mut told = (0, 0);
    loop {
        let _armed = hit("Thread.clms_watch");
        let now = || (replica.known(), BEGUN.load(Acquire));
        replica
            .changed
            .wait_until(|| replica.is_ended() || (replica.known() != 0 && now() != told));
        if replica.is_ended() {
            return;
        }
        told = now();
        for e in LIST.lock().entries.iter_mut() {
            while let Some((name, record)) = replica.look(|c| e.next(c)) {
                e.watcher.changed(name, record.as_ref());
            }
        }
    }
}

impl Entry {
    /// What it is to be told next, and is noted as told.
    fn next(&mut self, core: &Core) -> Option<(Name, Option<Record>)> {
        let table = core.machine();
        let gone = |(name, _): &(Name, u64)| table.get(*name).is_none();
        if let Some(i) = self.told.iter().position(gone) {
            let (name, _) = self.told.remove(i).ok()?;
            return Some((name, None));
        }
        let news = table.0.iter().filter(|s| {
            s.version != 0
                && s.name.as_bytes().starts_with(&self.prefix)
                && !self.told.contains(&(s.name, s.version))
        });
        let slot = news.min_by_key(|s| s.version)?;
        match self.told.iter_mut().find(|(name, _)| *name == slot.name) {
            Some((_, version)) => *version = slot.version,
            // There is room: it names only records that there are.
            None => self.told.push((slot.name, slot.version), GFP_KERNEL).ok()?,
        }
        Some((slot.name, Some(record(slot))))
    }
}
