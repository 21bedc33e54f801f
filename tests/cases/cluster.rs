// SPDX-License-Identifier: GPL-2.0

//! What cases ask the cluster's own commands.

use std::collections::BTreeMap;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::context::Context;
use crate::context::same;

/// The line for programs that need errno's names; `try_call` prints `NAME ok` or `NAME ERRNO`.
pub(crate) const PYTHON: &str = r"
import ctypes, errno, os, resource, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*args):
    got = libc.syscall(*args)
    if got < 0:
        raise OSError(ctypes.get_errno(), 'syscall')
    return got
def try_call(name, call, *args):
    try:
        call(*args)
        print(name, 'ok')
    except OSError as e:
        print(name, errno.errorcode[e.errno])
";

/// A node, as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) incarnation: u64,
}

/// What `cluster status --json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its exit code.
    pub(crate) code: i32,
    pub(crate) name: String,
    pub(crate) view: u64,
    pub(crate) quorate: bool,
    pub(crate) master: Option<u64>,
    pub(crate) nodes: Vec<Node>,
}

impl Status {
    /// A node's row.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn node(&self, id: u32) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|n| n.id == u64::from(id))
            .with_context(|| format!("no node {id} in {self:?}"))
    }

    /// The numbers of those that are UP.
    pub(crate) fn members(&self) -> Vec<u64> {
        self.nodes.iter().filter(|n| n.state == "UP").map(|n| n.id).collect()
    }
}

/// Asks a node.
///
/// # Errors
/// It does not answer with what is promised.
pub(crate) fn status(c: &Context, node: u32) -> Result<Status> {
    let out = c.exec(node, &["cluster", "status", "--json"])?;
    let text = out.text();
    let parse = || -> Option<Status> {
        let v: Value = serde_json::from_str(&text).ok()?;
        let nodes = v["nodes"].as_array()?.iter().map(|n| {
            Some(Node {
                id: n["id"].as_u64()?,
                name: n["name"].as_str()?.to_owned(),
                state: n["state"].as_str()?.to_owned(),
                incarnation: n["incarnation"].as_u64()?,
            })
        });
        Some(Status {
            code: out.code,
            name: v["name"].as_str()?.to_owned(),
            view: v["view"].as_u64()?,
            quorate: v["quorate"].as_bool()?,
            master: if v["master"].is_null() {
                None
            } else {
                Some(v["master"].as_u64()?)
            },
            nodes: nodes.collect::<Option<_>>()?,
        })
    };
    parse().with_context(|| format!("node {node}: exit {}: {text} {}", out.code, out.error_text()))
}

/// Waits until some nodes say the same, and that they are the members; gives what they say.
///
/// # Errors
/// They do not within `seconds`.
pub(crate) fn agree(c: &Context, nodes: &[u32], seconds: u32) -> Result<Status> {
    let members: Vec<u64> = nodes.iter().map(|n| u64::from(*n)).collect();
    let mut last = Vec::new();
    let found = c.until("one view", seconds, || {
        last = nodes.iter().map(|n| status(c, *n)).collect::<Result<Vec<_>>>()?;
        let is_one = last.iter().all(|s| *s == last[0] && s.members() == members);
        Ok(is_one.then(|| last[0].clone()))
    });
    found.with_context(|| format!("last seen: {last:#?}"))
}

/// What a node has refused to hear since its modules were loaded, by kind.
///
/// # Errors
/// The counters are not there.
pub(crate) fn refused(c: &Context, node: u32) -> Result<BTreeMap<String, u64>> {
    let text = c.sh(node, "cat /sys/kernel/debug/ssi/ics_refused")?;
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let (kind, count) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
        all.insert(kind.to_owned(), count.parse()?);
    }
    ensure!(!all.is_empty(), "node {node}: no counters");
    Ok(all)
}

/// Runs a Python program after [`PYTHON`]; gives its standard output.
///
/// # Errors
/// It does not exit 0.
pub(crate) fn python(c: &Context, user: &str, node: u32, program: &str, args: &[&str]) -> Result<String> {
    let text = format!("{PYTHON}{program}");
    let argv = [&["python3", "-c", text.as_str()], args].concat();
    let out = c.exec_as(user, node, &argv)?;
    ensure!(
        out.code == 0,
        "node {node}: exit {}: {} {}",
        out.code,
        out.text(),
        out.error_text()
    );
    Ok(out.text())
}

/// Leaves a `sleep` running and waits until it is one; gives its pid.
///
/// # Errors
/// It is not, or its pid is not of that node.
pub(crate) fn sleeper(c: &Context, user: &str, node: u32, argv: &[&str]) -> Result<u32> {
    let pid = c
        .client
        .background(node, rig::spawn::command_as(user, argv))
        .map(|s| s.pid)?;
    let pid = u32::try_from(pid)?;
    same(format!("node of pid {pid}"), pid >> 20, node)?;
    c.until("sleep", 10, || {
        let comm = c.sh(node, &format!("cat /proc/{pid}/comm"))?;
        Ok((comm == "sleep").then_some(()))
    })?;
    Ok(pid)
}

/// Kills processes on the node of each, and waits until they are gone there.
///
/// # Errors
/// One stays.
pub(crate) fn end(c: &Context, pids: &[u32]) -> Result<()> {
    for pid in pids {
        let node = pid >> 20;
        // It may have ended already.
        c.sh(node, &format!("kill -9 {pid} 2>/dev/null; true"))?;
        gone(c, node, *pid)?;
    }
    Ok(())
}

/// Waits until a node does not see a process any more.
///
/// # Errors
/// It does.
pub(crate) fn gone(c: &Context, node: u32, pid: u32) -> Result<()> {
    c.until(&format!("node {node}: the end of {pid}"), 10, || {
        let out = c.exec(node, &["test", "-e", &format!("/proc/{pid}")])?;
        Ok((out.code == 1).then_some(()))
    })
}

/// What `cluster ics show --json` says.
///
/// # Errors
/// It does not exit 0 or is no JSON.
pub(crate) fn ics(c: &Context, node: u32) -> Result<Value> {
    Ok(serde_json::from_str(&c.sh(node, "cluster ics show --json")?)?)
}
