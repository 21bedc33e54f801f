/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KERNEL_SSI_TIMERS_H
#define _KERNEL_SSI_TIMERS_H

#include <linux/types.h>

#define SSI_TIMERS_MAX		256

/* A timer of a process in its image. */
enum ssi_timer_kind {
	SSI_TIMER_ITIMER,		/* @id: ITIMER_* */
	SSI_TIMER_POSIX,		/* @id: as from timer_create() */
};

struct ssi_timer_image {
	u32 kind;
	s32 id;
	s32 clock;
	s32 notify;			/* SIGEV_* */
	s32 sig;
	u32 reserved;
	u64 value;			/* that goes with the signal */
	u64 remaining_ns;		/* 0: does not run */
	u64 interval_ns;
};

int ssi_timers_check(char *why, size_t len);
int ssi_timers_stop(struct ssi_timer_image *img, u32 max);
int ssi_timers_create(const struct ssi_timer_image *img, u32 n);
int ssi_timers_set(const struct ssi_timer_image *img, u32 n, u64 elapsed_ns);

#endif /* _KERNEL_SSI_TIMERS_H */
