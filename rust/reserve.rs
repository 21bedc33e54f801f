// SPDX-License-Identifier: GPL-2.0

//! Memory that is had before it is needed: for what must go on while the kernel has none at hand.
//!
//! Not for what may be refused, or may wait until something has been written: see `KBox`. Not for vectors.
//!
//! C header: `include/linux/mempool.h`

use crate::bindings;
use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ops::DerefMut;
use core::ptr::NonNull;
use kernel::alloc::allocator::Kmalloc;
use kernel::alloc::Allocator;
use kernel::alloc::Flags;
use kernel::alloc::NumaNode;
use kernel::prelude::*;
#[cfg(CONFIG_KUNIT = "y")]
use kernel::sync::atomic::Atomic;
#[cfg(CONFIG_KUNIT = "y")]
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::Refcount;

/// Bytes of a small piece.
pub const SMALL: usize = 128;

/// Bytes of a large piece.
pub const LARGE: usize = 512;

/// Pieces of one size.
///
/// # Invariants
/// It is a live pool of kmalloc(), whose pieces have the size that it was made with.
struct Pool(NonNull<bindings::mempool>);

// SAFETY: A pool locks itself, and belongs to no thread.
unsafe impl Send for Pool {}
// SAFETY: As above.
unsafe impl Sync for Pool {}

impl Pool {
    fn new(n: u32, size: usize) -> Result<Self> {
        let n = i32::try_from(n)?;
        // SAFETY: Numbers only.
        let pool = unsafe { bindings::ssi_reserve_create(n, size) };
        // INVARIANT: C has just made it.
        Ok(Self(NonNull::new(pool).ok_or(ENOMEM)?))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Each piece that was taken holds the reserve, so that none is missing.
        unsafe { bindings::mempool_destroy(self.0.as_ptr()) }
    }
}

/// Memory that is kept: so many small pieces, and so many large ones.
///
/// A piece is taken from the kernel if it has one at hand, else from those that are kept; one that is given back fills up what
/// is kept first. While no more pieces of a size are held, by all together, than it was made with, nobody waits for one and nobody
/// is refused, in any context.
///
/// A piece holds the reserve that it is of. Giving back a piece does not sleep, nor does dropping the last of the reserve, which
/// only frees: any context, also with locks held.
pub struct Reserve {
    small: Pool,
    large: Pool,
    /// 1: as if the kernel had none at hand.
    #[cfg(CONFIG_KUNIT = "y")]
    is_alone: Atomic<u32>,
}

impl Reserve {
    /// Makes one. May sleep.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` so many cannot be counted.
    pub fn new(n_small: u32, n_large: u32) -> Result<Arc<Self>> {
        let reserve = Self {
            small: Pool::new(n_small, SMALL)?,
            large: Pool::new(n_large, LARGE)?,
            #[cfg(CONFIG_KUNIT = "y")]
            is_alone: Atomic::new(0),
        };
        Ok(Arc::new(reserve, GFP_KERNEL)?)
    }

    /// From now on as if the kernel had no memory at hand, or as ever. Only what is kept is given: who may sleep does not, and is
    /// refused as well.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn stand_alone(&self, alone: bool) {
        self.is_alone.store(alone.into(), Relaxed);
    }

    /// One that stands alone.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn alone(n_small: u32, n_large: u32) -> Result<Arc<Self>> {
        let reserve = Self::new(n_small, n_large)?;
        reserve.stand_alone(true);
        Ok(reserve)
    }

    fn pool(&self, size: usize) -> *mut bindings::mempool {
        let pool = if size <= SMALL {
            &self.small
        } else {
            &self.large
        };
        pool.0.as_ptr()
    }

    /// A piece of at least that size, which is at most [`LARGE`]. Sleeps only where `flags` allow it, and then always gives one.
    fn take(&self, size: usize, flags: Flags) -> Option<NonNull<u8>> {
        let pool = self.pool(size);
        #[cfg(CONFIG_KUNIT = "y")]
        if self.is_alone.load(Relaxed) != 0 {
            // SAFETY: The pool is live.
            return NonNull::new(unsafe { bindings::mempool_alloc_preallocated(pool) }.cast());
        }
        // What flags are made of is not told. Others than these, as `__GFP_ZERO`, which pools do not have, change nothing.
        let gfp = if flags.contains(GFP_KERNEL) {
            bindings::GFP_KERNEL
        } else if flags.contains(GFP_ATOMIC) {
            bindings::GFP_ATOMIC
        } else {
            bindings::GFP_NOWAIT
        };
        // SAFETY: The pool is live.
        NonNull::new(unsafe { bindings::ssi_reserve_alloc(pool, gfp) }.cast())
    }

    /// Gives a piece back. Does not sleep.
    ///
    /// # Safety
    /// [`Self::take`] gave it, for that size, and nobody uses it any more.
    unsafe fn give_back(&self, piece: NonNull<u8>, size: usize) {
        // SAFETY: The pool is live, and by the contract the piece is of it.
        unsafe { bindings::mempool_free(piece.as_ptr().cast(), self.pool(size)) }
    }
}

