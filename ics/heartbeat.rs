// SPDX-License-Identifier: GPL-2.0

//! Heartbeats: authenticated datagrams, one on every link. What they say is `clms`'s.

use crate::handshake::DROPPED_KEY;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Said;
use crate::keyring::Second;
use crate::keyring::With;
use crate::net::Identity;
use crate::refused::Counters;
use crate::refused::Refused;
use crate::refused::Source;
use kernel::prelude::*;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::net::Address;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// "SSIB", little-endian.
const MAGIC: u32 = 0x4249_5353;

/// Bytes that a heartbeat carries for `clms`.
pub(crate) const SAYS: usize = 176;

/// What the number of a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It is the newest of its node.
    New,
    /// It came before, as the other links bring the same one, and so may a stranger; or it is a little late.
    Again,
    /// A newer one came long before, or one of a later life; or it is of no node of the table.
    Old,
    /// It is of a later life of a member, of which something may come yet.
    Early,
    /// It is of a later life of a member that is heard: of another machine.
    Twin,
}

/// A heartbeat that has passed its checks.
pub struct Heartbeat {
    /// Who sent it.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its number in that life.
    pub seq: u64,
    /// The number of the heartbeat of this life of this node that it answers, if it does.
    pub answers: Option<u64>,
    /// Number of the view in which its sender supports this node as a member; 0: it does not.
    pub supports: u64,
    /// The life of this node that its sender heard last, if that is a later one than this, and not supported as a member.
    pub later: Option<Incarnation>,
    /// What it says.
    pub says: [u8; SAYS],
    /// Which keys its sender has.
    pub(crate) keys: Said,
}

/// What a heartbeat says to the one node that it goes to.
#[derive(Clone, Copy)]
pub struct Answer {
    /// The life of that node whose heartbeat came last; 0: none.
    pub incarnation: Incarnation,
    /// Number of that heartbeat; 0: it is not answered.
    pub seq: u64,
    /// Number of the view in which that life is supported as a member; 0: it is not.
    pub supports: u64,
}

/// How one of every version begins.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Begin {
    magic: Le32,
    version: Le32,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Datagram {
    magic: Le32,
    /// Of what follows; what is in front of it stays as it is.
    version: Le32,
    node: Le32,
    incarnation: Le64,
    seq: Le64,
    answer_incarnation: Le64,
    answer_seq: Le64,
    supports: Le64,
    cluster: [u8; 16],
    says: [u8; SAYS],
    /// Fingerprint of the second key that is heard; 0: none.
    second: Le64,
    /// What that is: 1 the next one, 2 the old one.
    second_is: Le64,
    tag: [u8; 16],
}

/// Bytes of a datagram.
pub(crate) const LEN: usize = core::mem::size_of::<Datagram>();

const SIGNED: usize = LEN - 16;

impl Datagram {
    /// One of this node's to another, in that version, with a key and what goes with it.
    pub(crate) fn new(
        me: &Identity,
        (to, version): (NodeId, u16),
        (key, keys): (Key, Said),
        seq: u64,
        answer: Answer,
        says: &[u8; SAYS],
    ) -> Self {
        let (second_is, second) = keys.second.map_or((0, 0), |(what, p)| (what as u64, p));
        let mut d = Self {
            magic: Le32::new(MAGIC),
            version: Le32::new(version.into()),
            node: Le32::new(me.node.number()),
            incarnation: Le64::new(me.incarnation.0),
            seq: Le64::new(seq),
            answer_incarnation: Le64::new(answer.incarnation.0),
            answer_seq: Le64::new(answer.seq),
            supports: Le64::new(answer.supports),
            cluster: me.cluster,
            says: *says,
            second: Le64::new(second),
            second_is: Le64::new(second_is),
            tag: [0; 16],
        };
        d.tag = d.sign(&key, to);
        d
    }

    /// The tag covers whom it is for: one for another node has a bad one.
    fn sign(&self, key: &Key, to: NodeId) -> [u8; 16] {
        let signed = self.as_bytes().get(..SIGNED).unwrap_or(&[]);
        let to = Le32::new(to.number());
        crypto::mac(&key.secret, &[b"H", to.as_bytes(), signed])
    }

    /// The second key that its sender hears.
    fn second(&self) -> Option<(Second, u64)> {
        let what = match self.second_is.get() {
            1 => Second::Next,
            2 => Second::Old,
            _ => return None,
        };
        Some((what, self.second.get()))
    }

