// SPDX-License-Identifier: GPL-2.0
/*
 * Keyed BLAKE2s over several pieces.
 */
#include <crypto/blake2s.h>
#include <crypto/utils.h>
#include <linux/random.h>
#include <linux/export.h>
#include "shim.h"

void ssi_mac(u8 *out, u32 out_len, const u8 *key, u32 key_len, const struct ssi_piece *pieces, u32 n)
{
	struct blake2s_ctx ctx;

	blake2s_init_key(&ctx, out_len, key, key_len);
	for (u32 i = 0; i < n; i++)
		blake2s_update(&ctx, pieces[i].data, pieces[i].len);
	blake2s_final(&ctx, out);
}
EXPORT_SYMBOL_GPL(ssi_mac);

/* Compares in constant time. */
bool ssi_mac_equal(const u8 *a, const u8 *b, u32 len)
{
	return !crypto_memneq(a, b, len);
}
EXPORT_SYMBOL_GPL(ssi_mac_equal);

void ssi_random(u8 *out, u32 len)
{
	get_random_bytes(out, len);
}
EXPORT_SYMBOL_GPL(ssi_random);
