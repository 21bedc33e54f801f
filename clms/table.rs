// SPDX-License-Identifier: GPL-2.0

//! The table of nodes, and how this node's changes.
//!
//! What may be changed, and when all members go on with another table, is decided in `state`. Whoever has a table has all of
//! it: the state machine goes on with another one in one step, those above when the view thread comes to it.

use crate::changes::Change as Task;
use crate::changes::NodeState;
use crate::met::Met;
use crate::places::Place;
use crate::recorder::Input;
use crate::state;
use crate::state::Change;
use crate::state::Unfit;
use crate::thread::current;
use crate::thread::Heart;
use crate::thread::Membership;
use crate::thread::MAX_NODES;
use kernel::prelude::*;
use kernel::sync::Arc;
use ssi::clms_netlink::Refusal;
use ssi::crypto;
use ssi::ids::NodeId;
use ssi::net::Ipv4;

/// What comes of an act of the administrator's.
pub(crate) type Answer<T = ()> = core::result::Result<T, Refusal>;

/// A row of the table.
pub(crate) struct Row {
    pub(crate) node: NodeId,
    pub(crate) name: KVec<u8>,
    pub(crate) addresses: KVec<Ipv4>,
    pub(crate) port: u16,
    /// It is fenced when it is lost.
    pub(crate) fenced: bool,
    /// What it counts in a majority.
    pub(crate) votes: u8,
    /// It has a vote, and no processes.
    pub(crate) is_witness: bool,
}

impl Row {
    /// What the state machine must know of it.
    pub(crate) fn for_state(&self) -> state::Row {
        state::Row {
            votes: self.votes,
            is_witness: self.is_witness,
        }
    }

    /// What the transport must know of it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn for_links(&self) -> Result<ics::NodeConfig> {
        let mut addresses = KVec::new();
        addresses.extend_from_slice(&self.addresses, GFP_KERNEL)?;
        Ok(ics::NodeConfig {
            node: self.node,
            addresses,
            port: self.port,
        })
    }

    /// Whether another row is this one but for its votes.
    fn is_same_node(&self, other: &Self) -> bool {
        self.node == other.node
            && self.addresses[..] == other.addresses[..]
            && self.port == other.port
            && self.is_witness == other.is_witness
            && self.fenced == other.fenced
    }
}

/// What must be the same on all nodes beside the rows.
#[derive(Clone, Copy)]
pub(crate) struct Common {
    pub(crate) detect_ms: u32,
    pub(crate) fence_digest: u64,
}

/// The rows, by place.
pub(crate) struct Table {
    rows: KVec<Option<Row>>,
    /// How many changes it has seen.
    generation: u64,
    /// Of all that must be the same on all nodes.
    pub(crate) digest: u64,
}

const fn bad(why: &'static CStr) -> Refusal {
    Refusal(EINVAL, Some(why))
}

impl Table {
    /// The table of rows, each with its place.
    ///
    /// # Errors
    /// `EINVAL` two rows have one place or number, or majorities cannot be had; `ENOMEM`.
    pub(crate) fn new(
        given: KVec<(Place, Row)>,
        generation: u64,
        common: Common,
    ) -> Answer<Arc<Self>> {
        let mut rows = KVec::with_capacity(MAX_NODES, GFP_KERNEL).map_err(Error::from)?;
        for _ in 0..MAX_NODES {
            rows.push(None, GFP_KERNEL).map_err(Error::from)?;
        }
        for (p, row) in given {
            if rows.iter().flatten().any(|r: &Row| r.node == row.node) {
                return Err(bad(
                    c"clustertab names a node number twice: correct it on every node",
                ));
            }
            match rows.get_mut(p) {
                Some(slot @ None) => *slot = Some(row),
                _ => {
                    return Err(bad(
                        c"clustertab has two rows of one place, or none: place=N",
                    ))
                }
            }
        }
        let mut table = Self {
            rows,
            generation,
            digest: 0,
        };
        table.check_votes()?;
        table.digest = table.compute(common)?;
        Ok(Arc::new(table, GFP_KERNEL).map_err(Error::from)?)
    }

