// SPDX-License-Identifier: GPL-2.0

//! `cluster fenced`: runs fence agents for the kernel, which cannot.
//!
//! It holds no state that counts: what is to be done is asked of the kernel whenever that has something new, and at the
//! start. When it dies its agents die with it, the kernel sees that nobody listens, and another node's does the work.

use crate::failure::Failure;
use crate::fence;
use crate::fence::Config;
use crate::fence::Device;
use clap::ArgMatches;
use cluster::fencing;
use cluster::fencing::FenceJob;
use cluster::membership;
use cluster::netlink::Error;
use nix::errno::Errno;
use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

pub(crate) fn run(m: &ArgMatches) -> Result<u8, Failure> {
    let config = Config::read(m)?;
    for (n, d) in &config.devices {
        if !fence::is_there(&d.agent) {
            eprintln!(
                "cluster fenced: node {n}: no program {} in PATH: install it, or correct fence.toml",
                d.agent
            );
        }
    }
    let bell = fencing::FenceBell::open()?;
    println!("cluster fenced: {} nodes can be fenced from here", config.devices.len());
    // Those that were begun. The kernel may name them once more while they end.
    let mut known: HashSet<FenceJob> = HashSet::new();
    loop {
        for job in fencing::fence_list()? {
            if known.insert(job) {
                begin(&config, job);
            }
        }
        bell.wait()?;
    }
}

/// Runs the agent of a job and says how it ended.
fn begin(config: &Config, job: FenceJob) {
    let device = config.devices.get(&job.node).cloned();
    let timeout = config.timeout;
    let work = move || finish(job, device.as_ref(), timeout);
    if let Err(e) = std::thread::Builder::new().spawn(work) {
        tell(job, 255, &format!("cluster fenced: no thread: {e}"));
    }
}

fn finish(job: FenceJob, device: Option<&Device>, timeout: Duration) {
    let Some(device) = device else {
        return tell(
            job,
            255,
            "cluster fenced: fence.toml does not name it: restart it after a change",
        );
    };
    // The name that the cluster knows it by; some agents look it up.
    let name = membership::status()
        .ok()
        .and_then(|s| s.nodes.into_iter().find(|n| n.id == job.node))
        .map_or(format!("node{}", job.node), |n| n.name);
    match device.fence(device.action, &name, timeout) {
        Ok(said) => tell(job, 0, &said),
        Err((status, why)) => tell(job, status.max(1), &why),
    }
}

fn tell(job: FenceJob, status: u32, text: &str) {
    // The kernel first: nobody waits for a log.
    match fencing::fence_done(job, status, text) {
        Ok(()) => {}
        // Others have done it meanwhile, or this node waits for it no more, or has left.
        Err(Error::Refused(r)) if matches!(r.errno, Errno::ENOENT | Errno::ENOTCONN) => {}
        Err(e) => {
            eprintln!(
                "cluster fenced: node {}: {text}; the kernel cannot be told: {}",
                job.node,
                Failure::from(e).message
            );
            // Then it must not wait for this process: that nobody listens is noticed at once, and another node's fences.
            std::process::exit(1);
        }
    }
    let (what, next) = match status {
        0 => ("fenced", String::new()),
        _ => (
            "not fenced",
            format!("; see what cluster node fence {} --status says", job.node),
        ),
    };
    let mut log = std::io::stdout();
    // A log that is full or closed stops no fencing.
    let _ = writeln!(
        log,
        "cluster fenced: node {} incarnation {}: {what}: {text}{next}",
        job.node, job.incarnation
    );
}
