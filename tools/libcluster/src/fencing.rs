// SPDX-License-Identifier: GPL-2.0

//! Fencing: the agents that are to run on this node, how they ended, and that a node is off.
//!
//! `Documentation/netlink/ssi_clms.yaml` is the truth about numbers and types; a test here compares.

use crate::membership::Clms;
use crate::membership::ClmsAttrs;
use crate::netlink::Error;
use crate::netlink::FAMILY;
use crate::netlink::Family;
use crate::netlink::Op;
use crate::netlink::attr;
use crate::netlink::broken;
use crate::netlink::family_attrs;
use crate::netlink::group;
use neli::consts::nl::GenlId;
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::genl::Genlmsghdr;
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::utils::Groups;
use serde::Serialize;

/// Attribute set `fence`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum FenceAttr {
    Node = 1,
    Incarnation = 2,
    Job = 3,
    Status = 4,
    Text = 5,
    ByAgent = 6,
}
impl neli::consts::genl::NlAttrType for FenceAttr {}

/// Multicast group of `fence-wanted`.
const FENCE_GROUP: &str = "fence";

/// Whether a node is fenced, and how far that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceState {
    /// It is not fenced when it is lost.
    None,
    /// It is.
    Ready,
    /// It is lost, and not known to be off.
    Wanted,
    /// It was lost, and is known to be off.
    Done,
}

/// A fence agent that is to run on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FenceJob {
    /// The node to be switched off.
    pub node: u32,
    /// Its incarnation.
    pub incarnation: u64,
    /// Number of the job on this node.
    pub number: u32,
}

/// The fence agents that are to run on this node.
///
/// # Errors
/// [`Error::NoModule`] and what the kernel says.
pub fn fence_list() -> Result<Vec<FenceJob>, Error> {
    let answer = Family::open(FAMILY)?.request(Op::FenceList, ClmsAttrs::new())?;
    decode_jobs(&answer.ok_or_else(|| broken("no answer"))?)
}

/// Says how an agent ended.
///
/// # Errors
/// [`Error::NoModule`]; ENOENT: nobody waits for it.
pub fn fence_done(job: FenceJob, status: u32, text: &str) -> Result<(), Error> {
    let mut nest = attr(Clms::Fence, Buffer::new())?;
    nest = nest.nest(&attr(FenceAttr::Node, job.node)?).map_err(broken)?;
    nest = nest.nest(&attr(FenceAttr::Job, job.number)?).map_err(broken)?;
    nest = nest.nest(&attr(FenceAttr::Status, status)?).map_err(broken)?;
    nest = nest.nest(&attr(FenceAttr::Text, text)?).map_err(broken)?;
    let attrs = [nest].into_iter().collect();
    Family::open(FAMILY)?.request(Op::FenceDone, attrs).map(|_| ())
}

/// Says that an incarnation of a node is over: by an agent if it is named, else by somebody's word.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn fence_confirm(node: u32, incarnation: Option<u64>, text: &str) -> Result<(), Error> {
    let mut nest = attr(Clms::Fence, Buffer::new())?;
    nest = nest.nest(&attr(FenceAttr::Node, node)?).map_err(broken)?;
    if let Some(i) = incarnation {
        nest = nest.nest(&attr(FenceAttr::Incarnation, i)?).map_err(broken)?;
    }
    nest = nest.nest(&attr(FenceAttr::Text, text)?).map_err(broken)?;
    let by_agent = u8::from(incarnation.is_some());
    nest = nest.nest(&attr(FenceAttr::ByAgent, by_agent)?).map_err(broken)?;
    let attrs = [nest].into_iter().collect();
    Family::open(FAMILY)?.request(Op::FenceConfirm, attrs).map(|_| ())
}

/// Rings when an agent is to run on this node. As long as there is one the kernel counts on this process.
pub struct FenceBell(NlSocketHandle);

impl FenceBell {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`Error::NoModule`]; EPERM.
    pub fn open() -> Result<Self, Error> {
        let socket = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty()).map_err(broken)?;
        let attrs = family_attrs(&socket, FAMILY)?;
        let id = group(&attrs, FENCE_GROUP);
        let id = id.ok_or_else(|| broken("it has no multicast group fence"))?;
        socket.add_mcast_membership(Groups::new_groups(&[id])).map_err(broken)?;
        Ok(Self(socket))
    }

    /// Waits until it rings.
    ///
    /// # Errors
    /// The socket fails.
    pub fn wait(&self) -> Result<(), Error> {
        match self.0.recv::<GenlId, Genlmsghdr<Op, Clms>>() {
            Ok(_) => Ok(()),
            // It rang too often: the kernel is asked all the same.
            Err(SocketError::Io(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(SocketError::Io(e)) if e.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(broken(e)),
        }
    }
}

fn decode_jobs(attrs: &ClmsAttrs) -> Result<Vec<FenceJob>, Error> {
    let mut jobs = Vec::new();
    for a in attrs.iter().filter(|a| *a.nla_type().nla_type() == Clms::Fence) {
        let h = a.get_attr_handle::<FenceAttr>().map_err(broken)?;
        jobs.push(FenceJob {
            node: h.get_attr_payload_as(FenceAttr::Node).map_err(broken)?,
            incarnation: h.get_attr_payload_as(FenceAttr::Incarnation).map_err(broken)?,
            number: h.get_attr_payload_as(FenceAttr::Job).map_err(broken)?,
        });
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::numbers;
    use crate::netlink::tests::spec;

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = spec();
        let list = |l: &[(&str, u32)]| l.iter().map(|&(n, v)| (n.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(
            numbers(&spec, "  -\n    name: fence\n", "  -\n    name: history\n", "        "),
            list(&[
                ("node", u16::from(FenceAttr::Node).into()),
                ("incarnation", u16::from(FenceAttr::Incarnation).into()),
                ("job", u16::from(FenceAttr::Job).into()),
                ("status", u16::from(FenceAttr::Status).into()),
                ("text", u16::from(FenceAttr::Text).into()),
                ("by-agent", u16::from(FenceAttr::ByAgent).into()),
            ])
        );
    }
}
