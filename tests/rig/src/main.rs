// SPDX-License-Identifier: GPL-2.0

//! `rig`: the command. Exit status 0 done, 1 failed, 2 usage, 124 time-out, 125 node gone, else the command's.

use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use nix::sys::termios;
use rig::Client;
use rig::Up;
use rig::client;
use rig::client::Streams;
use rig::control::Change;
use rig::control::Event;
use rig::control::NODE_GONE;
use rig::control::Power;
use rig::control::Request;
use rig::control::Status;
use rig::fault::Chance;
use rig::images::Places;
use rig_agent::wire::Spawn;
use rig_agent::wire::What;
use rig_agent::wire::Winsize;

/// Boots a cluster of virtual machines, talks to them and breaks them
#[derive(Parser)]
#[command(name = "rig", arg_required_else_help = true)]
struct Cli {
    /// Directory of the instance
    #[arg(short = 'C', value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// A node's number, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    All,
    One(u32),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse() {
            _ if s == "all" => Ok(Self::All),
            Ok(n) if n > 0 => Ok(Self::One(n)),
            _ => Err(format!("{s}: neither a node's number nor `all`")),
        }
    }
}

impl Which {
    fn one(self) -> Option<u32> {
        match self {
            Self::All => None,
            Self::One(n) => Some(n),
        }
    }
}

#[derive(Args)]
struct Pair {
    /// A node, or all
    a: Which,
    /// Another node, or all
    b: Which,
    /// Only on this link
    #[arg(long)]
    link: Option<u32>,
}

