// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: the events `ssi:*` of tracefs, which `rust/shim/trace.h` describes. One that nobody traces is a no-op and a few
//! moves. Any context.

use crate::bindings;
use crate::ids::NodeId;

/// Calls `$call` with these while `$key` is traced.
macro_rules! trace {
    ($key:ident, $call:ident($($arg:expr),* $(,)?)) => {
        #[cfg(CONFIG_TRACEPOINTS)]
        {
            // SAFETY: `$key` is a tracepoint, which has a static key.
            let is_traced = unsafe {
                kernel::jump_label::static_branch_unlikely!(
                    bindings::$key,
                    bindings::tracepoint,
                    key
                )
            };
            if is_traced {
                // SAFETY: It takes values, in any context in which RCU watches: all in which modules run.
                unsafe { bindings::$call($($arg),*) };
            }
        }
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let _unused = ($($arg),*);
    };
}

/// What a request names: class, service and op by their numbers, its number, and the bytes of its body.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The class.
    pub class: u8,
    /// The service.
    pub service: u16,
    /// The op of the service.
    pub op: u16,
    /// Its number among those between the two nodes.
    pub xid: u64,
    /// Bytes of its body.
    pub bytes: usize,
}

/// A call or post to a node begins.
#[inline(always)]
pub fn ics_asked(to: NodeId, r: Request) {
    trace!(
        __tracepoint_ssi_ics_asked,
        rust_do_trace_ssi_ics_asked(to.number(), r.class, r.service, r.op, r.xid, r.bytes)
    );
}

/// It ends after `ns`. `how`: 0 replied, 1 refused, 2 lost; `bytes` of its reply.
#[inline(always)]
pub fn ics_ended(to: NodeId, r: Request, how: u8, bytes: usize, ns: u64) {
    trace!(
        __tracepoint_ssi_ics_ended,
        rust_do_trace_ssi_ics_ended(to.number(), r.service, r.op, r.xid, how, bytes, ns)
    );
}

/// A handler begins to answer a request of a node.
#[inline(always)]
pub fn ics_serving(from: NodeId, r: Request) {
    trace!(
        __tracepoint_ssi_ics_serving,
        rust_do_trace_ssi_ics_serving(from.number(), r.class, r.service, r.op, r.xid, r.bytes)
    );
}

/// It has answered. `error`: 0, or a negative errno.
#[inline(always)]
pub fn ics_served(from: NodeId, r: Request, error: i32) {
    trace!(
        __tracepoint_ssi_ics_served,
        rust_do_trace_ssi_ics_served(from.number(), r.service, r.op, r.xid, error)
    );
}

/// A view of so many members begins to be carried out. `master`: 0, none.
#[inline(always)]
pub fn clms_view(view: u64, members: u32, master: u32) {
    trace!(
        __tracepoint_ssi_clms_view,
        rust_do_trace_ssi_clms_view(view, members, master)
    );
}

/// A node has another state here; states and causes by the numbers that netlink has for them.
#[inline(always)]
pub fn clms_state(node: NodeId, from: u8, to: u8, cause: u8) {
    trace!(
        __tracepoint_ssi_clms_state,
        rust_do_trace_ssi_clms_state(node.number(), from, to, cause)
    );
}
