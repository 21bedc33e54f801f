// SPDX-License-Identifier: GPL-2.0

//! What bytes on the wire are made of: little-endian integers of fixed width, without padding.

use kernel::prelude::*;
use zerocopy_derive::{Immutable, KnownLayout, Unaligned};

macro_rules! little_endian {
    ($(#[$doc:meta])* $name:ident, $int:ty, $n:literal) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        pub struct $name([u8; $n]);

        impl $name {
            /// Encodes a number.
            pub const fn new(v: $int) -> Self {
                Self(v.to_le_bytes())
            }

            /// Decodes the number.
            pub const fn get(self) -> $int {
                <$int>::from_le_bytes(self.0)
            }
        }
    };
}

little_endian!(/// 16 bits.
    Le16, u16, 2);
little_endian!(/// 32 bits.
    Le32, u32, 4);
little_endian!(/// 64 bits.
    Le64, u64, 8);
