// SPDX-License-Identifier: GPL-2.0

//! The membership's generic netlink family (`Documentation/netlink/ssi_clms.yaml`), as a trait.

use crate::bindings;
use crate::clms_history;
use crate::clms_history::Historian;
use crate::ids::NodeId;
use crate::net::Ipv4;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::str::CStr;

/// The most nodes of a table.
pub const MAX_NODES: usize = bindings::SSI_CLMS_MAX_NODES as usize;

/// A row of a join's table.
pub struct JoinNode<'a> {
    /// Its number.
    pub node: NodeId,
    /// Its name, for people.
    pub name: &'a [u8],
    /// Its addresses, one per link.
    pub addresses: KVec<Ipv4>,
    /// Its port.
    pub port: u16,
}

/// What a join asks.
pub struct Join<'a>(&'a bindings::ssi_clms_join);

/// Bytes of a C string in an array.
fn text(array: &[c_char]) -> &[u8] {
    let bytes: &[u8] = array;
    let n = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.get(..n).unwrap_or(&[])
}

/// Writes a C string into an array; cuts what does not fit.
pub(crate) fn set_text(array: &mut [c_char], s: &[u8]) {
    let room = array.len().saturating_sub(1);
    for (to, from) in array.iter_mut().take(room).zip(s) {
        *to = *from;
    }
}

impl Join<'_> {
    /// Name of the cluster.
    pub fn name(&self) -> &[u8] {
        text(&self.0.name)
    }

    /// The cluster key.
    pub fn key(&self) -> &[u8] {
        self.0
            .key
            .get(..self.0.key_len as usize)
            .unwrap_or(&self.0.key)
    }

    /// The node that joins.
    pub fn this(&self) -> Option<NodeId> {
        NodeId::new(self.0.this_node)
    }

    /// Milliseconds without a heartbeat after which a node is taken for dead; 0: the default.
    pub fn detect_ms(&self) -> u32 {
        self.0.detect_ms
    }

    /// The table.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a number that no node can have.
    pub fn nodes(&self) -> Result<KVec<JoinNode<'_>>> {
        let mut out = KVec::new();
        for n in self.0.nodes.iter().take(self.0.n_nodes as usize) {
            let mut addresses = KVec::new();
            for a in n.addresses.iter().take(n.n_addresses as usize) {
                addresses.push(Ipv4(*a), GFP_KERNEL)?;
            }
            let node = JoinNode {
                node: NodeId::new(n.id).ok_or(EINVAL)?,
                name: text(&n.name),
                addresses,
                port: n.port,
            };
            out.push(node, GFP_KERNEL)?;
        }
        Ok(out)
    }
}

/// The answer to `status`, to be filled in.
pub struct Status<'a>(&'a mut bindings::ssi_clms_status);

impl Status<'_> {
    /// The own state; all that a node that has not joined says.
    pub fn set_state(&mut self, state: u32) {
        self.0.state = state;
    }

    /// The cluster.
    pub fn set_cluster(
        &mut self,
        name: &[u8],
        this: NodeId,
        view: u64,
        quorate: bool,
        master: Option<NodeId>,
    ) {
        set_text(&mut self.0.name, name);
        self.0.this_node = this.number();
        self.0.view = view;
        self.0.quorate = u32::from(quorate);
        self.0.master = master.map_or(0, NodeId::number);
    }

    /// Adds a node; one too many is left out.
    pub fn add_node(&mut self, node: NodeId, name: &[u8], state: u32, incarnation: u64) {
        if let Some(n) = self.0.nodes.get_mut(self.0.n_nodes as usize) {
            n.id = node.number();
            n.state = state;
            n.incarnation = incarnation;
            set_text(&mut n.name, name);
            self.0.n_nodes += 1;
        }
    }
}

/// A refusal: an errno and a text that says which object, which node, what next.
pub struct Refusal(pub Error, pub Option<&'static CStr>);

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self(e, None)
    }
}

/// Answers for the family. Called in the asker's context; may sleep.
pub trait Answerer: Send + Sync + 'static {
    /// `status`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn status(s: &mut Status<'_>) -> Result;

    /// `join`. Returns when this node is up.
    ///
    /// # Errors
    /// Why it was refused.
    fn join(j: &Join<'_>) -> core::result::Result<(), Refusal>;

    /// `leave`.
    ///
    /// # Errors
    /// What holds this node.
    fn leave() -> core::result::Result<(), Refusal>;
}

/// The registered family. Dropping it waits until nobody is answered any more.
pub struct Registration<T>(PhantomData<T>);

impl<T: Answerer + Historian> Registration<T> {
    /// Registers the family.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`.
    pub fn new() -> Result<Self> {
        let history = &clms_history::Adapter::<T>::OPS;
        // SAFETY: The tables are constant; Drop takes them back.
        to_result(unsafe { bindings::ssi_clms_nl_register(&Adapter::<T>::OPS, history) })?;
        Ok(Self(PhantomData))
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: `self` proves that it is registered.
        unsafe { bindings::ssi_clms_nl_unregister() }
    }
}

struct Adapter<T>(PhantomData<T>);

/// Gives C errno and text.
///
/// # Safety
/// `why` is writable.
pub(crate) unsafe fn refuse(
    r: core::result::Result<(), Refusal>,
    why: *mut *const c_char,
) -> c_int {
    match r {
        Ok(()) => 0,
        Err(Refusal(e, text)) => {
            if let Some(t) = text {
                // SAFETY: By the contract; the text is static.
                unsafe { *why = t.as_char_ptr() };
            }
            e.to_errno()
        }
    }
}

impl<T: Answerer> Adapter<T> {
    const OPS: bindings::ssi_clms_ops = bindings::ssi_clms_ops {
        status: Some(Self::status),
        join: Some(Self::join),
        leave: Some(Self::leave),
    };

    /// # Safety
    /// `st` is valid, zeroed and exclusive.
    unsafe extern "C" fn status(st: *mut bindings::ssi_clms_status) -> c_int {
        // SAFETY: By the contract.
        let mut s = Status(unsafe { &mut *st });
        match T::status(&mut s) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// `j` is valid, `why` is writable.
    unsafe extern "C" fn join(j: *const bindings::ssi_clms_join, why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        let j = Join(unsafe { &*j });
        // SAFETY: By the contract.
        unsafe { refuse(T::join(&j), why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn leave(why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::leave(), why) }
    }
}
