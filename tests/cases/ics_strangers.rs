// SPDX-License-Identifier: GPL-2.0

//! What a node refuses to hear: a node that has not joined says to another one, by hand, what no honest node says.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use rig::images::Root;
use rig::spawn::Started;

use crate::clms_memory::threads;
use crate::cluster;
use crate::cluster::PYTHON;
use crate::cluster::Status;
use crate::cluster::python;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "ics_strangers_are_refused",
        promise: "a stream without admission, a frame or heartbeat with a wrong tag or of an old incarnation, or of a machine that \
                  takes a member's number, is refused, counted and logged with its sender; members do not notice",
        root: Root::Debian,
        join: false,
        fresh: true,
        debug: true,
        seconds: 180,
        run: strangers,
        ..Case::DEFAULT
    },
    Case {
        name: "clms_two_machines_one_number",
        promise: "a node that joins while another machine does under the same number is told so and does not join; it does when that \
                  one is gone",
        faults: "heartbeats of node 3 from node 2",
        root: Root::Debian,
        debug: true,
        seconds: 90,
        run: two_machines,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_flood_of_streams",
        promise: "of 300 streams that say nothing, begun anew as they are closed, a node serves only as many as it has room for in the \
                  handshake; members do not notice, and when they are gone the next node joins",
        faults: "300 streams from a node that has not joined",
        root: Root::Debian,
        join: false,
        fresh: true,
        debug: true,
        seconds: 120,
        run: flood,
        ..Case::DEFAULT
    },
    Case {
        name: "ics_requests_of_no_member",
        promise: "a node with the key that is no member and sends 64 MiB of requests takes little of another's memory: half of them are \
                  not read; members do not notice, and the real node joins",
        faults: "requests of 64 MiB from a node that has not joined",
        root: Root::Debian,
        join: false,
        fresh: true,
        seconds: 120,
        run: requests_of_no_member,
        ..Case::DEFAULT
    },
];

/// Says one thing to node 1; `step` names it. Prints nothing if node 1 then does what it should. A step that lasts goes on until
/// `/tmp/enough` is there.
const STRANGER: &str = r#"
import functools, hashlib, select, socket, struct, time
NODE = ('10.73.1.1', 7373)
def mac(key, *parts, n=32):
    return hashlib.blake2s(b''.join(parts), key=key, digest_size=n).digest()
key = open('/run/cluster/key', 'rb').read().strip()
try:
    key = bytes.fromhex(key.decode())
except ValueError:
    pass
K = mac(b'OpenSSI cluster key, version 1..', key)
CLUSTER = mac(b'OpenSSI cluster name, version 1.', open('/run/cluster/clustername', 'rb').read().strip())[:16]

@functools.lru_cache(16)
def siphash(key, data):
    k0, k1 = struct.unpack('<QQ', key)
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]
    M = (1 << 64) - 1
    def rotate(x, n):
        return (x << n | x >> 64 - n) & M
    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & M; v[1] = rotate(v[1], 13) ^ v[0]; v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & M; v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & M; v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & M; v[1] = rotate(v[1], 17) ^ v[2]; v[2] = rotate(v[2], 32)
    end = bytes(-(len(data) + 1) % 8) + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack('<Q', data + end):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xff
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
def frame_tag(key, head, body):
    bodies, tags = (mac(key, b'OpenSSI frames: ' + w, n=16) for w in (b'bodies', b'tags'))
    pieces = [body[i:i + 65536] for i in range(0, len(body), 65536)] or [b'']
    sums = [siphash(bodies, p).to_bytes(8, 'little') for p in pieces]
    total = sums[0] if len(sums) == 1 else siphash(bodies, b''.join(sums)).to_bytes(8, 'little')
    sum = siphash(tags, head + total)
    return sum.to_bytes(8, 'little') + bytes(8)

def connect():
    s = socket.create_connection(NODE, timeout=20)
    return s
def exactly(s, n):
    got = b''
    while len(got) < n:
        more = s.recv(n - len(got))
        if not more:
            raise SystemExit('closed after %d of %d bytes' % (len(got), n))
        got += more
    return got
def torn(s):
    got = b''
    try:
        while more := s.recv(100):
            got += more
    except ConnectionResetError:
        pass
    # Node 1 may have said, before it read anything, that none of its calls are open.
    if got and (len(got) != 88 or got[4:8] != bytes(4) or got[60] != 4):
        raise SystemExit('answered with %r' % got)
