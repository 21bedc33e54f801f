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

    /// Says the same to programs or to people; nothing to people if `text` is empty.
    ///
    /// # Errors
    /// Standard output does not take it.
    pub(crate) fn say(self, j: &impl Serialize, text: &str) -> Result<(), Failure> {
        let line = self.line(j, text)?;
        if line.is_empty() {
            return Ok(());
        }
        // Each line at once: somebody waits for it.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|e| Failure::failed(format!("standard output: {e}")))
    }

    fn line(self, j: &impl Serialize, text: &str) -> Result<String, Failure> {
        if self.json {
            serde_json::to_string(j).map_err(|e| Failure::failed(e.to_string()))
        } else {
            Ok(text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_what_people_are() {
        for (json, text, want) in [
            (false, "node 3: off", "node 3: off"),
            (false, "", ""),
            (true, "node 3: off", "[3]"),
            (true, "", "[3]"),
        ] {
            assert_eq!(Out { json }.line(&[3], text).as_deref(), Ok(want));
        }
    }
}
