//! How fast duralog is, beside a plain loop on the same file system. `README.md` says what is measured, and how.

mod baseline;
mod chart;
mod machine;
mod peers;
mod ratio;
mod scale;
mod subject;
mod table;
mod workload;

use core::num::NonZero;
use std::{fs, path::PathBuf, process::ExitCode};

use machine::Machine;
use scale::Scale;
use table::Table;
use workload::Ground;

pub(crate) type Error = Box<dyn std::error::Error>;
pub(crate) type Result<T> = core::result::Result<T, Error>;

const HELP: &str = "\
cargo xtask bench [--quick | --full] [--pairs N] [--json] [--svg FILE] [--peers] [--dir DIR] [W1 ...]
    --quick     three pairs a row and smaller sizes (the default)
    --full      eleven pairs a row, all sizes
    --pairs N   so many pairs a row
    --json      the table as JSON
    --svg FILE  a chart of the ratios as well
    --peers     other logs in the same table
    --dir DIR   where the files are made: the file system that is measured; `bench` in the target folder
                unless said
    W1 ... W8   these workloads only
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("fill-and-die") => workload::fill_and_die(arguments.get(1).map_or("", String::as_str).as_ref()),
        _ => run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<()> {
    let (mut scale, mut pairs, mut json, mut svg, mut peers) = (Scale::quick(), None, false, None, false);
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let mut dir = PathBuf::from(target).join("bench");
    let mut chosen: Vec<String> = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => scale = Scale::quick(),
            "--full" => scale = Scale::full(),
            "--pairs" => {
                pairs = Some(
                    arguments.next().and_then(|n| n.parse::<NonZero<usize>>().ok()).ok_or("--pairs needs a number")?,
                )
            }
            "--json" => json = true,
            "--peers" => peers = true,
            "--svg" => svg = Some(arguments.next().ok_or("--svg needs a file")?),
            "--dir" => dir = arguments.next().ok_or("--dir needs a directory")?.into(),
            "--help" => {
                print!("{HELP}");
                return Ok(());
            }
            name if workload::ALL.iter().any(|(known, _)| *known == name) => chosen.push(argument),
            _ => return Err(format!("what is `{argument}`?\n{HELP}").into()),
        }
    }
    scale.rounds = pairs.map_or(scale.rounds, NonZero::get);
    fs::create_dir_all(&dir)?;
    let place = tempfile::tempdir_in(&dir)?;
    let mut table = Table { machine: Machine::here(place.path()), rows: Vec::new() };
    if !json {
        println!("{}", table.head());
    }
    let ground = Ground { dir: place.path().to_owned(), scale, peers };
    for (name, measure) in workload::ALL {
        if chosen.is_empty() || chosen.iter().any(|one| one == name) {
            eprintln!("{name} ...");
            let rows = measure(&ground)?;
            if !json {
                // A run that is stopped keeps what it has.
                rows.iter().for_each(|row| println!("{row}"));
            }
            table.rows.extend(rows);
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    }
    if let Some(file) = svg {
        fs::write(file, chart::chart(&table))?;
    }
    Ok(())
}
