// SPDX-License-Identifier: GPL-2.0

//! The layer-2 switch that the guests' network devices are plugged into.
//!
//! One thread, one epoll. A port is one end of a socket pair whose other end a QEMU has as `-netdev stream`:
//! frames with a 4-byte big-endian length before each. Links are switches of their own: a frame never leaves its link.

use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;
use std::time::SystemTime;

use nix::sys::epoll::Epoll;
use nix::sys::epoll::EpollCreateFlags;
use nix::sys::epoll::EpollEvent;
use nix::sys::epoll::EpollFlags;
use nix::sys::epoll::EpollTimeout;
use nix::sys::timerfd::ClockId;
use nix::sys::timerfd::Expiration;
use nix::sys::timerfd::TimerFd;
use nix::sys::timerfd::TimerFlags;
use nix::sys::timerfd::TimerSetTimeFlags;

use crate::fault::Counters;
use crate::fault::Faults;
use crate::fault::Lane;
use crate::fault::flip;
use crate::pcap::Capture;

/// Bytes that wait for one receiver before frames are dropped, as a switch does it.
const QUEUE_MAX: usize = 8 << 20;

/// Largest frame that is taken; QEMU's own limit is about 68 KiB.
const FRAME_MAX: usize = 128 << 10;

/// The timer's token; ports count from 0.
const TIMER: u64 = u64::MAX;

/// Frames out of the byte stream of a `-netdev stream`.
#[derive(Debug, Default)]
struct Deframer {
    buf: Vec<u8>,
    at: usize,
}

impl Deframer {
    fn feed(&mut self, bytes: &[u8]) {
        self.buf.drain(..self.at);
        self.at = 0;
        self.buf.extend_from_slice(bytes);
    }

    fn next_frame(&mut self) -> io::Result<Option<&[u8]>> {
        let Some((len, rest)) = self.buf[self.at..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*len) as usize;
        if len > FRAME_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("frame of {len} bytes"),
            ));
        }
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.at + 4;
        self.at = start + len;
        Ok(Some(&self.buf[start..start + len]))
    }
}

struct Port {
    node: u32,
    link: u32,
    stream: UnixStream,
    input: Deframer,
    out: Vec<u8>,
    out_at: usize,
    waits_for_room: bool,
}

impl Port {
    fn queue(&mut self, frame: &[u8]) -> bool {
        if self.out.len() - self.out_at + frame.len() > QUEUE_MAX {
            return false;
        }
        // CAST: at most FRAME_MAX.
        self.out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.out.extend_from_slice(frame);
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.out_at < self.out.len() {
            match self.stream.write(&self.out[self.out_at..]) {
                Ok(n) => self.out_at += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        } else if self.out_at > QUEUE_MAX {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
        Ok(())
    }
}

/// A frame that waits for its time. Ordered so that the heap gives the earliest first.
struct Waiting {
    due: Instant,
    order: u64,
    port: u64,
    from: u32,
    frame: Vec<u8>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

struct Fabric {
    seed: u64,
    ports: HashMap<u64, Port>,
    next_port: u64,
    lanes: HashMap<(u32, u32, u32), Lane>,
    /// Hardware addresses as they were seen, by link.
    addresses: HashMap<(u32, [u8; 6]), u64>,
    waiting: BinaryHeap<Waiting>,
    next_order: u64,
    capture: Option<Capture>,
}

/// The switch.
#[derive(Clone)]
pub struct Switch {
    fabric: Arc<Mutex<Fabric>>,
    epoll: Arc<Epoll>,
}

/// One lane as `status` shows it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct LaneStatus {
    /// Sender.
    pub from: u32,
    /// Receiver.
    pub to: u32,
    /// Link.
    pub link: u32,
    /// What goes wrong.
    pub faults: Faults,
    /// What went.
    pub counters: Counters,
}

impl Switch {
    /// Starts the thread.
    ///
    /// # Errors
    /// No descriptor or thread to be had.
    pub fn start(seed: u64) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let fabric = Fabric {
            seed,
            ports: HashMap::new(),
            next_port: 0,
            lanes: HashMap::new(),
            addresses: HashMap::new(),
            waiting: BinaryHeap::new(),
            next_order: 0,
            capture: None,
        };
        let switch = Self {
            fabric: Arc::new(Mutex::new(fabric)),
            epoll,
        };
        let own = switch.clone();
        std::thread::Builder::new()
            .name("switch".into())
            .spawn(move || own.run(&timer))?;
        Ok(switch)
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs a node in. The port goes away when the other end is closed.
    ///
    /// # Errors
    /// The stream cannot be watched.
    pub fn plug(&self, node: u32, link: u32, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut fabric = self.lock();
        let id = fabric.next_port;
        fabric.next_port += 1;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        let port = Port {
            node,
            link,
            stream,
            input: Deframer::default(),
            out: Vec::new(),
            out_at: 0,
            waits_for_room: false,
        };
        fabric.ports.insert(id, port);
        Ok(())
    }

    /// Changes the faults of one lane.
    pub fn change(&self, from: u32, to: u32, link: u32, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().lane(from, to, link).faults);
    }

    /// Begins a capture, or ends the one that runs.
    ///
    /// # Errors
    /// The file cannot be made, or the old one not be finished.
    pub fn capture(&self, path: Option<&Path>, link: Option<u32>, delivered: bool) -> io::Result<()> {
        let new = path.map(|p| Capture::create(p, link, delivered)).transpose()?;
        let old = std::mem::replace(&mut self.lock().capture, new);
        old.map_or(Ok(()), |mut c| c.flush())
    }

    /// Every lane that was used or has a fault.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        let fabric = self.lock();
        let mut lanes: Vec<_> = fabric
            .lanes
            .iter()
            .map(|((from, to, link), lane)| LaneStatus {
                from: *from,
                to: *to,
                link: *link,
                faults: lane.faults,
                counters: lane.counters,
            })
            .collect();
        lanes.sort_by_key(|l| (l.link, l.from, l.to));
        lanes
    }

