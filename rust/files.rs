// SPDX-License-Identifier: GPL-2.0

//! Open files that cross nodes: what one is, opening it again, serving it, standing for it.
//!
//! Not for protocol or policy: that is crate `rfile`. C: `rust/shim/rfile.h`.

#![allow(clippy::result_large_err)] // a refusal carries its cause; it is returned once for each movement

use crate::bindings;
use crate::wire::Le32;
use crate::wire::Le64;
use core::ffi::c_void;
use core::fmt;
use core::fmt::Write;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_ulong;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// A short text, cut where it does not fit. Says why something cannot move.
#[derive(Clone, Copy)]
pub struct Text {
    buf: [u8; Text::LEN],
    len: usize,
}

impl Text {
    /// Bytes that fit.
    pub const LEN: usize = 112;

    /// An empty text.
    pub const fn new() -> Self {
        Self {
            buf: [0; Self::LEN],
            len: 0,
        }
    }

    /// Formats a text.
    pub fn from_fmt(args: fmt::Arguments<'_>) -> Self {
        let mut t = Self::new();
        // Writing to a text does not fail: it cuts.
        let _ = t.write_fmt(args);
        t
    }

    /// Its bytes; UTF-8 unless a file name was not.
    pub fn as_bytes(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or(&self.buf)
    }

    /// Its characters up to the first that is not UTF-8.
    pub fn as_str(&self) -> &str {
        match core::str::from_utf8(self.as_bytes()) {
            Ok(s) => s,
            Err(e) => self
                .as_bytes()
                .get(..e.valid_up_to())
                .and_then(|b| core::str::from_utf8(b).ok())
                .unwrap_or(""),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for (to, from) in self.buf.iter_mut().skip(self.len).zip(s.as_bytes()) {
            *to = *from;
        }
        self.len = (self.len + s.len()).min(Self::LEN);
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Why a process cannot move: an error and the name of what stands in the way, such as `fd 4 eventpoll`.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The error.
    pub errno: Error,
    /// What stands in the way.
    pub what: Text,
}

impl Refusal {
    /// A refusal with a formatted name.
    pub fn new(errno: Error, what: fmt::Arguments<'_>) -> Self {
        Self {
            errno,
            what: Text::from_fmt(what),
        }
    }
}

/// What a file must be to be the same file, on a file system that two nodes have. Never its path.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct FileId {
    /// The file system's magic number.
    pub fs_magic: Le64,
    /// Which file system of that type.
    pub fs_id: [Le64; 2],
    /// Inode number.
    pub ino: Le64,
    /// Bytes of a regular file.
    pub size: Le64,
    /// Seconds of the last change of contents, on a read-only file system; likewise the following.
    pub mtime_s: Le64,
    /// Seconds of the last change of attributes.
    pub ctime_s: Le64,
    /// Hash of the start and the end of the contents.
    pub probe: Le64,
    /// Nanoseconds of `mtime_s`.
    pub mtime_ns: Le32,
    /// Nanoseconds of `ctime_s`.
    pub ctime_ns: Le32,
    /// Generation of the inode number.
    pub generation: Le32,
    /// `S_IFMT` bits.
    pub kind: Le32,
}

impl FileId {
    /// Bytes on the wire.
    pub const LEN: usize = 80;

    /// `S_IFDIR`.
    pub const DIRECTORY: u32 = 0o040000;

    fn from_c(c: &bindings::ssi_file_id) -> Self {
        Self {
            fs_magic: Le64::new(c.fs_magic),
            fs_id: c.fs_id.map(Le64::new),
            ino: Le64::new(c.ino),
            size: Le64::new(c.size),
            // CAST: times cross as two's complement.
            mtime_s: Le64::new(c.mtime_s as u64),
            ctime_s: Le64::new(c.ctime_s as u64),
            probe: Le64::new(c.probe),
            mtime_ns: Le32::new(c.mtime_ns),
            ctime_ns: Le32::new(c.ctime_ns),
            generation: Le32::new(c.generation),
            kind: Le32::new(c.type_),
        }
    }

