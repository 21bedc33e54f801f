// SPDX-License-Identifier: GPL-2.0

//! The answer of whoever looks at a process that is to move, and finds that it cannot.

use core::fmt;
use core::fmt::Write;
use kernel::prelude::*;

/// Why a process cannot move: an errno and what stands in the way, such as `fd 4 eventpoll`.
#[derive(Clone, Copy)]
pub struct Refusal {
    /// The errno.
    pub errno: Error,
    text: [u8; Self::TEXT],
}

impl Refusal {
    /// Room for the text.
    pub const TEXT: usize = 120;

    /// A refusal with its cause, cut to [`Self::TEXT`] bytes.
    pub fn new(errno: Error, cause: &[u8]) -> Self {
        let mut text = [0; Self::TEXT];
        for (to, from) in text.iter_mut().zip(cause.iter().take_while(|b| **b != 0)) {
            *to = *from;
        }
        Self { errno, text }
    }

    /// A refusal with a formatted cause, cut likewise.
    pub fn from_fmt(errno: Error, cause: fmt::Arguments<'_>) -> Self {
        let mut text = Cut {
            buf: [0; Self::TEXT],
            len: 0,
        };
        // Writing does not fail: it cuts.
        let _ = text.write_fmt(cause);
        Self {
            errno,
            text: text.buf,
        }
    }

    /// The cause; UTF-8 but for what a node or a file system named otherwise, or where it was cut.
    pub fn cause(&self) -> &[u8] {
        let n = self.text.iter().position(|b| *b == 0);
        self.text
            .get(..n.unwrap_or(Self::TEXT))
            .unwrap_or(&self.text)
    }
}

impl From<Error> for Refusal {
    fn from(errno: Error) -> Self {
        Self::new(errno, b"")
    }
}

/// A text that is cut where it does not fit.
struct Cut {
    buf: [u8; Refusal::TEXT],
    len: usize,
}

impl Write for Cut {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for (to, from) in self.buf.iter_mut().skip(self.len).zip(s.as_bytes()) {
            *to = *from;
        }
        self.len = (self.len + s.len()).min(Refusal::TEXT);
        Ok(())
    }
}
