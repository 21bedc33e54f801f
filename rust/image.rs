// SPDX-License-Identifier: GPL-2.0

//! The image of a process: task, mappings, pages. Bytes that only the built-in half (`kernel/ssi/image.c`, `mm.c`)
//! understands.
//!
//! At the source all runs in the frozen process, at the destination in the new one, in the order that
//! `include/linux/ssi_image.h` gives.

use crate::bindings;
use crate::movement::Refusal;
use kernel::error::to_result;
use kernel::prelude::*;

/// Bytes of a page.
pub const PAGE: usize = bindings::SSI_PAGE_SIZE as usize;

/// In a page's address: a guard page, without content.
pub const GUARD: u64 = 1;

/// Room for a task's image.
pub const MAX_TASK: usize = bindings::SSI_TASK_MAX as usize;

/// Room for the mappings that one message carries beside the rest.
pub const MAX_MM: usize = 768 * 1024;

/// Calls a function that fills a text with the cause of its refusal.
fn explain(f: impl FnOnce(*mut kernel::ffi::c_char, usize) -> i32) -> core::result::Result<(), Refusal> {
    let mut why = [0u8; Refusal::TEXT];
    to_result(f(why.as_mut_ptr(), why.len())).map_err(|e| Refusal::new(e, &why))
}

/// Calls a function that fills a buffer of `room` bytes.
fn fill(room: usize, f: impl FnOnce(*mut kernel::ffi::c_void, usize) -> isize) -> Result<KVVec<u8>> {
    let mut buf = KVVec::from_elem(0u8, room, GFP_KERNEL)?;
    let n = f(buf.as_mut_ptr().cast(), room);
    if n < 0 {
        // CAST: errnos fit.
        return Err(to_result(n as i32).err().unwrap_or(EIO));
    }
    buf.truncate(n as usize);
    Ok(buf)
}

/// Whether the current process can be held in an image.
///
/// # Errors
/// Each cause has its errno: `Documentation/image.rst` has the table.
pub fn check() -> core::result::Result<(), Refusal> {
    // SAFETY: The buffer is writable for its length.
    explain(|why, len| unsafe { bindings::pproc_image_check(why, len) })
}

/// The current process but for memory, files, credentials and pending signals. Its timers stand still from now on.
///
/// # Errors
/// `ENOMEM`, `E2BIG`.
pub fn capture_task() -> Result<KVVec<u8>> {
    // SAFETY: The buffer is writable for its length.
    fill(MAX_TASK, |b, n| unsafe { bindings::pproc_task_capture(b, n) as isize })
}

/// The mappings of the current process.
///
/// # Errors
/// `ENOMEM`; `E2BIG` for more than fits.
pub fn capture_mm() -> Result<KVVec<u8>> {
    // SAFETY: The buffer is writable for its length.
    fill(MAX_MM, |b, n| unsafe { bindings::pproc_mm_capture(b, n) as isize })
}

/// A walk over the pages of the current process that an image must hold.
#[derive(Default)]
pub struct Pages(bindings::ssi_page_cursor);

impl Pages {
    /// Begins at the first page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Addresses of the next pages, at most as many as `addrs` holds; 0 at the end. [`GUARD`] marks guard pages.
    ///
    /// # Errors
    /// `EFAULT`, `EOPNOTSUPP` for what cannot be read.
    pub fn next(&mut self, addrs: &mut [u64]) -> Result<usize> {
        // SAFETY: `addrs` is writable for its length.
        let n = unsafe {
            bindings::pproc_pages_next(&mut self.0, addrs.as_mut_ptr(), addrs.len()) as isize
        };
        if n < 0 {
            // CAST: errnos fit.
            return Err(to_result(n as i32).err().unwrap_or(EIO));
        }
        Ok(n as usize)
    }
}