VERSION = 11
def admit(node, incarnation, key=K, lane=0, of=bytes(16)):
    s = connect()
    a = struct.pack('<4sHH16sIIQ16sI16s', b'SSIH', VERSION, VERSION, CLUSTER, node, 1, incarnation, os.urandom(16), lane, of)
    s.sendall(a)
    b = exactly(s, 76)
    proof = exactly(s, 32)
    if proof != mac(K, b'B', a, b):
        raise SystemExit('node 1 has another key')
    s.sendall(mac(key, b'A', a, b))
    return s, mac(key, b'SA', a, b)
def frame(key, seq, body=b'\0\0\0\0', length=None, xid=1, order=0, kind=1):
    # A request of Echo.EchoL1, if it is one.
    size = len(body) if length is None else length
    head = struct.pack('<4sIQQQQQQHHBBHII', b'SSI1', size, seq, xid, 0, 0, 0, order, 2, 4, kind, 3, 1, 0, 0)
    return head + body + frame_tag(key, head, body)
def heartbeat(node, incarnation, seq, key=K, version=VERSION, to=1):
    d = struct.pack('<4sIIQQQQQ16s192s', b'SSIB', version, node, incarnation, seq, 0, 0, 0, CLUSTER, b'')
    return d + mac(key, b'H', struct.pack('<I', to), d, n=16)
def tell(datagram):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(datagram, NODE)

step, member = sys.argv[1], int(sys.argv[2])
if step == 'garbage':
    s = connect()
    s.sendall(b'GET / HTTP/1.0\r\n\r\n' * 20)
    torn(s)
elif step == 'half a hello':
    s = connect()
    s.sendall(b'SSIH')
    s.shutdown(socket.SHUT_WR)
    torn(s)
elif step == 'another release':
    # Whatever follows in a version that nobody knows yet.
    s = connect()
    s.sendall(struct.pack('<4sHH', b'SSIH', VERSION + 2, VERSION + 1))
    hello = exactly(s, 76)
    if struct.unpack('<4sHH', hello[:8]) != (b'SSIH', VERSION, VERSION):
        raise SystemExit('answered with %r' % hello)
    torn(s)
elif step == 'wrong key':
    torn(admit(3, 1000, key=b'k' * 32)[0])
elif step == 'unknown node':
    torn(admit(9, 1000)[0])
elif step == 'a lane that nobody knows':
    s = connect()
    s.sendall(struct.pack('<4sHH16sIIQ16sI16s', b'SSIH', VERSION, VERSION, CLUSTER, 3, 1, 1000, os.urandom(16), 3, bytes(16)))
    torn(s)
elif step in ('control of no stream', 'bulk of no stream'):
    # Admitted, as it has the key: and closed, unheard, when no main stream of that name has come.
    s, key = admit(2, member, lane=1 if step[0] == 'c' else 2, of=os.urandom(16))
    f = bytearray(frame(key, 1))
    f[-1] ^= 1
    s.sendall(f)
    torn(s)
elif step == 'wrong tag':
    s, key = admit(3, 1001)
    f = bytearray(frame(key, 1))
    f[-1] ^= 1
    s.sendall(f)
    torn(s)
elif step == 'wrong tag, byte by byte':
    s, key = admit(3, 1001)
    f = bytearray(frame(key, 1))
    f[-1] ^= 1
    for b in f:
        s.send(bytes([b]))
    torn(s)
elif step == 'wrong tag behind urgent data':
    s, key = admit(3, 1001)
    f = bytearray(frame(key, 1))
    f[-1] ^= 1
    s.send(f[:30])
    s.send(b'!', socket.MSG_OOB)
    s.send(f[30:])
    torn(s)
elif step == 'changed body':
    s, key = admit(3, 1002)
    f = bytearray(frame(key, 1))
    f[72] ^= 1
    s.sendall(f)
    torn(s)
elif step == 'wrong number':
    s, key = admit(3, 1003)
    s.sendall(frame(key, 2))
    torn(s)
elif step == 'too long':
    s, key = admit(3, 1004)
    s.sendall(frame(key, 1, length=0x7fffffff))
    torn(s)
elif step == 'half a head':
    s, key = admit(3, 1005)
    s.sendall(frame(key, 1)[:10])
    torn(s)
elif step == 'longer than it is':
    s, key = admit(3, 1005)
    s.sendall(frame(key, 1, length=4096 + 4))
    torn(s)
elif step == 'much longer than it is':
    # Too long for the softirq.
    s, key = admit(3, 1005)
    s.sendall(frame(key, 1, length=65536 + 4))
    torn(s)
