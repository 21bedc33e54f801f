// SPDX-License-Identifier: GPL-2.0
/*
 * The membership's netlink family: attributes to plain structures and back. clms answers.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

static const struct ssi_clms_ops *ssi_clms_ops;	/* set while the family is registered */

/*
 * The generator knows no flags. Anybody may hear of transitions; who listens to "fence" is taken for
 * the daemon that runs agents, so only an administrator may.
 */
static const struct genl_multicast_group ssi_clms_groups[] = {
	[SSI_CLMS_NLGRP_EVENTS] = { .name = SSI_CLMS_MCGRP_EVENTS },
	[SSI_CLMS_NLGRP_FENCE] = { .name = SSI_CLMS_MCGRP_FENCE, .flags = GENL_MCAST_CAP_SYS_ADMIN },
};

struct genl_family ssi_clms_family = {
	.name		= SSI_CLMS_FAMILY_NAME,
	.version	= SSI_CLMS_FAMILY_VERSION,
	.netnsok	= false,
	.parallel_ops	= true,		/* a join takes as long as it takes */
	.split_ops	= ssi_clms_nl_ops,
	.n_split_ops	= ARRAY_SIZE(ssi_clms_nl_ops),
	.mcgrps		= ssi_clms_groups,
	.n_mcgrps	= ARRAY_SIZE(ssi_clms_groups),
};

static int ssi_clms_put_node(struct sk_buff *msg, const struct ssi_clms_node *n)
{
	struct nlattr *nest = nla_nest_start(msg, SSI_CLMS_A_CLMS_NODE);

	if (!nest)
		return -EMSGSIZE;
	if (nla_put_u32(msg, SSI_CLMS_A_NODE_ID, n->id) ||
	    nla_put_string(msg, SSI_CLMS_A_NODE_NAME, n->name) ||
	    nla_put_u32(msg, SSI_CLMS_A_NODE_STATE, n->state) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_NODE_INCARNATION, n->incarnation, 0) ||
	    nla_put_u32(msg, SSI_CLMS_A_NODE_FENCE, n->fence) ||
	    nla_put_u32(msg, SSI_CLMS_A_NODE_DETECTION_MS, n->detection_ms) ||
	    nla_put_u32(msg, SSI_CLMS_A_NODE_JUDGEMENT_MS, n->judgement_ms) ||
	    nla_put_u32(msg, SSI_CLMS_A_NODE_WITNESS, n->witness) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_NODE_TABLE, n->table, 0) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_NODE_STAGED, n->staged, 0))
		return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

static int ssi_clms_put_status(struct sk_buff *msg, const struct ssi_clms_status *st)
{
	if (nla_put_u32(msg, SSI_CLMS_A_CLMS_STATE, st->state))
		return -EMSGSIZE;
	if (!st->this_node)
		return 0;
	if (nla_put_string(msg, SSI_CLMS_A_CLMS_NAME, st->name) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_CLMS_VIEW, st->view, 0) ||
	    nla_put_u8(msg, SSI_CLMS_A_CLMS_QUORATE, st->quorate) ||
	    nla_put_u32(msg, SSI_CLMS_A_CLMS_MASTER, st->master) ||
	    nla_put_u32(msg, SSI_CLMS_A_CLMS_THIS_NODE, st->this_node) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_CLMS_TABLE, st->table, 0) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_CLMS_STAGED, st->staged, 0) ||
	    nla_put_u8(msg, SSI_CLMS_A_CLMS_SETTLED, st->settled))
		return -EMSGSIZE;
	for (u32 i = 0; i < st->n_nodes; i++)
		if (ssi_clms_put_node(msg, &st->nodes[i]))
			return -EMSGSIZE;
	return 0;
}

int ssi_clms_nl_status_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_status *st = kvzalloc_obj(*st, GFP_KERNEL);
	struct sk_buff *msg;
	void *head;
	int ret;

	if (!st)
		return -ENOMEM;
	ret = ssi_clms_ops->status(st);
	if (ret)
		goto out;
	ret = -ENOMEM;
	msg = nlmsg_new(1024 + st->n_nodes * 192, GFP_KERNEL);
	if (!msg)
		goto out;
	head = genlmsg_iput(msg, info);
	ret = head ? ssi_clms_put_status(msg, st) : -EMSGSIZE;
	if (ret) {
		nlmsg_free(msg);
		goto out;
	}
	genlmsg_end(msg, head);
	ret = genlmsg_reply(msg, info);
