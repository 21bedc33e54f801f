// SPDX-License-Identifier: GPL-2.0

//! Fence before judging: no observer hears of a node's death before that node is known to be off.
//!
//! Decisions are in `state`, which is pure. A thread performs its effects: asks other members, and asks whoever runs fence
//! agents on this node, which user space does (`cluster fenced`). The thread that carries views out waits for the result.

mod proto;
mod state;

use crate::places::Places;
use crate::table::Table;
use crate::thread;
use crate::thread::current;
use crate::thread::now_ms;
use crate::thread::Membership;
use crate::thread::MAX_NODES;
use crate::thread::VIEW;
use crate::thread::WORDS;
use kernel::prelude::*;
use kernel::sync::SpinLock;
use proto::*;
use ssi::clms_netlink;
use ssi::clms_netlink::FenceJob;
use ssi::clms_netlink::Fenced;
use ssi::clms_netlink::Loss;
use ssi::clms_netlink::Refusal;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use state::Answer;
use state::Effect;
use state::Millis;
use state::Slot;
use state::Times;

/// How long an agent may take unless the join says otherwise.
const AGENT_MS: u32 = 60_000;

/// How much later this node gives up than whoever runs the agent.
const AGENT_MARGIN_MS: u64 = 5000;

const FIRST_REST_MS: Millis = 1000;
const LONGEST_REST_MS: Millis = 10_000;

/// How long another member may take to answer. Its handlers wait for nobody.
const ANSWER_MS: u32 = 5000;

/// Between two looks at what only time can change.
const POLL_MS: u32 = 200;

/// What this node knows of nodes that are lost.
#[pin_data]
pub(crate) struct Fencing {
    /// Lock: level 26 `clms::fencing`, spin: looked at in waits, and taken under `clms::heart`.
    #[pin]
    inner: SpinLock<Inner>,
}

struct Inner {
    machine: state::Fencing<KVec<Slot>>,
    /// The members of the view that was agreed last, which may be newer than the one carried out, and their incarnations.
    members: u64,
    lives: KVec<u64>,
    times: KVec<Lost>,
    /// Lost since calls to lost nodes were last ended.
    to_cut: u64,
    /// The others have a view without this node.
    is_out: bool,
    /// Something has happened since the thread last looked.
    is_new: bool,
}

/// When a node was heard, lost, and judged dead; 0: never.
#[derive(Clone, Copy, Default)]
struct Lost {
    heard_ms: u64,
    detection_ms: u64,
    lost_ms: u64,
    judgement_ms: u64,
}

/// How nodes are fenced, as a join says.
pub(crate) struct FenceArgs {
    /// How long an agent may take; 0: the default.
    pub(crate) timeout_ms: u32,
}

impl Fencing {
    /// Knows of no lost node.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        this: usize,
        table: &Table,
        args: &FenceArgs,
    ) -> Result<impl PinInit<Self, Error>> {
        let mut slots = KVec::new();
        let mut lives = KVec::new();
        let mut times = KVec::new();
        let mut fenced = 0;
        for p in 0..MAX_NODES {
            slots.push(Slot::default(), GFP_KERNEL)?;
            lives.push(0, GFP_KERNEL)?;
            times.push(Lost::default(), GFP_KERNEL)?;
            if table.row(p).is_some_and(|r| r.fenced) {
                fenced |= 1 << p;
            }
        }
        let agent_ms = match args.timeout_ms {
            0 => AGENT_MS,
            ms => ms,
        };
        let limits = Times {
            attempt: u64::from(agent_ms) + AGENT_MARGIN_MS,
            first_rest: FIRST_REST_MS,
            longest_rest: LONGEST_REST_MS,
        };
        let inner = Inner {
            // A clock that only a boot sets back, with which the daemon ends too.
            machine: state::Fencing::new(this, slots, limits, fenced, now_ms() as u32),
            members: 0,
            lives,
            times,
            to_cut: 0,
            is_out: false,
            is_new: false,
        };
        Ok(pin_init!(Self {
            inner <- kernel::new_spinlock!(inner, "clms::fencing"),
        }? Error))
    }
}

