// SPDX-License-Identifier: GPL-2.0

//! What the agent has done by a child of its own, because it may block: on a dead node's file, on a full pipe.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Runs one helper; its messages go to standard error.
pub(crate) fn run(name: &str, args: &[String]) -> ExitCode {
    let done = match (name, args) {
        ("--put", [path, mode]) => put(path, mode).map_err(|e| format!("{path}: {e}")),
        ("--get", [path]) => get(path).map_err(|e| format!("{path}: {e}")),
        ("--kill-session", [sid]) => kill_session(sid),
        _ => Err(format!("unknown helper {name}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn put(path: &str, mode: &str) -> io::Result<()> {
    let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
    let is_new = fs::symlink_metadata(path).is_err();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(is_regular(path))
        .mode(mode)
        .open(path)?;
    if is_new {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    // Control files take one write per value, so what is short goes in one piece.
    let mut data = vec![0; 65536];
    let mut stdin = io::stdin().lock();
    loop {
        let n = fill(&mut stdin, &mut data)?;
        if n == 0 {
            return Ok(());
        }
        file.write_all(&data[..n])?;
    }
}

fn is_regular(path: &str) -> bool {
    // A file that is not there yet will be one.
    fs::metadata(path).map_or(true, |m| m.is_file())
}

fn fill(from: &mut impl io::Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

fn get(path: &str) -> io::Result<()> {
    let mut file = fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let mut out = io::stdout().lock();
    out.write_all(&mode.to_le_bytes())?;
    io::copy(&mut file, &mut out)?;
    out.flush()
}

/// Kills every process of a session, wherever its process groups are.
fn kill_session(sid: &str) -> Result<(), String> {
    let leader: i32 = sid.parse().map_err(|_| format!("{sid}: not a session"))?;
    // A process that is being born escapes one sweep, not the next ones.
    for _ in 0..10 {
        let members = session_members(leader);
        // ESRCH is what this loop is after.
        let _ = nix::sys::signal::killpg(Pid::from_raw(leader), Signal::SIGKILL);
        for pid in &members {
            let _ = nix::sys::signal::kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if members.is_empty() {
            break;
        }
    }
    Ok(())
}

fn session_members(leader: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(e.path().join("stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let sid: i32 = fields.nth(2)?.parse().ok()?;
            (sid == leader && state != "Z").then_some(pid)
        })
        .collect()
}
