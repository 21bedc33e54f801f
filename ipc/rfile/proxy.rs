// SPDX-License-Identifier: GPL-2.0

//! The node where a process uses a file of another node.

use crate::home::POLL_READ;
use crate::home::POLL_WRITE;
use crate::ioctls;
use crate::ioctls::Arg;
use crate::proto;
use crate::proto::*;
use ics::CallError;
use kernel::iov::IovIterDest;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::uaccess::UserPtr;
use kernel::uaccess::UserSlice;
use ssi::files;
use ssi::files::Bell;
use ssi::files::FileClass;
use ssi::files::FileRef;
use ssi::files::FileStat;
use ssi::files::Poll;
use ssi::files::ProxyInit;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::FromBytes;

/// What a file whose node is gone is ready for: everything ends at once.
const POLL_DEAD: u32 = 0x01 | 0x04 | 0x08 | 0x10 | 0x40 | 0x100;
/// What a regular file is ready for.
const POLL_FILE: u32 = 0x01 | 0x04 | 0x40 | 0x100;

/// How often a stream may say "ready" and then "not now" before the next try waits a little: another user was faster,
/// or holds a lock whose release is no event.
const QUICK_TRIES: u32 = 3;
/// That wait.
const SLOW_TRY_MS: u32 = 10;

/// What is behind a proxy file.
pub(crate) struct Proxy {
    home: NodeId,
    handle: u64,
    class: FileClass,
    /// Attributes of a stream when it was exported.
    stat: FileStat,
    bell: Bell,
    /// Its node, or its handle, is gone.
    dead: Atomic<bool>,
}

kernel::sync::global_lock! {
    /// Proxies of this node, by home and handle. Lock: `rfile::proxies`, mutex; never held across a message.
    // SAFETY: `init()` is called before anything else in this module.
    unsafe(uninit) static PROXIES: Mutex<Option<RBTree<(u32, u64), Arc<Proxy>>>> = None;
}

/// Prepares the table; once, when the module is loaded.
///
/// # Safety
/// Not twice.
pub(crate) unsafe fn init() {
    // SAFETY: Called once, as this function's contract says.
    unsafe { PROXIES.init() };
}

/// A stream may have become ready.
pub(crate) fn event(home: NodeId, handle: u64) {
    let table = PROXIES.lock();
    // An event may come after the proxy is closed.
    if let Some(p) = table.as_ref().and_then(|t| t.get(&(home.number(), handle))) {
        p.bell.ring();
    }
}

/// The files of a dead node end.
pub(crate) fn node_down(dead: NodeId) {
    let table = PROXIES.lock();
    for ((home, _), p) in table.iter().flat_map(|t| t.iter()) {
        if *home == dead.number() {
            p.die();
        }
    }
}

/// All files of other nodes end: this node leaves.
pub(crate) fn end_all() {
    let all = {
        let mut table = PROXIES.lock();
        for (_, p) in table.iter().flat_map(|t| t.iter()) {
            p.die();
        }
        table.take()
    };
    drop(all);
}

/// How many proxies there are.
pub(crate) fn count() -> usize {
    PROXIES.lock().as_ref().map_or(0, |t| t.iter().count())
}

/// Tells a node that a handle is not needed.
pub(crate) fn give_back(home: NodeId, handle: u64) {
    let req = ReleaseReq {
        handle: Le64::new(handle),
    };
    // If it fails, that node is dead, and its handles with it.
    let _ = ics::call::<Release>(home, &req, &[]);
}

/// Claims a handle and makes a file that stands for it. A handle of 0 gives a file whose node is gone.
///
/// # Errors
/// `ESTALE` if the handle is gone; `EHOSTDOWN` if its node is; `EPROTO` if it is something else there; `ENOMEM`.
pub(crate) fn create(init: ProxyInit, stat: FileStat) -> Result<FileRef> {
    let home = NodeId::new(init.home).ok_or(EPROTO)?;
    let dead = init.handle == 0;
    let proxy = Arc::new(
        Proxy {
            home,
            handle: init.handle,
            class: init.class,
            stat,
            bell: Bell::new()?,
            dead: Atomic::new(dead),
        },
        GFP_KERNEL,
    )?;
    if !dead {
        proxy.enter()?;
        if let Err(e) = proxy.claim() {
            proxy.leave();
            return Err(e);
        }
    }
    files::create_proxy(
        proxy.clone(),
        kernel::module::this_module::<crate::Rfile>(),
        init,
    )
    .inspect_err(|_| files::Proxy::release(&*proxy))
}

