// SPDX-License-Identifier: GPL-2.0

//! Calling.

use crate::error::CallError;
use crate::net;
use crate::net::Net;
use crate::service::__private::encode;
use crate::service::Op;
use crate::service::OpId;
use crate::service::Status;
use kernel::prelude::*;
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
    let net = net::current().ok_or(CallError::Down(to))?;
    call_from::<O>(&net, to, req, tail)
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
    let net = net::current().ok_or(CallError::Down(to))?;
    post_from::<O>(&net, to, req, tail)
}

/// The bytes of a request.
fn body<O: Op>(req: &O::Req, tail: &[u8]) -> core::result::Result<KVVec<u8>, CallError> {
    if tail.len() > crate::MAX_TAIL {
        return Err(CallError::Local(EMSGSIZE));
    }
    let mut copy = KVVec::new();
    copy.extend_from_slice(tail, GFP_KERNEL)
        .map_err(Error::from)
        .and_then(|()| encode(req, copy))
        .map_err(CallError::Local)
}

/// As [`call`], from a node that this kernel may have several of.
pub(crate) fn call_from<O: Op>(
    net: &Net,
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(O::Rep, KVVec<u8>), CallError> {
    let body = body::<O>(req, tail)?;
    let mut reply = if to == net.me.node {
        let handled = net.pool.handle(net.myself(), &OpId::of::<O>(), &body);
        handled.map_err(|s| match s {
            Status::Errno(e) => CallError::Remote(e),
            Status::Moved(n) => CallError::Moved(n),
        })?
    } else {
        let peer = net.peer(to).ok_or(CallError::Down(to))?;
        peer.ask(OpId::of::<O>(), body)?
    };
    let fixed = core::mem::size_of::<O::Rep>();
    let (rep, rest) = O::Rep::read_from_prefix(&reply).map_err(|_| CallError::Protocol)?;
    let n = rest.len();
    if fixed > 0 {
        reply.copy_within(fixed.., 0);
        reply.truncate(n);
    }
    Ok((rep, reply))
}

/// As [`post`], from a node that this kernel may have several of.
pub(crate) fn post_from<O: Op>(
    net: &Net,
    to: NodeId,
    req: &O::Req,
    tail: &[u8],
) -> core::result::Result<(), CallError> {
    let body = body::<O>(req, tail)?;
    if to == net.me.node {
        let _dropped = net.pool.handle(net.myself(), &OpId::of::<O>(), &body);
        return Ok(());
    }
    let peer = net.peer(to).ok_or(CallError::Down(to))?;
    peer.post(OpId::of::<O>(), body)
}
