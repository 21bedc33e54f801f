// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/ssi/registry`: what tests look at and do.
//!
//! Reading gives facts, one a line:
//! `view N seq N ready 0|1 leads 0|1`;
//! `record NAME VERSION VALUE`, with a dot for what is no printable character;
//! `server SERVICE NODE`: who serves, 0: nobody;
//! `told NAME VERSION`: what the watcher of these tests was told last, version 0: it is no more;
//! `order N`: how often it was told a version that is not larger than the one before;
//! `serves NAME NODE`: this node was told to serve after that one, 0: after none;
//! `run won N lost N unknown N failed N ns N`: the last count; unknown: begun, but the node left.
//!
//! Writing does: `set NAME VALUE`; `delete NAME`; `count NAME TIMES THREADS` (each thread adds 1 to the record so many
//! times); `candidate SERVICE`; `withdraw SERVICE`; `watch` (begins anew to watch).

use crate::keys;
use crate::registry;
use crate::registry::Name;
use crate::registry::Outcome;
use crate::registry::Record;
use crate::registry::Value;
use crate::registry::Watch;
use crate::registry::Watcher;
use crate::thread;
use kernel::debugfs::File;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceReader;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::kthread::KThread;
use ssi::machine;
use ssi::wait::Event;

/// The last count.
static WON: Atomic<u64> = Atomic::new(0);
static LOST: Atomic<u64> = Atomic::new(0);
static UNKNOWN: Atomic<u64> = Atomic::new(0);
/// Changes that were not begun.
static FAILED: Atomic<u64> = Atomic::new(0);
static NANOS: Atomic<u64> = Atomic::new(0);

/// The most threads of a count.
const MAX_THREADS: u64 = 64;

/// Candidates that one node can have for tests.
const MAX_TESTS: usize = 4;

struct Tests {
    candidates: KVec<(Name, usize, keys::Candidate)>,
    watch: Option<Watch>,
}

global_lock! {
    // SAFETY: Initialised in `Debugfs::new()`, which the module calls once.
    /// Lock: level 17 `clms::tests`, mutex: writers of the file.
    unsafe(uninit) static TESTS: Mutex<Tests> = Tests { candidates: KVec::new(), watch: None };
}

struct Told {
    records: KVec<(Name, u64)>,
    newest: u64,
    disorder: u64,
}

global_lock! {
    // SAFETY: Initialised in `Debugfs::new()`, which the module calls once.
    /// What the watcher was told. Lock: level 29 `clms::told`, mutex: a leaf.
    unsafe(uninit) static TOLD: Mutex<Told> = Told { records: KVec::new(), newest: 0, disorder: 0 };
}

struct Tester;

impl Watcher for Tester {
    fn changed(&self, name: Name, record: Option<&Record>) {
        let mut told = TOLD.lock();
        let version = record.map_or(0, |r| r.version);
        if version != 0 {
            told.disorder += u64::from(version <= told.newest);
            told.newest = version;
        }
        match told.records.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = version,
            None => {
                if told.records.push((name, version), GFP_KERNEL).is_err() {
                    told.disorder += 1;
                }
            }
        }
    }
}

/// Counts how often it is told to serve.
struct TestServer {
    told: Atomic<u64>,
    before: Atomic<u32>,
}

impl TestServer {
    const fn new() -> Self {
        Self {
            told: Atomic::new(0),
            before: Atomic::new(0),
        }
    }
}

impl keys::KeyServer for TestServer {
    fn serve(&self, before: Option<(NodeId, Incarnation)>) {
        self.before
            .store(before.map_or(0, |(n, _)| n.number()), Relaxed);
        self.told.fetch_add(1, Full);
    }
}

static SERVERS: [TestServer; MAX_TESTS] = [const { TestServer::new() }; MAX_TESTS];

