// SPDX-License-Identifier: GPL-2.0

//! Who makes sure that a lost node is off, and who knows: a pure state machine. Imports nothing but `core`;
//! `tests/host/fencing` searches every state of a small world.
//!
//! A node that is lost has a *life* that must be over before anybody acts on its death. It is over when an agent says so,
//! when the node said that it leaves, when a later life of it is heard, or when an administrator says so. Whoever learns
//! that first-hand tells it to the *holders*: those members who lost the node and are members still.
//!
//! The lowest holder has the duty. It asks the others whether they know; then it has an agent run, by itself or by one
//! holder after the other, until one succeeds. When it is lost too, the next one begins anew: a node may be fenced twice.
//! But a later life is not fenced once it is a member: where an agent runs, the node is not heard until that has ended,
//! and so becomes no member; and nobody begins an agent for a life that he knows to be over.

use core::ops::Deref;
use core::ops::DerefMut;

/// A place in the table, which is the same on all nodes.
pub(crate) type Place = usize;

/// A set of places.
pub(crate) type Mask = u64;

/// One life of a node: its incarnation. Later ones are larger.
pub(crate) type Life = u64;

/// Milliseconds of a clock that never jumps.
pub(crate) type Millis = u64;

/// Until a holder that could not be told is told again.
const RETELL: Millis = 500;

/// How much longer the one who asked waits for an agent than the one who runs it.
const ON_THE_WAY: Millis = 1000;

/// Time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Times {
    /// An agent that says nothing for so long has failed.
    pub(crate) attempt: Millis,
    /// After all holders have failed once: until they begin again. Doubles each time.
    pub(crate) first_rest: Millis,
    /// The longest such rest.
    pub(crate) longest_rest: Millis,
}

/// How far the duty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Step {
    /// Nothing to do: the life is over, or the duty is another node's.
    #[default]
    Idle,
    /// These holders are still to be asked whether they know that it is over.
    Asking(Mask),
    /// An agent is to run at the next holder that was not tried.
    Starting,
    /// It was asked for at `by`.
    Running {
        /// Where.
        by: Place,
        /// Number of the attempt.
        attempt: u32,
        /// Until when it may say nothing.
        until: Millis,
    },
    /// All have failed; they begin again then.
    Resting {
        /// When.
        until: Millis,
    },
}

/// An agent that is to run on this node, or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    /// Its number on this node.
    pub(crate) number: u32,
    /// What must end.
    pub(crate) life: Life,
    /// Who asked for it, and its number there. `None`: it took too long, nobody waits for it any more.
    asker: Option<(Place, u32)>,
    until: Millis,
    announced: bool,
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Slot {
    /// The life that was lost last; 0: none.
    lost: Life,
    /// This life and all before it are over.
    over: Life,
    /// The life that says that it leaves; 0: none.
    leaving: Life,
    /// The latest life heard.
    heard: Life,
    /// Who lost it and is a member still.
    holders: Mask,
    /// Who must be told that it is over.
    untold: Mask,
    /// Of these, who could not be told.
    unreached: Mask,
    retell_at: Millis,
    step: Step,
    /// Where an agent has failed since the last rest.
    tried: Mask,
    rests: u32,
    job: Option<Job>,
    /// Who is to hear that which attempt for which life failed here.
    report: Option<(Place, Life, u32)>,
}

/// What is to be done next. Whoever does it says what came of it before he asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Effect {
    /// Ask `to` whether that life is over, or say that it is. Ends with [`Fencing::answered`].
    Say {
        /// The holder.
        to: Place,
        /// The lost node.
        about: Place,
        /// Its life.
        life: Life,
        /// Known to be over.
        over: bool,
    },
    /// Ask `by` to run an agent. Ends with [`Fencing::ran`].
    Run {
        /// The holder.
        by: Place,
        /// The lost node.
        about: Place,
        /// Its life.
        life: Life,
        /// Number of the attempt.
        attempt: u32,
    },
    /// Tell `to` that its attempt failed here.
    Report {
        /// Who asked for it.
        to: Place,
        /// The lost node.
        about: Place,
        /// Its life.
        life: Life,
        /// Number of the attempt.
        attempt: u32,
    },
    /// There is a new job on this node.
    Announce {
        /// The lost node.
        about: Place,
        /// The job.
        job: Job,
    },
    /// All have failed: for the log.
    Rest {
        /// The lost node.
        about: Place,
        /// How long.
        wait: Millis,
    },
}

