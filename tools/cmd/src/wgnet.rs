// SPDX-License-Identifier: GPL-2.0

//! Interfaces of WireGuard: rtnetlink to make them, the generic netlink family `wireguard` to configure them.
//! Source: `Documentation/netlink/specs/wireguard.yaml` of the kernel.

use crate::failure::Failure;
use crate::wgtab::KEY;
use cluster::netlink::Error;
use cluster::netlink::attr;
use cluster::netlink::broken;
use cluster::netlink::describe;
use cluster::netlink::dump;
use cluster::netlink::request;
use neli::attr::Attribute;
use neli::consts::genl::Index;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::Ifa;
use neli::consts::rtnl::Ifla;
use neli::consts::rtnl::IflaInfo;
use neli::consts::rtnl::RtAddrFamily;
use neli::consts::rtnl::RtScope;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use neli::genl::Nlattr;
use neli::nl::NlPayload;
use neli::nl::NlmsghdrBuilder;
use neli::rtnl::IfaddrmsgBuilder;
use neli::rtnl::IfinfomsgBuilder;
use neli::rtnl::Rtattr;
use neli::rtnl::RtattrBuilder;
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use neli::types::RtBuffer;
use neli::utils::Groups;
use nix::errno::Errno;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;

const FAMILY: &str = "wireguard";
const VERSION: u8 = 1;

#[neli::neli_enum(serialized_type = "u8")]
pub(crate) enum Cmd {
    GetDevice = 0,
    SetDevice = 1,
}
impl neli::consts::genl::Cmd for Cmd {}

/// Attribute set `wgdevice`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Device {
    Ifname = 2,
    PrivateKey = 3,
    ListenPort = 6,
    Peers = 8,
}
impl neli::consts::genl::NlAttrType for Device {}

/// Attribute set `wgpeer`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum PeerAttr {
    PublicKey = 1,
    Flags = 3,
    Endpoint = 4,
    LastHandshakeTime = 6,
    RxBytes = 7,
    TxBytes = 8,
    Allowedips = 9,
}
impl neli::consts::genl::NlAttrType for PeerAttr {}

/// Attribute set `wgallowedip`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum AllowedIp {
    Family = 1,
    Ipaddr = 2,
    CidrMask = 3,
}
impl neli::consts::genl::NlAttrType for AllowedIp {}

/// Flags of a peer.
const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWEDIPS: u32 = 2;

/// Another node, as an interface is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) key: [u8; KEY],
    /// Where it is outside.
    pub(crate) endpoint: SocketAddrV4,
    /// Its address inside: nothing else is taken from it, or sent to it.
    pub(crate) inside: Ipv4Addr,
}

/// What an interface says of another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) key: [u8; KEY],
    /// Seconds since 1970; 0: there was none.
    pub(crate) last_handshake: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What an interface is to be.
pub(crate) struct Config<'a> {
    pub(crate) name: &'a str,
    pub(crate) private_key: [u8; KEY],
    pub(crate) port: u16,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) mtu: u32,
    pub(crate) peers: &'a [Peer],
}

fn about(name: &str, what: &str) -> impl FnOnce(Error) -> Failure {
    let head = format!("{name}: {what}");
    move |e| match e {
        Error::NoModule => Failure::failed(format!(
            "{head}: the kernel has no WireGuard; load its module wireguard"
        )),
        Error::Refused(r) => Failure::failed(format!("{head}: {}", r.text())),
        Error::Broken(what) => Failure::failed(format!("{head}: netlink: {what}")),
    }
}

/// Sends one request to rtnetlink; gives the kernel's errno.
fn route<P>(kind: Rtm, flags: NlmF, payload: P) -> Result<Result<(), Errno>, Error>
where
    P: neli::Size + neli::ToBytes + neli::FromBytesWithInput<Input = usize>,
{
    let socket = NlSocketHandle::connect(NlFamily::Route, None, Groups::empty()).map_err(broken)?;
    let msg = NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(NlmF::REQUEST | NlmF::ACK | flags)
        .nl_payload(NlPayload::Payload(payload))
        .build()
        .map_err(broken)?;
    socket.send(&msg).map_err(broken)?;
    let (messages, _) = socket.recv::<Rtm, P>().map_err(broken)?;
    for m in messages {
        match m.map_err(broken)?.nl_payload() {
            NlPayload::Ack(_) => return Ok(Ok(())),
            NlPayload::Err(e) => return Ok(Err(Errno::from_raw(-e.error()))),
            _ => {}
        }
    }
    Err(broken("no answer"))
}