    fn to_c(self) -> bindings::ssi_file_id {
        bindings::ssi_file_id {
            fs_magic: self.fs_magic.get(),
            fs_id: self.fs_id.map(Le64::get),
            ino: self.ino.get(),
            size: self.size.get(),
            // CAST: times cross as two's complement.
            mtime_s: self.mtime_s.get() as i64,
            ctime_s: self.ctime_s.get() as i64,
            probe: self.probe.get(),
            mtime_ns: self.mtime_ns.get(),
            ctime_ns: self.ctime_ns.get(),
            generation: self.generation.get(),
            type_: self.kind.get(),
        }
    }
}

/// Attributes as `fstat` gives them.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct FileStat {
    /// Device, inode number, size, blocks.
    pub ids: [Le64; 4],
    /// Seconds of access, modification, change.
    pub times: [Le64; 3],
    /// Nanoseconds of the same.
    pub nanos: [Le32; 3],
    /// Type and permissions.
    pub mode: Le32,
    /// Device number, for a device: major and minor.
    pub rdev: [Le32; 2],
    /// Links.
    pub nlink: Le32,
    /// Owner.
    pub uid: Le32,
    /// Group.
    pub gid: Le32,
    /// Best size of a transfer.
    pub blksize: Le32,
}

impl FileStat {
    /// Bytes on the wire.
    pub const LEN: usize = 96;

    fn from_c(c: &bindings::ssi_file_stat) -> Self {
        Self {
            ids: [c.dev, c.ino, c.size, c.blocks].map(Le64::new),
            // CAST: times cross as two's complement.
            times: [c.atime_s, c.mtime_s, c.ctime_s].map(|t| Le64::new(t as u64)),
            nanos: [c.atime_ns, c.mtime_ns, c.ctime_ns].map(Le32::new),
            mode: Le32::new(c.mode),
            rdev: [c.rdev_major, c.rdev_minor].map(Le32::new),
            nlink: Le32::new(c.nlink),
            uid: Le32::new(c.uid),
            gid: Le32::new(c.gid),
            blksize: Le32::new(c.blksize),
        }
    }

    fn to_c(self) -> bindings::ssi_file_stat {
        let [dev, ino, size, blocks] = self.ids.map(Le64::get);
        // CAST: times cross as two's complement.
        let [atime_s, mtime_s, ctime_s] = self.times.map(|t| t.get() as i64);
        // A nanosecond beyond a second would confuse whoever adds times.
        let [atime_ns, mtime_ns, ctime_ns] = self.nanos.map(|n| n.get().min(999_999_999));
        bindings::ssi_file_stat {
            dev,
            ino,
            size,
            blocks,
            atime_s,
            mtime_s,
            ctime_s,
            atime_ns,
            mtime_ns,
            ctime_ns,
            mode: self.mode.get(),
            rdev_major: self.rdev[0].get(),
            rdev_minor: self.rdev[1].get(),
            nlink: self.nlink.get(),
            uid: self.uid.get(),
            gid: self.gid.get(),
            blksize: self.blksize.get(),
        }
    }
}

const _: () = assert!(size_of::<FileId>() == FileId::LEN && size_of::<FileStat>() == FileStat::LEN);

/// What a file is that must be served from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileClass {
    /// Pipe or fifo.
    Pipe,
    /// Terminal.
    Tty,
    /// Socket.
    Socket,
    /// Regular file whose offset is shared.
    File,
}

impl FileClass {
    /// The number on the wire and in `enum ssi_file_class`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Pipe => 1,
            Self::Tty => 2,
            Self::Socket => 3,
            Self::File => 4,
        }
    }

    /// The class of that number.
    pub const fn from_number(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Pipe),
            2 => Some(Self::Tty),
            3 => Some(Self::Socket),
            4 => Some(Self::File),
            _ => None,
        }
    }
}

