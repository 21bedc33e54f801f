// SPDX-License-Identifier: GPL-2.0

//! Admission: both ends prove that they have the cluster key, and who they are, before anything else is said.
//!
//! This carries `handshake.rs` over a stream, and sees that it is over in time.

pub(crate) use crate::handshake::Failed;
pub(crate) use crate::handshake::Session;

use crate::handshake::Greeting;
use crate::handshake::Hello;
use crate::handshake::Outcome;
use crate::handshake::Shaking;
use crate::handshake::GREETING;
use crate::handshake::HELLO;
use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::lane::Lane;
use crate::net::Identity;
use crate::transport::Stream;
use kernel::prelude::*;
use ssi::crypto;
use ssi::failpoint::hit;
use ssi::ids::NodeId;

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

/// Receives a hello: its beginning first, as there is no saying how long one of another version is.
///
/// # Errors
/// `none` if it does not come; see [`Greeting::agree`].
fn hello(me: &Identity, s: &Stream, end: Deadline, none: Failed) -> Outcome<[u8; HELLO]> {
    let first: [u8; GREETING] = receive(s, end).map_err(|_| none)?;
    let greeting: Greeting = zerocopy::transmute!(first);
    greeting.agree(me)?;
    let rest: [u8; HELLO - GREETING] = receive(s, end).map_err(|_| none)?;
    let mut all = [0; HELLO];
    for (to, from) in all.iter_mut().zip(Iterator::chain(first.iter(), &rest)) {
        *to = *from;
    }
    Ok(all)
}

/// The connecting end of a stream of that kind: expects `peer` there.
///
/// # Errors
/// See [`Failed`].
pub(crate) fn connect(
    me: &Identity,
    keys: Keyring,
    s: &Stream,
    peer: NodeId,
    lane: Lane,
) -> Outcome<Session> {
    let end = Deadline::new();
    let a = Hello::new(me, peer.number(), lane, crypto::random());
    s.send(&[a.as_bytes()]).map_err(|_| Failed::Torn)?;
    hit("Ics.Admission.connect.hello").map_err(|_| Failed::Torn)?;
    // Whoever does not answer may be about to stop: that is no attack.
    let b = hello(me, s, end, Failed::Torn)?;
    let shaking = Shaking::answered(me, keys, a, peer, b)?;
    let proof = receive(s, end).map_err(|_| Failed::Refused("no proof came"))?;
    let (mine, session) = shaking.proved_by_b(&proof)?;
    s.send(&[&mine]).map_err(|_| Failed::Torn)?;
    hit("Ics.Admission.connect.proof").map_err(|_| Failed::Torn)?;
    s.set_receive_timeout(0);
    Ok(session)
}

/// The accepting end; `key` gives the one to use towards a node.
///
/// # Errors
/// See [`Failed`].
pub(crate) fn accept(
    me: &Identity,
    key: impl FnOnce(NodeId) -> Key,
    s: &Stream,
) -> Outcome<Session> {
    let end = Deadline::new();
    let no_hello = Failed::Refused("no hello came, or half of one");
    let a = match hello(me, s, end, no_hello) {
        Err(failed @ Failed::Release(_)) => {
            // So that it can say there as well what is wrong. A stream that is closed with bytes unread may lose what was
            // sent: the rest of the hello, as long as it is in this release, is read first.
            let _rest: Result<[u8; HELLO - GREETING]> = receive(s, end);
            let _torn = s.send(&[Hello::refusal(me).as_bytes()]);
            return Err(failed);
        }
        r => r?,
    };
    hit("Ics.Admission.accept.hello").map_err(|_| Failed::Torn)?;
    let shaking = Shaking::asked(me, key, a, crypto::random())?;
    let (b, proof) = shaking.answer();
    s.send(&[b.as_bytes(), &proof]).map_err(|_| Failed::Torn)?;
    hit("Ics.Admission.accept.proof").map_err(|_| Failed::Torn)?;
    // Whoever has another key goes when it has seen our proof.
    let no_proof = "no proof of the cluster key came: another key?";
    let proof = receive(s, end).map_err(|_| Failed::Refused(no_proof))?;
    let session = shaking.proved_by_a(&proof)?;
    s.set_receive_timeout(0);
    Ok(session)
}