out:
	kvfree(st);
	return ret;
}

static int ssi_clms_get_node(const struct nlattr *nest, struct ssi_clms_node *nodes, u32 *n_nodes,
			     const struct genl_info *info)
{
	struct nlattr *tb[SSI_CLMS_A_NODE_MAX + 1], *a;
	struct ssi_clms_node *n;
	int ret, rem;

	if (*n_nodes == SSI_CLMS_MAX_NODES) {
		GENL_SET_ERR_MSG(info, "the table has more nodes than this release takes");
		return -E2BIG;
	}
	ret = nla_parse_nested(tb, SSI_CLMS_A_NODE_MAX, nest, ssi_clms_node_nl_policy,
			       info->extack);
	if (ret)
		return ret;
	if (!tb[SSI_CLMS_A_NODE_ID] || !tb[SSI_CLMS_A_NODE_ADDRESS] || !tb[SSI_CLMS_A_NODE_PLACE]) {
		NL_SET_ERR_MSG_ATTR(info->extack, nest,
				    "a node needs a number, a place and an address");
		return -EINVAL;
	}
	n = &nodes[(*n_nodes)++];
	n->id = nla_get_u32(tb[SSI_CLMS_A_NODE_ID]);
	if (tb[SSI_CLMS_A_NODE_NAME])
		nla_strscpy(n->name, tb[SSI_CLMS_A_NODE_NAME], sizeof(n->name));
	n->port = tb[SSI_CLMS_A_NODE_PORT] ? nla_get_u16(tb[SSI_CLMS_A_NODE_PORT]) :
		  SSI_CLMS_DEFAULT_PORT;
	if (tb[SSI_CLMS_A_NODE_FENCE])
		n->fence = nla_get_u32(tb[SSI_CLMS_A_NODE_FENCE]);
	n->place = nla_get_u32(tb[SSI_CLMS_A_NODE_PLACE]);
	n->votes = tb[SSI_CLMS_A_NODE_VOTES] ? nla_get_u32(tb[SSI_CLMS_A_NODE_VOTES]) : 1;
	if (tb[SSI_CLMS_A_NODE_WITNESS])
		n->witness = nla_get_u32(tb[SSI_CLMS_A_NODE_WITNESS]);
	nla_for_each_nested_type(a, SSI_CLMS_A_NODE_ADDRESS, nest, rem)
		if (n->n_addresses < SSI_CLMS_MAX_ADDRESSES)
			n->addresses[n->n_addresses++] = ntohl(nla_get_in_addr(a));
	return 0;
}

static int ssi_clms_get_nodes(int type, struct ssi_clms_node *nodes, u32 *n_nodes,
			      const struct genl_info *info)
{
	struct nlattr *a;
	int ret, rem;

	nlmsg_for_each_attr_type(a, type, info->nlhdr, GENL_HDRLEN, rem) {
		ret = ssi_clms_get_node(a, nodes, n_nodes, info);
		if (ret)
			return ret;
	}
	return 0;
}

/* Not GENL_ADMIN_PERM, which asks for CAP_NET_ADMIN: who joins gives this machine's processes away. */
int ssi_clms_check_admin(struct sk_buff *skb, const struct genl_info *info)
{
	if (netlink_capable(skb, CAP_SYS_ADMIN))
		return 0;
	GENL_SET_ERR_MSG(info, "only an administrator (CAP_SYS_ADMIN) may do that");
	return -EPERM;
}

/*
 * What waits for other nodes is a dump: a doit is called with a lock held that every registration of a
 * family waits for, and every request behind it. The first round, in the context of that, only says that
 * the request was taken. Returns more than 0 then, and 0 in the second, which may wait: it is called when
 * the asker reads on.
 */
int ssi_clms_begun(struct sk_buff *skb, struct netlink_callback *cb)
{
	if (cb->args[0]++)
		return 0;
	return ssi_clms_end_dump(skb, ssi_clms_put_dump(skb, cb), 0);
}

/* Begins a message of a dump. */
void *ssi_clms_put_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);

	return genlmsg_put(skb, info->snd_portid, info->snd_seq, &ssi_clms_family, NLM_F_MULTI,
			   info->genlhdr->cmd);
}

