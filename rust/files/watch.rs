// SPDX-License-Identifier: GPL-2.0

//! Being told when a file that is served may have become ready.

use super::FileRef;
use crate::bindings;
use core::ffi::c_void;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Is told that a file may have become ready.
pub trait Watcher: Send + Sync + 'static {
    /// Once after each [`Watch::arm`]. Context: a work item; may sleep.
    fn event(&self);
}

/// A watch on an open pipe, terminal or socket of this node. Dropping it waits for an event under way.
///
/// # Invariants
/// `ptr` is what `ssi_watch_create()` returned, `target` what `Arc::into_raw()` gave.
pub struct Watch<T: Watcher> {
    ptr: NonNull<bindings::ssi_watch>,
    target: *const T,
}

// SAFETY: The C object locks itself; `T` is `Send` and `Sync`.
unsafe impl<T: Watcher> Send for Watch<T> {}
// SAFETY: As above.
unsafe impl<T: Watcher> Sync for Watch<T> {}

impl<T: Watcher> Watch<T> {
    /// Prepares a watch.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(file: &FileRef, target: Arc<T>) -> Result<Self> {
        let target = target.into_raw();
        // SAFETY: The file is live; `target` stays until the watch is destroyed.
        let ptr = unsafe {
            bindings::ssi_watch_create(
                file.ptr.as_ptr(),
                Some(Self::event_c),
                target.cast_mut().cast(),
            )
        };
        match NonNull::new(ptr) {
            // INVARIANT: Both are as the invariant asks.
            Some(ptr) => Ok(Self { ptr, target }),
            None => {
                // SAFETY: `target` came from `into_raw()` above and nobody else has it.
                drop(unsafe { Arc::from_raw(target) });
                Err(ENOMEM)
            }
        }
    }

    /// Asks for one event, and tells what the file is ready for now. Sleeps.
    pub fn arm(&self) -> u32 {
        // SAFETY: `ptr` is live by the type invariant.
        unsafe { bindings::ssi_watch_arm(self.ptr.as_ptr()) }
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn event_c(arg: *mut c_void) {
        // SAFETY: `arg` is `target`, which the watch owns until no event is under way.
        unsafe { &*arg.cast::<T>() }.event();
    }
}

impl<T: Watcher> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: `ptr` is live, and this is its end.
        unsafe { bindings::ssi_watch_destroy(self.ptr.as_ptr()) };
        // SAFETY: `target` came from `into_raw()`; after the call above nobody uses it.
        drop(unsafe { Arc::from_raw(self.target) });
    }
}
