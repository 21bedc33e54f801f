// SPDX-License-Identifier: GPL-2.0

//! Transitions of nodes: the history that the kernel keeps, who is up, facts of nodes, and being told.

use crate::membership::NodeState;
use crate::netlink::Error;
use crate::netlink::FAMILY;
use crate::netlink::Family;
use crate::netlink::Op;
use crate::netlink::attr;
use crate::netlink::broken;
use crate::netlink::text;
use neli::attr::Attribute;
use neli::consts::nl::GenlId;
use neli::err::SocketError;
use neli::genl::Genlmsghdr;
use neli::nl::NlPayload;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use neli::utils::Groups;
use nix::errno::Errno;
use serde::Serialize;
use std::io;

/// Attribute set `history`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum History {
    Id = 1,
    Time = 2,
    Node = 3,
    From = 4,
    To = 5,
    Cause = 6,
    Which = 7,
    Simple = 8,
    View = 9,
    Up = 10,
    Master = 11,
    SignalMode = 12,
    Incarnation = 13,
}
impl neli::consts::genl::NlAttrType for History {}

/// Attribute set `info`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum InfoAttr {
    Node = 1,
    State = 2,
    Incarnation = 3,
    TotalCpus = 4,
    OnlineCpus = 5,
    CpuPower = 6,
    TotalMemory = 7,
    Name = 8,
}
impl neli::consts::genl::NlAttrType for InfoAttr {}

pub(crate) type HistoryAttrs = GenlBuffer<History, Buffer>;

/// The signal that [`signal`] asks for.
pub const SIGCLUSTER: i32 = 63;

/// The number of the group in which the kernel tells of families that come and go.
const CTRL_GROUP: u32 = 16;

/// Which transition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Which {
    /// The one of that number.
    This = 1,
    /// The first after that number; after 0 the oldest that is kept.
    Next = 2,
    /// The last before that number.
    Previous = 3,
    /// The oldest that is kept.
    First = 4,
    /// The newest.
    Last = 5,
}

/// Why a node changed its state, as far as the answering node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Cause {
    /// It joined.
    Joined = 1,
    /// It is in the first view of the node that answers, and was a member before.
    Found = 2,
    /// It leaves, as it wished.
    Left = 3,
    /// The members have a view without it.
    Lost = 4,
    /// It wanted to leave, and stays.
    Stayed = 5,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Joined, Self::Found, Self::Left, Self::Lost, Self::Stayed];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Found => "found",
            Self::Left => "left",
            Self::Lost => "lost",
            Self::Stayed => "stayed",
        }
    }

    fn from_wire(n: u32) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|c| *c as u32 == n);
        found.ok_or_else(|| broken(format!("cause {n}")))
    }
}

/// What SIGCLUSTER is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SignalMode {
    /// Nothing.
    None = 0,
    /// Transitions to and from UP.
    Simple = 1,
    /// All transitions.
    Detailed = 2,
}

/// A change of a node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Its number, larger than those of all before it.
    pub id: u64,
    /// When the answering node noted it, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// The node.
    pub node: u32,
    /// Its life; 0: not known.
    pub incarnation: u64,
    /// Its state before.
    pub from: NodeState,
    /// Its state after.
    pub to: NodeState,
    /// Why.
    pub cause: Cause,
}

impl Transition {
    /// The number of the view that it belongs to.
    pub fn view(&self) -> u64 {
        self.id >> 24
    }
}

/// Who is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Number of the view in force.
    pub view: u64,
    /// The last transition that counts; 0: none yet.
    pub last: u64,
    /// The nodes that are UP, ascending.
    pub up: Vec<u32>,
}

/// Facts of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Its number.
    pub node: u32,
    /// Its name, for people.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// Its incarnation; 0: it never joined.
    pub incarnation: u64,
    /// Processors it has; this and what follows is 0 if it could not be asked.
    pub total_cpus: u32,
    /// Processors it uses.
    pub online_cpus: u32,
    /// Speed of one processor, for comparison.
    pub cpu_power: u32,
    /// Bytes of memory.
    pub total_memory: u64,
}

/// What a [`Listener`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node has changed its state.
    Transition(Transition),
    /// A view has been carried out.
    View {
        /// Its number.
        view: u64,
        /// Its master.
        master: Option<u32>,
        /// Its members, ascending.
        members: Vec<u32>,
    },
    /// Something was missed: the history has it.
    Missed,
}

