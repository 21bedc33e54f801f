// SPDX-License-Identifier: GPL-2.0

//! What makes a file the same one on two nodes.

use crate::bindings;
use crate::wire::Le32;
use crate::wire::Le64;
use kernel::prelude::*;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

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

    pub(super) fn from_c(c: &bindings::ssi_file_id) -> Self {
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

    pub(super) fn to_c(self) -> bindings::ssi_file_id {
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

const _: () = assert!(size_of::<FileId>() == FileId::LEN);
