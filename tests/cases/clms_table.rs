// SPDX-License-Identifier: GPL-2.0

//! The table of nodes changes while the cluster runs: `cluster node add`, `remove`, `votes`.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::client::Output;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

const TAB: &str = "/tmp/tab";

const CASE: Case = Case {
    join: false,
    fresh: true,
    nodes: 4,
    seconds: 240,
    ..Case::DEFAULT
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_table_add_and_remove",
        promise: "a fourth node is added to a running cluster, joins, gets a vote, is shut down and removed, and its number is added again \
                  with another address; calls of the others go on, and nobody else is lost",
        run: add_and_remove,
        ..CASE
    },
    Case {
        name: "clms_table_crash",
        promise: "the node that makes views dies when it has staged, proposed, or installed another table: the others have one table, the \
                  change is finished from there, and it comes back with the files that it had",
        faults: "panic of node 1",
        expected: &["failpoint"],
        seconds: 420,
        run: |c| {
            for (i, point) in ["View.proposed=panic@1", "View.proposed=panic@2", "View.install=panic", "View.installed=panic"]
                .into_iter()
                .enumerate()
            {
                if i == 0 {
                    three(c)?;
                }
                dies_at(c, i % 2 == 0, point).with_context(|| point.to_owned())?;
            }
            Ok(())
        },
        long: true,
        ..CASE
    },
    Case {
        name: "clms_table_old_file",
        promise: "a member that dies before it settles comes back while the others have that table, and not, by name, when they have \
                  the next one; with their file it does",
        faults: "power cuts of node 3",
        run: old_file,
        long: true,
        ..CASE
    },
    Case {
        name: "clms_table_partition",
        promise: "while a member is cut off a change is refused, and nothing is left of it; without that member it is made",
        faults: "node 3 is cut off",
        expected: &["node stops itself"],
        run: partition,
        long: true,
        ..CASE
    },
    Case {
        name: "clms_table_two_at_once",
        promise: "of two changes that two nodes ask for at once each is made or refused as a whole, and the refused one can be asked for again",
        run: two_at_once,
        long: true,
        ..CASE
    },
    Case {
        name: "clms_table_with_a_witness",
        promise: "a node is added where a witness votes, which runs no commands of others: what is left to do there is said; one of the \
                  others may die as before; a change under way while the witness dies is made without it",
        faults: "power cuts of node 2, and of node 3, the witness",
        run: with_a_witness,
        long: true,
        ..CASE
    },
    Case {
        name: "clms_table_refused",
        promise: "who is no administrator, a bad row, a member that is to be removed, a file that somebody has edited: refused by name, \
                  and nothing is changed",
        run: refused,
        ..CASE
    },
];

const ROWS: &str = "1 10.73.1.1\n2 10.73.1.2\n3 10.73.1.3\n";

fn write(c: &Context, node: u32, file: &str, text: &str) -> Result<()> {
    c.sh(node, &format!("printf %s '{text}' >{file}")).map(drop)
}

fn text(c: &Context, node: u32) -> Result<String> {
    c.sh(node, &format!("cat {TAB}"))
}

fn join(c: &Context, node: u32) -> Result<()> {
    c.background(node, &["cluster", "join", "--tab", TAB]).map(drop)
}

/// Three nodes in one view, by a table without the fourth.
fn three(c: &Context) -> Result<cluster::Status> {
    for node in 1..=3 {
        write(c, node, TAB, ROWS)?;
        join(c, node)?;
    }
    cluster::agree(c, &[1, 2, 3], 30)
}

/// `cluster node ...`.
fn ask(c: &Context, node: u32, words: &str) -> Result<Output> {
    let argv: Vec<&str> = ["cluster", "node"]
        .into_iter()
        .chain(words.split(' '))
        .chain(["--tab", TAB])
        .collect();
    c.exec(node, &argv)
}

fn changes(c: &Context, node: u32, words: &str) -> Result<String> {
    let out = ask(c, node, words)?;
    ensure!(out.code == 0, "{words} on node {node}: {out:?}");
    Ok(out.text())
}

fn is_refused(c: &Context, node: u32, words: &str, code: i32, why: &str) -> Result<()> {
    let out = ask(c, node, words)?;
    ensure!(out.code == code && out.error_text().contains(why), "{words}: not {why:?}: {out:?}");
    Ok(())
}

/// These nodes have one file, of that generation, and no other; gives it.
fn one_file(c: &Context, nodes: &[u32], generation: u64) -> Result<String> {
    let first = text(c, nodes[0])?;
    ensure!(first.starts_with(&format!("generation {generation}\n")), "{first}");
    for node in nodes {
        same(format!("the file of node {node}"), text(c, *node)?, first.as_str())?;
        same("others", c.sh(*node, &format!("ls {TAB}*"))?, TAB)?;
    }
    Ok(first)
}

