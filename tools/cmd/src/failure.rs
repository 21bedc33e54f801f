// SPDX-License-Identifier: GPL-2.0

//! What a command ends with when it did not do its work, and the exit codes that all commands share.

use cluster::netlink;

/// It was not done, or the answer is no.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// The cluster modules are not loaded.
pub(crate) const NO_MODULE: u8 = 3;
/// `onnode`, `onall`: the cluster could not run the command at all.
pub(crate) const CLUSTER: u8 = 125;
/// `onnode`, `onall`: the command was found and cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;
/// `onnode`, `onall`: there is no such command.
pub(crate) const NOT_FOUND: u8 = 127;

/// A message for people, naming object, node and next step, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn no_module() -> Self {
        Self::new(
            NO_MODULE,
            "the cluster modules are not loaded on this node; load ssi_clms, then run cluster join",
        )
    }
}

impl From<netlink::Error> for Failure {
    fn from(e: netlink::Error) -> Self {
        match e {
            netlink::Error::NoModule => Failure::no_module(),
            netlink::Error::Refused(r) => Failure::failed(r.text()),
            netlink::Error::Broken(what) => Failure::failed(format!("netlink: {what}")),
        }
    }
}
