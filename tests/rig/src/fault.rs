// SPDX-License-Identifier: GPL-2.0

//! What happens to a frame on its way: the decisions of the switch, without the switch.
//!
//! One [`Lane`] per ordered pair of nodes and link. Each has a random generator of its own, seeded from the
//! instance's seed and the lane's name, so that its decisions do not depend on what other lanes carry.

use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

/// How long a frame that is to be overtaken waits, at most.
pub const REORDER_MAX: Duration = Duration::from_millis(5);

/// Chances are out of a million.
const MILLION: u32 = 1_000_000;

/// A chance in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chance(pub u32);

impl Chance {
    /// From percent, which may be a fraction.
    ///
    /// # Errors
    /// A text if it is not from 0 to 100.
    pub fn percent(text: &str) -> Result<Self, String> {
        let pct: f64 = text
            .trim_end_matches('%')
            .parse()
            .map_err(|_| format!("{text}: not a number"))?;
        if !(0.0..=100.0).contains(&pct) {
            return Err(format!("{text}: not from 0 to 100"));
        }
        // CAST: in range, checked above.
        Ok(Self((pct * 10_000.0).round() as u32))
    }
}

/// The faults of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Nothing passes.
    pub cut: bool,
    /// Of TCP only what belongs to connections begun since passes, as through a firewall that has forgotten the others.
    pub forget: bool,
    /// Chance that a frame is lost.
    pub loss: Chance,
    /// Every frame waits so long ...
    pub delay: Duration,
    /// ... and up to so much longer. Order is kept.
    pub jitter: Duration,
    /// Chance that a frame comes twice.
    pub dup: Chance,
    /// Chance that a frame is held back up to [`REORDER_MAX`] while later ones pass.
    pub reorder: Chance,
    /// Chance that one bit behind the Ethernet header is flipped.
    pub corrupt: Chance,
    /// Corruption strikes TCP and UDP payload only, and repairs the checksum, so that it is not found below.
    pub corrupt_deep: bool,
}

/// What became of the frames of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames offered by the sender.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lost because the lane is cut.
    pub cut: u64,
    /// Lost as they belong to a connection that is forgotten.
    pub forgotten: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the receiver does not take its frames.
    pub overflowed: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Changed.
    pub corrupted: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable by any number, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // CAST: the upper half of a product is below n.
        ((u128::from(self.number()) * u128::from(n)) >> 64) as u64
    }

    fn hit(&mut self, chance: Chance) -> bool {
        // A generator that is asked only where chance plays makes a fault's sequence independent of the others.
        chance.0 != 0 && self.below(u64::from(MILLION)) < u64::from(chance.0)
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        // CAST: durations here are far below 2^64 ns.
        Duration::from_nanos(self.below(max.as_nanos() as u64 + 1))
    }
}

/// One copy of a frame that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Not before; `None`: at once.
    pub due: Option<Instant>,
    /// The bit to flip, and whether to repair the checksum.
    pub flip: Option<Flip>,
}

/// A bit that is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Number of the bit in the frame.
    pub bit: usize,
    /// The transport checksum is corrected for it.
    pub repair: bool,
}

/// The way of frames from one node to another on one link.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What goes wrong on it.
    pub faults: Faults,
    /// What went.
    pub counters: Counters,
    rng: Rng,
    last_due: Option<Instant>,
    /// Ports and addresses of the connections begun while others are forgotten.
    begun: HashSet<[u8; 12]>,
}

impl Lane {
    /// A lane without faults.
    pub fn new(seed: u64, from: u32, to: u32, link: u32) -> Self {
        let name = u64::from(from) << 40 | u64::from(to) << 16 | u64::from(link);
        // One step decorrelates neighbouring names.
        let rng = Rng::new(Rng::new(seed ^ Rng::new(name).number()).number());
        Self {
            faults: Faults::default(),
            counters: Counters::default(),
            rng,
            last_due: None,
            begun: HashSet::new(),
        }
    }

