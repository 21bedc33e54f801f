// SPDX-License-Identifier: GPL-2.0

//! The grammar of every command. Man pages and completions are made from it.

use crate::clustertab;
use clap::Arg;
use clap::ArgAction;
use clap::Command;
use clap::value_parser;
use cluster::membership::MAX_NODE;
use std::ffi::OsString;
use std::path::PathBuf;

/// The names beside `cluster` that the binary answers to. Each is also a subcommand.
pub(crate) const LINKS: &[&str] = &[
    "clustername",
    "clusternode_getstate",
    "clusternode_num",
    "clusternode_shutdown",
    "migrate",
    "onall",
    "onnode",
    "where_pid",
];

/// `cluster` and all its subcommands.
pub(crate) fn cluster() -> Command {
    let mut c = Command::new("cluster")
        .about("Look at the cluster, join it, leave it")
        .version(clap::crate_version!())
        // OpenSSI's -V means something else.
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .long("version")
                .action(ArgAction::Version)
                .help("Print version"),
        )
        .arg(
            Arg::new("list")
                .short('v')
                .action(ArgAction::SetTrue)
                .conflicts_with("show")
                .help("As OpenSSI's: list the nodes, like cluster node list"),
        )
        .arg(
            Arg::new("show")
                .short('V')
                .value_name("NODE")
                .help("As OpenSSI's: show a node, like cluster node show NODE"),
        )
        .args_conflicts_with_subcommands(true)
        .arg_required_else_help(true)
        .after_help(EXIT_CODES)
        .subcommand(status())
        .subcommand(node())
        .subcommand(events())
        .subcommand(join())
        .subcommand(ics())
        .subcommand(key())
        .subcommand(wireguard())
        .subcommand(
            Command::new("leave").about("Take this node out of the cluster; refused while processes of others need it"),
        )
        .subcommand(
            Command::new("fenced")
                .about("Run fence agents for the kernel; started once per node")
                .after_help("It ends only with an error: 1 fence.toml or the kernel, 3 no module.")
                .arg(fence_arg()),
        )
        .subcommand(noded())
        .subcommand(
            Command::new("names")
                .about("List the other names of this program")
                .hide(true),
        )
        .subcommand(
            Command::new("docs")
                .about("Write man pages and shell completions")
                .hide(true)
                .arg(
                    Arg::new("dir")
                        .value_name("DIR")
                        .required(true)
                        .value_parser(value_parser!(PathBuf)),
                ),
        );
    for name in LINKS {
        if let Some(l) = link(name) {
            c = c.subcommand(l);
        }
    }
    c
}

/// The command that the link `name` stands for.
pub(crate) fn link(name: &str) -> Option<Command> {
    let c = match name {
        "clustername" => Command::new("clustername").about("Print the name of the cluster; exit 1 if it has none"),
        "clusternode_num" => {
            Command::new("clusternode_num").about("Print the number of this node; exit 1 if it has not joined")
        }
        "clusternode_getstate" => Command::new("clusternode_getstate")
            .about("Print the state of a node, one of the eight: NEVERUP COMINGUP UP SHUTDOWN GOINGDOWN KCLEANUP UCLEANUP DOWN")
            .arg(node_arg()),
        "clusternode_shutdown" => shutdown(Command::new("clusternode_shutdown"))
            .about("As OpenSSI's: shut a node down, like cluster node shutdown NODE")
            .arg(
                Arg::new("node")
                    .short('N')
                    .value_name("NODE")
                    .required(true)
                    .help("Number or name of the node"),
            )
            .arg(
                Arg::new("when")
                    .short('t')
                    .value_name("WHEN")
                    .value_parser(["now"])
                    .help("Nothing but now, which is the default; at(1) knows other times"),
            ),
        "migrate" => Command::new("migrate")
            .about("Move running processes to another node")
            .after_help(
                "On refusal one line per process says why, for example:\n  \
                 migrate: pid 5: to node 3: EOPNOTSUPP fd 4 eventpoll\n\n\
                 Exit status: 0 all moved, 1 at least one was not, 2 usage, 3 no module.",
            )
            .arg(node_arg())
            .arg(
                Arg::new("pid")
                    .value_name("PID")
                    .help("Processes to move")
                    .required(true)
                    .num_args(1..)
                    .value_parser(value_parser!(i32).range(1..)),
            ),
        "where_pid" => Command::new("where_pid")
            .about("Print the number of the node a process runs on; exit 1 if there is no such process")
            .arg(Arg::new("pid").value_name("PID").required(true).value_parser(value_parser!(i32).range(1..))),
        "onnode" => Command::new("onnode")
            .about("Run a command on another node, with this terminal, environment and directory")
            .after_help(
                "Exit status: that of CMD; 125 the cluster could not run it, 126 CMD cannot be run, \
                 127 there is no CMD, 2 usage.",
            )
            .arg(
                Arg::new("pin")
                    .short('p')
                    .action(ArgAction::SetTrue)
                    .help("Keep it there: never move it to balance load (nothing does yet)"),
            )
            .arg(
                Arg::new("local")
                    .short('l')
                    .action(ArgAction::SetTrue)
                    .help("Let it see only that node's processes and devices (not supported yet: refused)"),
            )
            .arg(node_arg())
            .arg(command_arg()),
        "onall" => Command::new("onall")
            .about("Run a command on every node that is up, one after the other in the order of their numbers")
            .after_help("Exit status: the highest of all; 128 + N for a command ended by signal N.")
            .arg(
                Arg::new("prefix")
                    .long("prefix")
                    .action(ArgAction::SetTrue)
                    .help("Begin each line of output with the number of its node"),
            )
            .arg(command_arg()),
        _ => return None,
    };
    Some(c.version(clap::crate_version!()))
}

