// SPDX-License-Identifier: GPL-2.0

//! What clients ask of an instance's supervisor: frames of [`rig_agent::wire`] on `DIR/rig.sock`.
//!
//! A connection carries one request and its reply; that of an `Exec` carries the session's streams in between.

use std::path::PathBuf;
use std::time::Duration;

use rig_agent::wire::Spawn;
use serde::Deserialize;
use serde::Serialize;

use crate::fault::Chance;
use crate::switch::LaneStatus;

/// Exit status of a command that ran out of time.
pub const TIMED_OUT: i32 = 124;

/// Exit status when the node is gone.
pub const NODE_GONE: i32 = 125;

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// What there is: [`Status`].
    Status,
    /// End everything.
    Down,
    /// Run a command.
    Exec {
        /// Where.
        node: u32,
        /// What.
        spawn: Spawn,
        /// Kill it and reply [`TIMED_OUT`] after this time.
        timeout: Option<Duration>,
    },
    /// Wait for something to be so.
    Wait {
        /// Where.
        node: u32,
        /// For what.
        event: Event,
        /// Only boots after this one count.
        after_boot: u32,
        /// Reply [`TIMED_OUT`] after this time.
        timeout: Duration,
    },
    /// Play with the power supply.
    Power {
        /// Whose.
        node: u32,
        /// How.
        action: Power,
    },
    /// Says whether a node that exits by reboot is started again.
    Restart {
        /// Which.
        node: u32,
        /// Is it?
        on: bool,
    },
    /// Change the faults between nodes.
    Change {
        /// Senders; all if none.
        from: Option<u32>,
        /// Receivers; all if none.
        to: Option<u32>,
        /// The other direction as well.
        both: bool,
        /// On this link; on all if none.
        link: Option<u32>,
        /// How.
        change: Change,
    },
    /// Begin a capture; end the running one if there is no path.
    Capture {
        /// The file.
        path: Option<PathBuf>,
        /// Only this link.
        link: Option<u32>,
        /// Frames as delivered, not as offered.
        delivered: bool,
    },
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Event {
    /// The node takes commands.
    Up,
    /// The node does not take commands.
    Down,
    /// The node is UP in its own membership view.
    Join,
}

/// What can be done to a node's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// Off at once; stays off.
    Kill,
    /// The virtual machine stands still, its clock too.
    Pause,
    /// The virtual machine stands still, its clock goes on.
    Freeze,
    /// Undoes a pause or freeze.
    Resume,
    /// Off and on again; on, if it was off.
    Reset,
}

/// A change of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// No faults.
    Heal,
    /// Nothing passes.
    Cut,
    /// TCP passes only on connections begun since.
    Forget,
    /// Frames are lost.
    Loss(Chance),
    /// Frames come late.
    Delay(Duration, Duration),
    /// Frames come twice.
    Dup(Chance),
    /// Frames are overtaken.
    Reorder(Chance),
    /// Bits are flipped; below the checksum or not.
    Corrupt(Chance, bool),
}

/// The end of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Exit status.
    pub code: i32,
    /// Why it is not 0, if not the command itself said so.
    pub error: Option<String>,
}

impl Reply {
    /// Success.
    pub fn ok() -> Self {
        Self::default()
    }

    /// Failure with a reason.
    pub fn error(code: i32, error: impl Into<String>) -> Self {
        Self {
            code,
            error: Some(error.into()),
        }
    }
}

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No QEMU.
    Off,
    /// Not yet there.
    Booting,
    /// Takes commands.
    Up,
    /// Its boot failed; it hangs there.
    Failed,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Booting => "booting",
            Self::Up => "up",
            Self::Failed => "failed",
        })
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: u32,
    /// How far it is.
    pub phase: Phase,
    /// The boot step it is in.
    pub stage: String,
    /// How often it was started.
    pub boots: u32,
    /// The kernel's id of this boot.
    pub boot_id: Option<String>,
    /// Its QEMU.
    pub pid: Option<u32>,
    /// It stands still.
    pub paused: bool,
    /// It is started again after a reboot.
    pub restart: bool,
    /// What went wrong last.
    pub error: Option<String>,
}

/// The instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Where it lives.
    pub dir: PathBuf,
    /// The supervisor.
    pub pid: u32,
    /// Seed of all chance.
    pub seed: u64,
    /// Kernel variant.
    pub kernel: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// What the switch did.
    pub lanes: Vec<LaneStatus>,
}
