// SPDX-License-Identifier: GPL-2.0

//! `cluster wireguard`: the links of the cluster inside WireGuard, which keeps what nodes say to each other secret.
//!
//! Each link of clustertab has an interface, `ssi-wg0` and so on; each node has one pair of keys. The private key stays in a
//! file of this node's; the public ones are in `wireguard.toml`, the same on every node.

use crate::clustertab;
use crate::clustertab::Row;
use crate::failure::Failure;
use crate::join;
use crate::keyfiles;
use crate::wgnet;
use crate::wgnet::Peer;
use crate::wgtab;
use crate::wgtab::KEY;
use crate::wgtab::Table;
use clap::ArgMatches;
use cluster::membership;
use cluster::netlink;
use serde::Serialize;
use std::io::ErrorKind;
use std::io::Read;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use x25519_dalek::PublicKey;
use x25519_dalek::StaticSecret;

/// What a datagram grows by: heads of IPv4, UDP and WireGuard, and its tag.
const OVERHEAD: u32 = 20 + 8 + 16 + 16;

/// The least that IPv4 promises.
const MIN_MTU: u32 = 576;

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    match m.subcommand() {
        Some(("key", m)) => key(m),
        Some(("setup", m)) => setup(m),
        Some(("show", m)) => show(m),
        Some(("remove", m)) => remove(m),
        _ => Err(Failure::usage("no command given; see cluster wireguard --help")),
    }
}

fn about(path: &Path, e: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {e}", path.display()))
}

fn path(m: &ArgMatches, id: &str) -> PathBuf {
    m.get_one::<PathBuf>(id).cloned().unwrap_or_default()
}

fn name(link: usize) -> String {
    format!("ssi-wg{link}")
}

/// Clustertab, and this node's row.
fn rows(m: &ArgMatches) -> Result<(Vec<Row>, Row), Failure> {
    let tab = path(m, "tab");
    let rows = clustertab::parse(&join::read_text(&tab)?).map_err(|e| about(&tab, e))?;
    let own = match m.get_one::<u32>("node") {
        Some(n) => rows
            .iter()
            .find(|r| r.node == *n)
            .ok_or_else(|| format!("no row for node {n}; add one")),
        None => clustertab::own_row(&rows, &join::own_addresses()?),
    };
    let own = own.map_err(|e| about(&tab, e))?.clone();
    Ok((rows, own))
}

/// The public keys, if the file is there. One that was named must be.
///
/// # Errors
/// It cannot be read, or is none.
pub(crate) fn table(m: &ArgMatches) -> Result<Option<Table>, Failure> {
    let path = m.get_one::<PathBuf>("wireguard");
    let is_named = path.is_some();
    let path = path.map_or(Path::new(wgtab::FILE), PathBuf::as_path);
    match std::fs::read_to_string(path) {
        Ok(text) => Table::parse(&text).map(Some).map_err(|e| about(path, e)),
        Err(e) if e.kind() == ErrorKind::NotFound && !is_named => Ok(None),
        Err(e) => Err(about(path, e)),
    }
}

fn needed(m: &ArgMatches) -> Result<Table, Failure> {
    table(m)?.ok_or_else(|| {
        let what = "it is not there; write what cluster wireguard key prints on each node below [keys], on every node";
        about(Path::new(wgtab::FILE), what)
    })
}

/// The table of a join, with the addresses inside, which this node must have.
///
/// # Errors
/// A node has no key; this node's interfaces are not there.
pub(crate) fn inside(t: &Table, rows: &[Row], this: u32) -> Result<Vec<Row>, Failure> {
    let inside = t.inside(rows).map_err(|e| about(Path::new(wgtab::FILE), e))?;
    let ours = join::own_addresses()?;
    let own = inside.iter().filter(|r| r.node == this).flat_map(|r| &r.addresses);
    for (link, a) in own.enumerate() {
        if !ours.contains(a) {
            let what = format!("{} has no address {a}; run cluster wireguard setup first", name(link));
            return Err(Failure::failed(what));
        }
    }
    Ok(inside)
}

fn private(file: &Path) -> Result<StaticSecret, Failure> {
    let key = wgtab::decode(&join::read_text(file)?).map_err(|e| about(file, e))?;
    Ok(StaticSecret::from(key))
}

/// Prints this node's line for the table; makes its keys if there are none.
fn key(m: &ArgMatches) -> Result<u8, Failure> {
    let (_, own) = rows(m)?;
    let file = path(m, "private");
    if !file.exists() {
        let mut bytes = [0; KEY];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut bytes))
            .map_err(|e| Failure::failed(format!("/dev/urandom: {e}")))?;
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(|e| about(dir, e))?;
        }
        keyfiles::create(&file, format!("{}\n", wgtab::encode(&bytes)).as_bytes())?;
    }
    join::warn_if_open(&file);
    let public = PublicKey::from(&private(&file)?);
    println!("{} = \"{}\"", own.node, wgtab::encode(public.as_bytes()));
    Ok(0)
}

/// The MTU of the interface that has an address.
fn mtu(of: Ipv4Addr) -> Result<u32, Failure> {
    let list = nix::ifaddrs::getifaddrs().map_err(|e| Failure::failed(format!("interfaces: {}", e.desc())))?;
    let has = |i: &nix::ifaddrs::InterfaceAddress| {
        let address = i.address.as_ref().and_then(|a| a.as_sockaddr_in().map(|a| a.ip()));
        address == Some(of)
    };
    let found = list.into_iter().find(has).map(|i| i.interface_name);
    let name = found.ok_or_else(|| {
        Failure::failed(format!(
            "no interface has the address {of} of clustertab; configure it first"
        ))
    })?;
    let file = PathBuf::from(format!("/sys/class/net/{name}/mtu"));
    let text = join::read_text(&file)?;
    text.trim().parse().map_err(|e| about(&file, e))
}

