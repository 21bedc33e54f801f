// SPDX-License-Identifier: GPL-2.0

//! The C interface, `libcluster.h`; a test compares the two. A call that fails gives -1 and sets `errno`.

use crate::history;
use crate::history::Info;
use crate::history::SignalMode;
use crate::history::Transition;
use crate::history::Which;
use crate::membership;
use crate::membership::MAX_NODE;
use crate::netlink::Error;
use libc::c_char;
use libc::c_int;
use nix::errno::Errno;

/// `clusternode_t`.
type NodeNum = i32;
/// `transid_t`.
type TransId = u64;

/// Bytes of a node's name in [`NodeInfo`].
const NAME_LEN: usize = membership::MAX_NAME + 8;

/// `cluster_transinfo_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TransInfo {
    transid: TransId,
    time_sec: i64,
    time_nsec: u32,
    node: NodeNum,
    fromstate: i32,
    tostate: i32,
    cause: i32,
}

/// `clusternode_info_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NodeInfo {
    node_num: NodeNum,
    node_state: i32,
    node_totalcpus: i32,
    node_onlinecpus: i32,
    node_cpupower: u32,
    node_reserved: u32,
    node_totalmemory: u64,
    node_incarnation: u64,
    node_name: [u8; NAME_LEN],
}

impl From<Transition> for TransInfo {
    fn from(t: Transition) -> Self {
        const NANO: u64 = 1_000_000_000;
        Self {
            transid: t.id,
            time_sec: i64::try_from(t.time_ns / NANO).unwrap_or(i64::MAX),
            time_nsec: u32::try_from(t.time_ns % NANO).unwrap_or(0),
            node: number(t.node),
            fromstate: t.from as i32,
            tostate: t.to as i32,
            cause: t.cause as i32,
        }
    }
}

impl From<Info> for NodeInfo {
    fn from(i: Info) -> Self {
        let mut node_name = [0; NAME_LEN];
        for (to, from) in node_name.iter_mut().take(NAME_LEN - 1).zip(i.name.bytes()) {
            *to = from;
        }
        Self {
            node_num: number(i.node),
            node_state: i.state as i32,
            node_totalcpus: number(i.total_cpus),
            node_onlinecpus: number(i.online_cpus),
            node_cpupower: i.cpu_power,
            node_reserved: 0,
            node_totalmemory: i.total_memory,
            node_incarnation: i.incarnation,
            node_name,
        }
    }
}

fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Gives C a result: -1 and `errno` for an error.
fn answer(r: Result<c_int, Errno>) -> c_int {
    r.unwrap_or_else(|e| {
        e.set();
        -1
    })
}

fn errno(e: Error) -> Errno {
    e.errno()
}

fn node_number(node: NodeNum) -> Result<u32, Errno> {
    let n = u32::try_from(node).ok().filter(|n| (1..=MAX_NODE).contains(n));
    n.ok_or(Errno::EINVAL)
}

/// Stores as much of `value` as the caller's structure, of an older or newer header, has room for. Gives that size.
///
/// # Errors
/// `EINVAL` the size is not positive, `EFAULT` no pointer.
///
/// # Safety
/// `to` is null or has room for `size` bytes.
unsafe fn store<T: Copy>(value: T, size: c_int, to: *mut T) -> Result<c_int, Errno> {
    let room = usize::try_from(size).ok().filter(|s| *s > 0).ok_or(Errno::EINVAL)?;
    if to.is_null() {
        return Err(Errno::EFAULT);
    }
    let n = room.min(size_of::<T>());
    // SAFETY: By the contract, and at most as long as `value`.
    unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to.cast::<u8>(), n) };
    c_int::try_from(n).map_err(|_| Errno::EINVAL)
}

/// A transition, its number and all that is known of it. 0: there is none such.
///
/// # Safety
/// As the callers'.
unsafe fn find(
    which: Which,
    simple: bool,
    transid: *mut TransId,
    size: c_int,
    ti: *mut TransInfo,
) -> Result<c_int, Errno> {
    if transid.is_null() || ti.is_null() {
        return Err(Errno::EFAULT);
    }
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: Not null; by the contract it is readable.
    let id = unsafe { transid.read() };
    let Some(t) = history::transition(which, id, simple).map_err(errno)? else {
        return Ok(0);
    };
    // SAFETY: By the contract.
    let n = unsafe { store(TransInfo::from(t), size, ti) }?;
    // SAFETY: Not null; by the contract it is writable.
    unsafe { transid.write(t.id) };
    Ok(n)
}

