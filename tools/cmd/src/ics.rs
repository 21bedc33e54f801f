// SPDX-License-Identifier: GPL-2.0

//! `cluster ics show`, what `cluster key` asks, and the user's side of the generic netlink family `ssi_ics`.
//!
//! `Documentation/netlink/ssi_ics.yaml` is the truth about numbers and types; a test here compares.

use crate::failure::Failure;
use clap::ArgMatches;
use cluster::netlink::Error;
use cluster::netlink::attr;
use cluster::netlink::broken;
use cluster::netlink::dump;
use cluster::netlink::request;
use cluster::netlink::text;
use neli::attr::Attribute;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use serde::Serialize;
use std::net::Ipv4Addr;

const FAMILY: &str = "ssi_ics";
const VERSION: u8 = 1;

/// Operations of the family.
#[neli::neli_enum(serialized_type = "u8")]
pub(crate) enum Cmd {
    OpGet = 1,
    LinkGet = 2,
    KeyGet = 3,
    KeyStage = 4,
    KeyUnstage = 5,
    KeySwitch = 6,
    KeyDrop = 7,
}
impl neli::consts::genl::Cmd for Cmd {}

/// Attribute set `op`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum OpAttr {
    Service = 1,
    Op = 2,
    ServiceId = 3,
    OpId = 4,
    Class = 5,
    Calls = 6,
    Replies = 7,
    Errors = 8,
    BytesOut = 9,
    BytesIn = 10,
    Served = 11,
    ServedErrors = 12,
    Latency = 13,
}
impl neli::consts::genl::NlAttrType for OpAttr {}

/// Attribute set `link`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum LinkAttr {
    Node = 1,
    Link = 2,
    Address = 3,
    State = 4,
    Streams = 5,
    FramesOut = 6,
    BytesOut = 7,
    FramesIn = 8,
    BytesIn = 9,
    Resent = 10,
}
impl neli::consts::genl::NlAttrType for LinkAttr {}

/// Attribute set `key`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum KeyAttr {
    Node = 1,
    Used = 2,
    Second = 3,
    SecondIs = 4,
    Secret = 5,
}
impl neli::consts::genl::NlAttrType for KeyAttr {}

/// What the second key of a node is to the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Second {
    /// To be used next.
    Staged,
    /// Used before, and not dropped yet.
    Old,
}

/// The cluster keys of a node, by their fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) node: u32,
    pub(crate) used: u64,
    pub(crate) second: Option<(Second, u64)>,
}

/// What a link does, in the order of the numbers.
const STATES: [&str; 4] = ["idle", "used", "silent", "unknown"];

/// The classes, in the order of their numbers.
const CLASSES: [&str; 7] = ["P", "L0", "U", "L1", "L2", "L3", "L4"];

/// What calls of an op came to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Op {
    service: String,
    op: String,
    class: String,
    calls: u64,
    replies: u64,
    errors: u64,
    bytes_out: u64,
    bytes_in: u64,
    served: u64,
    served_errors: u64,
    latency: Vec<u64>,
}

/// What a link to a node came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Link {
    node: u32,
    link: u32,
    address: Ipv4Addr,
    state: String,
    streams: u64,
    frames_out: u64,
    bytes_out: u64,
    frames_in: u64,
    bytes_in: u64,
    resent: u64,
}

/// What `--json` prints. Names and types stay as they are; further fields may come.
#[derive(Serialize)]
struct Json<'a> {
    links: &'a [Link],
    ops: &'a [Op],
}

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    match m.subcommand() {
        Some(("show", m)) => show(m),
        _ => Err(Failure::usage("no command given; see cluster ics --help")),
    }
}

fn show(m: &ArgMatches) -> Result<u8, Failure> {
    let links = dump::<Cmd, LinkAttr>(FAMILY, Cmd::LinkGet, VERSION, GenlBuffer::new())?;
    let links = links.iter().map(decode_link).collect::<Result<Vec<_>, _>>()?;
    let ops = dump::<Cmd, OpAttr>(FAMILY, Cmd::OpGet, VERSION, GenlBuffer::new())?;
    let ops = ops.iter().map(decode_op).collect::<Result<Vec<_>, _>>()?;
    if m.get_flag("json") {
        println!("{}", json(&links, &ops)?);
    } else {
        print!("{}", table(&links, &ops, m.get_flag("all")));
    }
    Ok(0)
}

