// SPDX-License-Identifier: GPL-2.0

//! Calling.

use crate::bytes::Bytes;
use crate::bytes::Text;
use crate::bytes::SHORT;
use crate::error::CallError;
use crate::net;
use crate::net::Net;
use crate::peer::Asked;
use crate::service::Class;
use crate::service::Op;
use crate::service::OpId;
use crate::service::Status;
use crate::ticket::Here;
use crate::ticket::Ticket;
use core::marker::PhantomData;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::Msecs;
use ssi::failpoint::hit;
use ssi::ids::NodeId;

/// Calls `to` and waits for its reply: the fixed part and the tail.
///
/// Sleeps. Class P ends with the task being killed, [`CallError::Interrupted`]; other classes end only with the reply or when `to`
/// is declared down. A call to this node runs the handler here and now; what replies later is waited for in the same way.
///
/// # Errors
/// See [`CallError`].
pub fn call<O: Op>(
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
    ask::<O>(to, req, tail)?.wait()
}

/// As [`call`], but does not wait for the reply: several calls to a node may be under way. In which order they are answered is not
/// known. One that nobody waits for is done all the same.
///
/// A short call of class L4 needs no memory but what is kept for it; that is for 64 calls to a node, and who asks for more waits for
/// earlier ones first. Sleeps for a credit. A call to this node runs the handler here and now.
///
/// # Errors
/// See [`CallError`].
pub fn ask<O: Op>(
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<UnderWay<O>, CallError> {
    let net = net::current().ok_or(CallError::Down(to))?;
    ask_from(&net, to, req, tail)
}

/// As [`ask`], from a node that this kernel may have several of.
pub(crate) fn ask_from<O: Op>(
    net: &Net,
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<UnderWay<O>, CallError> {
    let fixed = req.as_bytes();
    if fixed.len() + tail.len() > SHORT {
        let mut request = Request::<O>::new(req, tail.len())?;
        request.extend(tail)?;
        return request.send_from(net, to);
    }
    send::<O>(net, to, Text::Short(fixed, tail), None)
}

/// Sends a request whose length is right.
fn send<O: Op>(
    net: &Net,
    to: NodeId,
    text: Text<'_>,
    room: Option<KVVec<u8>>,
) -> core::result::Result<UnderWay<O>, CallError> {
    hit(O::ASK).map_err(CallError::Local)?;
    let op = OpId::of::<O>();
    let state = if to == net.me.node {
        let body = net.body(O::CLASS, text).map_err(CallError::Local)?;
        let mut here = None;
        let ticket = || Ticket::here(here.insert(Here::new()).clone());
        match net.pool.handle(net.myself(), &op, &body, ticket) {
            Some(answered) => State::Done(answered.map_err(refused)?),
            None => State::Here(here.ok_or(CallError::Protocol)?),
        }
    } else {
        let peer = net.peer(to).ok_or(CallError::Down(to))?;
        State::Asked(peer.ask(op, text, room)?)
    };
    Ok(UnderWay {
        state,
        op: PhantomData,
    })
}

/// A call that is being written: its fixed part, and as much of its tail as there is so far.
pub struct Request<O: Op> {
    body: Bytes,
    room: Option<KVVec<u8>>,
    op: PhantomData<O>,
}

impl<O: Op> Request<O> {
    /// With room for a tail of `len` bytes.
    ///
    /// # Errors
    /// `Local`: `EMSGSIZE`, `ENOMEM`.
    pub fn new(req: &O::Req, len: usize) -> core::result::Result<Self, CallError> {
        if len > crate::MAX_TAIL {
            return Err(CallError::Local(EMSGSIZE));
        }
        Ok(Self {
            body: Bytes::with_room(req.as_bytes(), len).map_err(CallError::Local)?,
            room: None,
            op: PhantomData,
        })
    }

    /// Adds to the tail.
    ///
    /// # Errors
    /// `Local`: `ENOMEM`.
    pub fn extend(&mut self, tail: &[u8]) -> core::result::Result<(), CallError> {
        self.body.extend(tail).map_err(CallError::Local)
    }

    /// Adds `len` zeros to the tail, to be written over.
    ///
    /// # Errors
    /// `Local`: `ENOMEM`.
    pub fn extend_zeroed(&mut self, len: usize) -> core::result::Result<&mut [u8], CallError> {
        self.body.extend_zeroed(len).map_err(CallError::Local)
    }

    /// Memory for the reply: one of more than 8 KiB from another node is received into it, with its fixed part, if there is room for that,
    /// and then is what [`UnderWay::wait`] gives. Otherwise it is freed. What it holds is lost.
    pub fn with_room(mut self, mut room: KVVec<u8>) -> Self {
        room.clear();
        self.room = Some(room);
        self
    }

    /// Asks, as [`ask`] does.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn send(self, to: NodeId) -> core::result::Result<UnderWay<O>, CallError> {
        let net = net::current().ok_or(CallError::Down(to))?;
        self.send_from(&net, to)
    }

    /// As [`Self::send`], from a node that this kernel may have several of.
    pub(crate) fn send_from(
        self,
        net: &Net,
        to: NodeId,
    ) -> core::result::Result<UnderWay<O>, CallError> {
        let fixed = core::mem::size_of::<O::Req>();
        if self.body.len().saturating_sub(fixed) > crate::MAX_TAIL {
            return Err(CallError::Local(EMSGSIZE));
        }
        send(net, to, Text::Made(self.body), self.room)
    }
}

/// A refusal of this node itself.
fn refused(status: Status) -> CallError {
    match status {
        Status::Errno(e) => CallError::Remote(e),
        Status::Moved(n) => CallError::Moved(n),
        Status::Later(_) => CallError::Protocol,
    }
}

enum State {
    Done(Bytes),
    Asked(Asked),
    /// This node replies to itself later.
    Here(Arc<Here>),
}

/// Waits as [`Asked::wait`] does, or not longer than that.
fn wait_here<O: Op>(
    here: &Here,
    timeout_ms: Option<Msecs>,
) -> core::result::Result<Bytes, CallError> {
    let mut answered = None;
    let take = || {
        answered = here.take();
        answered.is_some()
    };
    match timeout_ms {
        Some(ms) => {
            here.done().wait_timeout(ms, take);
        }
        None if O::CLASS == Class::P => {
            here.done().wait_killable(take);
        }
        None => here.done().wait_until(take),
    }
    here.give_up();
    match answered.or_else(|| here.take()) {
        Some(answered) => answered.map_err(refused),
        None => Err(CallError::Interrupted),
    }
}

/// A call whose reply has not been looked at yet.
pub struct UnderWay<O: Op> {
    state: State,
    op: PhantomData<O>,
}

impl<O: Op> UnderWay<O> {
    /// Waits for the reply as [`call`] does.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn wait(self) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
        let reply = match self.state {
            State::Done(r) => r,
            State::Asked(a) => a.wait()?,
            State::Here(here) => wait_here::<O>(&here, None)?,
        };
        Self::read(reply)
    }

    /// Waits for the reply, in any class, but not longer than that; then the call is cancelled, and done or not.
    ///
    /// # Errors
    /// See [`CallError`]; `Interrupted`: it took too long.
    pub fn wait_for(
        self,
        timeout_ms: Msecs,
    ) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
        let reply = match self.state {
            State::Done(r) => r,
            State::Asked(a) => a.wait_for(timeout_ms)?,
            State::Here(here) => wait_here::<O>(&here, Some(timeout_ms))?,
        };
        Self::read(reply)
    }

    fn read(reply: Bytes) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
        hit(O::ANSWERED).map_err(CallError::Local)?;
        let fixed = core::mem::size_of::<O::Rep>();
        let (rep, _) = O::Rep::read_from_prefix(&reply).map_err(|_| CallError::Protocol)?;
        let tail = reply.into_tail(fixed).map_err(CallError::Local)?;
        Ok((rep, tail))
    }
}

