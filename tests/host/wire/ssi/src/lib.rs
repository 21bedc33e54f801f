// SPDX-License-Identifier: GPL-2.0

//! What decoders use of the crate `ssi`, for the host: numbers and identifiers are its own files. Tags come from other
//! libraries than the kernel's; that they are the same is what the golden tags of `ics/frame.rs` show.

#[path = "../../../../../rust/ids.rs"]
pub mod ids;
#[path = "../../../../../rust/wire.rs"]
pub mod wire;

/// As in `rust/trace.rs`.
pub mod trace {
    pub struct Request {
        pub class: u8,
        pub service: u16,
        pub op: u16,
        pub xid: u64,
        pub bytes: usize,
    }
}

pub mod cred {
    use zerocopy_derive::*;

    /// As long as the real one.
    #[repr(transparent)]
    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    pub struct WireCred([u8; 340]);
}

pub mod crypto {
    use siphasher::sip::SipHasher24;

    pub fn mac<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
        let mut hash = blake2s_simd::Params::new().hash_length(N).key(key).to_state();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().as_bytes().try_into().expect("as long as asked for")
    }

    pub struct FrameKey {
        body: SipHasher24,
        frame: SipHasher24,
    }

    impl FrameKey {
        pub const TAG: usize = 16;
        pub const HEAD: usize = 72;
        pub const PIECE: usize = 65536;

        pub fn new(key: &[u8; 32]) -> Self {
            let of = |name: &[u8]| SipHasher24::new_with_key(&mac(key, &[name]));
            Self {
                body: of(b"OpenSSI frames: bodies"),
                frame: of(b"OpenSSI frames: tags"),
            }
        }

        pub fn tag(&self, head: &[u8; Self::HEAD], body: &BodySum) -> [u8; Self::TAG] {
            let all = [&head[..], &body.total(self).to_le_bytes()].concat();
            let mut tag = [0; Self::TAG];
            tag[..8].copy_from_slice(&self.frame.hash(&all).to_le_bytes());
            tag
        }
    }

    #[derive(Default)]
    pub struct BodySum(Vec<u64>);

    impl BodySum {
        pub const PIECES: usize = 17;

        pub fn of(key: &FrameKey, body: &[u8]) -> Self {
            let mut sum = Self::default();
            body.chunks(FrameKey::PIECE).for_each(|p| sum.add(key, p));
            sum
        }

        pub fn add(&mut self, key: &FrameKey, piece: &[u8]) {
            self.0.push(key.body.hash(piece));
        }

        fn total(&self, key: &FrameKey) -> u64 {
            match &self.0[..] {
                [] => key.body.hash(&[]),
                [one] => *one,
                all => key.body.hash(&all.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>()),
            }
        }
    }

    pub fn equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
        a == b
    }
}

pub mod pages {
    use kernel::alloc::KVVec;
    use kernel::alloc::GFP_KERNEL;

    /// Nobody sends it.
    pub fn is_of_pages(_: &KVVec<u8>) -> bool {
        false
    }

    /// Of any memory: nobody sends it.
    pub fn with_capacity(len: usize) -> kernel::error::Result<KVVec<u8>> {
        KVVec::with_capacity(len, GFP_KERNEL)
    }
}

pub mod reserve {
    use core::marker::PhantomData;
    use core::ops::Deref;
    use core::ops::DerefMut;
    use kernel::alloc::Flags;
    use kernel::error::Result;
    use kernel::sync::Arc;

    pub struct Reserve;

    pub struct Slot<T>(PhantomData<T>);

    impl<T> Slot<T> {
        pub fn of(_home: Option<&Arc<Reserve>>, _flags: Flags) -> Result<Self> {
            Ok(Self(PhantomData))
        }

        pub fn fill(self, value: T) -> Owned<T> {
            Owned(Box::new(value))
        }
    }

    pub struct Owned<T>(Box<T>);

    impl<T> Deref for Owned<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for Owned<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }
}

pub mod inbox {
    pub const MAX_FRAME: usize = 8192 + 72 + 16;
}

pub mod failpoint {
    /// None is armed.
    pub fn hit(_: &str) -> kernel::error::Result {
        Ok(())
    }
}

pub mod net {
    /// Where something came from: of no meaning to a decoder.
    #[derive(Clone, Copy, Debug)]
    pub struct Address;

    impl Address {
        pub const NONE: Self = Self;
    }
}
