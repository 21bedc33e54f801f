// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_ics.yaml */
/* YNL-GEN kernel source */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "ics_nl_gen.h"

#include <uapi/linux/ssi_ics.h>

/* Ops table for ssi_ics */
const struct genl_split_ops ssi_ics_nl_ops[2] = {
	{
		.cmd	= SSI_ICS_CMD_OP_GET,
		.dumpit	= ssi_ics_nl_op_get_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd	= SSI_ICS_CMD_LINK_GET,
		.dumpit	= ssi_ics_nl_link_get_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
};
