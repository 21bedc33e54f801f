// SPDX-License-Identifier: GPL-2.0
/* The tracepoints of all modules. */
#include <linux/module.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"
#include "shim.h"

#ifdef CONFIG_TRACEPOINTS
/* The other modules look at the key themselves, and call only while somebody traces. */
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_ics_asked);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_ics_asked);
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_ics_ended);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_ics_ended);
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_ics_serving);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_ics_serving);
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_ics_served);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_ics_served);
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_clms_view);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_clms_view);
EXPORT_TRACEPOINT_SYMBOL_GPL(ssi_clms_state);
EXPORT_SYMBOL_GPL(rust_do_trace_ssi_clms_state);
#endif