impl Membership {
    /// Something has happened: who waits for it, or acts on it, looks.
    fn fence_event<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let r = {
            let mut inner = self.fencing.inner.lock();
            inner.is_new = true;
            f(&mut inner)
        };
        self.changed.notify_all();
        r
    }

    /// The members have agreed on a view. Called before it is carried out, in order.
    pub(crate) fn fence_view(&self, members: &Places<WORDS>, incarnations: &[u64]) {
        let [members] = *members.words();
        let now = now_ms();
        self.fence_event(|f| {
            let (old, lives) = (f.members, &f.lives);
            f.machine
                .view(old, members, |p| lives.get(p).copied().unwrap_or(0));
            f.members = members;
            let lost = old & !members;
            f.to_cut |= lost;
            for (p, t) in f.times.iter_mut().enumerate() {
                if lost & (1 << p) != 0 {
                    t.lost_ms = now;
                    t.detection_ms = now.saturating_sub(t.heard_ms);
                    t.judgement_ms = 0;
                }
            }
            for (p, (to, from)) in f.lives.iter_mut().zip(incarnations).enumerate() {
                if members & (1 << p) != 0 {
                    *to = *from;
                }
            }
        });
    }

    /// A node says something. Returns whether the membership may hear it.
    pub(crate) fn fence_heard(&self, p: usize, incarnation: Incarnation, leaving: bool) -> bool {
        let now = now_ms();
        let (may, is_news) = {
            let mut f = self.fencing.inner.lock();
            let waits = f.machine.is_pending(p);
            let may = f.machine.heard(p, incarnation.0, leaving);
            if let Some(t) = f.times.get_mut(p) {
                t.heard_ms = now;
            }
            let is_news = waits && !f.machine.is_pending(p);
            f.is_new |= is_news;
            (may, is_news)
        };
        if is_news {
            pr_info!(
                "node {} was started again: its earlier life is over\n",
                self.number(p)
            );
            self.changed.notify_all();
        }
        may
    }

    /// The others have a view without this node.
    pub(crate) fn fence_out(&self) {
        self.fence_event(|f| f.is_out = true);
    }

    /// Whether a node is lost and not known to be off, or an agent may still run here: it keeps the node that it is to
    /// switch off from becoming a member, as long as this node is one.
    pub(crate) fn fence_pending(&self) -> bool {
        let f = self.fencing.inner.lock();
        (0..MAX_NODES).any(|p| f.machine.is_pending(p) || f.machine.job(p).is_some())
    }

    /// The same of one node.
    pub(crate) fn is_fence_pending(&self, p: usize) -> bool {
        let f = self.fencing.inner.lock();
        f.machine.is_pending(p) || f.machine.job(p).is_some()
    }

    /// There is another node at a place, or none: nothing of the one before counts for it.
    pub(crate) fn fence_row(&self, p: usize, fenced: bool) {
        self.fence_event(|f| {
            f.machine.forget(p, fenced);
            if let Some(l) = f.lives.get_mut(p) {
                *l = 0;
            }
            if let Some(t) = f.times.get_mut(p) {
                *t = Lost::default();
            }
        });
    }

    fn number(&self, p: usize) -> u32 {
        self.table().number(p)
    }

    /// The calls to these nodes have ended, or are about to.
    pub(crate) fn fence_cut(&self, lost: &Places<WORDS>) {
        let [lost] = *lost.words();
        self.fencing.inner.lock().to_cut &= !lost;
    }

    /// Ends the calls to members that were lost while this thread waits: who waits for them may be who must act.
    fn cut_lost(&self) {
        let lost = core::mem::take(&mut self.fencing.inner.lock().to_cut);
        for (p, r) in self.table().rows() {
            if lost & (1 << p) == 0 {
                continue;
            }
            // No transition yet: the view that makes it has its turn later, and numbers are the same on all nodes.
            self.done.lock().cut.insert(p);
            {
                let mut view = VIEW.lock();
                view.1.members = view.1.members.without(r.node);
            }
            ics::fence(r.node);
        }
    }

    /// Waits until a lost node is known to be off. Returns whether it is: `false` if this node is on its way out itself.
    pub(crate) fn fence_wait(&self, p: usize, gone: Incarnation) -> bool {
        loop {
            self.cut_lost();
            let mut over = false;
            let mut ending = false;
            self.changed.wait_until(|| {
                ending = self.done.lock().ending;
                let f = self.fencing.inner.lock();
                over = f.machine.is_over(p, gone.0);
                ending |= f.is_out;
                over || ending || f.to_cut != 0
            });
            if over || ending {
                return over;
            }
        }
    }

    /// A node is judged dead: its nodedown phases begin.
    pub(crate) fn fence_judged(&self, p: usize, gone: Incarnation) {
        let now = now_ms();
        let (t, has_left) = {
            let mut f = self.fencing.inner.lock();
            let has_left = f.machine.has_left(p, gone.0);
            let Some(t) = f.times.get_mut(p) else { return };
            // At least 1: 0 says that it was not judged.
            t.judgement_ms = now.saturating_sub(t.lost_ms).max(1);
            (*t, has_left)
        };
        if has_left {
            return;
        }
        pr_info!(
            "node {} is judged dead: detection {} ms, judgement {} ms\n",
            self.number(p),
            t.detection_ms,
            t.judgement_ms
        );
    }

    /// How a node was lost last.
    pub(crate) fn loss(&self, p: usize) -> Loss {
        let last = self.incarnation_of(p).0;
        let f = self.fencing.inner.lock();
        let t = f.times.get(p).copied().unwrap_or_default();
        let fence = if !f.machine.is_fenced(p) {
            0
        } else if f.machine.is_pending(p) {
            2
        } else if last != 0 && f.machine.lost(p) == last {
            3
        } else {
            1
        };
        let ms = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Loss {
            fence,
            detection_ms: if t.lost_ms == 0 {
                0
            } else {
                ms(t.detection_ms)
            },
            judgement_ms: ms(t.judgement_ms),
        }
    }

    /// Does what must be done about lost nodes, one thing after the other.
    pub(crate) fn run_fencing(&self) {
        loop {
            let _armed = hit("Thread.clms_fence");
            let has_daemon = clms_netlink::has_fenced();
            let (effect, is_busy) = {
                let mut f = self.fencing.inner.lock();
                f.is_new = false;
                f.machine.daemon(has_daemon);
                (f.machine.next(now_ms()), f.machine.is_busy())
            };
            if self.done.lock().ending {
                return;
            }
            if let Some(e) = effect {
                self.perform(e);
                continue;
            }
            let mut ending = false;
            let happens = || {
                ending = self.done.lock().ending;
                ending || self.fencing.inner.lock().is_new
            };
            if is_busy {
                self.changed.wait_timeout(POLL_MS, happens);
            } else {
                self.changed.wait_until(happens);
            }
            if ending {
                return;
            }
        }
    }

    fn perform(&self, effect: Effect) {
        let node = |p: usize| self.table().node(p);
        match effect {
            Effect::Say {
                to,
                about,
                life,
                over,
            } => {
                let req = OverReq {
                    node: Le32::new(self.number(about)),
                    over: Le32::new(over.into()),
                    incarnation: Le64::new(life),
                };
                let rep = node(to).and_then(|n| ask::<Over>(n, &req).ok());
                let answer = rep.map(|r| r.over.get() != 0);
                self.fence_event(|f| f.machine.answered(to, about, over, answer, now_ms()));
            }
            Effect::Run {
                by,
                about,
                life,
                attempt,
            } => {
                let req = RunReq {
                    node: Le32::new(self.number(about)),
                    attempt: Le32::new(attempt),
                    incarnation: Le64::new(life),
                };
                let rep = node(by).and_then(|n| ask::<Run>(n, &req).ok());
                let answer = rep.and_then(|r| match r.answer.get() {
                    1 => Some(Answer::Over),
                    2 => Some(Answer::Taken),
                    3 => Some(Answer::No),
                    _ => None,
                });
                self.fence_event(|f| f.machine.ran(about, attempt, answer));
            }
            Effect::Report {
                to,
                about,
                life,
                attempt,
            } => {
                let req = FailedReq {
                    node: Le32::new(self.number(about)),
                    attempt: Le32::new(attempt),
                    incarnation: Le64::new(life),
                };
                // Who does not hear of it has his own time-out, or is lost.
                let _lost = node(to).map(|n| ask::<Failed>(n, &req));
            }
            Effect::Announce { about, job } => {
                let Some(n) = node(about) else { return };
                pr_info!("node {} is to be fenced from here\n", n.number());
                let wanted = FenceJob {
                    node: n,
                    incarnation: job.life,
                    number: job.number,
                };
                // Who listens asks for what it has missed; who does not listen any more is missed soon.
                if let Err(e) = clms_netlink::fence_wanted(&wanted) {
                    pr_warn!("cluster fenced was not told of it: {:?}\n", e);
                }
            }
            Effect::Rest { about, wait } => {
                let n = self.number(about);
                pr_warn!(
                    "node {} is not fenced: on no member an agent has switched it off; again in {} ms. See what cluster \
                     fenced says there; if node {} is off for certain: cluster node confirm-down {}\n",
                    n,
                    wait,
                    n,
                    n
                );
            }
        }
    }
}

