// SPDX-License-Identifier: GPL-2.0

//! One command of the host: its process, its streams, its end.

use std::collections::VecDeque;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Stdio;

use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::unistd::Gid;
use nix::unistd::Uid;
use rig_agent::wire::CHUNK;
use rig_agent::wire::Exit;
use rig_agent::wire::Frame;
use rig_agent::wire::Kind;
use rig_agent::wire::Spawn;
use rig_agent::wire::Started;
use rig_agent::wire::WINDOW;
use rig_agent::wire::What;
use rig_agent::wire::Winsize;

use crate::boot::PATH;
use crate::port::Port;

nix::ioctl_none_bad!(set_controlling_terminal, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_window, libc::TIOCSWINSZ, libc::winsize);

/// A stream out of the session.
struct Output {
    file: File,
    kind: Kind,
    credit: usize,
}

/// A running session.
pub(crate) struct Session {
    pub(crate) id: u32,
    pub(crate) pid: i32,
    stdin: Option<File>,
    stdin_data: VecDeque<u8>,
    stdin_eof: bool,
    outputs: Vec<Output>,
    is_tty: bool,
}

/// A line of /etc/passwd, with the groups of /etc/group.
struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: String,
    shell: String,
}

impl Account {
    fn find(user: &str) -> Result<Self, String> {
        let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        let number = |s: &str| s.parse::<u32>().map_err(|_| format!("/etc/passwd: {s}"));
        let fields = passwd
            .lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .find(|f| f.len() == 7 && (f[0] == user || f[2] == user))
            .ok_or_else(|| format!("no user {user}"))?;
        let gid = Gid::from_raw(number(fields[3])?);
        let mut groups = vec![gid];
        for line in fs::read_to_string("/etc/group").unwrap_or_default().lines() {
            let f: Vec<_> = line.split(':').collect();
            if f.len() == 4 && f[3].split(',').any(|m| m == fields[0]) {
                groups.push(Gid::from_raw(number(f[2])?));
            }
        }
        Ok(Self {
            name: fields[0].to_owned(),
            uid: Uid::from_raw(number(fields[2])?),
            gid,
            groups,
            home: fields[5].to_owned(),
            shell: fields[6].to_owned(),
        })
    }
}

fn nonblocking(fd: impl Into<OwnedFd>) -> Result<File, String> {
    let file = File::from(fd.into());
    nix::fcntl::fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| e.to_string())?;
    Ok(file)
}

/// Why a program did not start, as a shell reports it.
fn not_started(program: &str, e: &io::Error) -> Exit {
    let code = if e.raw_os_error() == Some(libc::ENOENT) {
        127
    } else {
        126
    };
    Exit {
        code,
        error: Some(format!("{program}: {e}")),
    }
}

fn refused(error: String) -> Exit {
    Exit {
        code: 126,
        error: Some(error),
    }
}

impl Session {
    /// Starts a session. `None` means that it is already over for the host (background).
    pub(crate) fn start(id: u32, spawn: &Spawn, port: &mut Port) -> Result<Option<Self>, Exit> {
        let account = Account::find(spawn.user.as_deref().unwrap_or("root")).map_err(refused)?;
        let (mut command, tty, program) = match &spawn.what {
            What::Exec { argv, tty } => {
                let (program, args) = argv.split_first().ok_or_else(|| refused("no command".into()))?;
                let mut c = Command::new(program);
                c.args(args);
                (c, *tty, program.clone())
            }
            What::Put { path, mode } => {
                let mut c = Command::new("/proc/self/exe");
                c.args(["--put", path, &format!("{mode:o}")]);
                (c, None, "put".to_owned())
            }
            What::Get { path } => {
                let mut c = Command::new("/proc/self/exe");
                c.args(["--get", path]);
                (c, None, "get".to_owned())
            }
        };
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("SHELL", &account.shell)
            .env("LANG", "C.UTF-8")
            .envs(spawn.env.iter().map(|(k, v)| (k, v)))
            .current_dir("/");
        if tty.is_some() && !spawn.env.iter().any(|(k, _)| k == "TERM") {
            command.env("TERM", "linux");
        }

        let mut background_log = None;
        let mut master = None;
        if spawn.background {
            let log = Self::background_log(id);
            let open = |suffix: &str| {
                let path = format!("{log}.{suffix}");
                File::create(&path).map_err(|e| refused(format!("{path}: {e}")))
            };
            command.stdin(Stdio::null()).stdout(open("out")?).stderr(open("err")?);
            background_log = Some(log);
        } else if let Some(size) = tty {
            let pty = nix::pty::openpty(Some(&window(size)), None).map_err(|e| refused(format!("openpty: {e}")))?;
            let dup = || pty.slave.try_clone().map_err(|e| refused(format!("openpty: {e}")));
            // Only this end may keep the terminal open.
            cloexec(&pty.master)?;
            cloexec(&pty.slave)?;
            let _ = nix::unistd::fchown(&pty.slave, Some(account.uid), Some(Gid::from_raw(5)));
            command.stdin(dup()?).stdout(dup()?).stderr(dup()?);
            master = Some(pty.master);
        } else {
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }

        let (uid, gid, groups) = (account.uid, account.gid, account.groups);
        let has_tty = tty.is_some();
        // SAFETY: the closure calls only system calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // The agent's own mask is not for others.
                nix::sys::signal::SigSet::empty().thread_set_mask()?;
                nix::unistd::setsid()?;
                if has_tty {
                    // SAFETY: standard input is the terminal; the argument 0 steals nothing.
                    set_controlling_terminal(0)?;
                }
                nix::unistd::setgroups(&groups)?;
                nix::unistd::setgid(gid)?;
                nix::unistd::setuid(uid)?;
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(|e| not_started(&program, &e))?;
        drop(command);
        // CAST: pids are below 2^30.
        let pid = child.id() as i32;
        port.queue(&Frame::json(
            Kind::Started,
            id,
            &Started {
                pid,
                log: background_log,
            },
        ));
        if spawn.background {
            return Ok(None);
        }
        let output = |file, kind| Output {
            file,
            kind,
            credit: WINDOW,
        };
        let mut session = Self {
            id,
            pid,
            stdin: None,
            stdin_data: VecDeque::new(),
            stdin_eof: false,
            outputs: Vec::new(),
            is_tty: has_tty,
        };
        if let Some(master) = master {
            let reader = master.try_clone().map_err(|e| refused(e.to_string()))?;
            session.stdin = Some(nonblocking(master).map_err(refused)?);
            session
                .outputs
                .push(output(nonblocking(reader).map_err(refused)?, Kind::Stdout));
        } else {
            if let Some(fd) = child.stdin.take() {
                session.stdin = Some(nonblocking(fd).map_err(refused)?);
            }
            if let Some(fd) = child.stdout.take() {
                session
                    .outputs
                    .push(output(nonblocking(fd).map_err(refused)?, Kind::Stdout));
            }
            if let Some(fd) = child.stderr.take() {
                session
                    .outputs
                    .push(output(nonblocking(fd).map_err(refused)?, Kind::Stderr));
            }
        }
        Ok(Some(session))
    }