    /// Decides about one frame: no delivery, one, or two.
    pub fn pass(&mut self, now: Instant, frame: &[u8]) -> Vec<Delivery> {
        let f = self.faults;
        self.counters.frames += 1;
        self.counters.bytes += frame.len() as u64;
        if f.cut {
            self.counters.cut += 1;
            return Vec::new();
        }
        if f.forget && self.is_forgotten(frame) {
            self.counters.forgotten += 1;
            return Vec::new();
        }
        if self.rng.hit(f.loss) {
            self.counters.lost += 1;
            return Vec::new();
        }
        let copies = if self.rng.hit(f.dup) { 2 } else { 1 };
        self.counters.duplicated += copies - 1;
        (0..copies)
            .map(|_| {
                let flip = if self.rng.hit(f.corrupt) {
                    self.pick_bit(frame)
                } else {
                    None
                };
                self.counters.corrupted += u64::from(flip.is_some());
                Delivery {
                    due: self.due(now),
                    flip,
                }
            })
            .collect()
    }

    fn is_forgotten(&mut self, frame: &[u8]) -> bool {
        let Some((connection, is_first)) = connection(frame) else {
            return false;
        };
        if is_first {
            self.begun.insert(connection);
        }
        !self.begun.contains(&connection)
    }

    /// When a copy is to arrive. Frames keep their order but for those that are held back on purpose.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let f = self.faults;
        let mut due = now
            + f.delay
            + if f.jitter.is_zero() {
                Duration::ZERO
            } else {
                self.rng.up_to(f.jitter)
            };
        if self.rng.hit(f.reorder) {
            self.counters.reordered += 1;
            return Some(due + Duration::from_micros(1) + self.rng.up_to(REORDER_MAX));
        }
        match self.last_due {
            Some(last) if last > due => due = last,
            _ => self.last_due = Some(due),
        }
        (due > now).then_some(due)
    }

    fn pick_bit(&mut self, frame: &[u8]) -> Option<Flip> {
        let range = if self.faults.corrupt_deep {
            payload(frame)?
        } else {
            14..frame.len()
        };
        if range.is_empty() {
            return None;
        }
        // CAST: frames are short.
        let byte = range.start + self.rng.below(range.len() as u64) as usize;
        Some(Flip {
            bit: byte * 8 + self.rng.below(8) as usize,
            repair: self.faults.corrupt_deep,
        })
    }
}

