// SPDX-License-Identifier: GPL-2.0

//! Answers the other members. Class L4: one step, no waiting for anybody.

use crate::registry::contents;
use crate::registry::proto::*;
use crate::registry::replica::Replica;
use crate::registry::state::Place;
use crate::registry::state::Position;
use crate::registry::state::Stale;
use crate::thread;
use ics::Caller;
use ics::Handle;
use ics::Reply;
use kernel::prelude::*;
use kernel::sync::Arc;

pub(crate) use ics::Registration;

struct Server;

static SERVICE: RegistryService<Server> = RegistryService(Server);

/// Answers from now on.
///
/// # Errors
/// `ENOMEM`; `ENODEV`.
pub(crate) fn register() -> Result<Registration> {
    ics::register(&SERVICE)
}

impl From<Stale> for ics::Status {
    fn from(_: Stale) -> Self {
        Self::Errno(ESTALE)
    }
}

/// This node's copy, and the place of the caller.
fn here(from: Caller) -> Result<(Arc<Replica>, Place)> {
    let replica = thread::replica().ok_or(ENOTCONN)?;
    let place = replica.place(from.node).ok_or(EPROTO)?;
    Ok((replica, place))
}

/// What a request's tail is nothing but.
fn alone<T>((request, rest): (T, &[u8])) -> Result<T> {
    if rest.is_empty() {
        Ok(request)
    } else {
        Err(EPROTO)
    }
}

impl Handle<Want> for Server {
    fn handle(&self, from: Caller, req: &WantReq, tail: &[u8]) -> Reply<Want> {
        let (replica, place) = here(from)?;
        let request = alone(req.request.get(tail, replica.n_nodes())?)?;
        if request.by != place || request.life != from.incarnation.0 {
            return Err(EPROTO.into());
        }
        replica.step(|c| c.wanted(req.view.get(), request));
        Ok((WantRep {}, KVVec::new()))
    }
}

impl Handle<Report> for Server {
    fn handle(&self, from: Caller, req: &ReportReq, _tail: &[u8]) -> Reply<Report> {
        let (replica, place) = here(from)?;
        let at = Position {
            view: req.of.get(),
            seq: req.seq.get(),
        };
        replica.step(|c| c.reported(place, req.view.get(), at));
        Ok((ReportRep {}, KVVec::new()))
    }
}

impl Handle<Fetch> for Server {
    fn handle(&self, from: Caller, req: &FetchReq, _tail: &[u8]) -> Reply<Fetch> {
        let (replica, place) = here(from)?;
        let n = replica.n_nodes();
        replica.look(|c| {
            c.fetch(place, req.view.get())?;
            let of = ssi::wire::Le64::new(c.position().view);
            Ok((FetchRep { of }, contents::encode(c, n)?))
        })
    }
}

impl Handle<Start> for Server {
    fn handle(&self, from: Caller, req: &StartReq, tail: &[u8]) -> Reply<Start> {
        let (replica, place) = here(from)?;
        let whole = if tail.is_empty() {
            None
        } else {
            Some(contents::decode(tail, replica.n_nodes())?)
        };
        replica.step(|c| c.start(place, req.view.get(), whole))?;
        Ok((StartRep {}, KVVec::new()))
    }
}

impl Handle<Append> for Server {
    fn handle(&self, from: Caller, req: &AppendReq, tail: &[u8]) -> Reply<Append> {
        let (replica, place) = here(from)?;
        let request = alone(req.request.get(tail, replica.n_nodes())?)?;
        replica.step(|c| c.append(place, req.view.get(), req.seq.get(), request))?;
        Ok((AppendRep {}, KVVec::new()))
    }
}

impl Handle<Commit> for Server {
    fn handle(&self, from: Caller, req: &CommitReq, _tail: &[u8]) -> Reply<Commit> {
        let (replica, place) = here(from)?;
        replica.step(|c| c.committed(place, req.view.get(), req.seq.get()))?;
        Ok((CommitRep {}, KVVec::new()))
    }
}
