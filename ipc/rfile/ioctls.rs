// SPDX-License-Identifier: GPL-2.0

//! Which ioctls reach a file on another node, and how large their arguments are.
//!
//! Pure: only `core`. What is not here is refused with `ENOTTY` on both sides: a command whose structure holds pointers
//! or descriptors cannot be carried out elsewhere by copying it.

/// How a command takes its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// It is a number.
    Value,
    /// It points to a flat structure.
    Buf {
        /// Bytes that the command reads.
        input: u32,
        /// Bytes that it writes.
        output: u32,
    },
}

/// The largest argument.
pub(crate) const MAX_ARG: usize = 64;

const fn input(n: u32) -> Arg {
    Arg::Buf {
        input: n,
        output: 0,
    }
}

const fn output(n: u32) -> Arg {
    Arg::Buf {
        input: 0,
        output: n,
    }
}

/// Bytes of `struct termios`, `termios2`, `termio` and `winsize` in `asm-generic`, as x86 and arm64 have them.
const TERMIOS: u32 = 36;
const TERMIOS2: u32 = 44;
const TERMIO: u32 = 18;
const WINSIZE: u32 = 8;

/// The commands, by number.
pub(crate) const COMMANDS: [(u32, Arg); 35] = [
    (0x5401, output(TERMIOS)),       // TCGETS
    (0x5402, input(TERMIOS)),        // TCSETS
    (0x5403, input(TERMIOS)),        // TCSETSW
    (0x5404, input(TERMIOS)),        // TCSETSF
    (0x5405, output(TERMIO)),        // TCGETA
    (0x5406, input(TERMIO)),         // TCSETA
    (0x5407, input(TERMIO)),         // TCSETAW
    (0x5408, input(TERMIO)),         // TCSETAF
    (0x5409, Arg::Value),            // TCSBRK
    (0x540a, Arg::Value),            // TCXONC
    (0x540b, Arg::Value),            // TCFLSH
    (0x540c, Arg::Value),            // TIOCEXCL
    (0x540d, Arg::Value),            // TIOCNXCL
    (0x540f, output(4)),             // TIOCGPGRP
    (0x5410, input(4)),              // TIOCSPGRP
    (0x5411, output(4)),             // TIOCOUTQ, SIOCOUTQ
    (0x5413, output(WINSIZE)),       // TIOCGWINSZ
    (0x5414, input(WINSIZE)),        // TIOCSWINSZ
    (0x5415, output(4)),             // TIOCMGET
    (0x541b, output(4)),             // FIONREAD, TIOCINQ, SIOCINQ
    (0x5420, input(4)),              // TIOCPKT
    (0x5424, output(4)),             // TIOCGETD
    (0x5425, Arg::Value),            // TCSBRKP
    (0x5427, Arg::Value),            // TIOCSBRK
    (0x5428, Arg::Value),            // TIOCCBRK
    (0x5429, output(4)),             // TIOCGSID
    (0x8905, output(4)),             // SIOCATMARK
    (0x402c_542b, input(TERMIOS2)),  // TCSETS2
    (0x402c_542c, input(TERMIOS2)),  // TCSETSW2
    (0x402c_542d, input(TERMIOS2)),  // TCSETSF2
    (0x4004_5431, input(4)),         // TIOCSPTLCK
    (0x8004_5430, output(4)),        // TIOCGPTN
    (0x8004_5438, output(4)),        // TIOCGPKT
    (0x8004_5439, output(4)),        // TIOCGPTLCK
    (0x802c_542a, output(TERMIOS2)), // TCGETS2
];

/// How `cmd` takes its argument, or `None` if it does not cross nodes.
pub(crate) fn argument(cmd: u32) -> Option<Arg> {
    COMMANDS.iter().find(|(c, _)| *c == cmd).map(|(_, a)| *a)
}
