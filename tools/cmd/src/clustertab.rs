// SPDX-License-Identifier: GPL-2.0

//! `/etc/clustertab`: the nodes of the cluster.
//!
//! Columns `node IP MAC boot initnode bootdev` as OpenSSI has them, `#` starts a comment. Column 2 may hold
//! several addresses separated by commas, one per link. What follows the address may be left out from the right. Behind
//! all that, `votes=N` says what the node counts in a majority, and `witness` that it does nothing else.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Most links, thus addresses, of one node.
pub(crate) const MAX_LINKS: usize = 8;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) node: u32,
    /// At least one; the order is the order of the links.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// What it counts in a majority.
    pub(crate) votes: u8,
    /// It has a vote, and no processes.
    pub(crate) is_witness: bool,
}

/// What is wrong, and in which line (counted from 1; 0 is the table as a whole).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TabError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for TabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            n => write!(f, "line {n}: {}", self.what),
        }
    }
}

/// Reads the whole table; rows come out in the order of node numbers.
///
/// # Errors
/// The first line that cannot be right, or an empty table.
pub(crate) fn parse(text: &str) -> Result<Vec<Row>, TabError> {
    let mut rows: Vec<Row> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let fail = |what: String| TabError { line: i + 1, what };
        let Some(row) = parse_line(line).map_err(fail)? else {
            continue;
        };
        if rows.iter().any(|r| r.node == row.node) {
            return Err(fail(format!("node {} has a row already", row.node)));
        }
        if let Some((r, a)) = rows
            .iter()
            .find_map(|r| r.addresses.iter().find(|a| row.addresses.contains(a)).map(|a| (r, a)))
        {
            return Err(fail(format!("address {a} belongs to node {} already", r.node)));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(TabError {
            line: 0,
            what: "no node in it".to_owned(),
        });
    }
    rows.sort_by_key(|r| r.node);
    check_votes(&rows).map_err(|what| TabError { line: 0, what })?;
    Ok(rows)
}

/// Whether majorities can be had, and none of witnesses alone.
fn check_votes(rows: &[Row]) -> Result<(), String> {
    let votes = |is_witness: bool| {
        let of = rows.iter().filter(|r| r.is_witness == is_witness);
        of.map(|r| u32::from(r.votes)).sum::<u32>()
    };
    let (witnesses, others) = (votes(true), votes(false));
    if witnesses + others == 0 {
        return Err("no node has a vote; give one votes=1".to_owned());
    }
    if witnesses >= others {
        return Err(format!(
            "witnesses have {witnesses} votes and the other nodes {others}; those must have more"
        ));
    }
    Ok(())
}

/// Takes `votes=N` and `witness` from the end of a line.
fn take_options(columns: &mut Vec<&str>) -> Result<(u8, bool), String> {
    let (mut votes, mut is_witness) = (None, false);
    while let Some(&last) = columns.last() {
        if let Some(n) = last.strip_prefix("votes=") {
            let n = u8::from_str(n).map_err(|_| format!("{last:?}: votes are 0 to 255"))?;
            if votes.replace(n).is_some() {
                return Err("votes= twice".to_owned());
            }
        } else if last == "witness" && !is_witness {
            is_witness = true;
        } else {
            break;
        }
        columns.pop();
    }
    Ok((votes.unwrap_or(1), is_witness))
}

