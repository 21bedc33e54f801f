// SPDX-License-Identifier: GPL-2.0

//! What is around the two state machines: membership, calls between nodes, crashes, and the kernel's part as far as it
//! decides anything. Everything that a node decides about a movement it asks of `home` and `movement`.
//!
//! *Calls.* One is executed at most once and answered, or it ends with `Down` once the caller's view lacks the callee.
//! Calls overtake each other. What a dead node has sent may still be executed, even after the callee's view lacks the
//! caller, as a handler that has begun is not stopped; it may also be dropped from then on.
//!
//! *Views.* All nodes see the dead leave in one order, each node at a time of its own, and later still it acts on it.

use crate::home::{self, Place};
use crate::movement::{self, Answer, Judge, Source, Stage};

/// Lives of nodes: as many nodes as have a part, at most, and the second life of one of them.
pub const N: usize = 5;
/// The second life. As an entry of the views it leaves them, and `JOINS` joins them.
const AGAIN: u8 = 4;
const JOINS: u8 = 0xff;
/// At most. They are numbered from 1; 0 is how the process came to its first node.
pub const MOVEMENTS: usize = 3;

/// A rule that is broken on purpose, to see that the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// The source goes on without telling the destination.
    StaysSilently,
    /// The source goes on when nobody is left whom it could ask.
    StaysOnDown,
    /// A source whose judge went does not ask the destination.
    AsksOnlyTheOrigin,
    /// The destination runs by itself when its source dies.
    RunsWithoutSource,
    /// The destination runs when neither source nor origin is left.
    RunsWithoutOrigin,
    /// A destination that has neither source nor origin any more tells the parent that the process is lost.
    DestinationMourns,
    /// A source that has nobody any more whom it could ask tells the parent that the process is lost.
    SourceMourns,
    /// The origin answers a destination while it still believes in the source.
    AskBeforeItsView,
    /// The origin does not look whether the source is a member.
    FromUpIgnored,
    /// The origin does not look whether the destination is a member.
    ToUpIgnored,
    /// The origin takes the process for dead when it cannot tell the destination, wherever that is by then.
    SecondLook,
    /// The origin knows nodes by their numbers, not by their lives.
    AnyLife,
    /// The origin does not look whether who waits for a lost process is still a member.
    RecordAtTheDead,
    /// A destination that has seen the process come and go answers "never".
    Forgets,
    /// A process that begins to arrive does not look whether its source is a member.
    PrepareUnchecked,
    /// A node that said that it does not have the process lets it come, while others are still asked.
    TakesBackNo,
    /// What follows from a death is done before the next view, with all the calls that it takes.
    CallsHoldUpViews,
    /// A node that looks for a process does nothing else after a death.
    SearchHoldsUp,
    /// Nobody looks for a process whose origin has started again.
    SearchOnlyWhileDown,
    /// Who looks for a process does not ask those who joined meanwhile.
    SearchAmongTheOld,
    /// Who looks for a process is answered while it moves.
    SearchDoesNotWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Prepare,
    Complete,
    Abort,
    Move,
    Activate,
    Judge,
    Ask,
    /// The process is lost: whose child is it?
    Lost,
    /// Does the process run there? Its origin is down. Answered when it is neither on its way from there nor to there.
    Search,
    /// Somebody has it.
    Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reply {
    Done,
    Filling,
    Parked,
    Failed,
    Committed,
    Refused,
    NotThere,
    Yes,
    No,
    /// No, and the one who answers knows a member of which the one who asks did not know.
    NoAndNewer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Progress {
    Sent,
    /// The handler waits for something.
    Serving,
    Replied(Reply),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub kind: Kind,
    pub movement: u8,
    pub from: u8,
    pub to: u8,
    pub progress: Progress,
}

/// A process that lives on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    None,
    Running,
    /// Frozen, and its image is on its way.
    Leaving {
        movement: u8,
        to: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    pub at: u8,
    pub from: u8,
    pub stage: Stage,
}

/// Who has which part.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    pub origin: u8,
    pub source: u8,
    pub parent: u8,
    /// Where each movement may go.
    pub to: &'static [&'static [u8]],
    /// Whether a node that has crashed may start again, once.
    pub restarts: bool,
    pub broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub crashes: u8,
    pub alive: [bool; N],
    /// Who started again.
    pub reborn: Option<u8>,
    /// Who leaves the views, and who joins them, in this order.
    pub changes: Vec<u8>,
    /// How many of these each node has seen, and for how many it has done what follows.
    pub seen: [u8; N],
    pub done: [u8; N],
    pub place: Option<Place>,
    pub tasks: [Task; N],
    /// By movement, the first at 0.
    pub arrivals: [Option<Arrival>; MOVEMENTS],
    pub calls: Vec<Call>,
    pub begun: u8,
    /// Of each movement that has begun: from where, to where.
    pub routes: [(u8, u8); MOVEMENTS],
    /// Movements after which the source went on, and those by which the process ran at its destination. Bits.
    pub stayed: u8,
    pub ran: u8,
    /// The parent knows that the process is dead.
    pub lost: bool,
    /// A search must begin when the one before is over.
    pub search_due: bool,
    /// Somebody was not asked.
    pub is_older: bool,
    /// Somebody answered the search of its node that the process runs there.
    pub found: bool,
    /// Who answered that it has it not: there it cannot come until the search is over.
    pub sought: [bool; N],
    pub wrong: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Crash(u8),
    Restart(u8),
    /// The node installs its next view, without that one.
    View(u8, u8),
    /// The node does what follows from the death of the next one.
    NodeDown(u8),
    Start(u8, u8),
    Execute(Call),
    /// It is executed, but what it asks for fails.
    ExecuteBadly(Call),
    Drop(Call),
    Return(Call),
    /// The call succeeded, but the source gives up.
    ReturnAndGiveUp(Call),
    Down(Call),
    /// What the new process does: its memory is laid; it is complete; it cannot be made; it has ended.
    Laid(u8),
    Made(u8),
    Fails(u8),
    Ended(u8),
    /// The parent's node begins to search.
    Search,
    /// The parent has waited for the process that was lost.
    Gone,
}

