// SPDX-License-Identifier: GPL-2.0

//! Frames in a file that tcpdump and Wireshark read. Times are the host's, in nanoseconds.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    out: BufWriter<File>,
    /// Only this link.
    pub link: Option<u32>,
    /// Frames as the receivers get them, not as the senders offer them.
    pub delivered: bool,
}

/// Magic of the nanosecond form, version 2.4, no zone, snap length 256 KiB, Ethernet.
fn header() -> Vec<u8> {
    [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect()
}

fn record(at: SystemTime, frame: &[u8]) -> Vec<u8> {
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // CAST: the format has 32 bits for seconds, and frames are short.
    let words = [
        at.as_secs() as u32,
        at.subsec_nanos(),
        frame.len() as u32,
        frame.len() as u32,
    ];
    words
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .chain(frame.iter().copied())
        .collect()
}

impl Capture {
    /// Begins a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, link: Option<u32>, delivered: bool) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        out.write_all(&header())?;
        out.flush()?;
        Ok(Self { out, link, delivered })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// The disk is full, and the like.
    pub fn frame(&mut self, at: SystemTime, frame: &[u8]) -> io::Result<()> {
        self.out.write_all(&record(at, frame))
    }

    /// Brings everything into the file.
    ///
    /// # Errors
    /// The disk is full, and the like.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn golden_bytes() {
        assert_eq!(
            header(),
            *b"\x4d\x3c\xb2\xa1\x02\x00\x04\x00\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0"
        );
        let at = UNIX_EPOCH + Duration::new(1, 2);
        assert_eq!(record(at, b"abc"), *b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\x03\0\0\0abc");
    }
}
