// SPDX-License-Identifier: GPL-2.0

//! The body of a call or a reply: few bytes where it is, a short one in a piece of what is kept for such calls, any other in
//! memory of its own.

use core::ops::Deref;
use kernel::alloc::Flags;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::pages;
use ssi::reserve::Owned;
use ssi::reserve::Reserve;
use ssi::reserve::Slot;

/// The most bytes that are few.
pub(crate) const FEW: usize = 30;

/// The most bytes that fit a piece.
pub(crate) const SHORT: usize = 480;

/// Memory for a short body.
struct Piece {
    len: usize,
    bytes: [u8; SHORT],
}

/// A body. Nobody writes to it once it is under way.
pub struct Bytes(Kind);

enum Kind {
    /// So many of them.
    Few(u8, [u8; FEW]),
    Short(Owned<Piece>),
    Own(KVVec<u8>),
}

impl Bytes {
    /// None.
    pub(crate) const EMPTY: Self = Self(Kind::Few(0, [0; FEW]));

    /// Those of a fixed part and a tail. Memory of `home`, if that has some for a body as short as this. Sleeps, if `flags` allow it.
    ///
    /// # Errors
    /// `ENOMEM`: never where it sleeps, is short, and has a home.
    pub(crate) fn of(
        fixed: &[u8],
        tail: &[u8],
        home: Option<&Arc<Reserve>>,
        flags: Flags,
    ) -> Result<Self> {
        let len = fixed.len() + tail.len();
        if let Some(few) = Self::few(fixed, tail) {
            return Ok(few);
        }
        if len <= SHORT && home.is_some() {
            let mut piece = Slot::of(home, flags)?.fill(Piece {
                len,
                bytes: [0; SHORT],
            });
            write(&mut piece.bytes, fixed, tail);
            return Ok(Self(Kind::Short(piece)));
        }
        let mut own = KVVec::with_capacity(len, flags)?;
        own.extend_from_slice(fixed, flags)?;
        own.extend_from_slice(tail, flags)?;
        Ok(own.into())
    }

    /// The same, if they are few.
    pub(crate) fn few(fixed: &[u8], tail: &[u8]) -> Option<Self> {
        let len = fixed.len() + tail.len();
        if len > FEW {
            return None;
        }
        let mut bytes = [0; FEW];
        write(&mut bytes, fixed, tail);
        Some(Self(Kind::Few(len as u8, bytes))) // CAST: at most FEW.
    }

    /// A fixed part, with room for a tail of `len` bytes; of whole pages, if it is long. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn with_room(fixed: &[u8], len: usize) -> Result<Self> {
        if fixed.len() + len <= FEW {
            return Self::few(fixed, &[]).ok_or(EINVAL);
        }
        let mut own = pages::with_capacity(fixed.len() + len)?;
        own.extend_from_slice(fixed, GFP_KERNEL)?;
        Ok(own.into())
    }

    /// Memory of its own, with room for `more` bytes. Sleeps.
    fn own(&mut self, more: usize) -> Result<&mut KVVec<u8>> {
        if !matches!(self.0, Kind::Own(_)) {
            let mut own = pages::with_capacity(self.len() + more)?;
            own.extend_from_slice(self, GFP_KERNEL)?;
            self.0 = Kind::Own(own);
        }
        match &mut self.0 {
            Kind::Own(own) => Ok(own),
            Kind::Few(..) | Kind::Short(_) => Err(EINVAL),
        }
    }

    /// Adds bytes. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn extend(&mut self, more: &[u8]) -> Result {
        if let Kind::Few(..) = self.0 {
            if let Some(few) = Self::few(self, more) {
                *self = few;
                return Ok(());
            }
        }
        Ok(self.own(more.len())?.extend_from_slice(more, GFP_KERNEL)?)
    }

    /// Adds `len` zeros, to be written over. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn extend_zeroed(&mut self, len: usize) -> Result<&mut [u8]> {
        let own = self.own(len)?;
        let at = own.len();
        own.resize(at + len, 0, GFP_KERNEL)?;
        Ok(own.get_mut(at..).unwrap_or(&mut []))
    }

    /// Whether a socket can send it without a copy.
    pub(crate) fn is_of_pages(&self) -> bool {
        match &self.0 {
            Kind::Few(..) | Kind::Short(_) => false,
            Kind::Own(own) => pages::is_of_pages(own),
        }
    }

    /// What is behind the first `fixed` bytes. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn into_tail(self, fixed: usize) -> Result<KVVec<u8>> {
        let mut own = match self.0 {
            Kind::Own(own) => own,
            short => {
                let mut tail = KVVec::new();
                let all = Self(short);
                tail.extend_from_slice(all.get(fixed..).unwrap_or(&[]), GFP_KERNEL)?;
                return Ok(tail);
            }
        };
        if fixed > 0 {
            let n = own.len().saturating_sub(fixed);
            own.copy_within(fixed.., 0);
            own.truncate(n);
        }
        Ok(own)
    }
}

/// What a body is made of.
pub(crate) enum Text<'a> {
    /// A fixed part and a tail, at most [`SHORT`] bytes together: copied when there is memory for them.
    Short(&'a [u8], &'a [u8]),
    /// It is there.
    Made(Bytes),
}

impl From<KVVec<u8>> for Text<'_> {
    fn from(own: KVVec<u8>) -> Self {
        Self::Made(own.into())
    }
}

impl Text<'_> {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Short(fixed, tail) => fixed.len() + tail.len(),
            Self::Made(body) => body.len(),
        }
    }

    /// The body; see [`Bytes::of`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn into_bytes(self, home: Option<&Arc<Reserve>>) -> Result<Bytes> {
        match self {
            Self::Short(fixed, tail) => Bytes::of(fixed, tail, home, GFP_KERNEL),
            Self::Made(body) => Ok(body),
        }
    }
}

/// Writes one behind the other, where there is room for both.
fn write(to: &mut [u8], fixed: &[u8], tail: &[u8]) {
    for (to, from) in to.iter_mut().zip(Iterator::chain(fixed.iter(), tail)) {
        *to = *from;
    }
}

impl From<KVVec<u8>> for Bytes {
    fn from(own: KVVec<u8>) -> Self {
        Self(Kind::Own(own))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Few(n, bytes) => bytes.get(..usize::from(*n)).unwrap_or(&[]),
            Kind::Short(piece) => piece.bytes.get(..piece.len).unwrap_or(&[]),
            Kind::Own(own) => own,
        }
    }
}
