// SPDX-License-Identifier: GPL-2.0

//! The records, when admitted nodes lie: their requests to the handlers, their answers to this node.
//!
//! Whatever the bytes, the answer is `EPROTO` if and only if the message is not sound, read by hand; else it is taken, or is
//! `ESTALE`. What is decoded is encoded as it came; and what this node then has and gives to others, they can read.

use crate::__private;
use crate::fuzz::noise;
use crate::fuzz::Target;
use crate::registry::contents;
use crate::registry::contents::new_core;
use crate::registry::contents::Core;
use crate::registry::contents::Op;
use crate::registry::proto::*;
use crate::registry::replica::Replica;
use crate::registry::server;
use crate::registry::state::Duty;
use crate::registry::state::Request;
use crate::registry::Name;
use crate::registry::Value;
use crate::registry::MAX_RECORDS;
use crate::registry::MAX_VALUE;
use crate::service::Caller;
use crate::service::Op as _;
use crate::service::Status;
use crate::thread::REPLICA;
use kernel::error::code::ENOSYS;
use kernel::error::code::EPROTO;
use kernel::error::code::ESTALE;
use kernel::error::Result;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::Rng;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le64;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

const NODES: usize = 3;
const THIS: usize = 1;
const LIFE: u64 = 7;
/// From whom, the op, the length of the body.
const HEAD: usize = 4;
/// This node goes to the next view, led by who is named; with a body none of its members was in one before.
const ENTER: u8 = 0;
/// The reply to a `Fetch` of this node.
const FETCHED: u8 = 7;
/// The largest number of changes that is read.
const LARGEST: u64 = u64::MAX / 2;

