// SPDX-License-Identifier: GPL-2.0

//! The virtio-serial port to the host.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use rig_agent::wire::Decoder;
use rig_agent::wire::Frame;
use rig_agent::wire::Kind;
use rig_agent::wire::PORT;

/// The open port. Blocking until [`Port::set_nonblocking`].
pub(crate) struct Port {
    file: File,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Port {
    /// Finds the port by its name in sysfs and opens it.
    pub(crate) fn open() -> Result<Self, String> {
        let dir = "/sys/class/virtio-ports";
        let entries = std::fs::read_dir(dir).map_err(|e| format!("{dir}: {e}"))?;
        for entry in entries.flatten() {
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                let dev = format!("/dev/{}", entry.file_name().to_string_lossy());
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&dev)
                    .map_err(|e| format!("{dev}: {e}"))?;
                return Ok(Self {
                    file,
                    decoder: Decoder::default(),
                    out: Vec::new(),
                });
            }
        }
        Err(format!("{dir}: no port {PORT}"))
    }

    /// Sends one frame and waits until it is out. Only while blocking.
    pub(crate) fn send_now(&mut self, frame: &Frame) -> io::Result<()> {
        self.file.write_all(&frame.to_bytes())
    }

    /// Reports a boot that failed. Only while blocking.
    pub(crate) fn fail(&mut self, why: &str) {
        if let Err(e) = self.send_now(&Frame::raw(Kind::Failed, 0, why.as_bytes())) {
            eprintln!("rig-agent: port: {e}");
        }
    }

    /// Names the boot step that begins. Only while blocking.
    pub(crate) fn stage(&mut self, name: &str) -> Result<(), String> {
        self.send_now(&Frame::raw(Kind::Stage, 0, name.as_bytes()))
            .map_err(|e| format!("port: {e}"))
    }

    /// Waits for one frame. Only while blocking.
    pub(crate) fn receive_now(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|e| format!("port: {e}"))? {
                return Ok(frame);
            }
            self.fill().map_err(|e| format!("port: {e}"))?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buf = [0; 65536];
        match self.file.read(&mut buf)? {
            // The host's side is closed: only while the host is dying, and then this guest dies too.
            0 => std::thread::sleep(std::time::Duration::from_millis(50)),
            n => self.decoder.feed(&buf[..n]),
        }
        Ok(())
    }

    pub(crate) fn set_nonblocking(&self) -> Result<(), String> {
        nix::fcntl::fcntl(&self.file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map(|_| ())
            .map_err(|e| format!("port: {e}"))
    }

    /// Queues a frame.
    pub(crate) fn queue(&mut self, frame: &Frame) {
        frame.encode(&mut self.out);
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes what can be written without waiting.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.file.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads what is there without waiting, and gives the frames in it.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<Frame>> {
        match self.fill() {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            other => other?,
        }
        let mut frames = Vec::new();
        while let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
