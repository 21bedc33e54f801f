// SPDX-License-Identifier: GPL-2.0

//! `/etc/cluster/wireguard.toml`: the nodes' public keys for WireGuard, and their addresses inside it.
//!
//! The same file on every node; nothing in it is secret. Addresses of clustertab are outside: a tunnel for each link.

use crate::clustertab::MAX_LINKS;
use crate::clustertab::Row;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster::membership::MAX_NODE;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Where it is unless an option says otherwise.
pub(crate) const FILE: &str = "/etc/cluster/wireguard.toml";

/// Bytes of a key.
pub(crate) const KEY: usize = 32;

/// Port of the first link; the others follow.
const PORT: u16 = 51820;

/// The addresses inside: three bits for the link, then ten for the node.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 222, 0, 0);
const NODE_BITS: u32 = 10;
const NETWORK_BITS: u32 = NODE_BITS + 3;

/// Length of the prefix that the nodes of a link have in common.
pub(crate) const PREFIX: u8 = 32 - NODE_BITS as u8;

const _: () = assert!(MAX_LINKS <= 1 << (NETWORK_BITS - NODE_BITS) && MAX_NODE < (1 << NODE_BITS) - 1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    network: Option<Ipv4Addr>,
    port: Option<u16>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    network: Ipv4Addr,
    port: u16,
    keys: BTreeMap<u32, [u8; KEY]>,
}

/// A key as WireGuard's tools write it.
pub(crate) fn encode(key: &[u8; KEY]) -> String {
    STANDARD.encode(key)
}

/// Reads a key.
///
/// # Errors
/// It is none.
pub(crate) fn decode(text: &str) -> Result<[u8; KEY], String> {
    let bytes = STANDARD.decode(text.trim()).ok();
    let key = bytes.and_then(|b| <[u8; KEY]>::try_from(b).ok());
    key.ok_or_else(|| "no key of WireGuard: 44 characters of base64".to_owned())
}

impl Table {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let network = file.network.unwrap_or(NETWORK);
        if network.to_bits() & ((1 << NETWORK_BITS) - 1) != 0 {
            return Err(format!("network {network}: the last {NETWORK_BITS} bits must be 0"));
        }
        let port = file.port.unwrap_or(PORT);
        // CAST: there are few links.
        if port == 0 || port.checked_add(MAX_LINKS as u16).is_none() {
            return Err(format!("port {port}: from 1 on, with room for one per link"));
        }
        let mut keys: BTreeMap<u32, [u8; KEY]> = BTreeMap::new();
        for (node, key) in file.keys {
            let number = node
                .parse::<u32>()
                .ok()
                .filter(|n| (1..=MAX_NODE).contains(n))
                .ok_or_else(|| format!("[keys] {node:?} is no node number (1 to {MAX_NODE})"))?;
            let key = decode(&key).map_err(|e| format!("[keys] node {number}: {e}"))?;
            if let Some((other, _)) = keys.iter().find(|(_, k)| **k == key) {
                return Err(format!("[keys] nodes {other} and {number} have the same key"));
            }
            if keys.insert(number, key).is_some() {
                return Err(format!("[keys] node {number} is there twice"));
            }
        }
        Ok(Self { network, port, keys })
    }

    /// The public key of a node.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn key(&self, node: u32) -> Result<&[u8; KEY], String> {
        self.keys.get(&node).ok_or_else(|| {
            format!("no key of node {node}: run cluster wireguard key on it, and add what it prints on every node")
        })
    }

    /// The port of a link, counted from 0.
    pub(crate) fn port(&self, link: usize) -> u16 {
        // CAST: there are few links.
        self.port.saturating_add(link as u16)
    }

    /// The address of a node inside, on a link counted from 0.
    pub(crate) fn address(&self, node: u32, link: usize) -> Ipv4Addr {
        // CAST: there are few links.
        Ipv4Addr::from_bits(self.network.to_bits() | (link as u32) << NODE_BITS | node)
    }

    /// Clustertab with the addresses inside.
    ///
    /// # Errors
    /// A node has no key; an address is both inside and outside.
    pub(crate) fn inside(&self, rows: &[Row]) -> Result<Vec<Row>, String> {
        let mask = u32::MAX << NETWORK_BITS;
        let one = |r: &Row| {
            self.key(r.node)?;
            if let Some(a) = r
                .addresses
                .iter()
                .find(|a| a.to_bits() & mask == self.network.to_bits())
            {
                return Err(format!(
                    "address {a} of node {} is inside: give another network",
                    r.node
                ));
            }
            Ok(Row {
                node: r.node,
                addresses: (0..r.addresses.len()).map(|l| self.address(r.node, l)).collect(),
                votes: r.votes,
                is_witness: r.is_witness,
                place: r.place,
            })
        };
        rows.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn rows() -> Vec<Row> {
        crate::clustertab::parse("1 10.0.0.1,10.0.1.1\n1022 10.0.0.2,10.0.1.2\n").expect("a table")
    }

    #[test]
    fn good_files() {
        let t = Table::parse(&format!("[keys]\n1 = \"{A}\"\n1022 = \"{B}\"\n")).expect("a table");
        assert_eq!(t.key(1022), Ok(&[1; KEY]));
        assert_eq!((t.port(0), t.port(1)), (51820, 51821));
        let inside = t.inside(&rows()).expect("rows");
        let want = "1 10.222.0.1,10.222.4.1\n1022 10.222.3.254,10.222.7.254";
        assert_eq!(inside, crate::clustertab::parse(want).expect("a table"));
        let t = Table::parse(&format!(
            "network = \"172.30.32.0\"\nport = 7000\n[keys]\n1 = \"{A}\"\n"
        ))
        .expect("a table");
        assert_eq!((t.address(1, 7), t.port(7)), (Ipv4Addr::new(172, 30, 60, 1), 7007));
        assert!(t.inside(&rows()).is_err_and(|e| e.contains("no key of node 1022")));
    }

    #[test]
    fn bad_files_say_why() {
        for (text, part) in [
            ("network = \"10.0.0.1\"", "must be 0"),
            ("network = \"10\"", "network"),
            ("port = 0", "port 0"),
            ("port = 65530", "port 65530"),
            ("frob = 1", "frob"),
            ("[keys]\n0 = \"x\"", "no node number"),
            ("[keys]\n1 = \"x\"", "node 1: no key"),
            (&format!("[keys]\n1 = \"{A}\"\n2 = \"{A}\""), "the same key"),
        ] {
            assert!(Table::parse(text).is_err_and(|e| e.contains(part)), "{text}");
        }
        let t = format!("network = \"10.0.0.0\"\n[keys]\n1 = \"{A}\"\n1022 = \"{B}\"\n");
        let t = Table::parse(&t).expect("a table");
        assert!(
            t.inside(&rows())
                .is_err_and(|e| e.contains("10.0.0.1 of node 1 is inside"))
        );
    }
}
