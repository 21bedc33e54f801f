// SPDX-License-Identifier: GPL-2.0

//! The membership of this node while it runs: who feeds the state machine, and who performs its effects.
//!
//! Heartbeats come in on the transport's thread, time on a real-time thread; both take one step under one lock and leave.
//! A third thread carries changes out, in order, and may take its time: heartbeats go on meanwhile.

use crate::changes::Change as Task;
use crate::changes::NodeState;
use crate::fencing::FenceArgs;
use crate::fencing::Fencing;
use crate::history;
use crate::history::Cause;
use crate::keys;
use crate::lease;
use crate::lease::Lease;
use crate::met::Met;
use crate::observers;
use crate::places::Place;
use crate::places::Places;
use crate::proto;
use crate::recorder;
use crate::recorder::Input;
use crate::registry;
use crate::registry::Replica;
use crate::sent::Sent;
use crate::set::NodeSet;
use crate::shown::Shown;
use crate::state;
use crate::state::Change;
use crate::state::Effect;
use crate::state::Phase;
use crate::state::Times;
use crate::state::Why;
use crate::table;
use crate::table::Common;
use crate::table::Row;
use crate::table::Table;
use crate::torn::Torn;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SpinLock;
use ssi::failpoint::hit;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread;
use ssi::kthread::KThread;
use ssi::kthread::WithoutIo;
use ssi::wait::Event;
use ssi::wait::Queue;

/// Between two heartbeats, at most; where detection is fast, an eighth of it.
const BEAT_MS: u32 = 100;

/// Words of a set of places.
pub(crate) const WORDS: usize = 1;

// Links are judged by the periods whose beats they bring.
const _: () = assert!(crate::sent::PERIOD_BITS == ics::PERIOD_BITS);

/// The most nodes of a table.
pub(crate) const MAX_NODES: usize = Places::<WORDS>::ROOM;

/// What a node says in its heartbeats.
pub(crate) type Says = state::Says<WORDS>;

/// A view by places of the table.
pub(crate) type TableView = state::View<WORDS>;

pub(crate) type Core = state::Core<KVec<state::Known<Says>>, WORDS>;

/// How long a node that hears no cluster waits for the rest of the table.
const FORM_MS: u64 = 1500;

/// Unless the join says otherwise.
pub(crate) const DETECT_MS: u32 = 2000;

/// The membership in force on this node.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Its number; 0: this node is no member.
    pub id: u64,
    /// Its members.
    pub members: NodeSet,
    /// The member that leads changes: the lowest.
    pub master: Option<NodeId>,
}

/// What a join gives.
pub(crate) struct JoinArgs {
    pub(crate) name: KVec<u8>,
    pub(crate) key: KVec<u8>,
    pub(crate) next_key: KVec<u8>,
    pub(crate) old_key: KVec<u8>,
    pub(crate) this: NodeId,
    pub(crate) table: Arc<Table>,
    /// The one that is staged, and what it makes of the other.
    pub(crate) next: Option<(Change, Arc<Table>)>,
    pub(crate) common: Common,
    pub(crate) fence: FenceArgs,
}

/// One membership, from join to leave.
#[pin_data]
pub(crate) struct Membership {
    pub(crate) this: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) name: KVec<u8>,
    pub(crate) detect_ms: u32,
    pub(crate) common: Common,
    /// The table as those above know it: that of the view that is carried out. Lock: level 29 `clms::table`, spin: a pointer
    /// is copied under it.
    #[pin]
    pub(crate) table: SpinLock<Arc<Table>>,
    /// Lock: level 22 `clms::heart`, mutex. Held for one step; never while an observer runs.
    #[pin]
    pub(crate) heart: Mutex<Heart>,
    /// Lock: level 29 `clms::shown`, spin: a leaf, under `clms::heart`.
    #[pin]
    pub(crate) shown: SpinLock<Shown>,
    lease: Arc<Lease>,
    pub(crate) changes: Arc<Queue<Task>>,
    /// What has been carried out. Lock: level 23 `clms::done`, spin: looked at in waits.
    #[pin]
    pub(crate) done: SpinLock<Done>,
    /// Told at every change of `done`, and of what is known of lost nodes.
    #[pin]
    pub(crate) changed: Event,
    #[pin]
    pub(crate) fencing: Fencing,
    /// This node's copy of the records.
    pub(crate) replica: Arc<Replica>,
}

