// SPDX-License-Identifier: GPL-2.0

//! The cluster keys of a node: the one that it uses, and while keys change a second one that it hears as well. Pure: no
//! lock, no clock; `net.rs` keeps it and what the others say of theirs.
//!
//! A new key is *staged* on every node, then each one *switches* to it, then each one *drops* the old one. In its heartbeats a
//! node says which second key it hears, so that nobody takes a step that cuts off a member, and every node uses
//! towards each other one a key that this one hears: nodes that are at different steps go on talking.

use kernel::prelude::*;
use ssi::crypto;

/// A cluster key, ready for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Hash of what is in the file.
    pub(crate) secret: [u8; 32],
    /// Names it, and does not give it away; never 0.
    pub(crate) print: u64,
}

impl Key {
    /// From the hash.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        let print = crypto::mac(&secret, &[b"OpenSSI cluster key: fingerprint"]);
        Self {
            secret,
            print: u64::from_le_bytes(print).max(1),
        }
    }

    /// From the secret that is in the file.
    pub(crate) fn from_file(secret: &[u8]) -> Self {
        let key = b"OpenSSI cluster key, version 1..";
        Self::new(crypto::mac(key, &[secret]))
    }
}

/// What a second key is to the one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Second {
    /// It follows.
    Next = 1,
    /// It was used before.
    Old = 2,
}

/// What a node says of its keys to another: the one that it uses towards that one, and a second one that it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    /// Fingerprint of the one in use.
    pub(crate) used: u64,
    /// What the second one is, and its fingerprint.
    pub(crate) second: Option<(Second, u64)>,
}

impl Said {
    /// Whether that node hears a key.
    pub(crate) fn hears(&self, print: u64) -> bool {
        self.used == print || self.second.is_some_and(|(_, p)| p == print)
    }
}

/// Why a step is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The change from another key is not over.
    UnderWay,
    /// That key is neither staged nor in use.
    Unknown,
    /// A member does not hear that key.
    Unheard,
    /// A member uses another key still.
    InUse,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    One,
    Staged(Key),
    Switched(Key),
}

/// The keys of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keyring {
    used: Key,
    step: Step,
    /// The one dropped last: what comes with it is refused by a better reason than others.
    dropped: Option<Key>,
}

/// With which key something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// One that is heard.
    Heard(Key),
    /// The one that was dropped last.
    Dropped,
    /// None of these.
    Nothing,
}

impl Keyring {
    /// A single key.
    pub(crate) fn new(used: Key) -> Self {
        Self {
            used,
            step: Step::One,
            dropped: None,
        }
    }

    /// With a second one, unless it is the same.
    pub(crate) fn with(self, what: Second, key: Key) -> Self {
        let step = match what {
            _ if key == self.used => return self,
            Second::Next => Step::Staged(key),
            Second::Old => Step::Switched(key),
        };
        Self { step, ..self }
    }

    /// What this node would say to one that it has not heard.
    pub(crate) fn said(&self) -> Said {
        self.towards(None).1
    }

    /// The key for another node by what that one said last, and what to say with it.
    pub(crate) fn towards(&self, peer: Option<Said>) -> (Key, Said) {
        let (second, what, turned) = match self.step {
            Step::One => {
                let used = self.used.print;
                return (self.used, Said { used, second: None });
            }
            Step::Staged(next) => (next, Second::Next, Second::Old),
            Step::Switched(old) => (old, Second::Old, Second::Next),
        };
        let only_second = |p: Said| !p.hears(self.used.print) && p.hears(second.print);
        let (key, other, what) = if peer.is_some_and(only_second) {
            (second, self.used, turned)
        } else {
            (self.used, second, what)
        };
        let second = Some((what, other.print));
        (
            key,
            Said {
                used: key.print,
                second,
            },
        )
    }

