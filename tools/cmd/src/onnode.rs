// SPDX-License-Identifier: GPL-2.0

//! `onnode` and `onall`: commands elsewhere.

use crate::failure;
use crate::failure::Failure;
use crate::node;
use crate::syscalls;
use clap::ArgMatches;
use cluster::membership;
use cluster::membership::NodeState;
use cluster::netlink::describe;
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::AccessFlags;
use nix::unistd::ForkResult;
use nix::unistd::Pid;
use nix::unistd::access;
use nix::unistd::execve;
use nix::unistd::fork;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::BufRead;
use std::io::BufReader;
use std::io::PipeReader;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Where `execvp` looks when there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
const SHELL: &CStr = c"/bin/sh";

pub(crate) fn onnode(m: &ArgMatches) -> Result<u8, Failure> {
    let word = m.get_one::<String>("node").map(String::as_str).unwrap_or_default();
    if m.get_flag("local") {
        return Err(Failure::new(
            failure::CLUSTER,
            "-l: the local view of a node is not supported yet; leave -l out",
        ));
    }
    let node = node::resolve(word).map_err(|f| Failure {
        code: failure::CLUSTER,
        ..f
    })?;
    let program = Program::find(m)?;
    Err(program.run_on(node, word))
}

pub(crate) fn onall(m: &ArgMatches) -> Result<u8, Failure> {
    let program = Program::find(m)?;
    let status = membership::status().map_err(|e| Failure {
        code: failure::CLUSTER,
        ..Failure::from(e)
    })?;
    let up: Vec<u32> = status
        .nodes
        .iter()
        .filter(|n| n.state == NodeState::Up)
        .map(|n| n.id)
        .collect();
    if up.is_empty() {
        return Err(Failure::new(
            failure::CLUSTER,
            "no node is up; this one joins with cluster join",
        ));
    }
    let mut highest = 0;
    for id in up {
        let node = i32::try_from(id).map_err(|_| Failure::new(failure::CLUSTER, format!("node {id}: out of range")))?;
        let code = program.run_and_wait(node, m.get_flag("prefix"))?;
        highest = highest.max(code);
    }
    Ok(highest)
}

/// Runs this program on a node, under the name that comes first; gives its exit code.
///
/// # Errors
/// It could not be run.
pub(crate) fn run_this(node: u32, args: Vec<OsString>) -> Result<u8, Failure> {
    let this = std::env::current_exe().map_err(|e| Failure::failed(format!("this program: {e}")))?;
    let program = Program {
        path: CString::new(this.into_os_string().into_vec()).map_err(|e| Failure::usage(e.to_string()))?,
        ..Program::new(args)?
    };
    let node = i32::try_from(node).map_err(|_| Failure::new(failure::CLUSTER, format!("node {node}: out of range")))?;
    program.run_and_wait(node, false)
}

/// A command, found and ready to be run.
struct Program {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    fn find(m: &ArgMatches) -> Result<Self, Failure> {
        Self::new(m.get_many::<OsString>("cmd").into_iter().flatten().cloned().collect())
    }

