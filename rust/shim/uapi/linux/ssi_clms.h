/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_clms.yaml */
/* YNL-GEN uapi header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _UAPI_LINUX_SSI_CLMS_H
#define _UAPI_LINUX_SSI_CLMS_H

#define SSI_CLMS_FAMILY_NAME	"ssi_clms"
#define SSI_CLMS_FAMILY_VERSION	1

#define SSI_CLMS_MAX_KEY_LEN	64
#define SSI_CLMS_MAX_NAME_LEN	64

/**
 * enum ssi_clms_node_state - The eight states of a node.
 * @SSI_CLMS_NODE_STATE_NEVERUP: Configured, and not seen since this node
 *   joined. Also the own state before a join.
 * @SSI_CLMS_NODE_STATE_COMINGUP: Admitted, and not yet part of every member's
 *   view.
 * @SSI_CLMS_NODE_STATE_UP: A full member.
 * @SSI_CLMS_NODE_STATE_SHUTDOWN: Asked to leave; its services are being
 *   stopped.
 * @SSI_CLMS_NODE_STATE_GOINGDOWN: Lost or leaving; not judged dead yet.
 * @SSI_CLMS_NODE_STATE_KCLEANUP: Judged dead; the kernel is cleaning up behind
 *   it.
 * @SSI_CLMS_NODE_STATE_UCLEANUP: The kernel has cleaned up; user space is
 *   cleaning up behind it.
 * @SSI_CLMS_NODE_STATE_DOWN: Gone, and nothing of it is left.
 */
enum ssi_clms_node_state {
	SSI_CLMS_NODE_STATE_NEVERUP,
	SSI_CLMS_NODE_STATE_COMINGUP,
	SSI_CLMS_NODE_STATE_UP,
	SSI_CLMS_NODE_STATE_SHUTDOWN,
	SSI_CLMS_NODE_STATE_GOINGDOWN,
	SSI_CLMS_NODE_STATE_KCLEANUP,
	SSI_CLMS_NODE_STATE_UCLEANUP,
	SSI_CLMS_NODE_STATE_DOWN,
};

enum {
	SSI_CLMS_A_CLMS_NAME = 1,
	SSI_CLMS_A_CLMS_VIEW,
	SSI_CLMS_A_CLMS_QUORATE,
	SSI_CLMS_A_CLMS_MASTER,
	SSI_CLMS_A_CLMS_THIS_NODE,
	SSI_CLMS_A_CLMS_NODE,
	SSI_CLMS_A_CLMS_KEY,
	SSI_CLMS_A_CLMS_DETECT_MS,
	SSI_CLMS_A_CLMS_STATE,
	SSI_CLMS_A_CLMS_FENCE_DIGEST = 40,
	SSI_CLMS_A_CLMS_FENCE_TIMEOUT_MS,
	SSI_CLMS_A_CLMS_FENCE,

	__SSI_CLMS_A_CLMS_MAX,
	SSI_CLMS_A_CLMS_MAX = (__SSI_CLMS_A_CLMS_MAX - 1)
};

enum {
	SSI_CLMS_A_NODE_ID = 1,
	SSI_CLMS_A_NODE_NAME,
	SSI_CLMS_A_NODE_STATE,
	SSI_CLMS_A_NODE_INCARNATION,
	SSI_CLMS_A_NODE_ADDRESS,
	SSI_CLMS_A_NODE_PORT,
	SSI_CLMS_A_NODE_FENCE = 40,
	SSI_CLMS_A_NODE_DETECTION_MS,
	SSI_CLMS_A_NODE_JUDGEMENT_MS,

	__SSI_CLMS_A_NODE_MAX,
	SSI_CLMS_A_NODE_MAX = (__SSI_CLMS_A_NODE_MAX - 1)
};

enum {
	SSI_CLMS_A_FENCE_NODE = 1,
	SSI_CLMS_A_FENCE_INCARNATION,
	SSI_CLMS_A_FENCE_JOB,
	SSI_CLMS_A_FENCE_STATUS,
	SSI_CLMS_A_FENCE_TEXT,
	SSI_CLMS_A_FENCE_BY_AGENT,

	__SSI_CLMS_A_FENCE_MAX,
	SSI_CLMS_A_FENCE_MAX = (__SSI_CLMS_A_FENCE_MAX - 1)
};

enum {
	SSI_CLMS_CMD_STATUS = 1,
	SSI_CLMS_CMD_JOIN,
	SSI_CLMS_CMD_LEAVE,
	SSI_CLMS_CMD_FENCE_LIST = 20,
	SSI_CLMS_CMD_FENCE_DONE,
	SSI_CLMS_CMD_FENCE_CONFIRM,
	SSI_CLMS_CMD_FENCE_WANTED,

	__SSI_CLMS_CMD_MAX,
	SSI_CLMS_CMD_MAX = (__SSI_CLMS_CMD_MAX - 1)
};

#define SSI_CLMS_MCGRP_FENCE	"fence"

#endif /* _UAPI_LINUX_SSI_CLMS_H */
