// SPDX-License-Identifier: GPL-2.0

//! A service that gives back what it gets, in every class: to measure the interconnect, and to fill it up in tests.
//!
//! `/sys/kernel/debug/ssi/ics_echo`: writing `NODE CLASS COUNT BYTES THREADS HOLD_MS` (class 0 to 6, of `P L0 U L1 L2 L3
//! L4`) makes COUNT calls from each of THREADS threads; each handler waits HOLD_MS. Writing `post NODE COUNT BYTES` posts
//! in class L4. Reading tells the last run: calls, errors, nanoseconds in all; and of this node as the one that answers:
//! posts that came out of order, handlers that wait now.

use crate::call;
use crate::error::CallError;
use crate::pool;
use crate::service::Caller;
use crate::service::Handle;
use crate::service::Op;
use crate::service::Reply;
use kernel::debugfs::File;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceReader;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::pages;
use ssi::wait::Event;
use ssi::wire::Le32;
use ssi::wire::Le64;

crate::service! {
    /// Gives back what it gets.
    service Echo { id: 2, version: 1 }
    /// Waits, then gives the tail back.
    op 1 EchoP (class: P) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 2 EchoL0 (class: L0) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 3 EchoU (class: U) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 4 EchoL1 (class: L1) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 5 EchoL2 (class: L2) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 6 EchoL3 (class: L3) { hold_ms: Le32 } -> {}
    /// As [`EchoP`].
    op 7 EchoL4 (class: L4) { hold_ms: Le32 } -> {}
    /// One of a row of posts: `n` counts from 0.
    op 8 Row (class: L4) { n: Le64 } -> {}
}

/// What comes next in a row, and how often something else came.
static NEXT: Atomic<u64> = Atomic::new(0);
static DISORDER: Atomic<u64> = Atomic::new(0);

/// So many bodies that are not alike are sent in turn.
const KINDS: usize = 251;

/// Handlers that wait now.
static HOLDING: Atomic<u64> = Atomic::new(0);

/// The last run.
static CALLS: Atomic<u64> = Atomic::new(0);
static ERRORS: Atomic<u64> = Atomic::new(0);
static NANOS: Atomic<u64> = Atomic::new(0);

struct Server;

static SERVICE: EchoService<Server> = EchoService(Server);

fn echo(hold_ms: u32, tail: &[u8]) -> core::result::Result<KVVec<u8>, Error> {
    if hold_ms > 0 {
        HOLDING.fetch_add(1, Relaxed);
        machine::sleep_ms(hold_ms);
        HOLDING.fetch_sub(1, Relaxed);
    }
    if kernel::current!().signal_pending() {
        return Err(EINTR);
    }
    let mut out = pages::with_capacity(tail.len())?;
    out.extend_from_slice(tail, GFP_KERNEL)?;
    Ok(out)
}

macro_rules! handle {
    ($($op:ident $req:ident $rep:ident),*) => {
        $(
            impl Handle<$op> for Server {
                fn handle(&self, _from: Caller, req: &$req, tail: &[u8]) -> Reply<$op> {
                    Ok(($rep {}, echo(req.hold_ms.get(), tail)?))
                }
            }
        )*
    };
}

handle!(
    EchoP EchoPReq EchoPRep,
    EchoL0 EchoL0Req EchoL0Rep,
    EchoU EchoUReq EchoURep,
    EchoL1 EchoL1Req EchoL1Rep,
    EchoL2 EchoL2Req EchoL2Rep,
    EchoL3 EchoL3Req EchoL3Rep,
    EchoL4 EchoL4Req EchoL4Rep
);

impl Handle<Row> for Server {
    fn handle(&self, _from: Caller, req: &RowReq, _tail: &[u8]) -> Reply<Row> {
        let n = req.n.get();
        let expected = if n == 0 { 0 } else { NEXT.load(Relaxed) };
        if n != expected {
            DISORDER.fetch_add(1, Relaxed);
        }
        NEXT.store(n.wrapping_add(1), Relaxed);
        Ok((RowRep {}, KVVec::new()))
    }
}

fn ask<O: Op>(to: NodeId, req: &O::Req, tail: &[u8]) -> core::result::Result<(), CallError> {
    let (_, back) = call::call::<O>(to, req, tail)?;
    if back.as_slice() == tail {
        Ok(())
    } else {
        Err(CallError::Protocol)
    }
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    to: NodeId,
    class: u64,
    count: u64,
    hold: u32,
}

/// What the threads of a run share.
#[pin_data]
struct Shared {
    bytes: KVVec<u8>,
    left: Atomic<u64>,
    #[pin]
    ended: Event,
}

impl Shared {
    fn new(bytes: KVVec<u8>, threads: u64) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                bytes,
                left: Atomic::new(threads),
                ended <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn leave(&self) {
        self.left.fetch_sub(1, Full);
        self.ended.notify_all();
    }
}

/// What the bodies of a run are cut out of: no two pages of one are alike.
fn bytes_for(len: usize) -> Result<KVVec<u8>> {
    let mut all = KVVec::from_elem(0u8, len + KINDS, GFP_KERNEL)?;
    for (i, b) in all.iter_mut().enumerate() {
        // CAST: any byte will do.
        *b = ((i % KINDS) ^ (i >> 12)) as u8;
    }
    Ok(all)
}

