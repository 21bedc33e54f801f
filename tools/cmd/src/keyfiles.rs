// SPDX-License-Identifier: GPL-2.0

//! The cluster key's file, and those of a second key beside it while keys change: `.next` is staged, `.old` is not dropped
//! yet. Each is there as a whole or not at all, and only root reads it.

use crate::config;
use crate::failure::Failure;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Where they are.
pub(crate) struct KeyFiles {
    used: PathBuf,
}

/// What a node joins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) used: Vec<u8>,
    pub(crate) next: Option<Vec<u8>>,
    pub(crate) old: Option<Vec<u8>>,
}

fn about(path: &Path, e: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {e}", path.display()))
}

/// The secret in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| about(path, e))?;
    config::key(&bytes).map_err(|e| about(path, e))
}

/// Makes a new file that only its owner reads, with that in it.
///
/// # Errors
/// There is one already; it cannot be written.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut f| {
        f.write_all(bytes)?;
        f.sync_all()
    })
    .map_err(|e| about(path, e))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(about(path, e)),
        _ => Ok(()),
    }
}

impl KeyFiles {
    /// Beside the key's file, which may be behind links.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn beside(key: &Path) -> Result<Self, Failure> {
        let used = std::fs::canonicalize(key).map_err(|e| about(key, e))?;
        Ok(Self { used })
    }

    fn second(&self, what: &str) -> PathBuf {
        let mut path = self.used.clone().into_os_string();
        path.push(what);
        path.into()
    }

    fn next(&self) -> PathBuf {
        self.second(".next")
    }

    fn old(&self) -> PathBuf {
        self.second(".old")
    }

    /// All of them; a second one only if it is another.
    ///
    /// # Errors
    /// One cannot be read, or is none.
    pub(crate) fn read(&self) -> Result<Keys, Failure> {
        let used = read(&self.used)?;
        let second = |path: PathBuf| -> Result<Option<Vec<u8>>, Failure> {
            let is_there = path.try_exists().map_err(|e| about(&path, e))?;
            let key = is_there.then(|| read(&path)).transpose()?;
            Ok(key.filter(|k| *k != used))
        };
        let next = second(self.next())?;
        let old = second(self.old())?;
        // After a death in the middle of a switch there are both, and the old one is still the one in use.
        let old = old.filter(|_| next.is_none());
        Ok(Keys { used, next, old })
    }

    /// The one that is staged, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn staged(&self) -> Result<Option<Vec<u8>>, Failure> {
        let next = self.next();
        let is_there = next.try_exists().map_err(|e| about(&next, e))?;
        is_there.then(|| read(&next)).transpose()
    }

    /// Puts a file in the place of another one, in one step.
    fn place(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        std::fs::rename(from, to).map_err(|e| about(to, e))?;
        self.sync()
    }

    /// Removes a file for good: a key that was dropped is not back after a power cut.
    fn remove(&self, path: &Path) -> Result<(), Failure> {
        remove(path)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Failure> {
        let dir = self.used.parent().unwrap_or(Path::new("/"));
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| about(dir, e))
    }

    /// Keeps a staged key.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn stage(&self, secret: &[u8]) -> Result<(), Failure> {
        let tmp = self.second(".tmp");
        remove(&tmp)?;
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        create(&tmp, format!("{hex}\n").as_bytes())?;
        self.place(&tmp, &self.next())
    }

    /// Forgets it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn unstage(&self) -> Result<(), Failure> {
        self.remove(&self.next())
    }

    /// The staged key is the one in use; the one before is kept. There is always a key in use.
    ///
    /// # Errors
    /// None is staged; files cannot be renamed.
    pub(crate) fn switch(&self) -> Result<(), Failure> {
        let tmp = self.second(".tmp");
        remove(&tmp)?;
        create(&tmp, &std::fs::read(&self.used).map_err(|e| about(&self.used, e))?)?;
        self.place(&tmp, &self.old())?;
        self.place(&self.next(), &self.used)
    }

    /// Forgets the one before.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn drop_old(&self) -> Result<(), Failure> {
        self.remove(&self.old())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const A: &[u8] = b"the-first-key-of-all";
    const B: &[u8] = b"the-second-key-of-all";

    fn keys(used: &[u8], next: Option<&[u8]>, old: Option<&[u8]>) -> Keys {
        Keys {
            used: used.to_vec(),
            next: next.map(<[u8]>::to_vec),
            old: old.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn a_change_of_keys() {
        let dir = tempfile::tempdir().expect("a folder");
        let (real, link) = (dir.path().join("key"), dir.path().join("link"));
        std::fs::write(&real, A).expect("a key");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let files = KeyFiles::beside(&link).expect("files");
        let read = || files.read().expect("keys");
        assert_eq!(read(), keys(A, None, None));
        files.stage(B).expect("staged");
        assert_eq!(read(), keys(A, Some(B), None));
        files.unstage().expect("unstaged");
        files.unstage().expect("twice");
        assert_eq!(read(), keys(A, None, None));
        assert!(files.staged().expect("no error").is_none() && files.switch().is_err());
        files.stage(B).expect("staged");
        assert!(files.staged().expect("a key").is_some());
        // A death after the first half of a switch.
        std::fs::copy(&real, dir.path().join("key.old")).expect("a copy");
        assert_eq!(read(), keys(A, Some(B), None));
        files.switch().expect("switched");
        assert_eq!(read(), keys(B, None, Some(A)));
        for name in ["key", "key.old"] {
            let mode = dir.path().join(name).metadata().expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        files.drop_old().expect("dropped");
        assert_eq!(read(), keys(B, None, None));
        assert!(link.is_symlink());
        assert!(create(&real, A).is_err());
    }
}