/* Ends it, or drops it. */
int ssi_clms_end_dump(struct sk_buff *skb, void *head, int ret)
{
	if (!head)
		return -EMSGSIZE;
	if (ret) {
		genlmsg_cancel(skb, head);
		return ret;
	}
	genlmsg_end(skb, head);
	return skb->len;
}

int ssi_clms_nl_join_start(struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	struct ssi_clms_join *j;
	int ret;

	ret = ssi_clms_check_admin(cb->skb, info);
	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_CLMS_NAME) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_CLMS_THIS_NODE) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_CLMS_KEY))
		return -EINVAL;
	j = kvzalloc_obj(*j, GFP_KERNEL);
	if (!j)
		return -ENOMEM;
	nla_strscpy(j->name, info->attrs[SSI_CLMS_A_CLMS_NAME], sizeof(j->name));
	j->this_node = nla_get_u32(info->attrs[SSI_CLMS_A_CLMS_THIS_NODE]);
	j->key_len = nla_memcpy(j->key, info->attrs[SSI_CLMS_A_CLMS_KEY], sizeof(j->key));
	if (info->attrs[SSI_CLMS_A_CLMS_NEXT_KEY])
		j->next_key_len = nla_memcpy(j->next_key, info->attrs[SSI_CLMS_A_CLMS_NEXT_KEY],
					     sizeof(j->next_key));
	if (info->attrs[SSI_CLMS_A_CLMS_OLD_KEY])
		j->old_key_len = nla_memcpy(j->old_key, info->attrs[SSI_CLMS_A_CLMS_OLD_KEY],
					    sizeof(j->old_key));
	if (info->attrs[SSI_CLMS_A_CLMS_DETECT_MS])
		j->detect_ms = nla_get_u32(info->attrs[SSI_CLMS_A_CLMS_DETECT_MS]);
	if (info->attrs[SSI_CLMS_A_CLMS_FENCE_DIGEST])
		j->fence_digest = nla_get_u64(info->attrs[SSI_CLMS_A_CLMS_FENCE_DIGEST]);
	if (info->attrs[SSI_CLMS_A_CLMS_FENCE_TIMEOUT_MS])
		j->fence_timeout_ms = nla_get_u32(info->attrs[SSI_CLMS_A_CLMS_FENCE_TIMEOUT_MS]);
	if (j->key_len < SSI_CLMS_MIN_KEY ||
	    (j->next_key_len && j->next_key_len < SSI_CLMS_MIN_KEY) ||
	    (j->old_key_len && j->old_key_len < SSI_CLMS_MIN_KEY)) {
		GENL_SET_ERR_MSG(info, "a cluster key is shorter than 16 bytes");
		ret = -EINVAL;
		goto out;
	}
	ret = ssi_clms_get_nodes(SSI_CLMS_A_CLMS_NODE, j->nodes, &j->n_nodes, info);
	if (!ret)
		ret = ssi_clms_get_nodes(SSI_CLMS_A_CLMS_NEXT_NODE, j->next, &j->n_next, info);
	if (ret)
		goto out;
	if (info->attrs[SSI_CLMS_A_CLMS_GENERATION])
		j->generation = nla_get_u64(info->attrs[SSI_CLMS_A_CLMS_GENERATION]);
	if (info->attrs[SSI_CLMS_A_CLMS_NEXT_GENERATION])
		j->next_generation = nla_get_u64(info->attrs[SSI_CLMS_A_CLMS_NEXT_GENERATION]);
	if (j->next_key_len && j->old_key_len) {
		GENL_SET_ERR_MSG(info, "a next and an old cluster key: only one of them");
		ret = -EINVAL;
		goto out;
	}
	cb->args[1] = (long)j;
	return 0;
out:
	kvfree_sensitive(j, sizeof(*j));
	return ret;
}

int ssi_clms_nl_join_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const char *why = NULL;
	int ret = ssi_clms_begun(skb, cb);

	if (ret)
		return ret;
	ret = ssi_clms_ops->join((struct ssi_clms_join *)cb->args[1], &why);
	if (why)
		NL_SET_ERR_MSG_FMT(cb->extack, "%s", why);
	return ret;
}

