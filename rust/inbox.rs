// SPDX-License-Identifier: GPL-2.0

//! What comes on a stream, frame by frame: short frames are shown to their reader where the network brings them.

use crate::bindings;
use crate::net::Socket;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The longest frame that is shown; longer ones are left to the thread.
pub const MAX_FRAME: usize = bindings::SSI_INBOX_FRAME as usize;

/// Who reads frames.
pub trait Reader: Send + Sync + 'static {
    /// Bytes that tell the length of a frame.
    const HEAD: usize;

    /// The length of the whole frame that begins with these [`Self::HEAD`] bytes, if it is one. Any context.
    fn length(head: &[u8]) -> Option<usize>;

    /// Takes a frame, of at most [`MAX_FRAME`] bytes. Any context: must not sleep. Returns whether it did; what it leaves is
    /// the thread's, with all that follows, until [`Inbox::resume`].
    fn frame(&self, frame: &[u8]) -> bool;

    /// The thread is to call [`Inbox::resume`]. Any context.
    fn wake(&self);
}

/// A stream whose frames are shown to `R`, until it is dropped.
///
/// # Invariants
/// The pointer is live and closed once, by `Drop`; its argument is the reader, and its socket lives.
pub struct Inbox<'a, R: Reader> {
    ptr: NonNull<bindings::ssi_inbox>,
    _reader: Arc<R>,
    _socket: PhantomData<&'a Socket>,
}

impl<'a, R: Reader> Inbox<'a, R> {
    /// Shows the frames of a stream to `reader` from the first [`Self::resume`] on. Nobody else may read it. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`; `EPROTONOSUPPORT` for datagrams; `EBUSY` if somebody watches the socket.
    pub fn open(socket: &'a Socket, reader: Arc<R>) -> Result<Self> {
        const { assert!(R::HEAD <= MAX_FRAME) };
        let arg = Arc::as_ptr(&reader).cast_mut().cast();
        // SAFETY: The socket is live for 'a, which the inbox does not outlive; the table is static; `reader` lives as long
        // as the inbox, and its head fits a frame.
        let ptr = unsafe { bindings::ssi_inbox_open(socket.as_ptr(), Adapter::<R>::ops(), arg) };
        let ptr = NonNull::new(from_err_ptr(ptr)?).ok_or(ENOMEM)?;
        // INVARIANT: Just opened, with that reader.
        Ok(Self {
            ptr,
            _reader: reader,
            _socket: PhantomData,
        })
    }

    /// Shows what is there and what comes from now on. Only the thread that reads what is left. Sleeps. Returns whether the
    /// next frame, or the end of the stream, is left to it.
    pub fn resume(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::ssi_inbox_resume(self.ptr.as_ptr()) }
    }
}

impl<R: Reader> Drop for Inbox<'_, R> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is the one close.
        unsafe { bindings::ssi_inbox_close(self.ptr.as_ptr()) }
    }
}

struct Adapter<R: Reader>(PhantomData<R>);

impl<R: Reader> Adapter<R> {
    const OPS: bindings::ssi_inbox_ops = bindings::ssi_inbox_ops {
        head: R::HEAD,
        length: Some(Self::length),
        frame: Some(Self::frame),
        wake: Some(Self::wake),
    };

    fn ops() -> &'static bindings::ssi_inbox_ops {
        &Self::OPS
    }

    extern "C" fn length(head: *const u8) -> usize {
        // SAFETY: The caller has `HEAD` bytes there.
        let head = unsafe { core::slice::from_raw_parts(head, R::HEAD) };
        R::length(head).unwrap_or(0)
    }

    extern "C" fn frame(arg: *mut core::ffi::c_void, frame: *const u8, len: usize) -> bool {
        // SAFETY: `arg` is the reader that `open` gave, which lives until the inbox is closed.
        let reader = unsafe { &*arg.cast::<R>() };
        // SAFETY: The caller has `len` bytes there, and leaves them alone meanwhile.
        reader.frame(unsafe { core::slice::from_raw_parts(frame, len) })
    }

    extern "C" fn wake(arg: *mut core::ffi::c_void) {
        // SAFETY: As in `frame`.
        let reader = unsafe { &*arg.cast::<R>() };
        reader.wake();
    }
}
