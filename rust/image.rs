// SPDX-License-Identifier: GPL-2.0

//! Image of the current process: capture where it leaves, restore where it arrives (`kernel/ssi/{image,mm,…}.c`).
//!
//! Not for files, credentials and pending signals, nor for the order of a movement: those are `rfile`'s, `cred`'s
//! and `vproc`'s. The images are byte strings that only the built-in half understands; it judges them as hostile.
//!
//! At the destination, in the new process's own context, the order is: [`create_memory`], [`restore_memory`],
//! pages by way of its [`Target`], [`finish_memory`], [`restore_task`], credentials, [`finish_task`]; then,
//! about to enter user mode, [`install_registers`]; once it is the one that lives, [`start_timers`].

use crate::bindings;
use crate::refusal::Refusal;

use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::time::Delta;

/// Bytes that the image of a task takes at most.
pub const TASK_MAX: usize = bindings::SSI_TASK_MAX as usize;

/// Bytes that the image of the mappings takes at most.
pub const MEMORY_MAX: usize = bindings::SSI_MM_MAX as usize;

/// Bytes of a page.
pub const PAGE: usize = bindings::SSI_PAGE_SIZE as usize;

/// Result of a step that names the cause of its failure.
type Verdict<T = ()> = core::result::Result<T, Refusal>;

/// Calls `f` with room for the cause of a refusal.
fn judged(f: impl FnOnce(*mut c_char, usize) -> i32) -> Verdict {
    let mut why = [0u8; Refusal::TEXT];
    let ret = f(why.as_mut_ptr().cast(), why.len());
    to_result(ret).map_err(|e| Refusal::new(e, &why))
}

/// Calls `f` with the image at an address that is aligned as its decoder wants it.
fn aligned<T>(image: &[u8], f: impl FnOnce(*const c_void, usize) -> T) -> Result<T> {
    if image.as_ptr().cast::<u64>().is_aligned() {
        return Ok(f(image.as_ptr().cast(), image.len()));
    }
    let mut copy = KVVec::<u64>::with_capacity(image.len().div_ceil(8), GFP_KERNEL)?;
    for word in image.chunks(8) {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(word) {
            *to = *from;
        }
        copy.push(u64::from_ne_bytes(bytes), GFP_KERNEL)?;
    }
    Ok(f(copy.as_ptr().cast(), image.len()))
}

/// Fills a new vector with what `f` writes into `max` bytes.
fn captured(max: usize, f: impl FnOnce(*mut c_void, usize) -> isize) -> Result<KVVec<u8>> {
    let mut buf = KVVec::from_elem(0u8, max, GFP_KERNEL)?;
    let n = f(buf.as_mut_ptr().cast(), max);
    match usize::try_from(n) {
        Ok(n) => {
            buf.truncate(n);
            Ok(buf)
        }
        // CAST: errnos fit.
        Err(_) => Err(to_result(n as i32).err().unwrap_or(EIO)),
    }
}

/// Whether an image of the current process can be taken and means anything elsewhere. Changes nothing. Files are
/// looked at only if they are mapped. Sleeps.
///
/// # Errors
/// `EBUSY` threads, tracing, a waiting vfork parent, something shared with another process, a stop, pinned pages, a
/// contended PI futex; `EOPNOTSUPP` io_uring, perf events, SEM_UNDO, seccomp, shared memory and the like; `EXDEV`
/// namespaces, 32 bits; `EPERM` init; `EAGAIN` exiting; `ESTALE` a mapped file that no other node has.
pub fn check() -> Verdict {
    // SAFETY: The buffer is writable for its length.
    judged(|why, len| unsafe { bindings::pproc_image_check(why, len) })
}

/// The current process but for memory, files, credentials and pending signals. About to enter user mode; sleeps.
///
/// Its timers stand still until [`start_timers`] with this image.
///
/// # Errors
/// `E2BIG`, `ENOMEM`.
pub fn capture_task() -> Result<KVVec<u8>> {
    // SAFETY: The buffer is writable for its length and aligned by its allocator.
    captured(TASK_MAX, |buf, len| unsafe {
        bindings::pproc_task_capture(buf, len)
    })
}

