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
    /// It is fenced when it is lost.
    pub fenced: bool,
    /// What it counts in a majority.
    pub votes: u8,
    /// It has a vote, and no processes.
    pub is_witness: bool,
    /// Its place in the table.
    pub place: usize,
}

/// Rows of a table.
///
/// # Errors
/// `ENOMEM`; `EINVAL` for a number that no node can have.
fn rows(given: &[bindings::ssi_clms_node], n: u32) -> Result<KVec<JoinNode<'_>>> {
    let mut out = KVec::new();
    for n in given.iter().take(n as usize) {
        let mut addresses = KVec::new();
        for a in n.addresses.iter().take(n.n_addresses as usize) {
            addresses.push(Ipv4(*a), GFP_KERNEL)?;
        }
        let node = JoinNode {
            node: NodeId::new(n.id).ok_or(EINVAL)?,
            name: text(&n.name),
            addresses,
            port: n.port,
            fenced: n.fence != 0,
            votes: u8::try_from(n.votes).map_err(|_| EINVAL)?,
            is_witness: n.witness != 0,
            place: n.place as usize,
        };
        out.push(node, GFP_KERNEL)?;
    }
    Ok(out)
}

/// A table of nodes that somebody gives.
pub struct Table<'a>(&'a bindings::ssi_clms_table);

impl Table<'_> {
    /// How many changes it has seen.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// It is only asked whether it is in force.
    pub fn asks(&self) -> bool {
        self.0.asks != 0
    }

    /// The rows.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a number that no node can have.
    pub fn nodes(&self) -> Result<KVec<JoinNode<'_>>> {
        rows(&self.0.nodes, self.0.n_nodes)
    }
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

    /// The one that is staged; empty if none is.
    pub fn next_key(&self) -> &[u8] {
        let len = self.0.next_key_len as usize;
        self.0.next_key.get(..len).unwrap_or(&self.0.next_key)
    }

    /// The one that is not dropped yet; empty if there is none.
    pub fn old_key(&self) -> &[u8] {
        let len = self.0.old_key_len as usize;
        self.0.old_key.get(..len).unwrap_or(&self.0.old_key)
    }

    /// The node that joins.
    pub fn this(&self) -> Option<NodeId> {
        NodeId::new(self.0.this_node)
    }

    /// Milliseconds without a heartbeat after which a node is taken for dead; 0: the default.
    pub fn detect_ms(&self) -> u32 {
        self.0.detect_ms
    }

    /// Digest of how nodes are fenced; 0: none is.
    pub fn fence_digest(&self) -> u64 {
        self.0.fence_digest
    }

    /// Milliseconds that a fence agent may take; 0: the default.
    pub fn fence_timeout_ms(&self) -> u32 {
        self.0.fence_timeout_ms
    }

    /// The table.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a number that no node can have.
    pub fn nodes(&self) -> Result<KVec<JoinNode<'_>>> {
        rows(&self.0.nodes, self.0.n_nodes)
    }

    /// How many changes the table has seen.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The table that is staged; without rows: none is.
    ///
    /// # Errors
    /// As [`Self::nodes`].
    pub fn next_nodes(&self) -> Result<KVec<JoinNode<'_>>> {
        rows(&self.0.next, self.0.n_next)
    }

    /// Its generation.
    pub fn next_generation(&self) -> u64 {
        self.0.next_generation
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

    /// The tables of this node, and whether its files have the one in force.
    pub fn set_tables(&mut self, tables: Tables, settled: bool) {
        self.0.table = tables.in_force;
        self.0.staged = tables.staged;
        self.0.settled = settled.into();
    }

    /// Adds a node; one too many is left out.
    pub fn add_node(
        &mut self,
        node: NodeId,
        name: &[u8],
        state: u32,
        incarnation: u64,
        is_witness: bool,
        (loss, tables): (&Loss, Tables),
    ) {
        if let Some(n) = self.0.nodes.get_mut(self.0.n_nodes as usize) {
            n.id = node.number();
            n.state = state;
            n.incarnation = incarnation;
            n.witness = is_witness.into();
            n.fence = loss.fence;
            n.detection_ms = loss.detection_ms;
            n.judgement_ms = loss.judgement_ms;
            n.table = tables.in_force;
            n.staged = tables.staged;
            set_text(&mut n.name, name);
            self.0.n_nodes += 1;
        }
    }
}

