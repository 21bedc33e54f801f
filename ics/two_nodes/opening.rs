// SPDX-License-Identifier: GPL-2.0

//! What is kept of requests over torn streams, by what the next stream begins with.

use super::node::id;
use super::node::two_nodes;
use super::node::Node;
use super::node::LIFE;
use super::probe::call_from;
use super::probe::fetch;
use super::probe::HoldP;
use super::probe::PingL1;
use super::probe::PingL2;
use super::probe::PingL2Req;
use super::probe::PingP;
use super::scene::until;
use super::scene::Scene;
use super::stranger::one_node;
use super::stranger::Stranger;
use crate::frame::Kind;
use crate::loopback::Hub;
use crate::refused::Refused;
use crate::service::Op;
use crate::service::OpId;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::machine;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// The stranger's next stream, after the last one was torn.
fn next_stream(hub: &Arc<Hub>, number: u64, below: u64, open: &[u64]) -> Result<Stranger> {
    let mut s = Stranger::admitted(hub, LIFE)?;
    s.say_open(number, below, open)?;
    s.hear_open()?;
    Ok(s)
}

fn n_answers(node: &Node, of: u32) -> Option<usize> {
    Some(node.net().peer(id(of).ok()?)?.n_answers())
}

/// Tells whether the main stream of now is not that from the stranger any more: the next one says what is open before it is that.
fn is_replaced(node: &Node) -> Result<impl Fn() -> bool + '_> {
    let peer = node.net().peer(id(2)?).ok_or(ENOENT)?;
    let before = peer.main_stream().ok_or(ENOTCONN)?;
    Ok(move || {
        peer.main_stream()
            .is_some_and(|now| !Arc::ptr_eq(&now, &before))
    })
}

/// Asks a call that does not end before the scene is open.
fn hold_one(s: &Scene, stranger: &mut Stranger) -> Result {
    let mut head = stranger.request::<HoldP>(1);
    head.len = Le32::new(0);
    stranger.send(&head, &[])?;
    s.comes(|s| s.holding.load(Relaxed) == 1)
        .then_some(())
        .ok_or(ETIMEDOUT)
}

/// The answer of call 1, which is the second frame of its stream, and which the stranger has given up.
fn is_kept_until_it_arrives(node: &Node, stranger: &mut Stranger) -> Result {
    let head = stranger.ping(2);
    stranger.send(&head, &[0; 8])?;
    let (status, _) = stranger.reply(2)?;
    let is_kept = status == 0 && n_answers(node, 2) == Some(2);
    let mut head = stranger.head(Kind::Seen, 0);
    head.seen[0] = Le64::new(3);
    stranger.send(&head, &[])?;
    (is_kept && until(|| n_answers(node, 2) == Some(0)))
        .then_some(())
        .ok_or(EPROTO)
}

#[kunit_tests(ssi_ics_opening)]
mod tests {
    use super::*;

    /// The last replies on either stream are not known to have arrived when it is torn.
    #[test]
    fn answers_that_arrived_do_not_outlive_their_stream() -> Result {
        const ROUNDS: u32 = 5;
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        for round in 1..=ROUNDS {
            for n in 0..3 {
                let r = call_from::<PingL2>(a.net(), id(2)?, &PingL2Req { n: Le64::new(n) }, &[]);
                assert!(r.is_ok());
                assert!(fetch(a.net(), id(2)?, 20_000));
            }
            let main = a.net().peer(id(2)?).ok_or(ENOENT)?.main_stream();
            main.ok_or(ENOENT)?.tear();
            assert!(s.comes(|s| s.links.load(Relaxed) == 2 + 2 * round));
            assert!(until(|| n_answers(&b, 1) == Some(0)));
        }
        assert_eq!(s.pings.load(Relaxed), 6 * ROUNDS);
        Ok(())
    }

