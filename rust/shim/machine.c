// SPDX-License-Identifier: GPL-2.0
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/panic.h>
#include <linux/processor.h>
#include <linux/reboot.h>
#include <linux/timekeeping.h>
#include "shim.h"

void ssi_restart_now(void)
{
	emergency_restart();
	for (;;)
		cpu_relax();
}
EXPORT_SYMBOL_GPL(ssi_restart_now);

u64 ssi_wall_clock_ns(void)
{
	return ktime_get_real_ns();
}
EXPORT_SYMBOL_GPL(ssi_wall_clock_ns);

u64 ssi_monotonic_ns(void)
{
	return ktime_get_ns();
}
EXPORT_SYMBOL_GPL(ssi_monotonic_ns);

void ssi_die(void)
{
	panic("failpoint");
}
EXPORT_SYMBOL_GPL(ssi_die);

void ssi_sleep_ms(u32 ms)
{
	msleep_interruptible(ms);
}
EXPORT_SYMBOL_GPL(ssi_sleep_ms);