#[derive(Args)]
struct Direction {
    /// Only frames from A to B
    #[arg(long)]
    one_way: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Boot the nodes; returns when all are there
    Up(Up),
    /// Run a command
    Exec {
        /// As this user
        #[arg(short = 'u', value_name = "USER")]
        user: Option<String>,
        /// Kill it after so many seconds, exit 124
        #[arg(short = 't', value_name = "SECONDS", value_parser = client::seconds)]
        timeout: Option<Duration>,
        /// Leave it running; prints its pid and where it writes
        #[arg(long)]
        bg: bool,
        /// Give it a terminal
        #[arg(long, conflicts_with = "bg")]
        tty: bool,
        /// A node, or all
        node: Which,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// A shell on a node, with a terminal if there is one here
    Shell {
        /// The node
        node: u32,
        /// As this user
        #[arg(short = 'u', value_name = "USER")]
        user: Option<String>,
    },
    /// Show a node's console
    Console {
        /// The node
        node: u32,
        /// Go on as it grows
        #[arg(short, long)]
        follow: bool,
    },
    /// Copy a file to a node
    Push {
        /// A node, or all
        node: Which,
        /// File here
        src: PathBuf,
        /// File there
        dst: String,
    },
    /// Copy a file from a node
    Pull {
        /// The node
        node: u32,
        /// File there
        src: String,
        /// File here
        dst: PathBuf,
    },
    /// Wait until a node is up, down, or joined
    Wait {
        /// A node, or all
        node: Which,
        /// For what
        event: Event,
        /// Only boots after this one count (see `boots` in status)
        #[arg(long, default_value_t = 0)]
        after_boot: u32,
        /// Seconds, then exit 124
        #[arg(short = 't', long, default_value = "60", value_parser = client::seconds)]
        timeout: Duration,
    },
    /// Cut a node's power; it stays off
    Kill {
        /// The node
        node: u32,
    },
    /// Stop a node
    Pause {
        /// The node
        node: u32,
        /// Let its clock go on
        #[arg(long)]
        freeze: bool,
    },
    /// Let a paused node go on
    Resume {
        /// The node
        node: u32,
    },
    /// Cut a node's power and give it back
    Reset {
        /// The node
        node: u32,
    },
    /// Say whether a node that exits by reboot is started again
    Restart {
        /// The node
        node: u32,
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        state: String,
    },
    /// Nothing passes between A and B
    Cut {
        #[command(flatten)]
        pair: Pair,
    },
    /// Of TCP only connections begun since pass, as through a firewall that forgot the others
    Forget {
        #[command(flatten)]
        pair: Pair,
    },
    /// Only frames from A to B pass, none back
    Oneway {
        #[command(flatten)]
        pair: Pair,
    },
    /// Take all faults away, or those between A and B
    Heal {
        /// A node, or all
        #[arg(requires = "b")]
        a: Option<Which>,
        /// Another node, or all
        b: Option<Which>,
        /// Only on this link
        #[arg(long)]
        link: Option<u32>,
    },
    /// Lose frames
    Loss {
        #[command(flatten)]
        pair: Pair,
        /// Percent
        #[arg(value_parser = Chance::percent)]
        pct: Chance,
        #[command(flatten)]
        direction: Direction,
    },
    /// Delay frames
    Delay {
        #[command(flatten)]
        pair: Pair,
        /// Milliseconds, and up to so many more
        #[arg(value_name = "MS[:JITTER]", value_parser = delay)]
        ms: (Duration, Duration),
        #[command(flatten)]
        direction: Direction,
    },
    /// Send frames twice
    Dup {
        #[command(flatten)]
        pair: Pair,
        /// Percent
        #[arg(value_parser = Chance::percent)]
        pct: Chance,
        #[command(flatten)]
        direction: Direction,
    },
    /// Let frames be overtaken
    Reorder {
        #[command(flatten)]
        pair: Pair,
        /// Percent
        #[arg(value_parser = Chance::percent)]
        pct: Chance,
        #[command(flatten)]
        direction: Direction,
    },
    /// Flip a bit in frames
    Corrupt {
        #[command(flatten)]
        pair: Pair,
        /// Percent
        #[arg(value_parser = Chance::percent)]
        pct: Chance,
        #[command(flatten)]
        direction: Direction,
        /// Only in TCP and UDP payload, with the checksum repaired
        #[arg(long)]
        deep: bool,
    },
    /// Arm a failpoint, or show them
    Failpoint {
        /// A node, or all
        node: Which,
        /// NAME=panic|hang|drop|delay:MS|errno:N[@HIT], NAME=off, reset; none: show
        spec: Option<String>,
    },
    /// Write frames into a file; without a file: stop
    Capture {
        /// FILE.pcap
        file: Option<PathBuf>,
        /// Only this link
        #[arg(long)]
        link: Option<u32>,
        /// As they are delivered, not as they are sent
        #[arg(long)]
        delivered: bool,
    },
    /// Show what there is
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// End the instance
    Down,
    /// The background process of an instance; started by `up`
    #[command(hide = true)]
    Supervise,
}

fn delay(text: &str) -> Result<(Duration, Duration), String> {
    let ms = |t: &str| {
        t.parse::<f64>()
            .ok()
            .and_then(|v| Duration::try_from_secs_f64(v / 1000.0).ok())
            .ok_or_else(|| format!("{t}: not a number of milliseconds"))
    };
    let (delay, jitter) = text.split_once(':').unwrap_or((text, "0"));
    Ok((ms(delay)?, ms(jitter)?))
}

fn main() -> ExitCode {
    // A closed pipe is an end, not a panic.
    // SAFETY: the default action replaces no handler of ours.
    let _ = unsafe { nix::sys::signal::signal(nix::sys::signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    let cli = Cli::parse();
    match run(cli) {
        // CAST: exit statuses are a byte.
        Ok(code) => ExitCode::from(code as u8),
        Err(e) => {
            eprintln!("rig: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<i32> {
    let dir = match cli.dir {
        Some(dir) => dir,
        None => Places::find()?.top.join("build/rig"),
    };
    match cli.command {
        Command::Up(up) => return boot(&up, &dir),
        Command::Supervise => {
            rig::supervisor::run(&dir)?;
            return Ok(0);
        }
        // What is down already needs no ending, and its console is still there.
        Command::Down if !client::is_up(&dir) => return Ok(0),
        Command::Console { node, follow } => return console(&dir.join(format!("node{node}.console")), follow),
        _ => {}
    }
    let client = Client::connect(&dir)?;
    let nodes = |which: Which| -> Result<Vec<u32>> {
        match which {
            Which::One(n) => Ok(vec![n]),
            Which::All => Ok(client.status()?.nodes.iter().map(|n| n.id).collect()),
        }
    };
    let ask = |request: Request| -> Result<i32> {
        let reply = client.request(&request)?;
        if let Some(error) = reply.error {
            eprintln!("rig: {error}");
        }
        Ok(reply.code)
    };
    let fault = |pair: Pair, both: bool, change: Change| {
        ask(Request::Change {
            from: pair.a.one(),
            to: pair.b.one(),
            both,
            link: pair.link,
            change,
        })
    };
    match cli.command {
        Command::Up(_) | Command::Supervise | Command::Console { .. } => Ok(0),
        Command::Exec {
            user,
            timeout,
            bg,
            tty,
            node,
            command,
        } => {
            let size = tty.then(window_size);
            let spawn = Spawn {
                what: What::Exec {
                    argv: command,
                    tty: size,
                },
                user,
                background: bg,
                env: terminal(tty),
            };
            match nodes(node)?.as_slice() {
                [one] => exec_one(&client, *one, spawn, timeout),
                all => exec_all(&client, all, &spawn, timeout),
            }
        }
        Command::Shell { node, user } => {
            let tty = io::stdin().is_terminal();
            let shell = "exec $(command -v bash || command -v sh) -l".to_owned();
            let argv = vec!["sh".into(), "-c".into(), shell];
            let what = What::Exec {
                argv,
                tty: tty.then(window_size),
            };
            exec_one(
                &client,
                node,
                Spawn {
                    what,
                    user,
                    background: false,
                    env: terminal(tty),
                },
                None,
            )
        }
        Command::Push { node, src, dst } => {
            for n in nodes(node)? {
                client.push(n, &src, &dst)?;
            }
            Ok(0)
        }
        Command::Pull { node, src, dst } => client.pull(node, &src, &dst).map(|()| 0),
        Command::Wait {
            node,
            event,
            after_boot,
            timeout,
        } => {
            let deadline = Instant::now() + timeout;
            for node in nodes(node)? {
                let timeout = deadline.saturating_duration_since(Instant::now());
                let code = ask(Request::Wait {
                    node,
                    event,
                    after_boot,
                    timeout,
                })?;
                if code != 0 {
                    return Ok(code);
                }
            }
            Ok(0)
        }
        Command::Kill { node } => ask(Request::Power {
            node,
            action: Power::Kill,
        }),
        Command::Pause { node, freeze } => ask(Request::Power {
            node,
            action: if freeze { Power::Freeze } else { Power::Pause },
        }),
        Command::Resume { node } => ask(Request::Power {
            node,
            action: Power::Resume,
        }),
        Command::Reset { node } => ask(Request::Power {
            node,
            action: Power::Reset,
        }),
        Command::Restart { node, state } => ask(Request::Restart {
            node,
            on: state == "on",
        }),
        Command::Cut { pair } => fault(pair, true, Change::Cut),
        Command::Forget { pair } => fault(pair, true, Change::Forget),
        Command::Oneway { pair } => {
            let back = Pair {
                a: pair.b,
                b: pair.a,
                link: pair.link,
            };
            fault(back, false, Change::Cut)
        }
        Command::Heal { a, b, link } => {
            let pair = Pair {
                a: a.unwrap_or(Which::All),
                b: b.unwrap_or(Which::All),
                link,
            };
            fault(pair, true, Change::Heal)
        }
        Command::Loss { pair, pct, direction } => fault(pair, !direction.one_way, Change::Loss(pct)),
        Command::Delay { pair, ms, direction } => fault(pair, !direction.one_way, Change::Delay(ms.0, ms.1)),
        Command::Dup { pair, pct, direction } => fault(pair, !direction.one_way, Change::Dup(pct)),
        Command::Reorder { pair, pct, direction } => fault(pair, !direction.one_way, Change::Reorder(pct)),
        Command::Corrupt {
            pair,
            pct,
            direction,
            deep,
        } => fault(pair, !direction.one_way, Change::Corrupt(pct, deep)),
        Command::Failpoint { node, spec } => {
            for n in nodes(node)? {
                match &spec {
                    Some(spec) => client.failpoint(n, spec)?,
                    None => client.pull(n, client::FAILPOINTS, "/dev/stdout".as_ref())?,
                }
            }
            Ok(0)
        }
        Command::Capture { file, link, delivered } => client.capture(file.as_deref(), link, delivered).map(|()| 0),
        Command::Status { json } => {
            let status = client.status()?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print_status(&status);
            }
            Ok(0)
        }
        Command::Down => client.down().map(|()| 0),
    }
}

fn boot(up: &Up, dir: &std::path::Path) -> Result<i32> {
    let start = Instant::now();
    up.run(&Places::find()?, dir, &mut |line| println!("rig: {line}"))?;
    println!("rig: up in {:.1} s: {}", start.elapsed().as_secs_f64(), dir.display());
    Ok(0)
}

fn print_status(status: &Status) {
    println!(
        "{}: {} kernel, {}, seed {}",
        status.dir.display(),
        status.kernel,
        status.accel,
        status.seed
    );
    println!("{:>4}  {:8} {:>5} {:>8}  remarks", "node", "state", "boots", "qemu");
    for n in &status.nodes {
        let mut remarks = Vec::new();
        if n.phase == rig::control::Phase::Booting {
            remarks.push(n.stage.clone());
        }
        if n.paused {
            remarks.push("paused".into());
        }
        if !n.restart {
            remarks.push("no restart".into());
        }
        remarks.extend(n.error.clone());
        let pid = n.pid.map_or("-".into(), |p| p.to_string());
        println!(
            "{:>4}  {:8} {:>5} {:>8}  {}",
            n.id,
            n.phase,
            n.boots,
            pid,
            remarks.join(", ")
        );
    }
    if !status.lanes.is_empty() {
        println!(
            "{:>4} {:>5} {:>4} {:>9} {:>12} {:>7}  faults",
            "link", "from", "to", "frames", "bytes", "lost"
        );
    }
    for l in &status.lanes {
        let (c, f) = (l.counters, l.faults);
        let mut faults = Vec::new();
        let mut chance = |name: &str, chance: Chance| {
            if chance != Chance::default() {
                faults.push(format!("{name} {}%", f64::from(chance.0) / 10_000.0));
            }
        };
        chance("loss", f.loss);
        chance("dup", f.dup);
        chance("reorder", f.reorder);
        chance(if f.corrupt_deep { "corrupt deep" } else { "corrupt" }, f.corrupt);
        if f.cut {
            faults.push("cut".into());
        }
        if !(f.delay + f.jitter).is_zero() {
            faults.push(format!(
                "delay {}:{} ms",
                f.delay.as_secs_f64() * 1e3,
                f.jitter.as_secs_f64() * 1e3
            ));
        }
        let lost = c.cut + c.lost + c.overflowed;
        println!(
            "{:>4} {:>5} {:>4} {:>9} {:>12} {:>7}  {}",
            l.link,
            l.from,
            l.to,
            c.frames,
            c.bytes,
            lost,
            faults.join(", ")
        );
    }
}

/// Prints a log, and follows it.
fn console(path: &std::path::Path, follow: bool) -> Result<i32> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut out = io::stdout().lock();
    let mut at = 0;
    loop {
        // A file that became shorter is a new one.
        if file.metadata()?.len() < at {
            at = 0;
        }
        file.seek(SeekFrom::Start(at))?;
        at += io::copy(&mut file, &mut out)?;
        out.flush()?;
        if !follow {
            return Ok(0);
        }
        // A log that QEMU writes has no event to wait for here.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn terminal(tty: bool) -> Vec<(String, String)> {
    std::env::var("TERM")
        .ok()
        .filter(|_| tty)
        .map(|t| ("TERM".to_owned(), t))
        .into_iter()
        .collect()
}

fn window_size() -> Winsize {
    // SAFETY: `winsize` is plain data, all zeroes is a value of it.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the size is a live winsize that TIOCGWINSZ fills in.
    let done = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) };
    if done == 0 && size.ws_row > 0 {
        Winsize {
            rows: size.ws_row,
            cols: size.ws_col,
        }
    } else {
        Winsize { rows: 24, cols: 80 }
    }
}

/// The terminal in raw mode, for as long as this lives.
struct Raw(termios::Termios);

impl Raw {
    fn set() -> Option<Self> {
        let stdin = io::stdin();
        let old = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = old.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), termios::SetArg::TCSADRAIN, &raw).ok()?;
        Some(Self(old))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin().as_fd(), termios::SetArg::TCSADRAIN, &self.0);
    }
}

