// SPDX-License-Identifier: GPL-2.0

//! The kinds of files that do not go to another node.

/// What a file is that must be served from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileClass {
    /// Pipe or fifo.
    Pipe,
    /// Terminal.
    Tty,
    /// Socket.
    Socket,
    /// Regular file whose offset is shared.
    File,
}

impl FileClass {
    /// The number on the wire and in `enum ssi_file_class`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Pipe => 1,
            Self::Tty => 2,
            Self::Socket => 3,
            Self::File => 4,
        }
    }

    /// The class of that number.
    pub const fn from_number(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Pipe),
            2 => Some(Self::Tty),
            3 => Some(Self::Socket),
            4 => Some(Self::File),
            _ => None,
        }
    }
}
