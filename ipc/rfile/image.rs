// SPDX-License-Identifier: GPL-2.0

//! The image of a descriptor table: bytes that one node writes and another, which does not trust them, reads.
//!
//! Pure: only `core`. Layout, little-endian, in this order:
//!
//! ```text
//! head   magic[4]="SSIF" version[4]=1 umask[4] id[80] path[s]
//! fd     fd[4] cloexec[1] kind[1] ...         any number of times, numbers rising
//!   same     kind=1  of[4]                    an earlier descriptor of the same open file
//!   path     kind=2  flags[4] pos[8] id[80] path[s]
//!   mem      kind=3  flags[4] minor[4]
//!   remote   kind=4  flags[4] home[4] class[4] handle[8] stat[96]
//! end    fd[4]=0xffffffff
//! ```
//!
//! A string is `len[2]` and that many bytes, none of them zero.

/// Bytes of an identity.
pub(crate) const ID_LEN: usize = 80;
/// Bytes of attributes.
pub(crate) const STAT_LEN: usize = 96;
/// Bytes of the longest path.
pub(crate) const MAX_PATH: usize = 4095;
/// Most descriptors in an image.
pub(crate) const MAX_FDS: usize = 65536;

const MAGIC: [u8; 4] = *b"SSIF";
const VERSION: u32 = 1;
const END: u32 = u32::MAX;
const KIND_SAME: u8 = 1;
const KIND_PATH: u8 = 2;
const KIND_MEM: u8 = 3;
const KIND_REMOTE: u8 = 4;

/// Start of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// Mask for new files.
    pub(crate) umask: u32,
    /// Identity of the working directory.
    pub(crate) id: &'a [u8; ID_LEN],
    /// Its path.
    pub(crate) path: &'a [u8],
}

/// One descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Its number.
    pub(crate) fd: u32,
    /// Whether exec closes it.
    pub(crate) cloexec: bool,
    /// What it is open on.
    pub(crate) entry: Entry<'a>,
}

/// What a descriptor is open on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// The open file of an earlier descriptor.
    Same {
        /// That descriptor.
        of: u32,
    },
    /// A file that the reader must have as well.
    Path {
        /// `f_flags`.
        flags: u32,
        /// Offset.
        pos: i64,
        /// What it must be.
        id: &'a [u8; ID_LEN],
        /// Where.
        path: &'a [u8],
    },
    /// `/dev/null` and its like.
    Mem {
        /// `f_flags`.
        flags: u32,
        /// Minor number.
        minor: u32,
    },
    /// A file that stays where it is.
    Remote(Remote<'a>),
}

/// A file that stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remote<'a> {
    /// `f_flags`.
    pub(crate) flags: u32,
    /// Its node.
    pub(crate) home: u32,
    /// What it is.
    pub(crate) class: u32,
    /// Its name there; 0 if that node is gone.
    pub(crate) handle: u64,
    /// Its attributes.
    pub(crate) stat: &'a [u8; STAT_LEN],
}