    fn compute(&self, common: Common) -> Result<u64> {
        let mut bytes = KVec::new();
        bytes.extend_from_slice(&self.generation.to_le_bytes(), GFP_KERNEL)?;
        for (p, r) in self.rows() {
            let flags = u8::from(r.is_witness) | u8::from(r.fenced) << 1;
            // CAST: below 64, and few.
            let counts = [p as u8, r.votes, flags, r.addresses.len() as u8];
            bytes.extend_from_slice(&r.node.number().to_le_bytes(), GFP_KERNEL)?;
            bytes.extend_from_slice(&counts, GFP_KERNEL)?;
            bytes.extend_from_slice(&r.port.to_le_bytes(), GFP_KERNEL)?;
            for a in &r.addresses {
                bytes.extend_from_slice(&a.0.to_le_bytes(), GFP_KERNEL)?;
            }
        }
        // Not only the nodes: who waits longer than the others for a silent node goes on in a view that they have replaced.
        bytes.extend_from_slice(&common.detect_ms.to_le_bytes(), GFP_KERNEL)?;
        // Who waits for an agent where others do not would act on a death later than they, or never.
        bytes.extend_from_slice(&common.fence_digest.to_le_bytes(), GFP_KERNEL)?;
        let digest: [u8; 8] = crypto::mac(b"OpenSSI cluster table, version 5", &[&bytes]);
        // 0 is no table.
        Ok(u64::from_le_bytes(digest).max(1))
    }

    /// Whether majorities can be had, and none of witnesses alone.
    fn check_votes(&self) -> Answer {
        let votes = |is_witness: bool| {
            let of = self.rows().filter(|(_, r)| r.is_witness == is_witness);
            of.map(|(_, r)| u32::from(r.votes)).sum::<u32>()
        };
        let (witnesses, others) = (votes(true), votes(false));
        if witnesses + others == 0 {
            return Err(bad(
                c"no node of clustertab has a vote: correct it on every node",
            ));
        }
        if witnesses >= others {
            return Err(bad(
                c"witnesses must have fewer votes than the other nodes: correct clustertab",
            ));
        }
        Ok(())
    }

    /// The rows, ascending by place.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Place, &Row)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(p, r)| Some((p, r.as_ref()?)))
    }

    /// The row of a place.
    pub(crate) fn row(&self, p: Place) -> Option<&Row> {
        self.rows.get(p)?.as_ref()
    }

    /// The node of a place.
    pub(crate) fn node(&self, p: Place) -> Option<NodeId> {
        self.row(p).map(|r| r.node)
    }

    /// The number of the node of a place; 0: it is vacant.
    pub(crate) fn number(&self, p: Place) -> u32 {
        self.node(p).map_or(0, NodeId::number)
    }

    /// The place of a node.
    pub(crate) fn place(&self, node: NodeId) -> Option<Place> {
        self.rows().find(|(_, r)| r.node == node).map(|(p, _)| p)
    }

    /// Whether there is one node only.
    pub(crate) fn is_of_one(&self) -> bool {
        self.rows().count() == 1
    }

    /// What makes the table that follows of this one.
    ///
    /// # Errors
    /// `EINVAL` it does not follow, or more than one row, or vote, is another.
    pub(crate) fn change_to(&self, next: &Self) -> Answer<Change> {
        if next.generation != self.generation.wrapping_add(1) {
            return Err(bad(
                c"that table does not follow the one in force: see its generation",
            ));
        }
        let mut found = None;
        for p in 0..MAX_NODES {
            let differs = match (self.row(p), next.row(p)) {
                (None, None) => false,
                (Some(a), Some(b)) if !a.is_same_node(b) => {
                    return Err(bad(
                        c"only the votes of a row can change: remove the node and add it anew",
                    ));
                }
                (Some(a), Some(b)) => a.votes != b.votes,
                _ => true,
            };
            if differs && found.replace(p).is_some() {
                return Err(bad(
                    c"more than one row is another than in the table in force",
                ));
            }
        }
        let place = found.ok_or(bad(c"no row is another than in the table in force"))?;
        let votes = |t: &Self| t.row(place).map_or(0, |r| r.votes);
        if votes(self).abs_diff(votes(next)) > 1 {
            return Err(refusal(Unfit::Votes));
        }
        Ok(Change {
            table: next.digest,
            place,
            row: next.row(place).map(Row::for_state),
        })
    }
}

