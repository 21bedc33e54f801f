// SPDX-License-Identifier: GPL-2.0

//! What happens in a case, and how one waits for it.

use crate::heartbeat::Heartbeat;
use crate::net::LinkObserver;
use crate::ticket::Ticket;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::sync::SetOnce;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::machine;
use ssi::wait::Event;

/// What happens in a case; every change is told.
#[pin_data]
pub(super) struct Scene {
    pub(super) is_open: Atomic<u32>,
    pub(super) holding: Atomic<u32>,
    pub(super) pings: Atomic<u32>,
    pub(super) held: Atomic<u32>,
    pub(super) errors: Atomic<u32>,
    pub(super) links: Atomic<u32>,
    pub(super) lost: Atomic<u32>,
    /// 1: the last word was that there is a stream.
    pub(super) is_up: Atomic<u32>,
    /// 1: whoever says that a stream is lost waits.
    pub(super) is_held: Atomic<u32>,
    pub(super) losing: Atomic<u32>,
    pub(super) interrupted: Atomic<u32>,
    /// Tickets that came.
    pub(super) waiting: Atomic<u32>,
    /// Calls that the case is to answer, with what they say. Lock: of the cases only, mutex.
    #[pin]
    pub(super) tickets: Mutex<KVec<(u64, Ticket)>>,
    #[pin]
    pub(super) changed: Event,
}

static SCENE: SetOnce<Arc<Scene>> = SetOnce::new();

/// Waiting for longer than this is a failure.
pub(super) const LIMIT_MS: u32 = 30_000;

impl Scene {
    pub(super) fn now() -> Option<&'static Arc<Self>> {
        SCENE.as_ref()
    }

    /// The scene, as it is before a case.
    pub(super) fn begin() -> Result<&'static Arc<Self>> {
        if Self::now().is_none() {
            let scene = Arc::pin_init(
                pin_init!(Self {
                    is_open: Atomic::new(0),
                    holding: Atomic::new(0),
                    pings: Atomic::new(0),
                    held: Atomic::new(0),
                    errors: Atomic::new(0),
                    links: Atomic::new(0),
                    lost: Atomic::new(0),
                    is_up: Atomic::new(0),
                    is_held: Atomic::new(0),
                    losing: Atomic::new(0),
                    interrupted: Atomic::new(0),
                    waiting: Atomic::new(0),
                    tickets <- kernel::new_mutex!(KVec::new(), "ics::tickets"),
                    changed <- Event::new(),
                }),
                GFP_KERNEL,
            )?;
            SCENE.populate(scene);
        }
        let s = Self::now().ok_or(ENOMEM)?;
        for n in [
            &s.is_open,
            &s.holding,
            &s.pings,
            &s.held,
            &s.errors,
            &s.links,
            &s.lost,
            &s.is_up,
            &s.is_held,
            &s.losing,
            &s.interrupted,
            &s.waiting,
        ] {
            n.store(0, Relaxed);
        }
        drop(s.take_tickets());
        Ok(s)
    }

    pub(super) fn count(&self, what: &Atomic<u32>) {
        what.fetch_add(1, Full);
        self.changed.notify_all();
    }

    /// The calls that the case is to answer.
    pub(super) fn take_tickets(&self) -> KVec<(u64, Ticket)> {
        core::mem::replace(&mut *self.tickets.lock(), KVec::new())
    }

    pub(super) fn open(&self) {
        self.count(&self.is_open);
    }

    /// Waits for a condition that somebody's [`Self::count`] makes true. Returns whether it came true.
    pub(super) fn comes(&self, cond: impl Fn(&Self) -> bool) -> bool {
        self.changed.wait_timeout(LIMIT_MS, || cond(self))
    }
}

/// Waits for a condition that nobody tells of. Returns whether it came true.
pub(super) fn until(cond: impl Fn() -> bool) -> bool {
    for _ in 0..LIMIT_MS / 10 {
        if cond() {
            return true;
        }
        machine::sleep_ms(10);
    }
    false
}

pub(super) struct Observer;

pub(super) static OBSERVER: Observer = Observer;

impl LinkObserver for Observer {
    fn link_up(&self, _node: NodeId, _incarnation: Incarnation) {
        if let Some(s) = Scene::now() {
            s.is_up.store(1, Relaxed);
            s.count(&s.links);
        }
    }

    fn link_lost(&self, _node: NodeId, _incarnation: Incarnation) {
        if let Some(s) = Scene::now() {
            s.count(&s.losing);
            s.comes(|s| s.is_held.load(Relaxed) == 0);
            s.is_up.store(0, Relaxed);
            s.count(&s.lost);
        }
    }

    fn heartbeat(&self, _h: &Heartbeat) {}
}