/// What a node says to the wish that it run an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// No need: that life is over.
    Over,
    /// It does, and says how it went.
    Taken,
    /// It cannot.
    No,
}

/// One node's knowledge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fencing<S> {
    this: Place,
    times: Times,
    /// The nodes that are fenced. A life of any other is over when it is lost.
    fenced: Mask,
    /// Somebody on this node runs agents.
    has_daemon: bool,
    attempts: u32,
    jobs: u32,
    /// The place that something was done about last.
    last: Place,
    /// One for each place. The caller's, as a kernel stack does not hold a table.
    slots: S,
}

const fn bit(p: Place) -> Mask {
    1 << p
}

fn lowest(mask: Mask) -> Option<Place> {
    (mask != 0).then(|| mask.trailing_zeros() as Place)
}

impl Slot {
    fn is_pending(&self) -> bool {
        self.lost > self.over
    }

    /// Whether this node knows that a life needs no agent.
    fn is_over(&self, life: Life) -> bool {
        self.over >= life || self.leaving == life || self.heard > life
    }

    /// That life is over. `tell`: the other holders may not know.
    fn end(&mut self, life: Life, this: Place, tell: bool) {
        self.over = self.over.max(life);
        if !self.is_pending() {
            self.step = Step::Idle;
            self.tried = 0;
            self.rests = 0;
            if tell {
                self.untold = self.holders & !bit(this);
                self.unreached = 0;
            }
        }
    }

    fn has_failed(&mut self, by: Place) {
        self.tried |= bit(by);
        self.step = Step::Starting;
    }

    /// Whoever asked for this node's job need not wait for it any more.
    fn give_up_job(&mut self, this: Place) {
        let Some(job) = self.job.as_mut() else { return };
        let Some((asker, number)) = job.asker.take() else {
            return;
        };
        if asker != this {
            self.report = Some((asker, job.life, number));
            return;
        }
        if matches!(self.step, Step::Running { by, attempt, .. } if by == this && attempt == number)
        {
            self.has_failed(this);
        }
    }

    /// The agent of this node's job has ended, and in vain.
    fn drop_job(&mut self, this: Place) {
        self.give_up_job(this);
        self.job = None;
    }
}

impl<S: Deref<Target = [Slot]> + DerefMut> Fencing<S> {
    /// A node that has lost nobody, with as many slots as the table has places. Attempts and jobs are numbered from `first`
    /// on: what an earlier membership of this node began must not count for this one.
    pub(crate) fn new(this: Place, slots: S, times: Times, fenced: Mask, first: u32) -> Self {
        Self {
            this,
            times,
            fenced,
            has_daemon: false,
            attempts: first,
            jobs: first,
            last: 0,
            slots,
        }
    }

    /// There is another node at a place, or none, which is fenced or not.
    pub(crate) fn forget(&mut self, p: Place, fenced: bool) {
        if let Some(s) = self.slots.get_mut(p) {
            *s = Slot::default();
        }
        self.fenced &= !bit(p);
        if fenced {
            self.fenced |= bit(p);
        }
    }

    /// Whether that life is over. Nobody acts on its death before.
    pub(crate) fn is_over(&self, p: Place, life: Life) -> bool {
        self.fenced & bit(p) == 0 || self.slots.get(p).is_none_or(|s| s.over >= life)
    }

    /// Whether a node is lost and not known to be off.
    pub(crate) fn is_pending(&self, p: Place) -> bool {
        self.slots.get(p).is_some_and(Slot::is_pending)
    }