fn u32_at(b: &[u8], at: usize) -> usize {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

fn is_name(b: &[u8]) -> bool {
    let rest = b.iter().skip_while(|c| **c != 0);
    b[0] != 0 && rest.clone().all(|c| *c == 0)
}

/// What follows a sound request and its value.
fn after_request(b: &[u8]) -> Option<&[u8]> {
    let value = b.get(68..)?;
    let (remove, len) = (u32_at(b, 4), u32_at(b, 64));
    let is_sound = u32_at(b, 0) < NODES
        && (remove == 0 || remove == 1 && len == 0)
        && u64_at(b, 8) != 0
        && u64_at(b, 16) != 0
        && is_name(&b[32..64])
        && len <= MAX_VALUE;
    value.get(len..).filter(|_| is_sound)
}

/// Whether these are contents, read by hand.
fn is_contents(b: &[u8]) -> bool {
    let Some((head, mut b)) = b.split_at_checked(20) else {
        return false;
    };
    let (seq, n_records, prepared) = (u64_at(head, 0), u32_at(head, 12), u32_at(head, 16));
    if seq > LARGEST || u32_at(head, 8) != NODES || n_records > MAX_RECORDS || prepared > 1 {
        return false;
    }
    for _ in 0..NODES {
        let Some((done, rest)) = b.split_at_checked(28) else {
            return false;
        };
        let has_version = u64_at(done, 20) != 0;
        match u32_at(done, 16) {
            0 | 3 if has_version => return false,
            0..=3 => b = rest,
            _ => return false,
        }
    }
    let mut names = BTreeSet::new();
    for _ in 0..n_records {
        let Some((record, rest)) = b.split_at_checked(44) else {
            return false;
        };
        let (version, len) = (u64_at(record, 0), u32_at(record, 40));
        let name = &record[8..40];
        if !(1..=seq).contains(&version) || len > MAX_VALUE || !is_name(name) || !names.insert(name) {
            return false;
        }
        let Some(rest) = rest.get(len..) else {
            return false;
        };
        b = rest;
    }
    if prepared == 1 {
        let Some(rest) = after_request(b) else {
            return false;
        };
        b = rest;
    }
    b.is_empty()
}

/// Encoded by a node that took these contents.
fn again(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut c = new_core(THIS, LIFE, NODES)?;
    c.enter(1, 0b11, 0, false);
    assert!(c.start(0, 1, Some(contents::decode(bytes, NODES)?)).is_ok());
    Ok(contents::encode(&c, NODES)?.to_vec())
}

/// Whether these are contents; what is decoded of them is encoded as it came.
fn check_contents(bytes: &[u8]) -> bool {
    let is_sound = is_contents(bytes);
    match again(bytes) {
        Ok(same) => assert!(is_sound && same == bytes),
        Err(e) => assert!(!is_sound && e == EPROTO, "{e:?}"),
    }
    is_sound
}

/// Whether a request is sound and all there is; what is decoded of it is encoded as it came.
fn check_request(bytes: &[u8]) -> bool {
    let after = after_request(bytes);
    let Ok((w, tail)) = WireRequest::ref_from_prefix(bytes) else {
        return false;
    };
    match w.get(tail, NODES) {
        Ok((r, rest)) => {
            assert_eq!(after, Some(rest));
            assert_eq!([WireRequest::new(&r).as_bytes(), value(&r), rest].concat(), bytes);
        }
        Err(e) => assert!(after.is_none() && e == EPROTO, "{e:?}"),
    }
    after.is_some_and(<[u8]>::is_empty)
}

fn life(place: usize) -> u64 {
    5 + place as u64
}

/// Whether a handler may take this, read by hand.
fn is_sound(from: usize, op: u8, body: &[u8]) -> bool {
    let is_sound = match op {
        1 => body.get(8..).is_some_and(|r| {
            check_request(r) && u32_at(r, 0) == from && u64_at(r, 8) == life(from)
        }),
        2 => body.len() >= 24,
        3 => body.len() >= 8,
        4 => body.get(8..).is_some_and(|c| c.is_empty() || check_contents(c)),
        5 => body.get(16..).is_some_and(check_request),
        _ => body.len() >= 16,
    };
    is_sound && from < NODES
}

/// Returns whether it was taken.
fn ask(from: usize, op: u8, body: &[u8]) -> bool {
    let caller = Caller {
        node: NodeId::new(from as u32 + 1).unwrap(),
        incarnation: Incarnation(life(from)),
    };
    let service = server::register().unwrap().0;
    let result = service.handle(caller, u16::from(op), body);
    let is_sound = (1..=6).contains(&op).then(|| is_sound(from, op, body));
    match result {
        Ok(reply) if op == 3 => assert!(is_sound == Some(true) && is_given(&reply[8..])),
        Ok(reply) => assert!(is_sound == Some(true) && reply.is_empty()),
        Err(Status::Errno(e)) => {
            let expected = match is_sound {
                None => ENOSYS,
                Some(false) => EPROTO,
                Some(true) => ESTALE,
            };
            assert_eq!(e, expected, "op {op}");
            return false;
        }
        Err(Status::Moved(_) | Status::Later(_)) => panic!("moved, or later"),
    }
    true
}

/// Whether others can read what this node gives them. Only a lie has brought it to the largest number.
fn is_given(bytes: &[u8]) -> bool {
    u64_at(bytes, 0) > LARGEST || again(bytes).is_ok_and(|same| same == bytes)
}

/// As in `clms/registry/replica.rs`. Returns whether they were taken.
fn fetched(core: &mut Core, reply: &[u8]) -> bool {
    let Duty::Fetch { from, view } = core.duty() else {
        return false;
    };
    let Ok((rep, tail)) = __private::decode::<FetchRep>(reply) else {
        return false;
    };
    check_contents(tail)
        && core.fetched(from, view, rep.of.get(), contents::decode(tail, NODES).unwrap())
}

/// What this node sends is taken by the others.
fn is_sent(core: &mut Core) -> bool {
    let all = 0..NODES;
    match core.duty() {
        Duty::None | Duty::Fetch { .. } => return false,
        Duty::Report { view, .. } => core.has_reported(view),
        Duty::Start { view, .. } => all.for_each(|p| core.started(p, view)),
        Duty::Append { view, seq, .. } => all.for_each(|p| core.appended(p, view, seq)),
        Duty::Commit { view, seq, to } => core.told(view, seq, to),
    }
    true
}

/// What this node has in the end, and whether it has taken a change or contents.
fn run(bytes: &[u8]) -> (Arc<Replica>, bool) {
    let replica = Arc::new(Replica {
        n_nodes: NODES,
        core: Mutex::new(new_core(THIS, LIFE, NODES).unwrap()),
    });
    REPLICA.set(Some(replica.clone()));
    let mut is_taken = false;
    let mut bytes = bytes;
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let len = usize::from(u16::from_le_bytes([head[2], head[3]])).min(rest.len());
        let (body, rest) = rest.split_at(len);
        bytes = rest;
        let from = usize::from(head[0]) % (NODES + 1);
        is_taken |= match head[1] {
            ENTER => replica.step(|c| {
                c.enter(c.view() + 1, (1 << NODES) - 1, from % NODES, !body.is_empty());
                false
            }),
            FETCHED => replica.step(|c| fetched(c, body)),
            op => ask(from, op, body) && (op == 1 || op == 4 && len > 8 || op == 5),
        };
        while replica.step(is_sent) {}
    }
    replica.look(|c| assert!(is_given(&contents::encode(c, NODES).unwrap())));
    (replica, is_taken)
}

