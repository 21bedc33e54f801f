// SPDX-License-Identifier: GPL-2.0

//! The fuzzer of the crates in `tests/host`: corpus, chance, damage. Each crate compiles it for itself.
//!
//! `FUZZ_SECONDS` is how long (without it only the corpus is read), `FUZZ_SEED` repeats a run. An input that breaks a
//! promise is written to `build/fuzz`; to keep it, copy it into the corpus.

use rand::rngs::SmallRng;
use rand::Rng;
use rand::SeedableRng;
use std::fs;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// What is fuzzed.
pub(crate) struct Target {
    /// Its corpus is `corpus/NAME` of the crate.
    pub(crate) name: &'static str,
    /// An input that somebody honest may send, or nearly so.
    pub(crate) make: fn(&mut SmallRng) -> Vec<u8>,
    /// Asserts all promises; says whether the input, or some of it, was accepted.
    pub(crate) check: fn(&[u8]) -> bool,
    /// Numbers at which something may change, beside the usual ones.
    pub(crate) edges: &'static [u64],
}

const EDGES: [u64; 12] = [
    0,
    1,
    2,
    4,
    5,
    0x7f,
    0xff,
    0xffff,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    u64::MAX,
];

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Target {
    /// Reads the corpus, and then, if there is time, inputs of all sorts.
    pub(crate) fn run(&self) {
        let corpus = self.corpus();
        let mut accepted = 0;
        for (name, bytes) in &corpus {
            accepted += usize::from(self.check_or_keep(bytes, name));
        }
        assert!(accepted > 0, "{}: nothing valid in the corpus", self.name);
        let Some(seconds) = number("FUZZ_SECONDS") else { return };

        let seed = number("FUZZ_SEED").unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            now.as_micros() as u64
        });
        println!("# {}: FUZZ_SEED={seed}", self.name);
        let rng = &mut SmallRng::seed_from_u64(seed);
        let end = Instant::now() + Duration::from_secs(seconds);
        let (mut n, mut accepted) = (0u64, 0u64);
        while n % 256 != 0 || Instant::now() < end {
            let input = self.input(rng, &corpus);
            accepted += u64::from(self.check_or_keep(&input, &format!("seed {seed}, input {n}")));
            n += 1;
        }
        println!("# {}: {n} inputs, {accepted} of them accepted", self.name);
        assert!(accepted > 0, "{}: no input was accepted", self.name);
    }

    fn dir(&self) -> PathBuf {
        crate_dir().join("corpus").join(self.name)
    }

    /// Writes a file of the corpus.
    #[allow(dead_code, reason = "not every corpus is made by a program")]
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.dir()).unwrap();
        fs::write(self.dir().join(name), bytes).unwrap();
    }

    fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let dir = self.dir();
        let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        // A seed repeats a run only if the order is the same.
        files.sort();
        files
            .iter()
            .map(|f| (f.display().to_string(), fs::read(f).unwrap()))
            .collect()
    }

    /// Checks one input; one that breaks a promise is kept in a file.
    fn check_or_keep(&self, bytes: &[u8], origin: &str) -> bool {
        catch_unwind(|| (self.check)(bytes)).unwrap_or_else(|panic| {
            let top = crate_dir().ancestors().nth(3);
            let dir = top.expect("the crate is in tests/host").join("build/fuzz");
            let file = dir.join(self.name);
            match fs::create_dir_all(&dir).and_then(|()| fs::write(&file, bytes)) {
                Ok(()) => println!("# {origin}: {} bytes are in {}", bytes.len(), file.display()),
                Err(e) => println!("# {origin}: {e}; the bytes: {}", bytes.escape_ascii()),
            }
            resume_unwind(panic)
        })
    }

    fn input(&self, rng: &mut SmallRng, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
        let pick = |rng: &mut SmallRng| {
            if rng.random() {
                corpus[rng.random_range(0..corpus.len())].1.clone()
            } else {
                (self.make)(rng)
            }
        };
        match rng.random_range(0..16) {
            0 => noise(rng, 512),
            1 => {
                let mut b = pick(rng);
                b.truncate(rng.random_range(0..=b.len()));
                b.extend(noise(rng, 512));
                b
            }
            _ => {
                let (mut b, other) = (pick(rng), pick(rng));
                for _ in 0..rng.random_range(0..6) {
                    self.damage(rng, &mut b, &other);
                }
                b
            }
        }
    }

    /// Damages an input at one place.
    fn damage(&self, rng: &mut SmallRng, b: &mut Vec<u8>, other: &[u8]) {
        let at = rng.random_range(0..=b.len());
        match rng.random_range(0..9) {
            0 if at < b.len() => b[at] ^= 1 << rng.random_range(0..8),
            1 if at < b.len() => b[at] = rng.random(),
            2 | 3 => {
                let which = rng.random_range(0..EDGES.len() + self.edges.len());
                let edge = EDGES.iter().chain(self.edges).nth(which).unwrap();
                let n = edge.wrapping_add_signed(rng.random_range(-1..=1));
                let width = 1 << rng.random_range(0..4);
                for (to, from) in b[at..].iter_mut().zip(&n.to_le_bytes()[..width]) {
                    *to = *from;
                }
            }
            4 => drop(b.drain(range(rng, b.len()))),
            5 => b.truncate(at),
            6 => {
                let part = noise(rng, 32);
                b.splice(at..at, part);
            }
            7 => {
                let part = b[range(rng, b.len())].to_vec();
                b.splice(at..at, part);
            }
            _ => {
                let part = other[range(rng, other.len())].to_vec();
                b.splice(range(rng, b.len()), part);
            }
        }
    }
}

fn range(rng: &mut SmallRng, len: usize) -> std::ops::Range<usize> {
    let from = rng.random_range(0..=len);
    let most = (len - from).min(if rng.random_ratio(1, 4) { len } else { 16 });
    from..from + rng.random_range(0..=most)
}

pub(crate) fn noise(rng: &mut SmallRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill(&mut bytes[..]);
    bytes
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}
