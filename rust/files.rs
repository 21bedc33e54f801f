// SPDX-License-Identifier: GPL-2.0

//! Open files that cross nodes: what one is, opening it again, serving it, standing for it.
//!
//! A process that moves describes each file (`describe`): the same one is opened again where it arrives (`reopen`), one
//! that must stay is served from its node (`home`, `watch`) to a file that stands for it (`proxy`, `bell`).
//!
//! Not for protocol or policy: that is crate `rfile`. C: `rust/shim/rfile.h`.

mod bell;
mod class;
mod describe;
mod file;
mod home;
mod identity;
mod proxy;
mod reopen;
mod stat;
mod watch;

pub use bell::Bell;
pub use bell::Poll;
pub use class::FileClass;
pub use describe::next_fd;
pub use describe::Described;
pub use describe::Describer;
pub use describe::Fd;
pub use file::FileRef;
pub use identity::FileId;
pub use proxy::create_proxy;
pub use proxy::session;
pub use proxy::sigpipe;
pub use proxy::Proxy;
pub use proxy::ProxyInit;
pub use reopen::set_cwd;
pub use stat::FileStat;
pub use watch::Watch;
pub use watch::Watcher;
