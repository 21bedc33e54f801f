// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_ics.yaml */
/* YNL-GEN kernel source */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "ics_nl_gen.h"

#include <uapi/linux/ssi_ics.h>

/* SSI_ICS_CMD_KEY_STAGE - do */
static const struct nla_policy ssi_ics_key_stage_nl_policy[SSI_ICS_A_KEY_SECRET + 1] = {
	[SSI_ICS_A_KEY_SECRET] = NLA_POLICY_MAX_LEN(SSI_ICS_MAX_KEY_LEN),
};

/* SSI_ICS_CMD_KEY_SWITCH - do */
static const struct nla_policy ssi_ics_key_switch_nl_policy[SSI_ICS_A_KEY_USED + 1] = {
	[SSI_ICS_A_KEY_USED] = { .type = NLA_U64, },
};

/* SSI_ICS_CMD_KEY_DROP - do */
static const struct nla_policy ssi_ics_key_drop_nl_policy[SSI_ICS_A_KEY_USED + 1] = {
	[SSI_ICS_A_KEY_USED] = { .type = NLA_U64, },
};

/* Ops table for ssi_ics */
const struct genl_split_ops ssi_ics_nl_ops[7] = {
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
	{
		.cmd	= SSI_ICS_CMD_KEY_GET,
		.dumpit	= ssi_ics_nl_key_get_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= SSI_ICS_CMD_KEY_STAGE,
		.doit		= ssi_ics_nl_key_stage_doit,
		.policy		= ssi_ics_key_stage_nl_policy,
		.maxattr	= SSI_ICS_A_KEY_SECRET,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= SSI_ICS_CMD_KEY_UNSTAGE,
		.doit	= ssi_ics_nl_key_unstage_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_ICS_CMD_KEY_SWITCH,
		.doit		= ssi_ics_nl_key_switch_doit,
		.policy		= ssi_ics_key_switch_nl_policy,
		.maxattr	= SSI_ICS_A_KEY_USED,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_ICS_CMD_KEY_DROP,
		.doit		= ssi_ics_nl_key_drop_doit,
		.policy		= ssi_ics_key_drop_nl_policy,
		.maxattr	= SSI_ICS_A_KEY_USED,
		.flags		= GENL_CMD_CAP_DO,
	},
};