    /// Where a background session writes: a file that is the same on every node, if there is such a place.
    fn background_log(id: u32) -> String {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let is_shared = fs::read_to_string("/proc/mounts").is_ok_and(|m| m.contains(" /shared 9p "));
        let dir = if is_shared { "/shared/bg" } else { "/run/rig" };
        let _ = fs::create_dir_all(dir);
        format!("{dir}/{}-{id}", host.to_string_lossy())
    }

    /// Takes bytes for the standard input; none at all is its end.
    pub(crate) fn feed(&mut self, bytes: &[u8], port: &mut Port) {
        if bytes.is_empty() {
            self.stdin_eof = true;
        } else {
            self.stdin_data.extend(bytes);
        }
        self.write_stdin(port);
    }

    /// Gives back window for an output stream.
    pub(crate) fn acked(&mut self, stream: Kind, n: usize) {
        for out in self.outputs.iter_mut().filter(|o| o.kind == stream) {
            out.credit = (out.credit + n).min(WINDOW);
        }
    }

    /// The standard input, if it waits for room.
    pub(crate) fn stdin_fd(&self) -> Option<impl AsFd> {
        self.stdin.as_ref().filter(|_| !self.stdin_data.is_empty())
    }

    /// The outputs that may be read now.
    pub(crate) fn output_fds(&self) -> impl Iterator<Item = impl AsFd> {
        self.outputs.iter().filter(|o| o.credit > 0).map(|o| &o.file)
    }

    /// Moves buffered input on.
    pub(crate) fn write_stdin(&mut self, port: &mut Port) {
        let mut consumed = 0;
        while let Some(file) = self.stdin.as_mut().filter(|_| !self.stdin_data.is_empty()) {
            let (head, _) = self.stdin_data.as_slices();
            match file.write(head) {
                Ok(n) => {
                    consumed += n;
                    self.stdin_data.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Nobody reads any more.
                Err(_) => self.stdin = None,
            }
        }
        if self.stdin.is_none() {
            consumed += self.stdin_data.len();
            self.stdin_data.clear();
        }
        if consumed > 0 {
            port.queue(&Frame::ack(self.id, Kind::Stdin, consumed));
        }
        if self.stdin_eof && self.stdin_data.is_empty() && !self.is_tty {
            self.stdin = None;
        }
    }

    /// Moves output on, as far as the windows reach; `to_the_end` also beyond (what is in the pipes at exit).
    pub(crate) fn read_outputs(&mut self, port: &mut Port, to_the_end: bool) {
        let mut buf = [0; CHUNK];
        let id = self.id;
        self.outputs.retain_mut(|out| {
            // What a survivor of the session goes on writing is not waited for.
            let mut rest = if to_the_end { 1 << 20 } else { usize::MAX };
            while (to_the_end || out.credit > 0) && rest > 0 {
                let max = if to_the_end { CHUNK } else { out.credit.min(CHUNK) };
                match out.file.read(&mut buf[..max]) {
                    Ok(0) => return false,
                    Ok(n) => {
                        out.credit = out.credit.saturating_sub(n);
                        rest = rest.saturating_sub(n);
                        port.queue(&Frame::raw(out.kind, id, &buf[..n]));
                        if !to_the_end && n < max {
                            break;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // EIO is how a terminal's master sees the end.
                    Err(_) => return false,
                }
            }
            true
        });
    }

    /// Changes the size of the session's terminal.
    pub(crate) fn resize(&self, size: Winsize) {
        use std::os::fd::AsRawFd;
        if let Some(file) = self.stdin.as_ref().filter(|_| self.is_tty) {
            // SAFETY: the descriptor is open and the size is a live winsize.
            let _ = unsafe { set_window(file.as_raw_fd(), &window(size)) };
        }
    }

    /// Ends every process of the session.
    pub(crate) fn kill(&self) {
        let done = Command::new("/proc/self/exe")
            .args(["--kill-session", &self.pid.to_string()])
            .spawn();
        if let Err(e) = done {
            eprintln!("rig-agent: kill session {}: {e}", self.pid);
        }
    }
}

fn window(size: Winsize) -> libc::winsize {
    libc::winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn cloexec(fd: &OwnedFd) -> Result<(), Exit> {
    nix::fcntl::fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
        .map(|_| ())
        .map_err(|e| refused(format!("openpty: {e}")))
}
