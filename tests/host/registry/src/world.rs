// SPDX-License-Identifier: GPL-2.0

//! Three nodes that change one record, one of them perhaps a witness. The membership is whoever it is: any views that keep what `clms` promises of them, which
//! each member takes over when it likes or leaves out. Messages come late, in any order and, if the world says so, twice.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use crate::registry::records::{Change, Outcome, Slot, Table};
use crate::registry::state::{self, Contents, Done, Duty, Machine, Mask, Peer, Place, Position, Request};

pub(crate) const N: usize = 3;
const QUORUM: u32 = 2;

/// An array behind a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Few<T, const K: usize>([T; K]);

impl<T, const K: usize> Deref for Few<T, K> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const K: usize> DerefMut for Few<T, K> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// One record without a name; its value is the number of the wish that made it.
type Op = Change<(), u8>;

/// The record, and all changes to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    table: Table<Few<Slot<(), u8>, 1>>,
    /// Wish, and what became of it.
    entries: Vec<(u8, Outcome)>,
}

impl Machine for Log {
    type Op = Op;
    type Outcome = Outcome;

    fn apply(&mut self, seq: u64, op: &Op) -> Outcome {
        let outcome = self.table.apply(seq, op);
        self.entries.push((op.value.unwrap(), outcome));
        outcome
    }
}

type Core = state::Core<Log, Few<Peer<Op, Outcome>, N>, Op>;
type Whole = Contents<Log, Few<Done<Outcome>, N>, Op>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    Want(Request<Op>),
    Report(Position),
    Fetch,
    Fetched(u64, Whole),
    Start(Option<Whole>),
    Started,
    Append(u64, Request<Op>),
    Appended(u64),
    Commit(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    from: (Place, u64),
    to: (Place, u64),
    view: u64,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    core: Core,
    life: u64,
    /// The wish under way, in which view it was last asked for.
    wish: Option<(Request<Op>, u64)>,
    /// What was sent last, to whom.
    sent: (u8, u64, u64, Mask),
    /// The others have a view without it, of which it has not heard.
    is_out: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct View {
    id: u64,
    members: Mask,
    lives: [u64; N],
    /// Who took it over.
    installed: Mask,
}

impl View {
    fn has(&self, p: Place, life: u64) -> bool {
        self.members & (1 << p) != 0 && self.lives[p] == life
    }
}

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    Nothing,
    /// The master commits when one other member has the change.
    CommitsEarly,
    /// The master takes its own contents for the furthest.
    AsksNobody,
    /// A member takes changes of an earlier view. Only if those who are out are heard too.
    TakesOldViews,
    /// Who asks again does so under a new number.
    AsksAnew,
    /// Who has nothing takes that for all there is.
    BeginsAnew,
    /// The caller is told when the change is prepared.
    TellsEarly,
    /// The records are those of the members that are no witness.
    WitnessesKeepNothing,
}

#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Members of the first view.
    pub(crate) first: Mask,
    /// Who never leads, and wants nothing.
    pub(crate) witnesses: Mask,
    /// Wishes of each node.
    pub(crate) wishes: [u8; N],
    pub(crate) crashes: u8,
    pub(crate) restarts: u8,
    /// Nodes that live and are taken for dead.
    pub(crate) exclusions: u8,
    /// Messages that come twice.
    pub(crate) doubles: u8,
    /// Whether those who are out are not heard.
    pub(crate) fenced: bool,
    /// Who comes in the place of one that has crashed is another node, whose clock is behind. Once.
    pub(crate) replaced: bool,
    pub(crate) broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    nodes: [Option<Node>; N],
    lives: [u64; N],
    views: Vec<View>,
    messages: Vec<Message>,
    wishes: [u8; N],
    asked: u8,
    crashes: u8,
    restarts: u8,
    exclusions: u8,
    doubles: u8,
    /// The longest order that any node has committed.
    order: Vec<(u8, Outcome)>,
    pub(crate) told: BTreeSet<u8>,
    pub(crate) again: bool,
    pub(crate) wrong: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Deliver(Message),
    Double(Message),
    Ask(Place),
    Form(Mask),
    Install(Place),
    Crash(Place),
    Restart(Place),
    Stop(Place),
}

impl Action {
    /// Whether it happens only if something goes wrong.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Double(_) | Self::Crash(_) | Self::Restart(_))
    }
}

