// SPDX-License-Identifier: GPL-2.0

//! A lost node is switched off before anybody acts on its death.
//!
//! The agent `fence_rig` looks at files in `/shared`: while `fence_hold` is there it waits, while `fence_fail` is there it
//! fails, and `fence_log` has a line for each of its steps. When the rig has answered that a node is off, and before the agent
//! ends, it notes how much of `written` there is.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;
use serde_json::Value;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "clms_fence_before_judging",
        promise: "a node that hangs is off before its death is acted upon; nothing of it is written once it is; it comes back",
        faults: "node 3 is paused while it writes to /shared; the agent takes its time",
        fence: true,
        fresh: true,
        debug: true,
        seconds: 120,
        run: |c| before_judging(c, false, Duration::from_secs(3)),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_goes_on",
        promise: "a node that was lost goes on while it waits to be fenced: nothing of it is written once it is off, which is before its \
                  death is acted upon",
        faults: "node 3 is paused while it writes to /shared, and goes on; the agent takes its time",
        expected: &["the others have a view without this node"],
        fence: true,
        fresh: true,
        seconds: 120,
        run: |c| before_judging(c, true, Duration::from_secs(3)),
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_paused_for_30s",
        promise: "as clms_fence_goes_on, after 30 s: nobody acts on the death of a node that may go on",
        faults: "node 3 is paused for 30 s while it writes to /shared, and goes on; agents hang until they are ended",
        expected: &["the others have a view without this node"],
        fence: true,
        fresh: true,
        long: true,
        seconds: 150,
        run: |c| before_judging(c, true, Duration::from_secs(30)),
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_agent_fails_at_first",
        promise: "while every agent fails, calls to the lost node end but nobody acts on its death; then one succeeds",
        faults: "power cut of node 3; agents fail",
        fence: true,
        fresh: true,
        seconds: 120,
        run: fails_at_first,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_master_dies",
        promise: "when the master dies while it fences a node, the next one fences both",
        faults: "node 5 is paused, then the power of node 1 is cut",
        fence: true,
        fresh: true,
        nodes: 5,
        seconds: 150,
        run: master_dies,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_daemon_dies",
        promise: "when the daemon that fences is killed, its agent dies with it, and another member's fences",
        faults: "node 3 is paused; kill -9 of cluster fenced on node 1",
        fence: true,
        fresh: true,
        seconds: 120,
        run: daemon_dies,
        long: true,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_confirm_down",
        promise: "an administrator, and nobody else, can say that a lost node is off; all members believe it",
        faults: "power cut of node 3; agents fail",
        fence: true,
        fresh: true,
        seconds: 120,
        run: confirm_down,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_by_hand",
        promise: "cluster node fence switches a member off, once; nobody fences it again; exit codes as documented",
        faults: "node 3 is fenced by hand",
        fence: true,
        fresh: true,
        seconds: 120,
        run: by_hand,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_spares_who_left",
        promise: "a node that leaves is not fenced",
        faults: "node 3 leaves",
        fence: true,
        fresh: true,
        seconds: 90,
        run: spares_who_left,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_fence_same_everywhere",
        promise: "a node with another fence.toml is not heard, and named",
        faults: "node 3 has another fence.toml",
        join: false,
        fresh: true,
        seconds: 90,
        run: same_everywhere,
        ..Case::DEFAULT
    },
];

const HOLD: &str = "fence_hold";
const FAIL: &str = "fence_fail";

