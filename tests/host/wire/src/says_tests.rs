// SPDX-License-Identifier: GPL-2.0

//! What heartbeats say, when their senders have the key and lie: to the decoder, and on to the membership.
//!
//! Whatever the bytes, what is understood is encoded as it was meant, and nothing is of another table or with too large a
//! number. However the others lie, this node never installs a view that it is not in, that has no majority of the table, or
//! nodes that it never heard, nor one with a number that is not larger than that of its view before; and it is no member for
//! longer than the lease after the sending of what a majority has answered with support.

use crate::fuzz::Target;
use crate::places::Places;
use crate::says::decode;
use crate::says::encode;
use crate::says::LEN;
use crate::state;
use crate::state::Change;
use crate::state::Effect;
use crate::state::Heartbeat;
use crate::state::Known;
use crate::state::Phase;
use crate::state::Row;
use crate::state::Times;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::Rng;

const TABLE: u64 = 99;
/// The one that this node has staged: without the last node.
const NEXT: u64 = 100;
const NODES: usize = 5;
const THIS: usize = 1;
/// From whom, of which life, how long after the one before, what it answers, what it supports.
const HEAD: usize = 5;
const TIMES: Times = Times::new(1000, 500);
const BEGIN: u64 = 5000;
/// The largest number that is read.
const LARGEST: u64 = 1 << 62;

type Says = state::Says<1>;
type View = state::View<1>;
type Core = state::Core<Vec<Known<Says>>, 1>;

fn core() -> Core {
    let next = Change {
        table: NEXT,
        place: NODES - 1,
        row: None,
    };
    let known = vec![Known::new(Row::default()); NODES];
    Core::new(THIS, known, TABLE, 7, TIMES, BEGIN, 0).with_next(Some(next))
}

const fn places(word: u64) -> Places<1> {
    Places::from_words([word])
}

/// What the datagram around it says. `answers`: none, or how long ago the answered one was sent. A liar may support this
/// node in whatever it likes.
fn heartbeat(head: &[u8; HEAD], says: Says, now: u64) -> Heartbeat<Says> {
    let [_, life, _, answers, supports] = *head;
    Heartbeat {
        incarnation: u64::from(life),
        seq: 1,
        answers: answers.checked_sub(1).map(|n| now - u64::from(n) * 8),
        supports: match supports {
            0 => 0,
            1 => says.view.id,
            2 => says.proposal.id,
            3 => says.promised,
            n => u64::from(n),
        },
        says,
    }
}

/// Whether this is read, read by hand.
fn is_sound(b: &[u8; LEN]) -> bool {
    let u64_at = |at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
    let is_phase = (1..=3).contains(&b[0]) && b[1..4] == [0; 3];
    is_phase && [24, 56, 88].iter().all(|at| u64_at(*at) <= LARGEST)
}

/// The others, when they last answered with support, and what this node has made of it.
struct Watched {
    core: Core,
    view: u64,
    heard: u64,
    backed: [u64; NODES],
}

impl Watched {
    /// Returns whether the node ends.
    fn is_end(&mut self, effect: Effect<1>) -> bool {
        if let Effect::Install { view: v, .. } = effect {
            let [members] = *v.members.words();
            assert!(v.id > self.view, "view {} after {}", v.id, self.view);
            assert!(members & (1 << THIS) != 0 && members & !self.heard == 0, "{members:#b}");
            assert!(members.count_ones() as usize > NODES / 2, "{members:#b} is no majority");
            assert_eq!(v.table, self.core.table(), "of another table");
            self.view = v.id;
        }
        matches!(effect, Effect::Stop(_) | Effect::Left)
    }

    /// Returns whether the node ends.
    fn tick(&mut self, now: u64) -> bool {
        let effect = self.core.tick(now);
        if self.is_end(effect) {
            return true;
        }
        if self.core.phase() == Phase::Up {
            let holds = |sent: &&u64| **sent != 0 && now < **sent + TIMES.lease;
            let supporters = 1 + self.backed.iter().filter(holds).count();
            assert!(supporters > NODES / 2, "a member with {supporters} supporters");
        }
        false
    }
}