fn status() -> Command {
    Command::new("status")
        .about("Show the nodes of the cluster and their states")
        .after_help("Exit status: 0 the cluster is quorate, 1 it is not, 2 usage, 3 no module.")
        .arg(json_arg("Print one JSON object"))
}

fn json_arg(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

fn json_lines_arg() -> Arg {
    json_arg("Print JSON, one object for each line")
}

fn node() -> Command {
    Command::new("node")
        .about("List the nodes, show one, or act on another one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help("Exit status: 0 done, 1 no such node or not joined, 2 usage, 3 no module.")
        .subcommand(
            Command::new("list")
                .about("List the nodes with their processors and memory")
                .arg(json_arg("Print one JSON array")),
        )
        .subcommand(
            Command::new("show")
                .about("Show a node: state, incarnation, processors, memory, its last transition")
                .arg(node_arg())
                .arg(json_arg("Print one JSON object")),
        )
        .subcommand(
            shutdown(Command::new("shutdown"))
                .about("Shut a node down: empty it, have it leave, and switch its machine off")
                .arg(node_arg()),
        )
        .subcommands(table_changes("Change the table of nodes on all members: ").map(|c| c.arg(json_lines_arg())))
        .subcommand(
            with_table_files(
                Command::new("finish").about("Go on with a change of the table that was interrupted, on all members"),
            )
            .arg(json_lines_arg()),
        )
        .subcommand(
            with_table_files(
                Command::new("cancel").about("Give up a change of the table that not all members have staged"),
            )
            .arg(json_lines_arg()),
        )
        .subcommand(
            Command::new("stage")
                .about("A step of a change, for this node: write the next table beside clustertab, and know it")
                .subcommand_required(true)
                .subcommands(table_changes("Stage on this node: ")),
        )
        .subcommand(with_table_files(
            Command::new("unstage").about("A step of cancel, for this node: give up what is staged"),
        ))
        .subcommand(with_table_files(
            Command::new("settle").about("A step of a change, for this node: the next table takes clustertab's place"),
        ))
        .subcommand(
            Command::new("fence")
                .about("Switch a node off by its fence agent, from here, and tell all members that it is off")
                .after_help(
                    "With --status nothing is switched, and any node that fence.toml names may be asked for: it shows whether \
                     the agent and its options are right.\n\n\
                     Exit status: 0 it is off, 1 it is not, 2 usage, 3 no module; with --status 0 on or off is printed, 1 the \
                     agent cannot tell, and what it said is printed.",
                )
                .arg(
                    Arg::new("status")
                        .long("status")
                        .action(ArgAction::SetTrue)
                        .conflicts_with_all(["off", "force"])
                        .help("Only have the agent say whether the node is on"),
                )
                .arg(
                    Arg::new("off")
                        .long("off")
                        .action(ArgAction::SetTrue)
                        .help("Leave it off, whatever fence.toml says"),
                )
                .arg(
                    Arg::new("force")
                        .long("force")
                        .action(ArgAction::SetTrue)
                        .help("Also a node that is neither a member nor waits to be fenced"),
                )
                .arg(fence_arg())
                .arg(node_arg())
                .arg(json_arg("Print one JSON object")),
        )
        .subcommand(
            Command::new("confirm-down")
                .about("Tell all members that a lost node is off, which YOU have made sure of")
                .after_help(
                    "DANGEROUS. The members take over what was the node's. If it still runs it goes on writing, and data \
                     are lost. Only after you have cut its power, and only if its fence agent cannot do that.\n\n\
                     Exit status: 0 they know, 1 it does not wait to be fenced, 2 usage, 3 no module.",
                )
                .arg(node_arg())
                .arg(json_arg("Print one JSON object; nothing without it")),
        )
}

/// The three changes of the table.
fn table_changes(about: &str) -> [Command; 3] {
    let number = || {
        Arg::new("number")
            .value_name("NUMBER")
            .required(true)
            .value_parser(clustertab::parse_number)
            .help("The node's number, 1 to 1022")
    };
    let votes = |range: std::ops::RangeInclusive<i64>| value_parser!(u8).range(range);
    let after = "The members go on with the other table all at once, while the cluster runs. Every member is asked in turn; one that is a witness is not reached from here: run cluster node stage, and then settle, there.\n\n\
                 What was interrupted goes on by the same command, or cluster node finish, on any member; cluster node cancel gives it up, as \
                 long as the members have not switched.\n\n\
                 Exit status: 0 done on all members, 1 refused or not done, 2 usage, 3 no module.";
    [
        Command::new("add")
            .about(format!("{about}a node comes in"))
            .after_help(after)
            .arg(number())
            .arg(
                Arg::new("addresses")
                    .value_name("ADDRESS[,ADDRESS...]")
                    .required(true)
                    .help("Its addresses, one for each link"),
            )
            .arg(
                Arg::new("votes")
                    .long("votes")
                    .value_name("N")
                    .default_value("0")
                    .value_parser(votes(0..=1))
                    .help("What it counts in a majority. With 1 it counts before it is there: one death less is survived until it is up"),
            )
            .arg(
                Arg::new("witness")
                    .long("witness")
                    .action(ArgAction::SetTrue)
                    .help("It votes, and is nothing else"),
            ),
        Command::new("remove")
            .about(format!("{about}a node goes, which is no member"))
            .after_help(after)
            .arg(number()),
        Command::new("votes")
            .about(format!("{about}a node counts more or less in a majority"))
            .after_help(after)
            .arg(number())
            .arg(
                Arg::new("votes")
                    .value_name("N")
                    .required(true)
                    .value_parser(votes(0..=255))
                    .help("0 to 255; they go up or down one by one"),
            ),
    ]
    .map(with_table_files)
}

/// The files that say what the table is.
fn with_table_files(c: Command) -> Command {
    c.arg(
        Arg::new("tab")
            .long("tab")
            .value_name("FILE")
            .default_value("/etc/clustertab")
            .value_parser(value_parser!(PathBuf))
            .help("The nodes of the cluster; at the same path on all of them"),
    )
    .arg(fence_arg())
    .arg(wireguard_arg())
}

/// What `cluster node shutdown` and `clusternode_shutdown` have in common.
fn shutdown(c: Command) -> Command {
    let action = |id: &'static str, help: &'static str| {
        Arg::new(id)
            .long(id)
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["reboot", "poweroff", "stay"].into_iter().filter(|o| *o != id))
            .help(help)
    };
    c.after_help(
        "It is refused, and nothing changed, if the nodes that remain would be no majority, a lost node waits to be \
         fenced, or the node is not UP. Else the node goes to SHUTDOWN and takes no more processes. Its processes that belong \
         to other nodes move there; those that cannot are told SIGTERM, and SIGKILL when the grace is over. Processes of \
         that node alone go down with it: migrate them before if they shall not. Then it leaves, and its machine powers \
         off by the command of the sysctl kernel.poweroff_cmd, or restarts by /sbin/reboot.\n\n\
         It goes on when this command is interrupted, or the node where it runs dies. If it cannot go on, the node is UP again and takes \
         processes, and this command says why.\n\n\
         Exit status: 0 the others have a view without it, 1 refused, or it stayed, or it died before it had left, 2 usage, 3 \
         no module.",
    )
    .arg(action("reboot", "Restart its machine"))
    .arg(action("poweroff", "Power its machine off (the default)"))
    .arg(action("stay", "Leave its machine as it is: the node only leaves the cluster"))
    .arg(
        Arg::new("grace")
            .long("grace")
            .value_name("SECONDS")
            .default_value("30")
            .value_parser(value_parser!(u32).range(0..=86400))
            .help("How long processes may take to go or to end"),
    )
    .arg(json_lines_arg())
}

fn events() -> Command {
    Command::new("events")
        .about("Print how nodes changed their states, oldest first, as far as this node keeps it")
        .after_help(
            "Exit status: 0 done, 1 failed, 2 usage, 3 no module; with --follow also when the module is removed.\n\n\
             A transition by a view has the same number on every node; what one node alone sees, such as UCLEANUP, has one of its own. \
             A line that begins with \"the history does not reach back\" \
             (JSON: \"gap\") says that transitions before the next line may be missing.",
        )
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Go on with what happens from now on, views too"),
        )
        .arg(
            Arg::new("simple")
                .long("simple")
                .action(ArgAction::SetTrue)
                .help("Only transitions to and from UP"),
        )
        .arg(
            Arg::new("after")
                .long("after")
                .value_name("ID")
                .value_parser(value_parser!(u64))
                .help("Begin after the transition of that number"),
        )
        .arg(json_lines_arg())
}

