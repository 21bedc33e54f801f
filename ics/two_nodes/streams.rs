// SPDX-License-Identifier: GPL-2.0

//! Streams and links that are torn, pulled, or come late.

use super::node::id;
use super::node::two_nodes;
use super::node::two_nodes_of;
use super::node::Node;
use super::node::LIFE;
use super::probe::call_from;
use super::probe::fetch;
use super::probe::Hold;
use super::probe::HoldReq;
use super::probe::PingL2;
use super::probe::PingL2Req;
use super::probe::PingL3;
use super::probe::PingL3Req;
use super::probe::PingL4;
use super::probe::PingL4Req;
use super::scene::until;
use super::scene::Scene;
use crate::hearing::MISSED;
use crate::hearing::PERIOD_BITS;
use crate::lane;
use crate::lane::Side;
use crate::loopback::Hub;
use crate::service::Class;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::wire::Le64;

#[kunit_tests(ssi_ics_streams)]
mod tests {
    use super::*;

    /// Heartbeats come over link `over` only, each way.
    fn silence_all_but(over: usize, a: &Node, b: &Node, beat: &mut u64) -> Result {
        for _ in 0..=MISSED {
            *beat += 1;
            for (hearer, said) in [(a, 2), (b, 1)] {
                let peer = hearer.net().peer(id(said)?).ok_or(ENOENT)?;
                hearer
                    .net()
                    .brought(&peer, over, LIFE, *beat << PERIOD_BITS);
            }
        }
        Ok(())
    }

