// SPDX-License-Identifier: GPL-2.0

//! Waiting for conditions, and queues between threads.

use crate::bindings;
use crate::fifo::Fifo;
use crate::fifo::Node;
use crate::reserve::Owned;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::sync::LockClassKey;
use kernel::sync::SpinLockIrq;
use kernel::time::Msecs;
use kernel::types::Opaque;

/// How a waiter sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// Not counted as load; for service threads and what may take for ever.
    Idle,
    /// Ends when the task is killed.
    Killable,
    /// Ends with any signal.
    Interruptible,
}

impl Sleep {
    /// The kernel's task state.
    fn state(self) -> u32 {
        match self {
            Self::Idle => bindings::TASK_UNINTERRUPTIBLE | bindings::TASK_NOLOAD,
            Self::Killable => bindings::TASK_WAKEKILL | bindings::TASK_UNINTERRUPTIBLE,
            Self::Interruptible => bindings::TASK_INTERRUPTIBLE,
        }
    }
}

/// Something that may have changed: waiters look at their condition again when told.
#[pin_data]
pub struct Event {
    #[pin]
    queue: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue locks itself.
unsafe impl Send for Event {}
// SAFETY: As above.
unsafe impl Sync for Event {}

/// Name and class of the lock in an [`Event`].
///
/// Never inlined: lockdep knows a class by the addresses of both, and code that is compiled into several crates, as
/// whatever is generic is, has a copy of its literals in each.
#[inline(never)]
fn event_class() -> (&'static CStr, Pin<&'static LockClassKey>) {
    (c"ssi::event", kernel::static_lock_class!())
}

/// Name and class of the lock in a [`Queue`]; as [`event_class`].
#[inline(never)]
fn queue_class() -> (&'static CStr, Pin<&'static LockClassKey>) {
    (c"ssi::queue", kernel::static_lock_class!())
}

fn jiffies(ms: Msecs) -> isize {
    kernel::time::msecs_to_jiffies(ms) as isize // CAST: small.
}

impl Event {
    /// Makes one.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            queue <- Opaque::ffi_init(|slot| {
                let (name, class) = event_class();
                // SAFETY: `slot` is valid and stays where it is; name and class are static.
                unsafe { bindings::__init_waitqueue_head(slot, name.as_char_ptr(), class.as_ptr()) }
            }),
        })
    }

    /// Tells all waiters. Any context.
    pub fn notify_all(&self) {
        // SAFETY: The queue is initialised. 3 is TASK_NORMAL; 0 wakes all.
        unsafe { bindings::__wake_up(self.queue.get(), 3, 0, core::ptr::null_mut()) };
    }

    /// Tells one of those who wait in line: who began last. Any context.
    pub fn notify_one(&self) {
        // SAFETY: The queue is initialised. 3 is TASK_NORMAL.
        unsafe { bindings::__wake_up(self.queue.get(), 3, 1, core::ptr::null_mut()) };
    }

    /// Sleeps until `cond` holds. Returns whether it does: `false` after a signal or the time-out. Nobody in line is told of signals.
    fn wait(
        &self,
        sleep: Sleep,
        in_line: bool,
        timeout: Option<isize>,
        mut cond: impl FnMut() -> bool,
    ) -> bool {
        if cond() {
            return true;
        }
        let mut left = timeout.unwrap_or(isize::MAX);
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // 1 is WQ_FLAG_EXCLUSIVE.
        // SAFETY: `entry` lives until `finish_wait` below.
        unsafe { bindings::init_wait_entry(entry.get(), i32::from(in_line)) };
        let met = loop {
            let (queue, state) = (self.queue.get(), sleep.state());
            let interrupted = if in_line {
                // SAFETY: Both are initialised; the entry is taken out below.
                unsafe { bindings::ssi_wait_in_front(queue, entry.get(), state) };
                0
            } else {
                // SAFETY: As above.
                unsafe { bindings::prepare_to_wait_event(queue, entry.get(), state as i32) }
            };
            if cond() {
                break true;
            }
            if interrupted != 0 || left == 0 {
                break false;
            }
            // SAFETY: The task state was set above.
            left = unsafe { bindings::schedule_timeout(left) };
        };
        // SAFETY: The entry was put in above.
        unsafe { bindings::finish_wait(self.queue.get(), entry.get()) };
        met
    }

    /// Sleeps until `cond` holds. No signal ends it.
    pub fn wait_until(&self, cond: impl FnMut() -> bool) {
        self.wait(Sleep::Idle, false, None, cond);
    }

    /// Sleeps until `cond` holds or the time is over. Returns whether it holds.
    pub fn wait_timeout(&self, timeout_ms: Msecs, cond: impl FnMut() -> bool) -> bool {
        self.wait(Sleep::Idle, false, Some(jiffies(timeout_ms)), cond)
    }

    /// Sleeps until `cond` holds or the task is killed. Returns whether it holds.
    pub fn wait_killable(&self, cond: impl FnMut() -> bool) -> bool {
        self.wait(Sleep::Killable, false, None, cond)
    }

    /// Sleeps until `cond` holds or a signal comes. Returns whether it holds.
    pub fn wait_interruptible(&self, cond: impl FnMut() -> bool) -> bool {
        self.wait(Sleep::Interruptible, false, None, cond)
    }
}

