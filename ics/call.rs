// SPDX-License-Identifier: GPL-2.0

//! Calling.

use crate::error::CallError;
use crate::net;
use crate::pool;
use crate::service::__private::encode;
use crate::service::Caller;
use crate::service::Op;
use crate::service::Status;
use kernel::prelude::*;
use ssi::failpoint::hit;
use ssi::ids::NodeId;

/// Calls `to` and waits for its reply: the fixed part and the tail.
///
/// Sleeps. Class P ends with the task being killed, [`CallError::Interrupted`]; other classes end only with the reply or when `to`
/// is declared down. A call to this node runs the handler here and now.
///
/// # Errors
/// See [`CallError`].
pub fn call<O: Op>(
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
    if tail.len() > crate::MAX_TAIL {
        return Err(CallError::Local(EMSGSIZE));
    }
    let net = net::current().ok_or(CallError::Down(to))?;
    hit(O::ASK).map_err(CallError::Local)?;
    let mut copy = KVVec::new();
    let body = copy
        .extend_from_slice(tail, GFP_KERNEL)
        .map_err(Error::from)
        .and_then(|()| encode(req, copy))
        .map_err(CallError::Local)?;
    let mut reply = if to == net.me.node {
        let from = Caller {
            node: to,
            incarnation: net.me.incarnation,
        };
        pool::handle(from, O::SERVICE, O::OP, &body).map_err(|s| match s {
            Status::Errno(e) => CallError::Remote(e),
            Status::Moved(n) => CallError::Moved(n),
        })?
    } else {
        let peer = net.peer(to).ok_or(CallError::Down(to))?;
        peer.ask(O::SERVICE, O::OP, O::CLASS, body)?
    };
    hit(O::ANSWERED).map_err(CallError::Local)?;
    let fixed = core::mem::size_of::<O::Rep>();
    let (rep, rest) = O::Rep::read_from_prefix(&reply).map_err(|_| CallError::Protocol)?;
    let n = rest.len();
    if fixed > 0 {
        reply.copy_within(fixed.., 0);
        reply.truncate(n);
    }
    Ok((rep, reply))
}

/// Tells `to` something and does not wait for it: it is done there, once, unless one of the two nodes goes down, and
/// after every earlier post of the same class from here. What the handler returns is dropped.
///
/// Sleeps for a credit: a handler may only post to higher classes. A post to this node is done here and now, which only
/// callers without locks may ask for.
///
/// # Errors
/// See [`CallError`].
pub fn post<O: Op>(to: NodeId, req: &O::Req, tail: &[u8]) -> core::result::Result<(), CallError> {
    if tail.len() > crate::MAX_TAIL {
        return Err(CallError::Local(EMSGSIZE));
    }
    let net = net::current().ok_or(CallError::Down(to))?;
    let mut copy = KVVec::new();
    let body = copy
        .extend_from_slice(tail, GFP_KERNEL)
        .map_err(Error::from)
        .and_then(|()| encode(req, copy))
        .map_err(CallError::Local)?;
    if to == net.me.node {
        let from = Caller {
            node: to,
            incarnation: net.me.incarnation,
        };
        let _dropped = pool::handle(from, O::SERVICE, O::OP, &body);
        return Ok(());
    }
    let peer = net.peer(to).ok_or(CallError::Down(to))?;
    peer.post(O::SERVICE, O::OP, O::CLASS, body)
}