fn ics() -> Command {
    Command::new("ics")
        .about("Look at the interconnect")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("show")
                .about("Show what calls between nodes and links to nodes came to since the modules were loaded")
                .after_help("Exit status: 0 done, 1 failed, 2 usage, 3 no module.")
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .help("Also show ops that nobody has called"),
                )
                .arg(
                    Arg::new("json")
                        .long("json")
                        .action(ArgAction::SetTrue)
                        .help("Print one JSON object, with all ops"),
                ),
        )
}

fn key() -> Command {
    let key_file = || {
        Arg::new("key")
            .long("key")
            .value_name("FILE")
            .default_value("/etc/cluster.key")
            .value_parser(value_parser!(PathBuf))
            .help("Where the node has its key")
    };
    let file = |help: &'static str| {
        Arg::new("file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    let print = || {
        Arg::new("print")
            .value_name("FINGERPRINT")
            .required(true)
            .value_parser(crate::key::parse_print)
            .help("As cluster key show prints it")
    };
    Command::new("key")
        .about("Show the cluster keys in use, or change the key of the running cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Exit status: 0 done, 1 failed or refused, 2 usage, 3 no module.\n\n\
             To change the key: cluster key generate FILE; copy FILE to the same place on every node, as you copied the first \
             key; cluster key rotate FILE on one of them. If that fails, mend what it says and run it again.",
        )
        .subcommand(
            Command::new("show")
                .about("Show by fingerprint which keys each member uses, has staged, or has not dropped yet")
                .arg(json_arg("Print one JSON object")),
        )
        .subcommand(
            Command::new("generate")
                .about("Write a new random key into a file that is not there yet")
                .arg(file("The file to be made").required(true)),
        )
        .subcommand(
            Command::new("rotate")
                .about("Change the key on all members: stage, switch, drop; goes on where an earlier try ended")
                .arg(file("The new key, on every node under this name [default: what is staged]"))
                .arg(key_file()),
        )
        .subcommand(
            Command::new("stage")
                .about("On this node: hear a further key, and keep it beside the key in use")
                .arg(file("The new key").required(true))
                .arg(key_file()),
        )
        .subcommand(
            Command::new("unstage")
                .about("On this node: forget the staged key")
                .arg(key_file()),
        )
        .subcommand(
            Command::new("switch")
                .about("On this node: use the staged key; refused if a member has not staged it")
                .arg(print())
                .arg(key_file()),
        )
        .subcommand(
            Command::new("drop")
                .about("On this node: forget the key before; refused if a member uses it still")
                .arg(print())
                .arg(key_file()),
        )
}

