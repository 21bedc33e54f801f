// SPDX-License-Identifier: GPL-2.0

//! Admission: both ends prove that they have the cluster key, and who they are, before anything else is said.
//!
//! `A` connects, `B` accepts. A says hello with a nonce; B says hello with a nonce and its proof over both hellos;
//! A sends its proof. Proofs differ by a letter, so that neither can be reflected. Two session keys, one for each direction, are derived from
//! the same bytes: a frame of another incarnation, another pair of nodes or another stream has a bad tag.

use crate::net::Identity;
use crate::transport::Stream;
use kernel::prelude::*;
use ssi::crypto;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::wire::Le32;
use ssi::wire::Le64;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// Version of everything on the wire below the services.
const VERSION: u32 = 4;

/// "SSIH", little-endian.
const MAGIC: u32 = 0x4849_5353;

/// How long the handshake may take.
const HANDSHAKE_MS: u64 = 3000;

/// When the handshake has to be over.
#[derive(Clone, Copy)]
struct Deadline(u64);

impl Deadline {
    fn new() -> Self {
        Self(now_ms() + HANDSHAKE_MS)
    }

    /// `None`: it has passed.
    fn left_ms(self) -> Option<u32> {
        let left = self.0.checked_sub(now_ms()).filter(|ms| *ms > 0)?;
        u32::try_from(left).ok()
    }
}

fn now_ms() -> u64 {
    ssi::machine::monotonic_ns() / 1_000_000
}

/// Who speaks.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
struct Hello {
    magic: Le32,
    version: Le32,
    cluster: [u8; 16],
    node: Le32,
    to: Le32,
    incarnation: Le64,
    nonce: [u8; 16],
    /// 0 the first stream of the two nodes, 1 the one for bulk beside it; of who connects.
    lane: Le32,
    /// The first one, if this is the other.
    of: [u8; ID],
}

const PROOF: usize = 32;

/// Bytes of what names a stream to its two ends.
pub(crate) const ID: usize = 16;

/// Which stream of two nodes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The first one.
    Main,
    /// The one for bulk beside the one of that name.
    Bulk([u8; ID]),
}

/// Bytes of a hello.
const HELLO: usize = core::mem::size_of::<Hello>();

/// Why a handshake failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failed {
    /// By what the other end said, or did not say.
    Refused(&'static str),
    /// The stream broke.
    Torn,
}

/// What a wrong proof shows.
const ANOTHER_KEY: &str = "another cluster key: copy the key of the other nodes to that one";

type Outcome<T> = core::result::Result<T, Failed>;

/// Whom the handshake has proved to be at the other end, and the key of this stream.
pub(crate) struct Session {
    /// The node.
    pub(crate) node: NodeId,
    /// Its incarnation.
    pub(crate) incarnation: Incarnation,
    /// Which stream it is.
    pub(crate) lane: Lane,
    /// Its name.
    pub(crate) id: [u8; ID],
    /// Key of the tags that this end makes.
    pub(crate) key_out: [u8; 32],
    /// Key of the tags that the other end makes: a frame that is sent back to its sender has a bad tag.
    pub(crate) key_in: [u8; 32],
}

fn hello(me: &Identity, to: u32, lane: Lane) -> Hello {
    let (number, of) = match lane {
        Lane::Main => (0, [0; ID]),
        Lane::Bulk(of) => (1, of),
    };
    Hello {
        magic: Le32::new(MAGIC),
        version: Le32::new(VERSION),
        cluster: me.cluster,
        node: Le32::new(me.node.number()),
        to: Le32::new(to),
        incarnation: Le64::new(me.incarnation.0),
        nonce: crypto::random(),
        lane: Le32::new(number),
        of,
    }
}

/// What a hello says, if it is for us.
fn check(me: &Identity, h: &Hello) -> Outcome<(NodeId, Incarnation, Lane)> {
    let refused = |why| Err(Failed::Refused(why));
    if h.magic.get() != MAGIC {
        return refused("no hello");
    }
    if h.version.get() != VERSION {
        return refused("a hello of another version of the protocol: another release?");
    }
    if h.cluster != me.cluster {
        return refused("another cluster's name");
    }
    let Some(node) = NodeId::new(h.node.get()) else {
        return refused("a number that no node has");
    };
    if node == me.node {
        return refused("this node's own number: correct clustertab on one of the two");
    }
    if h.to.get() != me.node.number() {
        return refused("a hello for another node: correct the addresses in clustertab");
    }
    let lane = match h.lane.get() {
        0 => Lane::Main,
        1 => Lane::Bulk(h.of),
        _ => return refused("a stream of an unknown kind"),
    };
    Ok((node, Incarnation(h.incarnation.get()), lane))
}

