// SPDX-License-Identifier: GPL-2.0

//! The descriptor table of the current process, as bytes.

use crate::home;
use crate::image;
use crate::image::Entry;
use crate::image::Head;
use crate::image::Reader;
use crate::image::Record;
use crate::image::Remote;
use crate::proxy;
use kernel::prelude::*;
use ssi::files;
use ssi::files::Described;
use ssi::files::Describer;
use ssi::files::Fd;
use ssi::files::FileRef;
use ssi::files::FileStat;
use ssi::ids::NodeId;
use ssi::refusal::Refusal;
use zerocopy::IntoBytes;

/// Most bytes of an image: what one message carries.
const MAX_IMAGE: usize = 1 << 20;

/// An image that grows.
struct Out(KVVec<u8>);

impl image::Sink for Out {
    type Error = Error;

    fn put(&mut self, bytes: &[u8]) -> Result {
        if self.0.len() + bytes.len() > MAX_IMAGE {
            return Err(E2BIG);
        }
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
    }
}

/// A handle that is given back unless the image that names it is finished.
struct Offered {
    home: NodeId,
    handle: u64,
}

impl Offered {
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        give_back(self.home, self.handle);
    }
}

/// Gives back a handle that this node's image names.
fn give_back(home: NodeId, handle: u64) {
    if home == clms::this_node() {
        home::withdraw(handle);
    } else if handle != 0 {
        proxy::give_back(home, handle);
    }
}

/// What is known while a table is exported.
struct Exporter {
    describer: Describer,
    out: Out,
    handles: KVec<Offered>,
    seen: KVec<(FileRef, u32)>,
}

impl Exporter {
    fn handle(&mut self, home: NodeId, handle: u64) -> Result {
        let offered = Offered { home, handle };
        // On failure `offered` is dropped, and the handle given back.
        self.handles.push(offered, GFP_KERNEL)?;
        Ok(())
    }

    fn remote(
        &mut self,
        fd: &Fd,
        home: NodeId,
        handle: u64,
        of: (files::FileClass, u32, FileStat),
    ) -> Result {
        let (class, flags, stat) = of;
        if handle != 0 {
            self.handle(home, handle)?;
        }
        let mut bytes = [0; image::STAT_LEN];
        stat.write_to(&mut bytes).map_err(|_| EINVAL)?;
        let remote = Remote {
            flags,
            home: home.number(),
            class: class.number(),
            handle,
            stat: &bytes,
        };
        self.write(fd, Entry::Remote(remote))
    }

    fn write(&mut self, fd: &Fd, entry: Entry<'_>) -> Result {
        image::write_record(
            &mut self.out,
            &Record {
                fd: fd.number,
                cloexec: fd.cloexec,
                entry,
            },
        )
    }

    fn fd(&mut self, fd: &Fd) -> Result<(), Refusal> {
        let refuse = |e: Error| Refusal::from_fmt(e, format_args!("fd {}", fd.number));
        if let Some((_, of)) = self.seen.iter().find(|(f, _)| *f == fd.file) {
            let of = *of;
            return self.write(fd, Entry::Same { of }).map_err(refuse);
        }
        // `describer` is borrowed by what it describes; both are parts of `self`.
        let record = |out: &mut Out, entry| {
            image::write_record(
                out,
                &Record {
                    fd: fd.number,
                    cloexec: fd.cloexec,
                    entry,
                },
            )
        };
        let stays = match self.describer.fd(fd)? {
            Described::Path {
                path,
                id,
                flags,
                pos,
            } => {
                let mut bytes = [0; image::ID_LEN];
                id.write_to(&mut bytes)
                    .map_err(|_| refuse(EINVAL))
                    .and_then(|()| {
                        let entry = Entry::Path {
                            flags,
                            pos,
                            id: &bytes,
                            path,
                        };
                        record(&mut self.out, entry).map_err(refuse)
                    })?;
                None
            }
            Described::Mem { minor, flags } => {
                record(&mut self.out, Entry::Mem { flags, minor }).map_err(refuse)?;
                None
            }
            Described::Stays { class, flags, stat } => Some((None, class, flags, stat)),
            Described::Proxy {
                home,
                handle,
                class,
                flags,
                stat,
            } => Some((Some((home, handle)), class, flags, stat)),
        };
        match stays {
            None => {}
            Some((None, class, flags, stat)) => {
                let handle = home::offer(fd.file.clone(), class).map_err(refuse)?;
                self.remote(fd, clms::this_node(), handle, (class, flags, stat))
                    .map_err(refuse)?;
            }
            Some((Some((home, handle)), class, flags, stat)) => {
                let home = NodeId::new(home).ok_or_else(|| refuse(EIO))?;
                // The file of a node that is gone stays so wherever its process goes.
                let handle = match handle {
                    0 => 0,
                    h => match proxy::offer_again(home, h) {
                        Ok(h) => h,
                        Err(e) if e == EHOSTDOWN || e == ESTALE => 0,
                        Err(e) => return Err(refuse(e)),
                    },
                };
                self.remote(fd, home, handle, (class, flags, stat))
                    .map_err(refuse)?;
            }
        }
        self.seen
            .push((fd.file.clone(), fd.number), GFP_KERNEL)
            .map_err(|_| refuse(ENOMEM))
    }
}

/// The current process's descriptor table, working directory and mask as an image. Sleeps.
///
/// Without `keep_cloexec`, as for a new program, descriptors that exec closes are left out. Every handle in the image
/// is counted on its home node: the image must be imported once, or given to [`abort_export`].
///
/// # Errors
/// `ESTALE` a file that only this node has; `EOPNOTSUPP` a kind that does not move, or a lock or owner on a file;
/// `EBUSY` a table, directory or offset shared with a process that stays; `EXDEV` another root than init's;
/// `E2BIG` the image does not fit a message; `ENOMEM`.
pub fn export_fds(keep_cloexec: bool) -> Result<KVVec<u8>, Refusal> {
    let plain = |e: Error| Refusal::new(e, b"descriptor table");
    let mut x = Exporter {
        describer: Describer::new().map_err(plain)?,
        out: Out(KVVec::new()),
        handles: KVec::new(),
        seen: KVec::new(),
    };
    x.describer.check()?;
    {
        let (path, id, umask) = x.describer.cwd()?;
        let mut bytes = [0; image::ID_LEN];
        id.write_to(&mut bytes).map_err(|_| plain(EINVAL))?;
        let head = Head {
            umask,
            id: &bytes,
            path,
        };
        image::write_head(&mut x.out, &head).map_err(plain)?;
    }
    let mut n_fds = 0;
    let mut from = 0;
    while let Some(fd) = files::next_fd(from) {
        from = fd.number + 1;
        if fd.cloexec && !keep_cloexec {
            continue;
        }
        n_fds += 1;
        if n_fds > image::MAX_FDS {
            return Err(plain(E2BIG));
        }
        x.fd(&fd)?;
    }
    image::write_end(&mut x.out).map_err(plain)?;
    for h in x.handles {
        h.keep();
    }
    Ok(x.out.0)
}

/// Gives back the handles of an image that this node exported and that was not, or not wholly, imported. Sleeps.
pub fn abort_export(image: &[u8]) {
    let Ok((_, mut r)) = Reader::new(image) else {
        return;
    };
    while let Ok(Some(record)) = r.next() {
        if let Entry::Remote(remote) = record.entry {
            if let Some(home) = NodeId::new(remote.home) {
                give_back(home, remote.handle);
            }
        }
    }
}
