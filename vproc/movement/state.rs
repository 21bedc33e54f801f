// SPDX-License-Identifier: GPL-2.0

//! What source and destination of a movement do, whatever dies meanwhile: pure state machines.
//!
//! The origin decides (`home/state.rs`) while it is alive, and the destination when the origin is down. A source that
//! has asked can do nothing but wait for an answer; if nobody is left who could give one, what it has is no process
//! any more, as it may have run at the destination.
//!
//! Neither of the two ever says that the process is dead: it may have moved on from there, by a movement they know
//! nothing of. While the origin is alive it says so; when it is down, the parent's node asks everybody.
//!
//! Imports nothing but `core`; `tests/host/vproc` searches its states together with those of `home/state.rs`.

/// Whom the source asks for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Judge {
    /// The origin.
    Origin,
    /// The destination, as the origin is down.
    Destination,
}

/// What the one who was asked for a commit answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The process is the destination's.
    Committed,
    /// It is the source's, and this movement will never be.
    Refused,
    /// What the source has is no process: it was lost, or is elsewhere.
    NotThere,
    /// None: the one who was asked is down.
    Down,
}

/// What the source does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Source {
    /// Asks that one.
    Ask(Judge),
    /// Goes silently: the process lives, or ended, elsewhere, or nobody is left who knows whether it ran elsewhere.
    Vanish,
    /// Goes on here as if nothing had happened, and sends the destination an abort: it may live, and only not yet be a
    /// member for the origin.
    Stay,
}

/// Whom a source asks first.
pub(crate) fn first_judge(origin_is_up: bool) -> Judge {
    if origin_is_up {
        Judge::Origin
    } else {
        Judge::Destination
    }
}

/// What a source does with the answer of `asked`.
pub(crate) fn answered(asked: Judge, answer: Answer, destination_is_origin: bool) -> Source {
    match (answer, asked) {
        (Answer::Committed | Answer::NotThere, _) => Source::Vanish,
        (Answer::Refused, _) => Source::Stay,
        (Answer::Down, Judge::Origin) if !destination_is_origin => Source::Ask(Judge::Destination),
        (Answer::Down, _) => Source::Vanish,
    }
}

/// How far a process is at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It makes itself from its image.
    Making,
    /// It waits for pages.
    Filling,
    /// It waits for its judge's word.
    Parked,
    /// It cannot be made.
    Failed,
    /// It lives.
    Active,
    /// It is to end silently.
    Aborted,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Its memory can be filled.
    Laid,
    /// It is complete.
    Made,
    /// It cannot be made.
    Failed,
    /// The source says that it will not be.
    Abort,
    /// The origin says that it lives.
    Activate,
    /// The source asks, as the origin is down. For a movement that is not known here any more the answer is
    /// [`Answer::Committed`]: it was complete, and has run.
    Judge,
    /// The source is down: when it goes, and for a process that begins to arrive after it went.
    SourceDown,
    /// What the origin says of a movement whose source is down.
    OriginSays(Answer),
}

/// What the destination does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Lets it run, and answers that it does.
    Run,
    /// Answers that it never will.
    Never,
    /// Destroys it silently.
    Destroy,
    /// Asks the origin whether the movement was committed.
    AskOrigin,
}

/// One step of a process at its destination.
pub(crate) fn arriving(stage: Stage, ev: Event) -> (Stage, Effect) {
    use Stage::{Aborted, Active, Failed, Filling, Making, Parked};
    match (stage, ev) {
        (Making, Event::Laid) => (Filling, Effect::None),
        (Making | Filling, Event::Made) => (Parked, Effect::None),
        (Making | Filling, Event::Failed) => (Failed, Effect::None),
        (_, Event::Laid | Event::Made | Event::Failed) => (stage, Effect::None),

        (Parked | Active, Event::Activate | Event::Judge) => (Active, Effect::Run),
        // Never before it is complete: the source asks only after that.
        (_, Event::Activate | Event::Judge) => (stage, Effect::Never),

        (Making | Filling | Parked, Event::Abort) => (Aborted, Effect::Destroy),
        // The source asks for its commit only of what is complete.
        (Making | Filling, Event::SourceDown) => (Aborted, Effect::Destroy),
        (Parked, Event::SourceDown) => (Parked, Effect::AskOrigin),
        (_, Event::Abort | Event::SourceDown) => (stage, Effect::None),

        (Parked, Event::OriginSays(Answer::Committed)) => (Active, Effect::Run),
        // Without an answer too: the source may have gone on by itself before it died, and nothing must happen twice.
        (Parked, Event::OriginSays(_)) => (Aborted, Effect::Destroy),
        (_, Event::OriginSays(_)) => (stage, Effect::None),
    }
}
