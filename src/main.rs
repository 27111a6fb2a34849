//! The command `s3cors`, and how memory that it needs no more goes back to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::give_memory_back();
    s3cors::cli::main()
}

/// glibc's allocator gives the system only the end of each arena. One live block there, which may
/// be anybody's, and all below is kept that a crowd of connections has left behind.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;
    use std::thread;
    use std::time::Duration;

    /// How often. Whoever allocates while its arena is looked through waits: for a fraction of a
    /// millisecond as a rule, for some tens where hundreds of MiB go back.
    const PERIOD: Duration = Duration::from_secs(10);

    /// Gives back what is free, wherever it is, now and then.
    pub(super) fn give_memory_back() {
        let forever = || {
            loop {
                thread::sleep(PERIOD);
                malloc_trim(0);
            }
        };
        // Without a thread for it there is more memory that waits to be used again, and that is all.
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
