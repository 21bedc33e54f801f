// SPDX-License-Identifier: GPL-2.0

//! Kernel sockets over IPv4.

use crate::bindings;
use core::ptr::NonNull;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::fmt;
use kernel::prelude::*;
use kernel::time::Msecs;

/// An IPv4 address in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4(pub u32);

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: Ipv4,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Nobody's: of what came from no network.
    pub const NONE: Self = Self {
        ip: Ipv4(0),
        port: 0,
    };
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.ip.0.to_be_bytes();
        write!(f, "{}.{}.{}.{}:{}", a, b, c, d, self.port)
    }
}

/// The most parts that [`Socket::send`] takes.
pub const MAX_PIECES: usize = bindings::SSI_MAX_PIECES as usize;

/// Turns slices into what C takes. Unused entries are empty.
pub(crate) fn pieces(parts: &[&[u8]]) -> [bindings::ssi_piece; MAX_PIECES] {
    let mut out = [bindings::ssi_piece {
        data: core::ptr::null(),
        len: 0,
        in_pages: false,
    }; MAX_PIECES];
    for (to, from) in out.iter_mut().zip(parts) {
        to.data = from.as_ptr().cast();
        to.len = from.len();
    }
    out
}

/// How [`Socket::send_some`] sends.
#[derive(Clone, Copy)]
pub struct How {
    /// The number of a part which is of pages ([`crate::pages`]), and which nobody writes to any more: it is not copied, but
    /// the socket keeps its pages until they are acknowledged, also when they are given back.
    pub in_pages: Option<usize>,
    /// More comes at once: what does not fill a segment waits for it.
    pub more: bool,
    /// It waits for room, unless the caller has a pending signal.
    pub wait: bool,
}

impl How {
    /// All that there is, copied, with a wait for room.
    pub const WAIT: Self = Self {
        in_pages: None,
        more: false,
        wait: true,
    };
}

/// A kernel socket.
///
/// # Invariants
/// The pointer is live and released once, by `Drop`.
pub struct Socket(NonNull<bindings::socket>);

// SAFETY: The kernel's socket functions may be called from any task.
unsafe impl Send for Socket {}
// SAFETY: They lock the socket themselves.
unsafe impl Sync for Socket {}

impl Socket {
    fn new(ptr: *mut bindings::socket) -> Result<Self> {
        // INVARIANT: A socket that a constructor returns is ours.
        NonNull::new(from_err_ptr(ptr)?).map(Self).ok_or(ENOMEM)
    }

    /// Listens for streams on `port` of every address.
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub fn listen(port: u16) -> Result<Self> {
        // SAFETY: Numbers only.
        Self::new(unsafe { bindings::ssi_tcp_listen(port) })
    }

    /// Sleeps until a peer connects.
    ///
    /// # Errors
    /// `EINVAL` after [`Self::shutdown`]; `ENOMEM`.
    pub fn accept(&self) -> Result<Self> {
        // SAFETY: By the type invariant.
        Self::new(unsafe { bindings::ssi_tcp_accept(self.0.as_ptr()) })
    }

    /// Connects a stream.
    ///
    /// # Errors
    /// `ETIMEDOUT`, `ECONNREFUSED`, `ENETUNREACH`, `EHOSTUNREACH`.
    pub fn connect(ip: Ipv4, port: u16, timeout_ms: Msecs) -> Result<Self> {
        // SAFETY: Numbers only.
        Self::new(unsafe { bindings::ssi_tcp_connect(ip.0, port, timeout_ms) })
    }

    /// Opens a datagram socket on `port` of every address.
    ///
    /// # Errors
    /// `EADDRINUSE`, `ENOMEM`.
    pub fn datagram(port: u16) -> Result<Self> {
        // SAFETY: Numbers only.
        Self::new(unsafe { bindings::ssi_udp_open(port) })
    }

