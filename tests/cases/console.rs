// SPDX-License-Identifier: GPL-2.0

//! Reading the consoles: a line that reports a bug of the kernel fails the case in which it appears.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

/// What a kernel says when it has found itself wrong.
const ALARMS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "Kernel panic",
    "KASAN",
    "UBSAN",
    "KCSAN",
    "unable to handle",
    "general protection fault",
    "double fault",
    "stack segment",
    "possible circular locking",
    "possible recursive locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "bad unlock balance",
    "suspicious RCU usage",
    "Invalid wait context",
    "held lock freed",
    "still held",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "self-detected stall",
    "detected stalls",
    "rcu_sched kthread starved",
    "rcu_preempt kthread starved",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "ODEBUG:",
    "unreferenced object",
    "new suspected memory leaks",
    "rust_kernel: panicked",
    "Objects remaining in",
    "Slab corruption",
    "Bad page state",
    "Bad rss-counter",
    "Call Trace:",
    "Attempted to kill init",
    // A node that finds itself excluded restarts: a case that plans that says so.
    "node stops itself",
    "rig-agent: port",
    "rig-agent: poll",
];

/// Lines that hold the words of an alarm and are none.
const HARMLESS: &[&str] = &[
    // The compiler's options, as the kernel shows them when it boots.
    "Kernel command line:",
    "Command line:",
    // Boot messages of the debug kernel about itself.
    "KernelAddressSanitizer initialized",
    "Lock dependency validator",
    "kmemleak: Kernel memory leak detector",
];

/// The alarms in a text, but those with one of the `expected` words.
pub(crate) fn alarms<'a>(text: &'a str, expected: &[&str]) -> Vec<&'a str> {
    text.lines()
        .filter(|line| ALARMS.iter().any(|a| line.contains(a)))
        .filter(|line| !HARMLESS.iter().chain(expected).any(|h| line.contains(h)))
        .collect()
}

/// A console's log from a place on. What cannot be read cannot be judged; a missing console shows in the case itself.
pub(crate) fn bytes_since(path: &Path, start: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(start)).is_ok()
    {
        let _ = file.read_to_end(&mut bytes);
    }
    bytes
}

/// A console's log as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// A line without the kernel's time stamp.
pub(crate) fn without_stamp(line: &str) -> &str {
    let is_stamp = |s: &str| !s.is_empty() && s.trim().chars().all(|c| c.is_ascii_digit() || c == '.');
    match line.strip_prefix('[').and_then(|l| l.split_once("] ")) {
        Some((stamp, rest)) if is_stamp(stamp) => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_seen_and_chatter_is_not() {
        for line in [
            "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:3 f+0x1/0x2",
            "[    1.0] WARNING: possible circular locking dependency detected",
            "[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[    1.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2",
            "[    1.0] BUG: sleeping function called from invalid context at x.c:1",
            "[    1.0] INFO: task cat:12 blocked for more than 40 seconds.",
            "[    1.0] Oops: general protection fault, probably for non-canonical address",
            "[    1.0] rcu: INFO: rcu_sched self-detected stall on CPU",
            "[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 23s!",
            "[    1.0] Kernel panic - not syncing: sysrq triggered crash",
            "[    1.0] rust_kernel: panicked at ics/x.rs:1:2:",
            "[    1.0] ssi_clms: node stops itself: its lease has ended: too few members are heard",
            "[    1.0] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        ] {
            assert_eq!(alarms(line, &[]), [line]);
        }
        for line in [
            "[    1.0] Kernel command line: console=ttyS0 slub_debug=WARNING:",
            "[    1.0] kasan: KernelAddressSanitizer initialized (generic)",
            "[    1.0] x86/mm: Checked W+X mappings: passed, no W+X pages found.",
            "[    1.0] clocksource: tsc: mask: 0xffffffffffffffff",
            "rig-agent: ready",
        ] {
            assert_eq!(alarms(line, &[]), [""; 0], "{line}");
        }
    }

    #[test]
    fn what_is_expected_is_no_alarm() {
        let text = "Kernel panic - not syncing: failpoint\nBUG: x\n";
        assert_eq!(alarms(text, &["failpoint"]), ["BUG: x"]);
    }

    #[test]
    fn stamps_are_taken_off() {
        assert_eq!(without_stamp("[    1.084719]     ok 1 x"), "    ok 1 x");
        assert_eq!(without_stamp("[note] x"), "[note] x");
        assert_eq!(without_stamp("x"), "x");
    }
}
