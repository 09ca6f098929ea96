//! `perennial completions`: the completion script of a shell.

use clap_complete::Shell;

use crate::exit_status::ExitStatus;
use crate::terminal::print;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

/// `command` is the whole command line.
pub fn run(arguments: &Arguments, mut command: clap::Command) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "perennial", &mut script);
    print(&script)?;
    Ok(ExitStatus::Done)
}