/// The keys of this node, first, and of the other members.
///
/// # Errors
/// What the kernel says.
pub(crate) fn keys() -> Result<Vec<Key>, Error> {
    let all = dump::<Cmd, KeyAttr>(FAMILY, Cmd::KeyGet, VERSION, GenlBuffer::new())?;
    all.iter().map(decode_key).collect()
}

/// Asks for a step of this node's keys.
fn change(cmd: Cmd, attrs: impl IntoIterator<Item = neli::genl::Nlattr<KeyAttr, Buffer>>) -> Result<(), Error> {
    request(FAMILY, cmd, VERSION, attrs.into_iter().collect()).map(drop)
}

pub(crate) fn stage_key(secret: Vec<u8>) -> Result<(), Error> {
    change(Cmd::KeyStage, [attr(KeyAttr::Secret, Buffer::from(secret))?])
}

pub(crate) fn unstage_key() -> Result<(), Error> {
    change(Cmd::KeyUnstage, [])
}

pub(crate) fn switch_key(print: u64) -> Result<(), Error> {
    change(Cmd::KeySwitch, [attr(KeyAttr::Used, print)?])
}

pub(crate) fn drop_key(print: u64) -> Result<(), Error> {
    change(Cmd::KeyDrop, [attr(KeyAttr::Used, print)?])
}

fn decode_key(attrs: &GenlBuffer<KeyAttr, Buffer>) -> Result<Key, Error> {
    let (mut node, mut used, mut second, mut what) = (0, 0, 0, 0);
    for a in attrs.iter() {
        match a.nla_type().nla_type() {
            KeyAttr::Node => node = a.get_payload_as().map_err(broken)?,
            KeyAttr::Used => used = a.get_payload_as().map_err(broken)?,
            KeyAttr::Second => second = a.get_payload_as().map_err(broken)?,
            KeyAttr::SecondIs => what = a.get_payload_as::<u32>().map_err(broken)?,
            // A newer kernel may say more.
            _ => {}
        }
    }
    let second = match what {
        0 => None,
        1 => Some((Second::Staged, second)),
        2 => Some((Second::Old, second)),
        n => return Err(broken(format!("second key {n}"))),
    };
    Ok(Key { node, used, second })
}

/// A word for a number; a newer kernel may know more.
fn word(of: &[&str], n: usize) -> String {
    of.get(n).map_or_else(|| n.to_string(), |w| (*w).to_owned())
}

fn decode_op(attrs: &GenlBuffer<OpAttr, Buffer>) -> Result<Op, Error> {
    let mut o = Op::default();
    for a in attrs.iter() {
        let number = || a.get_payload_as::<u64>().map_err(broken);
        match a.nla_type().nla_type() {
            OpAttr::Service => o.service = text(a.nla_payload().as_ref()),
            OpAttr::Op => o.op = text(a.nla_payload().as_ref()),
            OpAttr::Class => o.class = word(&CLASSES, a.get_payload_as::<u8>().map_err(broken)?.into()),
            OpAttr::Calls => o.calls = number()?,
            OpAttr::Replies => o.replies = number()?,
            OpAttr::Errors => o.errors = number()?,
            OpAttr::BytesOut => o.bytes_out = number()?,
            OpAttr::BytesIn => o.bytes_in = number()?,
            OpAttr::Served => o.served = number()?,
            OpAttr::ServedErrors => o.served_errors = number()?,
            OpAttr::Latency => o.latency.push(number()?),
            // The numbers of service and op are for programs that know them; a newer kernel may say more.
            _ => {}
        }
    }
    Ok(o)
}

