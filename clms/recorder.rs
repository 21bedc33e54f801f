// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/ssi/membership`: the steps that this node's membership took, for a test that takes them again.
//!
//! Writing `on` records from then on, the next join first; `off` ends it, and keeps what there is. Reading gives a line for the join,
//! `join PLACE INCARNATION DETECT FORM NOW QUIET TABLE VOTES[w] ... [next CHANGE]` (`w`: a witness; `-`: a vacant place), and one for
//! each step, `NOW INPUT => EFFECT; SAYS`: what came, what was to be done, and what the node says then. CHANGE is `TABLE PLACE VOTES[w]`.
//! INPUT is `tick`, `leave`, `stay`, `settle`, `stage CHANGE|-`, `up PLACE INCARNATION`, `lost PLACE INCARNATION` or `heard PLACE INCARNATION SEQ ANSWERS|- SUPPORTS SAYS`. Numbers are decimal; effects and SAYS of this node are in
//! the notation of `{:?}`, SAYS of others fifteen numbers. `full` is the last line where there was no room for more.
//!
//! While nothing is recorded a step costs one load more.

use crate::state;
use crate::state::Change;
use crate::state::Effect;
use crate::state::Millis;
use crate::state::Phase;
use crate::thread::Core;
use crate::thread::Says;
use crate::thread::WORDS;
use kernel::debugfs::File;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::uaccess::UserSliceReader;

/// How many steps there is room for: minutes of a small cluster.
const ROOM: usize = 1 << 14;

/// What comes to a member.
pub(crate) type Input = state::Input<Says>;

/// What a join begins with.
#[derive(Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) place: usize,
    pub(crate) incarnation: u64,
    pub(crate) times: state::Times,
    pub(crate) now: Millis,
    pub(crate) quiet_until: Millis,
    /// The table, and what is staged.
    pub(crate) table: u64,
    pub(crate) next: Option<Change>,
}

struct Step {
    now: Millis,
    input: Input,
    effect: Effect<WORDS>,
    says: Says,
}

struct Log {
    begin: Option<Begin>,
    rows: KVec<Option<state::Row>>,
    steps: KVVec<Step>,
    is_full: bool,
}

global_lock! {
    // SAFETY: Initialised in `Debugfs::new`, which the module calls before anything is recorded.
    /// Lock: level 29 `clms::recorder`, mutex: a leaf, taken under `clms::heart`.
    unsafe(uninit) static LOG: Mutex<Log> = Log {
        begin: None,
        rows: KVec::new(),
        steps: KVVec::new(),
        is_full: false,
    };
}

/// Whether steps are recorded: 0 no, 1 yes.
static IS_ON: Atomic<u32> = Atomic::new(0);

/// A node begins to join.
pub(crate) fn joins(begin: Begin, rows: impl Iterator<Item = Option<state::Row>>) {
    if IS_ON.load(Relaxed) == 0 {
        return;
    }
    let mut log = LOG.lock();
    log.steps.clear();
    log.rows.clear();
    log.is_full = false;
    for r in rows {
        if log.rows.push(r, GFP_KERNEL).is_err() {
            // Without its beginning it cannot be taken again.
            log.begin = None;
            return;
        }
    }
    log.begin = Some(begin);
}

/// A step was taken.
pub(crate) fn note(input: Input, now: Millis, effect: Effect<WORDS>, core: &Core) {
    if IS_ON.load(Relaxed) == 0 {
        return;
    }
    let step = Step {
        now,
        input,
        effect,
        says: core.says(),
    };
    let mut log = LOG.lock();
    if log.begin.is_some() && !log.is_full {
        // The room is there already: nothing waits for memory here.
        log.is_full = log.steps.push_within_capacity(step).is_err();
    }
}

fn show_row(f: &mut fmt::Formatter<'_>, row: Option<state::Row>) -> fmt::Result {
    match row {
        Some(r) => write!(f, "{}{}", r.votes, if r.is_witness { "w" } else { "" }),
        None => write!(f, "-"),
    }
}

fn show_change(f: &mut fmt::Formatter<'_>, change: &Option<Change>) -> fmt::Result {
    let Some(c) = change else {
        return write!(f, "-");
    };
    write!(f, "{} {} ", c.table, c.place)?;
    show_row(f, c.row)
}

fn show_input(f: &mut fmt::Formatter<'_>, input: &Input) -> fmt::Result {
    let (p, h) = match input {
        Input::Tick => return write!(f, "tick"),
        Input::Leave => return write!(f, "leave"),
        Input::Stay => return write!(f, "stay"),
        Input::Settle => return write!(f, "settle"),
        Input::Stage(c) => {
            write!(f, "stage ")?;
            return show_change(f, c);
        }
        Input::LinkUp(p, incarnation) => return write!(f, "up {p} {incarnation}"),
        Input::LinkLost(p, incarnation) => return write!(f, "lost {p} {incarnation}"),
        Input::Heard(p, h) => (p, h),
    };
    write!(f, "heard {} {} {} ", p, h.incarnation, h.seq)?;
    match h.answers {
        Some(sent) => write!(f, "{sent} ")?,
        None => write!(f, "- ")?,
    }
    write!(f, "{}", h.supports)?;
    let s = &h.says;
    let phase = match s.phase {
        Phase::Joining => 1,
        Phase::Up => 2,
        Phase::Leaving => 3,
    };
    write!(f, " {phase} {} {}", s.table, s.staged)?;
    for v in [&s.view, &s.proposal] {
        let [members] = *v.members.words();
        write!(f, " {} {} {} {}", v.id, members, v.digest, v.table)?;
    }
    let ([hears], [over]) = (*s.hears.words(), *s.over.words());
    write!(f, " {} {} {} {}", s.promised, s.promised_to, hears, over)
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let log = LOG.lock();
    let Some(b) = log.begin else { return Ok(()) };
    write!(
        f,
        "join {} {} {} {} {} {}",
        b.place, b.incarnation, b.times.detect, b.times.form, b.now, b.quiet_until
    )?;
    write!(f, " {}", b.table)?;
    for r in log.rows.iter() {
        write!(f, " ")?;
        show_row(f, *r)?;
    }
    if b.next.is_some() {
        write!(f, " next ")?;
        show_change(f, &b.next)?;
    }
    writeln!(f)?;
    for s in log.steps.iter() {
        write!(f, "{} ", s.now)?;
        show_input(f, &s.input)?;
        writeln!(f, " => {:?}; {:?}", s.effect, s.says)?;
    }
    if log.is_full {
        writeln!(f, "full")?;
    }
    Ok(())
}

fn store(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 8];
    let n = reader.len();
    let text = buf.get_mut(..n).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    match text.trim_ascii() {
        b"on" => {
            let steps = KVVec::with_capacity(ROOM, GFP_KERNEL)?;
            {
                let mut log = LOG.lock();
                log.begin = None;
                log.steps = steps;
            }
            IS_ON.store(1, Relaxed);
        }
        b"off" => IS_ON.store(0, Relaxed),
        _ => return Err(EINVAL),
    }
    Ok(())
}

/// The file.
#[pin_data]
pub(crate) struct Debugfs {
    #[pin]
    file: File<()>,
}

impl Debugfs {
    /// Makes the file. Once, at module load.
    ///
    /// # Errors
    /// `ENODEV` without the folder; `ENOMEM`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        // SAFETY: Called exactly once, from module init.
        unsafe { LOG.init() };
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                file <- dir.read_write_callback_file(c"membership", (), &show, &store),
            }? Error),
            GFP_KERNEL,
        )
    }
}
