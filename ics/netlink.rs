// SPDX-License-Identifier: GPL-2.0

//! Answers of the netlink family `ssi_ics`: what calls and links came to, and the cluster keys.

use crate::keyring;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Said;
use crate::keyring::Second;
use crate::net;
use crate::pool;
use crate::stats::Count;
use crate::stats::LinkStats;
use crate::stats::OpStats;
use crate::stats::BUCKETS;
use kernel::prelude::*;
use ssi::clms_netlink::Refusal;
use ssi::ics_netlink;
use ssi::ics_netlink::Answer;
use ssi::ics_netlink::Answerer;
use ssi::ics_netlink::KeyRow;
use ssi::ics_netlink::LinkCounts;
use ssi::ics_netlink::LinkRow;
use ssi::ics_netlink::LinkState;
use ssi::ics_netlink::OpCounts;
use ssi::ics_netlink::OpNames;
use ssi::ics_netlink::OpRow;
use ssi::ics_netlink::SecondKey;
use ssi::net::Ipv4;

const _: () = assert!(BUCKETS == ics_netlink::BUCKETS);

/// Shortest key that is worth the name.
const MIN_KEY: usize = 16;

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

/// At most 80 bytes, or the kernel cuts them.
fn refusal(r: keyring::Refusal) -> Refusal {
    match r {
        keyring::Refusal::UnderWay => Refusal(
            EBUSY,
            Some(c"a change of keys is under way: cluster key rotate ends it"),
        ),
        keyring::Refusal::Unknown => Refusal(
            ENOKEY,
            Some(c"that key is neither staged nor in use on this node"),
        ),
        keyring::Refusal::Unheard => Refusal(
            EAGAIN,
            Some(c"a member does not hear that key: see cluster key show"),
        ),
        keyring::Refusal::InUse => Refusal(
            EAGAIN,
            Some(c"a member uses another key still: see cluster key show"),
        ),
    }
}

/// A step of this node's keys.
fn change(
    step: impl FnOnce(
        Keyring,
        &mut dyn Iterator<Item = Option<Said>>,
    ) -> core::result::Result<Keyring, keyring::Refusal>,
) -> Answer {
    let net = net::current().ok_or(Refusal(ENOTCONN, Some(c"this node has not joined")))?;
    net.change_keys(step).map_err(refusal)
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
        let peers = net.peers();
        let mut links = peers
            .iter()
            .flat_map(|p| (0..p.links.len()).map(move |i| (p, i)));
        let (peer, i) = links.nth(n).ok_or(ENOENT)?;
        let counts = link_counts(peer.links.get(i).ok_or(ENOENT)?);
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

    fn key(n: usize, row: &mut KeyRow<'_>) -> Result {
        let net = net::current().ok_or(ENOENT)?;
        let (node, said) = match n.checked_sub(1) {
            None => (net.me.node, net.ring().said()),
            Some(n) => {
                let peers = net.peers();
                let mut members = peers.iter().filter(|p| p.is_member());
                let node = members.nth(n).ok_or(ENOENT)?.node;
                // A member was heard.
                (node, net.keys_of(node).ok_or(ENOENT)?)
            }
        };
        let (what, second) = match said.second {
            None => (SecondKey::None, 0),
            Some((Second::Next, print)) => (SecondKey::Next, print),
            Some((Second::Old, print)) => (SecondKey::Old, print),
        };
        row.set(node, said.used, second, what);
        Ok(())
    }

    fn key_stage(secret: &[u8]) -> Answer {
        if secret.len() < MIN_KEY {
            let why = c"a cluster key is shorter than 16 bytes";
            return Err(Refusal(EINVAL, Some(why)));
        }
        let key = Key::from_file(secret);
        change(|ring, members| ring.stage(key, members))
    }

    fn key_unstage() -> Answer {
        change(|ring, members| ring.unstage(members))
    }

    fn key_switch(print: u64) -> Answer {
        change(|ring, members| ring.switch(print, members))
    }

    fn key_drop(print: u64) -> Answer {
        change(|ring, members| ring.retire(print, members))
    }
}
