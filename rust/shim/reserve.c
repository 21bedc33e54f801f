// SPDX-License-Identifier: GPL-2.0
/*
 * Pools of memory: what is a macro in linux/mempool.h. See rust/reserve.rs.
 */
#include <linux/export.h>
#include <linux/mempool.h>
#include "shim.h"

/* Return: a pool that keeps @n pieces of @size bytes, or NULL. Context: may sleep. */
struct mempool *ssi_reserve_create(int n, size_t size)
{
	return mempool_create_kmalloc_pool(n, size);
}
EXPORT_SYMBOL_GPL(ssi_reserve_create);

/* Return: a piece, or NULL: never where @gfp may sleep. */
void *ssi_reserve_alloc(struct mempool *pool, gfp_t gfp)
{
	return mempool_alloc(pool, gfp);
}
EXPORT_SYMBOL_GPL(ssi_reserve_alloc);
