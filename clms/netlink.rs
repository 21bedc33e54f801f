// SPDX-License-Identifier: GPL-2.0

//! Answers of the netlink family `ssi_clms`.

use crate::changes::NodeState;
use crate::facts;
use crate::fencing;
use crate::fencing::FenceArgs;
use crate::history;
use crate::leave;
use crate::places::Place;
use crate::shutdown;
use crate::status;
use crate::table;
use crate::table::Common;
use crate::table::Row;
use crate::table::Table;
use crate::thread;
use crate::thread::JoinArgs;
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
use ssi::clms_netlink::JoinNode;
use ssi::clms_netlink::Refusal;
use ssi::clms_netlink::ShutdownState;
use ssi::clms_netlink::Status;
use ssi::ids::NodeId;

/// The registered family.
pub(crate) type Registration = clms_netlink::Registration<Family>;

/// Registers it.
///
/// # Errors
/// `EEXIST`, `ENOMEM`.
pub(crate) fn register(module: &'static ThisModule) -> Result<Registration> {
    Registration::new(module)
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

/// So often a join begins anew with a later life, as others know a later one of this node. One is enough where all know the same.
const LATER_LIVES: usize = 4;

/// Rows as they are given.
fn rows(given: KVec<JoinNode<'_>>) -> Result<KVec<(Place, Row)>> {
    let mut rows = KVec::new();
    for n in given {
        let row = Row {
            node: n.node,
            name: copy(n.name)?,
            addresses: n.addresses,
            port: n.port,
            fenced: n.fenced && !n.is_witness,
            votes: n.votes,
            is_witness: n.is_witness,
        };
        rows.push((n.place, row), GFP_KERNEL)?;
    }
    Ok(rows)
}

/// What a join gives.
///
/// # Errors
/// `EINVAL` this node has no row, or a table cannot be; `ENOMEM`.
fn join_args(j: &Join<'_>) -> table::Answer<JoinArgs> {
    let this = j.this().ok_or(Refusal(
        EINVAL,
        Some(c"this node's number is not between 1 and 1022: correct clustertab"),
    ))?;
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
    let common = Common {
        detect_ms,
        fence_digest: j.fence_digest(),
    };
    let table = Table::new(rows(j.nodes()?)?, j.generation(), common)?;
    if table.place(this).is_none() {
        return Err(Refusal(
            EINVAL,
            Some(c"this node is not in clustertab: add its row on every node"),
        ));
    }
    let next_rows = rows(j.next_nodes()?)?;
    let next = if next_rows.is_empty() {
        None
    } else {
        let next = Table::new(next_rows, j.next_generation(), common)?;
        if next.place(this).is_none() {
            return Err(Refusal(
                EINVAL,
                Some(c"this node is not in clustertab.next: it is being removed"),
            ));
        }
        Some((table.change_to(&next)?, next))
    };
    Ok(JoinArgs {
        name: copy(j.name())?,
        key: copy(j.key())?,
        next_key: copy(j.next_key())?,
        old_key: copy(j.old_key())?,
        this,
        table,
        next,
        common,
        fence: FenceArgs {
            timeout_ms: j.fence_timeout_ms(),
        },
    })
}

impl Answerer for Family {
    fn status(s: &mut Status<'_>) -> Result {
        let st = status::status()?;
        s.set_state(st.state as u32);
        if let Some(this) = st.this {
            s.set_cluster(&st.name, this, st.view.id, st.quorate, st.view.master);
            for n in &st.nodes {
                if n.node == this {
                    s.set_tables(n.tables, st.settled);
                }
                s.add_node(
                    n.node,
                    &n.name,
                    n.state as u32,
                    n.incarnation,
                    n.is_witness,
                    (&n.loss, n.tables),
                );
            }
        } else {
            s.set_state(NodeState::NeverUp as u32);
        }
        Ok(())
    }

    fn join(j: &Join<'_>) -> core::result::Result<(), Refusal> {
        let mut result = thread::join(join_args(j)?);
        for _ in 0..LATER_LIVES {
            if result != Err(ESTALE) {
                break;
            }
            result = thread::join(join_args(j)?);
        }
        result.map_err(|e| {
            let why = match e {
                e if e == EALREADY => Some(c"this node has joined: see cluster status"),
                e if e == EADDRINUSE => Some(c"the cluster's port is in use on this node"),
                e if e == EINTR => Some(c"interrupted before a majority of the nodes was there"),
                e if e == ESTALE => Some(c"another machine joins under this node's number"),
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
                e if e == EALREADY => Some(c"it leaves, or is being shut down, already"),
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

    fn shutdown(node: NodeId, action: u32, grace_ms: u32) -> core::result::Result<(), Refusal> {
        if thread::current().is_none() {
            return Err(Refusal(ENOTCONN, Some(c"this node has not joined")));
        }
        if !shutdown::is_known(node) {
            return Err(Refusal(ENOENT, Some(c"no such node in the table")));
        }
        shutdown::ask(node, action, grace_ms).map_err(|e| Refusal(e, shutdown::refusal(e)))
    }

    fn shutdown_state(node: NodeId) -> Result<ShutdownState> {
        shutdown::state_of(node)
    }

    fn table_stage(t: &clms_netlink::Table<'_>) -> core::result::Result<(), Refusal> {
        table::stage(rows(t.nodes()?)?, t.generation())
    }

    fn table_unstage() -> core::result::Result<(), Refusal> {
        table::unstage()
    }

    fn table_settle(t: &clms_netlink::Table<'_>) -> core::result::Result<(), Refusal> {
        table::settle(rows(t.nodes()?)?, t.generation(), t.asks())
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
