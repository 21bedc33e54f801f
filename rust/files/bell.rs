// SPDX-License-Identifier: GPL-2.0

//! Where those wait who use a proxy.

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;

/// Where users of a proxy wait.
///
/// # Invariants
/// `0` is what `ssi_bell_create()` returned.
pub struct Bell(NonNull<bindings::ssi_bell>);

// SAFETY: The C object is a wait queue and an atomic number.
unsafe impl Send for Bell {}
// SAFETY: As above.
unsafe impl Sync for Bell {}

impl Bell {
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: No arguments.
        let ptr = unsafe { bindings::ssi_bell_create() };
        // INVARIANT: As the invariant asks.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// How often it has rung.
    pub fn number(&self) -> u64 {
        // SAFETY: Live by the type invariant.
        unsafe { bindings::ssi_bell_number(self.0.as_ptr()) }
    }

    /// Wakes all.
    pub fn ring(&self) {
        // SAFETY: Live by the type invariant.
        unsafe { bindings::ssi_bell_ring(self.0.as_ptr()) }
    }

    /// Waits until it has rung more than `number` times, at most `timeout_ms` if that is not 0.
    ///
    /// # Errors
    /// `ERESTARTSYS` at a signal.
    pub fn wait(&self, number: u64, timeout_ms: u32) -> Result {
        // SAFETY: Live by the type invariant.
        to_result(unsafe { bindings::ssi_bell_wait(self.0.as_ptr(), number, timeout_ms) })
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: Live by the type invariant, and this is its end.
        unsafe { bindings::ssi_bell_destroy(self.0.as_ptr()) }
    }
}

/// A poll under way on a proxy.
pub struct Poll<'a> {
    pub(super) file: *mut bindings::file,
    pub(super) table: *mut bindings::poll_table_struct,
    pub(super) _life: PhantomData<&'a ()>,
}

impl Poll<'_> {
    /// Also waits at `bell`.
    pub fn register(&self, bell: &Bell) {
        // SAFETY: All are live during the poll; the bell outlives its proxy's file by a grace period.
        unsafe { bindings::ssi_bell_poll(bell.0.as_ptr(), self.file, self.table) }
    }
}
