//! The command line: one file a subcommand; argument parsing and rendering.

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
