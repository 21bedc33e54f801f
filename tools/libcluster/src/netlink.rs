// SPDX-License-Identifier: GPL-2.0

//! The user's side of the generic netlink family `ssi_clms`, and of any family of ours what is common to them.
//!
//! `Documentation/netlink/ssi_clms.yaml` is the truth about numbers and types; a test here compares.

use neli::consts::genl::CtrlAttr;
use neli::consts::genl::CtrlAttrMcastGrp;
use neli::consts::genl::CtrlCmd;
use neli::consts::genl::Index;
use neli::consts::nl::GenlId;
use neli::consts::nl::NlmF;
use neli::consts::nl::NlmsgerrAttr;
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::genl::AttrTypeBuilder;
use neli::genl::Genlmsghdr;
use neli::genl::GenlmsghdrBuilder;
use neli::genl::Nlattr;
use neli::genl::NlattrBuilder;
use neli::nl::NlPayload;
use neli::nl::NlmsghdrBuilder;
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use neli::utils::Groups;
use nix::errno::Errno;

/// Name of the family.
pub const FAMILY: &str = "ssi_clms";
const VERSION: u8 = 1;
/// Its multicast group.
pub(crate) const EVENTS: &str = "events";

/// Operations of the family.
#[neli::neli_enum(serialized_type = "u8")]
pub(crate) enum Op {
    Status = 1,
    Join = 2,
    Leave = 3,
    History = 16,
    Membership = 17,
    NodeInfo = 18,
    NodeSet = 19,
    FenceList = 20,
    FenceDone = 21,
    FenceConfirm = 22,
    FenceWanted = 23,
    Shutdown = 24,
    ShutdownState = 25,
    TableStage = 26,
    TableUnstage = 27,
    TableSettle = 28,
    Signal = 30,
    Transition = 31,
    View = 32,
    Cleaner = 33,
    Cleaned = 34,
}
impl neli::consts::genl::Cmd for Op {}

/// A request that the kernel refused, with the words it gave for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub errno: Errno,
    /// The kernel's words.
    pub message: Option<String>,
}

impl Refused {
    /// `EACCES permission denied: the key of node 2 differs`.
    pub fn text(&self) -> String {
        match &self.message {
            Some(m) => format!("{}: {m}", describe(self.errno)),
            None => describe(self.errno),
        }
    }
}

/// Why a request had no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The family is not registered.
    NoModule,
    /// The kernel refused.
    Refused(Refused),
    /// The socket failed or the bytes made no sense.
    Broken(String),
}

impl Error {
    /// The errno for it: that of a refusal, `ENOSYS` without the module, `EIO` for nonsense.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoModule => Errno::ENOSYS,
            Self::Refused(r) => r.errno,
            Self::Broken(_) => Errno::EIO,
        }
    }
}

/// `ENOENT no such file or directory`: the name that scripts look for and the words for people.
pub fn describe(e: Errno) -> String {
    format!("{} {}", errno_name(e), e.desc().to_lowercase())
}

/// The name of an error; `errno` for those without one.
pub fn errno_name(e: Errno) -> String {
    match e {
        Errno::UnknownErrno => "errno".to_owned(),
        e => format!("{e:?}"),
    }
}

/// A socket that fails: the errno of that, or nonsense.
fn failed(e: SocketError) -> Error {
    match e {
        SocketError::Io(io) => match io.raw_os_error() {
            Some(errno) => Error::Refused(Refused {
                errno: Errno::from_raw(errno),
                message: None,
            }),
            None => broken(io),
        },
        e => broken(e),
    }
}

/// Nonsense, said so.
pub fn broken(e: impl std::fmt::Display) -> Error {
    Error::Broken(e.to_string())
}

/// What the kernel says of the family.
pub(crate) fn family_attrs(socket: &NlSocketHandle, family: &str) -> Result<GenlBuffer<CtrlAttr, Buffer>, Error> {
    let name = attr(CtrlAttr::FamilyName, family)?;
    let attrs = [name].into_iter().collect();
    match exchange::<CtrlCmd, CtrlAttr>(socket, GenlId::Ctrl, CtrlCmd::Getfamily, 2, attrs) {
        Err(Error::Refused(r)) if r.errno == Errno::ENOENT => Err(Error::NoModule),
        r => r?.ok_or(Error::NoModule),
    }
}

