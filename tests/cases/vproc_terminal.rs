// SPDX-License-Identifier: GPL-2.0

//! A terminal and a process that uses it from another node.

use anyhow::Result;
use anyhow::ensure;
use rig::images::Root;

use crate::cluster::python;
use crate::context::Context;
use crate::context::same;
use crate::runner::Case;

pub(crate) const CASES: &[Case] = &[Case {
    name: "onnode_terminal",
    promise: "a terminal serves a process that was started on, or moved to, another node as one that stays",
    root: Root::Debian,
    debug: true,
    run: terminal,
    ..Case::DEFAULT
}];

/// The process at the terminal: it says what it sees.
const USER: &str = r"
import os, signal, sys, termios
def size():
    return tuple(os.get_terminal_size(0))
def flags():
    a = termios.tcgetattr(0)
    return a[:6], [c if type(c) is int else c.hex() for c in a[6]]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
print('tty', [os.isatty(n) for n in (0, 1, 2)], size(), flags(), os.tcgetpgrp(0) == os.getpgrp())
print('ready', os.getpid(), flush=True)
sys.stdin.readline()
print('again', [os.isatty(n) for n in (0, 1, 2)], size(), flags(), os.tcgetpgrp(0) == os.getpgrp(), flush=True)
print('signal', signal.sigwait({signal.SIGWINCH}) == signal.SIGWINCH, flush=True)
print('size', size(), flush=True)
print('line', repr(sys.stdin.readline()), flush=True)
print('end', repr(sys.stdin.readline()), flush=True)
a = termios.tcgetattr(0)
a[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSADRAIN, a)
print('silent', sys.argv[0] == '-c', flush=True)
print('secret', repr(sys.stdin.readline()), flush=True)
signal.signal(signal.SIGINT, signal.SIG_DFL)
print('waits', flush=True)
while True:
    signal.pause()
";

/// The one who types: `argv[1]` is the user's program, `argv[2]` how it comes to the node `argv[3]`.
const TYPIST: &str = r"
import fcntl, pty, re, select, struct, subprocess, termios
user, how = sys.argv[1:3]
leader, tty = pty.fork()
if leader == 0:
    # A session's leader stays where its terminal is; its jobs are groups of their own, as an interactive shell's.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 77, 0, 0))
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        argv = ['python3', '-c', user]
        if how == 'started':
            argv = ['onnode', sys.argv[3]] + argv
        os.execvp(argv[0], argv)
    print('ended by', os.waitpid(job, 0)[1], flush=True)
    os._exit(0)
got = b''
def until(word):
    global got
    while b'\n' not in got[max(got.find(word), 0):] or word not in got:
        if not select.select([tty], [], [], 10)[0]:
            sys.exit('no %r but %r' % (word, got))
        try:
            got += os.read(tty, 4096)
        except OSError as e:
            sys.exit('no %r but %r, %s' % (word, got, e))
    at = got.index(b'\n', got.index(word)) + 1
    print(re.sub('ready \\d+', 'ready', got[:at].decode().replace('\r', '')), end='')
    said, got = got[:at], got[at:]
    return said
def type(text):
    os.write(tty, text)
pid = int(until(b'ready').split(b'ready')[1])
if how == 'moved':
    subprocess.check_call(['migrate', sys.argv[3], str(pid)])
print('in its place', subprocess.check_output(['where_pid', str(pid)], text=True).strip() == sys.argv[3])
type(b'go\n')
until(b'again')
fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 100, 0, 0))
until(b'size')
type(b'hel\x7flo\n')
until(b'line')
type(b'\x04')
until(b'end')
until(b'silent')
print('echo', bool(termios.tcgetattr(tty)[3] & termios.ECHO))
type(b'word\n')
until(b'secret')
until(b'waits')
type(b'\x03')
until(b'ended by')
";

fn terminal(c: &Context) -> Result<()> {
    let run = |how, node| python(c, "user", 1, TYPIST, &[USER, how, node]);
    let local = run("stays", "1")?;
    for said in ["in its place True", "tty [True, True, True] (77, 33)", "size (100, 40)", "line 'helo\\n'", "end ''", "echo False", "ended by 2"] {
        ensure!(local.contains(said), "on its own node there is no {said:?} in:\n{local}");
    }
    for (how, to) in [("started", "2"), ("started", "3"), ("moved", "2")] {
        same(format!("{how} on node {to}"), run(how, to)?, &local[..])?;
    }
    Ok(())
}