    fn run(&self, timer: &TimerFd) {
        let mut events = [EpollEvent::empty(); 64];
        let mut armed: Option<Instant> = None;
        let mut buf = vec![0; 256 << 10];
        loop {
            let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n) => n,
                Err(nix::Error::EINTR) => continue,
                Err(e) => {
                    eprintln!("switch: epoll: {e}");
                    return;
                }
            };
            let mut fabric = self.lock();
            let mut dirty = Vec::new();
            for event in &events[..n] {
                let id = event.data();
                if id == TIMER {
                    // Only clears the event; what is due is looked up below.
                    let _ = timer.wait();
                    armed = None;
                    continue;
                }
                if event.events().contains(EpollFlags::EPOLLOUT) {
                    dirty.push(id);
                }
                if event
                    .events()
                    .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                    && let Err(e) = fabric.receive(id, &mut buf, &mut dirty)
                {
                    if e.kind() != io::ErrorKind::UnexpectedEof {
                        eprintln!("switch: port: {e}");
                    }
                    self.unplug(&mut fabric, id);
                }
            }
            fabric.deliver_due(Instant::now(), &mut dirty);
            dirty.sort_unstable();
            dirty.dedup();
            for id in dirty {
                self.flush(&mut fabric, id);
            }
            if let Some(capture) = &mut fabric.capture
                && let Err(e) = capture.flush()
            {
                eprintln!("switch: capture ends: {e}");
                fabric.capture = None;
            }
            let next = fabric.waiting.peek().map(|w| w.due);
            if let Some(due) = next.filter(|due| armed.is_none_or(|a| *due < a)) {
                let wait = due
                    .saturating_duration_since(Instant::now())
                    .max(std::time::Duration::from_nanos(1));
                let set = timer.set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty());
                armed = set.is_ok().then_some(due);
            }
        }
    }

    fn flush(&self, fabric: &mut Fabric, id: u64) {
        let Some(port) = fabric.ports.get_mut(&id) else { return };
        let done = port.flush().and_then(|()| {
            let waits = port.out_at < port.out.len();
            if waits != port.waits_for_room {
                port.waits_for_room = waits;
                let flags = if waits {
                    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::EPOLLIN
                };
                self.epoll.modify(&port.stream, &mut EpollEvent::new(flags, id))?;
            }
            Ok(())
        });
        if done.is_err() {
            self.unplug(fabric, id);
        }
    }

    fn unplug(&self, fabric: &mut Fabric, id: u64) {
        if let Some(port) = fabric.ports.remove(&id) {
            let _ = self.epoll.delete(&port.stream);
        }
        fabric.addresses.retain(|_, port| *port != id);
    }
}

impl Fabric {
    fn lane(&mut self, from: u32, to: u32, link: u32) -> &mut Lane {
        let seed = self.seed;
        self.lanes
            .entry((from, to, link))
            .or_insert_with(|| Lane::new(seed, from, to, link))
    }

