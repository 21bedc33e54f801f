// SPDX-License-Identifier: GPL-2.0

//! The small questions: `clusternode_num`, `clustername`, `clusternode_getstate`; and which node a word means.

use crate::failure::Failure;
use crate::netlink;
use crate::netlink::Node;
use crate::netlink::Status;
use clap::ArgMatches;

const NOT_JOINED: &str = "this node is in no cluster; join one with cluster join";

pub(crate) fn number() -> Result<u8, Failure> {
    let n = netlink::status()?
        .this_node
        .ok_or_else(|| Failure::failed(NOT_JOINED))?;
    println!("{n}");
    Ok(0)
}

pub(crate) fn cluster_name() -> Result<u8, Failure> {
    let name = netlink::status()?.name;
    if name.is_empty() {
        return Err(Failure::failed(NOT_JOINED));
    }
    println!("{name}");
    Ok(0)
}

pub(crate) fn state(m: &ArgMatches) -> Result<u8, Failure> {
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    println!("{}", find(&netlink::status()?, word)?.state.name());
    Ok(0)
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
            let id = find(&netlink::status()?, word)?.id;
            i32::try_from(id).map_err(|_| Failure::failed(format!("node {word}: number {id} is out of range")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::NodeState;

    #[test]
    fn a_word_means_one_node() {
        let node = |id, name: &str| Node {
            id,
            name: name.to_owned(),
            state: NodeState::Up,
            incarnation: 1,
            fence: netlink::FenceState::None,
            detection_ms: None,
            judgement_ms: None,
        };
        let s = Status {
            name: String::new(),
            view: 1,
            quorate: true,
            master: None,
            this_node: None,
            state: NodeState::Up,
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

    #[test]
    fn numbers_are_left_to_the_kernel() {
        for (word, n) in [("0", 0), ("1023", 1023), ("-1", -1), ("7", 7)] {
            assert_eq!(resolve(word), Ok(n));
        }
    }
}