fn decode_link(attrs: &GenlBuffer<LinkAttr, Buffer>) -> Result<Link, Error> {
    let mut l = Link {
        node: 0,
        link: 0,
        address: Ipv4Addr::UNSPECIFIED,
        state: String::new(),
        streams: 0,
        frames_out: 0,
        bytes_out: 0,
        frames_in: 0,
        bytes_in: 0,
        resent: 0,
    };
    for a in attrs.iter() {
        let number = || a.get_payload_as::<u64>().map_err(broken);
        match a.nla_type().nla_type() {
            LinkAttr::Node => l.node = a.get_payload_as().map_err(broken)?,
            LinkAttr::Link => l.link = a.get_payload_as().map_err(broken)?,
            LinkAttr::Address => {
                let bytes: [u8; 4] = a.nla_payload().as_ref().try_into().map_err(broken)?;
                l.address = Ipv4Addr::from(bytes);
            }
            LinkAttr::State => {
                let n = a.get_payload_as::<u32>().map_err(broken)?;
                l.state = word(&STATES, usize::try_from(n).map_err(broken)?);
            }
            LinkAttr::Streams => l.streams = number()?,
            LinkAttr::FramesOut => l.frames_out = number()?,
            LinkAttr::BytesOut => l.bytes_out = number()?,
            LinkAttr::FramesIn => l.frames_in = number()?,
            LinkAttr::BytesIn => l.bytes_in = number()?,
            LinkAttr::Resent => l.resent = number()?,
            // A newer kernel may say more.
            _ => {}
        }
    }
    Ok(l)
}

fn json(links: &[Link], ops: &[Op]) -> Result<String, Failure> {
    serde_json::to_string(&Json { links, ops }).map_err(|e| Failure::failed(e.to_string()))
}

/// The end of the class of latencies that so many hundredths of the calls are in or below.
fn latency(op: &Op, hundredths: u64) -> String {
    let all: u64 = op.latency.iter().sum();
    let wanted = (all * hundredths).div_ceil(100).max(1);
    let mut n = 0;
    let found = op.latency.iter().position(|c| {
        n += c;
        n >= wanted
    });
    match found {
        None => "-".to_owned(),
        Some(i) if i + 1 == op.latency.len() => "more".to_owned(),
        Some(i) => match 1024u64 << i {
            ns if ns < 1_000_000 => format!("{} us", ns / 1000),
            ns if ns < 1_000_000_000 => format!("{} ms", ns / 1_000_000),
            ns => format!("{} s", ns / 1_000_000_000),
        },
    }
}

