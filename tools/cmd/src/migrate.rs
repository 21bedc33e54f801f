// SPDX-License-Identifier: GPL-2.0

//! `migrate` and `where_pid`.

use crate::failure::FAILED;
use crate::failure::Failure;
use crate::node;
use crate::syscalls;
use clap::ArgMatches;
use cluster::netlink::describe;
use cluster::netlink::errno_name;
use nix::errno::Errno;

pub(crate) fn migrate(m: &ArgMatches) -> Result<u8, Failure> {
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    let node = node::resolve(word)?;
    let mut code = 0;
    for &pid in m.get_many::<i32>("pid").into_iter().flatten() {
        match syscalls::migrate(pid, node) {
            Ok(()) => {}
            Err(Errno::ENOSYS) => return Err(Failure::no_module()),
            Err(e) => {
                let said = std::fs::read_to_string(format!("/proc/{pid}/goto")).unwrap_or_default();
                eprintln!("migrate: pid {pid}: to node {word}: {}", reason(e, &said));
                code = FAILED;
            }
        }
    }
    Ok(code)
}

/// The reason that `/proc/<pid>/goto` tells if it is about this error, else the error in words.
fn reason(e: Errno, said: &str) -> String {
    let line = said.lines().next().unwrap_or_default().trim();
    let name = errno_name(e);
    match line.strip_prefix(&name) {
        Some("") => describe(e),
        Some(rest) if rest.starts_with(' ') => line.to_owned(),
        _ => describe(e),
    }
}

pub(crate) fn where_pid(m: &ArgMatches) -> Result<u8, Failure> {
    let pid = m.get_one::<i32>("pid").copied().unwrap_or_default();
    match syscalls::where_pid(pid) {
        Ok(node) => {
            println!("{node}");
            Ok(0)
        }
        Err(Errno::ENOSYS) => Err(Failure::no_module()),
        Err(e) => Err(Failure::failed(format!("pid {pid}: {}", describe(e)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_kernels_if_it_is_about_this_error() {
        for (e, said, want) in [
            (
                Errno::EOPNOTSUPP,
                "EOPNOTSUPP fd 4 eventpoll\n",
                "EOPNOTSUPP fd 4 eventpoll",
            ),
            (
                Errno::EOPNOTSUPP,
                "EOPNOTSUPP\n",
                "EOPNOTSUPP operation not supported on transport endpoint",
            ),
            (
                Errno::EHOSTDOWN,
                "EOPNOTSUPP fd 4 eventpoll\n",
                "EHOSTDOWN host is down",
            ),
            (Errno::ESRCH, "", "ESRCH no such process"),
            (Errno::EINVAL, "3\n", "EINVAL invalid argument"),
            (Errno::EIO, "EIOX not ours\n", "EIO i/o error"),
        ] {
            assert_eq!(reason(e, said), want, "{said:?}");
        }
    }
}