/// The number of a multicast group of the family.
pub(crate) fn group(family: &GenlBuffer<CtrlAttr, Buffer>, name: &str) -> Option<u32> {
    let handle = family.get_attr_handle();
    let groups = handle.get_nested_attributes::<Index>(CtrlAttr::McastGroups).ok()?;
    groups.iter().find_map(|g| {
        let g = g.get_attr_handle::<CtrlAttrMcastGrp>().ok()?;
        let its = g.get_attr_payload_as_with_len::<String>(CtrlAttrMcastGrp::Name).ok()?;
        let id = g.get_attr_payload_as::<u32>(CtrlAttrMcastGrp::Id).ok()?;
        (its == name).then_some(id)
    })
}

/// A socket and the number the family has on this kernel. No thread: a program that has asked its question must
/// still be able to move to another node.
pub(crate) struct Family {
    pub(crate) socket: NlSocketHandle,
    pub(crate) id: u16,
    /// Multicast group `events`.
    pub(crate) events: Option<u32>,
}

impl Family {
    pub(crate) fn open(family: &str) -> Result<Self, Error> {
        let socket = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty()).map_err(failed)?;
        socket.enable_ext_ack(true).map_err(failed)?;
        let attrs = family_attrs(&socket, family)?;
        let id = attrs
            .get_attr_handle()
            .get_attr_payload_as::<u16>(CtrlAttr::FamilyId)
            .map_err(broken)?;
        let events = group(&attrs, EVENTS);
        Ok(Self { socket, id, events })
    }

    pub(crate) fn request<A>(
        &self,
        op: Op,
        attrs: GenlBuffer<A, Buffer>,
    ) -> Result<Option<GenlBuffer<A, Buffer>>, Error>
    where
        A: neli::consts::genl::NlAttrType + std::fmt::Debug,
        Genlmsghdr<Op, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
    {
        exchange(&self.socket, GenlId::from(self.id), op, VERSION, attrs)
    }

    /// As [`Self::request`], for what waits for other nodes: a dump, of which the first message says nothing but that it was taken.
    pub(crate) fn wait_for<A>(
        &self,
        op: Op,
        attrs: GenlBuffer<A, Buffer>,
    ) -> Result<Option<GenlBuffer<A, Buffer>>, Error>
    where
        A: neli::consts::genl::NlAttrType + std::fmt::Debug,
        Genlmsghdr<Op, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
    {
        let all = dump_from(&self.socket, GenlId::from(self.id), op, VERSION, attrs)?;
        Ok(all.into_iter().nth(1))
    }
}

/// Asks a family of ours for one thing; gives the answer's attributes, if it has an answer.
///
/// # Errors
/// [`Error::NoModule`] and what the kernel says.
pub fn request<C, A>(
    family: &str,
    cmd: C,
    version: u8,
    attrs: GenlBuffer<A, Buffer>,
) -> Result<Option<GenlBuffer<A, Buffer>>, Error>
where
    C: neli::consts::genl::Cmd + std::fmt::Debug,
    A: neli::consts::genl::NlAttrType + std::fmt::Debug,
    Genlmsghdr<C, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
{
    let Family { socket, id, .. } = Family::open(family)?;
    exchange(&socket, GenlId::from(id), cmd, version, attrs)
}

