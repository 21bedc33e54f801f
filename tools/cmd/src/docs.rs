// SPDX-License-Identifier: GPL-2.0

//! What the build asks of the binary: its names, its man pages, its completions.

use crate::cli;
use crate::failure::Failure;
use clap::ArgMatches;
use clap_complete::Shell;
use std::fs::File;
use std::fs::create_dir_all;
use std::io;
use std::path::Path;
use std::path::PathBuf;

pub(crate) fn names() -> Result<u8, Failure> {
    for n in cli::LINKS {
        println!("{n}");
    }
    Ok(0)
}

/// `DIR/man/*.8` and `DIR/completions/*`.
pub(crate) fn write(m: &ArgMatches) -> Result<u8, Failure> {
    let dir = m.get_one::<PathBuf>("dir").cloned().unwrap_or_default();
    write_all(&dir).map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
    Ok(0)
}

fn write_all(dir: &Path) -> io::Result<()> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    create_dir_all(&man)?;
    create_dir_all(&completions)?;
    let all = cli::LINKS.iter().filter_map(|l| cli::link(l)).chain([cli::cluster()]);
    for mut c in all {
        let name = c.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut c, &name, &completions)?;
        }
        pages(&man, &name, c)?;
    }
    Ok(())
}

/// The page of a command, and those of its subcommands that are not commands of their own.
fn pages(dir: &Path, name: &str, c: clap::Command) -> io::Result<()> {
    let subcommands: Vec<_> = c
        .get_subcommands()
        .filter(|s| !s.is_hide_set() && s.get_name() != "help" && !cli::LINKS.contains(&s.get_name()))
        .cloned()
        .collect();
    page(dir, name, c)?;
    for s in subcommands {
        let full = format!("{name}-{}", s.get_name());
        pages(dir, &full, s.display_name(full.clone()))?;
    }
    Ok(())
}

fn page(dir: &Path, name: &str, c: clap::Command) -> io::Result<()> {
    let page = clap_mangen::Man::new(c)
        .section("8")
        .title(name.to_uppercase())
        .manual("OpenSSI");
    page.render(&mut File::create(dir.join(format!("{name}.8")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_completions() {
        let dir = tempfile::tempdir().expect("a folder");
        write_all(dir.path()).expect("pages");
        for n in cli::LINKS
            .iter()
            .chain(&[
                "cluster",
                "cluster-status",
                "cluster-join",
                "cluster-leave",
                "cluster-events",
            ])
            .chain(&[
                "cluster-node",
                "cluster-node-list",
                "cluster-node-show",
                "cluster-node-fence",
            ])
        {
            let text = std::fs::read_to_string(dir.path().join(format!("man/{n}.8"))).expect(n);
            assert!(text.contains(".TH "), "{n}");
        }
        for n in cli::LINKS {
            for file in [format!("{n}.bash"), format!("_{n}"), format!("{n}.fish")] {
                assert!(dir.path().join("completions").join(&file).exists(), "{file}");
            }
        }
    }
}