fn check(bytes: &[u8]) -> bool {
    let mut now = BEGIN;
    let mut node = Watched {
        core: core(),
        view: 0,
        heard: 1 << THIS,
        backed: [0; NODES],
    };
    for part in bytes.chunks_exact(HEAD + LEN) {
        let (head, says) = part.split_first_chunk::<HEAD>().unwrap();
        let says: &[u8; LEN] = says.try_into().unwrap();
        now += u64::from(head[2]) * 8;
        let place = usize::from(head[0]) % (NODES + 2);
        assert_eq!(decode(says).is_some(), is_sound(says));
        let understood = |s: &Says| [s.table, s.staged].iter().any(|t| [TABLE, NEXT].contains(t));
        // Once it goes by the next table it does not know this one any more.
        let was = node.core.table();
        if let Some(s) = decode(says).filter(|s| node.core.understands(s)) {
            assert!(understood(&s) && [TABLE, NEXT].contains(&was));
            assert_eq!(decode(&encode(&s)), Some(s));
            let h = heartbeat(head, s, now);
            if let (Some(sent), true) = (h.answers, place < NODES && place != THIS) {
                node.heard |= 1 << place;
                if h.supports != 0 {
                    node.backed[place] = node.backed[place].max(sent);
                }
            }
            node.core.link_up(place, h.incarnation);
            let effect = node.core.heard(place, h, now);
            if node.is_end(effect) {
                break;
            }
        }
        if node.tick(now) {
            break;
        }
    }
    node.view > 0
}

fn view(rng: &mut SmallRng) -> View {
    let ids = [0, 1, 2, 3, rng.random(), LARGEST - 1, LARGEST, LARGEST + 1, u64::MAX];
    let members = [0b11111, 0b00111, 0b11101, 0b00110, 0b11, 1 << 5, rng.random(), u64::MAX];
    View {
        id: *ids.choose(rng).unwrap(),
        members: places(*members.choose(rng).unwrap()),
        digest: rng.random_range(0..3),
        table: *[TABLE, TABLE, NEXT, rng.random()].choose(rng).unwrap(),
    }
}

fn make(rng: &mut SmallRng) -> Vec<u8> {
    let mut out = Vec::new();
    // What this node itself would propose is what a liar needs the digest of.
    let mut core = core();
    let mut now = BEGIN;
    for _ in 0..rng.random_range(1..24) {
        let place = rng.random_range(0..NODES);
        let wait: u8 = rng.random_range(0..40);
        let answers = if rng.random_ratio(1, 16) {
            0
        } else {
            rng.random_range(1..20)
        };
        let life = if rng.random_ratio(1, 8) { 2 } else { 1 };
        let head = [place as u8, life, wait, answers, rng.random_range(0..5)];
        now += u64::from(wait) * 8;
        let own = core.says();
        let views = [own.view, own.proposal, view(rng)];
        let phases = [Phase::Joining, Phase::Up, Phase::Leaving];
        let all = places((1 << NODES) - 1);
        let says = Says {
            phase: *phases.choose(rng).unwrap(),
            table: *[TABLE, TABLE, NEXT, rng.random()].choose(rng).unwrap(),
            staged: *[0, NEXT, rng.random()].choose(rng).unwrap(),
            view: *views.choose(rng).unwrap(),
            proposal: *views.choose(rng).unwrap(),
            promised: *[own.proposal.id, own.promised, rng.random(), 0].choose(rng).unwrap(),
            promised_to: *[THIS, place, rng.random_range(0..NODES), rng.random::<u32>() as usize]
                .choose(rng)
                .unwrap(),
            hears: *[all, all, own.hears, places(rng.random())].choose(rng).unwrap(),
            over: *[places(0), places(0), places(0), places(rng.random())]
                .choose(rng)
                .unwrap(),
        };
        core.link_up(place, u64::from(life));
        let _ = core.heard(place, heartbeat(&head, says, now), now);
        let _ = core.tick(now);
        out.extend(head);
        out.extend(encode(&says));
    }
    out
}

