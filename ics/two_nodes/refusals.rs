// SPDX-License-Identifier: GPL-2.0

//! What one node does about another that says what it should not.

use super::node::id;
use super::node::Node;
use super::node::LIFE;
use super::probe::Hold;
use super::scene::until;
use super::scene::Scene;
use super::scene::LIMIT_MS;
use super::stranger::one_node;
use super::stranger::Stranger;
use crate::frame::Head;
use crate::frame::Kind;
use crate::frame::TAG;
use crate::hearing::PERIOD_BITS;
use crate::heartbeat::Answer;
use crate::heartbeat::News;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Refusal;
use crate::loopback::Hub;
use crate::refused::Refused;
use crate::service::Class;
use crate::service::Op;
use crate::transport::Stream;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::types::ScopeGuard;
use ssi::ids::Incarnation;
use ssi::wire::Le16;
use ssi::wire::Le32;
use ssi::wire::Le64;

fn name(news: News) -> &'static str {
    match news {
        News::New => "new",
        News::Again => "again",
        News::Old => "old",
        News::Early => "early",
        News::Twin => "twin",
    }
}

#[kunit_tests(ssi_ics_refusals)]
mod tests {
    use super::*;

    /// Which `clms` need not have understood: then that one's answer is to the life before, or to none.
    #[test]
    fn the_latest_life_that_was_heard_is_answered() -> Result {
        Scene::begin()?;
        let (_hub, node, _stranger) = one_node()?;
        let (net, two) = (node.net(), id(2)?);
        let answered = |life, seq| {
            let said = Answer {
                incarnation: Incarnation(life),
                seq,
                supports: 4,
            };
            let a = net.newest.answer(two, said);
            (a.incarnation.0, a.seq, a.supports)
        };
        assert_eq!(answered(0, 0), (0, 0, 4));
        let hear = |life, seq| net.newest.news(two, Incarnation(life), seq, true, 0);
        let is_new = hear(9, 5) == News::New;
        assert!(is_new);
        assert_eq!(answered(7, 3), (9, 0, 0));
        assert_eq!(answered(9, 5), (9, 5, 4));
        let is_old = hear(7, 6) == News::Old;
        assert!(is_old);
        assert_eq!(answered(7, 6), (9, 0, 0));
        Ok(())
    }

    #[test]
    fn a_heartbeat_that_is_a_little_late_is_not_stale() -> Result {
        Scene::begin()?;
        let (_hub, node, _stranger) = one_node()?;
        let (net, two) = (node.net(), id(2)?);
        let number = |period: u64, n: u64| period << PERIOD_BITS | n;
        let hear = |life, number| name(net.newest.news(two, Incarnation(life), number, true, 0));
        let heard = [
            hear(9, number(100, 2)),
            hear(9, number(100, 2)),
            hear(9, number(100, 1)),
            hear(9, number(98, 5)),
            hear(9, number(97, 5)),
            hear(8, number(100, 3)),
            hear(9, number(100, 3)),
        ];
        let want = ["new", "again", "again", "again", "old", "old", "new"];
        assert_eq!(heard, want);
        Ok(())
    }

    /// A machine that takes its number waits, until it is missed, or out.
    #[test]
    fn a_member_that_is_heard_is_not_overtaken() -> Result {
        Scene::begin()?;
        let (_hub, node, _stranger) = one_node()?;
        let (net, two) = (node.net(), id(2)?);
        let hear = |life, seq, is_member, now_ms| {
            name(
                net.newest
                    .news(two, Incarnation(life), seq, is_member, now_ms),
            )
        };
        let heard = [
            hear(8, 1, true, 10_000),
            hear(9, 1, false, 10_001),
            // Whoever stood still hears both at once, in any order.
            hear(10, 1, true, 20_000),
            hear(9, 2, true, 20_000),
            hear(10, 2, true, 20_100),
            // Stood still again.
            hear(10, 3, true, 21_200),
            hear(9, 3, true, 21_201),
            // Started again: nothing of the last life came for a second.
            hear(10, 4, true, 40_000),
            hear(10, 5, true, 40_300),
            hear(10, 6, true, 40_600),
            hear(10, 7, true, 40_900),
            hear(10, 8, true, 41_000),
            hear(9, 4, true, 41_001),
            hear(11, 1, true, 41_002),
            // No member any more.
            hear(11, 2, false, 41_003),
        ];
        let want = [
            "new", "new", "early", "new", "twin", "twin", "new", "early", "early", "early",
            "early", "new", "old", "early", "new",
        ];
        assert_eq!(heard, want);
        Ok(())
    }

