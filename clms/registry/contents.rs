// SPDX-License-Identifier: GPL-2.0

//! All that a node knows, as bytes: what one member gives another that lacks it.

use crate::registry::proto::get_name;
use crate::registry::proto::get_value;
use crate::registry::proto::value;
use crate::registry::proto::WireRequest;
use crate::registry::records::Change;
use crate::registry::records::Outcome;
use crate::registry::records::Slot;
use crate::registry::records::Table;
use crate::registry::state;
use crate::registry::state::Contents;
use crate::registry::state::Done;
use crate::registry::state::Peer;
use crate::registry::state::Place;
use crate::registry::Name;
use crate::registry::Value;
use crate::registry::MAX_NAME;
use crate::registry::MAX_RECORDS;
use kernel::prelude::*;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// A change as the kernel has it.
pub(crate) type Op = Change<Name, Value>;

/// The records.
pub(crate) type Records = Table<KVVec<Slot<Name, Value>>>;

/// The state machine.
pub(crate) type Core = state::Core<Records, KVVec<Peer<Op, Outcome>>, Op>;

/// What [`decode`] gives.
pub(crate) type Whole = Contents<Records, KVVec<Done<Outcome>>, Op>;

/// Then come `n_nodes` of [`WireDone`], `n_records` of [`WireRecord`], and the prepared request if there is one.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Head {
    seq: Le64,
    n_nodes: Le32,
    n_records: Le32,
    is_prepared: Le32,
}

/// The last request of a node that is done.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireDone {
    life: Le64,
    number: Le64,
    /// 0 none, 1 done, 2 lost, 3 full.
    kind: Le32,
    version: Le64,
}

/// A record; its value follows.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct WireRecord {
    version: Le64,
    name: [u8; MAX_NAME],
    len: Le32,
}

/// Room for records.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn records() -> Result<Records> {
    let empty = Slot {
        name: Name([0; MAX_NAME]),
        value: Value::new(&[])?,
        version: 0,
    };
    Ok(Table(KVVec::from_elem(empty, MAX_RECORDS, GFP_KERNEL)?))
}

/// A state machine for a node in a table of `n`.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn new_core(this: Place, life: u64, n: usize) -> Result<Core> {
    let peers = KVVec::from_elem(Peer::NONE, n, GFP_KERNEL)?;
    Ok(Core::new(this, life, records()?, peers))
}

/// Encodes what a node knows.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn encode(core: &Core, n_nodes: usize) -> Result<KVVec<u8>> {
    let used = || core.machine().0.iter().filter(|s| s.version != 0);
    let head = Head {
        seq: Le64::new(core.seq()),
        n_nodes: Le32::new(n_nodes as u32), // CAST: at most 64.
        n_records: Le32::new(used().count() as u32), // CAST: at most 128.
        is_prepared: Le32::new(u32::from(core.prepared().is_some())),
    };
    let mut out = KVVec::new();
    out.extend_from_slice(head.as_bytes(), GFP_KERNEL)?;
    for p in 0..n_nodes {
        let d = core.done(p);
        let (kind, version) = match d.outcome {
            None => (0, 0),
            Some(Outcome::Done(v)) => (1, v),
            Some(Outcome::Lost(v)) => (2, v),
            Some(Outcome::Full) => (3, 0),
        };
        let w = WireDone {
            life: Le64::new(d.life),
            number: Le64::new(d.number),
            kind: Le32::new(kind),
            version: Le64::new(version),
        };
        out.extend_from_slice(w.as_bytes(), GFP_KERNEL)?;
    }
    for s in used() {
        let w = WireRecord {
            version: Le64::new(s.version),
            name: s.name.0,
            len: Le32::new(s.value.len() as u32), // CAST: at most 256.
        };
        out.extend_from_slice(w.as_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(&s.value, GFP_KERNEL)?;
    }
    if let Some(r) = core.prepared() {
        out.extend_from_slice(WireRequest::new(r).as_bytes(), GFP_KERNEL)?;
        out.extend_from_slice(value(r), GFP_KERNEL)?;
    }
    Ok(out)
}