/// What takes steps, and the heartbeats in which it says so.
pub(crate) struct Heart {
    /// In memory of its own: several of it are more than a stack has.
    pub(crate) core: KBox<Core>,
    /// This life has given way to a later one, and takes no step any more.
    has_given_way: bool,
    /// The table that it goes by, and the one that is staged.
    pub(crate) table: Arc<Table>,
    pub(crate) staged: Option<Arc<Table>>,
    sent: Sent,
}

/// A heartbeat to be sent, as it was when the lock was held.
struct Beat {
    seq: u64,
    says: Says,
    answers: [state::Answer; MAX_NODES],
}

impl Heart {
    /// One to all, as it is time.
    fn beat(&mut self) -> Beat {
        let seq = self.sent.beat_to_all(now_ms());
        self.numbered(seq)
    }

    /// One to all, as there is news.
    fn news(&mut self) -> Beat {
        let seq = self.sent.news_to_all(now_ms());
        self.numbered(seq)
    }

    /// One to a single node.
    fn single(&mut self) -> Beat {
        let seq = self.sent.beat_to_one(now_ms());
        self.numbered(seq)
    }

    fn numbered(&self, seq: u64) -> Beat {
        let mut answers = [state::Answer::default(); MAX_NODES];
        for (p, a) in answers.iter_mut().enumerate() {
            *a = self.core.answer(p);
        }
        Beat {
            seq,
            says: self.core.says(),
            answers,
        }
    }
}

/// What has been carried out.
pub(crate) struct Done {
    pub(crate) states: KVec<NodeState>,
    pub(crate) incarnations: KVec<u64>,
    /// Members that say that they leave.
    pub(crate) leaving: Places<WORDS>,
    /// Members that are out of a view that is not carried out yet, and to which calls have ended.
    pub(crate) cut: Places<WORDS>,
    /// How each node was met.
    pub(crate) met: KVec<Met>,
    /// Result of this node's own join, once known.
    pub(crate) joined: Option<Result>,
    /// Observers have been told that this node has joined.
    pub(crate) entered: bool,
    /// This node wants out. It does not any more if others left first and the rest would be no majority.
    pub(crate) wants_out: bool,
    pub(crate) left: bool,
    /// This node is being shut down.
    pub(crate) draining: bool,
    pub(crate) ending: bool,
    /// The life of each node that was said not to be understood; 0: none.
    pub(crate) not_understood: KVec<u64>,
}

struct Running {
    lease: lease::Running,
    membership: Arc<Membership>,
    threads: KVec<KThread>,
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// Lock: level 21 `clms::running`, mutex: join and leave.
    unsafe(uninit) static RUNNING: Mutex<Option<Running>> = None;
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// The membership, for those who look. Lock: level 24 `clms::current`, spin.
    unsafe(uninit) static CURRENT: SpinLock<Option<Arc<Membership>>> = None;
}

global_lock! {
    // SAFETY: Initialised in `State::new()`, which the module calls before anything else.
    /// This node and the view in force. Lock: level 25 `clms::view`, spin.
    pub(crate) unsafe(uninit) static VIEW: SpinLock<(Option<NodeId>, View)> = (None, NO_VIEW);
}

/// When everybody has missed the last membership of this boot, by this node's clock; 0: there was none.
static QUIET_UNTIL_MS: Atomic<u64> = Atomic::new(0);

/// The incarnation of the last join of this boot.
static LAST_INCARNATION: Atomic<u64> = Atomic::new(0);

