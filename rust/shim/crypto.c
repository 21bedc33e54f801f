// SPDX-License-Identifier: GPL-2.0
/*
 * Keyed BLAKE2s over several pieces, and the tag of a frame.
 */
#include <crypto/blake2s.h>
#include <crypto/poly1305.h>
#include <crypto/utils.h>
#include <linux/random.h>
#include <linux/siphash.h>
#include <linux/string.h>
#include <linux/unaligned.h>
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

/* Makes what tags frames from the 32 bytes of a key. */
void ssi_frame_key_init(struct ssi_frame_key *k, const u8 *key)
{
	static const char mult[] = "OpenSSI frames: multiplier";
	static const char pads[] = "OpenSSI frames: pads";
	const struct ssi_piece m = { mult, sizeof(mult) - 1 }, p = { pads, sizeof(pads) - 1 };

	ssi_mac(k->r, sizeof(k->r), key, 32, &m, 1);
	ssi_mac((u8 *)k->pads, sizeof(k->pads), key, 32, &p, 1);
	for (int i = 0; i < ARRAY_SIZE(k->pads); i++)
		le64_to_cpus(&k->pads[i]);
}
EXPORT_SYMBOL_GPL(ssi_frame_key_init);

/*
 * Bytes that go to Poly1305 at a time: below 288 the library stays out of the vector registers. Those cost saving the
 * FPU's state, and make a page four times as slow where the processor is emulated.
 */
#define SSI_TAG_STEP	256

/*
 * The tag of frame @number: Poly1305 with the key's multiplier, plus a pad that the number gives (Bernstein, "The
 * Poly1305-AES message-authentication code", with SipHash in the place of AES). Each piece counts as filled up with
 * zeros to blocks, so that lengths must be part of what is tagged. A number must never be used twice with a key.
 */
void ssi_frame_tag(u8 *tag, const struct ssi_frame_key *k, u64 number, const struct ssi_piece *pieces, u32 n)
{
	const siphash_key_t low = { { k->pads[0], k->pads[1] } }, high = { { k->pads[2], k->pads[3] } };
	static const u8 zeros[POLY1305_BLOCK_SIZE];
	struct poly1305_desc_ctx ctx;
	u8 key[POLY1305_KEY_SIZE];

	memcpy(key, k->r, sizeof(k->r));
	put_unaligned_le64(siphash_1u64(number, &low), key + 16);
	put_unaligned_le64(siphash_1u64(number, &high), key + 24);
	poly1305_init(&ctx, key);
	for (u32 i = 0; i < n; i++) {
		const u8 *data = pieces[i].data;
		size_t left = pieces[i].len;

		while (left) {
			unsigned int step = min_t(size_t, left, SSI_TAG_STEP);

			poly1305_update(&ctx, data, step);
			data += step;
			left -= step;
		}
		poly1305_update(&ctx, zeros, -pieces[i].len % POLY1305_BLOCK_SIZE);
	}
	poly1305_final(&ctx, tag);
	memzero_explicit(key, sizeof(key));
}
EXPORT_SYMBOL_GPL(ssi_frame_tag);

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
