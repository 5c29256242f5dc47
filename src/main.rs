//! The `heddle` command: hands over to the supervisor, to a container's keeper, or to the command line.

use std::process::ExitCode;

use heddle::isolation::itself;

fn main() -> ExitCode {
    itself::hear_of_children();
    let mut args = std::env::args_os().skip(1).peekable();
    if args
        .next_if(|arg| arg == heddle::isolation::supervisor::SUBCOMMAND)
        .is_some()
    {
        let code = heddle::isolation::supervisor::main(args);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    if args
        .next_if(|arg| arg == heddle::kernel::container::keeper::SUBCOMMAND)
        .is_some()
    {
        let code = heddle::kernel::container::keeper::main(args);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    itself::keep_memory();
    heddle::cli::main()
}