fn rows_of(c: &Context, node: u32) -> Result<Vec<u64>> {
    Ok(cluster::status(c, node)?.nodes.iter().map(|n| n.id).collect())
}

fn add_and_remove(c: &Context) -> Result<()> {
    three(c)?;
    let boots = [c.boots(1)?, c.boots(2)?, c.boots(3)?];
    let load = "cd /sys/kernel/debug/ssi; while [ ! -e /tmp/enough ]; do echo 2 2 500 64 64 >ics_timing || echo failed; done >/tmp/load 2>&1; \
                echo done >>/tmp/load";
    c.background(1, &["sh", "-c", load])?;

    let said = changes(c, 1, "add 4 10.73.1.4")?;
    ensure!(said.contains("generation 1") && said.contains("cluster join") && said.contains("votes 4 1"), "{said}");
    for node in 1..=3 {
        same("rows", rows_of(c, node)?, [1, 2, 3, 4])?;
        same("its state", cluster::status(c, node)?.node(4)?.state.as_str(), "NEVERUP")?;
    }
    // The same again is done already.
    changes(c, 2, "add 4 10.73.1.4")?;
    let tab = one_file(c, &[1, 2, 3], 1)?;
    write(c, 4, TAB, &(tab + "\n"))?;
    join(c, 4)?;
    cluster::agree(c, &[1, 2, 3, 4], 30)?;
    same("there", c.sh(1, "onnode 4 echo here")?, "here")?;
    same("and back", c.sh(4, "onnode 3 echo here")?, "here")?;
    changes(c, 3, "votes 4 1")?;
    one_file(c, &[1, 2, 3, 4], 2)?;

    is_refused(c, 1, "remove 4", 1, "EBUSY node 4 is UP; run cluster node shutdown 4 first")?;
    let out = c.exec(1, &["cluster", "node", "shutdown", "4", "--stay"])?;
    ensure!(out.code == 0, "{out:?}");
    cluster::agree(c, &[1, 2, 3], 30)?;
    let said = changes(c, 2, "remove 4")?;
    ensure!(said.contains("cluster key rotate"), "{said}");
    one_file(c, &[1, 2, 3], 3)?;
    for node in 1..=3 {
        same("rows", rows_of(c, node)?, [1, 2, 3])?;
    }
    same("it is nobody", c.sh(1, "onnode 4 true 2>/dev/null; echo $?")?, "125")?;
    // It is not let in any more.
    let before = cluster::refused(c, 1)?;
    join(c, 4)?;
    c.until("node 1 refuses node 4", 15, || {
        let now = cluster::refused(c, 1)?;
        Ok((now["admission"] > before["admission"]).then_some(()))
    })?;
    c.sh(4, "killall -INT cluster; while pidof cluster >/dev/null; do sleep 0.1; done")?;

    c.sh(
        4,
        "dev=$(ip -o -4 addr show | awk '$4 == \"10.73.1.4/24\" { print $2 }'); \
         ip addr del 10.73.1.4/24 dev $dev && ip addr add 10.73.1.44/24 dev $dev",
    )?;
    let said = changes(c, 1, "add 4 10.73.1.44 --votes 1 --json")?;
    same("what a program is told", said.as_str(), r#"{"event":"added","node":4,"generation":4}"#)?;
    let tab = one_file(c, &[1, 2, 3], 4)?;
    write(c, 4, TAB, &(tab + "\n"))?;
    join(c, 4)?;
    cluster::agree(c, &[1, 2, 3, 4], 30)?;
    same("there", c.sh(1, "onnode 4 echo here")?, "here")?;

    c.sh(1, "touch /tmp/enough")?;
    c.until("the load ends", 30, || Ok((c.sh(1, "cat /tmp/load")? == "done").then_some(())))?;
    same("boots", [c.boots(1)?, c.boots(2)?, c.boots(3)?], boots)?;
    for node in 1..=3 {
        for other in 1..=3 {
            let down = format!("node {other} is down");
            ensure!(!c.console(node).contains(&down), "node {node}: {down}");
        }
    }
    Ok(())
}

/// Node 4 is added or removed, and node 1 dies at that.
fn dies_at(c: &Context, adds: bool, point: &str) -> Result<()> {
    let words = if adds { "add 4 10.73.1.4" } else { "remove 4" };
    let before = text(c, 1)? + "\n";
    let boots = c.boots(1)?;
    let others = [c.boots(2)?, c.boots(3)?];
    c.client.failpoint(1, point)?;
    let out = ask(c, 2, words)?;
    println!("# {point}: {words}: exit {}: {}", out.code, out.error_text());
    c.wait(1, Event::Down, boots)?;
    c.wait(1, Event::Up, boots)?;
    cluster::agree(c, &[2, 3], 20)?;
    changes(c, 3, words)?;
    let generation: u64 = text(c, 2)?.split_whitespace().nth(1).context("a generation")?.parse()?;
    let after = one_file(c, &[2, 3], generation)? + "\n";
    // What it had on its disk.
    write(c, 1, TAB, &before)?;
    write(c, 1, &format!("{TAB}.next"), &after)?;
    join(c, 1)?;
    cluster::agree(c, &[1, 2, 3], 30)?;
    c.until("node 1 has settled", 10, || Ok((text(c, 1)? + "\n" == after).then_some(())))?;
    one_file(c, &[1, 2, 3], generation)?;
    same("boots", [c.boots(2)?, c.boots(3)?], others)
}

/// Each step by hand.
fn old_file(c: &Context) -> Result<()> {
    three(c)?;
    let boots = c.boots(3)?;
    for node in 1..=3 {
        changes(c, node, "stage add 4 10.73.1.4")?;
    }
    for node in 1..=2 {
        changes(c, node, "settle")?;
    }
    // Nobody settles twice, and nobody goes on before all have.
    changes(c, 1, "settle")?;
    is_refused(c, 3, "stage votes 4 1", 1, "EBUSY the last change is not finished")?;
    let next = c.sh(3, &format!("cat {TAB}.next"))? + "\n";
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2], 20)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Up, boots)?;
    write(c, 3, TAB, ROWS)?;
    write(c, 3, &format!("{TAB}.next"), &next)?;
    join(c, 3)?;
    cluster::agree(c, &[1, 2, 3], 30)?;
    c.until("node 3 has settled", 10, || Ok((text(c, 3)? + "\n" == next).then_some(())))?;

    // Two tables behind.
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2], 20)?;
    is_refused(c, 1, "votes 4 1", 1, "EDQUOT")?;
    changes(c, 1, "votes 3 0")?;
    changes(c, 2, "votes 3 1")?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Up, boots)?;
    write(c, 3, TAB, &next)?;
    join(c, 3)?;
    for (node, other) in [(1, 3), (3, 1)] {
        c.until("both are named", 15, || {
            let dmesg = c.sh(node, "dmesg")?;
            Ok(dmesg.contains(&format!("node {other} has another clustertab")).then_some(()))
        })?;
    }
    same("members", cluster::status(c, 1)?.members(), [1, 2])?;
    c.sh(3, "killall -INT cluster; while pidof cluster >/dev/null; do sleep 0.1; done")?;
    write(c, 3, TAB, &(text(c, 1)? + "\n"))?;
    join(c, 3)?;
    cluster::agree(c, &[1, 2, 3], 30)?;
    one_file(c, &[1, 2, 3], 3).map(drop)
}

