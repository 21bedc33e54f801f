// SPDX-License-Identifier: GPL-2.0

//! Nodes of the rig that join, and what their consoles say of each other's deaths. The consoles are files here: nothing
//! runs in the guests for it.

use crate::Problem;
use crate::rig::Rig;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Between two looks at the consoles.
const POLL: Duration = Duration::from_millis(1);

/// What a node says before it restarts itself.
const STOPPED: &str = "ssi_clms: node stops itself";

/// A death that nobody has seen after this time is not seen.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until every node takes commands, and is a member of one cluster with the others. `join` is what those do that
/// are not.
pub(crate) fn all_join(rig: &Rig, nodes: u32, join: &str) -> Result<(), Problem> {
    // All at once: one alone has no majority.
    let join = format!("clusternode_num >/dev/null 2>&1 || {join}");
    let once = || {
        for n in 1..=nodes {
            rig.wait_up(n)?;
        }
        rig.sh_all(60, &join)?;
        (1..=nodes)
            .map(|n| members(&rig.sh(n, 20, "cluster status --json || true")?))
            .collect::<Result<Vec<_>, _>>()
    };
    let start = Instant::now();
    loop {
        // On a loaded host one may be taken for dead meanwhile.
        let seen = once();
        let is_one = |v: &Vec<(u64, usize)>| v.iter().all(|w| w.1 == nodes as usize && w.0 == v[0].0);
        if seen.as_ref().is_ok_and(is_one) {
            return Ok(());
        }
        if start.elapsed() > JOIN_LIMIT {
            return Err(format!("not in one view after {JOIN_LIMIT:?}: {seen:?}"));
        }
    }
}

/// A cluster that is not there after this time does not come.
const JOIN_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Deserialize)]
struct Status {
    view: u64,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    state: String,
}

/// The view's number, and how many nodes are up in it.
fn members(json: &str) -> Result<(u64, usize), Problem> {
    let s: Status = serde_json::from_str(json.trim()).map_err(|e| format!("{json}: {e}"))?;
    Ok((s.view, s.nodes.iter().filter(|n| n.state == "UP").count()))
}

/// What a node's console says from some time on.
pub(crate) struct Console {
    path: PathBuf,
    file: File,
    text: String,
}

impl Console {
    pub(crate) fn at_end(path: PathBuf) -> Result<Self, Problem> {
        let open = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))?;
        Ok(Self {
            path,
            file,
            text: String::new(),
        })
    }

    /// Reads what is new; gives all that was said so far.
    pub(crate) fn read(&mut self) -> Result<&str, Problem> {
        let mut more = Vec::new();
        self.file
            .read_to_end(&mut more)
            .map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.text.push_str(&String::from_utf8_lossy(&more));
        Ok(&self.text)
    }

    fn deaths(&self) -> impl Iterator<Item = u32> {
        self.text.split_inclusive('\n').filter_map(|l| {
            l.trim_end()
                .split_once("ssi_clms: node ")?
                .1
                .strip_suffix(" is down")?
                .parse()
                .ok()
        })
    }

    fn says(&self, dead: u32) -> bool {
        self.deaths().any(|n| n == dead)
    }

    fn has_stopped(&self) -> bool {
        self.text.contains(STOPPED)
    }

    /// How many nodes it took for dead that nobody killed, itself included.
    pub(crate) fn others(&self, dead: u32) -> usize {
        self.deaths().filter(|n| *n != dead).count() + self.text.matches(STOPPED).count()
    }
}

/// From `start` until the last console says so; `None`: a survivor has stopped itself.
pub(crate) fn all_see(consoles: &mut [Console], dead: u32, start: Instant) -> Result<Option<Duration>, Problem> {
    loop {
        let mut is_seen = true;
        for c in consoles.iter_mut().filter(|c| !c.says(dead)) {
            c.read()?;
            is_seen &= c.says(dead);
        }
        let took = start.elapsed();
        if is_seen {
            return Ok(Some(took));
        }
        if consoles.iter().any(Console::has_stopped) {
            return Ok(None);
        }
        if took > LIMIT {
            return Err(format!("node {dead} is not down for all after {took:?}"));
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_death_is_read_off_the_consoles_of_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let line = "[    1.0] ssi_clms: node 3 is down\r\n";
        let path = |n: u32| dir.path().join(format!("node{n}.console"));
        let append = |n, text: &str| {
            let mut f = File::options().append(true).create(true).open(path(n)).expect("a file");
            f.write_all(text.as_bytes()).expect("written");
        };
        // What was said before does not count.
        for n in [1, 2] {
            append(n, line);
        }
        let mut consoles = [1, 2].map(|n| Console::at_end(path(n)).expect("a console"));
        append(1, line);
        append(2, &line[..20]);
        for c in &mut consoles {
            c.read().expect("read");
        }
        assert!(consoles[0].says(3) && !consoles[1].says(3) && !consoles[0].says(1));
        append(2, &line[20..]);
        assert!(matches!(all_see(&mut consoles, 3, Instant::now()), Ok(Some(_))));
        assert_eq!(consoles[0].others(3), 0);
        append(
            2,
            "[    2.0] ssi_clms: node 1 is down\r\n[    2.0] ssi_clms: node stops itself: x\r\n",
        );
        consoles[1].read().expect("read");
        assert_eq!(consoles[1].others(3), 2);
    }

    #[test]
    fn members_are_those_up() {
        let json = r#"{"name":"x","view":4,"nodes":[{"id":1,"state":"UP"},{"id":2,"state":"DOWN"}]}"#;
        assert_eq!(members(json), Ok((4, 1)));
        assert!(members("").is_err());
    }
}