    #[test]
    fn a_post_whose_place_is_taken_takes_no_credit() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        let peer = node.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        // The first is done; the third waits for the second; then there are two for one place, parked and done.
        for (xid, order, is_bad) in [(1, 1, false), (2, 3, false), (3, 3, true)] {
            let mut head = stranger.ping(xid);
            head.order = Le64::new(order);
            stranger.send(&head, &[0; 8])?;
            if is_bad {
                assert!(stranger.is_torn());
            } else if order == 1 {
                assert_eq!(stranger.reply(xid)?.0, 0);
            }
        }
        assert_eq!(peer.n_asked(Class::L1), 1);
        assert_eq!(s.pings.load(Relaxed), 1);
        assert_eq!(node.counters.count(Refused::Torn), 1);
        Ok(())
    }

    #[test]
    fn garbage_is_not_admitted() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        for (bytes, is_shut) in [(&[0x5a; 200][..], false), (&b"SSIH"[..], true), (&[], true)] {
            let before = node.counters.count(Refused::Admission);
            let stream = Stream::Loopback(hub.connect(id(2)?, id(1)?, 0)?);
            stream.send(&[bytes])?;
            if is_shut {
                stream.shutdown();
            }
            stream.set_receive_timeout(LIMIT_MS);
            assert_eq!(stream.receive(&mut [0]), Err(ECONNRESET));
            drop(stream);
            assert!(until(
                || node.counters.count(Refused::Admission) == before + 1
            ));
        }
        assert_eq!(s.links.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn no_member_is_answered() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        let mut stranger = Stranger::new(&hub, LIFE)?;
        let head = stranger.ping(1);
        stranger.send(&head, &41u64.to_le_bytes())?;
        stranger.stream.set_receive_timeout(500);
        assert_eq!(stranger.stream.receive(&mut [0]), Err(EAGAIN));
        assert_eq!(s.pings.load(Relaxed), 0);
        // It becomes one: what it asked is answered.
        stranger.stream.set_receive_timeout(LIMIT_MS);
        node.admit(2, LIFE)?;
        let (status, body) = stranger.reply(1)?;
        assert_eq!(status, 0);
        assert_eq!(body.as_slice(), &42u64.to_le_bytes()[..]);
        // It is none any more.
        node.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        assert!(stranger.is_torn());
        Ok(())
    }

    #[test]
    fn bad_frames_tear_the_stream() -> Result {
        type Bend = fn(&mut Head, &mut [u8; TAG]);
        let cases: [(Bend, Refused); 7] = [
            (|_, tag| tag[0] ^= 1, Refused::Tag),
            (|_, tag| tag[15] ^= 0x80, Refused::Tag),
            (|_, tag| *tag = [0; TAG], Refused::Tag),
            // After the tag was made: a changed head has a wrong tag too.
            (|h, _| h.xid = Le64::new(9), Refused::Tag),
            (|h, _| h.magic = Le32::new(0), Refused::Torn),
            (
                |h, _| h.len = Le32::new(crate::frame::MAX_BODY as u32 + 1),
                Refused::Torn,
            ),
            (|h, _| h.len = Le32::new(u32::MAX), Refused::Torn),
        ];
        for (bend, why) in cases {
            let s = Scene::begin()?;
            let (_hub, node, mut stranger) = one_node()?;
            let mut head = stranger.ping(1);
            let body = [0u8; 8];
            let mut tag = head.tag(&stranger.key_out, &body);
            bend(&mut head, &mut tag);
            stranger.stream.send(&[head.as_bytes(), &body, &tag])?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(why), 1);
            assert_eq!(s.pings.load(Relaxed), 0);
        }
        Ok(())
    }

    #[test]
    fn frames_out_of_order_tear_the_stream() -> Result {
        for bad in [0, 1, 2, 4] {
            let s = Scene::begin()?;
            let (_hub, node, mut stranger) = one_node()?;
            let head = stranger.ping(1);
            stranger.send(&head, &[0; 8])?;
            assert_eq!(stranger.reply(1)?.0, 0);
            let mut head = stranger.ping(2);
            head.seq = Le64::new(bad);
            stranger.send(&head, &[0; 8])?;
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(Refused::Replay), 1);
            assert_eq!(s.pings.load(Relaxed), 1);
        }
        Ok(())
    }

    #[test]
    fn truncated_frames_do_nothing() -> Result {
        let whole = core::mem::size_of::<Head>() + 8 + TAG;
        let head = core::mem::size_of::<Head>();
        for n in [1, head - 1, head, head + 4, head + 8, whole - 1] {
            let s = Scene::begin()?;
            let (_hub, _node, mut stranger) = one_node()?;
            let head = stranger.ping(1);
            let body = [0u8; 8];
            let tag = head.tag(&stranger.key_out, &body);
            let mut bytes = KVec::new();
            for part in [head.as_bytes(), &body, &tag] {
                bytes.extend_from_slice(part, GFP_KERNEL)?;
            }
            stranger.stream.send(&[bytes.get(..n).ok_or(EINVAL)?])?;
            stranger.stream.shutdown();
            assert!(s.comes(|s| s.lost.load(Relaxed) == 1));
            assert_eq!(s.pings.load(Relaxed), 0);
        }
        Ok(())
    }

    #[test]
    fn refused_posts_that_were_parked_are_answered() -> Result {
        let unknown = EPROTONOSUPPORT.to_errno().unsigned_abs();
        let s = Scene::begin()?;
        let (_hub, _node, mut stranger) = one_node()?;
        // As many as there are credits, all of which wait for the first.
        for place in Iterator::chain(2..=64, [1]) {
            let mut head = stranger.ping(place);
            head.service = Le16::new(0xfffe);
            head.order = Le64::new(place);
            stranger.send(&head, &[0; 8])?;
        }
        for place in 1..=64 {
            assert_eq!(stranger.reply(place)?.0, unknown);
        }
        let mut head = stranger.ping(65);
        head.order = Le64::new(65);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(65)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn bad_requests_are_answered_with_an_errno() -> Result {
        type Bend = fn(&mut Head);
        let unknown = EPROTONOSUPPORT.to_errno().unsigned_abs();
        let nonsense = EPROTO.to_errno().unsigned_abs();
        let cases: [(Bend, u32, u64); 6] = [
            (|h| h.service = Le16::new(0xfffe), unknown, 0),
            (|h| h.op = Le16::new(99), unknown, 0),
            (|h| h.version = Le16::new(6), unknown, 1),
            (|h| h.version = Le16::new(8), unknown, 2),
            (|h| h.class = Class::L2 as u8, nonsense, 2),
            // The fixed part is 8 bytes.
            (|h| h.len = Le32::new(7), nonsense, 2),
        ];
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        for (xid, (bend, status, versions)) in (1..).zip(cases) {
            let mut head = stranger.ping(xid);
            bend(&mut head);
            let body = [0u8; 8];
            let body = body.get(..head.len.get() as usize).ok_or(EINVAL)?;
            stranger.send(&head, body)?;
            assert_eq!(stranger.reply(xid)?.0, status);
            assert_eq!(node.counters.count(Refused::Version), versions);
        }
        let head = stranger.ping(99);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(99)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn an_old_incarnation_is_refused() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        let head = stranger.ping(1);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(1)?.0, 0);
        let mut old = Stranger::admitted(&hub, Incarnation(LIFE.0 - 1))?;
        let head = old.ping(1);
        // It may be torn before it has said that.
        let _torn = old.send(&head, &[0; 8]);
        assert!(old.is_torn());
        assert_eq!(node.counters.count(Refused::Stale), 1);
        // The stream of the member is as it was.
        let head = stranger.ping(2);
        stranger.send(&head, &[0; 8])?;
        assert_eq!(stranger.reply(2)?.0, 0);
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn a_request_twice_on_a_stream_tears_it() -> Result {
        // While it is being answered, and after that.
        for is_held in [true, false] {
            let s = Scene::begin()?;
            let (_hub, node, mut stranger) = one_node()?;
            for _ in 0..2 {
                let mut head = stranger.ping(1);
                if is_held {
                    head.op = Le16::new(Hold::OP);
                    head.class = Hold::CLASS as u8;
                    head.len = Le32::new(0);
                    stranger.send(&head, &[])?;
                } else {
                    stranger.send(&head, &[0; 8])?;
                    assert!(s.comes(|s| s.pings.load(Relaxed) == 1));
                }
            }
            if !is_held {
                assert_eq!(stranger.reply(1)?.0, 0);
            }
            assert!(stranger.is_torn());
            assert_eq!(node.counters.count(Refused::Torn), 1);
            assert_eq!(s.pings.load(Relaxed), u32::from(!is_held));
            s.open();
        }
        Ok(())
    }

    /// The one after the last is no number, and the list of open calls is gone through by the next one.
    #[test]
    fn a_request_without_a_number_tears_the_stream() -> Result {
        let s = Scene::begin()?;
        let (hub, node, mut stranger) = one_node()?;
        for (stream, bad) in (2..).zip([0, u64::MAX]) {
            let head = stranger.ping(bad);
            stranger.send(&head, &[0; 8])?;
            assert!(stranger.is_torn());
            stranger = Stranger::admitted(&hub, LIFE)?;
            stranger.say_open(stream, stream, &[])?;
            stranger.hear_open()?;
            let head = stranger.ping(stream);
            stranger.send(&head, &[0; 8])?;
            assert_eq!(stranger.reply(stream)?.0, 0);
        }
        assert_eq!(node.counters.count(Refused::Torn), 2);
        assert_eq!(s.pings.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn a_stream_ends_with_its_key() -> Result {
        let _s = Scene::begin()?;
        let hub = Hub::new()?;
        let node = Node::new(&hub, 1)?;
        // No member, so that nobody is asked.
        let stranger = Stranger::new(&hub, LIFE)?;
        let new = Key::new([9; 32]);
        let net = node.net();
        let change = |step: fn(Keyring, Key) -> core::result::Result<Keyring, Refusal>| {
            net.change_keys(|ring, _| step(ring, new))
                .map_err(|_| EPERM)
        };
        change(|ring, new| ring.stage(new, core::iter::empty()))?;
        change(|ring, new| ring.switch(new.print, core::iter::empty()))?;
        stranger.stream.set_receive_timeout(500);
        assert_eq!(stranger.stream.receive(&mut [0]), Err(EAGAIN));
        stranger.stream.set_receive_timeout(LIMIT_MS);
        change(|ring, new| ring.retire(new.print, core::iter::empty()))?;
        assert!(stranger.is_torn());
        Ok(())
    }

    #[test]
    fn more_requests_than_credits_tear_the_stream() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        // A cancel may be overtaken: twice as many are heard.
        for xid in 1..=129 {
            let mut head = stranger.ping(xid);
            head.op = Le16::new(Hold::OP);
            head.class = Hold::CLASS as u8;
            head.len = Le32::new(0);
            stranger.send(&head, &[])?;
        }
        assert!(stranger.is_torn());
        assert_eq!(node.counters.count(Refused::Torn), 1);
        assert!(s.comes(|s| s.holding.load(Relaxed) == 8));
        s.open();
        Ok(())
    }

    /// And never says what arrived: four times the credits are queued, as many refused.
    #[test]
    fn who_gives_up_all_calls_is_torn_in_the_end() -> Result {
        const MOST: u64 = 4 * 64;
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        // However the case ends, the handlers do.
        let _open = ScopeGuard::new(|| s.open());
        for xid in 1..=2 * MOST + 1 {
            let mut head = stranger.ping(xid);
            head.op = Le16::new(Hold::OP);
            head.class = Hold::CLASS as u8;
            head.len = Le32::new(0);
            stranger.send(&head, &[])?;
            if xid > 2 * MOST {
                break;
            }
            if xid > MOST {
                assert_eq!(stranger.reply(xid)?.0, EAGAIN.to_errno().unsigned_abs());
            }
            // Those that a thread has got go on.
            assert!(s.comes(|s| u64::from(s.holding.load(Relaxed)) == xid.min(8)));
            let head = stranger.head(Kind::Cancel, xid);
            stranger.send(&head, &[])?;
        }
        assert!(stranger.is_torn());
        assert_eq!(node.counters.count(Refused::Torn), 1);
        Ok(())
    }
}
