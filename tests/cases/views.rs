// SPDX-License-Identifier: GPL-2.0

//! The views that the nodes had, as their consoles tell them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Phase;

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

    fn of(&self, node: u32) -> u64 {
        self.0.get(node as usize - 1).copied().unwrap_or(0)
    }

    /// What a node's console has said since.
    pub(crate) fn text(&self, c: &Context, node: u32) -> String {
        console::text(&console::bytes_since(&c.client.console(node), self.of(node)))
    }

    /// What it had said before.
    fn before(&self, c: &Context, node: u32) -> String {
        let mut bytes = console::bytes_since(&c.client.console(node), 0);
        bytes.truncate(usize::try_from(self.of(node)).unwrap_or(usize::MAX));
        console::text(&bytes)
    }
}

/// A view that a node has carried out: its number, its members, and in which boot of the node it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    id: u64,
    members: BTreeSet<u32>,
    boot: u32,
}

/// A view whose lines are being read.
struct Open {
    id: u64,
    /// How many members it is said to have.
    n: usize,
    came: BTreeSet<u32>,
}

/// The views of one node: the number and the count that it says first, and the set that is made by who it says is up and down.
struct Reader {
    node: u32,
    boot: u32,
    members: BTreeSet<u32>,
    open: Option<Open>,
    views: Vec<View>,
}

impl Reader {
    fn new(node: u32) -> Self {
        Self {
            node,
            boot: 0,
            members: BTreeSet::from([node]),
            open: None,
            views: Vec::new(),
        }
    }

    /// The lines of a view are over. Those of the last one before the node died may be missing: `is_cut_off`.
    ///
    /// # Errors
    /// It has others as members than it says.
    fn close(&mut self, is_cut_off: bool) -> Result<()> {
        let Some(Open { id, n, .. }) = self.open.take() else {
            return Ok(());
        };
        let (node, members) = (self.node, self.members.clone());
        if members.len() == n {
            let boot = self.boot;
            self.views.push(View { id, members, boot });
        } else {
            ensure!(
                is_cut_off,
                "node {node}: view {id} of {n} members, but those are {members:?}"
            );
        }
        Ok(())
    }

    fn read(&mut self, line: &str) -> Result<()> {
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        if line.contains("Linux version ") {
            self.close(true)?;
            self.boot += 1;
            self.members = BTreeSet::from([self.node]);
        } else if let Some((_, said)) = line.split_once("ssi_clms: view ") {
            // A node carries out one view after the other: all of the one before has been said.
            self.close(false)?;
            self.open = said.split_once(": ").and_then(|(id, n)| {
                Some(Open {
                    id: id.parse().ok()?,
                    n: number(n)? as usize,
                    came: BTreeSet::new(),
                })
            });
        } else if let Some((_, said)) = line.split_once("ssi_clms: node ")
            && let Some(other) = number(said)
        {
            if said.ends_with(" is up") {
                let is_known = !self.members.insert(other);
                if let Some(open) = &mut self.open {
                    open.came.insert(other);
                    if is_known {
                        // This node has left and joins again: it finds all who are there.
                        self.members = BTreeSet::from([self.node]);
                        self.members.extend(&open.came);
                    }
                }
            } else if said.ends_with(" is down") {
                self.members.remove(&other);
            }
        }
        Ok(())
    }
}

/// The views of one node. `is_cut_off`: nothing is to come after the end of the text, and something may be missing there.
///
/// # Errors
/// One has others as members than it says.
fn views(node: u32, console: &str, is_cut_off: bool) -> Result<Vec<View>> {
    let mut reader = Reader::new(node);
    for line in console.lines() {
        reader.read(line)?;
    }
    reader.close(is_cut_off)?;
    Ok(reader.views)
}

/// The console of each node. What one that is up says of its last view is waited for.
///
/// # Errors
/// It has others as members than it says.
fn consoles(c: &Context) -> Result<Consoles> {
    let whole = |node| {
        let text = c.console(node);
        let is_dead = c.client.node(node)?.phase != Phase::Up;
        views(node, &text, is_dead).map(|_| text)
    };
    let of = |node| {
        // A node is UP a moment before its console says so.
        let found = c.until("the last view", 2, || Ok(whole(node).ok()));
        found.or_else(|_| whole(node)).map(|text| (node, text))
    };
    c.all().into_iter().map(of).collect()
}

