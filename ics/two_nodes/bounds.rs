// SPDX-License-Identifier: GPL-2.0

//! How many bytes nodes keep for each other.

use super::node::id;
use super::node::two_nodes;
use super::node::Node;
use super::probe::Fetch;
use super::probe::FetchP;
use super::probe::FetchReq;
use super::probe::Hold;
use super::probe::HoldL4;
use super::probe::HoldL4Req;
use super::probe::HoldReq;
use super::scene::until;
use super::scene::Scene;
use super::scene::LIMIT_MS;
use super::stranger::one_node;
use super::stranger::Stranger;
use crate::call::ask_from;
use crate::call::UnderWay;
use crate::error::CallError;
use crate::frame::Kind;
use crate::lane;
use crate::refused::Refused;
use crate::service::Class;
use crate::service::Op;
use crate::MAX_TAIL;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::types::ScopeGuard;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::reserve::Reserve;
use ssi::reserve::Slot;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// Calls of [`MAX_TAIL`] bytes of a class, not of P, that may be under way; and replies as long that are kept.
const MOST: usize = (8 << 20) / MAX_TAIL;

/// The same of class P.
const MOST_P: usize = (32 << 20) / MAX_TAIL;

/// Calls of class L4 that may be under way.
const CREDITS: u32 = 64;

/// Threads of class L3.
const THREADS: usize = 4;

fn long() -> Result<KVVec<u8>> {
    Ok(KVVec::from_elem(7u8, MAX_TAIL, GFP_KERNEL)?)
}

fn hold(from: &Node, tail: &[u8]) -> Result<UnderWay<Hold>> {
    ask_from::<Hold>(from.net(), id(2)?, &HoldReq {}, tail).map_err(|_| EIO)
}

/// With a body that is not short enough to need no memory.
fn hold_l4(from: &Node, to: u32) -> core::result::Result<UnderWay<HoldL4>, CallError> {
    let to = id(to).map_err(CallError::Local)?;
    ask_from::<HoldL4>(from.net(), to, &HoldL4Req {}, &[7; 400])
}

