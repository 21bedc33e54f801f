// SPDX-License-Identifier: GPL-2.0

//! The kernel's call-outs for the process space, as a trait.
//!
//! C: `struct ssi_vproc_ops` in `include/linux/ssi.h`; a row for each in `Documentation/hooks.rst`.

use crate::bindings;
use crate::ids::ClusterPid;
use crate::pproc::Exit;
use crate::pproc::ProcStat;
use crate::pproc::RemoteCall;
use crate::pproc::SigInfo;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::ffi::c_int;
use kernel::ffi::c_long;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::str::CStr;

/// Arguments and kind of a call that sends a signal and may have to go elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct SignalCall {
    /// The system call's number.
    pub nr: u32,
    /// Its arguments.
    pub args: [u64; 6],
    /// What the local part of the call returned.
    pub native: isize,
}

/// What a program to be started on another node is given.
pub struct ExecStrings<'a> {
    /// Path as the caller wrote it.
    pub path: &'a CStr,
    /// `n_args` strings, then `n_envs` strings, each ended by a zero byte.
    pub strings: &'a [u8],
    /// Number of arguments.
    pub n_args: u32,
    /// Number of environment strings.
    pub n_envs: u32,
}

/// One of the four cluster calls.
pub enum ClusterCall<'a> {
    /// `rfork(node, flags)`
    Rfork {
        /// Where the child is to run.
        node: i32,
        /// Must be 0.
        flags: u32,
    },
    /// `rexec(node, path, argv, envp, flags)`; success means that the caller vanishes from this node.
    Rexec {
        /// Where to run.
        node: i32,
        /// The program.
        exec: ExecStrings<'a>,
    },
    /// `migrate(pid, node, flags)`
    Migrate {
        /// Whom; 0 is the caller.
        pid: i32,
        /// Where to.
        node: i32,
        /// Must be 0.
        flags: u32,
    },
    /// `where_pid(pid)`
    WherePid {
        /// Whom; 0 is the caller.
        pid: i32,
    },
}

/// What a task on its way to user mode is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserReturn {
    /// Go on to user mode.
    GoOn,
    /// End silently: the process lives on another node.
    Vanish,
}

/// A `wait4` or `waitid` that looks for children on other nodes.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Which children.
    pub who: WaitFor,
    /// `WNOHANG`, `WEXITED`, `WNOWAIT`, …
    pub options: u32,
}

/// Which children a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// One process.
    Process(ClusterPid),
    /// A process group.
    Group(ClusterPid),
    /// Any.
    Any,
}

/// What such a wait finds.
#[derive(Clone, Copy, Debug)]
pub enum Waited {
    /// No child elsewhere matches.
    None,
    /// One matches and has not ended.
    Alive,
    /// This one has ended. It is reaped unless `WNOWAIT` was given.
    Ended(ClusterPid, Exit),
}

