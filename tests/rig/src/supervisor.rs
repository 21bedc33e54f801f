// SPDX-License-Identifier: GPL-2.0

//! The background process of an instance: owns the QEMUs, the switch and the control socket.
//!
//! It never writes anything outside DIR, and nothing it starts outlives it.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use rig_agent::wire::Decoder;
use rig_agent::wire::Exit;
use rig_agent::wire::Frame;
use rig_agent::wire::Kind;
use rig_agent::wire::Spawn;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::SignalKind;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::control::Change;
use crate::control::Event;
use crate::control::NODE_GONE;
use crate::control::Phase;
use crate::control::Power;
use crate::control::Reply;
use crate::control::Request;
use crate::control::Status;
use crate::control::TIMED_OUT;
use crate::node::Node;
use crate::switch::Switch;
use crate::up::Setup;

/// Between two looks at what only a command in a guest can tell.
const POLL: Duration = Duration::from_millis(100);

struct Supervisor {
    dir: PathBuf,
    setup: Rc<Setup>,
    switch: Switch,
    nodes: Vec<Rc<Node>>,
    stop: Notify,
}

/// The end of a client's connection that writes.
struct Client {
    writer: OwnedWriteHalf,
}

impl Client {
    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.writer.write_all(&frame.to_bytes()).await
    }

    async fn reply(&mut self, reply: &Reply) {
        // A client that left does not want it.
        let _ = self.send(&Frame::json(Kind::Reply, 0, reply)).await;
    }
}

/// The frames of a client, as a channel that ends with its connection.
fn frames(mut reader: OwnedReadHalf) -> mpsc::UnboundedReceiver<Frame> {
    let (tx, rx) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let mut decoder = Decoder::default();
        let mut buf = vec![0; 65536];
        loop {
            match reader.read(&mut buf).await {
                Ok(0) | Err(_) => return,
                Ok(n) => decoder.feed(&buf[..n]),
            }
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        if tx.send(frame).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    });
    rx
}

/// Runs the supervisor of `dir`. Standard input is the connection of the `rig up` that waits for it.
///
/// # Errors
/// Something is missing, or another supervisor has the directory.
pub fn run(dir: &Path) -> Result<()> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))?;
    let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        bail!("{} is up already", dir.display());
    };
    let setup: Setup = serde_json::from_slice(&fs::read(dir.join("setup.json"))?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // One thread does it all, so the QEMUs, which die with the thread that made them, die with the process.
    // The end of this process, and nothing before it, lets it go: whoever takes it next finds no process left.
    std::mem::forget(lock);
    LocalSet::new().block_on(&runtime, serve(dir.to_owned(), setup))
}

async fn serve(dir: PathBuf, setup: Setup) -> Result<()> {
    let switch = Switch::start(setup.seed).context("switch")?;
    let setup = Rc::new(setup);
    let (fence, mut fence_requests) = mpsc::unbounded_channel();
    let nodes = (1..=setup.nodes)
        .map(|id| Node::new(id, setup.clone(), dir.clone(), switch.clone(), fence.clone()))
        .collect();
    let listener = listen(&dir)?;
    let sup = Rc::new(Supervisor {
        dir: dir.clone(),
        setup,
        switch,
        nodes,
        stop: Notify::new(),
    });
    for node in &sup.nodes {
        tokio::task::spawn_local(node.clone().run());
    }
    {
        let sup = sup.clone();
        tokio::task::spawn_local(async move {
            while let Some(r) = fence_requests.recv().await {
                let sup = sup.clone();
                // One that takes long does not keep the others waiting.
                tokio::task::spawn_local(async move {
                    // The node that asked may be gone.
                    let _ = r.answer.send(sup.fence(&r.wish).await);
                });
            }
        });
    }
    let up = {
        let sup = sup.clone();
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        tokio::task::spawn_local(async move { sup.wait_until_up(stdin).await })
    };
    let accept = {
        let sup = sup.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(sup.clone().client(stream));
            }
        }
    };
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    tokio::select! {
        () = accept => eprintln!("rig: the control socket is gone"),
        () = sup.stop.notified() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tied(sup.setup.tie) => {}
    }
    up.abort();
    sup.power_off().await;
    let _ = fs::remove_file(dir.join("rig.sock"));
    Ok(())
}

