// SPDX-License-Identifier: GPL-2.0

//! What calls and links came to: numbers that only grow, from the load of the module on.
//!
//! Counting is a few additions without a lock, and two looks at the clock for a call: see `Documentation/ics.rst`.

use crate::service::OpId;
use crate::service::Service;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::SetOnce;

/// A number that grows.
pub(crate) struct Count(Atomic<u64>);

impl Count {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds to it. Any context.
    pub(crate) fn add(&self, n: u64) {
        self.0.add(n, Relaxed);
    }

    /// What it is now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Classes of latencies: bucket i counts those below 2^i times 1024 ns that no lower one does, the last all others.
pub(crate) const BUCKETS: usize = 24;

/// The bucket of a latency.
pub(crate) const fn bucket(ns: u64) -> usize {
    // CAST: at most 64.
    let i = (u64::BITS - (ns >> 10).leading_zeros()) as usize;
    if i < BUCKETS {
        i
    } else {
        BUCKETS - 1
    }
}

/// How a call ended. The numbers are those of the tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ended {
    /// With a reply, or with the word where to ask.
    Replied = 0,
    /// With the errno of who answered.
    Refused = 1,
    /// With the end of the node, or of who asked.
    Lost = 2,
}

/// What the calls and posts of one op came to. A call that is under way is in none of `replies` and `errors`.
pub(crate) struct OpStats {
    /// Asked of other nodes.
    pub(crate) calls: Count,
    /// Of those, answered.
    pub(crate) replies: Count,
    /// Of those, refused or lost.
    pub(crate) errors: Count,
    /// Bytes of requests: fixed part and tail.
    pub(crate) bytes_out: Count,
    /// Bytes of replies.
    pub(crate) bytes_in: Count,
    /// Answered here for other nodes.
    pub(crate) served: Count,
    /// Of those, refused.
    pub(crate) served_errors: Count,
    /// How long calls took that were answered or refused.
    pub(crate) latency: [Count; BUCKETS],
}

impl OpStats {
    const fn new() -> Self {
        Self {
            calls: Count::new(),
            replies: Count::new(),
            errors: Count::new(),
            bytes_out: Count::new(),
            bytes_in: Count::new(),
            served: Count::new(),
            served_errors: Count::new(),
            latency: [const { Count::new() }; BUCKETS],
        }
    }

    /// A call or post begins.
    pub(crate) fn asked(&self, bytes: usize) {
        self.calls.add(1);
        self.bytes_out.add(bytes as u64);
    }

    /// It ends, after `ns`, with a body of `bytes`.
    pub(crate) fn ended(&self, how: Ended, bytes: usize, ns: u64) {
        match how {
            Ended::Replied => self.replies.add(1),
            Ended::Refused | Ended::Lost => self.errors.add(1),
        }
        if how != Ended::Lost {
            self.bytes_in.add(bytes as u64);
            if let Some(b) = self.latency.get(bucket(ns)) {
                b.add(1);
            }
        }
    }

    /// One was answered here.
    pub(crate) fn served(&self, is_refused: bool) {
        self.served.add(1);
        if is_refused {
            self.served_errors.add(1);
        }
    }
}

/// An op, and its numbers. The names are kept here: its module may be gone.
pub(crate) struct OpRow {
    /// The service's name.
    pub(crate) service: KVec<u8>,
    /// The op's name.
    pub(crate) op: KVec<u8>,
    /// Its class.
    pub(crate) class: u8,
    /// Its numbers.
    pub(crate) stats: OpStats,
}

/// Services whose number is below this are counted.
const MAX_SERVICE: usize = 32;

/// Ops whose number is below this are counted.
const MAX_OP: u16 = 256;

/// The ops of all services that were ever registered.
pub(crate) struct Stats([SetOnce<KVVec<Option<OpRow>>>; MAX_SERVICE]);

