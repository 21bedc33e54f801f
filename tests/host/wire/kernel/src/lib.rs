// SPDX-License-Identifier: GPL-2.0

//! What decoders use of the kernel crate, for the host. No more than that: a decoder that needs a lock or a socket does
//! not compile here.

pub use core::fmt;

pub mod error {
    /// A negative errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    pub mod code {
        use super::Error;
        pub const EAGAIN: Error = Error(-11);
        pub const EINVAL: Error = Error(-22);
        pub const ENAMETOOLONG: Error = Error(-36);
        pub const ENOSYS: Error = Error(-38);
        pub const EPROTO: Error = Error(-71);
        pub const EBADMSG: Error = Error(-74);
        pub const EMSGSIZE: Error = Error(-90);
        pub const ENOTCONN: Error = Error(-107);
        pub const EALREADY: Error = Error(-114);
        pub const ESTALE: Error = Error(-116);
    }
}

pub mod alloc {
    use crate::error::Result;

    #[derive(Clone, Copy)]
    pub struct Flags;
    pub const GFP_KERNEL: Flags = Flags;

    /// Memory here does not run out.
    #[derive(Debug, Default)]
    pub struct KVVec<T>(Vec<T>);

    pub type KVec<T> = KVVec<T>;

    impl<T: Clone> KVVec<T> {
        pub fn new() -> Self {
            Self(Vec::new())
        }

        pub fn with_capacity(n: usize, _: Flags) -> Result<Self> {
            Ok(Self(Vec::with_capacity(n)))
        }

        pub fn from_elem(value: T, n: usize, _: Flags) -> Result<Self> {
            Ok(Self(vec![value; n]))
        }

        pub fn push(&mut self, value: T, _: Flags) -> Result {
            self.0.push(value);
            Ok(())
        }

        pub fn extend_from_slice(&mut self, more: &[T], _: Flags) -> Result {
            self.0.extend_from_slice(more);
            Ok(())
        }

        pub fn len(&self) -> usize {
            self.0.len()
        }

        pub fn truncate(&mut self, n: usize) {
            self.0.truncate(n);
        }

        pub fn resize(&mut self, n: usize, value: T, _: Flags) -> Result {
            self.0.resize(n, value);
            Ok(())
        }

        pub fn as_slice(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> core::ops::Deref for KVVec<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }

    impl<T> core::ops::DerefMut for KVVec<T> {
        fn deref_mut(&mut self) -> &mut [T] {
            &mut self.0
        }
    }
}

pub mod sync {
    pub use std::sync::Arc;
}

pub mod macros {
    pub use pastey::paste;
}

/// Nobody reads it here.
#[macro_export]
macro_rules! pr_warn_once {
    ($($arg:tt)*) => {
        let _unread = format_args!($($arg)*);
    };
}

pub mod prelude {
    pub use crate::alloc::*;
    pub use crate::error::code::*;
    pub use crate::error::*;
    pub use kunit::kunit_tests;
    pub use zerocopy::FromBytes;
    pub use zerocopy::IntoBytes;
}
