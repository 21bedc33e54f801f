// SPDX-License-Identifier: GPL-2.0

//! A file that stands for one of another node. C: `rust/shim/rfile_proxy.c`.

use super::FileClass;
use super::FileRef;
use super::FileStat;
use super::Poll;
use crate::bindings;
use core::ffi::c_void;
use core::marker::PhantomData;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_ulong;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What stands behind a proxy file. All methods are called in the user's context and may sleep.
pub trait Proxy: Send + Sync + 'static {
    /// `read`; `pos` is `None` for the file's own offset.
    ///
    /// # Errors
    /// As the native call.
    fn read(&self, nonblock: bool, pos: Option<u64>, to: &mut IovIterDest<'_>) -> Result<usize>;

    /// `write`.
    ///
    /// # Errors
    /// As the native call.
    fn write(
        &self,
        nonblock: bool,
        pos: Option<u64>,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize>;

    /// What it is ready for; registers first.
    fn poll(&self, poll: Poll<'_>) -> u32;

    /// `ioctl`.
    ///
    /// # Errors
    /// As the native call.
    fn ioctl(&self, cmd: u32, arg: usize) -> Result<usize>;

    /// `lseek`.
    ///
    /// # Errors
    /// As the native call.
    fn llseek(&self, to: i64, whence: u32) -> Result<u64>;

    /// `fsync`.
    ///
    /// # Errors
    /// As the native call.
    fn fsync(&self, data_only: bool) -> Result;

    /// `fstat`.
    ///
    /// # Errors
    /// As the native call.
    fn stat(&self) -> Result<FileStat>;

    /// The last descriptor was closed.
    fn release(&self);
}

/// What a proxy file stands for.
#[derive(Clone, Copy)]
pub struct ProxyInit {
    /// The file's node.
    pub home: u32,
    /// Its name there.
    pub handle: u64,
    /// What it is.
    pub class: FileClass,
    /// Its `f_flags`.
    pub flags: u32,
}

/// A file that stands for one of another node. `module` is the module that `T` is in.
///
/// # Errors
/// `ENODEV` if that module is going; `ENOMEM`. `T::release` is not called then.
pub fn create_proxy<T: Proxy>(
    proxy: Arc<T>,
    module: &'static ThisModule,
    init: ProxyInit,
) -> Result<FileRef> {
    let arg = proxy.into_raw();
    let c = bindings::ssi_proxy_init {
        ops: &Adapter::<T>::OPS,
        arg: arg.cast_mut().cast(),
        owner: module.as_ptr().cast(),
        handle: init.handle,
        home: init.home,
        class: init.class.number(),
        flags: init.flags,
    };
    // SAFETY: The table is constant and its module pinned by the file; `arg` lives until release.
    let ret = unsafe { bindings::ssi_proxy_create(&c) };
    // SAFETY: The result carries a count.
    let ret = unsafe { FileRef::from_ret(ret) };
    if ret.is_err() {
        // SAFETY: `arg` came from `into_raw()`, and no file has it.
        drop(unsafe { Arc::from_raw(arg) });
    }
    ret
}

/// The current process's session.
pub fn session() -> u32 {
    // SAFETY: No arguments; process context.
    unsafe { bindings::ssi_session() }
}

/// What a write to a pipe without readers does to the writer, which is the current task.
pub fn sigpipe() {
    // SAFETY: No arguments; process context.
    unsafe { bindings::ssi_sigpipe() }
}

struct Adapter<T>(PhantomData<T>);

/// A byte count or negative errno.
fn to_ret(r: Result<usize>) -> isize {
    match r {
        // CAST: transfers are below `isize::MAX`.
        Ok(n) => n as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// An offset as a proxy takes it.
fn from_offset(pos: i64) -> Option<u64> {
    u64::try_from(pos).ok()
}

impl<T: Proxy> Adapter<T> {
    const OPS: bindings::ssi_proxy_ops = bindings::ssi_proxy_ops {
        read: Some(Self::read),
        write: Some(Self::write),
        poll: Some(Self::poll),
        ioctl: Some(Self::ioctl),
        llseek: Some(Self::llseek),
        fsync: Some(Self::fsync),
        stat: Some(Self::stat),
        release: Some(Self::release),
    };

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn read(
        arg: *mut c_void,
        nonblock: bool,
        pos: i64,
        to: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: `arg` is the file's `T`, alive until release.
        let p = unsafe { &*arg.cast::<T>() };
        // SAFETY: `to` is a destination iterator that lives through the call.
        let to = unsafe { IovIterDest::from_raw(to.cast()) };
        to_ret(p.read(nonblock, from_offset(pos), to))
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn write(
        arg: *mut c_void,
        nonblock: bool,
        pos: i64,
        from: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        // SAFETY: `from` is a source iterator that lives through the call.
        let from = unsafe { IovIterSource::from_raw(from.cast()) };
        to_ret(p.write(nonblock, from_offset(pos), from))
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn poll(
        arg: *mut c_void,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> u32 {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        p.poll(Poll {
            file,
            table,
            _life: PhantomData,
        })
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn ioctl(arg: *mut c_void, cmd: u32, uarg: c_ulong) -> c_long {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        // CAST: `c_ulong` is as wide as `usize`.
        to_ret(p.ioctl(cmd, uarg)) as c_long
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn llseek(arg: *mut c_void, to: i64, whence: u32) -> i64 {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        match p.llseek(to, whence) {
            Ok(n) => i64::try_from(n).unwrap_or(i64::MAX),
            Err(e) => e.to_errno().into(),
        }
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn fsync(arg: *mut c_void, data_only: bool) -> c_int {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        p.fsync(data_only).err().map_or(0, Error::to_errno)
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn stat(arg: *mut c_void, st: *mut bindings::ssi_file_stat) -> c_int {
        // SAFETY: As in `read`.
        let p = unsafe { &*arg.cast::<T>() };
        match p.stat() {
            Ok(s) => {
                // SAFETY: `st` is the caller's and writable.
                unsafe { st.write(s.to_c()) };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// Called by the shim as its header says; pointers are valid for the call.
    unsafe extern "C" fn release(arg: *mut c_void) {
        // SAFETY: `arg` came from `into_raw()` in `create_proxy()`; this is its one release.
        let p = unsafe { Arc::from_raw(arg.cast::<T>()) };
        p.release();
    }
}