    /// Reads what a port has and passes the frames on.
    fn receive(&mut self, id: u64, buf: &mut [u8], dirty: &mut Vec<u64>) -> io::Result<()> {
        let Some(port) = self.ports.get_mut(&id) else {
            return Ok(());
        };
        let n = match port.stream.read(buf) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(e) => return Err(e),
        };
        let (now, clock) = (Instant::now(), SystemTime::now());
        let (node, link) = (port.node, port.link);
        let mut input = std::mem::take(&mut port.input);
        input.feed(&buf[..n]);
        while let Some(frame) = input.next_frame()? {
            self.forward(id, node, link, frame, now, clock, dirty);
        }
        if let Some(port) = self.ports.get_mut(&id) {
            port.input = input;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one frame and where it came from")]
    fn forward(
        &mut self,
        id: u64,
        node: u32,
        link: u32,
        frame: &[u8],
        now: Instant,
        clock: SystemTime,
        dirty: &mut Vec<u64>,
    ) {
        let Some((to, from)) = frame
            .split_first_chunk::<6>()
            .and_then(|(to, r)| Some((to, r.first_chunk::<6>()?)))
        else {
            return;
        };
        self.record(link, false, clock, frame);
        if from[0] & 1 == 0 {
            self.addresses.insert((link, *from), id);
        }
        let known = self.addresses.get(&(link, *to)).copied().filter(|_| to[0] & 1 == 0);
        let targets: Vec<(u64, u32)> = match known {
            Some(port) => self.ports.get(&port).map(|p| (port, p.node)).into_iter().collect(),
            None => self
                .ports
                .iter()
                .filter(|(_, p)| p.link == link)
                .map(|(id, p)| (*id, p.node))
                .collect(),
        };
        for (target, to_node) in targets.into_iter().filter(|(t, _)| *t != id) {
            for delivery in self.lane(node, to_node, link).pass(now, frame) {
                let mut copy = std::borrow::Cow::Borrowed(frame);
                if let Some(bit) = delivery.flip {
                    flip(copy.to_mut(), bit);
                }
                match delivery.due {
                    None => self.deliver(target, node, &copy, clock, dirty),
                    Some(due) => {
                        let order = self.next_order;
                        self.next_order += 1;
                        self.waiting.push(Waiting {
                            due,
                            order,
                            port: target,
                            from: node,
                            frame: copy.into_owned(),
                        });
                    }
                }
            }
        }
    }

    fn deliver(&mut self, target: u64, from: u32, frame: &[u8], clock: SystemTime, dirty: &mut Vec<u64>) {
        let Some(port) = self.ports.get_mut(&target) else {
            return;
        };
        let (link, to) = (port.link, port.node);
        if port.queue(frame) {
            dirty.push(target);
            self.record(link, true, clock, frame);
        } else {
            self.lane(from, to, link).counters.overflowed += 1;
        }
    }

    fn deliver_due(&mut self, now: Instant, dirty: &mut Vec<u64>) {
        while self.waiting.peek().is_some_and(|w| w.due <= now) {
            if let Some(w) = self.waiting.pop() {
                self.deliver(w.port, w.from, &w.frame, SystemTime::now(), dirty);
            }
        }
    }

    fn record(&mut self, link: u32, delivered: bool, clock: SystemTime, frame: &[u8]) {
        let Some(capture) = &mut self.capture else { return };
        if capture.delivered == delivered
            && capture.link.is_none_or(|l| l == link)
            && let Err(e) = capture.frame(clock, frame)
        {
            eprintln!("switch: capture ends: {e}");
            self.capture = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Chance;
    use std::time::Duration;

    fn frame(to: u8, from: u8, tag: u8) -> Vec<u8> {
        let mut f = vec![0x52, 0x54, 0, 0, 1, to, 0x52, 0x54, 0, 0, 1, from, 0x88, 0xb5, tag];
        if to == 0xff {
            f[..6].fill(0xff);
        }
        f.resize(60, 0);
        f
    }

    struct Nic {
        stream: UnixStream,
        input: Deframer,
    }

    impl Nic {
        fn new(switch: &Switch, node: u32, link: u32) -> Self {
            let (ours, theirs) = UnixStream::pair().unwrap();
            switch.plug(node, link, theirs).unwrap();
            ours.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            Self {
                stream: ours,
                input: Deframer::default(),
            }
        }

        fn send(&mut self, f: &[u8]) {
            let bytes = [&(f.len() as u32).to_be_bytes()[..], f].concat();
            // In two pieces: the stream has no frame borders.
            self.stream.write_all(&bytes[..7]).unwrap();
            self.stream.write_all(&bytes[7..]).unwrap();
        }

        fn receive(&mut self) -> Option<Vec<u8>> {
            loop {
                if let Some(f) = self.input.next_frame().unwrap() {
                    return Some(f.to_vec());
                }
                let mut buf = [0; 4096];
                match self.stream.read(&mut buf) {
                    Ok(n) if n > 0 => self.input.feed(&buf[..n]),
                    _ => return None,
                }
            }
        }
    }

    fn three() -> (Switch, Nic, Nic, Nic) {
        let s = Switch::start(1).unwrap();
        let nics = [1, 2, 3].map(|n| Nic::new(&s, n, 1));
        let [a, b, c] = nics;
        (s, a, b, c)
    }

    #[test]
    fn unicast_reaches_one_broadcast_all() {
        let (_s, mut a, mut b, mut c) = three();
        // Unknown goes everywhere.
        a.send(&frame(2, 1, 1));
        assert_eq!(b.receive(), Some(frame(2, 1, 1)));
        assert_eq!(c.receive(), Some(frame(2, 1, 1)));
        b.send(&frame(1, 2, 2));
        assert_eq!(a.receive(), Some(frame(1, 2, 2)));
        assert_eq!(c.receive(), None);
        a.send(&frame(2, 1, 3));
        assert_eq!(b.receive(), Some(frame(2, 1, 3)));
        assert_eq!(c.receive(), None);
        c.send(&frame(0xff, 3, 4));
        assert_eq!(a.receive(), Some(frame(0xff, 3, 4)));
        assert_eq!(b.receive(), Some(frame(0xff, 3, 4)));
        assert_eq!(c.receive(), None);
    }

    #[test]
    fn links_are_apart() {
        let s = Switch::start(1).unwrap();
        let mut a = Nic::new(&s, 1, 1);
        let mut b = Nic::new(&s, 2, 2);
        a.send(&frame(0xff, 1, 1));
        assert_eq!(b.receive(), None);
    }

    #[test]
    fn a_cut_is_for_its_direction_only() {
        let (s, mut a, mut b, _c) = three();
        s.change(1, 2, 1, |f| f.cut = true);
        a.send(&frame(0xff, 1, 1));
        assert_eq!(b.receive(), None);
        b.send(&frame(0xff, 2, 2));
        assert_eq!(a.receive(), Some(frame(0xff, 2, 2)));
        s.change(1, 2, 1, |f| *f = Faults::default());
        a.send(&frame(0xff, 1, 3));
        assert_eq!(b.receive(), Some(frame(0xff, 1, 3)));
        let lane = s.lanes().into_iter().find(|l| (l.from, l.to) == (1, 2)).unwrap();
        assert_eq!((lane.counters.frames, lane.counters.cut), (2, 1));
    }

    #[test]
    fn delayed_frames_come_late_and_in_order() {
        let (s, mut a, mut b, _c) = three();
        s.change(1, 2, 1, |f| f.delay = Duration::from_millis(50));
        let start = Instant::now();
        for tag in 0..10 {
            a.send(&frame(0xff, 1, tag));
        }
        for tag in 0..10 {
            assert_eq!(b.receive(), Some(frame(0xff, 1, tag)));
            assert!(start.elapsed() >= Duration::from_millis(50));
        }
        assert!(start.elapsed() < Duration::from_millis(190), "{:?}", start.elapsed());
    }

    #[test]
    fn a_receiver_that_does_not_read_stops_nobody() {
        let (s, mut a, mut b, mut c) = three();
        b.send(&frame(0xff, 2, 0));
        c.send(&frame(0xff, 3, 0));
        while a.receive().is_some() {}
        while c.receive().is_some() {}
        let mut big = frame(2, 1, 1);
        big.resize(60_000, 0);
        for _ in 0..400 {
            a.send(&big);
        }
        a.send(&frame(3, 1, 9));
        assert_eq!(c.receive(), Some(frame(3, 1, 9)));
        let lane = s.lanes().into_iter().find(|l| (l.from, l.to) == (1, 2)).unwrap();
        assert!(lane.counters.overflowed > 0);
        assert_eq!(lane.counters.frames, 400);
    }

    #[test]
    fn a_node_that_comes_back_is_found_again() {
        let (s, mut a, b, mut c) = three();
        drop(b);
        let mut b = Nic::new(&s, 2, 1);
        b.send(&frame(0xff, 2, 1));
        assert_eq!(a.receive(), Some(frame(0xff, 2, 1)));
        a.send(&frame(2, 1, 2));
        assert_eq!(b.receive(), Some(frame(2, 1, 2)));
        assert_eq!(c.receive(), Some(frame(0xff, 2, 1)));
        assert_eq!(c.receive(), None);
    }

    #[test]
    fn capture_holds_the_frames() {
        let (s, mut a, mut b, _c) = three();
        let path = std::env::temp_dir().join(format!("rig-capture-{}.pcap", std::process::id()));
        s.capture(Some(&path), None, false).unwrap();
        s.change(1, 2, 1, |f| f.loss = Chance(1_000_000));
        a.send(&frame(0xff, 1, 1));
        assert_eq!(b.receive(), None);
        s.capture(None, None, false).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 24 + 16 + 60);
        assert_eq!(bytes[40..], frame(0xff, 1, 1));
    }

    #[test]
    fn a_broken_length_unplugs_the_port() {
        let (_s, mut a, _b, _c) = three();
        a.stream.write_all(&[0xff; 64]).unwrap();
        assert_eq!(a.receive(), None);
        let mut buf = [0; 1];
        assert_eq!(a.stream.read(&mut buf).unwrap(), 0);
    }
}
