//! Arguments in, exit code out, on stacks that no message can overflow.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Much is allocated on one thread and freed on another, which it is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The stack of every thread, in bytes. AMQP headers can be nested 26,000 levels deep, the most that one frame can carry, and
/// lapin reads, clones and drops them recursively; unoptimized, that takes more than 256 MiB. Only what a thread really uses of
/// it becomes memory.
const STACK: usize = 512 * 1024 * 1024;

/// Says how big the stacks are of threads that others start: lapin's, tokio's.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";

/// Keeps the stacks of threads that have ended for the next ones, instead of unmapping each at once since it is so big: glibc
/// (until 2.36 at least) still reads the stack of a thread that ends while its handle is dropped, as lapin and tokio do. What
/// a stack in this cache had of memory is given back all the same. Another libc takes no notice.
const STACK_CACHE: &str = "glibc.pthread.stack_cache_size";

/// More than all the stacks there can be, in bytes.
const STACK_CACHE_SIZE: u64 = 1 << 40;

/// Where glibc is told so.
const TUNABLES_VARIABLE: &str = "GLIBC_TUNABLES";

/// Huge pages make what is allocated bigger and hardly faster here: at rest the relay takes a third less without them.
const HUGE_PAGES_VARIABLE: &str = "MIMALLOC_ALLOW_THP";

/// Set by the first of both processes, so that there is never a third.
const MARKER: &str = "REGARDS_RELAY_STACK_SET";

fn main() -> ExitCode {
    let problem = ensure_stacks();
    // The main thread's stack is as big as the system's limit says, which is too small.
    let worker = std::thread::Builder::new().name("main".to_owned()).stack_size(STACK).spawn(move || {
        if let Some(problem) = problem {
            say(&format!("warning: {problem}; a message with very deeply nested headers could end the relay"));
        }
        regards_relay::cli::main()
    });
    match worker.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // What panicked has been printed.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(cause) => {
            say(&format!(
                "error: no thread with a stack of {STACK} bytes can be started: {cause}; is there a limit on virtual memory \
                 (`ulimit -v`)?"
            ));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Nobody is there to read it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Starts this program anew in its own place with big stacks, if it doesn't have them yet. Returns only if nothing is to be
/// done, or with why nothing can be done.
///
/// Their variables, and the allocator's, are read once as a process starts, and it can't safely change its own.
fn ensure_stacks() -> Option<String> {
    let stack = std::env::var(STACK_VARIABLE).ok().and_then(|size| size.parse().ok());
    let is_big = stack.is_some_and(|size: usize| size >= STACK);
    let tunables = std::env::var_os(TUNABLES_VARIABLE).filter(|set| !set.is_empty());
    let is_cached = tunables.as_ref().is_some_and(|set| set.to_string_lossy().contains(STACK_CACHE));
    if is_big && is_cached {
        return None;
    }
    if std::env::var_os(MARKER).is_some() {
        return Some(format!("{STACK_VARIABLE} or {TUNABLES_VARIABLE} does not have what it was set to"));
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(cause) => {
            return Some(format!("the relay can't find its own program to start it with big stacks: {cause}"));
        }
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut command = Command::new(&program);
    command.arg0(name.as_deref().unwrap_or(OsStr::new("regards-relay"))).args(arguments).env(MARKER, "1");
    if !is_big {
        command.env(STACK_VARIABLE, STACK.to_string());
    }
    // Whoever sets it knows why.
    if std::env::var_os(HUGE_PAGES_VARIABLE).is_none() {
        command.env(HUGE_PAGES_VARIABLE, "0");
    }
    if !is_cached {
        let mut tunables = tunables.map_or_else(OsString::new, |mut set| {
            set.push(":");
            set
        });
        tunables.push(format!("{STACK_CACHE}={STACK_CACHE_SIZE}"));
        command.env(TUNABLES_VARIABLE, tunables);
    }
    let cause = command.exec();
    Some(format!("the relay can't start itself anew with big stacks ({}): {cause}", program.display()))
}
