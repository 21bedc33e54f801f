// SPDX-License-Identifier: GPL-2.0

//! Nodes of the rig, and commands on them.

use crate::Problem;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// An instance of the rig. One that we started is taken down again.
pub(crate) struct Rig {
    program: PathBuf,
    dir: PathBuf,
    ours: bool,
}

impl Rig {
    /// Takes the instance `dir`, or starts two nodes of its own.
    pub(crate) fn open(top: &Path, dir: Option<&Path>) -> Result<Self, Problem> {
        let program = top.join("tests/rig/rig");
        let rig = match dir {
            Some(d) => Self {
                program,
                dir: d.to_owned(),
                ours: false,
            },
            None => Self::start(top, "busybox", &["-n", "2"])?,
        };
        rig.call(&["status"])?;
        Ok(rig)
    }

    /// Starts nodes of our own, on the plain kernel with that root, with more options of `rig up`.
    pub(crate) fn start(top: &Path, root: &str, options: &[&str]) -> Result<Self, Problem> {
        let rig = Self {
            program: top.join("tests/rig/rig"),
            dir: top.join("build/rig-bench"),
            ours: true,
        };
        // It goes with this process, however that ends.
        let tie = std::process::id().to_string();
        let up = [
            "up",
            "--tie",
            &tie,
            "--root",
            root,
            "--kernel",
            "plain",
            "--timeout",
            "120",
        ];
        rig.call(&[&up, options].concat())?;
        Ok(rig)
    }

    /// Cuts a node's power.
    pub(crate) fn kill(&self, node: u32) -> Result<(), Problem> {
        self.call(&["kill", &node.to_string()]).map(drop)
    }

    /// Gives a node that is off its power back.
    pub(crate) fn give_back(&self, node: u32) -> Result<(), Problem> {
        self.call(&["reset", &node.to_string()]).map(drop)
    }

    /// Waits until a node takes commands.
    pub(crate) fn wait_up(&self, node: u32) -> Result<(), Problem> {
        self.call(&["wait", "-t", "120", &node.to_string(), "up"]).map(drop)
    }

    /// The file with what a node's console has said.
    pub(crate) fn console(&self, node: u32) -> PathBuf {
        self.dir.join(format!("node{node}.console"))
    }

    /// Runs a shell script on all nodes at once.
    pub(crate) fn sh_all(&self, seconds: u32, script: &str) -> Result<String, Problem> {
        self.call(&["exec", "-t", &seconds.to_string(), "all", "--", "sh", "-c", script])
    }

    /// What runs the nodes: `kvm`, or `tcg`, which emulates them.
    pub(crate) fn accelerator(&self) -> Result<String, Problem> {
        let status = self.call(&["status"])?;
        let is_word = |w: &&str| ["kvm", "tcg"].contains(w);
        let found = status.split(|c: char| !c.is_alphanumeric()).find(is_word);
        Ok(found.unwrap_or("?").to_owned())
    }

    /// Runs a shell script on `node`; its standard output.
    pub(crate) fn sh(&self, node: u32, seconds: u32, script: &str) -> Result<String, Problem> {
        self.call(&[
            "exec",
            "-t",
            &seconds.to_string(),
            &node.to_string(),
            "--",
            "sh",
            "-c",
            script,
        ])
    }

    /// Starts a shell script on `node` that nobody waits for.
    pub(crate) fn start_on(&self, node: u32, script: &str) -> Result<(), Problem> {
        self.call(&["exec", "--bg", &node.to_string(), "--", "sh", "-c", script])
            .map(drop)
    }

    fn call(&self, args: &[&str]) -> Result<String, Problem> {
        let out = Command::new(&self.program)
            .arg("-C")
            .arg(&self.dir)
            .args(args)
            .output()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let code = match out.status.code() {
            Some(124) => "timed out".to_owned(),
            Some(125) => "the node is gone".to_owned(),
            Some(c) => format!("exit {c}"),
            None => out.status.to_string(),
        };
        let said = String::from_utf8_lossy(&out.stderr);
        Err(format!("rig {}: {code}: {}", args.join(" "), said.trim()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.ours
            && let Err(e) = self.call(&["down"])
        {
            eprintln!("bench: {e}");
        }
    }
}

/// Starts `command` in the background; prints the words of its first line, then its pid. A fifo makes the wait an
/// event; kept open by the server, so that later output finds a reader's end.
pub(crate) fn background(command: &str) -> String {
    format!(
        "f=/tmp/bench.$$; mkfifo $f && exec 3<>$f; {command} >&3 2>&1 </dev/null & \
         read -r -t 20 line <&3 || exit 1; rm $f; echo $line $!"
    )
}