impl Stats {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self([const { SetOnce::new() }; MAX_SERVICE])
    }

    /// A service is about to be registered. One that was here before goes on counting.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn declare(&self, service: &dyn Service) -> Result {
        let Some(slot) = self.0.get(usize::from(service.id())) else {
            return Ok(());
        };
        if slot.as_ref().is_some() {
            return Ok(());
        }
        let mut rows = KVVec::new();
        for (number, name, class) in service.ops().iter().filter(|o| o.0 < MAX_OP) {
            while rows.len() <= usize::from(*number) {
                rows.push(None, GFP_KERNEL)?;
            }
            if let Some(row) = rows.get_mut(usize::from(*number)) {
                *row = Some(OpRow {
                    service: copy(service.name())?,
                    op: copy(name)?,
                    class: *class as u8,
                    stats: OpStats::new(),
                });
            }
        }
        // Whoever was quicker declared the same.
        let _first = slot.populate(rows);
        Ok(())
    }

    /// The numbers of an op, if it is counted. Any context.
    pub(crate) fn op(&self, op: &OpId) -> Option<&OpStats> {
        let rows = self.0.get(usize::from(op.service))?.as_ref()?;
        Some(&rows.get(usize::from(op.op))?.as_ref()?.stats)
    }

    /// The name of a service, if it is counted. Any context.
    pub(crate) fn name(&self, service: u16) -> Option<&[u8]> {
        let rows = self.0.get(usize::from(service))?.as_ref()?;
        Some(&rows.iter().flatten().next()?.service)
    }

    /// All ops, in the order of their numbers: the service's, the op's.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u16, u16, &OpRow)> {
        (0..).zip(self.0.iter()).flat_map(|(service, slot)| {
            let rows = slot.as_ref().map(|r| r.as_slice()).unwrap_or_default();
            (0..)
                .zip(rows)
                .filter_map(move |(op, row)| Some((service, op, row.as_ref()?)))
        })
    }
}

fn copy(s: &str) -> Result<KVec<u8>> {
    let mut v = KVec::new();
    v.extend_from_slice(s.as_bytes(), GFP_KERNEL)?;
    Ok(v)
}

/// What one link to one node came to, or, of streams of which the link is not known, all of those.
pub(crate) struct LinkStats {
    /// Streams that passed admission.
    pub(crate) streams: Count,
    /// Frames sent, and their bytes.
    pub(crate) frames_out: Count,
    /// See `frames_out`.
    pub(crate) bytes_out: Count,
    /// Frames dealt with, and their bytes.
    pub(crate) frames_in: Count,
    /// See `frames_in`.
    pub(crate) bytes_in: Count,
    /// Requests that went out again, on the next stream.
    pub(crate) resent: Count,
}

impl LinkStats {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self {
            streams: Count::new(),
            frames_out: Count::new(),
            bytes_out: Count::new(),
            frames_in: Count::new(),
            bytes_in: Count::new(),
            resent: Count::new(),
        }
    }

    /// A frame was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.frames_out.add(1);
        self.bytes_out.add(bytes as u64);
    }

    /// A frame was dealt with.
    pub(crate) fn received(&self, bytes: usize) {
        self.frames_in.add(1);
        self.bytes_in.add(bytes as u64);
    }
}

#[kunit_tests(ssi_ics_stats)]
mod tests {
    use super::*;
    use crate::service::Caller;
    use crate::service::Handle;
    use crate::service::Reply;

    crate::service! {
        /// What is counted.
        service Counted { id: 31, version: 1 }
        /// Nothing.
        op 5 Nothing (class: L0) {} -> {}
    }

    struct Server;

    static SERVICE: CountedService<Server> = CountedService(Server);

    impl Handle<Nothing> for Server {
        fn handle(&self, _from: Caller, _req: &NothingReq, _tail: &[u8]) -> Reply<Nothing> {
            Ok((NothingRep {}, KVVec::new()))
        }
    }

    #[test]
    fn buckets_are_powers_of_two() -> Result {
        let cases = [
            (0, 0),
            (1023, 0),
            (1024, 1),
            (2047, 1),
            (2048, 2),
            (4095, 2),
            ((1 << 32) - 1, 22),
            (1 << 32, 23),
            (u64::MAX, 23),
        ];
        for (ns, want) in cases {
            assert_eq!(bucket(ns), want);
        }
        Ok(())
    }

    #[test]
    fn names_are_kept() -> Result {
        let s = KBox::new(Stats::new(), GFP_KERNEL)?;
        assert!(s.name(31).is_none());
        s.declare(&SERVICE)?;
        assert_eq!(s.name(31), Some(&b"Counted"[..]));
        for other in [0, 30, 32, u16::MAX] {
            assert!(s.name(other).is_none());
        }
        Ok(())
    }

    #[test]
    fn each_end_of_a_call_is_counted_once() -> Result {
        let s = OpStats::new();
        for _ in 0..5 {
            s.asked(10);
        }
        s.ended(Ended::Replied, 100, 1500);
        s.ended(Ended::Replied, 100, 0);
        s.ended(Ended::Refused, 0, 1 << 40);
        s.ended(Ended::Lost, 0, 1500);
        s.served(false);
        s.served(true);
        assert_eq!((s.calls.get(), s.bytes_out.get()), (5, 50));
        assert_eq!((s.replies.get(), s.errors.get()), (2, 2));
        assert_eq!(s.bytes_in.get(), 200);
        assert_eq!((s.served.get(), s.served_errors.get()), (2, 1));
        let filled = [0, 1, BUCKETS - 1];
        for (i, b) in s.latency.iter().enumerate() {
            assert_eq!(b.get(), u64::from(filled.contains(&i)));
        }
        Ok(())
    }
}