fn partition(c: &Context) -> Result<()> {
    three(c)?;
    let boots = c.boots(3)?;
    for node in [1, 2] {
        c.change(node, 3, Change::Cut)?;
    }
    // It waits for node 3 until that is out.
    is_refused(c, 1, "add 4 10.73.1.4", 1, "node 3")?;
    for node in [1, 2] {
        same("the file", text(c, node)? + "\n", ROWS)?;
        same("others", c.sh(node, &format!("ls {TAB}*"))?, TAB)?;
    }
    cluster::agree(c, &[1, 2], 20)?;
    c.wait(3, Event::Up, boots)?;
    c.heal()?;
    changes(c, 1, "add 4 10.73.1.4")?;
    let tab = one_file(c, &[1, 2], 1)?;
    write(c, 3, TAB, &(tab + "\n"))?;
    join(c, 3)?;
    cluster::agree(c, &[1, 2, 3], 30)?;
    one_file(c, &[1, 2, 3], 1).map(drop)
}

fn two_at_once(c: &Context) -> Result<()> {
    three(c)?;
    let asks = |node: u32, words: &str| {
        let script = format!("(cluster node {words} --tab {TAB}; echo $? >/tmp/code) 2>&1 | cat >/tmp/said");
        c.background(node, &["sh", "-c", &script])
    };
    asks(1, "add 4 10.73.1.4")?;
    asks(2, "add 5 10.73.1.5")?;
    let mut codes = Vec::new();
    for node in [1, 2] {
        codes.push(c.until("it ends", 60, || {
            let code = c.sh(node, "cat /tmp/code 2>/dev/null || true")?;
            Ok(Some(code).filter(|code| !code.is_empty()))
        })?);
        println!("# node {node}: {:?}: {}", codes.last(), c.sh(node, "cat /tmp/said")?);
    }
    ensure!(codes.iter().any(|code| code == "0"), "{codes:?}");
    changes(c, 1, "add 4 10.73.1.4")?;
    changes(c, 2, "add 5 10.73.1.5")?;
    one_file(c, &[1, 2, 3], 2)?;
    for node in 1..=3 {
        same("rows", rows_of(c, node)?, [1, 2, 3, 4, 5])?;
    }
    Ok(())
}

