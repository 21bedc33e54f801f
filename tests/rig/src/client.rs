// SPDX-License-Identifier: GPL-2.0

//! Talking to an instance from outside: what the subcommands and the cases use. Blocking.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use rig_agent::wire::CHUNK;
use rig_agent::wire::Decoder;
use rig_agent::wire::Frame;
use rig_agent::wire::Kind;
use rig_agent::wire::Spawn;
use rig_agent::wire::Started;
use rig_agent::wire::WINDOW;
use rig_agent::wire::What;
use rig_agent::wire::Winsize;

use crate::control::Change;
use crate::control::Event;
use crate::control::NodeStatus;
use crate::control::Power;
use crate::control::Reply;
use crate::control::Request;
use crate::control::Status;

/// Where failpoints are, in a guest.
pub const FAILPOINTS: &str = "/sys/kernel/debug/ssi/failpoints";

/// Seconds, also as a fraction.
///
/// # Errors
/// A text if it is not a number above 0.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text}: not a number of seconds"))?;
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(|| format!("{text}: not a number of seconds above 0"))
}

/// Whether an instance runs in a directory.
pub fn is_up(dir: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(dir.join("lock")) else {
        return false;
    };
    Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err()
}

/// A running instance.
#[derive(Clone, Debug)]
pub struct Client {
    dir: PathBuf,
}

/// A finished command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status: the command's, 128 + signal, 124 for time-out, 125 when the node is gone.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// What the rig has to say.
    pub error: Option<String>,
}

impl Output {
    /// Standard output as text without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text without white space around it.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Where a command's streams go.
pub struct Streams<'a> {
    /// Standard input; none is an empty one.
    pub stdin: Option<Box<dyn Read + Send>>,
    /// Standard output.
    pub stdout: &'a mut dyn Write,
    /// Standard error.
    pub stderr: &'a mut dyn Write,
    /// Called when the process exists.
    pub started: &'a mut dyn FnMut(&Started),
    /// Told when the window's size changes: gives it until it gives none.
    pub resized: Option<Box<dyn FnMut() -> Option<Winsize> + Send>>,
}

/// The client's end of a connection.
struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

impl Connection {
    fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let mut buf = [0; 65536];
            match self.stream.read(&mut buf)? {
                0 => bail!("the supervisor ended"),
                n => self.decoder.feed(&buf[..n]),
            }
        }
    }
}

/// Follows a connection to its reply.
pub(crate) fn follow(stream: UnixStream, progress: &mut dyn FnMut(&str)) -> Result<Reply> {
    let mut connection = Connection {
        stream,
        decoder: Decoder::default(),
    };
    loop {
        let frame = connection.next()?;
        match frame.kind {
            Kind::Progress => progress(&frame.text()),
            Kind::Reply => return Ok(frame.parse()?),
            _ => {}
        }
    }
}

/// Bytes of standard input that may be sent.
#[derive(Default)]
struct Window {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Window {
    fn add(&self, n: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += n;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }

    /// Waits for room for `n` bytes; false when there will never be any.
    fn take(&self, n: usize) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.changed.wait_while(state, |(room, closed)| *room < n && !*closed);
        let mut state = wait.unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_sub(n);
        !state.1
    }
}

impl Client {
    /// The instance in `dir`.
    ///
    /// # Errors
    /// It is not up.
    pub fn connect(dir: &Path) -> Result<Self> {
        if !is_up(dir) {
            bail!("{} is not up", dir.display());
        }
        Ok(Self {
            dir: fs::canonicalize(dir)?,
        })
    }

