// SPDX-License-Identifier: GPL-2.0
/*
 * The membership's netlink family: planned shutdowns. clms answers.
 */
#include <linux/module.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

int ssi_clms_nl_shutdown_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_shutdown s = {};
	const char *why = NULL;
	int ret;

	ret = ssi_clms_check_admin(skb, info);
	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_NODE) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_ACTION) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_GRACE_MS))
		return -EINVAL;
	s.node = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_NODE]);
	s.action = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_ACTION]);
	s.grace_ms = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_GRACE_MS]);
	ret = ssi_clms_call_shutdown(&s, &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}

int ssi_clms_nl_shutdown_state_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_shutdown s = {};
	struct sk_buff *msg;
	void *head;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_NODE))
		return -EINVAL;
	s.node = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_NODE]);
	ret = ssi_clms_call_shutdown_state(&s);
	if (ret)
		return ret;
	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		return -ENOMEM;
	head = genlmsg_iput(msg, info);
	if (!head || nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_NODE, s.node) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_STAGE, s.stage) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_ERROR, s.error) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_MOVED, s.moved) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_ENDED, s.ended) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_LEFT, s.left) ||
	    nla_put_u32(msg, SSI_CLMS_A_SHUTDOWN_PROCESS, s.process))
		ret = -EMSGSIZE;
	return ssi_clms_answer(msg, head, ret, info);
}
