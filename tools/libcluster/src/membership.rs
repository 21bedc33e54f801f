// SPDX-License-Identifier: GPL-2.0

//! The membership and the table of nodes: who is a member, joining and leaving, another table.
//!
//! `Documentation/netlink/ssi_clms.yaml` is the truth about numbers and types; a test here compares.

use crate::fencing::FenceState;
use crate::netlink::Error;
use crate::netlink::FAMILY;
use crate::netlink::Family;
use crate::netlink::Op;
use crate::netlink::attr;
use crate::netlink::broken;
use crate::netlink::text;
use neli::attr::Attribute;
use neli::genl::Nlattr;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use serde::Serialize;
use std::net::Ipv4Addr;

/// Longest name of a cluster or a node in bytes (`max-name-len` of the spec).
pub const MAX_NAME: usize = 64;
/// Longest cluster key in bytes (`max-key-len`).
pub const MAX_KEY: usize = 64;
/// Largest number a node may have.
pub const MAX_NODE: u32 = 1022;

/// Attribute set `clms`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Clms {
    Name = 1,
    View = 2,
    Quorate = 3,
    Master = 4,
    ThisNode = 5,
    Node = 6,
    Key = 7,
    DetectMs = 8,
    State = 9,
    FenceDigest = 40,
    FenceTimeoutMs = 41,
    Fence = 42,
    NextKey = 43,
    OldKey = 44,
    Generation = 45,
    NextNode = 46,
    NextGeneration = 47,
    Table = 48,
    Staged = 49,
    Settled = 50,
}
impl neli::consts::genl::NlAttrType for Clms {}

/// Attribute set `node`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum NodeAttr {
    Id = 1,
    Name = 2,
    State = 3,
    Incarnation = 4,
    Address = 5,
    Port = 6,
    Fence = 40,
    DetectionMs = 41,
    JudgementMs = 42,
    Votes = 43,
    Witness = 44,
    Place = 45,
    Table = 46,
    Staged = 47,
}
impl neli::consts::genl::NlAttrType for NodeAttr {}

pub(crate) type ClmsAttrs = GenlBuffer<Clms, Buffer>;

/// The eight states of a node, in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeState {
    /// Not seen since this node joined.
    NeverUp,
    /// Admitted, and not up yet.
    ComingUp,
    /// A full member.
    Up,
    /// About to leave.
    Shutdown,
    /// Lost or leaving.
    GoingDown,
    /// The kernel cleans up behind it.
    KCleanup,
    /// User space cleans up behind it.
    UCleanup,
    /// Gone.
    Down,
}

impl NodeState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NeverUp,
        Self::ComingUp,
        Self::Up,
        Self::Shutdown,
        Self::GoingDown,
        Self::KCleanup,
        Self::UCleanup,
        Self::Down,
    ];

    /// OpenSSI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverUp => "NEVERUP",
            Self::ComingUp => "COMINGUP",
            Self::Up => "UP",
            Self::Shutdown => "SHUTDOWN",
            Self::GoingDown => "GOINGDOWN",
            Self::KCleanup => "KCLEANUP",
            Self::UCleanup => "UCLEANUP",
            Self::Down => "DOWN",
        }
    }

    pub(crate) fn from_wire(n: u32) -> Result<Self, String> {
        usize::try_from(n)
            .ok()
            .and_then(|i| Self::ALL.get(i))
            .copied()
            .ok_or_else(|| format!("node state {n}"))
    }
}

/// One node as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its name, for people.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// Its incarnation; 0: it never joined.
    pub incarnation: u64,
    /// Whether it is fenced, and how far that is.
    pub fence: FenceState,
    /// From its last sign of life to its loss.
    pub detection_ms: Option<u32>,
    /// From then until it was judged dead, fencing included.
    pub judgement_ms: Option<u32>,
    /// It has a vote, and no processes.
    #[serde(rename = "witness")]
    pub is_witness: bool,
    /// Its tables, as it says.
    #[serde(skip)]
    pub tables: Tables,
}