/// Asks another member, and does not wait for it without end: it may be waiting itself.
fn ask<O: ics::Op>(to: NodeId, req: &O::Req) -> core::result::Result<O::Rep, ics::CallError> {
    ics::ask::<O>(to, req, &[])?
        .wait_for(ANSWER_MS)
        .map(|(rep, _)| rep)
}

/// Answers the other members.
struct Server;

static SERVICE: FencingService<Server> = FencingService(Server);

/// Answers the other members until it is dropped.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn register() -> Result<ics::Registration> {
    ics::register(&SERVICE)
}

/// The membership, and the places of who asks and of whom.
fn about(from: ics::Caller, node: u32) -> Result<(kernel::sync::Arc<Membership>, usize, usize)> {
    let m = current().ok_or(ENOTCONN)?;
    let from = m.place(from.node).ok_or(ENOENT)?;
    let node = NodeId::new(node).and_then(|n| m.place(n)).ok_or(ENOENT)?;
    Ok((m, from, node))
}

impl ics::Handle<Over> for Server {
    fn handle(&self, from: ics::Caller, req: &OverReq, _tail: &[u8]) -> ics::Reply<Over> {
        let (m, from, p) = about(from, req.node.get())?;
        let over = req.over.get() != 0;
        let knows = m.fence_event(|f| f.machine.asked(from, p, req.incarnation.get(), over));
        Ok((
            OverRep {
                over: Le32::new(knows.into()),
            },
            KVVec::new(),
        ))
    }
}

