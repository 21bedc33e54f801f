// SPDX-License-Identifier: GPL-2.0

//! The planned shutdown of this node, or of another one: it is emptied, it leaves, and then its machine goes off.
//!
//! A thread of the node does it, whoever asked: the asker may end. Whatever goes wrong before the node is out, it is a
//! member as before, takes newcomers, and says why.

mod proto;

use crate::changes::NodeState;
use crate::history::Cause;
use crate::leave::Turn;
use crate::observers;
use crate::observers::Drained;
use crate::patience::Patience;
use crate::set::NodeSet;
use crate::status;
use crate::thread::current;
use crate::thread::now_ms;
use crate::thread::Membership;
use ics::CallError;
use ics::Caller;
use ics::Handle;
use ics::Reply;
use ics::Status;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use proto::*;
use ssi::clms_netlink::ShutdownState;
use ssi::failpoint::hit;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::wire::Le32;

/// After the grace: who was killed is to be gone, behind the last that was asked to go, which takes up to 5 s.
const LAST_MS: u64 = 8000;

/// Between two looks at how far it is.
const LOOK_MS: u32 = 100;

/// The longest grace: a day.
const MAX_GRACE_MS: u32 = 86_400_000;

/// What becomes of the machine. The numbers are those of the netlink family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Stay,
    PowerOff,
    Reboot,
}

impl Action {
    fn from_wire(n: u32) -> Result<Self> {
        match n {
            0 => Ok(Self::Stay),
            1 => Ok(Self::PowerOff),
            2 => Ok(Self::Reboot),
            _ => Err(EINVAL),
        }
    }
}

/// How far it is. The numbers are those of the netlink family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Stage {
    None = 0,
    Draining = 1,
    Leaving = 2,
    Left = 3,
    Stayed = 4,
}

/// The last one of this node.
struct Last {
    this: Option<NodeId>,
    stage: Stage,
    error: u32,
    drained: Drained,
    thread: Option<KThread>,
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// Lock: level 29 `clms::shutdown`, mutex; a leaf.
    unsafe(uninit) static LAST: Mutex<Last> = Last {
        this: None,
        stage: Stage::None,
        error: 0,
        drained: Drained { moved: 0, ended: 0, left: 0, process: None },
        thread: None,
    };
}

/// The module goes: 1 yes.
static OVER: Atomic<u32> = Atomic::new(0);

/// Dropping it ends a shutdown that is under way.
pub(crate) struct State(());