fn check(bytes: &[u8]) -> bool {
    run(bytes).1
}

fn le(n: u64) -> Le64 {
    Le64::new(n)
}

fn message(from: usize, op: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = (body.len() as u16).to_le_bytes();
    [&[from as u8, op, len[0], len[1]], &body[..]].concat()
}

fn enter(master: usize, is_first: bool) -> Vec<u8> {
    message(master, ENTER, if is_first { &[b"first"] } else { &[] })
}

fn request(by: usize, number: u64, name: &[u8], expected: u64, value: Option<&[u8]>) -> Request<Op> {
    Request {
        by,
        life: life(by),
        number,
        op: Op {
            name: Name::new(name).unwrap(),
            expected,
            value: value.map(|v| Value::new(v).unwrap()),
        },
    }
}

fn want(view: u64, r: &Request<Op>) -> Vec<u8> {
    let req = WantReq {
        view: le(view),
        request: WireRequest::new(r),
    };
    message(r.by, Want::OP as u8, &[req.as_bytes(), value(r)])
}

fn report(from: usize, view: u64, of: u64, seq: u64) -> Vec<u8> {
    let req = ReportReq {
        view: le(view),
        of: le(of),
        seq: le(seq),
    };
    message(from, Report::OP as u8, &[req.as_bytes()])
}

fn start(from: usize, view: u64, contents: &[u8]) -> Vec<u8> {
    let req = StartReq { view: le(view) };
    message(from, Start::OP as u8, &[req.as_bytes(), contents])
}

fn append(from: usize, view: u64, seq: u64, r: &Request<Op>) -> Vec<u8> {
    let req = AppendReq {
        view: le(view),
        seq: le(seq),
        request: WireRequest::new(r),
    };
    message(from, Append::OP as u8, &[req.as_bytes(), value(r)])
}

/// `Fetch` or `Commit`.
fn tell(from: usize, op: u16, numbers: &[u64]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    message(from, op as u8, &[&numbers])
}

/// Of the master of view 1, which was asked for these changes, one after the other; the last one is prepared only, or done.
fn contents_of(changes: &[Request<Op>], is_prepared: bool) -> Vec<u8> {
    let mut c = new_core(0, life(0), NODES).unwrap();
    c.enter(1, 0b111, 0, true);
    for p in [1, 2] {
        c.reported(p, 1, Default::default());
    }
    while is_sent(&mut c) {}
    for (i, r) in changes.iter().enumerate() {
        c.wanted(1, *r);
        while !(is_prepared && i + 1 == changes.len()) && is_sent(&mut c) {}
    }
    contents::encode(&c, NODES).unwrap().to_vec()
}

