// SPDX-License-Identifier: GPL-2.0

//! What an image begins with: who the process is and what it keeps over an exec. Version 1.

use kernel::prelude::*;
use ssi::cred::WireCred;
use ssi::ids::ClusterPid;
use ssi::movement::ExecState;
use ssi::movement::Spawn;
use ssi::pproc::Ids;
use ssi::wire::Le32;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// Version of the image's layout.
const VERSION: u32 = 1;

/// The fixed part of every image.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub(crate) struct Header {
    version: Le32,
    ppid: Le32,
    pgid: Le32,
    sid: Le32,
    exit_signal: Le32,
    session_leader: Le32,
    /// Bytes of the files part, which follows.
    pub(crate) files_len: Le32,
    /// Bytes of the records of children after it, each `child u32, pgid u32`.
    pub(crate) children_len: Le32,
    /// Of a moved process: bytes of the task part after that. The mappings are the rest.
    pub(crate) task_len: Le32,
    reserved: Le32,
    /// Credentials.
    pub(crate) cred: WireCred,
    /// What it keeps over an exec.
    pub(crate) exec: ExecState,
}

/// The parts of an image after its header.
pub(crate) struct Parts<'a> {
    /// Open files.
    pub(crate) files: &'a [u8],
    /// Children left behind.
    pub(crate) children: &'a [u8],
    /// Of a moved process: the task.
    pub(crate) task: &'a [u8],
    /// Of a moved process: its mappings; else the program to start.
    pub(crate) rest: &'a [u8],
}

impl Header {
    /// Splits what follows the header.
    ///
    /// # Errors
    /// `EPROTO` if it is shorter than the header says.
    pub(crate) fn parts<'a>(&self, bytes: &'a [u8]) -> Result<Parts<'a>> {
        let split = |b: &'a [u8], len: Le32| b.split_at_checked(len.get() as usize).ok_or(EPROTO);
        let (files, bytes) = split(bytes, self.files_len)?;
        let (children, bytes) = split(bytes, self.children_len)?;
        let (task, rest) = split(bytes, self.task_len)?;
        Ok(Parts {
            files,
            children,
            task,
            rest,
        })
    }

    /// That of the current process, which may leave as `ids` say.
    ///
    /// # Errors
    /// Those of `WireCred::current`.
    pub(crate) fn capture(ids: &Ids, session_leader: bool, ppid: ClusterPid) -> Result<Self> {
        Ok(Self {
            version: Le32::new(VERSION),
            ppid: Le32::new(ppid.0),
            pgid: Le32::new(ids.pgid.0),
            sid: Le32::new(ids.sid.0),
            exit_signal: Le32::new(ids.exit_signal as u32), // CAST: same bits.
            session_leader: Le32::new(u32::from(session_leader)),
            files_len: Le32::new(0),
            children_len: Le32::new(0),
            task_len: Le32::new(0),
            reserved: Le32::new(0),
            cred: WireCred::current()?,
            exec: ExecState::capture(),
        })
    }

    /// Who the process is.
    ///
    /// # Errors
    /// `EPROTO` for another version or numbers that no process can have.
    pub(crate) fn spawn(&self, nr: ClusterPid, movement: u64) -> Result<Spawn> {
        let s = Spawn {
            movement,
            nr,
            ppid: ClusterPid(self.ppid.get()),
            pgid: ClusterPid(self.pgid.get()),
            sid: ClusterPid(self.sid.get()),
            exit_signal: self.exit_signal.get() as i32, // CAST: same bits.
            session_leader: self.session_leader.get() != 0,
        };
        let cluster_wide = |p: ClusterPid| p.origin().is_some();
        if self.version.get() != VERSION
            || ![s.nr, s.ppid, s.pgid, s.sid].into_iter().all(cluster_wide)
            || !(0..=64).contains(&s.exit_signal)
        {
            return Err(EPROTO);
        }
        Ok(s)
    }
}