/// Reads one line; `None` if there is nothing in it.
fn parse_line(line: &str) -> Result<Option<Row>, String> {
    let line = line.split('#').next().unwrap_or_default();
    let mut columns: Vec<&str> = line.split_whitespace().collect();
    let (votes, is_witness) = take_options(&mut columns)?;
    let (Some(&node), rest) = (columns.first(), columns.get(1..).unwrap_or_default()) else {
        return Ok(None);
    };
    if columns.len() > 6 {
        return Err(format!(
            "{} columns; node IP MAC boot initnode bootdev are 6",
            columns.len()
        ));
    }
    let number = u32::from_str(node)
        .ok()
        .filter(|n| (1..=cluster::netlink::MAX_NODE).contains(n))
        .ok_or_else(|| format!("{node:?} is no node number (1 to {})", cluster::netlink::MAX_NODE))?;
    let list = rest.first().ok_or_else(|| format!("node {number} has no address"))?;
    let mut addresses = Vec::new();
    for a in list.split(',') {
        let ip = Ipv4Addr::from_str(a).map_err(|_| format!("{a:?} is no IPv4 address"))?;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
            return Err(format!("{ip} is no address a node can have"));
        }
        if addresses.contains(&ip) {
            return Err(format!("address {ip} twice"));
        }
        addresses.push(ip);
    }
    if addresses.len() > MAX_LINKS {
        return Err(format!("{} addresses; at most {MAX_LINKS} links", addresses.len()));
    }
    if let Some(mac) = rest.get(1)
        && *mac != "-"
        && !is_mac(mac)
    {
        return Err(format!("{mac:?} is no hardware address such as 52:54:00:00:00:01"));
    }
    if let Some(init) = rest.get(3)
        && !matches!(*init, "0" | "1" | "N" | "Y" | "n" | "y" | "-")
    {
        return Err(format!("initnode is {init:?}; it must be 0 or 1, N or Y"));
    }
    Ok(Some(Row {
        node: number,
        addresses,
        votes,
        is_witness,
    }))
}

fn is_mac(s: &str) -> bool {
    let mut n = 0;
    s.split(':').all(|b| {
        n += 1;
        b.len() == 2 && b.bytes().all(|c| c.is_ascii_hexdigit())
    }) && n == 6
}