/// What a piece of memory holds.
#[repr(C)]
struct Piece<T> {
    /// What it is of: `None` is the kernel.
    home: Option<Arc<Reserve>>,
    value: T,
}

/// Memory for a `T`, not filled. Dropping it gives it back, which does not sleep.
///
/// # Invariants
/// `piece` is memory for a [`Piece`] that nobody else uses. Its `home` is initialised and the reserve that it was taken of, for
/// the size of that; `None`: it is of `Kmalloc`, with the layout of that.
pub struct Slot<T> {
    piece: NonNull<Piece<T>>,
}

// SAFETY: There is no `T` in it, and a reserve may be used by every thread.
unsafe impl<T> Send for Slot<T> {}
// SAFETY: As above.
unsafe impl<T> Sync for Slot<T> {}

impl<T> Slot<T> {
    const LAYOUT: Layout = Layout::new::<Piece<T>>();

    /// Takes it from the kernel.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(flags: Flags) -> Result<Self> {
        let memory = Kmalloc::alloc(Self::LAYOUT, flags, NumaNode::NO_NODE)?;
        // SAFETY: It is new, and of that layout.
        Ok(unsafe { Self::begin(memory.cast(), None) })
    }

    /// Takes it of `home`; `None`: as [`Self::new`]. Flags are `GFP_KERNEL`, to wait for a piece instead of being refused, or
    /// those that do not sleep. A `T` that does not fit [`LARGE`] bytes, with a pointer in front, is not compiled.
    ///
    /// # Errors
    /// `ENOMEM`, which a reserve never answers to who may sleep.
    pub fn of(home: Option<&Arc<Reserve>>, flags: Flags) -> Result<Self> {
        const {
            assert!(Self::LAYOUT.size() <= LARGE);
            assert!(Self::LAYOUT.align() <= bindings::ARCH_KMALLOC_MINALIGN);
        }
        let Some(home) = home else {
            return Self::new(flags);
        };
        let memory = home.take(Self::LAYOUT.size(), flags).ok_or(ENOMEM)?;
        // SAFETY: It is new, and of that reserve; that it is large enough and aligned is asserted above.
        Ok(unsafe { Self::begin(memory.cast(), Some(home.clone())) })
    }

    /// # Safety
    /// `piece` is as the type invariant says, but for `home`, which is that of the invariant.
    unsafe fn begin(piece: NonNull<Piece<T>>, home: Option<Arc<Reserve>>) -> Self {
        // SAFETY: By the contract it is memory for all of a `Piece`.
        let at = unsafe { &raw mut (*piece.as_ptr()).home };
        // SAFETY: As above: it may be written to, and nothing is there yet.
        unsafe { at.write(home) };
        // INVARIANT: By the contract, and `home` is there now.
        Self { piece }
    }

    /// Where the value is, or will be.
    fn value(&self) -> *mut T {
        // SAFETY: By the type invariant it is memory for all of a `Piece`.
        unsafe { &raw mut (*self.piece.as_ptr()).value }
    }

    /// Fills it.
    pub fn fill(self, value: T) -> Owned<T> {
        // SAFETY: By the type invariant nobody else uses that memory.
        unsafe { self.value().write(value) };
        // INVARIANT: The value is there now.
        Owned {
            slot: self,
            _value: PhantomData,
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, as `self` still has it.
        let at = unsafe { &raw mut (*self.piece.as_ptr()).home };
        // SAFETY: By the type invariant it is initialised. It is not read again: the memory is given back below.
        let home = unsafe { at.read() };
        match &home {
            // SAFETY: By the type invariant it is of that reserve and for that size, and nobody else uses it.
            Some(home) => unsafe { home.give_back(self.piece.cast(), Self::LAYOUT.size()) },
            // SAFETY: By the type invariant it is of `Kmalloc`, with that layout, and nobody else uses it.
            None => unsafe { Kmalloc::free(self.piece.cast(), Self::LAYOUT) },
        }
        // The reserve, which may go with its last piece, has it back by now.
        drop(home);
    }
}

/// A value in memory of a [`Slot`]. It is one pointer.
///
/// # Invariants
/// The value in `slot` is initialised.
pub struct Owned<T> {
    slot: Slot<T>,
    _value: PhantomData<T>,
}

