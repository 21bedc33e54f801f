// SPDX-License-Identifier: GPL-2.0

//! Emptying this node before its planned shutdown: what belongs to other nodes goes there, or ends.
//!
//! One thread looks again and again at the processes with relations to other nodes, one after the other, until it is
//! stopped. What cannot be moved is told to end, and killed when the grace is over. Processes from before the join are left
//! alone: their children elsewhere are given to init there.
//!
//! Not for the decision to leave (`clms::shutdown`), nor for processes of this node alone: they go down with it.

use crate::children;
use crate::migrate;
use crate::recovery;
use crate::relations;
use kernel::prelude::*;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::SpinLock;
use ssi::ids::ClusterPid;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::pproc;
use ssi::pproc::ProcessState;
use ssi::pproc::SigInfo;
use ssi::pproc::Target;
use ssi::wait::Event;

/// Between two looks.
const LOOK_MS: u32 = 100;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;

/// What is to be done, and was.
#[derive(Clone, Copy, Default)]
struct Work {
    is_on: bool,
    /// The thread ends.
    is_over: bool,
    /// The counts are of a shutdown that is over.
    is_old: bool,
    /// When the grace began, and how long it is.
    begin_ms: u64,
    grace_ms: u64,
    moved: u32,
    ended: u32,
}

/// What the thread shares with those who begin and stop it.
#[pin_data]
struct Drain {
    /// Lock: `vproc::drain_work`, spin, a leaf.
    #[pin]
    work: SpinLock<Work>,
    #[pin]
    changed: Event,
}

struct Running {
    drain: Arc<Drain>,
    thread: KThread,
}

global_lock! {
    // SAFETY: Initialised in `init()`, which the module calls before anything else.
    /// The thread, from the first shutdown until unload: who begins one waits for no step of the one before. Lock: level 38
    /// `vproc::drain`, mutex.
    unsafe(uninit) static DRAIN: Mutex<Option<Running>> = None;
}

/// Makes the lock. Once, at module load.
pub(crate) fn init() {
    // SAFETY: Called exactly once, from module init.
    unsafe { DRAIN.init() };
}

/// Begins, if it is not under way.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn begin(grace_ms: u32) -> Result {
    let mut running = DRAIN.lock();
    if running.is_none() {
        let drain = Arc::pin_init(
            pin_init!(Drain {
                work <- kernel::new_spinlock!(Work::default(), "vproc::drain_work"),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )?;
        let mine = drain.clone();
        let thread = KThread::run(c"ssi_drain", move || mine.run())?;
        *running = Some(Running { drain, thread });
    }
    if let Some(r) = running.as_ref() {
        r.drain.begin(grace_ms);
    }
    Ok(())
}

/// Stops it, but for the step that is under way.
pub(crate) fn stop() {
    change(|w| w.is_on = false);
}

/// As [`stop`], and the shutdown is over.
pub(crate) fn give_up() {
    change(|w| {
        w.is_on = false;
        w.is_old = true;
    });
}

/// Ends the thread, and waits for that.
pub(crate) fn end() {
    change(|w| w.is_over = true);
    let last = DRAIN.lock().take();
    if let Some(r) = last {
        drop(r.thread);
    }
}

fn change(f: impl FnOnce(&mut Work)) {
    if let Some(r) = DRAIN.lock().as_ref() {
        f(&mut r.drain.work.lock());
        r.drain.changed.notify_all();
    }
}

/// How far it is. Asks no other node.
pub(crate) fn drained() -> clms::Drained {
    let done = DRAIN
        .lock()
        .as_ref()
        .map_or(Work::default(), |r| *r.drain.work.lock());
    // Without memory to look it is not over.
    let (left, process) = match relations::all() {
        // CAST: far below.
        Ok(all) => (all.len() as u32, all.first().copied()),
        Err(_) => (1, None),
    };
    clms::Drained {
        moved: done.moved,
        ended: done.ended,
        left,
        process,
    }
}

fn now_ms() -> u64 {
    ssi::machine::monotonic_ns() / 1_000_000
}

/// Whether an errno of a movement is about its destination: another one may take the process.
fn is_of_destination(e: Error) -> bool {
    [EHOSTDOWN, EHOSTUNREACH, ESTALE, ENOEXEC, ENOMEM, EEXIST].contains(&e)
}

/// Whether another try may do better.
fn is_for_now(e: Error) -> bool {
    [
        EAGAIN,
        EBUSY,
        EINTR,
        ENOMEM,
        EHOSTDOWN,
        EHOSTUNREACH,
        EEXIST,
    ]
    .contains(&e)
}

/// A signal of the kernel.
fn signal(pid: ClusterPid, sig: i32) {
    const SI_KERNEL: i32 = 0x80;
    let mut info = SigInfo([0; SigInfo::LEN]);
    for (at, n) in [(0, sig), (8, SI_KERNEL)] {
        if let Some(to) = info.0.get_mut(at..at + 4) {
            to.copy_from_slice(&n.to_le_bytes());
        }
    }
    // ESRCH: it has ended, or went.
    let _gone = pproc::signal(pid, Target::Process, sig, &info, 0, true);
}

/// Gives the children elsewhere of a process that stays here to init of their nodes. May call other nodes.
fn give_away_children(parent: ClusterPid) -> Result {
    for (p, child) in children::alive()? {
        if p == parent && children::remove(parent, child) {
            recovery::adopt(child);
        }
    }
    Ok(())
}

impl Drain {
    fn begin(&self, grace_ms: u32) {
        {
            let mut w = self.work.lock();
            if w.is_on {
                return;
            }
            if w.is_old {
                *w = Work::default();
            }
            w.is_on = true;
            w.begin_ms = now_ms();
            w.grace_ms = grace_ms.into();
        }
        self.changed.notify_all();
    }

    fn work(&self) -> Work {
        *self.work.lock()
    }

    fn is_off(&self) -> bool {
        let w = self.work();
        !w.is_on || w.is_over
    }

    fn run(&self) {
        loop {
            let mut now = Work::default();
            self.changed.wait_until(|| {
                now = self.work();
                now.is_on || now.is_over
            });
            if now.is_over {
                return;
            }
            let mut round = Round {
                drain: self,
                told: KVec::new(),
                next: 0,
            };
            while !self.is_off() {
                // Without memory it is tried again.
                let _tried = round.go();
                self.changed.wait_timeout(LOOK_MS, || self.is_off());
            }
        }
    }
}

/// What the thread knows.
struct Round<'a> {
    drain: &'a Drain,
    /// Those that were told to end.
    told: KVec<ClusterPid>,
    /// Whose turn it is to take one.
    next: usize,
}