/// A counted reference to an open file.
///
/// # Invariants
/// `ptr` is live and owns one count.
pub struct FileRef {
    ptr: NonNull<bindings::file>,
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

/// Turns a byte count or negative errno into a `Result`.
fn length(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| {
        // CAST: errnos fit.
        to_result(ret as i32).err().unwrap_or(EIO)
    })
}

/// An offset as the shim takes it: the file's own is -1.
fn offset(pos: Option<u64>) -> Result<i64> {
    match pos {
        None => Ok(-1),
        Some(p) => i64::try_from(p).map_err(|_| EINVAL),
    }
}

impl FileRef {
    /// # Safety
    /// `ret` is an error pointer or a file of which the caller owns one count.
    unsafe fn from_ret(ret: *mut bindings::file) -> Result<Self> {
        let ptr = NonNull::new(from_err_ptr(ret)?).ok_or(ENOMEM)?;
        // INVARIANT: The caller gives the count that it owns.
        Ok(Self { ptr })
    }

    /// Opens here, by name, the file that another node had open there.
    ///
    /// # Errors
    /// `ESTALE` if another file or none has that name here; then what opening gives.
    pub fn reopen(path: &CStr, flags: u32, pos: i64, id: &FileId) -> Result<Self> {
        let id = id.to_c();
        // SAFETY: `path` is a C string and `id` valid; the result carries a count.
        unsafe {
            Self::from_ret(bindings::ssi_file_reopen(
                path.as_char_ptr(),
                flags,
                pos,
                &id,
            ))
        }
    }

    /// Opens `/dev/null` (minor 3) or one of its like.
    ///
    /// # Errors
    /// `EINVAL` for another minor; `ESTALE` if that name is something else here; then what opening gives.
    pub fn open_mem(minor: u32, flags: u32) -> Result<Self> {
        // SAFETY: The function takes numbers; the result carries a count.
        unsafe { Self::from_ret(bindings::ssi_mem_open(minor, flags)) }
    }

    /// Gives the file that number in the current process.
    ///
    /// # Errors
    /// `EMFILE` beyond `fs.nr_open`; `ENOMEM`.
    pub fn install(&self, fd: u32, cloexec: bool) -> Result {
        // SAFETY: The file is live; the table takes its own count.
        to_result(unsafe { bindings::pproc_fd_install(fd, self.ptr.as_ptr(), cloexec) })
    }

    /// Reads for another node without ever waiting, unless it is a regular file.
    ///
    /// # Errors
    /// `EAGAIN` if there is nothing now; then the file's own.
    pub fn serve_read(&self, class: FileClass, pos: Option<u64>, buf: &mut [u8]) -> Result<usize> {
        let pos = offset(pos)?;
        // SAFETY: The file is live and `buf` writable for its length.
        length(unsafe {
            bindings::ssi_home_read(
                self.ptr.as_ptr(),
                class.number(),
                pos,
                buf.as_mut_ptr().cast(),
                buf.len(),
            )
        })
    }

    /// Writes for another node without ever waiting, unless it is a regular file. Sends no SIGPIPE.
    ///
    /// # Errors
    /// `EAGAIN` if there is no room now; `EPIPE`; then the file's own.
    pub fn serve_write(&self, class: FileClass, pos: Option<u64>, data: &[u8]) -> Result<usize> {
        let pos = offset(pos)?;
        // SAFETY: The file is live and `data` readable for its length.
        length(unsafe {
            bindings::ssi_home_write(
                self.ptr.as_ptr(),
                class.number(),
                pos,
                data.as_ptr().cast(),
                data.len(),
            )
        })
    }

