// SPDX-License-Identifier: GPL-2.0

//! Replies that come later than the end of their handler: what waits without bound holds no thread.

use crate::bytes::Bytes;
use crate::peer::Peer;
use crate::peer::RequestId;
use crate::service::__private::encode;
use crate::service::Op;
use crate::service::OpId;
use crate::service::Reply;
use crate::service::Status;
use core::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SpinLock;
use ssi::trace;
use ssi::wait::Event;

/// What a body, or a refusal, comes to.
pub(crate) type Answered = core::result::Result<Bytes, Status>;

/// Whoever replies to calls later. It bounds what it keeps, drops tickets that are not wanted any more, and all of them when this
/// node leaves: a call of the node to itself does not end before.
pub trait Replier: Sync {
    /// A handler has ended a call with [`Status::Later`] and this key. Context: the handler's thread; may sleep.
    fn takes(&self, key: u64, ticket: Ticket);
}

/// Who replies to a call, and under which key.
#[derive(Clone, Copy)]
pub struct Later {
    /// The one.
    pub to: &'static dyn Replier,
    /// What the handler tells it.
    pub key: u64,
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("key", &self.key).finish()
    }
}

/// A call of another node that is to be answered.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) peer: Arc<Peer>,
    pub(crate) id: RequestId,
    pub(crate) op: OpId,
}

impl Asked {
    /// The thread does other work from now on.
    pub(crate) fn later(&self) -> Ticket {
        self.peer.goes_on_without_thread(self.id);
        Ticket(Of::Other(self.clone()))
    }

    /// Keeps the answer and sends it.
    pub(crate) fn answer(&self, result: Answered) {
        if let Some(stats) = self.peer.pool.stats.op(&self.op) {
            stats.served(result.is_err());
        }
        let error = match &result {
            Err(Status::Errno(e)) => e.to_errno(),
            Err(Status::Moved(_) | Status::Later(_)) | Ok(_) => 0,
        };
        trace::ics_served(self.peer.node, self.op.traced(self.id.xid, 0), error);
        self.peer.finish(self.id, result);
    }
}

/// A call of this node to itself.
#[pin_data]
pub(crate) struct Here {
    /// Lock: level 18 `ics::here`, spin; a leaf.
    #[pin]
    outcome: SpinLock<Option<Answered>>,
    is_given_up: Atomic<u32>,
    #[pin]
    done: Event,
}

impl Here {
    /// A call whose handler has ended: it waits until there is memory, which the kernel finds for an object this small.
    pub(crate) fn new() -> Arc<Self> {
        loop {
            let init = pin_init!(Self {
                outcome <- kernel::new_spinlock!(None, "ics::here"),
                is_given_up: Atomic::new(0),
                done <- Event::new(),
            });
            if let Ok(here) = Arc::pin_init(init, GFP_KERNEL) {
                return here;
            }
            ssi::task::yield_now();
        }
    }

    /// Told when [`Self::take`] has something.
    pub(crate) fn done(&self) -> &Event {
        &self.done
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<Answered> {
        self.outcome.lock().take()
    }

    /// Nobody waits any more.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(1, Relaxed);
    }
}

enum Of {
    Other(Asked),
    Here(Arc<Here>),
    /// Nobody waits.
    Nobody,
}

/// The right, and the duty, to answer a call. One that is dropped refuses it with `ECANCELED`.
pub struct Ticket(Of);

impl Ticket {
    pub(crate) const NOBODY: Self = Self(Of::Nobody);

    pub(crate) fn here(here: Arc<Here>) -> Self {
        Self(Of::Here(here))
    }

    /// Whether anybody still waits for the answer: not after the caller was killed or gave up, or its node is down.
    pub fn is_wanted(&self) -> bool {
        match &self.0 {
            Of::Other(a) => a.peer.is_wanted(a.id),
            Of::Here(here) => here.is_given_up.load(Relaxed) == 0,
            Of::Nobody => false,
        }
    }

    /// Answers, or refuses. Sleeps.
    pub fn answer<O: Op>(mut self, reply: Reply<O>) {
        let encoded = |(rep, tail)| encode::<O>(&rep, tail).map_err(Status::Errno);
        self.end(reply.and_then(encoded));
    }

    fn end(&mut self, result: Answered) {
        match core::mem::replace(&mut self.0, Of::Nobody) {
            Of::Other(asked) => asked.answer(result),
            Of::Here(here) => {
                *here.outcome.lock() = Some(result);
                here.done.notify_all();
            }
            Of::Nobody => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Err(Status::Errno(ECANCELED)));
    }
}