/// The control socket. Bound by a short name, since a socket's path has at most 107 bytes.
fn listen(dir: &Path) -> Result<UnixListener> {
    let path = dir.join("rig.sock");
    let _ = fs::remove_file(&path);
    let handle = File::open(dir)?;
    let short = format!("/proc/self/fd/{}/rig.sock", handle.as_raw_fd());
    UnixListener::bind(short).with_context(|| path.display().to_string())
}

/// Returns when a process has ended; never, if there is none.
async fn tied(pid: Option<u32>) {
    let Some(pid) = pid else {
        return std::future::pending().await;
    };
    // SAFETY: pidfd_open takes two integers and gives a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        // It ended already.
        return;
    }
    // SAFETY: the descriptor was just made and has no other owner.
    // CAST: descriptors are ints.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let (ended, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        while nix::poll::poll(&mut fds, PollTimeout::NONE) == Err(nix::Error::EINTR) {}
        // The receiver is gone when the instance is.
        let _ = ended.send(());
    });
    let _ = wait.await;
}

impl Supervisor {
    fn node(&self, id: u32) -> Result<&Rc<Node>, Reply> {
        let index = usize::try_from(id).unwrap_or(usize::MAX).wrapping_sub(1);
        self.nodes
            .get(index)
            .ok_or_else(|| Reply::error(2, format!("there is no node {id}, only 1 to {}", self.nodes.len())))
    }

    /// Does what a fence agent asks for.
    async fn fence(&self, wish: &str) -> String {
        let Some((action, plug)) = wish.split_once(' ') else {
            return "error no node".to_owned();
        };
        if action == "monitor" {
            return "ok".to_owned();
        }
        let Some(node) = plug.parse().ok().and_then(|id| self.node(id).ok()) else {
            return format!("error there is no node {plug}");
        };
        let is_on = node.status.borrow().pid.is_some();
        let done = match action {
            "status" => return if is_on { "on" } else { "off" }.to_owned(),
            "off" => node.power(Power::Kill).await,
            "on" if is_on => Ok(()),
            "on" | "reboot" => node.power(Power::Reset).await,
            _ => return format!("error there is no action {action}"),
        };
        match done {
            Ok(()) => "ok".to_owned(),
            Err(e) => format!("error {e:#}").replace('\n', " "),
        }
    }

    async fn power_off(&self) {
        for node in &self.nodes {
            if let Err(e) = node.power(Power::Kill).await {
                eprintln!("node {}: {e:#}", node.id);
            }
        }
    }

    /// Reports to the `rig up` that started us. If that one leaves or the wait fails, all is over.
    async fn wait_until_up(self: Rc<Self>, stdin: OwnedFd) {
        let stream = std::os::unix::net::UnixStream::from(stdin);
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let Ok(stream) = stream else { return };
        let (reader, writer) = stream.into_split();
        let (mut gone, mut client) = (frames(reader), Client { writer });
        let result = tokio::select! {
            r = self.all_up() => r,
            _ = gone.recv() => Err("`rig up` was interrupted".into()),
        };
        match result {
            Ok(()) => client.reply(&Reply::ok()).await,
            Err(e) => {
                eprintln!("rig: {e}");
                self.power_off().await;
                client.reply(&Reply::error(1, e)).await;
                self.stop.notify_one();
            }
        }
    }