/// Where the transport's checksum is, and its payload's bytes: IPv4 with TCP or UDP, not fragmented.
fn transport(frame: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip.len() < 20 || ip[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let is_fragment = (ip[6] & 0x3f) != 0 || ip[7] != 0;
    if header < 20 || total > ip.len() || is_fragment {
        return None;
    }
    let start = 14 + header;
    let end = 14 + total;
    match ip[9] {
        6 if end >= start + 20 => {
            let data = start + usize::from(frame[start + 12] >> 4) * 4;
            (data <= end).then_some((start + 16, data..end))
        }
        17 if end >= start + 8 => Some((start + 6, start + 8..end)),
        _ => None,
    }
}

/// Which TCP connection a frame is of, and whether it begins one.
fn connection(frame: &[u8]) -> Option<([u8; 12], bool)> {
    let (sum_at, _) = transport(frame).filter(|_| frame[23] == 6)?;
    let segment = sum_at - 16;
    let mut c = [0; 12];
    c[..8].copy_from_slice(&frame[26..34]);
    c[8..].copy_from_slice(&frame[segment..segment + 4]);
    let is_syn = frame[segment + 13] & 2 != 0;
    Some((c, is_syn))
}

fn payload(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    transport(frame).map(|(_, range)| range)
}

/// Flips a bit in a frame.
pub fn flip(frame: &mut [u8], flip: Flip) {
    let (byte, mask) = (flip.bit / 8, 1 << (flip.bit % 8));
    let place = transport(frame).filter(|_| flip.repair);
    let Some(value) = frame.get(byte).copied() else { return };
    frame[byte] = value ^ mask;
    let Some((sum_at, range)) = place else { return };
    let is_udp_without_sum = frame[23] == 17 && frame[sum_at..sum_at + 2] == [0, 0];
    if !range.contains(&byte) || is_udp_without_sum {
        return;
    }
    // RFC 1624: the new sum from the old one and the 16-bit word that changed.
    let segment = 14 + usize::from(frame[14] & 15) * 4;
    let word = |v: u8| {
        if (byte - segment) % 2 == 0 {
            u32::from(v) << 8
        } else {
            u32::from(v)
        }
    };
    let old_sum = u32::from(u16::from_be_bytes([frame[sum_at], frame[sum_at + 1]]));
    let mut sum = (!old_sum & 0xffff) + (!word(value) & 0xffff) + word(value ^ mask);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // CAST: folded to 16 bits above.
    let mut new_sum = !(sum as u16);
    if frame[23] == 17 && new_sum == 0 {
        new_sum = 0xffff;
    }
    frame[sum_at..sum_at + 2].copy_from_slice(&new_sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(faults: Faults) -> Lane {
        Lane {
            faults,
            ..Lane::new(7, 1, 2, 1)
        }
    }

    fn pct(p: u32) -> Chance {
        Chance(p * 10_000)
    }

    const FRAME: [u8; 64] = [0; 64];

    /// An IPv4 frame with a right transport checksum.
    fn ip_frame(proto: u8, data: &[u8]) -> Vec<u8> {
        let head = if proto == 6 { 20 } else { 8 };
        let mut f = vec![0; 14 + 20 + head];
        f[12..14].copy_from_slice(&[8, 0]);
        f[14] = 0x45;
        f[16..18].copy_from_slice(&((20 + head + data.len()) as u16).to_be_bytes());
        f[23] = proto;
        f[26..34].copy_from_slice(&[10, 73, 1, 1, 10, 73, 1, 2]);
        if proto == 6 {
            f[34 + 12] = 0x50;
        } else {
            f[34 + 4..34 + 6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
        }
        f.extend_from_slice(data);
        let at = if proto == 6 { 34 + 16 } else { 34 + 6 };
        let sum = checksum(&f);
        f[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        f
    }

    /// Transport checksum over pseudo header and segment: 0 if the one in the frame is right.
    fn checksum(f: &[u8]) -> u16 {
        let len = (f.len() - 34) as u16;
        let mut bytes = f[26..34].to_vec();
        bytes.extend_from_slice(&[0, f[23]]);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&f[34..]);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn without_faults_every_frame_goes_once_and_at_once() {
        let mut l = lane(Faults::default());
        for _ in 0..1000 {
            assert_eq!(l.pass(Instant::now(), &FRAME), [Delivery { due: None, flip: None }]);
        }
        assert_eq!(
            l.counters,
            Counters {
                frames: 1000,
                bytes: 64_000,
                ..Counters::default()
            }
        );
    }

    #[test]
    fn a_cut_lane_passes_nothing() {
        let mut l = lane(Faults {
            cut: true,
            dup: pct(100),
            ..Faults::default()
        });
        assert!((0..100).all(|_| l.pass(Instant::now(), &FRAME).is_empty()));
        assert_eq!(l.counters.cut, 100);
    }

    #[test]
    fn only_connections_begun_since_pass() {
        let mut l = lane(Faults::default());
        let mut tcp = ip_frame(6, b"data");
        let udp = ip_frame(17, b"data");
        assert_eq!(l.pass(Instant::now(), &tcp).len(), 1);
        l.faults.forget = true;
        assert_eq!(l.pass(Instant::now(), &tcp).len(), 0);
        assert_eq!(l.pass(Instant::now(), &udp).len(), 1);
        let mut other = tcp.clone();
        other[34 + 1] = 9;
        other[34 + 13] = 2;
        assert_eq!(l.pass(Instant::now(), &other).len(), 1);
        other[34 + 13] = 0;
        assert_eq!(l.pass(Instant::now(), &other).len(), 1);
        assert_eq!(l.pass(Instant::now(), &tcp).len(), 0);
        tcp[34 + 13] = 2;
        assert_eq!(l.pass(Instant::now(), &tcp).len(), 1);
        assert_eq!(l.counters.forgotten, 2);
    }

    #[test]
    fn chances_are_met() {
        for percent in [0, 1, 30, 99, 100] {
            let mut l = lane(Faults {
                loss: pct(percent),
                ..Faults::default()
            });
            let n = 20_000;
            let lost = (0..n).filter(|_| l.pass(Instant::now(), &FRAME).is_empty()).count();
            let want = n * percent as usize / 100;
            assert!(
                lost.abs_diff(want) <= if percent % 100 == 0 { 0 } else { 300 },
                "{percent} %: {lost} of {n}"
            );
            assert_eq!(l.counters.lost, lost as u64);
        }
    }

    #[test]
    fn the_seed_decides_and_lanes_differ() {
        let run = |seed, from, to| {
            let mut l = Lane::new(seed, from, to, 1);
            l.faults.loss = pct(50);
            (0..64)
                .map(|_| l.pass(Instant::now(), &FRAME).len())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1, 1, 2), run(1, 1, 2));
        assert_ne!(run(1, 1, 2), run(2, 1, 2));
        assert_ne!(run(1, 1, 2), run(1, 2, 1));
    }

    #[test]
    fn jitter_keeps_the_order() {
        let ms = Duration::from_millis;
        let mut l = lane(Faults {
            delay: ms(10),
            jitter: ms(20),
            ..Faults::default()
        });
        let start = Instant::now();
        let mut last = start;
        for i in 0..1000 {
            let now = start + Duration::from_micros(i * 10);
            let due = l.pass(now, &FRAME)[0].due.unwrap();
            assert!(due >= now + ms(10) && due <= now + ms(30) && due >= last);
            last = due;
        }
    }

    #[test]
    fn reordering_lets_later_frames_pass() {
        let mut l = lane(Faults {
            reorder: pct(20),
            ..Faults::default()
        });
        let start = Instant::now();
        let dues: Vec<_> = (0..1000)
            .map(|i| {
                let now = start + Duration::from_micros(i * 100);
                l.pass(now, &FRAME)[0].due.unwrap_or(now)
            })
            .collect();
        let overtaken = dues.windows(2).filter(|w| w[0] > w[1]).count();
        assert!(overtaken > 100, "{overtaken}");
        assert!((100..300).contains(&l.counters.reordered), "{}", l.counters.reordered);
    }

    #[test]
    fn duplicates_are_two_deliveries() {
        let mut l = lane(Faults {
            dup: pct(100),
            ..Faults::default()
        });
        assert_eq!(l.pass(Instant::now(), &FRAME).len(), 2);
        assert_eq!(l.counters.duplicated, 1);
    }

    #[test]
    fn corruption_flips_one_bit_behind_the_header() {
        let mut l = lane(Faults {
            corrupt: pct(100),
            ..Faults::default()
        });
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let bit = l.pass(Instant::now(), &FRAME)[0].flip.unwrap();
            let mut f = FRAME;
            flip(&mut f, bit);
            let ones: u32 = f.iter().map(|b| b.count_ones()).sum();
            assert_eq!((ones, &f[..14]), (1, &[0; 14][..]));
            seen.insert(bit.bit);
        }
        assert_eq!(seen.len(), 50 * 8);
    }

    #[test]
    fn deep_corruption_survives_the_checksum() {
        for proto in [6, 17] {
            for len in [1, 2, 33, 700] {
                let data: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
                let good = ip_frame(proto, &data);
                assert_eq!(checksum(&good), 0);
                let mut l = lane(Faults {
                    corrupt: pct(100),
                    corrupt_deep: true,
                    ..Faults::default()
                });
                for _ in 0..200 {
                    let mut f = good.clone();
                    flip(&mut f, l.pass(Instant::now(), &good)[0].flip.unwrap());
                    let head = good.len() - len;
                    assert_ne!(f[head..], good[head..]);
                    assert_eq!(checksum(&f), 0, "proto {proto} len {len}");
                }
            }
        }
    }

    #[test]
    fn deep_corruption_leaves_other_frames_alone() {
        let mut fragment = ip_frame(17, b"data");
        fragment[20] = 0x20;
        for frame in [
            FRAME.to_vec(),
            ip_frame(6, b""),
            ip_frame(1, b"ping"),
            fragment,
            vec![0; 14],
        ] {
            let mut l = lane(Faults {
                corrupt: pct(100),
                corrupt_deep: true,
                ..Faults::default()
            });
            assert_eq!(l.pass(Instant::now(), &frame)[0].flip, None);
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(Chance::percent("30"), Ok(Chance(300_000)));
        assert_eq!(Chance::percent("0.01%"), Ok(Chance(100)));
        assert!(Chance::percent("101").is_err());
        assert!(Chance::percent("-1").is_err());
        assert!(Chance::percent("x").is_err());
    }
}
