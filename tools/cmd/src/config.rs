// SPDX-License-Identifier: GPL-2.0

//! The small configuration files beside clustertab: the cluster's name and its key, and names of nodes.

use cluster::membership::MAX_KEY;
use cluster::membership::MAX_NAME;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Shortest key that is worth the name.
pub(crate) const MIN_KEY: usize = 16;

/// The name of the cluster: the first word of the first line that is not a comment.
///
/// # Errors
/// There is none, or it cannot be a name.
pub(crate) fn cluster_name(text: &str) -> Result<String, String> {
    let line = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
        .find(|l| !l.is_empty())
        .ok_or("no name in it")?;
    check_name(line)?;
    Ok(line.to_owned())
}

/// # Errors
/// Too long, or holds something that would garble a table: space and control characters.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > MAX_NAME {
        return Err(format!("the name has {} bytes; at most {MAX_NAME}", name.len()));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{name:?} has a space or a control character in it"));
    }
    Ok(())
}

/// The secret of the cluster out of the bytes of its file: without trailing newlines, and decoded if it is all
/// hexadecimal and long enough to be meant so (32 digits or more, an even number).
///
/// # Errors
/// Shorter than 16 bytes or longer than 64.
pub(crate) fn key(file: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = file;
    while let Some((b'\n' | b'\r', rest)) = bytes.split_last() {
        bytes = rest;
    }
    let key = unhex(bytes).unwrap_or_else(|| bytes.to_vec());
    match key.len() {
        0 => Err("it is empty".to_owned()),
        n if n < MIN_KEY => Err(format!("{n} bytes are too short for a secret; at least {MIN_KEY}")),
        n if n > MAX_KEY => Err(format!("{n} bytes are too long; at most {MAX_KEY}")),
        _ => Ok(key),
    }
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() < 2 * MIN_KEY || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|c| {
            let s = std::str::from_utf8(c)
                .ok()
                .filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u8::from_str_radix(s, 16).ok()
        })
        .collect()
}

/// The first name that the text of `/etc/hosts` has for one of `addresses`, without its domain.
pub(crate) fn host_name(hosts: &str, addresses: &[Ipv4Addr]) -> Option<String> {
    hosts.lines().find_map(|l| {
        let mut words = l.split('#').next().unwrap_or_default().split_whitespace();
        let ip = Ipv4Addr::from_str(words.next()?)
            .ok()
            .filter(|ip| addresses.contains(ip) && !ip.is_loopback())?;
        let name = words.next()?.split('.').next()?;
        (!ip.is_unspecified() && check_name(name).is_ok()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, want) in [
            ("west\n", Ok("west")),
            ("# the name\n\n  west # ours\n", Ok("west")),
            ("a.b-c_1", Ok("a.b-c_1")),
            ("", Err("no name")),
            ("# nothing\n", Err("no name")),
            ("two words", Err("space")),
            ("bell\u{7}", Err("control")),
        ] {
            match (cluster_name(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(part)) => assert!(got.contains(part), "{text:?}: {got}"),
                (got, want) => panic!("{text:?}: {got:?}, expected {want:?}"),
            }
        }
        assert!(check_name(&"x".repeat(64)).is_ok());
        assert!(check_name(&"x".repeat(65)).is_err());
    }

    #[test]
    fn keys() {
        assert_eq!(
            key(b"0123456789abcdef\n"),
            Ok(b"0123456789abcdef".to_vec()),
            "16 digits are 16 raw bytes"
        );
        assert_eq!(
            key(b"00112233445566778899aabbccddeeFF\r\n").map(|k| (k.len(), k[15])),
            Ok((16, 0xff))
        );
        assert_eq!(key(&[b'a'; 128]), Ok(vec![0xaa; 64]));
        assert_eq!(
            key(b"00112233445566778899aabbccddeeff0").map(|k| k.len()),
            Ok(33),
            "an odd number of digits is raw"
        );
        assert_eq!(
            key(b"+0112233445566778899aabbccddeeff").map(|k| k.len()),
            Ok(32),
            "a sign is no digit"
        );
        let raw: Vec<u8> = (0..=63).map(|b| b ^ 0x80).collect();
        assert_eq!(key(&raw), Ok(raw.clone()));
        for (bad, part) in [
            (&b""[..], "empty"),
            (b"\n\n", "empty"),
            (b"fifteen bytes..\n", "too short"),
            (&[0xf0; 65], "too long"),
            (&[b'a'; 130], "too long"),
        ] {
            assert!(key(bad).is_err_and(|e| e.contains(part)), "{bad:?}");
        }
    }

    #[test]
    fn host_names() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\twest.example.org west # here\n10.0.0.2 east\n::1 ip6\n10.0.0.3\n";
        let of = |d: u8| host_name(hosts, &[Ipv4Addr::new(10, 0, 0, d)]);
        assert_eq!(of(1).as_deref(), Some("west"));
        assert_eq!(of(2).as_deref(), Some("east"));
        assert_eq!(of(3), None);
        assert_eq!(of(4), None);
        assert_eq!(host_name(hosts, &[Ipv4Addr::LOCALHOST]), None);
    }
}