fn rtattr<T, P>(t: T, payload: P) -> Result<Rtattr<T, Buffer>, Error>
where
    T: neli::consts::rtnl::RtaType,
    P: neli::Size + neli::ToBytes,
{
    RtattrBuilder::default()
        .rta_type(t)
        .rta_payload(payload)
        .build()
        .map_err(broken)
}

/// Makes an interface; one that is there is as good.
fn add_link(name: &str) -> Result<Result<(), Errno>, Error> {
    let mut info = RtBuffer::<IflaInfo, Buffer>::new();
    info.push(rtattr(IflaInfo::Kind, FAMILY)?);
    let mut attrs = RtBuffer::<Ifla, Buffer>::new();
    attrs.push(rtattr(Ifla::Ifname, name)?);
    attrs.push(rtattr(Ifla::Linkinfo, info)?);
    let msg = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .rtattrs(attrs)
        .build()
        .map_err(broken)?;
    Ok(match route(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL, msg)? {
        Err(Errno::EEXIST) => Ok(()),
        r => r,
    })
}

fn bring_up(name: &str, mtu: u32) -> Result<Result<(), Errno>, Error> {
    let mut attrs = RtBuffer::<Ifla, Buffer>::new();
    attrs.push(rtattr(Ifla::Ifname, name)?);
    attrs.push(rtattr(Ifla::Mtu, mtu)?);
    let msg = IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .rtattrs(attrs)
        .up()
        .build()
        .map_err(broken)?;
    route(Rtm::Newlink, NlmF::empty(), msg)
}

fn add_address(name: &str, address: Ipv4Addr, prefix: u8) -> Result<Result<(), Errno>, Error> {
    let index = nix::net::if_::if_nametoindex(name).map_err(broken)?;
    let mut attrs = RtBuffer::<Ifa, Buffer>::new();
    attrs.push(rtattr(Ifa::Local, address.octets())?);
    attrs.push(rtattr(Ifa::Address, address.octets())?);
    let msg = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Inet)
        .ifa_prefixlen(prefix)
        .ifa_scope(RtScope::Universe)
        .ifa_index(index)
        .rtattrs(attrs)
        .build()
        .map_err(broken)?;
    Ok(match route(Rtm::Newaddr, NlmF::CREATE | NlmF::EXCL, msg)? {
        Err(Errno::EEXIST) => Ok(()),
        r => r,
    })
}

/// Takes an interface away; gives whether there was one.
///
/// # Errors
/// What the kernel says.
pub(crate) fn remove(name: &str) -> Result<bool, Failure> {
    let one = || {
        let mut attrs = RtBuffer::<Ifla, Buffer>::new();
        attrs.push(rtattr(Ifla::Ifname, name)?);
        let msg = IfinfomsgBuilder::default()
            .ifi_family(RtAddrFamily::Unspecified)
            .rtattrs(attrs)
            .build()
            .map_err(broken)?;
        route(Rtm::Dellink, NlmF::empty(), msg)
    };
    match one().map_err(about(name, "cannot be removed"))? {
        Ok(()) => Ok(true),
        Err(Errno::ENODEV) => Ok(false),
        Err(e) => Err(Failure::failed(format!("{name}: cannot be removed: {}", describe(e)))),
    }
}

/// `sockaddr_in`: the family in the machine's order, the rest in the network's.
fn endpoint(a: &SocketAddrV4) -> [u8; 16] {
    let mut out = [0; 16];
    // CAST: it is 2.
    out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    out[2..4].copy_from_slice(&a.port().to_be_bytes());
    out[4..8].copy_from_slice(&a.ip().octets());
    out
}

fn nested(number: u16) -> Result<Nlattr<Index, Buffer>, Error> {
    attr(Index::from(number), Buffer::new())
}

