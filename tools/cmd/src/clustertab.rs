// SPDX-License-Identifier: GPL-2.0

//! `/etc/clustertab`: the nodes of the cluster.
//!
//! Columns `node IP MAC boot initnode bootdev` as OpenSSI has them, `#` starts a comment. Column 2 may hold
//! several addresses separated by commas, one per link. What follows the address may be left out from the right. Behind
//! all that, `votes=N` says what the node counts in a majority, `witness` that it does nothing else, and `place=N` where it is in
//! the table. Rows without a place have, in the order of their numbers, the lowest that are free.
//!
//! A line `generation N` says how many changes the table has seen while the cluster ran; without it, none.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Most links, thus addresses, of one node.
pub(crate) const MAX_LINKS: usize = 8;

/// Places of a table.
pub(crate) const PLACES: u32 = 64;

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// How many changes it has seen.
    pub(crate) generation: u64,
    /// In the order of node numbers.
    pub(crate) rows: Vec<Row>,
}

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
    /// No change of the table alters it.
    pub(crate) place: u32,
}

/// What is at the end of a line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    votes: Option<u8>,
    is_witness: bool,
    place: Option<u32>,
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

/// Reads the rows.
///
/// # Errors
/// As [`table`].
pub(crate) fn parse(text: &str) -> Result<Vec<Row>, TabError> {
    table(text).map(|t| t.rows)
}

/// Reads the whole table; rows come out in the order of node numbers.
///
/// # Errors
/// The first line that cannot be right, or an empty table.
pub(crate) fn table(text: &str) -> Result<Table, TabError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut placed: Vec<(u32, u32)> = Vec::new();
    let mut generation = None;
    for (i, line) in text.lines().enumerate() {
        let fail = |what: String| TabError { line: i + 1, what };
        if let Some(n) = parse_generation(line).map_err(fail)? {
            if generation.replace(n).is_some() {
                return Err(fail("generation twice".to_owned()));
            }
            continue;
        }
        let Some((row, place)) = parse_line(line).map_err(fail)? else {
            continue;
        };
        if let Some(place) = place {
            if let Some((n, _)) = placed.iter().find(|(_, p)| *p == place) {
                return Err(fail(format!("place {place} is that of node {n} already")));
            }
            placed.push((row.node, place));
        }
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
    check_votes(&rows).map_err(whole)?;
    let is_taken = |p: &u32| placed.iter().any(|(_, q)| q == p);
    let mut free = (0..PLACES).filter(|p| !is_taken(p));
    for r in &mut rows {
        let own = placed.iter().find(|(n, _)| *n == r.node).map(|(_, p)| *p);
        let place = own.or_else(|| free.next());
        r.place = place.ok_or_else(|| whole(format!("more than {PLACES} nodes")))?;
    }
    Ok(Table {
        generation: generation.unwrap_or(0),
        rows,
    })
}

fn whole(what: String) -> TabError {
    TabError { line: 0, what }
}

/// The text without its comment.
fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// Reads `generation N`; `None` if the line is another.
fn parse_generation(line: &str) -> Result<Option<u64>, String> {
    let mut words = uncommented(line).split_whitespace();
    if words.next() != Some("generation") {
        return Ok(None);
    }
    match (words.next().and_then(|n| n.parse().ok()), words.next()) {
        (Some(n), None) => Ok(Some(n)),
        _ => Err("generation is a number".to_owned()),
    }
}

/// A change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A node comes.
    Add(Row),
    /// A node goes.
    Remove(u32),
    /// A node has that many votes.
    Votes(u32, u8),
}