/// What people are told.
fn refusal(why: Unfit) -> Refusal {
    // At most 80 bytes, or the kernel cuts them.
    match why {
        Unfit::NoMember => Refusal(ENOTCONN, Some(c"this node is no member")),
        Unfit::NotSettled => Refusal(
            EBUSY,
            Some(c"the last change is not finished here: cluster node finish"),
        ),
        Unfit::Staged => Refusal(
            EBUSY,
            Some(c"another change is under way: cluster node finish, or cancel"),
        ),
        Unfit::Row => bad(c"that row cannot be changed so"),
        Unfit::Votes => bad(c"the votes of all may change by one at a time"),
        Unfit::Member => Refusal(EBUSY, Some(c"that node is a member: shut it down first")),
        Unfit::Quorum => Refusal(
            EDQUOT,
            Some(c"the members would be no majority of that table"),
        ),
        Unfit::UnderWay => Refusal(EBUSY, Some(c"the members are switching: wait")),
        Unfit::NotSwitched => Refusal(EAGAIN, Some(c"not all members are heard to have switched")),
    }
}

impl Membership {
    /// The table as those above know it.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.lock().clone()
    }

    /// The place of a node.
    pub(crate) fn place(&self, node: NodeId) -> Option<Place> {
        self.table.lock().place(node)
    }

    /// What a step made of the tables: whoever has to know of another one is told, in order.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn follow_table(&self, heart: &mut Heart) -> Result {
        if heart.core.table() != heart.table.digest {
            if let Some(next) = heart.staged.take() {
                self.changes.push(Task::Table(next.clone()))?;
                heart.table = next;
            }
        }
        if heart.core.staged().is_none() {
            heart.staged = None;
        }
        Ok(())
    }

    /// Those above go on with another table. Sleeps, and waits for nobody.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn take_table(&self, next: &Arc<Table>) -> Result {
        let old = core::mem::replace(&mut *self.table.lock(), next.clone());
        let differs = |p: &Place| old.node(*p) != next.node(*p);
        for p in (0..MAX_NODES).filter(differs) {
            if let Some(node) = old.node(p) {
                ics::remove_node(node)?;
                pr_info!("node {} is out of the table\n", node.number());
            }
            {
                let mut done = self.done.lock();
                done.leaving.remove(p);
                done.cut.remove(p);
                if let Some(s) = done.states.get_mut(p) {
                    *s = NodeState::NeverUp;
                }
                if let Some(i) = done.incarnations.get_mut(p) {
                    *i = 0;
                }
                if let Some(n) = done.not_understood.get_mut(p) {
                    *n = 0;
                }
                if let Some(m) = done.met.get_mut(p) {
                    *m = Met::default();
                }
            }
            let row = next.row(p);
            self.fence_row(p, row.is_some_and(|r| r.fenced));
            self.replica.set_node(p, row.map(|r| r.node));
            if let Some(row) = row {
                // Its place is known by now: nothing of what it says is missed.
                match ics::add_node(row.for_links()?) {
                    // This node leaves, and talks to nobody any more.
                    Err(e) if e == ESHUTDOWN => return Ok(()),
                    r => r?,
                }
                pr_info!("node {} is in the table\n", row.node.number());
            }
        }
        Ok(())
    }

    /// Knows the table that is to follow.
    ///
    /// # Errors
    /// `EINVAL` it cannot follow; `EDQUOT` the members would be no majority; `EBUSY` another change is under way, or the node that
    /// goes is a member or is not known to be off; `ENOTCONN`.
    fn stage(&self, next: Arc<Table>) -> Answer {
        self.step_if(|heart| {
            let c = heart.table.change_to(&next)?;
            // Also where it is staged already: the node may have been a member since.
            if c.row.is_none() && self.is_fence_pending(c.place) {
                return Err(Refusal(
                    EBUSY,
                    Some(c"that node is lost, and not fenced yet: see cluster status"),
                ));
            }
            if heart.core.staged() == Some(c.table) {
                return Ok(Input::Stage(Some(c)));
            }
            heart.core.may_stage(&c).map_err(refusal)?;
            if self.table.lock().digest != heart.table.digest {
                return Err(refusal(Unfit::NotSettled));
            }
            heart.staged = Some(next);
            Ok(Input::Stage(Some(c)))
        })
    }

    /// The table of the same common part.
    fn like(&self, rows: KVec<(Place, Row)>, generation: u64) -> Answer<Arc<Table>> {
        Table::new(rows, generation, self.common)
    }
}

fn here() -> Answer<Arc<Membership>> {
    current().ok_or(Refusal(ENOTCONN, Some(c"this node has not joined")))
}