fn encode_peer(p: &Peer) -> Result<Nlattr<Index, Buffer>, Error> {
    // CAST: it is 2.
    let family = libc::AF_INET as u16;
    let mut ip = nested(0)?;
    ip = ip.nest(&attr(AllowedIp::Family, family)?).map_err(broken)?;
    ip = ip.nest(&attr(AllowedIp::Ipaddr, p.inside.octets())?).map_err(broken)?;
    ip = ip.nest(&attr(AllowedIp::CidrMask, 32u8)?).map_err(broken)?;
    let ips = attr(PeerAttr::Allowedips, Buffer::new())?.nest(&ip).map_err(broken)?;
    let mut out = nested(0)?;
    out = out.nest(&attr(PeerAttr::PublicKey, p.key)?).map_err(broken)?;
    out = out.nest(&attr(PeerAttr::Flags, REPLACE_ALLOWEDIPS)?).map_err(broken)?;
    out = out
        .nest(&attr(PeerAttr::Endpoint, endpoint(&p.endpoint))?)
        .map_err(broken)?;
    out.nest(&ips).map_err(broken)
}

fn encode_removal(key: &[u8; KEY]) -> Result<Nlattr<Index, Buffer>, Error> {
    let out = nested(0)?.nest(&attr(PeerAttr::PublicKey, *key)?).map_err(broken)?;
    out.nest(&attr(PeerAttr::Flags, REMOVE_ME)?).map_err(broken)
}

type Attrs = GenlBuffer<Device, Buffer>;

/// Those that are wanted, and without those that are there and are not.
fn encode(c: &Config<'_>, there: &[State]) -> Result<Attrs, Error> {
    let mut peers = attr(Device::Peers, Buffer::new())?;
    let is_wanted = |s: &&State| c.peers.iter().any(|p| p.key == s.key);
    for s in there.iter().filter(|s| !is_wanted(s)) {
        peers = peers.nest(&encode_removal(&s.key)?).map_err(broken)?;
    }
    for p in c.peers {
        peers = peers.nest(&encode_peer(p)?).map_err(broken)?;
    }
    Ok([
        attr(Device::Ifname, c.name)?,
        attr(Device::PrivateKey, c.private_key)?,
        attr(Device::ListenPort, c.port)?,
        peers,
    ]
    .into_iter()
    .collect())
}

/// Makes an interface what it is to be. Of one that is there nothing is interrupted that stays.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_up(c: &Config<'_>) -> Result<(), Failure> {
    let step = |what: &str, r: Result<Result<(), Errno>, Error>| match r.map_err(about(c.name, what))? {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => Err(about(c.name, what)(Error::NoModule)),
        Err(e) => Err(Failure::failed(format!("{}: {what}: {}", c.name, describe(e)))),
    };
    step("cannot be made", add_link(c.name))?;
    let there = peers(c.name)?;
    let attrs = encode(c, &there).map_err(about(c.name, "its peers"))?;
    request(FAMILY, Cmd::SetDevice, VERSION, attrs).map_err(about(c.name, "cannot be configured"))?;
    step("its address", add_address(c.name, c.address, c.prefix))?;
    step("cannot be brought up", bring_up(c.name, c.mtu))
}

/// The other nodes as an interface knows them.
///
/// # Errors
/// What the kernel says.
pub(crate) fn peers(name: &str) -> Result<Vec<State>, Failure> {
    let ask = || {
        let attrs = [attr(Device::Ifname, name)?].into_iter().collect();
        let all = dump::<Cmd, Device>(FAMILY, Cmd::GetDevice, VERSION, attrs)?;
        let mut out = Vec::new();
        for attrs in &all {
            decode(attrs, &mut out)?;
        }
        Ok(out)
    };
    ask().map_err(about(name, "cannot be asked"))
}