fn refused(c: &Context) -> Result<()> {
    three(c)?;
    let argv = ["cluster", "node", "add", "4", "10.73.1.4", "--tab", TAB];
    let out = c.exec_as("user", 1, &argv)?;
    ensure!(out.code == 1 && out.error_text().contains("EPERM"), "{out:?}");
    for (words, code, why) in [
        ("add 0 10.73.1.4", 2, "no node number"),
        ("add 1023 10.73.1.4", 2, "no node number"),
        ("add 4 10.73.1", 2, "no IPv4 address"),
        ("add 4 10.73.1.4 --votes 2", 2, "--votes"),
        ("add 4 10.73.1.3", 1, "belongs to node 3"),
        ("add 3 10.73.1.4", 1, "another row"),
        ("votes 9 1", 1, "no row for node 9"),
        ("votes 1 256", 2, "256"),
        ("remove 2", 1, "EBUSY node 2 is UP"),
        ("stage votes 1 3", 1, "EINVAL"),
        ("stage remove 2", 1, "EBUSY"),
    ] {
        is_refused(c, 1, words, code, why).with_context(|| words.to_owned())?;
    }
    // Three votes are one after the other.
    changes(c, 1, "votes 1 3")?;
    one_file(c, &[1, 2, 3], 2)?;
    // Who cannot open what steps lock holds up none.
    let out = c.exec_as("user", 1, &["cat", "/run/cluster.lock"])?;
    ensure!(out.code != 0 && out.error_text().contains("denied"), "{out:?}");
    // Somebody has written into a file.
    c.sh(2, &format!("echo 9 10.73.1.9 >>{TAB}"))?;
    is_refused(c, 1, "votes 1 2", 1, "node 2")?;
    c.sh(2, &format!("sed -i '/^9/d' {TAB}"))?;
    changes(c, 1, "votes 1 2")?;
    let last = one_file(c, &[1, 2, 3], 3)?;
    ensure!(last.contains("1 10.73.1.1 votes=2"), "{last}");
    same("boots", [c.boots(1)?, c.boots(2)?, c.boots(3)?], [1, 1, 1])
}

fn with_a_witness(c: &Context) -> Result<()> {
    let rows = format!("{}votes=1 witness\n", ROWS.replace("10.73.1.3\n", "10.73.1.3 "));
    for node in 1..=3 {
        write(c, node, TAB, &rows)?;
        join(c, node)?;
    }
    cluster::agree(c, &[1, 2, 3], 30)?;
    let by_hand = |step: &str| format!("node 3 is a witness, and was not asked: run there: cluster node {step} --tab {TAB}");
    is_refused(c, 1, "add 4 10.73.1.4", 1, &by_hand("stage add 4 10.73.1.4 --votes 0"))?;
    changes(c, 3, "stage add 4 10.73.1.4")?;
    let said = changes(c, 1, "finish")?;
    ensure!(said.contains(&by_hand("settle")), "{said}");
    changes(c, 3, "settle")?;
    let tab = one_file(c, &[1, 2, 3], 1)? + "\n";
    write(c, 4, TAB, &tab)?;
    join(c, 4)?;
    cluster::agree(c, &[1, 2, 3, 4], 30)?;
    same("there", c.sh(1, "onnode 4 echo here")?, "here")?;

    let boots = c.boots(2)?;
    c.power(2, Power::Kill)?;
    cluster::agree(c, &[1, 3, 4], 20)?;
    c.power(2, Power::Reset)?;
    c.wait(2, Event::Up, boots)?;
    write(c, 2, TAB, &tab)?;
    join(c, 2)?;
    cluster::agree(c, &[1, 2, 3, 4], 30)?;

    // The witness has not staged it, and dies: the others are a majority of both tables.
    is_refused(c, 1, "votes 4 1", 1, &by_hand("stage votes 4 1"))?;
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2, 4], 20)?;
    changes(c, 1, "finish")?;
    let next = one_file(c, &[1, 2, 4], 2)? + "\n";
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Up, boots)?;
    write(c, 3, TAB, &next)?;
    join(c, 3)?;
    cluster::agree(c, &[1, 2, 3, 4], 30).map(drop)
}
