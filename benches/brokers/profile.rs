//! Where a process spends its time: `perf` beside it, where that is asked for.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process::Process;

/// Names the directory that gets `NAME.PID.data`, for `perf report --pid PID`.
const ASKED_FOR: &str = "BENCH_PROFILES";
/// Samples a second, of each CPU.
const FREQUENCY: &str = "997";

/// A profile that is taken until the process ends. Dropped, it waits for that.
pub struct Profile(Option<Child>);

impl Profile {
    pub fn start(name: &str, process: Process) -> Self {
        let Some(directory) = std::env::var_os(ASKED_FOR) else { return Self(None) };
        let file = Path::new(&directory).join(format!("{name}.{}.data", process.0));
        let mut perf = Command::new("perf");
        // There may be no counter of cycles, as in most virtual machines.
        perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", FREQUENCY, "--output"]).arg(file);
        // Of the process alone, threads that begin later would be missing.
        perf.args(["--all-cpus", "--", "tail", "-f", "/dev/null", "--pid", &process.0.to_string()]);
        perf.stdout(Stdio::null());
        Self(Some(perf.spawn().expect("perf, of linux-tools")))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Some(perf) = &mut self.0 {
            let _ = perf.wait();
        }
    }
}