impl State {
    /// Makes the lock. Once, at module load.
    pub(crate) fn new() -> Self {
        // SAFETY: Called exactly once, from module init.
        unsafe { LAST.init() };
        Self(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        OVER.store(1, Relaxed);
        let thread = LAST.lock().thread.take();
        drop(thread);
    }
}

struct Server;

static SERVER: ShutdownService<Server> = ShutdownService(Server);

/// Answers from now on.
///
/// # Errors
/// `EEXIST`, `ENOSPC`.
pub(crate) fn register() -> Result<ics::Registration> {
    ics::register(&SERVER)
}

impl Handle<Begin> for Server {
    fn handle(&self, from: Caller, req: &BeginReq, _tail: &[u8]) -> Reply<Begin> {
        pr_info!("node {} shuts this node down\n", from.node.number());
        begin(req.action.get(), req.grace_ms.get()).map_err(Status::Errno)?;
        Ok((BeginRep {}, KVVec::new()))
    }
}

impl Handle<Look> for Server {
    fn handle(&self, _from: Caller, _req: &LookReq, _tail: &[u8]) -> Reply<Look> {
        let now = own_state();
        let rep = LookRep {
            stage: Le32::new(now.stage),
            error: Le32::new(now.error),
            moved: Le32::new(now.moved),
            ended: Le32::new(now.ended),
            left: Le32::new(now.left),
            process: Le32::new(now.process),
        };
        Ok((rep, KVVec::new()))
    }
}

/// Has a node shut down. Sleeps until that has begun.
///
/// # Errors
/// Those of `Begin`; `EHOSTDOWN` that node is down.
pub(crate) fn ask(node: NodeId, action: u32, grace_ms: u32) -> Result {
    let m = current().ok_or(ENOTCONN)?;
    if node == m.this {
        return begin(action, grace_ms);
    }
    let req = BeginReq {
        action: Le32::new(action),
        grace_ms: Le32::new(grace_ms),
    };
    match ics::call::<Begin>(node, &req, &[]) {
        Ok(_) => Ok(()),
        Err(CallError::Down(_)) => Err(EHOSTDOWN),
        Err(e) => Err(e.to_errno()),
    }
}

/// How far the last shutdown of a node is. Sleeps until it answers or is down.
///
/// # Errors
/// `EHOSTDOWN` it is down; `ENOTCONN` this node has not joined.
pub(crate) fn state_of(node: NodeId) -> Result<ShutdownState> {
    if LAST.lock().this == Some(node) {
        return Ok(own_state());
    }
    if current().ok_or(ENOTCONN)?.this == node {
        return Ok(own_state());
    }
    match ics::call::<Look>(node, &LookReq {}, &[]) {
        Ok((now, _)) => Ok(ShutdownState {
            stage: now.stage.get(),
            error: now.error.get(),
            moved: now.moved.get(),
            ended: now.ended.get(),
            left: now.left.get(),
            process: now.process.get(),
        }),
        Err(CallError::Down(_)) => Err(EHOSTDOWN),
        Err(e) => Err(e.to_errno()),
    }
}

fn own_state() -> ShutdownState {
    let last = LAST.lock();
    ShutdownState {
        stage: last.stage as u32,
        error: last.error,
        moved: last.drained.moved,
        ended: last.drained.ended,
        left: last.drained.left,
        process: last.drained.process.map_or(0, |p| p.0),
    }
}

/// The members that take what leaves this node: those that are not about to leave themselves.
pub fn stay_behind() -> NodeSet {
    let (Some(m), Ok(now)) = (current(), status::members()) else {
        return NodeSet::new();
    };
    now.up.without(m.this)
}

fn set_stage(stage: Stage, error: u32) {
    let mut last = LAST.lock();
    last.stage = stage;
    last.error = error;
}

/// Begins the shutdown of this node; nothing is changed if it may not go.
fn begin(action: u32, grace_ms: u32) -> Result {
    let action = Action::from_wire(action)?;
    if grace_ms > MAX_GRACE_MS {
        return Err(EINVAL);
    }
    let m = current().ok_or(ENOTCONN)?;
    if m.is_witness() {
        return Err(EOPNOTSUPP);
    }
    let turn = Turn::take()?;
    m.check_leave()?;
    if !m.others_stay() {
        return Err(EDQUOT);
    }
    // The former one is over: it has given its turn back, which was the last that it did.
    let former = LAST.lock().thread.take();
    drop(former);
    let mut last = LAST.lock();
    let this = m.this;
    // It waits for the lock before it is over, and so is there until it is in its place.
    let thread = KThread::run(c"clms_shutdown", move || {
        run(&m, action, grace_ms, &turn);
        drop(turn);
    })?;
    last.this = Some(this);
    last.stage = Stage::Draining;
    last.error = 0;
    last.drained = Drained::default();
    last.thread = Some(thread);
    Ok(())
}

fn run(m: &Arc<Membership>, action: Action, grace_ms: u32, turn: &Turn) {
    pr_info!("shutdown: this node is emptied, grace {} ms\n", grace_ms);
    m.set_draining(true);
    let gone = m.empty_and_leave(grace_ms, turn);
    if let Err(e) = gone {
        m.set_draining(false);
        observers::tell(|o| o.stays());
        m.set_own_state(NodeState::Up, Cause::Stayed);
        set_stage(Stage::Stayed, e.to_errno().unsigned_abs());
        pr_warn!("shutdown: this node stays a member: {:?}\n", e);
        return;
    }
    set_stage(Stage::Left, 0);
    match action {
        Action::Stay => pr_info!("shutdown: this node has left\n"),
        Action::PowerOff => {
            pr_info!("shutdown: this node has left, its machine powers off\n");
            machine::power_off();
        }
        Action::Reboot => {
            pr_info!("shutdown: this node has left, its machine restarts\n");
            machine::reboot();
        }
    }
}

impl Membership {
    /// Says so to the others, who give this node nothing new.
    fn set_draining(&self, draining: bool) {
        self.done.lock().draining = draining;
        if draining {
            self.set_own_state(NodeState::Shutdown, Cause::Left);
        }
        self.say();
    }

