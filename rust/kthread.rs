// SPDX-License-Identifier: GPL-2.0

//! Kernel threads that run a closure, end by themselves and are joined when dropped.
//!
//! 7.3 gives kernel threads an empty root directory: nothing in them may look up a path.

use crate::bindings;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::ffi::c_int;
use kernel::ffi::c_uint;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::NotThreadSafe;

/// A running or ended thread. Dropping it sleeps until it has ended: whoever drops it has told it to.
///
/// # Invariants
/// `task` is live and owns one count; `free` fits `arg`, which is the thread's closure as long as it has not begun.
pub struct KThread {
    task: NonNull<bindings::task_struct>,
    arg: *mut c_void,
    free: unsafe fn(*mut c_void),
}

// SAFETY: A thread may be joined and interrupted from any task.
unsafe impl Send for KThread {}
// SAFETY: `interrupt` may run at the same time as itself.
unsafe impl Sync for KThread {}

/// Takes the closure out of its box, runs it, and thereby ends the thread.
///
/// # Safety
/// `arg` is a `KBox<F>` given up for this call.
unsafe extern "C" fn main<F: FnOnce() + Send + 'static>(arg: *mut c_void) -> c_int {
    // SAFETY: By the contract.
    let f = unsafe { KBox::from_raw(arg.cast::<F>()) };
    KBox::into_inner(f)();
    0
}

/// Drops the closure of a thread that has ended without running it.
///
/// # Safety
/// `arg` is a `KBox<F>` given up for this call.
unsafe fn free<F>(arg: *mut c_void) {
    // SAFETY: By the contract.
    drop(unsafe { KBox::from_raw(arg.cast::<F>()) });
}

impl KThread {
    /// Starts a thread. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`; `EINTR` if the caller was killed.
    pub fn run<F: FnOnce() + Send + 'static>(name: &CStr, f: F) -> Result<Self> {
        let arg = KBox::into_raw(KBox::new(f, GFP_KERNEL)?);
        // SAFETY: `main::<F>` fits `arg`, which it gets once.
        let ptr =
            unsafe { bindings::ssi_kthread_start(Some(main::<F>), arg.cast(), name.as_char_ptr()) };
        match from_err_ptr(ptr) {
            // INVARIANT: C took a count for us.
            Ok(p) => Ok(Self {
                task: NonNull::new(p).ok_or(ENOMEM)?,
                arg: arg.cast(),
                free: free::<F>,
            }),
            Err(e) => {
                // SAFETY: The thread does not exist: the box is still ours.
                drop(unsafe { KBox::from_raw(arg) });
                Err(e)
            }
        }
    }

    /// Interrupts what the thread waits for, if it has called [`allow_interrupt`].
    pub fn interrupt(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ssi_kthread_interrupt(self.task.as_ptr()) }
    }
}

impl Drop for KThread {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the count is given back here.
        let has_run = unsafe { bindings::ssi_kthread_join(self.task.as_ptr()) };
        if !has_run {
            // SAFETY: By the type invariant: the thread was joined before it began.
            unsafe { (self.free)(self.arg) }
        }
    }
}

/// The current thread runs before every ordinary one from now on.
pub fn make_realtime() {
    // SAFETY: Acts on the current thread.
    unsafe { bindings::ssi_kthread_make_realtime() }
}

/// While this lives the current thread does not wait, for memory, until something has been written: that may need other nodes, and
/// them this thread. It waits until others get memory free. They may be nested.
///
/// Source: `memalloc_noio_save()`.
pub struct WithoutIo {
    before: c_uint,
    _of_the_thread: NotThreadSafe,
}

impl WithoutIo {
    /// From now on.
    pub fn begin() -> Self {
        Self {
            // SAFETY: Acts on the current thread.
            before: unsafe { bindings::ssi_kthread_avoid_io() },
            _of_the_thread: NotThreadSafe,
        }
    }
}

impl Drop for WithoutIo {
    fn drop(&mut self) {
        // SAFETY: It is the thread that it was begun in: this cannot be sent to another.
        unsafe { bindings::ssi_kthread_allow_io(self.before) }
    }
}

/// Lets interruptible waits of the current kernel thread be interrupted.
pub fn allow_interrupt() {
    // SAFETY: Acts on the current thread.
    unsafe { bindings::ssi_kthread_allow_interrupt() }
}

/// Ends an interruption of the current thread.
pub fn interruption_done() {
    // SAFETY: Acts on the current thread.
    unsafe { bindings::ssi_kthread_interrupted_done() }
}

/// Who the current thread is, to be interrupted by others while it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ThreadId(*mut bindings::task_struct);

// SAFETY: The pointer is only used under the contract of `interrupt`.
unsafe impl Send for ThreadId {}
// SAFETY: As above.
unsafe impl Sync for ThreadId {}

impl ThreadId {
    /// That of the current thread.
    pub fn current() -> Self {
        // SAFETY: No arguments.
        Self(unsafe { bindings::ssi_kthread_current() })
    }

    /// Interrupts what the thread waits for.
    ///
    /// # Safety
    /// The thread has not ended.
    pub unsafe fn interrupt(self) {
        // SAFETY: By the contract.
        unsafe { bindings::ssi_kthread_interrupt(self.0) }
    }
}
