/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything in C that crate ssi calls: the services of the built-in half and those of the shim.
 * bindgen reads this file. Kernel objects are opaque: what needs their layout stays in C.
 */
#ifndef SSI_SHIM_H
#define SSI_SHIM_H

#include <linux/types.h>
#include <linux/ssi.h>
#include <linux/ssi_image.h>

/* kthread.c */
struct task_struct *ssi_kthread_current(void);

#endif /* SSI_SHIM_H */
