// SPDX-License-Identifier: GPL-2.0

//! Calls that are answered when their handler has ended.

use super::node::id;
use super::node::two_nodes;
use super::node::Node;
use super::probe::call_from;
use super::probe::ping_all;
use super::probe::Fetch;
use super::probe::FetchReq;
use super::probe::Hold;
use super::probe::HoldP;
use super::probe::HoldPReq;
use super::probe::HoldReq;
use super::probe::Wait;
use super::probe::WaitP;
use super::probe::WaitPRep;
use super::probe::WaitPReq;
use super::probe::WaitRep;
use super::probe::WaitReq;
use super::probe::ALL;
use super::scene::until;
use super::scene::Scene;
use super::scene::LIMIT_MS;
use super::stranger::one_node;
use crate::call::Request;
use crate::call::UnderWay;
use crate::error::CallError;
use crate::frame::Kind;
use crate::frame::MAX_BODY;
use crate::refused::Refused;
use crate::service::Class;
use crate::service::Op;
use crate::service::Status;
use crate::ticket::Ticket;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::types::ScopeGuard;
use ssi::kthread::KThread;
use ssi::wire::Le32;
use ssi::wire::Le64;

fn ask_of<O: Op>(from: &Node, to: u32, req: &O::Req) -> Result<UnderWay<O>> {
    let to = id(to)?;
    let asked = Request::<O>::new(req, 0).and_then(|r| r.send_from(from.net(), to));
    asked.map_err(|_| EIO)
}

fn ask(from: &Node, to: u32, n: u64) -> Result<UnderWay<Wait>> {
    ask_of(from, to, &WaitReq { n: Le64::new(n) })
}

fn ask_p(from: &Node, to: u32, n: u64) -> Result<UnderWay<WaitP>> {
    ask_of(from, to, &WaitPReq { n: Le64::new(n) })
}

fn answer(ticket: Ticket, n: u64) {
    let n = Le64::new(n + 1);
    ticket.answer::<Wait>(Ok((WaitRep { n }, KVVec::new())));
}

/// Whether a call has the right answer.
fn is_right(call: UnderWay<Wait>, n: u64) -> bool {
    call.wait().is_ok_and(|(rep, _)| rep.n.get() == n + 1)
}

fn refused_if(is_refused: bool, len: usize) -> core::result::Result<usize, CallError> {
    if is_refused {
        Err(CallError::Remote(EMSGSIZE))
    } else {
        Ok(len)
    }
}

#[kunit_tests(ssi_ics_later)]
mod tests {
    use super::*;

