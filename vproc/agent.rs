// SPDX-License-Identifier: GPL-2.0

//! The agent: the one kernel thread of a node that is the local parent of every process whose parent is on
//! another node. It makes such processes, one at a time, and never waits for anybody.

use kernel::prelude::*;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Completion;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::movement::Spawn;
use ssi::pproc;
use ssi::wait::Queue;

/// A wish for a process, and the answer to it.
#[pin_data]
pub(crate) struct Wish {
    spawn: Spawn,
    #[pin]
    result: kernel::sync::SpinLock<Result>,
    #[pin]
    done: Completion,
}

enum Order {
    Spawn(Arc<Wish>),
    Stop,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// Lock: level 36 `vproc::agent`, mutex.
    unsafe(uninit) static AGENT: Mutex<Option<Agent>> = None;
}

struct Agent {
    orders: Arc<Queue<Order>>,
    thread: KThread,
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { AGENT.init() };
}

/// Starts the agent; the hooks are on when it returns. Sleeps.
///
/// # Errors
/// `ENOMEM`; those of `ssi::pproc::join_as_agent`.
pub(crate) fn start(this: NodeId) -> Result {
    let orders = Queue::new()?;
    let started = Arc::pin_init(Started::new(), GFP_KERNEL)?;
    let thread = {
        let orders = orders.clone();
        let started = started.clone();
        KThread::run(c"ssi_proxy", move || {
            let joined = pproc::join_as_agent(this);
            started.tell(joined);
            if joined.is_err() {
                return;
            }
            while let Order::Spawn(wish) = orders.wait() {
                let result = wish.spawn.start();
                *wish.result.lock() = result;
                wish.done.complete_all();
            }
            pproc::leave();
        })?
    };
    started.wait()?;
    *AGENT.lock() = Some(Agent { orders, thread });
    Ok(())
}

/// Ends the agent and turns the hooks off.
pub(crate) fn stop() {
    let agent = AGENT.lock().take();
    if let Some(a) = agent {
        // Without memory for the order the agent stays; the next leave tries again.
        if a.orders.push(Order::Stop).is_ok() {
            drop(a.thread);
        }
    }
}

/// Has the agent make a process. Sleeps until it exists, not until it is complete.
///
/// # Errors
/// Those of `ssi::movement::Spawn::start`; `ESHUTDOWN` after the node has left.
pub(crate) fn spawn(spawn: Spawn) -> Result {
    let wish = Arc::pin_init(
        pin_init!(Wish {
            spawn,
            result <- kernel::new_spinlock!(Err(ESHUTDOWN), "vproc::wish"),
            done <- Completion::new(),
        }),
        GFP_KERNEL,
    )?;
    {
        let guard = AGENT.lock();
        let agent = guard.as_ref().ok_or(ESHUTDOWN)?;
        agent.orders.push(Order::Spawn(wish.clone()))?;
    }
    wish.done.wait_for_completion();
    let result = *wish.result.lock();
    result
}

/// Result of the agent's start.
#[pin_data]
struct Started {
    #[pin]
    result: kernel::sync::SpinLock<Result>,
    #[pin]
    done: Completion,
}

impl Started {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            result <- kernel::new_spinlock!(Err(ESHUTDOWN), "vproc::started"),
            done <- Completion::new(),
        })
    }

    fn tell(&self, r: Result) {
        *self.result.lock() = r;
        self.done.complete_all();
    }

    fn wait(&self) -> Result {
        self.done.wait_for_completion();
        *self.result.lock()
    }
}