/// The time of day, so that a machine that was off has a later one than before; but whoever set the clock back since the
/// last join is no earlier life, nor is one whose earlier life the others know to be later. Called under `clms::running`.
fn new_incarnation() -> Incarnation {
    let last = LAST_INCARNATION.load(Relaxed);
    let n = ssi::machine::wall_clock_ns().max(last.saturating_add(1));
    LAST_INCARNATION.store(n, Relaxed);
    Incarnation(n)
}

const NO_VIEW: View = View {
    id: 0,
    members: NodeSet::new(),
    master: None,
};

/// The membership's globals. Dropping it ends a membership.
pub(crate) struct State(());

impl State {
    /// Makes the locks. Once, at module load.
    pub(crate) fn new() -> Self {
        // SAFETY: Called exactly once, from module init.
        unsafe { RUNNING.init() };
        // SAFETY: As above.
        unsafe { CURRENT.init() };
        // SAFETY: As above.
        unsafe { VIEW.init() };
        Self(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        end();
        // The module's next life does not know when this one ended.
        while now_ms() < QUIET_UNTIL_MS.load(Relaxed) {
            ssi::machine::sleep_ms(100);
        }
    }
}

/// This node's number. Before the first join it is 1, which no caller sees: hooks are off.
pub fn this_node() -> NodeId {
    let (this, _) = *VIEW.lock();
    this.unwrap_or(NodeId::lowest())
}

/// The view in force.
pub fn view() -> View {
    VIEW.lock().1
}

/// Whether a node is a member.
pub fn is_up(node: NodeId) -> bool {
    VIEW.lock().1.members.contains(node)
}

/// Whether a node is a member in that life. May sleep.
pub fn is_member(node: NodeId, incarnation: Incarnation) -> bool {
    if !is_up(node) {
        return false;
    }
    let m = current();
    m.is_some_and(|m| {
        let place = m.place(node);
        place.is_some_and(|p| node == m.this || m.incarnation_of(p) == incarnation)
    })
}

/// This node's clock, which never jumps.
pub(crate) fn now_ms() -> u64 {
    ssi::machine::monotonic_ns() / 1_000_000
}

/// Where a test makes this node die, or lose what it is about to say: before a step of a change, and after it.
fn failpoints(effect: &Effect<WORDS>) -> Option<(&'static str, &'static str)> {
    match effect {
        Effect::None | Effect::Stop(_) => None,
        Effect::Say => Some(("View.propose", "View.proposed")),
        Effect::SayTo(_) => Some(("View.promise", "View.promised")),
        Effect::Install { is_mine: true, .. } => Some(("View.install", "View.installed")),
        Effect::Install { .. } => Some(("View.take", "View.taken")),
        Effect::Left => Some(("View.leave", "View.left")),
    }
}

impl Membership {
    /// Takes a step and sees to its effect.
    pub(crate) fn step(&self, f: impl FnOnce(&Heart) -> Input) {
        let _always = self.step_if(|heart| Ok(f(heart)));
    }