    /// The instance in `dir`, which need not be up.
    pub fn unchecked(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn open(&self, request: &Request) -> Result<Connection> {
        // A socket's path has at most 107 bytes; a directory's may have more.
        let handle = File::open(&self.dir).with_context(|| self.dir.display().to_string())?;
        let path = format!("/proc/self/fd/{}/rig.sock", handle.as_raw_fd());
        let mut stream = UnixStream::connect(path).with_context(|| format!("{} is not up", self.dir.display()))?;
        stream.write_all(&Frame::json(Kind::Request, 0, request).to_bytes())?;
        Ok(Connection {
            stream,
            decoder: Decoder::default(),
        })
    }

    /// Makes a request without streams.
    ///
    /// # Errors
    /// The supervisor is not there. A request that fails is a reply.
    pub fn request(&self, request: &Request) -> Result<Reply> {
        follow(self.open(request)?.stream, &mut |_| {})
    }

    fn check(&self, request: &Request) -> Result<()> {
        match self.request(request)? {
            Reply { code: 0, .. } => Ok(()),
            Reply { code, error } => bail!("{} ({code})", error.unwrap_or_default()),
        }
    }

    /// What there is.
    ///
    /// # Errors
    /// The supervisor is not there.
    pub fn status(&self) -> Result<Status> {
        let mut json = String::new();
        let connection = self.open(&Request::Status)?;
        follow(connection.stream, &mut |text| json = text.to_owned())?;
        Ok(serde_json::from_str(&json)?)
    }

    /// One node of [`Self::status`].
    ///
    /// # Errors
    /// The supervisor or the node is not there.
    pub fn node(&self, node: u32) -> Result<NodeStatus> {
        let status = self.status()?;
        status
            .nodes
            .into_iter()
            .find(|n| n.id == node)
            .with_context(|| format!("no node {node}"))
    }

    /// Ends the instance; returns when all of it is gone.
    ///
    /// # Errors
    /// The supervisor is not there.
    pub fn down(&self) -> Result<()> {
        self.check(&Request::Down)?;
        // The lock is the last thing that the supervisor lets go.
        let file = File::options().write(true).open(self.dir.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
        Ok(())
    }

    /// Runs a command with streams of one's own.
    ///
    /// # Errors
    /// The supervisor is not there, or a stream fails.
    pub fn exec(&self, node: u32, spawn: Spawn, timeout: Option<Duration>, streams: Streams<'_>) -> Result<Reply> {
        let is_tty = matches!(spawn.what, What::Exec { tty: Some(_), .. });
        let mut connection = self.open(&Request::Exec { node, spawn, timeout })?;
        let writer = Arc::new(Mutex::new(connection.stream.try_clone()?));
        let send = |writer: &Mutex<UnixStream>, frame: &Frame| {
            writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(&frame.to_bytes())
        };
        let window = Arc::new(Window::default());
        window.add(WINDOW);
        match streams.stdin {
            None => send(&writer, &Frame::raw(Kind::Stdin, 0, b""))?,
            Some(mut stdin) => {
                let (writer, window) = (writer.clone(), window.clone());
                // Not joined: it may wait for input that never comes.
                std::thread::spawn(move || -> io::Result<()> {
                    let mut buf = [0; CHUNK];
                    loop {
                        let n = match stdin.read(&mut buf) {
                            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                            other => other?,
                        };
                        if !window.take(n) {
                            return Ok(());
                        }
                        send(&writer, &Frame::raw(Kind::Stdin, 0, &buf[..n]))?;
                        if n == 0 {
                            return Ok(());
                        }
                    }
                });
            }
        }
        if let Some(mut resized) = streams.resized.filter(|_| is_tty) {
            let writer = writer.clone();
            std::thread::spawn(move || {
                while let Some(size) = resized() {
                    if send(&writer, &Frame::json(Kind::Resize, 0, &size)).is_err() {
                        return;
                    }
                }
            });
        }
        let reply = loop {
            let frame = match connection.next() {
                Ok(frame) => frame,
                Err(e) => {
                    window.close();
                    return Err(e);
                }
            };
            let copy = |to: &mut dyn Write| {
                to.write_all(&frame.payload)?;
                to.flush()?;
                // The other end may be through already.
                let _ = send(&writer, &Frame::ack(0, frame.kind, frame.payload.len()));
                io::Result::Ok(())
            };
            match frame.kind {
                Kind::Started => (streams.started)(&frame.parse()?),
                Kind::Stdout => copy(streams.stdout)?,
                Kind::Stderr => copy(streams.stderr)?,
                Kind::Ack => window.add(frame.parse_ack()?.1),
                Kind::Reply => break frame.parse()?,
                _ => {}
            }
        };
        window.close();
        let _ = connection.stream.shutdown(Shutdown::Both);
        Ok(reply)
    }

    /// Runs a command and collects what it says.
    ///
    /// # Errors
    /// The supervisor is not there.
    pub fn output(&self, node: u32, spawn: Spawn, timeout: Option<Duration>, stdin: &[u8]) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let input = io::Cursor::new(stdin.to_vec());
        let streams = Streams {
            stdin: (!stdin.is_empty()).then(|| Box::new(input) as Box<dyn Read + Send>),
            stdout: &mut stdout,
            stderr: &mut stderr,
            started: &mut |_| {},
            resized: None,
        };
        let reply = self.exec(node, spawn, timeout, streams)?;
        Ok(Output {
            code: reply.code,
            stdout,
            stderr,
            error: reply.error,
        })
    }

    /// Starts a command in the background.
    ///
    /// # Errors
    /// It did not start.
    pub fn background(&self, node: u32, spawn: Spawn) -> Result<Started> {
        let mut found = None;
        let streams = Streams {
            stdin: None,
            stdout: &mut io::sink(),
            stderr: &mut io::sink(),
            started: &mut |s| found = Some(s.clone()),
            resized: None,
        };
        let reply = self.exec(
            node,
            Spawn {
                background: true,
                ..spawn
            },
            None,
            streams,
        )?;
        found.with_context(|| reply.error.unwrap_or_default())
    }

    /// Copies a file to a node.
    ///
    /// # Errors
    /// It cannot be read, written, or the node is gone.
    pub fn push(&self, node: u32, from: &Path, to: &str) -> Result<()> {
        let file = File::open(from).with_context(|| from.display().to_string())?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o7777;
        self.put(node, Box::new(file), to, mode)
    }

    /// Writes a file on a node.
    ///
    /// # Errors
    /// It cannot be written, or the node is gone.
    pub fn put(&self, node: u32, from: Box<dyn Read + Send>, to: &str, mode: u32) -> Result<()> {
        let what = What::Put {
            path: to.to_owned(),
            mode,
        };
        self.transfer(node, what, Some(from), &mut io::sink())
    }

    /// Copies a file from a node.
    ///
    /// # Errors
    /// It cannot be read, written, or the node is gone.
    pub fn pull(&self, node: u32, from: &str, to: &Path) -> Result<()> {
        let mut sink = Pulled {
            mode: Vec::new(),
            to,
            file: None,
        };
        self.transfer(node, What::Get { path: from.to_owned() }, None, &mut sink)
    }

    fn transfer(&self, node: u32, what: What, from: Option<Box<dyn Read + Send>>, to: &mut dyn Write) -> Result<()> {
        let mut stderr = Vec::new();
        let streams = Streams {
            stdin: from,
            stdout: to,
            stderr: &mut stderr,
            started: &mut |_| {},
            resized: None,
        };
        let spawn = Spawn {
            what,
            user: None,
            background: false,
            env: Vec::new(),
        };
        let reply = self.exec(node, spawn, None, streams)?;
        if reply.code != 0 {
            let why = reply
                .error
                .unwrap_or_else(|| String::from_utf8_lossy(&stderr).trim().to_owned());
            bail!("node {node}: {why}");
        }
        Ok(())
    }

    /// Waits for an event; only boots after `after_boot` count.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait(&self, node: u32, event: Event, after_boot: u32, timeout: Duration) -> Result<()> {
        self.check(&Request::Wait {
            node,
            event,
            after_boot,
            timeout,
        })
    }