/// Digests of a node's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tables {
    /// The one in force there; 0: it was not heard.
    pub in_force: u64,
    /// The one that is staged; 0: none.
    pub staged: u64,
}

/// The answer to a status request. What the kernel left out, as it does before a join, is empty or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Name of the cluster.
    pub name: String,
    /// Number of the view.
    pub view: u64,
    /// Its members are a majority.
    pub quorate: bool,
    /// The master.
    pub master: Option<u32>,
    /// The node that answers.
    pub this_node: Option<u32>,
    /// Its state.
    pub state: NodeState,
    /// Its tables.
    pub tables: Tables,
    /// Its files are known to have the one in force.
    pub settled: bool,
    /// All nodes of the table, by number.
    pub nodes: Vec<Node>,
}

/// A row of the table that a join gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinNode {
    /// Its number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// Its addresses, one for each link.
    pub addresses: Vec<Ipv4Addr>,
    /// It is fenced when it is lost.
    pub is_fenced: bool,
    /// What it counts in a majority.
    pub votes: u8,
    /// It has a vote, and no processes.
    pub is_witness: bool,
    /// Its place in the table.
    pub place: u32,
}

/// A table of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// How many changes it has seen.
    pub generation: u64,
    /// Its rows.
    pub nodes: Vec<JoinNode>,
}

/// What a join tells of fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinFence {
    /// Digest of what must be the same on all nodes.
    pub digest: u64,
    /// Milliseconds after which an agent that says nothing has failed.
    pub timeout_ms: u32,
}

/// What a join tells the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Name of the cluster.
    pub name: String,
    /// The node that joins.
    pub this_node: u32,
    /// The table.
    pub table: Table,
    /// The one that is staged.
    pub next_table: Option<Table>,
    /// The cluster key.
    pub key: Vec<u8>,
    /// The one that is staged.
    pub next_key: Option<Vec<u8>>,
    /// The one before, if it is not dropped yet; not together with the next one.
    pub old_key: Option<Vec<u8>>,
    /// Milliseconds of silence after which a node is taken for dead.
    pub detect_ms: Option<u32>,
    /// How nodes are fenced; `None`: none is.
    pub fence: Option<JoinFence>,
}

/// Asks for the membership. Needs no privilege.
///
/// # Errors
/// [`Error::NoModule`] and what the kernel says.
pub fn status() -> Result<Status, Error> {
    let answer = Family::open(FAMILY)?.request(Op::Status, ClmsAttrs::new())?;
    decode_status(&answer.ok_or_else(|| broken("no answer to a status request"))?)
}

/// Joins; returns when this node is up.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn join(req: &JoinRequest) -> Result<(), Error> {
    Family::open(FAMILY)?.wait_for(Op::Join, encode_join(req)?).map(|_| ())
}

/// Has this node know the table that is to follow.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn stage_table(table: &Table) -> Result<(), Error> {
    let attrs = encode_table(table)?.into_iter().collect();
    Family::open(FAMILY)?.request(Op::TableStage, attrs).map(|_| ())
}

/// Gives it up.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn unstage_table() -> Result<(), Error> {
    Family::open(FAMILY)?
        .request(Op::TableUnstage, ClmsAttrs::new())
        .map(|_| ())
}

/// Says that the files of this node have the table in force, which this is; or only asks whether this is in force on all members.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message: EAGAIN not on all, EINVAL it is another.
pub fn settle_table(table: &Table, asks: bool) -> Result<(), Error> {
    let mut attrs = encode_table(table)?;
    attrs.push(attr(Clms::Settled, u8::from(!asks))?);
    let attrs = attrs.into_iter().collect();
    Family::open(FAMILY)?.request(Op::TableSettle, attrs).map(|_| ())
}

/// Leaves; returns when every other node has taken note.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn leave() -> Result<(), Error> {
    Family::open(FAMILY)?.wait_for(Op::Leave, ClmsAttrs::new()).map(|_| ())
}

