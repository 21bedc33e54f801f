// SPDX-License-Identifier: GPL-2.0

//! One process that comes here: how far it is, and what is kept for it until it lives.
//!
//! Each change is one step of `state`, taken in its turn. Making the process is `make`'s, filling it `pages`'.

use super::family;
use super::image;
use super::judge;
use super::leaving;
use super::pages::Filling;
use super::state;
use super::state::Effect;
use super::state::Event as Happened;
use super::state::Stage;
use crate::children;
use crate::events;
use crate::nodes;
use crate::progress;
use ics::Caller;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::ids::ClusterPid;
use ssi::movement as steps;
use ssi::movement::Late as LateSignal;
use ssi::movement::Spawn;
use ssi::movement::MAX_LATE;
use ssi::pproc;
use ssi::pproc::Exit;
use ssi::pproc::SigInfo;
use ssi::refusal::Refusal;
use ssi::wait::Event;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

/// A process that comes here.
#[pin_data]
pub(crate) struct Arrival {
    /// Who it is.
    pub(super) spawn: Spawn,
    /// Where it comes from.
    pub(super) from: Caller,
    /// Whether it is a moved process, not a program to start.
    pub(super) is_move: bool,
    /// The fixed part of what it is made of.
    header: image::Header,
    /// The rest.
    pub(crate) image: KVVec<u8>,
    /// How far it is; changed by [`Arrival::step`] alone. Lock: level 46 `vproc::stage`, spin.
    #[pin]
    stage: kernel::sync::SpinLock<Stage>,
    /// Whether its source is down and the origin must be asked.
    source_is_down: Atomic<u32>,
    /// Whether its end has been reported to its parent's node.
    pub(super) end_is_told: Atomic<u32>,
    /// Its memory while pages come. Lock: `vproc::filling`, spin, a leaf.
    #[pin]
    pub(super) filling: kernel::sync::SpinLock<Filling>,
    /// Held for each step. Lock: level 44 `vproc::turn`, mutex.
    #[pin]
    turn: kernel::sync::Mutex<Turn>,
    /// Told at every change of `stage`.
    #[pin]
    pub(super) changed: Event,
}

/// What is kept for a process until it lives here.
struct Turn {
    /// Signals that were pending at the source, or came since.
    signals: KVVec<u8>,
    /// How many of them the source has sent.
    n_late: usize,
    /// Its children that have ended meanwhile.
    ends: KVec<(ClusterPid, Exit)>,
    /// Whether its parent has died meanwhile.
    is_orphan: bool,
    /// Why it cannot be made.
    why: Option<Refusal>,
}

