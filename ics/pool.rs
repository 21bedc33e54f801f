// SPDX-License-Identifier: GPL-2.0

//! Who answers requests: registered services, and threads per class.
//!
//! Every class but P has its own queue and a fixed number of threads: however many requests of a class wait, those of
//! a higher class go on. A request of class P gets a thread that is idle, or a new one; what is idle for long ends.

use crate::bytes::Bytes;
use crate::peer::long_bytes;
use crate::peer::Begin;
use crate::peer::Peer;
use crate::peer::RequestId;
use crate::service::Caller;
use crate::service::Class;
use crate::service::OpId;
use crate::service::Service;
use crate::service::Status;
use crate::stats::Stats;
use crate::ticket::Answered;
use crate::ticket::Asked;
use crate::ticket::Ticket;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLockIrq;
use kernel::time::Msecs;
use ssi::fifo::Node;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::kthread::ThreadId;
use ssi::kthread::WithoutIo;
use ssi::reserve::Owned;
use ssi::trace;
use ssi::wait::Event;
use ssi::wait::Queue;

/// Threads of a class. P: none to begin with.
const fn n_threads(class: usize) -> usize {
    match class {
        0 => 0,
        1 => 8,
        _ => 4,
    }
}

/// After so long without a request a thread of class P ends ...
pub(crate) const IDLE_MS: Msecs = 10_000;

/// ... unless no more than these are idle.
pub(crate) const KEPT: usize = 4;

/// A thread.
struct Thread {
    /// Joined with it.
    _thread: KThread,
    /// 1: it does not need the list of threads any more.
    has_ended: Arc<Atomic<u32>>,
}

/// A request to be answered.
pub(crate) struct Job {
    pub(crate) peer: Arc<Peer>,
    pub(crate) from: Caller,
    pub(crate) id: RequestId,
    pub(crate) op: OpId,
    /// Of a post: its place. 0: a call.
    pub(crate) order: u64,
    pub(crate) body: Bytes,
}

/// What a thread of a class is given.
pub(crate) enum Order {
    /// To answer.
    Run(Job),
    /// To end.
    Stop,
}

/// That with its place in a queue.
pub(crate) type Queued = Owned<Node<Order>>;

/// A registered service and how many of its handlers run.
struct Entry {
    service: &'static dyn Service,
    busy: usize,
    /// Somebody waits for its handlers to end; no more of them begin.
    is_leaving: bool,
}

/// Why a request has no handler.
pub(crate) enum Unknown {
    /// No such service, or no such op of it.
    Absent,
    /// The service is here in this version.
    Version(u16),
}

/// The services of a node, and the queues and threads that run their handlers.
#[pin_data]
pub(crate) struct Pool {
    queues: KVec<Arc<Queue<Order>>>,
    /// What calls came to.
    pub(crate) stats: Stats,
    /// Lock: level 11 `ics::pools`, mutex. `None`: at its end.
    #[pin]
    threads: Mutex<Option<KVec<Thread>>>,
    /// See [`IDLE_MS`].
    idle_ms: Msecs,
    /// Lock: level 12 `ics::services`, spin, taken in softirqs.
    #[pin]
    services: SpinLockIrq<KVec<Entry>>,
    /// Told when the last handler of a service that leaves has ended.
    #[pin]
    idle: Event,
}

/// The most services.
const MAX_SERVICES: usize = 32;

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 13 `ics::pool`, spin: a pointer is copied under it.
    unsafe(uninit) static POOL: SpinLock<Option<Arc<Pool>>> = None;
}

/// Makes the pool of this kernel. Once, at module load.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn init() -> Result {
    // SAFETY: Called exactly once, from module init.
    unsafe { POOL.init() };
    let pool = Pool::new(IDLE_MS)?;
    *POOL.lock() = Some(pool);
    Ok(())
}

/// Ends it at module unload.
pub(crate) fn clear() {
    let pool = POOL.lock().take();
    if let Some(pool) = pool {
        pool.stop();
    }
}

/// The pool of this kernel; `None` at module unload.
pub(crate) fn current() -> Option<Arc<Pool>> {
    POOL.lock().clone()
}

