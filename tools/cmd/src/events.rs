// SPDX-License-Identifier: GPL-2.0

//! `cluster events`: the history of nodes' states, and what is added to it.

use crate::failure::Failure;
use crate::out::Out;
use clap::ArgMatches;
use cluster::history;
use cluster::history::Event;
use cluster::history::Listener;
use cluster::history::Transition;
use cluster::history::Which;
use cluster::netlink;
use nix::errno::Errno;
use serde::Serialize;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// A line of `--json`. Names and types stay as they are; further fields and events may come.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Json<'a> {
    Transition {
        id: u64,
        view: u64,
        time: String,
        node: u32,
        from: &'a str,
        to: &'a str,
        cause: &'a str,
    },
    View {
        view: u64,
        master: Option<u32>,
        members: &'a [u32],
    },
    /// What follows does not follow on what was before.
    Gap,
}

/// Time as people and scripts read it, in UTC.
pub(crate) fn time(ns: u64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(ns)).to_string()
}

fn of_transition(t: &Transition) -> Json<'static> {
    Json::Transition {
        id: t.id,
        view: t.view(),
        time: time(t.time_ns),
        node: t.node,
        from: t.from.name(),
        to: t.to.name(),
        cause: t.cause.name(),
    }
}

fn line(j: &Json<'_>) -> String {
    match j {
        Json::Transition {
            id,
            time,
            node,
            from,
            to,
            cause,
            ..
        } => format!("{time}  {id:>12}  node {node:>4}  {from:9} -> {to:9}  {cause}"),
        Json::View { view, master, members } => {
            let members: Vec<_> = members.iter().map(u32::to_string).collect();
            let master = master.map_or("none".to_owned(), |m| format!("node {m}"));
            format!("view {view}: members {}, master {master}", members.join(" "))
        }
        Json::Gap => "the history does not reach back to here; what follows is all that is kept".to_owned(),
    }
}

/// What is written, and where to.
struct Told {
    out: Out,
    simple: bool,
    /// The last transition that was written.
    last: u64,
}

impl Told {
    fn say(&self, j: &Json<'_>) -> Result<(), Failure> {
        self.out.say(j, &line(j))
    }

    /// Writes what the history has beyond the last line.
    fn drain(&mut self) -> Result<(), Failure> {
        loop {
            match history::transition(Which::Next, self.last, self.simple) {
                Ok(Some(t)) => {
                    self.last = t.id;
                    self.say(&of_transition(&t))?;
                }
                Ok(None) => return Ok(()),
                Err(netlink::Error::Refused(r)) if r.errno == Errno::ESTALE && self.last != 0 => {
                    self.last = 0;
                    self.say(&Json::Gap)?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    let mut told = Told {
        out: Out::of(m),
        simple: m.get_flag("simple"),
        last: m.get_one::<u64>("after").copied().unwrap_or(0),
    };
    // Before the history is read: nothing is missed between the two.
    let mut listener = m.get_flag("follow").then(Listener::new).transpose()?;
    told.drain()?;
    while let Some(l) = &mut listener {
        let event = l.wait()?;
        told.drain()?;
        if let Event::View { view, master, members } = event {
            let members = &members;
            told.say(&Json::View { view, master, members })?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::history::Cause;
    use cluster::membership::NodeState;

    #[test]
    fn lines_have_the_promised_fields() {
        let j = of_transition(&Transition {
            id: (3 << 24) + 1,
            time_ns: 1_700_000_000_000_001_000,
            node: 3,
            incarnation: 9,
            from: NodeState::Up,
            to: NodeState::GoingDown,
            cause: Cause::Lost,
        });
        assert_eq!(
            serde_json::to_string(&j).expect("json"),
            r#"{"event":"transition","id":50331649,"view":3,"time":"2023-11-14T22:13:20.000001Z","node":3,"from":"UP","to":"GOINGDOWN","cause":"lost"}"#
        );
        assert_eq!(
            line(&j),
            "2023-11-14T22:13:20.000001Z      50331649  node    3  UP        -> GOINGDOWN  lost"
        );
        let v = Json::View {
            view: 4,
            master: None,
            members: &[1, 3],
        };
        assert_eq!(
            serde_json::to_string(&v).expect("json"),
            r#"{"event":"view","view":4,"master":null,"members":[1,3]}"#
        );
        assert_eq!(line(&v), "view 4: members 1 3, master none");
        assert_eq!(serde_json::to_string(&Json::Gap).expect("json"), r#"{"event":"gap"}"#);
    }
}
