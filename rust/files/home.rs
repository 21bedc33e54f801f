// SPDX-License-Identifier: GPL-2.0

//! The node where a file is: serves it to others. C: `rust/shim/rfile_home.c`.

use super::FileClass;
use super::FileRef;
use super::FileStat;
use crate::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

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
