// SPDX-License-Identifier: GPL-2.0
/*
 * The membership's netlink family: planned shutdowns. clms answers.
 */
#include <linux/module.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

int ssi_clms_nl_shutdown_start(struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	int ret = ssi_clms_check_admin(cb->skb, info);

	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_NODE) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_ACTION) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_GRACE_MS))
		return -EINVAL;
	return 0;
}

int ssi_clms_nl_shutdown_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	struct ssi_clms_shutdown s = {};
	const char *why = NULL;
	int ret = ssi_clms_begun(skb, cb);

	if (ret)
		return ret;
	s.node = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_NODE]);
	s.action = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_ACTION]);
	s.grace_ms = nla_get_u32(info->attrs[SSI_CLMS_A_SHUTDOWN_GRACE_MS]);
	ret = ssi_clms_call_shutdown(&s, &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}

int ssi_clms_nl_shutdown_state_start(struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);

	return GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_SHUTDOWN_NODE) ? -EINVAL : 0;
}

static int ssi_clms_put_shutdown(struct sk_buff *skb, const struct ssi_clms_shutdown *s)
{
	if (nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_NODE, s->node) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_STAGE, s->stage) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_ERROR, s->error) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_MOVED, s->moved) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_ENDED, s->ended) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_LEFT, s->left) ||
	    nla_put_u32(skb, SSI_CLMS_A_SHUTDOWN_PROCESS, s->process))
		return -EMSGSIZE;
	return 0;
}

int ssi_clms_nl_shutdown_state_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ssi_clms_shutdown s = {};
	void *head;
	int ret = ssi_clms_begun(skb, cb);

	if (ret || cb->args[0] > 2)
		return ret;
	s.node = nla_get_u32(genl_info_dump(cb)->attrs[SSI_CLMS_A_SHUTDOWN_NODE]);
	ret = ssi_clms_call_shutdown_state(&s);
	if (ret)
		return ret;
	head = ssi_clms_put_dump(skb, cb);
	return ssi_clms_end_dump(skb, head, head ? ssi_clms_put_shutdown(skb, &s) : 0);
}