/// The row that has one of `ours` among its addresses.
///
/// # Errors
/// None has, or more than one.
pub(crate) fn own_row<'a>(rows: &'a [Row], ours: &[Ipv4Addr]) -> Result<&'a Row, String> {
    let mut found = rows.iter().filter(|r| r.addresses.iter().any(|a| ours.contains(a)));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(row),
        (Some(a), Some(b)) => Err(format!(
            "this machine has addresses of node {} and of node {}; say which with --node",
            a.node, b.node
        )),
        (None, _) => {
            let list: Vec<String> = ours.iter().map(Ipv4Addr::to_string).collect();
            let list = if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            };
            Err(format!(
                "no row has an address of this machine ({list}); configure the interface, add a row, or use --node"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: u32, addresses: &[[u8; 4]]) -> Row {
        Row {
            node,
            addresses: addresses.iter().map(|&a| Ipv4Addr::from(a)).collect(),
            votes: 1,
            is_witness: false,
        }
    }

    fn voting(node: u32, address: [u8; 4], votes: u8, is_witness: bool) -> Row {
        Row {
            votes,
            is_witness,
            ..row(node, &[address])
        }
    }

    #[test]
    fn good_tables() {
        for (text, want) in [
            (
                "# two nodes\n1 192.168.0.63 00:04:5A:4E:3C:72 E 1 /dev/sda1\n\n2\t192.168.0.64\t00:04:5a:4e:3c:73\tP\t0\t/dev/sda1\n",
                vec![row(1, &[[192, 168, 0, 63]]), row(2, &[[192, 168, 0, 64]])],
            ),
            (
                "# node\tIP\tMAC\tboot\tinitnode\tbootdev\n1\t10.73.1.1\t52:54:00:00:01:01\tP\tY\t-\n",
                vec![row(1, &[[10, 73, 1, 1]])],
            ),
            ("1022 10.0.0.1", vec![row(1022, &[[10, 0, 0, 1]])]),
            (
                "  7 10.73.0.7,10.73.1.7 - - 0 - # two links",
                vec![row(7, &[[10, 73, 0, 7], [10, 73, 1, 7]])],
            ),
            (
                "3 10.0.0.3\r\n1 10.0.0.1\r\n",
                vec![row(1, &[[10, 0, 0, 1]]), row(3, &[[10, 0, 0, 3]])],
            ),
            ("1 10.0.0.1#glued", vec![row(1, &[[10, 0, 0, 1]])]),
            (
                "1 10.0.0.1 - P 1 /dev/sda1 votes=255\n2 10.0.0.2 votes=0\n3 10.0.0.3 - witness votes=7\n4 10.0.0.4 votes=8 witness",
                vec![
                    voting(1, [10, 0, 0, 1], 255, false),
                    voting(2, [10, 0, 0, 2], 0, false),
                    voting(3, [10, 0, 0, 3], 7, true),
                    voting(4, [10, 0, 0, 4], 8, true),
                ],
            ),
        ] {
            assert_eq!(parse(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn bad_tables_name_the_line() {
        for (text, line, part) in [
            ("", 0, "no node"),
            ("# only a comment\n", 0, "no node"),
            ("0 10.0.0.1", 1, "no node number"),
            ("1023 10.0.0.1", 1, "no node number"),
            ("-1 10.0.0.1", 1, "no node number"),
            ("x 10.0.0.1", 1, "no node number"),
            ("4294967297 10.0.0.1", 1, "no node number"),
            ("1", 1, "has no address"),
            ("\n1 10.0.0", 2, "no IPv4 address"),
            ("1 10.0.0.256", 1, "no IPv4 address"),
            ("1 10.0.0.1,", 1, "no IPv4 address"),
            ("1 fe80::1", 1, "no IPv4 address"),
            ("1 0.0.0.0", 1, "no address a node"),
            ("1 224.0.0.1", 1, "no address a node"),
            ("1 10.0.0.1,10.0.0.1", 1, "twice"),
            (
                "1 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,10.0.0.9",
                1,
                "at most 8",
            ),
            ("1 10.0.0.1 00:04:5A:4E:3C", 1, "no hardware address"),
            ("1 10.0.0.1 00:04:5A:4E:3C:7g", 1, "no hardware address"),
            ("1 10.0.0.1 00:04:5A:4E:3C:+7", 1, "no hardware address"),
            ("1 10.0.0.1 - P yes", 1, "initnode"),
            ("1 10.0.0.1 - P 1 /dev/sda1 more", 1, "7 columns"),
            ("1 10.0.0.1 votes=256", 1, "votes are 0 to 255"),
            ("1 10.0.0.1 votes=", 1, "votes are 0 to 255"),
            ("1 10.0.0.1 votes=1 votes=1", 1, "votes= twice"),
            ("1 10.0.0.1 votes=1 -", 1, "no hardware address"),
            ("1 10.0.0.1 votes=0\n2 10.0.0.2 votes=0", 0, "no node has a vote"),
            ("1 10.0.0.1\n2 10.0.0.2 witness", 0, "witnesses have 1 votes"),
            ("1 10.0.0.1 witness", 0, "witnesses have 1 votes"),
            ("1 10.0.0.1\n1 10.0.0.2", 2, "has a row already"),
            ("1 10.0.0.1\n2 10.0.0.2,10.0.0.1", 2, "belongs to node 1"),
        ] {
            let e = parse(text).expect_err(text);
            assert_eq!(e.line, line, "{text:?}: {e}");
            assert!(e.what.contains(part), "{text:?}: {e}");
        }
    }

    #[test]
    fn own_row_is_found_by_address() {
        let rows = [row(1, &[[10, 0, 0, 1]]), row(2, &[[10, 0, 0, 2], [10, 0, 1, 2]])];
        let ip = |d| Ipv4Addr::new(10, 0, 0, d);
        assert_eq!(own_row(&rows, &[ip(9), ip(1)]).map(|r| r.node), Ok(1));
        assert_eq!(own_row(&rows, &[Ipv4Addr::new(10, 0, 1, 2)]).map(|r| r.node), Ok(2));
        assert!(own_row(&rows, &[ip(1), ip(2)]).is_err_and(|e| e.contains("node 1 and of node 2")));
        assert!(own_row(&rows, &[ip(9)]).is_err_and(|e| e.contains("10.0.0.9") && e.contains("--node")));
        assert!(own_row(&rows, &[]).is_err_and(|e| e.contains("none")));
    }
}
