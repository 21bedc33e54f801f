// SPDX-License-Identifier: GPL-2.0

//! What this node refused to hear: counted by kind, and logged with who said it.
//!
//! `/sys/kernel/debug/ssi/ics_refused` has a line `KIND COUNT` for each kind, since the module was loaded.

use kernel::debugfs::File;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::ids::NodeId;
use ssi::net::Address;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A handshake failed.
    Admission,
    /// A tag is wrong.
    Tag,
    /// A number has been used before.
    Replay,
    /// It is of an incarnation that is over.
    Stale,
    /// It is no frame at all.
    Torn,
    /// It asks for another version of a service, or is of a release that speaks other versions of the protocol.
    Version,
}

/// Kinds of refusal.
const KINDS: [(Refused, &str); 6] = [
    (Refused::Admission, "admission"),
    (Refused::Tag, "tag"),
    (Refused::Replay, "replay"),
    (Refused::Stale, "stale"),
    (Refused::Torn, "torn"),
    (Refused::Version, "version"),
];

/// Who said it. The node is proved, except of what was refused for its tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// The node, if that is known.
    pub(crate) node: Option<NodeId>,
    /// Where it came from.
    pub(crate) address: Address,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = self.node {
            write!(f, "node {} at ", node.number())?;
        }
        fmt::Display::fmt(&self.address, f)
    }
}

/// The counters of one node.
pub(crate) struct Counters([Atomic<u64>; KINDS.len()]);

impl Counters {
    /// All zero.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let zero = [const { Atomic::new(0) }; KINDS.len()];
        Ok(Arc::new(Self(zero), GFP_KERNEL)?)
    }

    /// Counts a refusal, and logs it: the first ones of a kind, then ever more rarely.
    pub(crate) fn refuse(&self, why: Refused, from: &Source, what: &dyn fmt::Display) {
        let (Some(count), Some((_, kind))) = (self.0.get(why as usize), KINDS.get(why as usize))
        else {
            return;
        };
        let n = count.fetch_add(1, Relaxed) + 1;
        if n <= 8 || n.is_power_of_two() {
            pr_warn!("refused from {}: {} ({}, {} times)\n", from, what, kind, n);
        }
    }

    /// Counts a refusal that nothing proves and that is named elsewhere: it must not use up what is logged.
    pub(crate) fn tally(&self, why: Refused) {
        if let Some(count) = self.0.get(why as usize) {
            count.add(1, Relaxed);
        }
    }

    /// How often that was refused.
    pub(crate) fn count(&self, why: Refused) -> u64 {
        self.0.get(why as usize).map_or(0, |c| c.load(Relaxed))
    }
}

fn show(counters: &Arc<Counters>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (why, kind) in KINDS {
        writeln!(f, "{} {}", kind, counters.count(why))?;
    }
    Ok(())
}

/// The file in debugfs.
#[pin_data]
pub(crate) struct Debugfs {
    #[pin]
    file: File<Arc<Counters>>,
}

impl Debugfs {
    /// Makes it.
    ///
    /// # Errors
    /// `ENOMEM`; `ENODEV` without `ssi_core`'s folder.
    pub(crate) fn new(counters: Arc<Counters>) -> Result<Pin<KBox<Self>>> {
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::pin_init(
            pin_init!(Self {
                file <- dir.read_callback_file(c"ics_refused", counters, &show),
            }),
            GFP_KERNEL,
        )
    }
}
