// SPDX-License-Identifier: GPL-2.0

//! Requests from an admitted node that lies: any op, any body.
//!
//! Whatever the bytes, a handler is called for an op that is declared, and not without its whole fixed part: else the
//! answer is `ENOSYS` or `EPROTO`. It gets every byte once, fixed part and tail, and its reply leaves as it made it.

use crate::bytes::Bytes;
use crate::facts::FactsService;
use crate::frame::MAX_BODY;
use crate::fencing::FencingService;
use crate::fuzz::noise;
use crate::fuzz::Target;
use crate::registry::proto::RegistryService;
use crate::rfile::RfileService;
use crate::service::__private::encode;
use crate::service::Caller;
use crate::service::Handle;
use crate::service::Op;
use crate::service::Reply;
use crate::service::Service;
use crate::service::Status;
use crate::shutdown::ShutdownService;
use crate::vproc::VprocService;
use kernel::alloc::KVVec;
use kernel::alloc::GFP_KERNEL;
use kernel::error::code::EMSGSIZE;
use kernel::error::code::ENOSYS;
use kernel::error::code::EPROTO;
use rand::rngs::SmallRng;
use rand::Rng;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use std::cell::RefCell;
use zerocopy::FromZeros;
use zerocopy::IntoBytes;

/// What a handler was called with.
#[derive(Debug, PartialEq, Eq)]
struct Called {
    op: u16,
    fixed: usize,
    request: Vec<u8>,
    reply: Vec<u8>,
}

thread_local! {
    static CALLED: RefCell<Vec<Called>> = const { RefCell::new(Vec::new()) };
}

/// Handles every message of every service: its reply is zeros, and the tail that came.
struct Probe;

impl<O: Op> Handle<O> for Probe {
    fn handle(&self, _: Caller, req: &O::Req, tail: &[u8]) -> Reply<O> {
        let rep = O::Rep::new_zeroed();
        let mut copy = Bytes::with_room(req.as_bytes(), tail.len())?;
        copy.extend(tail)?;
        let mut out = KVVec::new();
        out.extend_from_slice(tail, GFP_KERNEL)?;
        let mut reply = vec![0; size_of::<O::Rep>()];
        reply.extend(tail);
        CALLED.with_borrow_mut(|c| {
            c.push(Called {
                op: O::OP,
                fixed: size_of::<O::Req>(),
                request: copy.to_vec(),
                reply,
            });
        });
        Ok((rep, out))
    }
}

/// A service by the first byte of an input.
fn service(n: u8) -> &'static dyn Service {
    match n % 6 {
        0 => &VprocService(Probe),
        1 => &RfileService(Probe),
        2 => &RegistryService(Probe),
        3 => &FencingService(Probe),
        4 => &FactsService(Probe),
        _ => &ShutdownService(Probe),
    }
}

/// Fixed parts of the ops of a service: a row of `Documentation/protocol.rst` each.
fn fixed(service: &dyn Service, op: u16) -> Option<usize> {
    const CRED: usize = 340;
    let vproc = [
        4,
        6 * 4 + 48 + CRED,
        4 + 4 + 6 * 8 + 4 + CRED,
        4 + CRED,
        8 + CRED,
        8 + CRED,
        4 + CRED,
        4 + CRED,
        0,
        8,
        5 * 4 + 5 * 8,
        8,
        4,
        4,
        16,
        12,
        16,
        12,
        16,
        12,
        12,
        12,
        24,
        4,
        0,
        12 + 48 + CRED,
        4,
        4,
    ];
    let rfile = [8, 8, 8, 12, 8, 8, 8, 24, 20, 16, 20, 12, 8];
    let all = match service.id() {
        3 => &vproc[..],
        4 => &rfile,
        6 => &[76, 24, 8, 8, 84, 16],
        8 => &[16, 16, 16],
        9 => &[0],
        10 => &[8, 0],
        id => panic!("service {id}"),
    };
    all.get(usize::from(op).checked_sub(1)?).copied()
}

fn ask(service: &dyn Service, op: u16, body: &[u8]) -> bool {
    let from = Caller {
        node: NodeId::lowest(),
        incarnation: Incarnation(1),
    };
    CALLED.with_borrow_mut(Vec::clear);
    let result = service.handle(from, op, body);
    let called = CALLED.take();
    let known = fixed(service, op);
    assert_eq!(
        service.class(op).is_some(),
        known.is_some(),
        "{} has op {op}",
        service.name()
    );
    match (result, known) {
        (Ok(reply), Some(n)) => {
            assert!(n <= body.len());
            let [c] = &called[..] else {
                panic!("called {} times", called.len())
            };
            assert_eq!((c.op, c.fixed), (op, n));
            assert!(
                c.request == body && c.reply == *reply,
                "bytes that came, and those that leave"
            );
            true
        }
        (Err(Status::Errno(e)), Some(n)) => {
            assert!(e == EPROTO && body.len() < n && called.is_empty(), "{e:?}");
            false
        }
        (Err(Status::Errno(e)), None) => {
            assert!(e == ENOSYS && called.is_empty(), "{e:?}");
            false
        }
        (other, _) => panic!("{:?}", other.map(|b| b.to_vec())),
    }
}

