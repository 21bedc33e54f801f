// SPDX-License-Identifier: GPL-2.0

//! The streams beside the main one: early, late, twice, torn, and what goes on them.

use super::node::id;
use super::node::Node;
use super::node::LIFE;
use super::probe::PingL4;
use super::probe::PingP;
use super::scene::until;
use super::scene::Scene;
use super::stranger::one_node;
use super::stranger::Stranger;
use crate::frame::Kind;
use crate::lane::Side;
use crate::lane::SHORT;
use crate::loopback::Hub;
use crate::peer::Asked;
use crate::service::OpId;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::wire::Le32;
use ssi::wire::Le64;

#[kunit_tests(ssi_ics_beside)]
mod tests {
    use super::*;

    fn has(node: &Node, side: Side) -> Option<bool> {
        let peer = node.net().peer(id(2).ok()?)?;
        Some(peer.stream_beside(side).is_some())
    }

    /// Node 1, a stranger's main stream, and those beside it.
    fn all_streams() -> Result<(Arc<Hub>, Node, [Stranger; 3])> {
        let (hub, node, main) = one_node()?;
        let control = Stranger::beside(&hub, Side::Control, main.id)?;
        let bulk = Stranger::beside(&hub, Side::Bulk, main.id)?;
        let is_there = until(|| Side::ALL.into_iter().all(|s| has(&node, s) == Some(true)));
        assert!(is_there);
        Ok((hub, node, [main, control, bulk]))
    }

    fn ask(node: &Node, op: OpId, len: usize) -> Result<Asked> {
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let body = KVVec::from_elem(7u8, len, GFP_KERNEL)?;
        peer.ask(op, body.into(), None).map_err(|_| ENOTCONN)
    }

    /// The kind and number of the next frame that comes.
    fn heard(stranger: &Stranger) -> Result<(Option<Kind>, u64)> {
        let (head, _) = stranger.frame()?;
        Ok((Kind::from_wire(head.kind), head.xid.get()))
    }

    /// The main one has been proved at the end that connects, not yet at the other.
    #[test]
    fn one_may_come_before_its_main_one() -> Result {
        for side in Side::ALL {
            let s = Scene::begin()?;
            let hub = Hub::new()?;
            let node = Node::new(&hub, 1)?;
            node.admit(2, LIFE)?;
            let (mut main, last_word) = Stranger::almost_admitted(&hub)?;
            let mut beside = Stranger::beside(&hub, side, main.id)?;
            let head = beside.ping(1);
            beside.send(&head, &[0; 8])?;
            // It is not refused meanwhile.
            beside.stream.set_receive_timeout(500);
            assert_eq!(beside.stream.receive(&mut [0]), Err(EAGAIN));
            assert_eq!(s.links.load(Relaxed), 0);
            main.stream.send(&[&last_word])?;
            main.say_open(1, 1, &[])?;
            main.hear_open()?;
            assert_eq!(main.reply(1)?.0, 0);
            assert_eq!(has(&node, side), Some(true));
            let head = main.ping(2);
            main.send(&head, &[0; 8])?;
            assert_eq!(main.reply(2)?.0, 0);
            assert_eq!((s.links.load(Relaxed), s.lost.load(Relaxed)), (1, 0));
        }
        Ok(())
    }

