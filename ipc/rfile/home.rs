// SPDX-License-Identifier: GPL-2.0

//! The node where a file is: handles, and what their holders ask for.

use crate::ioctls;
use crate::ioctls::Arg;
use crate::proto;
use crate::proto::*;
use crate::proxy;
use crate::state;
use crate::state::After;
use crate::state::Peer;
use crate::state::State;
use ics::Caller;
use ics::Handle;
use ics::Reply;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::rbtree::RBTreeNodeReservation;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::files::FileClass;
use ssi::files::FileRef;
use ssi::files::Watch;
use ssi::files::Watcher;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy::IntoBytes;

/// Poll bits that mean "a read will not wait" and "a write will not wait".
pub(crate) const POLL_READ: u32 = 0x01 | 0x08 | 0x10 | 0x40 | 0x2000;
/// See [`POLL_READ`].
pub(crate) const POLL_WRITE: u32 = 0x04 | 0x08 | 0x10 | 0x100;

/// An open file that another node uses.
struct Home {
    file: FileRef,
    class: FileClass,
    /// Of a stream.
    watch: Option<Watch<Holder>>,
    holder: Arc<Holder>,
}

/// Whom to tell that a stream may have become ready.
struct Holder {
    handle: u64,
    /// 0 before the claim.
    node: Atomic<u32>,
}

impl Watcher for Holder {
    fn event(&self) {
        let Some(node) = NodeId::new(self.node.load(Relaxed)) else {
            return;
        };
        let req = EventReq {
            handle: Le64::new(self.handle),
        };
        // It fails only if the holder is dead; then nobody waits.
        let _ = ics::call::<proto::Event>(node, &req, &[]);
    }
}

struct Slot {
    state: State,
    home: Arc<Home>,
}

kernel::sync::global_lock! {
    /// Handles of this node's files. Lock: `rfile::handles`, mutex; never held across a message or while a file is put.
    // SAFETY: `init()` is called before anything else in this module.
    unsafe(uninit) static HANDLES: Mutex<Option<RBTree<u64, Slot>>> = None;
}

/// Prepares the table; once, when the module is loaded.
///
/// # Safety
/// Not twice.
pub(crate) unsafe fn init() {
    // SAFETY: Called once, as this function's contract says.
    unsafe { HANDLES.init() };
}

/// This node as the one who offers. No other node's peer is equal to it: it has no incarnation.
fn myself() -> Peer {
    Peer {
        node: 0,
        incarnation: 0,
    }
}

fn peer(c: &Caller) -> Peer {
    Peer {
        node: c.node.number(),
        incarnation: c.incarnation.0,
    }
}

/// Makes a handle for an open file of this node.
fn offer_by(file: FileRef, class: FileClass, by: Peer) -> Result<u64> {
    // Handles are names that cannot be guessed, and never used twice.
    let handle = u64::from_le_bytes(ssi::crypto::random());
    let holder = Arc::new(
        Holder {
            handle,
            node: Atomic::new(0),
        },
        GFP_KERNEL,
    )?;
    let watch = match class {
        FileClass::File => None,
        FileClass::Pipe | FileClass::Tty | FileClass::Socket => {
            Some(Watch::new(&file, holder.clone())?)
        }
    };
    let home = Arc::new(
        Home {
            file,
            class,
            watch,
            holder,
        },
        GFP_KERNEL,
    )?;
    let slot = Slot {
        state: State::Offered { by },
        home,
    };
    let room = RBTreeNodeReservation::new(GFP_KERNEL)?;
    let node: RBTreeNode<u64, Slot> = room.into_node(handle, slot);
    let mut table = HANDLES.lock();
    let table = table.get_or_insert_with(RBTree::new);
    if handle == 0 || table.get(&handle).is_some() {
        // Once in 2^64; the movement is refused.
        return Err(EAGAIN);
    }
    table.insert(node);
    Ok(handle)
}

/// Offers an open file of this node to whoever imports the image.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn offer(file: FileRef, class: FileClass) -> Result<u64> {
    offer_by(file, class, myself())
}

/// Applies an event to a handle. Whatever ends with it is returned, to be dropped without the lock.
fn apply(handle: u64, ev: state::Event) -> Result<(Arc<Home>, After)> {
    let mut table = HANDLES.lock();
    let table = table.as_mut().ok_or(ESTALE)?;
    let slot = table.get_mut(&handle).ok_or(ESTALE)?;
    let after = slot.state.step(ev).map_err(|_| ESTALE)?;
    match after {
        After::Stays(s) => {
            slot.state = s;
            Ok((slot.home.clone(), after))
        }
        After::Ends => {
            let slot = table.remove(&handle).ok_or(ESTALE)?;
            Ok((slot.home, after))
        }
    }
}