    async fn all_up(&self) -> Result<(), String> {
        match tokio::time::timeout(self.setup.timeout, self.boot_and_join()).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "not up after {} s: {}",
                self.setup.timeout.as_secs_f64(),
                self.describe()
            )),
        }
    }

    fn describe(&self) -> String {
        let node = |n: &Rc<Node>| {
            let s = n.status.borrow();
            match s.phase {
                Phase::Booting => format!("node {} is in boot step `{}`", s.id, s.stage),
                phase => format!("node {} is {phase}", s.id),
            }
        };
        self.nodes.iter().map(node).collect::<Vec<_>>().join(", ")
    }

    async fn boot_and_join(&self) -> Result<(), String> {
        for node in &self.nodes {
            let mut status = node.status.subscribe();
            let done = status.wait_for(|s| s.phase == Phase::Up || s.error.is_some()).await;
            let status = done.map_err(|e| e.to_string())?.clone();
            if status.phase != Phase::Up {
                let log = self.dir.join(format!("node{}.console", node.id));
                return Err(format!(
                    "node {}: {} (console: {})",
                    node.id,
                    status.error.unwrap_or_default(),
                    log.display()
                ));
            }
        }
        if self.setup.join {
            self.one_view().await?;
        }
        Ok(())
    }

    /// Waits until every node shows all nodes UP, in one and the same view.
    async fn one_view(&self) -> Result<(), String> {
        loop {
            let mut views = Vec::new();
            for node in &self.nodes {
                views.push(view(node).await.filter(|v| v.up.len() == self.nodes.len()));
            }
            // All are up in it, so `this_is_up` is the same too.
            if views.iter().all(|v| v.is_some() && *v == views[0]) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Serves one connection.
    async fn client(self: Rc<Self>, stream: UnixStream) {
        let (reader, writer) = stream.into_split();
        let (mut frames, mut client) = (frames(reader), Client { writer });
        let Some(frame) = frames.recv().await else { return };
        let request: Request = match frame.parse() {
            Ok(r) if frame.kind == Kind::Request => r,
            _ => return client.reply(&Reply::error(1, "not a request")).await,
        };
        let reply = match request {
            Request::Exec { node, spawn, timeout } => match self.node(node) {
                Ok(node) => exec(node, &spawn, timeout, &mut frames, &mut client).await,
                Err(reply) => reply,
            },
            Request::Down => {
                self.power_off().await;
                client.reply(&Reply::ok()).await;
                self.stop.notify_one();
                return;
            }
            Request::Status => {
                let status = Frame::json(Kind::Progress, 0, &self.status());
                match client.send(&status).await {
                    Ok(()) => Reply::ok(),
                    Err(_) => return,
                }
            }
            other => {
                // A client that leaves does not wait any more.
                tokio::select! {
                    reply = self.simple(other) => reply.unwrap_or_else(|r| r),
                    _ = frames.recv() => return,
                }
            }
        };
        client.reply(&reply).await;
    }

    fn status(&self) -> Status {
        Status {
            dir: self.dir.clone(),
            pid: std::process::id(),
            seed: self.setup.seed,
            kernel: self.setup.kernel.name().into(),
            accel: self.setup.accel.clone(),
            nodes: self.nodes.iter().map(|n| n.status.borrow().clone()).collect(),
            lanes: self.switch.lanes(),
        }
    }

    async fn simple(&self, request: Request) -> Result<Reply, Reply> {
        let failed = |e: anyhow::Error| Reply::error(1, format!("{e:#}"));
        match request {
            Request::Wait {
                node,
                event,
                after_boot,
                timeout,
            } => {
                let node = self.node(node)?;
                let what = format!("node {} is not {event:?} after {:.1} s", node.id, timeout.as_secs_f64());
                return tokio::time::timeout(timeout, wait(node, event, after_boot))
                    .await
                    .map_err(|_| Reply::error(TIMED_OUT, what.to_lowercase()));
            }
            Request::Power { node, action } => self.node(node)?.power(action).await.map_err(failed)?,
            Request::Restart { node, on } => self.node(node)?.status.send_modify(|s| s.restart = on),
            Request::Change {
                from,
                to,
                both,
                link,
                change,
            } => {
                for id in [from, to].into_iter().flatten() {
                    self.node(id)?;
                }
                if link.is_some_and(|l| l < 1 || l > self.setup.links) {
                    return Err(Reply::error(
                        2,
                        format!("there are only the links 1 to {}", self.setup.links),
                    ));
                }
                self.change(from, to, both, link, change);
            }
            Request::Capture { path, link, delivered } => {
                let capture = self.switch.capture(path.as_deref(), link, delivered);
                let name = path.unwrap_or_default();
                capture.map_err(|e| Reply::error(1, format!("{}: {e}", name.display())))?;
            }
            Request::Status | Request::Down | Request::Exec { .. } => return Err(Reply::error(1, "is not simple")),
        }
        Ok(Reply::ok())
    }

    fn change(&self, from: Option<u32>, to: Option<u32>, both: bool, link: Option<u32>, change: Change) {
        let matches = |want: Option<u32>, is: u32| want.is_none_or(|w| w == is);
        for a in 1..=self.setup.nodes {
            for b in (1..=self.setup.nodes).filter(|b| *b != a) {
                let is_forward = matches(from, a) && matches(to, b);
                let is_backward = both && matches(from, b) && matches(to, a);
                if !is_forward && !is_backward {
                    continue;
                }
                for l in (1..=self.setup.links).filter(|l| matches(link, *l)) {
                    self.switch.change(a, b, l, |f| match change {
                        Change::Heal => *f = Default::default(),
                        Change::Cut => f.cut = true,
                        Change::Forget => f.forget = true,
                        Change::Loss(c) => f.loss = c,
                        Change::Delay(delay, jitter) => (f.delay, f.jitter) = (delay, jitter),
                        Change::Dup(c) => f.dup = c,
                        Change::Reorder(c) => f.reorder = c,
                        Change::Corrupt(c, deep) => (f.corrupt, f.corrupt_deep) = (c, deep),
                    });
                }
            }
        }
    }
}

/// A membership view as a node tells it.
#[derive(Debug, PartialEq, Eq)]
struct View {
    id: u64,
    up: Vec<(u64, u64)>,
    this_is_up: bool,
}

/// `cluster status --json` of a node; none if it has no view.
async fn view(node: &Node) -> Option<View> {
    let (_, out) = node.output(&["cluster", "status", "--json"]).await?;
    parse_view(&out, node.id)
}

fn parse_view(json: &[u8], this: u32) -> Option<View> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let up: Vec<_> = value["nodes"]
        .as_array()?
        .iter()
        .filter(|n| n["state"].as_str().is_some_and(|s| s.eq_ignore_ascii_case("up")))
        .filter_map(|n| Some((n["id"].as_u64()?, n["incarnation"].as_u64()?)))
        .collect();
    let this_is_up = up.iter().any(|(id, _)| *id == u64::from(this));
    Some(View {
        id: value["view"].as_u64()?,
        up,
        this_is_up,
    })
}

