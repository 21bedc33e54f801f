// SPDX-License-Identifier: GPL-2.0

//! Replies that are kept for a peer are bounded in bytes: a call does not begin, or its thread keeps the reply, until the peer has
//! said that earlier ones arrived. It says so as soon as much has come ([`Link::tell`](crate::link::Link::tell)), so that who
//! waits here waits for nobody's next call.

use super::most_bytes;
use super::Peer;
use super::RequestId;
use super::State;
use crate::pool::Order;
use crate::pool::Queued;
use crate::service::Class;

impl State {
    /// Whether so much is kept of replies of a class that no more are made.
    pub(super) fn is_full_of_replies(&self, class: Class) -> bool {
        let c = class as usize;
        self.reply_bytes[c] >= most_bytes(c)
    }

    /// A call that may begin now.
    fn next_parked(&mut self) -> Option<Queued> {
        for class in Class::ALL {
            if !self.is_full_of_replies(class) {
                if let Some(job) = self.parked[class as usize].pop_front() {
                    return Some(job);
                }
            }
        }
        self.is_waited_for = self.parked.iter().any(|p| !p.is_empty());
        None
    }
}

impl Peer {
    /// Fewer replies are kept than before: those who wait for that look again. Any context.
    pub(super) fn go_on(&self) {
        loop {
            let next = self.state.lock().next_parked();
            match next {
                // Of no class whose requests need a thread of their own: it always is.
                Some(job) => drop(self.pool.submit_at_once(job)),
                None => break,
            }
        }
        self.has_room.notify_all();
    }

    /// Keeps a request that does not begin ([`Begin::Later`](super::Begin)) until it may; gives it back if it may by now.
    pub(crate) fn unless_full(&self, order: Queued) -> Option<Queued> {
        let Order::Run(job) = &order.value else {
            return Some(order);
        };
        let class = job.op.class;
        let mut s = self.state.lock();
        if !s.is_of_now(job.id) || !s.is_full_of_replies(class) {
            return Some(order);
        }
        s.is_waited_for = true;
        s.parked[class as usize].push_back(order);
        None
    }

    /// The current thread, of class P, has a long reply of so many bytes to a request: sleeps until there is room for it,
    /// which it then has, or nobody wants it.
    pub(crate) fn wait_for_room(&self, id: RequestId, bytes: usize) {
        self.has_room.wait_until(|| {
            let mut s = self.state.lock();
            let is_wanted = s.request(id).is_some_and(|k| !k.is_given_up());
            let waits = is_wanted && s.is_full_of_replies(Class::P);
            if waits {
                s.is_waited_for = true;
            } else if is_wanted {
                s.count_reply(id, bytes);
            }
            !waits
        });
    }
}