/// Where an image is written to.
pub(crate) trait Sink {
    /// Why it may refuse.
    type Error;
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// A string that does not fit its length field is cut; no path is that long.
fn put_str<S: Sink>(s: &mut S, text: &[u8]) -> Result<(), S::Error> {
    let text = text.get(..MAX_PATH).unwrap_or(text);
    // CAST: at most `MAX_PATH`.
    s.put(&(text.len() as u16).to_le_bytes())?;
    s.put(text)
}

/// Writes the start of an image.
pub(crate) fn write_head<S: Sink>(s: &mut S, h: &Head<'_>) -> Result<(), S::Error> {
    s.put(&MAGIC)?;
    s.put(&VERSION.to_le_bytes())?;
    s.put(&h.umask.to_le_bytes())?;
    s.put(h.id)?;
    put_str(s, h.path)
}

/// Writes one descriptor.
pub(crate) fn write_record<S: Sink>(s: &mut S, r: &Record<'_>) -> Result<(), S::Error> {
    s.put(&r.fd.to_le_bytes())?;
    s.put(&[u8::from(r.cloexec)])?;
    match r.entry {
        Entry::Same { of } => {
            s.put(&[KIND_SAME])?;
            s.put(&of.to_le_bytes())
        }
        Entry::Path {
            flags,
            pos,
            id,
            path,
        } => {
            s.put(&[KIND_PATH])?;
            s.put(&flags.to_le_bytes())?;
            s.put(&pos.to_le_bytes())?;
            s.put(id)?;
            put_str(s, path)
        }
        Entry::Mem { flags, minor } => {
            s.put(&[KIND_MEM])?;
            s.put(&flags.to_le_bytes())?;
            s.put(&minor.to_le_bytes())
        }
        Entry::Remote(r) => {
            s.put(&[KIND_REMOTE])?;
            s.put(&r.flags.to_le_bytes())?;
            s.put(&r.home.to_le_bytes())?;
            s.put(&r.class.to_le_bytes())?;
            s.put(&r.handle.to_le_bytes())?;
            s.put(r.stat)
        }
    }
}

/// Writes the end of an image.
pub(crate) fn write_end<S: Sink>(s: &mut S) -> Result<(), S::Error> {
    s.put(&END.to_le_bytes())
}

/// Not an image that this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads an image. After an error it reads nothing more.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    n_fds: usize,
    next_fd: u32,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// Starts to read.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn new(image: &'a [u8]) -> Result<(Head<'a>, Self), Malformed> {
        let mut r = Self {
            rest: image,
            n_fds: 0,
            next_fd: 0,
            ended: false,
        };
        if r.array()? != &MAGIC || r.u32()? != VERSION {
            return Err(Malformed);
        }
        let head = Head {
            umask: r.u32()?,
            id: r.array()?,
            path: r.path()?,
        };
        Ok((head, r))
    }

    /// The next descriptor, or `None` after the last.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn next(&mut self) -> Result<Option<Record<'a>>, Malformed> {
        if self.ended {
            return Ok(None);
        }
        // What follows a malformed record is not looked at.
        self.ended = true;
        let fd = self.u32()?;
        if fd == END {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(Malformed)
            };
        }
        // Rising numbers: none twice.
        if fd < self.next_fd || fd > i32::MAX as u32 || self.n_fds == MAX_FDS {
            return Err(Malformed);
        }
        let [cloexec, kind] = *self.array()?;
        if cloexec > 1 {
            return Err(Malformed);
        }
        let entry = match kind {
            KIND_SAME => {
                let of = self.u32()?;
                if of >= fd {
                    return Err(Malformed);
                }
                Entry::Same { of }
            }
            KIND_PATH => Entry::Path {
                flags: self.u32()?,
                pos: i64::from_le_bytes(*self.array()?),
                id: self.array()?,
                path: self.path()?,
            },
            KIND_MEM => Entry::Mem {
                flags: self.u32()?,
                minor: self.u32()?,
            },
            KIND_REMOTE => Entry::Remote(Remote {
                flags: self.u32()?,
                home: self.u32()?,
                class: self.u32()?,
                handle: u64::from_le_bytes(*self.array()?),
                stat: self.array()?,
            }),
            _ => return Err(Malformed),
        };
        self.n_fds += 1;
        self.next_fd = fd + 1;
        self.ended = false;
        Ok(Some(Record {
            fd,
            cloexec: cloexec == 1,
            entry,
        }))
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (a, b) = self.rest.split_at_checked(n).ok_or(Malformed)?;
        self.rest = b;
        Ok(a)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    /// An absolute path without a zero byte.
    fn path(&mut self) -> Result<&'a [u8], Malformed> {
        let n = usize::from(u16::from_le_bytes(*self.array()?));
        if n > MAX_PATH {
            return Err(Malformed);
        }
        let p = self.bytes(n)?;
        if p.first() != Some(&b'/') || p.contains(&0) {
            return Err(Malformed);
        }
        Ok(p)
    }
}