    /// The life of a node that was lost last; 0: none.
    pub(crate) fn lost(&self, p: Place) -> Life {
        self.slots.get(p).map_or(0, |s| s.lost)
    }

    /// The latest life of a node that this node knows of; 0: none.
    pub(crate) fn latest(&self, p: Place) -> Life {
        self.slots.get(p).map_or(0, |s| s.heard.max(s.lost))
    }

    /// Whether a node has said in that life that it leaves.
    pub(crate) fn has_left(&self, p: Place, life: Life) -> bool {
        self.slots.get(p).is_some_and(|s| s.leaving == life)
    }

    /// Whether a node is to be fenced when it is lost.
    pub(crate) fn is_fenced(&self, p: Place) -> bool {
        self.fenced & bit(p) != 0
    }

    /// Whether there is anything that time alone can move.
    pub(crate) fn is_busy(&self) -> bool {
        let busy = |s: &Slot| {
            s.step != Step::Idle || s.job.is_some() || s.report.is_some() || s.untold != 0
        };
        self.slots.iter().any(busy)
    }

    /// The job of this node about a place.
    pub(crate) fn job(&self, p: Place) -> Option<Job> {
        self.slots.get(p).and_then(|s| s.job)
    }

    /// The members are `new` where they were `old`; `life` says which life a member of `old` had.
    pub(crate) fn view(&mut self, old: Mask, new: Mask, life: impl Fn(Place) -> Life) {
        let this = self.this;
        for (p, s) in self.slots.iter_mut().enumerate() {
            if new & bit(p) != 0 {
                // Its leave may have been refused by this very view. If not, it says so again with its next heartbeat.
                s.leaving = 0;
            }
            let was_first = lowest(s.holders) == Some(this);
            s.holders &= new;
            s.untold &= new;
            if let Step::Asking(rest) = &mut s.step {
                *rest &= new;
            }
            if let Step::Running { by, .. } = s.step {
                if new & bit(by) == 0 {
                    s.has_failed(by);
                }
            }
            let is_lost = old & !new & bit(p) != 0;
            if is_lost {
                s.lost = life(p);
                s.holders = old & new;
                s.untold = 0;
                s.step = Step::Idle;
                s.tried = 0;
                s.rests = 0;
                if self.fenced & bit(p) == 0 {
                    s.over = s.over.max(s.lost);
                } else if s.is_over(s.lost) {
                    s.end(s.lost, this, true);
                }
            }
            let is_first = lowest(s.holders) == Some(this);
            if is_first && s.is_pending() && s.step == Step::Idle {
                s.step = Step::Asking(s.holders & !bit(this));
            }
            if is_first && !was_first && !is_lost && s.lost != 0 && !s.is_pending() {
                // Who had the duty before may have told only some of them.
                s.untold = s.holders & !bit(this);
                s.unreached = 0;
            }
        }
    }

    /// A node says something. Returns whether it may be heard: not where an agent runs against it.
    pub(crate) fn heard(&mut self, p: Place, life: Life, leaving: bool) -> bool {
        let this = self.this;
        let Some(s) = self.slots.get_mut(p) else {
            return true;
        };
        s.heard = s.heard.max(life);
        if leaving {
            s.leaving = life;
        } else if s.leaving == life {
            s.leaving = 0;
        }
        if s.is_pending() && s.heard > s.lost {
            s.end(s.lost, this, true);
        }
        s.job.is_none()
    }

    /// Somebody runs agents on this node, or nobody does any more.
    pub(crate) fn daemon(&mut self, is_there: bool) {
        if self.has_daemon == is_there {
            return;
        }
        self.has_daemon = is_there;
        let this = self.this;
        for s in self.slots.iter_mut() {
            if !is_there {
                s.drop_job(this);
            } else if matches!(s.step, Step::Resting { .. }) {
                s.tried = 0;
                s.step = Step::Starting;
            }
        }
    }

