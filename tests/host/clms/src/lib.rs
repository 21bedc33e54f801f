// SPDX-License-Identifier: GPL-2.0

//! `clms/state.rs` on the host. The tests search every state of a small world without time, see [`model`], and run
//! worlds with time and many nodes, see [`world`].

#[path = "../../../../clms/places.rs"]
#[allow(dead_code, missing_docs)]
mod places;

#[path = "../../../../clms/sent.rs"]
#[allow(dead_code, missing_docs)]
mod sent;

#[path = "../../../../clms/state.rs"]
#[allow(dead_code, missing_docs)]
mod state;

#[cfg(test)]
mod leaving;

#[cfg(test)]
mod model;

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod faults;

#[cfg(test)]
mod world;

#[cfg(test)]
mod scale;

#[cfg(test)]
mod shapes;

#[cfg(test)]
mod tables;

#[cfg(test)]
mod work;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod mutants {
    include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
}
