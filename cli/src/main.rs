//! The program `duralog`: maps flags to calls of the library, and what comes of them to text, JSON and exit statuses.

mod acks;
mod checkpoint;
mod demo;
mod exit;
mod export;
mod image;
mod import;
mod inspect;
mod line;
mod map;
mod outcome;
mod pack;
mod paint;
mod progress;
mod recover;
mod report;
mod segments;
mod signal;
mod state;
mod truncate;

use std::{env, io, process::ExitCode};

use clap::Parser;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    exit::{Failure, Status, tell},
    outcome::Outcome,
};

/// Looks after write-ahead logs: keeps what it acknowledged
#[derive(Debug, Parser)]
#[command(name = "duralog", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Demo(demo::Args),
    Import(import::Args),
    Export(export::Args),
    State(state::Args),
    Verify(inspect::VerifyArgs),
    Stat(inspect::StatArgs),
    Recover(recover::Args),
    Checkpoint(checkpoint::Args),
    Truncate(truncate::Args),
    Pack(pack::PackArgs),
    Unpack(pack::UnpackArgs),
}

fn main() -> ExitCode {
    trace();
    if let Err(error) = signal::survive_size_limits() {
        tell(format_args!("a limit on the size of files may end the program without a word: {error}"));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let status = match cli.command {
        Command::Demo(args) => demo::run(&args).end(args.json, false),
        Command::Import(args) => import::run(&args).end(args.json, false),
        Command::Export(args) => export::run(&args).end(args.json, true),
        Command::State(args) => state::run(&args).end(args.json, true),
        Command::Verify(args) => inspect::verify(&args).end(args.json, false),
        Command::Stat(args) => inspect::stat(&args).end(args.json, false),
        Command::Recover(args) => recover::run(&args).end(args.json, false),
        Command::Checkpoint(args) => checkpoint::run(&args).end(args.json, false),
        Command::Truncate(args) => truncate::run(&args).end(args.json, false),
        Command::Pack(args) => pack::pack(&args).end(args.json, false),
        Command::Unpack(args) => pack::unpack(&args).end(args.json, false),
    };
    image::clean();
    status
}

/// Shows the library's events on standard error, if `RUST_LOG` asks for them (`RUST_LOG=duralog=info`).
fn trace() {
    let Ok(wanted) = env::var("RUST_LOG") else { return };
    match wanted.parse::<Targets>() {
        Ok(targets) => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
            tracing_subscriber::registry().with(layer).with(targets).init();
        }
        Err(error) => tell(format_args!("duralog: RUST_LOG is not understood: {error}")),
    }
}

/// What is wrong, on one line: which arguments are missing stands on lines of their own.
fn first_paragraph(message: &str) -> String {
    let lines = message.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let message = lines.collect::<Vec<_>>().join(" ");
    message.trim_start_matches("error: ").to_owned()
}

/// What was asked for makes no sense, or is the help.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Status::Fine.into();
    }
    if env::args_os().any(|argument| argument == "--json") {
        return Outcome::from(Failure::Usage { path: None, message: first_paragraph(&error.to_string()) })
            .end(true, false);
    }
    let _ = error.print();
    Status::Usage.into()
}