    /// A node asks whether a life is over, or says that it is. Returns whether this node knows that.
    pub(crate) fn asked(&mut self, from: Place, p: Place, life: Life, over: bool) -> bool {
        let this = self.this;
        let Some(s) = self.slots.get_mut(p) else {
            return false;
        };
        if over && s.over < life {
            // Who has the duty may be the only one that was told.
            let tell = lowest(s.holders) == Some(this);
            s.end(life, this, tell);
            s.untold &= !bit(from);
        }
        s.is_over(life)
    }

    /// A node wants an agent to run here.
    pub(crate) fn run_asked(
        &mut self,
        from: Place,
        p: Place,
        life: Life,
        attempt: u32,
        now: Millis,
    ) -> Answer {
        let Some(s) = self.slots.get_mut(p) else {
            return Answer::No;
        };
        if s.is_over(life) {
            return Answer::Over;
        }
        if !self.has_daemon {
            return Answer::No;
        }
        self.begin(p, life, from, attempt, now);
        Answer::Taken
    }

    /// Begins a job, or takes one that is about the same life for this one.
    fn begin(&mut self, p: Place, life: Life, asker: Place, attempt: u32, now: Millis) {
        let until = now.saturating_add(self.times.attempt);
        let Some(s) = self.slots.get_mut(p) else {
            return;
        };
        match &mut s.job {
            Some(j) if j.life == life => {
                j.asker = Some((asker, attempt));
                j.until = until;
            }
            job => {
                self.jobs = self.jobs.wrapping_add(1);
                *job = Some(Job {
                    number: self.jobs,
                    life,
                    asker: Some((asker, attempt)),
                    until,
                    announced: false,
                });
            }
        }
    }

    /// A job of this node has ended. Returns whether there was such a job.
    pub(crate) fn done(&mut self, p: Place, number: u32, is_off: bool) -> bool {
        let this = self.this;
        let Some(s) = self.slots.get_mut(p) else {
            return false;
        };
        let Some(job) = s.job.filter(|j| j.number == number) else {
            return false;
        };
        if is_off {
            s.job = None;
            s.end(job.life, this, true);
        } else {
            s.drop_job(this);
        }
        true
    }

    /// An attempt has failed at another holder.
    pub(crate) fn failed(&mut self, p: Place, life: Life, number: u32) {
        let Some(s) = self.slots.get_mut(p) else {
            return;
        };
        if let Step::Running { by, attempt, .. } = s.step {
            if s.lost == life && attempt == number {
                s.has_failed(by);
            }
        }
    }

    /// What a holder said; `None`: it did not.
    pub(crate) fn answered(
        &mut self,
        to: Place,
        p: Place,
        over: bool,
        answer: Option<bool>,
        now: Millis,
    ) {
        let this = self.this;
        let Some(s) = self.slots.get_mut(p) else {
            return;
        };
        if over {
            match answer {
                Some(_) => s.untold &= !bit(to),
                None => {
                    s.unreached |= bit(to);
                    s.retell_at = now.saturating_add(RETELL);
                }
            }
            return;
        }
        if answer == Some(true) && s.is_pending() {
            s.end(s.lost, this, true);
        }
        if let Step::Asking(rest) = &mut s.step {
            // A holder that says nothing is about to be lost, and does not keep the others waiting.
            *rest &= !bit(to);
        }
    }

    /// What a holder said that was to run an agent; `None`: it said nothing.
    pub(crate) fn ran(&mut self, p: Place, number: u32, answer: Option<Answer>) {
        let this = self.this;
        let Some(s) = self.slots.get_mut(p) else {
            return;
        };
        let Step::Running { by, attempt, .. } = s.step else {
            return;
        };
        if attempt != number {
            return;
        }
        match answer {
            Some(Answer::Taken) => {}
            Some(Answer::Over) => s.end(s.lost, this, true),
            Some(Answer::No) | None => s.has_failed(by),
        }
    }