    /// Plays with a node's power.
    ///
    /// # Errors
    /// The node is off, or not there.
    pub fn power(&self, node: u32, action: Power) -> Result<()> {
        self.check(&Request::Power { node, action })
    }

    /// Says whether a node is started again after a reboot.
    ///
    /// # Errors
    /// The node is not there.
    pub fn restart(&self, node: u32, on: bool) -> Result<()> {
        self.check(&Request::Restart { node, on })
    }

    /// Changes the faults from `from` to `to` and, if `both`, back.
    ///
    /// # Errors
    /// A node or link is not there.
    pub fn change(
        &self,
        from: Option<u32>,
        to: Option<u32>,
        both: bool,
        link: Option<u32>,
        change: Change,
    ) -> Result<()> {
        self.check(&Request::Change {
            from,
            to,
            both,
            link,
            change,
        })
    }

    /// Captures frames into a file, or ends the capture.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn capture(&self, path: Option<&Path>, link: Option<u32>, delivered: bool) -> Result<()> {
        let path = path.map(std::path::absolute).transpose()?;
        self.check(&Request::Capture { path, link, delivered })
    }

    /// Arms a failpoint, in the words of the kernel's file.
    ///
    /// # Errors
    /// The kernel refuses it, or has none.
    pub fn failpoint(&self, node: u32, spec: &str) -> Result<()> {
        self.put(
            node,
            Box::new(io::Cursor::new(format!("{spec}\n").into_bytes())),
            FAILPOINTS,
            0o644,
        )
    }

    /// The console log of a node.
    pub fn console(&self, node: u32) -> PathBuf {
        self.dir.join(format!("node{node}.console"))
    }
}

/// A file being pulled: four bytes of permissions, then the content.
struct Pulled<'a> {
    mode: Vec<u8>,
    to: &'a Path,
    file: Option<File>,
}

impl Write for Pulled<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            return file.write(buf);
        }
        let n = buf.len().min(4 - self.mode.len());
        self.mode.extend_from_slice(&buf[..n]);
        if let Ok(mode) = <[u8; 4]>::try_from(self.mode.as_slice()) {
            let file = File::create(self.to)?;
            // Devices such as /dev/stdout keep theirs.
            if file.metadata()?.is_file() {
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(
                    u32::from_le_bytes(mode) & 0o777,
                ))?;
            }
            self.file = Some(file);
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_above_nought() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["0", "-1", "x", "", "nan", "inf"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_window_blocks_until_it_is_given_room() {
        let window = Arc::new(Window::default());
        window.add(10);
        assert!(window.take(10));
        let other = window.clone();
        let waiter = std::thread::spawn(move || other.take(5));
        window.add(4);
        assert!(!waiter.is_finished());
        window.add(1);
        assert!(waiter.join().unwrap());
        window.close();
        assert!(!window.take(1));
    }
}