/// The mappings of the current process, without their pages. Sleeps.
///
/// # Errors
/// `E2BIG` too many mappings; `ESTALE` a file that no other node has; `ENOMEM`.
pub fn capture_memory() -> Result<KVVec<u8>> {
    // SAFETY: The buffer is writable for its length and aligned by its allocator.
    captured(MEMORY_MAX, |buf, len| unsafe {
        bindings::pproc_mm_capture(buf, len)
    })
}

/// A walk over the pages of the current process that only it has.
#[derive(Default)]
pub struct Pages(bindings::ssi_page_cursor);

impl Pages {
    /// Set in the address of a guard page, which has no content.
    pub const GUARD: u64 = 1;

    /// Begins at the lowest address.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `addrs` with the next addresses; returns how many, 0 at the end.
    ///
    /// # Errors
    /// `EBUSY` a pinned page; `EHWPOISON` a broken one; `EOPNOTSUPP` memory of a device.
    pub fn next(&mut self, addrs: &mut [u64]) -> Result<usize> {
        // SAFETY: `addrs` is writable for its length; both live through the call.
        let n = unsafe { bindings::pproc_pages_next(&mut self.0, addrs.as_mut_ptr(), addrs.len()) };
        // CAST: errnos fit.
        usize::try_from(n).map_err(|_| to_result(n as i32).err().unwrap_or(EIO))
    }
}

/// Contents of pages of the current process, one after the other; `buf` holds [`PAGE`] bytes for each.
///
/// # Errors
/// `EINVAL` if it does not; `EFAULT` if a page cannot be read.
pub fn read_pages(addrs: &[u64], buf: &mut [u8]) -> Result {
    if addrs.len().checked_mul(PAGE) != Some(buf.len()) {
        return Err(EINVAL);
    }
    // SAFETY: `buf` is writable for a page for each of `addrs`, as just checked.
    to_result(unsafe {
        bindings::pproc_pages_read(addrs.as_ptr(), addrs.len(), buf.as_mut_ptr().cast())
    })
}

/// Gives the current, new process an empty address space for its program.
///
/// # Errors
/// `ESTALE` if the program's path leads to another file here; `EINVAL`, `EPROTO` for bytes that are no image; what
/// opening it gives.
pub fn create_memory(memory: &[u8]) -> Verdict {
    judged(|why, why_len| {
        // SAFETY: The image is readable, the buffer writable for its length.
        aligned(memory, |buf, len| unsafe {
            bindings::pproc_mm_create(buf, len, why, why_len)
        })
        .unwrap_or_else(|e| e.to_errno())
    })
}

/// Makes the mappings, without their pages.
///
/// # Errors
/// `ESTALE` if a path leads to another file here; `EINVAL`, `EPROTO` for bytes that are no image; what mapping gives.
pub fn restore_memory(memory: &[u8]) -> Verdict {
    judged(|why, why_len| {
        // SAFETY: The image is readable, the buffer writable for its length.
        aligned(memory, |buf, len| unsafe {
            bindings::pproc_mm_restore(buf, len, why, why_len)
        })
        .unwrap_or_else(|e| e.to_errno())
    })
}

/// The memory of a process that is being made: any thread may fill it.
///
/// # Invariants
/// The pointer is a counted reference, given back once, by `Drop`.
pub struct Target(NonNull<bindings::mm_struct>);

// SAFETY: A reference to an mm may be given back by any task.
unsafe impl Send for Target {}
// SAFETY: The functions below take the mm's locks.
unsafe impl Sync for Target {}

impl Target {
    /// That of the current, new process.
    ///
    /// # Errors
    /// `EINVAL` if the current process is not being made.
    pub fn current() -> Result<Self> {
        // SAFETY: Looks at the current task only.
        let mm = from_err_ptr(unsafe { bindings::pproc_pages_target() })?;
        // INVARIANT: The reference is ours.
        NonNull::new(mm).map(Self).ok_or(EINVAL)
    }