impl ics::Handle<Run> for Server {
    fn handle(&self, from: ics::Caller, req: &RunReq, _tail: &[u8]) -> ics::Reply<Run> {
        let (m, from, p) = about(from, req.node.get())?;
        let has_daemon = clms_netlink::has_fenced();
        let answer = m.fence_event(|f| {
            f.machine.daemon(has_daemon);
            let (life, attempt) = (req.incarnation.get(), req.attempt.get());
            f.machine.run_asked(from, p, life, attempt, now_ms())
        });
        let answer = match answer {
            Answer::Over => 1,
            Answer::Taken => 2,
            Answer::No => 3,
        };
        Ok((
            RunRep {
                answer: Le32::new(answer),
            },
            KVVec::new(),
        ))
    }
}

impl ics::Handle<Failed> for Server {
    fn handle(&self, from: ics::Caller, req: &FailedReq, _tail: &[u8]) -> ics::Reply<Failed> {
        let (m, _, p) = about(from, req.node.get())?;
        let (life, attempt) = (req.incarnation.get(), req.attempt.get());
        m.fence_event(|f| f.machine.failed(p, life, attempt));
        Ok((FailedRep {}, KVVec::new()))
    }
}

/// The agents that are to run on this node.
pub(crate) fn jobs(add: &mut dyn FnMut(FenceJob)) {
    let Some(m) = current() else { return };
    let table = m.table();
    let f = m.fencing.inner.lock();
    for (p, r) in table.rows() {
        if let Some(j) = f.machine.job(p) {
            add(FenceJob {
                node: r.node,
                incarnation: j.life,
                number: j.number,
            });
        }
    }
}