fn candidate(name: Name) -> Result {
    let mut tests = TESTS.lock();
    let is_free = |i: &usize| tests.candidates.iter().all(|(_, j, _)| j != i);
    let i = (0..MAX_TESTS).find(is_free).ok_or(ENOSPC)?;
    let server = SERVERS.get(i).ok_or(ENOSPC)?;
    server.told.store(0, Relaxed);
    tests.candidates.reserve(1, GFP_KERNEL)?;
    let candidate = keys::register(name.as_bytes(), server)?;
    tests.candidates.push((name, i, candidate), GFP_KERNEL)?;
    Ok(())
}

fn withdraw(name: Name) -> Result {
    let mut tests = TESTS.lock();
    let i = tests.candidates.iter().position(|(n, _, _)| *n == name);
    let _gone = tests.candidates.remove(i.ok_or(ENOENT)?);
    Ok(())
}

fn watch_anew() -> Result {
    let mut tests = TESTS.lock();
    tests.watch = None;
    {
        let mut told = TOLD.lock();
        told.records.clear();
        told.newest = 0;
        told.disorder = 0;
    }
    tests.watch = Some(registry::watch(b"", &Tester)?);
    Ok(())
}

fn number(bytes: &[u8]) -> Result<u64> {
    let text = core::str::from_utf8(bytes).map_err(|_| EINVAL)?;
    text.parse().map_err(|_| EINVAL)
}

fn set(name: Name, value: Option<Value>) -> Result {
    loop {
        let version = registry::read(name)?.map_or(0, |r| r.version);
        match registry::change(name, version, value)? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Lost(_) => {}
            Outcome::Full => return Err(ENOSPC),
        }
    }
}

/// Adds 1.
fn add(name: Name) -> Result {
    loop {
        let record = registry::read(name)?;
        let (n, version) = match record {
            Some(r) => (number(&r.value)?, r.version),
            None => (0, 0),
        };
        let mut text = [0u8; 10];
        let mut w = ssi::text::Writer::new(&mut text);
        w.put_number(u32::try_from(n + 1).map_err(|_| ERANGE)?)?;
        let len = w.len();
        let value = Value::new(text.get(..len).ok_or(EINVAL)?)?;
        match registry::change(name, version, Some(value))? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Lost(_) => {
                LOST.fetch_add(1, Relaxed);
            }
            Outcome::Full => return Err(ENOSPC),
        }
    }
}

fn add_many(name: Name, times: u64) {
    for _ in 0..times {
        let counter = match add(name) {
            Ok(()) => &WON,
            Err(e) if e == ESHUTDOWN => &UNKNOWN,
            Err(_) => &FAILED,
        };
        counter.fetch_add(1, Relaxed);
        if !core::ptr::eq(counter, &WON) {
            return;
        }
    }
}

/// What the threads of a count share.
#[pin_data]
struct Shared {
    left: Atomic<u64>,
    #[pin]
    ended: Event,
}

impl Shared {
    fn leave(&self) {
        self.left.fetch_sub(1, Full);
        self.ended.notify_all();
    }
}

fn count(name: Name, times: u64, threads: u64) -> Result {
    let threads = threads.clamp(1, MAX_THREADS);
    for c in [&WON, &LOST, &UNKNOWN, &FAILED, &NANOS] {
        c.store(0, Relaxed);
    }
    let began = machine::monotonic_ns();
    let shared = Arc::pin_init(
        pin_init!(Shared {
            left: Atomic::new(threads),
            ended <- Event::new(),
        }),
        GFP_KERNEL,
    )?;
    let mut all = KVec::with_capacity(MAX_THREADS as usize, GFP_KERNEL)?; // CAST: small.
    for _ in 0..threads {
        let mine = shared.clone();
        let thread = KThread::run(c"clms_count", move || {
            add_many(name, times);
            mine.leave();
        });
        match thread {
            Ok(t) => all.push(t, GFP_KERNEL)?,
            Err(_) => shared.leave(),
        }
    }
    shared.ended.wait_until(|| shared.left.load(Relaxed) == 0);
    drop(all);
    NANOS.store(machine::monotonic_ns().saturating_sub(began), Relaxed);
    Ok(())
}