/// Gives the window's size whenever it has changed. The signal must be blocked in all threads.
fn resizes() -> Option<Box<dyn FnMut() -> Option<Winsize> + Send>> {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::SIGWINCH);
    set.thread_block().ok()?;
    Some(Box::new(move || set.wait().ok().map(|_| window_size())))
}

fn exec_one(client: &Client, node: u32, spawn: Spawn, timeout: Option<Duration>) -> Result<i32> {
    let is_tty = matches!(spawn.what, What::Exec { tty: Some(_), .. });
    let resized = if is_tty { resizes() } else { None };
    let raw = if is_tty { Raw::set() } else { None };
    let background = spawn.background;
    let streams = Streams {
        stdin: (!background).then(|| Box::new(io::stdin()) as Box<dyn Read + Send>),
        stdout: &mut io::stdout(),
        stderr: &mut io::stderr(),
        started: &mut |s| {
            if background {
                println!("{} {}", s.pid, s.log.as_deref().unwrap_or("-"));
            }
        },
        resized,
    };
    let reply = client.exec(node, spawn, timeout, streams);
    drop(raw);
    let reply = match reply {
        Ok(reply) => reply,
        // The supervisor is gone, and every node with it.
        Err(e) => {
            eprintln!("rig: {e:#}");
            return Ok(NODE_GONE);
        }
    };
    if let Some(error) = reply.error {
        eprintln!("rig: {error}");
    }
    Ok(reply.code)
}

