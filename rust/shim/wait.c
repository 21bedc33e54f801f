// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting in line: see rust/wait.rs.
 */
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include "shim.h"

/*
 * As prepare_to_wait_event(), with an exclusive entry, and without signals; but whoever began to wait last is woken
 * first: of threads that do the same work those that are not needed go on waiting. Context: process.
 */
void ssi_wait_in_front(struct wait_queue_head *head, struct wait_queue_entry *entry, u32 state)
{
	unsigned long flags;

	spin_lock_irqsave(&head->lock, flags);
	if (list_empty(&entry->entry))
		__add_wait_queue(head, entry);
	set_current_state(state);
	spin_unlock_irqrestore(&head->lock, flags);
}
EXPORT_SYMBOL_GPL(ssi_wait_in_front);