/// Reads pages of the current process.
///
/// # Errors
/// `EFAULT`; `EINVAL` if `out` is not as large as the pages.
pub fn read_pages(addrs: &[u64], out: &mut [u8]) -> Result {
    if out.len() != addrs.len() * PAGE {
        return Err(EINVAL);
    }
    // SAFETY: `out` is writable for all pages.
    to_result(unsafe {
        bindings::pproc_pages_read(addrs.as_ptr(), addrs.len(), out.as_mut_ptr().cast())
    })
}

/// Gives the current, new process an address space of its own, running the image's program.
///
/// # Errors
/// `ESTALE` if the program is not the very same file here; what exec gives.
pub fn create_mm(mm: &[u8]) -> Result {
    // SAFETY: `mm` is readable for its length.
    to_result(unsafe { bindings::pproc_mm_create(mm.as_ptr().cast(), mm.len()) })
}

/// Makes the mappings.
///
/// # Errors
/// `ESTALE` by name for a file that is not the same here; `EPROTO`, `ENOMEM`.
pub fn restore_mm(mm: &[u8]) -> core::result::Result<(), Refusal> {
    explain(|why, len| {
        // SAFETY: Both buffers are valid for their lengths.
        unsafe { bindings::pproc_mm_restore(mm.as_ptr().cast(), mm.len(), why, len) }
    })
}

/// Puts contents into pages.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `ENOMEM`.
pub fn write_pages(addrs: &[u64], contents: &[u8]) -> Result {
    if contents.len() != addrs.len() * PAGE {
        return Err(EPROTO);
    }
    // SAFETY: `contents` is readable for all pages.
    to_result(unsafe {
        bindings::pproc_pages_write(addrs.as_ptr(), addrs.len(), contents.as_ptr().cast())
    })
}

/// Makes guard pages.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub fn install_guards(addrs: &[u64]) -> Result {
    // SAFETY: `addrs` is readable for its length.
    to_result(unsafe { bindings::pproc_guards_install(addrs.as_ptr(), addrs.len()) })
}

/// Protections, locks and limits of the mappings, once all pages are there.
///
/// # Errors
/// By name.
pub fn finish_mm(mm: &[u8]) -> core::result::Result<(), Refusal> {
    explain(|why, len| {
        // SAFETY: Both buffers are valid for their lengths.
        unsafe { bindings::pproc_mm_finish(mm.as_ptr().cast(), mm.len(), why, len) }
    })
}

/// Everything of a task but what needs the end.
///
/// # Errors
/// `ENOEXEC` if this processor lacks what the process may use; by name.
pub fn restore_task(task: &[u8]) -> core::result::Result<(), Refusal> {
    explain(|why, len| {
        // SAFETY: Both buffers are valid for their lengths.
        unsafe { bindings::pproc_task_restore(task.as_ptr().cast(), task.len(), why, len) }
    })
}

/// What committing credentials has changed.
///
/// # Errors
/// `EINVAL`.
pub fn finish_task(task: &[u8]) -> Result {
    // SAFETY: `task` is readable for its length.
    to_result(unsafe { bindings::pproc_task_finish(task.as_ptr().cast(), task.len()) })
}

/// Registers of the current process, which is about to enter user mode for the first time.
///
/// # Errors
/// `EINVAL`.
pub fn install_regs(task: &[u8]) -> Result {
    // SAFETY: `task` is readable for its length; the current task is a user process on its way to user mode.
    to_result(unsafe {
        bindings::pproc_regs_install(
            bindings::ssi_current_regs(),
            task.as_ptr().cast(),
            task.len(),
        )
    })
}

/// Lets the timers of the current process run again.
///
/// # Errors
/// `EINVAL`.
pub fn start_timers(task: &[u8], elapsed_ns: u64) -> Result {
    // SAFETY: `task` is readable for its length.
    to_result(unsafe {
        bindings::pproc_timers_start(task.as_ptr().cast(), task.len(), elapsed_ns)
    })
}

/// What the interrupted system call of the current task returns.
pub fn set_syscall_result(result: isize) {
    // SAFETY: The current task is a user process on its way to user mode.
    unsafe { bindings::ssi_set_syscall_result(result as _) }
}