impl Round<'_> {
    /// Sees to each process once.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn go(&mut self) -> Result {
        let all = relations::of_processes()?;
        let before = self.told.len();
        self.told.retain(|p| all.contains(p));
        // CAST: far below.
        self.drain.work.lock().ended += (before - self.told.len()) as u32;
        for pid in all {
            if self.drain.is_off() {
                return Ok(());
            }
            if pid.origin().is_none() {
                give_away_children(pid)?;
            } else {
                self.see_to(pid)?;
            }
        }
        Ok(())
    }

    /// Moves a process, or has it end.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn see_to(&mut self, pid: ClusterPid) -> Result {
        let state = pproc::process_state(pid);
        if matches!(state, ProcessState::Dead | ProcessState::Gone) {
            return Ok(());
        }
        let Work {
            begin_ms, grace_ms, ..
        } = self.drain.work();
        if now_ms() - begin_ms >= grace_ms {
            if !self.told.contains(&pid) {
                self.told.push(pid, GFP_KERNEL)?;
            }
            signal(pid, SIGKILL);
            return Ok(());
        }
        if self.told.contains(&pid) {
            return Ok(());
        }
        let why = match state {
            // It cannot be caught.
            ProcessState::Stopped | ProcessState::Leaderless => EBUSY,
            ProcessState::Uninterruptible => EAGAIN,
            _ => match self.send_away(pid) {
                Ok(()) => {
                    self.drain.work.lock().moved += 1;
                    return Ok(());
                }
                Err(e) if e == ESRCH => return Ok(()),
                Err(e) => e,
            },
        };
        // That took its time: perhaps nobody wants it to go any more.
        if self.drain.is_off() {
            return Ok(());
        }
        let is_hopeless =
            matches!(state, ProcessState::Stopped | ProcessState::Leaderless) || !is_for_now(why);
        if is_hopeless || now_ms() - begin_ms >= grace_ms / 2 {
            self.told.push(pid, GFP_KERNEL)?;
            pr_info!(
                "process {} cannot go ({:?}): it is told to end\n",
                pid.0,
                why
            );
            signal(pid, SIGTERM);
            signal(pid, SIGCONT);
        }
        Ok(())
    }

    /// Moves a process: to its origin if that takes it, else to the member whose turn it is.
    ///
    /// # Errors
    /// Those of [`migrate::ask`]; `EHOSTDOWN` nobody is left.
    fn send_away(&mut self, pid: ClusterPid) -> Result {
        let takers = clms::stay_behind();
        let mut to: KVec<NodeId> = KVec::new();
        for node in takers.iter() {
            to.push(node, GFP_KERNEL)?;
        }
        let first = self.next.checked_rem(to.len()).unwrap_or(0);
        self.next = self.next.wrapping_add(1);
        let origin = pid.origin().filter(|o| takers.contains(*o));
        let turns = to.iter().cycle().skip(first).take(to.len()).copied();
        let mut last = EHOSTDOWN;
        let turns = turns.filter(|n| Some(*n) != origin);
        for node in Iterator::chain(origin.into_iter(), turns) {
            match migrate::ask(pid, node) {
                Err(e) if is_of_destination(e) => last = e,
                r => return r,
            }
        }
        Err(last)
    }
}

#[kunit_tests(ssi_vproc_drain)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_tried_again() {
        for (e, of_destination, for_now) in [
            (EHOSTDOWN, true, true),
            (ESTALE, true, false),
            (EBUSY, false, true),
            (EOPNOTSUPP, false, false),
            (EXDEV, false, false),
        ] {
            assert_eq!(
                (is_of_destination(e), is_for_now(e)),
                (of_destination, for_now)
            );
        }
    }
}
