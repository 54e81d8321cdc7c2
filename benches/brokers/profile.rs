//! Records a `perf` profile of the process when the environment asks for one.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process::Process;

/// The directory for `NAME.PID.data`, to be read with `perf report --pid PID`.
const ASKED_FOR: &str = "BENCH_PROFILES";
/// Samples per second and CPU.
const FREQUENCY: &str = "997";

/// A profile of a process until its end. Dropping it waits for that end.
pub struct Profile(Option<Child>);

impl Profile {
    pub fn start(name: &str, process: Process) -> Self {
        let Some(directory) = std::env::var_os(ASKED_FOR) else { return Self(None) };
        let file = Path::new(&directory).join(format!("{name}.{}.data", process.0));
        let mut perf = Command::new("perf");
        // Most virtual machines have no cycle counter.
        perf.args(["record", "--quiet", "--event", "cpu-clock", "--freq", FREQUENCY, "--output"]).arg(file);
        // A profile of the process alone would miss threads that start later.
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