// As a box: the value is behind a pointer.
impl<T> Unpin for Owned<T> {}

impl<T> Owned<T> {
    /// Takes the value out, and gives the memory back.
    pub fn into_inner(self) -> T {
        self.into_slot().1
    }

    /// Takes the value out, and keeps the memory.
    pub fn into_slot(self) -> (Slot<T>, T) {
        let whole = ManuallyDrop::new(self);
        // SAFETY: By the type invariant it is there. `whole` is not dropped: it is taken once.
        let value = unsafe { whole.slot.value().read() };
        // INVARIANT: As that of `whole`, which does not use it any more.
        let slot = Slot {
            piece: whole.slot.piece,
        };
        (slot, value)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is there, and nobody sees it after this. The memory goes with `slot`.
        unsafe { self.slot.value().drop_in_place() }
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant it is there, and it is borrowed as `self` is.
        unsafe { &*self.slot.value() }
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above.
        unsafe { &mut *self.slot.value() }
    }
}

/// A value and how many [`Shared`] of it there are.
#[pin_data]
pub struct Counted<T> {
    count: Refcount,
    #[pin]
    value: T,
}

/// Memory for a [`Shared`].
pub type SharedSlot<T> = Slot<Counted<T>>;

impl<T> Slot<Counted<T>> {
    /// Fills it with a value that is counted and does not move.
    pub fn share(self, init: impl PinInit<T>) -> Shared<T> {
        let init = pin_init!(Counted {
            count: Refcount::new(1),
            value <- init,
        });
        // SAFETY: By the type invariant nobody else uses that memory, and the value stays there until it is dropped: nothing
        // takes it out of a `Shared`.
        unsafe { pin_init::raw_init(self.value(), init) };
        // INVARIANT: The value is there now, and its count is that of this one.
        Shared {
            piece: ManuallyDrop::new(self).piece,
        }
    }
}

/// A counted value, as `Arc`, in memory of a [`Slot`].
///
/// # Invariants
/// `piece` is as that of a [`Slot`], but that every `Shared` of it uses it; the value is initialised and does not move. The count
/// in it is that of those that there are.
pub struct Shared<T> {
    piece: NonNull<Piece<Counted<T>>>,
}

// SAFETY: As `Arc`: the value is used, and in the end dropped, by any thread that has one.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: As above: who sees one may clone it.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn counted(&self) -> &Counted<T> {
        // SAFETY: By the type invariant it is there, and stays while `self` is counted.
        let piece = unsafe { self.piece.as_ref() };
        &piece.value
    }

    /// Whether both are the same value.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.piece == other.piece
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        self.counted().count.inc();
        // INVARIANT: It has just been counted.
        Self { piece: self.piece }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.counted().count.dec_and_test() {
            // INVARIANT: By the type invariant there is no other: nobody else uses the memory, and the value is there.
            drop(Owned {
                slot: Slot { piece: self.piece },
                _value: PhantomData,
            });
        }
    }
}

#[kunit_tests(ssi_reserve)]
mod tests {
    use super::*;
    use crate::kthread::KThread;
    use crate::machine;
    use kernel::sync::atomic::Atomic;
    use kernel::sync::atomic::Relaxed;
    use kernel::sync::SpinLockIrq;

