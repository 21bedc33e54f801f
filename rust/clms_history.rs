// SPDX-License-Identifier: GPL-2.0

//! Transitions of nodes for programs: what the netlink family `ssi_clms` is asked about them, and what it tells.

use crate::bindings;
use crate::clms_netlink::refuse;
use crate::clms_netlink::set_text;
use crate::clms_netlink::Refusal;
use crate::ids::NodeId;
use core::marker::PhantomData;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::prelude::*;

/// A change of a node's state. The numbers of states and causes are the family's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Its number: larger than those before it.
    pub id: u64,
    /// When it was noted, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// The node.
    pub node: NodeId,
    /// Its life; 0: not known.
    pub incarnation: u64,
    /// Its state before.
    pub from: u32,
    /// Its state after.
    pub to: u32,
    /// Why.
    pub cause: u32,
}

impl Transition {
    fn to_c(self) -> bindings::ssi_clms_transition {
        bindings::ssi_clms_transition {
            id: self.id,
            time_ns: self.time_ns,
            node: self.node.number(),
            incarnation: self.incarnation,
            from: self.from,
            to: self.to,
            cause: self.cause,
        }
    }
}

/// Which transition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of that number.
    This(u64),
    /// The first after that number.
    Next(u64),
    /// The last before that number.
    Previous(u64),
    /// The oldest that is kept.
    First,
    /// The newest.
    Last,
}

impl Which {
    fn from_c(which: u32, id: u64) -> Option<Self> {
        Some(match which {
            bindings::ssi_clms_which_SSI_CLMS_WHICH_THIS => Self::This(id),
            bindings::ssi_clms_which_SSI_CLMS_WHICH_NEXT => Self::Next(id),
            bindings::ssi_clms_which_SSI_CLMS_WHICH_PREVIOUS => Self::Previous(id),
            bindings::ssi_clms_which_SSI_CLMS_WHICH_FIRST => Self::First,
            bindings::ssi_clms_which_SSI_CLMS_WHICH_LAST => Self::Last,
            _ => return None,
        })
    }
}

/// Who is up, and the last transition that counted for it.
pub struct Members<'a>(&'a mut bindings::ssi_clms_members);

impl Members<'_> {
    /// The view and the newest transition.
    pub fn set(&mut self, view: u64, last: u64, master: Option<NodeId>) {
        self.0.view = view;
        self.0.last = last;
        self.0.master = master.map_or(0, NodeId::number);
    }

    /// Adds a node that is up, in ascending order; one too many is left out.
    pub fn add(&mut self, node: NodeId) {
        if let Some(n) = self.0.nodes.get_mut(self.0.n_nodes as usize) {
            *n = node.number();
            self.0.n_nodes += 1;
        }
    }
}

/// Facts of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors it has.
    pub total_cpus: u32,
    /// Processors it uses.
    pub online_cpus: u32,
    /// Speed of one, for comparison.
    pub cpu_power: u32,
    /// Bytes.
    pub total_memory: u64,
}

/// The answer about one node.
pub struct Info<'a>(&'a mut bindings::ssi_clms_info);

impl Info<'_> {
    /// The node that is asked about.
    pub fn node(&self) -> Option<NodeId> {
        NodeId::new(self.0.node)
    }

    /// What the membership knows of it.
    pub fn set_node(&mut self, name: &[u8], state: u32, incarnation: u64) {
        set_text(&mut self.0.name, name);
        self.0.state = state;
        self.0.incarnation = incarnation;
    }

    /// What it says of itself.
    pub fn set_machine(&mut self, m: &Machine) {
        self.0.total_cpus = m.total_cpus;
        self.0.online_cpus = m.online_cpus;
        self.0.cpu_power = m.cpu_power;
        self.0.total_memory = m.total_memory;
    }
}

/// Answers about transitions, members and nodes. Called in the asker's context; may sleep.
pub trait Historian: Send + Sync + 'static {
    /// `history`. `simple`: only transitions to or from UP.
    ///
    /// # Errors
    /// `ESTALE` what is asked for is not kept, or was never known.
    fn history(which: Which, simple: bool) -> Result<Option<Transition>>;

    /// `membership`.
    ///
    /// # Errors
    /// `ENOTCONN` this node has not joined.
    fn membership(m: &mut Members<'_>) -> Result;

    /// `node-info`.
    ///
    /// # Errors
    /// `ENOTCONN` this node has not joined; `ENOENT` no such node.
    fn node_info(i: &mut Info<'_>) -> Result;

    /// `node-set`.
    ///
    /// # Errors
    /// Why it was refused.
    fn set_info(node: Option<NodeId>, cpu_power: u32) -> core::result::Result<(), Refusal>;
}

/// Tells programs of a transition that is in the history. Waits for neither memory nor nodes.
pub fn tell_transition(t: &Transition) {
    // SAFETY: The structure lives through the call.
    unsafe { bindings::ssi_clms_tell_transition(&t.to_c()) }
}

/// Tells programs of a view that has been carried out. Waits for neither memory nor nodes.
pub fn tell_view(view: u64, master: Option<NodeId>, members: impl Iterator<Item = NodeId>) {
    let mut c = bindings::ssi_clms_members::default();
    let mut m = Members(&mut c);
    m.set(view, 0, master);
    members.for_each(|n| m.add(n));
    // SAFETY: The structure lives through the call.
    unsafe { bindings::ssi_clms_tell_view(&c) }
}

/// The calls of C, made for `T`.
pub(crate) struct Adapter<T>(PhantomData<T>);

fn errno(r: Result) -> c_int {
    match r {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

impl<T: Historian> Adapter<T> {
    pub(crate) const OPS: bindings::ssi_clms_history_ops = bindings::ssi_clms_history_ops {
        history: Some(Self::history),
        membership: Some(Self::membership),
        node_info: Some(Self::node_info),
        set_info: Some(Self::set_info),
    };

    /// # Safety
    /// `t` is valid and exclusive.
    unsafe extern "C" fn history(
        which: u32,
        id: u64,
        simple: bool,
        t: *mut bindings::ssi_clms_transition,
    ) -> c_int {
        let Some(which) = Which::from_c(which, id) else {
            return EINVAL.to_errno();
        };
        match T::history(which, simple) {
            Ok(Some(found)) => {
                // SAFETY: By the contract.
                unsafe { *t = found.to_c() };
                0
            }
            Ok(None) => ENODATA.to_errno(),
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// `m` is valid, zeroed and exclusive.
    unsafe extern "C" fn membership(m: *mut bindings::ssi_clms_members) -> c_int {
        // SAFETY: By the contract.
        errno(T::membership(&mut Members(unsafe { &mut *m })))
    }

    /// # Safety
    /// `i` is valid and exclusive.
    unsafe extern "C" fn node_info(i: *mut bindings::ssi_clms_info) -> c_int {
        // SAFETY: By the contract.
        errno(T::node_info(&mut Info(unsafe { &mut *i })))
    }

    /// # Safety
    /// `why` is writable.
    unsafe extern "C" fn set_info(node: u32, cpu_power: u32, why: *mut *const c_char) -> c_int {
        // SAFETY: By the contract.
        unsafe { refuse(T::set_info(NodeId::new(node), cpu_power), why) }
    }
}
