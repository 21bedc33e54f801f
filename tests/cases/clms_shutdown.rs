// SPDX-License-Identifier: GPL-2.0

//! The planned shutdown of one node: what becomes of its processes and of its machine, and what happens when it goes wrong.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::client::Output;
use rig::control::Event;
use rig::control::Phase;
use rig::control::Power;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

// The first two leave the cluster as it was, for the next.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_leave_and_stay",
        promise: "after a leave, and one that was refused by the files of others, processes are taken as before",
        faults: "node 3 leaves, once refused",
        seconds: 90,
        run: leave_and_stay,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_shutdown_refused",
        promise: "a shutdown is refused by name where nobody may or the rest were no majority, and nothing is changed; of two at \
                  once of which only one can, one does",
        faults: "nodes leave",
        seconds: 90,
        run: refused,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_shutdown_drains",
        promise: "a node that is shut down takes no process; its processes of other nodes go there and are right, or end; then \
                  it is DOWN and its machine is off",
        faults: "node 3 is shut down",
        seconds: 120,
        run: drains,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_shutdown_goes_on_or_ends",
        promise: "a shutdown goes on when its asker is killed, and with --reboot the node joins again; where a destination dies, and \
                  with it the majority, the node is UP, takes processes and says why; a node that dies meanwhile is lost, and \
                  its asker says so",
        faults: "node 3 is shut down, its asker killed; panic of node 2; power cut of node 3",
        expected: &["failpoint"],
        seconds: 180,
        run: |c| {
            reboots(c)?;
            majority_lost(c)?;
            dies_half_way(c)
        },
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_shutdown_stuck",
        promise: "a process that does not end when it is killed keeps its node, which is UP again and says so; afterwards it goes",
        faults: "a movement from node 3 stands still for 15 s",
        long: true,
        seconds: 120,
        run: stuck,
        ..Case::DEFAULT
    },
];

/// Waits until nothing is under way: a member is in the view a little before it is UP.
fn settle(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 30).map(drop)
}

/// Waits until a file in /shared has text; gives its last line.
fn last_line(c: &Context, file: &str, begins: &str, seconds: u32) -> Result<String> {
    let look = || {
        let text = c.shared_text(file).unwrap_or_default();
        Ok(text.lines().last().filter(|l| l.starts_with(begins)).map(str::to_owned))
    };
    c.until(&format!("{begins} in {file}"), seconds, look)
        .with_context(|| c.shared_text(file).unwrap_or_default())
}

/// Has node 1 run a script on a node, by `onnode`; gives its pid there. What it ends with is in `/shared/NAME`.
fn guest(c: &Context, node: u32, name: &str, script: &str) -> Result<u32> {
    c.sh(1, &format!("rm -f /shared/{name} /shared/{name}.pid"))?;
    let script = format!(
        "onnode {node} sh -c 'echo $$ >/shared/{name}.pid; {script}' </dev/null >/dev/null 2>&1; \
         echo status $? >/shared/{name}"
    );
    c.background(1, &["sh", "-c", &script])?;
    let pid = c.until(name, 10, || Ok(c.shared_text(&format!("{name}.pid"))))?.trim().parse()?;
    c.until(&format!("{name} runs"), 10, || {
        let comm = c.sh(node, &format!("cat /proc/{pid}/comm"))?;
        let is_it = [format!("exec {comm} "), format!("exec /usr/lib/ssi-tests/{comm}")].iter().any(|e| script.contains(e));
        Ok(is_it.then_some(()))
    })?;
    Ok(pid)
}

/// Waits until a node says that a process is in that state.
fn until_letter(c: &Context, node: u32, pid: u32, letter: char) -> Result<()> {
    c.until(&format!("process {pid} is {letter}"), 10, || {
        let stat = c.sh(node, &format!("cat /proc/{pid}/stat"))?;
        Ok(stat.contains(&format!(") {letter} ")).then_some(()))
    })
}