    /// Whether the members that are not about to leave have a majority without this node.
    fn others_stay(&self) -> bool {
        if self.table().is_of_one() {
            return true;
        }
        let core = &self.heart.lock().core;
        let mut rest = core.says().view.members;
        let done = self.done.lock();
        for (p, r) in self.table().rows() {
            let goes = done.states.get(p) == Some(&NodeState::Shutdown) || done.leaving.contains(p);
            if r.node == self.this || goes {
                rest.remove(p);
            }
        }
        core.is_quorate(&rest)
    }

    /// Whether this membership is over, or the module goes.
    fn is_over(&self) -> bool {
        OVER.load(Relaxed) != 0 || self.done.lock().ending
    }

    /// Waits until nothing keeps this node any more.
    ///
    /// # Errors
    /// `EBUSY` something does `end`; `EDQUOT` the rest would have no majority now; `ENOTCONN` the membership is over.
    fn wait_until_empty(&self, end: u64) -> Result {
        loop {
            let now = observers::drained();
            LAST.lock().drained = now;
            if now.left == 0 {
                return Ok(());
            }
            match self.check_leave() {
                // It may be known to be off by then.
                Err(e) if e != EAGAIN => return Err(e),
                _ => {}
            }
            if now_ms() > end {
                if let Some(p) = now.process {
                    pr_warn!("shutdown: process {} does not end\n", p.0);
                }
                return Err(EBUSY);
            }
            if self.changed.wait_timeout(LOOK_MS, || self.is_over()) {
                return Err(ENOTCONN);
            }
        }
    }

    fn empty_and_leave(&self, grace_ms: u32, turn: &Turn) -> Result {
        let begin = now_ms();
        let end = begin + u64::from(grace_ms) + LAST_MS;
        let is_late = || now_ms() > end || self.is_over();
        let left_ms = || {
            let gone = u32::try_from(now_ms() - begin).unwrap_or(u32::MAX);
            grace_ms.saturating_sub(gone)
        };
        loop {
            observers::drain(left_ms())?;
            hit("Shutdown.draining")?;
            self.wait_until_empty(end)?;
            set_stage(Stage::Leaving, 0);
            hit("Shutdown.leaving")?;
            match self.leave(turn, &Patience::Until(&is_late)) {
                // Something came in between, or a lost node is about to be known to be off.
                Err(e) if (e == EBUSY || e == EAGAIN) && !is_late() => {
                    observers::drain(left_ms())?;
                    set_stage(Stage::Draining, 0);
                    self.set_own_state(NodeState::Shutdown, Cause::Left);
                    self.changed.wait_timeout(LOOK_MS, || self.is_over());
                }
                r => return r,
            }
        }
    }
}

/// What `shutdown` says of an error.
pub(crate) fn refusal(e: Error) -> Option<&'static CStr> {
    // At most 80 bytes, or the kernel cuts them.
    match e {
        e if e == ENOTCONN => Some(c"it has not joined"),
        e if e == EALREADY => Some(c"it is being shut down, or leaves, already"),
        e if e == EDQUOT => Some(c"the nodes that remain would be no majority"),
        e if e == EAGAIN => Some(c"a lost node is not fenced yet: see cluster status"),
        e if e == EHOSTDOWN => Some(c"it is down, or a witness"),
        e if e == EOPNOTSUPP => Some(c"a witness has nothing to be emptied of: cluster leave"),
        _ => None,
    }
}

/// Whether a node is in the table.
pub(crate) fn is_known(node: NodeId) -> bool {
    current().is_some_and(|m| m.place(node).is_some())
}
