// SPDX-License-Identifier: GPL-2.0

//! Attributes of a file that is on another node.

use crate::bindings;
use crate::wire::Le32;
use crate::wire::Le64;
use kernel::prelude::*;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

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

    pub(super) fn from_c(c: &bindings::ssi_file_stat) -> Self {
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

    pub(super) fn to_c(self) -> bindings::ssi_file_stat {
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

const _: () = assert!(size_of::<FileStat>() == FileStat::LEN);
