// SPDX-License-Identifier: GPL-2.0

//! The planned shutdown of a node, as the netlink family has it.

use crate::netlink::Error;
use crate::netlink::FAMILY;
use crate::netlink::Family;
use crate::netlink::Op;
use crate::netlink::attr;
use crate::netlink::broken;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use nix::errno::Errno;
use serde::Serialize;
use std::time::Duration;

/// Attribute set `shutdown`.
#[neli::neli_enum(serialized_type = "u16")]
pub(crate) enum Shutdown {
    Node = 1,
    Action = 2,
    GraceMs = 3,
    Stage = 4,
    Error = 5,
    Moved = 6,
    Ended = 7,
    Left = 8,
    Process = 9,
}
impl neli::consts::genl::NlAttrType for Shutdown {}

type ShutdownAttrs = GenlBuffer<Shutdown, Buffer>;

/// What becomes of the machine once its node has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// Nothing.
    Stay = 0,
    /// It powers off.
    PowerOff = 1,
    /// It restarts.
    Reboot = 2,
}

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Stage {
    /// There was none.
    None = 0,
    /// What belongs to other nodes goes or ends.
    Draining = 1,
    /// The node leaves.
    Leaving = 2,
    /// It has left.
    Left = 3,
    /// It is a member as before.
    Stayed = 4,
}

impl Stage {
    const ALL: [Self; 5] = [Self::None, Self::Draining, Self::Leaving, Self::Left, Self::Stayed];
}

/// How far the last shutdown of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct State {
    /// The node.
    pub node: u32,
    /// Its stage.
    pub stage: Stage,
    /// Why it stayed, if it did.
    #[serde(skip)]
    pub error: Option<Errno>,
    /// Processes that went to other nodes.
    pub moved: u32,
    /// Processes that were told to end, and have.
    pub ended: u32,
    /// What keeps the node still.
    pub left: u32,
    /// A process among those.
    #[serde(skip)]
    pub process: Option<u32>,
}

/// Has a node shut down; returns when that has begun.
///
/// # Errors
/// [`Error::NoModule`], and the refusal with the kernel's message.
pub fn begin(node: u32, action: Action, grace: Duration) -> Result<(), Error> {
    let attrs = encode(node, action, grace)?;
    Family::open(FAMILY)?.wait_for(Op::Shutdown, attrs).map(|_| ())
}

/// How far that is.
///
/// # Errors
/// [`Error::NoModule`]; EHOSTDOWN: the node is down.
pub fn state(node: u32) -> Result<State, Error> {
    let attrs = [attr(Shutdown::Node, node)?].into_iter().collect();
    let answer = Family::open(FAMILY)?.wait_for(Op::ShutdownState, attrs)?;
    decode(&answer.ok_or_else(|| broken("no answer"))?)
}

fn encode(node: u32, action: Action, grace: Duration) -> Result<ShutdownAttrs, Error> {
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    let all = [
        attr(Shutdown::Node, node)?,
        attr(Shutdown::Action, action as u32)?,
        attr(Shutdown::GraceMs, grace_ms)?,
    ];
    Ok(all.into_iter().collect())
}

fn decode(attrs: &ShutdownAttrs) -> Result<State, Error> {
    let h = attrs.get_attr_handle();
    let number = |a: Shutdown| h.get_attr_payload_as::<u32>(a).map_err(broken);
    let stage = number(Shutdown::Stage)?;
    Ok(State {
        node: number(Shutdown::Node)?,
        stage: Stage::ALL
            .into_iter()
            .find(|s| *s as u32 == stage)
            .ok_or_else(|| broken(format!("stage {stage}")))?,
        error: Some(number(Shutdown::Error)?)
            .filter(|e| *e != 0)
            .map(|e| Errno::from_raw(i32::try_from(e).unwrap_or(0))),
        moved: number(Shutdown::Moved)?,
        ended: number(Shutdown::Ended)?,
        left: number(Shutdown::Left)?,
        process: Some(number(Shutdown::Process)?).filter(|p| *p != 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::numbers;
    use crate::netlink::tests::spec;
    use neli::FromBytesWithInput;
    use neli::ToBytes;
    use std::io::Cursor;

    #[test]
    fn request_is_these_bytes() {
        let attrs = encode(3, Action::Reboot, Duration::from_secs(30)).expect("a request");
        let mut c = Cursor::new(Vec::new());
        attrs.to_bytes(&mut c).expect("attributes");
        let want = b"\x08\0\x01\0\x03\0\0\0\x08\0\x02\0\x02\0\0\0\x08\0\x03\0\x30\x75\0\0";
        assert_eq!(c.into_inner(), want);
    }

    #[test]
    fn answer_is_read() {
        let parse = |stage: u8| {
            let fields = [(1u8, 3u8), (4, stage), (5, 122), (6, 4), (7, 5), (8, 6), (9, 0)];
            let bytes: Vec<u8> = fields.iter().flat_map(|&(a, v)| [8, 0, a, 0, v, 0, 0, 0]).collect();
            let attrs = ShutdownAttrs::from_bytes_with_input(&mut Cursor::new(&bytes[..]), bytes.len());
            decode(&attrs.expect("attributes"))
        };
        let want = State {
            node: 3,
            stage: Stage::Stayed,
            error: Some(Errno::EDQUOT),
            moved: 4,
            ended: 5,
            left: 6,
            process: None,
        };
        assert_eq!(parse(4), Ok(want));
        assert!(matches!(parse(5), Err(Error::Broken(_))));
    }

    #[test]
    fn numbers_are_those_of_the_spec() {
        let spec = spec();
        let list = |l: &[(&str, u32)]| l.iter().map(|&(n, v)| (n.to_owned(), v)).collect::<Vec<_>>();
        assert_eq!(
            numbers(&spec, "  -\n    name: shutdown\n", "operations:", "        "),
            list(&[
                ("node", u16::from(Shutdown::Node).into()),
                ("action", u16::from(Shutdown::Action).into()),
                ("grace-ms", u16::from(Shutdown::GraceMs).into()),
                ("stage", u16::from(Shutdown::Stage).into()),
                ("error", u16::from(Shutdown::Error).into()),
                ("moved", u16::from(Shutdown::Moved).into()),
                ("ended", u16::from(Shutdown::Ended).into()),
                ("left", u16::from(Shutdown::Left).into()),
                ("process", u16::from(Shutdown::Process).into()),
            ])
        );
        let names = |from, to| {
            let all = numbers(&spec, from, to, "        ").into_iter();
            all.map(|(n, _)| n).collect::<Vec<_>>()
        };
        assert_eq!(
            names("name: shutdown-action\n", "name: shutdown-stage\n"),
            ["stay", "poweroff", "reboot"]
        );
        assert_eq!(
            [Action::Stay as u32, Action::PowerOff as u32, Action::Reboot as u32],
            [0, 1, 2]
        );
        let stages = Stage::ALL.map(|s| serde_json::to_value(s).expect("json").as_str().unwrap_or("").to_owned());
        assert_eq!(names("name: shutdown-stage\n", "attribute-sets:"), stages);
        assert_eq!(Stage::ALL.map(|s| s as u32), [0, 1, 2, 3, 4]);
    }
}