fn places(m: Mask) -> impl Iterator<Item = Place> {
    (0..N).filter(move |p| m & (1 << p) != 0)
}

fn node(p: Place, life: u64) -> Node {
    let log = Log {
        table: Table(Few([Slot {
            name: (),
            value: 0,
            version: 0,
        }])),
        entries: Vec::new(),
    };
    Node {
        core: Core::new(p, life, log, Few([Peer::NONE; N])),
        life,
        wish: None,
        sent: (0, 0, 0, 0),
        is_out: false,
    }
}

impl World {
    pub(crate) fn new(b: &Bounds) -> Self {
        let mut w = Self {
            nodes: std::array::from_fn(|p| Some(node(p, 1))),
            lives: [1; N],
            views: vec![View {
                id: 1,
                members: b.first,
                lives: [1; N],
                installed: 0,
            }],
            messages: Vec::new(),
            wishes: b.wishes,
            asked: 0,
            crashes: b.crashes,
            restarts: b.restarts,
            exclusions: b.exclusions,
            doubles: b.doubles,
            order: Vec::new(),
            told: BTreeSet::new(),
            again: false,
            wrong: None,
        };
        // The first view is taken over without incidents.
        for p in places(b.first) {
            w.install(p, 0, b);
        }
        w.settle(b);
        w
    }

    fn live(&self) -> Mask {
        (0..N).filter(|p| self.nodes[*p].is_some()).map(|p| 1 << p).sum()
    }

    fn is_live(&self, (p, life): (Place, u64)) -> bool {
        self.nodes[p].as_ref().is_some_and(|n| n.life == life)
    }

    fn latest(&self) -> &View {
        self.views.last().unwrap()
    }

    /// Nodes that would be in a view if all saw things as they are.
    fn wanted(&self) -> Mask {
        places(self.live())
            .filter(|p| !self.nodes[*p].as_ref().unwrap().is_out)
            .map(|p| 1 << p)
            .sum()
    }

    /// The one view that a node may still take over: the last that was formed with it.
    fn promised(&self, p: Place) -> Option<usize> {
        let n = self.nodes[p].as_ref()?;
        let i = self.views.iter().rposition(|v| v.has(p, n.life))?;
        let is_open = self.views[i].installed & (1 << p) == 0;
        (is_open && self.views[i].id > n.core.view()).then_some(i)
    }

    fn may_form(&self, m: Mask) -> bool {
        let last = self.latest();
        if m & !self.wanted() != 0 || m.count_ones() < QUORUM {
            return false;
        }
        if places(m).all(|p| last.has(p, self.lives[p])) && m == last.members {
            return false;
        }
        let excluded = places(self.wanted() & !m)
            .filter(|p| last.has(*p, self.lives[*p]))
            .count();
        if excluded > usize::from(self.exclusions) {
            return false;
        }
        // What clms promises is that a life which a view leaves out is in no later one. If none of its members was in a
        // view before, it is another cluster.
        places(m).any(|p| self.was_member(p))
    }

    pub(crate) fn actions(&self, b: &Bounds, actions: &mut Vec<Action>) {
        for m in &self.messages {
            if self.may_deliver(m, b) {
                actions.push(Action::Deliver(m.clone()));
                if self.doubles > 0 {
                    actions.push(Action::Double(m.clone()));
                }
            }
        }
        for p in 0..N {
            let Some(n) = &self.nodes[p] else {
                if self.restarts > 0 {
                    actions.push(Action::Restart(p));
                }
                continue;
            };
            if self.wishes[p] > 0 && n.wish.is_none() && n.core.is_ready() {
                actions.push(Action::Ask(p));
            }
            if self.promised(p).is_some() {
                actions.push(Action::Install(p));
            }
            if self.crashes > 0 {
                actions.push(Action::Crash(p));
            }
            if n.is_out {
                actions.push(Action::Stop(p));
            }
        }
        for m in 1..1 << N {
            if self.may_form(m) {
                actions.push(Action::Form(m));
            }
        }
    }

