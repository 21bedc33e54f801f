// SPDX-License-Identifier: GPL-2.0
/*
 * Events from contexts that cannot sleep, for the one thread that acts on them. FIFO.
 */
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include "internal.h"

static LIST_HEAD(ssi_events);
static DEFINE_SPINLOCK(ssi_event_lock);		/* innermost: inside tasklist_lock and siglock */
static DECLARE_WAIT_QUEUE_HEAD(ssi_event_wait);
static bool ssi_event_stopped;

/* Context: any. An embedded node that is queued already stays where it is. */
void ssi_event_queue(struct ssi_event_node *n)
{
	unsigned long flags;

	spin_lock_irqsave(&ssi_event_lock, flags);
	if (list_empty(&n->list))
		list_add_tail(&n->list, &ssi_events);
	spin_unlock_irqrestore(&ssi_event_lock, flags);
	wake_up(&ssi_event_wait);
}

/* Takes an embedded node out before its memory goes. Context: any. */
void ssi_event_cancel(struct ssi_event_node *n)
{
	unsigned long flags;

	spin_lock_irqsave(&ssi_event_lock, flags);
	list_del_init(&n->list);
	spin_unlock_irqrestore(&ssi_event_lock, flags);
}

static bool ssi_event_take(struct ssi_event *ev)
{
	struct ssi_event_node *n, *gone = NULL;

	spin_lock_irq(&ssi_event_lock);
	n = list_first_entry_or_null(&ssi_events, struct ssi_event_node, list);
	if (n) {
		list_del_init(&n->list);
		*ev = n->ev;
		if (!n->embedded)
			gone = n;
	}
	spin_unlock_irq(&ssi_event_lock);
	kfree(gone);
	return n;
}

/**
 * pproc_event_wait() - next event
 * @ev: filled in
 *
 * Return: 0, or -ESHUTDOWN after pproc_event_stop() once the queue is empty.
 */
int pproc_event_wait(struct ssi_event *ev)
{
	bool got = false;

	wait_event_idle(ssi_event_wait,
			(got = ssi_event_take(ev)) || READ_ONCE(ssi_event_stopped));
	if (got)
		return 0;
	ssi_event_stopped = false;
	return -ESHUTDOWN;
}
EXPORT_SYMBOL_SSI(pproc_event_wait);

/**
 * pproc_event_stop() - makes pproc_event_wait() return -ESHUTDOWN once
 */
void pproc_event_stop(void)
{
	WRITE_ONCE(ssi_event_stopped, true);
	wake_up(&ssi_event_wait);
}
EXPORT_SYMBOL_SSI(pproc_event_stop);