/// 1: the node is UP, 0: it is not.
#[unsafe(no_mangle)]
pub extern "C" fn clusternode_avail(nodenum: NodeNum) -> c_int {
    answer((|| {
        let n = node_number(nodenum)?;
        let m = history::membership().map_err(errno)?;
        Ok(c_int::from(m.up.contains(&n)))
    })())
}

/// The nodes that are UP, ascending, the rest of the array filled with 0; how many they are.
///
/// # Safety
/// `transid` is null or writable; `membershiparray` has room for `arraylength` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cluster_membership(
    transid: *mut TransId,
    arraylength: c_int,
    membershiparray: *mut NodeNum,
) -> c_int {
    answer((|| {
        let room = usize::try_from(arraylength).map_err(|_| Errno::EINVAL)?;
        if room > 0 && membershiparray.is_null() {
            return Err(Errno::EFAULT);
        }
        let m = history::membership().map_err(errno)?;
        for i in 0..room {
            let n = m.up.get(i).map_or(0, |n| number(*n));
            // SAFETY: Not null; by the contract it has room for it.
            unsafe { membershiparray.add(i).write(n) };
        }
        if !transid.is_null() {
            // SAFETY: Not null; by the contract it is writable.
            unsafe { transid.write(m.last) };
        }
        c_int::try_from(m.up.len()).map_err(|_| Errno::EIO)
    })())
}

/// The first transition to or from UP after `*transid`, which becomes its number. Bytes stored; 0: there is none yet.
///
/// # Safety
/// `transid` is null or can be read and written; `ti` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cluster_transition(transid: *mut TransId, size: c_int, ti: *mut TransInfo) -> c_int {
    // SAFETY: By the contract.
    answer(unsafe { find(Which::Next, true, transid, size, ti) })
}

/// A transition of any kind. Bytes stored; 0: there is none such.
///
/// # Safety
/// As [`cluster_transition`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cluster_detailedtransition(
    which: c_int,
    transid: *mut TransId,
    size: c_int,
    ti: *mut TransInfo,
) -> c_int {
    let which = match which {
        1 => Which::This,
        2 => Which::Next,
        3 => Which::Previous,
        4 => Which::First,
        5 => Which::Last,
        _ => return answer(Err(Errno::EINVAL)),
    };
    // SAFETY: By the contract.
    answer(unsafe { find(which, false, transid, size, ti) })
}

/// Facts of a node. Bytes stored.
///
/// # Safety
/// `ni` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clusternode_info(node: NodeNum, size: c_int, ni: *mut NodeInfo) -> c_int {
    answer((|| {
        let info = history::info(node_number(node)?).map_err(errno)?;
        // SAFETY: By the contract.
        unsafe { store(NodeInfo::from(info), size, ni) }
    })())
}

/// Sets what can be set of this node: `node_cpupower`.
///
/// # Safety
/// `ni` is null or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clusternode_setinfo(node: NodeNum, size: c_int, ni: *const NodeInfo) -> c_int {
    answer((|| {
        let node = node_number(node)?;
        if ni.is_null() {
            return Err(Errno::EFAULT);
        }
        let needed = std::mem::offset_of!(NodeInfo, node_cpupower) + size_of::<u32>();
        if usize::try_from(size).map_or(true, |s| s < needed) {
            return Err(Errno::EINVAL);
        }
        // SAFETY: Not null; by the contract, and as checked, the field is there.
        let power = unsafe { (&raw const (*ni).node_cpupower).read() };
        history::set_cpu_power(node, power).map_err(errno)?;
        Ok(0)
    })())
}

/// The largest number that a node may have.
#[unsafe(no_mangle)]
pub extern "C" fn cluster_maxnodes() -> c_int {
    number(MAX_NODE)
}

/// The number of this node.
#[unsafe(no_mangle)]
pub extern "C" fn clusternode_num() -> NodeNum {
    answer((|| {
        let s = membership::status().map_err(errno)?;
        s.this_node.map(number).ok_or(Errno::ENOTCONN)
    })())
}

/// The name of the cluster; its length.
///
/// # Safety
/// `name` is null or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cluster_name(name: *mut c_char, size: c_int) -> c_int {
    answer((|| {
        let room = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        if name.is_null() {
            return Err(Errno::EFAULT);
        }
        let text = membership::status().map_err(errno)?.name;
        if text.is_empty() {
            return Err(Errno::ENOTCONN);
        }
        if text.len() >= room {
            return Err(Errno::ERANGE);
        }
        // SAFETY: Not null; by the contract and as checked there is room for it and a zero.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), name.cast::<u8>(), text.len()) };
        // SAFETY: As above.
        unsafe { name.add(text.len()).write(0) };
        c_int::try_from(text.len()).map_err(|_| Errno::EIO)
    })())
}