/// One that cannot move, as it has a file of its node, and does not hear SIGTERM.
const STUBBORN: &str = "trap \"\" TERM; exec 3>/tmp/own; exec sleep 1000";

/// How a guest ended.
fn end_of(c: &Context, name: &str) -> Result<String> {
    last_line(c, name, "status", 15)
}

/// Asks for a shutdown and leaves that running; gives the asker's pid. What it says is in `/shared/asked`.
fn ask(c: &Context, from: u32, command: &str) -> Result<i32> {
    c.sh(from, "rm -f /shared/asked")?;
    let script = format!("{command} >/shared/asked 2>&1; echo status $? >>/shared/asked");
    Ok(c.background(from, &["sh", "-c", &script])?.pid)
}

/// Waits until the asker has ended with `status`; gives what it said.
fn answer(c: &Context, status: i32) -> Result<String> {
    let end = last_line(c, "asked", "status", 30)?;
    let said = c.shared_text("asked").unwrap_or_default();
    ensure!(end == format!("status {status}"), "{said}");
    Ok(said)
}

/// Waits until a node is in a state for another one.
fn until_state(c: &Context, on: u32, node: u32, state: &str) -> Result<()> {
    c.until(&format!("node {node} is {state} on {on}"), 15, || {
        Ok((cluster::status(c, on)?.node(node)?.state == state).then_some(()))
    })
}

/// Checks that a command was refused with these words.
fn is_refused(out: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = out.error_text();
    ensure!(out.code == code && words.iter().all(|w| said.contains(w)), "{out:?}");
    Ok(())
}

/// Checks that node 3 takes processes.
fn takes_processes(c: &Context) -> Result<()> {
    let pid = cluster::sleeper(c, "root", 1, &["sleep", "1000"])?;
    c.sh(1, &format!("migrate 3 {pid}"))?;
    same("where it is", c.sh(2, &format!("where_pid {pid}"))?, "3")?;
    same("onnode", c.sh(2, "onnode 3 hostname")?, "node3")?;
    c.sh(1, &format!("kill -9 {pid}"))?;
    cluster::gone(c, 3, pid)
}

