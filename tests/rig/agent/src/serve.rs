// SPDX-License-Identifier: GPL-2.0

//! The loop of pid 1.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sys::reboot::RebootMode;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use rig_agent::wire::Exit;
use rig_agent::wire::Frame;
use rig_agent::wire::Kind;

use crate::port::Port;
use crate::session::Session;

struct Agent {
    port: Port,
    sessions: HashMap<u32, Session>,
}

/// Serves the host until the node dies.
pub(crate) fn run(port: Port) -> Result<Infallible, String> {
    port.set_nonblocking()?;
    let mut set = SigSet::empty();
    // What `reboot`, `poweroff` and `halt` send to pid 1, and the end of children.
    for s in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(s);
    }
    set.thread_block().map_err(|e| format!("sigprocmask: {e}"))?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|e| format!("signalfd: {e}"))?;
    let mut agent = Agent {
        port,
        sessions: HashMap::new(),
    };
    // Children of the boot that ended before the signals were watched.
    agent.reap();
    loop {
        agent.wait(&signals)?;
        while let Ok(Some(info)) = signals.read_signal() {
            let mode = match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGTERM) => RebootMode::RB_AUTOBOOT,
                Ok(Signal::SIGUSR1 | Signal::SIGUSR2) => RebootMode::RB_POWER_OFF,
                _ => continue,
            };
            let _ = nix::sys::reboot::reboot(mode);
        }
        for frame in agent.port.receive().map_err(|e| format!("port: {e}"))? {
            agent.handle(frame)?;
        }
        for session in agent.sessions.values_mut() {
            session.write_stdin(&mut agent.port);
            session.read_outputs(&mut agent.port, false);
        }
        agent.reap();
        agent.port.flush().map_err(|e| format!("port: {e}"))?;
    }
}

impl Agent {
    /// Sleeps until there is something to do.
    fn wait(&self, signals: &SignalFd) -> Result<(), String> {
        let mut port_events = PollFlags::POLLIN;
        if self.port.wants_write() {
            port_events |= PollFlags::POLLOUT;
        }
        let stdins: Vec<_> = self.sessions.values().filter_map(Session::stdin_fd).collect();
        let outputs: Vec<_> = self.sessions.values().flat_map(Session::output_fds).collect();
        let mut fds = vec![
            PollFd::new(self.port.as_fd(), port_events),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(stdins.iter().map(|f| PollFd::new(f.as_fd(), PollFlags::POLLOUT)));
        fds.extend(outputs.iter().map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(format!("poll: {e}")),
        }
    }

    fn handle(&mut self, frame: Frame) -> Result<(), String> {
        let bad = |e: rig_agent::wire::Malformed| e.to_string();
        match frame.kind {
            Kind::Spawn => {
                let spawn = frame.parse().map_err(bad)?;
                match Session::start(frame.session, &spawn, &mut self.port) {
                    Ok(Some(s)) => drop(self.sessions.insert(frame.session, s)),
                    Ok(None) => {}
                    Err(exit) => self.port.queue(&Frame::json(Kind::Exit, frame.session, &exit)),
                }
            }
            // Frames of a session that has just ended are late, not wrong.
            kind => {
                let Some(session) = self.sessions.get_mut(&frame.session) else {
                    return Ok(());
                };
                match kind {
                    Kind::Stdin => session.feed(&frame.payload, &mut self.port),
                    Kind::Ack => {
                        let (stream, n) = frame.parse_ack().map_err(bad)?;
                        session.acked(stream, n);
                    }
                    Kind::Kill => session.kill(),
                    Kind::Resize => session.resize(frame.parse().map_err(bad)?),
                    other => return Err(format!("{other:?} from the host")),
                }
            }
        }
        Ok(())
    }

    /// Takes the status of every dead child, own or inherited.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // The raw call: real-time signals have no name in nix, and their status would be lost.
            // SAFETY: the status is a live int.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            let code = if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            };
            let Some(id) = self.sessions.iter().find(|(_, s)| s.pid == pid).map(|(id, _)| *id) else {
                continue;
            };
            if let Some(mut session) = self.sessions.remove(&id) {
                session.read_outputs(&mut self.port, true);
                self.port
                    .queue(&Frame::json(Kind::Exit, id, &Exit { code, error: None }));
            }
        }
    }
}