/// Digests of a node's tables; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tables {
    /// In force there.
    pub in_force: u64,
    /// Staged.
    pub staged: u64,
}

/// How a node was lost last, as the spec has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    /// Whether it is fenced, and how far that is.
    pub fence: u32,
    /// From its last sign of life to its loss; 0: it was not lost.
    pub detection_ms: u32,
    /// From then until it was judged dead; 0: it was not.
    pub judgement_ms: u32,
}

/// A fence agent that is to run on this node.
#[derive(Clone, Copy, Debug)]
pub struct FenceJob {
    /// The node to be switched off.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Number of the job.
    pub number: u32,
}

/// What somebody says of a fence agent.
pub struct Fenced<'a> {
    /// The node.
    pub node: NodeId,
    /// Its incarnation; 0: not said.
    pub incarnation: u64,
    /// Number of the job; 0: none.
    pub job: u32,
    /// 0: it is off.
    pub status: u32,
    /// Which agent, and what it said.
    pub text: &'a [u8],
    /// An agent has switched it off; else somebody takes the responsibility.
    pub by_agent: bool,
}

impl<'a> Fenced<'a> {
    fn new(f: &'a bindings::ssi_clms_fence) -> Option<Self> {
        Some(Self {
            node: NodeId::new(f.node)?,
            incarnation: f.incarnation,
            job: f.job,
            status: f.status,
            text: text(&f.text),
            by_agent: f.by_agent != 0,
        })
    }
}

/// How far the shutdown of a node is, as the spec has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShutdownState {
    /// Its stage.
    pub stage: u32,
    /// The errno for which it stayed; else 0.
    pub error: u32,
    /// Processes that went to other nodes.
    pub moved: u32,
    /// Processes that were told to end, and have.
    pub ended: u32,
    /// What keeps the node still.
    pub left: u32,
    /// A process among those; 0: none.
    pub process: u32,
}

/// Tells whoever runs fence agents on this node. Sleeps.
///
/// # Errors
/// `ESRCH` nobody does; `ENOMEM`; `ENOBUFS` it does not listen.
pub fn fence_wanted(job: &FenceJob) -> Result {
    let f = bindings::ssi_clms_fence {
        node: job.node.number(),
        job: job.number,
        incarnation: job.incarnation,
        ..Default::default()
    };
    // SAFETY: `f` is valid for the call.
    to_result(unsafe { bindings::ssi_clms_nl_fence_wanted(&f) })
}

