// SPDX-License-Identifier: GPL-2.0

//! What nodes tell each other of their machines when a program asks.

mod proto;

use ics::Caller;
use ics::Handle;
use ics::Reply;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use proto::*;
use ssi::clms_history::Machine;
use ssi::ids::NodeId;
use ssi::machine;
use ssi::wire::Le32;
use ssi::wire::Le64;

struct Server;

static SERVER: FactsService<Server> = FactsService(Server);

/// The speed that was set for this node; 0: the kernel's.
static CPU_POWER: Atomic<u32> = Atomic::new(0);

/// Answers from now on.
///
/// # Errors
/// `EEXIST`, `ENOSPC`.
pub(crate) fn register() -> Result<ics::Registration> {
    ics::register(&SERVER)
}

/// Sets the speed of this node's processors; 0: the kernel's.
pub(crate) fn set_cpu_power(power: u32) {
    CPU_POWER.store(power, Relaxed);
}

impl Handle<Tell> for Server {
    fn handle(&self, _from: Caller, _req: &TellReq, _tail: &[u8]) -> Reply<Tell> {
        let cpu_power = match CPU_POWER.load(Relaxed) {
            0 => machine::cpu_power(),
            set => set,
        };
        let rep = TellRep {
            total_cpus: Le32::new(machine::total_cpus()),
            online_cpus: Le32::new(machine::online_cpus()),
            cpu_power: Le32::new(cpu_power),
            total_memory: Le64::new(machine::total_memory()),
        };
        Ok((rep, KVVec::new()))
    }
}

/// Asks a node; `None` if it is down. Sleeps until it answers or is down.
pub(crate) fn ask(node: NodeId) -> Option<Machine> {
    let (rep, _) = ics::call::<Tell>(node, &TellReq {}, &[]).ok()?;
    Some(Machine {
        total_cpus: rep.total_cpus.get(),
        online_cpus: rep.online_cpus.get(),
        cpu_power: rep.cpu_power.get(),
        total_memory: rep.total_memory.get(),
    })
}