/// Decodes what another node knows.
///
/// # Errors
/// `EPROTO`; `ENOMEM`.
pub(crate) fn decode(bytes: &[u8], n_nodes: usize) -> Result<Whole> {
    let (head, mut rest) = Head::read_from_prefix(bytes).map_err(|_| EPROTO)?;
    let n_records = head.n_records.get() as usize; // CAST: 64 bits.
    let is_sane = head.seq.get() <= u64::MAX / 2;
    if head.n_nodes.get() as usize != n_nodes || n_records > MAX_RECORDS || !is_sane {
        return Err(EPROTO);
    }
    let mut done = KVVec::with_capacity(n_nodes, GFP_KERNEL)?;
    for _ in 0..n_nodes {
        let (w, more) = WireDone::ref_from_prefix(rest).map_err(|_| EPROTO)?;
        rest = more;
        let outcome = match (w.kind.get(), w.version.get()) {
            (0, 0) => None,
            (1, v) => Some(Outcome::Done(v)),
            (2, v) => Some(Outcome::Lost(v)),
            (3, 0) => Some(Outcome::Full),
            _ => return Err(EPROTO),
        };
        let d = Done {
            life: w.life.get(),
            number: w.number.get(),
            outcome,
        };
        done.push(d, GFP_KERNEL)?;
    }
    let mut machine = records()?;
    for i in 0..n_records {
        let (w, more) = WireRecord::ref_from_prefix(rest).map_err(|_| EPROTO)?;
        let (value, more) = get_value(w.len, more)?;
        rest = more;
        let (name, version) = (get_name(&w.name)?, w.version.get());
        // Of two with one name, watchers would be told in turn, without end.
        if version == 0 || version > head.seq.get() || machine.get(name).is_some() {
            return Err(EPROTO);
        }
        *machine.0.get_mut(i).ok_or(EPROTO)? = Slot {
            name,
            value,
            version,
        };
    }
    let prepared = match head.is_prepared.get() {
        0 => None,
        1 => {
            let (w, more) = WireRequest::ref_from_prefix(rest).map_err(|_| EPROTO)?;
            let (r, more) = w.get(more, n_nodes)?;
            rest = more;
            Some(r)
        }
        _ => return Err(EPROTO),
    };
    if !rest.is_empty() {
        return Err(EPROTO);
    }
    Ok(Contents {
        seq: head.seq.get(),
        prepared,
        machine,
        done,
    })
}

#[kunit_tests(ssi_clms_registry_contents)]
mod tests {
    use super::*;

    fn op(name: &[u8], expected: u64, v: &[u8]) -> Result<Op> {
        Ok(Op {
            name: Name::new(name)?,
            expected,
            value: Some(Value::new(v)?),
        })
    }

    /// A master alone, with a record, a request that was lost, and what comes of entering a second view with a joiner.
    fn core() -> Result<Core> {
        let mut c = new_core(0, 5, 2)?;
        c.enter(1, 1, 0, true);
        for o in [
            op(b"a", 0, b"one")?,
            op(b"b", 0, &[3; 256])?,
            op(b"a", 9, b"x")?,
        ] {
            let r = c.request(o);
            c.wanted(1, r);
        }
        Ok(c)
    }

    #[test]
    fn round_trip() -> Result {
        let c = core()?;
        assert_eq!(c.seq(), 3);
        let bytes = encode(&c, 2)?;
        assert_eq!(bytes.len(), 20 + 2 * 28 + 2 * 44 + 3 + 256);
        let w = decode(&bytes, 2)?;
        assert_eq!(w.seq, 3);
        assert!(w.prepared.is_none());
        assert!(w.machine.0.as_slice() == c.machine().0.as_slice());
        assert_eq!(
            w.done.first().and_then(|d| d.outcome),
            Some(Outcome::Lost(1))
        );
        assert_eq!(w.done.get(1).map(|d| d.life), Some(0));
        Ok(())
    }

    #[test]
    fn a_prepared_change_goes_along() -> Result {
        let mut c = core()?;
        c.enter(2, 3, 0, false);
        c.reported(1, 2, Default::default());
        c.started(1, 2);
        let r = c.request(op(b"c", 0, b"three")?);
        c.wanted(2, r);
        let bytes = encode(&c, 2)?;
        assert!(decode(&bytes, 2)?.prepared == Some(r));
        // Who takes it over, and commits, has it.
        let mut joiner = new_core(1, 6, 2)?;
        joiner.enter(2, 3, 0, false);
        assert!(!joiner.is_ready());
        assert!(joiner.start(0, 2, Some(decode(&bytes, 2)?)).is_ok());
        assert!(joiner.is_ready() && joiner.machine().get(r.op.name).is_none());
        assert!(joiner.committed(0, 2, 4).is_ok());
        let got = joiner
            .machine()
            .get(r.op.name)
            .map(|s| (s.version, s.value));
        assert!(got == Some((4, Value::new(b"three")?)));
        Ok(())
    }

    #[test]
    fn torn_bytes_are_refused() -> Result {
        let mut c = core()?;
        c.enter(2, 3, 0, false);
        c.reported(1, 2, Default::default());
        c.started(1, 2);
        let r = c.request(op(b"c", 0, b"three")?);
        c.wanted(2, r);
        let mut bytes = encode(&c, 2)?;
        for n in 0..bytes.len() {
            let part = bytes.get(..n).unwrap_or(&[]);
            assert!(decode(part, 2).is_err_and(|e| e == EPROTO));
        }
        assert!(decode(&bytes, 3).is_err_and(|e| e == EPROTO));
        bytes.push(0, GFP_KERNEL)?;
        assert!(decode(&bytes, 2).is_err_and(|e| e == EPROTO));
        Ok(())
    }

    #[test]
    fn a_name_twice_is_refused() -> Result {
        let mut bytes = encode(&core()?, 2)?;
        let second = 20 + 2 * 28 + 44 + 3;
        let name = bytes.get_mut(second + 8).ok_or(EPROTO)?;
        assert_eq!(core::mem::replace(name, b'a'), b'b');
        assert!(decode(&bytes, 2).is_err_and(|e| e == EPROTO));
        Ok(())
    }
}