/// Gives back a handle that this node offered.
pub(crate) fn withdraw(handle: u64) {
    // It may have ended with its holder.
    let _ = apply(handle, state::Event::Release(myself()));
}

/// Ends a handle whose process has come to this node, and returns its file.
///
/// # Errors
/// `ESTALE` if it does not exist or is in use.
pub(crate) fn take(handle: u64) -> Result<FileRef> {
    let (home, _) = apply(handle, state::Event::Take)?;
    Ok(home.file.clone())
}

/// Ends the handles of a dead node.
pub(crate) fn node_down(dead: Peer) {
    loop {
        let mut gone = None;
        {
            let mut table = HANDLES.lock();
            let Some(table) = table.as_mut() else { return };
            let key = table
                .iter()
                .find(|(_, s)| matches!(s.state.step(state::Event::Down(dead)), Ok(After::Ends)))
                .map(|(k, _)| *k);
            if let Some(key) = key {
                gone = table.remove(&key);
            }
        }
        // Dropped here, without the lock: the last close of a file may do anything.
        if gone.is_none() {
            return;
        }
    }
}

/// How many handles there are.
pub(crate) fn count() -> usize {
    HANDLES.lock().as_ref().map_or(0, |t| t.iter().count())
}

/// Ends all handles; nobody asks any more.
pub(crate) fn clear() {
    let all = HANDLES.lock().take();
    drop(all);
}

/// The file of a handle, for its holder.
fn held(c: &Caller, handle: Le64) -> Result<Arc<Home>> {
    let table = HANDLES.lock();
    let slot = table
        .as_ref()
        .and_then(|t| t.get(&handle.get()))
        .ok_or(ESTALE)?;
    if !slot.state.serves(peer(c)) {
        return Err(ESTALE);
    }
    Ok(slot.home.clone())
}

/// As [`held`], and it is a stream, with its watch.
fn stream(home: &Home) -> Result<&Watch<Holder>> {
    home.watch.as_ref().ok_or(EINVAL)
}

/// As [`held`], and it is a regular file.
fn regular(c: &Caller, handle: Le64) -> Result<Arc<Home>> {
    let home = held(c, handle)?;
    if home.class != FileClass::File {
        return Err(ESPIPE);
    }
    Ok(home)
}

fn position(pos: Le64) -> Option<u64> {
    Some(pos.get()).filter(|p| *p != OWN_OFFSET)
}

fn buffer(len: u32) -> Result<KVVec<u8>> {
    // CAST: 32 bits fit.
    Ok(KVVec::from_elem(0, (len as usize).min(CHUNK), GFP_KERNEL)?)
}

/// What the service's operations do.
pub(crate) struct Server;