/// Asks for one transition; `None` if there is none such. `simple`: only those to or from UP.
///
/// # Errors
/// `ESTALE` the history does not reach so far back, or the number is of another membership; [`Error::NoModule`].
pub fn transition(which: Which, id: u64, simple: bool) -> Result<Option<Transition>, Error> {
    let mut ask = vec![attr(History::Which, which as u32)?, attr(History::Id, id)?];
    if simple {
        ask.push(attr(History::Simple, Buffer::new())?);
    }
    let answer = Family::open(FAMILY)?.request(Op::History, ask.into_iter().collect::<HistoryAttrs>())?;
    let answer = answer.ok_or_else(|| broken("no answer to a question for a transition"))?;
    if answer.iter().next().is_none() {
        return Ok(None);
    }
    decode_transition(&answer).map(Some)
}

/// Who is up, and the last transition that counts for it.
///
/// # Errors
/// `ENOTCONN` this node has not joined; [`Error::NoModule`].
pub fn membership() -> Result<Membership, Error> {
    let answer = Family::open(FAMILY)?.request(Op::Membership, HistoryAttrs::new())?;
    let answer = answer.ok_or_else(|| broken("no answer to a question for the members"))?;
    let mut m = Membership {
        view: 0,
        last: 0,
        up: Vec::new(),
    };
    for a in answer.iter() {
        match a.nla_type().nla_type() {
            History::View => m.view = a.get_payload_as().map_err(broken)?,
            History::Id => m.last = a.get_payload_as().map_err(broken)?,
            History::Up => m.up.push(a.get_payload_as().map_err(broken)?),
            // A newer kernel may say more.
            _ => {}
        }
    }
    Ok(m)
}

/// Facts of a node, which is asked for them.
///
/// # Errors
/// `ENOENT` no such node; `ENOTCONN` this node has not joined; [`Error::NoModule`].
pub fn info(node: u32) -> Result<Info, Error> {
    let ask: GenlBuffer<InfoAttr, Buffer> = [attr(InfoAttr::Node, node)?].into_iter().collect();
    let answer = Family::open(FAMILY)?.wait_for(Op::NodeInfo, ask)?;
    let answer = answer.ok_or_else(|| broken("no answer to a question for a node"))?;
    let mut i = Info {
        node,
        name: String::new(),
        state: NodeState::NeverUp,
        incarnation: 0,
        total_cpus: 0,
        online_cpus: 0,
        cpu_power: 0,
        total_memory: 0,
    };
    for a in answer.iter() {
        match a.nla_type().nla_type() {
            InfoAttr::Node => i.node = a.get_payload_as().map_err(broken)?,
            InfoAttr::State => i.state = NodeState::from_wire(a.get_payload_as().map_err(broken)?).map_err(broken)?,
            InfoAttr::Incarnation => i.incarnation = a.get_payload_as().map_err(broken)?,
            InfoAttr::TotalCpus => i.total_cpus = a.get_payload_as().map_err(broken)?,
            InfoAttr::OnlineCpus => i.online_cpus = a.get_payload_as().map_err(broken)?,
            InfoAttr::CpuPower => i.cpu_power = a.get_payload_as().map_err(broken)?,
            InfoAttr::TotalMemory => i.total_memory = a.get_payload_as().map_err(broken)?,
            InfoAttr::Name => i.name = text(a.nla_payload().as_ref()),
            // A newer kernel may say more.
            _ => {}
        }
    }
    Ok(i)
}

/// Sets the speed of this node's processors; 0: the kernel's figure.
///
/// # Errors
/// `EPERM`; `EOPNOTSUPP` for another node; `ENOTCONN`; [`Error::NoModule`].
pub fn set_cpu_power(node: u32, power: u32) -> Result<(), Error> {
    let ask: GenlBuffer<InfoAttr, Buffer> = [attr(InfoAttr::Node, node)?, attr(InfoAttr::CpuPower, power)?]
        .into_iter()
        .collect();
    Family::open(FAMILY)?.request(Op::NodeSet, ask).map(drop)
}

/// Sends [`SIGCLUSTER`] to this process from now on, or does not any more.
///
/// # Errors
/// [`Error::NoModule`], `ENOMEM`.
pub fn signal(mode: SignalMode) -> Result<(), Error> {
    let ask: HistoryAttrs = [attr(History::SignalMode, mode as u32)?].into_iter().collect();
    Family::open(FAMILY)?.request(Op::Signal, ask).map(drop)
}

/// Is told of transitions and views as they happen.
pub struct Listener {
    family: Family,
    /// Of a message with several parts, those that were not given yet.
    ready: std::collections::VecDeque<Event>,
}

