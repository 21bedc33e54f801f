// SPDX-License-Identifier: GPL-2.0

//! The arriving process: what was open there is opened here, by name, and gets its number.

use super::FileId;
use super::FileRef;
use crate::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;

impl FileRef {
    /// Opens here, by name, the file that another node had open there.
    ///
    /// # Errors
    /// `ESTALE` if another file or none has that name here; then what opening gives.
    pub fn reopen(path: &CStr, flags: u32, pos: i64, id: &FileId) -> Result<Self> {
        let id = id.to_c();
        // SAFETY: `path` is a C string and `id` valid; the result carries a count.
        let ret = unsafe { bindings::ssi_file_reopen(path.as_char_ptr(), flags, pos, &id) };
        // SAFETY: As above.
        unsafe { Self::from_ret(ret) }
    }

    /// Opens `/dev/null` (minor 3) or one of its like.
    ///
    /// # Errors
    /// `EINVAL` for another minor; `ESTALE` if that name is something else here; then what opening gives.
    pub fn open_mem(minor: u32, flags: u32) -> Result<Self> {
        // SAFETY: The function takes numbers; the result carries a count.
        let ret = unsafe { bindings::ssi_mem_open(minor, flags) };
        // SAFETY: As above.
        unsafe { Self::from_ret(ret) }
    }

    /// Gives the file that number in the current process.
    ///
    /// # Errors
    /// `EMFILE` beyond `fs.nr_open`; `ENOMEM`.
    pub fn install(&self, fd: u32, cloexec: bool) -> Result {
        // SAFETY: The file is live; the table takes its own count.
        to_result(unsafe { bindings::pproc_fd_install(fd, self.ptr.as_ptr(), cloexec) })
    }
}

/// Makes the directory `path`, which must be `id`, the current process's working directory.
///
/// # Errors
/// `ESTALE` if another directory or none has that name here.
pub fn set_cwd(path: &CStr, id: &FileId, umask: u32) -> Result {
    let id = id.to_c();
    // SAFETY: `path` is a C string and `id` valid.
    to_result(unsafe { bindings::ssi_cwd_set(path.as_char_ptr(), &id, umask) })
}