/// Sleepable process hooks. All run in process context and may sleep.
#[vtable]
pub trait VprocHooks: Send + Sync + 'static {
    /// A hooked call found no process here. Returns the call's result; fills `call`'s output.
    fn syscall(call: &mut RemoteCall) -> isize;

    /// A signal-sending call, after its local part. Returns the call's result.
    fn signal(call: SignalCall, info: &SigInfo) -> isize;

    /// `current->ssi` is set and the current task is about to enter user mode with final registers.
    fn user_return() -> UserReturn;

    /// The current task is new: makes itself from the image of that movement.
    ///
    /// # Errors
    /// Any: the task then ends silently.
    fn arrive(nr: ClusterPid, movement: u64) -> Result;

    /// The last thread of a process with relations to other nodes exits.
    fn exit(tgid: ClusterPid);

    /// Attributes of `path` below `/proc/<nr>` of another node; the path is empty for the directory itself.
    ///
    /// # Errors
    /// `ENOENT` if the process is not on another node or has no such file.
    fn proc_stat(nr: ClusterPid, path: &CStr) -> Result<ProcStat>;

    /// Text of a file there.
    ///
    /// # Errors
    /// As reading it there.
    fn proc_read(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize>;

    /// Writes a file there.
    ///
    /// # Errors
    /// As writing it there.
    fn proc_write(nr: ClusterPid, path: &CStr, data: &[u8]) -> Result<usize>;

    /// Text of a link there.
    ///
    /// # Errors
    /// As reading it there.
    fn proc_readlink(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize>;

    /// Names in a directory there, as `crate::pproc::proc_readdir` gives them.
    ///
    /// # Errors
    /// As reading it there.
    fn proc_readdir(nr: ClusterPid, path: &CStr, buf: &mut [u8]) -> Result<usize>;

    /// The least number `>= from` of a process on another node. `lister` tells listings apart.
    fn proc_next(lister: usize, from: u32) -> Option<ClusterPid>;

    /// `/proc/<tgid>/goto` of a process here is written.
    ///
    /// # Errors
    /// Those of `migrate(2)`.
    fn goto_node(tgid: ClusterPid, node: i32) -> Result;

    /// `/proc/<tgid>/goto` of a process here is read.
    ///
    /// # Errors
    /// `ESRCH`.
    fn goto_show(tgid: ClusterPid, buf: &mut [u8]) -> Result<usize>;

    /// The four cluster calls. Returns the call's result.
    ///
    /// # Errors
    /// Each call's own.
    fn cluster_call(call: ClusterCall<'_>) -> Result<isize>;
}

/// Process hooks that run where nobody may sleep. An implementation must not allocate with `GFP_KERNEL`, take a
/// sleeping lock or send.
#[vtable]
pub trait VprocAtomicHooks: Send + Sync + 'static {
    /// A wait found nothing among the children here. Context: the task is `TASK_INTERRUPTIBLE`, RCU read lock.
    fn wait(parent: ClusterPid, wait: Wait) -> Waited;
}

/// Registered hooks. Dropping it takes them back and waits until nobody runs in them.
pub struct Registration<T, A>(PhantomData<(T, A)>);

impl<T: VprocHooks, A: VprocAtomicHooks> Registration<T, A> {
    /// Gives the kernel the table. The hooks stay off until `crate::pproc::join_as_agent`.
    ///
    /// # Errors
    /// `EPROTO` if kernel and modules are of different builds, `EBUSY` if there is a table.
    pub fn new(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: The table is constant; it is taken back before the module goes (Drop).
        to_result(unsafe { bindings::pproc_register(&Adapter::<T, A>::OPS, module.as_ptr()) })?;
        Ok(Self(PhantomData))
    }
}

impl<T, A> Drop for Registration<T, A> {
    fn drop(&mut self) {
        // SAFETY: `self` proves that a table is registered.
        unsafe { bindings::pproc_unregister() }
    }
}

struct Adapter<T, A>(PhantomData<(T, A)>);

/// Turns a result into a byte count or negative errno.
fn to_ret(r: Result<usize>) -> c_long {
    match r {
        // CAST: lengths are far below `c_long::MAX`.
        Ok(n) => n as c_long,
        Err(e) => e.to_errno() as c_long,
    }
}

impl<T: VprocHooks, A: VprocAtomicHooks> Adapter<T, A> {
    const OPS: bindings::ssi_vproc_ops = bindings::ssi_vproc_ops {
        abi: bindings::SSI_ABI_VERSION,
        size: core::mem::size_of::<bindings::ssi_vproc_ops>() as u32, // CAST: small.
        syscall: Some(Self::syscall),
        signal: Some(Self::signal),
        user_return: Some(Self::user_return),
        arrive: Some(Self::arrive),
        exit: Some(Self::exit),
        wait: Some(Self::wait),
        proc_stat: Some(Self::proc_stat),
        proc_read: Some(Self::proc_read),
        proc_write: Some(Self::proc_write),
        proc_readlink: Some(Self::proc_readlink),
        proc_readdir: Some(Self::proc_readdir),
        proc_next: Some(Self::proc_next),
        goto_node: Some(Self::goto_node),
        goto_show: Some(Self::goto_show),
        sys: Some(Self::sys),
    };

    /// # Safety
    /// `call` is valid and exclusive for the duration.
    unsafe extern "C" fn syscall(call: *mut bindings::ssi_remote_call) -> c_long {
        // SAFETY: By the contract; `RemoteCall` is a plain wrapper.
        let mut c = RemoteCall(unsafe { *call });
        let ret = T::syscall(&mut c);
        // SAFETY: By the contract.
        unsafe { *call = c.0 };
        ret as c_long
    }

    /// # Safety
    /// `args` has six elements, `info` is a `struct kernel_siginfo`.
    unsafe extern "C" fn signal(
        nr: u32,
        args: *const u64,
        info: *const bindings::kernel_siginfo,
        native: c_long,
    ) -> c_long {
        // SAFETY: By the contract.
        let args = unsafe { *args.cast::<[u64; 6]>() };
        // SAFETY: By the contract; C asserts the size.
        let info = unsafe { &*info.cast::<SigInfo>() };
        let call = SignalCall { nr, args, native };
        T::signal(call, info) as c_long
    }

    /// # Safety
    /// Called by the kernel as `struct ssi_vproc_ops` says.
    unsafe extern "C" fn user_return(_regs: *mut bindings::pt_regs) -> u32 {
        match T::user_return() {
            UserReturn::GoOn => bindings::SSI_GO_ON,
            UserReturn::Vanish => bindings::SSI_VANISH,
        }
    }

    /// # Safety
    /// Called by the kernel as `struct ssi_vproc_ops` says.
    unsafe extern "C" fn arrive(nr: u32, movement: u64) -> c_int {
        match T::arrive(ClusterPid(nr), movement) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// Called by the kernel as `struct ssi_vproc_ops` says.
    unsafe extern "C" fn exit(tgid: u32) {
        T::exit(ClusterPid(tgid))
    }

    /// # Safety
    /// `w` is valid and exclusive for the duration.
    unsafe extern "C" fn wait(parent: u32, w: *mut bindings::ssi_wait) {
        // SAFETY: By the contract.
        let w = unsafe { &mut *w };
        let nr = ClusterPid(w.nr as u32); // CAST: numbers are positive.
        let who = match w.type_ {
            0 | 1 => WaitFor::Process(nr),
            2 => WaitFor::Group(nr),
            _ => WaitFor::Any,
        };
        let wait = Wait {
            who,
            options: w.options,
        };
        match A::wait(ClusterPid(parent), wait) {
            Waited::None => {}
            Waited::Alive => w.eligible = 1,
            Waited::Ended(pid, exit) => {
                w.eligible = 1;
                w.pid = pid.0 as i32; // CAST: below 2^30.
                w.uid = exit.uid;
                w.status = exit.status;
                w.utime_ns = exit.utime_ns;
                w.stime_ns = exit.stime_ns;
                w.min_flt = exit.min_flt;
                w.maj_flt = exit.maj_flt;
                w.maxrss_kib = exit.maxrss_kib;
            }
        }
    }

    /// # Safety
    /// `path` is a C string, `st` is valid and exclusive.
    unsafe extern "C" fn proc_stat(
        nr: u32,
        path: *const c_char,
        st: *mut bindings::ssi_proc_stat,
    ) -> c_int {
        // SAFETY: By the contract.
        let path = unsafe { CStr::from_char_ptr(path) };
        match T::proc_stat(ClusterPid(nr), path) {
            Ok(s) => {
                let c = bindings::ssi_proc_stat {
                    mode: s.mode,
                    uid: s.uid,
                    gid: s.gid,
                    nlink: s.nlink,
                    size: s.size,
                };
                // SAFETY: By the contract.
                unsafe { *st = c };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    /// `path` is a C string, `buf` is writable for `len` bytes.
    unsafe extern "C" fn proc_read(
        nr: u32,
        path: *const c_char,
        buf: *mut c_void,
        len: usize,
    ) -> c_long {
        // SAFETY: By the contract.
        let path = unsafe { CStr::from_char_ptr(path) };
        // SAFETY: By the contract; any bytes are valid.
        let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
        to_ret(T::proc_read(ClusterPid(nr), path, buf))
    }

    /// # Safety
    /// `path` is a C string, `buf` is readable for `len` bytes.
    unsafe extern "C" fn proc_write(
        nr: u32,
        path: *const c_char,
        buf: *const c_void,
        len: usize,
    ) -> c_long {
        // SAFETY: By the contract.
        let path = unsafe { CStr::from_char_ptr(path) };
        // SAFETY: By the contract.
        let buf = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), len) };
        to_ret(T::proc_write(ClusterPid(nr), path, buf))
    }

    /// # Safety
    /// As for `proc_read`.
    unsafe extern "C" fn proc_readlink(
        nr: u32,
        path: *const c_char,
        buf: *mut c_char,
        len: usize,
    ) -> c_long {
        // SAFETY: By the contract.
        let path = unsafe { CStr::from_char_ptr(path) };
        // SAFETY: By the contract; any bytes are valid.
        let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
        to_ret(T::proc_readlink(ClusterPid(nr), path, buf))
    }

    /// # Safety
    /// As for `proc_read`.
    unsafe extern "C" fn proc_readdir(
        nr: u32,
        path: *const c_char,
        buf: *mut c_char,
        len: usize,
    ) -> c_long {
        // SAFETY: By the contract.
        let path = unsafe { CStr::from_char_ptr(path) };
        // SAFETY: By the contract; any bytes are valid.
        let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
        to_ret(T::proc_readdir(ClusterPid(nr), path, buf))
    }

    /// # Safety
    /// Called by the kernel as `struct ssi_vproc_ops` says.
    unsafe extern "C" fn proc_next(lister: *const c_void, from: u32) -> u32 {
        T::proc_next(lister as usize, from).map_or(u32::MAX, |p| p.0)
    }

    /// # Safety
    /// Called by the kernel as `struct ssi_vproc_ops` says.
    unsafe extern "C" fn goto_node(tgid: u32, node: i32) -> c_long {
        to_ret(T::goto_node(ClusterPid(tgid), node).map(|()| 0))
    }

    /// # Safety
    /// `buf` is writable for `len` bytes.
    unsafe extern "C" fn goto_show(tgid: u32, buf: *mut c_char, len: u32) -> c_long {
        // SAFETY: By the contract; any bytes are valid.
        let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), len as usize) };
        to_ret(T::goto_show(ClusterPid(tgid), buf))
    }

    /// # Safety
    /// For `REXEC`, `b` points to a `struct ssi_strings` that lives through the call.
    unsafe extern "C" fn sys(op: u32, a: u64, b: u64, c: u64) -> c_long {
        // CAST: arguments were ints in the caller's registers; their upper halves carry nothing.
        let call = match op {
            bindings::ssi_sys_op_SSI_SYS_RFORK => ClusterCall::Rfork {
                node: a as i32,
                flags: b as u32,
            },
            bindings::ssi_sys_op_SSI_SYS_REXEC => {
                // SAFETY: By the contract.
                let s = unsafe { &*(b as *const bindings::ssi_strings) };
                // SAFETY: C built these: `path` is a C string, `args` has `args_len` bytes.
                let exec = unsafe {
                    ExecStrings {
                        path: CStr::from_char_ptr(s.path),
                        strings: core::slice::from_raw_parts(
                            s.args.cast::<u8>(),
                            s.args_len as usize,
                        ),
                        n_args: s.argc,
                        n_envs: s.envc,
                    }
                };
                ClusterCall::Rexec {
                    node: a as i32,
                    exec,
                }
            }
            bindings::ssi_sys_op_SSI_SYS_MIGRATE => ClusterCall::Migrate {
                pid: a as i32,
                node: b as i32,
                flags: c as u32,
            },
            bindings::ssi_sys_op_SSI_SYS_WHERE_PID => ClusterCall::WherePid { pid: a as i32 },
            _ => return ENOSYS.to_errno() as c_long,
        };
        match T::cluster_call(call) {
            Ok(n) => n as c_long,
            Err(e) => e.to_errno() as c_long,
        }
    }
}