fn table(links: &[Link], ops: &[Op], all: bool) -> String {
    let mut out = format!(
        "{:>4} {:>4}  {:15}  {:7}  {:>7}  {:>10}  {:>14}  {:>10}  {:>14}  {:>6}\n",
        "NODE", "LINK", "ADDRESS", "STATE", "STREAMS", "FRAMES OUT", "BYTES OUT", "FRAMES IN", "BYTES IN", "RESENT"
    );
    for l in links.iter().filter(|l| l.link != 0 || l.streams != 0) {
        out += &format!(
            "{:>4} {:>4}  {:15}  {:7}  {:>7}  {:>10}  {:>14}  {:>10}  {:>14}  {:>6}\n",
            l.node,
            if l.link == 0 {
                "-".to_owned()
            } else {
                l.link.to_string()
            },
            l.address.to_string(),
            l.state,
            l.streams,
            l.frames_out,
            l.bytes_out,
            l.frames_in,
            l.bytes_in,
            l.resent
        );
    }
    out += &format!(
        "\n{:20}  {:5}  {:>9}  {:>9}  {:>7}  {:>13}  {:>13}  {:>7}  {:>7}  {:>9}  {:>7}\n",
        "OP", "CLASS", "CALLS", "REPLIES", "ERRORS", "BYTES OUT", "BYTES IN", "P50 <", "P99 <", "SERVED", "REFUSED"
    );
    for o in ops.iter().filter(|o| all || o.calls + o.served > 0) {
        out += &format!(
            "{:20}  {:5}  {:>9}  {:>9}  {:>7}  {:>13}  {:>13}  {:>7}  {:>7}  {:>9}  {:>7}\n",
            format!("{}.{}", o.service, o.op),
            o.class,
            o.calls,
            o.replies,
            o.errors,
            o.bytes_out,
            o.bytes_in,
            latency(o, 50),
            latency(o, 99),
            o.served,
            o.served_errors
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use neli::FromBytesWithInput;
    use std::io::Cursor;

    #[test]
    fn rows_are_read() {
        let mut b: Vec<u8> = Vec::new();
        b.extend(b"\x09\0\x01\0Echo\0\0\0\0"); // service
        b.extend(b"\x0b\0\x02\0EchoL0\0\0"); // op
        b.extend(b"\x05\0\x05\0\x01\0\0\0"); // class
        b.extend(b"\x0c\0\x06\0\x07\0\0\0\0\0\0\0"); // calls
        b.extend(b"\x04\0\0\0"); // padding
        b.extend(b"\x0c\0\x0d\0\x05\0\0\0\0\0\0\0\x0c\0\x0d\0\x02\0\0\0\0\0\0\0"); // latency
        b.extend(b"\x08\0\x63\0\x02\0\0\0"); // unknown
        let attrs = GenlBuffer::from_bytes_with_input(&mut Cursor::new(&b), b.len()).expect("attributes");
        let want = Op {
            service: "Echo".to_owned(),
            op: "EchoL0".to_owned(),
            class: "L0".to_owned(),
            calls: 7,
            latency: vec![5, 2],
            ..Op::default()
        };
        assert_eq!(decode_op(&attrs).expect("an op"), want);

        let mut b: Vec<u8> = Vec::new();
        b.extend(b"\x08\0\x01\0\x02\0\0\0\x08\0\x02\0\x01\0\0\0"); // node, link
        b.extend(b"\x08\0\x03\0\x0a\0\0\x02\x08\0\x04\0\x02\0\0\0"); // address, state
        b.extend(b"\x0c\0\x0a\0\x09\0\0\0\0\0\0\0"); // resent
        let attrs = GenlBuffer::from_bytes_with_input(&mut Cursor::new(&b), b.len()).expect("attributes");
        let l = decode_link(&attrs).expect("a link");
        assert_eq!((l.node, l.link, l.address), (2, 1, Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!((l.state.as_str(), l.resent), ("silent", 9));
    }

    #[test]
    fn keys_are_read() {
        let mut b: Vec<u8> = Vec::new();
        b.extend(b"\x08\0\x01\0\x02\0\0\0\x0c\0\x02\0\x07\0\0\0\0\0\0\x80"); // node, used
        b.extend(b"\x0c\0\x03\0\x09\0\0\0\0\0\0\0\x08\0\x04\0\x02\0\0\0"); // second
        let attrs = GenlBuffer::from_bytes_with_input(&mut Cursor::new(&b), b.len()).expect("attributes");
        let k = decode_key(&attrs).expect("keys");
        assert_eq!((k.node, k.used), (2, 0x8000_0000_0000_0007));
        assert_eq!(k.second, Some((Second::Old, 9)));
    }

    #[test]
    fn latencies_are_ends_of_classes() {
        let mut o = Op {
            latency: vec![0; 24],
            ..Op::default()
        };
        assert_eq!(latency(&o, 50), "-");
        o.latency[9] = 98;
        o.latency[10] = 1;
        o.latency[20] = 1;
        assert_eq!(
            (latency(&o, 50), latency(&o, 98)),
            ("524 us".to_owned(), "524 us".to_owned())
        );
        assert_eq!(
            (latency(&o, 99), latency(&o, 100)),
            ("1 ms".to_owned(), "1 s".to_owned())
        );
        o.latency[23] = 1000;
        assert_eq!(latency(&o, 50), "more");
    }

    #[test]
    fn json_has_the_promised_fields() {
        let o = Op {
            service: "Echo".to_owned(),
            op: "Row".to_owned(),
            class: "L4".to_owned(),
            ..Op::default()
        };
        let l = Link {
            node: 2,
            link: 1,
            address: Ipv4Addr::new(10, 0, 0, 2),
            state: "used".to_owned(),
            streams: 1,
            frames_out: 2,
            bytes_out: 3,
            frames_in: 4,
            bytes_in: 5,
            resent: 6,
        };
        assert_eq!(
            json(&[l], &[o]).expect("json"),
            concat!(
                r#"{"links":[{"node":2,"link":1,"address":"10.0.0.2","state":"used","streams":1,"frames_out":2,"#,
                r#""bytes_out":3,"frames_in":4,"bytes_in":5,"resent":6}],"ops":[{"service":"Echo","op":"Row","#,
                r#""class":"L4","calls":0,"replies":0,"errors":0,"bytes_out":0,"bytes_in":0,"served":0,"#,
                r#""served_errors":0,"latency":[]}]}"#
            )
        );
    }

    #[test]
    fn table_leaves_out_what_nobody_called() {
        let idle = Op {
            service: "Echo".to_owned(),
            op: "Row".to_owned(),
            ..Op::default()
        };
        let busy = Op {
            op: "EchoL0".to_owned(),
            calls: 1,
            ..idle.clone()
        };
        let out = table(&[], &[idle.clone(), busy.clone()], false);
        assert!(out.contains("Echo.EchoL0") && !out.contains("Echo.Row"), "{out}");
        assert!(table(&[], &[idle, busy], true).contains("Echo.Row"));
        let widths: Vec<_> = out.lines().skip(2).map(str::len).collect();
        assert_eq!(widths[0], widths[1], "{out}");
    }

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../Documentation/netlink/ssi_ics.yaml"
        ))
        .expect("the spec");
        assert!(spec.contains(&format!("name: {FAMILY}\n")));
        // Numbers count from `value`, which only first entries have.
        let names = |from: &str, to: &str, indent: &str| -> Vec<String> {
            let part = spec.split(from).nth(1).expect(from);
            let part = part.split(to).next().expect(to);
            let name = |l: &str| l.strip_prefix(indent)?.strip_prefix("name: ").map(str::to_owned);
            part.lines().filter_map(name).collect()
        };
        let ops = [
            OpAttr::Service,
            OpAttr::Op,
            OpAttr::ServiceId,
            OpAttr::OpId,
            OpAttr::Class,
            OpAttr::Calls,
            OpAttr::Replies,
            OpAttr::Errors,
            OpAttr::BytesOut,
            OpAttr::BytesIn,
            OpAttr::Served,
            OpAttr::ServedErrors,
            OpAttr::Latency,
        ];
        let links = [
            LinkAttr::Node,
            LinkAttr::Link,
            LinkAttr::Address,
            LinkAttr::State,
            LinkAttr::Streams,
            LinkAttr::FramesOut,
            LinkAttr::BytesOut,
            LinkAttr::FramesIn,
            LinkAttr::BytesIn,
            LinkAttr::Resent,
        ];
        let kebab = |name: String| -> String {
            let mut out = String::new();
            for c in name.chars() {
                if c.is_uppercase() && !out.is_empty() {
                    out.push('-');
                }
                out.extend(c.to_lowercase());
            }
            out
        };
        let of_ops: Vec<_> = ops.iter().map(|a| kebab(format!("{a:?}"))).collect();
        let of_links: Vec<_> = links.iter().map(|a| kebab(format!("{a:?}"))).collect();
        assert_eq!(
            names("  -\n    name: op\n", "  -\n    name: link\n", "        "),
            of_ops
        );
        assert_eq!(
            names("  -\n    name: link\n", "  -\n    name: key\n", "        "),
            of_links
        );
        let keys = [
            KeyAttr::Node,
            KeyAttr::Used,
            KeyAttr::Second,
            KeyAttr::SecondIs,
            KeyAttr::Secret,
        ];
        let of_keys: Vec<_> = keys.iter().map(|a| kebab(format!("{a:?}"))).collect();
        assert_eq!(names("  -\n    name: key\n", "operations:", "        "), of_keys);
        for (i, a) in (1u16..).zip(keys) {
            assert_eq!(u16::from(a), i);
        }
        for (i, a) in (1u16..).zip(ops) {
            assert_eq!(u16::from(a), i);
        }
        for (i, a) in (1u16..).zip(links) {
            assert_eq!(u16::from(a), i);
        }
        let cmds = [
            Cmd::OpGet,
            Cmd::LinkGet,
            Cmd::KeyGet,
            Cmd::KeyStage,
            Cmd::KeyUnstage,
            Cmd::KeySwitch,
            Cmd::KeyDrop,
        ];
        let of_cmds: Vec<_> = cmds.iter().map(|c| kebab(format!("{c:?}"))).collect();
        assert_eq!(names("operations:", "~", "      "), of_cmds);
        for (i, c) in (1u8..).zip(cmds) {
            assert_eq!(u8::from(c), i);
        }
        assert_eq!(names("name: link-state\n", "  -\n    type: const", "        "), STATES);
        assert_eq!(
            names("name: key-second\n", "attribute-sets:", "        "),
            ["none", "next", "old"]
        );
        assert!(spec.contains("name: buckets\n"));
    }
}