impl World {
    pub fn new(r: &Roles, crashes: u8) -> Self {
        let mut w = Self {
            crashes,
            alive: core::array::from_fn(|i| r.is_node(i as u8)),
            reborn: None,
            changes: Vec::new(),
            seen: [0; N],
            done: [0; N],
            place: None,
            tasks: [Task::None; N],
            arrivals: [None; MOVEMENTS],
            calls: Vec::new(),
            begun: 0,
            routes: [(0, 0); MOVEMENTS],
            stayed: 0,
            ran: 0,
            lost: false,
            search_due: false,
            is_older: false,
            found: false,
            sought: [false; N],
            wrong: None,
        };
        w.tasks[r.source as usize] = Task::Running;
        if r.source != r.origin {
            w.place = Some(Place::At {
                node: r.source.into(),
                movement: 0,
            });
        }
        w
    }

    fn is_alive(&self, n: u8) -> bool {
        self.alive[n as usize]
    }

    /// Whether `n` is a member in the view of `of`.
    fn is_up(&self, of: u8, n: u8) -> bool {
        let changes = &self.changes[..self.seen[of as usize] as usize];
        !changes.contains(&n) && (n != AGAIN || changes.contains(&JOINS))
    }

    fn is_node(&self, r: &Roles, n: u8) -> bool {
        r.is_node(n) || n == AGAIN && self.reborn.is_some()
    }

    /// The number of the node of which this is a life.
    fn number(&self, life: u8) -> u8 {
        self.reborn.filter(|_| life == AGAIN).unwrap_or(life)
    }

    /// The life of the node of that number that `of` knows of.
    fn life(&self, of: u8, number: u8) -> u8 {
        let again = self.reborn == Some(number) && self.is_up(of, AGAIN);
        if again { AGAIN } else { number }
    }

    /// The life of the origin that is or was the last.
    fn origin(&self, r: &Roles) -> u8 {
        if self.reborn == Some(r.origin) { AGAIN } else { r.origin }
    }

