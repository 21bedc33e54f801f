// SPDX-License-Identifier: GPL-2.0
/*
 * Registration of the cluster modules and the static key that turns the hooks on.
 */
#include <linux/export.h>
#include <linux/init_task.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/resume_user_mode.h>
#include <linux/sched/task.h>
#include <linux/srcu.h>
#include "internal.h"

DEFINE_STATIC_KEY_FALSE(ssi_vproc_on);
DEFINE_SRCU(ssi_srcu);
const struct ssi_vproc_ops __rcu *ssi_vproc_ops;

struct task_struct *ssi_agent __read_mostly;
unsigned int ssi_pid_lo __read_mostly, ssi_pid_hi __read_mostly;

static DEFINE_MUTEX(ssi_mutex);		/* registration, join, leave */
static struct module *ssi_owner;
static bool ssi_joined;

u32 pproc_abi_version(void)
{
	return SSI_ABI_VERSION;
}
EXPORT_SYMBOL_SSI(pproc_abi_version);

/**
 * pproc_register() - give the hooks their table
 * @ops: the table; must stay until pproc_unregister()
 * @owner: module that cannot be removed between pproc_join() and pproc_leave()
 *
 * Return: 0, -EPROTO if the table is of another version, -EBUSY if there is one.
 */
int pproc_register(const struct ssi_vproc_ops *ops, struct module *owner)
{
	int ret = 0;

	if (ops->abi != SSI_ABI_VERSION || ops->size != sizeof(*ops)) {
		pr_err("ssi: module %s is built for version %u (%u bytes) of the hooks, this kernel has %u (%zu bytes); use modules and kernel of one build\n",
		       owner ? owner->name : "?", ops->abi, ops->size, SSI_ABI_VERSION,
		       sizeof(*ops));
		return -EPROTO;
	}
	mutex_lock(&ssi_mutex);
	if (ssi_owner) {
		ret = -EBUSY;
	} else {
		ssi_owner = owner;
		rcu_assign_pointer(ssi_vproc_ops, ops);
	}
	mutex_unlock(&ssi_mutex);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_register);

/**
 * pproc_unregister() - take the table back; returns when nobody uses it any more
 */
void pproc_unregister(void)
{
	mutex_lock(&ssi_mutex);
	WARN_ON(ssi_joined);
	rcu_assign_pointer(ssi_vproc_ops, NULL);
	ssi_owner = NULL;
	mutex_unlock(&ssi_mutex);
	synchronize_srcu(&ssi_srcu);
	synchronize_rcu();
}
EXPORT_SYMBOL_SSI(pproc_unregister);

/**
 * pproc_join() - number processes cluster-wide and turn the hooks on
 * @node: this node's number
 * @agent: kernel thread that becomes the parent of processes whose parent is elsewhere
 *
 * Return: 0, -EBUSY if already on, -ENOENT without a table, -EINVAL for a bad number.
 */
int pproc_join(u32 node, struct task_struct *agent)
{
	int ret = 0;

	if (!node || node > (1 << (30 - SSI_PID_SHIFT)) - 2)
		return -EINVAL;
	mutex_lock(&ssi_mutex);
	if (!ssi_owner) {
		ret = -ENOENT;
	} else if (ssi_joined) {
		ret = -EBUSY;
	} else {
		__module_get(ssi_owner);
		ssi_joined = true;
		ssi_agent = agent;
		ssi_pid_lo = node << SSI_PID_SHIFT | SSI_PID_ALIASES;
		ssi_pid_hi = (node + 1) << SSI_PID_SHIFT;
		static_branch_enable(&ssi_vproc_on);
	}
	mutex_unlock(&ssi_mutex);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_join);

/**
 * pproc_leave() - turn the hooks off
 *
 * The caller has made sure that no number is pinned and no task has relations to other nodes.
 */
void pproc_leave(void)
{
	mutex_lock(&ssi_mutex);
	if (ssi_joined) {
		static_branch_disable(&ssi_vproc_on);
		synchronize_srcu(&ssi_srcu);
		synchronize_rcu();
		ssi_agent = NULL;
		ssi_joined = false;
		module_put(ssi_owner);
	}
	mutex_unlock(&ssi_mutex);
}
EXPORT_SYMBOL_SSI(pproc_leave);

/* May not return. */
void __ssi_user_return(struct pt_regs *regs)
{
	if (ssi_vproc_call((u32)SSI_GO_ON, user_return, regs) == SSI_VANISH)
		pproc_vanish();
}
