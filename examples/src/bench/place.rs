//! Where the processes run: cores and runtimes.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

use super::cli::{Flavour, Pin, Plan};

/// The cores of client and peer, or `None` where the system chooses.
pub(crate) fn cores(plan: &Plan) -> io::Result<Option<[usize; 2]>> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let mut core = || {
        let message = "--pin cross needs two cores, and only one is there";
        cores.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, message))
    };
    Ok(match plan.pin {
        Pin::Cross => Some([core()?, core()?]),
        Pin::None => None,
        Pin::Same => Some([core()?; 2]),
    })
}

/// Pins this process. It must be called before the runtime starts: threads inherit.
pub(crate) fn pin_to(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The planned runtime.
pub(crate) fn runtime(plan: &Plan) -> io::Result<Runtime> {
    match plan.runtime {
        Flavour::Current => Builder::new_current_thread(),
        Flavour::Multi => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
    }
    .enable_all()
    .build()
}