    /// With which key something came that `is_by` knows its own by.
    pub(crate) fn find(&self, is_by: impl Fn(&Key) -> bool) -> With {
        let second = match self.step {
            Step::One => None,
            Step::Staged(key) | Step::Switched(key) => Some(key),
        };
        if let Some(key) = [Some(self.used), second]
            .into_iter()
            .flatten()
            .find(|k| is_by(k))
        {
            return With::Heard(key);
        }
        match self.dropped {
            Some(key) if is_by(&key) => With::Dropped,
            _ => With::Nothing,
        }
    }

    /// Hears a further key from now on; in the place of one that was staged before. `members` is what each member said
    /// last.
    ///
    /// # Errors
    /// `UnderWay`; `Unheard`: a member hears only the one that was staged before.
    pub(crate) fn stage(
        self,
        key: Key,
        members: impl Iterator<Item = Option<Said>>,
    ) -> Result<Self, Refusal> {
        match self.step {
            _ if key == self.used => Ok(self),
            Step::Staged(next) if next == key => Ok(self),
            Step::Switched(_) => Err(Refusal::UnderWay),
            Step::Staged(_) => Ok(self.unstage(members)?.with(Second::Next, key)),
            Step::One => Ok(self.with(Second::Next, key)),
        }
    }

    /// Does not hear the staged key any more.
    ///
    /// # Errors
    /// `UnderWay`: it is in use here; `Unheard`: a member hears only that one.
    pub(crate) fn unstage(
        self,
        mut members: impl Iterator<Item = Option<Said>>,
    ) -> Result<Self, Refusal> {
        match self.step {
            Step::One => Ok(self),
            Step::Switched(_) => Err(Refusal::UnderWay),
            Step::Staged(_) if !members.all(|m| m.is_some_and(|m| m.hears(self.used.print))) => {
                Err(Refusal::Unheard)
            }
            Step::Staged(_) => Ok(Self {
                step: Step::One,
                ..self
            }),
        }
    }