    /// Takes a step, if it may be taken.
    ///
    /// # Errors
    /// What `f` gives.
    pub(crate) fn step_if(
        &self,
        f: impl FnOnce(&mut Heart) -> table::Answer<Input>,
    ) -> table::Answer {
        let mut heart = self.heart.lock();
        if heart.has_given_way {
            return Ok(());
        }
        let (input, now) = (f(&mut heart)?, now_ms());
        let effect = heart.core.take(input, now);
        recorder::note(input, now, effect, &heart.core);
        // Before anybody carries it out: who is told of it finds it shown.
        self.shown.lock().update(&heart.core, now);
        // Queued before anybody else takes a step: changes are carried out in the order in which they came about.
        let queued = self.follow_table(&mut heart).and_then(|()| match effect {
            Effect::Install { view, .. } => self.queue_view(view, &heart.core),
            Effect::Left => {
                self.fence_out();
                self.changes.push(Task::Left).map(|_| ())
            }
            Effect::None | Effect::Say | Effect::SayTo(_) | Effect::Stop(_) => Ok(()),
        });
        if queued.is_err() {
            stop_machine("no memory for a change of the view");
        }
        self.note_wish(heart.core.phase());
        self.lease.set(heart.core.lease_end(now_ms()));
        // What is new is said at once: a change takes round trips, not beats.
        let beat = match effect {
            Effect::Say | Effect::Left | Effect::Install { is_mine: true, .. } => {
                Some(heart.news())
            }
            Effect::SayTo(_) => Some(heart.single()),
            Effect::None | Effect::Stop(_) | Effect::Install { .. } => None,
        };
        drop(heart);
        if let Effect::Stop(why) = effect {
            if self.done.lock().ending {
                return Ok(());
            }
            stop_machine(match why {
                Why::Excluded => "the others have a view without this node",
                Why::NoQuorum => "its lease has ended: too few members are heard",
            });
        }
        let Some((before, after)) = failpoints(&effect) else {
            return Ok(());
        };
        if hit(before).is_err() {
            return Ok(());
        }
        match (effect, &beat) {
            (Effect::SayTo(p), Some(beat)) => self.send_to(p, beat),
            (_, Some(beat)) => self.send(beat),
            (_, None) => {}
        }
        let _said = hit(after);
        Ok(())
    }

    /// Says at once what has changed beside the steps.
    pub(crate) fn say(&self) {
        let beat = self.heart.lock().news();
        self.send(&beat);
    }

    fn send(&self, beat: &Beat) {
        for (p, _) in self.table().rows() {
            self.send_to(p, beat);
        }
    }

    fn send_to(&self, p: Place, beat: &Beat) {
        let (Some(node), Some(a)) = (self.table().node(p), beat.answers.get(p)) else {
            return;
        };
        let answer = ics::Answer {
            incarnation: Incarnation(a.incarnation),
            seq: a.seq,
            supports: a.supports,
        };
        let mut says = proto::encode(&beat.says);
        if self.done.lock().draining {
            proto::say_draining(&mut says);
        }
        ics::send_heartbeat(node, beat.seq, answer, &says);
    }

    fn queue_view(&self, v: TableView, core: &Core) -> Result {
        let mut incarnations = KVec::new();
        for p in 0..MAX_NODES {
            incarnations.push(core.incarnation(p), GFP_KERNEL)?;
        }
        self.fence_view(&v.members, &incarnations);
        self.changes.push(Task::Install(v, incarnations))?;
        Ok(())
    }

    /// A node says what this one does not understand: names it, once in each of its lives.
    fn not_understood(&self, place: usize, h: &ics::Heartbeat) {
        let is_known = {
            let mut done = self.done.lock();
            let told = done.not_understood.get_mut(place);
            told.is_none_or(|t| core::mem::replace(t, h.incarnation.0) == h.incarnation.0)
        };
        if !is_known {
            pr_warn!(
                "node {} has another clustertab, fence.toml or --detect-ms ({} here): it is not heard; \
                 copy those of a member and join it again\n",
                h.node.number(),
                self.detect_ms
            );
        }
    }

    /// A node has heard a later life of this one, which has booted with its clock behind its last join: nobody who knows that
    /// life hears this one. It begins a life after it, unless it is a member already.
    fn give_way(&self, later: Incarnation) {
        {
            let mut heart = self.heart.lock();
            let mut done = self.done.lock();
            if heart.core.phase() != Phase::Joining || done.joined.is_some() {
                return;
            }
            done.joined = Some(Err(ESTALE));
            heart.has_given_way = true;
        }
        pr_info!("the others know a later life of this node, whose clock is behind: it begins one after that\n");
        // The next join waits for the end of this one, and that for the thread that runs here.
        let last = LAST_INCARNATION.load(Relaxed);
        LAST_INCARNATION.store(last.max(later.0), Relaxed);
        self.changed.notify_all();
    }