    /// A node hears those who are in its view, and if nothing is fenced those who ever were.
    fn may_deliver(&self, m: &Message, b: &Bounds) -> bool {
        let to = self.nodes[m.to.0].as_ref().unwrap();
        let was = |v: &View| v.id <= to.core.view() && v.has(m.from.0, m.from.1);
        if !b.fenced {
            return self.views.iter().any(was);
        }
        let view = self.views.iter().find(|v| v.id == to.core.view());
        view.is_some_and(|v| v.has(m.from.0, m.from.1))
    }

    pub(crate) fn act(&mut self, b: &Bounds, action: Action) {
        match action {
            Action::Deliver(m) => {
                let i = self.messages.iter().position(|x| *x == m).unwrap();
                self.messages.remove(i);
                self.deliver(m, b);
            }
            Action::Double(m) => {
                self.doubles -= 1;
                self.deliver(m, b);
            }
            Action::Ask(p) => {
                self.wishes[p] -= 1;
                self.asked += 1;
                let value = Some(self.asked);
                let n = self.nodes[p].as_mut().unwrap();
                let expected = n.core.machine().table.get(()).map_or(0, |s| s.version);
                let request = n.core.request(Change {
                    name: (),
                    expected,
                    value,
                });
                n.wish = Some((request, 0));
            }
            Action::Form(m) => {
                let last = self.latest().clone();
                for p in places(self.wanted() & !m) {
                    if last.has(p, self.lives[p]) {
                        self.exclusions -= 1;
                        self.nodes[p].as_mut().unwrap().is_out = true;
                    }
                }
                self.views.push(View {
                    id: last.id + 1,
                    members: m,
                    lives: self.lives,
                    installed: 0,
                });
            }
            Action::Install(p) => {
                let i = self.promised(p).unwrap();
                self.install(p, i, b);
            }
            Action::Crash(p) => {
                self.crashes -= 1;
                self.nodes[p] = None;
            }
            Action::Stop(p) => self.nodes[p] = None,
            Action::Restart(p) => {
                self.restarts -= 1;
                self.lives[p] = if b.replaced {
                    self.lives[p] - 1
                } else {
                    self.lives[p] + 1
                };
                self.nodes[p] = Some(node(p, self.lives[p]));
            }
        }
        self.settle(b);
    }

    fn install(&mut self, p: Place, i: usize, b: &Bounds) {
        let v = &mut self.views[i];
        v.installed |= 1 << p;
        let n = self.nodes[p].as_mut().unwrap();
        let leaders = v.members & !b.witnesses;
        let members = if b.broken == Broken::WitnessesKeepNothing {
            leaders
        } else {
            v.members
        };
        if members & (1 << p) != 0 {
            n.core.enter(
                v.id,
                members,
                leaders.trailing_zeros() as Place,
                i == 0 || b.broken == Broken::BeginsAnew,
            );
        }
    }

    fn whole(&self, p: Place) -> Whole {
        let c = &self.nodes[p].as_ref().unwrap().core;
        Contents {
            seq: c.seq(),
            prepared: c.prepared().copied(),
            machine: c.machine().clone(),
            done: Few(std::array::from_fn(|i| c.done(i))),
        }
    }

    fn send(&mut self, from: Place, to: Place, view: u64, body: Body) {
        let from = (from, self.lives[from]);
        // To the life that the sender's view has.
        let Some(v) = self.views.iter().find(|v| v.id == view) else {
            return;
        };
        let m = Message {
            from,
            to: (to, v.lives[to]),
            view,
            body,
        };
        if !self.messages.contains(&m) {
            self.messages.push(m);
        }
    }

    fn deliver(&mut self, m: Message, b: &Bounds) {
        let (from, to) = (m.from.0, m.to.0);
        let whole = matches!(m.body, Body::Fetch).then(|| self.whole(to));
        let core = &mut self.nodes[to].as_mut().unwrap().core;
        let before = core.seq();
        let view = m.view;
        let mut reply = None;
        match m.body {
            Body::Want(r) => core.wanted(view, r),
            Body::Report(at) => core.reported(from, view, at),
            Body::Fetch => {
                if core.fetch(from, view).is_ok() {
                    reply = Some(Body::Fetched(core.position().view, whole.unwrap()));
                }
            }
            Body::Fetched(of, c) => {
                core.fetched(from, view, of, c);
            }
            Body::Start(c) => reply = core.start(from, view, c).is_ok().then_some(Body::Started),
            Body::Started => core.started(from, view),
            Body::Append(seq, r) => {
                let here = if b.broken == Broken::TakesOldViews {
                    // Whoever it is from, in whichever view.
                    let (v, master) = (core.view(), core.master());
                    core.append(master, v, seq, r)
                } else {
                    core.append(from, view, seq, r)
                };
                reply = here.is_ok().then_some(Body::Appended(seq));
            }
            Body::Appended(seq) => core.appended(from, view, seq),
            Body::Commit(seq) => {
                let _stale = core.committed(from, view, seq);
            }
        }
        if core.seq() < before {
            self.wrong = Some("reads go back");
        }
        if let Some(body) = reply {
            self.send(to, from, view, body);
        }
    }

