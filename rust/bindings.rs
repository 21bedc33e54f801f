// SPDX-License-Identifier: GPL-2.0

//! Declarations generated from `rust/shim/shim.h`. Nothing outside this crate may use them.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    clippy::multiple_unsafe_ops_per_block,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    unreachable_pub,
    dead_code,
    unused_imports,
    improper_ctypes,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;
// Kernel types that the shim's declarations name: the same as everywhere, see --blocklist-type in Kbuild.
pub(crate) use kernel::bindings::*;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

include!(concat!(env!("SSI_OBJ"), "/rust/shim_bindings.rs"));
