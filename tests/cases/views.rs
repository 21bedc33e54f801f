// SPDX-License-Identifier: GPL-2.0

//! The views that the nodes had, as their consoles tell them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::Result;
use anyhow::ensure;

use crate::console;
use crate::context::Context;

/// Where the consoles were at some time.
pub(crate) struct Mark(Vec<u64>);

impl Mark {
    /// Now.
    pub(crate) fn now(c: &Context) -> Self {
        let len = |n| std::fs::metadata(c.client.console(n)).map_or(0, |m| m.len());
        Self(c.all().into_iter().map(len).collect())
    }

    /// What a node's console has said since.
    pub(crate) fn text(&self, c: &Context, node: u32) -> String {
        let start = self.0.get(node as usize - 1).copied().unwrap_or(0);
        console::text(&console::bytes_since(&c.client.console(node), start))
    }
}

/// A view that a node has carried out: its number, its members, and in which boot of the node it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    id: u64,
    members: BTreeSet<u32>,
    boot: u32,
}

/// The whole views of one node. One that it did not get done with, as it died, is none.
fn views(node: u32, console: &str) -> Vec<View> {
    let mut all = Vec::new();
    let mut members = BTreeSet::from([node]);
    let (mut boot, mut open) = (0, None);
    let number = |text: &str| text.split_whitespace().next()?.parse().ok();
    let close = |open: &mut Option<(u64, usize)>, members: &BTreeSet<u32>, boot, all: &mut Vec<View>| {
        if let Some((id, n)) = open.take()
            && members.len() == n
        {
            all.push(View {
                id,
                members: members.clone(),
                boot,
            });
        }
    };
    for line in console.lines() {
        if line.contains("Linux version ") {
            close(&mut open, &members, boot, &mut all);
            boot += 1;
            members = BTreeSet::from([node]);
        } else if let Some((_, said)) = line.split_once("ssi_clms: view ") {
            close(&mut open, &members, boot, &mut all);
            let id = said.split(':').next().and_then(|id| id.parse().ok());
            open = id.zip(
                said.split_once(": ")
                    .and_then(|(_, n)| number(n))
                    .map(|n: u32| n as usize),
            );
        } else if let Some((_, said)) = line.split_once("ssi_clms: node ")
            && let Some(other) = number(said)
        {
            if said.ends_with(" is up") {
                members.insert(other);
            } else if said.ends_with(" is down") {
                members.remove(&other);
            }
        }
    }
    close(&mut open, &members, boot, &mut all);
    all
}

/// Holds the views of all nodes since the instance came up against each other: one number, one set of members; each a
/// majority; on each node, within a life, rising. Gives how many different ones there were.
///
/// # Errors
/// They are not.
pub(crate) fn are_one_history(c: &Context) -> Result<usize> {
    let consoles: Vec<(u32, String)> = c.all().into_iter().map(|n| (n, c.console(n))).collect();
    judge(c.nodes, &consoles)
}

/// The same for a cluster of which every node has died since: its numbers begin anew.
///
/// # Errors
/// They are not.
pub(crate) fn are_one_history_since(c: &Context, since: &Mark) -> Result<usize> {
    let consoles: Vec<(u32, String)> = c.all().into_iter().map(|n| (n, since.text(c, n))).collect();
    judge(c.nodes, &consoles)
}

fn judge(nodes: u32, consoles: &[(u32, String)]) -> Result<usize> {
    let mut known: BTreeMap<u64, (u32, BTreeSet<u32>)> = BTreeMap::new();
    for (node, text) in consoles {
        let mut last: Option<View> = None;
        for v in views(*node, text) {
            ensure!(
                v.members.len() > nodes as usize / 2,
                "node {node}: {v:?} is no majority of {nodes}"
            );
            if let Some(last) = last.filter(|l| l.boot == v.boot) {
                ensure!(v.id > last.id, "node {node}: {v:?} after {last:?}");
            }
            let (first, members) = known.entry(v.id).or_insert_with(|| (*node, v.members.clone()));
            ensure!(
                *members == v.members,
                "view {}: node {node} has {:?}, node {first} {members:?}",
                v.id,
                v.members
            );
            last = Some(v);
        }
    }
    ensure!(!known.is_empty(), "no console tells of a view");
    Ok(known.len())
}

/// Checks that a node has had no view since, in whatever life.
///
/// # Errors
/// It has.
pub(crate) fn none_since(c: &Context, since: &Mark, node: u32) -> Result<()> {
    let text = since.text(c, node);
    let line = text.lines().find(|l| l.contains("ssi_clms: view "));
    ensure!(line.is_none(), "node {node}: {}", line.unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\
[    0.0] Linux version 7.3.4
[    1.0] ssi_clms: view 1: 3 members, master 1
[    1.0] ssi_clms: node 2 is up
[    1.0] ssi_clms: node 3 is up
[    2.0] ssi_clms: view 2: 2 members, master 1
[    2.0] ssi_clms: node 3 is down
";

    fn consoles(two: &str) -> Vec<(u32, String)> {
        vec![(1, ONE.to_owned()), (2, two.to_owned())]
    }

    #[test]
    fn views_are_read_off_a_console() {
        let all = views(1, ONE);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].id, all[0].members.len(), all[0].boot), (1, 3, 1));
        assert_eq!((all[1].id, all[1].members.clone()), (2, BTreeSet::from([1, 2])));
        // Cut off in the middle, it is none.
        let half: String = ONE.lines().take(3).map(|l| format!("{l}\n")).collect();
        assert_eq!(views(1, &half), []);
    }

    #[test]
    fn histories_that_differ_are_found() {
        let good = "Linux version\nssi_clms: view 2: 2 members, master 1\nssi_clms: node 1 is up\n";
        assert_eq!(judge(3, &consoles(good)).unwrap_or(0), 2);
        for (bad, word) in [
            (
                "Linux version\nssi_clms: view 2: 2 members, master 2\nssi_clms: node 3 is up\n",
                "view 2",
            ),
            ("Linux version\nssi_clms: view 3: 1 members, master 2\n", "majority"),
            (
                "Linux version\nssi_clms: view 2: 2 members, master 1\nssi_clms: node 1 is up\n\
                 ssi_clms: view 1: 3 members, master 1\nssi_clms: node 3 is up\n",
                "after",
            ),
        ] {
            let e = judge(3, &consoles(bad)).map_or_else(|e| e.to_string(), |n| format!("{n} views"));
            assert!(e.contains(word), "{e}");
        }
        assert!(judge(3, &[]).is_err());
    }
}