    pub fn runs(&self) -> usize {
        self.tasks.iter().filter(|t| **t == Task::Running).count()
    }

    // ---- What can happen ---------------------------------------------------------------------------------------

    pub fn actions(&self, r: &Roles, out: &mut Vec<Action>) {
        for n in 0..N as u8 {
            if !self.is_alive(n) {
                if r.restarts && self.reborn.is_none() && self.changes.contains(&n) {
                    out.push(Action::Restart(n));
                }
                continue;
            }
            if self.crashes > 0 {
                out.push(Action::Crash(n));
            }
            let i = n as usize;
            let calls = |c: &Call| c.from == n && matches!(c.kind, Kind::Ask | Kind::Lost);
            let holds_up = r.broken == Broken::CallsHoldUpViews && self.calls.iter().any(calls);
            match self.changes.get(self.seen[i] as usize) {
                _ if holds_up => {}
                Some(&JOINS) if self.done[i] < self.seen[i] => {}
                Some(change) => out.push(Action::View(n, *change)),
                None => {
                    let dead = |d: &u8| self.is_node(r, *d) && !self.is_alive(*d) && !self.changes.contains(d);
                    out.extend((0..N as u8).filter(dead).map(|d| Action::View(n, d)));
                }
            }
            let searches = |c: &Call| matches!(c.kind, Kind::Search | Kind::Found) && c.from == n;
            let is_searching = self.calls.iter().any(searches);
            let is_busy = r.broken == Broken::SearchHoldsUp && (is_searching || n == r.parent && self.search_due);
            if self.done[i] < self.seen[i] && !is_busy {
                out.push(Action::NodeDown(n));
            }
            if n == r.parent && self.search_due && !is_searching && (!self.is_older || self.has_seen_joins(n)) {
                out.push(Action::Search);
            }
            if self.tasks[i] == Task::Running && (self.begun as usize) < r.to.len() {
                let targets = r.to[self.begun as usize].iter();
                let good = targets.filter(|t| **t != self.number(n)).map(|t| self.life(n, *t));
                out.extend(good.filter(|t| self.is_up(n, *t)).map(|t| Action::Start(n, t)));
            }
        }
        for (m, a) in (1..).zip(&self.arrivals) {
            match a.map(|a| a.stage) {
                Some(Stage::Making) => out.extend([Action::Laid(m), Action::Made(m), Action::Fails(m)]),
                Some(Stage::Failed | Stage::Aborted) => out.push(Action::Ended(m)),
                _ => {}
            }
        }
        if matches!(self.place, Some(Place::Zombie { .. })) && self.is_alive(r.parent) {
            out.push(Action::Gone);
        }
        for c in &self.calls {
            self.actions_of(r, *c, out);
        }
    }

    fn actions_of(&self, r: &Roles, c: Call, out: &mut Vec<Action>) {
        match c.progress {
            Progress::Sent if self.is_alive(c.to) && self.may_execute(r, c) => {
                out.push(Action::Execute(c));
                if c.kind == Kind::Complete {
                    out.push(Action::ExecuteBadly(c));
                }
            }
            Progress::Replied(reply) => {
                out.push(Action::Return(c));
                if matches!(reply, Reply::Filling | Reply::Parked) {
                    out.push(Action::ReturnAndGiveUp(c));
                }
            }
            _ => {}
        }
        if self.is_alive(c.from) {
            if !self.is_up(c.from, c.to) {
                out.push(Action::Down(c));
            }
        } else if c.progress == Progress::Sent && !self.is_up(c.to, c.from) {
            out.push(Action::Drop(c));
        }
    }

    fn has_seen_joins(&self, n: u8) -> bool {
        self.changes[..self.seen[n as usize] as usize].contains(&JOINS)
    }

