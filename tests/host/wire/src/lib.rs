// SPDX-License-Identifier: GPL-2.0

//! What one node reads of another, compiled from the very files that the modules are made of: frames, handshake and
//! heartbeats of `ics`, what heartbeats say of `clms`, the messages of the services. Their KUnit suites run here too.
//!
//! The crate stands for `ics`. `kernel` and `ssi` beside it are stand-ins, and so are [`net`], [`refused`] and
//! [`registry::replica`].

#![allow(dead_code, missing_docs, unused_macros)]

extern crate self as ics;

/// As in `ics/ics.rs`.
pub const MAX_TAIL: usize = 1 << 20;

#[path = "../../../../ics/bytes.rs"]
mod bytes;
#[path = "../../../../clms/facts/proto.rs"]
mod facts;
#[path = "../../../../clms/fencing/proto.rs"]
mod fencing;
#[path = "../../../../ics/frame.rs"]
mod frame;
#[path = "../../../../ics/handshake.rs"]
mod handshake;
#[path = "../../../../ics/heartbeat.rs"]
mod heartbeat;
#[path = "../../../../ics/keyring.rs"]
mod keyring;
#[path = "../../../../ics/lane.rs"]
mod lane;
#[path = "../../../../clms/places.rs"]
mod places;
#[path = "../../../../ics/release.rs"]
mod release;
#[path = "../../../../ipc/rfile/proto.rs"]
mod rfile;
#[path = "../../../../clms/proto.rs"]
mod says;
#[path = "../../../../ics/service.rs"]
mod service;
#[path = "../../../../clms/shutdown/proto.rs"]
mod shutdown;
#[path = "../../../../clms/state.rs"]
#[allow(unused_imports)]
mod state;
#[path = "../../../../vproc/proto.rs"]
mod vproc;

/// Replies that come later are the kernel's.
mod ticket {
    #[derive(Clone, Copy, Debug)]
    pub enum Later {}
}

pub use service::__private;
pub use service::Caller;
pub use service::Handle;
pub use service::Op;
pub use service::Reply;
pub use service::Status;

/// What was registered: nobody calls it by itself.
pub struct Registration(&'static dyn service::Service);

/// As in `ics/pool.rs`.
pub fn register(service: &'static dyn service::Service) -> kernel::error::Result<Registration> {
    Ok(Registration(service))
}

/// As in `clms/thread.rs`.
pub mod thread {
    use crate::registry::replica::Replica;
    use std::cell::RefCell;
    use std::sync::Arc;

    pub(crate) type Says = crate::state::Says<1>;
    pub(crate) type TableView = crate::state::View<1>;

    thread_local! {
        pub(crate) static REPLICA: RefCell<Option<Arc<Replica>>> = const { RefCell::new(None) };
    }

    pub(crate) fn replica() -> Option<Arc<Replica>> {
        REPLICA.with_borrow(Option::clone)
    }
}

/// As in `clms/registry.rs`.
#[path = "../../../../clms/registry"]
#[rustfmt::skip]
pub mod registry {
    pub(crate) mod contents;
    pub(crate) mod proto;
    mod record;
    pub(crate) mod records;
    pub(crate) mod server;
    pub(crate) mod state;

    pub(crate) use record::*;

    /// Takes the steps of the handlers, and no others. Node 1 has place 0.
    pub(crate) mod replica {
        use super::contents::Core;
        use ssi::ids::NodeId;
        use std::sync::Mutex;

        pub(crate) struct Replica {
            pub(crate) n_nodes: usize,
            pub(crate) core: Mutex<Core>,
        }

        impl Replica {
            pub(crate) fn place(&self, node: NodeId) -> Option<usize> {
                Some(node.number() as usize - 1).filter(|p| *p < self.n_nodes)
            }

            pub(crate) fn n_nodes(&self) -> usize {
                self.n_nodes
            }

            pub(crate) fn look<R>(&self, f: impl FnOnce(&Core) -> R) -> R {
                f(&self.core.lock().unwrap())
            }

            pub(crate) fn step<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
                f(&mut self.core.lock().unwrap())
            }
        }
    }
}

/// Who a node is, as in `ics/net.rs`.
pub mod net {
    use ssi::ids::Incarnation;
    use ssi::ids::NodeId;

    pub(crate) struct Identity {
        pub(crate) node: NodeId,
        pub(crate) incarnation: Incarnation,
        pub(crate) cluster: [u8; 16],
        pub(crate) speaks: crate::release::Speaks,
    }
}

/// Counts only.
pub mod refused {
    use kernel::error::Result;
    use ssi::ids::NodeId;
    use ssi::net::Address;
    use std::fmt::Display;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::Arc;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Refused {
        Admission,
        Tag,
        Replay,
        Stale,
        Torn,
        Version,
    }

    pub(crate) struct Source {
        pub(crate) node: Option<NodeId>,
        pub(crate) address: Address,
    }

    #[derive(Default)]
    pub(crate) struct Counters([AtomicU64; 6]);

    impl Counters {
        pub(crate) fn new() -> Result<Arc<Self>> {
            Ok(Arc::default())
        }

        pub(crate) fn refuse(&self, why: Refused, _: &Source, _: &dyn Display) {
            self.0[why as usize].fetch_add(1, Relaxed);
        }

        pub(crate) fn tally(&self, why: Refused) {
            self.0[why as usize].fetch_add(1, Relaxed);
        }

        pub(crate) fn count(&self, why: Refused) -> u64 {
            self.0[why as usize].load(Relaxed)
        }
    }
}

#[cfg(test)]
mod frame_tests;
#[cfg(test)]
#[path = "../../fuzz.rs"]
mod fuzz;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod heartbeat_tests;
#[cfg(test)]
mod keyring_tests;
#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod says_tests;
