// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/ssi`: the folder that all modules of ours put their files into.

use kernel::debugfs::Dir;
use kernel::prelude::*;
use kernel::sync::global_lock;

global_lock! {
    // SAFETY: `init()` below is called once, by the module's init, before anything else of this crate.
    /// Lock: level 89 `ssi::debugfs`, mutex.
    unsafe(uninit) static DIR: Mutex<Option<Dir>> = None;
}

/// Makes the folder. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { DIR.init() };
    *DIR.lock() = Some(Dir::new(c"ssi"));
}

/// Removes it, once the last file in it is gone.
pub(crate) fn clear() {
    let _dir = DIR.lock().take();
}

/// The folder, for another file in it. Whoever keeps it keeps the folder.
pub fn dir() -> Option<Dir> {
    DIR.lock().clone()
}