    /// Whether the handler of a call can go on.
    fn may_execute(&self, r: &Roles, c: Call) -> bool {
        if c.from == AGAIN && !self.has_seen_joins(c.to) {
            return false;
        }
        match c.kind {
            Kind::Ask => {
                let (source, _) = self.routes[c.movement as usize - 1];
                r.broken == Broken::AskBeforeItsView || !self.is_up(c.to, source)
            }
            Kind::Search => {
                let arrives =
                    |a: &Arrival| a.at == c.to && matches!(a.stage, Stage::Making | Stage::Filling | Stage::Parked);
                let moves = matches!(self.tasks[c.to as usize], Task::Leaving { .. })
                    || self.arrivals.iter().flatten().any(arrives);
                r.broken == Broken::SearchDoesNotWait || !moves
            }
            _ => true,
        }
    }

    // ---- What then happens -------------------------------------------------------------------------------------

    pub fn act(&mut self, r: &Roles, action: Action) {
        match action {
            Action::Crash(n) => self.crash(r, n),
            Action::Restart(n) => {
                self.reborn = Some(n);
                self.changes.push(JOINS);
                self.alive[AGAIN as usize] = true;
                self.seen[AGAIN as usize] = self.changes.len() as u8;
                self.done[AGAIN as usize] = self.changes.len() as u8;
            }
            Action::View(n, change) => {
                let seen = &mut self.seen[n as usize];
                *seen += 1;
                if *seen as usize > self.changes.len() {
                    self.changes.push(change);
                }
                if change == JOINS {
                    // Those who are out are done with before.
                    self.done[n as usize] += 1;
                }
            }
            Action::NodeDown(n) => self.node_down(r, n),
            Action::Start(n, to) => {
                self.begun += 1;
                let movement = self.begun;
                self.routes[movement as usize - 1] = (n, to);
                self.tasks[n as usize] = Task::Leaving { movement, to };
                self.call(Kind::Prepare, movement, n, to);
            }
            Action::Execute(c) => {
                self.take(c);
                self.execute(r, c, true);
            }
            Action::ExecuteBadly(c) => {
                self.take(c);
                self.execute(r, c, false);
            }
            Action::Drop(c) => self.take(c),
            Action::Return(c) => {
                self.take(c);
                if let Progress::Replied(reply) = c.progress {
                    self.returned(r, c, Some(reply));
                }
            }
            Action::ReturnAndGiveUp(c) => {
                self.take(c);
                self.give_up(c.movement, c.from, c.to);
            }
            Action::Down(c) => {
                self.take(c);
                self.returned(r, c, None);
            }
            Action::Laid(m) => self.making(r, m, movement::Event::Laid),
            Action::Made(m) => self.making(r, m, movement::Event::Made),
            Action::Fails(m) => self.making(r, m, movement::Event::Failed),
            Action::Ended(m) => self.arrivals[m as usize - 1] = None,
            Action::Search => {
                self.search_due = false;
                self.is_older = false;
                self.call_all(r, Kind::Search, r.parent);
            }
            Action::Gone => {
                let _free = self.home(r, home::Event::Gone);
            }
        }
        self.calls.sort_unstable();
    }

    fn crash(&mut self, r: &Roles, n: u8) {
        self.crashes -= 1;
        self.alive[n as usize] = false;
        self.tasks[n as usize] = Task::None;
        // Nobody but the living has an opinion of them any more.
        self.seen[n as usize] = 0;
        self.done[n as usize] = 0;
        for a in self.arrivals.iter_mut().filter(|a| a.is_some_and(|a| a.at == n)) {
            *a = None;
        }
        self.sought[n as usize] = false;
        if n == self.origin(r) {
            self.place = None;
        }
        if n == r.parent {
            self.found = false;
            self.search_due = false;
            self.is_older = false;
        }
        let alive = self.alive;
        self.calls.retain_mut(|c| {
            let (from, to) = (alive[c.from as usize], alive[c.to as usize]);
            if c.to == n && c.progress == Progress::Serving {
                c.progress = Progress::Sent;
            }
            let waits = from && c.is_waited_for(r);
            let works = to && !matches!(c.progress, Progress::Replied(_));
            waits || works
        });
    }

    fn take(&mut self, c: Call) {
        if let Some(i) = self.calls.iter().position(|x| *x == c) {
            self.calls.remove(i);
        }
    }

