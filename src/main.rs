//! The command `s3cors`.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3cors::cli::main()
}
