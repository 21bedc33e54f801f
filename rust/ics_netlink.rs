// SPDX-License-Identifier: GPL-2.0

//! The interconnect's generic netlink family (`Documentation/netlink/ssi_ics.yaml`), as a trait.

use crate::bindings;
use crate::clms_netlink::refuse;
use crate::clms_netlink::set_text;
use crate::clms_netlink::Refusal;
use crate::ids::NodeId;
use crate::net::Ipv4;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::prelude::*;

/// Classes of latencies.
pub const BUCKETS: usize = bindings::SSI_ICS_N_BUCKETS as usize;

/// An op of a service.
pub struct OpNames<'a> {
    /// Name of the service.
    pub service: &'a [u8],
    /// Name of the op.
    pub op: &'a [u8],
    /// Number of the service.
    pub service_id: u16,
    /// Number of the op.
    pub op_id: u16,
    /// Its class.
    pub class: u8,
}

/// What calls of an op came to.
pub struct OpCounts {
    /// Begun.
    pub calls: u64,
    /// Ended with a reply.
    pub replies: u64,
    /// Ended without one.
    pub errors: u64,
    /// Of requests.
    pub bytes_out: u64,
    /// Of replies.
    pub bytes_in: u64,
    /// Answered here.
    pub served: u64,
    /// Of those, refused.
    pub served_errors: u64,
    /// How many took how long.
    pub latency: [u64; BUCKETS],
}

/// The answer to `op-get` for one op, to be filled in.
pub struct OpRow<'a>(&'a mut bindings::ssi_ics_op);

impl OpRow<'_> {
    /// Fills it in; names that are too long are cut.
    pub fn set(&mut self, names: &OpNames<'_>, counts: &OpCounts) {
        let to = &mut *self.0;
        set_text(&mut to.service, names.service);
        set_text(&mut to.op, names.op);
        to.service_id = names.service_id;
        to.op_id = names.op_id;
        to.class = names.class.into();
        to.calls = counts.calls;
        to.replies = counts.replies;
        to.errors = counts.errors;
        to.bytes_out = counts.bytes_out;
        to.bytes_in = counts.bytes_in;
        to.served = counts.served;
        to.served_errors = counts.served_errors;
        to.latency = counts.latency;
    }
}

/// What a link does, as in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing.
    Idle = 0,
    /// It carries the stream.
    Used = 1,
    /// It misses heartbeats.
    Silent = 2,
    /// It is not one link.
    Unknown = 3,
}

/// What a link to a node came to.
pub struct LinkCounts {
    /// Streams that passed admission.
    pub streams: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames dealt with.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Requests sent again.
    pub resent: u64,
}

/// The answer to `link-get` for one link, to be filled in.
pub struct LinkRow<'a>(&'a mut bindings::ssi_ics_link);

impl LinkRow<'_> {
    /// Fills it in. `link` counts from 1; 0: those that are not known.
    pub fn set(
        &mut self,
        node: NodeId,
        link: u32,
        address: Ipv4,
        state: LinkState,
        counts: &LinkCounts,
    ) {
        let to = &mut *self.0;
        to.node = node.number();
        to.link = link;
        to.address = address.0;
        to.state = state as u32;
        to.streams = counts.streams;
        to.frames_out = counts.frames_out;
        to.bytes_out = counts.bytes_out;
        to.frames_in = counts.frames_in;
        to.bytes_in = counts.bytes_in;
        to.resent = counts.resent;
    }
}

/// What a second key is to the one in use, as in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondKey {
    /// There is none.
    None = 0,
    /// The next one.
    Next = 1,
    /// The old one.
    Old = 2,
}

/// The answer to `key-get` for one node, to be filled in.
pub struct KeyRow<'a>(&'a mut bindings::ssi_ics_key);

impl KeyRow<'_> {
    /// Fills it in, with fingerprints.
    pub fn set(&mut self, node: NodeId, used: u64, second: u64, what: SecondKey) {
        let to = &mut *self.0;
        to.node = node.number();
        to.used = used;
        to.second = second;
        to.second_is = what as u32;
    }
}