    /// Class L1 has four threads.
    #[test]
    fn what_waits_holds_no_thread() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let mut calls = KVec::new();
        for n in 0..40 {
            calls.push((n, ask(&a, 2, n)?), GFP_KERNEL)?;
        }
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 40));
        assert_eq!(ping_all(a.net(), id(2)?, 1), ALL);
        assert_eq!(b.n_asked(1, Class::L1), Some(40));
        for (n, ticket) in s.take_tickets() {
            assert!(ticket.is_wanted());
            answer(ticket, n);
        }
        for (n, call) in calls {
            assert!(is_right(call, n));
        }
        assert_eq!(b.n_asked(1, Class::L1), Some(0));
        Ok(())
    }

    #[test]
    fn a_node_waits_for_itself() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let (first, second) = (ask(&a, 1, 5)?, ask(&a, 1, 6)?);
        assert_eq!(s.waiting.load(Relaxed), 2);
        for (n, ticket) in s.take_tickets() {
            assert!(ticket.is_wanted());
            if n == 5 {
                answer(ticket, n);
            }
        }
        assert!(is_right(first, 5));
        // The ticket of the other one was dropped.
        assert!(second
            .wait()
            .is_err_and(|e| e == CallError::Remote(ECANCELED)));
        Ok(())
    }

    #[test]
    fn a_ticket_outlives_its_stream() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let calls = [(1, ask(&a, 2, 1)?), (2, ask(&a, 2, 2)?)];
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 2));
        let peer = b.net().peer(id(1)?).ok_or(ENOENT)?.clone();
        let before = peer.main_stream().ok_or(ENOENT)?;
        before.tear();
        let is_next = || peer.main_stream().is_some_and(|l| l.id != before.id);
        for (n, ticket) in s.take_tickets() {
            // The second when the request has had time to come again.
            assert!(n == 1 || until(is_next) && ping_all(a.net(), id(2)?, 1) == ALL);
            answer(ticket, n);
        }
        for (n, call) in calls {
            assert!(is_right(call, n));
        }
        assert_eq!(s.waiting.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn who_has_the_ticket_sees_that_nobody_waits() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        let (given_up, down) = (ask(&a, 2, 1)?, ask(&a, 2, 2)?);
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 2));
        let mut tickets = s.take_tickets();
        let (n, second) = tickets.pop().ok_or(ENOENT)?;
        let (_, first) = tickets.pop().ok_or(ENOENT)?;
        let (first, second) = if n == 2 {
            (first, second)
        } else {
            (second, first)
        };
        let r = given_up.wait_for(1);
        assert!(r.is_err_and(|e| e == CallError::Interrupted));
        assert!(until(|| !first.is_wanted()) && second.is_wanted());
        answer(first, 1);
        b.net().peer(id(1)?).ok_or(ENOENT)?.fence();
        assert!(!second.is_wanted());
        answer(second, 2);
        a.net().peer(id(2)?).ok_or(ENOENT)?.fence();
        let two = id(2)?;
        assert!(down.wait().is_err_and(|e| e == CallError::Down(two)));
        Ok(())
    }

    /// By a handler as by who has the ticket, and to this node itself as to another.
    #[test]
    fn a_reply_that_is_too_long_is_refused() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        for to in [1, 2] {
            for (len, is_too_long) in [(MAX_BODY, false), (MAX_BODY + 1, true)] {
                let req = FetchReq {
                    len: Le32::new(len as u32),
                };
                let asked = Request::<Fetch>::new(&req, 0).map_err(|_| EIO)?;
                let asked = asked.send_from(a.net(), id(to)?);
                let r = asked.and_then(|call| call.wait_for(LIMIT_MS));
                let r = r.map(|(_, tail)| tail.len());
                assert!(r == refused_if(is_too_long, len));

                let call = ask(&a, to, 1)?;
                assert!(until(|| !s.tickets.lock().is_empty()));
                let (_, ticket) = s.take_tickets().pop().ok_or(ENOENT)?;
                let tail = KVVec::from_elem(7u8, len - 8, GFP_KERNEL)?;
                let n = Le64::new(2);
                ticket.answer::<Wait>(Ok((WaitRep { n }, tail)));
                let r = call.wait_for(LIMIT_MS).map(|(_, tail)| tail.len());
                assert!(r == refused_if(is_too_long, len - 8));
            }
        }
        // No stream was torn for it.
        assert_eq!(s.lost.load(Relaxed), 0);
        Ok(())
    }

    /// No honest peer uses a number again.
    #[test]
    fn a_ticket_answers_no_other_call_of_the_same_number() -> Result {
        let s = Scene::begin()?;
        let (_hub, node, mut stranger) = one_node()?;
        let _open = ScopeGuard::new(|| s.open());
        let head = stranger.request::<Wait>(7);
        stranger.send(&head, &41u64.to_le_bytes())?;
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 1));
        let head = stranger.head(Kind::Cancel, 7);
        stranger.send(&head, &[])?;
        let (n, ticket) = s.take_tickets().pop().ok_or(ENOENT)?;
        assert!(until(|| !ticket.is_wanted()));
        let mut head = stranger.request::<Hold>(7);
        head.len = Le32::new(0);
        stranger.send(&head, &[])?;
        assert!(s.comes(|s| s.holding.load(Relaxed) == 1));
        assert!(!ticket.is_wanted());
        answer(ticket, n);
        assert_eq!(
            (node.n_asked(2, Class::L0), node.n_asked(2, Class::L1)),
            (Some(1), Some(0))
        );
        s.open();
        let (status, body) = stranger.reply(7)?;
        assert_eq!((status, body.len()), (0, 0));
        assert_eq!(node.n_asked(2, Class::L0), Some(0));
        Ok(())
    }

    /// The asker has their credits back at once, and asks more.
    #[test]
    fn what_is_given_up_takes_no_credit() -> Result {
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        for n in 0..100 {
            let call = ask(&a, 2, n)?;
            assert!(s.comes(|s| u64::from(s.waiting.load(Relaxed)) == n + 1));
            assert!(call.wait_for(1).is_err());
        }
        assert!(until(|| b.n_asked(1, Class::L1) == Some(0)));
        assert_eq!(ping_all(a.net(), id(2)?, 1), ALL);
        assert_eq!(b.counters.count(Refused::Torn), 0);
        for (n, ticket) in s.take_tickets() {
            assert!(!ticket.is_wanted());
            answer(ticket, n);
        }
        assert_eq!(b.n_asked(1, Class::L1), Some(0));
        Ok(())
    }

    /// Three times the credits of a class: a thread has each of the first eight, which the cancel does not end, and the others wait.
    #[test]
    fn what_is_given_up_and_goes_on_takes_no_credit() -> Result {
        const MOST: u32 = 4 * 64;
        let s = Scene::begin()?;
        let (a, b) = two_nodes(s)?;
        // However the case ends, the handlers do.
        let _open = ScopeGuard::new(|| s.open());
        let peer = b.net().peer(id(1)?).ok_or(ENOENT)?.clone();
        for n in 1..=MOST {
            let call = ask_of::<Hold>(&a, 2, &HoldReq {})?;
            assert!(until(|| peer.n_answers() == n as usize));
            assert!(s.comes(|s| s.holding.load(Relaxed) == n.min(8)));
            assert!(call.wait_for(1).is_err_and(|e| e == CallError::Interrupted));
            assert!(until(|| peer.n_asked(Class::L0) == 0));
        }
        // No more of these; all else goes on.
        let call = ask_of::<Hold>(&a, 2, &HoldReq {})?;
        let r = call.wait_for(LIMIT_MS).map(|_| ());
        assert!(r == Err(CallError::Remote(EAGAIN)));
        assert_eq!(ping_all(a.net(), id(2)?, 1), ALL);
        s.open();
        // Answered, and then not kept: the asker's next frame says what has come.
        assert!(until(|| {
            let call = ask_of::<Hold>(&a, 2, &HoldReq {});
            let is_done = call.is_ok_and(|c| c.wait_for(LIMIT_MS).is_ok());
            is_done && peer.n_answers() < 8
        }));
        assert_eq!(peer.n_asked(Class::L0), 0);
        assert_eq!(
            (b.counters.count(Refused::Torn), s.lost.load(Relaxed)),
            (0, 0)
        );
        Ok(())
    }

    /// A thread is not interrupted for what it does not do any more.
    #[test]
    fn a_cancel_reaches_no_thread_that_does_other_work() -> Result {
        let s = Scene::begin()?;
        let (a, _b) = two_nodes(s)?;
        let call = ask_p(&a, 2, 1)?;
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 1));
        // It goes to the thread of that, which is idle, as there is none else.
        let (net, to) = (a.net().clone(), id(2)?);
        let asker = KThread::run(c"ics_case", move || {
            let r = call_from::<HoldP>(&net, to, &HoldPReq {}, &[]);
            s.count(if r.is_ok() { &s.held } else { &s.errors });
        })?;
        assert!(s.comes(|s| s.holding.load(Relaxed) == 1));
        let r = call.wait_for(1);
        assert!(r.is_err_and(|e| e == CallError::Interrupted));
        let (_, ticket) = s.take_tickets().pop().ok_or(ENOENT)?;
        assert!(until(|| !ticket.is_wanted()));
        ticket.answer::<WaitP>(Err(Status::Errno(EINTR)));
        assert_eq!(ping_all(a.net(), id(2)?, 1), ALL);
        s.open();
        assert!(s.comes(|s| s.held.load(Relaxed) + s.errors.load(Relaxed) == 1));
        assert_eq!(
            (s.errors.load(Relaxed), s.interrupted.load(Relaxed)),
            (0, 0)
        );
        drop(asker);
        let n = Le64::new(2);
        let call = ask_p(&a, 2, 1)?;
        assert!(s.comes(|s| s.waiting.load(Relaxed) == 2));
        let (_, ticket) = s.take_tickets().pop().ok_or(ENOENT)?;
        ticket.answer::<WaitP>(Ok((WaitPRep { n }, KVVec::new())));
        assert!(call.wait().is_ok_and(|(rep, _)| rep.n.get() == 2));
        Ok(())
    }
}