/// Puts the node's number before every line.
struct Prefixed<'a, W: Write> {
    out: &'a Mutex<W>,
    node: u32,
    line: Vec<u8>,
}

impl<W: Write> Prefixed<'_, W> {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write!(out, "{}: ", self.node)?;
        out.write_all(line)?;
        out.flush()
    }
}

impl<W: Write> Write for Prefixed<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(buf);
        while let Some(end) = self.line.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.put(&line)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Prefixed<'_, W> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            let line = [std::mem::take(&mut self.line), b"\n".to_vec()].concat();
            let _ = self.put(&line);
        }
    }
}

/// Runs a command everywhere at once, each with all of standard input. The highest status counts.
fn exec_all(client: &Client, nodes: &[u32], spawn: &Spawn, timeout: Option<Duration>) -> Result<i32> {
    let mut input = Vec::new();
    if !spawn.background && !io::stdin().is_terminal() {
        io::stdin().read_to_end(&mut input)?;
    }
    let (out, err) = (Mutex::new(io::stdout()), Mutex::new(io::stderr()));
    let one = |node: u32| {
        let mut stdout = Prefixed {
            out: &out,
            node,
            line: Vec::new(),
        };
        let mut stderr = Prefixed {
            out: &err,
            node,
            line: Vec::new(),
        };
        let mut started = None;
        let streams = Streams {
            stdin: Some(Box::new(io::Cursor::new(input.clone()))),
            stdout: &mut stdout,
            stderr: &mut stderr,
            started: &mut |s| started = Some(s.clone()),
            resized: None,
        };
        let reply = client.exec(node, spawn.clone(), timeout, streams);
        if let Some(s) = started.filter(|_| spawn.background) {
            let _ = writeln!(stdout, "{} {}", s.pid, s.log.as_deref().unwrap_or("-"));
        }
        match reply {
            Ok(reply) => {
                if let Some(error) = reply.error {
                    let _ = writeln!(stderr, "rig: {error}");
                }
                reply.code
            }
            Err(e) => {
                let _ = writeln!(stderr, "rig: {e:#}");
                NODE_GONE
            }
        }
    };
    Ok(std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = nodes.iter().map(|n| scope.spawn(move || one(*n))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(1)).max().unwrap_or(0)
    }))
}
