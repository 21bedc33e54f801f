// SPDX-License-Identifier: GPL-2.0
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/mm.h>
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

void ssi_power_off(void)
{
	orderly_poweroff(true);
}
EXPORT_SYMBOL_GPL(ssi_power_off);

void ssi_reboot(void)
{
	orderly_reboot();
}
EXPORT_SYMBOL_GPL(ssi_reboot);

u64 ssi_wall_clock_ns(void)
{
	return ktime_get_real_ns();
}
EXPORT_SYMBOL_GPL(ssi_wall_clock_ns);

u64 ssi_monotonic_ns(void)
{
	/* Not slewed: two nodes measure one lease. */
	return ktime_get_raw_ns();
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

u32 ssi_total_cpus(void)
{
	return num_present_cpus();
}
EXPORT_SYMBOL_GPL(ssi_total_cpus);

u32 ssi_online_cpus(void)
{
	return num_online_cpus();
}
EXPORT_SYMBOL_GPL(ssi_online_cpus);

u32 ssi_cpu_power(void)
{
	return loops_per_jiffy;
}
EXPORT_SYMBOL_GPL(ssi_cpu_power);

u64 ssi_total_memory(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}
EXPORT_SYMBOL_GPL(ssi_total_memory);
