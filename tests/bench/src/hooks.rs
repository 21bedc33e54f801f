// SPDX-License-Identifier: GPL-2.0

//! `hook_*`: what the patch costs while no module is loaded, in guest instructions.
//!
//! The plain kernel without modules and the unpatched kernel of the same configuration boot in turn under
//! `-icount shift=0`, where one instruction is 1 ns of guest time; the only program is tests/programs/hookcost.
//! No cluster, no disk, no network.

use crate::Problem;
use crate::report::GoalIs;
use crate::report::Report;
use crate::stats::Pair;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

const OPS: &[&str] = &["getpid", "kill", "fork", "open", "fault"];
/// A loop of two instructions: proof that the guest's clock counts instructions.
const EMPTY: (&str, f64) = ("empty", 2.0);

/// One line of hookcost.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    median: f64,
    max: f64,
}

pub(crate) fn run(top: &Path, names: &[&str], boots: u32) -> (Vec<Report>, Vec<Problem>) {
    match measure(top, boots) {
        Ok((ours, peer, env)) => {
            let mut reports = Vec::new();
            for name in names {
                let op = name.trim_start_matches("hook_");
                // getpid is so short that a ratio would hide an instruction.
                let goal = if op == "getpid" {
                    (GoalIs::Extra, 2.0)
                } else {
                    (GoalIs::Ratio, 1.005)
                };
                let of = |side: &BTreeMap<String, Vec<Pair>>| side.get(op).and_then(|b| Pair::of_blocks(b));
                if let (Some(o), Some(p)) = (of(&ours), of(&peer)) {
                    let runs = boots as usize;
                    reports.push(Report::new(
                        name,
                        "instructions",
                        o,
                        ("unpatched kernel", p),
                        Some(goal),
                        runs,
                        &env,
                    ));
                }
            }
            (reports, Vec::new())
        }
        Err(e) => (Vec::new(), vec![format!("hook_*: {e}")]),
    }
}

type Side = BTreeMap<String, Vec<Pair>>;

fn measure(top: &Path, boots: u32) -> Result<(Side, Side, BTreeMap<String, String>), Problem> {
    let program = top.join("build/programs/hookcost");
    let init = std::fs::read(&program).map_err(|e| format!("{}: {e}; run make programs", program.display()))?;
    let kernels = [kernel(top, "plain")?, kernel(top, "unpatched")?];
    let dir = top.join("build/bench");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let initrd = dir.join("hookcost.cpio");
    std::fs::write(&initrd, archive(&init)).map_err(|e| format!("{}: {e}", initrd.display()))?;

    let mut sides = [Side::new(), Side::new()];
    for i in 0..boots {
        // Which goes first alternates, so that a machine that grows slower favours neither.
        for which in if i % 2 == 0 { [0, 1] } else { [1, 0] } {
            let Some((kernel, side)) = kernels.get(which).zip(sides.get_mut(which)) else {
                continue;
            };
            for (op, pair) in boot(kernel, &initrd)? {
                side.entry(op).or_default().push(pair);
            }
        }
    }
    let [ours, peer] = sides;
    let mut env = BTreeMap::new();
    env.insert("machine".to_owned(), MACHINE.join(" "));
    // Counting instructions is the emulator's.
    env.insert("accelerator".to_owned(), "tcg".to_owned());
    env.insert(
        "kernel".to_owned(),
        kernels[0]
            .display()
            .to_string()
            .rsplit('/')
            .nth(4)
            .unwrap_or("?")
            .to_owned(),
    );
    env.insert(
        "peer_kernel".to_owned(),
        kernels[1]
            .display()
            .to_string()
            .rsplit('/')
            .nth(4)
            .unwrap_or("?")
            .to_owned(),
    );
    env.insert(
        "qemu".to_owned(),
        first_line(Command::new("qemu-system-x86_64").arg("--version"))?,
    );
    Ok((ours, peer, env))
}

const MACHINE: &[&str] = &[
    "-M",
    "q35",
    "-cpu",
    "max",
    "-icount",
    "shift=0,sleep=off",
    "-m",
    "256",
    "-smp",
    "1",
];

fn boot(kernel: &Path, initrd: &Path) -> Result<Vec<(String, Pair)>, Problem> {
    // It dies with this process: a machine that nobody waits for would disturb the next measurement.
    let out = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "timeout", "--foreground", "300"])
        .args(["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(MACHINE)
        .args(["-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot"])
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("setpriv: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    parse(&text).map_err(|e| {
        format!(
            "{}: {e}; the guest said:\n{}{}",
            kernel.display(),
            text,
            String::from_utf8_lossy(&out.stderr)
        )
    })
}

