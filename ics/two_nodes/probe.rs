// SPDX-License-Identifier: GPL-2.0

//! What the cases ask, and who answers.

use super::scene::Scene;
use crate::call::Request;
use crate::error::CallError;
use crate::net::Net;
use crate::service::Caller;
use crate::service::Handle;
use crate::service::Op;
use crate::service::Reply;
use crate::service::Status;
use crate::ticket::Later;
use crate::ticket::Replier;
use crate::ticket::Ticket;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;

crate::service! {
    /// What the cases ask.
    service Probe { id: 0xffff, version: 7 }
    /// Answered when the gate is open.
    op 1 Hold (class: L0) {} -> {}
    /// Answered at once, by one more than `n`.
    op 2 PingP (class: P) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 3 PingU (class: U) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 4 PingL1 (class: L1) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 5 PingL2 (class: L2) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 6 PingL3 (class: L3) { n: Le64 } -> { n: Le64 }
    /// As [`PingP`].
    op 7 PingL4 (class: L4) { n: Le64 } -> { n: Le64 }
    /// As [`Hold`], or until it is interrupted.
    op 9 HoldP (class: P) {} -> {}
    /// As many bytes.
    op 8 Fetch (class: L3) { len: Le32 } -> {}
    /// Answered by the case, by one more than `n`.
    op 10 Wait (class: L1) { n: Le64 } -> { n: Le64 }
    /// As [`Wait`].
    op 11 WaitP (class: P) { n: Le64 } -> { n: Le64 }
    /// As [`Fetch`].
    op 12 FetchP (class: P) { len: Le32 } -> {}
    /// As [`Hold`].
    op 13 HoldL4 (class: L4) {} -> {}
}

pub(super) struct Server;

pub(super) static SERVICE: ProbeService<Server> = ProbeService(Server);

fn held() -> Result {
    let s = Scene::now().ok_or(ENODEV)?;
    s.count(&s.holding);
    s.changed.wait_until(|| s.is_open.load(Relaxed) != 0);
    Ok(())
}

impl Handle<Hold> for Server {
    fn handle(&self, _from: Caller, _req: &HoldReq, _tail: &[u8]) -> Reply<Hold> {
        held()?;
        Ok((HoldRep {}, KVVec::new()))
    }
}

impl Handle<HoldL4> for Server {
    fn handle(&self, _from: Caller, _req: &HoldL4Req, _tail: &[u8]) -> Reply<HoldL4> {
        held()?;
        Ok((HoldL4Rep {}, KVVec::new()))
    }
}

impl Handle<HoldP> for Server {
    fn handle(&self, _from: Caller, _req: &HoldPReq, _tail: &[u8]) -> Reply<HoldP> {
        let s = Scene::now().ok_or(ENODEV)?;
        s.count(&s.holding);
        if s.changed
            .wait_interruptible(|| s.is_open.load(Relaxed) != 0)
        {
            return Ok((HoldPRep {}, KVVec::new()));
        }
        s.count(&s.interrupted);
        Err(EINTR.into())
    }
}

fn fetched(len: Le32) -> Result<KVVec<u8>> {
    let s = Scene::now().ok_or(ENODEV)?;
    s.count(&s.pings);
    Ok(KVVec::from_elem(7u8, len.get() as usize, GFP_KERNEL)?)
}

impl Handle<Fetch> for Server {
    fn handle(&self, _from: Caller, req: &FetchReq, _tail: &[u8]) -> Reply<Fetch> {
        Ok((FetchRep {}, fetched(req.len)?))
    }
}

impl Handle<FetchP> for Server {
    fn handle(&self, _from: Caller, req: &FetchPReq, _tail: &[u8]) -> Reply<FetchP> {
        Ok((FetchPRep {}, fetched(req.len)?))
    }
}

/// Takes the tickets of the calls that the case answers.
struct Tickets;

static TICKETS: Tickets = Tickets;

impl Replier for Tickets {
    fn takes(&self, key: u64, ticket: Ticket) {
        let Some(s) = Scene::now() else { return };
        let kept = s.tickets.lock().push((key, ticket), GFP_KERNEL).is_ok();
        s.count(if kept { &s.waiting } else { &s.errors });
    }
}

fn later(n: Le64) -> Status {
    Status::Later(Later {
        to: &TICKETS,
        key: n.get(),
    })
}

impl Handle<Wait> for Server {
    fn handle(&self, _from: Caller, req: &WaitReq, _tail: &[u8]) -> Reply<Wait> {
        Err(later(req.n))
    }
}

impl Handle<WaitP> for Server {
    fn handle(&self, _from: Caller, req: &WaitPReq, _tail: &[u8]) -> Reply<WaitP> {
        Err(later(req.n))
    }
}

/// As `ics::call`, from one of several nodes.
pub(super) fn call_from<O: Op>(
    net: &Net,
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
    let mut request = Request::<O>::new(req, tail.len())?;
    request.extend(tail)?;
    request.send_from(net, to)?.wait()
}

macro_rules! pings {
    ($($op:ident $req:ident $rep:ident),*) => {
        $(
            impl Handle<$op> for Server {
                fn handle(&self, _from: Caller, req: &$req, _tail: &[u8]) -> Reply<$op> {
                    let s = Scene::now().ok_or(ENODEV)?;
                    s.count(&s.pings);
                    Ok(($rep { n: Le64::new(req.n.get().wrapping_add(1)) }, KVVec::new()))
                }
            }
        )*

        /// One call of each class but L0. Returns how many were answered as they should be.
        pub(super) fn ping_all(net: &Net, to: NodeId, n: u64) -> u32 {
            let mut right = 0;
            $(
                let r = call_from::<$op>(net, to, &$req { n: Le64::new(n) }, &[]);
                right += u32::from(r.is_ok_and(|(rep, _)| rep.n.get() == n + 1));
            )*
            right
        }
    };
}

pings!(
    PingP PingPReq PingPRep,
    PingU PingUReq PingURep,
    PingL1 PingL1Req PingL1Rep,
    PingL2 PingL2Req PingL2Rep,
    PingL3 PingL3Req PingL3Rep,
    PingL4 PingL4Req PingL4Rep
);

/// How many calls [`ping_all`] makes.
pub(super) const ALL: u32 = 6;

/// Fetches so many bytes. Returns whether they came.
pub(super) fn fetch(net: &Net, to: NodeId, len: u32) -> bool {
    let req = FetchReq {
        len: Le32::new(len),
    };
    let r = call_from::<Fetch>(net, to, &req, &[]);
    r.is_ok_and(|(_, tail)| tail.len() == len as usize)
}
