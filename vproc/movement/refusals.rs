// SPDX-License-Identifier: GPL-2.0

//! Why processes last could not move: what `/proc/<pid>/goto` reads.

use crate::nodes;
use kernel::prelude::*;
use kernel::sync::global_lock;
use ssi::ids::ClusterPid;
use ssi::refusal::Refusal;

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Why processes last could not move, newest last. Lock: level 43 `vproc::refusals`, mutex.
    unsafe(uninit) static REFUSALS: Mutex<KVec<(ClusterPid, Refusal)>> = KVec::new();
}

/// Refusals that are remembered.
const MAX_REFUSALS: usize = 64;

/// Makes the table. Once, at module load.
pub(super) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { REFUSALS.init() };
}

/// Frees the table at module unload.
pub(super) fn clear() {
    *REFUSALS.lock() = KVec::new();
}

/// Remembers why a process could not move.
pub(crate) fn note(pid: ClusterPid, why: Refusal) {
    let mut guard = REFUSALS.lock();
    if let Some(i) = guard.iter().position(|(p, _)| *p == pid) {
        let _old = guard.remove(i);
    } else if guard.len() >= MAX_REFUSALS {
        let _old = guard.remove(0);
    }
    // Without memory the reason is lost, the errno is not.
    let _ = guard.push((pid, why), GFP_KERNEL);
}

/// A process has moved: why it once could not is of no interest.
pub(crate) fn forget(pid: ClusterPid) {
    let mut guard = REFUSALS.lock();
    if let Some(i) = guard.iter().position(|(p, _)| *p == pid) {
        let _old = guard.remove(i);
    }
}

/// What `/proc/<pid>/goto` reads: `ERRNO cause` of the last refusal, else the node.
///
/// # Errors
/// `ENOSPC`.
pub(crate) fn show(pid: ClusterPid, buf: &mut [u8]) -> Result<usize> {
    let why = {
        let guard = REFUSALS.lock();
        guard.iter().find(|(p, _)| *p == pid).map(|(_, w)| *w)
    };
    let mut out = ssi::text::Writer::new(buf);
    match why {
        Some(w) => {
            out.put(ssi::text::errno_name(w.errno))?;
            if !w.cause().is_empty() {
                out.put(b" ")?;
                out.put(w.cause())?;
            }
        }
        None => out.put_number(nodes::this().number())?,
    }
    out.put(b"\n")?;
    Ok(out.len())
}
