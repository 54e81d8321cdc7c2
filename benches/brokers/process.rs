//! CPU time and memory of a process, from Linux' `/proc/PID/stat` and `status`.

use std::fs;

#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// User and system time so far, in µs.
    pub fn cpu(self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("the process runs");
        // The name, in parentheses, may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        let ticks: f64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
        ticks * 1e6 / TICKS_A_SECOND
    }

    /// Peak resident memory in MiB.
    pub fn peak(self) -> f64 {
        self.memory("VmHWM:")
    }

    /// Resident memory in MiB.
    pub fn resident(self) -> f64 {
        self.memory("VmRSS:")
    }

    fn memory(self, which: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }
}

/// `USER_HZ`, the same on every Linux.
const TICKS_A_SECOND: f64 = 100.0;
