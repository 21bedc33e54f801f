// SPDX-License-Identifier: GPL-2.0

//! Credentials that cross nodes.

use crate::bindings;
use crate::wire::Le32;
use crate::wire::Le64;
use kernel::error::from_err_ptr;
use kernel::error::to_result;
use kernel::prelude::*;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

/// The largest number of supplementary groups that crosses.
pub const MAX_GROUPS: usize = bindings::SSI_CRED_GROUPS as usize;

/// Credentials in wire form. Only the initial user namespace's cross.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct WireCred {
    /// uid, gid, suid, sgid, euid, egid, fsuid, fsgid.
    pub ids: [Le32; 8],
    /// Capabilities: inheritable, permitted, effective, bounding, ambient.
    pub caps: [Le64; 5],
    /// `cred.securebits`.
    pub securebits: Le32,
    /// Whether `PR_SET_NO_NEW_PRIVS` is set: 0 or 1.
    pub no_new_privs: Le32,
    /// How many of `groups` count.
    pub n_groups: Le32,
    /// Supplementary groups.
    pub groups: [Le32; MAX_GROUPS],
}

impl WireCred {
    /// The credentials of the current task.
    ///
    /// # Errors
    /// `EXDEV` in another user namespace than the first; `EOPNOTSUPP` with more than [`MAX_GROUPS`] groups.
    pub fn current() -> Result<Self> {
        let mut c = bindings::ssi_cred::default();
        // SAFETY: `c` is ours and lives through the call.
        to_result(unsafe { bindings::pproc_cred_get(&mut c) })?;
        Ok(Self {
            ids: [
                c.uid, c.gid, c.suid, c.sgid, c.euid, c.egid, c.fsuid, c.fsgid,
            ]
            .map(Le32::new),
            caps: [
                c.cap_inheritable,
                c.cap_permitted,
                c.cap_effective,
                c.cap_bset,
                c.cap_ambient,
            ]
            .map(Le64::new),
            securebits: Le32::new(c.securebits),
            no_new_privs: Le32::new(c.no_new_privs),
            n_groups: Le32::new(c.ngroups),
            groups: c.groups.map(Le32::new),
        })
    }

    fn to_c(self) -> bindings::ssi_cred {
        let [uid, gid, suid, sgid, euid, egid, fsuid, fsgid] = self.ids.map(Le32::get);
        let [cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient] =
            self.caps.map(Le64::get);
        bindings::ssi_cred {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            cap_inheritable,
            cap_permitted,
            cap_effective,
            cap_bset,
            cap_ambient,
            securebits: self.securebits.get(),
            no_new_privs: self.no_new_privs.get(),
            ngroups: self.n_groups.get(),
            groups: self.groups.map(Le32::get),
        }
    }

    /// Runs `f` with these credentials in place of the current task's.
    ///
    /// # Errors
    /// `EINVAL` for credentials no task can have; `ENOMEM`; then what `f` gives.
    pub fn act<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let c = self.to_c();
        // SAFETY: `c` lives through the call.
        let old = from_err_ptr(unsafe { bindings::pproc_cred_push(&c).cast_mut() })?;
        let ret = f();
        // SAFETY: `old` is what the push above returned, and this is its one pop.
        unsafe { bindings::pproc_cred_pop(old) };
        ret
    }

    /// Makes these the credentials of the current process.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn commit(&self) -> Result {
        let c = self.to_c();
        // SAFETY: `c` lives through the call.
        to_result(unsafe { bindings::pproc_cred_commit(&c) })
    }
}
