// SPDX-License-Identifier: GPL-2.0

//! The small questions: `clusternode_num`, `clustername`, `clusternode_getstate`; `cluster node`; and which node a word
//! means.

use crate::events;
use crate::failure::Failure;
use clap::ArgMatches;
use cluster::history;
use cluster::history::Info;
use cluster::history::Transition;
use cluster::history::Which;
use cluster::membership;
use cluster::membership::Node;
use cluster::membership::Status;
use serde::Serialize;

pub(crate) const NOT_JOINED: &str = "this node is in no cluster; join one with cluster join";

pub(crate) fn number() -> Result<u8, Failure> {
    let n = membership::status()?
        .this_node
        .ok_or_else(|| Failure::failed(NOT_JOINED))?;
    println!("{n}");
    Ok(0)
}

pub(crate) fn cluster_name() -> Result<u8, Failure> {
    let name = membership::status()?.name;
    if name.is_empty() {
        return Err(Failure::failed(NOT_JOINED));
    }
    println!("{name}");
    Ok(0)
}

pub(crate) fn state(m: &ArgMatches) -> Result<u8, Failure> {
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    println!("{}", find(&membership::status()?, word)?.state.name());
    Ok(0)
}

/// What `--json` prints of a node's last change. Names and types stay as they are; further fields may come.
#[derive(Serialize)]
struct JsonTransition {
    id: u64,
    time: String,
    from: &'static str,
    to: &'static str,
    cause: &'static str,
}

/// What `--json` prints of a node. As above.
#[derive(Serialize)]
struct JsonNode<'a> {
    #[serde(flatten)]
    info: &'a Info,
    transition: Option<JsonTransition>,
}

/// The last change of each node's state, as far as it is kept.
fn last_transition(node: u32) -> Result<Option<Transition>, Failure> {
    let mut found = history::transition(Which::Last, 0, false)?;
    while let Some(t) = found.filter(|t| t.node != node) {
        found = history::transition(Which::Previous, t.id, false)?;
    }
    Ok(found)
}

fn json(all: &[Info], with_transition: bool) -> Result<Vec<String>, Failure> {
    let one = |info: &Info| {
        let transition = if with_transition {
            last_transition(info.node)?
        } else {
            None
        };
        let transition = transition.map(|t| JsonTransition {
            id: t.id,
            time: events::time(t.time_ns),
            from: t.from.name(),
            to: t.to.name(),
            cause: t.cause.name(),
        });
        serde_json::to_string(&JsonNode { info, transition }).map_err(|e| Failure::failed(e.to_string()))
    };
    all.iter().map(one).collect()
}

/// `cluster node list`, `cluster -v`.
pub(crate) fn list(as_json: bool) -> Result<u8, Failure> {
    let s = membership::status()?;
    if s.this_node.is_none() {
        return Err(Failure::failed(NOT_JOINED));
    }
    let all = s
        .nodes
        .iter()
        .map(|n| history::info(n.id))
        .collect::<Result<Vec<_>, _>>()?;
    if as_json {
        println!("[{}]", json(&all, false)?.join(","));
    } else {
        print!("{}", table(&all));
    }
    Ok(0)
}

fn table(all: &[Info]) -> String {
    let width = all.iter().map(|i| i.name.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!("{:>4}  {:width$}  {:9}  CPUS  MEMORY\n", "NODE", "NAME", "STATE");
    for i in all {
        let (cpus, memory) = match i.total_cpus {
            0 => ("-".to_owned(), "-".to_owned()),
            n => (
                format!("{}/{n}", i.online_cpus),
                format!("{} MiB", i.total_memory >> 20),
            ),
        };
        out += &format!(
            "{:>4}  {:width$}  {:9}  {cpus:4}  {memory}\n",
            i.node,
            i.name,
            i.state.name()
        );
    }
    out
}

/// `cluster node show`, `cluster -V`.
pub(crate) fn show(word: &str, as_json: bool) -> Result<u8, Failure> {
    let s = membership::status()?;
    if s.this_node.is_none() {
        return Err(Failure::failed(NOT_JOINED));
    }
    let info = history::info(find(&s, word)?.id)?;
    if as_json {
        println!("{}", json(&[info], true)?.concat());
        return Ok(0);
    }
    let last = last_transition(info.node)?;
    print!("{}", lines(&info, last.as_ref()));
    Ok(0)
}

fn lines(i: &Info, last: Option<&Transition>) -> String {
    let mut out = format!(
        "node: {}\nname: {}\nstate: {}\nincarnation: {}\ntotalcpus: {}\nonlinecpus: {}\ncpupower: {}\ntotalmemory: {}\n",
        i.node,
        i.name,
        i.state.name(),
        i.incarnation,
        i.total_cpus,
        i.online_cpus,
        i.cpu_power,
        i.total_memory
    );
    if let Some(t) = last {
        out += &format!(
            "transition: {}\ntime: {}\nfrom: {}\nto: {}\ncause: {}\n",
            t.id,
            events::time(t.time_ns),
            t.from.name(),
            t.to.name(),
            t.cause.name()
        );
    }
    out
}

/// The node that `word`, a number or a name, means.
///
/// # Errors
/// None or two have it.
pub(crate) fn find<'a>(s: &'a Status, word: &str) -> Result<&'a Node, Failure> {
    let by_number = word.parse::<u32>().ok();
    let mut found = s
        .nodes
        .iter()
        .filter(|n| by_number.map_or(n.name == word, |id| n.id == id));
    match (found.next(), found.next()) {
        (Some(n), None) => Ok(n),
        (Some(a), Some(b)) => Err(Failure::failed(format!(
            "node {word}: both {} and {} have this name; use the number",
            a.id, b.id
        ))),
        (None, _) => Err(Failure::failed(format!(
            "node {word}: no such node; cluster status lists them"
        ))),
    }
}