/// The text of the table that follows. `None`: it is so already.
///
/// # Errors
/// The text is no table, or the change makes none of it.
pub(crate) fn edit(text: &str, change: &Change) -> Result<Option<String>, TabError> {
    let before = table(text)?;
    let row = |n: u32| before.rows.iter().find(|r| r.node == n);
    let is_row = |line: &str, n: u32| matches!(parse_line(line), Ok(Some((r, _))) if r.node == n);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match change {
        Change::Add(new) => match row(new.node) {
            Some(r) => {
                let same = Row {
                    place: r.place,
                    ..new.clone()
                };
                if same == *r {
                    return Ok(None);
                }
                let what = format!("node {} has another row already; remove it first", new.node);
                return Err(whole(what));
            }
            None => {
                let addresses: Vec<String> = new.addresses.iter().map(Ipv4Addr::to_string).collect();
                let witness = if new.is_witness { " witness" } else { "" };
                let line = format!("{} {} votes={}{witness}", new.node, addresses.join(","), new.votes);
                lines.push(line);
            }
        },
        Change::Remove(n) => {
            if row(*n).is_none() {
                return Ok(None);
            }
            lines.retain(|l| !is_row(l, *n));
        }
        Change::Votes(n, votes) => {
            let r = row(*n).ok_or_else(|| whole(format!("no row for node {n}")))?;
            if r.votes == *votes {
                return Ok(None);
            }
            for l in lines.iter_mut().filter(|l| is_row(l, *n)) {
                *l = with_option(l, "votes=", u32::from(*votes));
            }
        }
    }
    lines.retain(|l| !matches!(parse_generation(l), Ok(Some(_))));
    lines.insert(0, format!("generation {}", before.generation + 1));
    let join = |lines: &[String]| lines.join("\n") + "\n";
    // Who stays keeps its place; who comes has the lowest that is free.
    let free = (0..PLACES).find(|p| before.rows.iter().all(|r| r.place != *p));
    let place_of = |n: u32| row(n).map(|r| r.place).or(free);
    let after = table(&join(&lines))?;
    if after.rows.iter().any(|r| Some(r.place) != place_of(r.node)) {
        for l in &mut lines {
            if let Ok(Some((r, _))) = parse_line(l) {
                let place = place_of(r.node).ok_or_else(|| whole("no place is free".to_owned()))?;
                *l = with_option(l, "place=", place);
            }
        }
    }
    let text = join(&lines);
    table(&text)?;
    Ok(Some(text))
}

