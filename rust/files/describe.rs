// SPDX-License-Identifier: GPL-2.0

//! The moving process: how each of its open files can reach another node, or why it cannot move.

use super::FileClass;
use super::FileId;
use super::FileRef;
use super::FileStat;
use crate::bindings;
use crate::refusal::Refusal;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;

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
        to_result(ret).map_err(|e| Refusal::from_fmt(e, format_args!("{}", self.what())))
    }

    /// Finds out how the file of a descriptor of the current process can reach another node.
    ///
    /// # Errors
    /// `ESTALE` if only this node has it; `EOPNOTSUPP` if its kind does not move; `EBUSY` if it is shared.
    pub fn fd(&mut self, fd: &Fd) -> Result<Described<'_>, Refusal> {
        // SAFETY: The file is live; the one count of `fd` is the one that the function expects.
        let ret = unsafe { bindings::ssi_file_describe(fd.file.ptr.as_ptr(), &mut *self.0) };
        to_result(ret)
            .map_err(|e| Refusal::from_fmt(e, format_args!("fd {} {}", fd.number, self.what())))?;
        self.described()
            .ok_or_else(|| Refusal::from_fmt(EOPNOTSUPP, format_args!("fd {}", fd.number)))
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
        to_result(ret).map_err(|e| Refusal::from_fmt(e, format_args!("cwd {}", self.what())))?;
        Ok((c_bytes(&self.0.path), FileId::from_c(&self.0.id), umask))
    }
}