fn decode(attrs: &Attrs, out: &mut Vec<State>) -> Result<(), Error> {
    for a in attrs.iter().filter(|a| *a.nla_type().nla_type() == Device::Peers) {
        let all = a.get_attr_handle::<Index>().map_err(broken)?;
        for p in all.iter() {
            let mut s = State::default();
            let handle = p.get_attr_handle::<PeerAttr>().map_err(broken)?;
            for b in handle.iter() {
                let bytes = b.nla_payload().as_ref();
                match b.nla_type().nla_type() {
                    PeerAttr::PublicKey => s.key = bytes.try_into().map_err(broken)?,
                    PeerAttr::LastHandshakeTime => {
                        let seconds = bytes.get(..8).and_then(|b| b.try_into().ok());
                        s.last_handshake = seconds.map_or(0, u64::from_ne_bytes);
                    }
                    PeerAttr::RxBytes => s.bytes_in = b.get_payload_as().map_err(broken)?,
                    PeerAttr::TxBytes => s.bytes_out = b.get_payload_as().map_err(broken)?,
                    // Of no use here.
                    _ => {}
                }
            }
            // One with many addresses comes in pieces.
            if out.last().is_none_or(|last| last.key != s.key) {
                out.push(s);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use neli::FromBytesWithInput;
    use neli::ToBytes;
    use std::io::Cursor;

    fn bytes(attrs: &Attrs) -> Vec<u8> {
        let mut c = Cursor::new(Vec::new());
        attrs.to_bytes(&mut c).expect("attributes");
        c.into_inner()
    }

    #[test]
    fn a_device_is_these_bytes() {
        let peer = Peer {
            key: [7; KEY],
            endpoint: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 51820),
            inside: Ipv4Addr::new(10, 222, 0, 2),
        };
        let config = Config {
            name: "wg",
            private_key: [5; KEY],
            port: 51820,
            address: Ipv4Addr::new(10, 222, 0, 1),
            prefix: 22,
            mtu: 1440,
            peers: &[peer],
        };
        let gone = State {
            key: [9; KEY],
            ..State::default()
        };
        let stays = State {
            key: [7; KEY],
            ..State::default()
        };
        let mut want: Vec<u8> = Vec::new();
        want.extend(b"\x07\0\x02\0wg\0\0"); // ifname
        want.extend(b"\x24\0\x03\0");
        want.extend([5; KEY]); // private-key
        want.extend(b"\x06\0\x06\0\x6c\xca\0\0"); // listen-port
        want.extend(b"\x98\0\x08\x80"); // peers
        want.extend(b"\x30\0\0\x80\x24\0\x01\0");
        want.extend([9; KEY]);
        want.extend(b"\x08\0\x03\0\x01\0\0\0"); // to be removed
        want.extend(b"\x64\0\0\x80\x24\0\x01\0");
        want.extend([7; KEY]);
        want.extend(b"\x08\0\x03\0\x02\0\0\0"); // its addresses are replaced
        want.extend(b"\x14\0\x04\0\x02\0\xca\x6c\x0a\0\0\x02\0\0\0\0\0\0\0\0"); // endpoint
        want.extend(b"\x20\0\x09\x80\x1c\0\0\x80"); // allowedips
        want.extend(b"\x06\0\x01\0\x02\0\0\0\x08\0\x02\0\x0a\xde\0\x02\x05\0\x03\0\x20\0\0\0");
        assert_eq!(bytes(&encode(&config, &[gone, stays]).expect("a device")), want);
    }

    #[test]
    fn peers_are_read() {
        let mut b: Vec<u8> = Vec::new();
        b.extend(b"\x58\0\x08\x80\x54\0\0\x80\x24\0\x01\0");
        b.extend([7; KEY]);
        b.extend(b"\x14\0\x06\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"); // last-handshake-time
        b.extend(b"\x0c\0\x07\0\x03\0\0\0\0\0\0\0\x0c\0\x08\0\x04\0\0\0\0\0\0\0"); // rx, tx
        let attrs = Attrs::from_bytes_with_input(&mut Cursor::new(&b), b.len()).expect("attributes");
        let mut all = Vec::new();
        decode(&attrs, &mut all).expect("peers");
        let want = State {
            key: [7; KEY],
            last_handshake: 9,
            bytes_in: 3,
            bytes_out: 4,
        };
        assert_eq!(all, [want]);
    }
}
