// SPDX-License-Identifier: GPL-2.0

//! Answers of the netlink family `ssi_clms`.

use crate::changes::NodeState;
use crate::facts;
use crate::fencing;
use crate::fencing::FenceArgs;
use crate::history;
use crate::leave;
use crate::status;
use crate::thread;
use crate::thread::JoinArgs;
use crate::thread::Row;
use kernel::prelude::*;
use ssi::clms_history::Historian;
use ssi::clms_history::Info;
use ssi::clms_history::Members;
use ssi::clms_history::Transition;
use ssi::clms_history::Which;
use ssi::clms_netlink;
use ssi::clms_netlink::Answerer;
use ssi::clms_netlink::FenceJob;
use ssi::clms_netlink::Fenced;
use ssi::clms_netlink::Join;
use ssi::clms_netlink::Refusal;
use ssi::clms_netlink::Status;
use ssi::ids::NodeId;

/// The registered family.
pub(crate) type Registration = clms_netlink::Registration<Family>;

/// Registers it.
///
/// # Errors
/// `EEXIST`, `ENOMEM`.
pub(crate) fn register() -> Result<Registration> {
    Registration::new()
}

/// Answers for it.
pub(crate) struct Family;

/// Shortest time-out that a join may ask for.
const MIN_DETECT_MS: u32 = 300;

/// Longest one.
const MAX_DETECT_MS: u32 = 60_000;

fn copy(bytes: &[u8]) -> Result<KVec<u8>> {
    let mut v = KVec::new();
    v.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(v)
}

/// Whether majorities can be had, and none of witnesses alone.
fn check_votes(rows: &[Row]) -> core::result::Result<(), Refusal> {
    let votes = |is_witness: bool| {
        let of = rows.iter().filter(|r| r.is_witness == is_witness);
        of.map(|r| u32::from(r.votes)).sum::<u32>()
    };
    let (witnesses, others) = (votes(true), votes(false));
    let why = if witnesses + others == 0 {
        c"no node of clustertab has a vote: correct it on every node"
    } else if witnesses >= others {
        c"witnesses must have fewer votes than the other nodes: correct clustertab"
    } else {
        return Ok(());
    };
    Err(Refusal(EINVAL, Some(why)))
}

impl Answerer for Family {
    fn status(s: &mut Status<'_>) -> Result {
        let st = status::status()?;
        s.set_state(st.state as u32);
        if let Some(this) = st.this {
            s.set_cluster(&st.name, this, st.view.id, st.quorate, st.view.master);
            for n in &st.nodes {
                s.add_node(n.node, &n.name, n.state as u32, n.incarnation, &n.loss);
            }
        } else {
            s.set_state(NodeState::NeverUp as u32);
        }
        Ok(())
    }

    fn join(j: &Join<'_>) -> core::result::Result<(), Refusal> {
        let this = j.this().ok_or(Refusal(
            EINVAL,
            Some(c"this node's number is not between 1 and 1022: correct clustertab"),
        ))?;
        let mut rows = KVec::new();
        for n in j.nodes()? {
            let name = copy(n.name)?;
            let row = Row {
                node: n.node,
                name,
                addresses: n.addresses,
                port: n.port,
                fenced: n.fenced && !n.is_witness,
                votes: n.votes,
                is_witness: n.is_witness,
            };
            rows.push(row, GFP_KERNEL).map_err(Error::from)?;
        }
        for (i, r) in rows.iter().enumerate() {
            if rows.iter().skip(i + 1).any(|o: &Row| o.node == r.node) {
                return Err(Refusal(
                    EINVAL,
                    Some(c"clustertab names a node number twice: correct it on every node"),
                ));
            }
        }
        if !rows.iter().any(|r| r.node == this) {
            return Err(Refusal(
                EINVAL,
                Some(c"this node is not in clustertab: add its row on every node"),
            ));
        }
        check_votes(&rows)?;
        let detect_ms = match j.detect_ms() {
            0 => thread::DETECT_MS,
            ms if ms < MIN_DETECT_MS => {
                return Err(Refusal(
                    EINVAL,
                    Some(c"detection in less than 300 ms would take slow nodes for dead"),
                ))
            }
            ms if ms > MAX_DETECT_MS => {
                return Err(Refusal(
                    EINVAL,
                    Some(c"detection in more than 60 s: calls to the dead would wait so long"),
                ))
            }
            ms => ms,
        };
        let args = JoinArgs {
            name: copy(j.name())?,
            key: copy(j.key())?,
            next_key: copy(j.next_key())?,
            old_key: copy(j.old_key())?,
            this,
            rows,
            detect_ms,
            fence: FenceArgs {
                digest: j.fence_digest(),
                timeout_ms: j.fence_timeout_ms(),
            },
        };
        thread::join(args).map_err(|e| {
            let why = match e {
                e if e == EALREADY => Some(c"this node has joined: see cluster status"),
                e if e == EADDRINUSE => Some(c"the cluster's port is in use on this node"),
                e if e == EINTR => Some(c"interrupted before a majority of the nodes was there"),
                _ => None,
            };
            Refusal(e, why)
        })
    }

    fn leave() -> core::result::Result<(), Refusal> {
        leave::leave().map_err(|e| {
            let why = match e {
                e if e == ENOTCONN => Some(c"this node has not joined"),
                // At most 80 bytes, or the kernel cuts them.
                e if e == EDQUOT => Some(c"the nodes that remain would be no majority"),
                e if e == EAGAIN => Some(c"a lost node is not fenced yet: see cluster status"),
                e if e == EBUSY => Some(c"processes here belong to processes of other nodes"),
                _ => None,
            };
            Refusal(e, why)
        })
    }

    fn fence_list(add: &mut dyn FnMut(FenceJob)) {
        fencing::jobs(add);
    }

    fn fence_done(f: &Fenced<'_>) -> core::result::Result<(), Refusal> {
        fencing::done(f)
    }

    fn fence_confirm(f: &Fenced<'_>) -> core::result::Result<(), Refusal> {
        fencing::confirm(f)
    }
}

impl Historian for Family {
    fn history(which: Which, simple: bool) -> Result<Option<Transition>> {
        history::find(which, simple)
    }

    fn membership(m: &mut Members<'_>) -> Result {
        let now = status::members()?;
        m.set(now.view.id, now.last, now.view.master);
        now.up.iter().for_each(|n| m.add(n));
        Ok(())
    }

    fn node_info(i: &mut Info<'_>) -> Result {
        let n = status::node(i.node().ok_or(ENOENT)?)?;
        i.set_node(&n.name, n.state as u32, n.incarnation);
        // Of a node that is not up nothing is known now: zeros.
        if let Some(machine) = facts::ask(n.node) {
            i.set_machine(&machine);
        }
        Ok(())
    }

    fn set_info(node: Option<NodeId>, cpu_power: u32) -> core::result::Result<(), Refusal> {
        let this = thread::current()
            .ok_or(Refusal(ENOTCONN, Some(c"this node has not joined")))?
            .this;
        if node != Some(this) {
            return Err(Refusal(
                EOPNOTSUPP,
                Some(c"only this node's own facts can be set: ask on that node"),
            ));
        }
        facts::set_cpu_power(cpu_power);
        Ok(())
    }
}