fn knob(c: &Context, name: &str, on: bool) -> Result<()> {
    let path = c.client.dir().join("shared").join(name);
    if on {
        std::fs::write(path, "")?;
    } else {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What the agents did so far.
fn log(c: &Context) -> Vec<String> {
    let text = c.shared_text("fence_log").unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits for a line of the agents' log.
fn logged(c: &Context, line: &str) -> Result<()> {
    c.until(&format!("agent: {line}"), 20, || Ok(log(c).iter().any(|l| l == line).then_some(())))
        .with_context(|| format!("{:?}", log(c)))
}

/// State of `lost` and how far its fencing is, as `node` sees it, and its detection and judgement time.
fn seen(c: &Context, node: u32, lost: u32) -> Result<(String, String, Option<u64>, Option<u64>)> {
    let out = c.exec(node, &["cluster", "status", "--json"])?;
    let v: Value = serde_json::from_str(&out.text()).with_context(|| format!("{out:?}"))?;
    let rows = v["nodes"].as_array().context("nodes")?;
    let n = rows.iter().find(|n| n["id"] == lost).context("the node")?;
    let text = |k: &str| n[k].as_str().map(str::to_owned).with_context(|| format!("{k} in {n}"));
    Ok((
        text("state")?,
        text("fence")?,
        n["detection_ms"].as_u64(),
        n["judgement_ms"].as_u64(),
    ))
}

/// Waits until these nodes have lost `lost` and wait for its fencing.
pub(crate) fn waiting(c: &Context, nodes: &[u32], lost: u32) -> Result<()> {
    for node in nodes {
        c.until(&format!("node {node}: node {lost} GOINGDOWN"), 10, || {
            let (state, fence, ..) = seen(c, *node, lost)?;
            Ok((state == "GOINGDOWN" && fence == "wanted").then_some(()))
        })
        .with_context(|| format!("{:?}", seen(c, *node, lost)))?;
    }
    Ok(())
}

/// Makes sure that for some time nobody acts on the death of `lost`.
pub(crate) fn unjudged(c: &Context, nodes: &[u32], lost: u32, time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        for node in nodes {
            let (state, fence, ..) = seen(c, *node, lost)?;
            same(format!("node {node}"), (&state[..], &fence[..]), ("GOINGDOWN", "wanted"))?;
            ensure!(!c.console(*node).contains(&judged(lost)), "node {node} acts on its death");
        }
    }
    Ok(())
}

pub(crate) fn judged(lost: u32) -> String {
    format!("node {lost} is judged dead")
}

/// Waits until these nodes act on the death of `lost`.
fn wait_judged(c: &Context, nodes: &[u32], lost: u32) -> Result<()> {
    for node in nodes {
        c.until(&format!("node {node}: {}", judged(lost)), 20, || {
            Ok(c.console(*node).contains(&judged(lost)).then_some(()))
        })?;
    }
    Ok(())
}

/// Waits until the text of a console has these words in this order.
pub(crate) fn in_order(c: &Context, node: u32, words: &[&str]) -> Result<()> {
    c.until(&format!("node {node}: {words:?}, in this order"), 10, || {
        let text = c.console(node);
        let mut rest = Some(&text[..]);
        for w in words {
            rest = rest.and_then(|r| r.split_once(w)).map(|(_, r)| r);
        }
        Ok(rest.map(|_| ()))
    })
}

/// The node whose agent has switched node 3 off, and how much was written then.
fn size_when_off(c: &Context) -> Result<(u32, u64)> {
    let text = c.shared_text("fence_written").context("no agent has noted what was written")?;
    let mut words = text.split_whitespace();
    let mut next = || words.next().with_context(|| format!("fence_written: {text:?}"));
    let host = next()?.trim_start_matches("node").parse()?;
    same("switched off", next()?, "3")?;
    let size = next()?.parse()?;
    same("times that it was switched off", text.lines().count(), 1)?;
    Ok((host, size))
}

/// Node 3 is lost while it writes. After that time it goes on before an agent has fenced it, or an agent succeeds.
fn before_judging(c: &Context, goes_on: bool, after: Duration) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    c.background(3, &["sh", "-c", "while :; do echo 3 >>/shared/written; done"])?;
    let sleeper = cluster::sleeper(c, "root", 3, &["sleep", "1000"])?;
    let written = || std::fs::metadata(c.client.dir().join("shared/written")).map_or(0, |m| m.len());
    c.until("node 3 writes", 10, || Ok((written() > 100).then_some(())))?;
    knob(c, HOLD, true)?;
    c.power(3, Power::Pause)?;
    waiting(c, &[1, 2], 3)?;
    logged(c, "node1 reboot 3 begins")?;
    unjudged(c, &[1, 2], 3, after)?;
    // What is asked of it has an answer all the same.
    let out = c.exec(2, &["kill", "-0", &sleeper.to_string()])?;
    ensure!(out.code != 0, "{out:?}");
    same("leaving meanwhile", c.exec(2, &["cluster", "leave"])?.code, 1)?;

    if goes_on {
        // Where it stopped, and it writes, for as long as it does not know better.
        c.power(3, Power::Resume)?;
    }
    knob(c, HOLD, false)?;
    wait_judged(c, &[1, 2], 3)?;
    let (agent, size) = size_when_off(c)?;
    // By the clock of the node whose agent it was. The others are told by that node.
    in_order(c, agent, &["fence_rig: node 3 was off", &judged(3)])?;
    // When it was heard of anew before the agent had ended, that is what it is judged by.
    let fenced = if goes_on { "" } else { "node 3 is fenced: " };
    in_order(c, 1, &["node 3 is to be fenced from here", fenced, &judged(3), "node 3 is down"])?;
    for node in 1..=2 {
        let (_, _, detection, judgement) = seen(c, node, 3)?;
        let longest = u64::from(c.patience) * 4000;
        ensure!(
            detection.is_some_and(|ms| (1000..longest).contains(&ms)),
            "node {node}: detection {detection:?}"
        );
        ensure!(judgement.is_some_and(|ms| ms >= 3000), "node {node}: judgement {judgement:?}");
    }
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 20)?;
    ensure!(back.node(3)?.incarnation > before.node(3)?.incarnation, "{before:?} {back:?}");
    same("bytes written once it was off", written() - size, 0)?;
    if !goes_on {
        same("boots", c.boots(3)?, boots + 1)?;
    }
    // One that hangs is ended after 20 s, and another one is tried.
    let ended = log(c).into_iter().filter(|l| !l.ends_with(" begins") && !l.ends_with(" failed"));
    same("agents that succeeded", ended.count(), 1)
}

