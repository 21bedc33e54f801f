/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Signals to many processes for a sender on another node. Built-in half in kernel/ssi/signal.c.
 */
#ifndef _LINUX_SSI_SIGNAL_H
#define _LINUX_SSI_SIGNAL_H

#include <linux/types.h>

/* What became of a signal to many. */
struct ssi_signalled {
	u32 sent;			/* processes that have it */
	u32 refused;			/* processes that the sender may not signal */
	s32 error;			/* last other error, or 0 */
};

int pproc_signal_many(u32 pgid, s32 sig, const void *info, u32 sender_sid,
		      struct ssi_signalled *n);

#endif /* _LINUX_SSI_SIGNAL_H */
