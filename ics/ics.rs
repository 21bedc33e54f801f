// SPDX-License-Identifier: GPL-2.0

//! Crate `ics`: internode communication. Links to the other nodes, admission to them, typed calls over them.
//!
//! Not for membership: `clms` decides who is a member and tells us by [`admit`] and [`fence`].

use kernel::prelude::*;

mod admission;
mod bytes;
mod call;
mod echo;
mod error;
mod frame;
mod handshake;
mod hearing;
mod heartbeat;
mod keyring;
mod lane;
mod link;
#[cfg(CONFIG_KUNIT = "y")]
mod loopback;
mod net;
mod netlink;
mod newest;
mod open;
mod peer;
mod pool;
mod reception;
mod refused;
mod release;
mod service;
mod stats;
mod ticket;
mod timing;
mod transport;
#[cfg(CONFIG_KUNIT = "y")]
mod two_nodes;

pub use call::ask;
pub use call::call;
pub use call::post;
pub use call::Request;
pub use call::UnderWay;
pub use error::CallError;
pub use hearing::PERIOD_BITS;
pub use heartbeat::Answer;
pub use heartbeat::Heartbeat;
pub use net::add_node;
pub use net::admit;
pub use net::fence;
pub use net::remove_node;
pub use net::send_heartbeat;
pub use net::start;
pub use net::stop;
pub use net::Config;
pub use net::LinkObserver;
pub use net::NodeConfig;
pub use pool::register;
pub use pool::Registration;
#[doc(hidden)]
pub use service::__private;
pub use service::Caller;
pub use service::Class;
pub use service::Handle;
pub use service::Op;
pub use service::Reply;
pub use service::Service;
pub use service::Status;
pub use ticket::Later;
pub use ticket::Replier;
pub use ticket::Ticket;

/// The most bytes that a message carries beside its fixed part.
pub const MAX_TAIL: usize = 1 << 20;

/// What measures and fills up: files and services.
struct Probes {
    _echo: Pin<KBox<echo::Echo>>,
    _timing: Pin<KBox<timing::Timing>>,
}

impl Probes {
    fn new() -> Result<Self> {
        Ok(Self {
            _echo: echo::Echo::new()?,
            _timing: timing::Timing::new()?,
        })
    }
}

/// The module.
struct Ics {
    netlink: Option<netlink::Registration>,
    probes: Option<Probes>,
    _refused: Pin<KBox<refused::Debugfs>>,
}

impl kernel::Module for Ics {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let counters = refused::Counters::new()?;
        net::init(counters.clone());
        pool::init()?;
        let made = refused::Debugfs::new(counters)
            .and_then(|r| Ok((r, Probes::new()?, netlink::Registration::new()?)));
        let (refused, probes, netlink) = made.inspect_err(|_| pool::clear())?;
        Ok(Self {
            netlink: Some(netlink),
            probes: Some(probes),
            _refused: refused,
        })
    }
}

impl Drop for Ics {
    fn drop(&mut self) {
        self.netlink = None;
        self.probes = None;
        net::clear();
        pool::clear();
    }
}

module! {
    type: Ics,
    name: "ssi_ics",
    authors: ["OpenSSI for Linux developers"],
    description: "OpenSSI: internode communication",
    license: "GPL",
}