int ssi_clms_nl_join_done(struct netlink_callback *cb)
{
	kvfree_sensitive((void *)cb->args[1], sizeof(struct ssi_clms_join));
	return 0;
}

/* Reads a table and hands it to @answer. */
static int ssi_clms_take_table(struct sk_buff *skb, struct genl_info *info, bool asks,
			       int (*answer)(const struct ssi_clms_table *t, const char **why))
{
	struct ssi_clms_table *t;
	const char *why = NULL;
	int ret = ssi_clms_check_admin(skb, info);

	if (ret)
		return ret;
	t = kvzalloc_obj(*t, GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	if (info->attrs[SSI_CLMS_A_CLMS_GENERATION])
		t->generation = nla_get_u64(info->attrs[SSI_CLMS_A_CLMS_GENERATION]);
	t->asks = asks;
	ret = ssi_clms_get_nodes(SSI_CLMS_A_CLMS_NODE, t->nodes, &t->n_nodes, info);
	if (!ret)
		ret = answer(t, &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	kvfree(t);
	return ret;
}

int ssi_clms_nl_table_stage_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_clms_take_table(skb, info, false, ssi_clms_ops->table_stage);
}

int ssi_clms_nl_table_settle_doit(struct sk_buff *skb, struct genl_info *info)
{
	/* Only here: the table of attributes ends with the last that an operation takes. */
	const struct nlattr *settled = info->attrs[SSI_CLMS_A_CLMS_SETTLED];

	return ssi_clms_take_table(skb, info, settled && !nla_get_u8(settled),
				   ssi_clms_ops->table_settle);
}

int ssi_clms_nl_table_unstage_doit(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	int ret = ssi_clms_check_admin(skb, info);

	if (ret)
		return ret;
	ret = ssi_clms_ops->table_unstage(&why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}

int ssi_clms_nl_leave_start(struct netlink_callback *cb)
{
	return ssi_clms_check_admin(cb->skb, genl_info_dump(cb));
}

int ssi_clms_nl_leave_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	const char *why = NULL;
	int ret = ssi_clms_begun(skb, cb);

	if (ret)
		return ret;
	ret = ssi_clms_ops->leave(&why);
	if (why)
		NL_SET_ERR_MSG_FMT(cb->extack, "%s", why);
	return ret;
}

static int ssi_clms_put_fence(struct sk_buff *msg, const struct ssi_clms_fence *f)
{
	struct nlattr *nest = nla_nest_start(msg, SSI_CLMS_A_CLMS_FENCE);

	if (!nest)
		return -EMSGSIZE;
	if (nla_put_u32(msg, SSI_CLMS_A_FENCE_NODE, f->node) ||
	    nla_put_u64_64bit(msg, SSI_CLMS_A_FENCE_INCARNATION, f->incarnation, 0) ||
	    nla_put_u32(msg, SSI_CLMS_A_FENCE_JOB, f->job))
		return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

static int ssi_clms_put_fences(struct sk_buff *msg, const struct ssi_clms_fences *fences)
{
	for (u32 i = 0; i < fences->n; i++)
		if (ssi_clms_put_fence(msg, &fences->all[i]))
			return -EMSGSIZE;
	return 0;
}

int ssi_clms_nl_fence_list_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_fences *fences;
	struct sk_buff *msg;
	void *head;
	int ret = ssi_clms_check_admin(skb, info);

	if (ret)
		return ret;
	fences = kvzalloc_obj(*fences, GFP_KERNEL);
	if (!fences)
		return -ENOMEM;
	ret = ssi_clms_ops->fence_list(fences);
	if (ret)
		goto out;
	ret = -ENOMEM;
	msg = nlmsg_new(64 + fences->n * 64, GFP_KERNEL);
	if (!msg)
		goto out;
	head = genlmsg_iput(msg, info);
	ret = head ? ssi_clms_put_fences(msg, fences) : -EMSGSIZE;
	if (ret) {
		nlmsg_free(msg);
		goto out;
	}
	genlmsg_end(msg, head);
	ret = genlmsg_reply(msg, info);
out:
	kvfree(fences);
	return ret;
}

/* Reads what somebody says of an agent and hands it to @answer. */
static int ssi_clms_take_fence(struct sk_buff *skb, struct genl_info *info,
			       int (*answer)(const struct ssi_clms_fence *f, const char **why))
{
	struct nlattr *tb[SSI_CLMS_A_FENCE_MAX + 1];
	struct ssi_clms_fence f = {};
	const char *why = NULL;
	int ret = ssi_clms_check_admin(skb, info);

	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_CLMS_FENCE))
		return -EINVAL;
	ret = nla_parse_nested(tb, SSI_CLMS_A_FENCE_MAX, info->attrs[SSI_CLMS_A_CLMS_FENCE],
			       ssi_clms_fence_nl_policy, info->extack);
	if (ret)
		return ret;
	if (!tb[SSI_CLMS_A_FENCE_NODE]) {
		GENL_SET_ERR_MSG(info, "which node?");
		return -EINVAL;
	}
	f.node = nla_get_u32(tb[SSI_CLMS_A_FENCE_NODE]);
	if (tb[SSI_CLMS_A_FENCE_INCARNATION])
		f.incarnation = nla_get_u64(tb[SSI_CLMS_A_FENCE_INCARNATION]);
	if (tb[SSI_CLMS_A_FENCE_JOB])
		f.job = nla_get_u32(tb[SSI_CLMS_A_FENCE_JOB]);
	f.status = tb[SSI_CLMS_A_FENCE_STATUS] ? nla_get_u32(tb[SSI_CLMS_A_FENCE_STATUS]) : 1;
	f.by_agent = tb[SSI_CLMS_A_FENCE_BY_AGENT] && nla_get_u8(tb[SSI_CLMS_A_FENCE_BY_AGENT]);
	if (tb[SSI_CLMS_A_FENCE_TEXT])
		nla_strscpy(f.text, tb[SSI_CLMS_A_FENCE_TEXT], sizeof(f.text));
	ret = answer(&f, &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}

