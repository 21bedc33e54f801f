/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_ics.yaml */
/* YNL-GEN uapi header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _UAPI_LINUX_SSI_ICS_H
#define _UAPI_LINUX_SSI_ICS_H

#define SSI_ICS_FAMILY_NAME	"ssi_ics"
#define SSI_ICS_FAMILY_VERSION	1

#define SSI_ICS_BUCKETS	24

/**
 * enum ssi_ics_link_state - What a link does for this node.
 * @SSI_ICS_LINK_STATE_IDLE: Nothing, though nothing is wrong with it as far as
 *   this node knows.
 * @SSI_ICS_LINK_STATE_USED: It carries the stream to the node.
 * @SSI_ICS_LINK_STATE_SILENT: It misses heartbeats of the node that another
 *   link brings.
 * @SSI_ICS_LINK_STATE_UNKNOWN: Not one link, but streams of which the link is
 *   not known.
 */
enum ssi_ics_link_state {
	SSI_ICS_LINK_STATE_IDLE,
	SSI_ICS_LINK_STATE_USED,
	SSI_ICS_LINK_STATE_SILENT,
	SSI_ICS_LINK_STATE_UNKNOWN,
};

#define SSI_ICS_MAX_KEY_LEN	64

/**
 * enum ssi_ics_key_second - What the second key that a node hears is to the
 *   one that it uses.
 * @SSI_ICS_KEY_SECOND_NONE: There is none.
 * @SSI_ICS_KEY_SECOND_NEXT: It is staged, to be used next.
 * @SSI_ICS_KEY_SECOND_OLD: It was used before, and is not dropped yet.
 */
enum ssi_ics_key_second {
	SSI_ICS_KEY_SECOND_NONE,
	SSI_ICS_KEY_SECOND_NEXT,
	SSI_ICS_KEY_SECOND_OLD,
};

enum {
	SSI_ICS_A_OP_SERVICE = 1,
	SSI_ICS_A_OP_OP,
	SSI_ICS_A_OP_SERVICE_ID,
	SSI_ICS_A_OP_OP_ID,
	SSI_ICS_A_OP_CLASS,
	SSI_ICS_A_OP_CALLS,
	SSI_ICS_A_OP_REPLIES,
	SSI_ICS_A_OP_ERRORS,
	SSI_ICS_A_OP_BYTES_OUT,
	SSI_ICS_A_OP_BYTES_IN,
	SSI_ICS_A_OP_SERVED,
	SSI_ICS_A_OP_SERVED_ERRORS,
	SSI_ICS_A_OP_LATENCY,

	__SSI_ICS_A_OP_MAX,
	SSI_ICS_A_OP_MAX = (__SSI_ICS_A_OP_MAX - 1)
};

enum {
	SSI_ICS_A_LINK_NODE = 1,
	SSI_ICS_A_LINK_LINK,
	SSI_ICS_A_LINK_ADDRESS,
	SSI_ICS_A_LINK_STATE,
	SSI_ICS_A_LINK_STREAMS,
	SSI_ICS_A_LINK_FRAMES_OUT,
	SSI_ICS_A_LINK_BYTES_OUT,
	SSI_ICS_A_LINK_FRAMES_IN,
	SSI_ICS_A_LINK_BYTES_IN,
	SSI_ICS_A_LINK_RESENT,

	__SSI_ICS_A_LINK_MAX,
	SSI_ICS_A_LINK_MAX = (__SSI_ICS_A_LINK_MAX - 1)
};

enum {
	SSI_ICS_A_KEY_NODE = 1,
	SSI_ICS_A_KEY_USED,
	SSI_ICS_A_KEY_SECOND,
	SSI_ICS_A_KEY_SECOND_IS,
	SSI_ICS_A_KEY_SECRET,

	__SSI_ICS_A_KEY_MAX,
	SSI_ICS_A_KEY_MAX = (__SSI_ICS_A_KEY_MAX - 1)
};

enum {
	SSI_ICS_CMD_OP_GET = 1,
	SSI_ICS_CMD_LINK_GET,
	SSI_ICS_CMD_KEY_GET,
	SSI_ICS_CMD_KEY_STAGE,
	SSI_ICS_CMD_KEY_UNSTAGE,
	SSI_ICS_CMD_KEY_SWITCH,
	SSI_ICS_CMD_KEY_DROP,

	__SSI_ICS_CMD_MAX,
	SSI_ICS_CMD_MAX = (__SSI_ICS_CMD_MAX - 1)
};

#endif /* _UAPI_LINUX_SSI_ICS_H */