    #[test]
    fn one_does_not_wait_for_a_main_one_that_is_gone() -> Result {
        let s = Scene::begin()?;
        let (hub, node, main) = one_node()?;
        let gone = main.id;
        main.stream.shutdown();
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        for side in Side::ALL {
            assert!(Stranger::beside(&hub, side, gone)?.is_torn());
        }
        // Nor when another one has come, or none comes.
        let waits = Stranger::beside(&hub, Side::Bulk, [9; 16])?;
        let mut main = Stranger::admitted(&hub, LIFE)?;
        main.say_open(2, 1, &[])?;
        main.hear_open()?;
        assert!(waits.is_torn());
        assert!(Stranger::beside(&hub, Side::Control, [9; 16])?.is_torn());
        // The one that is there has not noticed.
        let head = main.ping(1);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(1)?.0, 0);
        for side in Side::ALL {
            assert_eq!(has(&node, side), Some(false));
        }
        assert_eq!(s.lost.load(Relaxed), 1);
        Ok(())
    }

    /// The first request goes out before there is a stream beside the main one, which there is when its caller is killed.
    #[test]
    fn a_cancel_stays_behind_its_request() -> Result {
        for (side, op, len) in [
            (Side::Control, OpId::of::<PingL4>(), 8),
            // Too long for the main stream to be empty again.
            (Side::Bulk, OpId::of::<PingP>(), 100_000),
        ] {
            Scene::begin()?;
            let (hub, node, main) = one_node()?;
            let first = ask(&node, op, len)?;
            let beside = Stranger::beside(&hub, side, main.id)?;
            assert!(until(|| has(&node, side) == Some(true)));
            let second = ask(&node, op, len + 1)?;
            first.give_up();
            second.give_up();
            for (stream, xid, len) in [(&main, 1, len), (&beside, 2, len + 1)] {
                for (kind, len) in [(Kind::Request, len), (Kind::Cancel, 0)] {
                    let (head, body) = stream.frame()?;
                    assert_eq!(
                        (Kind::from_wire(head.kind), head.xid.get()),
                        (Some(kind), xid)
                    );
                    assert_eq!(body.len(), len);
                }
            }
        }
        Ok(())
    }

    /// If there is enough of it. A frame that is bent takes it along, and the reply that comes again finds other memory.
    #[test]
    fn a_long_reply_comes_into_the_callers_memory() -> Result {
        const LEN: usize = 100_000;
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let ask = |room: usize| -> Result<_> {
            let body = KVVec::from_elem(7u8, 8, GFP_KERNEL)?;
            let room = KVVec::<u8>::with_capacity(room, GFP_KERNEL)?;
            let at = room.as_ptr();
            let asked = peer.ask(OpId::of::<PingP>(), body.into(), Some(room));
            Ok((asked.map_err(|_| ENOTCONN)?, at))
        };
        let body = KVVec::from_elem(9u8, LEN, GFP_KERNEL)?;
        let answer = |stranger: &mut Stranger, xid, bent: u8| -> Result {
            assert_eq!(stranger.frame()?.0.xid.get(), xid);
            let mut head = stranger.head(Kind::Reply, xid);
            head.len = Le32::new(LEN as u32); // CAST: it is short
            let mut tag = head.tag(&stranger.key_out, &body);
            tag[0] ^= bent;
            stranger.stream.send(&[head.as_bytes(), &body, &tag])
        };
        for (xid, room, is_same) in [(1, LEN, true), (2, LEN - 1, false)] {
            let (asked, at) = ask(room)?;
            answer(&mut stranger, xid, 0)?;
            let reply = asked.wait().map_err(|_| EPROTO)?;
            assert!(*reply == *body);
            let is_there = reply.as_ptr() == at;
            assert_eq!(is_there, is_same);
        }
        let (asked, _) = ask(LEN)?;
        answer(&mut stranger, 3, 1)?;
        assert!(stranger.is_torn());
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        let mut next = Stranger::admitted(&hub, LIFE)?;
        next.say_open(2, 1, &[])?;
        next.hear_open()?;
        answer(&mut next, 3, 0)?;
        let reply = asked.wait().map_err(|_| EPROTO)?;
        assert!(*reply == *body);
        Ok(())
    }

    /// What node 1 has sent on the first one may be lost.
    #[test]
    fn a_second_one_ends_all() -> Result {
        for side in Side::ALL {
            let s = Scene::begin()?;
            let (hub, node, [main, control, bulk]) = all_streams()?;
            let second = Stranger::beside(&hub, side, main.id)?;
            for stream in [main, control, bulk, second] {
                assert!(stream.is_torn());
            }
            assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
            assert_eq!(has(&node, side), Some(false));
            let mut main = Stranger::admitted(&hub, LIFE)?;
            main.say_open(2, 1, &[])?;
            main.hear_open()?;
            let mut beside = Stranger::beside(&hub, side, main.id)?;
            let head = beside.ping(1);
            beside.send(&head, &[0; 8])?;
            assert_eq!(main.reply(1)?.0, 0);
        }
        Ok(())
    }

    /// What was asked on it is asked again on the next main one, and not done again.
    #[test]
    fn a_torn_one_ends_all_and_nothing_is_done_twice() -> Result {
        for side in Side::ALL {
            let s = Scene::begin()?;
            let (hub, node, [main, mut control, bulk]) = all_streams()?;
            let mine = ask(&node, OpId::of::<PingL4>(), 8)?;
            assert_eq!(heard(&control)?, (Some(Kind::Request), 1));
            let head = control.ping_l4(1);
            control.send(&head, &41u64.to_le_bytes())?;
            assert_eq!(control.reply(1)?.0, 0);
            let (torn, other) = match side {
                Side::Control => (control, bulk),
                Side::Bulk => (bulk, control),
            };
            torn.stream.shutdown();
            assert!(main.is_torn() && other.is_torn());
            assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
            let mut main = Stranger::admitted(&hub, LIFE)?;
            main.say_open(2, 2, &[1])?;
            assert_eq!(main.hear_open()?.as_slice(), &1u64.to_le_bytes()[..]);
            assert_eq!(heard(&main)?, (Some(Kind::Request), 1));
            main.answer(1)?;
            assert!(mine.wait().is_ok());
            let head = main.ping_l4(1);
            main.send(&head, &41u64.to_le_bytes())?;
            assert_eq!(main.reply(1)?.1.as_slice(), &42u64.to_le_bytes()[..]);
            assert_eq!(s.pings.load(Relaxed), 1);
        }
        Ok(())
    }

    /// Its frames take the main one until then.
    #[test]
    fn control_is_used_as_soon_as_it_is_there() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut main) = one_node()?;
        let first = ask(&node, OpId::of::<PingL4>(), 8)?;
        assert_eq!(heard(&main)?, (Some(Kind::Request), 1));
        main.answer(1)?;
        assert!(first.wait().is_ok());
        let head = main.ping_l4(1);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(1)?.0, 0);
        let mut control = Stranger::beside(&hub, Side::Control, main.id)?;
        assert!(until(|| has(&node, Side::Control) == Some(true)));
        let second = ask(&node, OpId::of::<PingL4>(), 8)?;
        assert_eq!(heard(&control)?, (Some(Kind::Request), 2));
        // Whichever the answers come on.
        main.answer(2)?;
        assert!(second.wait().is_ok());
        let head = main.ping_l4(2);
        main.send(&head, &[0; 8])?;
        assert_eq!(control.reply(2)?.0, 0);
        let head = control.ping(3);
        control.send(&head, &[0; 8])?;
        assert_eq!(main.reply(3)?.0, 0);
        // A long one is bulk, which is not there.
        let _third = ask(&node, OpId::of::<PingL4>(), SHORT + 1)?;
        assert_eq!(heard(&main)?, (Some(Kind::Request), 3));
        assert_eq!(s.pings.load(Relaxed), 3);
        Ok(())
    }

    /// Neither stream is read, the main one not even by its thread, which has half a frame.
    #[test]
    fn control_waits_for_no_other_stream() -> Result {
        const FILL: u64 = 8;
        let s = Scene::begin()?;
        let (_hub, node, [mut main, mut control, bulk]) = all_streams()?;
        let mut filling = KVec::new();
        for len in [SHORT, 8 * SHORT] {
            for _ in 0..FILL {
                filling.push(ask(&node, OpId::of::<PingP>(), len)?, GFP_KERNEL)?;
            }
        }
        let head = main.ping(1);
        main.stream.send(&[head.as_bytes()])?;
        for n in 1..=100 {
            let asked = ask(&node, OpId::of::<PingL4>(), 8)?;
            let xid = 2 * FILL + n;
            assert_eq!(heard(&control)?, (Some(Kind::Request), xid));
            control.answer(xid)?;
            assert!(asked.wait().is_ok());
            let head = control.ping_l4(1 + n);
            control.send(&head, &n.to_le_bytes())?;
            assert_eq!(
                control.reply(1 + n)?.1.as_slice(),
                &(n + 1).to_le_bytes()[..]
            );
        }
        assert_eq!(s.pings.load(Relaxed), 100);
        // They were only late.
        let body = [0; 8];
        main.stream
            .send(&[&body, &head.tag(&main.key_out, &body)])?;
        for (stream, first) in [(&main, 1), (&bulk, FILL + 1)] {
            for xid in first..first + FILL {
                assert_eq!(heard(stream)?, (Some(Kind::Request), xid));
            }
        }
        assert_eq!(main.reply(1)?.0, 0);
        Ok(())
    }

    /// Whichever stream says it.
    #[test]
    fn an_answer_is_forgotten_by_the_count_of_its_own_stream() -> Result {
        Scene::begin()?;
        let (_hub, node, [mut main, mut control, mut bulk]) = all_streams()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let head = control.ping_l4(1);
        control.send(&head, &[0; 8])?;
        assert_eq!(control.reply(1)?.0, 0);
        let mut head = main.head(Kind::Seen, 0);
        head.seen = [9, 0, 9].map(Le64::new);
        main.send(&head, &[])?;
        let head = main.ping(2);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(2)?.0, 0);
        // What it says has been dealt with when the next one is answered.
        let head = main.ping(3);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(3)?.0, 0);
        assert_eq!(peer.n_answers(), 3);
        let mut head = bulk.ping(4);
        head.seen = [0, 1, 0].map(Le64::new);
        bulk.send(&head, &[0; 8])?;
        assert_eq!(main.reply(4)?.0, 0);
        assert!(until(|| peer.n_answers() == 3));
        Ok(())
    }
}
