// SPDX-License-Identifier: GPL-2.0

//! Who cleans up in user space when a node has gone down, as the netlink family `ssi_clms` has it.

use crate::bindings;
use crate::clms_netlink::refuse;
use crate::clms_netlink::Refusal;
use crate::ids::Incarnation;
use crate::ids::NodeId;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::prelude::*;

/// Answers about the cleaner. Called in the context of the asker, or of who closes a socket; may sleep.
pub trait Answerer: Send + Sync + 'static {
    /// `cleaner`: the owner of that socket is to clean. Gives the last transition before.
    ///
    /// # Errors
    /// `EBUSY` somebody else is.
    fn begin(port: u32) -> core::result::Result<u64, Refusal>;

    /// `cleaned`: the programs for that life are over.
    ///
    /// # Errors
    /// `ENOENT` it is not UCLEANUP; `ENOTCONN` this node has not joined.
    fn cleaned(node: NodeId, incarnation: Incarnation) -> core::result::Result<(), Refusal>;

    /// A socket is closed, anybody's.
    fn closed(port: u32);
}

/// `T` answers as long as this lives. To be made before the family is registered, and dropped after it.
pub struct Registration<T>(PhantomData<T>);

impl<T: Answerer> Registration<T> {
    const OPS: bindings::ssi_clms_cleaner_ops = bindings::ssi_clms_cleaner_ops {
        begin: Some(Self::begin),
        cleaned: Some(Self::cleaned),
        closed: Some(Self::closed),
    };

    /// Lets it answer.
    ///
    /// # Errors
    /// `EEXIST`.
    pub fn new() -> Result<Self> {
        // SAFETY: The table is constant; Drop takes it back.
        to_result(unsafe { bindings::ssi_clms_cleaner_register(&Self::OPS) })?;
        Ok(Self(PhantomData))
    }

    /// # Safety
    /// `id` and `why` are writable.
    unsafe extern "C" fn begin(port: u32, id: *mut u64, why: *mut *const c_char) -> c_int {
        let r = T::begin(port).map(|last| {
            // SAFETY: By the contract.
            unsafe { *id = last }
        });
        // SAFETY: By the contract.
        unsafe { refuse(r, why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn cleaned(node: u32, incarnation: u64, why: *mut *const c_char) -> c_int {
        let r = NodeId::new(node).ok_or(EINVAL.into());
        let r = r.and_then(|node| T::cleaned(node, Incarnation(incarnation)));
        // SAFETY: By the contract.
        unsafe { refuse(r, why) }
    }

    extern "C" fn closed(port: u32) {
        T::closed(port);
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: `self` proves that it is registered.
        unsafe { bindings::ssi_clms_cleaner_unregister() }
    }
}