/// Holds the views of all nodes since the instance came up against each other: one number, one set of members; each a
/// majority; on each node, within a life, rising. Gives how many different ones there were.
///
/// # Errors
/// They are not.
pub(crate) fn are_one_history(c: &Context) -> Result<usize> {
    some(judge(c.nodes, &consoles(c)?)?)
}

/// The same for a cluster of which every node has died since: its numbers begin anew.
///
/// # Errors
/// They are not.
pub(crate) fn are_one_history_since(c: &Context, since: &Mark) -> Result<usize> {
    let (_, after) = at_death(c, since)?;
    some(judge(c.nodes, &after)?)
}

/// The same of the lives in which the nodes of such a cluster died.
///
/// # Errors
/// They are not.
pub(crate) fn were_one_history(c: &Context, since: &Mark) -> Result<usize> {
    let (before, _) = at_death(c, since)?;
    some(judge(c.nodes, &before)?)
}

type Consoles = Vec<(u32, String)>;

/// What the consoles told before each node's first death after that, and what since.
fn at_death(c: &Context, since: &Mark) -> Result<(Consoles, Consoles)> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (node, text) in consoles(c)? {
        let known = since.before(c, node).len();
        let boot = text.get(known..).and_then(|late| late.find("Linux version "));
        let boot = boot.with_context(|| format!("node {node} has not died"))?;
        let (old, new) = text.split_at(known + boot);
        before.push((node, old.to_owned()));
        after.push((node, new.to_owned()));
    }
    Ok((before, after))
}

fn some(views: usize) -> Result<usize> {
    ensure!(views > 0, "no console tells of a view");
    Ok(views)
}

/// How many views there are. Ends of texts may be cut off: [`consoles`] has seen to those that are not.
fn judge(nodes: u32, consoles: &[(u32, String)]) -> Result<usize> {
    let mut known: BTreeMap<u64, (u32, BTreeSet<u32>)> = BTreeMap::new();
    for (node, text) in consoles {
        let mut last: Option<View> = None;
        for v in views(*node, text, true)? {
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
    fn views_are_read_off_a_console() -> Result<()> {
        let all = views(1, ONE, false)?;
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].id, all[0].members.len(), all[0].boot), (1, 3, 1));
        assert_eq!((all[1].id, all[1].members.clone()), (2, BTreeSet::from([1, 2])));
        // Cut off in the middle, it is none.
        let half: String = ONE.lines().take(3).map(|l| format!("{l}\n")).collect();
        assert_eq!(views(1, &half, true)?, []);
        assert!(views(1, &half, false).is_err());
        let dies = format!("{half}Linux version 7.3.4\n");
        assert_eq!(views(1, &dies, false)?, []);
        // It goes on, in another set than it says.
        let wrong = format!("{half}ssi_clms: view 2: 3 members, master 1\nssi_clms: node 3 is up\n");
        assert!(views(1, &wrong, true).is_err_and(|e| e.to_string().contains("view 1 of 3 members")));
        Ok(())
    }

    #[test]
    fn who_joins_again_in_one_boot_finds_all() -> Result<()> {
        let again = "ssi_clms: view 5: 2 members, master 1\nssi_clms: node 2 is up\n";
        let all = views(1, &format!("{ONE}{again}"), false)?;
        assert_eq!(all[2].members, BTreeSet::from([1, 2]));
        Ok(())
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
                "Linux version\nssi_clms: view 2: 3 members, master 1\nssi_clms: node 1 is up\n\
                 ssi_clms: view 3: 3 members, master 1\nssi_clms: node 3 is up\n",
                "view 2 of 3",
            ),
            (
                "Linux version\nssi_clms: view 2: 2 members, master 1\nssi_clms: node 1 is up\n\
                 ssi_clms: view 1: 3 members, master 1\nssi_clms: node 3 is up\n",
                "after",
            ),
        ] {
            let e = judge(3, &consoles(bad)).map_or_else(|e| e.to_string(), |n| format!("{n} views"));
            assert!(e.contains(word), "{e}");
        }
        assert!(judge(3, &[]).and_then(some).is_err());
    }
}