    fn new(words: Vec<OsString>) -> Result<Self, Failure> {
        let name = words.first().cloned().unwrap_or_default();
        let search = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let path = look_up(&name, &search)
            .map_err(|e| Failure::new(exit_code(e), format!("{}: {}", name.display(), describe(e))))?;
        let c = |s: OsString| CString::new(s.into_vec()).map_err(|e| Failure::usage(e.to_string()));
        let envp = std::env::vars_os().map(|(mut k, v)| {
            k.push("=");
            k.push(v);
            c(k)
        });
        Ok(Self {
            path: c(path)?,
            argv: words.into_iter().map(c).collect::<Result<_, _>>()?,
            envp: envp.collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the command on `node`. Returns only if that failed.
    fn run_on(&self, node: i32, called: &str) -> Failure {
        let mut e = become_on(node, &self.path, &self.argv, &self.envp);
        if e == Errno::ENOEXEC {
            // A script without #!: what execvp does.
            let rest = self.argv.get(1..).unwrap_or_default().iter().cloned();
            let argv: Vec<CString> = [SHELL.to_owned(), self.path.clone()].into_iter().chain(rest).collect();
            e = become_on(node, SHELL, &argv, &self.envp);
        }
        if e == Errno::ENOSYS {
            return Failure {
                code: failure::CLUSTER,
                ..Failure::no_module()
            };
        }
        let next = match e {
            Errno::EHOSTDOWN | Errno::EHOSTUNREACH | Errno::EINVAL => "; cluster status lists the nodes that are up",
            _ => "",
        };
        let what = self.path.to_string_lossy();
        Failure::new(exit_code(e), format!("{what}: on node {called}: {}{next}", describe(e)))
    }

    /// Runs the command on `node` in a child and waits for it.
    fn run_and_wait(&self, node: i32, prefix: bool) -> Result<u8, Failure> {
        let failed =
            |what: &str, e: &dyn std::fmt::Display| Failure::new(failure::CLUSTER, format!("node {node}: {what}: {e}"));
        let pipe = if prefix {
            Some(std::io::pipe().map_err(|e| failed("pipe", &e))?)
        } else {
            None
        };
        // SAFETY: This program has one thread, so the child may do whatever the parent may.
        match unsafe { fork() }.map_err(|e| failed("fork", &e))? {
            ForkResult::Child => {
                if let Some((_, writer)) = &pipe
                    && let Err(e) = nix::unistd::dup2_stdout(writer)
                {
                    eprintln!("onall: node {node}: dup2: {e}");
                    std::process::exit(i32::from(failure::CLUSTER));
                }
                drop(pipe);
                let f = self.run_on(node, &node.to_string());
                eprintln!("onall: {}", f.message);
                std::process::exit(i32::from(f.code));
            }
            ForkResult::Parent { child } => {
                if let Some((reader, writer)) = pipe {
                    drop(writer);
                    copy_prefixed(reader, node).map_err(|e| failed("output", &e))?;
                }
                wait(child).map_err(|e| failed("wait", &e))
            }
        }
    }
}

/// Becomes a program on `node`. Returns only if that failed.
fn become_on(node: i32, path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let e = syscalls::rexec(node, path, argv, envp);
    // The kernel refuses to send a process to where it is; to a user that node is as good as any other.
    let is_here = |s: membership::Status| s.this_node.is_some_and(|n| i32::try_from(n) == Ok(node));
    if e == Errno::EINVAL && membership::status().is_ok_and(is_here) {
        return match execve(path, argv, envp) {
            Ok(never) => match never {},
            Err(e) => e,
        };
    }
    e
}

/// Copies lines to standard output, the number of the node before each.
fn copy_prefixed(from: PipeReader, node: i32) -> std::io::Result<()> {
    let (mut from, mut to) = (BufReader::new(from), std::io::stdout().lock());
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? != 0 {
        write!(to, "{node}: ")?;
        to.write_all(&line)?;
        if !line.ends_with(b"\n") {
            to.write_all(b"\n")?;
        }
        to.flush()?;
        line.clear();
    }
    Ok(())
}

fn wait(child: Pid) -> Result<u8, Errno> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, sig, _)) => return Ok(128 + u8::try_from(sig as i32).unwrap_or(0)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Finds `name` as `execvp` does: as it is if it has a slash, else in the folders of `search`.
///
/// # Errors
/// `ENOENT` none such; `EACCES` found, and none of them may be executed.
fn look_up(name: &OsStr, search: &OsStr) -> Result<OsString, Errno> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    let mut refused = false;
    for dir in search.as_bytes().split(|&b| b == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let path = Path::new(OsStr::from_bytes(dir)).join(name);
        match std::fs::metadata(&path) {
            Ok(m) if m.is_file() => {
                if access(&path, AccessFlags::X_OK).is_ok() {
                    return Ok(path.into_os_string());
                }
                refused = true;
            }
            Ok(_) => {}
            Err(e) => refused |= e.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
    Err(if refused { Errno::EACCES } else { Errno::ENOENT })
}

/// The exit code for a command that could not be started, as shells have it; 125 if it is the cluster's fault.
fn exit_code(e: Errno) -> u8 {
    match e {
        Errno::ENOENT => failure::NOT_FOUND,
        Errno::EACCES
        | Errno::EPERM
        | Errno::ENOEXEC
        | Errno::ENOTDIR
        | Errno::EISDIR
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::E2BIG
        | Errno::ETXTBSY
        | Errno::ELIBBAD => failure::CANNOT_RUN,
        _ => failure::CLUSTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_as_execvp_does() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |p: &str| dir.path().join(p);
        for d in ["a", "b", "c"] {
            std::fs::create_dir(at(d)).expect(d);
        }
        let file = |p: &str, mode| {
            std::fs::write(at(p), "").expect(p);
            std::fs::set_permissions(at(p), PermissionsExt::from_mode(mode)).expect(p);
        };
        file("a/plain", 0o644);
        file("b/tool", 0o755);
        file("c/tool", 0o755);
        file("a/second", 0o644);
        file("c/second", 0o755);
        std::fs::create_dir(at("a/tool")).expect("a folder named like a tool");
        let search = OsString::from(format!("{0}/a:{0}/none:{0}/b:{0}/c", dir.path().display()));
        let found = |p: &str| Ok(at(p).into_os_string());
        for (name, want) in [
            ("tool", found("b/tool")),
            ("second", found("c/second")),
            ("plain", Err(Errno::EACCES)),
            ("absent", Err(Errno::ENOENT)),
            ("", Err(Errno::ENOENT)),
            ("./absent", Ok("./absent".into())),
            ("/bin/sh", Ok("/bin/sh".into())),
        ] {
            assert_eq!(look_up(OsStr::new(name), &search), want, "{name}");
        }
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (e, code) in [
            (Errno::ENOENT, 127),
            (Errno::EACCES, 126),
            (Errno::ENOEXEC, 126),
            (Errno::EHOSTDOWN, 125),
            (Errno::EINVAL, 125),
            (Errno::EIO, 125),
        ] {
            assert_eq!(exit_code(e), code, "{e:?}");
        }
    }
}