/// The number that `word` means. A number is taken as it is, so that the kernel judges it; a name is looked up.
///
/// # Errors
/// No node has this name, or there is no module to ask.
pub(crate) fn resolve(word: &str) -> Result<i32, Failure> {
    match word.parse::<i32>() {
        Ok(n) => Ok(n),
        Err(_) => {
            let id = find(&membership::status()?, word)?.id;
            i32::try_from(id).map_err(|_| Failure::failed(format!("node {word}: number {id} is out of range")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::fencing::FenceState;
    use cluster::membership::NodeState;

    #[test]
    fn a_word_means_one_node() {
        let node = |id, name: &str| Node {
            id,
            name: name.to_owned(),
            state: NodeState::Up,
            incarnation: 1,
            fence: FenceState::None,
            detection_ms: None,
            judgement_ms: None,
            is_witness: false,
            tables: cluster::membership::Tables::default(),
        };
        let s = Status {
            name: String::new(),
            view: 1,
            quorate: true,
            master: None,
            this_node: None,
            state: NodeState::Up,
            tables: cluster::membership::Tables::default(),
            settled: true,
            nodes: vec![node(1, "one"), node(2, "twin"), node(3, "twin"), node(4, "1")],
        };
        for (word, want) in [
            ("1", Ok(1)),
            ("one", Ok(1)),
            ("3", Ok(3)),
            ("twin", Err("both 2 and 3")),
            ("9", Err("no such")),
            ("", Err("no such")),
        ] {
            match (find(&s, word), want) {
                (Ok(n), Ok(id)) => assert_eq!(n.id, id, "{word}"),
                (Err(f), Err(part)) => assert!(f.message.contains(part), "{word}: {}", f.message),
                (got, want) => panic!("{word}: {got:?}, expected {want:?}"),
            }
        }
    }

    fn info() -> Info {
        Info {
            node: 2,
            name: "west".to_owned(),
            state: NodeState::Up,
            incarnation: 9,
            total_cpus: 4,
            online_cpus: 2,
            cpu_power: 77,
            total_memory: 3 << 20,
        }
    }

    #[test]
    fn nodes_are_shown() {
        let down = Info {
            node: 3,
            state: NodeState::Down,
            total_cpus: 0,
            ..info()
        };
        assert_eq!(
            table(&[info(), down]),
            "NODE  NAME  STATE      CPUS  MEMORY\n   \
             2  west  UP         2/4   3 MiB\n   \
             3  west  DOWN       -     -\n"
        );
        let t = Transition {
            id: 5,
            time_ns: 0,
            node: 2,
            incarnation: 9,
            from: NodeState::ComingUp,
            to: NodeState::Up,
            cause: history::Cause::Found,
        };
        let text = lines(&info(), Some(&t));
        assert!(text.starts_with("node: 2\nname: west\nstate: UP\n"), "{text}");
        assert!(text.ends_with("from: COMINGUP\nto: UP\ncause: found\n"), "{text}");
        assert_eq!(
            json(&[info()], false).expect("json").concat(),
            r#"{"node":2,"name":"west","state":"UP","incarnation":9,"total_cpus":4,"online_cpus":2,"cpu_power":77,"total_memory":3145728,"transition":null}"#
        );
    }

    #[test]
    fn numbers_are_left_to_the_kernel() {
        for (word, n) in [("0", 0), ("1023", 1023), ("-1", -1), ("7", 7)] {
            assert_eq!(resolve(word), Ok(n));
        }
    }
}
