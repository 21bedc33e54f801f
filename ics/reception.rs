// SPDX-License-Identifier: GPL-2.0

//! What comes on a stream after admission. A short frame whose effect needs no sleep is dealt with where the network
//! brings it, in a softirq: a reply wakes its caller, a request the thread that answers it. All else is left to the
//! stream's thread.

use crate::frame::Head;
use crate::lane::SHORT;
use crate::link::Link;
use crate::link::PIECE_MS;
use crate::peer::Peer;
use core::convert::Infallible;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use ssi::failpoint::hit;
use ssi::inbox::Reader;
use ssi::wait::Event;

/// Both ways a frame can take.
#[pin_data]
pub(crate) struct Reception {
    peer: Arc<Peer>,
    link: Arc<Link>,
    /// Number of the next frame. Only who has the frame changes it.
    next: Atomic<u64>,
    /// The thread is to look.
    woken: Atomic<u32>,
    #[pin]
    changed: Event,
}

impl Reception {
    /// Receives until the stream is torn. Only the stream's thread.
    ///
    /// # Errors
    /// Always: what tore it.
    pub(crate) fn run(peer: &Arc<Peer>, link: &Arc<Link>) -> Result<Infallible> {
        let me = Arc::pin_init(
            pin_init!(Self {
                peer: peer.clone(),
                link: link.clone(),
                next: Atomic::new(1),
                woken: Atomic::new(0),
                changed <- Event::new(),
            }),
            GFP_KERNEL,
        )?;
        let inbox = link.stream.inbox(&me)?;
        if inbox.is_some() {
            // What is left to the thread has begun.
            link.stream.set_receive_timeout(PIECE_MS);
        }
        loop {
            if let Some(inbox) = &inbox {
                while !inbox.resume() {
                    me.changed.wait_until(|| me.woken.xchg(0, Full) != 0);
                }
            }
            // Where a test has it stand still: what comes fills the socket.
            let _stood = hit("Ics.Reception.long");
            let seq = me.next.load(Relaxed);
            let home = |head: &Head| peer.home_of(head).cloned();
            let (head, body) = link.receive(seq, |head| peer.room_for(head), home)?;
            let len = body.len();
            // Where there is no inbox, the first of the two ways is tried here, with what an inbox takes.
            if inbox.is_some() || len > SHORT || !peer.receive_at_once(link, &head, &body) {
                peer.receive(link, &head, body)?;
            }
            me.dealt_with(seq, len);
            link.tell()?;
        }
    }

    fn dealt_with(&self, seq: u64, body: usize) {
        self.link.dealt_with(seq, body);
        self.next.store(seq + 1, Relaxed);
    }
}

impl Reader for Reception {
    const HEAD: usize = core::mem::size_of::<Head>();

    fn length(head: &[u8]) -> Option<usize> {
        Head::frame_length(head)
    }

    fn frame(&self, frame: &[u8]) -> bool {
        // A frame of ours needs sleep.
        if self.link.owes() {
            return false;
        }
        let seq = self.next.load(Relaxed);
        let Some((head, body)) = self.link.open(frame, seq) else {
            return false;
        };
        let is_done = self.peer.receive_at_once(&self.link, &head, body);
        if is_done {
            self.dealt_with(seq, body.len());
        }
        is_done
    }

    fn wake(&self) {
        self.woken.xchg(1, Full);
        self.changed.notify_all();
    }
}
