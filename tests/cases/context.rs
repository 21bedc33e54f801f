// SPDX-License-Identifier: GPL-2.0

//! What a case has in its hands.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rig::Client;
use rig::Up;
use rig::client::Output;
use rig::control::Change;
use rig::control::Event;
use rig::control::Power;
use rig::images::Places;
use rig::spawn;
use rig::spawn::Started;
use rig::up::Kernel;

use crate::console;

/// Between two looks at a condition that has no event.
const POLL: Duration = Duration::from_millis(50);

/// How long a command may take that nobody gave a time.
const COMMAND: Duration = Duration::from_secs(30);

/// A running cluster and how to work with it. Nodes are numbered from 1.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) places: Places,
    pub(crate) nodes: u32,
    /// The kernel that runs.
    pub(crate) kernel: Kernel,
    /// Directory for what the case makes on the host.
    pub(crate) scratch: PathBuf,
    /// How many times longer everything may take (the debug kernel is slow).
    pub(crate) patience: u32,
}

impl Context {
    /// Runs a program.
    ///
    /// # Errors
    /// The rig is gone. What the command does is in the output.
    pub(crate) fn exec(&self, node: u32, argv: &[&str]) -> Result<Output> {
        self.exec_with(node, argv, b"")
    }

    /// Runs a program with standard input.
    pub(crate) fn exec_with(&self, node: u32, argv: &[&str], stdin: &[u8]) -> Result<Output> {
        self.client
            .output(node, spawn::command(argv), Some(COMMAND * self.patience), stdin)
    }

    /// Runs a program as somebody.
    pub(crate) fn exec_as(&self, user: &str, node: u32, argv: &[&str]) -> Result<Output> {
        self.client
            .output(node, spawn::command_as(user, argv), Some(COMMAND * self.patience), b"")
    }

    /// Runs a shell script; gives its standard output.
    ///
    /// # Errors
    /// It does not exit 0.
    pub(crate) fn sh(&self, node: u32, script: &str) -> Result<String> {
        self.sh_for(COMMAND, node, script)
    }

    /// As [`Self::sh`], for a script that may take longer than a command.
    pub(crate) fn sh_for(&self, time: Duration, node: u32, script: &str) -> Result<String> {
        let spawn = spawn::command(&["sh", "-c", script]);
        let out = self.client.output(node, spawn, Some(time * self.patience), b"")?;
        ensure!(
            out.code == 0,
            "node {node}: `{script}`: exit {}{}: {} {}",
            out.code,
            out.error.as_deref().map_or(String::new(), |e| format!(" ({e})")),
            out.text(),
            out.error_text()
        );
        Ok(out.text())
    }

    /// Runs a shell script on every node; gives each one's standard output.
    ///
    /// # Errors
    /// One does not exit 0.
    pub(crate) fn sh_all(&self, script: &str) -> Result<Vec<String>> {
        (1..=self.nodes).map(|n| self.sh(n, script)).collect()
    }

    /// Leaves a program running; gives its pid and where it writes.
    pub(crate) fn background(&self, node: u32, argv: &[&str]) -> Result<Started> {
        self.client.background(node, spawn::command(argv))
    }

    /// Looks until `look` gives something.
    ///
    /// # Errors
    /// It fails, or gives nothing for `seconds`.
    pub(crate) fn until<T>(&self, what: &str, seconds: u32, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let limit = Duration::from_secs(u64::from(seconds)) * self.patience;
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if start.elapsed() > limit {
                bail!("{what}: not within {} s", limit.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for an event of a node; only boots after `after_boot` count.
    pub(crate) fn wait(&self, node: u32, event: Event, after_boot: u32) -> Result<()> {
        self.client
            .wait(node, event, after_boot, Duration::from_secs(60) * self.patience)
    }

    /// The numbers of the nodes.
    pub(crate) fn all(&self) -> Vec<u32> {
        (1..=self.nodes).collect()
    }

    /// How often a node was started.
    pub(crate) fn boots(&self, node: u32) -> Result<u32> {
        Ok(self.client.node(node)?.boots)
    }

    /// Plays with a node's power.
    pub(crate) fn power(&self, node: u32, action: Power) -> Result<()> {
        self.client.power(node, action)
    }

    /// Changes the faults between two nodes, both ways, on all links.
    pub(crate) fn change(&self, a: u32, b: u32, change: Change) -> Result<()> {
        self.client.change(Some(a), Some(b), true, None, change)
    }

    /// Changes the faults from one node to another.
    pub(crate) fn change_one_way(&self, from: u32, to: u32, change: Change) -> Result<()> {
        self.client.change(Some(from), Some(to), false, None, change)
    }

    /// Takes all faults away.
    pub(crate) fn heal(&self) -> Result<()> {
        self.client.change(None, None, true, None, Change::Heal)
    }

    /// All that a node's console shows since the instance came up.
    pub(crate) fn console(&self, node: u32) -> String {
        console::text(&console::bytes_since(&self.client.console(node), 0))
    }

    /// Names in a directory below `/shared`, as the host has it.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn shared_names(&self, dir: &str) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.client.dir().join("shared").join(dir)).with_context(|| dir.to_owned())?;
        Ok(entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect())
    }

    /// Text of a file below `/shared`, as the host has it; `None` if it is not there or not complete: without a newline.
    pub(crate) fn shared_text(&self, file: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.client.dir().join("shared").join(file)).ok()?;
        text.ends_with('\n').then_some(text)
    }

    /// A number that no other call gives while this program runs.
    pub(crate) fn unique(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Options for an instance of the case's own: this one's kernel, and it ends with this process.
    pub(crate) fn up(&self) -> Up {
        Up {
            kernel: self.kernel,
            tie: Some(std::process::id()),
            ..Up::default()
        }
    }

    /// Brings up an instance of the case's own, which ends with it.
    pub(crate) fn instance(&self, name: &str, up: &Up) -> Result<Instance> {
        let dir = self.scratch.join(name);
        std::fs::create_dir_all(&dir)?;
        up.run(&self.places, &dir, &mut |_| {})
            .with_context(|| format!("instance {name}"))?;
        Ok(Instance {
            client: Client::connect(&dir)?,
        })
    }
}

/// An instance that a case started itself.
pub(crate) struct Instance {
    pub(crate) client: Client,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may be down already; that is what some cases are about.
        let _ = self.client.down();
    }
}

/// Checks that two values are equal, and says which they are if not.
///
/// # Errors
/// They are not.
pub(crate) fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: impl Display,
    got: T,
    want: U,
) -> Result<()> {
    ensure!(got == want, "{what}: got {got:?}, want {want:?}");
    Ok(())
}