fn fails_at_first(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    knob(c, FAIL, true)?;
    c.power(3, Power::Kill)?;
    waiting(c, &[1, 2], 3)?;
    logged(c, "node1 reboot 3 failed")?;
    // The duty is the master's, which asks the others when its own agent fails.
    logged(c, "node2 reboot 3 failed")?;
    unjudged(c, &[1, 2], 3, Duration::from_secs(2))?;
    c.until("node 1 says what is to be done", 10, || {
        Ok(c.console(1).contains("cluster node confirm-down 3").then_some(()))
    })?;
    knob(c, FAIL, false)?;
    wait_judged(c, &[1, 2], 3)?;
    c.wait(3, Event::Join, boots)?;
    cluster::agree(c, &[1, 2, 3], 20)?;
    same("agents that succeeded", log(c).iter().filter(|l| l.ends_with(" done")).count(), 1)
}

fn master_dies(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3, 4, 5], 20)?;
    let boots = [c.boots(1)?, c.boots(5)?];
    knob(c, HOLD, true)?;
    c.power(5, Power::Pause)?;
    waiting(c, &[1, 2, 3, 4], 5)?;
    logged(c, "node1 reboot 5 begins")?;
    c.power(1, Power::Kill)?;
    logged(c, "node2 reboot 5 begins")?;
    logged(c, "node2 reboot 1 begins")?;
    waiting(c, &[2, 3, 4], 5)?;
    for node in 2..=4 {
        ensure!(!c.console(node).contains("is judged dead"), "node {node} acts on a death");
    }
    knob(c, HOLD, false)?;
    wait_judged(c, &[2, 3, 4], 5)?;
    wait_judged(c, &[2, 3, 4], 1)?;
    c.wait(1, Event::Join, boots[0])?;
    c.wait(5, Event::Join, boots[1])?;
    cluster::agree(c, &[1, 2, 3, 4, 5], 30)?;
    for line in ["node2 reboot 5 done", "node2 reboot 1 done"] {
        same(line, log(c).iter().filter(|l| *l == line).count(), 1)?;
    }
    Ok(())
}

fn daemon_dies(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    knob(c, HOLD, true)?;
    c.power(3, Power::Pause)?;
    waiting(c, &[1, 2], 3)?;
    logged(c, "node1 reboot 3 begins")?;
    // The nodes that an agent runs on: the number of each is in its pid.
    let agents = || c.sh(2, "for p in $(pidof fence_rig); do echo $((p >> 20)); done | sort -u");
    same("agents", agents()?, "1")?;
    c.sh(1, "kill -9 $(cat /run/rig/fenced.pid)")?;
    logged(c, "node2 reboot 3 begins")?;
    same("agents", agents()?, "2")?;
    knob(c, HOLD, false)?;
    wait_judged(c, &[1, 2], 3)?;
    c.wait(3, Event::Join, boots)?;
    cluster::agree(c, &[1, 2, 3], 20)?;
    same(
        "the agents",
        log(c),
        ["node1 reboot 3 begins", "node2 reboot 3 begins", "node2 reboot 3 done"],
    )
}