/// Tells `to` something and does not wait for it: it is done there, once, unless one of the two nodes goes down, and
/// after every earlier post of the same class from here. What the handler returns is dropped.
///
/// Sleeps for a credit: a handler may only post to higher classes. A post to this node is done here and now, which only
/// callers without locks may ask for.
///
/// # Errors
/// See [`CallError`]; `Interrupted`: the task was killed while one of class P waited for its credit, and it is not done.
pub fn post<O: Op>(to: NodeId, req: &O::Req, tail: &[u8]) -> core::result::Result<(), CallError> {
    let net = net::current().ok_or(CallError::Down(to))?;
    let fixed = req.as_bytes();
    let text = if fixed.len() + tail.len() > SHORT {
        let mut request = Request::<O>::new(req, tail.len())?;
        request.extend(tail)?;
        Text::Made(request.body)
    } else {
        Text::Short(fixed, tail)
    };
    if to == net.me.node {
        let body = net.body(O::CLASS, text).map_err(CallError::Local)?;
        let nobody = || Ticket::NOBODY;
        let _dropped = net
            .pool
            .handle(net.myself(), &OpId::of::<O>(), &body, nobody);
        return Ok(());
    }
    let peer = net.peer(to).ok_or(CallError::Down(to))?;
    peer.post(OpId::of::<O>(), text)
}
