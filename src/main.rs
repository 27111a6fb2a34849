//! The command `s3cors`, and a thread that returns unused memory to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_memory_back();
    s3cors::cli::main()
}

/// glibc's allocator returns only the end of each arena to the system: one live block there keeps
/// everything below it allocated, for example after many connections have closed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;
    use std::thread;
    use std::time::Duration;

    /// The interval. A thread that allocates from an arena while it is trimmed waits: usually for
    /// a fraction of a millisecond, for some tens if hundreds of MiB are returned.
    const PERIOD: Duration = Duration::from_secs(10);

    /// Periodically returns free memory, wherever it is.
    pub(super) fn give_memory_back() {
        let forever = || {
            loop {
                thread::sleep(PERIOD);
                malloc_trim(0);
            }
        };
        // If the thread cannot start, the memory stays reserved for reuse, which is harmless.
        let _ = thread::Builder::new()
            .name("memory".to_owned())
            .spawn(forever);
    }

    // The library has no `unsafe` at all. This function is safe at any time and by any thread
    // (malloc_trim(3)); glibc 2.8 and later look through all arenas.
    #[expect(unsafe_code, reason = "a function of glibc that no crate wraps")]
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> c_int;
    }
}