#[kunit_tests(ssi_ics_admission)]
mod tests {
    use super::*;
    use crate::handshake::derive;
    use crate::handshake::ANOTHER_KEY;
    use crate::handshake::DROPPED_KEY;
    use crate::handshake::ID;
    use crate::handshake::PROOF;
    use crate::keyring::Second;
    use crate::lane::Side;
    use crate::loopback;
    use crate::release::Speaks;
    use kernel::sync::Arc;
    use kernel::sync::SetOnce;
    use ssi::ids::Incarnation;
    use ssi::kthread::KThread;
    use ssi::machine;
    use ssi::wire::Le32;
    use ssi::wire::Le64;

    const KEY: [u8; 32] = [1; 32];

    fn ring(n: u8) -> Keyring {
        Keyring::new(Key::new([n; 32]))
    }

    fn identity(node: u32, cluster: u8) -> Result<Identity> {
        Ok(Identity {
            node: NodeId::new(node).ok_or(EINVAL)?,
            incarnation: Incarnation(u64::from(node) + 100),
            cluster: [cluster; 16],
            speaks: Speaks::HERE,
        })
    }

    /// Node 1 accepts; `connects` is what the other end does. Gives both results.
    fn shake<T>(
        connects: impl FnOnce(&Stream) -> T,
    ) -> Result<(T, Arc<SetOnce<Outcome<Session>>>)> {
        shake_as(identity(1, 1)?, connects)
    }