    /// Checks what came from `address`. `news` says what node, incarnation and number are.
    ///
    /// # Errors
    /// `EBADMSG`, `ESTALE`, counted; `EALREADY`: it was heard on another link.
    pub(crate) fn check(
        me: &Identity,
        keys: &Keyring,
        counters: &Counters,
        address: Address,
        bytes: &[u8],
        mut news: impl FnMut(NodeId, Incarnation, u64) -> News,
    ) -> Result<Heartbeat> {
        let refuse = |why, node, what: &str| {
            counters.refuse(why, &Source { node, address }, &what);
        };
        // Of one that this node does not speak nothing else is known, not even its length.
        let Ok((begin, _)) = Begin::ref_from_prefix(bytes) else {
            refuse(Refused::Torn, None, "no heartbeat");
            return Err(EBADMSG);
        };
        if begin.magic.get() != MAGIC {
            refuse(Refused::Torn, None, "no heartbeat");
            return Err(EBADMSG);
        }
        if !me.speaks.has(begin.version.get()) {
            // The handshake says which versions it speaks.
            counters.tally(Refused::Version);
            return Err(EBADMSG);
        }
        let Ok(d) = Self::ref_from_bytes(bytes) else {
            refuse(Refused::Torn, None, "no heartbeat");
            return Err(EBADMSG);
        };
        let is_by = |k: &Key| d.cluster == me.cluster && crypto::equal(&d.tag, &d.sign(k, me.node));
        let node = NodeId::new(d.node.get());
        let key = match keys.find(is_by) {
            With::Heard(key) => key,
            With::Dropped => {
                refuse(Refused::Tag, node, DROPPED_KEY);
                return Err(EBADMSG);
            }
            With::Nothing => {
                let what = "a heartbeat of another cluster, for another node, or with another key";
                refuse(Refused::Tag, None, what);
                return Err(EBADMSG);
            }
        };
        let node = node.ok_or(EBADMSG)?;
        let known = Incarnation(d.answer_incarnation.get());
        let incarnation = Incarnation(d.incarnation.get());
        if incarnation.max(known) > Incarnation::LAST {
            refuse(
                Refused::Torn,
                Some(node),
                "an incarnation that no clock shows",
            );
            return Err(EBADMSG);
        }
        let news = if node == me.node {
            News::Old
        } else {
            news(node, incarnation, d.seq.get())
        };
        match news {
            News::New => {}
            News::Again => return Err(EALREADY),
            News::Early => return Err(EAGAIN),
            News::Old => {
                refuse(Refused::Stale, Some(node), "an old heartbeat");
                return Err(ESTALE);
            }
            News::Twin => {
                let what = "a heartbeat of a machine that takes a member's number: correct what it joins as";
                refuse(Refused::Stale, Some(node), what);
                return Err(ESTALE);
            }
        }
        let is_answer = known == me.incarnation && d.answer_seq.get() != 0;
        Ok(Heartbeat {
            node,
            incarnation,
            seq: d.seq.get(),
            answers: is_answer.then(|| d.answer_seq.get()),
            supports: if is_answer { d.supports.get() } else { 0 },
            later: (d.supports.get() == 0 && known > me.incarnation).then_some(known),
            says: d.says,
            keys: Said {
                used: key.print,
                second: d.second(),
            },
        })
    }
}

#[kunit_tests(ssi_ics_heartbeat)]
mod tests {
    use super::*;
    use crate::release::Speaks;

    fn ring(key: u8) -> Keyring {
        Keyring::new(Key::new([key; 32]))
    }

    fn identity(node: u32) -> Result<Identity> {
        Ok(Identity {
            node: NodeId::new(node).ok_or(EINVAL)?,
            incarnation: Incarnation(7),
            cluster: [1; 16],
            speaks: Speaks::HERE,
        })
    }

    /// What node 1 thinks of these bytes, and how much more it then has counted of each kind.
    fn heard(c: &Counters, bytes: &[u8], news: News) -> Result<(Result<Heartbeat>, [u64; 3])> {
        let count = || [Refused::Torn, Refused::Tag, Refused::Stale].map(|w| c.count(w));
        let me = identity(1)?;
        let before = count();
        let r = Datagram::check(&me, &ring(1), c, Address::NONE, bytes, |_, _, _| news);
        let mut n = count();
        for (n, b) in n.iter_mut().zip(before) {
            *n -= b;
        }
        Ok((r, n))
    }

    /// One of node 2's to node 1.
    fn datagram(me: &Identity, keys: Keyring) -> Result<Datagram> {
        let answer = Answer {
            incarnation: Incarnation(7),
            seq: 9,
            supports: 4,
        };
        let to = identity(1)?.node;
        Ok(Datagram::new(
            me,
            (to, Speaks::HERE.newest),
            keys.towards(None),
            5,
            answer,
            &[3; SAYS],
        ))
    }

    #[test]
    fn a_good_one_is_heard() -> Result {
        let d = datagram(&identity(2)?, ring(1))?;
        assert_eq!(d.as_bytes().len(), 276);
        let (r, n) = heard(&*Counters::new()?, d.as_bytes(), News::New)?;
        let h = r?;
        assert_eq!((h.node.number(), h.incarnation.0, h.seq), (2, 7, 5));
        assert_eq!((h.answers, h.supports), (Some(9), 4));
        assert!(h.later.is_none());
        assert_eq!(h.says, [3; SAYS]);
        assert_eq!(h.keys, ring(1).said());
        assert_eq!(n, [0, 0, 0]);
        Ok(())
    }

