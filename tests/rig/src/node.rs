// SPDX-License-Identifier: GPL-2.0

//! One node: its QEMU through all its boots, and what its agent says.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use anyhow::anyhow;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rig_agent::wire::Config;
use rig_agent::wire::Decoder;
use rig_agent::wire::Exit;
use rig_agent::wire::Frame;
use rig_agent::wire::Hello;
use rig_agent::wire::Kind;
use rig_agent::wire::Spawn;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::NodeStatus;
use crate::control::Phase;
use crate::control::Power;
use crate::qemu;
use crate::qmp::Qmp;
use crate::switch::Switch;
use crate::up::Setup;

/// A node that ends so often before it is up is not started again.
const EARLY_DEATHS: u32 = 3;

/// The agent of one boot.
struct Agent {
    out: mpsc::UnboundedSender<Frame>,
    sessions: RefCell<HashMap<u32, mpsc::UnboundedSender<Frame>>>,
}

/// A command that runs on a node.
pub(crate) struct Session {
    id: u32,
    agent: Rc<Agent>,
    frames: mpsc::UnboundedReceiver<Frame>,
}

impl Session {
    /// The session's next frame; none when the node is gone.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        self.frames.recv().await
    }

    /// Sends a frame of the session.
    pub(crate) fn send(&self, mut frame: Frame) {
        frame.session = self.id;
        // A node that is gone shows in next().
        let _ = self.agent.out.send(frame);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.agent.sessions.borrow_mut().remove(&self.id);
    }
}

/// What a fence agent on a node asks for, and where the answer goes.
pub(crate) struct FenceRequest {
    /// `ACTION NODE`.
    pub(crate) wish: String,
    pub(crate) answer: oneshot::Sender<String>,
}

/// A node.
pub(crate) struct Node {
    pub(crate) id: u32,
    setup: Rc<Setup>,
    dir: PathBuf,
    switch: Switch,
    fence: mpsc::UnboundedSender<FenceRequest>,
    pub(crate) status: watch::Sender<NodeStatus>,
    wanted: watch::Sender<bool>,
    kill: Notify,
    agent: RefCell<Option<Rc<Agent>>>,
    qmp: RefCell<Option<Rc<Qmp>>>,
    next_session: Cell<u32>,
    early_deaths: Cell<u32>,
}

impl Node {
    pub(crate) fn new(
        id: u32,
        setup: Rc<Setup>,
        dir: PathBuf,
        switch: Switch,
        fence: mpsc::UnboundedSender<FenceRequest>,
    ) -> Rc<Self> {
        let status = NodeStatus {
            id,
            phase: Phase::Off,
            stage: String::new(),
            boots: 0,
            boot_id: None,
            pid: None,
            paused: false,
            restart: setup.restart,
            error: None,
        };
        Rc::new(Self {
            id,
            setup,
            dir,
            switch,
            fence,
            status: watch::Sender::new(status),
            wanted: watch::Sender::new(true),
            kill: Notify::new(),
            agent: RefCell::default(),
            qmp: RefCell::default(),
            next_session: Cell::new(1),
            early_deaths: Cell::new(0),
        })
    }

