// SPDX-License-Identifier: GPL-2.0

//! What decoders use of the crate `ssi`, for the host: numbers and identifiers are its own files. Tags come from other
//! libraries than the kernel's; that they are the same is what the golden tags of `ics/frame.rs` show.

#[path = "../../../../../rust/ids.rs"]
pub mod ids;
#[path = "../../../../../rust/wire.rs"]
pub mod wire;

pub mod cred {
    use zerocopy_derive::*;

    /// As long as the real one.
    #[repr(transparent)]
    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    pub struct WireCred([u8; 340]);
}

pub mod crypto {
    use poly1305::universal_hash::KeyInit;
    use poly1305::universal_hash::UniversalHash;
    use siphasher::sip::SipHasher24;

    pub fn mac<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
        let mut hash = blake2s_simd::Params::new().hash_length(N).key(key).to_state();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().as_bytes().try_into().expect("as long as asked for")
    }

    pub struct FrameKey {
        multiplier: [u8; 16],
        pads: [SipHasher24; 2],
    }

    impl FrameKey {
        pub const TAG: usize = 16;

        pub fn new(key: &[u8; 32]) -> Self {
            let pads: [u8; 32] = mac(key, &[b"OpenSSI frames: pads"]);
            let half = |at: usize| {
                let key = pads[at..at + 16].try_into().expect("16 bytes");
                SipHasher24::new_with_key(&key)
            };
            Self {
                multiplier: mac(key, &[b"OpenSSI frames: multiplier"]),
                pads: [half(0), half(16)],
            }
        }

        pub fn tag(&self, number: u64, parts: &[&[u8]]) -> [u8; Self::TAG] {
            let mut key = [0; 32];
            let (multiplier, pad) = key.split_at_mut(16);
            multiplier.copy_from_slice(&self.multiplier);
            for (to, half) in pad.chunks_exact_mut(8).zip(&self.pads) {
                to.copy_from_slice(&half.hash(&number.to_le_bytes()).to_le_bytes());
            }
            let mut sum = poly1305::Poly1305::new(&key.into());
            for part in parts {
                sum.update_padded(part);
            }
            sum.finalize().into()
        }
    }

    pub fn equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
        a == b
    }
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