elif step == 'old incarnation':
    s, key = admit(3, 1003)
    s.sendall(frame(key, 1))
    torn(s)
elif step == 'old life of a member':
    s, key = admit(2, member - 1)
    s.sendall(frame(key, 1))
    torn(s)
elif step == 'heartbeat with a wrong tag':
    d = bytearray(heartbeat(2, member, 1 << 40))
    d[-1] ^= 1
    tell(d)
elif step == 'heartbeat with a wrong key':
    tell(heartbeat(2, member, 1 << 40, key=b'k' * 32))
elif step == 'half a heartbeat':
    tell(heartbeat(2, member, 1 << 40)[:100])
elif step == 'heartbeat of another release':
    tell(heartbeat(2, member, 1 << 40, version=VERSION + 1))
elif step == 'heartbeat of an old life':
    tell(heartbeat(2, member - 1, 1 << 40))
elif step == "a member's number":
    # The first may be that of a machine that was started again. Then the member is heard.
    for seq in 1 << 40, 2 << 40:
        tell(heartbeat(2, member + 10**9, seq))
        time.sleep(0.5)
elif step == 'lives of node 3':
    # Another machine that joins under this number. It knows of none of the other's lives.
    while not os.path.exists('/tmp/enough'):
        tell(heartbeat(3, time.time_ns() + 10**17, 1 << 40))
        print('it is heard', flush=True)
        time.sleep(0.02)
elif step == 'a flood of streams':
    streams = [connect() for _ in range(300)]
    while not os.path.exists('/tmp/enough'):
        time.sleep(1)
        for s in select.select(streams, [], [], 0)[0]:
            s.close()
            streams[streams.index(s)] = connect()
elif step == 'requests of no member':
    s, key = admit(3, 1001)
    # No call is open.
    s.sendall(frame(key, 1, b'', order=1, kind=4))
    s.settimeout(5)
    taken = 0
    try:
        for n in range(64):
            f = frame(key, 2 + n, bytes(1 << 20), xid=1 + n)
            while f:
                some = s.send(f)
                taken += some
                f = f[some:]
    except socket.timeout:
        pass
    print('taken', taken, flush=True)
    while not os.path.exists('/tmp/enough'):
        time.sleep(0.1)
elif step == 'heartbeat for another node':
    tell(heartbeat(2, member, 1 << 40, to=3))
elif step == 'heartbeat from before':
    tell(heartbeat(2, member, 1))
else:
    raise SystemExit('no such step')
"#;

/// Steps that nothing counts: a node may come so late that its main stream is gone.
const UNHEARD: &[&str] = &["control of no stream", "bulk of no stream"];

/// Step, the counter that it moves, and words of the line that it leaves in the log.
const STEPS: &[(&str, &str, &[&str])] = &[
    ("garbage", "admission", &["from 10.73.1.3:", "no hello"]),
    ("half a hello", "admission", &["from 10.73.1.3:", "half of one"]),
    ("another release", "version", &["from 10.73.1.3:", "it speaks versions 12 to 13 ", "this node version 11:"]),
    ("wrong key", "admission", &["from 10.73.1.3:", "another cluster key"]),
    ("a lane that nobody knows", "admission", &["from 10.73.1.3:", "unknown kind"]),
    ("unknown node", "admission", &["from node 9 at 10.73.1.3:", "not in this node's table"]),
    ("wrong tag", "tag", &["from node 3 at 10.73.1.3:", "wrong tag"]),
    ("wrong tag, byte by byte", "tag", &["from node 3 at 10.73.1.3:", "wrong tag"]),
    ("wrong tag behind urgent data", "tag", &["from node 3 at 10.73.1.3:", "wrong tag"]),
    ("changed body", "tag", &["from node 3 at 10.73.1.3:", "wrong tag"]),
    ("wrong number", "replay", &["from node 3 at 10.73.1.3:", "out of its order"]),
    ("too long", "torn", &["from node 3 at 10.73.1.3:", "too long"]),
    ("half a head", "torn", &["from node 3 at 10.73.1.3:", "end does not come"]),
    ("longer than it is", "torn", &["from node 3 at 10.73.1.3:", "end does not come"]),
    ("much longer than it is", "torn", &["from node 3 at 10.73.1.3:", "end does not come"]),
    ("old incarnation", "stale", &["from node 3 at 10.73.1.3:", "old incarnation"]),
    ("old life of a member", "stale", &["from node 2 at 10.73.1.3:", "old incarnation"]),
    ("heartbeat with a wrong tag", "tag", &["from 10.73.1.3:", "heartbeat"]),
    ("heartbeat with a wrong key", "tag", &["from 10.73.1.3:", "heartbeat"]),
    ("heartbeat for another node", "tag", &["from 10.73.1.3:", "for another node"]),
    ("half a heartbeat", "torn", &["from 10.73.1.3:", "no heartbeat"]),
    // Counted only: the handshake names it.
    ("heartbeat of another release", "version", &[]),
    ("heartbeat of an old life", "stale", &["from node 2 at 10.73.1.3:", "old heartbeat"]),
    ("a member's number", "stale", &["from node 2 at 10.73.1.3:", "takes a member's number"]),
    ("heartbeat from before", "stale", &["from node 2 at 10.73.1.3:", "old heartbeat"]),
];