fn id(me: &Identity, a: &Hello, b: &Hello) -> [u8; ID] {
    crypto::mac(&me.key, &[b"ID", a.as_bytes(), b.as_bytes()])
}

fn derive(me: &Identity, letter: &[u8], a: &Hello, b: &Hello) -> [u8; PROOF] {
    crypto::mac(&me.key, &[letter, a.as_bytes(), b.as_bytes()])
}

/// Receives exactly `N` bytes before the deadline, however few come at a time.
///
/// # Errors
/// `ETIMEDOUT`; those of the socket.
fn receive<const N: usize>(s: &Stream, end: Deadline) -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    let mut done = 0;
    while done < N {
        s.set_receive_timeout(end.left_ms().ok_or(ETIMEDOUT)?);
        done += s.receive_some(bytes.get_mut(done..).ok_or(EINVAL)?)?;
    }
    Ok(bytes)
}

fn receive_hello(s: &Stream, end: Deadline) -> Result<Hello> {
    let bytes: [u8; HELLO] = receive(s, end)?;
    Hello::read_from_bytes(&bytes).map_err(|_| EPROTO)
}

/// The connecting end of a stream of that kind: expects `peer` there.
///
/// # Errors
/// See [`Failed`].
pub(crate) fn connect(me: &Identity, s: &Stream, peer: NodeId, lane: Lane) -> Outcome<Session> {
    let end = Deadline::new();
    let a = hello(me, peer.number(), lane);
    s.send(&[a.as_bytes()]).map_err(|_| Failed::Torn)?;
    // Whoever does not answer may be about to stop: that is no attack.
    let b = receive_hello(s, end).map_err(|_| Failed::Torn)?;
    let (node, incarnation, _) = check(me, &b)?;
    if node != peer {
        return Err(Failed::Refused(
            "another node's number: correct the addresses in clustertab",
        ));
    }
    let proof: [u8; PROOF] = receive(s, end).map_err(|_| Failed::Refused("no proof came"))?;
    if !crypto::equal(&proof, &derive(me, b"B", &a, &b)) {
        return Err(Failed::Refused(ANOTHER_KEY));
    }
    s.send(&[&derive(me, b"A", &a, &b)])
        .map_err(|_| Failed::Torn)?;
    s.set_receive_timeout(0);
    Ok(Session {
        node,
        incarnation,
        lane,
        id: id(me, &a, &b),
        key_out: derive(me, b"SA", &a, &b),
        key_in: derive(me, b"SB", &a, &b),
    })
}

/// The accepting end.
///
/// # Errors
/// See [`Failed`].
pub(crate) fn accept(me: &Identity, s: &Stream) -> Outcome<Session> {
    let end = Deadline::new();
    let no_hello = "no hello came, or half of one";
    let a = receive_hello(s, end).map_err(|_| Failed::Refused(no_hello))?;
    let (node, incarnation, lane) = check(me, &a)?;
    let b = hello(me, node.number(), lane);
    s.send(&[b.as_bytes(), &derive(me, b"B", &a, &b)])
        .map_err(|_| Failed::Torn)?;
    // Whoever has another key goes when it has seen our proof.
    let no_proof = "no proof of the cluster key came: another key?";
    let proof: [u8; PROOF] = receive(s, end).map_err(|_| Failed::Refused(no_proof))?;
    if !crypto::equal(&proof, &derive(me, b"A", &a, &b)) {
        return Err(Failed::Refused(ANOTHER_KEY));
    }
    s.set_receive_timeout(0);
    Ok(Session {
        node,
        incarnation,
        lane,
        id: id(me, &a, &b),
        key_out: derive(me, b"SB", &a, &b),
        key_in: derive(me, b"SA", &a, &b),
    })
}

#[kunit_tests(ssi_ics_admission)]
mod tests {
    use super::*;
    use crate::loopback;
    use kernel::sync::Arc;
    use kernel::sync::SetOnce;
    use ssi::kthread::KThread;
    use ssi::machine;

    fn identity(node: u32, cluster: u8, key: u8) -> Result<Identity> {
        Ok(Identity {
            node: NodeId::new(node).ok_or(EINVAL)?,
            incarnation: Incarnation(u64::from(node) + 100),
            cluster: [cluster; 16],
            key: [key; 32],
        })
    }