impl Pool {
    /// Queues and threads without services. Whoever makes it calls [`Self::stop`]: its threads keep it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(idle_ms: Msecs) -> Result<Arc<Self>> {
        let mut queues = KVec::new();
        for _ in 0..Class::N {
            queues.push(Queue::new()?, GFP_KERNEL)?;
        }
        let services = KVec::with_capacity(MAX_SERVICES, GFP_KERNEL)?;
        let pool = Arc::pin_init(
            pin_init!(Self {
                queues,
                stats: Stats::new(),
                threads <- kernel::new_mutex!(Some(KVec::new()), "ics::pools"),
                idle_ms,
                services <- kernel::new_spinlock_irq!(services, "ics::services"),
                idle <- Event::new(),
            }),
            GFP_KERNEL,
        )?;
        for class in 0..Class::N {
            for _ in 0..n_threads(class) {
                if let Err(e) = pool.add_thread(class) {
                    pool.stop();
                    return Err(e);
                }
            }
        }
        Ok(pool)
    }

    fn add_thread(self: &Arc<Self>, class: usize) -> Result {
        const NAMES: [&core::ffi::CStr; Class::N] = [
            c"ics_P", c"ics_L0", c"ics_U", c"ics_L1", c"ics_L2", c"ics_L3", c"ics_L4",
        ];
        let name = NAMES.get(class).ok_or(EINVAL)?;
        let queue = self.queues.get(class).ok_or(EINVAL)?.clone();
        let pool = self.clone();
        let has_ended = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let mine = has_ended.clone();
        let mut guard = self.threads.lock();
        let threads = (*guard).as_mut().ok_or(ESHUTDOWN)?;
        threads.reserve(1, GFP_KERNEL)?;
        let thread = KThread::run(name, move || {
            if class == Class::P as usize {
                kthread::allow_interrupt();
                while let Some(order) = queue.wait_node_for(pool.idle_ms, KEPT) {
                    if !pool.obey(order) {
                        break;
                    }
                }
                pool.end_thread(&mine);
                return;
            }
            // What others wait for who get memory free.
            let _memory = (class == Class::L4 as usize).then(WithoutIo::begin);
            while pool.obey(queue.wait_node()) {}
        })?;
        let thread = Thread {
            _thread: thread,
            has_ended,
        };
        threads.push(thread, GFP_KERNEL)?;
        Ok(())
    }

    /// The current thread is about to end. Joins those that did so before: that does not sleep long.
    fn end_thread(&self, has_ended: &Atomic<u32>) {
        let mut guard = self.threads.lock();
        // Whoever stops the pool joins all.
        let Some(threads) = (*guard).as_mut() else {
            return;
        };
        while let Some(i) = threads.iter().position(|t| t.has_ended.load(Relaxed) != 0) {
            let _joined = threads.remove(i);
        }
        has_ended.store(1, Relaxed);
    }

    /// How many threads have not ended, or are not joined yet.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn n_threads(&self) -> usize {
        self.threads.lock().as_ref().map_or(0, |t| t.len())
    }

    /// Ends all threads. Nobody may submit any more.
    pub(crate) fn stop(&self) {
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        for (class, queue) in self.queues.iter().enumerate() {
            let n = if class == 0 {
                threads.len()
            } else {
                n_threads(class)
            };
            for _ in 0..n {
                while queue.push(Order::Stop).is_err() {
                    ssi::task::yield_now();
                }
            }
        }
    }

    /// The queue of a request.
    fn queue_of(&self, order: &Order) -> Option<(&Queue<Order>, Class)> {
        let Order::Run(job) = order else {
            return None;
        };
        let class = job.op.class;
        Some((self.queues.get(class as usize)?, class))
    }

    /// Queues a request. Sleeps, if it is of class P.
    pub(crate) fn submit(self: &Arc<Self>, order: Queued) {
        let Some((queue, class)) = self.queue_of(&order.value) else {
            return;
        };
        let is_served = queue.push_back(order);
        if class == Class::P && !is_served {
            // Without a thread of its own the request waits for one that becomes idle.
            if let Err(e) = self.add_thread(class as usize) {
                pr_warn!("no thread for a request of class P: {:?}\n", e);
            }
        }
    }

    /// Queues a request without sleeping.
    ///
    /// # Errors
    /// The request, which is not queued: it is of class P, and no thread is idle. To be dropped without locks.
    pub(crate) fn submit_at_once(&self, order: Queued) -> core::result::Result<(), Queued> {
        match self.queue_of(&order.value) {
            Some((queue, Class::P)) => queue.push_if_served(order),
            Some((queue, _)) => {
                queue.push_back(order);
                Ok(())
            }
            None => Err(order),
        }
    }

    /// The class that an op has here.
    ///
    /// # Errors
    /// See [`Unknown`].
    pub(crate) fn class_of(&self, op: &OpId) -> core::result::Result<Class, Unknown> {
        let guard = self.services.lock();
        let found = guard.iter().find(|e| e.service.id() == op.service);
        let s = found.ok_or(Unknown::Absent)?.service;
        if s.version() != op.version {
            return Err(Unknown::Version(s.version()));
        }
        s.class(op.op).ok_or(Unknown::Absent)
    }

    /// Runs a handler here and now. `None`: whoever replies later has the ticket.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if nobody answers for the service; the handler's.
    pub(crate) fn handle(
        &self,
        from: Caller,
        op: &OpId,
        body: &[u8],
        ticket: impl FnOnce() -> Ticket,
    ) -> Option<Answered> {
        let service = op.service;
        let answerer = {
            let mut guard = self.services.lock();
            let found = guard.iter_mut().find(|e| e.service.id() == service);
            found.filter(|e| !e.is_leaving).map(|e| {
                e.busy += 1;
                e.service
            })
        };
        let Some(answerer) = answerer else {
            return Some(Err(Status::Errno(EPROTONOSUPPORT)));
        };
        let answered = match answerer.handle(from, op.op, body) {
            Err(Status::Later(later)) => {
                later.to.takes(later.key, ticket());
                None
            }
            answered => Some(answered),
        };
        let is_last = {
            let mut guard = self.services.lock();
            let found = guard.iter_mut().find(|e| e.service.id() == service);
            found.is_some_and(|e| {
                e.busy -= 1;
                e.busy == 0 && e.is_leaving
            })
        };
        if is_last {
            self.idle.notify_all();
        }
        answered
    }

    /// Does what the current thread is told. Returns whether it goes on.
    fn obey(&self, mut order: Queued) -> bool {
        loop {
            let Order::Run(job) = &order.value else {
                return false;
            };
            let peer = job.peer.clone();
            let is_wanted = match peer.begin(job.id, ThreadId::current()) {
                Begin::Now => true,
                Begin::NotWanted => false,
                Begin::Later => match peer.unless_full(order) {
                    Some(again) => {
                        order = again;
                        continue;
                    }
                    None => return true,
                },
            };
            if let Order::Run(job) = order.into_inner().value {
                self.run(job, is_wanted);
            }
            return true;
        }
    }

    /// Answers a request here and now, unless somebody replies later.
    fn run(&self, job: Job, is_wanted: bool) {
        let (from, body, order) = (job.from, job.body, job.order);
        let asked = Asked {
            peer: job.peer,
            id: job.id,
            op: job.op,
        };
        trace::ics_serving(from.node, asked.op.traced(asked.id.xid, body.len()));
        let is_of_p = asked.op.class == Class::P;
        let answered = if !is_wanted {
            // Cancelled, or its asker was declared down, before it began.
            Some(Err(Status::Errno(EINTR)))
        } else if order != 0 {
            let done = self.handle(from, &asked.op, &body, || Ticket::NOBODY);
            Some(done.map_or(Ok(()), |d| d.map(drop)).map(|()| Bytes::EMPTY))
        } else {
            self.handle(from, &asked.op, &body, || asked.later())
        };
        if let Some(result) = answered {
            // Short ones wait for no long ones.
            let len = result.as_ref().map_or(0, |body| body.len());
            if is_of_p && long_bytes(len) > 0 {
                asked.peer.wait_for_room(asked.id, len);
            }
            asked.answer(result);
        }
        // From here on nobody interrupts this thread for the request.
        kthread::interruption_done();
        if order != 0 {
            asked.peer.post_done(asked.id, asked.op.class);
        }
    }

    /// Answers for a service from now on.
    ///
    /// # Errors
    /// `EEXIST` if somebody does; `ENOSPC`; `ENOMEM`.
    pub(crate) fn register(
        self: &Arc<Self>,
        service: &'static dyn Service,
    ) -> Result<Registration> {
        self.stats.declare(service)?;
        let mut guard = self.services.lock();
        if guard.iter().any(|e| e.service.id() == service.id()) {
            return Err(EEXIST);
        }
        let entry = Entry {
            service,
            busy: 0,
            is_leaving: false,
        };
        guard.push_within_capacity(entry).map_err(|_| ENOSPC)?;
        Ok(Registration {
            pool: self.clone(),
            service: service.id(),
        })
    }
}

/// A registered service. Dropping it waits until none of its handlers runs.
pub struct Registration {
    pool: Arc<Pool>,
    service: u16,
}

/// Answers for a service of this node from now on.
///
/// # Errors
/// `EEXIST` if somebody does; `ENOSPC`; `ENOMEM`; `ENODEV` at module unload.
pub fn register(service: &'static dyn Service) -> Result<Registration> {
    current().ok_or(ENODEV)?.register(service)
}

impl Drop for Registration {
    fn drop(&mut self) {
        let is_mine = |e: &Entry| e.service.id() == self.service;
        self.pool.idle.wait_until(|| {
            let mut guard = self.pool.services.lock();
            let Some(i) = guard.iter().position(is_mine) else {
                return true;
            };
            match guard.get_mut(i) {
                Some(e) if e.busy > 0 => {
                    e.is_leaving = true;
                    false
                }
                _ => guard.remove(i).is_ok(),
            }
        });
    }
}
