// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/ssi/vproc`: what this node knows of processes, one fact a line. `runs PID` executes here;
//! `coming PID` and `leaving PID` are on their way; `home PID NODE` is of this node's range and elsewhere (node 0: nobody
//! waits for it yet); `child PARENT PID` is a child elsewhere of a process here.

use crate::children;
use crate::home;
use crate::movement;
use kernel::debugfs::File;
use kernel::fmt;
use kernel::prelude::*;
use ssi::pproc;

/// The file. Dropping it removes it.
#[pin_data]
pub(crate) struct Debugfs {
    #[pin]
    file: File<()>,
}

impl Debugfs {
    /// Makes the file.
    ///
    /// # Errors
    /// `ENODEV` without the folder; `ENOMEM`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                file <- dir.read_callback_file(c"vproc", (), &show),
            }? Error),
            GFP_KERNEL,
        )
    }
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut from = 1;
    while let Some(pid) = pproc::next_process(from) {
        writeln!(f, "runs {}", pid.0)?;
        from = pid.0 + 1;
    }
    let no_memory = |_| fmt::Error;
    for pid in movement::coming::all().map_err(no_memory)? {
        writeln!(f, "coming {}", pid.0)?;
    }
    for pid in movement::leaving::all().map_err(no_memory)? {
        writeln!(f, "leaving {}", pid.0)?;
    }
    for (pid, node) in home::all().map_err(no_memory)? {
        writeln!(f, "home {} {node}", pid.0)?;
    }
    for (parent, child) in children::all().map_err(no_memory)? {
        writeln!(f, "child {} {}", parent.0, child.0)?;
    }
    Ok(())
}
