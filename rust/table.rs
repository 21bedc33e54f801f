// SPDX-License-Identifier: GPL-2.0

//! A map from numbers whose entries are allocated apart from it, so that what goes in under a spinlock needs no memory there, and
//! what comes out is freed elsewhere.
//!
//! Not for order: see `kernel::rbtree`.

use crate::crypto;
use crate::reserve::Owned;
use crate::reserve::Slot;
use kernel::prelude::*;

/// Keys are spread by their product with a secret: others, who may choose them, do not know which are found one by one.
const N_BUCKETS: usize = 256;

/// A value, its key, and its memory.
pub struct Entry<V> {
    key: u64,
    /// The value.
    pub value: V,
    next: Link<V>,
}

impl<V> Entry<V> {
    /// The key.
    pub fn key(&self) -> u64 {
        self.key
    }
}

/// Memory for an entry.
pub type Place<V> = Slot<Entry<V>>;

type Link<V> = Option<Owned<Entry<V>>>;

fn push<V>(link: &mut Link<V>, mut entry: Owned<Entry<V>>) {
    entry.next = link.take();
    *link = Some(entry);
}

fn pop<V>(link: &mut Link<V>) -> Link<V> {
    let mut entry = link.take()?;
    *link = entry.next.take();
    Some(entry)
}

fn chain<V>(link: &Link<V>) -> impl Iterator<Item = &Entry<V>> {
    core::iter::successors(link.as_deref(), |e| e.next.as_deref())
}

/// A map from `u64` to `V`. Every operation on one key takes constant time while there are few times more than 256.
pub struct Table<V> {
    /// Each in the order of its keys.
    buckets: KBox<[Link<V>; N_BUCKETS]>,
    /// Odd, so that no two keys are alike.
    secret: u64,
    len: usize,
}