fn encode_join(req: &JoinRequest) -> Result<ClmsAttrs, Error> {
    let mut out = vec![
        attr(Clms::Name, req.name.as_str())?,
        attr(Clms::ThisNode, req.this_node)?,
        attr(Clms::Key, Buffer::from(req.key.clone()))?,
    ];
    for (a, key) in [(Clms::NextKey, &req.next_key), (Clms::OldKey, &req.old_key)] {
        if let Some(key) = key {
            out.push(attr(a, Buffer::from(key.clone()))?);
        }
    }
    if let Some(ms) = req.detect_ms {
        out.push(attr(Clms::DetectMs, ms)?);
    }
    if let Some(fence) = req.fence {
        out.push(attr(Clms::FenceDigest, fence.digest)?);
        out.push(attr(Clms::FenceTimeoutMs, fence.timeout_ms)?);
    }
    out.extend(encode_table(&req.table)?);
    if let Some(next) = &req.next_table {
        out.push(attr(Clms::NextGeneration, next.generation)?);
        out.extend(encode_rows(Clms::NextNode, &next.nodes)?);
    }
    Ok(out.into_iter().collect())
}

fn encode_table(table: &Table) -> Result<Vec<Nlattr<Clms, Buffer>>, Error> {
    let mut out = vec![attr(Clms::Generation, table.generation)?];
    out.extend(encode_rows(Clms::Node, &table.nodes)?);
    Ok(out)
}

fn encode_rows(what: Clms, rows: &[JoinNode]) -> Result<Vec<Nlattr<Clms, Buffer>>, Error> {
    let mut out = Vec::new();
    for row in rows {
        let mut nest = attr(what, Buffer::new())?;
        nest = nest.nest(&attr(NodeAttr::Id, row.node)?).map_err(broken)?;
        nest = nest.nest(&attr(NodeAttr::Name, row.name.as_str())?).map_err(broken)?;
        for a in &row.addresses {
            nest = nest.nest(&attr(NodeAttr::Address, a.octets())?).map_err(broken)?;
        }
        if row.is_fenced {
            nest = nest.nest(&attr(NodeAttr::Fence, 1u32)?).map_err(broken)?;
        }
        if row.votes != 1 {
            nest = nest
                .nest(&attr(NodeAttr::Votes, u32::from(row.votes))?)
                .map_err(broken)?;
        }
        if row.is_witness {
            nest = nest.nest(&attr(NodeAttr::Witness, 1u32)?).map_err(broken)?;
        }
        nest = nest.nest(&attr(NodeAttr::Place, row.place)?).map_err(broken)?;
        out.push(nest);
    }
    Ok(out)
}