    #[test]
    fn keys_that_are_said_are_heard() -> Result {
        for what in [Second::Next, Second::Old] {
            let keys = ring(1).with(what, Key::new([2; 32]));
            let d = datagram(&identity(2)?, keys)?;
            let (r, _) = heard(&*Counters::new()?, d.as_bytes(), News::New)?;
            assert_eq!(r?.keys, keys.said());
        }
        Ok(())
    }

    #[test]
    fn an_answer_to_another_life_is_none() -> Result {
        for (incarnation, seq) in [(6, 9), (8, 9), (0, 0), (7, 0)] {
            let answer = Answer {
                incarnation: Incarnation(incarnation),
                seq,
                supports: 4,
            };
            let d = Datagram::new(
                &identity(2)?,
                (identity(1)?.node, Speaks::HERE.newest),
                ring(1).towards(None),
                5,
                answer,
                &[3; SAYS],
            );
            let (r, _) = heard(&*Counters::new()?, d.as_bytes(), News::New)?;
            let h = r?;
            assert_eq!((h.answers, h.supports), (None, 0));
            assert!(h.later.is_none());
        }
        Ok(())
    }

    #[test]
    fn a_later_life_is_one_that_nobody_supports() -> Result {
        for (life, supports, later) in [
            (8, 0, Some(8)),
            (8, 4, None),
            (7, 0, None),
            (6, 0, None),
            (Incarnation::LAST.0, 0, Some(Incarnation::LAST.0)),
        ] {
            let answer = Answer {
                incarnation: Incarnation(life),
                seq: 0,
                supports,
            };
            let to = (identity(1)?.node, Speaks::HERE.newest);
            let keys = ring(1).towards(None);
            let d = Datagram::new(&identity(2)?, to, keys, 5, answer, &[3; SAYS]);
            let (r, _) = heard(&*Counters::new()?, d.as_bytes(), News::New)?;
            assert_eq!(r?.later.map(|i| i.0), later);
        }
        Ok(())
    }

    #[test]
    fn lives_have_an_end() -> Result {
        let over = Incarnation(Incarnation::LAST.0 + 1);
        for (of, answered) in [(over, Incarnation(7)), (Incarnation(7), over)] {
            let mut me = identity(2)?;
            me.incarnation = of;
            let answer = Answer {
                incarnation: answered,
                seq: 0,
                supports: 0,
            };
            let to = (identity(1)?.node, Speaks::HERE.newest);
            let d = Datagram::new(&me, to, ring(1).towards(None), 5, answer, &[3; SAYS]);
            let (r, n) = heard(&*Counters::new()?, d.as_bytes(), News::New)?;
            assert!(r.is_err());
            assert_eq!(n, [1, 0, 0]);
        }
        Ok(())
    }

    #[test]
    fn every_byte_counts_for_the_tag() -> Result {
        let d = datagram(&identity(2)?, ring(1))?;
        let counters = Counters::new()?;
        for i in 0..LEN {
            let mut bytes = [0; LEN];
            bytes.copy_from_slice(d.as_bytes());
            bytes[i] ^= 1;
            let (r, n) = heard(&counters, &bytes, News::New)?;
            assert!(r.is_err());
            let want = match i {
                // The magic; the version.
                0..4 => [1, 0, 0],
                4..8 => [0, 0, 0],
                _ => [0, 1, 0],
            };
            assert_eq!(n, want);
        }
        Ok(())
    }

    #[test]
    fn others_are_refused() -> Result {
        let good = datagram(&identity(2)?, ring(1))?;
        let other_key = datagram(&identity(2)?, ring(2))?;
        let reflected = datagram(&identity(1)?, ring(1))?;
        let mut for_another = datagram(&identity(2)?, ring(1))?;
        let another = identity(3)?.node;
        for_another.tag = for_another.sign(&Key::new([1; 32]), another);
        let short = good.as_bytes().get(..LEN - 1).unwrap_or(&[]);
        let mut long = [0; LEN + 1];
        for (to, from) in long.iter_mut().zip(good.as_bytes()) {
            *to = *from;
        }
        let cases: [(&[u8], News, [u64; 3]); 10] = [
            (good.as_bytes(), News::Old, [0, 0, 1]),
            (good.as_bytes(), News::Twin, [0, 0, 1]),
            (good.as_bytes(), News::Early, [0, 0, 0]),
            (good.as_bytes(), News::Again, [0, 0, 0]),
            (other_key.as_bytes(), News::New, [0, 1, 0]),
            (for_another.as_bytes(), News::New, [0, 1, 0]),
            (reflected.as_bytes(), News::New, [0, 0, 1]),
            (short, News::New, [1, 0, 0]),
            (&long, News::New, [1, 0, 0]),
            (&[], News::New, [1, 0, 0]),
        ];
        let counters = Counters::new()?;
        for (bytes, news, want) in cases {
            let (r, n) = heard(&counters, bytes, news)?;
            assert!(r.is_err());
            assert_eq!(n, want);
        }
        Ok(())
    }
}