    fn call(&mut self, kind: Kind, movement: u8, from: u8, to: u8) {
        self.calls.push(Call {
            kind,
            movement,
            from,
            to,
            progress: Progress::Sent,
        });
    }

    fn put(&mut self, c: Call, progress: Progress) {
        self.calls.push(Call { progress, ..c });
    }

    fn reply(&mut self, r: &Roles, c: Call, reply: Reply) {
        if self.is_alive(c.from) && c.is_waited_for(r) {
            self.put(c, Progress::Replied(reply));
        }
    }

    /// Answers the calls of that kind whose handlers wait.
    fn reply_waiting(&mut self, r: &Roles, kind: Kind, movement: u8, reply: Reply) {
        let waits = |c: &Call| (c.kind, c.movement, c.progress) == (kind, movement, Progress::Serving);
        while let Some(i) = self.calls.iter().position(waits) {
            let c = self.calls.remove(i);
            self.reply(r, c, reply);
        }
    }

    // ---- Origin ------------------------------------------------------------------------------------------------

    fn home(&mut self, r: &Roles, ev: home::Event) -> home::Effect {
        let (place, effect) = home::step(r.origin.into(), self.place, ev);
        self.place = place;
        if effect == home::Effect::Lost {
            self.tell_lost(r, self.origin(r));
        }
        effect
    }

    fn tell_lost(&mut self, r: &Roles, by: u8) {
        if self.is_alive(r.parent) || by == self.origin(r) {
            self.call(Kind::Lost, 0, by, r.parent);
        }
    }

    fn execute_move(&mut self, r: &Roles, c: Call) {
        let (_, to) = self.routes[c.movement as usize - 1];
        let o = self.origin(r);
        let is_up = |life| {
            let life = match r.broken {
                Broken::AnyLife => self.life(o, self.number(life)),
                _ => life,
            };
            self.is_up(o, life)
        };
        let event = home::Event::Move {
            from: self.number(c.from).into(),
            to: self.number(to).into(),
            movement: c.movement.into(),
            from_is_up: is_up(c.from) || r.broken == Broken::FromUpIgnored,
            to_is_up: is_up(to) || r.broken == Broken::ToUpIgnored,
            is_here: self.tasks[o as usize] != Task::None,
        };
        let effect = self.home(r, event);
        match effect {
            home::Effect::Committed | home::Effect::AlreadyCommitted => {
                self.put(c, Progress::Serving);
                let to = match r.broken {
                    Broken::AnyLife => self.life(o, self.number(to)),
                    _ => to,
                };
                self.call(Kind::Activate, c.movement, o, to);
            }
            home::Effect::DestinationDown => self.reply(r, c, Reply::Refused),
            _ => self.reply(r, c, Reply::NotThere),
        }
    }

    fn execute_ask(&mut self, r: &Roles, c: Call) {
        let movement = c.movement.into();
        let reply = match self.home(r, home::Event::Ask { movement }) {
            home::Effect::AlreadyCommitted => Reply::Committed,
            _ => Reply::NotThere,
        };
        self.reply(r, c, reply);
    }

    // ---- Destination -------------------------------------------------------------------------------------------

    fn arriving(&mut self, r: &Roles, m: u8, ev: movement::Event) -> Option<movement::Effect> {
        let a = self.arrivals[m as usize - 1].as_mut()?;
        let before = a.stage;
        let (stage, effect) = movement::arriving(a.stage, ev);
        a.stage = stage;
        let at = a.at;
        if before != Stage::Active && stage == Stage::Active {
            if self.tasks[at as usize] != Task::None {
                self.wrong = Some("a process arrives where it is");
            }
            if self.ran & 1 << m != 0 {
                self.wrong = Some("a movement brings the process twice");
            }
            self.ran |= 1 << m;
            self.tasks[at as usize] = Task::Running;
        }
        match effect {
            movement::Effect::AskOrigin if r.broken == Broken::RunsWithoutSource => {
                self.origin_says(r, m, Answer::Committed);
            }
            movement::Effect::AskOrigin => self.call(Kind::Ask, m, at, self.life(at, r.origin)),
            _ => {}
        }
        if before == Stage::Making && stage != Stage::Making {
            let verdict = match stage {
                Stage::Filling => Reply::Filling,
                Stage::Parked => Reply::Parked,
                _ => Reply::Failed,
            };
            self.reply_waiting(r, Kind::Prepare, m, verdict);
        }
        Some(effect)
    }