    /// What follows at once: what nodes have to send, and what their callers learn.
    fn settle(&mut self, b: &Bounds) {
        loop {
            self.forget(b);
            if !places(self.live()).any(|p| self.go_on(p, b)) {
                break;
            }
        }
        for p in places(self.live()) {
            self.compare(p);
        }
        self.messages.sort_by_cached_key(|m| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut h = DefaultHasher::new();
            m.hash(&mut h);
            h.finish()
        });
    }

    /// Messages that never come, and those that are refused by their view. If nothing is fenced, it is shown that they are.
    fn forget(&mut self, b: &Bounds) {
        let mut kept = std::mem::take(&mut self.messages);
        kept.retain(|m| {
            if !self.is_live(m.to) {
                return false;
            }
            let view = self.nodes[m.to.0].as_ref().unwrap().core.view();
            let current = self.views.iter().find(|v| v.id == view);
            let is_fenced = current.is_some_and(|v| view >= m.view && !v.has(m.from.0, m.from.1));
            !b.fenced || !is_fenced && m.view >= view
        });
        self.messages = kept;
    }

    /// Returns whether anything was done.
    fn go_on(&mut self, p: Place, b: &Bounds) -> bool {
        let n = self.nodes[p].as_mut().unwrap();
        let (view, master) = (n.core.view(), n.core.master());
        if let Some((r, asked_in)) = n.wish {
            let early = b.broken == Broken::TellsEarly && n.core.prepared() == Some(&r);
            if let Some(outcome) = n
                .core
                .outcome(r.number)
                .or(early.then_some(Outcome::Done(n.core.seq() + 1)))
            {
                n.wish = None;
                self.learn(r.op.value.unwrap(), outcome, b);
                return true;
            }
            if asked_in != view {
                let again = asked_in != 0;
                self.again |= again;
                let r = if again && b.broken == Broken::AsksAnew {
                    n.core.request(r.op)
                } else {
                    r
                };
                n.wish = Some((r, view));
                if master == p {
                    n.core.wanted(view, r);
                } else {
                    self.send(p, master, view, Body::Want(r));
                }
                return true;
            }
        }
        let n = self.nodes[p].as_mut().unwrap();
        let duty = n.core.duty();
        let (kind, of, seq, to) = match duty {
            Duty::None => return false,
            Duty::Report { to, view, .. } => (1, view, 0, 1 << to),
            Duty::Fetch { from, view } => (2, view, 0, 1 << from),
            Duty::Start { to, view } => (3, view, 0, to),
            Duty::Append { to, view, seq, .. } => (4, view, seq, to),
            Duty::Commit { to, view, seq } => (5, view, seq, to),
        };
        let already = if (kind, of, seq) == (n.sent.0, n.sent.1, n.sent.2) {
            n.sent.3
        } else {
            0
        };
        let to = to & !already;
        if to == 0 {
            return false;
        }
        n.sent = (kind, of, seq, already | to);
        match duty {
            Duty::Report { at, .. } => {
                n.core.has_reported(of);
                let mut at = at;
                if b.broken == Broken::AsksNobody {
                    at = Position::default();
                }
                self.send(p, master, of, Body::Report(at));
            }
            Duty::Fetch { from, .. } => self.send(p, from, of, Body::Fetch),
            Duty::Start { .. } => {
                let whole = self.whole(p);
                for q in places(to) {
                    let lacks = self.nodes[p].as_ref().unwrap().core.lacks(q);
                    self.send(p, q, of, Body::Start(lacks.then(|| whole.clone())));
                }
            }
            Duty::Append { request, .. } => {
                for q in places(to) {
                    self.send(p, q, of, Body::Append(seq, request));
                }
                if b.broken == Broken::CommitsEarly && to.count_ones() == 2 {
                    let late = places(to).last().unwrap();
                    self.nodes[p].as_mut().unwrap().core.appended(late, of, seq);
                }
            }
            Duty::Commit { .. } => {
                n.core.told(of, seq, to);
                for q in places(to) {
                    self.send(p, q, of, Body::Commit(seq));
                }
            }
            Duty::None => {}
        }
        true
    }

    /// A caller learns what became of its wish.
    fn learn(&mut self, wish: u8, outcome: Outcome, b: &Bounds) {
        for p in places(self.live()) {
            self.compare(p);
        }
        let is_made = |(w, o): &(u8, Outcome)| *w == wish && matches!(o, Outcome::Done(_));
        let made = self.order.iter().position(is_made);
        let told = match outcome {
            Outcome::Done(v) => Some(v as usize),
            _ => None,
        };
        // Told too early, it is not in the order yet: it must come to be.
        if b.broken != Broken::TellsEarly && self.order_len(made) != told {
            self.wrong = Some("a caller was told what is not");
        }
        if b.broken == Broken::TellsEarly && self.order.len() < told.unwrap_or(0) {
            // What was told is as good as committed.
            self.order.push((wish, outcome));
        }
        if !self.told.insert(wish) {
            self.wrong = Some("a caller was told twice");
        }
    }

    /// The version that the change at a place of the order made. Every change has its number, so that is one more.
    fn order_len(&self, at: Option<usize>) -> Option<usize> {
        at.map(|i| i + 1)
    }

    /// A node's order against the longest.
    fn compare(&mut self, p: Place) {
        let core = &self.nodes[p].as_ref().unwrap().core;
        let entries = &core.machine().entries;
        let shorter = entries.len().min(self.order.len());
        if entries[..shorter] != self.order[..shorter] {
            self.wrong = Some("two orders");
        }
        if core.leads() && core.view() == self.latest().id && entries.len() < self.order.len() {
            self.wrong = Some("a committed change is lost");
        }
        if entries.len() as u64 != core.seq() {
            self.wrong = Some("a request was made twice");
        }
        if entries.len() > self.order.len() {
            self.order.clone_from(entries);
        }
        let won = self.order.iter().filter(|(_, o)| matches!(o, Outcome::Done(_))).count();
        let wishes: BTreeSet<u8> = self.order.iter().map(|(w, _)| *w).collect();
        if wishes.len() != self.order.len() || won > self.order.len() {
            self.wrong = Some("a wish was made twice");
        }
    }

    /// What is not as it should be when nothing happens any more.
    pub(crate) fn unsettled(&self, b: &Bounds) -> Option<&'static str> {
        let last = self.latest();
        let all = self.wanted() == last.members && places(last.members).all(|p| last.has(p, self.lives[p]));
        if !all || last.members & !self.live() != 0 {
            // Too few for a view.
            return (self.wanted().count_ones() >= QUORUM && self.is_survived()).then_some("no view");
        }
        if self.is_lost() {
            // One of three may die at any time.
            let may = self.is_gone() && b.crashes + b.exclusions > 1;
            return (!may).then_some("nobody leads, for want of records");
        }
        for p in places(last.members) {
            let n = self.nodes[p].as_ref().unwrap();
            if !n.core.is_ready() {
                return Some("a member has no contents");
            }
            if n.wish.is_some() || self.wishes[p] > 0 {
                return Some("a caller has no answer");
            }
            if n.core.machine().entries != self.order {
                return Some("a member does not know all");
            }
        }
        None
    }

    fn was_member(&self, p: Place) -> bool {
        self.nodes[p].as_ref().is_some_and(|n| n.core.view() != 0)
    }

    /// Whether some of those that remain were members.
    fn is_survived(&self) -> bool {
        places(self.wanted()).any(|p| self.was_member(p))
    }

    /// Whether the master of the last view has found that nobody has the records.
    fn is_lost(&self) -> bool {
        let mut nodes = self.nodes.iter().flatten();
        nodes.any(|n| n.core.is_lost() && n.core.view() == self.latest().id)
    }

    /// Whether nobody that remains has contents.
    fn is_gone(&self) -> bool {
        !places(self.live()).any(|p| self.nodes[p].as_ref().unwrap().core.is_ready())
    }
}
