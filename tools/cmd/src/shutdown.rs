// SPDX-License-Identifier: GPL-2.0

//! `cluster node shutdown`, `clusternode_shutdown`: has a node shut down, and tells how that goes.
//!
//! The node itself does it. Nothing here is needed once it has begun.

use crate::failure::Failure;
use crate::node;
use crate::out::Out;
use clap::ArgMatches;
use cluster::history;
use cluster::history::Cause;
use cluster::history::Which;
use cluster::membership;
use cluster::membership::Node;
use cluster::membership::NodeState;
use cluster::netlink::Error;
use cluster::netlink::describe;
use cluster::shutdown;
use cluster::shutdown::Action;
use cluster::shutdown::Stage;
use cluster::shutdown::State;
use nix::errno::Errno;
use serde::Serialize;
use std::time::Duration;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// A line of `--json`. Names and types stay as they are; further fields and events may come.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Json<'a> {
    Progress(&'a State),
    Left { node: u32 },
}

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    let action = match (m.get_flag("stay"), m.get_flag("reboot")) {
        (true, _) => Action::Stay,
        (_, true) => Action::Reboot,
        _ => Action::PowerOff,
    };
    let grace = Duration::from_secs(m.get_one::<u32>("grace").copied().unwrap_or(30).into());
    let s = membership::status()?;
    let this = s.this_node.ok_or_else(|| Failure::failed(node::NOT_JOINED))?;
    let target = node::find(&s, word)?;
    check(target)?;
    shutdown::begin(target.id, action, grace).map_err(|e| refused(e, target))?;
    let out = Out::of(m);
    if target.id == this {
        follow_own(target, out)?;
    } else {
        follow(target, out)?;
    }
    out.say(&Json::Left { node: target.id }, &gone(target, action))?;
    Ok(0)
}

/// How a node is called in messages.
fn called(n: &Node) -> String {
    format!("node {} ({})", n.id, n.name)
}

/// Whether a node is one that can be shut down, as far as this one knows.
fn check(n: &Node) -> Result<(), Failure> {
    match n.state {
        NodeState::Up => Ok(()),
        NodeState::Shutdown => Err(Failure::failed(format!(
            "{} is being shut down already; cluster events --follow tells how that ends",
            called(n)
        ))),
        state => Err(Failure::failed(format!(
            "{} is {}, and only a node that is UP can be shut down; see cluster status",
            called(n),
            state.name()
        ))),
    }
}

/// What to do about an error.
fn next_step(e: Errno) -> &'static str {
    match e {
        Errno::EPERM | Errno::EACCES => "run it as root",
        Errno::EALREADY => "cluster events --follow tells how that ends",
        Errno::EDQUOT => "let another node join first, or shut all nodes down",
        Errno::EAGAIN => "repair its fence agent, or see cluster node confirm-down --help",
        Errno::EHOSTDOWN => "see cluster status; a witness leaves by cluster leave on it",
        Errno::EOPNOTSUPP => "run cluster leave",
        Errno::EBUSY => "see the kernel log of that node, end what holds it, then try again",
        _ => "see the kernel log of that node",
    }
}

fn refused(e: Error, n: &Node) -> Failure {
    match e {
        Error::Refused(r) => Failure::failed(format!(
            "{} is not shut down, nothing was changed: {}; {}",
            called(n),
            r.text(),
            next_step(r.errno)
        )),
        e => e.into(),
    }
}

fn stayed(s: &State, n: &Node) -> Failure {
    let e = s.error.unwrap_or(Errno::UnknownErrno);
    let what = match s.process {
        Some(p) if e == Errno::EBUSY => format!("process {p} does not end"),
        _ => describe(e),
    };
    Failure::failed(format!(
        "{} is UP again and takes processes: {what}; {}",
        called(n),
        next_step(e)
    ))
}

fn gone(n: &Node, action: Action) -> String {
    let then = match action {
        Action::Stay => "",
        Action::PowerOff => "; its machine powers off",
        Action::Reboot => "; its machine restarts",
    };
    format!("{} has left the cluster{then}", called(n))
}

fn progress(s: &State, n: &Node) -> String {
    let what = match s.stage {
        Stage::Leaving => "leaves".to_owned(),
        Stage::Left => "has left".to_owned(),
        _ => format!("is emptied: {} moved, {} ended, {} left", s.moved, s.ended, s.left),
    };
    format!("{} {what}", called(n))
}

/// Says how far it is, if that is new.
fn tell(out: Out, last: &mut Option<State>, now: State, n: &Node) -> Result<(), Failure> {
    if last.replace(now) != Some(now) && matches!(now.stage, Stage::Draining | Stage::Leaving) {
        out.say(&Json::Progress(&now), &progress(&now, n))?;
    }
    Ok(())
}

/// Waits until this very node has left.
fn follow_own(n: &Node, out: Out) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let now = shutdown::state(n.id)?;
        tell(out, &mut last, now, n)?;
        match now.stage {
            Stage::Left => return Ok(()),
            Stage::Stayed => return Err(stayed(&now, n)),
            _ => std::thread::sleep(LOOK),
        }
    }
}

