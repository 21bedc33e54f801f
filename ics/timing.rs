// SPDX-License-Identifier: GPL-2.0

//! How long calls take: what benchmarks ask.
//!
//! `/sys/kernel/debug/ssi/ics_timing`: writing `NODE THREADS COUNT IN OUT` makes COUNT calls of class L0 from each of
//! THREADS threads, with IN bytes there and OUT bytes back, after a tenth as many that do not count; with a sixth word,
//! `control`, of class L4. Reading gives the last run in nanoseconds, as a line of JSON.

use crate::call::Request;
use crate::echo::number;
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
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::uaccess::UserSliceReader;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::pages;
use ssi::wait::Event;
use ssi::wire::Le32;

crate::service! {
    /// Messages of any size.
    service Timing { id: 5, version: 1 }
    /// Takes the tail, gives `out` bytes.
    op 1 Exchange (class: L0) { out: Le32 } -> {}
    /// As [`Exchange`].
    op 2 Control (class: L4) { out: Le32 } -> {}
}

/// The most calls of a run.
const MAX_CALLS: u64 = 1_000_000;

/// The most threads of a run.
const MAX_THREADS: u64 = 512;

struct Server;

static SERVICE: TimingService<Server> = TimingService(Server);

impl Handle<Exchange> for Server {
    fn handle(&self, _from: Caller, req: &ExchangeReq, _tail: &[u8]) -> Reply<Exchange> {
        Ok((ExchangeRep {}, tail_of(req.out.get())?))
    }
}

impl Handle<Control> for Server {
    fn handle(&self, _from: Caller, req: &ControlReq, _tail: &[u8]) -> Reply<Control> {
        Ok((ControlRep {}, tail_of(req.out.get())?))
    }
}

fn tail_of(out: u32) -> Result<KVVec<u8>> {
    let out = out as usize;
    if out > crate::MAX_TAIL {
        return Err(EMSGSIZE);
    }
    let mut tail = pages::with_capacity(out)?;
    tail.resize(out, 0x5a, GFP_KERNEL)?;
    Ok(tail)
}

/// Figures of a run, in nanoseconds.
#[derive(Clone, Copy)]
struct Figures {
    n: usize,
    min: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Figures {
    fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let at = |hundredths: usize| {
            samples
                .get(samples.len().checked_sub(1)? * hundredths / 100)
                .copied()
        };
        Some(Self {
            n: samples.len(),
            min: at(0)?,
            p50: at(50)?,
            p99: at(99)?,
            max: at(100)?,
        })
    }
}

global_lock! {
    // SAFETY: Initialised in `Timing::new()`, which the module calls once, before the file is there.
    /// Lock: none, mutex: a leaf. The last run.
    unsafe(uninit) static LAST: Mutex<Option<Figures>> = None;
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    to: NodeId,
    count: u64,
    out: u32,
    is_control: bool,
}

impl Run {
    /// One call: what comes back.
    fn call(&self, tail: &[u8], room: KVVec<u8>) -> core::result::Result<KVVec<u8>, CallError> {
        let out = Le32::new(self.out);
        if self.is_control {
            self.ask::<Control>(&ControlReq { out }, tail, room)
        } else {
            self.ask::<Exchange>(&ExchangeReq { out }, tail, room)
        }
    }

    fn ask<O: Op>(
        &self,
        req: &O::Req,
        tail: &[u8],
        room: KVVec<u8>,
    ) -> core::result::Result<KVVec<u8>, CallError> {
        let mut request = Request::<O>::new(req, tail.len())?;
        request.extend(tail)?;
        let (_, back) = request.with_room(room).send(self.to)?.wait()?;
        Ok(back)
    }
}

/// What the threads that have ended leave.
struct Done {
    samples: KVVec<u64>,
    result: Result,
}

/// What the threads of a run share.
#[pin_data]
struct Shared {
    tail: KVVec<u8>,
    /// Lock: none, mutex: a leaf.
    #[pin]
    done: Mutex<Done>,
    /// How many threads have ended: asked where nobody may sleep.
    n_ended: Atomic<u64>,
    #[pin]
    ended: Event,
}

