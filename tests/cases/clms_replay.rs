// SPDX-License-Identifier: GPL-2.0

//! What the kernel's membership did is what `clms/state.rs` does on the host: the recorded steps are taken again.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rig::control::Event;
use rig::control::Power;

use crate::cluster;
use crate::context::Context;
use crate::context::same;
use crate::places::Places;
use crate::runner::Case;
use crate::state;
use crate::state::Change;
use crate::state::Effect;
use crate::state::Heartbeat;
use crate::state::Input;
use crate::state::Known;
use crate::state::Phase;
use crate::state::Row;
use crate::state::Times;

pub(crate) const CASES: &[Case] = &[Case {
    name: "clms_replay",
    promise: "the steps that three nodes took while one died, came back, votes changed and another left have the same effects on the host",
    faults: "power cut of node 3",
    join: false,
    fresh: true,
    seconds: 120,
    run: replays,
    ..Case::DEFAULT
}];

const FILE: &str = "/sys/kernel/debug/ssi/membership";

type Says = state::Says<1>;
type View = state::View<1>;
type Core = state::Core<Vec<Known<Says>>, 1>;

/// The next number of a line.
fn number<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<u64> {
    let w = words.next().context("too short")?;
    w.parse().with_context(|| format!("{w:?} is no number"))
}

fn place<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<usize> {
    Ok(usize::try_from(number(words)?)?)
}

fn set<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Places<1>> {
    Ok(Places::from_words([number(words)?]))
}

fn view<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<View> {
    Ok(View {
        id: number(words)?,
        members: set(words)?,
        digest: number(words)?,
        table: number(words)?,
    })
}

fn says<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Says> {
    Ok(Says {
        phase: match number(words)? {
            1 => Phase::Joining,
            2 => Phase::Up,
            3 => Phase::Leaving,
            n => bail!("phase {n}"),
        },
        table: number(words)?,
        staged: number(words)?,
        view: view(words)?,
        proposal: view(words)?,
        promised: number(words)?,
        promised_to: place(words)?,
        hears: set(words)?,
        over: set(words)?,
    })
}

/// The row of a place; `None`: it is vacant.
fn row(word: &str) -> Result<Option<Row>> {
    if word == "-" {
        return Ok(None);
    }
    let votes = word.trim_end_matches('w').parse()?;
    Ok(Some(Row {
        votes,
        is_witness: word.ends_with('w'),
    }))
}

fn change<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Option<Change>> {
    let table = match words.next().context("too short")? {
        "-" => return Ok(None),
        w => w.parse()?,
    };
    Ok(Some(Change {
        table,
        place: place(words)?,
        row: row(words.next().context("too short")?)?,
    }))
}

fn input<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Input<Says>> {
    Ok(match words.next().context("no input")? {
        "tick" => Input::Tick,
        "leave" => Input::Leave,
        "stay" => Input::Stay,
        "settle" => Input::Settle,
        "stage" => Input::Stage(change(words)?),
        "up" => Input::LinkUp(place(words)?, number(words)?),
        "lost" => Input::LinkLost(place(words)?, number(words)?),
        "heard" => {
            let (p, incarnation, seq) = (place(words)?, number(words)?, number(words)?);
            let answers = match words.next().context("too short")? {
                "-" => None,
                w => Some(w.parse()?),
            };
            let (supports, says) = (number(words)?, says(words)?);
            Input::Heard(
                p,
                Heartbeat {
                    incarnation,
                    seq,
                    answers,
                    supports,
                    says,
                },
            )
        }
        w => bail!("{w:?} is no input"),
    })
}

fn join(line: &str) -> Result<Core> {
    let mut words = line.split_whitespace();
    same("the first word", words.next(), Some("join"))?;
    let w = &mut words;
    let (this, incarnation) = (place(w)?, number(w)?);
    let times = Times::new(number(w)?, number(w)?);
    let (now, quiet_until, table) = (number(w)?, number(w)?, number(w)?);
    let (mut known, mut next) = (Vec::new(), None);
    while let Some(word) = words.next() {
        if word == "next" {
            next = change(&mut words)?;
        } else {
            known.push(row(word)?.map_or_else(Known::default, Known::new));
        }
    }
    Ok(Core::new(this, known, table, incarnation, times, now, quiet_until).with_next(next))
}

/// Takes all steps again; gives their number and those of the views that came into force.
///
/// # Errors
/// The first line that differs, or is none.
fn replay(text: &str) -> Result<(usize, Vec<u64>)> {
    let mut lines = text.lines();
    let mut core = join(lines.next().context("nothing is recorded")?)?;
    let (mut steps, mut views) = (0, Vec::new());
    for line in lines {
        let (came, then) = line.split_once(" => ").with_context(|| format!("{line:?}"))?;
        let mut words = came.split_whitespace();
        let now = number(&mut words)?;
        let effect = core.take(input(&mut words).context(line.to_owned())?, now);
        let is = format!("{effect:?}; {:?}", core.says());
        ensure!(is == then, "step {steps}: {came}: the kernel had {then}, here it is {is}");
        if let Effect::Install { view, .. } = effect {
            views.push(view.id);
        }
        steps += 1;
    }
    Ok((steps, views))
}

/// The same, but no heartbeat answers one of this node's.
fn without_answers(text: &str) -> String {
    let deaf = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words.get(1) == Some(&"heard") && words.len() > 5 {
            words[5] = "-";
        }
        words.join(" ") + "\n"
    };
    text.lines().map(deaf).collect()
}

fn replays(c: &Context) -> Result<()> {
    let record = |node: u32, word: &str| c.sh(node, &format!("echo {word} >{FILE}")).map(drop);
    for node in c.all() {
        record(node, "on")?;
        c.background(node, &["cluster", "join"])?;
    }
    cluster::agree(c, &[1, 2, 3], 20)?;
    let boots = c.boots(3)?;
    c.power(3, Power::Kill)?;
    cluster::agree(c, &[1, 2], 10)?;
    c.power(3, Power::Reset)?;
    c.wait(3, Event::Up, boots)?;
    record(3, "on")?;
    c.background(3, &["cluster", "join"])?;
    cluster::agree(c, &[1, 2, 3], 20)?;
    // Another table, with which the other two are a majority still.
    let out = c.exec(1, &["cluster", "node", "votes", "2", "0"])?;
    ensure!(out.code == 0, "{out:?}");
    let out = c.exec(2, &["cluster", "leave"])?;
    ensure!(out.code == 0, "{out:?}");
    let last = cluster::agree(c, &[1, 3], 10)?;
    // First five views of node 1: all, without 3, with it, with another table, without 2. Promises that came to nothing have had numbers too.
    for (node, least) in [(1, 5), (2, 4), (3, 3)] {
        record(node, "off")?;
        let text = c.sh(node, &format!("cat {FILE}"))?;
        ensure!(!text.ends_with("full\n"), "node {node}: more steps than there is room for");
        let (steps, views) = replay(&text).with_context(|| format!("node {node}"))?;
        ensure!(views.len() >= least, "node {node}: {views:?}");
        for id in &views {
            ensure!(c.console(node).contains(&format!("ssi_clms: view {id}: ")), "node {node}: view {id}");
        }
        if node != 2 {
            same(format!("node {node}: the last view"), views.last(), Some(&last.view))?;
        }
        println!("# node {node}: {steps} steps, views {views:?}");
        ensure!(replay(&without_answers(&text)).is_err(), "node {node}: deaf it does the same");
    }
    Ok(())
}
