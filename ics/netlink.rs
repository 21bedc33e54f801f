// SPDX-License-Identifier: GPL-2.0

//! Answers of the netlink family `ssi_ics`: what calls and links came to.

use crate::net;
use crate::pool;
use crate::stats::Count;
use crate::stats::LinkStats;
use crate::stats::OpStats;
use crate::stats::BUCKETS;
use kernel::prelude::*;
use ssi::ics_netlink;
use ssi::ics_netlink::Answerer;
use ssi::ics_netlink::LinkCounts;
use ssi::ics_netlink::LinkRow;
use ssi::ics_netlink::LinkState;
use ssi::ics_netlink::OpCounts;
use ssi::ics_netlink::OpNames;
use ssi::ics_netlink::OpRow;
use ssi::net::Ipv4;

const _: () = assert!(BUCKETS == ics_netlink::BUCKETS);

/// The registered family.
pub(crate) type Registration = ics_netlink::Registration<Family>;

/// Answers for it.
pub(crate) struct Family;

fn op_counts(s: &OpStats) -> OpCounts {
    OpCounts {
        calls: s.calls.get(),
        replies: s.replies.get(),
        errors: s.errors.get(),
        bytes_out: s.bytes_out.get(),
        bytes_in: s.bytes_in.get(),
        served: s.served.get(),
        served_errors: s.served_errors.get(),
        latency: s.latency.each_ref().map(Count::get),
    }
}

fn link_counts(s: &LinkStats) -> LinkCounts {
    LinkCounts {
        streams: s.streams.get(),
        frames_out: s.frames_out.get(),
        bytes_out: s.bytes_out.get(),
        frames_in: s.frames_in.get(),
        bytes_in: s.bytes_in.get(),
        resent: s.resent.get(),
    }
}

impl Answerer for Family {
    fn op(n: usize, row: &mut OpRow<'_>) -> Result {
        let pool = pool::current().ok_or(ENOENT)?;
        let (service_id, op_id, found) = pool.stats.rows().nth(n).ok_or(ENOENT)?;
        let names = OpNames {
            service: &found.service,
            op: &found.op,
            service_id,
            op_id,
            class: found.class,
        };
        row.set(&names, &op_counts(&found.stats));
        Ok(())
    }

    fn link(n: usize, row: &mut LinkRow<'_>) -> Result {
        let net = net::current().ok_or(ENOENT)?;
        let mut links = net
            .peers
            .iter()
            .flat_map(|p| p.links.iter().enumerate().map(move |(i, s)| (p, i, s)));
        let (peer, i, stats) = links.nth(n).ok_or(ENOENT)?;
        let counts = link_counts(stats);
        let Some(address) = peer.addresses.get(i) else {
            row.set(peer.node, 0, Ipv4(0), LinkState::Unknown, &counts);
            return Ok(());
        };
        let state = match peer.state_of(i) {
            (true, _) => LinkState::Used,
            (_, true) => LinkState::Silent,
            _ => LinkState::Idle,
        };
        // CAST: there are few links.
        row.set(peer.node, i as u32 + 1, *address, state, &counts);
        Ok(())
    }
}