/// Makes the calls of one thread.
fn calls(run: Run, tail: &[u8]) -> core::result::Result<KVVec<u64>, CallError> {
    let warm = run.count / 10 + 1;
    let mut samples = KVVec::with_capacity(run.count as usize, GFP_KERNEL)
        .map_err(|e| CallError::Local(e.into()))?;
    let mut room = pages::with_capacity(run.out as usize).map_err(CallError::Local)?;
    for i in 0..run.count + warm {
        let began = machine::monotonic_ns();
        let back = run.call(tail, room)?;
        let took = machine::monotonic_ns().saturating_sub(began);
        if back.len() != run.out as usize {
            return Err(CallError::Protocol);
        }
        room = back;
        if i >= warm {
            let _room = samples.push_within_capacity(took);
        }
    }
    Ok(samples)
}

impl Shared {
    fn end(&self, r: core::result::Result<KVVec<u64>, CallError>) {
        {
            let mut done = self.done.lock();
            let added = r
                .map_err(|e| e.to_errno())
                .and_then(|s| Ok(done.samples.extend_from_slice(&s, GFP_KERNEL)?));
            if done.result.is_ok() {
                done.result = added;
            }
        }
        self.n_ended.fetch_add(1, Full);
        self.ended.notify_all();
    }
}

fn time(run: Run, threads: u64, tail: KVVec<u8>) -> Result<Figures> {
    let shared = Arc::pin_init(
        pin_init!(Shared {
            tail,
            done <- kernel::new_mutex!(
                Done { samples: KVVec::new(), result: Ok(()) },
                "ics::timing"
            ),
            n_ended: Atomic::new(0),
            ended <- Event::new(),
        }),
        GFP_KERNEL,
    )?;
    let mut running = KVec::with_capacity(threads as usize, GFP_KERNEL)?;
    for _ in 0..threads {
        let mine = shared.clone();
        let thread = KThread::run(c"ics_timing", move || mine.end(calls(run, &mine.tail)))?;
        running.push(thread, GFP_KERNEL)?;
    }
    // Not by joining: that interrupts what the threads wait for.
    shared
        .ended
        .wait_until(|| shared.n_ended.load(Relaxed) == threads);
    drop(running);
    let mut done = shared.done.lock();
    done.result?;
    Figures::of(&mut done.samples).ok_or(EIO)
}

fn store(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 128];
    let line = buf.get_mut(..reader.len()).ok_or(E2BIG)?;
    reader.read_slice(line)?;
    let mut words = line.trim_ascii().split(|c| *c == b' ');
    let mut next = || number(words.next());
    let to = u32::try_from(next()?).ok().and_then(NodeId::new);
    let (threads, count, bytes_in, out) = (next()?, next()?, next()?, next()?);
    let is_control = match words.next() {
        None => false,
        Some(b"control") => true,
        Some(_) => return Err(EINVAL),
    };
    let in_bounds = (1..=MAX_THREADS).contains(&threads)
        && count > 0
        && count.saturating_mul(threads) <= MAX_CALLS
        && bytes_in.max(out) <= crate::MAX_TAIL as u64;
    if !in_bounds {
        return Err(EINVAL);
    }
    let run = Run {
        to: to.ok_or(EINVAL)?,
        count,
        out: out as u32, // CAST: at most MAX_TAIL.
        is_control,
    };
    let tail = KVVec::from_elem(0x5a, bytes_in as usize, GFP_KERNEL)?;
    *LAST.lock() = None;
    let figures = time(run, threads, tail)?;
    *LAST.lock() = Some(figures);
    Ok(())
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = *LAST.lock();
    let Some(l) = last else {
        return Ok(());
    };
    writeln!(
        f,
        "{{\"name\":\"ics\",\"unit\":\"ns\",\"n\":{},\"min\":{},\"p50\":{},\"p99\":{},\"max\":{}}}",
        l.n, l.min, l.p50, l.p99, l.max
    )
}

/// The service and its file. Dropped in this order: no new run, then no new request.
#[pin_data]
pub(crate) struct Timing {
    #[pin]
    file: File<()>,
    service: pool::Registration,
}

impl Timing {
    /// Registers the service. Once, at module load.
    ///
    /// # Errors
    /// `ENOMEM`; `EEXIST`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        // SAFETY: Called exactly once, from module init.
        unsafe { LAST.init() };
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::pin_init(
            try_pin_init!(Self {
                file <- dir.read_write_callback_file(c"ics_timing", (), &show, &store),
                service: pool::register(&SERVICE)?,
            }),
            GFP_KERNEL,
        )
    }
}
