// SPDX-License-Identifier: GPL-2.0

//! Framing and messages on the virtio-serial port, and on the control socket of a rig instance.
//!
//! A frame is `len[4] kind[1] session[4] payload[len-5]`, little-endian. Bytes of a session's streams
//! travel raw, everything else as JSON. Windows bound what is under way: the sender of a stream may
//! have [`WINDOW`] bytes unacknowledged, so a stream that nobody reads stalls only itself.

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one stream that may be under way without an [`Kind::Ack`].
pub const WINDOW: usize = 256 * 1024;

/// Largest payload that a sender makes.
pub const CHUNK: usize = 32 * 1024;

/// Largest frame that a receiver takes.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// Name of the virtio-serial port.
pub const PORT: &str = "org.openssi.rig";

/// Name of the port for fence agents: lines `ID ACTION NODE`, answered by `ID ok`, `ID on`, `ID off` or `ID error WHY`.
pub const FENCE_PORT: &str = "org.openssi.fence";

/// What a frame is. The numbers are the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Agent to host, first frame of a boot: [`Hello`].
    Hello = 1,
    /// Host to agent, answer to `Hello`: [`Config`].
    Config = 2,
    /// Agent to host: name of the boot step that begins now.
    Stage = 3,
    /// Agent to host: the boot is over, commands may come.
    Ready = 4,
    /// Agent to host: the boot failed; the reason as text.
    Failed = 5,
    /// Host to agent: begin a session: [`Spawn`].
    Spawn = 6,
    /// Agent to host: the session runs; its pid as [`Started`].
    Started = 7,
    /// Host to agent: bytes for the standard input. Empty: end of file.
    Stdin = 8,
    /// Agent to host: bytes of the standard output.
    Stdout = 9,
    /// Agent to host: bytes of the standard error.
    Stderr = 10,
    /// Agent to host, last frame of a session: [`Exit`].
    Exit = 11,
    /// Either way: so many bytes were consumed, as `u32`; the first byte after it names the stream
    /// ([`Kind::Stdin`], [`Kind::Stdout`], [`Kind::Stderr`]).
    Ack = 12,
    /// Host to agent: end every process of the session.
    Kill = 13,
    /// Host to agent: new size of the session's terminal: [`Winsize`].
    Resize = 14,
    /// Client to supervisor: a request.
    Request = 32,
    /// Supervisor to client: progress, a line of text.
    Progress = 33,
    /// Supervisor to client: the last frame of a request.
    Reply = 34,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Hello,
        Self::Config,
        Self::Stage,
        Self::Ready,
        Self::Failed,
        Self::Spawn,
        Self::Started,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Exit,
        Self::Ack,
        Self::Kill,
        Self::Resize,
        Self::Request,
        Self::Progress,
        Self::Reply,
    ];

    fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The session it belongs to; 0 is the agent itself.
    pub session: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The length is below a header or above [`MAX_FRAME`].
    Length(u32),
    /// No such kind.
    Kind(u8),
    /// The payload is not what the kind asks for.
    Payload,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(n) => write!(f, "frame length {n}"),
            Self::Kind(k) => write!(f, "frame kind {k}"),
            Self::Payload => write!(f, "frame payload"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Frame {
    /// A frame with raw bytes.
    pub fn raw(kind: Kind, session: u32, payload: &[u8]) -> Self {
        Self {
            kind,
            session,
            payload: payload.to_vec(),
        }
    }

    /// A frame with a JSON payload.
    pub fn json<T: Serialize>(kind: Kind, session: u32, value: &T) -> Self {
        // PANIC: the message types hold only strings, numbers, options and lists.
        let payload = serde_json::to_vec(value).expect("message types are always JSON");
        Self { kind, session, payload }
    }

    /// An acknowledgement of `n` bytes of `stream`.
    pub fn ack(session: u32, stream: Kind, n: usize) -> Self {
        let mut payload = vec![stream as u8];
        // CAST: n is at most WINDOW.
        payload.extend_from_slice(&(n as u32).to_le_bytes());
        Self {
            kind: Kind::Ack,
            session,
            payload,
        }
    }

    /// The JSON payload.
    ///
    /// # Errors
    /// [`Malformed::Payload`] if it is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        serde_json::from_slice(&self.payload).map_err(|_| Malformed::Payload)
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Stream and byte count of an [`Kind::Ack`].
    ///
    /// # Errors
    /// [`Malformed::Payload`] if it is none.
    pub fn parse_ack(&self) -> Result<(Kind, usize), Malformed> {
        let (stream, n) = self.payload.split_first().ok_or(Malformed::Payload)?;
        let n: [u8; 4] = n.try_into().map_err(|_| Malformed::Payload)?;
        let stream = Kind::from_wire(*stream).ok_or(Malformed::Payload)?;
        Ok((stream, u32::from_le_bytes(n) as usize))
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // CAST: senders stay below MAX_FRAME.
        out.extend_from_slice(&(self.payload.len() as u32 + 5).to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(&self.session.to_le_bytes());
        out.extend_from_slice(&self.payload);
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len() + 9);
        self.encode(&mut out);
        out
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buf: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at == self.buf.len() {
            self.buf.clear();
            self.at = 0;
        } else if self.at > MAX_FRAME {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that cannot be one; the stream is useless from there on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let rest = &self.buf[self.at..];
        let Some((len, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len);
        if len < 5 || len as usize > MAX_FRAME {
            return Err(Malformed::Length(len));
        }
        let Some(body) = rest.get(..len as usize) else {
            return Ok(None);
        };
        let kind = Kind::from_wire(body[0]).ok_or(Malformed::Kind(body[0]))?;
        let session = u32::from_le_bytes([body[1], body[2], body[3], body[4]]);
        let frame = Frame::raw(kind, session, &body[5..]);
        self.at += 4 + len as usize;
        Ok(Some(frame))
    }
}

/// A boot of a node says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Node number from the kernel command line.
    pub node: u32,
    /// Kernel release.
    pub release: String,
}

/// What the node needs to know to come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Text of `/etc/clustertab`.
    pub clustertab: String,
    /// The cluster's name.
    pub clustername: String,
    /// The cluster's key.
    pub key: String,
    /// Text of `fence.toml`, if nodes are fenced.
    pub fence: Option<String>,
    /// Load the modules that the initramfs holds.
    pub modules: bool,
    /// Run `cluster join`.
    pub join: bool,
    /// A root image is there: go to it.
    pub root: bool,
}

/// What a session runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A program.
    Exec {
        /// Name or path and its arguments.
        argv: Vec<String>,
        /// Give it a terminal of this size.
        tty: Option<Winsize>,
    },
    /// The agent's own: standard input goes to a new file.
    Put {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The agent's own: the permission bits (4 bytes, little-endian) and content of a file go to standard output.
    Get {
        /// The file.
        path: String,
    },
}

/// Begins a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// What to run.
    pub what: What,
    /// As this user; root if none.
    pub user: Option<String>,
    /// Detached: standard input empty, output into files; the session ends for the host once it has started.
    pub background: bool,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
}