/// Begins a step that lasts, on a node.
fn begin(c: &Context, node: u32, step: &str) -> Result<Started> {
    c.sh(node, "rm -f /tmp/enough /tmp/said")?;
    let script = format!("exec python3 -c \"$0\" '{step}' 0 >/tmp/said 2>&1");
    c.background(node, &["sh", "-c", &script, &format!("{PYTHON}{STRANGER}")])
}

/// Waits until it says something.
fn said(c: &Context, node: u32, what: &str) -> Result<String> {
    c.until(what, 30, || {
        let text = c.sh(node, "cat /tmp/said; true")?;
        Ok((!text.is_empty()).then_some(text))
    })
}

/// Ends it.
fn enough(c: &Context, node: u32, stranger: &Started) -> Result<()> {
    c.sh(node, "touch /tmp/enough")?;
    c.until("the stranger is gone", 20, || {
        let is_gone = c.exec(node, &["test", "-d", &format!("/proc/{}", stranger.pid)])?.code == 1;
        Ok(is_gone.then_some(()))
    })?;
    c.sh(node, "rm /tmp/enough /tmp/said").map(drop)
}

/// Nodes 1 and 2 join; gives their view.
fn two_join(c: &Context) -> Result<Status> {
    for node in 1..=2 {
        c.background(node, &["cluster", "join"])?;
    }
    cluster::agree(c, &[1, 2], 20)
}

/// The real node 3 is let in.
fn node_3_joins(c: &Context) -> Result<()> {
    let out = c.exec(3, &["cluster", "join"])?;
    ensure!(out.code == 0, "node 3 joins: {out:?}");
    cluster::agree(c, &[1, 2, 3], 10).map(drop)
}

/// Calls of the two members to each other.
fn members_call(c: &Context) -> Result<()> {
    let echo = "/sys/kernel/debug/ssi/ics_echo";
    for (from, to) in [(1, 2), (2, 1)] {
        let said = c.sh(from, &format!("echo {to} 3 50 1000 2 0 >{echo} && cat {echo}"))?;
        ensure!(said.starts_with("calls 100 errors 0 "), "node {from}: {said}");
    }
    Ok(())
}

fn two_machines(c: &Context) -> Result<()> {
    cluster::agree(c, &[1, 2, 3], 20)?;
    c.sh(3, "cluster leave")?;
    let before = cluster::agree(c, &[1, 2], 10)?;
    let other = begin(c, 2, "lives of node 3")?;
    said(c, 2, "the other machine speaks")?;

    let out = c.exec(3, &["timeout", "30", "cluster", "join"])?;
    let why = "another machine joins under this node's number";
    ensure!(out.code == 1 && out.error_text().contains(why), "node 3 joins: {out:?}");
    same("the view", cluster::agree(c, &[1, 2], 10)?, before)?;

    enough(c, 2, &other)?;
    node_3_joins(c)
}

/// What `ics/net/streams.rs` says: streams in the handshake, six for each of three nodes; and of those that are proved three to each other node,
/// and as many more while they take over.
const IN_HANDSHAKE: usize = 6 * 3;
const PROVED: usize = 2 * 3 * 2;

/// A thread that is on its way out.
const PF_EXITING: u32 = 4;

/// How many threads serve streams on node 1.
fn served(c: &Context) -> Result<usize> {
    let all = threads(c, 1)?;
    let is_served = |(name, flags): &&(String, u32)| name == "ics_stream" && flags & PF_EXITING == 0;
    Ok(all.iter().filter(is_served).count())
}