    /// Keeps the node running as long as it is wanted.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut wanted = self.wanted.subscribe();
        loop {
            // The sender is a field of this node: it cannot be gone.
            let _ = wanted.wait_for(|w| *w).await;
            if let Err(e) = self.boot().await {
                self.off(Some(format!("{e:#}")), false);
            }
        }
    }

    /// The node is off; it stays so unless `again`.
    fn off(&self, error: Option<String>, again: bool) {
        self.agent.take();
        self.qmp.take();
        if !again {
            self.wanted.send_replace(false);
        }
        self.status.send_modify(|s| {
            s.phase = Phase::Off;
            s.pid = None;
            s.boot_id = None;
            s.paused = false;
            s.error = error;
        });
    }

    /// One boot from power on to power off.
    async fn boot(self: &Rc<Self>) -> Result<()> {
        let mut vm = qemu::start(&self.setup, &self.dir, self.id)?;
        for (link, stream) in (1..).zip(vm.links.drain(..)) {
            self.switch.plug(self.id, link, stream)?;
        }
        let qmp = Rc::new(Qmp::new(async_stream(vm.qmp)?));
        self.qmp.replace(Some(qmp.clone()));
        self.status.send_modify(|s| {
            s.phase = Phase::Booting;
            s.stage = "kernel".into();
            s.boots += 1;
            s.pid = vm.child.id();
            s.error = None;
        });
        let monitor = {
            let qmp = qmp.clone();
            tokio::task::spawn_local(async move { qmp.serve().await })
        };
        let agent = {
            let (node, stream) = (self.clone(), async_stream(vm.agent)?);
            tokio::task::spawn_local(async move { node.serve_agent(stream).await })
        };
        let fence = {
            let (node, stream) = (self.clone(), async_stream(vm.fence)?);
            tokio::task::spawn_local(async move { node.serve_fence(stream).await })
        };
        loop {
            tokio::select! {
                exit = vm.child.wait() => {
                    exit?;
                    break;
                }
                () = self.kill.notified() => vm.child.start_kill()?,
            }
        }
        // What the guest said last is still in the sockets.
        finish(monitor).await;
        finish(agent).await;
        finish(fence).await;

        let why = qmp.shutdown.take().unwrap_or_else(|| "killed".into());
        let was_up = self.status.borrow().phase == Phase::Up;
        self.early_deaths
            .set(if was_up { 0 } else { self.early_deaths.get() + 1 });
        let stage = self.status.borrow().stage.clone();
        let may_again =
            self.status.borrow().restart && why != "guest-shutdown" && self.early_deaths.get() < EARLY_DEATHS;
        // Killed by us: what comes next was decided by whoever did it.
        let again = if why == "killed" {
            *self.wanted.borrow()
        } else {
            may_again
        };
        let error = if was_up {
            why
        } else {
            format!("ended in boot step `{stage}` ({why})")
        };
        self.off(Some(error), again);
        Ok(())
    }

    /// Talks with the agent of one boot until its end.
    async fn serve_agent(&self, stream: UnixStream) -> Result<()> {
        let (mut reader, mut writer) = stream.into_split();
        let (out, mut queue) = mpsc::unbounded_channel::<Frame>();
        let agent = Rc::new(Agent {
            out,
            sessions: RefCell::default(),
        });
        let writer = tokio::task::spawn_local(async move {
            while let Some(frame) = queue.recv().await {
                if writer.write_all(&frame.to_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let mut decoder = Decoder::default();
        let mut buf = vec![0; 65536];
        let end = loop {
            match reader.read(&mut buf).await {
                Ok(0) | Err(_) => break Ok(()),
                Ok(n) => decoder.feed(&buf[..n]),
            }
            match self.agent_frames(&mut decoder, &agent) {
                Ok(()) => {}
                Err(e) => break Err(e),
            }
        };
        if let Err(e) = &end {
            eprintln!("node {}: agent: {e:#}", self.id);
        }
        self.agent.take();
        // Whoever waits for a session's next frame learns that there is none.
        agent.sessions.borrow_mut().clear();
        writer.abort();
        end
    }

    /// Answers the fence agents of one boot, one request after the other.
    async fn serve_fence(&self, stream: UnixStream) -> Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await? {
            let Some((id, wish)) = line.split_once(' ') else {
                continue;
            };
            let (answer, wait) = oneshot::channel();
            let wish = wish.to_owned();
            let sent = self.fence.send(FenceRequest { wish, answer });
            let said = match sent {
                Ok(()) => wait.await.unwrap_or_else(|_| "error the rig ends".to_owned()),
                Err(_) => "error the rig ends".to_owned(),
            };
            writer.write_all(format!("{id} {said}\n").as_bytes()).await?;
        }
        Ok(())
    }

    fn agent_frames(&self, decoder: &mut Decoder, agent: &Rc<Agent>) -> Result<()> {
        while let Some(frame) = decoder.next_frame()? {
            match frame.kind {
                Kind::Hello => {
                    let hello: Hello = frame.parse()?;
                    if hello.node != self.id {
                        return Err(anyhow!("calls itself node {}", hello.node));
                    }
                    self.status.send_modify(|s| s.boot_id = Some(hello.boot_id));
                    let _ = agent.out.send(Frame::json(Kind::Config, 0, &self.config()));
                }
                Kind::Stage => self.status.send_modify(|s| s.stage = frame.text()),
                Kind::Ready => {
                    self.agent.replace(Some(agent.clone()));
                    self.early_deaths.set(0);
                    self.status.send_modify(|s| s.phase = Phase::Up);
                }
                Kind::Failed => self.status.send_modify(|s| {
                    s.phase = Phase::Failed;
                    s.error = Some(frame.text());
                }),
                _ => {
                    let sessions = agent.sessions.borrow();
                    if let Some(session) = sessions.get(&frame.session) {
                        // Its client may have left.
                        let _ = session.send(frame);
                    }
                }
            }
        }
        Ok(())
    }

    fn config(&self) -> Config {
        let setup = &self.setup;
        let mut clustertab = String::from("# node\tIP\tMAC\tboot\tinitnode\tbootdev\n");
        for node in 1..=setup.nodes {
            let ips: Vec<_> = (1..=setup.links).map(|link| format!("10.73.{link}.{node}")).collect();
            clustertab += &format!("{node}\t{}\t{}\tP\tY\t-\n", ips.join(","), qemu::mac(node, 1));
        }
        Config {
            clustertab,
            clustername: "rig".into(),
            key: setup.key.clone(),
            fence: setup.fence.then(|| fence_toml(setup.nodes)),
            modules: setup.modules,
            join: setup.join,
            root: true,
        }
    }

    /// Begins a command; none if the node is not up.
    pub(crate) fn open(&self, spawn: &Spawn) -> Option<Session> {
        let agent = self.agent.borrow().clone()?;
        let id = self.next_session.get();
        self.next_session.set(id + 1);
        let (tx, frames) = mpsc::unbounded_channel();
        agent.sessions.borrow_mut().insert(id, tx);
        agent.out.send(Frame::json(Kind::Spawn, id, spawn)).ok()?;
        Some(Session { id, agent, frames })
    }

    /// Runs a command to its end and gives status and standard output; none if the node goes.
    pub(crate) async fn output(&self, argv: &[&str]) -> Option<(i32, Vec<u8>)> {
        let mut session = self.open(&crate::spawn::command(argv))?;
        session.send(Frame::raw(Kind::Stdin, 0, b""));
        let mut out = Vec::new();
        loop {
            let frame = session.next().await?;
            match frame.kind {
                Kind::Stdout => {
                    session.send(Frame::ack(0, Kind::Stdout, frame.payload.len()));
                    out.extend_from_slice(&frame.payload);
                }
                Kind::Stderr => session.send(Frame::ack(0, Kind::Stderr, frame.payload.len())),
                Kind::Exit => return frame.parse::<Exit>().ok().map(|e| (e.code, out)),
                _ => {}
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .status
            .borrow()
            .pid
            .ok_or_else(|| anyhow!("node {} is off", self.id))?;
        // CAST: pids are below 2^22 here.
        Ok(nix::sys::signal::kill(Pid::from_raw(pid as i32), signal)?)
    }

    /// Plays with the power supply.
    pub(crate) async fn power(&self, action: Power) -> Result<()> {
        match action {
            Power::Kill | Power::Reset => {
                let again = action == Power::Reset;
                self.early_deaths.set(0);
                let is_running = self.status.borrow().pid.is_some();
                let before = self.status.borrow().boots;
                self.wanted.send_replace(again);
                if is_running {
                    self.kill.notify_one();
                    let mut status = self.status.subscribe();
                    status.wait_for(|s| s.pid.is_none() || s.boots > before).await?;
                }
                if again {
                    self.status.subscribe().wait_for(|s| s.boots > before).await?;
                }
            }
            Power::Pause => {
                self.monitor()?.execute("stop").await?;
                self.status.send_modify(|s| s.paused = true);
            }
            Power::Freeze => {
                self.signal(Signal::SIGSTOP)?;
                self.status.send_modify(|s| s.paused = true);
            }
            Power::Resume => {
                self.signal(Signal::SIGCONT)?;
                self.monitor()?.execute("cont").await?;
                self.status.send_modify(|s| s.paused = false);
            }
        }
        Ok(())
    }

    fn monitor(&self) -> Result<Rc<Qmp>> {
        self.qmp
            .borrow()
            .clone()
            .ok_or_else(|| anyhow!("node {} is off", self.id))
    }
}

/// Every node is fenced by the rig.
fn fence_toml(nodes: u32) -> String {
    let mut text = String::from(
        "agent = \"/usr/lib/ssi-tests/fence_rig\"\naction = \"reboot\"\ntimeout = 20\n\n[options]\nknobs = \"/shared\"\n",
    );
    for node in 1..=nodes {
        text += &format!("\n[node.{node}]\n");
    }
    text
}

fn async_stream(stream: StdStream) -> Result<UnixStream> {
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Lets a task end by itself, now that its peer is dead.
async fn finish<T>(mut task: JoinHandle<T>) {
    if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
        task.abort();
    }
}