    /// Counts the drops.
    struct Told(Arc<Atomic<u32>>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.add(1, Relaxed);
        }
    }

    type Small = Slot<[u8; SMALL - 8]>;
    type Large = Slot<[u8; SMALL - 7]>;

    #[test]
    fn pieces_that_are_kept_are_given_and_come_back() -> Result {
        let home = Reserve::alone(3, 1)?;
        for _ in 0..3 {
            let mut held = KVec::new();
            for _ in 0..3 {
                held.push(Small::of(Some(&home), GFP_ATOMIC)?, GFP_KERNEL)?;
            }
            assert!(Small::of(Some(&home), GFP_ATOMIC).is_err());
            // Those of one size are not those of the other.
            let large = Large::of(Some(&home), GFP_ATOMIC)?;
            assert!(Large::of(Some(&home), GFP_ATOMIC).is_err());
            drop(held.pop());
            held.push(Small::of(Some(&home), GFP_NOWAIT)?, GFP_KERNEL)?;
            assert!(Small::of(Some(&home), GFP_ATOMIC).is_err());
            drop(large);
        }
        // The kernel's own are not counted.
        let _all = [Small::of(Some(&home), GFP_ATOMIC)?, Small::new(GFP_KERNEL)?];
        let _two = [
            Large::of(Some(&home), GFP_ATOMIC)?,
            Large::of(None, GFP_KERNEL)?,
        ];
        Ok(())
    }

    #[test]
    fn the_kernel_gives_first() -> Result {
        let home = Reserve::new(1, 1)?;
        let mut held = KVec::new();
        for flags in [
            GFP_ATOMIC | __GFP_NOWARN,
            GFP_NOWAIT,
            GFP_KERNEL,
            GFP_KERNEL | __GFP_ZERO,
        ] {
            held.push(Slot::<[u64; 2]>::of(Some(&home), flags)?, GFP_KERNEL)?;
        }
        drop(home);
        for (n, slot) in held.into_iter().enumerate() {
            let owned = slot.fill([7, n as u64]);
            assert_eq!(owned.into_inner(), [7, n as u64]);
        }
        Ok(())
    }

    #[test]
    fn a_value_is_dropped_once() -> Result {
        let home = Reserve::alone(1, 0)?;
        let n = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        for of in [None, Some(&home)] {
            n.store(0, Relaxed);
            let slot = Slot::<(u64, Told)>::of(of, GFP_KERNEL)?;
            let at = slot.piece;
            let mut owned = slot.fill((1, Told(n.clone())));
            owned.0 += 1;
            let (slot, value) = owned.into_slot();
            assert_eq!((value.0, n.load(Relaxed)), (2, 0));
            let is_kept = slot.piece == at;
            assert!(is_kept);
            drop(value);
            assert_eq!(n.load(Relaxed), 1);
            drop(slot.fill((3, Told(n.clone()))));
            assert_eq!(n.load(Relaxed), 2);
            let value = Slot::of(of, GFP_KERNEL)?
                .fill((4, Told(n.clone())))
                .into_inner();
            assert_eq!((value.0, n.load(Relaxed)), (4, 2));
            drop(value);
            assert_eq!(n.load(Relaxed), 3);
        }
        // Each time the piece came back.
        assert!(Small::of(Some(&home), GFP_ATOMIC).is_ok());
        Ok(())
    }

    #[pin_data]
    struct Locked {
        #[pin]
        inner: SpinLockIrq<u32>,
        told: Told,
    }

    impl Locked {
        fn new(n: &Arc<Atomic<u32>>) -> impl PinInit<Self> {
            let told = Told(n.clone());
            pin_init!(Self {
                inner <- kernel::sync::new_spinlock_irq!(0, "ssi::reserve::case"),
                told,
            })
        }
    }

    #[test]
    fn the_last_of_those_who_share_gives_it_back() -> Result {
        let home = Reserve::alone(1, 1)?;
        let n = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let slot = || SharedSlot::<Locked>::of(Some(&home), GFP_ATOMIC);
        let one = slot()?.share(Locked::new(&n));
        let other = SharedSlot::new(GFP_KERNEL)?.share(Locked::new(&n));
        assert!(!Shared::ptr_eq(&one, &other));
        drop(other);
        assert_eq!(n.load(Relaxed), 1);
        let mut threads = KVec::new();
        for _ in 0..4 {
            let own = one.clone();
            assert!(Shared::ptr_eq(&one, &own));
            let thread = KThread::run(c"ssi_case", move || {
                for _ in 0..1000 {
                    *own.clone().inner.lock() += 1;
                }
            })?;
            threads.push(thread, GFP_KERNEL)?;
        }
        // A thread that is joined before its first turn does not run at all.
        while *one.inner.lock() < 4000 {
            machine::sleep_ms(1);
        }
        drop(threads);
        assert_eq!((*one.inner.lock(), n.load(Relaxed)), (4000, 1));
        assert!(slot().is_err());
        let last = one.clone();
        drop(one);
        assert_eq!(n.load(Relaxed), 1);
        assert!(slot().is_err());
        drop(last);
        assert_eq!(n.load(Relaxed), 2);
        drop(slot()?);
        Ok(())
    }

    /// Who frees may hold locks, and the piece may be all that holds the reserve.
    #[test]
    fn nothing_sleeps_that_gives_back() -> Result {
        let (home, n) = (
            Reserve::new(2, 2)?,
            Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?,
        );
        let lock = KBox::pin_init(
            kernel::sync::new_spinlock_irq!((), "ssi::reserve::case"),
            GFP_KERNEL,
        )?;
        let shared = SharedSlot::of(Some(&home), GFP_KERNEL)?.share(Locked::new(&n));
        let guard = lock.lock();
        let owned = Slot::of(Some(&home), GFP_ATOMIC).map(|s| s.fill(Told(n.clone())));
        let is_had = owned.is_ok();
        drop(home);
        drop(owned);
        drop(shared);
        drop(guard);
        assert!(is_had);
        assert_eq!(n.load(Relaxed), 2);
        Ok(())
    }
}