fn confirm_down(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    knob(c, FAIL, true)?;
    let early = c.exec(2, &["cluster", "node", "confirm-down", "3"])?;
    ensure!(early.code == 1 && early.error_text().contains("ESRCH"), "of a member: {early:?}");
    c.power(3, Power::Kill)?;
    waiting(c, &[1, 2], 3)?;
    let stranger = c.exec_as("user", 2, &["cluster", "node", "confirm-down", "3"])?;
    ensure!(
        stranger.code == 1 && stranger.error_text().contains("EPERM"),
        "as somebody: {stranger:?}"
    );
    unjudged(c, &[1, 2], 3, Duration::from_secs(1))?;
    let out = c.exec(2, &["cluster", "node", "confirm-down", "3"])?;
    ensure!(out.code == 0, "{out:?}");
    for node in 1..=2 {
        c.until(&format!("node {node}: node 3 DOWN"), 10, || {
            let (state, fence, ..) = seen(c, node, 3)?;
            Ok((state == "DOWN" && fence == "done").then_some(()))
        })?;
    }
    in_order(c, 2, &["node 3 is off: an administrator says so", &judged(3)])?;
    cluster::agree(c, &[1, 2], 5)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Join, boots)?;
    cluster::agree(c, &[1, 2, 3], 20)?;
    Ok(())
}

fn by_hand(c: &Context) -> Result<()> {
    let before = cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    let fence = |what: &[&str]| {
        let argv = [&["cluster", "node", "fence", "--fence", "/run/cluster/fence.toml"], what].concat();
        c.exec(2, &argv)
    };
    same("of no node", fence(&[])?.code, 2)?;
    let own = fence(&["2"])?;
    ensure!(own.code == 1 && own.error_text().contains("this is it"), "{own:?}");
    same("of a node that is not in the table", fence(&["7"])?.code, 1)?;
    let asked = fence(&["3", "--status", "--json"])?;
    same(
        "its status",
        (asked.code, asked.text().as_str()),
        (0, r#"{"event":"status","node":3,"power":"on"}"#),
    )?;
    knob(c, FAIL, true)?;
    let failed = fence(&["3"])?;
    ensure!(
        failed.code == 1 && failed.error_text().contains("fence_fail is there"),
        "{failed:?}"
    );
    knob(c, FAIL, false)?;
    same("node 3 lives", cluster::agree(c, &[1, 2, 3], 5)?, before.clone())?;
    let out = fence(&["node3", "--json"])?;
    same(
        "it is fenced",
        (out.code, out.text().as_str()),
        (
            0,
            r#"{"event":"fenced","node":3,"agent":"/usr/lib/ssi-tests/fence_rig","action":"reboot"}"#,
        ),
    )?;
    wait_judged(c, &[1, 2], 3)?;
    c.wait(3, Event::Join, boots)?;
    let back = cluster::agree(c, &[1, 2, 3], 20)?;
    ensure!(back.node(3)?.incarnation > before.node(3)?.incarnation, "{back:?}");
    same(
        "the agents",
        log(c),
        [
            "node2 status 3 begins",
            "node2 status 3 done",
            "node2 reboot 3 begins",
            "node2 reboot 3 failed",
            "node2 reboot 3 begins",
            "node2 reboot 3 done",
        ],
    )
}

fn spares_who_left(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 10)?;
    let boots = c.boots(3)?;
    let out = c.exec(3, &["cluster", "leave"])?;
    ensure!(out.code == 0, "{out:?}");
    cluster::agree(c, &[1, 2], 10)?;
    // Were it fenced, its death would be acted upon only afterwards.
    for node in 1..=2 {
        c.until(&format!("node {node}: node 3 DOWN"), 10, || Ok((seen(c, node, 3)?.0 == "DOWN").then_some(())))?;
    }
    // It is a machine like any other now.
    same("node 3", c.sh(3, "hostname")?, "node3")?;
    same("agents", log(c), [""; 0])?;
    same("boots", c.boots(3)?, boots)
}

fn same_everywhere(c: &Context) -> Result<()> {
    let text = "agent = \"fence_rig\"\n[node.1]\n[node.2]\n[node.3]\n";
    for node in 1..=3 {
        let more = if node == 3 { "[options]\nknobs = \"/tmp\"\n" } else { "" };
        c.sh(node, &format!("printf '%s' '{text}{more}' >/tmp/fence.toml"))?;
        c.background(node, &["cluster", "join", "--fence", "/tmp/fence.toml"])?;
    }
    let two = cluster::agree(c, &[1, 2], 20)?;
    ensure!(two.quorate, "{two:?}");
    c.until("it is named", 10, || {
        let text = c.console(1);
        Ok(text.contains("node 3 has another clustertab, fence.toml").then_some(()))
    })?;
    same("node 3", &cluster::status(c, 1)?.node(3)?.state[..], "NEVERUP")
}