    /// Runs an ioctl for a process of `session` on another node. Only in a kernel thread.
    ///
    /// The argument is the number `arg` if both lengths are 0, else a structure in `buf`, which has room for
    /// either length and at least 8 bytes.
    ///
    /// # Errors
    /// `EINVAL` if `buf` is too small; then the command's own.
    pub fn serve_ioctl(
        &self,
        cmd: u32,
        arg: u64,
        session: u32,
        buf: &mut [u8],
        in_len: u32,
        out_len: u32,
    ) -> Result<usize> {
        // CAST: 32 bits fit.
        if buf.len() < (in_len.max(out_len).max(8)) as usize {
            return Err(EINVAL);
        }
        // SAFETY: The file is live and `buf` has room, as was checked.
        length(unsafe {
            bindings::ssi_home_ioctl(
                self.ptr.as_ptr(),
                cmd,
                arg,
                session,
                buf.as_mut_ptr().cast(),
                in_len,
                out_len,
            )
        })
    }

    /// Moves the file's own offset.
    ///
    /// # Errors
    /// Those of `lseek`.
    pub fn serve_llseek(&self, to: i64, whence: u32) -> Result<u64> {
        // SAFETY: The file is live.
        let ret = unsafe { bindings::ssi_home_llseek(self.ptr.as_ptr(), to, whence) };
        // CAST: errnos fit; offsets are not negative.
        u64::try_from(ret).map_err(|_| to_result(ret as i32).err().unwrap_or(EIO))
    }

    /// `fsync` or `fdatasync`.
    ///
    /// # Errors
    /// Those of `fsync`.
    pub fn serve_fsync(&self, data_only: bool) -> Result {
        // SAFETY: The file is live.
        to_result(unsafe { bindings::ssi_home_fsync(self.ptr.as_ptr(), data_only) })
    }

    /// Its attributes.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub fn stat(&self) -> Result<FileStat> {
        let mut st = bindings::ssi_file_stat::default();
        // SAFETY: The file is live; `st` is ours.
        to_result(unsafe { bindings::ssi_home_stat(self.ptr.as_ptr(), &mut st) })?;
        Ok(FileStat::from_c(&st))
    }
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

/// One descriptor of the current process.
pub struct Fd {
    /// Its number.
    pub number: u32,
    /// Whether exec closes it.
    pub cloexec: bool,
    /// Its open file.
    pub file: FileRef,
}

/// The current process's first descriptor from `from` on.
pub fn next_fd(from: u32) -> Option<Fd> {
    let mut number = 0;
    let mut cloexec = false;
    let mut file = core::ptr::null_mut();
    // SAFETY: All three are ours and live through the call.
    let found = unsafe { bindings::ssi_fd_next(from, &mut number, &mut cloexec, &mut file) };
    if found == 0 {
        return None;
    }
    // INVARIANT: The function gives one count with a file that it found.
    NonNull::new(file).map(|ptr| Fd {
        number,
        cloexec,
        file: FileRef { ptr },
    })
}

/// How an open file can reach another node.
pub enum Described<'a> {
    /// Opened again, if the other node has the same file.
    Path {
        /// Its name.
        path: &'a [u8],
        /// What it is.
        id: FileId,
        /// `f_flags`.
        flags: u32,
        /// Offset.
        pos: i64,
    },
    /// `/dev/null` and its like.
    Mem {
        /// Its minor number.
        minor: u32,
        /// `f_flags`.
        flags: u32,
    },
    /// Served from here.
    Stays {
        /// What it is.
        class: FileClass,
        /// `f_flags`.
        flags: u32,
        /// Its attributes.
        stat: FileStat,
    },
    /// Served from another node already.
    Proxy {
        /// That node.
        home: u32,
        /// Its name there.
        handle: u64,
        /// What it is.
        class: FileClass,
        /// `f_flags`.
        flags: u32,
        /// Its attributes.
        stat: FileStat,
    },
}

/// Room for a description.
pub struct Describer(KBox<bindings::ssi_file_info>);

/// A C string in an array.
fn c_bytes(a: &[kernel::ffi::c_char]) -> &[u8] {
    // SAFETY: `c_char` is one byte without invalid values; the length is the array's.
    let b = unsafe { core::slice::from_raw_parts(a.as_ptr().cast::<u8>(), a.len()) };
    let n = b.iter().position(|c| *c == 0).unwrap_or(b.len());
    b.get(..n).unwrap_or(b)
}