fn decode_status(attrs: &ClmsAttrs) -> Result<Status, Error> {
    let mut s = Status {
        name: String::new(),
        view: 0,
        quorate: false,
        master: None,
        this_node: None,
        state: NodeState::NeverUp,
        tables: Tables::default(),
        settled: false,
        nodes: Vec::new(),
    };
    for a in attrs.iter() {
        match a.nla_type().nla_type() {
            Clms::Name => s.name = text(a.nla_payload().as_ref()),
            Clms::View => s.view = a.get_payload_as().map_err(broken)?,
            Clms::Quorate => s.quorate = a.get_payload_as::<u8>().map_err(broken)? != 0,
            Clms::Master => s.master = Some(a.get_payload_as().map_err(broken)?).filter(|&n| n != 0),
            Clms::ThisNode => s.this_node = Some(a.get_payload_as().map_err(broken)?).filter(|&n| n != 0),
            Clms::State => s.state = NodeState::from_wire(a.get_payload_as().map_err(broken)?).map_err(broken)?,
            Clms::Table => s.tables.in_force = a.get_payload_as().map_err(broken)?,
            Clms::Staged => s.tables.staged = a.get_payload_as().map_err(broken)?,
            Clms::Settled => s.settled = a.get_payload_as::<u8>().map_err(broken)? != 0,
            Clms::Node => {
                let h = a.get_attr_handle::<NodeAttr>().map_err(broken)?;
                let mut n = Node {
                    id: 0,
                    name: String::new(),
                    state: NodeState::NeverUp,
                    incarnation: 0,
                    fence: FenceState::None,
                    detection_ms: None,
                    judgement_ms: None,
                    is_witness: false,
                    tables: Tables::default(),
                };
                for b in h.iter() {
                    match b.nla_type().nla_type() {
                        NodeAttr::Id => n.id = b.get_payload_as().map_err(broken)?,
                        NodeAttr::Name => n.name = text(b.nla_payload().as_ref()),
                        NodeAttr::State => {
                            n.state = NodeState::from_wire(b.get_payload_as().map_err(broken)?).map_err(broken)?;
                        }
                        NodeAttr::Incarnation => n.incarnation = b.get_payload_as().map_err(broken)?,
                        NodeAttr::Fence => {
                            n.fence = match b.get_payload_as::<u32>().map_err(broken)? {
                                0 => FenceState::None,
                                1 => FenceState::Ready,
                                2 => FenceState::Wanted,
                                3 => FenceState::Done,
                                n => return Err(broken(format!("fence state {n}"))),
                            };
                        }
                        NodeAttr::DetectionMs => n.detection_ms = not_zero(b.get_payload_as().map_err(broken)?),
                        NodeAttr::JudgementMs => n.judgement_ms = not_zero(b.get_payload_as().map_err(broken)?),
                        NodeAttr::Witness => n.is_witness = b.get_payload_as::<u32>().map_err(broken)? != 0,
                        NodeAttr::Table => n.tables.in_force = b.get_payload_as().map_err(broken)?,
                        NodeAttr::Staged => n.tables.staged = b.get_payload_as().map_err(broken)?,
                        // A newer kernel may say more.
                        _ => {}
                    }
                }
                if n.id == 0 {
                    return Err(broken("a node without a number"));
                }
                s.nodes.push(n);
            }
            // A newer kernel may say more.
            _ => {}
        }
    }
    s.nodes.sort_by_key(|n| n.id);
    Ok(s)
}

