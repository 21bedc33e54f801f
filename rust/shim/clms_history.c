// SPDX-License-Identifier: GPL-2.0
/*
 * The membership's netlink family: questions for transitions, members and nodes. clms answers.
 */
#include <linux/module.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

const struct ssi_clms_history_ops *ssi_clms_history_ops;

int ssi_clms_put_transition(struct sk_buff *msg, const struct ssi_clms_transition *t)
{
	if (nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_ID, t->id, 0) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_TIME, t->time_ns, 0) ||
	    nla_put_u32(msg, SSI_CLMS_A_HISTORY_NODE, t->node) ||
	    nla_put_u32(msg, SSI_CLMS_A_HISTORY_FROM, t->from) ||
	    nla_put_u32(msg, SSI_CLMS_A_HISTORY_TO, t->to) ||
	    nla_put_u32(msg, SSI_CLMS_A_HISTORY_CAUSE, t->cause) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_INCARNATION, t->incarnation, 0))
		return -EMSGSIZE;
	return 0;
}

/* Sends what was put, or drops it. */
int ssi_clms_answer(struct sk_buff *msg, void *head, int ret, struct genl_info *info)
{
	if (ret) {
		nlmsg_free(msg);
		return ret;
	}
	genlmsg_end(msg, head);
	return genlmsg_reply(msg, info);
}

int ssi_clms_nl_history_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_transition t = {};
	struct sk_buff *msg;
	u64 id = 0;
	void *head;
	int found, ret;

	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_HISTORY_WHICH))
		return -EINVAL;
	if (info->attrs[SSI_CLMS_A_HISTORY_ID])
		id = nla_get_u64(info->attrs[SSI_CLMS_A_HISTORY_ID]);
	found = ssi_clms_history_ops->history(nla_get_u32(info->attrs[SSI_CLMS_A_HISTORY_WHICH]), id,
					      nla_get_flag(info->attrs[SSI_CLMS_A_HISTORY_SIMPLE]), &t);
	if (found == -ESTALE)
		GENL_SET_ERR_MSG(info, "that part of the history is not kept: begin anew");
	if (found && found != -ENODATA)
		return found;
	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		return -ENOMEM;
	head = genlmsg_iput(msg, info);
	ret = head ? 0 : -EMSGSIZE;
	if (!ret && !found)
		ret = ssi_clms_put_transition(msg, &t);
	return ssi_clms_answer(msg, head, ret, info);
}

int ssi_clms_nl_membership_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_members m = {};
	struct sk_buff *msg;
	void *head;
	int ret;

	ret = ssi_clms_history_ops->membership(&m);
	if (ret == -ENOTCONN)
		GENL_SET_ERR_MSG(info, "this node has not joined");
	if (ret)
		return ret;
	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		return -ENOMEM;
	head = genlmsg_iput(msg, info);
	if (!head || nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_VIEW, m.view, 0) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_ID, m.last, 0))
		ret = -EMSGSIZE;
	for (u32 i = 0; i < m.n_nodes && !ret; i++)
		ret = nla_put_u32(msg, SSI_CLMS_A_HISTORY_UP, m.nodes[i]);
	return ssi_clms_answer(msg, head, ret, info);
}

int ssi_clms_nl_node_info_start(struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);

	return GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_INFO_NODE) ? -EINVAL : 0;
}

static int ssi_clms_put_info(struct sk_buff *skb, const struct ssi_clms_info *i)
{
	if (nla_put_u32(skb, SSI_CLMS_A_INFO_NODE, i->node) ||
	    nla_put_u32(skb, SSI_CLMS_A_INFO_STATE, i->state) ||
	    nla_put_u64_64bit(skb, SSI_CLMS_A_INFO_INCARNATION, i->incarnation, 0) ||
	    nla_put_u32(skb, SSI_CLMS_A_INFO_TOTAL_CPUS, i->total_cpus) ||
	    nla_put_u32(skb, SSI_CLMS_A_INFO_ONLINE_CPUS, i->online_cpus) ||
	    nla_put_u32(skb, SSI_CLMS_A_INFO_CPU_POWER, i->cpu_power) ||
	    nla_put_u64_64bit(skb, SSI_CLMS_A_INFO_TOTAL_MEMORY, i->total_memory, 0) ||
	    nla_put_string(skb, SSI_CLMS_A_INFO_NAME, i->name))
		return -EMSGSIZE;
	return 0;
}

int ssi_clms_nl_node_info_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	struct ssi_clms_info i = {};
	void *head;
	int ret = ssi_clms_begun(skb, cb);

	if (ret || cb->args[0] > 2)
		return ret;
	i.node = nla_get_u32(info->attrs[SSI_CLMS_A_INFO_NODE]);
	ret = ssi_clms_history_ops->node_info(&i);
	if (ret == -ENOTCONN)
		GENL_SET_ERR_MSG(info, "this node has not joined");
	if (ret == -ENOENT)
		GENL_SET_ERR_MSG(info, "no such node in the table");
	if (ret)
		return ret;
	head = ssi_clms_put_dump(skb, cb);
	return ssi_clms_end_dump(skb, head, head ? ssi_clms_put_info(skb, &i) : 0);
}

int ssi_clms_nl_node_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	int ret;

	ret = ssi_clms_check_admin(skb, info);
	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_INFO_NODE) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_INFO_CPU_POWER))
		return -EINVAL;
	ret = ssi_clms_history_ops->set_info(nla_get_u32(info->attrs[SSI_CLMS_A_INFO_NODE]),
					     nla_get_u32(info->attrs[SSI_CLMS_A_INFO_CPU_POWER]), &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}