fn flood(c: &Context) -> Result<()> {
    let before = two_join(c)?;
    let mut refused = cluster::refused(c, 1)?;
    let stranger = begin(c, 3, "a flood of streams")?;
    c.until("all places are taken", 20, || Ok((served(c)? >= IN_HANDSHAKE).then_some(())))?;
    // More than all of them: each that finds no place is counted, and each that has one and says nothing.
    let before_it = refused["admission"];
    c.until("streams are refused", 30, || Ok((cluster::refused(c, 1)?["admission"] > before_it + 300).then_some(())))?;
    let (start, mut most) = (Instant::now(), 0);
    // Twice as long as a handshake may take.
    while start.elapsed() < Duration::from_secs(6) {
        most = most.max(served(c)?);
        members_call(c)?;
        same("the view", cluster::agree(c, &[1, 2], 1)?, before.clone())?;
    }
    println!("# at most {most} streams were served at once");
    ensure!(most <= IN_HANDSHAKE + PROVED, "{most} streams were served at once");
    ensure!(c.console(1).contains("too many streams"), "node 1 does not say so");
    enough(c, 3, &stranger)?;
    node_3_joins(c)?;
    let mut now = cluster::refused(c, 1)?;
    for counts in [&mut refused, &mut now] {
        counts.remove("admission");
    }
    same("refused for another reason", now, refused)?;
    same("refused by node 2", cluster::refused(c, 2)?.values().sum::<u64>(), 0)
}

/// Memory that a node could give to programs, in KiB.
pub(crate) fn available(c: &Context, node: u32) -> Result<u64> {
    let line = c.sh(node, "grep ^MemAvailable: /proc/meminfo")?;
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    kib.with_context(|| line.clone())
}

/// Most of what the other side takes of 64 MiB: what is in its own socket, and in that of node 1, a few MiB each, and the request that
/// node 1 has read and keeps until its sender is a member.
const TAKEN: u64 = 32 << 20;

/// The same of node 1's memory, in KiB, with whatever else happens there.
const KEPT: u64 = 16 << 10;

fn requests_of_no_member(c: &Context) -> Result<()> {
    let before = two_join(c)?;
    members_call(c)?;
    let (refused, memory) = (cluster::refused(c, 1)?, available(c, 1)?);
    let stranger = begin(c, 3, "requests of no member")?;
    let text = said(c, 3, "nothing more is taken")?;
    let taken: u64 = text
        .trim()
        .strip_prefix("taken ")
        .and_then(|n| n.parse().ok())
        .with_context(|| text.clone())?;
    let kept = memory.saturating_sub(available(c, 1)?);
    println!("# {} KiB were taken, memory of node 1 fell by {kept} KiB", taken >> 10);
    ensure!((1 << 20..TAKEN).contains(&taken), "{taken} bytes were taken");
    ensure!(kept < KEPT, "memory of node 1 fell by {kept} KiB");
    members_call(c)?;
    same("the view", cluster::agree(c, &[1, 2], 1)?, before)?;
    // They wait: nothing is wrong with them.
    same("refused", cluster::refused(c, 1)?, refused)?;
    enough(c, 3, &stranger)?;
    node_3_joins(c)?;
    members_call(c)
}

fn strangers(c: &Context) -> Result<()> {
    let before = two_join(c)?;
    let member = before.node(2)?.incarnation.to_string();
    let mut counts = cluster::refused(c, 1)?;
    same("refused before", counts.values().sum::<u64>(), 0)?;
    for (step, kind, words) in STEPS {
        python(c, "root", 3, STRANGER, &[step, &member])?;
        *counts.entry((*kind).to_owned()).or_default() += 1;
        let mut now = counts.clone();
        let counted = c.until("the counter", 5, || {
            now = cluster::refused(c, 1)?;
            Ok((now[*kind] >= counts[*kind]).then_some(()))
        });
        ensure!(counted.is_ok() && now == counts, "{step}: want {counts:?}, got {now:?}");
        let line = c.sh(1, "dmesg | grep 'ssi_ics: refused from' | tail -n 1")?;
        ensure!(
            words.iter().all(|w| line.contains(w)),
            "{step}: {words:?} is not in {line:?}"
        );
    }
    for step in UNHEARD {
        python(c, "root", 3, STRANGER, &[step, &member])?;
        same(format!("refused after {step}"), cluster::refused(c, 1)?, counts.clone())?;
    }
    // Nobody else noticed.
    same("the view", cluster::agree(c, &[1, 2], 1)?, before)?;
    same("refused by node 2", cluster::refused(c, 2)?.values().sum::<u64>(), 0)?;
    members_call(c)?;
    node_3_joins(c)?;
    same("refused at its join", cluster::refused(c, 1)?, counts)
}
