/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of tracefs, "ssi:*": calls between nodes, views, states of nodes. Services and ops are numbers, which
 * `cluster ics show --json` names.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ssi

#if !defined(SSI_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SSI_TRACE_H

#include <linux/tracepoint.h>

/* A request, at the end that asks or at the one that answers. */
DECLARE_EVENT_CLASS(ssi_ics_request,
	TP_PROTO(u32 node, u8 class, u16 service, u16 op, u64 xid, size_t bytes),
	TP_ARGS(node, class, service, op, xid, bytes),
	TP_STRUCT__entry(
		__field(u64, xid)
		__field(size_t, bytes)
		__field(u32, node)
		__field(u16, service)
		__field(u16, op)
		__field(u8, class)
	),
	TP_fast_assign(
		__entry->xid = xid;
		__entry->bytes = bytes;
		__entry->node = node;
		__entry->service = service;
		__entry->op = op;
		__entry->class = class;
	),
	TP_printk("node=%u xid=%llu class=%u service=%u op=%u bytes=%zu",
		  __entry->node, __entry->xid, __entry->class, __entry->service, __entry->op, __entry->bytes)
);

/* A call or post to @node begins; "ssi_ics_ended" with that node and xid is its end. */
DEFINE_EVENT(ssi_ics_request, ssi_ics_asked,
	TP_PROTO(u32 node, u8 class, u16 service, u16 op, u64 xid, size_t bytes),
	TP_ARGS(node, class, service, op, xid, bytes)
);

/* A handler begins to answer a request of @node; "ssi_ics_served" is its end. */
DEFINE_EVENT(ssi_ics_request, ssi_ics_serving,
	TP_PROTO(u32 node, u8 class, u16 service, u16 op, u64 xid, size_t bytes),
	TP_ARGS(node, class, service, op, xid, bytes)
);

/* @how: 0 replied, 1 refused, 2 lost: the node, or who asked, is gone. */
TRACE_EVENT(ssi_ics_ended,
	TP_PROTO(u32 node, u16 service, u16 op, u64 xid, u8 how, size_t bytes, u64 ns),
	TP_ARGS(node, service, op, xid, how, bytes, ns),
	TP_STRUCT__entry(
		__field(u64, xid)
		__field(u64, ns)
		__field(size_t, bytes)
		__field(u32, node)
		__field(u16, service)
		__field(u16, op)
		__field(u8, how)
	),
	TP_fast_assign(
		__entry->xid = xid;
		__entry->ns = ns;
		__entry->bytes = bytes;
		__entry->node = node;
		__entry->service = service;
		__entry->op = op;
		__entry->how = how;
	),
	TP_printk("node=%u xid=%llu service=%u op=%u %s bytes=%zu ns=%llu",
		  __entry->node, __entry->xid, __entry->service, __entry->op,
		  __print_symbolic(__entry->how, { 0, "replied" }, { 1, "refused" }, { 2, "lost" }),
		  __entry->bytes, __entry->ns)
);

/* @error: 0, or a negative errno. */
TRACE_EVENT(ssi_ics_served,
	TP_PROTO(u32 node, u16 service, u16 op, u64 xid, int error),
	TP_ARGS(node, service, op, xid, error),
	TP_STRUCT__entry(
		__field(u64, xid)
		__field(u32, node)
		__field(int, error)
		__field(u16, service)
		__field(u16, op)
	),
	TP_fast_assign(
		__entry->xid = xid;
		__entry->node = node;
		__entry->error = error;
		__entry->service = service;
		__entry->op = op;
	),
	TP_printk("node=%u xid=%llu service=%u op=%u error=%d",
		  __entry->node, __entry->xid, __entry->service, __entry->op, __entry->error)
);

/* A view begins to be carried out. */
TRACE_EVENT(ssi_clms_view,
	TP_PROTO(u64 view, u32 members, u32 master),
	TP_ARGS(view, members, master),
	TP_STRUCT__entry(
		__field(u64, view)
		__field(u32, members)
		__field(u32, master)
	),
	TP_fast_assign(
		__entry->view = view;
		__entry->members = members;
		__entry->master = master;
	),
	TP_printk("view=%llu members=%u master=%u", __entry->view, __entry->members, __entry->master)
);

/* A node has another state here; states and causes as in <linux/ssi_clms.h>. */
TRACE_EVENT(ssi_clms_state,
	TP_PROTO(u32 node, u8 from, u8 to, u8 cause),
	TP_ARGS(node, from, to, cause),
	TP_STRUCT__entry(
		__field(u32, node)
		__field(u8, from)
		__field(u8, to)
		__field(u8, cause)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->from = from;
		__entry->to = to;
		__entry->cause = cause;
	),
	TP_printk("node=%u from=%u to=%u cause=%u", __entry->node, __entry->from, __entry->to, __entry->cause)
);

#endif

/* Where it is, for a header that is read several times. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