    /// Puts pages into it; `buf` holds [`PAGE`] bytes for each. Sleeps.
    ///
    /// # Errors
    /// `EINVAL` if it does not, or for an address where no page of the process's own can be; `ENOMEM`, `EFAULT`,
    /// `EINTR`.
    pub fn write_pages(&self, addrs: &[u64], buf: &[u8]) -> Result {
        if addrs.len().checked_mul(PAGE) != Some(buf.len()) {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant; `buf` is readable for a page for each of `addrs`, as just checked.
        to_result(unsafe {
            bindings::pproc_pages_write(
                self.0.as_ptr(),
                addrs.as_ptr(),
                addrs.len(),
                buf.as_ptr().cast(),
            )
        })
    }

    /// Makes guard pages in it; [`Pages::GUARD`] in an address does not count. Sleeps.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn install_guards(&self, addrs: &[u64]) -> Result {
        // SAFETY: By the type invariant; `addrs` is readable for its length.
        to_result(unsafe {
            bindings::pproc_guards_install(self.0.as_ptr(), addrs.as_ptr(), addrs.len())
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is the one release.
        unsafe { bindings::pproc_pages_target_put(self.0.as_ptr()) }
    }
}

/// Gives the mappings what must come after their pages.
///
/// # Errors
/// `EINVAL`, `EPROTO` for bytes that are no image; what a step gives.
pub fn finish_memory(memory: &[u8]) -> Verdict {
    judged(|why, why_len| {
        // SAFETY: The image is readable, the buffer writable for its length.
        aligned(memory, |buf, len| unsafe {
            bindings::pproc_mm_finish(buf, len, why, why_len)
        })
        .unwrap_or_else(|e| e.to_errno())
    })
}

/// Makes the current, new process what it was, but for memory, files, credentials and registers.
///
/// # Errors
/// `ENOEXEC` if this processor lacks what the process may use; `EINVAL`, `EPROTO` for bytes that are no image; what
/// a step gives.
pub fn restore_task(task: &[u8]) -> Verdict {
    judged(|why, why_len| {
        // SAFETY: The image is readable, the buffer writable for its length.
        aligned(task, |buf, len| unsafe {
            bindings::pproc_task_restore(buf, len, why, why_len)
        })
        .unwrap_or_else(|e| e.to_errno())
    })
}

/// What committing credentials has reset: who may look into the process, its parent-death signal.
///
/// # Errors
/// `EINVAL`, `EPROTO` for bytes that are no image.
pub fn finish_task(task: &[u8]) -> Result {
    // SAFETY: The image is readable for its length.
    to_result(aligned(task, |buf, len| unsafe {
        bindings::pproc_task_finish(buf, len)
    })?)
}

/// Registers of the current, new process, which is about to enter user mode for the first time.
///
/// # Errors
/// `EINVAL`, `EPROTO` for bytes that are no image; `ENOMEM`; `ENOEXEC`.
pub fn install_registers(task: &[u8]) -> Result {
    // SAFETY: The image is readable for its length; the function acts on nothing but a process being made.
    to_result(aligned(task, |buf, len| unsafe {
        bindings::pproc_regs_install(buf, len)
    })?)
}

/// Lets the timers of the current process run: of one that was captured and stays, or of a restored one that lives
/// from now on. `elapsed` is what has passed since, as far as it is known.
///
/// # Errors
/// `EINVAL`, `EPROTO` for bytes that are no image.
pub fn start_timers(task: &[u8], elapsed: Delta) -> Result {
    // CAST: a negative span counts as none.
    let ns = elapsed.as_nanos().max(0) as u64;
    // SAFETY: The image is readable for its length.
    to_result(aligned(task, |buf, len| unsafe {
        bindings::pproc_timers_start(buf, len, ns)
    })?)
}
