// SPDX-License-Identifier: GPL-2.0

//! `clms/registry/state.rs` and `records.rs` on the host. The tests search every state of a small world, see [`model`].

#[path = "../../../../clms/registry"]
#[rustfmt::skip]
mod registry {
    #[allow(dead_code, missing_docs)]
    pub(crate) mod records;
    #[allow(dead_code, missing_docs)]
    pub(crate) mod state;
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod records_tests;
#[cfg(test)]
mod world;