    /// Calls whose replies, and calls that themselves, are on a link when it is pulled: each is done, and once.
    #[test]
    fn a_link_dies_and_each_call_is_done_once() -> Result {
        const HELD: u32 = 8;
        const ASKED: u32 = 20;
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let (a, b) = two_nodes_of(s, &hub)?;
        let mut beat = 0;
        // What was put back is used again: the stream goes to and fro.
        for round in 1..=4 {
            let (dead, other) = if round % 2 == 1 { (0, 1) } else { (1, 0) };
            let mut askers = KVec::new();
            s.is_open.store(0, Relaxed);
            for _ in 0..HELD {
                let (net, to) = (a.net().clone(), id(2)?);
                let asker = KThread::run(c"ics_case", move || {
                    let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
                    s.count(if r.is_ok() { &s.held } else { &s.errors });
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(s.comes(|s| s.holding.load(Relaxed) == round * HELD));
            hub.cut(dead);
            // Replies into the dark ...
            s.open();
            assert!(until(|| b.n_asked(1, Class::L0) == Some(0)));
            // ... and requests.
            for _ in 0..ASKED {
                let (net, to) = (a.net().clone(), id(2)?);
                let asker = KThread::run(c"ics_case", move || {
                    let r = call_from::<PingL2>(&net, to, &PingL2Req { n: Le64::new(1) }, &[]);
                    s.count(if r.is_ok() { &s.held } else { &s.errors });
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(until(|| a.n_waiting(2, Class::L2) == Some(ASKED)));
            assert_eq!(a.n_waiting(2, Class::L0), Some(HELD));
            assert_eq!(s.held.load(Relaxed), (round - 1) * (HELD + ASKED));
            assert_eq!(s.pings.load(Relaxed), (round - 1) * ASKED);
            silence_all_but(other, &a, &b, &mut beat)?;
            let ended = |s: &Scene| s.held.load(Relaxed) + s.errors.load(Relaxed);
            assert!(s.comes(|s| ended(s) == round * (HELD + ASKED)));
            hub.heal(dead);
            drop(askers);
            assert_eq!(s.errors.load(Relaxed), 0);
            assert_eq!(s.holding.load(Relaxed), round * HELD);
            assert_eq!(s.pings.load(Relaxed), round * ASKED);
        }
        Ok(())
    }

    #[test]
    fn who_walks_the_nodes_misses_none_though_one_is_removed() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let (mut a, _b) = two_nodes_of(s, &hub)?;
        for n in 3..=5 {
            a.add(n)?;
        }
        let begun = a.net().peers();
        a.remove(3)?;
        assert!(begun.iter().map(|p| p.node.number()).eq(2..=5));
        let now = a.net().peers();
        assert!(now.iter().map(|p| p.node.number()).eq([2, 4, 5]));
        Ok(())
    }

    /// All streams, at both ends.
    fn has_all(a: &Node, b: &Node) -> bool {
        let has = |n: &Node, of: u32, side| n.net().peer(NodeId::new(of)?)?.stream_beside(side);
        let mut sides = Side::ALL.into_iter();
        sides.all(|side| has(a, 2, side).is_some() && has(b, 1, side).is_some())
    }

    /// A sender has the socket of a stream that is to be torn.
    #[test]
    fn a_silent_link_keeps_no_heartbeat_waiting() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let (a, b) = two_nodes_of(s, &hub)?;
        let (here, there) = (a.net().clone(), b.net().clone());
        hub.hold(0, true);
        let heartbeats = KThread::run(c"ics_case", move || {
            for beat in 1..=1 + MISSED {
                for (net, said) in [(&here, 2), (&there, 1)] {
                    if let Some(peer) = NodeId::new(said).and_then(|n| net.peer(n)) {
                        net.brought(&peer, 1, LIFE, beat << PERIOD_BITS);
                    }
                }
            }
            s.count(&s.held);
        })?;
        let is_heard = s.comes(|s| s.held.load(Relaxed) == 1);
        let is_torn = s.lost.load(Relaxed) != 0;
        hub.hold(0, false);
        drop(heartbeats);
        assert_eq!((is_heard, is_torn), (true, false));
        // Somebody else tears it.
        assert!(s.comes(|s| s.lost.load(Relaxed) == 2 && s.links.load(Relaxed) == 4));
        let r = call_from::<PingL2>(a.net(), id(2)?, &PingL2Req { n: Le64::new(1) }, &[]);
        assert!(r.is_ok());
        let stream = a.net().peer(id(2)?).ok_or(ENOENT)?.main_stream();
        assert_eq!(stream.ok_or(ENOENT)?.over, Some(1));
        Ok(())
    }

    /// What was answered on one stream is forgotten by what is said on another.
    #[test]
    fn each_stream_tells_what_arrived_on_all() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        assert!(until(|| has_all(&a, &b)));
        let asker = b.net().peer(id(1)?).ok_or(ENOENT)?.clone();
        for _ in 0..10 {
            assert!(fetch(a.net(), id(2)?, 100_000));
        }
        // What has come is told by the next frame; who has a reply may ask before the thread that brought it has noted that.
        let two = id(2)?;
        let ping = || {
            let req = PingL2Req { n: Le64::new(1) };
            call_from::<PingL2>(a.net(), two, &req, &[]).is_ok()
        };
        // The last reply is not known to have arrived.
        assert!(until(|| ping() && asker.n_answers() <= 1));
        // The other way round: bulk requests, short replies.
        let tail = KVVec::from_elem(7u8, 100_000, GFP_KERNEL)?;
        for n in 0..10 {
            let r = call_from::<PingL3>(a.net(), id(2)?, &PingL3Req { n: Le64::new(n) }, &tail);
            assert!(r.is_ok());
        }
        assert!(until(|| ping() && asker.n_answers() <= 1));
        // And control.
        for n in 0..10 {
            let r = call_from::<PingL4>(a.net(), id(2)?, &PingL4Req { n: Le64::new(n) }, &[]);
            assert!(r.is_ok());
        }
        assert!(until(|| ping() && asker.n_answers() <= 1));
        Ok(())
    }

    /// Each stream is torn at either end while all are in use.
    #[test]
    fn a_stream_is_torn_and_each_call_is_done_once() -> Result {
        const ASKERS: u32 = 4;
        const CALLS: u32 = 10;
        const KINDS: u32 = 4;
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let all = KINDS * ASKERS * CALLS;
        for round in 0..4 * lane::N as u32 {
            assert!(until(|| has_all(&a, &b)));
            let mut askers = KVec::new();
            for i in 0..KINDS * ASKERS {
                let (net, to) = (a.net().clone(), id(2)?);
                let tail = KVVec::from_elem(7u8, 50_000, GFP_KERNEL)?;
                let asker = KThread::run(c"ics_case", move || {
                    for _ in 0..CALLS {
                        let n = Le64::new(1);
                        let is_right = match i % KINDS {
                            0 => call_from::<PingL3>(&net, to, &PingL3Req { n }, &tail).is_ok(),
                            1 => call_from::<PingL2>(&net, to, &PingL2Req { n }, &[]).is_ok(),
                            2 => call_from::<PingL4>(&net, to, &PingL4Req { n }, &[]).is_ok(),
                            _ => fetch(&net, to, 50_000),
                        };
                        s.count(if is_right { &s.held } else { &s.errors });
                    }
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(s.comes(|s| s.pings.load(Relaxed) > round * all + all / 4));
            let (node, of) = if round % 2 == 0 { (&a, 2) } else { (&b, 1) };
            let peer = node.net().peer(id(of)?).ok_or(ENOENT)?;
            let torn = match lane::ALL.get(round as usize / 2 % lane::N) {
                Some(Some(side)) => peer.stream_beside(*side),
                _ => peer.main_stream(),
            };
            torn.ok_or(ENOENT)?.tear();
            let ended = |s: &Scene| s.held.load(Relaxed) + s.errors.load(Relaxed);
            assert!(s.comes(|s| ended(s) == (round + 1) * all));
            drop(askers);
            assert_eq!(s.errors.load(Relaxed), 0);
            assert_eq!(s.pings.load(Relaxed), (round + 1) * all);
        }
        Ok(())
    }
}
