// SPDX-License-Identifier: GPL-2.0

//! What this node answers about processes.

use crate::calls;
use crate::events;
use crate::home;
use crate::home::state::Effect;
use crate::home::state::Event as HomeEvent;
use crate::listing;
use crate::movement;
use crate::movement::destination;
use crate::movement::judge;
use crate::movement::pages;
use crate::movement::state::Answer;
use crate::nodes;
use crate::proto::*;
use crate::recovery;
use ics::CallError;
use ics::Caller;
use ics::Handle;
use ics::Reply;
use ics::Status;
use kernel::prelude::*;
use kernel::str::CString;
use ssi::ids::ClusterPid;
use ssi::ids::Incarnation;
use ssi::ids::NodeId;
use ssi::pproc;
use ssi::pproc::Exit;
use ssi::pproc::Many;
use ssi::pproc::RemoteCall;
use ssi::pproc::SigInfo;
use ssi::pproc::Target;
use ssi::refusal::Refusal;
use ssi::wire::Le32;
use ssi::wire::Le64;

/// The most text that one read of a file in `/proc` yields.
const MAX_TEXT: usize = 256 * 1024;

/// The longest link text or path.
const MAX_PATH: usize = 4096;

/// Answers for the service.
pub(crate) struct Server;

/// The one server.
pub(crate) static SERVER: VprocService<Server> = VprocService(Server);

/// A process that is not here: say where it is, if this node knows. Waits for nobody: the asker of a process that
/// nobody seems to have asks its origin by `Locate`.
fn not_here(pid: ClusterPid) -> Status {
    match home::hint(pid) {
        Ok(node) if node != nodes::this() => Status::Moved(node),
        _ => Status::Errno(ESRCH),
    }
}

/// Turns "no such process" into the place where it is.
fn at<T>(pid: ClusterPid, r: Result<T>) -> core::result::Result<T, Status> {
    match r {
        Ok(v) => Ok(v),
        Err(e) if (e == ESRCH || e == ENOENT) && !calls::is_here(pid) => Err(not_here(pid)),
        Err(e) => Err(Status::Errno(e)),
    }
}

/// A path from the wire. No NUL may be in it; the built-in half refuses ways up.
fn path(tail: &[u8]) -> core::result::Result<CString, Status> {
    if tail.len() > 120 {
        return Err(Status::Errno(ENOENT));
    }
    let text = core::str::from_utf8(tail).map_err(|_| Status::Errno(ENOENT))?;
    CString::try_from_fmt(fmt!("{text}")).map_err(Status::Errno)
}