/// First in, first out, between threads.
#[pin_data]
pub struct Queue<T: Send + Unpin> {
    #[pin]
    inner: SpinLockIrq<Inner<T>>,
    #[pin]
    changed: Event,
}

struct Inner<T> {
    items: Fifo<T>,
    /// Those who found no item and have none yet.
    waiters: usize,
}

impl<T: Send + Unpin> Queue<T> {
    /// Makes an empty one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        let inner = Inner {
            items: Fifo::new(),
            waiters: 0,
        };
        let (name, class) = queue_class();
        Arc::pin_init(
            pin_init!(Self {
                inner <- SpinLockIrq::new(inner, name, class),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds an item. May sleep. Returns whether there is a waiter for each item.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn push(&self, item: T) -> Result<bool> {
        Ok(self.push_back(Node::new(item)?))
    }

    /// Adds an item with its memory. Any context. Returns whether there is a waiter for each item.
    pub fn push_back(&self, item: Owned<Node<T>>) -> bool {
        let is_served = {
            let mut inner = self.inner.lock();
            inner.items.push_back(item);
            inner.waiters >= inner.items.len()
        };
        self.changed.notify_one();
        is_served
    }

    /// As [`Self::push_back`], but only where a waiter takes it.
    ///
    /// # Errors
    /// The item, which is not added.
    pub fn push_if_served(&self, item: Owned<Node<T>>) -> core::result::Result<(), Owned<Node<T>>> {
        {
            let mut inner = self.inner.lock();
            if inner.waiters <= inner.items.len() {
                return Err(item);
            }
            inner.items.push_back(item);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Takes an item, which ends the waiting, or begins to wait: each in one step, so that whoever pushes never counts on
    /// a waiter that has an item already.
    fn take(&self, is_waiter: &mut bool) -> Option<Owned<Node<T>>> {
        let mut inner = self.inner.lock();
        let first = inner.items.pop_front();
        match &first {
            Some(_) => {
                inner.waiters -= usize::from(*is_waiter);
                *is_waiter = false;
            }
            None => {
                inner.waiters += usize::from(!*is_waiter);
                *is_waiter = true;
            }
        }
        first
    }

    /// Sleeps until there is an item, and takes it.
    pub fn wait(&self) -> T {
        self.wait_node().into_inner().value
    }

    /// The same with its memory.
    pub fn wait_node(&self) -> Owned<Node<T>> {
        // Without a limit there is an item; the loop states that to the compiler.
        loop {
            if let Some(item) = self.wait_by(None, usize::MAX, |w| self.take(w)) {
                return item;
            }
        }
    }

    /// As [`Self::wait_node`], but not for longer than that while more than `keep` wait: then `None`, and this one does not wait
    /// any more.
    pub fn wait_node_for(&self, limit_ms: Msecs, keep: usize) -> Option<Owned<Node<T>>> {
        self.wait_by(Some(limit_ms), keep, |w| self.take(w))
    }

    /// The same, by what takes an item as [`Self::take`] does.
    fn wait_by(
        &self,
        limit_ms: Option<Msecs>,
        keep: usize,
        mut take: impl FnMut(&mut bool) -> Option<Owned<Node<T>>>,
    ) -> Option<Owned<Node<T>>> {
        let mut limit = limit_ms.map(jiffies);
        let mut is_waiter = false;
        loop {
            let (mut item, mut was_in_line) = (None, false);
            self.changed.wait(Sleep::Idle, true, limit, || {
                item = take(&mut is_waiter);
                was_in_line |= is_waiter;
                item.is_some()
            });
            if item.is_none() && self.leave(keep, &mut is_waiter) {
                // Nothing is asked of it any more.
                limit = None;
            }
            if was_in_line {
                self.pass_on();
            }
            if item.is_some() || !is_waiter {
                return item;
            }
        }
    }

    /// Ends the waiting in one step, as [`Self::take`] does, unless there is an item by now. Returns whether it does not, as no
    /// more than `keep` wait.
    fn leave(&self, keep: usize, is_waiter: &mut bool) -> bool {
        let mut inner = self.inner.lock();
        let is_kept = inner.waiters <= keep;
        if !is_kept && inner.items.is_empty() {
            inner.waiters -= 1;
            *is_waiter = false;
        }
        is_kept
    }

    /// After being in line: who was told of an item when it had one already tells the next.
    fn pass_on(&self) {
        if !self.inner.lock().items.is_empty() {
            self.changed.notify_one();
        }
    }
}

#[kunit_tests(ssi_wait)]
mod tests {
    use super::*;
    use crate::kthread::KThread;
    use crate::machine;
    use kernel::sync::atomic::Atomic;
    use kernel::sync::atomic::Relaxed;
    use kernel::types::ScopeGuard;

    /// Waiting for longer than this is a failure.
    const LIMIT_MS: u32 = 10_000;

    fn until(cond: impl Fn() -> bool) -> bool {
        for _ in 0..LIMIT_MS / 10 {
            if cond() {
                return true;
            }
            machine::sleep_ms(10);
        }
        false
    }

    /// A thread has found an item by itself, and is still in line when the next one comes.
    #[test]
    fn a_thread_that_leaves_the_line_keeps_no_other_asleep() -> Result {
        let queue = Queue::<u32>::new()?;
        let (looked, taken) = (
            Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?,
            Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?,
        );
        let other = {
            let (queue, looked, taken) = (queue.clone(), looked.clone(), taken.clone());
            KThread::run(c"ssi_case", move || {
                let n = queue.wait_by(None, usize::MAX, |is_waiter| {
                    looked.add(1, Relaxed);
                    queue.take(is_waiter)
                });
                taken.store(n.map_or(0, |n| n.value), Relaxed);
            })?
        };
        // Before it was in line, and in it.
        assert!(until(|| looked.load(Relaxed) == 2));
        let mut places = Some((Node::new(1)?, Node::new(2)?));
        let mine = queue.wait_by(None, usize::MAX, |is_waiter| {
            let was_waiter = *is_waiter;
            if let Some((one, two)) = places.take_if(|_| was_waiter) {
                // Nobody is told of the first: as if that had come, and gone on to wait, when this thread takes it.
                queue.inner.lock().items.push_back(one);
                let item = queue.take(is_waiter);
                let _added = queue.push_if_served(two);
                return item;
            }
            queue.take(is_waiter)
        });
        let is_taken = until(|| taken.load(Relaxed) == 2);
        // It ends in any case.
        queue.push(3)?;
        drop(other);
        assert_eq!((mine.map(|n| n.value), is_taken), (Some(1), true));
        Ok(())
    }

    #[test]
    fn who_waits_for_long_leaves_unless_it_is_kept() -> Result {
        const ALL: u32 = 6;
        const KEPT: usize = 2;
        let queue = Queue::<u32>::new()?;
        let left = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let mut threads = KVec::new();
        // However the case ends, they do.
        let end = queue.clone();
        let _end = ScopeGuard::new(move || {
            for _ in 0..ALL {
                let _served = end.push(0);
            }
        });
        for _ in 0..ALL {
            let (queue, left) = (queue.clone(), left.clone());
            let thread = KThread::run(c"ssi_case", move || {
                while let Some(n) = queue.wait_node_for(200, KEPT) {
                    if n.value == 0 {
                        return;
                    }
                }
                left.add(1, Relaxed);
            })?;
            threads.push(thread, GFP_KERNEL)?;
        }
        let n_left = ALL - KEPT as u32;
        assert!(until(|| left.load(Relaxed) == n_left));
        machine::sleep_ms(500);
        assert_eq!(left.load(Relaxed), n_left);
        // Those that are kept are counted on, and no others.
        assert!(queue.push(1)?);
        let is_taken = || {
            let inner = queue.inner.lock();
            (inner.items.len(), inner.waiters) == (0, KEPT)
        };
        assert!(until(is_taken));
        for (n, is_served) in [(0, true), (0, true), (2, false)] {
            assert_eq!(queue.push_if_served(Node::new(n)?).is_ok(), is_served);
        }
        Ok(())
    }
}