/// An agent has ended.
///
/// # Errors
/// `ENOTCONN` this node has not joined; `ENOENT` there is no such node or job.
pub(crate) fn done(d: &Fenced<'_>) -> core::result::Result<(), Refusal> {
    let m = current().ok_or(ENOTCONN)?;
    let p = m.place(d.node).ok_or(ENOENT)?;
    let text = core::str::from_utf8(d.text).unwrap_or("?");
    let what = if d.status == 0 {
        "fenced"
    } else {
        "not fenced"
    };
    // Before anybody acts on it.
    pr_info!("node {} is {}: {}\n", d.node.number(), what, text);
    let is_known = m.fence_event(|f| f.machine.done(p, d.job, d.status == 0));
    if is_known {
        Ok(())
    } else {
        Err(Refusal(
            ENOENT,
            Some(c"nobody waits for that agent any more"),
        ))
    }
}

/// Somebody has switched a node off, or knows that it is.
///
/// # Errors
/// `ENOTCONN` this node has not joined; `ENOENT` no such node; `EINVAL` it is this one; `ESRCH` it does not wait to be fenced,
/// or that incarnation of it was not heard yet.
pub(crate) fn confirm(d: &Fenced<'_>) -> core::result::Result<(), Refusal> {
    let m = current().ok_or(Refusal(ENOTCONN, Some(c"this node has not joined")))?;
    let p = m
        .place(d.node)
        .ok_or(Refusal(ENOENT, Some(c"clustertab has no such node")))?;
    if d.node == thread::this_node() {
        return Err(Refusal(
            EINVAL,
            Some(c"that is this node, which is not off"),
        ));
    }
    let text = core::str::from_utf8(d.text).unwrap_or("?");
    if d.by_agent {
        if d.incarnation == 0 {
            return Err(Refusal(EINVAL, Some(c"which incarnation of it?")));
        }
        if d.incarnation > m.fencing.inner.lock().machine.latest(p) {
            let why = c"no such incarnation of it was heard: see cluster node show";
            return Err(Refusal(ESRCH, Some(why)));
        }
        pr_info!("node {} is fenced by hand: {}\n", d.node.number(), text);
        m.fence_event(|f| f.machine.confirm(p, d.incarnation));
        return Ok(());
    }
    let lost = {
        let f = m.fencing.inner.lock();
        f.machine.is_pending(p).then(|| f.machine.lost(p))
    };
    let why = c"that node does not wait to be fenced: see cluster status";
    let life = lost.ok_or(Refusal(ESRCH, Some(why)))?;
    pr_warn!(
        "node {} is off: an administrator says so\n",
        d.node.number()
    );
    m.fence_event(|f| f.machine.confirm(p, life));
    Ok(())
}