    fn shake_as<T>(
        me: Identity,
        connects: impl FnOnce(&Stream) -> T,
    ) -> Result<(T, Arc<SetOnce<Outcome<Session>>>)> {
        let (one, two) = (identity(1, 1)?, identity(2, 1)?);
        let (a, b) = loopback::pair(two.node, one.node)?;
        let accepted = Arc::new(SetOnce::new(), GFP_KERNEL)?;
        let theirs = accepted.clone();
        let thread = KThread::run(c"ics_case", move || {
            let b = Stream::Loopback(b);
            theirs.populate(accept(&me, |_| Key::new(KEY), &b));
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
        let (one, two) = (identity(1, 1)?.node, identity(2, 1)?);
        let lane = Lane::Beside(Side::Control, [9; ID]);
        let (a, b) = shake(|s| connect(&two, ring(1), s, one, lane).ok())?;
        let a = a.ok_or(EPROTO)?;
        let Some(Ok(b)) = SetOnce::as_ref(&b) else {
            return Err(EPROTO);
        };
        assert_eq!((a.node.number(), a.incarnation.0), (1, 101));
        assert_eq!((b.node.number(), b.incarnation.0), (2, 102));
        assert_eq!((a.lane, b.lane), (lane, lane));
        assert_eq!(a.id, b.id);
        assert!(a.id != [0; ID]);
        assert_eq!(a.key_out, b.key_in);
        assert_eq!(a.key_in, b.key_out);
        assert!(a.key_in != a.key_out);
        Ok(())
    }

    #[test]
    fn another_key_shows_at_both_ends() -> Result {
        let (one, stranger) = (identity(1, 1)?.node, identity(2, 1)?);
        let (a, b) = shake(|s| {
            let r = connect(&stranger, ring(9), s, one, Lane::Main);
            s.shutdown();
            matches!(r, Err(Failed::Refused(ANOTHER_KEY)))
        })?;
        assert!(a);
        assert!(is_refused(&b, "another key"));
        Ok(())
    }

    #[test]
    fn a_second_key_will_do() -> Result {
        let (one, two) = (identity(1, 1)?.node, identity(2, 1)?);
        let key = Key::new(KEY);
        for what in [Second::Next, Second::Old] {
            let (a, b) =
                shake(|s| connect(&two, ring(9).with(what, key), s, one, Lane::Main).ok())?;
            let (Some(a), Some(Ok(b))) = (a, SetOnce::as_ref(&b)) else {
                return Err(EPROTO);
            };
            assert_eq!((a.id, a.key_out, a.key_in), (b.id, b.key_in, b.key_out));
        }
        // It is dropped: the connecting end says so.
        let members = core::iter::empty;
        let switched = ring(9).with(Second::Old, key);
        let over = switched
            .retire(switched.said().used, members())
            .map_err(|_| EINVAL)?;
        let (is_told, b) = shake(|s| {
            let r = connect(&two, over, s, one, Lane::Main);
            s.shutdown();
            matches!(r, Err(Failed::Refused(DROPPED_KEY)))
        })?;
        assert!(is_told);
        assert!(is_refused(&b, "another key"));
        Ok(())
    }

    #[test]
    fn a_wrong_proof_is_refused() -> Result {
        let stranger = identity(2, 1)?;
        for reflect in [false, true] {
            let (_, b) = shake(|s| {
                let a = Hello::new(&stranger, 1, Lane::Main, [5; 16]);
                s.send(&[a.as_bytes()])?;
                let mut bytes = [0u8; HELLO + PROOF];
                s.receive(&mut bytes)?;
                let (theirs, proof) = bytes.split_at(HELLO);
                let b = Hello::read_from_bytes(theirs).map_err(|_| EPROTO)?;
                let mine = derive(&Key::new([9; 32]), b"A", &a, &b);
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
            (|h| h.greeting.magic = Le32::new(0), "no hello"),
            (|h| h.cluster = [2; 16], "name"),
            (|h| h.node = Le32::new(0), "no node has"),
            (|h| h.node = Le32::new(1), "own number"),
            (|h| h.incarnation = Le64::new(u64::MAX), "no clock"),
            (|h| h.to = Le32::new(0), "another node"),
            (|h| h.to = Le32::new(3), "another node"),
            (|h| h.lane = Le32::new(3), "unknown kind"),
        ];
        let two = identity(2, 1)?;
        for (bend, word) in cases {
            let (_, b) = shake(|s| {
                let mut a = Hello::new(&two, 1, Lane::Main, [5; 16]);
                bend(&mut a);
                s.send(&[a.as_bytes()])
            })?;
            assert!(is_refused(&b, word));
        }
        Ok(())
    }

    /// What node 2, which speaks those versions, makes of node 1, which speaks these; and what node 1 makes of it.
    fn meet(here: Speaks, there: Speaks) -> Result<[Outcome<u16>; 2]> {
        let (mut me, mut two) = (identity(1, 1)?, identity(2, 1)?);
        (me.speaks, two.speaks) = (here, there);
        let one = me.node;
        let version = |r: &Outcome<Session>| r.as_ref().map(|s| s.version).map_err(|f| *f);
        let connects = |s: &Stream| version(&connect(&two, ring(1), s, one, Lane::Main));
        let (a, b) = shake_as(me, connects)?;
        let b = SetOnce::as_ref(&b).ok_or(EPROTO)?;
        Ok([a, version(b)])
    }

    #[test]
    fn releases_agree_or_say_what_they_speak() -> Result {
        let speaks = |oldest, newest| Speaks { oldest, newest };
        for (here, there, version) in [
            (speaks(7, 7), speaks(7, 8), 7),
            (speaks(7, 9), speaks(6, 8), 8),
            (speaks(6, 7), speaks(7, 8), 7),
        ] {
            for both in [meet(here, there)?, meet(there, here)?] {
                for end in both {
                    assert_eq!(end.map_err(|_| EPROTO)?, version);
                }
            }
        }
        for (here, there) in [(speaks(7, 7), speaks(8, 9)), (speaks(7, 7), speaks(6, 6))] {
            let both = meet(here, there)?;
            let says =
                |end: &Outcome<u16>, what| matches!(end, Err(Failed::Release(s)) if *s == what);
            assert!(says(&both[0], here) && says(&both[1], there));
        }
        Ok(())
    }

    #[test]
    fn half_a_hello_and_silence_are_refused() -> Result {
        let two = identity(2, 1)?;
        for n in [0, 1, HELLO - 1] {
            for is_shut in [true, false] {
                let (_, b) = shake(|s| {
                    let a = Hello::new(&two, 1, Lane::Main, [5; 16]);
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
