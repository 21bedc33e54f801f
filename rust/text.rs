// SPDX-License-Identifier: GPL-2.0

//! Small texts for people, without allocation.

use kernel::prelude::*;

/// Writes into a buffer.
pub struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the buffer's start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// `ENOSPC` if they do not fit; nothing is added then.
    pub fn put(&mut self, bytes: &[u8]) -> Result {
        let end = self.len.checked_add(bytes.len()).ok_or(ENOSPC)?;
        let room = self.buf.get_mut(self.len..end).ok_or(ENOSPC)?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Adds a decimal number.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_number(&mut self, n: u32) -> Result {
        let mut digits = [0u8; 10];
        let mut at = digits.len();
        let mut n = n;
        for d in digits.iter_mut().rev() {
            *d = b'0' + (n % 10) as u8; // CAST: below 10.
            n /= 10;
            at -= 1;
            if n == 0 {
                break;
            }
        }
        self.put(digits.get(at..).unwrap_or(&digits))
    }
}

/// The symbol of an errno that a movement can end with.
pub fn errno_name(e: Error) -> &'static [u8] {
    match -e.to_errno() {
        1 => b"EPERM",
        2 => b"ENOENT",
        3 => b"ESRCH",
        4 => b"EINTR",
        5 => b"EIO",
        7 => b"E2BIG",
        8 => b"ENOEXEC",
        9 => b"EBADF",
        11 => b"EAGAIN",
        12 => b"ENOMEM",
        13 => b"EACCES",
        14 => b"EFAULT",
        16 => b"EBUSY",
        17 => b"EEXIST",
        18 => b"EXDEV",
        20 => b"ENOTDIR",
        21 => b"EISDIR",
        22 => b"EINVAL",
        23 => b"ENFILE",
        24 => b"EMFILE",
        26 => b"ETXTBSY",
        27 => b"EFBIG",
        28 => b"ENOSPC",
        30 => b"EROFS",
        32 => b"EPIPE",
        36 => b"ENAMETOOLONG",
        38 => b"ENOSYS",
        40 => b"ELOOP",
        71 => b"EPROTO",
        93 => b"EPROTONOSUPPORT",
        95 => b"EOPNOTSUPP",
        112 => b"EHOSTDOWN",
        113 => b"EHOSTUNREACH",
        116 => b"ESTALE",
        125 => b"ECANCELED",
        133 => b"EHWPOISON",
        _ => b"EIO",
    }
}