/// Whether somebody on this node runs fence agents.
pub fn has_fenced() -> bool {
    // SAFETY: No preconditions: the family is there as long as the module is.
    unsafe { bindings::ssi_clms_nl_has_fenced() }
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

    /// `fence-list`: hands each job to `add`.
    fn fence_list(add: &mut dyn FnMut(FenceJob));

    /// `fence-done`.
    ///
    /// # Errors
    /// `ENOENT` nobody waits for that job.
    fn fence_done(f: &Fenced<'_>) -> core::result::Result<(), Refusal>;

    /// `fence-confirm`.
    ///
    /// # Errors
    /// Why it is not believed.
    fn fence_confirm(f: &Fenced<'_>) -> core::result::Result<(), Refusal>;

    /// `shutdown`. Returns when it has begun. `action` is the spec's number.
    ///
    /// # Errors
    /// Why it has not.
    fn shutdown(node: NodeId, action: u32, grace_ms: u32) -> core::result::Result<(), Refusal>;

    /// `shutdown-state`.
    ///
    /// # Errors
    /// `EHOSTDOWN` the node is down; `ENOTCONN` this one has not joined.
    fn shutdown_state(node: NodeId) -> Result<ShutdownState>;

    /// `table-stage`.
    ///
    /// # Errors
    /// Why it is not staged.
    fn table_stage(t: &Table<'_>) -> core::result::Result<(), Refusal>;

    /// `table-unstage`.
    ///
    /// # Errors
    /// Why it is not given up.
    fn table_unstage() -> core::result::Result<(), Refusal>;

    /// `table-settle`.
    ///
    /// # Errors
    /// Why it is not, or cannot be.
    fn table_settle(t: &Table<'_>) -> core::result::Result<(), Refusal>;
}

/// The registered family. Dropping it waits until nobody is answered any more; its owner cannot be removed while somebody waits.
pub struct Registration<T>(PhantomData<T>);

impl<T: Answerer + Historian> Registration<T> {
    /// Registers the family. The code of `T` is in `owner`, which somebody who waits for an answer holds.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`.
    pub fn new(owner: &'static ThisModule) -> Result<Self> {
        let history = &clms_history::Adapter::<T>::OPS;
        let owner = owner.as_ptr().cast();
        // SAFETY: The tables are constant; Drop takes them back. The module is there as long as its code runs.
        to_result(unsafe { bindings::ssi_clms_nl_register(&Adapter::<T>::OPS, history, owner) })?;
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
        fence_list: Some(Self::fence_list),
        fence_done: Some(Self::fence_done),
        fence_confirm: Some(Self::fence_confirm),
        shutdown: Some(Self::shutdown),
        shutdown_state: Some(Self::shutdown_state),
        table_stage: Some(Self::table_stage),
        table_unstage: Some(Self::table_unstage),
        table_settle: Some(Self::table_settle),
    };

    /// # Safety
    /// `t` is valid, `why` is writable.
    unsafe extern "C" fn table_stage(
        t: *const bindings::ssi_clms_table,
        why: *mut *const c_char,
    ) -> c_int {
        // SAFETY: By the contract.
        let t = Table(unsafe { &*t });
        // SAFETY: By the contract.
        unsafe { refuse(T::table_stage(&t), why) }
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn table_unstage(why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::table_unstage(), why) }
    }

    /// # Safety
    /// `t` is valid, `why` is writable.
    unsafe extern "C" fn table_settle(
        t: *const bindings::ssi_clms_table,
        why: *mut *const c_char,
    ) -> c_int {
        // SAFETY: By the contract.
        let t = Table(unsafe { &*t });
        // SAFETY: By the contract.
        unsafe { refuse(T::table_settle(&t), why) }
    }

    /// # Safety
    /// `s` is valid, `why` is writable.
    unsafe extern "C" fn shutdown(
        s: *const bindings::ssi_clms_shutdown,
        why: *mut *const c_char,
    ) -> c_int {
        // SAFETY: By the contract.
        let s = unsafe { &*s };
        let r = NodeId::new(s.node).ok_or(EINVAL.into());
        let r = r.and_then(|node| T::shutdown(node, s.action, s.grace_ms));
        // SAFETY: By the contract.
        unsafe { refuse(r, why) }
    }

    /// # Safety
    /// `s` is valid and exclusive.
    unsafe extern "C" fn shutdown_state(s: *mut bindings::ssi_clms_shutdown) -> c_int {
        // SAFETY: By the contract.
        let s = unsafe { &mut *s };
        let now = match NodeId::new(s.node)
            .ok_or(EINVAL)
            .and_then(T::shutdown_state)
        {
            Ok(now) => now,
            Err(e) => return e.to_errno(),
        };
        s.stage = now.stage;
        s.error = now.error;
        s.moved = now.moved;
        s.ended = now.ended;
        s.left = now.left;
        s.process = now.process;
        0
    }

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

    /// # Safety
    /// `fences` is valid, zeroed and exclusive.
    unsafe extern "C" fn fence_list(fences: *mut bindings::ssi_clms_fences) -> c_int {
        // SAFETY: By the contract.
        let fences = unsafe { &mut *fences };
        T::fence_list(&mut |job| {
            if let Some(f) = fences.all.get_mut(fences.n as usize) {
                f.node = job.node.number();
                f.incarnation = job.incarnation;
                f.job = job.number;
                fences.n += 1;
            }
        });
        0
    }

    /// # Safety
    /// `f` is valid, `why` is writable.
    unsafe extern "C" fn fence_done(
        f: *const bindings::ssi_clms_fence,
        why: *mut *const c_char,
    ) -> c_int {
        // SAFETY: By the contract.
        let f = unsafe { &*f };
        let r = Fenced::new(f).ok_or(EINVAL.into());
        // SAFETY: By the contract.
        unsafe { refuse(r.and_then(|f| T::fence_done(&f)), why) }
    }

    /// # Safety
    /// `f` is valid, `why` is writable.
    unsafe extern "C" fn fence_confirm(
        f: *const bindings::ssi_clms_fence,
        why: *mut *const c_char,
    ) -> c_int {
        // SAFETY: By the contract.
        let f = unsafe { &*f };
        let r = Fenced::new(f).ok_or(EINVAL.into());
        // SAFETY: By the contract.
        unsafe { refuse(r.and_then(|f| T::fence_confirm(&f)), why) }
    }
}