async fn wait(node: &Node, event: Event, after_boot: u32) -> Reply {
    let mut status = node.status.subscribe();
    match event {
        Event::Up => drop(status.wait_for(|s| s.phase == Phase::Up && s.boots > after_boot).await),
        Event::Down => {
            drop(
                status
                    .wait_for(|s| s.phase != Phase::Up || (after_boot > 0 && s.boots > after_boot))
                    .await,
            );
        }
        Event::Join => loop {
            drop(status.wait_for(|s| s.phase == Phase::Up && s.boots > after_boot).await);
            if view(node).await.is_some_and(|v| v.this_is_up) {
                break;
            }
            tokio::time::sleep(POLL).await;
        },
    }
    Reply::ok()
}

/// Relays a session between client and agent. Both sides keep to their windows, so nothing piles up here.
async fn exec(
    node: &Node,
    spawn: &Spawn,
    timeout: Option<Duration>,
    frames: &mut mpsc::UnboundedReceiver<Frame>,
    client: &mut Client,
) -> Reply {
    let Some(mut session) = node.open(spawn) else {
        return Reply::error(NODE_GONE, format!("node {} is {}", node.id, node.status.borrow().phase));
    };
    let deadline = async {
        match timeout {
            Some(t) => tokio::time::sleep(t).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            frame = session.next() => {
                let Some(frame) = frame else {
                    return Reply::error(NODE_GONE, format!("node {} is gone", node.id));
                };
                let is_last = frame.kind == Kind::Exit || (spawn.background && frame.kind == Kind::Started);
                if frame.kind == Kind::Exit {
                    return match frame.parse::<Exit>() {
                        Ok(exit) => Reply { code: exit.code, error: exit.error },
                        Err(e) => Reply::error(NODE_GONE, e.to_string()),
                    };
                }
                if client.send(&frame).await.is_err() {
                    session.send(Frame::raw(Kind::Kill, 0, b""));
                    return Reply::ok();
                }
                if is_last {
                    return Reply::ok();
                }
            }
            frame = frames.recv() => match frame {
                Some(frame) => session.send(frame),
                None => {
                    session.send(Frame::raw(Kind::Kill, 0, b""));
                    return Reply::ok();
                }
            },
            () = &mut deadline => {
                session.send(Frame::raw(Kind::Kill, 0, b""));
                let limit = timeout.unwrap_or_default().as_secs_f64();
                return Reply::error(TIMED_OUT, format!("node {}: still running after {limit} s", node.id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_read() {
        let json = br#"{"name":"rig","view":7,"quorate":true,"master":1,"nodes":[
            {"id":1,"name":"a","state":"up","incarnation":11},{"id":2,"name":"b","state":"UP","incarnation":12},
            {"id":3,"name":"c","state":"down","incarnation":13}]}"#;
        let v = parse_view(json, 2).unwrap();
        assert_eq!(
            v,
            View {
                id: 7,
                up: vec![(1, 11), (2, 12)],
                this_is_up: true
            }
        );
        assert!(!parse_view(json, 3).unwrap().this_is_up);
        assert_eq!(parse_view(b"", 1), None);
        assert_eq!(parse_view(b"{}", 1), None);
    }
}