/// What came of a request.
pub type Answer = core::result::Result<(), Refusal>;

/// Answers for the family. Called in the asker's context; may sleep.
pub trait Answerer: Send + Sync + 'static {
    /// `op-get`: fills row `n` in; rows count from 0.
    ///
    /// # Errors
    /// `ENOENT` after the last one.
    fn op(n: usize, row: &mut OpRow<'_>) -> Result;

    /// `link-get`, likewise.
    ///
    /// # Errors
    /// `ENOENT` after the last one.
    fn link(n: usize, row: &mut LinkRow<'_>) -> Result;

    /// `key-get`, likewise: first this node.
    ///
    /// # Errors
    /// `ENOENT` after the last one.
    fn key(n: usize, row: &mut KeyRow<'_>) -> Result;

    /// `key-stage`.
    ///
    /// # Errors
    /// Why it was refused.
    fn key_stage(secret: &[u8]) -> Answer;

    /// `key-unstage`.
    ///
    /// # Errors
    /// Why it was refused.
    fn key_unstage() -> Answer;

    /// `key-switch`, to the key with that fingerprint.
    ///
    /// # Errors
    /// Why it was refused.
    fn key_switch(print: u64) -> Answer;

    /// `key-drop`: all but the key with that fingerprint.
    ///
    /// # Errors
    /// Why it was refused.
    fn key_drop(print: u64) -> Answer;
}

/// The registered family. Dropping it waits until nobody is being answered.
pub struct Registration<T>(PhantomData<T>);

impl<T: Answerer> Registration<T> {
    /// Registers the family.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: The table is constant; Drop takes it back.
        to_result(unsafe { bindings::ssi_ics_nl_register(&Adapter::<T>::OPS) })?;
        Ok(Self(PhantomData))
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: `self` proves that it is registered.
        unsafe { bindings::ssi_ics_nl_unregister() }
    }
}

struct Adapter<T>(PhantomData<T>);

fn errno(r: Result) -> c_int {
    r.map_or_else(Error::to_errno, |()| 0)
}

impl<T: Answerer> Adapter<T> {
    const OPS: bindings::ssi_ics_ops = bindings::ssi_ics_ops {
        op: Some(Self::op),
        link: Some(Self::link),
        key: Some(Self::key),
        key_stage: Some(Self::key_stage),
        key_unstage: Some(Self::key_unstage),
        key_switch: Some(Self::key_switch),
        key_drop: Some(Self::key_drop),
    };

    /// # Safety
    /// `row` is valid, zeroed and exclusive.
    unsafe extern "C" fn op(n: u32, row: *mut bindings::ssi_ics_op) -> c_int {
        // SAFETY: By the contract.
        let mut row = OpRow(unsafe { &mut *row });
        errno(T::op(n as usize, &mut row))
    }

    /// # Safety
    /// `row` is valid, zeroed and exclusive.
    unsafe extern "C" fn link(n: u32, row: *mut bindings::ssi_ics_link) -> c_int {
        // SAFETY: By the contract.
        let mut row = LinkRow(unsafe { &mut *row });
        errno(T::link(n as usize, &mut row))
    }

    /// # Safety
    /// `row` is valid, zeroed and exclusive.
    unsafe extern "C" fn key(n: u32, row: *mut bindings::ssi_ics_key) -> c_int {
        // SAFETY: By the contract.
        let mut row = KeyRow(unsafe { &mut *row });
        errno(T::key(n as usize, &mut row))
    }

    /// # Safety
    /// `secret` is readable for `len` bytes, `why` is writable.
    unsafe extern "C" fn key_stage(secret: *const u8, len: u32, why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        let secret = unsafe { core::slice::from_raw_parts(secret, len as usize) };
        // SAFETY: By the contract.
        unsafe { refuse(T::key_stage(secret), why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn key_unstage(why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::key_unstage(), why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn key_switch(print: u64, why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::key_switch(print), why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn key_drop(print: u64, why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::key_drop(print), why) }
    }
}