/// Sends one request and reads up to its acknowledgement.
fn exchange<C, A>(
    socket: &NlSocketHandle,
    family: GenlId,
    cmd: C,
    version: u8,
    attrs: GenlBuffer<A, Buffer>,
) -> Result<Option<GenlBuffer<A, Buffer>>, Error>
where
    C: neli::consts::genl::Cmd + std::fmt::Debug,
    A: neli::consts::genl::NlAttrType + std::fmt::Debug,
    Genlmsghdr<C, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
{
    send(socket, family, NlmF::REQUEST | NlmF::ACK, cmd, version, attrs)?;
    let mut answer = None;
    loop {
        let (messages, _) = socket.recv::<GenlId, Genlmsghdr<C, A>>().map_err(failed)?;
        for m in messages {
            match m.map_err(broken)?.nl_payload() {
                NlPayload::Payload(p) => answer = Some(p.attrs().iter().cloned().collect()),
                NlPayload::Ack(_) => return Ok(answer),
                NlPayload::Err(e) => return Err(refused(*e.error(), e.ext_ack())),
                NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
            }
        }
    }
}

/// Asks a family for all that it has of a kind, narrowed down by `attrs`: the attributes of each.
///
/// # Errors
/// [`Error::NoModule`] and what the kernel says.
pub fn dump<C, A>(
    family: &str,
    cmd: C,
    version: u8,
    attrs: GenlBuffer<A, Buffer>,
) -> Result<Vec<GenlBuffer<A, Buffer>>, Error>
where
    C: neli::consts::genl::Cmd + std::fmt::Debug,
    A: neli::consts::genl::NlAttrType + std::fmt::Debug,
    Genlmsghdr<C, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
{
    let Family { socket, id, .. } = Family::open(family)?;
    dump_from(&socket, GenlId::from(id), cmd, version, attrs)
}

/// Asks for a dump and reads it to its end.
fn dump_from<C, A>(
    socket: &NlSocketHandle,
    family: GenlId,
    cmd: C,
    version: u8,
    attrs: GenlBuffer<A, Buffer>,
) -> Result<Vec<GenlBuffer<A, Buffer>>, Error>
where
    C: neli::consts::genl::Cmd + std::fmt::Debug,
    A: neli::consts::genl::NlAttrType + std::fmt::Debug,
    Genlmsghdr<C, A>: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize> + Clone,
{
    send(socket, family, NlmF::REQUEST | NlmF::DUMP, cmd, version, attrs)?;
    let mut all = Vec::new();
    loop {
        let (messages, _) = socket.recv::<GenlId, Genlmsghdr<C, A>>().map_err(failed)?;
        for m in messages {
            match m.map_err(broken)?.nl_payload() {
                NlPayload::Payload(p) => all.push(p.attrs().iter().cloned().collect()),
                NlPayload::DumpExtAck(end) if *end.error() < 0 => return Err(refused(*end.error(), end.ext_ack())),
                NlPayload::DumpExtAck(_) | NlPayload::Empty => return Ok(all),
                NlPayload::Err(e) => return Err(refused(*e.error(), e.ext_ack())),
                NlPayload::Ack(_) => {}
            }
        }
    }
}

/// Sends one request.
fn send<C, A>(
    socket: &NlSocketHandle,
    family: GenlId,
    flags: NlmF,
    cmd: C,
    version: u8,
    attrs: GenlBuffer<A, Buffer>,
) -> Result<(), Error>
where
    C: neli::consts::genl::Cmd + std::fmt::Debug,
    A: neli::consts::genl::NlAttrType + std::fmt::Debug,
    Genlmsghdr<C, A>: neli::Size + neli::ToBytes,
{
    let payload = GenlmsghdrBuilder::default()
        .cmd(cmd)
        .version(version)
        .attrs(attrs)
        .build()
        .map_err(broken)?;
    let msg = NlmsghdrBuilder::default()
        .nl_type(family)
        .nl_flags(flags)
        .nl_payload(NlPayload::Payload(payload))
        .build()
        .map_err(broken)?;
    socket.send(&msg).map_err(failed)
}

/// What the kernel says when it refuses.
fn refused(error: i32, ext_ack: &GenlBuffer<NlmsgerrAttr, Buffer>) -> Error {
    let message = ext_ack
        .iter()
        .find(|a| *a.nla_type().nla_type() == NlmsgerrAttr::Msg)
        .map(|a| text(a.nla_payload().as_ref()));
    Error::Refused(Refused {
        errno: Errno::from_raw(-error),
        message,
    })
}

