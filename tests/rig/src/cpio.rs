// SPDX-License-Identifier: GPL-2.0

//! Writes an initramfs: the "newc" form of `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    out: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        // CAST: an initramfs file is far below 4 GiB.
        let (size, name_size) = (data.len() as u32, name.len() as u32 + 1);
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.out.extend_from_slice(b"070701");
        for field in fields {
            self.out.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    /// Adds a directory.
    pub fn dir(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), b"");
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, 0o100_000 | mode, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120_777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.entry(name, 0o020_000 | mode, (major, minor), b"");
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    #[test]
    fn entries_are_padded_and_ended() {
        let mut a = Archive::default();
        a.file("ab", 0o644, b"x");
        let bytes = a.finish();
        assert!(bytes.starts_with(b"07070100000001000081A4"));
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[110..117], b"ab\0\0\0\0x".get(..7).unwrap_or_default());
        assert!(bytes.windows(11).any(|w| w == b"TRAILER!!!\0"));
    }

    #[test]
    fn cpio_reads_it() {
        let mut a = Archive::default();
        a.dir("dev");
        a.device("dev/console", 0o600, 5, 1);
        a.file("init", 0o755, &[7; 1001]);
        a.link("bin", "usr/bin");
        let mut child = Command::new("cpio")
            .arg("-tv")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&a.finish()).unwrap();
        let list = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        for want in [
            "drwxr-xr-x",
            "crw-------",
            "5,   1",
            "-rwxr-xr-x",
            "1001",
            "bin -> usr/bin",
        ] {
            assert!(list.contains(want), "{want} in {list}");
        }
        assert_eq!(list.lines().count(), 4);
    }
}
