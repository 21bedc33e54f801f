// SPDX-License-Identifier: GPL-2.0

//! `cluster join` and `cluster leave`.

use crate::clustertab;
use crate::config;
use crate::failure::Failure;
use crate::fence::Config;
use crate::keyfiles::KeyFiles;
use crate::table;
use crate::wireguard;
use clap::ArgMatches;
use cluster::membership;
use cluster::membership::JoinNode;
use cluster::membership::JoinRequest;
use cluster::netlink::Error;
use nix::errno::Errno;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

const NAME_FILE: &str = "/etc/clustername";

pub(crate) fn join(m: &ArgMatches) -> Result<u8, Failure> {
    let path = |id: &str| m.get_one::<PathBuf>(id).cloned().unwrap_or_default();
    let (tab, key_file) = (path("tab"), path("key"));

    let table = clustertab::table(&read_text(&tab)?).map_err(|e| about(&tab, e))?;
    let next = table::next_for_join(m, &table)?;
    let this_node = match m.get_one::<u32>("node") {
        Some(&n) if table.rows.iter().any(|r| r.node == n) => n,
        Some(n) => return Err(about(&tab, format!("no row for node {n}; add one"))),
        None => {
            clustertab::own_row(&table.rows, &own_addresses()?)
                .map_err(|e| about(&tab, e))?
                .node
        }
    };
    let table = for_kernel(m, table, Some(this_node))?;
    let next_table = next.map(|t| for_kernel(m, t, Some(this_node))).transpose()?;
    let name = match m.get_one::<String>("name") {
        Some(n) => config::check_name(n)
            .map(|()| n.clone())
            .map_err(|e| Failure::usage(format!("--name: {e}")))?,
        None => config::cluster_name(&read_text(Path::new(NAME_FILE))?).map_err(|e| about(Path::new(NAME_FILE), e))?,
    };
    let fence = Config::read(m)?;
    if let Err(e) = fence.check(table.nodes.iter().map(|n| n.node)) {
        eprintln!("warning: fence.toml: {e}");
    }
    let keys = KeyFiles::beside(&key_file)
        .and_then(|f| f.read())
        .map_err(|f| Failure {
            message: format!("{}; the same secret must be in this file on every node", f.message),
            ..f
        })?;
    warn_if_open(&key_file);

    let request = JoinRequest {
        name,
        this_node,
        table,
        next_table,
        key: keys.used,
        next_key: keys.next,
        old_key: keys.old,
        detect_ms: m.get_one::<u32>("detect-ms").copied(),
        fence: fence.for_join(),
    };
    membership::join(&request).map_err(|e| explain_join(e, &request.name, this_node))?;
    if let Err(f) = table::settle_after_join(m) {
        eprintln!("warning: {}; run cluster node finish", f.message);
    }
    Ok(0)
}

/// A table as the kernel is told. `this`: this node, which must have its addresses inside WireGuard.
///
/// # Errors
/// A file beside it cannot be read, or does not fit.
pub(crate) fn for_kernel(
    m: &ArgMatches,
    table: clustertab::Table,
    this: Option<u32>,
) -> Result<membership::Table, Failure> {
    let rows = match (wireguard::table(m)?, this) {
        (Some(t), Some(this)) => wireguard::inside(&t, &table.rows, this)?,
        (Some(t), None) => t.inside(&table.rows).map_err(Failure::failed)?,
        (None, _) => table.rows,
    };
    let fence = Config::read(m)?;
    // Names are for people: what the hosts file says on every node alike, else the number.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let nodes = rows.into_iter().map(|r| {
        let name = config::host_name(&hosts, &r.addresses).unwrap_or_else(|| format!("node{}", r.node));
        JoinNode {
            node: r.node,
            name,
            is_fenced: fence.devices.contains_key(&r.node),
            votes: r.votes,
            is_witness: r.is_witness,
            place: r.place,
            addresses: r.addresses,
        }
    });
    Ok(membership::Table {
        generation: table.generation,
        nodes: nodes.collect(),
    })
}

pub(crate) fn leave() -> Result<u8, Failure> {
    membership::leave().map(|()| 0).map_err(|e| match e {
        Error::Refused(r) => {
            let next = match r.errno {
                Errno::EPERM | Errno::EACCES => "run it as root",
                Errno::ENOTCONN => "this node is in no cluster; see cluster status",
                Errno::EAGAIN => "repair its fence agent, or see cluster node confirm-down --help",
                Errno::EALREADY => "cluster events --follow tells how that ends",
                Errno::EDQUOT => "let another node join first, or shut all nodes down",
                Errno::EBUSY => "end or migrate the processes that hold it, then try again",
                _ => "see the kernel log of this node",
            };
            Failure::failed(format!("this node cannot leave: {}; {next}", r.text()))
        }
        e => e.into(),
    })
}

fn explain_join(e: Error, name: &str, node: u32) -> Failure {
    match e {
        Error::Refused(r) => {
            let next = match r.errno {
                Errno::EPERM => "run it as root",
                Errno::EALREADY => "it has joined already; see cluster status",
                Errno::EACCES | Errno::EKEYREJECTED => "compare /etc/cluster.key on all nodes",
                Errno::EADDRNOTAVAIL => "configure the interface, or correct the row in clustertab",
                Errno::ENOTUNIQ | Errno::EADDRINUSE => {
                    "another machine uses this number; compare clustertab on all nodes"
                }
                Errno::EPROTO | Errno::EPROTONOSUPPORT => "install the same version on all nodes",
                _ => "see the kernel log of this node and of the master",
            };
            Failure::failed(format!("node {node}: cluster {name} refused: {}; {next}", r.text()))
        }
        e => e.into(),
    }
}

fn about(path: &Path, e: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {e}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| about(path, e))
}

pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| about(path, "it is not text"))
}

/// Says so if a secret can be read by others than its owner.
pub(crate) fn warn_if_open(key: &Path) {
    let open = std::fs::metadata(key).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    if open {
        eprintln!("warning: {} can be read by others; chmod 600 it", key.display());
    }
}

/// IPv4 addresses of this machine's interfaces, loopback left out.
pub(crate) fn own_addresses() -> Result<Vec<Ipv4Addr>, Failure> {
    let list = nix::ifaddrs::getifaddrs().map_err(|e| Failure::failed(format!("interfaces: {}", e.desc())))?;
    Ok(list
        .filter_map(|i| i.address?.as_sockaddr_in().map(|a| a.ip()))
        .filter(|a| !a.is_loopback())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;
    use cluster::netlink::Refused;

    #[test]
    fn refusal_names_node_cluster_reason_and_next_step() {
        let r = Refused {
            errno: Errno::EACCES,
            message: Some("node 1 has another key".to_owned()),
        };
        let f = explain_join(Error::Refused(r), "west", 2);
        assert_eq!(
            f.message,
            "node 2: cluster west refused: EACCES permission denied: node 1 has another key; \
             compare /etc/cluster.key on all nodes"
        );
        assert_eq!(f.code, failure::FAILED);
        assert_eq!(explain_join(Error::NoModule, "west", 2).code, failure::NO_MODULE);
    }
}