fn any_request(rng: &mut SmallRng) -> Request<Op> {
    let names = [&b"a"[..], b"b", b"keys/1", &[b'x'; 32]];
    let most = if rng.random_ratio(1, 8) { MAX_VALUE } else { 4 };
    let value = noise(rng, most);
    let value = rng.random_ratio(3, 4).then_some(&value[..]);
    let (by, number) = (rng.random_range(0..NODES), rng.random_range(1..9));
    request(by, number, names.choose(rng).unwrap(), rng.random_range(0..3), value)
}

fn any_contents(rng: &mut SmallRng) -> Vec<u8> {
    let changes: Vec<_> = (0..rng.random_range(0..8)).map(|_| any_request(rng)).collect();
    contents_of(&changes, rng.random())
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let mut master = rng.random_range(0..NODES);
    let mut view = 1;
    let mut out = enter(master, rng.random());
    for _ in 0..rng.random_range(1..12) {
        let from = if rng.random_ratio(1, 8) { rng.random_range(0..=NODES) } else { master };
        let seq = rng.random_range(0..8);
        out.extend(match rng.random_range(0..8) {
            0 => {
                master = rng.random_range(0..NODES);
                view += 1;
                enter(master, false)
            }
            1 => want(view, &any_request(rng)),
            2 => [0, 2].map(|p| report(p, view, rng.random_range(0..3), seq)).concat(),
            3 => tell(from, Fetch::OP, &[view]),
            4 => start(from, view, &if rng.random() { any_contents(rng) } else { vec![] }),
            5 => append(from, view, seq, &any_request(rng)),
            6 => tell(from, Commit::OP, &[view, seq]),
            _ => {
                let contents = any_contents(rng);
                let of = rng.random_range(1..3);
                let at = u64_at(&contents, 0) + u64_at(&contents, 16) % 2;
                let reply = message(from, FETCHED, &[le(of).as_bytes(), &contents]);
                [report(0, view, of, at), report(2, view, of, at), reply].concat()
            }
        });
    }
    out
}

const TARGET: Target = Target {
    name: "registry",
    make,
    check,
    edges: &[3, 20, 32, MAX_RECORDS as u64, MAX_VALUE as u64, LARGEST],
};

#[test]
fn fuzz_registry() {
    TARGET.run();
}