/// The changes of node 3 that a node has noted after a number.
fn changes(c: &Context, node: u32, after: u64) -> Result<Vec<String>> {
    let text = c.sh(node, &format!("cluster events --json --after {after}"))?;
    let lines = text.lines().map(|l| {
        let v: Value = serde_json::from_str(l)?;
        let word = |f: &str| v[f].as_str().unwrap_or_default().to_owned();
        Ok((v["node"] == 3).then(|| format!("{} {} {}", word("from"), word("to"), word("cause"))))
    });
    Ok(lines.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The last transition on a node.
fn last(c: &Context, node: u32) -> Result<u64> {
    let text = c.sh(node, "cluster events --json")?;
    let line = text.lines().last().context("an empty history")?;
    let v: Value = serde_json::from_str(line)?;
    v["id"].as_u64().context("no id")
}

fn drains(c: &Context) -> Result<()> {
    settle(c)?;
    let before = [last(c, 1)?, last(c, 2)?];
    // Came from node 1, and has memory that it knows.
    let hog = c.background(1, &["sh", "-c", "exec /usr/lib/ssi-tests/memhog 4 </dev/null >/shared/hog 2>&1"])?.pid;
    last_line(c, "hog", "ready", 15)?;
    c.sh(1, &format!("migrate 3 {hog}"))?;
    // Of node 3, with a child on node 1 for which it waits.
    let parent = "onnode 1 sh -c 'echo $$ >/shared/child; exec sleep 1000' & wait $!; echo status $? >/shared/parent; exec sleep 1000";
    let parent = c
        .background(3, &["sh", "-c", &format!("exec </dev/null >/dev/null 2>&1; {parent}")])?
        .pid;
    let child = c.until("the child", 10, || Ok(c.shared_text("child")))?.trim().to_owned();
    let stubborn = guest(c, 3, "stubborn", STUBBORN)?;
    let stopped = guest(c, 3, "stopped", "exec sleep 1000")?;
    c.sh(1, &format!("kill -STOP {stopped}"))?;
    until_letter(c, 3, stopped, 'T')?;
    // Its first thread has ended, another one has not.
    let leaderless = guest(c, 3, "leaderless", "exec /usr/lib/ssi-tests/leaderless")?;
    until_letter(c, 3, leaderless, 'Z')?;
    // Of node 3 alone, but for a pipe of node 1: it keeps nobody.
    let script = "onnode 3 sh -c 'sleep 1000 & echo $! >/shared/late' | cat >/dev/null";
    c.sh(1, "rm -f /shared/late")?;
    c.background(1, &["sh", "-c", script])?;
    c.until("it runs", 10, || Ok(c.shared_text("late")))?;
    let newcomer = cluster::sleeper(c, "root", 1, &["sleep", "1000"])?;

    ask(c, 2, "cluster node shutdown node3 --grace 6 --json")?;
    until_state(c, 1, 3, "SHUTDOWN")?;
    is_refused(&c.exec(1, &["migrate", "3", &newcomer.to_string()])?, 1, &["EHOSTUNREACH"])?;
    is_refused(&c.exec(1, &["onnode", "3", "true"])?, 125, &["EHOSTUNREACH"])?;
    is_refused(&c.exec(1, &["cluster", "node", "shutdown", "3"])?, 1, &["node 3 (node3)", "already"])?;
    is_refused(
        &c.exec(1, &["cluster", "node", "shutdown", "2"])?,
        1,
        &["node 2 (node2)", "EDQUOT", "no majority"],
    )?;
    is_refused(&c.exec(3, &["cluster", "leave"])?, 1, &["EALREADY"])?;
    same("where the stubborn one is", c.sh(1, &format!("where_pid {stubborn}"))?, "3")?;

    let said = answer(c, 0)?;
    // Node 2 has it DOWN when the asker there ends.
    same("on node 2", &cluster::status(c, 2)?.node(3)?.state[..], "DOWN")?;
    let lines: Vec<_> = said.lines().collect();
    let left = lines.iter().rev().nth(1).copied();
    same("its last word", left, Some(r#"{"event":"left","node":3}"#))?;
    ensure!(said.contains(r#""moved":2,"#), "{said}");
    until_state(c, 1, 3, "DOWN")?;
    c.wait(3, Event::Down, 0)?;
    c.until("its machine is off", 10, || {
        let node = c.client.node(3)?;
        Ok((node.phase == Phase::Off && node.pid.is_none()).then_some(()))
    })?;
    for (node, before) in (1..).zip(before) {
        same(
            format!("history of node {node}"),
            changes(c, node, before)?,
            [
                "UP SHUTDOWN left",
                "SHUTDOWN GOINGDOWN left",
                "GOINGDOWN KCLEANUP left",
                "KCLEANUP DOWN left",
            ],
        )?;
    }

    same("the stubborn one", end_of(c, "stubborn")?, "status 137")?;
    same("the stopped one", end_of(c, "stopped")?, "status 143")?;
    same("the one without a leader", end_of(c, "leaderless")?, "status 143")?;
    same("where the other is", c.sh(2, &format!("where_pid {hog}"))?, "1")?;
    c.sh(2, &format!("kill -USR1 {hog}"))?;
    last_line(c, "hog", "ok", 10)?;
    let at = c.sh(1, &format!("where_pid {parent}"))?;
    ensure!(at == "1" || at == "2", "the parent is on {at}");
    c.sh(2, &format!("kill {child}"))?;
    last_line(c, "parent", "status 143", 10)?;
    c.sh(2, &format!("kill -9 {hog} {parent} {newcomer}"))?;

    let boots = c.boots(3)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    settle(c)
}

fn reboots(c: &Context) -> Result<()> {
    settle(c)?;
    guest(c, 3, "stubborn", STUBBORN)?;
    let boots = c.boots(3)?;
    let shell = ask(c, 2, "exec cluster node shutdown 3 --reboot --grace 3")?;
    until_state(c, 1, 3, "SHUTDOWN")?;
    c.sh(2, &format!("kill -9 {shell}"))?;
    c.wait(3, Event::Join, boots)?;
    settle(c)?;
    same("the stubborn one", end_of(c, "stubborn")?, "status 137")?;
    ensure!(
        c.console(3).contains("this node has left, its machine restarts"),
        "it did not leave"
    );
    takes_processes(c)
}

fn refused(c: &Context) -> Result<()> {
    settle(c)?;
    let before = [last(c, 1)?, last(c, 2)?, last(c, 3)?];
    let nobody = c.exec_as("user", 1, &["cluster", "node", "shutdown", "3"])?;
    is_refused(&nobody, 1, &["node 3 (node3)", "EPERM", "root", "nothing was changed"])?;
    is_refused(&c.exec(1, &["cluster", "node", "shutdown", "9"])?, 1, &["node 9", "no such node"])?;
    c.client.failpoint(3, "Shutdown.leaving=errno:16")?;
    let out = c.exec(3, &["cluster", "node", "shutdown", "3", "--stay", "--grace", "0"])?;
    is_refused(&out, 1, &["node 3 (node3) is UP again", "EBUSY"])?;
    for (node, before) in (1..).zip(before) {
        c.until("UP again", 10, || {
            let all = changes(c, node, before)?;
            Ok((all == ["UP SHUTDOWN left", "SHUTDOWN UP stayed"]).then_some(()))
        })
        .with_context(|| format!("node {node}: {:?}", changes(c, node, before)))?;
    }
    takes_processes(c)?;

    let out = c.exec(3, &["clusternode_shutdown", "-N", "3", "-t", "now", "--stay", "--grace", "3"])?;
    ensure!(
        out.code == 0 && out.text().ends_with("node 3 (node3) has left the cluster"),
        "{out:?}"
    );
    same("its own view", cluster::status(c, 3)?.members(), [0; 0])?;
    cluster::agree(c, &[1, 2], 10)?;
    let before = last(c, 1)?;
    is_refused(&c.exec(1, &["cluster", "node", "shutdown", "3"])?, 1, &["node 3 (node3) is DOWN"])?;
    is_refused(
        &c.exec(1, &["cluster", "node", "shutdown", "2"])?,
        1,
        &["node 2 (node2)", "EDQUOT", "no majority", "nothing was changed"],
    )?;
    is_refused(&c.exec(2, &["cluster", "node", "shutdown", "2"])?, 1, &["EDQUOT"])?;
    same("changes", last(c, 1)?, before)?;
    c.sh(3, "cluster join")?;
    settle(c)?;
    two_at_once(c)?;
    takes_processes(c)
}

/// Nodes 2 and 3 are shut down at once, and only one can: it leaves, the other is told so and stays.
fn two_at_once(c: &Context) -> Result<()> {
    for node in [2, 3] {
        let script = format!("cluster node shutdown {node} --stay --grace 1 >/shared/two{node} 2>&1; echo status $? >>/shared/two{node}");
        c.background(1, &["sh", "-c", &script])?;
    }
    let ends = [last_line(c, "two2", "status", 20)?, last_line(c, "two3", "status", 20)?];
    let out = if ends[0] == "status 0" { 2 } else { 3 };
    let stays = 5 - out;
    same("the one that leaves", &ends[out as usize - 2][..], "status 0")?;
    same("the other", &ends[stays as usize - 2][..], "status 1")?;
    let said = c.shared_text(&format!("two{stays}")).unwrap_or_default();
    ensure!(said.contains("EDQUOT"), "{said}");
    let two = cluster::agree(c, &[1, stays], 10)?;
    same("members", two.members(), [1, u64::from(stays)])?;
    c.sh(out, "cluster join")?;
    settle(c)
}

fn majority_lost(c: &Context) -> Result<()> {
    settle(c)?;
    let boots = c.boots(2)?;
    let pid = cluster::sleeper(c, "root", 2, &["sleep", "1000"])?;
    c.sh(1, &format!("migrate 3 {pid}"))?;
    // It is to go where it came from.
    c.client.failpoint(2, "Vproc.Prepare.serve=panic")?;
    ask(c, 1, "cluster node shutdown 3 --grace 20")?;
    let said = answer(c, 1)?;
    ensure!(said.contains("node 3 (node3) is UP again") && said.contains("EDQUOT"), "{said}");
    until_state(c, 1, 3, "UP")?;
    let at = c.sh(1, &format!("where_pid {pid}"))?;
    ensure!(at == "1" || at == "3", "the process is on {at}");
    c.sh(1, &format!("kill -0 {pid}"))?;
    c.wait(2, Event::Join, boots)?;
    settle(c)?;
    takes_processes(c)?;
    c.sh(1, &format!("kill -9 {pid}"))
        .map(drop)
}

fn dies_half_way(c: &Context) -> Result<()> {
    settle(c)?;
    guest(c, 3, "stubborn", STUBBORN)?;
    ask(c, 1, "cluster node shutdown 3 --grace 20")?;
    until_state(c, 2, 3, "SHUTDOWN")?;
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    let said = answer(c, 1)?;
    ensure!(said.contains("node 3 (node3) was lost before it had left"), "{said}");
    same("the guest", end_of(c, "stubborn")?, "status 137")?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    settle(c)
}

fn stuck(c: &Context) -> Result<()> {
    settle(c)?;
    let pid = cluster::sleeper(c, "root", 1, &["sleep", "1000"])?;
    c.sh(1, &format!("migrate 3 {pid}"))?;
    c.client.failpoint(1, "Vproc.Prepare.serve=delay:15000")?;
    ask(c, 2, "cluster node shutdown 3 --stay --grace 1")?;
    let said = answer(c, 1)?;
    ensure!(
        said.contains("node 3 (node3) is UP again") && said.contains(&format!("process {pid} does not end")),
        "{said}"
    );
    until_state(c, 2, 3, "UP")?;
    c.until("the process has gone", 20, || {
        let at = c.exec(2, &["where_pid", &pid.to_string()])?;
        Ok((at.text() != "3").then_some(()))
    })?;
    takes_processes(c)?;
    c.sh(2, "cluster node shutdown 3 --stay --grace 3")?;
    c.sh(3, "cluster join")?;
    settle(c)?;
    c.sh(1, &format!("kill -9 {pid}; true")).map(drop)
}

fn leave_and_stay(c: &Context) -> Result<()> {
    settle(c)?;
    // A process of node 3 alone, but for the pipe of node 1 that it has.
    c.sh(1, "rm -f /shared/late")?;
    let script = "onnode 3 sh -c 'sleep 1000 & echo $! >/shared/late' | cat >/dev/null";
    c.background(1, &["sh", "-c", script])?;
    let late = c.until("it runs", 10, || Ok(c.shared_text("late")))?;
    c.until("its parent has ended", 10, || {
        let facts = c.sh(3, "cat /sys/kernel/debug/ssi/vproc")?;
        let parent = c.sh(3, &format!("cut -d ' ' -f 4 /proc/{}/stat", late.trim()))?;
        Ok((parent == "1" && !facts.contains("child ")).then_some(()))
    })?;
    let out = c.exec(3, &["cluster", "leave"])?;
    is_refused(&out, 1, &["EBUSY"])?;
    takes_processes(c)?;
    c.sh(3, &format!("kill {}", late.trim()))?;
    c.until("it leaves", 10, || Ok((c.exec(3, &["cluster", "leave"])?.code == 0).then_some(())))?;
    c.sh(3, "cluster join")?;
    settle(c)?;
    takes_processes(c)
}