    fn origin_says(&mut self, r: &Roles, m: u8, answer: Answer) {
        let effect = self.arriving(r, m, movement::Event::OriginSays(answer));
        let destroys = effect == Some(movement::Effect::Destroy);
        if r.broken == Broken::DestinationMourns && answer == Answer::Down && destroys {
            let (_, at) = self.routes[m as usize - 1];
            self.tell_lost(r, at);
        }
    }

    fn making(&mut self, r: &Roles, m: u8, ev: movement::Event) {
        self.arriving(r, m, ev);
    }

    fn prepare(&mut self, r: &Roles, c: Call) {
        let taken = self.tasks[c.to as usize] != Task::None || self.arrivals.iter().flatten().any(|a| a.at == c.to);
        if taken || self.sought[c.to as usize] {
            self.reply(r, c, Reply::Failed);
            return;
        }
        self.put(c, Progress::Serving);
        self.arrivals[c.movement as usize - 1] = Some(Arrival {
            at: c.to,
            from: c.from,
            stage: Stage::Making,
        });
        // Who acts on the source's death looks at the arrivals after the view lacks it: one of the two sees the other.
        if !self.is_up(c.to, c.from) && r.broken != Broken::PrepareUnchecked {
            self.arriving(r, c.movement, movement::Event::SourceDown);
        }
    }

    fn execute_judge(&mut self, r: &Roles, c: Call) {
        let reply = match self.arriving(r, c.movement, movement::Event::Judge) {
            Some(movement::Effect::Run) => Reply::Committed,
            Some(_) => Reply::Refused,
            None if r.broken == Broken::Forgets => Reply::Refused,
            // It was complete, and its source lives: it has run, and has gone on or ended.
            None => Reply::Committed,
        };
        self.reply(r, c, reply);
    }

    // ---- Every callee ------------------------------------------------------------------------------------------

    fn execute(&mut self, r: &Roles, c: Call, well: bool) {
        match c.kind {
            Kind::Prepare => self.prepare(r, c),
            Kind::Complete => {
                let ev = if well {
                    movement::Event::Made
                } else {
                    movement::Event::Failed
                };
                self.arriving(r, c.movement, ev);
                let stage = self.arrivals[c.movement as usize - 1].map(|a| a.stage);
                let is_parked = stage == Some(Stage::Parked);
                self.reply(r, c, if is_parked { Reply::Parked } else { Reply::Failed });
            }
            Kind::Abort => {
                self.arriving(r, c.movement, movement::Event::Abort);
            }
            Kind::Move => self.execute_move(r, c),
            Kind::Activate => {
                self.arriving(r, c.movement, movement::Event::Activate);
                self.reply(r, c, Reply::Done);
            }
            Kind::Judge => self.execute_judge(r, c),
            Kind::Ask => self.execute_ask(r, c),
            Kind::Lost => {
                self.lost = true;
                self.reply(r, c, Reply::Yes);
            }
            Kind::Search => {
                let is_here = self.has(c.to);
                // Nobody takes back a "no": the process must not come from where it was not yet looked for.
                if !is_here && self.is_up(c.to, c.from) && r.broken != Broken::TakesBackNo {
                    self.sought[c.to as usize] = true;
                }
                let is_newer = c.movement == 0 && self.has_seen_joins(c.to);
                let no = if is_newer { Reply::NoAndNewer } else { Reply::No };
                self.reply(r, c, if is_here { Reply::Yes } else { no });
            }
            Kind::Found => {
                self.sought[c.to as usize] = false;
                self.reply(r, c, Reply::Done);
            }
        }
    }