/// Knows the table that is to follow.
///
/// # Errors
/// `EINVAL` it cannot follow; `EDQUOT` the members would be no majority; `EBUSY` another change is under way, or the node that
/// goes is a member or is not known to be off; `ENOTCONN`.
pub(crate) fn stage(rows: KVec<(Place, Row)>, generation: u64) -> Answer {
    let m = here()?;
    m.stage(m.like(rows, generation)?)
}

/// Gives it up.
///
/// # Errors
/// `EBUSY` the members may have switched; `ENOTCONN`.
pub(crate) fn unstage() -> Answer {
    let m = here()?;
    m.step_if(|heart| {
        heart.core.may_unstage().map_err(refusal)?;
        Ok(Input::Stage(None))
    })
}

/// The file has the table in force: this is what is in it. `asks`: it is only asked whether this table is in force on all members.
///
/// # Errors
/// `EINVAL` it is another; `EAGAIN` not all members have switched; `ENOTCONN`.
pub(crate) fn settle(rows: KVec<(Place, Row)>, generation: u64, asks: bool) -> Answer {
    let m = here()?;
    let table = m.like(rows, generation)?;
    let check = |heart: &Heart| {
        if heart.table.digest != table.digest {
            return Err(bad(c"that is not the table in force"));
        }
        if m.table().digest != table.digest {
            return Err(refusal(Unfit::NotSwitched));
        }
        heart.core.may_settle().map_err(refusal)
    };
    if asks {
        return check(&m.heart.lock());
    }
    m.step_if(|heart| {
        check(heart)?;
        Ok(Input::Settle)
    })
}

#[kunit_tests(ssi_clms_table)]
mod tests {
    use super::*;

    const COMMON: Common = Common {
        detect_ms: 2000,
        fence_digest: 0,
    };

    fn row(node: u32, votes: u8) -> Result<Row> {
        let mut row = Row {
            node: NodeId::new(node).ok_or(EINVAL)?,
            name: KVec::new(),
            addresses: KVec::new(),
            port: 7373,
            fenced: false,
            votes,
            is_witness: false,
        };
        row.addresses.push(Ipv4(0x0a49_0100 + node), GFP_KERNEL)?;
        Ok(row)
    }

    /// A table of two nodes, of which `f` changes one. The other has so many votes that the one may be a witness.
    fn table(generation: u64, f: impl FnOnce(&mut Row)) -> Result<Arc<Table>> {
        let mut changed = row(1, 1)?;
        f(&mut changed);
        let mut rows = KVec::new();
        rows.push((0, changed), GFP_KERNEL)?;
        rows.push((1, row(2, 3)?), GFP_KERNEL)?;
        Table::new(rows, generation, COMMON).map_err(|e| e.0)
    }

    fn digest(f: impl FnOnce(&mut Row)) -> Result<u64> {
        Ok(table(0, f)?.digest)
    }

    #[test]
    fn a_change_is_one_vote() -> Result {
        let now = table(0, |_| ())?;
        assert!(now.change_to(&*table(1, |r| r.votes = 2)?).is_ok());
        assert!(now.change_to(&*table(1, |r| r.votes = 3)?).is_err());
        assert!(now.change_to(&*table(2, |r| r.votes = 2)?).is_err());
        Ok(())
    }

    #[test]
    fn witnesses_are_no_majority() -> Result {
        let as_many = table(0, |r| {
            r.is_witness = true;
            r.votes = 3;
        });
        assert!(matches!(as_many, Err(e) if e == EINVAL));
        Ok(())
    }

    #[test]
    fn all_that_a_row_has_is_in_the_digest() -> Result {
        let plain = digest(|_| ())?;
        assert_eq!(plain, digest(|_| ())?);
        assert_ne!(plain, digest(|r| r.fenced = true)?);
        assert_ne!(plain, digest(|r| r.port = 7374)?);
        assert_ne!(plain, digest(|r| r.votes = 2)?);
        assert_ne!(plain, digest(|r| r.is_witness = true)?);
        assert_ne!(
            digest(|r| r.fenced = true)?,
            digest(|r| r.is_witness = true)?
        );
        // Names are for people: each machine's hosts file may say its own.
        assert_eq!(plain, digest(|r| r.name.clear())?);
        assert_ne!(
            plain,
            digest(|r| {
                for a in r.addresses.iter_mut() {
                    *a = Ipv4(0x0a49_0103);
                }
            })?
        );
        assert_ne!(plain, digest(|r| r.addresses.clear())?);
        Ok(())
    }
}