/// Service, op, body.
fn check(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<3>() else {
        return false;
    };
    let op = u16::from_le_bytes([head[1], head[2]]);
    ask(service(head[0]), op, body)
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let n: u8 = rng.random();
    let service = service(n);
    let op = if rng.random_ratio(1, 16) {
        rng.random()
    } else {
        rng.random_range(0..service.ops().len() as u16 + 2)
    };
    let size = fixed(service, op);
    let mut out = vec![n];
    out.extend(op.to_le_bytes());
    out.extend((0..size.unwrap_or(5)).map(|_| rng.random::<u8>()));
    match rng.random_range(0..3) {
        0 => {}
        1 => out.truncate(rng.random_range(0..=out.len())),
        _ => out.extend(noise(rng, 300)),
    }
    out
}

const TARGET: Target = Target {
    name: "requests",
    make,
    check,
    edges: &[3, 6, 7, 28, 29, 13, 14],
};

#[test]
fn fuzz_requests() {
    TARGET.run();
}

crate::service! {
    service Replies { id: 0xffff, version: 1 }
    op 1 Fixed (class: L0) {} -> { bytes: [u8; 2] }
    op 2 Tail (class: L0) {} -> {}
}

/// What is encoded is what was given: `encode` makes no copy where there is no fixed part.
#[test]
fn encode_is_fixed_part_and_tail() {
    for tail in [&b""[..], b"tail"] {
        let given = || {
            let mut v = KVVec::new();
            v.extend_from_slice(tail, GFP_KERNEL).unwrap();
            v
        };
        let fixed = FixedRep { bytes: [1, 2] };
        assert_eq!(*encode::<Fixed>(&fixed, given()).unwrap(), [b"\x01\x02", tail].concat());
        assert_eq!(*encode::<Tail>(&TailRep {}, given()).unwrap(), *tail);
    }
}

/// With one byte more it is no frame's.
#[test]
fn a_reply_is_as_long_as_a_body_at_most() {
    let of = |len| KVVec::from_elem(7u8, len, GFP_KERNEL).unwrap();
    let fixed = FixedRep { bytes: [1, 2] };
    assert_eq!(encode::<Fixed>(&fixed, of(MAX_BODY - 2)).unwrap().len(), MAX_BODY);
    assert!(encode::<Fixed>(&fixed, of(MAX_BODY - 1)).is_err_and(|e| e == EMSGSIZE));
    assert_eq!(encode::<Tail>(&TailRep {}, of(MAX_BODY)).unwrap().len(), MAX_BODY);
    assert!(encode::<Tail>(&TailRep {}, of(MAX_BODY + 1)).is_err_and(|e| e == EMSGSIZE));
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    TARGET.write("empty", &[]);
    for (name, service, op, len) in [
        ("locate", 0, 1u16, 4),
        ("locate_truncated", 0, 1, 3),
        ("locate_with_a_tail", 0, 1, 50),
        ("signal", 0, 2, 412),
        ("signal_truncated", 0, 2, 411),
        ("list", 0, 9, 0),
        ("late_with_a_tail", 0, 20, 12 + 3 * 56),
        ("here", 0, 25, 12),
        ("op_zero", 0, 0, 40),
        ("op_unknown", 0, 29, 400),
        ("op_largest", 0, u16::MAX, 400),
        ("rfile_read", 1, 4, 12),
        ("rfile_ioctl_with_a_tail", 1, 8, 24 + 60),
        ("rfile_seek_truncated", 1, 11, 19),
        ("rfile_op_unknown", 1, 14, 40),
        ("registry_want_with_a_tail", 2, 1, 76 + 7),
        ("registry_append_truncated", 2, 5, 83),
        ("registry_op_unknown", 2, 7, 100),
        ("fencing_over", 3, 1, 16),
        ("fencing_failed_truncated", 3, 3, 15),
        ("fencing_op_unknown", 3, 4, 40),
        ("facts_tell", 4, 1, 0),
        ("facts_op_unknown", 4, 2, 0),
        ("shutdown_begin", 5, 1, 8),
        ("shutdown_begin_truncated", 5, 1, 7),
        ("shutdown_look_with_a_tail", 5, 2, 9),
    ] {
        let mut bytes = vec![service];
        bytes.extend(op.to_le_bytes());
        bytes.extend((0..len).map(|i| i as u8));
        TARGET.write(name, &bytes);
    }
}
