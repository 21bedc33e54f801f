/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Further steps to processes, beside those of <linux/ssi.h>, which most of the kernel includes.
 */
#ifndef _LINUX_SSI_PROCESS_H
#define _LINUX_SSI_PROCESS_H

#include <linux/types.h>

/* kernel/ssi/move.c */
bool pproc_has_execed(void);

/* kernel/ssi/signal.c. What became of a signal to many. */
struct ssi_signalled {
	u32 sent;			/* processes that have it */
	u32 refused;			/* processes that the sender may not signal */
	s32 error;			/* last other error, or 0 */
};

int pproc_signal_many(u32 pgid, s32 sig, const void *info, u32 sender_sid,
		      struct ssi_signalled *n);

#endif /* _LINUX_SSI_PROCESS_H */