fn join() -> Command {
    let path = |id: &'static str, default: &'static str, help: &'static str| {
        Arg::new(id)
            .long(id)
            .value_name("FILE")
            .default_value(default)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    Command::new("join")
        .about("Make this machine a node of the cluster; returns when it is up or was refused")
        .arg(
            Arg::new("node")
                .long("node")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=i64::from(MAX_NODE)))
                .help("Number of this node [default: the row of clustertab whose address is ours]"),
        )
        .arg(path("tab", "/etc/clustertab", "The nodes of the cluster"))
        .arg(path(
            "key",
            "/etc/cluster.key",
            "The secret that all nodes share, 16 bytes or more",
        ))
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("Name of the cluster [default: /etc/clustername]"),
        )
        .arg(
            Arg::new("detect-ms")
                .long("detect-ms")
                .value_name("MS")
                .value_parser(value_parser!(u32).range(1..))
                .help("Milliseconds of silence after which a node is suspected, 300 to 60000 [default: the module's]"),
        )
        .arg(fence_arg())
        .arg(wireguard_arg())
}

fn noded() -> Command {
    let dir = |id: &'static str, default: &'static str, help: &'static str| {
        Arg::new(id)
            .long(id)
            .value_name("DIR")
            .default_value(default)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    Command::new("noded")
        .about("Run programs when a node has gone down or come up; started once per node")
        .after_help(
            "Each program gets the number and the name of the node as arguments. In its environment are CLUSTER_NODE and \
             CLUSTER_NODE_NAME, the same; CLUSTER_INCARNATION, the life that is over or has begun; CLUSTER_CAUSE, left or lost, joined or \
             found; CLUSTER_THIS_NODE, where it runs; CLUSTER_MASTER, 1 if that is the master when it begins, else 0.\n\n\
             Programs are run as by run-parts(8): in the order of their names, which have letters, digits, - and _ only. All \
             for one node, then all for the next one, in the order of transitions. What fails is written to standard output, and \
             the next one is run. A node is UCLEANUP while programs for it have to run, and then DOWN. It is UP again \
             before they are over if it comes back so soon.\n\n\
             It ends only with an error: 1 another one runs or it may not, 3 no module. A program that it runs then is killed.",
        )
        .arg(dir("down-dir", "/etc/cluster/nodedown.d", "Programs for a node that has gone down"))
        .arg(dir("up-dir", "/etc/cluster/nodeup.d", "Programs for a node that is UP"))
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("SECONDS")
                .default_value("30")
                .value_parser(value_parser!(u32).range(1..=86400))
                .help("How long a program may take: then it is told SIGTERM, and SIGKILL 2 s later"),
        )
}

