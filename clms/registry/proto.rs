// SPDX-License-Identifier: GPL-2.0

//! The messages of the replicated records. `Documentation/protocol.rst` has the same list.

use crate::registry::contents::Op;
use crate::registry::records::Change;
use crate::registry::state::Request;
use crate::registry::Name;
use crate::registry::Value;
use crate::registry::MAX_NAME;
use kernel::prelude::*;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// A change that a node wants; what the record shall hold is in the tail.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct WireRequest {
    /// Place of the node in the table.
    pub(crate) by: Le32,
    /// 1: the record shall be no more.
    pub(crate) remove: Le32,
    pub(crate) life: Le64,
    pub(crate) number: Le64,
    pub(crate) expected: Le64,
    pub(crate) name: [u8; MAX_NAME],
    /// Bytes of the value.
    pub(crate) len: Le32,
}

impl WireRequest {
    /// Encodes all but the value, which goes behind it.
    pub(crate) fn new(r: &Request<Op>) -> Self {
        Self {
            by: Le32::new(r.by as u32), // CAST: below 64.
            remove: Le32::new(u32::from(r.op.value.is_none())),
            life: Le64::new(r.life),
            number: Le64::new(r.number),
            expected: Le64::new(r.op.expected),
            name: r.op.name.0,
            len: Le32::new(value(r).len() as u32), // CAST: at most 256.
        }
    }

    /// Decodes; the value begins `tail`. Returns the request and what follows it.
    ///
    /// # Errors
    /// `EPROTO`.
    pub(crate) fn get<'a>(
        &self,
        tail: &'a [u8],
        n_nodes: usize,
    ) -> Result<(Request<Op>, &'a [u8])> {
        let by = self.by.get() as usize; // CAST: 64 bits.
        if by >= n_nodes || self.life.get() == 0 || self.number.get() == 0 {
            return Err(EPROTO);
        }
        let (value, rest) = get_value(self.len, tail)?;
        let value = match self.remove.get() {
            0 => Some(value),
            1 if value.is_empty() => None,
            _ => return Err(EPROTO),
        };
        let op = Change {
            name: get_name(&self.name)?,
            expected: self.expected.get(),
            value,
        };
        let request = Request {
            by,
            life: self.life.get(),
            number: self.number.get(),
            op,
        };
        Ok((request, rest))
    }
}

/// What the record shall hold; nothing if it shall be no more.
pub(crate) fn value(r: &Request<Op>) -> &[u8] {
    r.op.value.as_deref().unwrap_or(&[])
}

/// A name as it is on the wire: zeros at the end.
///
/// # Errors
/// `EPROTO`.
pub(crate) fn get_name(bytes: &[u8; MAX_NAME]) -> Result<Name> {
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(MAX_NAME);
    let (name, rest) = bytes.split_at_checked(len).ok_or(EPROTO)?;
    if rest.iter().any(|b| *b != 0) {
        return Err(EPROTO);
    }
    Name::new(name).map_err(|_| EPROTO)
}

/// A value of `len` bytes at the start of `tail`, and what follows.
///
/// # Errors
/// `EPROTO`.
pub(crate) fn get_value(len: Le32, tail: &[u8]) -> Result<(Value, &[u8])> {
    let (value, rest) = tail.split_at_checked(len.get() as usize).ok_or(EPROTO)?;
    Ok((Value::new(value).map_err(|_| EPROTO)?, rest))
}