impl Describer {
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: All fields are integers, for which zero is valid.
        let info: bindings::ssi_file_info = unsafe { core::mem::zeroed() };
        Ok(Self(KBox::new(info, GFP_KERNEL)?))
    }

    /// The name of what was described, or of what stands in the way.
    fn what(&self) -> &str {
        core::str::from_utf8(c_bytes(&self.0.what)).unwrap_or("?")
    }

    /// Whether the current process's descriptor table and directories can move at all.
    ///
    /// # Errors
    /// `EBUSY` if it shares them; `EXDEV` if its root is not init's.
    pub fn check(&mut self) -> Result<(), Refusal> {
        // SAFETY: `what` has the length that the function expects.
        let ret = unsafe { bindings::ssi_files_check(self.0.what.as_mut_ptr()) };
        to_result(ret).map_err(|e| Refusal::new(e, format_args!("{}", self.what())))
    }

    /// Finds out how the file of a descriptor of the current process can reach another node.
    ///
    /// # Errors
    /// `ESTALE` if only this node has it; `EOPNOTSUPP` if its kind does not move; `EBUSY` if it is shared.
    pub fn fd(&mut self, fd: &Fd) -> Result<Described<'_>, Refusal> {
        // SAFETY: The file is live; the one count of `fd` is the one that the function expects.
        let ret = unsafe { bindings::ssi_file_describe(fd.file.ptr.as_ptr(), &mut *self.0) };
        to_result(ret)
            .map_err(|e| Refusal::new(e, format_args!("fd {} {}", fd.number, self.what())))?;
        self.described()
            .ok_or_else(|| Refusal::new(EOPNOTSUPP, format_args!("fd {}", fd.number)))
    }

    fn described(&self) -> Option<Described<'_>> {
        let i = &*self.0;
        let flags = i.flags;
        Some(match i.kind {
            bindings::ssi_file_kind_SSI_FILE_PATH => Described::Path {
                path: c_bytes(&i.path),
                id: FileId::from_c(&i.id),
                flags,
                pos: i.pos,
            },
            bindings::ssi_file_kind_SSI_FILE_MEM => Described::Mem {
                minor: i.minor,
                flags,
            },
            bindings::ssi_file_kind_SSI_FILE_STAYS => Described::Stays {
                class: FileClass::from_number(i.class)?,
                flags,
                stat: FileStat::from_c(&i.stat),
            },
            bindings::ssi_file_kind_SSI_FILE_PROXY => Described::Proxy {
                home: i.home,
                handle: i.handle,
                class: FileClass::from_number(i.class)?,
                flags,
                stat: FileStat::from_c(&i.stat),
            },
            _ => return None,
        })
    }

    /// The current process's working directory, and its mask for new files.
    ///
    /// # Errors
    /// `ESTALE` if only this node has the directory, or it is deleted.
    pub fn cwd(&mut self) -> Result<(&[u8], FileId, u32), Refusal> {
        let mut umask = 0;
        // SAFETY: Both are ours.
        let ret = unsafe { bindings::ssi_cwd_describe(&mut *self.0, &mut umask) };
        to_result(ret).map_err(|e| Refusal::new(e, format_args!("cwd {}", self.what())))?;
        Ok((c_bytes(&self.0.path), FileId::from_c(&self.0.id), umask))
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
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
    _life: PhantomData<&'a ()>,
}

impl Poll<'_> {
    /// Also waits at `bell`.
    pub fn register(&self, bell: &Bell) {
        // SAFETY: All are live during the poll; the bell outlives its proxy's file by a grace period.
        unsafe { bindings::ssi_bell_poll(bell.0.as_ptr(), self.file, self.table) }
    }
}

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
    let ret = unsafe { FileRef::from_ret(bindings::ssi_proxy_create(&c)) };
    if ret.is_err() {
        // SAFETY: `arg` came from `into_raw()`, and no file has it.
        drop(unsafe { Arc::from_raw(arg) });
    }
    ret
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