    /// Node 1 accepts; `connects` is what the other end does. Gives both results.
    fn shake<T>(
        connects: impl FnOnce(&Stream) -> T,
    ) -> Result<(T, Arc<SetOnce<Outcome<Session>>>)> {
        let (me, one, two) = (identity(1, 1, 1)?, identity(1, 1, 1)?, identity(2, 1, 1)?);
        let (a, b) = loopback::pair(two.node, one.node)?;
        let accepted = Arc::new(SetOnce::new(), GFP_KERNEL)?;
        let theirs = accepted.clone();
        let thread = KThread::run(c"ics_case", move || {
            let b = Stream::Loopback(b);
            theirs.populate(accept(&me, &b));
        })?;
        let a = Stream::Loopback(a);
        let r = connects(&a);
        // Each of its steps ends by itself; a thread that is joined before its first turn would not run at all.
        while SetOnce::as_ref(&accepted).is_none() {
            machine::sleep_ms(1);
        }
        drop(thread);
        Ok((r, accepted))
    }

    fn is_refused(o: &Arc<SetOnce<Outcome<Session>>>, word: &str) -> bool {
        matches!(SetOnce::as_ref(o), Some(Err(Failed::Refused(why))) if why.contains(word))
    }

    #[test]
    fn both_ends_agree() -> Result {
        let two = identity(2, 1, 1)?;
        let (a, b) =
            shake(|s| connect(&two, s, identity(1, 1, 1).ok()?.node, Lane::Bulk([9; ID])).ok())?;
        let a = a.ok_or(EPROTO)?;
        let Some(Ok(b)) = SetOnce::as_ref(&b) else {
            return Err(EPROTO);
        };
        assert_eq!((a.node.number(), a.incarnation.0), (1, 101));
        assert_eq!((b.node.number(), b.incarnation.0), (2, 102));
        assert_eq!((a.lane, b.lane), (Lane::Bulk([9; ID]), Lane::Bulk([9; ID])));
        assert_eq!(a.id, b.id);
        assert!(a.id != [0; ID]);
        assert_eq!(a.key_out, b.key_in);
        assert_eq!(a.key_in, b.key_out);
        assert!(a.key_in != a.key_out);
        Ok(())
    }

    #[test]
    fn another_key_shows_at_both_ends() -> Result {
        let stranger = identity(2, 1, 9)?;
        let one = identity(1, 1, 1)?.node;
        let (a, b) = shake(|s| {
            let r = connect(&stranger, s, one, Lane::Main);
            s.shutdown();
            matches!(r, Err(Failed::Refused(ANOTHER_KEY)))
        })?;
        assert!(a);
        assert!(is_refused(&b, "another key"));
        Ok(())
    }

    #[test]
    fn a_wrong_proof_is_refused() -> Result {
        let stranger = identity(2, 1, 9)?;
        for reflect in [false, true] {
            let (_, b) = shake(|s| {
                let a = hello(&stranger, 1, Lane::Main);
                s.send(&[a.as_bytes()])?;
                let mut bytes = [0u8; HELLO + PROOF];
                s.receive(&mut bytes)?;
                let (theirs, proof) = bytes.split_at(HELLO);
                let b = Hello::read_from_bytes(theirs).map_err(|_| EPROTO)?;
                let mine = derive(&stranger, b"A", &a, &b);
                s.send(&[if reflect { proof } else { &mine }])
            })?;
            assert!(is_refused(&b, "another cluster key"));
        }
        Ok(())
    }

    #[test]
    fn bad_hellos_are_refused() -> Result {
        type Bend = fn(&mut Hello);
        let cases: [(Bend, &str); 8] = [
            (|h| h.magic = Le32::new(0), "no hello"),
            (|h| h.version = Le32::new(VERSION - 1), "another version"),
            (|h| h.cluster = [2; 16], "name"),
            (|h| h.node = Le32::new(0), "no node has"),
            (|h| h.node = Le32::new(1), "own number"),
            (|h| h.to = Le32::new(0), "another node"),
            (|h| h.to = Le32::new(3), "another node"),
            (|h| h.lane = Le32::new(2), "unknown kind"),
        ];
        let two = identity(2, 1, 1)?;
        for (bend, word) in cases {
            let (_, b) = shake(|s| {
                let mut a = hello(&two, 1, Lane::Main);
                bend(&mut a);
                s.send(&[a.as_bytes()])
            })?;
            assert!(is_refused(&b, word));
        }
        Ok(())
    }

    #[test]
    fn half_a_hello_and_silence_are_refused() -> Result {
        let two = identity(2, 1, 1)?;
        for n in [0, 1, HELLO - 1] {
            for is_shut in [true, false] {
                let (_, b) = shake(|s| {
                    let a = hello(&two, 1, Lane::Main);
                    let sent = s.send(&[a.as_bytes().get(..n).unwrap_or(&[])]);
                    if is_shut {
                        s.shutdown();
                    }
                    sent
                })?;
                assert!(is_refused(&b, "half of one"));
            }
        }
        Ok(())
    }
}
