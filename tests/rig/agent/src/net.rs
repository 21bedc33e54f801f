// SPDX-License-Identifier: GPL-2.0

//! Addresses of the guest's network devices.

use std::net::Ipv4Addr;

use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr_bad!(set_addr, libc::SIOCSIFADDR, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_mask, libc::SIOCSIFNETMASK, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

fn request(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data, all zeroes is a value of it.
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in req.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from as libc::c_char;
    }
    req
}

fn with_addr(name: &str, addr: Ipv4Addr) -> libc::ifreq {
    let mut req = request(name);
    let sin = libc::sockaddr_in {
        // CAST: AF_INET is 2.
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(addr).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes of plain data, a `sockaddr_in` is a `sockaddr`.
    req.ifr_ifru.ifru_addr = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(sin) };
    req
}

/// Gives `name` its address and takes it up.
pub(crate) fn up(name: &str, addr: Option<(Ipv4Addr, Ipv4Addr)>) -> Result<(), String> {
    let err = |what: &str, e: nix::Error| format!("{name}: {what}: {e}");
    let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| err("socket", e))?;
    if let Some((ip, mask)) = addr {
        // SAFETY: the request is a live ifreq that holds an address, as SIOCSIFADDR reads it.
        unsafe { set_addr(socket.as_raw_fd(), &with_addr(name, ip)) }.map_err(|e| err("address", e))?;
        // SAFETY: as above.
        unsafe { set_mask(socket.as_raw_fd(), &with_addr(name, mask)) }.map_err(|e| err("mask", e))?;
    }
    let mut req = request(name);
    // CAST: both flags are below 2^15.
    req.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a live ifreq that holds flags, as SIOCSIFFLAGS reads it.
    unsafe { set_flags(socket.as_raw_fd(), &req) }.map_err(|e| err("up", e))?;
    Ok(())
}

/// The network device with a hardware address.
pub(crate) fn find(mac: &str) -> Option<String> {
    std::fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|entry| {
        let address = std::fs::read_to_string(entry.path().join("address")).ok()?;
        (address.trim() == mac).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}
