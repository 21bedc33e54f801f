// SPDX-License-Identifier: GPL-2.0

//! Calls between two nodes that nothing happens to.

use super::node::id;
use super::node::two_nodes;
use super::node::Node;
use super::node::LIFE;
use super::probe::call_from;
use super::probe::ping_all;
use super::probe::Hold;
use super::probe::HoldP;
use super::probe::HoldPReq;
use super::probe::HoldReq;
use super::probe::PingL1;
use super::probe::PingL1Req;
use super::probe::PingL3;
use super::probe::PingL3Req;
use super::probe::ALL;
use super::scene::until;
use super::scene::Scene;
use crate::error::CallError;
use crate::loopback::Hub;
use crate::pool::KEPT;
use crate::service::Class;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::types::ScopeGuard;
use ssi::ids::Incarnation;
use ssi::kthread::KThread;
use ssi::wire::Le64;

#[kunit_tests(ssi_ics_calls)]
mod tests {
    use super::*;

    #[test]
    fn every_class_answers() -> Result {
        let s = Scene::begin()?;
        s.open();
        let (a, b) = two_nodes(s)?;
        for n in 0..50 {
            assert_eq!(ping_all(a.net(), id(2)?, n), ALL);
            assert_eq!(ping_all(b.net(), id(1)?, n), ALL);
            assert_eq!(ping_all(a.net(), id(1)?, n), ALL);
        }
        let r = call_from::<Hold>(a.net(), id(2)?, &HoldReq {}, &[]);
        assert!(r.is_ok());
        Ok(())
    }

    #[test]
    fn large_calls_pass_a_small_pipe() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let tail = KVVec::from_elem(7u8, crate::MAX_TAIL, GFP_KERNEL)?;
        for n in 0..4 {
            let r = call_from::<PingL3>(a.net(), id(2)?, &PingL3Req { n: Le64::new(n) }, &tail);
            assert!(r.is_ok_and(|(rep, _)| rep.n.get() == n + 1));
        }
        assert_eq!(s.pings.load(Relaxed), 4);
        Ok(())
    }

    /// The threads of class L0 are 8, its credits 64; 80 ask.
    #[test]
    fn full_l0_stops_no_other_class() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let mut askers = KVec::new();
        for _ in 0..80 {
            let (net, to) = (a.net().clone(), id(2)?);
            let asker = KThread::run(c"ics_case", move || {
                let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
                s.count(if r.is_ok() { &s.held } else { &s.errors });
            })?;
            askers.push(asker, GFP_KERNEL)?;
        }
        let peer = a.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        assert!(s.comes(|s| s.holding.load(Relaxed) == 8));
        assert!(until(|| peer.n_waiting(Class::L0) == 64));

        let (there, back) = (a.net().clone(), b.net().clone());
        let (one, two) = (id(1)?, id(2)?);
        let right = Arc::new(Atomic::<u32>::new(0), GFP_KERNEL)?;
        let mine = right.clone();
        let pings = KThread::run(c"ics_case", move || {
            for n in 0..20 {
                mine.fetch_add(ping_all(&there, two, n) + ping_all(&back, one, n), Full);
            }
        })?;
        let ended = s.comes(|s| s.pings.load(Relaxed) == 40 * ALL);
        // Nothing of class L0 has moved meanwhile.
        let stuck = (
            s.holding.load(Relaxed),
            s.held.load(Relaxed) + s.errors.load(Relaxed),
        );
        s.open();
        assert!(ended);
        assert_eq!(stuck, (8, 0));
        drop(pings);
        assert_eq!(right.load(Relaxed), 40 * ALL);
        assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == 80));
        assert_eq!(s.errors.load(Relaxed), 0);
        assert_eq!(s.holding.load(Relaxed), 80);
        Ok(())
    }

    /// Threads are made for a peak, and end after it; the next peak has new ones.
    #[test]
    fn threads_of_class_p_end_when_they_are_not_needed() -> Result {
        const PEAK: u32 = 32;
        // Of the other classes.
        const FIXED: usize = 8 + 5 * 4;
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        // However the case ends, the handlers do.
        let _open = ScopeGuard::new(|| s.open());
        let pool = &b.net().pool;
        for peak in 1..=2 {
            s.is_open.store(0, Relaxed);
            let mut askers = KVec::new();
            for _ in 0..PEAK {
                let (net, to) = (a.net().clone(), id(2)?);
                let asker = KThread::run(c"ics_case", move || {
                    let r = call_from::<HoldP>(&net, to, &HoldPReq {}, &[]);
                    s.count(if r.is_ok() { &s.held } else { &s.errors });
                })?;
                askers.push(asker, GFP_KERNEL)?;
            }
            assert!(s.comes(|s| s.holding.load(Relaxed) == peak * PEAK));
            assert!(pool.n_threads() >= FIXED + PEAK as usize);
            s.open();
            assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == peak * PEAK));
            assert_eq!(s.errors.load(Relaxed), 0);
            // The last one to end is not joined yet.
            assert!(until(|| pool.n_threads() == FIXED + KEPT + 1));
        }
        assert_eq!(ping_all(a.net(), id(2)?, 1), ALL);
        Ok(())
    }

    #[test]
    fn calls_end_when_the_node_is_down() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let (net, to) = (a.net().clone(), id(2)?);
        let asker = KThread::run(c"ics_case", move || {
            let r = call_from::<Hold>(&net, to, &HoldReq {}, &[]);
            let is_down = r.is_err_and(|e| e == CallError::Down(to));
            s.count(if is_down { &s.held } else { &s.errors });
        })?;
        assert!(s.comes(|s| s.holding.load(Relaxed) == 1));
        a.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        assert!(s.comes(|s| s.held.load(Relaxed) == 1));
        drop(asker);
        assert_eq!(ping_all(a.net(), id(2)?, 1), 0);
        s.open();
        Ok(())
    }

    #[test]
    fn calls_wait_for_the_first_stream_to_a_member() -> Result {
        let s = Scene::begin()?;
        let hub = Hub::new()?;
        let a = Node::new(&hub, 1)?;
        a.admit(2, LIFE)?;
        let (net, to) = (a.net().clone(), id(2)?);
        let asker = KThread::run(c"ics_case", move || {
            let r = call_from::<PingL1>(&net, to, &PingL1Req { n: Le64::new(1) }, &[]);
            s.count(if r.is_ok() { &s.held } else { &s.errors });
        })?;
        let peer = a.net().peer(id(2)?).ok_or(ENOENT)?.clone();
        assert!(until(|| peer.n_waiting(Class::L1) == 1));
        let b = Node::new(&hub, 2)?;
        b.admit(1, LIFE)?;
        assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == 1));
        assert_eq!(s.errors.load(Relaxed), 0);
        drop(asker);
        // What was asked of one life does not go to the next one.
        peer.fence();
        a.admit(2, Incarnation(LIFE.0 + 1))?;
        assert_eq!(peer.n_waiting(Class::L1), 0);
        Ok(())
    }
}