impl<V> Table<V> {
    /// An empty one. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        Self::with(u64::from_le_bytes(crypto::random()) | 1)
    }

    fn with(secret: u64) -> Result<Self> {
        Ok(Self {
            buckets: KBox::init(pin_init::init_array_from_fn(|_| None), GFP_KERNEL)?,
            secret,
            len: 0,
        })
    }

    fn bucket(&self, key: u64) -> usize {
        // CAST: the upper bits, below `N_BUCKETS`.
        (key.wrapping_mul(self.secret) >> (u64::BITS - N_BUCKETS.ilog2())) as usize
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the entry with that key is, or would be.
    fn link(&mut self, key: u64) -> &mut Link<V> {
        let bucket = self.bucket(key);
        // PANIC: It is below `N_BUCKETS`.
        let mut link = &mut self.buckets[bucket];
        while link.as_ref().is_some_and(|e| e.key < key) {
            match link {
                Some(entry) => link = &mut entry.next,
                None => break,
            }
        }
        link
    }

    /// Takes it out of where it is, or would be.
    fn remove_at(link: &mut Link<V>, key: u64) -> Link<V> {
        if link.as_ref().is_some_and(|e| e.key == key) {
            pop(link)
        } else {
            None
        }
    }

    /// Adds a value. Returns what was there under that key.
    #[must_use = "it is to be freed after unlocking"]
    pub fn insert(&mut self, place: Place<V>, key: u64, value: V) -> Option<Owned<Entry<V>>> {
        let entry = place.fill(Entry {
            key,
            value,
            next: None,
        });
        let link = self.link(key);
        let replaced = Self::remove_at(link, key);
        push(link, entry);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// The value under that key.
    pub fn get(&self, key: u64) -> Option<&V> {
        // PANIC: It is below `N_BUCKETS`.
        chain(&self.buckets[self.bucket(key)])
            .find(|e| e.key >= key)
            .filter(|e| e.key == key)
            .map(|e| &e.value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.link(key)
            .as_mut()
            .filter(|e| e.key == key)
            .map(|e| &mut e.value)
    }

    /// Takes out what is under that key.
    #[must_use = "it is to be freed after unlocking"]
    pub fn remove(&mut self, key: u64) -> Option<Owned<Entry<V>>> {
        let removed = Self::remove_at(self.link(key), key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// All, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.iter_after(None)
    }

    /// Those that [`Self::iter`] gives after that key, whether that is there or not; `None`: all. So it may be unlocked on the way:
    /// what is there all the while is met once.
    pub fn iter_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &V)> {
        self.buckets
            .iter()
            .skip(after.map_or(0, |key| self.bucket(key)))
            .flat_map(chain)
            .skip_while(move |e| {
                after.is_some_and(|key| self.bucket(e.key) == self.bucket(key) && e.key <= key)
            })
            .map(|e| (e.key, &e.value))
    }

    /// Takes everything out. Frees nothing.
    #[must_use = "they are to be freed after unlocking"]
    pub fn take(&mut self) -> Entries<V> {
        let mut all = Entries(None);
        for link in self.buckets.iter_mut() {
            while let Some(entry) = pop(link) {
                push(&mut all.0, entry);
            }
        }
        self.len = 0;
        all
    }
}

impl<V> Drop for Table<V> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Entries that were taken out together: an iterator over them. Dropping it frees those that are left.
pub struct Entries<V>(Link<V>);

impl<V> Entries<V> {
    /// Those that are left.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        chain(&self.0).map(|e| (e.key, &e.value))
    }
}

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V> Iterator for Entries<V> {
    type Item = Owned<Entry<V>>;

    fn next(&mut self) -> Option<Self::Item> {
        pop(&mut self.0)
    }
}

impl<V> Drop for Entries<V> {
    fn drop(&mut self) {
        // One by one: dropping a chain would recurse.
        while self.next().is_some() {}
    }
}

#[kunit_tests(ssi_table)]
mod tests {
    use super::*;
    use kernel::sync::atomic::Atomic;
    use kernel::sync::atomic::Relaxed;
    use kernel::sync::Arc;

    const N: u64 = N_BUCKETS as u64;

    /// By this one, keys are spread by their low bits.
    const SECRET: u64 = 1 << (u64::BITS - N_BUCKETS.ilog2());

    /// Those of one bucket, those of others, and the bounds.
    const KEYS: [u64; 9] = [
        7 + 2 * N,
        7,
        8,
        u64::MAX,
        7 + N,
        0,
        7 + 3 * N,
        u64::MAX - N,
        1,
    ];

    fn filled() -> Result<Table<u64>> {
        let mut table = Table::with(SECRET)?;
        for key in KEYS {
            let replaced = table.insert(Place::new(GFP_KERNEL)?, key, !key);
            assert!(replaced.is_none());
        }
        Ok(table)
    }

    /// Whether those are there, and no others.
    fn has(table: &Table<u64>, keys: &[u64]) -> bool {
        table.len() == keys.len()
            && table.is_empty() == keys.is_empty()
            && table.iter().count() == keys.len()
            && table
                .iter()
                .all(|(key, value)| keys.contains(&key) && *value == !key)
            && keys.iter().all(|key| table.get(*key) == Some(&!*key))
    }

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_out() -> Result {
        let mut table = filled()?;
        assert!(has(&table, &KEYS));
        for absent in [2, 7 + 4 * N, u64::MAX - 2 * N, N, 7 + N + 1] {
            assert!(table.get(absent).is_none());
            assert!(table.get_mut(absent).is_none());
            assert!(table.remove(absent).is_none());
        }
        for (i, key) in KEYS.iter().enumerate() {
            assert!(has(&table, &KEYS[i..]));
            let entry = table.remove(*key).ok_or(ENOENT)?;
            assert_eq!((entry.key(), entry.value), (*key, !*key));
            assert!(table.remove(*key).is_none());
            assert!(table.get(*key).is_none());
        }
        assert!(has(&table, &[]));
        Ok(())
    }

    #[test]
    fn a_value_is_replaced_and_changed() -> Result {
        let mut table = filled()?;
        for key in KEYS {
            let old = table
                .insert(Place::new(GFP_KERNEL)?, key, 5)
                .ok_or(ENOENT)?;
            assert_eq!((old.key(), old.value), (key, !key));
            assert_eq!((table.get(key), table.len()), (Some(&5), KEYS.len()));
            *table.get_mut(key).ok_or(ENOENT)? = !key;
            // The memory of the old one does as well.
            let (place, old) = old.into_slot();
            let same = table.insert(place, key, old.value).ok_or(ENOENT)?;
            assert_eq!(same.into_inner().value, !key);
        }
        assert!(has(&table, &KEYS));
        Ok(())
    }

    #[test]
    fn a_walk_goes_on_where_it_was() -> Result {
        let mut table = filled()?;
        let (mut at, mut met) = (None, KVec::new());
        loop {
            let next = table.iter_after(at).next().map(|(key, _)| key);
            let Some(key) = next else { break };
            met.push(key, GFP_KERNEL)?;
            // What the walk stands on goes, now and then; so does one that it comes to later.
            if met.len() % 2 == 0 {
                assert!(table.remove(key).is_some());
            }
            if met.len() == 3 {
                assert!(table.remove(7 + 2 * N).is_some());
            }
            at = Some(key);
        }
        let expected = [0, 1, 7, 7 + N, 7 + 3 * N, 8, u64::MAX - N, u64::MAX];
        assert_eq!(&met[..], &expected[..]);
        Ok(())
    }

    /// Counts the drops.
    struct Told(Arc<Atomic<u32>>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.add(1, Relaxed);
        }
    }

    #[test]
    fn all_are_taken_at_once() -> Result {
        // A chain of so many would be too deep.
        const MANY: u32 = 20_000;
        let n = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let mut table = Table::with(SECRET)?;
        for round in 0..2 {
            for i in 0..MANY {
                // One bucket has a fourth of them. The last goes in first: it is found at the front.
                let i = u64::from(MANY - i);
                let key = if i < u64::from(MANY) / 4 { i * N } else { i };
                let replaced = table.insert(Place::new(GFP_KERNEL)?, key, Told(n.clone()));
                drop(replaced);
            }
            let replaced = n.load(Relaxed);
            let left = MANY - replaced;
            assert_eq!(table.len(), left as usize);
            if round == 0 {
                let mut all = table.take();
                assert!(table.is_empty());
                assert!(table.iter().next().is_none());
                assert_eq!(
                    (n.load(Relaxed), all.iter().count()),
                    (replaced, left as usize)
                );
                drop(all.next());
                assert_eq!(n.load(Relaxed), replaced + 1);
                drop(all);
                assert_eq!(n.load(Relaxed), MANY);
                n.store(0, Relaxed);
            }
        }
        drop(table);
        assert_eq!(n.load(Relaxed), MANY);
        Ok(())
    }
}
