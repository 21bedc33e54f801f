// SPDX-License-Identifier: GPL-2.0

//! Makes a copy of the state machine for each rule of `mutants.txt`, in which that rule is broken, and a module that runs it
//! in the same worlds as the true one.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// The files of the state machine, below `clms/`.
const FILES: [&str; 7] = [
    "state.rs",
    "state/lease.rs",
    "state/proposals.rs",
    "state/input.rs",
    "state/says.rs",
    "state/table.rs",
    "state/together.rs",
];

/// What runs it, below `src/`.
const WORLDS: [&str; 6] = ["world", "faults", "shapes", "leaving", "tables", "work"];

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says where this is");
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    let clms = Path::new(&here).join("../../../clms");
    let sources = FILES.map(|f| {
        println!("cargo:rerun-if-changed={}", clms.join(f).display());
        fs::read_to_string(clms.join(f)).expect("a file of the state machine")
    });
    println!("cargo:rerun-if-changed=mutants.txt");
    let list = fs::read_to_string(Path::new(&here).join("mutants.txt")).expect("the list");
    let mut modules = String::new();
    for rule in list.split("\n\n").filter(|r| !r.trim_start().starts_with('#')) {
        let lines: Vec<_> = rule.trim_end().lines().collect();
        let [name, from, to] = lines[..] else {
            panic!("name, text and what it becomes:\n{rule}")
        };
        let found: usize = sources.iter().map(|s| s.matches(from).count()).sum();
        assert_eq!(found, 1, "{name}: the text is there once: {from}");
        let folder = Path::new(&out).join(name);
        fs::create_dir_all(folder.join("state")).expect("a folder");
        for (file, source) in FILES.iter().zip(&sources) {
            fs::write(folder.join(file), source.replace(from, to)).expect("a mutant");
        }
        writeln!(modules, "/// Broken: {name}.\npub mod {name} {{").expect("a string");
        let mut module = |name: &str, path: &Path| {
            writeln!(
                modules,
                "#[path = {path:?}]\n#[allow(dead_code, missing_docs, unused_variables)]\npub(crate) mod {name};"
            )
            .expect("a string");
        };
        module("state", &folder.join("state.rs"));
        for world in WORLDS {
            module(world, &Path::new(&here).join("src").join(format!("{world}.rs")));
        }
        modules += "}\n";
    }
    fs::write(Path::new(&out).join("mutants.rs"), modules).expect("the modules");
}
