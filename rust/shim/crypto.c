// SPDX-License-Identifier: GPL-2.0
/*
 * Keyed BLAKE2s over several pieces, and the tag of a frame.
 */
#include <crypto/blake2s.h>
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
	static const char bodies[] = "OpenSSI frames: bodies";
	static const char frames[] = "OpenSSI frames: tags";
	const struct ssi_piece b = { bodies, sizeof(bodies) - 1 }, f = { frames, sizeof(frames) - 1 };

	ssi_mac((u8 *)k->body, sizeof(k->body), key, 32, &b, 1);
	ssi_mac((u8 *)k->frame, sizeof(k->frame), key, 32, &f, 1);
	for (int i = 0; i < ARRAY_SIZE(k->body); i++) {
		le64_to_cpus(&k->body[i]);
		le64_to_cpus(&k->frame[i]);
	}
}
EXPORT_SYMBOL_GPL(ssi_frame_key_init);

/* What a body, or a piece of one, goes into the tag as. */
u64 ssi_body_sum(const struct ssi_frame_key *k, const u8 *bytes, size_t len)
{
	const siphash_key_t inner = { { k->body[0], k->body[1] } };

	return siphash(bytes, len, &inner);
}
EXPORT_SYMBOL_GPL(ssi_body_sum);

/* The tag of a frame: SipHash-2-4 over its head and what its body comes to. */
u64 ssi_frame_tag(const struct ssi_frame_key *k, const u8 *head, u64 sum)
{
	const siphash_key_t outer = { { k->frame[0], k->frame[1] } };
	u64 all[SSI_FRAME_HEAD / sizeof(u64) + 1];

	memcpy(all, head, SSI_FRAME_HEAD);
	all[ARRAY_SIZE(all) - 1] = cpu_to_le64(sum);
	return siphash(all, sizeof(all), &outer);
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
