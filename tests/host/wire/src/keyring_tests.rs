// SPDX-License-Identifier: GPL-2.0

//! Three members change their key, in every order: each takes any step that it may, hears what the others say at any time,
//! and dies and comes back with what its files say, before or after the files say it.
//!
//! In every state each member hears the others, at the latest when it has been heard; nobody is left with a key that a
//! member does not know; and from every state the same steps, one node after the other, end with the new key alone.

use crate::keyring::Key;
use crate::keyring::Keyring;
use crate::keyring::Refusal;
use crate::keyring::Said;
use crate::keyring::Second;
use crate::keyring::With;
use std::collections::HashSet;

const N: usize = 3;

/// What a node keeps over its death: the key in use and a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Files(u8, Option<(Second, u8)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    rings: [Keyring; N],
    files: [Files; N],
    /// What each one said last to each other one.
    said: [[Option<Said>; N]; N],
    deaths: u8,
}

fn key(n: u8) -> Key {
    Key::new([n; 32])
}

const OLD: u8 = 1;
const NEW: u8 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Stage,
    Unstage,
    Switch,
    Drop,
}

impl Files {
    fn ring(self) -> Keyring {
        let ring = Keyring::new(key(self.0));
        self.1.map_or(ring, |(what, k)| ring.with(what, key(k)))
    }

    /// After a step of the kernel, as the command writes them.
    fn after(self, step: Step) -> Self {
        match (step, self) {
            (Step::Stage, Self(OLD, _)) => Self(OLD, Some((Second::Next, NEW))),
            (Step::Unstage, Self(OLD, _)) => Self(OLD, None),
            (Step::Switch, _) => Self(NEW, Some((Second::Old, OLD))),
            (Step::Drop, _) => Self(NEW, None),
            (_, f) => f,
        }
    }
}

impl World {
    fn begin() -> Self {
        let ring = Keyring::new(key(OLD));
        Self {
            rings: [ring; N],
            files: [Files(OLD, None); N],
            said: [[Some(ring.said()); N]; N],
            deaths: 0,
        }
    }

    fn take(&self, i: usize, step: Step) -> Result<Keyring, Refusal> {
        let members = (0..N).filter(|j| *j != i).map(|j| self.said[j][i]);
        let (ring, print) = (self.rings[i], key(NEW).print);
        match step {
            Step::Stage => ring.stage(key(NEW), members),
            Step::Unstage => ring.unstage(members),
            Step::Switch => ring.switch(print, members),
            Step::Drop => ring.retire(print, members),
        }
    }

    fn hears(&self, i: usize, key: Key) -> bool {
        self.rings[i].find(|k| *k == key) == With::Heard(key)
    }

    /// A heartbeat from one to another. Returns whether it is heard.
    fn beat(&mut self, from: usize, to: usize) -> bool {
        let (key, said) = self.rings[from].towards(self.said[to][from]);
        let is_heard = self.hears(to, key);
        if is_heard {
            self.said[from][to] = Some(said);
        }
        is_heard
    }

    /// All that can happen next.
    fn next(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for i in 0..N {
            for step in [Step::Stage, Step::Unstage, Step::Switch, Step::Drop] {
                if let Ok(ring) = self.take(i, step) {
                    let mut w = self.clone();
                    w.rings[i] = ring;
                    // Before the files say so it may die: then they do not.
                    if self.deaths == 0 {
                        all.push(w.dead(i));
                    }
                    if ring != self.rings[i] {
                        w.files[i] = w.files[i].after(step);
                    }
                    all.push(w);
                }
            }
            if self.deaths == 0 {
                all.push(self.dead(i));
            }
            for j in (0..N).filter(|j| *j != i) {
                let mut w = self.clone();
                if w.beat(i, j) {
                    all.push(w);
                }
            }
        }
        all
    }

    /// A node dies and is back.
    fn dead(&self, i: usize) -> Self {
        let mut w = self.clone();
        w.rings[i] = w.files[i].ring();
        for j in 0..N {
            // The others remember what its earlier life said; it knows nothing.
            w.said[j][i] = None;
        }
        w.deaths += 1;
        w
    }

    /// All are heard by all, perhaps after one more heartbeat each way.
    fn is_whole(&self) -> bool {
        let mut w = self.clone();
        for _ in 0..2 {
            for i in 0..N {
                for j in (0..N).filter(|j| *j != i) {
                    w.beat(i, j);
                }
            }
        }
        (0..N).all(|i| (0..N).all(|j| i == j || w.clone().beat(i, j)))
    }

    /// The command, from the beginning.
    fn rotate(mut self) -> Self {
        for step in [Step::Stage, Step::Switch, Step::Drop] {
            for i in 0..N {
                for _ in 0..2 {
                    for a in 0..N {
                        for b in (0..N).filter(|b| *b != a) {
                            self.beat(a, b);
                        }
                    }
                }
                self.rings[i] = self
                    .take(i, step)
                    .unwrap_or_else(|e| panic!("{step:?} {i}: {e:?} in {self:#?}"));
            }
        }
        self
    }
}

fn search(check: impl Fn(&World)) -> usize {
    let mut seen = HashSet::from([World::begin()]);
    let mut todo = vec![World::begin()];
    while let Some(w) = todo.pop() {
        check(&w);
        for n in w.next() {
            if seen.insert(n.clone()) {
                todo.push(n);
            }
        }
    }
    seen.len()
}

#[test]
fn no_order_of_steps_parts_members() {
    let n = search(|w| {
        assert!(w.is_whole(), "{w:#?}");
        let end = w.clone().rotate();
        for ring in end.rings {
            assert_eq!(
                (ring.said().used, ring.said().second),
                (key(NEW).print, None)
            );
        }
    });
    println!("{n} states");
    assert!(n > 1000);
}

/// Without the look at what the others hear, the same search finds nodes that do not hear each other.
#[test]
#[should_panic(expected = "parted")]
fn a_step_without_a_look_is_found() {
    let mut seen = HashSet::from([World::begin()]);
    let mut todo = vec![World::begin()];
    while let Some(w) = todo.pop() {
        assert!(w.is_whole(), "parted");
        for i in 0..N {
            let print = key(NEW).print;
            let blind = w.rings[i].retire(print, std::iter::empty());
            let mut more = w.next();
            more.extend(blind.ok().map(|ring| {
                let mut n = w.clone();
                n.rings[i] = ring;
                n
            }));
            for n in more {
                if seen.insert(n.clone()) {
                    todo.push(n);
                }
            }
        }
    }
}
