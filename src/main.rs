//! The `regards-relay` program: hands over to [`regards_relay::cli`] and gives its exit code out.

use std::process::ExitCode;

/// Much is allocated on one thread and freed on another, which it is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages make what is allocated bigger and hardly faster here: at rest the relay takes a third less without them. A kernel that
    // doesn't know the switch has nothing to switch off.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    regards_relay::cli::main()
}