/// All pieces of that size that are left.
fn take_all<T>(home: &Arc<Reserve>) -> Result<KVec<Slot<T>>> {
    let mut all = KVec::new();
    while let Ok(piece) = Slot::of(Some(home), GFP_KERNEL) {
        all.push(piece, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Asks for as many bytes as a reply has at most, so many times.
fn fetch_all<O: Op>(stranger: &mut Stranger, n: usize) -> Result {
    for xid in 1..=n as u64 {
        let mut head = stranger.request::<O>(xid);
        head.len = Le32::new(4);
        stranger.send(&head, &(MAX_TAIL as u32).to_le_bytes())?;
    }
    Ok(())
}

/// Hears `n` replies, and says after each that it arrived.
fn hear_all(stranger: &mut Stranger, n: usize) -> Result {
    for _ in 0..n {
        let (heard, body) = stranger.frame()?;
        if heard.status.get() != 0 || body.len() != MAX_TAIL {
            return Err(EPROTO);
        }
        let mut head = stranger.head(Kind::Seen, 0);
        head.seen[lane::place(None)] = heard.seq;
        stranger.send(&head, &[])?;
    }
    Ok(())
}

#[kunit_tests(ssi_ics_bounds)]
mod tests {
    use super::*;

    /// Of a frame that was on its way when the stream was torn.
    #[test]
    fn a_torn_stream_keeps_no_body() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, stranger) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let link = peer.main_stream().ok_or(ENOTCONN)?;
        let _call = hold(&node, &long()?)?;
        // More than that has no room.
        stranger.stream.receive(&mut [0; 100])?;
        stranger.stream.shutdown();
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        assert!(until(|| !link.is_sending()));
        Ok(())
    }

    #[test]
    fn long_calls_wait_for_each_other_and_short_ones_for_none() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let a = Arc::new(a, GFP_KERNEL)?;
        let mut calls = KVec::new();
        for _ in 0..MOST {
            calls.push(hold(&a, &long()?)?, GFP_KERNEL)?;
        }
        let ended = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let one_more = {
            let (a, ended) = (a.clone(), ended.clone());
            KThread::run(c"ics_case", move || {
                let call = long().and_then(|tail| hold(&a, &tail));
                let is_right = call.is_ok_and(|c| c.wait().is_ok());
                ended.store(1 + u32::from(is_right), Relaxed);
            })?
        };
        // However the case ends, the handlers do, before who waits for them.
        let _open = ScopeGuard::new(|| s.open());
        calls.push(hold(&a, &[])?, GFP_KERNEL)?;
        machine::sleep_ms(300);
        let asked = MOST as u32 + 1;
        assert_eq!(a.n_waiting(2, Hold::CLASS), Some(asked));
        assert!(until(|| b.n_asked(1, Hold::CLASS) == Some(asked)));
        assert_eq!(b.n_bytes(1, Hold::CLASS), Some((MOST * MAX_TAIL, 0)));
        s.open();
        for call in calls {
            assert!(call.wait().is_ok());
        }
        assert!(until(|| ended.load(Relaxed) == 2));
        drop(one_more);
        assert!(until(|| b.n_bytes(1, Hold::CLASS) == Some((0, 0))));
        Ok(())
    }

    /// Of calls twice as much is kept, for those that were given up; of posts what is theirs as well.
    #[test]
    fn more_long_requests_than_credits_are_refused() -> Result {
        let again = EAGAIN.to_errno().unsigned_abs();
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        let _open = ScopeGuard::new(|| s.open());
        let tail = long()?;
        let calls = 2 * MOST as u64;
        for xid in 1..=calls + 1 {
            let mut head = stranger.request::<Hold>(xid);
            head.len = Le32::new(MAX_TAIL as u32);
            stranger.send(&head, &tail)?;
        }
        assert_eq!(stranger.reply(calls + 1)?.0, again);
        let posts = MOST as u64;
        for order in 1..=posts + 1 {
            let mut head = stranger.request::<Hold>(calls + 1 + order);
            head.len = Le32::new(MAX_TAIL as u32);
            head.order = Le64::new(order);
            if order > posts {
                let held = Some((3 * MOST * MAX_TAIL, 0));
                assert!(until(|| node.n_bytes(2, Hold::CLASS) == held));
                assert_eq!(node.counters.count(Refused::Torn), 0);
            }
            stranger.send(&head, &tail)?;
        }
        assert!(stranger.is_torn());
        assert_eq!(node.counters.count(Refused::Torn), 1);
        Ok(())
    }

    #[test]
    fn calls_begin_when_replies_have_arrived() -> Result {
        const CALLS: usize = 3 * MOST;
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        fetch_all::<Fetch>(&mut stranger, CALLS)?;
        let kept = || {
            node.n_bytes(2, Class::L3)
                .map_or(0, |(_, kept)| kept / MAX_TAIL)
        };
        assert!(until(|| kept() >= MOST));
        machine::sleep_ms(300);
        let begun = s.pings.load(Relaxed) as usize;
        assert!((MOST..MOST + THREADS).contains(&begun));
        assert_eq!(kept(), begun);
        // Other classes do not wait for that.
        let head = stranger.ping_l4(CALLS as u64 + 1);
        stranger.send(&head, &[0; 8])?;
        assert!(s.comes(|s| s.pings.load(Relaxed) as usize == begun + 1));
        for _ in 0..begun {
            hear_all(&mut stranger, 1)?;
        }
        // The answer of the other class was sent behind those.
        assert_eq!(stranger.reply(CALLS as u64 + 1)?.0, 0);
        hear_all(&mut stranger, CALLS - begun)?;
        assert_eq!(s.pings.load(Relaxed) as usize, CALLS + 1);
        assert!(until(|| kept() == 0));
        Ok(())
    }

    #[test]
    fn calls_that_do_not_begin_end_with_their_asker() -> Result {
        const CALLS: usize = 2 * MOST;
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        fetch_all::<Fetch>(&mut stranger, CALLS)?;
        assert!(s.comes(|s| s.pings.load(Relaxed) as usize >= MOST));
        machine::sleep_ms(300);
        let begun = s.pings.load(Relaxed);
        // One is given up meanwhile, and does not begin.
        let head = stranger.head(Kind::Cancel, CALLS as u64);
        stranger.send(&head, &[])?;
        hear_all(&mut stranger, MOST)?;
        assert!(s.comes(|s| s.pings.load(Relaxed) > begun));
        node.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        assert!(until(|| node.n_bytes(2, Class::L3) == Some((0, 0))));
        Ok(())
    }

    /// Each has a thread, which keeps the reply.
    #[test]
    fn replies_of_class_p_wait_for_room() -> Result {
        const CALLS: usize = MOST_P + 6;
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        fetch_all::<FetchP>(&mut stranger, CALLS)?;
        assert!(s.comes(|s| s.pings.load(Relaxed) as usize == CALLS));
        let kept = || {
            node.n_bytes(2, Class::P)
                .map_or(0, |(_, kept)| kept / MAX_TAIL)
        };
        assert!(until(|| kept() == MOST_P));
        machine::sleep_ms(300);
        assert_eq!(kept(), MOST_P);
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?;
        // A short reply waits for no long ones.
        let before = peer.n_answered();
        let last = CALLS as u64 + 1;
        let mut head = stranger.request::<FetchP>(last);
        head.len = Le32::new(4);
        stranger.send(&head, &4u32.to_le_bytes())?;
        assert!(until(|| peer.n_answered() == before + 1));
        // A call that nobody waits for is not kept from its end.
        for xid in 1..=last {
            let head = stranger.head(Kind::Cancel, xid);
            stranger.send(&head, &[])?;
        }
        assert!(until(|| node.n_asked(2, Class::P) == Some(0)));
        let is_over = || peer.n_answered() == CALLS + 1;
        assert!(until(is_over));
        assert_eq!(kept(), MOST_P);
        Ok(())
    }

    #[test]
    fn what_only_says_what_was_seen_says_nothing_else() -> Result {
        Scene::begin()?;
        for (xid, order, len) in [(0, 0, 8), (1, 0, 0), (0, 1, 0)] {
            let (_hub, node, mut stranger) = one_node()?;
            let head = stranger.head(Kind::Seen, 0);
            stranger.send(&head, &[])?;
            let ping = stranger.ping_l4(1);
            stranger.send(&ping, &[0; 8])?;
            assert_eq!(stranger.reply(1)?.0, 0);
            let mut head = stranger.head(Kind::Seen, xid);
            head.len = Le32::new(len);
            head.order = Le64::new(order);
            let body = [0; 8];
            let body = body.get(..len as usize).ok_or(EINVAL)?;
            stranger.send(&head, body)?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(Refused::Torn), 1);
        }
        Ok(())
    }

    #[test]
    fn who_waits_for_a_credit_has_no_memory() -> Result {
        const MORE: u32 = 200;
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let a = Arc::new(a, GFP_KERNEL)?;
        let to_b = a.net().peer(id(2)?).ok_or(ENOENT)?;
        to_b.reserve().stand_alone(true);
        let mut calls = KVec::new();
        for _ in 0..CREDITS {
            calls.push(hold_l4(&a, 2).map_err(|_| EIO)?, GFP_KERNEL)?;
        }
        let (begun, right) = (
            Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?,
            Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?,
        );
        let mut threads = KVec::new();
        // Before the threads that wait for it.
        let _open = ScopeGuard::new(|| s.open());
        for _ in 0..MORE {
            let (a, begun, right) = (a.clone(), begun.clone(), right.clone());
            let thread = KThread::run(c"ics_case", move || {
                begun.add(1, Relaxed);
                let is_right = hold_l4(&a, 2).is_ok_and(|c| c.wait().is_ok());
                right.add(u32::from(is_right), Relaxed);
            })?;
            threads.push(thread, GFP_KERNEL)?;
        }
        assert!(until(|| begun.load(Relaxed) == MORE));
        machine::sleep_ms(300);
        assert_eq!(a.n_waiting(2, Class::L4), Some(CREDITS));
        // Who runs late has memory beyond its credit, which others wait for: these are not refused.
        to_b.reserve().stand_alone(false);
        s.open();
        for call in calls {
            assert!(call.wait().is_ok());
        }
        assert!(until(|| right.load(Relaxed) == MORE));
        drop(threads);
        Ok(())
    }

    /// And who has none to ask has no credit.
    #[test]
    fn who_answers_has_memory_already() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let _open = ScopeGuard::new(|| s.open());
        let to_a = b.net().peer(id(1)?).ok_or(ENOENT)?;
        to_a.reserve().stand_alone(true);
        let mut calls = KVec::new();
        for _ in 0..CREDITS {
            calls.push(hold_l4(&a, 2).map_err(|_| EIO)?, GFP_KERNEL)?;
        }
        assert!(until(|| to_a.n_answers() == CREDITS as usize));
        let small = take_all::<[u8; 64]>(to_a.reserve())?;
        let large = take_all::<[u8; 400]>(to_a.reserve())?;
        assert!(small.len() > 64 && large.len() > 64);
        for _ in 0..2 {
            let r = hold_l4(&b, 1).map(drop);
            assert!(r == Err(CallError::Local(ENOMEM)));
        }
        assert_eq!(b.n_waiting(1, Class::L4), Some(0));
        s.open();
        for call in calls {
            assert!(call.wait_for(LIMIT_MS).is_ok());
        }
        assert_eq!(s.lost.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn what_arrived_is_told_without_another_call() -> Result {
        Scene::begin()?;
        let (a, b) = two_nodes(Scene::begin()?)?;
        let mut calls = KVec::new();
        let req = FetchReq {
            len: Le32::new(MAX_TAIL as u32),
        };
        for _ in 0..MOST {
            let call = ask_from::<Fetch>(a.net(), id(2)?, &req, &[]);
            calls.push(call.map_err(|_| EIO)?, GFP_KERNEL)?;
        }
        for call in calls {
            assert!(call.wait().is_ok_and(|(_, tail)| tail.len() == MAX_TAIL));
        }
        // Less than is told in one frame.
        let kept = || b.n_bytes(1, Class::L3).map_or(MAX_TAIL, |(_, kept)| kept);
        assert!(until(|| kept() < 2 * MAX_TAIL));
        Ok(())
    }
}