/// 1: this node shares its processes with the cluster, 0: only the membership is there.
#[unsafe(no_mangle)]
pub extern "C" fn cluster_ssiconfig() -> c_int {
    answer((|| {
        membership::status().map_err(errno)?;
        Ok(c_int::from(std::path::Path::new("/sys/module/ssi_vproc").exists()))
    })())
}

/// Sends SIGCLUSTER to this process from now on, or does not any more.
#[unsafe(no_mangle)]
pub extern "C" fn cluster_sigenable(mode: c_int) -> c_int {
    answer((|| {
        let mode = match mode {
            0 => SignalMode::None,
            1 => SignalMode::Simple,
            2 => SignalMode::Detailed,
            _ => return Err(Errno::EINVAL),
        };
        history::signal(mode).map(|()| 0).map_err(errno)
    })())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Cause;
    use crate::membership::NodeState;
    use std::mem::offset_of;
    use std::path::Path;
    use std::process::Command;

    const HERE: &str = env!("CARGO_MANIFEST_DIR");

    fn header() -> String {
        std::fs::read_to_string(Path::new(HERE).join("libcluster.h")).expect("the header")
    }

    /// Functions that the header declares.
    fn declared() -> Vec<String> {
        let text = header();
        let names = text
            .lines()
            .filter(|l| l.ends_with(");") && !l.starts_with(['#', ' ', '\t']))
            .filter_map(|l| l.split('(').next()?.split([' ', '*']).next_back());
        names.map(str::to_owned).collect()
    }

    /// A C file that is only compiled if the header is what Rust has.
    #[test]
    fn header_is_that_of_rust() {
        let mut c = "#define _GNU_SOURCE\n#include <stddef.h>\n#include \"libcluster.h\"\n".to_owned();
        let mut same = |what: &str, value: usize| c += &format!("_Static_assert({what} == {value}, \"{what}\");\n");
        macro_rules! fields {
            ($c:literal, $t:ty: $($f:ident)*) => {
                same(concat!("sizeof(", $c, ")"), size_of::<$t>());
                same(concat!("_Alignof(", $c, ")"), align_of::<$t>());
                $(same(concat!("offsetof(", $c, ", ", stringify!($f), ")"), offset_of!($t, $f));)*
            };
        }
        fields!("cluster_transinfo_t", TransInfo: transid time_sec time_nsec node fromstate tostate cause);
        fields!("clusternode_info_t", NodeInfo: node_num node_state node_totalcpus node_onlinecpus node_cpupower
            node_reserved node_totalmemory node_incarnation node_name);
        same("sizeof(clusternode_t)", size_of::<NodeNum>());
        same("sizeof(transid_t)", size_of::<TransId>());
        for s in NodeState::ALL {
            same(&format!("CLUSTERNODE_{}", s.name()), s as usize);
        }
        for cause in Cause::ALL {
            same(
                &format!("CLUSTER_CAUSE_{}", cause.name().to_uppercase()),
                cause as usize,
            );
        }
        for (n, w) in [
            ("THIS", Which::This),
            ("NEXT", Which::Next),
            ("PREVIOUS", Which::Previous),
            ("FIRST", Which::First),
            ("LAST", Which::Last),
        ] {
            same(&format!("CLUSTER_TRANSWHICH_{n}"), w as usize);
        }
        for (n, m) in [
            ("NONE", SignalMode::None),
            ("SIMPLE", SignalMode::Simple),
            ("DETAILED", SignalMode::Detailed),
        ] {
            same(&format!("CLUSTER_SIG_{n}"), m as usize);
        }
        same("SIGCLUSTER", usize::try_from(history::SIGCLUSTER).expect("positive"));
        same("CLUSTER_NAME_MAX", membership::MAX_NAME);

        let compile = |text: &str, compiler: &str, standard: &str, suffix: &str| {
            let dir = tempfile::tempdir().expect("a folder");
            let file = dir.path().join(format!("t.{suffix}"));
            std::fs::write(&file, text).expect("a file");
            let out = Command::new(compiler)
                .args([
                    standard,
                    "-Wall",
                    "-Wextra",
                    "-Wpedantic",
                    "-Werror",
                    "-fsyntax-only",
                    "-I",
                    HERE,
                ])
                .arg(&file)
                .output()
                .expect(compiler);
            (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
        };
        let (ok, why) = compile(&c, "gcc", "-std=c11", "c");
        assert!(ok, "{why}");
        let wrong = c.replace("== 63,", "== 62,");
        assert!(
            wrong != c && !compile(&wrong, "gcc", "-std=c11", "c").0,
            "a difference is not found"
        );
        let (ok, why) = compile("#include \"libcluster.h\"\nint x;\n", "gcc", "-std=c99", "c");
        assert!(ok, "{why}");
    }

    #[test]
    fn every_function_is_declared_here_and_has_a_page() {
        let rust = std::fs::read_to_string(Path::new(HERE).join("src/capi.rs")).expect("this file");
        let mut ours: Vec<_> = rust
            .lines()
            .filter_map(|l| l.split_once("extern \"C\" fn ")?.1.split('(').next())
            .filter(|n| n.starts_with("cluster"))
            .map(str::to_owned)
            .collect();
        let mut theirs = declared();
        ours.sort();
        theirs.sort();
        assert!(ours.len() > 8);
        assert_eq!(ours, theirs);
        for name in theirs {
            let page = std::fs::read_to_string(Path::new(HERE).join(format!("man/{name}.3ssi"))).expect(&name);
            let text = match page.strip_prefix(".so man3/") {
                Some(other) => std::fs::read_to_string(Path::new(HERE).join("man").join(other.trim())).expect(&name),
                None => page,
            };
            assert!(
                text.contains(&format!("{name} ")) || text.contains(&format!("{name}\n")),
                "{name}"
            );
            for section in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH RETURN VALUE", ".SH ERRORS"] {
                assert!(text.contains(section), "{name}: {section}");
            }
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let mut id = 0;
        let mut ti = std::mem::MaybeUninit::<TransInfo>::uninit();
        let size = c_int::try_from(size_of::<TransInfo>()).expect("small");
        let failed = |r: c_int, want: Errno| assert_eq!((r, Errno::last()), (-1, want));
        failed(clusternode_avail(0), Errno::EINVAL);
        failed(clusternode_avail(1023), Errno::EINVAL);
        failed(cluster_sigenable(3), Errno::EINVAL);
        // SAFETY: All pointers are null or to what lives here.
        unsafe {
            failed(
                cluster_transition(std::ptr::null_mut(), size, ti.as_mut_ptr()),
                Errno::EFAULT,
            );
            failed(cluster_transition(&mut id, size, std::ptr::null_mut()), Errno::EFAULT);
            failed(cluster_transition(&mut id, 0, ti.as_mut_ptr()), Errno::EINVAL);
            failed(
                cluster_detailedtransition(6, &mut id, size, ti.as_mut_ptr()),
                Errno::EINVAL,
            );
            failed(cluster_membership(&mut id, -1, std::ptr::null_mut()), Errno::EINVAL);
            failed(cluster_membership(&mut id, 1, std::ptr::null_mut()), Errno::EFAULT);
            failed(clusternode_setinfo(1, 8, (&raw const id).cast()), Errno::EINVAL);
            failed(cluster_name(std::ptr::null_mut(), 8), Errno::EFAULT);
        }
        assert_eq!(cluster_maxnodes(), 1022);
    }

    #[test]
    fn structures_of_another_size_are_filled_as_far_as_they_go() {
        let t = TransInfo::from(Transition {
            id: 7,
            time_ns: 3_000_000_004,
            node: 2,
            incarnation: 9,
            from: NodeState::Up,
            to: NodeState::GoingDown,
            cause: Cause::Lost,
        });
        assert_eq!((t.time_sec, t.time_nsec), (3, 4));
        let mut room = [0xffu8; 128];
        // SAFETY: There is room for it.
        let n = unsafe { store(t, 8, room.as_mut_ptr().cast::<TransInfo>()) };
        assert_eq!(n, Ok(8));
        assert_eq!((&room[..8], room[8]), (&7u64.to_ne_bytes()[..], 0xff));
        // SAFETY: There is room for it.
        let n = unsafe { store(t, 128, room.as_mut_ptr().cast::<TransInfo>()) };
        assert_eq!(n.map(|n| n as usize), Ok(size_of::<TransInfo>()));
        assert_eq!(room[size_of::<TransInfo>()], 0xff);
    }
}
