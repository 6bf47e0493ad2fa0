//! The child process on its own, for the tests of this crate; the `streamgauge` program has it as a hidden subcommand.

use std::process::ExitCode;

use streamgauge_sinks::server::{ChildArgs, SUBCOMMAND, run_embedded_child};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let args = (arguments.next().filter(|first| first == SUBCOMMAND)).and_then(|_| ChildArgs::parse(arguments));
    let Some(args) = args else {
        eprintln!("usage: {SUBCOMMAND} --library PATH --config FILE --path FOLDER --port PORT");
        return ExitCode::from(2);
    };
    let Err(error) = run_embedded_child(&args);
    eprintln!("{error}");
    ExitCode::FAILURE
}