fn calls(run: Run, bytes: &[u8]) {
    let h = Le32::new(run.hold);
    let len = bytes.len() - KINDS;
    for n in 0..run.count {
        let to = run.to;
        // CAST: it is below KINDS.
        let at = (n % KINDS as u64) as usize;
        let tail = bytes.get(at..at + len).unwrap_or(&[]);
        let r = match run.class {
            0 => ask::<EchoP>(to, &EchoPReq { hold_ms: h }, tail),
            1 => ask::<EchoL0>(to, &EchoL0Req { hold_ms: h }, tail),
            2 => ask::<EchoU>(to, &EchoUReq { hold_ms: h }, tail),
            3 => ask::<EchoL1>(to, &EchoL1Req { hold_ms: h }, tail),
            4 => ask::<EchoL2>(to, &EchoL2Req { hold_ms: h }, tail),
            5 => ask::<EchoL3>(to, &EchoL3Req { hold_ms: h }, tail),
            _ => ask::<EchoL4>(to, &EchoL4Req { hold_ms: h }, tail),
        };
        CALLS.fetch_add(1, Relaxed);
        if r.is_err() {
            ERRORS.fetch_add(1, Relaxed);
            if matches!(r, Err(CallError::Down(_) | CallError::Interrupted)) {
                return;
            }
        }
    }
}

pub(crate) fn number(word: Option<&[u8]>) -> Result<u64> {
    let word = word.filter(|w| !w.is_empty()).ok_or(EINVAL)?;
    word.iter().try_fold(0u64, |n, c| {
        let digit = c.checked_sub(b'0').filter(|d| *d < 10).ok_or(EINVAL)?;
        let n = n.checked_mul(10).ok_or(EINVAL)?;
        n.checked_add(digit.into()).ok_or(EINVAL)
    })
}

fn store(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 128];
    let line = buf.get_mut(..reader.len()).ok_or(E2BIG)?;
    reader.read_slice(line)?;
    let mut words = line.trim_ascii().split(|c| *c == b' ');
    let first = words.next();
    let is_post = first == Some(b"post");
    let first = if is_post { words.next() } else { first };
    let to = u32::try_from(number(first)?)
        .ok()
        .and_then(NodeId::new)
        .ok_or(EINVAL)?;
    let class = if is_post { 6 } else { number(words.next())? };
    let count = number(words.next())?;
    let bytes = usize::try_from(number(words.next())?).map_err(|_| EINVAL)?;
    if bytes > crate::MAX_TAIL {
        return Err(EMSGSIZE);
    }
    let all = bytes_for(bytes)?;
    for c in [&CALLS, &ERRORS, &NANOS] {
        c.store(0, Relaxed);
    }
    let began = machine::monotonic_ns();
    if is_post {
        let tail = all.get(..bytes).unwrap_or(&[]);
        for n in 0..count {
            CALLS.fetch_add(1, Relaxed);
            if call::post::<Row>(to, &RowReq { n: Le64::new(n) }, tail).is_err() {
                ERRORS.fetch_add(1, Relaxed);
                break;
            }
        }
    } else {
        let threads = number(words.next())?.clamp(1, 512);
        let hold = u32::try_from(number(words.next())?).map_err(|_| EINVAL)?;
        let run = Run {
            to,
            class,
            count,
            hold,
        };
        if threads == 1 {
            calls(run, &all);
        } else {
            let shared = Shared::new(all, threads)?;
            let mut all = KVec::with_capacity(512, GFP_KERNEL)?;
            for _ in 0..threads {
                let mine = shared.clone();
                let thread = KThread::run(c"ics_echo", move || {
                    calls(run, &mine.bytes);
                    mine.leave();
                });
                match thread {
                    Ok(t) => all.push(t, GFP_KERNEL)?,
                    Err(_) => shared.leave(),
                }
            }
            // Not by joining: that interrupts what the threads wait for.
            shared.ended.wait_until(|| shared.left.load(Relaxed) == 0);
            drop(all);
        }
    }
    NANOS.store(machine::monotonic_ns().saturating_sub(began), Relaxed);
    Ok(())
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "calls {} errors {} ns {} disorder {} holding {}",
        CALLS.load(Relaxed),
        ERRORS.load(Relaxed),
        NANOS.load(Relaxed),
        DISORDER.load(Relaxed),
        HOLDING.load(Relaxed),
    )
}

/// The service and its file. Dropped in this order: no new run, then no new request.
#[pin_data]
pub(crate) struct Echo {
    #[pin]
    file: File<()>,
    service: pool::Registration,
}

impl Echo {
    /// Registers the service.
    ///
    /// # Errors
    /// `ENOMEM`; `EEXIST`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::pin_init(
            try_pin_init!(Self {
                file <- dir.read_write_callback_file(c"ics_echo", (), &show, &store),
                service: pool::register(&SERVICE)?,
            }),
            GFP_KERNEL,
        )
    }
}