    fn has(&self, n: u8) -> bool {
        let arrives = |a: &Arrival| a.at == n && matches!(a.stage, Stage::Making | Stage::Filling | Stage::Parked);
        self.tasks[n as usize] != Task::None || self.arrivals.iter().flatten().any(arrives)
    }

    // ---- Every caller ------------------------------------------------------------------------------------------

    fn returned(&mut self, r: &Roles, c: Call, reply: Option<Reply>) {
        let answer = match reply {
            Some(Reply::Committed) => Answer::Committed,
            Some(Reply::Refused) => Answer::Refused,
            Some(Reply::NotThere) => Answer::NotThere,
            _ => Answer::Down,
        };
        match c.kind {
            Kind::Prepare if reply == Some(Reply::Filling) => self.call(Kind::Complete, c.movement, c.from, c.to),
            Kind::Prepare | Kind::Complete => match reply {
                Some(Reply::Parked) => {
                    let judge = movement::first_judge(self.is_up(c.from, self.life(c.from, r.origin)));
                    self.ask(r, c.movement, c.from, judge);
                }
                _ => self.give_up(c.movement, c.from, c.to),
            },
            Kind::Move => self.answered(r, c, Judge::Origin, answer),
            Kind::Judge => self.answered(r, c, Judge::Destination, answer),
            Kind::Activate => {
                // It was a member when the step was taken: what follows from its death comes later.
                if reply.is_none() && r.broken == Broken::SecondLook {
                    let _told = self.home(r, home::Event::NodeDown(self.number(c.to).into()));
                }
                self.reply_waiting(r, Kind::Move, c.movement, Reply::Committed);
            }
            Kind::Ask => {
                let answer = match answer {
                    Answer::Down if r.broken == Broken::RunsWithoutOrigin => Answer::Committed,
                    a => a,
                };
                self.origin_says(r, c.movement, answer);
            }
            Kind::Lost => {
                let is_up = self.is_up(self.origin(r), r.parent) || r.broken == Broken::RecordAtTheDead;
                let by = reply.filter(|_| is_up).map(|_| r.parent.into());
                let _free = self.home(r, home::Event::Mourned(by));
            }
            Kind::Search => {
                self.found |= reply == Some(Reply::Yes);
                // A dead node may have known who joined; then so does who has seen it go.
                let has_missed = c.movement == 0 && self.has_seen_joins(c.from);
                let again = reply == Some(Reply::NoAndNewer) || has_missed;
                self.is_older |= again && r.broken != Broken::SearchAmongTheOld;
                if self.calls.iter().any(|c| c.kind == Kind::Search) {
                    return;
                }
                if self.found {
                    self.call_all(r, Kind::Found, c.from);
                    self.is_older = false;
                } else if self.is_older {
                    self.search_due = true;
                } else {
                    self.lost = true;
                }
                self.found = false;
            }
            Kind::Found => {}
            Kind::Abort => {}
        }
    }

    // ---- Source ------------------------------------------------------------------------------------------------

    fn give_up(&mut self, movement: u8, from: u8, to: u8) {
        if self.is_alive(to) {
            self.call(Kind::Abort, movement, from, to);
        }
        self.stay(from, movement);
    }

    fn stay(&mut self, n: u8, movement: u8) {
        self.tasks[n as usize] = Task::Running;
        self.stayed |= 1 << movement;
    }

    fn ask(&mut self, r: &Roles, movement: u8, from: u8, judge: Judge) {
        match judge {
            Judge::Origin => self.call(Kind::Move, movement, from, self.life(from, r.origin)),
            Judge::Destination => {
                if let Task::Leaving { to, .. } = self.tasks[from as usize] {
                    self.call(Kind::Judge, movement, from, to);
                }
            }
        }
    }

