// SPDX-License-Identifier: GPL-2.0

//! Asking who decides a movement, over the wire: the source for its commit, the destination what has become of a
//! source that died. Whom they ask and what follows from an answer is in `state`.

use super::state;
use super::state::Answer;
use super::state::Judge as Asked;
use crate::nodes;
use crate::proto::*;
use ics::CallError;
use ics::Caller;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::movement::Spawn;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// How long to wait before a question is asked again that could not be answered.
pub(super) const RETRY_MS: u32 = 20;

/// An answer from the wire. An unknown one is as good as none.
fn answer_of(wire: u32) -> Answer {
    match wire {
        1 => Answer::Committed,
        2 => Answer::Refused,
        3 => Answer::NotThere,
        _ => Answer::Down,
    }
}

/// An answer for the wire.
pub(crate) fn answer_to_wire(a: Answer) -> Le32 {
    Le32::new(match a {
        Answer::Committed => 1,
        Answer::Refused => 2,
        Answer::NotThere => 3,
        Answer::Down => 0,
    })
}

/// Asks for the commit until somebody has decided. Only in the process that leaves; sleeps.
pub(super) fn ask_for_commit(pid: ClusterPid, m: u64, to: NodeId) -> state::Source {
    let origin = pid.origin();
    let mut judge = state::first_judge(nodes::live_origin(pid).is_some());
    loop {
        let r = match (judge, origin) {
            (Asked::Origin, Some(origin)) => {
                let req = MoveReq {
                    pid: Le32::new(pid.0),
                    to: Le32::new(to.number()),
                    movement: Le64::new(m),
                };
                ics::call::<Move>(origin, &req, &[]).map(|(rep, _)| rep.answer)
            }
            _ => {
                let req = JudgeReq {
                    pid: Le32::new(pid.0),
                    movement: Le64::new(m),
                };
                ics::call::<Judge>(to, &req, &[]).map(|(rep, _)| rep.answer)
            }
        };
        let answer = match r {
            Ok(answer) => answer_of(answer.get()),
            Err(CallError::Down(_)) => Answer::Down,
            // Without memory there, or here: nobody has decided, or the answer got lost.
            Err(_) => {
                ssi::machine::sleep_ms(RETRY_MS);
                continue;
            }
        };
        match state::answered(judge, answer, origin == Some(to)) {
            state::Source::Ask(next) => judge = next,
            done => return done,
        }
    }
}

/// The source is down: asks the origin what has become of the movement. Only in the parked process; sleeps.
pub(super) fn ask_origin(spawn: &Spawn, source: Caller) -> Answer {
    let req = AskReq {
        pid: Le32::new(spawn.nr.0),
        from: Le32::new(source.node.number()),
        incarnation: Le64::new(source.incarnation.0),
        movement: Le64::new(spawn.movement),
    };
    loop {
        let Some(origin) = nodes::live_origin(spawn.nr) else {
            return Answer::Down;
        };
        match ics::call::<Ask>(origin, &req, &[]) {
            Ok((rep, _)) => return answer_of(rep.answer.get()),
            Err(CallError::Down(_)) => {}
            // The origin has not seen the source's end yet, or there is no memory: nobody has decided.
            Err(_) => ssi::machine::sleep_ms(RETRY_MS),
        }
    }
}