    /// A receive that takes longer fails with `EAGAIN`; 0 waits for ever.
    pub fn set_receive_timeout(&self, timeout_ms: Msecs) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ssi_sock_rcvtimeo(self.0.as_ptr(), timeout_ms) }
    }

    /// Sends the parts, at most [`MAX_PIECES`], one after the other. Sleeps.
    ///
    /// # Errors
    /// Any: the stream is torn.
    pub fn send(&self, parts: &[&[u8]]) -> Result {
        let c = pieces(parts);
        // SAFETY: By the type invariant; the parts live through the call.
        to_result(unsafe {
            bindings::ssi_tcp_send(self.0.as_ptr(), c.as_ptr(), parts.len() as u32)
        })
    }

    /// Sends what the stream takes: at once, or, if told to wait, as soon as there is room. Returns how many bytes went.
    ///
    /// # Errors
    /// `EAGAIN`: no room; any other: the stream is torn.
    pub fn send_some(&self, parts: &[&[u8]], how: How) -> Result<usize> {
        let mut c = pieces(parts);
        if let Some(piece) = how.in_pages.and_then(|i| c.get_mut(i)) {
            piece.in_pages = true;
        }
        // SAFETY: By the type invariant; the parts live through the call. The pages of one that is in pages are counted, and
        // the socket takes a count of each that it keeps.
        let n = unsafe {
            bindings::ssi_tcp_send_some(
                self.0.as_ptr(),
                c.as_ptr(),
                parts.len() as u32,
                how.more,
                how.wait,
            )
        };
        usize::try_from(n).map_err(|_| kernel::error::Error::from_errno(n))
    }

    /// Receives exactly as many bytes as `buf` holds. Sleeps.
    ///
    /// # Errors
    /// `ECONNRESET` at the end of the stream; `EAGAIN` after the time-out.
    pub fn receive(&self, buf: &mut [u8]) -> Result {
        // SAFETY: By the type invariant; `buf` is writable for its length.
        to_result(unsafe {
            bindings::ssi_tcp_recv(self.0.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
        })
    }

    /// Receives what is there, at least one byte and at most as many as `buf` holds. Sleeps. Returns how many.
    ///
    /// # Errors
    /// `ECONNRESET` at the end of the stream; `EAGAIN` after the time-out.
    pub fn receive_some(&self, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: By the type invariant; `buf` is writable for its length.
        let n = unsafe {
            bindings::ssi_tcp_recv_some(self.0.as_ptr(), buf.as_mut_ptr().cast(), buf.len())
        };
        // CAST: errnos fit.
        usize::try_from(n).map_err(|_| kernel::error::Error::from_errno(n as i32))
    }

    /// Receives exactly `n` bytes behind what `vec` holds. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`; `ECONNRESET` at the end of the stream; `EAGAIN` after the time-out.
    pub fn receive_onto(&self, vec: &mut KVVec<u8>, n: usize) -> Result {
        vec.reserve(n, GFP_KERNEL)?;
        let room = vec.spare_capacity_mut().get_mut(..n).ok_or(ENOMEM)?;
        // SAFETY: By the type invariant; `room` is writable for `n` bytes.
        to_result(unsafe { bindings::ssi_tcp_recv(self.0.as_ptr(), room.as_mut_ptr().cast(), n) })?;
        // SAFETY: `n` bytes of the spare capacity have just been written.
        unsafe { vec.inc_len(n) };
        Ok(())
    }

    /// Sends a datagram; does not wait for room.
    ///
    /// # Errors
    /// `EAGAIN`, `ENETUNREACH`.
    pub fn send_to(&self, ip: Ipv4, port: u16, data: &[u8]) -> Result {
        // SAFETY: By the type invariant; `data` is readable for its length.
        to_result(unsafe {
            bindings::ssi_udp_send(
                self.0.as_ptr(),
                ip.0,
                port,
                data.as_ptr().cast(),
                data.len(),
            )
        })
    }

    /// Receives a datagram; what does not fit is cut. Sleeps. Returns its length and who sent it.
    ///
    /// # Errors
    /// `EAGAIN` after the time-out.
    pub fn receive_datagram(&self, buf: &mut [u8]) -> Result<(usize, Address)> {
        let mut from = Address::NONE;
        // SAFETY: By the type invariant; `buf` is writable for its length, and so are the two numbers.
        let n = unsafe {
            bindings::ssi_udp_recv(
                self.0.as_ptr(),
                buf.as_mut_ptr().cast(),
                buf.len(),
                &mut from.ip.0,
                &mut from.port,
            )
        };
        if n < 0 {
            return Err(to_result(n).err().unwrap_or(EIO));
        }
        Ok((n as usize, from))
    }

    /// What this stream sends goes before others, and when it is lost is sent again sooner than usual, though some of it may
    /// only be late. Sleeps.
    pub fn set_for_control(&self) {
        // SAFETY: By the type invariant; it is a stream.
        unsafe { bindings::ssi_tcp_for_control(self.0.as_ptr()) }
    }

    /// The other end of this stream may not send so much ahead that others wait behind it. Sleeps.
    pub fn set_for_bulk(&self) {
        // SAFETY: By the type invariant; it is a stream.
        unsafe { bindings::ssi_tcp_for_bulk(self.0.as_ptr()) }
    }

    /// The other end of a stream; [`Address::NONE`] if it is gone.
    pub fn peer(&self) -> Address {
        let mut a = Address::NONE;
        // SAFETY: By the type invariant; both numbers are writable.
        unsafe { bindings::ssi_sock_peer(self.0.as_ptr(), &mut a.ip.0, &mut a.port) };
        a
    }

    /// Makes everybody who sleeps on the socket return.
    pub fn shutdown(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::ssi_sock_shutdown(self.0.as_ptr()) }
    }
}

impl Socket {
    /// For those of this crate who watch it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::socket {
        self.0.as_ptr()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is the one release.
        unsafe { bindings::ssi_sock_release(self.0.as_ptr()) }
    }
}
