// SPDX-License-Identifier: GPL-2.0

//! Makes the descriptor table of an image that of the current process.

use crate::home;
use crate::image;
use crate::image::Entry;
use crate::image::Reader;
use crate::proxy;
use kernel::prelude::*;
use kernel::str::CString;
use ssi::files;
use ssi::files::FileClass;
use ssi::files::FileId;
use ssi::files::FileRef;
use ssi::files::FileStat;
use ssi::files::ProxyInit;
use ssi::refusal::Refusal;
use zerocopy::FromBytes;

/// A path as the kernel takes it.
fn c_path(path: &[u8]) -> Result<CString> {
    let mut v: KVec<u8> = KVec::with_capacity(path.len() + 1, GFP_KERNEL)?;
    v.extend_from_slice(path, GFP_KERNEL)?;
    v.push(0, GFP_KERNEL)?;
    let c = kernel::str::CStr::from_bytes_with_nul(&v).map_err(|_| EINVAL)?;
    Ok(CString::try_from(c)?)
}

/// A name for a refusal.
fn name(path: &[u8]) -> &str {
    core::str::from_utf8(path).unwrap_or("?")
}

fn identity(id: &[u8; image::ID_LEN]) -> Result<FileId> {
    FileId::read_from_bytes(id).map_err(|_| EPROTO)
}

/// What a refused file is called beside its path.
fn reason(e: Error) -> &'static str {
    if e == ESTALE {
        ": not the same file there"
    } else {
        ""
    }
}

/// Opens what one descriptor is open on. `native` opens a file of this node itself instead of a proxy.
fn open(entry: &Entry<'_>, native: bool) -> Result<FileRef, (Error, &'static str)> {
    let plain = |e: Error| (e, "");
    match entry {
        // The caller looks these up.
        Entry::Same { .. } => Err(plain(EPROTO)),
        Entry::Path {
            flags,
            pos,
            id,
            path,
            ..
        } => {
            let id = identity(id).map_err(plain)?;
            let path = c_path(path).map_err(plain)?;
            FileRef::reopen(&path, *flags, *pos, &id).map_err(|e| (e, reason(e)))
        }
        Entry::Mem { flags, minor } => {
            FileRef::open_mem(*minor, *flags).map_err(|e| (e, "memory device"))
        }
        Entry::Remote(r) => {
            let class = FileClass::from_number(r.class).ok_or(plain(EPROTO))?;
            let what = match class {
                FileClass::Pipe => "pipe",
                FileClass::Tty => "terminal",
                FileClass::Socket => "socket",
                FileClass::File => "file with a shared offset",
            };
            if native && r.handle != 0 && r.home == clms::this_node().number() {
                return home::take(r.handle).map_err(|e| (e, what));
            }
            let stat = FileStat::read_from_bytes(r.stat).map_err(|_| plain(EPROTO))?;
            let init = ProxyInit {
                home: r.home,
                handle: r.handle,
                class,
                flags: r.flags,
            };
            proxy::create(init, stat).map_err(|e| (e, what))
        }
    }
}

/// Makes the descriptor table, working directory and mask of `image` those of the current process, which has no
/// descriptors and shares neither with another one. Sleeps.
///
/// On failure some descriptors may be there: the caller ends the process, which closes them, and the exporting node
/// gives back the rest.
///
/// # Errors
/// `ESTALE` a file is another one here, or a handle is gone; `EHOSTDOWN` the node of a file is down; `EPROTO` not an
/// image; `EMFILE`, `ENOMEM` and what opening gives.
pub fn import_fds(image: &[u8]) -> Result<(), Refusal> {
    import(image, true)
}

/// See [`import_fds`]. Without `native` even files of this node get proxies, for tests in one kernel.
pub(crate) fn import(image: &[u8], native: bool) -> Result<(), Refusal> {
    let malformed = |_| Refusal::new(EPROTO, b"descriptor image");
    let (head, mut records) = Reader::new(image).map_err(malformed)?;
    // All is checked before anything is opened.
    let mut check = records.clone();
    while check.next().map_err(malformed)?.is_some() {}

    let cwd = |e: Error| Refusal::from_fmt(e, format_args!("cwd {}{}", name(head.path), reason(e)));
    let id = identity(head.id).map_err(cwd)?;
    let path = c_path(head.path).map_err(cwd)?;
    files::set_cwd(&path, &id, head.umask).map_err(cwd)?;

    let mut opened: KVec<(u32, FileRef)> = KVec::new();
    while let Some(r) = records.next().map_err(malformed)? {
        let refuse = |(e, what): (Error, &str)| {
            let path = match r.entry {
                Entry::Path { path, .. } => name(path),
                Entry::Same { .. } | Entry::Mem { .. } | Entry::Remote(_) => "",
            };
            Refusal::from_fmt(e, format_args!("fd {} {}{}", r.fd, path, what))
        };
        if let Entry::Same { of } = r.entry {
            let i = opened
                .binary_search_by_key(&of, |(fd, _)| *fd)
                .map_err(|_| refuse((EPROTO, "")))?;
            if let Some((_, file)) = opened.get(i) {
                file.install(r.fd, r.cloexec).map_err(|e| refuse((e, "")))?;
            }
            continue;
        }
        let file = open(&r.entry, native).map_err(refuse)?;
        file.install(r.fd, r.cloexec).map_err(|e| refuse((e, "")))?;
        opened
            .push((r.fd, file), GFP_KERNEL)
            .map_err(|_| refuse((ENOMEM, "")))?;
    }
    Ok(())
}
