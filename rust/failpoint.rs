// SPDX-License-Identifier: GPL-2.0

//! Named places where a test makes a node die, hang, lose a message or fail.
//!
//! `/sys/kernel/debug/ssi/failpoints` lists `name hits armed`. Writing `NAME=panic|hang|drop|delay:MS|errno:N[@HIT]`
//! arms a point (HIT counts from then, 1 by default), `NAME=off` disarms it, `reset` zeroes the counters. Points cost one
//! load and are not counted until something has been written.

use crate::machine;
use kernel::debugfs::Dir;
use kernel::debugfs::File;
use kernel::error::Error;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::global_lock;
use kernel::uaccess::UserSliceReader;

const POINTS_MAX: usize = 256;
const NAME_MAX: usize = 48;

/// What [`hit`] returns where a message or an effect must be lost: the caller skips it and goes on.
pub const DROP: Error = ECANCELED;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Panic,
    Hang,
    Drop,
    Delay(u32),
    Errno(i32),
}

#[derive(Clone, Copy)]
struct Armed {
    action: Action,
    /// Hits still to come, this one included.
    hits: u32,
}

#[derive(Clone, Copy)]
struct Point {
    name: [u8; NAME_MAX],
    len: usize,
    hits: u64,
    armed: Option<Armed>,
}

impl Point {
    const EMPTY: Self = Self {
        name: [0; NAME_MAX],
        len: 0,
        hits: 0,
        armed: None,
    };

    fn name(&self) -> &[u8] {
        self.name.get(..self.len).unwrap_or(&[])
    }
}

struct Table {
    points: [Point; POINTS_MAX],
    n: usize,
}

impl Table {
    fn find(&mut self, name: &[u8]) -> Option<&mut Point> {
        let i = match self
            .points
            .iter()
            .take(self.n)
            .position(|p| p.name() == name)
        {
            Some(i) => i,
            None => {
                let p = self.points.get_mut(self.n)?;
                p.name.get_mut(..name.len())?.copy_from_slice(name);
                p.len = name.len();
                self.n += 1;
                self.n - 1
            }
        };
        self.points.get_mut(i)
    }
}

global_lock! {
    // SAFETY: `init()` below is called once, by the module's init, before anything else of this crate.
    /// Lock: level 90 `ssi::failpoints`, spin: innermost.
    unsafe(uninit) static TABLE: SpinLock<Table> = Table { points: [Point::EMPTY; POINTS_MAX], n: 0 };
}

/// Prepares the table. Called once, by this crate's module.
pub(crate) fn init() {
    // SAFETY: Called exactly once, by the module's init.
    unsafe { TABLE.init() }
}

/// Whether anybody has written to the file: 0 no, 1 yes.
static IN_USE: Atomic<u32> = Atomic::new(0);

/// Whether points are counted and may be armed.
#[inline]
fn in_use() -> bool {
    IN_USE.load(Relaxed) != 0
}

/// Counts a visit of the point `name`, at most 48 characters of the form `subsystem.what.role.step`. May sleep.
///
/// # Errors
/// Those armed with `errno:`; [`DROP`] if armed with `drop`.
#[inline]
pub fn hit(name: &'static str) -> Result {
    if !in_use() {
        return Ok(());
    }
    hit_counted(name)
}

#[cold]
fn hit_counted(name: &'static str) -> Result {
    let action = {
        let mut table = TABLE.lock();
        let Some(point) = table.find(name.as_bytes()) else {
            return Ok(());
        };
        point.hits = point.hits.wrapping_add(1);
        match point.armed.as_mut() {
            Some(armed) if armed.hits > 1 => {
                armed.hits -= 1;
                None
            }
            Some(armed) => {
                let action = armed.action;
                point.armed = None;
                Some(action)
            }
            None => None,
        }
    };
    match action {
        None => Ok(()),
        Some(Action::Panic) => {
            pr_emerg!("failpoint {}: panic\n", name);
            machine::die()
        }
        Some(Action::Hang) => {
            pr_info!("failpoint {}: hang\n", name);
            while !kernel::current!().signal_pending() {
                machine::sleep_ms(1000);
            }
            Err(EINTR)
        }
        Some(Action::Drop) => Err(DROP),
        Some(Action::Delay(ms)) => {
            machine::sleep_ms(ms);
            Ok(())
        }
        Some(Action::Errno(n)) => Err(Error::from_errno(-n)),
    }
}

fn number(text: &[u8]) -> Result<u32> {
    if text.is_empty() {
        return Err(EINVAL);
    }
    text.iter().try_fold(0u32, |n, c| {
        let digit = c.checked_sub(b'0').filter(|d| *d < 10).ok_or(EINVAL)?;
        n.checked_mul(10)
            .and_then(|n| n.checked_add(digit.into()))
            .ok_or(EINVAL)
    })
}

fn split(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|c| *c == at) {
        Some(i) => (
            text.get(..i).unwrap_or(&[]),
            Some(text.get(i + 1..).unwrap_or(&[])),
        ),
        None => (text, None),
    }
}

/// Carries out one written line.
fn command(line: &[u8]) -> Result {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(());
    }
    if line == b"reset" {
        let mut table = TABLE.lock();
        table.points.iter_mut().for_each(|p| p.hits = 0);
        return Ok(());
    }
    let (name, action) = split(line, b'=');
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(EINVAL);
    }
    let (action, hits) = split(action.ok_or(EINVAL)?, b'@');
    let hits = hits.map_or(Ok(1), number)?.max(1);
    let (verb, arg) = split(action, b':');
    let action = match (verb, arg) {
        (b"off", None) => None,
        (b"panic", None) => Some(Action::Panic),
        (b"hang", None) => Some(Action::Hang),
        (b"drop", None) => Some(Action::Drop),
        (b"delay", Some(ms)) => Some(Action::Delay(number(ms)?)),
        (b"errno", Some(n)) => Some(Action::Errno(
            i32::try_from(number(n)?)
                .ok()
                .filter(|n| (1..4096).contains(n))
                .ok_or(EINVAL)?,
        )),
        _ => return Err(EINVAL),
    };
    let mut table = TABLE.lock();
    table.find(name).ok_or(ENOSPC)?.armed = action.map(|action| Armed { action, hits });
    Ok(())
}

/// The debugfs file.
#[pin_data]
pub(crate) struct Debugfs {
    #[pin]
    file: File<()>,
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut i = 0;
    loop {
        // One at a time: formatting may sleep.
        let point = {
            let table = TABLE.lock();
            match table.points.get(i) {
                Some(p) if i < table.n => *p,
                _ => return Ok(()),
            }
        };
        i += 1;
        let name = core::str::from_utf8(point.name()).unwrap_or("?");
        writeln!(
            f,
            "{} {} {}",
            name,
            point.hits,
            u8::from(point.armed.is_some())
        )?;
    }
}

fn store(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 256];
    let n = reader.len();
    let text = buf.get_mut(..n).ok_or(E2BIG)?;
    reader.read_slice(text)?;
    IN_USE.store(1, Relaxed);
    text.split(|c| *c == b'\n').try_for_each(command)
}

impl Debugfs {
    pub(crate) fn new(dir: &Dir) -> impl PinInit<Self, Error> + '_ {
        try_pin_init!(Self {
            file <- dir.read_write_callback_file(c"failpoints", (), &show, &store),
        })
    }
}
