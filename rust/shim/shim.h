/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything of the C shim that Rust calls. bindgen reads this file; only crate ssi sees the result.
 * Kernel objects are opaque here: what needs their layout stays in C.
 */
#ifndef SSI_SHIM_H
#define SSI_SHIM_H

#include <linux/types.h>

u32 ssi_shim_version(void);

#endif /* SSI_SHIM_H */