    /// Remembers who was a member when, and who leaves by its own wish, until it stays or is a member again.
    fn note_phase(&self, place: usize, incarnation: Incarnation, says: &Says) {
        let mut done = self.done.lock();
        if let Some(met) = done.met.get_mut(place) {
            *met = met.heard(incarnation.0, says.phase, says.view.id);
        }
        match says.phase {
            Phase::Leaving => done.leaving.insert(place),
            Phase::Up => done.leaving.remove(place),
            Phase::Joining => {}
        }
    }

    /// A member is being shut down, or stays after all.
    fn note_drain(&self, place: usize, incarnation: Incarnation, drains: bool) {
        if self.incarnation_of(place) != incarnation {
            return;
        }
        let (from, to, cause) = if drains {
            (NodeState::Up, NodeState::Shutdown, Cause::Left)
        } else {
            (NodeState::Shutdown, NodeState::Up, Cause::Stayed)
        };
        self.change_state(place, |s| s == from, to, cause, None);
    }

    /// This node changes its own state, if it is another one.
    pub(crate) fn set_own_state(&self, state: NodeState, cause: Cause) {
        if let Some(p) = self.place(self.this) {
            self.change_state(p, |s| s != state, state, cause, None);
        }
    }

    /// Tells who waits to leave when this node does not want out any more.
    fn note_wish(&self, phase: Phase) {
        let wants_out = phase == Phase::Leaving;
        let did = core::mem::replace(&mut self.done.lock().wants_out, wants_out);
        if did && !wants_out {
            self.changed.notify_all();
        }
    }

    /// Time.
    fn beat(&self) {
        kthread::make_realtime();
        let mut torn = Torn::default();
        let beat_ms = BEAT_MS.min(self.detect_ms / 8);
        loop {
            let _armed = hit("Thread.clms_beat");
            let ending = self
                .changed
                .wait_timeout(beat_ms, || self.done.lock().ending);
            if ending {
                return;
            }
            self.step(|_| Input::Tick);
            let (beat, now_torn) = {
                let mut heart = self.heart.lock();
                (heart.beat(), Torn::new(&heart.core))
            };
            self.send(&beat);
            torn.tell(now_torn, &self.table());
        }
    }
}

/// This node must not act any more.
fn stop_machine(why: &str) {
    pr_emerg!("node stops itself: {}\n", why);
    ssi::machine::restart_now();
}

struct Links;

static LINKS: Links = Links;

/// The membership, if this node has begun to join.
pub(crate) fn current() -> Option<Arc<Membership>> {
    CURRENT.lock().clone()
}

impl ics::LinkObserver for Links {
    fn link_up(&self, node: NodeId, incarnation: Incarnation) {
        let Some(m) = current() else { return };
        if let Some(p) = m.place(node) {
            m.step(|_| Input::LinkUp(p, incarnation.0));
        }
    }

    fn link_lost(&self, node: NodeId, incarnation: Incarnation) {
        let Some(m) = current() else { return };
        if let Some(p) = m.place(node) {
            m.step(|_| Input::LinkLost(p, incarnation.0));
        }
    }