/// Name, whether something is taken, how many changes this node has then, the messages.
fn corpus() -> Vec<(&'static str, bool, u64, Vec<u8>)> {
    let a = request(0, 1, b"a", 0, Some(b"one"));
    let b = request(0, 2, b"b", 0, Some(&[3; MAX_VALUE]));
    let lost = request(2, 1, b"a", 9, Some(b"x"));
    let more = request(2, 2, b"keys/1", 0, Some(b"three"));
    let all = |n: usize| -> Vec<_> {
        let name = |i: usize| format!("{i}").into_bytes();
        (0..n).map(|i| request(0, 1 + i as u64, &name(i), 0, Some(b""))).collect()
    };
    let whole = contents_of(&[a, b, lost], false);
    let given = |contents: &[u8]| [enter(0, false), start(0, 1, contents)].concat();
    let bent = |contents: &[u8], at: usize, to: &[u8]| {
        let mut bent = contents.to_vec();
        bent[at..at + to.len()].copy_from_slice(to);
        given(&bent)
    };
    // Where in them.
    let outcome = 20 + 16;
    let first = 20 + NODES * 28;
    let second = first + 44 + 3;
    let prepared = contents_of(&[a, b, lost, more], true);
    let leads = [enter(THIS, true), report(0, 1, 0, 0), report(2, 1, 0, 0)].concat();
    let wants = |r: &Request<Op>| [&leads[..], &want(1, r)].concat();
    let bent_want = |at: usize, to: &[u8]| {
        let mut bent = wants(&a);
        let at = leads.len() + HEAD + 8 + at;
        bent[at..at + to.len()].copy_from_slice(to);
        bent
    };
    let fetches = |seq: u64| {
        let reply = message(2, FETCHED, &[le(1).as_bytes(), &whole]);
        [enter(THIS, false), report(0, 1, 0, 0), report(2, 1, 1, seq), reply].concat()
    };
    vec![
        ("empty", false, 0, vec![]),
        ("contents", true, 3, given(&whole)),
        ("contents_with_a_prepared_change", true, 3, given(&prepared)),
        (
            "contents_and_more_changes",
            true,
            4,
            [given(&whole), append(0, 1, 4, &more), tell(0, Commit::OP, &[1, 4]), tell(0, Fetch::OP, &[1])].concat(),
        ),
        ("contents_of_all_records", true, 128, given(&contents_of(&all(MAX_RECORDS), false))),
        ("contents_of_too_many_records", false, 0, {
            let mut many = contents_of(&all(MAX_RECORDS), false);
            let mut last = many[many.len() - 44..].to_vec();
            last[8] = b'x';
            many.extend(last);
            bent(&many, 12, &[129])
        }),
        ("contents_of_the_largest_number", true, LARGEST, bent(&whole, 0, &LARGEST.to_le_bytes())),
        ("contents_of_too_large_a_number", false, 0, bent(&whole, 0, &(LARGEST + 1).to_le_bytes())),
        ("contents_of_another_table", false, 0, bent(&whole, 8, &[4])),
        ("contents_of_another_master", false, 0, [enter(2, false), start(0, 1, &whole)].concat()),
        ("contents_truncated", false, 0, given(&whole[..whole.len() - 1])),
        ("contents_with_a_tail", false, 0, given(&[&whole[..], b"x"].concat())),
        ("a_name_twice", false, 0, bent(&whole, second + 8, b"a")),
        ("a_name_with_a_hole", false, 0, bent(&whole, first + 8, b"a\0b")),
        ("no_name", false, 0, bent(&whole, first + 8, b"\0")),
        ("version_zero", false, 0, bent(&whole, first, &[0])),
        ("version_to_come", false, 0, bent(&whole, first, &[4])),
        ("value_too_long", false, 0, bent(&[&whole[..], b"x"].concat(), second + 40, &[1, 1])),
        ("outcome_unknown", false, 0, bent(&whole, outcome, &[4])),
        ("two_prepared_changes", false, 0, bent(&prepared, 16, &[2])),
        ("wants", true, 2, [wants(&a), want(1, &more)].concat()),
        ("wants_with_a_tail", false, 0, bent_want(64, &[2])),
        ("wants_for_another", false, 0, bent_want(0, &[2])),
        ("wants_of_another_life", false, 0, bent_want(8, &[9])),
        ("removes_and_sets", false, 0, bent_want(4, &[1])),
        ("appends_of_another_view", false, 0, [enter(0, true), append(0, 2, 1, &a)].concat()),
        ("appends_for_nobody", false, 0, {
            let nobody = Request { by: NODES, ..a };
            [enter(0, true), append(0, 1, 1, &nobody)].concat()
        }),
        ("fetched", true, 3, fetches(3)),
        ("fetched_less_than_reported", false, 0, fetches(4)),
        ("stranger", false, 0, [enter(0, false), start(NODES, 1, &whole)].concat()),
    ]
}

/// What the names of the corpus say is taken, or is not.
#[test]
fn what_is_sound_is_taken() {
    for (name, is_taken, seq, _) in corpus() {
        let file = format!("{}/corpus/registry/{name}", env!("CARGO_MANIFEST_DIR"));
        let (replica, was_taken) = run(&std::fs::read(file).unwrap());
        let had = replica.look(|c| c.seq());
        assert_eq!((was_taken, had), (is_taken, seq), "{name}");
    }
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    for (name, _, _, bytes) in corpus() {
        TARGET.write(name, &bytes);
    }
}