ics::service! {
    /// What members tell each other of the records. All of class L4: who answers waits for nobody.
    service Registry { id: 6, version: 1 }

    /// A post to the master of view `view`: make this change. The tail is what the record shall hold.
    op 1 Want (class: L4) { view: Le64, request: WireRequest } -> { }

    /// A post to the master of view `view`: the sender is in it now, and takes nothing of an earlier one any more. Its contents are
    /// those of view `of`, and have `seq` changes, a prepared one included.
    op 2 Report (class: L4) { view: Le64, of: Le64, seq: Le64 } -> { }

    /// From the master: give me your contents. They are in the reply's tail.
    /// Errors: `ESTALE` not in that view.
    op 3 Fetch (class: L4) { view: Le64 } -> { of: Le64 }

    /// From the master: your contents are those of this view. With a tail: take these.
    /// Errors: `ESTALE`.
    op 4 Start (class: L4) { view: Le64 } -> { }

    /// From the master: prepare change `seq`; all before it are committed. The tail is what the record shall hold.
    /// Errors: `ESTALE`.
    op 5 Append (class: L4) { view: Le64, seq: Le64, request: WireRequest } -> { }

    /// A post from the master: all changes up to `seq` are committed.
    op 6 Commit (class: L4) { view: Le64, seq: Le64 } -> { }
}

#[kunit_tests(ssi_clms_registry_proto)]
mod tests {
    use super::*;

    fn request(value: Option<&[u8]>) -> Result<Request<Op>> {
        Ok(Request {
            by: 2,
            life: 0x0102,
            number: 3,
            op: Change {
                name: Name::new(b"root")?,
                expected: 4,
                value: value.map(Value::new).transpose()?,
            },
        })
    }

    #[test]
    fn sizes_and_bytes_are_pinned() -> Result {
        assert_eq!(core::mem::size_of::<WireRequest>(), 68);
        assert_eq!(core::mem::size_of::<WantReq>(), 76);
        assert_eq!(core::mem::size_of::<ReportReq>(), 24);
        assert_eq!(core::mem::size_of::<FetchReq>(), 8);
        assert_eq!(core::mem::size_of::<StartReq>(), 8);
        assert_eq!(core::mem::size_of::<AppendReq>(), 84);
        assert_eq!(core::mem::size_of::<CommitReq>(), 16);
        let w = WireRequest::new(&request(Some(b"xy"))?);
        let golden = b"\x02\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0root\0\0\0\0\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0";
        assert_eq!(w.as_bytes(), golden);
        Ok(())
    }

    #[test]
    fn round_trip_and_refusal() -> Result {
        for v in [None, Some(&b""[..]), Some(b"xyz"), Some(&[7; 256])] {
            let r = request(v)?;
            let mut tail = KVec::new();
            tail.extend_from_slice(value(&r), GFP_KERNEL)?;
            tail.push(9, GFP_KERNEL)?;
            let (back, rest) = WireRequest::new(&r).get(&tail, 3)?;
            assert!(back == r && rest == [9]);
        }
        let good = WireRequest::new(&request(Some(b"x"))?);
        let refused = |w: &WireRequest, tail: &[u8]| w.get(tail, 3).is_err_and(|e| e == EPROTO);
        assert!(!refused(&good, b"x"));
        assert!(refused(&good, b""));
        assert!(good.get(b"x", 2).is_err());
        let mut w = good;
        w.remove = Le32::new(1);
        assert!(refused(&w, b"x"));
        w = good;
        w.life = Le64::new(0);
        assert!(refused(&w, b"x"));
        w = good;
        w.number = Le64::new(0);
        assert!(refused(&w, b"x"));
        w = good;
        w.name = *b"a\0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert!(refused(&w, b"x"));
        w.name = [0; MAX_NAME];
        assert!(refused(&w, b"x"));
        w = good;
        w.len = Le32::new(257);
        assert!(refused(&w, &[0; 300]));
        Ok(())
    }

    #[test]
    fn names_and_values_have_bounds() {
        assert!(Name::new(b"").is_err_and(|e| e == EINVAL));
        assert!(Name::new(b"a\0").is_err_and(|e| e == EINVAL));
        assert!(Name::new(&[b'x'; MAX_NAME]).is_ok_and(|n| n.as_bytes().len() == MAX_NAME));
        assert!(Name::new(&[b'x'; MAX_NAME + 1]).is_err_and(|e| e == ENAMETOOLONG));
        assert!(Value::new(&[0; 256]).is_ok());
        assert!(Value::new(&[0; 257]).is_err_and(|e| e == EMSGSIZE));
    }
}