/// Has the home of a proxy here make another handle for the same file.
///
/// # Errors
/// `EHOSTDOWN` if that node is gone; `ESTALE` if the handle is.
pub(crate) fn offer_again(home: NodeId, handle: u64) -> Result<u64> {
    let req = OfferReq {
        handle: Le64::new(handle),
    };
    match ics::call::<Offer>(home, &req, &[]) {
        Ok((rep, _)) => Ok(rep.handle.get()),
        Err(e) => Err(e.to_errno()),
    }
}

/// Ends the wait of a user for as long as it takes to try again.
struct Tries(u32);

impl Proxy {
    fn enter(self: &Arc<Self>) -> Result {
        let room = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let node = room.into_node((self.home.number(), self.handle), self.clone());
        let mut table = PROXIES.lock();
        let table = table.get_or_insert_with(RBTree::new);
        // A handle has one holder; an image that names it twice is malformed.
        if table.get(&(self.home.number(), self.handle)).is_some() {
            return Err(ESTALE);
        }
        table.insert(node);
        Ok(())
    }

    fn leave(&self) {
        let gone = PROXIES
            .lock()
            .as_mut()
            .and_then(|t| t.remove(&(self.home.number(), self.handle)));
        drop(gone);
    }

    fn claim(&self) -> Result {
        let req = ClaimReq {
            handle: Le64::new(self.handle),
        };
        match ics::call::<Claim>(self.home, &req, &[]) {
            Ok((rep, _)) if rep.class.get() == self.class.number() => Ok(()),
            Ok(_) => {
                give_back(self.home, self.handle);
                Err(EPROTO)
            }
            Err(e) => Err(e.to_errno()),
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    fn die(&self) {
        self.dead.store(true, Relaxed);
        self.bell.ring();
    }

    /// What a failed call means for the user.
    fn failed(&self, e: CallError) -> Error {
        match e {
            CallError::Down(_) => {
                self.die();
                EIO
            }
            CallError::Remote(e) => {
                if e == ESTALE {
                    self.die();
                }
                e
            }
            CallError::Interrupted => ERESTARTSYS,
            CallError::Local(e) => e,
            CallError::Moved(_) | CallError::Protocol => EIO,
        }
    }

    fn dead_read(&self) -> Result<usize> {
        match self.class {
            FileClass::Pipe | FileClass::Socket => Ok(0),
            FileClass::Tty | FileClass::File => Err(EIO),
        }
    }

    fn dead_write(&self) -> Error {
        match self.class {
            FileClass::Pipe | FileClass::Socket => self.broken(),
            FileClass::Tty | FileClass::File => EIO,
        }
    }

    /// Nobody reads.
    fn broken(&self) -> Error {
        files::sigpipe();
        EPIPE
    }

    /// Waits until the stream may have become ready, after a try that found it was not. `number` is from before it.
    fn wait(&self, tries: &mut Tries, number: u64, ready: bool) -> Result {
        if !ready {
            tries.0 = 0;
            return self.bell.wait(number, 0);
        }
        tries.0 += 1;
        if tries.0 <= QUICK_TRIES {
            return Ok(());
        }
        self.bell.wait(number, SLOW_TRY_MS)
    }

    fn read_stream(&self, nonblock: bool, to: &mut IovIterDest<'_>) -> Result<usize> {
        let mut tries = Tries(0);
        loop {
            let number = self.bell.number();
            if self.is_dead() {
                return self.dead_read();
            }
            let req = ReadReq {
                handle: Le64::new(self.handle),
                // CAST: at most `CHUNK`.
                len: Le32::new(to.len().min(CHUNK) as u32),
            };
            let (rep, data) = match ics::call::<Read>(self.home, &req, &[]) {
                Ok(r) => r,
                Err(e) => {
                    let e = self.failed(e);
                    if self.is_dead() {
                        continue;
                    }
                    return Err(e);
                }
            };
            if rep.again.get() == 0 {
                // More than was asked for cannot be put anywhere.
                let n = to.copy_to_iter(&data);
                return if n == 0 && !data.is_empty() {
                    Err(EFAULT)
                } else {
                    Ok(n)
                };
            }
            if nonblock {
                return Err(EAGAIN);
            }
            self.wait(&mut tries, number, rep.mask.get() & POLL_READ != 0)?;
        }
    }

    /// Writes one piece to a stream, waiting as often as needed. Returns what was written and why it ended early.
    fn write_piece(&self, nonblock: bool, mut data: &[u8]) -> (usize, Result) {
        let mut tries = Tries(0);
        let mut done = 0;
        while !data.is_empty() {
            let number = self.bell.number();
            if self.is_dead() {
                return (done, Err(self.dead_write()));
            }
            let req = WriteReq {
                handle: Le64::new(self.handle),
            };
            let rep = match ics::call::<Write>(self.home, &req, data) {
                Ok((rep, _)) => rep,
                Err(e) => {
                    let e = self.failed(e);
                    if self.is_dead() {
                        continue;
                    }
                    let e = if e == EPIPE { self.broken() } else { e };
                    return (done, Err(e));
                }
            };
            // CAST: 32 bits fit; a peer that claims more than it was given has written it all.
            let n = (rep.written.get() as usize).min(data.len());
            done += n;
            data = data.get(n..).unwrap_or(&[]);
            if rep.again.get() == 0 {
                tries.0 = 0;
                // A write that takes nothing and does not say "again" would never end.
                if n == 0 {
                    return (done, Ok(()));
                }
                continue;
            }
            if nonblock {
                return (done, Err(EAGAIN));
            }
            let ready = rep.mask.get() & POLL_WRITE != 0;
            if let Err(e) = self.wait(&mut tries, number, ready) {
                return (done, Err(e));
            }
        }
        (done, Ok(()))
    }

    fn read_file(&self, pos: Option<u64>, to: &mut IovIterDest<'_>) -> Result<usize> {
        let mut done = 0;
        while !to.is_empty() {
            let want = to.len().min(CHUNK);
            let req = PreadReq {
                handle: Le64::new(self.handle),
                pos: self.at(pos, done),
                // CAST: at most `CHUNK`.
                len: Le32::new(want as u32),
            };
            let data = match self.call_file::<Pread>(&req, &[]) {
                Ok((_, data)) => data,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let n = to.copy_to_iter(&data);
            if n == 0 && !data.is_empty() && done == 0 {
                return Err(EFAULT);
            }
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    fn at(&self, pos: Option<u64>, done: usize) -> Le64 {
        // CAST: lengths fit; an offset that overflows is refused by the file.
        Le64::new(pos.map_or(OWN_OFFSET, |p| p.saturating_add(done as u64)))
    }

    fn call_file<O: ics::Op>(&self, req: &O::Req, tail: &[u8]) -> Result<(O::Rep, KVVec<u8>)> {
        if self.is_dead() {
            return Err(EIO);
        }
        ics::call::<O>(self.home, req, tail).map_err(|e| self.failed(e))
    }
}

impl files::Proxy for Proxy {
    fn read(&self, nonblock: bool, pos: Option<u64>, to: &mut IovIterDest<'_>) -> Result<usize> {
        match self.class {
            FileClass::File => self.read_file(pos, to),
            FileClass::Pipe | FileClass::Tty | FileClass::Socket => self.read_stream(nonblock, to),
        }
    }

    fn write(
        &self,
        nonblock: bool,
        pos: Option<u64>,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let mut done = 0;
        let mut buf = KVVec::from_elem(0u8, from.len().min(CHUNK), GFP_KERNEL)?;
        while !from.is_empty() {
            let n = from.copy_from_iter(&mut buf);
            let data = buf.get(..n).unwrap_or(&[]);
            if data.is_empty() {
                return if done > 0 { Ok(done) } else { Err(EFAULT) };
            }
            let (m, end) = if self.class == FileClass::File {
                let req = PwriteReq {
                    handle: Le64::new(self.handle),
                    pos: self.at(pos, done),
                };
                match self.call_file::<Pwrite>(&req, data) {
                    // CAST: 32 bits fit.
                    Ok((rep, _)) => ((rep.written.get() as usize).min(n), Ok(())),
                    Err(e) => (0, Err(e)),
                }
            } else {
                self.write_piece(nonblock, data)
            };
            done += m;
            match end {
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
                Ok(()) if m < n => break,
                Ok(()) => {}
            }
        }
        Ok(done)
    }

    fn poll(&self, poll: Poll<'_>) -> u32 {
        poll.register(&self.bell);
        if self.class == FileClass::File {
            return POLL_FILE;
        }
        if !self.is_dead() {
            let req = PollReq {
                handle: Le64::new(self.handle),
            };
            match ics::call::<proto::Poll>(self.home, &req, &[]) {
                Ok((rep, _)) => return rep.mask.get(),
                // Whatever it is, the user learns it from the call that this poll promises.
                Err(e) => drop(self.failed(e)),
            }
        }
        POLL_DEAD
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<usize> {
        let kind = ioctls::argument(cmd).ok_or(ENOTTY)?;
        let mut buf = [0u8; ioctls::MAX_ARG];
        let (value, input, output) = match kind {
            Arg::Value => (arg, 0, 0),
            // CAST: table values, at most `MAX_ARG`.
            Arg::Buf { input, output } => (0, input as usize, output as usize),
        };
        let data = buf.get_mut(..input).ok_or(EINVAL)?;
        if input > 0 {
            UserSlice::new(UserPtr::from_addr(arg), input)
                .reader()
                .read_slice(data)?;
        }
        let req = IoctlReq {
            handle: Le64::new(self.handle),
            cmd: Le32::new(cmd),
            session: Le32::new(files::session()),
            // CAST: `usize` has 64 bits at most.
            arg: Le64::new(value as u64),
        };
        let (rep, out) = self.call_file::<Ioctl>(&req, data)?;
        if output > 0 {
            let out = out.get(..output).ok_or(EIO)?;
            UserSlice::new(UserPtr::from_addr(arg), output)
                .writer()
                .write_slice(out)?;
        }
        // CAST: 31 bits; a peer cannot make it an error.
        Ok((rep.ret.get() & 0x7fff_ffff) as usize)
    }

    fn llseek(&self, to: i64, whence: u32) -> Result<u64> {
        if self.class != FileClass::File {
            return Err(ESPIPE);
        }
        let req = SeekReq {
            handle: Le64::new(self.handle),
            // CAST: offsets cross as two's complement.
            to: Le64::new(to as u64),
            whence: Le32::new(whence),
        };
        Ok(self.call_file::<Seek>(&req, &[])?.0.pos.get())
    }

    fn fsync(&self, data_only: bool) -> Result {
        let req = FsyncReq {
            handle: Le64::new(self.handle),
            data_only: Le32::new(data_only.into()),
        };
        self.call_file::<Fsync>(&req, &[]).map(drop)
    }

    fn stat(&self) -> Result<FileStat> {
        if self.class != FileClass::File {
            return Ok(self.stat);
        }
        let req = StatReq {
            handle: Le64::new(self.handle),
        };
        let (_, tail) = self.call_file::<Stat>(&req, &[])?;
        FileStat::read_from_bytes(&tail).map_err(|_| EIO)
    }

    fn release(&self) {
        if self.handle == 0 {
            return;
        }
        self.leave();
        if !self.is_dead() {
            give_back(self.home, self.handle);
        }
    }
}