fn setup(m: &ArgMatches) -> Result<u8, Failure> {
    let (rows, own) = rows(m)?;
    let table = needed(m)?;
    let inside = table.inside(&rows).map_err(|e| about(Path::new(wgtab::FILE), e))?;
    let file = path(m, "private");
    join::warn_if_open(&file);
    let private = private(&file)?;
    let listed = table.key(own.node).map_err(Failure::failed)?;
    if listed != PublicKey::from(&private).as_bytes() {
        let what = format!(
            "the keys of {} are not those that {} has for node {}; run cluster wireguard key, and put what it prints there",
            file.display(),
            wgtab::FILE,
            own.node
        );
        return Err(Failure::failed(what));
    }
    for (link, outside) in own.addresses.iter().enumerate() {
        let mut peers = Vec::new();
        for (row, of) in rows.iter().zip(&inside).filter(|(r, _)| r.node != own.node) {
            // A node may have fewer links.
            if let (Some(at), Some(address)) = (row.addresses.get(link), of.addresses.get(link)) {
                peers.push(Peer {
                    key: *table.key(row.node).map_err(Failure::failed)?,
                    endpoint: SocketAddrV4::new(*at, table.port(link)),
                    inside: *address,
                });
            }
        }
        wgnet::set_up(&wgnet::Config {
            name: &name(link),
            private_key: private.to_bytes(),
            port: table.port(link),
            address: table.address(own.node, link),
            prefix: wgtab::PREFIX,
            mtu: mtu(*outside)?.saturating_sub(OVERHEAD).max(MIN_MTU),
            peers: &peers,
        })?;
    }
    Ok(0)
}

/// A row of what is shown. Names and types stay as they are; further fields may come.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    node: u32,
    link: usize,
    address: Ipv4Addr,
    endpoint: SocketAddrV4,
    handshake_seconds: Option<u64>,
    bytes_in: u64,
    bytes_out: u64,
}

fn show(m: &ArgMatches) -> Result<u8, Failure> {
    let (rows, own) = rows(m)?;
    let table = needed(m)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut shown = Vec::new();
    for link in 0..own.addresses.len() {
        let states = wgnet::peers(&name(link))?;
        for row in rows.iter().filter(|r| r.node != own.node) {
            let key = table.key(row.node).map_err(Failure::failed)?;
            let found = (states.iter().find(|s| s.key == *key), row.addresses.get(link));
            if let (Some(s), Some(outside)) = found {
                shown.push(Shown {
                    node: row.node,
                    link: link + 1,
                    address: table.address(row.node, link),
                    endpoint: SocketAddrV4::new(*outside, table.port(link)),
                    handshake_seconds: (s.last_handshake != 0).then(|| now.saturating_sub(s.last_handshake)),
                    bytes_in: s.bytes_in,
                    bytes_out: s.bytes_out,
                });
            }
        }
    }
    if m.get_flag("json") {
        let text = serde_json::to_string(&shown).map_err(|e| Failure::failed(e.to_string()))?;
        println!("{{\"nodes\":{text}}}");
    } else {
        print!("{}", lines(&shown));
    }
    Ok(0)
}

fn lines(shown: &[Shown]) -> String {
    let mut out = format!(
        "{:>4} {:>4}  {:15}  {:21}  {:>9}  {:>14}  {:>14}\n",
        "NODE", "LINK", "ADDRESS", "ENDPOINT", "HANDSHAKE", "BYTES IN", "BYTES OUT"
    );
    for s in shown {
        let handshake = s.handshake_seconds.map_or("none".to_owned(), |n| format!("{n} s ago"));
        out += &format!(
            "{:>4} {:>4}  {:15}  {:21}  {:>9}  {:>14}  {:>14}\n",
            s.node,
            s.link,
            s.address.to_string(),
            s.endpoint.to_string(),
            handshake,
            s.bytes_in,
            s.bytes_out
        );
    }
    out
}

fn remove(m: &ArgMatches) -> Result<u8, Failure> {
    let is_member = match membership::status() {
        Ok(s) => s.this_node.is_some(),
        Err(netlink::Error::NoModule) => false,
        Err(e) => return Err(e.into()),
    };
    if is_member && !m.get_flag("force") {
        return Err(Failure::failed(
            "this node is in the cluster, perhaps over these interfaces; cluster leave first, or --force",
        ));
    }
    for link in 0..clustertab::MAX_LINKS {
        wgnet::remove(&name(link))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of RFC 7748, 6.1, as WireGuard writes it.
    #[test]
    fn public_keys_are_those_of_the_standard() {
        let secret = wgtab::decode("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=").expect("a key");
        let public = PublicKey::from(&StaticSecret::from(secret));
        assert_eq!(
            wgtab::encode(public.as_bytes()),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
        );
    }

    #[test]
    fn shown_by_node() {
        let row = Shown {
            node: 2,
            link: 1,
            address: Ipv4Addr::new(10, 222, 0, 2),
            endpoint: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 51820),
            handshake_seconds: None,
            bytes_in: 1,
            bytes_out: 2,
        };
        assert_eq!(
            serde_json::to_string(&row).expect("json"),
            concat!(
                r#"{"node":2,"link":1,"address":"10.222.0.2","endpoint":"10.0.0.2:51820","handshake_seconds":null,"#,
                r#""bytes_in":1,"bytes_out":2}"#
            )
        );
        let text = lines(&[row]);
        let widths: Vec<_> = text.lines().map(str::len).collect();
        assert!(widths[0] == widths[1] && text.contains("none"), "{text}");
    }
}