const TARGET: Target = Target {
    name: "says",
    make,
    check,
    edges: &[NODES as u64, 64, TABLE, LARGEST],
};

#[test]
fn fuzz_says() {
    TARGET.run();
}

/// What the names of the corpus say does come to a view, or does not.
#[test]
fn views_come_by_answers_and_support() {
    for (name, is_view) in [
        ("a_view", true),
        ("a_second_view", true),
        ("a_view_of_its_own", true),
        ("largest_number_promised", false),
        ("largest_number_twice", false),
        ("largest_number", true),
        ("number_too_large", false),
        ("number_of_ones", false),
        ("no_support", false),
        ("no_answers", false),
        ("a_view_of_too_few", false),
        ("a_view_with_the_silent", false),
        ("a_view_of_the_next_table", true),
        ("a_view_of_no_table", false),
        ("the_next_table_and_who_goes", false),
    ] {
        let file = format!("{}/corpus/says/{name}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(check(&std::fs::read(file).unwrap()), is_view, "{name}");
    }
}

/// Writes the corpus anew, after a change of the layout: `cargo test -- --ignored write`. What was found stays.
#[test]
#[ignore]
fn write_corpus() {
    type Part = ([u8; HEAD], Says);
    let pack = |parts: &[Part]| -> Vec<u8> {
        let pack = |(head, says): &Part| [&head[..], &encode(says)].concat();
        parts.iter().flat_map(pack).collect()
    };
    // Each answers what this node has just sent; `has` supports it in that view.
    let of = |place: u8, says: Says| ([place, 1, 1, 1, 0], says);
    let has = |place: u8, view: View| -> Part {
        let says = Says {
            phase: Phase::Up,
            table: view.table,
            view,
            promised: view.id,
            ..Says::default()
        };
        ([place, 1, 1, 1, 1], says)
    };
    // Nodes 0, 2 and 3 join and hear each other; node 0 leads. Its proposals have the digest that this node expects.
    let joining = Says {
        table: TABLE,
        hears: places(0b01111),
        ..Says::default()
    };
    let step = |d: u64, n: u64| (d ^ n).wrapping_mul(0x0100_0000_01b3);
    let other = |id, members: u64| View {
        id,
        members: places(members),
        table: TABLE,
        digest: [(0, 1), (1, 7), (2, 1), (3, 1), (4, 0)]
            .into_iter()
            .filter(|(p, _)| members & (1 << p) != 0)
            .fold(0xcbf2_9ce4_8422_2325, |d, (p, life)| {
                let d = step(step(d, p + 1), life);
                d ^ (d >> 29)
            }),
    };
    let v = other(1, 0b111);
    let proposes = |v: View| Says {
        proposal: v,
        promised: v.id,
        ..joining
    };
    let view = |v: View, more: &[Part]| {
        let first = [0, 2, 3].map(|place| of(place, joining));
        let then = [of(0, proposes(v)), has(0, v), has(2, v)];
        pack(&[&first[..], &then, more].concat())
    };
    let later = |wait: u8, (mut head, says): Part| {
        head[2] = wait;
        (head, says)
    };
    let bent = |at: usize, to: u8| {
        let mut all = pack(&[of(0, joining)]);
        all[HEAD + at] = to;
        all
    };
    let no_support = |(mut head, says): Part| {
        head[4] = 0;
        (head, says)
    };
    let no_answer = |(mut head, says): Part| {
        head[3] = 0;
        (head, says)
    };
    let next = |v: View| View { table: NEXT, ..v };
    // This node leads 2 and 3, and then 4, all of whom promise it whatever has that number.
    let led = |number: u64| {
        let hears = places(0b11110);
        let joins = Says { hears, ..joining };
        let promises = |place: u8| -> Part {
            let says = Says {
                promised: number,
                promised_to: THIS,
                ..joins
            };
            ([place, 1, 1, 1, 3], says)
        };
        let alone = [of(2, joins), of(3, joins)];
        let first = if number == 1 { of(3, joins) } else { promises(3) };
        let then = [later(70, first), promises(2), promises(3), promises(4)];
        pack(&[&alone[..], &then].concat())
    };
    for (name, bytes) in [
        ("empty", vec![]),
        ("a_view", view(v, &[])),
        ("a_view_of_its_own", led(1)),
        ("largest_number_promised", led(LARGEST)),
        ("largest_number_twice", led(u64::MAX)),
        (
            "a_second_view",
            view(
                v,
                &[
                    of(0, {
                        let (_, says) = has(0, v);
                        let proposal = other(2, 0b1111);
                        Says {
                            proposal,
                            promised: 2,
                            ..says
                        }
                    }),
                    has(0, other(2, 0b1111)),
                ],
            ),
        ),
        ("excluded", view(v, &[has(0, other(2, 0b101))])),
        ("silence", view(v, &[later(255, has(2, v))])),
        (
            "support_that_ends",
            view(v, &[0, 2, 0, 2].map(|p| later(30, no_support(has(p, v))))),
        ),
        (
            "no_support",
            pack(&[
                of(0, joining),
                of(2, joining),
                of(0, proposes(v)),
                no_support(has(0, v)),
                no_support(has(2, v)),
            ]),
        ),
        (
            "no_answers",
            pack(&[
                no_answer(of(0, joining)),
                no_answer(of(2, joining)),
                no_answer(of(0, proposes(v))),
                no_answer(has(0, v)),
                no_answer(has(2, v)),
            ]),
        ),
        ("a_view_of_too_few", view(other(1, 0b11), &[])),
        ("a_view_of_others", view(other(1, 0b1101), &[])),
        ("a_view_with_the_silent", view(other(1, 0b10111), &[])),
        ("a_view_with_strangers", view(other(1, u64::MAX), &[])),
        (
            "largest_number",
            view(other(LARGEST, 0b111), &[later(200, of(2, joining)), of(2, joining)]),
        ),
        ("number_too_large", view(other(LARGEST + 1, 0b111), &[])),
        ("number_of_ones", view(other(u64::MAX, 0b111), &[])),
        (
            "promised_to_nobody",
            pack(&[of(
                0,
                Says {
                    promised_to: u32::MAX as usize,
                    ..proposes(v)
                },
            )]),
        ),
        (
            "another_table",
            pack(&[
                of(
                    0,
                    Says {
                        table: NEXT + 1,
                        ..joining
                    },
                ),
                of(2, joining),
            ]),
        ),
        ("a_view_of_the_next_table", view(next(v), &[])),
        ("a_view_of_no_table", view(View { table: NEXT + 1, ..v }, &[])),
        ("a_view_without_the_next_one", {
            let (head, says) = has(0, next(v));
            view(v, &[(head, says), has(0, other(2, 0b10101))])
        }),
        ("the_next_table_and_who_goes", view(next(other(1, 0b10111)), &[])),
        (
            "two_tables",
            view(next(v), &[has(0, next(v)), of(2, joining), has(0, next(v)), has(2, next(v))]),
        ),
        ("of_itself_and_nobody", pack(&[has(1, v), has(5, v), has(6, v)])),
        ("over_for_all", {
            let over = Says {
                over: places(u64::MAX),
                ..joining
            };
            pack(&[0, 2, 3, 4].map(|p| of(p, over)))
        }),
        ("no_phase", bent(0, 0)),
        ("phase_four", bent(0, 4)),
    ] {
        TARGET.write(name, &bytes);
    }
}