/// The line with another value of an option. Its comment stays.
fn with_option(line: &str, name: &str, value: u32) -> String {
    let (row, comment) = line.split_once('#').map_or((line, None), |(r, c)| (r, Some(c)));
    let mut words: Vec<&str> = row.split_whitespace().filter(|w| !w.starts_with(name)).collect();
    let option = format!("{name}{value}");
    words.push(&option);
    match comment {
        Some(c) => format!("{} #{c}", words.join(" ")),
        None => words.join(" "),
    }
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

/// Takes `votes=N`, `witness` and `place=N` from the end of a line.
fn take_options(columns: &mut Vec<&str>) -> Result<Options, String> {
    let (mut votes, mut is_witness, mut place) = (None, false, None);
    while let Some(&last) = columns.last() {
        if let Some(n) = last.strip_prefix("votes=") {
            let n = u8::from_str(n).map_err(|_| format!("{last:?}: votes are 0 to 255"))?;
            if votes.replace(n).is_some() {
                return Err("votes= twice".to_owned());
            }
        } else if let Some(n) = last.strip_prefix("place=") {
            let n = u32::from_str(n).ok().filter(|n| *n < PLACES);
            let n = n.ok_or_else(|| format!("{last:?}: places are 0 to {}", PLACES - 1))?;
            if place.replace(n).is_some() {
                return Err("place= twice".to_owned());
            }
        } else if last == "witness" && !is_witness {
            is_witness = true;
        } else {
            break;
        }
        columns.pop();
    }
    Ok(Options {
        votes,
        is_witness,
        place,
    })
}

/// Reads a node number.
///
/// # Errors
/// No node can have it.
pub(crate) fn parse_number(word: &str) -> Result<u32, String> {
    let number = u32::from_str(word)
        .ok()
        .filter(|n| (1..=cluster::membership::MAX_NODE).contains(n));
    number.ok_or_else(|| format!("{word:?} is no node number (1 to {})", cluster::membership::MAX_NODE))
}

/// Reads one line: a row, and the place that it names; `None` if there is nothing in it.
fn parse_line(line: &str) -> Result<Option<(Row, Option<u32>)>, String> {
    let mut columns: Vec<&str> = uncommented(line).split_whitespace().collect();
    let options = take_options(&mut columns)?;
    let (Some(&node), rest) = (columns.first(), columns.get(1..).unwrap_or_default()) else {
        return Ok(None);
    };
    if columns.len() > 6 {
        return Err(format!(
            "{} columns; node IP MAC boot initnode bootdev are 6",
            columns.len()
        ));
    }
    let number = parse_number(node)?;
    let list = rest.first().ok_or_else(|| format!("node {number} has no address"))?;
    let addresses = parse_addresses(list)?;
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
    let row = Row {
        node: number,
        addresses,
        votes: options.votes.unwrap_or(1),
        is_witness: options.is_witness,
        place: 0,
    };
    Ok(Some((row, options.place)))
}

/// Reads the addresses of a row, separated by commas.
///
/// # Errors
/// One is none that a node can have, or is there twice; there are too many.
pub(crate) fn parse_addresses(list: &str) -> Result<Vec<Ipv4Addr>, String> {
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
    Ok(addresses)
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
            place: 0,
        }
    }

    /// Where nothing says otherwise places are in the order of numbers.
    fn placed(mut rows: Vec<Row>) -> Vec<Row> {
        for (p, r) in (0..).zip(&mut rows) {
            r.place = p;
        }
        rows
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
            assert_eq!(parse(text), Ok(placed(want)), "{text:?}");
        }
    }

    const THREE: &str = "# three\n1 10.0.0.1 # first\n2 10.0.0.2\n5 10.0.0.5 - P 1\n";

    /// What follows a table, and the place of each node in it.
    fn after(text: &str, change: &Change) -> (String, Vec<(u32, u32)>) {
        let next = edit(text, change).expect("a table").expect("another one");
        let t = table(&next).expect("a table");
        assert_eq!(t.generation, table(text).expect("a table").generation + 1);
        let places = t.rows.iter().map(|r| (r.node, r.place)).collect();
        // The same again changes nothing.
        assert_eq!(edit(&next, change), Ok(None));
        (next, places)
    }

    #[test]
    fn a_change_keeps_places_and_comments() {
        let add = |n: u32, d: u8, votes| {
            Change::Add(Row {
                votes,
                ..row(n, &[[10, 0, 0, d]])
            })
        };
        let (text, places) = after(THREE, &add(7, 7, 0));
        assert_eq!(
            text,
            "generation 1\n# three\n1 10.0.0.1 # first\n2 10.0.0.2\n5 10.0.0.5 - P 1\n7 10.0.0.7 votes=0\n"
        );
        assert_eq!(places, [(1, 0), (2, 1), (5, 2), (7, 3)]);
        let (text, _) = after(&text, &Change::Votes(7, 1));
        assert!(
            text.starts_with("generation 2\n") && text.ends_with("7 10.0.0.7 votes=1\n"),
            "{text}"
        );
        // Whoever would move says where it is.
        let (text, places) = after(&text, &Change::Remove(1));
        assert_eq!(places, [(2, 1), (5, 2), (7, 3)]);
        assert!(text.contains("2 10.0.0.2 place=1\n"), "{text}");
        let (text, places) = after(&text, &add(3, 3, 1));
        assert_eq!(places, [(2, 1), (3, 0), (5, 2), (7, 3)]);
        let (_, places) = after(&text, &add(6, 6, 1));
        assert_eq!(places, [(2, 1), (3, 0), (5, 2), (6, 4), (7, 3)]);
        for (change, part) in [
            (add(1, 9, 1), "another row"),
            (add(9, 2, 1), "belongs to node 2"),
            (Change::Votes(9, 1), "no row for node 9"),
        ] {
            let e = edit(THREE, &change).expect_err(part);
            assert!(e.what.contains(part), "{e}");
        }
        assert_eq!(edit(THREE, &Change::Remove(9)), Ok(None));
        assert!(edit("1 10.0.0.1", &Change::Remove(1)).is_err());
        let full: String = (1..=64).map(|n| format!("{n} 10.0.0.{n}\n")).collect();
        assert!(edit(&full, &add(65, 65, 1)).is_err_and(|e| e.what.contains("more than 64")));
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
            ("1 10.0.0.1 place=64", 1, "places are 0 to 63"),
            ("1 10.0.0.1 place=1 place=1", 1, "place= twice"),
            ("1 10.0.0.1 place=1\n2 10.0.0.2 place=1", 2, "that of node 1"),
            ("generation x\n1 10.0.0.1", 1, "generation is a number"),
            ("generation 1\n1 10.0.0.1\ngeneration 1", 3, "generation twice"),
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
