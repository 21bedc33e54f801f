// SPDX-License-Identifier: GPL-2.0

//! An open file.

use crate::bindings;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::prelude::*;

/// A counted reference to an open file.
///
/// # Invariants
/// `ptr` is live and owns one count.
pub struct FileRef {
    pub(super) ptr: NonNull<bindings::file>,
}

// SAFETY: A `struct file` may be used and put from any thread.
unsafe impl Send for FileRef {}
// SAFETY: As above; what this type does with it locks as needed.
unsafe impl Sync for FileRef {}

impl Clone for FileRef {
    fn clone(&self) -> Self {
        // SAFETY: `self.ptr` is live by the type invariant.
        unsafe { bindings::ssi_file_get(self.ptr.as_ptr()) };
        // INVARIANT: The count was taken above.
        Self { ptr: self.ptr }
    }
}

impl Drop for FileRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `ptr` is live, and this gives back the one count it owns.
        unsafe { bindings::ssi_file_put(self.ptr.as_ptr()) }
    }
}

impl PartialEq for FileRef {
    /// Whether it is the same open file description.
    fn eq(&self, other: &Self) -> bool {
        self.ptr == other.ptr
    }
}

impl FileRef {
    /// # Safety
    /// `ret` is an error pointer or a file of which the caller owns one count.
    pub(super) unsafe fn from_ret(ret: *mut bindings::file) -> Result<Self> {
        let ptr = NonNull::new(from_err_ptr(ret)?).ok_or(ENOMEM)?;
        // INVARIANT: The caller gives the count that it owns.
        Ok(Self { ptr })
    }
}