int ssi_clms_nl_fence_done_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_clms_take_fence(skb, info, ssi_clms_ops->fence_done);
}

int ssi_clms_nl_fence_confirm_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_clms_take_fence(skb, info, ssi_clms_ops->fence_confirm);
}

/* Tells whoever runs agents on this node. Sleeps. */
int ssi_clms_nl_fence_wanted(const struct ssi_clms_fence *f)
{
	struct sk_buff *msg = genlmsg_new(128, GFP_KERNEL);
	void *head;

	if (!msg)
		return -ENOMEM;
	head = genlmsg_put(msg, 0, 0, &ssi_clms_family, 0, SSI_CLMS_CMD_FENCE_WANTED);
	if (!head || ssi_clms_put_fence(msg, f)) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	genlmsg_end(msg, head);
	return genlmsg_multicast(&ssi_clms_family, msg, 0, SSI_CLMS_NLGRP_FENCE, GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(ssi_clms_nl_fence_wanted);

/* Whether anybody runs agents on this node: listens. */
bool ssi_clms_nl_has_fenced(void)
{
	return genl_has_listeners(&ssi_clms_family, &init_net, SSI_CLMS_NLGRP_FENCE) > 0;
}
EXPORT_SYMBOL_GPL(ssi_clms_nl_has_fenced);

int ssi_clms_call_shutdown(const struct ssi_clms_shutdown *s, const char **why)
{
	return ssi_clms_ops->shutdown(s, why);
}

int ssi_clms_call_shutdown_state(struct ssi_clms_shutdown *s)
{
	return ssi_clms_ops->shutdown_state(s);
}

/*
 * Registers the family. @ops and @history, which are in @owner, answer until ssi_clms_nl_unregister(). A
 * dump that waits holds @owner.
 */
int ssi_clms_nl_register(const struct ssi_clms_ops *ops, const struct ssi_clms_history_ops *history,
			 struct module *owner)
{
	int ret;

	ssi_clms_family.module = owner;

	ssi_clms_ops = ops;
	ssi_clms_history_ops = history;
	ret = genl_register_family(&ssi_clms_family);
	if (!ret)
		ssi_clms_events_begin();
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_clms_nl_register);

/* Returns when nobody is answered any more. */
void ssi_clms_nl_unregister(void)
{
	ssi_clms_events_end();
	genl_unregister_family(&ssi_clms_family);
}
EXPORT_SYMBOL_GPL(ssi_clms_nl_unregister);
