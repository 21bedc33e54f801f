// SPDX-License-Identifier: GPL-2.0

//! `cluster status`.

use crate::failure::FAILED;
use crate::failure::Failure;
use clap::ArgMatches;
use cluster::fencing::FenceState;
use cluster::membership;
use cluster::membership::Node;
use cluster::membership::Status;
use serde::Serialize;

/// What `--json` prints. Names and types stay as they are; further fields may come.
#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    view: u64,
    quorate: bool,
    master: Option<u32>,
    nodes: &'a [Node],
}

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    let s = membership::status()?;
    if m.get_flag("json") {
        println!("{}", json(&s)?);
    } else {
        print!("{}", table(&s));
    }
    Ok(if s.quorate { 0 } else { FAILED })
}

fn json(s: &Status) -> Result<String, Failure> {
    let j = Json {
        name: &s.name,
        view: s.view,
        quorate: s.quorate,
        master: s.master,
        nodes: &s.nodes,
    };
    serde_json::to_string(&j).map_err(|e| Failure::failed(e.to_string()))
}

fn table(s: &Status) -> String {
    if s.nodes.is_empty() {
        return format!(
            "This node is in no cluster (state {}). To join: cluster join\n",
            s.state.name()
        );
    }
    let master = s.master.map_or("none".to_owned(), |m| format!("node {m}"));
    let quorate = if s.quorate {
        "quorate"
    } else {
        "NOT quorate: most nodes are missing, nothing may be written"
    };
    let mut out = format!("Cluster {}, view {}, {quorate}, master {master}\n\n", s.name, s.view);
    let width = s.nodes.iter().map(|n| n.name.chars().count()).max().unwrap_or(0).max(4);
    out += &format!("  {:>4}  {:width$}  {:9}  INCARNATION\n", "NODE", "NAME", "STATE");
    for n in &s.nodes {
        let here = if s.this_node == Some(n.id) { '*' } else { ' ' };
        let witness = if n.is_witness { "  witness" } else { "" };
        let incarnation = if n.incarnation == 0 {
            "-".to_owned()
        } else {
            n.incarnation.to_string()
        };
        out += &format!(
            "{here} {:>4}  {:width$}  {:9}  {incarnation}{witness}\n",
            n.id,
            n.name,
            n.state.name()
        );
    }
    for n in s.nodes.iter().filter(|n| n.fence == FenceState::Wanted) {
        out += &format!(
            "\nNode {0} is lost and not known to be off: nobody acts on its death before its fence agent says so, or \
             cluster node confirm-down {0}\n",
            n.id
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::membership::NodeState;

    fn status() -> Status {
        Status {
            name: "west".to_owned(),
            view: 4,
            quorate: true,
            master: Some(1),
            this_node: Some(2),
            state: NodeState::Up,
            tables: cluster::membership::Tables::default(),
            settled: true,
            nodes: vec![
                Node {
                    id: 1,
                    name: "one".to_owned(),
                    state: NodeState::Up,
                    incarnation: 77,
                    fence: FenceState::None,
                    detection_ms: None,
                    judgement_ms: None,
                    is_witness: false,
                    tables: cluster::membership::Tables::default(),
                },
                Node {
                    id: 2,
                    name: "second".to_owned(),
                    state: NodeState::GoingDown,
                    incarnation: 0,
                    fence: FenceState::Wanted,
                    detection_ms: Some(2100),
                    judgement_ms: None,
                    is_witness: true,
                    tables: cluster::membership::Tables::default(),
                },
            ],
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        assert_eq!(
            json(&status()).expect("json"),
            r#"{"name":"west","view":4,"quorate":true,"master":1,"nodes":[{"id":1,"name":"one","state":"UP","incarnation":77,"fence":"none","detection_ms":null,"judgement_ms":null,"witness":false},{"id":2,"name":"second","state":"GOINGDOWN","incarnation":0,"fence":"wanted","detection_ms":2100,"judgement_ms":null,"witness":true}]}"#
        );
        let s = Status {
            nodes: vec![],
            master: None,
            quorate: false,
            ..status()
        };
        assert_eq!(
            json(&s).expect("json"),
            r#"{"name":"west","view":4,"quorate":false,"master":null,"nodes":[]}"#
        );
    }

    #[test]
    fn table_is_aligned_and_marks_the_own_node() {
        assert_eq!(
            table(&status()),
            "Cluster west, view 4, quorate, master node 1\n\n  \
             NODE  NAME    STATE      INCARNATION\n     \
             1  one     UP         77\n*    \
             2  second  GOINGDOWN  -  witness\n\n\
             Node 2 is lost and not known to be off: nobody acts on its death before its fence agent says so, or \
             cluster node confirm-down 2\n"
        );
        let lonely = Status {
            nodes: vec![],
            ..status()
        };
        assert!(table(&lonely).contains("cluster join"));
    }
}
