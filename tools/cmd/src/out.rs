// SPDX-License-Identifier: GPL-2.0

//! Standard output of a command that has `--json`: lines for people, or an object on each line.

use crate::failure::Failure;
use clap::ArgMatches;
use serde::Serialize;
use std::io::Write;

/// Where lines go.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    json: bool,
}

impl Out {
    /// As the option `--json` says.
    pub(crate) fn of(m: &ArgMatches) -> Self {
        Self {
            json: m.get_flag("json"),
        }
    }

    /// Says the same to programs or to people.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub(crate) fn say(self, j: &impl Serialize, text: &str) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(j).map_err(|e| Failure::failed(e.to_string()))?
        } else {
            text.to_owned()
        };
        // Each line at once: somebody waits for it.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|e| Failure::failed(format!("standard output: {e}")))
    }
}