impl Arrival {
    /// One that begins to come, made of `header` and `rest`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(
        from: Caller,
        spawn: Spawn,
        is_move: bool,
        header: image::Header,
        rest: &[u8],
    ) -> Result<Arc<Self>> {
        let mut bytes = KVVec::new();
        bytes.extend_from_slice(rest, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Arrival {
                spawn,
                from,
                is_move,
                header,
                image: bytes,
                filling <- kernel::new_spinlock!(Filling::new(), "vproc::filling"),
                stage <- kernel::new_spinlock!(Stage::Making, "vproc::stage"),
                source_is_down: Atomic::new(0),
                end_is_told: Atomic::new(0),
                turn <- kernel::new_mutex!(
                    Turn { signals: KVVec::new(), n_late: 0, ends: KVec::new(), is_orphan: false, why: None },
                    "vproc::turn"
                ),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The fixed part of what it is made of.
    pub(crate) fn header(&self) -> &image::Header {
        &self.header
    }

    /// How far it is.
    pub(super) fn stage(&self) -> Stage {
        *self.stage.lock()
    }

    /// Whether it lives.
    pub(super) fn is_active(&self) -> bool {
        self.stage() == Stage::Active
    }

    /// Whether it is about to live here.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.stage(), Stage::Making | Stage::Filling | Stage::Parked)
    }

    /// Takes one step; what makes the process live here is done before anybody sees that it does.
    pub(super) fn step(&self, ev: Happened) -> Effect {
        let mut effect;
        {
            let mut turn = self.turn.lock();
            let before = self.stage();
            let (mut after, e) = state::arriving(before, ev);
            effect = e;
            if effect == Effect::Run
                && before != Stage::Active
                && self.bring_alive(&mut turn).is_err()
            {
                pr_err!("process {} died before it lived here\n", self.spawn.nr.0);
                (after, effect) = (Stage::Aborted, Effect::Never);
            }
            *self.stage.lock() = after;
        }
        if effect == Effect::AskOrigin {
            self.source_is_down.store(1, Relaxed);
        }
        self.changed.notify_all();
        progress::notify();
        if effect == Effect::Run {
            // Not while it is this process's turn: it may send.
            let ends = core::mem::take(&mut self.turn.lock().ends);
            for (child, exit) in ends {
                // ESRCH: reported twice.
                let _known = events::end_child(self.spawn.nr, child, exit);
            }
        }
        effect
    }

    /// It cannot be made.
    pub(super) fn fail(&self, why: Refusal) {
        self.turn.lock().why = Some(why);
        let _failed = self.step(Happened::Failed);
    }

    /// Why it does not come here, if it does not.
    ///
    /// # Errors
    /// `ECANCELED` if the movement was given up; those of making it.
    pub(super) fn verdict(&self) -> core::result::Result<(), Refusal> {
        match self.stage() {
            Stage::Failed => Err(self.turn.lock().why.unwrap_or(ECANCELED.into())),
            Stage::Aborted => Err(ECANCELED.into()),
            _ => Ok(()),
        }
    }

    /// Keeps signals that were pending at its source.
    ///
    /// # Errors
    /// `EPROTO` if these are more than a source sends, or no whole ones; `ENOMEM`.
    pub(super) fn keep_late(&self, signals: &[u8]) -> Result {
        const SIZE: usize = core::mem::size_of::<LateSignal>();
        let mut turn = self.turn.lock();
        if !signals.len().is_multiple_of(SIZE) || turn.n_late + signals.len() / SIZE > MAX_LATE {
            return Err(EPROTO);
        }
        turn.signals.extend_from_slice(signals, GFP_KERNEL)?;
        turn.n_late += signals.len() / SIZE;
        Ok(())
    }

    /// Keeps a signal for it if it is about to live here. Returns whether it is.
    pub(super) fn hold(&self, signal: &LateSignal) -> bool {
        let mut turn = self.turn.lock();
        let holds = self.is_coming();
        while holds
            && turn
                .signals
                .extend_from_slice(signal.as_bytes(), GFP_KERNEL)
                .is_err()
        {
            ssi::task::yield_now();
        }
        holds
    }

    /// Keeps the end of a child for it if it is about to live here. Returns whether it is.
    pub(super) fn hold_end(&self, child: ClusterPid, exit: Exit) -> bool {
        let mut turn = self.turn.lock();
        let holds = self.is_coming();
        while holds && turn.ends.push((child, exit), GFP_KERNEL).is_err() {
            ssi::task::yield_now();
        }
        holds
    }

    /// Its parent has died.
    pub(super) fn orphan(&self) {
        self.turn.lock().is_orphan = true;
    }

    /// Makes the parked process the one that lives.
    ///
    /// # Errors
    /// `ESRCH` if it has no task any more.
    fn bring_alive(&self, turn: &mut Turn) -> Result {
        let pid = self.spawn.nr;
        // Before it can be waited for, or exit.
        let parts = self.header.parts(&self.image)?;
        family::keep_children(pid, parts.children);
        let parent = nodes::to_local(self.spawn.ppid);
        let local = pproc::exists(parent) && !nodes::is_foreign_alias(self.spawn.ppid);
        let linked = steps::activate(pid, local.then_some(parent))?;
        if linked {
            // After it is in its parent's list: a wait must not miss it.
            children::remove(parent, pid);
        } else if turn.is_orphan || (local && pproc::exists(parent)) {
            // Its parent is dead, or about to be. ESRCH: it has ended itself.
            children::remove(parent, pid);
            let _ended = pproc::reparent_to_init(pid);
        }
        leaving::came_back(pid);
        let signals = core::mem::take(&mut turn.signals);
        for chunk in signals.chunks_exact(core::mem::size_of::<LateSignal>()) {
            let Ok(l) = LateSignal::read_from_bytes(chunk) else {
                continue;
            };
            // CAST: same bits. A signal that the process ignores is gone here as it would have been there.
            let _ = pproc::signal(
                pid,
                l.target(),
                l.sig.get() as i32,
                &SigInfo(l.info),
                0,
                true,
            );
        }
        Ok(())
    }

    /// Waits for its judge's word. Returns whether it lives here. Only in the parked process.
    pub(super) fn await_word(&self) -> bool {
        loop {
            let asks = || self.source_is_down.load(Relaxed) != 0;
            self.changed
                .wait_until(|| self.stage() != Stage::Parked || asks());
            match self.stage() {
                Stage::Parked => self.settle(),
                Stage::Active => return true,
                _ => return false,
            }
        }
    }

    /// The source is down: asks the origin what has become of the movement. Only in the parked process.
    fn settle(&self) {
        self.source_is_down.store(0, Relaxed);
        let answer = judge::ask_origin(&self.spawn, self.from);
        let _done = self.step(Happened::OriginSays(answer));
    }
}