    /// This node knows first-hand that a life is over.
    pub(crate) fn confirm(&mut self, p: Place, life: Life) {
        let this = self.this;
        if let Some(s) = self.slots.get_mut(p) {
            s.end(life, this, true);
        }
    }

    /// As if what is waited for about a node had taken too long.
    #[allow(dead_code, reason = "tests/host ends time-outs early with it")]
    pub(crate) fn expire(&mut self, p: Place) {
        let Some(s) = self.slots.get_mut(p) else {
            return;
        };
        match &mut s.step {
            Step::Running { until, .. } | Step::Resting { until } => *until = 0,
            Step::Idle | Step::Asking(_) | Step::Starting => {}
        }
        if let Some(j) = &mut s.job {
            j.until = 0;
        }
        s.retell_at = 0;
    }

    /// What is to be done now. The lost nodes have their turns: one about whom a holder does not answer holds up no other.
    pub(crate) fn next(&mut self, now: Millis) -> Option<Effect> {
        let n = self.slots.len();
        let last = self.last;
        let (about, effect) = (1..=n).find_map(|i| {
            let about = (last + i) % n;
            Some((about, self.next_about(about, now)?))
        })?;
        self.last = about;
        Some(effect)
    }

    fn next_about(&mut self, about: Place, now: Millis) -> Option<Effect> {
        let this = self.this;
        let s = self.slots.get_mut(about)?;
        if s.job.is_some_and(|j| now >= j.until) {
            // The agent may run still: the job stays until it is heard of, or the daemon is gone.
            s.give_up_job(this);
        }
        if let Some((to, life, attempt)) = s.report.take() {
            return Some(Effect::Report {
                to,
                about,
                life,
                attempt,
            });
        }
        if let Some(j) = s.job.as_mut().filter(|j| !j.announced) {
            j.announced = true;
            return Some(Effect::Announce { about, job: *j });
        }
        if s.unreached != 0 && now >= s.retell_at {
            s.unreached = 0;
        }
        if let Some(to) = lowest(s.untold & !s.unreached) {
            return Some(Effect::Say {
                to,
                about,
                life: s.over,
                over: true,
            });
        }
        let life = s.lost;
        match s.step {
            Step::Idle => None,
            Step::Asking(rest) => match lowest(rest) {
                Some(to) => Some(Effect::Say {
                    to,
                    about,
                    life,
                    over: false,
                }),
                None => self.start(about, now),
            },
            Step::Running { by, until, .. } => {
                if now < until {
                    return None;
                }
                s.has_failed(by);
                self.start(about, now)
            }
            Step::Resting { until } => {
                if now < until {
                    return None;
                }
                s.tried = 0;
                self.start(about, now)
            }
            Step::Starting => self.start(about, now),
        }
    }

    /// Has the next holder run an agent: this one first.
    fn start(&mut self, about: Place, now: Millis) -> Option<Effect> {
        let this = self.this;
        let has_daemon = self.has_daemon;
        let s = self.slots.get_mut(about)?;
        if !has_daemon {
            s.tried |= bit(this);
        }
        let left = s.holders & !s.tried;
        let by = if left & bit(this) != 0 {
            Some(this)
        } else {
            lowest(left)
        };
        let Some(by) = by else {
            let wait = self.times.first_rest << s.rests.min(16);
            let wait = wait.min(self.times.longest_rest);
            s.rests = s.rests.saturating_add(1);
            s.step = Step::Resting {
                until: now.saturating_add(wait),
            };
            return Some(Effect::Rest { about, wait });
        };
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = self.attempts;
        let life = s.lost;
        s.step = Step::Running {
            by,
            attempt,
            until: now.saturating_add(self.times.attempt + ON_THE_WAY),
        };
        if by != this {
            return Some(Effect::Run {
                by,
                about,
                life,
                attempt,
            });
        }
        self.begin(about, life, this, attempt, now);
        self.next_about(about, now)
    }
}