fn store(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 320];
    let line = buf.get_mut(..reader.len()).ok_or(E2BIG)?;
    reader.read_slice(line)?;
    let mut words = line.trim_ascii().splitn(4, |c| *c == b' ');
    let what = words.next().ok_or(EINVAL)?;
    if what == b"watch" {
        return watch_anew();
    }
    let name = Name::new(words.next().ok_or(EINVAL)?)?;
    match what {
        b"set" => set(name, Some(Value::new(words.next().unwrap_or(&[]))?)),
        b"delete" => set(name, None),
        b"count" => {
            let times = number(words.next().ok_or(EINVAL)?)?;
            count(name, times, number(words.next().ok_or(EINVAL)?)?)
        }
        b"candidate" => candidate(name),
        b"withdraw" => withdraw(name),
        _ => Err(EINVAL),
    }
}

/// Bytes, printable ones as they are.
struct Text<'a>(&'a [u8]);

impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in self.0 {
            let c = if b.is_ascii_graphic() { *b } else { b'.' };
            write!(f, "{}", char::from(c))?;
        }
        Ok(())
    }
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(r) = thread::replica() {
        let (seq, ready, leads) = r.look(|c| (c.seq(), c.is_ready(), c.leads()));
        let view = r.view();
        writeln!(
            f,
            "view {view} seq {seq} ready {} leads {}",
            u8::from(ready),
            u8::from(leads)
        )?;
        let mut version = 0;
        while let Some(record) = r.after(version) {
            version = record.version;
            writeln!(
                f,
                "record {} {version} {}",
                Text(record.name.as_bytes()),
                Text(&record.value)
            )?;
            if let Some(service) = record.name.as_bytes().strip_prefix(keys::PREFIX) {
                let server = keys::server(service).ok().flatten();
                writeln!(
                    f,
                    "server {} {}",
                    Text(service),
                    server.map_or(0, NodeId::number)
                )?;
            }
        }
    }
    {
        let told = TOLD.lock();
        for (name, version) in told.records.iter() {
            writeln!(f, "told {} {version}", Text(name.as_bytes()))?;
        }
        writeln!(f, "order {}", told.disorder)?;
    }
    for (name, i, _) in TESTS.lock().candidates.iter() {
        let server = SERVERS.get(*i).filter(|s| s.told.load(Relaxed) > 0);
        if let Some(s) = server {
            writeln!(
                f,
                "serves {} {}",
                Text(name.as_bytes()),
                s.before.load(Relaxed)
            )?;
        }
    }
    writeln!(
        f,
        "run won {} lost {} unknown {} failed {} ns {}",
        WON.load(Relaxed),
        LOST.load(Relaxed),
        UNKNOWN.load(Relaxed),
        FAILED.load(Relaxed),
        NANOS.load(Relaxed),
    )
}

/// The file. Dropping it removes it, then the candidates and the watch that tests have left.
#[pin_data(PinnedDrop)]
pub(crate) struct Debugfs {
    #[pin]
    file: File<()>,
}

#[pinned_drop]
impl PinnedDrop for Debugfs {
    fn drop(self: Pin<&mut Self>) {
        let left = {
            let mut tests = TESTS.lock();
            (core::mem::take(&mut tests.candidates), tests.watch.take())
        };
        drop(left);
    }
}

impl Debugfs {
    /// Makes the file. Once, at module load.
    ///
    /// # Errors
    /// `ENODEV` without the folder; `ENOMEM`.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        // SAFETY: Called exactly once, from module init.
        unsafe { TESTS.init() };
        // SAFETY: As above.
        unsafe { TOLD.init() };
        let dir = ssi::debugfs::dir().ok_or(ENODEV)?;
        KBox::try_pin_init(
            try_pin_init!(Self {
                file <- dir.read_write_callback_file(c"registry", (), &show, &store),
            }? Error),
            GFP_KERNEL,
        )
    }
}