/// A string attribute ends with a zero, or with the attribute.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// An attribute of a family.
///
/// # Errors
/// It cannot be made.
pub fn attr<T, P>(t: T, payload: P) -> Result<Nlattr<T, Buffer>, Error>
where
    T: neli::consts::genl::NlAttrType,
    P: neli::Size + neli::ToBytes,
{
    let t = AttrTypeBuilder::default().nla_type(t).build().map_err(broken)?;
    NlattrBuilder::default()
        .nla_type(t)
        .nla_payload(payload)
        .build()
        .map_err(broken)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn errors_carry_the_name_a_script_looks_for() {
        for (e, text) in [
            (
                Errno::EOPNOTSUPP,
                "EOPNOTSUPP operation not supported on transport endpoint",
            ),
            (Errno::ESRCH, "ESRCH no such process"),
            (Errno::EHOSTDOWN, "EHOSTDOWN host is down"),
        ] {
            assert_eq!(describe(e), text);
        }
    }

    #[test]
    fn a_socket_that_fails_says_why() {
        let out_of_descriptors = std::io::Error::from_raw_os_error(Errno::EMFILE as i32);
        assert_eq!(failed(out_of_descriptors.into()).errno(), Errno::EMFILE);
    }

    pub(crate) fn spec() -> String {
        std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../Documentation/netlink/ssi_clms.yaml"
        ))
        .expect("the spec")
    }

    /// Numbers of a list in the spec: entries `- name: x`, with `value: n` where counting starts anew.
    pub(crate) fn numbers(spec: &str, from: &str, to: &str, indent: &str) -> Vec<(String, u32)> {
        let begin = spec.find(from).unwrap_or_else(|| panic!("{from:?} in the spec"));
        let part = spec.get(begin + from.len()..).expect("text");
        let part = part.get(..part.find(to).unwrap_or(part.len())).expect("text");
        let mut out: Vec<(String, u32)> = Vec::new();
        for l in part.lines() {
            let Some(l) = l.strip_prefix(indent) else { continue };
            if let Some(n) = l.strip_prefix("name: ") {
                let next = out.last().map_or(0, |(_, v)| v + 1);
                out.push((n.to_owned(), next));
            } else if let (Some(v), Some(last)) = (l.strip_prefix("value: "), out.last_mut()) {
                last.1 = v.parse().expect("a number");
            }
        }
        out
    }

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = spec();
        assert!(spec.contains(&format!("name: {FAMILY}\n")));
        let list = |l: &[(&str, u32)]| l.iter().map(|&(n, v)| (n.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(
            numbers(&spec, "operations:", "mcast-groups:", "      "),
            list(&[
                ("status", u8::from(Op::Status).into()),
                ("join", u8::from(Op::Join).into()),
                ("leave", u8::from(Op::Leave).into()),
                ("history", u8::from(Op::History).into()),
                ("membership", u8::from(Op::Membership).into()),
                ("node-info", u8::from(Op::NodeInfo).into()),
                ("node-set", u8::from(Op::NodeSet).into()),
                ("fence-list", u8::from(Op::FenceList).into()),
                ("fence-done", u8::from(Op::FenceDone).into()),
                ("fence-confirm", u8::from(Op::FenceConfirm).into()),
                ("fence-wanted", u8::from(Op::FenceWanted).into()),
                ("shutdown", u8::from(Op::Shutdown).into()),
                ("shutdown-state", u8::from(Op::ShutdownState).into()),
                ("table-stage", u8::from(Op::TableStage).into()),
                ("table-unstage", u8::from(Op::TableUnstage).into()),
                ("table-settle", u8::from(Op::TableSettle).into()),
                ("signal", u8::from(Op::Signal).into()),
                ("transition", u8::from(Op::Transition).into()),
                ("view", u8::from(Op::View).into()),
                ("cleaner", u8::from(Op::Cleaner).into()),
                ("cleaned", u8::from(Op::Cleaned).into()),
            ])
        );
    }
}