impl Handle<Claim> for Server {
    fn handle(&self, c: Caller, req: &ClaimReq, _: &[u8]) -> Reply<Claim> {
        let (home, _) = apply(req.handle.get(), state::Event::Claim(peer(&c)))?;
        home.holder.node.store(c.node.number(), Relaxed);
        let rep = ClaimRep {
            class: Le32::new(home.class.number()),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Release> for Server {
    fn handle(&self, c: Caller, req: &ReleaseReq, _: &[u8]) -> Reply<Release> {
        // The other side may have released it, too.
        let _ = apply(req.handle.get(), state::Event::Release(peer(&c)));
        Ok((ReleaseRep {}, KVVec::new()))
    }
}

impl Handle<Offer> for Server {
    fn handle(&self, c: Caller, req: &OfferReq, _: &[u8]) -> Reply<Offer> {
        let home = held(&c, req.handle)?;
        let handle = offer_by(home.file.clone(), home.class, peer(&c))?;
        let rep = OfferRep {
            handle: Le64::new(handle),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Read> for Server {
    fn handle(&self, c: Caller, req: &ReadReq, _: &[u8]) -> Reply<Read> {
        let home = held(&c, req.handle)?;
        let watch = stream(&home)?;
        let mut buf = buffer(req.len.get())?;
        let (again, mask) = match home.file.serve_read(home.class, None, &mut buf) {
            Ok(n) => {
                buf.truncate(n);
                (0, 0)
            }
            Err(e) if e == EAGAIN => {
                buf.clear();
                (1, watch.arm())
            }
            Err(e) => return Err(e.into()),
        };
        let rep = ReadRep {
            again: Le32::new(again),
            mask: Le32::new(mask),
        };
        Ok((rep, buf))
    }
}

impl Handle<Write> for Server {
    fn handle(&self, c: Caller, req: &WriteReq, data: &[u8]) -> Reply<Write> {
        let home = held(&c, req.handle)?;
        let watch = stream(&home)?;
        let (written, again, mask) = match home.file.serve_write(home.class, None, data) {
            // CAST: at most what came in one message.
            Ok(n) => (n as u32, 0, 0),
            Err(e) if e == EAGAIN => (0, 1, watch.arm()),
            Err(e) => return Err(e.into()),
        };
        let rep = WriteRep {
            written: Le32::new(written),
            again: Le32::new(again),
            mask: Le32::new(mask),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Poll> for Server {
    fn handle(&self, c: Caller, req: &PollReq, _: &[u8]) -> Reply<Poll> {
        let home = held(&c, req.handle)?;
        let rep = PollRep {
            mask: Le32::new(stream(&home)?.arm()),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Event> for Server {
    fn handle(&self, c: Caller, req: &EventReq, _: &[u8]) -> Reply<Event> {
        proxy::event(c.node, req.handle.get());
        Ok((EventRep {}, KVVec::new()))
    }
}

impl Handle<Ioctl> for Server {
    fn handle(&self, c: Caller, req: &IoctlReq, data: &[u8]) -> Reply<Ioctl> {
        let home = held(&c, req.handle)?;
        let (input, output) = match ioctls::argument(req.cmd.get()).ok_or(ENOTTY)? {
            Arg::Value => (0, 0),
            Arg::Buf { input, output } => (input, output),
        };
        // CAST: table values.
        if data.len() != input as usize {
            return Err(EINVAL.into());
        }
        let mut buf = [0u8; ioctls::MAX_ARG];
        for (to, from) in buf.iter_mut().zip(data) {
            *to = *from;
        }
        let ret = home.file.serve_ioctl(
            req.cmd.get(),
            req.arg.get(),
            req.session.get(),
            &mut buf,
            input,
            output,
        )?;
        let mut out = KVVec::new();
        // CAST: a table value.
        out.extend_from_slice(buf.get(..output as usize).unwrap_or(&[]), GFP_KERNEL)
            .map_err(Error::from)?;
        let rep = IoctlRep {
            // CAST: an ioctl's result is an `int`.
            ret: Le32::new(ret as u32),
        };
        Ok((rep, out))
    }
}

impl Handle<Pread> for Server {
    fn handle(&self, c: Caller, req: &PreadReq, _: &[u8]) -> Reply<Pread> {
        let home = regular(&c, req.handle)?;
        let mut buf = buffer(req.len.get())?;
        let n = home
            .file
            .serve_read(home.class, position(req.pos), &mut buf)?;
        buf.truncate(n);
        Ok((PreadRep {}, buf))
    }
}

impl Handle<Pwrite> for Server {
    fn handle(&self, c: Caller, req: &PwriteReq, data: &[u8]) -> Reply<Pwrite> {
        let home = regular(&c, req.handle)?;
        let n = home.file.serve_write(home.class, position(req.pos), data)?;
        let rep = PwriteRep {
            // CAST: at most what came in one message.
            written: Le32::new(n as u32),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Seek> for Server {
    fn handle(&self, c: Caller, req: &SeekReq, _: &[u8]) -> Reply<Seek> {
        let home = regular(&c, req.handle)?;
        // CAST: offsets cross as two's complement.
        let pos = home
            .file
            .serve_llseek(req.to.get() as i64, req.whence.get())?;
        let rep = SeekRep {
            pos: Le64::new(pos),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<Fsync> for Server {
    fn handle(&self, c: Caller, req: &FsyncReq, _: &[u8]) -> Reply<Fsync> {
        regular(&c, req.handle)?
            .file
            .serve_fsync(req.data_only.get() != 0)?;
        Ok((FsyncRep {}, KVVec::new()))
    }
}

impl Handle<Stat> for Server {
    fn handle(&self, c: Caller, req: &StatReq, _: &[u8]) -> Reply<Stat> {
        let st = held(&c, req.handle)?.file.stat()?;
        let mut out = KVVec::new();
        out.extend_from_slice(st.as_bytes(), GFP_KERNEL)
            .map_err(Error::from)?;
        Ok((StatRep {}, out))
    }
}