    fn heartbeat(&self, h: &ics::Heartbeat) {
        let Some(m) = current() else { return };
        let Some(p) = m.place(h.node) else { return };
        if let Some(later) = h.later {
            m.give_way(later);
        }
        let says = proto::decode(&h.says);
        match says.filter(|says| m.heart.lock().core.understands(says)) {
            Some(says) => {
                let leaving = says.phase == Phase::Leaving;
                if !m.fence_heard(p, h.incarnation, leaving) {
                    return;
                }
                m.note_phase(p, h.incarnation, &says);
                m.note_drain(p, h.incarnation, proto::says_draining(&h.says));
                m.step(|heart| {
                    let heartbeat = state::Heartbeat {
                        incarnation: h.incarnation.0,
                        seq: h.seq,
                        answers: h.answers.and_then(|seq| heart.sent.when(seq)),
                        supports: h.supports,
                        says,
                    };
                    Input::Heard(p, heartbeat)
                });
            }
            None => m.not_understood(p, h),
        }
    }
}

/// This node's copy of the records, from the begin of its join to its leave.
pub(crate) fn replica() -> Option<Arc<Replica>> {
    CURRENT.lock().as_ref().map(|m| m.replica.clone())
}

/// Starts a thread of the membership. What waits for writing may wait for what this thread does.
fn start(threads: &mut KVec<KThread>, name: &CStr, f: impl FnOnce() + Send + 'static) -> Result {
    let thread = KThread::run(name, move || {
        let _memory = WithoutIo::begin();
        f();
    })?;
    threads.push(thread, GFP_KERNEL)?;
    Ok(())
}

/// The decisions of a node that begins to join.
///
/// Never inlined, as [`membership`]: what is large is on the stack while it is made, and not under all that joining calls.
#[inline(never)]
fn core_of(
    args: &JoinArgs,
    place: usize,
    incarnation: Incarnation,
    now: u64,
) -> Result<KBox<Core>> {
    let mut known = KVec::with_capacity(MAX_NODES, GFP_KERNEL)?;
    let mut rows = KVec::with_capacity(MAX_NODES, GFP_KERNEL)?;
    for p in 0..MAX_NODES {
        let row = args.table.row(p).map(Row::for_state);
        rows.push(row, GFP_KERNEL)?;
        let k = row.map_or_else(state::Known::default, state::Known::new);
        known.push(k, GFP_KERNEL)?;
    }
    let change = args.next.as_ref().map(|(c, _)| *c);
    let times = Times::new(u64::from(args.common.detect_ms), FORM_MS);
    let quiet_until = QUIET_UNTIL_MS.load(Relaxed);
    let begin = recorder::Begin {
        place,
        incarnation: incarnation.0,
        times,
        now,
        quiet_until,
        table: args.table.digest,
        next: change,
    };
    recorder::joins(begin, rows.iter().copied());
    let digest = args.table.digest;
    let core = Core::new(place, known, digest, incarnation.0, times, now, quiet_until);
    Ok(KBox::new(core.with_next(change), GFP_KERNEL)?)
}

/// This node as one that begins to join.
#[inline(never)]
fn membership(args: &JoinArgs, place: usize, incarnation: Incarnation) -> Result<Arc<Membership>> {
    let mut states = KVec::new();
    let mut incarnations = KVec::new();
    let mut not_understood = KVec::new();
    let mut met = KVec::new();
    for _ in 0..MAX_NODES {
        met.push(Met::default(), GFP_KERNEL)?;
        not_understood.push(0, GFP_KERNEL)?;
        states.push(NodeState::NeverUp, GFP_KERNEL)?;
        incarnations.push(0, GFP_KERNEL)?;
    }
    let done = Done {
        states,
        incarnations,
        leaving: Places::EMPTY,
        cut: Places::EMPTY,
        met,
        joined: None,
        entered: false,
        wants_out: false,
        left: false,
        draining: false,
        ending: false,
        not_understood,
    };
    let mut name = KVec::new();
    name.extend_from_slice(&args.name, GFP_KERNEL)?;
    let now = now_ms();
    let core = core_of(args, place, incarnation, now)?;
    let shown = Shown::new(&core, now);
    let heart = Heart {
        core,
        has_given_way: false,
        table: args.table.clone(),
        staged: args.next.as_ref().map(|(_, t)| t.clone()),
        sent: Sent::new(),
    };
    let fencing = Fencing::new(place, &args.table, &args.fence)?;
    let replica = Replica::new(place, incarnation)?;
    for (p, r) in args.table.rows() {
        replica.set_node(p, Some(r.node));
    }
    Arc::pin_init(
        pin_init!(Membership {
            this: args.this,
            incarnation,
            name,
            detect_ms: args.common.detect_ms,
            common: args.common,
            table <- kernel::new_spinlock!(args.table.clone(), "clms::table"),
            heart <- kernel::new_mutex!(heart, "clms::heart"),
            shown <- kernel::new_spinlock!(shown, "clms::shown"),
            lease: Lease::new()?,
            changes: Queue::new()?,
            done <- kernel::new_spinlock!(done, "clms::done"),
            changed <- Event::new(),
            fencing <- fencing,
            replica,
        }? Error),
        GFP_KERNEL,
    )
}

/// Joins. Sleeps until this node is a member, or a signal comes.
///
/// # Errors
/// `EALREADY` it has joined; `EINVAL` the table; `EINTR` a signal; `ESTALE` others know a later life of this node, and the
/// next join is a later one than that; those of the transport and of observers.
pub(crate) fn join(args: JoinArgs) -> Result {
    let mut running = RUNNING.lock();
    if running.is_some() {
        return Err(EALREADY);
    }
    let place = args.table.place(args.this).ok_or(EINVAL)?;
    let mut nodes = KVec::new();
    for (_, r) in args.table.rows() {
        nodes.push(r.for_links()?, GFP_KERNEL)?;
    }
    let incarnation = new_incarnation();
    let m = membership(&args, place, incarnation)?;
    history::begin();
    *CURRENT.lock() = Some(m.clone());
    let config = ics::Config {
        name: args.name,
        key: args.key,
        next_key: args.next_key,
        old_key: args.old_key,
        this: args.this,
        incarnation,
        nodes,
    };
    if let Err(e) = ics::start(config, &LINKS) {
        *CURRENT.lock() = None;
        return Err(e);
    }
    let mut threads = KVec::new();
    let started = (|| {
        let t = m.clone();
        start(&mut threads, c"clms_view", move || t.carry_out())?;
        let t = m.clone();
        start(&mut threads, c"clms_fence", move || t.run_fencing())?;
        let t = m.clone();
        start(&mut threads, c"clms_beat", move || t.beat())?;
        let r = m.replica.clone();
        start(&mut threads, c"clms_registry", move || r.serve())?;
        if m.is_witness() {
            // Nobody is told of its records, and it serves nobody.
            return Ok(());
        }
        let r = m.replica.clone();
        start(&mut threads, c"clms_watch", move || registry::tell(&r))?;
        let r = m.replica.clone();
        start(&mut threads, c"clms_keys", move || keys::serve(&r))
    })();
    *running = Some(Running {
        lease: m.lease.run(),
        membership: m.clone(),
        threads,
    });
    drop(running);
    if let Err(e) = started {
        end();
        return Err(e);
    }
    let known = m
        .changed
        .wait_interruptible(|| m.done.lock().joined.is_some());
    let result = if known {
        m.done.lock().joined.unwrap_or(Err(EINTR))
    } else {
        Err(EINTR)
    };
    if result.is_err() {
        end();
        // The first view may have come after all: whoever was told of it is told that it is over.
        let entered = m.done.lock().entered;
        if entered {
            if let Err(e) = observers::leaving(m.this) {
                pr_err!("a subsystem does not leave: {:?}\n", e);
            }
        }
    }
    result
}

/// Ends the membership: threads, transport, view.
pub(crate) fn end() {
    // Held to the end: the next membership must know when this one was over.
    let mut running = RUNNING.lock();
    let Some(r) = running.take() else {
        return;
    };
    // Nobody supports this node from now on.
    drop(r.lease);
    r.membership.done.lock().ending = true;
    r.membership.changed.notify_all();
    while r.membership.changes.push(Task::Stop).is_err() {
        ssi::task::yield_now();
    }
    r.membership.replica.end();
    ics::stop();
    *CURRENT.lock() = None;
    drop(r.threads);
    // After the thread that sets it.
    *VIEW.lock() = (None, NO_VIEW);
    let detect = u64::from(r.membership.detect_ms);
    QUIET_UNTIL_MS.store(now_ms().saturating_add(detect), Relaxed);
}
