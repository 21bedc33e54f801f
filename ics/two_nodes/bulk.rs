// SPDX-License-Identifier: GPL-2.0

//! The stream for bulk, early, late, and twice.

use super::node::id;
use super::node::Node;
use super::node::LIFE;
use super::probe::PingP;
use super::scene::until;
use super::scene::Scene;
use super::stranger::one_node;
use super::stranger::Stranger;
use crate::frame::Kind;
use crate::loopback::Hub;
use crate::service::OpId;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use ssi::wire::Le32;

#[kunit_tests(ssi_ics_bulk)]
mod tests {
    use super::*;

    fn has_bulk(node: &Node) -> Option<bool> {
        Some(node.net().peer(id(2).ok()?)?.bulk().is_some())
    }

    /// The main one has been proved at the end that connects, not yet at the other.
    #[test]
    fn it_may_come_before_its_main_one() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        node.admit(2, LIFE)?;
        let (mut main, last_word) = Stranger::almost_admitted(&hub)?;
        let mut bulk = Stranger::beside(&hub, main.id)?;
        let head = bulk.ping(1);
        bulk.send(&head, &[0; 8])?;
        // It is not refused meanwhile.
        bulk.stream.set_receive_timeout(500);
        assert_eq!(bulk.stream.receive(&mut [0]), Err(EAGAIN));
        assert_eq!(s.links.load(Relaxed), 0);
        main.stream.send(&[&last_word])?;
        main.say_open(1, 1, &[])?;
        main.hear_open()?;
        assert_eq!(main.reply(1)?.0, 0);
        assert_eq!(has_bulk(&node), Some(true));
        let head = main.ping(2);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(2)?.0, 0);
        assert_eq!((s.links.load(Relaxed), s.lost.load(Relaxed)), (1, 0));
        Ok(())
    }

    #[test]
    fn it_does_not_wait_for_one_that_is_gone() -> Result {
        let s = Scene::begin()?;
        let (hub, node, main) = one_node()?;
        let gone = main.id;
        main.stream.shutdown();
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        assert!(Stranger::beside(&hub, gone)?.is_torn());
        // Nor when another one has come, or none comes.
        let waits = Stranger::beside(&hub, [9; 16])?;
        let mut main = Stranger::admitted(&hub, LIFE)?;
        main.say_open(2, 1, &[])?;
        main.hear_open()?;
        assert!(waits.is_torn());
        assert!(Stranger::beside(&hub, [9; 16])?.is_torn());
        // The one that is there has not noticed.
        let head = main.ping(1);
        main.send(&head, &[0; 8])?;
        assert_eq!(main.reply(1)?.0, 0);
        assert_eq!(has_bulk(&node), Some(false));
        assert_eq!(s.lost.load(Relaxed), 1);
        Ok(())
    }

    /// The request was too long for the main stream to be empty again, and there is a bulk one when its caller is killed.
    #[test]
    fn a_cancel_stays_behind_its_request() -> Result {
        const LEN: usize = 100_000;
        Scene::begin()?;
        let (hub, node, main) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        let asked = |len| {
            let body = KVVec::from_elem(7u8, len, GFP_KERNEL)?;
            peer.ask(OpId::of::<PingP>(), body, None)
                .map_err(|_| ENOTCONN)
        };
        let first = asked(LEN)?;
        let bulk = Stranger::beside(&hub, main.id)?;
        assert!(until(|| has_bulk(&node) == Some(true)));
        let second = asked(LEN + 1)?;
        first.give_up();
        second.give_up();
        for (stream, xid, len) in [(&main, 1, LEN), (&bulk, 2, LEN + 1)] {
            for (kind, len) in [(Kind::Request, len), (Kind::Cancel, 0)] {
                let (head, body) = stream.frame()?;
                assert_eq!(
                    (Kind::from_wire(head.kind), head.xid.get()),
                    (Some(kind), xid)
                );
                assert_eq!(body.len(), len);
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
            let asked = peer.ask(OpId::of::<PingP>(), body, Some(room));
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
            assert!(reply.as_slice() == body.as_slice());
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
        assert!(reply.as_slice() == body.as_slice());
        Ok(())
    }

    /// What node 1 has sent on the first one may be lost.
    #[test]
    fn a_second_one_ends_all() -> Result {
        let s = Scene::begin()?;
        let (hub, node, main) = one_node()?;
        let first = Stranger::beside(&hub, main.id)?;
        assert!(until(|| has_bulk(&node) == Some(true)));
        let second = Stranger::beside(&hub, main.id)?;
        for stream in [main, first, second] {
            assert!(stream.is_torn());
        }
        assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
        assert_eq!(has_bulk(&node), Some(false));
        let mut main = Stranger::admitted(&hub, LIFE)?;
        main.say_open(2, 1, &[])?;
        main.hear_open()?;
        let mut bulk = Stranger::beside(&hub, main.id)?;
        let head = bulk.ping(1);
        bulk.send(&head, &[0; 8])?;
        assert_eq!(main.reply(1)?.0, 0);
        Ok(())
    }
}
