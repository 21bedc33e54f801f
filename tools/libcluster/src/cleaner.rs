// SPDX-License-Identifier: GPL-2.0

//! The cleaner of this node: who runs programs when a node has gone down.

use crate::history::History;
use crate::history::HistoryAttrs;
use crate::netlink::Error;
use crate::netlink::FAMILY;
use crate::netlink::Family;
use crate::netlink::Op;
use crate::netlink::attr;
use crate::netlink::broken;
use neli::attr::Attribute;

/// As long as this lives this process is the cleaner: a node that has gone down is UCLEANUP until it is said to be
/// [`cleaned`].
pub struct Cleaner(Family);

impl Cleaner {
    /// Opens the socket. Nothing is cleaned before [`Cleaner::begin`].
    ///
    /// # Errors
    /// [`Error::NoModule`].
    pub fn new() -> Result<Self, Error> {
        Family::open(FAMILY).map(Self)
    }

    /// This process is the cleaner from now on; if it was, it begins anew. Gives the number of the last transition before.
    ///
    /// # Errors
    /// EBUSY: another process is; EPERM.
    pub fn begin(&self) -> Result<u64, Error> {
        let answer = self.0.request(Op::Cleaner, HistoryAttrs::new())?;
        let answer = answer.ok_or_else(|| broken("no answer to who wants to clean"))?;
        let id = answer.iter().find(|a| *a.nla_type().nla_type() == History::Id);
        id.ok_or_else(|| broken("no number for who wants to clean"))?
            .get_payload_as()
            .map_err(broken)
    }
}

/// Says that the programs for that life of a node are over.
///
/// # Errors
/// [`Error::NoModule`]; EPERM; ENOENT: nobody waits for them; ENOTCONN: this node has not joined.
pub fn cleaned(node: u32, incarnation: u64) -> Result<(), Error> {
    let attrs = [attr(History::Node, node)?, attr(History::Incarnation, incarnation)?];
    let attrs: HistoryAttrs = attrs.into_iter().collect();
    Family::open(FAMILY)?.request(Op::Cleaned, attrs).map(drop)
}
