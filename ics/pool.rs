// SPDX-License-Identifier: GPL-2.0

//! Who answers requests: registered services, and threads per class.
//!
//! Every class but P has its own queue and a fixed number of threads: however many requests of a class wait, those of
//! a higher class go on. A request of class P gets a thread that is idle, or a new one.

use crate::peer::Peer;
use crate::service::Caller;
use crate::service::Class;
use crate::service::Service;
use crate::service::Status;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::kthread::ThreadId;
use ssi::wait::Queue;

/// Threads of a class. P: none to begin with.
const fn n_threads(class: usize) -> usize {
    match class {
        0 => 0,
        1 => 8,
        _ => 4,
    }
}

/// A request to be answered.
pub(crate) struct Job {
    pub(crate) peer: Arc<Peer>,
    pub(crate) from: Caller,
    /// See the peer's state.
    pub(crate) epoch: u64,
    pub(crate) xid: u64,
    pub(crate) service: u16,
    pub(crate) op: u16,
    pub(crate) class: Class,
    /// Of a post: its place. 0: a call.
    pub(crate) order: u64,
    pub(crate) body: KVVec<u8>,
}

enum Order {
    Run(Job),
    Stop,
}

/// A registered service and how many of its handlers run.
struct Entry {
    service: &'static dyn Service,
    busy: usize,
}

struct Pools {
    queues: KVec<Arc<Queue<Order>>>,
    threads: KVec<KThread>,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 12 `ics::services`, spin.
    unsafe(uninit) static SERVICES: SpinLock<KVec<Entry>> = KVec::new();
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 11 `ics::pools`, mutex.
    unsafe(uninit) static POOLS: Mutex<Option<Pools>> = None;
}

/// Counts changes of `busy` that a waiting unregister looks at.
static DRAIN: Atomic<u32> = Atomic::new(0);

/// The most services.
const MAX_SERVICES: usize = 32;

/// Makes queues and threads. Once, at module load.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn init() -> Result {
    // SAFETY: Called exactly once, from module init.
    unsafe { SERVICES.init() };
    // SAFETY: As above.
    unsafe { POOLS.init() };
    let list = KVec::with_capacity(MAX_SERVICES, GFP_KERNEL)?;
    *SERVICES.lock() = list;
    let mut pools = Pools {
        queues: KVec::new(),
        threads: KVec::new(),
    };
    for class in 0..Class::N {
        pools.queues.push(Queue::new()?, GFP_KERNEL)?;
        for _ in 0..n_threads(class) {
            add_thread(&mut pools, class)?;
        }
    }
    *POOLS.lock() = Some(pools);
    Ok(())
}

fn add_thread(pools: &mut Pools, class: usize) -> Result {
    const NAMES: [&core::ffi::CStr; Class::N] = [
        c"ics_P", c"ics_L0", c"ics_U", c"ics_L1", c"ics_L2", c"ics_L3", c"ics_L4",
    ];
    let queue = pools.queues.get(class).ok_or(EINVAL)?.clone();
    let name = NAMES.get(class).ok_or(EINVAL)?;
    let thread = KThread::run(name, move || {
        if class == Class::P as usize {
            kthread::allow_interrupt();
        }
        while let Order::Run(job) = queue.wait() {
            run(job);
        }
    })?;
    pools.threads.push(thread, GFP_KERNEL)?;
    Ok(())
}

/// Ends all threads at module unload.
pub(crate) fn clear() {
    let Some(pools) = POOLS.lock().take() else {
        return;
    };
    for (class, queue) in pools.queues.iter().enumerate() {
        let n = if class == 0 {
            pools.threads.len()
        } else {
            n_threads(class)
        };
        for _ in 0..n {
            while queue.push(Order::Stop).is_err() {
                ssi::task::yield_now();
            }
        }
    }
    drop(pools);
    *SERVICES.lock() = KVec::new();
}

/// Queues a request. Sleeps.
///
/// # Errors
/// `ENOMEM`; `ESHUTDOWN` at module unload.
pub(crate) fn submit(class: Class, job: Job) -> Result {
    let mut guard = POOLS.lock();
    let pools = guard.as_mut().ok_or(ESHUTDOWN)?;
    let queue = pools.queues.get(class as usize).ok_or(EINVAL)?.clone();
    let served = queue.push(Order::Run(job))?;
    if class == Class::P && !served {
        // Without a thread of its own the request waits for one that becomes idle.
        if let Err(e) = add_thread(pools, class as usize) {
            pr_warn!("no thread for a request of class P: {:?}\n", e);
        }
    }
    Ok(())
}

/// The class of an op, and whether its handler is prompt.
pub(crate) fn kind_of(service: u16, op: u16) -> Option<(Class, bool)> {
    let guard = SERVICES.lock();
    let e = guard.iter().find(|e| e.service.id() == service)?;
    Some((e.service.class(op)?, e.service.is_prompt(op)))
}

/// Runs a handler here and now.
///
/// # Errors
/// `EPROTONOSUPPORT` if nobody answers for the service; the handler's.
pub(crate) fn handle(
    from: Caller,
    service: u16,
    op: u16,
    body: &[u8],
) -> core::result::Result<KVVec<u8>, Status> {
    let answerer = {
        let mut guard = SERVICES.lock();
        guard
            .iter_mut()
            .find(|e| e.service.id() == service)
            .map(|e| {
                e.busy += 1;
                e.service
            })
    };
    let Some(answerer) = answerer else {
        return Err(Status::Errno(EPROTONOSUPPORT));
    };
    let r = answerer.handle(from, op, body);
    {
        let mut guard = SERVICES.lock();
        if let Some(e) = guard.iter_mut().find(|e| e.service.id() == service) {
            e.busy -= 1;
        }
    }
    DRAIN.fetch_add(1, Full);
    r
}

/// Answers a request here and now.
pub(crate) fn run(job: Job) {
    let result = if job.peer.begin(job.epoch, job.xid, ThreadId::current()) {
        handle(job.from, job.service, job.op, &job.body)
    } else {
        // Cancelled, or its asker was declared down, before it began.
        Err(Status::Errno(EINTR))
    };
    job.peer.finish(job.epoch, job.xid, job.class, result);
    // After `finish` nobody interrupts this thread for the request.
    kthread::interruption_done();
    if job.order != 0 {
        job.peer.post_done(job.epoch, job.class);
    }
}

/// A registered service. Dropping it waits until none of its handlers runs.
pub struct Registration(u16);

/// Answers for a service from now on.
///
/// # Errors
/// `EEXIST` if somebody does; `ENOSPC`.
pub fn register(service: &'static dyn Service) -> Result<Registration> {
    let mut guard = SERVICES.lock();
    if guard.iter().any(|e| e.service.id() == service.id()) {
        return Err(EEXIST);
    }
    guard
        .push_within_capacity(Entry { service, busy: 0 })
        .map_err(|_| ENOSPC)?;
    Ok(Registration(service.id()))
}

impl Drop for Registration {
    fn drop(&mut self) {
        loop {
            let gone = {
                let mut guard = SERVICES.lock();
                match guard.iter().position(|e| e.service.id() == self.0) {
                    Some(i) if guard.get(i).is_some_and(|e| e.busy > 0) => false,
                    Some(i) => guard.remove(i).is_ok(),
                    None => true,
                }
            };
            if gone {
                return;
            }
            ssi::task::yield_now();
        }
    }
}