    fn answered(&mut self, r: &Roles, c: Call, asked: Judge, answer: Answer) {
        let Task::Leaving { to, movement } = self.tasks[c.from as usize] else {
            self.wrong = Some("an answer to nobody");
            return;
        };
        if movement != c.movement {
            self.wrong = Some("an answer of another movement");
        }
        let then = match (r.broken, answer) {
            (Broken::StaysOnDown, Answer::Down) => Source::Stay,
            (Broken::AsksOnlyTheOrigin, Answer::Down) => Source::Vanish,
            _ => movement::answered(asked, answer, self.number(to) == r.origin),
        };
        match then {
            Source::Ask(judge) => self.ask(r, c.movement, c.from, judge),
            Source::Stay if r.broken == Broken::StaysSilently => self.stay(c.from, c.movement),
            Source::Stay => self.give_up(movement, c.from, to),
            Source::Vanish => {
                self.end(c.from);
                if r.broken == Broken::SourceMourns && answer == Answer::Down {
                    self.tell_lost(r, c.from);
                }
            }
        }
    }

    /// The process has no task there any more.
    fn end(&mut self, n: u8) {
        self.tasks[n as usize] = Task::None;
        for a in &mut self.arrivals {
            if a.is_some_and(|a| a.at == n && a.stage == Stage::Active) {
                *a = None;
            }
        }
    }

    // ---- Membership --------------------------------------------------------------------------------------------

    fn node_down(&mut self, r: &Roles, n: u8) {
        let dead = self.changes[self.done[n as usize] as usize];
        self.done[n as usize] += 1;
        for m in 1..=MOVEMENTS as u8 {
            if self.arrivals[m as usize - 1].is_some_and(|a| a.at == n && a.from == dead) {
                self.arriving(r, m, movement::Event::SourceDown);
            }
        }
        if n == self.origin(r) {
            let _told = self.home(r, home::Event::NodeDown(self.number(dead).into()));
        }
        let origin = match r.broken {
            Broken::SearchOnlyWhileDown => self.life(n, r.origin),
            // Another life of it does not know the process.
            _ => r.origin,
        };
        if n == r.parent && !self.is_up(n, origin) && !self.lost {
            self.search_due = true;
        }
        if dead == r.parent {
            self.sought[n as usize] = false;
        }
    }

    fn call_all(&mut self, r: &Roles, kind: Kind, from: u8) {
        for to in 0..N as u8 {
            if self.is_node(r, to) && self.is_up(from, to) {
                // Of a search: whether it asks who joined.
                self.call(kind, self.has_seen_joins(from).into(), from, to);
            }
        }
    }

    // ---- What must hold ----------------------------------------------------------------------------------------

    /// What is wrong in a world in which nothing more happens by itself.
    pub fn unsettled(&self, r: &Roles) -> Option<&'static str> {
        if !self.calls.is_empty() {
            return Some("a call waits for ever");
        }
        if self.tasks.iter().any(|t| matches!(t, Task::Leaving { .. })) {
            return Some("a process is frozen for ever");
        }
        if self.arrivals.iter().flatten().any(|a| a.stage != Stage::Active) {
            return Some("an arrival waits for ever");
        }
        let at = self.tasks.iter().position(|t| *t == Task::Running);
        if at.is_some() && self.sought.contains(&true) {
            return Some("a node never takes the process again");
        }
        if at.is_none() && self.is_alive(r.parent) && !self.lost {
            return Some("a process ended and its parent does not know");
        }
        if self.is_alive(self.origin(r)) {
            let right = match (self.place, at) {
                (Some(Place::At { node, .. }), Some(at)) => node == u32::from(self.number(at as u8)),
                // In a second life it is told when the process moves.
                (None, Some(at)) => self.number(at as u8) == r.origin || self.reborn == Some(r.origin),
                (None, None) => true,
                _ => false,
            };
            if !right {
                return Some("the origin does not know where the process is");
            }
        }
        None
    }
}

impl Call {
    /// Whether the caller does anything when it ends.
    fn is_waited_for(&self, r: &Roles) -> bool {
        match self.kind {
            Kind::Abort => false,
            // Only the origin asks whose child it was.
            Kind::Lost => self.from == r.origin || self.from == AGAIN,
            _ => true,
        }
    }
}

impl Roles {
    fn is_node(&self, n: u8) -> bool {
        [self.origin, self.source, self.parent].contains(&n) || self.to.iter().any(|t| t.contains(&n))
    }
}