/// Whether the life of a node that was asked for is over for this one.
fn is_over(before: &Node, now: &Node) -> bool {
    now.incarnation != before.incarnation || matches!(now.state, NodeState::Down | NodeState::NeverUp)
}

/// Waits until the others have a view without another node.
fn follow(n: &Node, out: Out) -> Result<(), Failure> {
    let mut last: Option<State> = None;
    loop {
        let s = membership::status()?;
        if s.this_node.is_none() {
            return Err(Failure::failed(format!(
                "this node has left the cluster itself: cluster status of another one tells what became of {}",
                called(n)
            )));
        }
        if is_over(n, node::find(&s, &n.id.to_string())?) {
            let was_out = last.is_some_and(|l| l.stage == Stage::Left);
            if was_out || cause_of_loss(n.id)? == Some(Cause::Left) {
                return Ok(());
            }
            return Err(Failure::failed(format!(
                "{} was lost before it had left: it is DOWN, and its processes that had not moved are gone; see cluster \
                 events",
                called(n)
            )));
        }
        match shutdown::state(n.id) {
            Ok(now) => {
                tell(out, &mut last, now, n)?;
                if now.stage == Stage::Stayed {
                    return Err(stayed(&now, n));
                }
            }
            // Its end is about to be seen here.
            Err(Error::Refused(r)) if r.errno == Errno::EHOSTDOWN => {}
            Err(e) => return Err(e.into()),
        }
        std::thread::sleep(LOOK);
    }
}

/// Why a node was last no member any more.
fn cause_of_loss(node: u32) -> Result<Option<Cause>, Failure> {
    let mut found = history::transition(Which::Last, 0, false)?;
    while let Some(t) = found {
        if t.node == node && t.to == NodeState::GoingDown {
            return Ok(Some(t.cause));
        }
        found = history::transition(Which::Previous, t.id, false)?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::fencing::FenceState;
    use cluster::netlink::Refused;

    fn three(state: NodeState) -> Node {
        Node {
            id: 3,
            name: "west".to_owned(),
            state,
            incarnation: 7,
            fence: FenceState::None,
            detection_ms: None,
            judgement_ms: None,
            is_witness: false,
            tables: cluster::membership::Tables::default(),
        }
    }

    fn state(stage: Stage) -> State {
        State {
            node: 3,
            stage,
            error: None,
            moved: 2,
            ended: 1,
            left: 4,
            process: None,
        }
    }

    #[test]
    fn only_a_node_that_is_up_is_shut_down() {
        for state in NodeState::ALL {
            let said = check(&three(state));
            assert_eq!(said.is_ok(), state == NodeState::Up, "{state:?}");
            if let Err(f) = said {
                assert!(f.message.starts_with("node 3 (west) is "), "{}", f.message);
            }
        }
    }

    #[test]
    fn refusals_name_the_node_and_the_next_step() {
        let r = Refused {
            errno: Errno::EDQUOT,
            message: Some("the nodes that remain would be no majority".to_owned()),
        };
        assert_eq!(
            refused(Error::Refused(r), &three(NodeState::Up)).message,
            "node 3 (west) is not shut down, nothing was changed: EDQUOT quota exceeded: the nodes that remain would be \
             no majority; let another node join first, or shut all nodes down"
        );
        let busy = State {
            error: Some(Errno::EBUSY),
            process: Some(77),
            ..state(Stage::Stayed)
        };
        assert_eq!(
            stayed(&busy, &three(NodeState::Up)).message,
            "node 3 (west) is UP again and takes processes: process 77 does not end; see the kernel log of that node, end \
             what holds it, then try again"
        );
    }

    #[test]
    fn lines_have_the_promised_fields() {
        let s = state(Stage::Draining);
        assert_eq!(
            serde_json::to_string(&Json::Progress(&s)).expect("json"),
            r#"{"event":"progress","node":3,"stage":"draining","moved":2,"ended":1,"left":4}"#
        );
        assert_eq!(
            serde_json::to_string(&Json::Left { node: 3 }).expect("json"),
            r#"{"event":"left","node":3}"#
        );
        let n = three(NodeState::Up);
        assert_eq!(progress(&s, &n), "node 3 (west) is emptied: 2 moved, 1 ended, 4 left");
        assert_eq!(
            gone(&n, Action::Reboot),
            "node 3 (west) has left the cluster; its machine restarts"
        );
    }

    #[test]
    fn another_life_is_the_end_of_the_one_before() {
        let up = three(NodeState::Up);
        assert!(!is_over(&up, &three(NodeState::Shutdown)));
        assert!(!is_over(&up, &three(NodeState::GoingDown)));
        assert!(is_over(&up, &three(NodeState::Down)));
        let next = Node {
            incarnation: 8,
            ..three(NodeState::Up)
        };
        assert!(is_over(&up, &next));
    }
}
