// SPDX-License-Identifier: GPL-2.0

//! Other ways to call another kernel, `tests/modules`, for `ics_*`: node 2 answers, node 1 calls.
//!
//! TCP's echo is what the goals are about. TIPC's and NULL of SunRPC are reported beside it.

use crate::Problem;
use crate::rig::Rig;

/// Where guests have modules and programs.
const BIN: &str = "/usr/lib/ssi-tests";
const CONTROL: &str = "/sys/kernel/debug/bench_peers";
/// How long TIPC may take to find the other node and its services.
const TIPC_SECONDS: u32 = 30;

/// So many at once, so often each, so many bytes there and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) callers: u32,
    pub(crate) count: u32,
    pub(crate) there: u32,
    pub(crate) back: u32,
}

/// Who carries the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Tipc,
    SunRpc,
}

impl Over {
    const ALL: [Self; 3] = [Self::Tcp, Self::Tipc, Self::SunRpc];

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "echo between kernel sockets",
            Self::Tipc => "echo over TIPC",
            Self::SunRpc => "NULL over SunRPC",
        }
    }

    /// The module's word for it.
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tipc => "tipc",
            Self::SunRpc => "sunrpc",
        }
    }

    /// A port of TCP, or the type of a service of TIPC.
    fn port(self) -> u16 {
        match self {
            Self::Tcp => 7703,
            Self::Tipc => 7704,
            Self::SunRpc => 7705,
        }
    }

    /// Those that are reported beside TCP's echo: SunRPC's only where no bytes go either way.
    pub(crate) fn beside(calls: Calls) -> Vec<Self> {
        if (calls.there, calls.back) == (0, 0) {
            vec![Self::Tipc, Self::SunRpc]
        } else {
            vec![Self::Tipc]
        }
    }

    /// Makes these calls to the node with `address`, and prints what they took.
    pub(crate) fn command(self, address: &str, calls: Calls) -> String {
        // An echo has at least a byte.
        let least = if self == Self::SunRpc { 0 } else { 1 };
        let (word, port) = (self.word(), self.port());
        let Calls { callers, count, .. } = calls;
        let (there, back) = (calls.there.max(least), calls.back.max(least));
        format!("echo time {word} {address} {port} {callers} {count} {there} {back} >{CONTROL} && cat {CONTROL}")
    }
}

/// Loads what both nodes need, whose addresses these are, and starts the servers on the second.
///
/// # Errors
/// A module does not load, a server does not start, or TIPC does not find its service.
pub(crate) fn start(rig: &Rig, addresses: [&str; 2]) -> Result<(), Problem> {
    for (node, address) in [1, 2].into_iter().zip(addresses) {
        rig.sh(node, 20, &load_script(node, address))?;
    }
    for over in Over::ALL {
        let (word, port) = (over.word(), over.port());
        rig.sh(2, 20, &format!("echo listen {word} {port} >{CONTROL}"))?;
    }
    let wait = format!("{BIN}/tipcnet wait {} {TIPC_SECONDS}", Over::Tipc.port());
    rig.sh(1, TIPC_SECONDS + 10, &wait).map(drop)
}

fn load_script(node: u32, address: &str) -> String {
    let once = |module: &str, then: &str| {
        format!("lsmod | grep -q '^{module} ' || {{ insmod {BIN}/{module}.ko{then}; }} || exit 1; ")
    };
    let network = format!(" && {BIN}/tipcnet up {address} {node}");
    [once("tipc", &network), once("sunrpc", ""), once("bench_peers", "")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_get_what_they_can_carry() {
        let calls = |there, back| Calls {
            callers: 8,
            count: 50,
            there,
            back,
        };
        let sides = |c: Calls| -> Vec<String> {
            [Over::Tcp]
                .into_iter()
                .chain(Over::beside(c))
                .map(|o| o.command("10.73.1.2", c))
                .collect()
        };
        let line = |what: &str| format!("echo time {what} >{CONTROL} && cat {CONTROL}");
        for (c, want) in [
            (
                calls(0, 0),
                vec![
                    line("tcp 10.73.1.2 7703 8 50 1 1"),
                    line("tipc 10.73.1.2 7704 8 50 1 1"),
                    line("sunrpc 10.73.1.2 7705 8 50 0 0"),
                ],
            ),
            (
                calls(4096, 0),
                vec![
                    line("tcp 10.73.1.2 7703 8 50 4096 1"),
                    line("tipc 10.73.1.2 7704 8 50 4096 1"),
                ],
            ),
            (
                calls(0, 1 << 20),
                vec![
                    line("tcp 10.73.1.2 7703 8 50 1 1048576"),
                    line("tipc 10.73.1.2 7704 8 50 1 1048576"),
                ],
            ),
        ] {
            assert_eq!(sides(c), want, "{c:?}");
        }
    }

    #[test]
    fn no_two_share_a_word_a_name_or_a_port() {
        for (i, a) in Over::ALL.iter().enumerate() {
            for b in Over::ALL.iter().skip(i + 1) {
                assert!(
                    a.word() != b.word() && a.name() != b.name() && a.port() != b.port(),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn modules_come_before_what_needs_them() {
        let script = load_script(2, "10.73.1.2");
        let at = |what: &str| script.find(what).unwrap_or_else(|| panic!("{what} in {script}"));
        assert!(at("tipc.ko") < at("tipcnet up 10.73.1.2 2"), "{script}");
        assert!(at("sunrpc.ko") < at("bench_peers.ko"), "{script}");
    }
}