/// The figures of one boot.
fn parse(console: &str) -> Result<Vec<(String, Pair)>, Problem> {
    let mut found: Vec<(String, Pair)> = Vec::new();
    for line in console.lines() {
        // The firmware's escape sequences may stand before the first line.
        let Some(json) = line.find("{\"name\"").and_then(|at| line.get(at..)) else {
            continue;
        };
        let l: Line = serde_json::from_str(json.trim_end()).map_err(|e| format!("{json}: {e}"))?;
        found.push((
            l.name,
            Pair {
                p50: l.median,
                p99: l.max,
            },
        ));
    }
    let get = |op: &str| found.iter().find(|(n, _)| n == op).map(|(_, p)| p.p50);
    let empty = get(EMPTY.0).ok_or("no figures")?;
    if (empty - EMPTY.1).abs() > 0.05 {
        return Err(format!(
            "the empty loop took {empty} and not {}: the clock does not count instructions",
            EMPTY.1
        ));
    }
    match OPS.iter().find(|op| get(op).is_none()) {
        Some(op) => Err(format!("no figure for {op}")),
        None => Ok(found),
    }
}

fn kernel(top: &Path, variant: &str) -> Result<PathBuf, Problem> {
    let tree = first_line(Command::new(top.join("tools/build/kernel.sh")).args(["--path", variant]))?;
    let image = PathBuf::from(tree).join("arch/x86/boot/bzImage");
    if image.exists() {
        Ok(image)
    } else {
        Err(format!("no {variant} kernel; run make kernel KERNEL={variant}"))
    }
}

fn first_line(c: &mut Command) -> Result<String, Problem> {
    let name = c.get_program().to_string_lossy().into_owned();
    let out = c.output().map_err(|e| format!("{name}: {e}"))?;
    if !out.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// A `newc` archive with /init, /proc and /dev/console.
fn archive(init: &[u8]) -> Vec<u8> {
    const DIR: u32 = 0o040_755;
    const CHAR: u32 = 0o020_600;
    const FILE: u32 = 0o100_755;
    let mut out = Vec::new();
    for (i, (name, mode, (major, minor), data)) in [
        ("dev", DIR, (0, 0), &[][..]),
        ("proc", DIR, (0, 0), &[]),
        ("dev/console", CHAR, (5, 1), &[]),
        ("init", FILE, (0, 0), init),
        ("TRAILER!!!", 0, (0, 0), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = [
            i + 1,
            mode as usize,
            0,
            0,
            1,
            0,
            data.len(),
            0,
            0,
            major,
            minor,
            name.len() + 1,
            0,
        ];
        out.extend(b"070701");
        fields.iter().for_each(|f| out.extend(format!("{f:08x}").bytes()));
        out.extend(name.bytes());
        out.push(0);
        pad(&mut out);
        out.extend(data);
        pad(&mut out);
    }
    out
}

fn pad(v: &mut Vec<u8>) {
    v.resize(v.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(empty: f64, ops: &[&str]) -> String {
        let line = |n: &str, v: f64| {
            format!("{{\"name\":\"{n}\",\"unit\":\"ns/op\",\"n\":1,\"min\":{v},\"median\":{v},\"max\":{v}}}\r\n")
        };
        let mut s = format!("\u{1b}[2J{}", line("empty", empty));
        ops.iter().for_each(|o| s += &line(o, 7.5));
        s + "[    1.1] reboot: Power down\r\n"
    }

    #[test]
    fn figures_are_read_off_the_console() {
        let got = parse(&console(2.001, OPS)).expect("figures");
        assert_eq!(got.len(), 6);
        assert!(got.contains(&("fork".to_owned(), Pair { p50: 7.5, p99: 7.5 })));
        assert!(parse(&console(2.001, &["getpid"])).is_err_and(|e| e.contains("kill")));
        assert!(parse(&console(3.4, OPS)).is_err_and(|e| e.contains("instructions")));
        assert!(parse("Kernel panic").is_err());
    }

    #[test]
    fn archive_is_what_cpio_makes() {
        let a = archive(b"\x7fELF!");
        assert_eq!(a.len() % 4, 0);
        assert!(a.starts_with(b"070701000000010000"));
        // A header of 110 bytes, then the name with its zero; the file's size is its seventh field.
        let at = a.windows(5).position(|w| w == b"init\0").expect("init") - 110;
        assert_eq!(a.get(at + 6 + 6 * 8..at + 6 + 7 * 8), Some(&b"00000005"[..]));
        assert_eq!(a.get(at + 116..at + 121), Some(&b"\x7fELF!"[..]));
    }
}