fn not_zero(n: u32) -> Option<u32> {
    Some(n).filter(|n| *n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::numbers;
    use crate::netlink::tests::spec;
    use neli::FromBytesWithInput;
    use neli::ToBytes;
    use std::io::Cursor;

    fn bytes(attrs: &ClmsAttrs) -> Vec<u8> {
        let mut c = Cursor::new(Vec::new());
        attrs.to_bytes(&mut c).expect("attributes");
        c.into_inner()
    }

    fn parse(b: &[u8]) -> Result<Status, Error> {
        let attrs = ClmsAttrs::from_bytes_with_input(&mut Cursor::new(b), b.len()).map_err(broken)?;
        decode_status(&attrs)
    }

    #[test]
    fn join_is_these_bytes() {
        let row = JoinNode {
            node: 2,
            name: "two".to_owned(),
            addresses: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 1, 2)],
            is_fenced: false,
            votes: 3,
            is_witness: true,
            place: 5,
        };
        let req = JoinRequest {
            name: "west".to_owned(),
            this_node: 2,
            table: Table {
                generation: 1,
                nodes: vec![row.clone()],
            },
            next_table: Some(Table {
                generation: 2,
                nodes: vec![JoinNode { votes: 4, ..row }],
            }),
            key: b"0123456789abcdef".to_vec(),
            next_key: None,
            old_key: Some(b"fedcba9876543210".to_vec()),
            detect_ms: Some(3000),
            fence: None,
        };
        let mut want: Vec<u8> = Vec::new();
        want.extend(b"\x09\0\x01\0west\0\0\0\0"); // name
        want.extend(b"\x08\0\x05\0\x02\0\0\0"); // this-node
        want.extend(b"\x14\0\x07\x000123456789abcdef"); // key
        want.extend(b"\x14\0\x2c\x00fedcba9876543210"); // old-key
        want.extend(b"\x08\0\x08\0\xb8\x0b\0\0"); // detect-ms
        want.extend(b"\x0c\0\x2d\0\x01\0\0\0\0\0\0\0"); // generation
        for (what, votes) in [(6, 3), (0x2e, 4)] {
            if what == 0x2e {
                want.extend(b"\x0c\0\x2f\0\x02\0\0\0\0\0\0\0"); // next-generation
            }
            want.extend([0x3c, 0, what, 0x80]); // node, nested
            want.extend(b"\x08\0\x01\0\x02\0\0\0"); // id
            want.extend(b"\x08\0\x02\0two\0"); // name
            want.extend(b"\x08\0\x05\0\x0a\0\0\x02\x08\0\x05\0\x0a\0\x01\x02"); // addresses
            want.extend([8, 0, 0x2b, 0, votes, 0, 0, 0]); // votes
            want.extend(b"\x08\0\x2c\0\x01\0\0\0"); // witness
            want.extend(b"\x08\0\x2d\0\x05\0\0\0"); // place
        }
        assert_eq!(bytes(&encode_join(&req).expect("a request")), want);
    }

    #[test]
    fn status_is_read() {
        let mut b: Vec<u8> = Vec::new();
        b.extend(b"\x09\0\x01\0west\0\0\0\0");
        b.extend(b"\x0c\0\x02\0\x07\0\0\0\0\0\0\0"); // view
        b.extend(b"\x05\0\x03\0\x01\0\0\0"); // quorate
        b.extend(b"\x08\0\x04\0\x01\0\0\0"); // master
        b.extend(b"\x08\0\x05\0\x02\0\0\0"); // this-node
        b.extend(b"\x08\0\x63\0\x02\0\0\0"); // unknown
        b.extend(b"\x38\0\x06\x80\x08\0\x01\0\x03\0\0\0\x08\0\x03\0\x07\0\0\0\x0c\0\x04\0\x05\0\0\0\0\0\0\x01");
        b.extend(b"\x08\0\x28\0\x02\0\0\0\x08\0\x29\0\x34\x08\0\0\x08\0\x2a\0\0\0\0\0"); // the rest of it
        b.extend(b"\x1c\0\x06\0\x08\0\x01\0\x02\0\0\0\x08\0\x02\0two\0\x08\0\x03\0\x02\0\0\0"); // no nested flag
        b.extend(b"\x08\0\x09\0\x02\0\0\0"); // state
        b.extend(b"\x0c\0\x30\0\x08\0\0\0\0\0\0\0\x05\0\x32\0\x01\0\0\0"); // table, settled
        let s = parse(&b).expect("a status");
        assert_eq!(
            (s.name.as_str(), s.view, s.quorate, s.master, s.this_node),
            ("west", 7, true, Some(1), Some(2))
        );
        assert_eq!(s.state, NodeState::Up);
        assert_eq!((s.tables.in_force, s.tables.staged, s.settled), (8, 0, true));
        assert_eq!(
            s.nodes,
            [
                Node {
                    id: 2,
                    name: "two".to_owned(),
                    state: NodeState::Up,
                    incarnation: 0,
                    fence: FenceState::None,
                    detection_ms: None,
                    judgement_ms: None,
                    is_witness: false,
                    tables: Tables::default(),
                },
                Node {
                    id: 3,
                    name: String::new(),
                    state: NodeState::Down,
                    incarnation: 0x0100_0000_0000_0005,
                    fence: FenceState::Wanted,
                    detection_ms: Some(2100),
                    judgement_ms: None,
                    is_witness: false,
                    tables: Tables::default(),
                },
            ]
        );
    }

    #[test]
    fn status_before_a_join_is_no_error() {
        let s = parse(b"\x08\0\x09\0\0\0\0\0").expect("a status");
        assert_eq!(
            (s.state, s.quorate, s.master, s.nodes.len()),
            (NodeState::NeverUp, false, None, 0)
        );
        assert_eq!(parse(b"").map(|s| s.view), Ok(0));
    }

    #[test]
    fn garbage_is_refused() {
        for b in [
            &b"\x03\0\x01\0"[..],                                                // shorter than its header
            b"\x40\0\x01\0west",                                                 // longer than the message
            b"\x06\0\x02\0\x07\0\0\0",                                           // a view of two bytes
            b"\x08\0\x09\0\x08\0\0\0",                                           // state 8
            b"\x0c\0\x06\x80\x08\0\x03\0\x02\0\0\0",                             // a node without a number
            b"\x14\0\x06\x80\x08\0\x01\0\x01\0\0\0\x08\0\x03\0\xff\xff\xff\xff", // node state out of range
        ] {
            assert!(matches!(parse(b), Err(Error::Broken(_))), "{b:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = spec();
        let list = |l: &[(&str, u32)]| l.iter().map(|&(n, v)| (n.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(
            numbers(&spec, "name: clms\n", "  -\n    name: node\n", "        "),
            list(&[
                ("name", u16::from(Clms::Name).into()),
                ("view", u16::from(Clms::View).into()),
                ("quorate", u16::from(Clms::Quorate).into()),
                ("master", u16::from(Clms::Master).into()),
                ("this-node", u16::from(Clms::ThisNode).into()),
                ("node", u16::from(Clms::Node).into()),
                ("key", u16::from(Clms::Key).into()),
                ("detect-ms", u16::from(Clms::DetectMs).into()),
                ("state", u16::from(Clms::State).into()),
                ("fence-digest", u16::from(Clms::FenceDigest).into()),
                ("fence-timeout-ms", u16::from(Clms::FenceTimeoutMs).into()),
                ("fence", u16::from(Clms::Fence).into()),
                ("next-key", u16::from(Clms::NextKey).into()),
                ("old-key", u16::from(Clms::OldKey).into()),
                ("generation", u16::from(Clms::Generation).into()),
                ("next-node", u16::from(Clms::NextNode).into()),
                ("next-generation", u16::from(Clms::NextGeneration).into()),
                ("table", u16::from(Clms::Table).into()),
                ("staged", u16::from(Clms::Staged).into()),
                ("settled", u16::from(Clms::Settled).into()),
            ])
        );
        assert_eq!(
            numbers(&spec, "  -\n    name: node\n", "  -\n    name: fence\n", "        "),
            list(&[
                ("id", u16::from(NodeAttr::Id).into()),
                ("name", u16::from(NodeAttr::Name).into()),
                ("state", u16::from(NodeAttr::State).into()),
                ("incarnation", u16::from(NodeAttr::Incarnation).into()),
                ("address", u16::from(NodeAttr::Address).into()),
                ("port", u16::from(NodeAttr::Port).into()),
                ("fence", u16::from(NodeAttr::Fence).into()),
                ("detection-ms", u16::from(NodeAttr::DetectionMs).into()),
                ("judgement-ms", u16::from(NodeAttr::JudgementMs).into()),
                ("votes", u16::from(NodeAttr::Votes).into()),
                ("witness", u16::from(NodeAttr::Witness).into()),
                ("place", u16::from(NodeAttr::Place).into()),
                ("table", u16::from(NodeAttr::Table).into()),
                ("staged", u16::from(NodeAttr::Staged).into()),
            ])
        );
        let states: Vec<_> = NodeState::ALL.iter().map(|s| s.name().to_lowercase()).collect();
        let named: Vec<_> = numbers(&spec, "name: node-state\n", "  # History", "        ");
        assert_eq!(named.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(), states);
        for (i, s) in NodeState::ALL.into_iter().enumerate() {
            assert_eq!(NodeState::from_wire(i as u32), Ok(s));
            assert_eq!(serde_json::to_value(s).expect("json"), s.name());
        }
    }

    #[test]
    fn limits_are_those_of_the_spec() {
        let spec = spec();
        for (name, value) in [("max-key-len", MAX_KEY), ("max-name-len", MAX_NAME)] {
            let at = spec.find(&format!("name: {name}\n")).expect(name);
            let value_line = spec
                .get(at..)
                .and_then(|s| s.lines().find(|l| l.trim().starts_with("value:")))
                .expect(name);
            assert_eq!(value_line.trim(), format!("value: {value}"));
        }
    }
}