fn wireguard() -> Command {
    let with_table = |c: Command| {
        c.arg(
            Arg::new("node")
                .long("node")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=i64::from(MAX_NODE)))
                .help("Number of this node [default: the row of clustertab whose address is ours]"),
        )
        .arg(
            Arg::new("tab")
                .long("tab")
                .value_name("FILE")
                .default_value("/etc/clustertab")
                .value_parser(value_parser!(PathBuf))
                .help("The nodes of the cluster, with their addresses outside"),
        )
    };
    let private = || {
        Arg::new("private")
            .long("private-key")
            .value_name("FILE")
            .default_value("/etc/cluster/wireguard.key")
            .value_parser(value_parser!(PathBuf))
            .help("This node's private key; nobody else needs it")
    };
    Command::new("wireguard")
        .about("Keep what nodes say to each other secret: the cluster's links inside WireGuard")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Exit status: 0 done, 1 failed, 2 usage.\n\n\
             Run cluster wireguard key on each node, put the lines that it prints below [keys] into /etc/cluster/wireguard.toml, \
             the same on every node, then run cluster wireguard setup before cluster join on each, at every boot.",
        )
        .subcommand(with_table(
            Command::new("key")
                .about("Print this node's line for wireguard.toml; make its keys if it has none")
                .arg(private()),
        ))
        .subcommand(with_table(
            Command::new("setup")
                .about("Make an interface for each link; or change those that are there to what the files say")
                .arg(private())
                .arg(wireguard_arg()),
        ))
        .subcommand(with_table(
            Command::new("show")
                .about("Show the other nodes as the interfaces know them: last handshake, bytes")
                .arg(wireguard_arg())
                .arg(json_arg("Print one JSON object")),
        ))
        .subcommand(
            Command::new("remove")
                .about("Remove the interfaces; refused on a node that has joined")
                .arg(
                    Arg::new("force")
                        .long("force")
                        .action(ArgAction::SetTrue)
                        .help("Also on a node that has joined, which may be lost by that"),
                ),
        )
}