/// A session's process exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its pid, which is also its session and process group.
    pub pid: i32,
    /// Where a background session writes, without the `.out` and `.err`.
    pub log: Option<String>,
}

/// A session's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, or 128 + signal.
    pub code: i32,
    /// Why it never ran.
    pub error: Option<String>,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winsize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_pinned() {
        let numbers: Vec<u8> = Kind::ALL.iter().map(|k| *k as u8).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 32, 33, 34]);
        for k in Kind::ALL {
            assert_eq!(Kind::from_wire(k as u8), Some(k));
        }
        assert_eq!(Kind::from_wire(0), None);
        assert_eq!(Kind::from_wire(15), None);
    }

    #[test]
    fn golden_bytes() {
        let f = Frame::raw(Kind::Stdin, 0x0102_0304, b"hi");
        assert_eq!(f.to_bytes(), [7, 0, 0, 0, 8, 4, 3, 2, 1, b'h', b'i']);
    }

    #[test]
    fn frames_survive_any_cut() {
        let frames = [
            Frame::raw(Kind::Stdout, 1, b""),
            Frame::raw(Kind::Stderr, u32::MAX, &[0xff; 300]),
            Frame::json(Kind::Started, 7, &Started { pid: 42, log: None }),
            Frame::ack(3, Kind::Stdin, WINDOW),
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|f| f.encode(&mut bytes));
        for step in [1, 2, 3, 5, 64, bytes.len()] {
            let mut d = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(step) {
                d.feed(piece);
                while let Some(f) = d.next_frame().unwrap() {
                    got.push(f);
                }
            }
            assert_eq!(got, frames, "pieces of {step}");
        }
    }

    #[test]
    fn hostile_lengths_and_kinds_are_refused() {
        for (bytes, want) in [
            (vec![4, 0, 0, 0], Malformed::Length(4)),
            (vec![0, 0, 0, 0], Malformed::Length(0)),
            (vec![0xff, 0xff, 0xff, 0xff], Malformed::Length(u32::MAX)),
            (vec![5, 0, 0, 0, 99, 0, 0, 0, 0], Malformed::Kind(99)),
        ] {
            let mut d = Decoder::default();
            d.feed(&bytes);
            assert_eq!(d.next_frame(), Err(want));
        }
    }

    #[test]
    fn acks_round_trip() {
        assert_eq!(Frame::ack(3, Kind::Stderr, 77).parse_ack(), Ok((Kind::Stderr, 77)));
        assert_eq!(Frame::raw(Kind::Ack, 0, &[9, 1]).parse_ack(), Err(Malformed::Payload));
        assert_eq!(Frame::raw(Kind::Ack, 0, &[]).parse_ack(), Err(Malformed::Payload));
        assert_eq!(
            Frame::raw(Kind::Ack, 0, &[99, 1, 0, 0, 0]).parse_ack(),
            Err(Malformed::Payload)
        );
    }

    #[test]
    fn a_long_stream_does_not_grow_the_decoder() {
        let mut d = Decoder::default();
        let bytes = Frame::raw(Kind::Stdout, 1, &[1; CHUNK]).to_bytes();
        for i in 0..1000 {
            // Never aligned with the frames: the tail of one stays over.
            let cut = i % bytes.len();
            d.feed(&bytes[..cut]);
            d.feed(&bytes[cut..]);
            d.feed(&bytes[..5]);
            assert!(d.next_frame().unwrap().is_some());
            d.feed(&bytes[5..]);
            assert!(d.next_frame().unwrap().is_some());
        }
        assert!(d.buf.capacity() < 4 * MAX_FRAME);
    }
}