    #[test]
    fn open_calls_are_answered_again_and_others_forgotten() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        for xid in 1..=5 {
            let head = stranger.ping(xid);
            stranger.send(&head, &(10 * xid).to_le_bytes())?;
            assert_eq!(stranger.reply(xid)?.0, 0);
        }
        assert_eq!(n_answers(&node, 2), Some(5));
        // What is not below 5 was not asked before, as far as it says.
        let mut stranger = next_stream(&hub, 2, 5, &[2, 4])?;
        assert!(until(|| n_answers(&node, 2) == Some(3)));
        for xid in [4, 2, 5] {
            let head = stranger.ping(xid);
            stranger.send(&head, &[0; 8])?;
            let (status, body) = stranger.reply(xid)?;
            assert_eq!(status, 0);
            assert_eq!(body.as_slice(), &(10 * xid + 1).to_le_bytes()[..]);
        }
        assert_eq!(s.pings.load(Relaxed), 5);
        let _stranger = next_stream(&hub, 3, 6, &[])?;
        assert!(until(|| n_answers(&node, 2) == Some(0)));
        Ok(())
    }

    /// The request is under way while its reply, from the stream before, arrives; a frame that says so overtakes it.
    #[test]
    fn what_comes_again_after_its_reply_has_arrived_is_not_done_again() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let hold = |stranger: &mut Stranger| {
            let mut head = stranger.ping(1);
            head.op = Le16::new(HoldP::OP);
            head.class = HoldP::CLASS as u8;
            head.len = Le32::new(0);
            head
        };
        let head = hold(&mut stranger);
        stranger.send(&head, &[])?;
        assert!(s.comes(|s| s.holding.load(Relaxed) == 1));
        let is_next = is_replaced(&node)?;
        let mut stranger = next_stream(&hub, 2, 2, &[1])?;
        assert!(until(is_next));
        s.open();
        assert_eq!(stranger.reply(1)?.0, 0);
        let mut head = stranger.ping(2);
        head.seen[0] = Le64::new(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        let mut head = hold(&mut stranger);
        head.seen[0] = Le64::new(2);
        stranger.send(&head, &[])?;
        let head = stranger.ping(3);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(3)?.0, 0);
        assert_eq!(s.holding.load(Relaxed), 1);
        assert_eq!(n_answers(&node, 2), Some(2));
        Ok(())
    }

    /// Of one that is given up meanwhile the cancel comes alone.
    #[test]
    fn what_is_cancelled_instead_of_coming_again_is_forgotten() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        let mut stranger = next_stream(&hub, 2, 2, &[1])?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        // Its answer came twice; the second one is said to have arrived.
        let mut stranger = next_stream(&hub, 3, 2, &[1])?;
        let mut head = stranger.head(Kind::Cancel, 1);
        head.seen[0] = Le64::new(1);
        stranger.send(&head, &[])?;
        let mut stranger = next_stream(&hub, 4, 2, &[])?;
        let head = stranger.ping(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(n_answers(&node, 2), Some(1));
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    /// It was answered before, and the answer will not go out once more: nothing would say that it has arrived.
    #[test]
    fn what_was_answered_and_is_cancelled_instead_is_not_kept() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        let mut stranger = next_stream(&hub, 2, 2, &[1])?;
        assert_eq!(n_answers(&node, 2), Some(1));
        let head = stranger.head(Kind::Cancel, 1);
        stranger.send(&head, &[])?;
        assert!(until(|| n_answers(&node, 2) == Some(0)));
        // It had its credit back when it was answered.
        assert_eq!(node.n_asked(2, PingL1::CLASS), Some(0));
        assert_eq!(node.n_bytes(2, PingL1::CLASS), Some((0, 0)));
        let head = stranger.ping(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    /// Of one whose answer is on its way it is: a peer that does not read what it cancels would have more and more of them.
    #[test]
    fn what_was_answered_and_is_cancelled_is_kept_until_it_arrives() -> Result {
        let _s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        let head = stranger.head(Kind::Cancel, 1);
        stranger.send(&head, &[])?;
        let head = stranger.ping(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(n_answers(&node, 2), Some(2));
        let mut head = stranger.head(Kind::Seen, 0);
        head.seen[0] = Le64::new(3);
        stranger.send(&head, &[])?;
        assert!(until(|| n_answers(&node, 2) == Some(0)));
        Ok(())
    }

    /// The same of one that was asked on the stream before, if its handler ended on this one.
    #[test]
    fn what_is_answered_here_and_cancelled_instead_is_kept_until_it_arrives() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        hold_one(s, &mut stranger)?;
        let is_next = is_replaced(&node)?;
        let mut stranger = next_stream(&hub, 2, 2, &[1])?;
        assert!(until(is_next));
        s.open();
        assert_eq!(stranger.reply(1)?.0, 0);
        let head = stranger.head(Kind::Cancel, 1);
        stranger.send(&head, &[])?;
        is_kept_until_it_arrives(&node, &mut stranger)
    }

    #[test]
    fn what_is_answered_here_and_not_open_is_kept_until_it_arrives() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        hold_one(s, &mut stranger)?;
        let is_next = is_replaced(&node)?;
        let mut stranger = Stranger::admitted(&hub, LIFE)?;
        stranger.hear_open()?;
        assert!(until(is_next));
        s.open();
        assert_eq!(stranger.reply(1)?.0, 0);
        stranger.say_open(2, 2, &[])?;
        is_kept_until_it_arrives(&node, &mut stranger)
    }

    /// The cancel was lost with the stream.
    #[test]
    fn what_is_not_open_any_more_is_interrupted() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        for xid in 1..=2 {
            let mut head = stranger.ping(xid);
            head.op = Le16::new(HoldP::OP);
            head.class = HoldP::CLASS as u8;
            head.len = Le32::new(0);
            stranger.send(&head, &[])?;
        }
        assert!(s.comes(|s| s.holding.load(Relaxed) == 2));
        let stranger = next_stream(&hub, 2, 3, &[2])?;
        assert!(s.comes(|s| s.interrupted.load(Relaxed) == 1));
        assert_eq!(stranger.reply(1)?.0, EINTR.to_errno().unsigned_abs());
        s.open();
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(s.interrupted.load(Relaxed), 1);
        assert_eq!(n_answers(&node, 2), Some(2));
        Ok(())
    }

    #[test]
    fn what_is_given_up_without_a_stream_is_not_open() -> Result {
        let s = Scene::begin()?;
        let (hub, node, stranger) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let mut asked = KVec::new();
        for xid in 1..=4 {
            let body = KVVec::from_elem(0u8, 8, GFP_KERNEL)?;
            let a = peer
                .ask(OpId::of::<PingP>(), body.into(), None)
                .map_err(|_| ENOTCONN)?;
            asked.push(a, GFP_KERNEL)?;
            assert_eq!(stranger.frame()?.0.xid.get(), xid);
        }
        stranger.stream.shutdown();
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        for given_up in [0, 2] {
            asked[given_up].give_up();
        }
        let mut stranger = Stranger::admitted(&hub, LIFE)?;
        stranger.say_open(2, 1, &[])?;
        let open = stranger.hear_open()?;
        let numbers = open.chunks_exact(8).map(|n| n.first().copied());
        assert!(numbers.eq([Some(2), Some(4)]));
        for xid in [2, 4] {
            let (head, _) = stranger.frame()?;
            assert_eq!(
                (Kind::from_wire(head.kind), head.xid.get()),
                (Some(Kind::Request), xid)
            );
        }
        Ok(())
    }

    /// Each stream that was accepted has a thread of its own.
    #[test]
    fn a_loss_is_told_before_the_next_stream() -> Result {
        let s = Scene::begin()?;
        let (hub, _node, stranger) = one_node()?;
        assert!(s.comes(|s| s.links.load(Relaxed) == 1));
        s.is_held.store(1, Relaxed);
        stranger.stream.shutdown();
        let is_losing = s.comes(|s| s.losing.load(Relaxed) == 1);
        let mut next = Stranger::admitted(&hub, LIFE)?;
        next.say_open(2, 1, &[])?;
        machine::sleep_ms(500);
        let links = s.links.load(Relaxed);
        s.is_held.store(0, Relaxed);
        s.changed.notify_all();
        assert_eq!((is_losing, links), (true, 1));
        next.hear_open()?;
        let head = next.ping(1);
        next.send(&head, &[0; 8])?;
        assert_eq!(next.reply(1)?.0, 0);
        let told = |n: &Atomic<u32>| n.load(Relaxed);
        assert_eq!((told(&s.lost), told(&s.links), told(&s.is_up)), (1, 2, 1));
        Ok(())
    }

    /// Its requests may be those of calls that have long been answered.
    #[test]
    fn a_stream_that_is_late_is_refused() -> Result {
        let s = Scene::begin()?;
        let (hub, node, _first) = one_node()?;
        let mut new = next_stream(&hub, 7, 1, &[])?;
        let head = new.ping(1);
        new.send(&head, &[0; 8])?;
        assert_eq!(new.reply(1)?.0, 0);
        for (n, number) in (1..).zip([6, 7]) {
            let mut late = Stranger::admitted(&hub, LIFE)?;
            late.say_open(number, 1, &[])?;
            let head = late.ping(2);
            // It may be torn before it has said that.
            let _torn = late.send(&head, &[0; 8]);
            late.hear_open()?;
            assert!(late.is_torn());
            assert_eq!(node.counters.count(Refused::Stale), n);
        }
        let mut new = next_stream(&hub, 8, 2, &[])?;
        let head = new.ping(3);
        new.send(&head, &[0; 8])?;
        assert_eq!(new.reply(3)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn bad_beginnings_tear_the_stream() -> Result {
        type Begin = fn(&mut Stranger) -> Result;
        let cases: [Begin; 6] = [
            |s| {
                let head = s.ping(1);
                s.send(&head, &[0; 8])
            },
            |s| s.say_open(1, 5, &[5]),
            |s| s.say_open(1, 5, &[3, 2]),
            |s| s.say_open(1, 5, &[3, 3]),
            |s| {
                s.say_open(1, 5, &[])?;
                s.say_open(2, 5, &[])
            },
            |s| {
                let mut head = s.head(Kind::Open, 5);
                head.order = Le64::new(1);
                head.len = Le32::new(7);
                s.send(&head, &[0; 7])
            },
        ];
        for begin in cases {
            let s = Scene::begin()?;
            let hub = Hub::new()?;
            let node = Node::new(&hub, 1)?;
            node.admit(2, LIFE)?;
            let mut stranger = Stranger::admitted(&hub, LIFE)?;
            begin(&mut stranger)?;
            stranger.hear_open()?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(Refused::Torn), 1);
            assert_eq!(s.pings.load(Relaxed), 0);
        }
        Ok(())
    }

    /// Four times the credits of a class.
    #[test]
    fn who_never_says_what_arrived_is_torn() -> Result {
        const MOST: u64 = 4 * 64;
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        for xid in 1..=MOST {
            let head = stranger.ping(xid);
            stranger.send(&head, &[0; 8])?;
            assert_eq!(stranger.reply(xid)?.0, 0);
        }
        let head = stranger.ping(MOST + 1);
        stranger.send(&head, &[0; 8])?;
        assert!(stranger.is_torn());
        assert_eq!(node.counters.count(Refused::Torn), 1);
        // The next stream says it.
        let mut stranger = next_stream(&hub, 2, MOST + 2, &[MOST + 1])?;
        let head = stranger.ping(MOST + 1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(MOST + 1)?.0, 0);
        assert_eq!(n_answers(&node, 2), Some(1));
        assert_eq!(s.pings.load(Relaxed), MOST as u32 + 1);
        Ok(())
    }
}
