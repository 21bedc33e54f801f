// SPDX-License-Identifier: GPL-2.0

//! What nodes say to each other about open files.
//!
//! A *handle* names an open file on its home node, for one holder. The holder's proxy never waits inside a call on a
//! stream: it asks, is told "not now", and waits at home for [`Event`].

use ssi::wire::Le32;
use ssi::wire::Le64;

/// Bytes of data in one message.
pub(crate) const CHUNK: usize = 64 * 1024;

/// `Pwrite` with the file's own offset, and so on.
pub(crate) const OWN_OFFSET: u64 = u64::MAX;

ics::service! {
    /// Open files served from the node where they are. Answered there, but for `Event`.
    ///
    /// Errors of every operation on a handle: `ESTALE` it does not exist, or belongs to another node.
    service Rfile { id: 4, version: 1 }

    /// Makes the caller the holder of an offered handle.
    op 1 Claim (class: L0) { handle: Le64 } -> { class: Le32 }

    /// Gives a handle back: a proxy was closed, or an image thrown away. Unknown handles are ignored.
    op 2 Release (class: L1) { handle: Le64 } -> { }

    /// Offers the file of a handle that the caller holds once more, for a process that goes on to another node.
    op 3 Offer (class: L0) { handle: Le64 } -> { handle: Le64 }

    /// Reads a stream; the data follow. If `again` is 1 there are none now: `mask` tells what the file has become ready
    /// for since, and an `Event` will follow. Errors: those of `read`.
    op 4 Read (class: L0) { handle: Le64, len: Le32 } -> { again: Le32, mask: Le32 }

    /// Writes the data that follow to a stream, all of them if they are at most `PIPE_BUF`. `again` and `mask` as in `Read`.
    /// Errors: those of `write`; `EPIPE` without a signal.
    op 5 Write (class: L0) { handle: Le64 } -> { written: Le32, again: Le32, mask: Le32 }

    /// What a stream is ready for; one `Event` follows when that may have changed.
    op 6 Poll (class: L0) { handle: Le64 } -> { mask: Le32 }

    /// Home to holder: a stream may have become ready.
    op 7 Event (class: L4) { handle: Le64 } -> { }

    /// An ioctl whose argument is a number, or a flat structure that follows. `ioctls.rs` has the commands.
    /// Errors: `ENOTTY` not one of them; then the command's.
    op 8 Ioctl (class: P) { handle: Le64, cmd: Le32, session: Le32, arg: Le64 } -> { ret: Le32 }

    /// Reads a regular file; the data follow. Errors: those of `pread`.
    op 9 Pread (class: P) { handle: Le64, pos: Le64, len: Le32 } -> { }

    /// Writes the data that follow to a regular file. Errors: those of `pwrite`.
    op 10 Pwrite (class: P) { handle: Le64, pos: Le64 } -> { written: Le32 }

    /// Moves a regular file's offset. Errors: those of `lseek`.
    op 11 Seek (class: P) { handle: Le64, to: Le64, whence: Le32 } -> { pos: Le64 }

    /// `fsync`, or `fdatasync` if `data_only` is 1.
    op 12 Fsync (class: P) { handle: Le64, data_only: Le32 } -> { }

    /// `fstat`; the attributes follow, 96 bytes.
    op 13 Stat (class: P) { handle: Le64 } -> { }
}

/// Pins a message: its number, and the bytes of request and reply.
const fn pinned<O: ics::Op>(number: u16, req: usize, rep: usize) {
    assert!(O::SERVICE == 4 && O::OP == number);
    assert!(size_of::<O::Req>() == req && size_of::<O::Rep>() == rep);
}

const _: () = {
    pinned::<Claim>(1, 8, 4);
    pinned::<Release>(2, 8, 0);
    pinned::<Offer>(3, 8, 8);
    pinned::<Read>(4, 12, 8);
    pinned::<Write>(5, 8, 12);
    pinned::<Poll>(6, 8, 4);
    pinned::<Event>(7, 8, 0);
    pinned::<Ioctl>(8, 24, 4);
    pinned::<Pread>(9, 20, 0);
    pinned::<Pwrite>(10, 16, 4);
    pinned::<Seek>(11, 20, 8);
    pinned::<Fsync>(12, 12, 0);
    pinned::<Stat>(13, 8, 0);
};