fn wireguard_arg() -> Arg {
    Arg::new("wireguard")
        .long("wireguard")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Public keys for WireGuard; the same on all nodes [default: /etc/cluster/wireguard.toml, if it is there]")
}

fn fence_arg() -> Arg {
    Arg::new("fence")
        .long("fence")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("How nodes are fenced; the same on all nodes [default: /etc/cluster/fence.toml, if it is there]")
}

fn node_arg() -> Arg {
    Arg::new("node")
        .value_name("NODE")
        .required(true)
        .help("Number or name of a node")
}

fn command_arg() -> Arg {
    Arg::new("cmd")
        .value_name("CMD")
        .help("The command and its arguments")
        .required(true)
        .num_args(1..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString))
}

const EXIT_CODES: &str =
    "Exit status of every command unless it says otherwise: 0 done, 1 failed or no, 2 usage, 3 no module.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_consistent() {
        cluster().debug_assert();
        for name in LINKS {
            link(name).expect("a link without a command").debug_assert();
        }
    }

    #[test]
    fn options_after_the_command_belong_to_the_command() {
        for (line, pin, node, cmd) in [
            ("onnode 2 ls -l -p", false, "2", vec!["ls", "-l", "-p"]),
            ("onnode -p 2 ls", true, "2", vec!["ls"]),
            (
                "onnode -lp west cat /proc/cpuinfo",
                true,
                "west",
                vec!["cat", "/proc/cpuinfo"],
            ),
            ("onnode 2 sh -- x", false, "2", vec!["sh", "--", "x"]),
        ] {
            let m = link("onnode")
                .expect("onnode")
                .try_get_matches_from(line.split(' '))
                .expect(line);
            assert_eq!(m.get_flag("pin"), pin, "{line}");
            assert_eq!(m.get_one::<String>("node").map(String::as_str), Some(node), "{line}");
            let got: Vec<_> = m.get_many::<OsString>("cmd").expect(line).collect();
            assert_eq!(got, cmd, "{line}");
        }
    }

    #[test]
    fn what_is_done_to_nodes_is_said_in_json_too() {
        for words in [
            "add 4 10.0.0.4",
            "remove 4",
            "votes 4 1",
            "finish",
            "cancel",
            "fence 4",
            "fence 4 --status",
            "confirm-down 4",
            "shutdown 4",
        ] {
            let line = format!("cluster node {words} --json");
            let m = cluster().try_get_matches_from(line.split(' ')).expect(&line);
            let m = m.subcommand().and_then(|(_, m)| m.subcommand()).expect(&line).1;
            assert!(m.get_flag("json"), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "migrate",
            "migrate 2",
            "migrate 2 x",
            "migrate 2 0",
            "migrate 2 -- -1",
            "where_pid",
            "where_pid x",
            "clusternode_shutdown 3",
            "clusternode_shutdown -N 3 -t +5",
            "onnode 2",
        ] {
            let name = line.split(' ').next().expect("a name");
            assert!(
                link(name).expect(name).try_get_matches_from(line.split(' ')).is_err(),
                "{line}"
            );
        }
        for line in [
            "cluster",
            "cluster frob",
            "cluster join --node 0",
            "cluster join --node 1023",
            "cluster node",
            "cluster node fence",
            "cluster node shutdown",
            "cluster node shutdown 3 --reboot --stay",
            "cluster node shutdown 3 --grace -1",
            "cluster node shutdown 3 --grace 86401",
            "cluster node confirm-down",
            "cluster status x",
            "cluster ics",
            "cluster key",
            "cluster wireguard",
            "cluster wireguard frob",
            "cluster key generate",
            "cluster key stage",
            "cluster key switch",
            "cluster key drop abc",
            "cluster ics show x",
            "cluster noded --limit 0",
        ] {
            assert!(cluster().try_get_matches_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