/// Runs `f` on a buffer of `len` bytes and returns what it filled.
fn filled(len: usize, f: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<KVVec<u8>> {
    let mut buf = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
    let n = f(&mut buf)?;
    buf.truncate(n);
    Ok(buf)
}

impl Handle<Locate> for Server {
    fn handle(&self, _from: Caller, req: &LocateReq, _tail: &[u8]) -> Reply<Locate> {
        let pid = ClusterPid(req.pid.get());
        let node = home::locate(nodes::to_local(pid)).map_err(Status::Errno)?;
        let node = Le32::new(node.number());
        Ok((LocateRep { node }, KVVec::new()))
    }
}

impl Handle<Signal> for Server {
    fn handle(&self, _from: Caller, req: &SignalReq, _tail: &[u8]) -> Reply<Signal> {
        let pid = ClusterPid(req.pid.get());
        let target = if req.process.get() != 0 {
            Target::Process
        } else {
            Target::Thread {
                tgid: Some(ClusterPid(req.tgid.get())).filter(|t| t.0 != 0),
            }
        };
        let send = || {
            pproc::signal(
                nodes::to_local(pid),
                target,
                req.sig.get() as i32, // CAST: same bits.
                &SigInfo(req.info),
                req.sender_sid.get(),
                req.by_kernel.get() != 0,
            )
        };
        at(pid, req.cred.act(send))?;
        Ok((SignalRep {}, KVVec::new()))
    }
}

impl Handle<Syscall> for Server {
    fn handle(&self, _from: Caller, req: &SyscallReq, tail: &[u8]) -> Reply<Syscall> {
        let pid = ClusterPid(req.pid.get());
        if !calls::is_here(pid) {
            return Err(not_here(pid));
        }
        let mut call = RemoteCall::new(
            req.nr.get(),
            pid,
            req.args.map(Le64::get),
            tail,
            req.out_len.get(),
        );
        let ret = req.cred.act(|| Ok(call.run())).map_err(Status::Errno)?;
        // The call's own ESRCH is a process that went while it ran.
        if ret == ESRCH.to_errno() as isize && !calls::is_here(pid) {
            return Err(not_here(pid));
        }
        let mut out = KVVec::new();
        out.extend_from_slice(call.output(), GFP_KERNEL)
            .map_err(|_| Status::Errno(ENOMEM))?;
        let ret = Le64::new(ret as u64); // CAST: the wire carries the bits.
        Ok((SyscallRep { ret }, out))
    }
}

impl Handle<ProcStat> for Server {
    fn handle(&self, _from: Caller, req: &ProcStatReq, tail: &[u8]) -> Reply<ProcStat> {
        let pid = ClusterPid(req.pid.get());
        let path = path(tail)?;
        let local = nodes::to_local(pid);
        let st = at(pid, req.cred.act(|| pproc::proc_stat(local, &path)))?;
        let rep = ProcStatRep {
            mode: Le32::new(st.mode),
            uid: Le32::new(st.uid),
            gid: Le32::new(st.gid),
            nlink: Le32::new(st.nlink),
            size: Le64::new(st.size),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<ProcRead> for Server {
    fn handle(&self, _from: Caller, req: &ProcReadReq, tail: &[u8]) -> Reply<ProcRead> {
        let pid = ClusterPid(req.pid.get());
        let path = path(tail)?;
        let local = nodes::to_local(pid);
        let max = (req.max.get() as usize).min(MAX_TEXT);
        let text = at(
            pid,
            filled(max, |buf| {
                req.cred.act(|| pproc::proc_read(local, &path, buf))
            }),
        )?;
        Ok((ProcReadRep {}, text))
    }
}

impl Handle<ProcWrite> for Server {
    fn handle(&self, _from: Caller, req: &ProcWriteReq, tail: &[u8]) -> Reply<ProcWrite> {
        let pid = ClusterPid(req.pid.get());
        let (name, data) = tail
            .split_at_checked(req.path_len.get() as usize)
            .ok_or(Status::Errno(EPROTO))?;
        let path = path(name)?;
        let local = nodes::to_local(pid);
        let n = at(pid, req.cred.act(|| pproc::proc_write(local, &path, data)))?;
        let written = Le32::new(n as u32); // CAST: at most what was given.
        Ok((ProcWriteRep { written }, KVVec::new()))
    }
}

impl Handle<ProcReadlink> for Server {
    fn handle(&self, _from: Caller, req: &ProcReadlinkReq, tail: &[u8]) -> Reply<ProcReadlink> {
        let pid = ClusterPid(req.pid.get());
        let path = path(tail)?;
        let local = nodes::to_local(pid);
        let text = at(
            pid,
            filled(MAX_PATH, |buf| {
                req.cred.act(|| pproc::proc_readlink(local, &path, buf))
            }),
        )?;
        Ok((ProcReadlinkRep {}, text))
    }
}

impl Handle<ProcReaddir> for Server {
    fn handle(&self, _from: Caller, req: &ProcReaddirReq, tail: &[u8]) -> Reply<ProcReaddir> {
        let pid = ClusterPid(req.pid.get());
        let path = path(tail)?;
        let local = nodes::to_local(pid);
        let names = at(
            pid,
            filled(MAX_TEXT, |buf| {
                req.cred.act(|| pproc::proc_readdir(local, &path, buf))
            }),
        )?;
        Ok((ProcReaddirRep {}, names))
    }
}

impl Handle<List> for Server {
    fn handle(&self, _from: Caller, _req: &ListReq, _tail: &[u8]) -> Reply<List> {
        Ok((ListRep {}, listing::here().map_err(Status::Errno)?))
    }
}

impl Handle<SignalGroup> for Server {
    fn handle(&self, _from: Caller, req: &SignalGroupReq, _tail: &[u8]) -> Reply<SignalGroup> {
        // CAST: same bits.
        let sent = pproc::signal_group(ClusterPid(req.pgid.get()), req.sig.get() as i32);
        let members = Le32::new(u32::from(sent.is_ok()));
        Ok((SignalGroupRep { members }, KVVec::new()))
    }
}

impl Handle<SignalMany> for Server {
    fn handle(&self, _from: Caller, req: &SignalManyReq, _tail: &[u8]) -> Reply<SignalMany> {
        let whom = match req.pgid.get() {
            0 => Many::All,
            g => Many::Group(ClusterPid(g)),
        };
        let sig = req.sig.get() as i32; // CAST: same bits.
        let send = || pproc::signal_many(whom, sig, &SigInfo(req.info), req.sender_sid.get());
        let n = req.cred.act(send).map_err(Status::Errno)?;
        let rep = SignalManyRep {
            sent: Le32::new(n.sent),
            refused: Le32::new(n.refused),
            error: Le32::new(n.error.unsigned_abs()),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<ChildEnded> for Server {
    fn handle(&self, _from: Caller, req: &ChildEndedReq, _tail: &[u8]) -> Reply<ChildEnded> {
        let parent = ClusterPid(req.parent.get());
        let exit = Exit {
            status: req.status.get() as i32, // CAST: same bits.
            uid: req.uid.get(),
            exit_signal: req.exit_signal.get() as i32, // CAST: same bits.
            utime_ns: req.utime_ns.get(),
            stime_ns: req.stime_ns.get(),
            min_flt: req.min_flt.get(),
            maj_flt: req.maj_flt.get(),
            maxrss_kib: req.maxrss_kib.get(),
        };
        let child = ClusterPid(req.child.get());
        let told = events::end_child(parent, child, exit);
        if !movement::coming::hold_end(parent, child, &told, exit) {
            at(parent, told)?;
        }
        Ok((ChildEndedRep {}, KVVec::new()))
    }
}

impl Handle<Zombie> for Server {
    fn handle(&self, _from: Caller, req: &ZombieReq, _tail: &[u8]) -> Reply<Zombie> {
        let event = HomeEvent::Zombie {
            record_at: req.record_at.get(),
        };
        let _noted = home::step(own_range(req.pid)?, event);
        Ok((ZombieRep {}, KVVec::new()))
    }
}

impl Handle<Gone> for Server {
    fn handle(&self, _from: Caller, req: &GoneReq, _tail: &[u8]) -> Reply<Gone> {
        let _noted = home::step(own_range(req.pid)?, HomeEvent::Gone);
        Ok((GoneRep {}, KVVec::new()))
    }
}

impl Handle<Orphan> for Server {
    fn handle(&self, _from: Caller, req: &OrphanReq, _tail: &[u8]) -> Reply<Orphan> {
        let child = ClusterPid(req.child.get());
        at(child, recovery::adopt_here(child))?;
        Ok((OrphanRep {}, KVVec::new()))
    }
}

impl Handle<Prepare> for Server {
    fn handle(&self, from: Caller, req: &PrepareReq, tail: &[u8]) -> Reply<Prepare> {
        let (errno, why) = told(destination::prepare(from, req, tail))?;
        Ok((PrepareRep { errno }, why))
    }
}

impl Handle<Abort> for Server {
    fn handle(&self, from: Caller, req: &AbortReq, _tail: &[u8]) -> Reply<Abort> {
        destination::abort(from, ClusterPid(req.pid.get()), req.movement.get())
            .map_err(Status::Errno)?;
        Ok((AbortRep {}, KVVec::new()))
    }
}

/// The commit point. The origin flips its entry, then tells the destination, then the source.
impl Handle<Move> for Server {
    fn handle(&self, from: Caller, req: &MoveReq, _tail: &[u8]) -> Reply<Move> {
        let pid = own_range(req.pid)?;
        let to = NodeId::new(req.to.get()).ok_or(Status::Errno(EPROTO))?;
        let answer = match home::commit(pid, from, to, req.movement.get()) {
            Effect::Committed | Effect::AlreadyCommitted => {
                if !activated(to, req)
                    && home::step(pid, HomeEvent::NodeDown(to.number())) == Effect::Lost
                {
                    recovery::mourn(pid);
                }
                Answer::Committed
            }
            Effect::DestinationDown => Answer::Refused,
            _ => Answer::NotThere,
        };
        let answer = judge::answer_to_wire(answer);
        Ok((MoveRep { answer }, KVVec::new()))
    }
}

/// Tells the destination that the process lives there. Returns whether it does, as far as the destination knows: what
/// died with it is not looked at here, the process may have gone on from there before.
fn activated(to: NodeId, req: &MoveReq) -> bool {
    let req = ActivateReq {
        pid: req.pid,
        movement: req.movement,
    };
    loop {
        match ics::call::<Activate>(to, &req, &[]) {
            Ok(_) | Err(CallError::Down(_)) => return true,
            // Without memory to ask.
            Err(CallError::Local(_)) => ssi::task::yield_now(),
            Err(_) => return false,
        }
    }
}

/// A number of this node's range from the wire.
fn own_range(pid: Le32) -> core::result::Result<ClusterPid, Status> {
    Some(ClusterPid(pid.get()))
        .filter(|p| p.origin() == Some(nodes::this()))
        .ok_or(Status::Errno(EPROTO))
}

impl Handle<Judge> for Server {
    fn handle(&self, from: Caller, req: &JudgeReq, _tail: &[u8]) -> Reply<Judge> {
        let answer = destination::judge(from, ClusterPid(req.pid.get()), req.movement.get());
        let answer = judge::answer_to_wire(answer);
        Ok((JudgeRep { answer }, KVVec::new()))
    }
}

impl Handle<Ask> for Server {
    fn handle(&self, _from: Caller, req: &AskReq, _tail: &[u8]) -> Reply<Ask> {
        let pid = own_range(req.pid)?;
        let source = NodeId::new(req.from.get()).ok_or(Status::Errno(EPROTO))?;
        if clms::is_member(source, Incarnation(req.incarnation.get())) {
            // A movement of it could still come.
            return Err(Status::Errno(EAGAIN));
        }
        let event = HomeEvent::Ask {
            movement: req.movement.get(),
        };
        let answer = match home::step(pid, event) {
            Effect::AlreadyCommitted => Answer::Committed,
            _ => Answer::NotThere,
        };
        let answer = judge::answer_to_wire(answer);
        Ok((AskRep { answer }, KVVec::new()))
    }
}

impl Handle<Lost> for Server {
    fn handle(&self, _from: Caller, req: &LostReq, _tail: &[u8]) -> Reply<Lost> {
        let kept = recovery::lost(ClusterPid(req.pid.get()));
        let kept = Le32::new(u32::from(kept));
        Ok((LostRep { kept }, KVVec::new()))
    }
}

impl Handle<Search> for Server {
    fn handle(&self, from: Caller, req: &SearchReq, _tail: &[u8]) -> Reply<Search> {
        let is_here =
            movement::is_here_for_good(ClusterPid(req.pid.get()), from).map_err(Status::Errno)?;
        let rep = SearchRep {
            found: Le32::new(u32::from(is_here)),
            view: Le64::new(clms::view().id),
        };
        Ok((rep, KVVec::new()))
    }
}

impl Handle<SearchOver> for Server {
    fn handle(&self, from: Caller, req: &SearchOverReq, _tail: &[u8]) -> Reply<SearchOver> {
        movement::leaving::unbar(ClusterPid(req.pid.get()), from.node);
        Ok((SearchOverRep {}, KVVec::new()))
    }
}

impl Handle<Here> for Server {
    fn handle(&self, from: Caller, _req: &HereReq, tail: &[u8]) -> Reply<Here> {
        let numbers = tail.chunks_exact(4).filter_map(|c| c.try_into().ok());
        for pid in numbers.map(|n| ClusterPid(u32::from_le_bytes(n))) {
            if pid.origin() == Some(nodes::this()) {
                let event = HomeEvent::Reported {
                    at: from.node.number(),
                    is_here: pproc::exists(pid),
                };
                let _noted = home::step(pid, event);
            }
        }
        home::reported(from.node, from.incarnation);
        Ok((HereRep {}, KVVec::new()))
    }
}

impl Handle<Activate> for Server {
    fn handle(&self, from: Caller, req: &ActivateReq, _tail: &[u8]) -> Reply<Activate> {
        destination::activate(from, ClusterPid(req.pid.get()), req.movement.get())
            .map_err(Status::Errno)?;
        Ok((ActivateRep {}, KVVec::new()))
    }
}

impl Handle<Pages> for Server {
    fn handle(&self, from: Caller, req: &PagesReq, tail: &[u8]) -> Reply<Pages> {
        let pid = ClusterPid(req.pid.get());
        pages::put(from, pid, req.movement.get(), req.n_pages.get(), tail)
            .map_err(Status::Errno)?;
        Ok((PagesRep {}, KVVec::new()))
    }
}

impl Handle<Late> for Server {
    fn handle(&self, from: Caller, req: &LateReq, tail: &[u8]) -> Reply<Late> {
        destination::late(from, ClusterPid(req.pid.get()), req.movement.get(), tail)
            .map_err(Status::Errno)?;
        Ok((LateRep {}, KVVec::new()))
    }
}

impl Handle<Complete> for Server {
    fn handle(&self, from: Caller, req: &CompleteReq, _tail: &[u8]) -> Reply<Complete> {
        let pid = ClusterPid(req.pid.get());
        let (errno, why) = told(destination::complete(from, pid, req.movement.get()))?;
        Ok((CompleteRep { errno }, why))
    }
}

/// A refusal as a reply carries it.
fn told(r: core::result::Result<(), Refusal>) -> core::result::Result<(Le32, KVVec<u8>), Status> {
    let mut why = KVVec::new();
    let Err(refusal) = r else {
        return Ok((Le32::new(0), why));
    };
    why.extend_from_slice(refusal.cause(), GFP_KERNEL)
        .map_err(|_| Status::Errno(ENOMEM))?;
    Ok((Le32::new(refusal.errno.to_errno().unsigned_abs()), why))
}
