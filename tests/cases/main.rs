// SPDX-License-Identifier: GPL-2.0

//! The cases: what the cluster promises, one function each. `tests/run` builds and starts this.
//!
//! A case is in `<subsystem>_<behaviour>.rs`, which ends in its row of `CASES`: how many nodes, which root and
//! kernel, and which faults it uses. Output is KTAP; the last line is `N passed, N failed`.

mod cluster;
mod console;
mod context;
mod kunit;
mod runner;
mod views;

// The membership's decisions, as they are in the kernel, and formatted as that.
#[path = "../../clms/places.rs"]
#[allow(dead_code, clippy::all)]
#[rustfmt::skip]
mod places;
#[path = "../../clms/state.rs"]
#[allow(dead_code, unused_imports, clippy::all)]
#[rustfmt::skip]
mod state;

use std::process::ExitCode;

/// Files of cases, in the order in which they run.
macro_rules! cases {
    ($($file:ident)*) => {
        $(mod $file;)*
        const CASES: &[&[runner::Case]] = &[$($file::CASES),*];
    };
}

cases! {
    rig_exec_streams
    rig_files
    rig_switch_faults
    rig_power
    rig_reboot_restarts_node
    rig_instances
    kernel_modules
    clms_leaving
    clms_membership
    clms_node_loss
    clms_crash
    clms_replay
    clms_partitions
    clms_bad_network
    clms_pause
    clms_clocks
    clms_memory
    clms_leftovers
    clms_cleanup
    clms_no_single_point
    clms_fencing
    clms_fencing_ipmi
    clms_initramfs
    clms_registry
    clms_shutdown
    clms_table
    clms_transitions
    clms_witness
    ics_calls
    ics_strangers
    ics_slow_reader
    ics_releases
    ics_links
    ics_stats
    ics_keys
    ics_wireguard
    tracepoints
    vproc_signals
    vproc_proc_files
    vproc_onnode
    vproc_terminal
    vproc_migrate
    vproc_migrate_leftovers
    vproc_migrate_refused
    vproc_crash
}

fn main() -> ExitCode {
    runner::main(CASES)
}