impl Listener {
    /// Begins to listen. What happens from now on is told.
    ///
    /// # Errors
    /// [`Error::NoModule`].
    pub fn new() -> Result<Self, Error> {
        let family = Family::open(FAMILY)?;
        let group = family.events.ok_or(Error::NoModule)?;
        for g in [group, CTRL_GROUP] {
            family
                .socket
                .add_mcast_membership(Groups::new_groups(&[g]))
                .map_err(broken)?;
        }
        Ok(Self {
            family,
            ready: std::collections::VecDeque::new(),
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Error::NoModule`] the module is gone.
    pub fn wait(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(e) = self.ready.pop_front() {
                return Ok(e);
            }
            let (messages, _) = match self.family.socket.recv::<u16, Genlmsghdr<u8, u16>>() {
                Ok(m) => m,
                Err(SocketError::Io(e)) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Event::Missed),
                Err(SocketError::Io(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(e)),
            };
            for m in messages {
                let m = m.map_err(broken)?;
                let NlPayload::Payload(p) = m.nl_payload() else {
                    continue;
                };
                if *m.nl_type() == u16::from(GenlId::Ctrl) {
                    // Some family came or went. If it was ours this fails.
                    Family::open(FAMILY)?;
                } else if *m.nl_type() == self.family.id {
                    let attrs = typed(p.attrs())?;
                    if let Some(e) = decode_event(*p.cmd(), &attrs)? {
                        self.ready.push_back(e);
                    }
                }
            }
        }
    }
}

/// The same attributes, by the names of set `history`.
fn typed(attrs: &GenlBuffer<u16, Buffer>) -> Result<HistoryAttrs, Error> {
    attrs
        .iter()
        .map(|a| attr(History::from(*a.nla_type().nla_type()), a.nla_payload().clone()))
        .collect()
}

fn decode_event(cmd: u8, attrs: &HistoryAttrs) -> Result<Option<Event>, Error> {
    match Op::from(cmd) {
        Op::Transition => decode_transition(attrs).map(|t| Some(Event::Transition(t))),
        Op::View => {
            let (mut view, mut master, mut members) = (0, None, Vec::new());
            for a in attrs.iter() {
                match a.nla_type().nla_type() {
                    History::View => view = a.get_payload_as().map_err(broken)?,
                    History::Master => master = Some(a.get_payload_as().map_err(broken)?).filter(|&n| n != 0),
                    History::Up => members.push(a.get_payload_as().map_err(broken)?),
                    // A newer kernel may say more.
                    _ => {}
                }
            }
            Ok(Some(Event::View { view, master, members }))
        }
        // A newer kernel may tell more.
        _ => Ok(None),
    }
}

fn decode_transition(attrs: &HistoryAttrs) -> Result<Transition, Error> {
    let (mut id, mut time_ns, mut node, mut incarnation) = (0, 0, 0, 0);
    let (mut from, mut to, mut cause) = (None, None, None);
    let state = |n| NodeState::from_wire(n).map_err(broken);
    for a in attrs.iter() {
        match a.nla_type().nla_type() {
            History::Id => id = a.get_payload_as().map_err(broken)?,
            History::Time => time_ns = a.get_payload_as().map_err(broken)?,
            History::Node => node = a.get_payload_as().map_err(broken)?,
            History::From => from = Some(state(a.get_payload_as().map_err(broken)?)?),
            History::To => to = Some(state(a.get_payload_as().map_err(broken)?)?),
            History::Cause => cause = Some(Cause::from_wire(a.get_payload_as().map_err(broken)?)?),
            History::Incarnation => incarnation = a.get_payload_as().map_err(broken)?,
            // A newer kernel may say more.
            _ => {}
        }
    }
    match (id, node, from, to, cause) {
        (1.., 1.., Some(from), Some(to), Some(cause)) => Ok(Transition {
            id,
            time_ns,
            node,
            incarnation,
            from,
            to,
            cause,
        }),
        _ => Err(broken("half a transition")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::numbers;
    use crate::netlink::tests::spec;
    use neli::FromBytesWithInput;
    use std::io::Cursor;

    fn parse(b: &[u8]) -> HistoryAttrs {
        HistoryAttrs::from_bytes_with_input(&mut Cursor::new(b), b.len()).expect("attributes")
    }

    /// Attributes with 4 bytes.
    fn words(all: &[(u16, u32)]) -> Vec<u8> {
        let one = |(t, v): &(u16, u32)| [&8u16.to_ne_bytes()[..], &t.to_ne_bytes(), &v.to_ne_bytes()].concat();
        all.iter().flat_map(one).collect()
    }

    #[test]
    fn events_are_read() {
        let mut b = b"\x0c\0\x01\0\0\x11\x80\x03\0\0\0\0\x0c\0\x02\0\x05\0\0\0\0\0\0\0".to_vec();
        b.extend(words(&[(3, 2), (4, 2), (5, 4), (6, 4), (99, 7)]));
        b.extend(b"\x0c\0\x0d\0\x09\0\0\0\0\0\0\0");
        let t = Transition {
            id: 0x0380_1100,
            time_ns: 5,
            node: 2,
            incarnation: 9,
            from: NodeState::Up,
            to: NodeState::GoingDown,
            cause: Cause::Lost,
        };
        assert_eq!(t.view(), 3);
        assert_eq!(decode_event(31, &parse(&b)), Ok(Some(Event::Transition(t))));

        let mut b = b"\x0c\0\x09\0\x07\0\0\0\0\0\0\0".to_vec();
        b.extend(words(&[(11, 1), (10, 1), (10, 3)]));
        let view = Event::View {
            view: 7,
            master: Some(1),
            members: vec![1, 3],
        };
        assert_eq!(decode_event(32, &parse(&b)), Ok(Some(view)));
        assert_eq!(decode_event(99, &parse(&[])), Ok(None));
    }

    #[test]
    fn garbage_is_refused() {
        for all in [
            &[(3, 2), (4, 2), (5, 4)][..],             // no number
            &[(3, 2), (4, 2), (5, 8), (6, 4)],         // state 8
            &[(3, 2), (4, 2), (5, 4), (6, 0)],         // cause 0
            &[(1, 2), (3, 1), (4, 2), (5, 4), (6, 1)], // a number of 4 bytes
        ] {
            assert!(decode_transition(&parse(&words(all))).is_err(), "{all:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = spec();
        let list = |l: &[(&str, u32)]| l.iter().map(|&(n, v)| (n.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(
            numbers(&spec, "  -\n    name: history\n", "  -\n    name: info\n", "        "),
            list(&[
                ("id", u16::from(History::Id).into()),
                ("time", u16::from(History::Time).into()),
                ("node", u16::from(History::Node).into()),
                ("from", u16::from(History::From).into()),
                ("to", u16::from(History::To).into()),
                ("cause", u16::from(History::Cause).into()),
                ("which", u16::from(History::Which).into()),
                ("simple", u16::from(History::Simple).into()),
                ("view", u16::from(History::View).into()),
                ("up", u16::from(History::Up).into()),
                ("master", u16::from(History::Master).into()),
                ("signal-mode", u16::from(History::SignalMode).into()),
                ("incarnation", u16::from(History::Incarnation).into()),
            ])
        );
        assert_eq!(
            numbers(&spec, "  -\n    name: info\n", "  -\n    name: shutdown\n", "        "),
            list(&[
                ("node", u16::from(InfoAttr::Node).into()),
                ("state", u16::from(InfoAttr::State).into()),
                ("incarnation", u16::from(InfoAttr::Incarnation).into()),
                ("total-cpus", u16::from(InfoAttr::TotalCpus).into()),
                ("online-cpus", u16::from(InfoAttr::OnlineCpus).into()),
                ("cpu-power", u16::from(InfoAttr::CpuPower).into()),
                ("total-memory", u16::from(InfoAttr::TotalMemory).into()),
                ("name", u16::from(InfoAttr::Name).into()),
            ])
        );
        let entries = |from: &str, first: u32| {
            let named = numbers(&spec, from, "  -\n    type:", "        ");
            named
                .into_iter()
                .enumerate()
                .map(|(i, (n, _))| (n, first + u32::try_from(i).expect("small")))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            entries("name: which\n", 1),
            list(&[
                ("this", Which::This as u32),
                ("next", Which::Next as u32),
                ("previous", Which::Previous as u32),
                ("first", Which::First as u32),
                ("last", Which::Last as u32),
            ])
        );
        let causes: Vec<_> = Cause::ALL.iter().map(|c| (c.name().to_owned(), *c as u32)).collect();
        assert_eq!(entries("name: cause\n", 1), causes);
        for c in Cause::ALL {
            assert_eq!(serde_json::to_value(c).expect("json"), c.name());
        }
        let modes = numbers(&spec, "name: signal-mode\n", "  # A planned shutdown", "        ");
        assert_eq!(
            modes.iter().map(|(n, _)| n.as_str()).zip(0u32..).collect::<Vec<_>>(),
            [
                ("none", SignalMode::None as u32),
                ("simple", SignalMode::Simple as u32),
                ("detailed", SignalMode::Detailed as u32),
            ]
        );
        let at = spec.find("name: sigcluster\n").expect("sigcluster");
        let value = spec
            .get(at..)
            .and_then(|s| s.lines().find(|l| l.trim().starts_with("value:")));
        assert_eq!(value.map(str::trim), Some(&*format!("value: {SIGCLUSTER}")));
    }
}
