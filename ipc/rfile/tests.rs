// SPDX-License-Identifier: GPL-2.0

//! What can be tried in one kernel. The pure parts have their tests in `tests/host/rfile`.

use kernel::macros::kunit_tests;

#[kunit_tests(ssi_rfile)]
mod tests {
    use crate::image;
    use crate::image::Entry;
    use crate::image::Head;
    use crate::image::Reader;
    use crate::image::Record;
    use crate::image::Sink;
    use crate::ioctls;
    use kernel::prelude::*;

    struct Out(KVec<u8>);

    impl Sink for Out {
        type Error = Error;

        fn put(&mut self, bytes: &[u8]) -> Result {
            Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
        }
    }

    fn sample() -> Result<KVec<u8>> {
        let mut out = Out(KVec::new());
        let head = Head {
            umask: 0o22,
            id: &[7; image::ID_LEN],
            path: b"/",
        };
        image::write_head(&mut out, &head)?;
        let record = Record {
            fd: 3,
            cloexec: true,
            entry: Entry::Mem { flags: 2, minor: 3 },
        };
        image::write_record(&mut out, &record)?;
        image::write_end(&mut out)?;
        Ok(out.0)
    }

    #[test]
    fn image_round_trip() -> Result {
        let bytes = sample()?;
        let (head, mut r) = Reader::new(&bytes).map_err(|_| EPROTO)?;
        assert_eq!(head.umask, 0o22);
        let record = r.next().map_err(|_| EPROTO)?.ok_or(EPROTO)?;
        assert_eq!((record.fd, record.cloexec), (3, true));
        assert!(matches!(record.entry, Entry::Mem { flags: 2, minor: 3 }));
        assert!(matches!(r.next(), Ok(None)));
        Ok(())
    }

    #[test]
    fn torn_image_is_refused() -> Result {
        let bytes = sample()?;
        for n in 0..bytes.len() {
            let torn = bytes.get(..n).ok_or(EINVAL)?;
            assert!(crate::import::import(torn, true).is_err());
        }
        Ok(())
    }

    #[test]
    fn dangerous_ioctls_do_not_cross() {
        // TIOCSTI, TIOCSCTTY, TIOCCONS, TIOCSETD.
        for cmd in [0x5412, 0x540e, 0x541d, 0x5423] {
            assert!(ioctls::argument(cmd).is_none());
        }
    }

    #[test]
    fn unknown_handles_are_stale() {
        assert!(crate::home::take(1).is_err_and(|e| e == ESTALE));
        crate::home::withdraw(1);
    }
}