    /// Uses the staged key from now on.
    ///
    /// # Errors
    /// `Unknown`; `Unheard`: a member has not staged it.
    pub(crate) fn switch(
        self,
        print: u64,
        mut members: impl Iterator<Item = Option<Said>>,
    ) -> Result<Self, Refusal> {
        match self.step {
            _ if self.used.print == print => Ok(self),
            Step::Staged(next) if next.print == print => {
                if !members.all(|m| m.is_some_and(|m| m.hears(print))) {
                    return Err(Refusal::Unheard);
                }
                Ok(Self {
                    used: next,
                    step: Step::Switched(self.used),
                    ..self
                })
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// Hears nothing but the key in use from now on.
    ///
    /// # Errors
    /// `Unknown`: another key is in use; `UnderWay`: it was not switched to; `InUse`: a member has not switched.
    pub(crate) fn retire(
        self,
        print: u64,
        mut members: impl Iterator<Item = Option<Said>>,
    ) -> Result<Self, Refusal> {
        match self.step {
            _ if self.used.print != print => Err(Refusal::Unknown),
            Step::One => Ok(self),
            Step::Staged(_) => Err(Refusal::UnderWay),
            Step::Switched(_) if !members.all(|m| m.is_some_and(|m| m.used == print)) => {
                Err(Refusal::InUse)
            }
            Step::Switched(old) => Ok(Self {
                step: Step::One,
                dropped: Some(old),
                ..self
            }),
        }
    }
}

#[kunit_tests(ssi_ics_keyring)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::new([n; 32])
    }

    fn nobody() -> impl Iterator<Item = Option<Said>> {
        core::iter::empty()
    }

    fn says(r: Keyring) -> impl Iterator<Item = Option<Said>> {
        core::iter::once(Some(r.said()))
    }

    fn hears(r: &Keyring, key: Key) -> bool {
        r.find(|k| *k == key) == With::Heard(key)
    }

    /// Nodes with the old key, with both, and with the new one.
    fn steps() -> Option<[Keyring; 4]> {
        let one = Keyring::new(key(1));
        let staged = one.stage(key(2), nobody()).ok()?;
        let switched = staged.switch(key(2).print, nobody()).ok()?;
        let over = switched.retire(key(2).print, nobody()).ok()?;
        Some([one, staged, switched, over])
    }

    #[test]
    fn a_change_of_keys() {
        let Some([one, staged, switched, over]) = steps() else {
            assert!(false);
            return;
        };
        let all = [(one, 1, 0), (staged, 1, 2), (switched, 2, 1), (over, 2, 0)];
        for (ring, used, second) in all {
            assert_eq!(ring.towards(None).0, key(used));
            for n in 1..=3 {
                assert_eq!(hears(&ring, key(n)), n == used || n == second);
            }
        }
        assert_eq!(over.find(|k| *k == key(1)), With::Dropped);
        assert_eq!(over.find(|k| *k == key(3)), With::Nothing);
        // A second time changes nothing.
        assert_eq!(staged.stage(key(2), nobody()), Ok(staged));
        assert_eq!(switched.stage(key(2), nobody()), Ok(switched));
        assert_eq!(switched.switch(key(2).print, nobody()), Ok(switched));
        assert_eq!(over.switch(key(2).print, nobody()), Ok(over));
        assert_eq!(over.retire(key(2).print, nobody()), Ok(over));
        assert_eq!(staged.unstage(nobody()), Ok(one));
        assert_eq!(one.unstage(nobody()), Ok(one));
    }

    #[test]
    fn no_step_cuts_a_member_off() {
        let Some([one, staged, switched, over]) = steps() else {
            assert!(false);
            return;
        };
        let print = key(2).print;
        assert_eq!(staged.switch(print, says(one)), Err(Refusal::Unheard));
        assert_eq!(
            staged.switch(print, core::iter::once(None)),
            Err(Refusal::Unheard)
        );
        assert!(staged.switch(print, says(staged)).is_ok());
        assert!(staged.switch(print, says(over)).is_ok());
        assert_eq!(switched.retire(print, says(staged)), Err(Refusal::InUse));
        assert_eq!(switched.retire(print, says(one)), Err(Refusal::InUse));
        assert!(switched.retire(print, says(switched)).is_ok());
        assert_eq!(staged.unstage(says(over)), Err(Refusal::Unheard));
        assert_eq!(staged.stage(key(3), says(over)), Err(Refusal::Unheard));
        assert!(staged
            .stage(key(3), says(one))
            .is_ok_and(|r| hears(&r, key(3))));
    }

    #[test]
    fn steps_come_in_their_order() {
        let Some([one, staged, switched, over]) = steps() else {
            assert!(false);
            return;
        };
        let print = key(2).print;
        assert_eq!(one.switch(print, nobody()), Err(Refusal::Unknown));
        assert_eq!(staged.switch(key(3).print, nobody()), Err(Refusal::Unknown));
        assert_eq!(staged.retire(print, nobody()), Err(Refusal::Unknown));
        assert_eq!(
            staged.retire(key(1).print, nobody()),
            Err(Refusal::UnderWay)
        );
        assert_eq!(switched.stage(key(3), nobody()), Err(Refusal::UnderWay));
        assert_eq!(switched.unstage(nobody()), Err(Refusal::UnderWay));
        assert_eq!(over.retire(key(1).print, nobody()), Err(Refusal::Unknown));
    }

    #[test]
    fn each_uses_what_the_other_hears() {
        let Some([one, staged, switched, over]) = steps() else {
            assert!(false);
            return;
        };
        for a in [one, staged, switched, over] {
            for b in [one, staged, switched, over] {
                let (key, said) = a.towards(Some(b.said()));
                let is_one = hears(&b, key);
                // Only those that have no key in common do not find one.
                let apart = (a == one && b == over) || (a == over && b == one);
                assert_eq!(is_one, !apart);
                assert_eq!(said.used, key.print);
                assert!(said.second.is_none_or(|(_, p)| p != key.print));
            }
        }
    }
}
