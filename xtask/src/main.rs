//! Tasks of the repository; `cargo xtask help` lists them.

mod bench;
mod browser;
mod ci;
mod compiler;
mod figures;
mod firmware;
mod fuzz;
mod instructions;
mod kills;
mod mutants;
mod report;
mod schedules;
mod sizes;
mod step;
mod survivors;
mod swarm;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask ci [PART ...]   run the checks; parts, all by default:
    native     format, lints, docs, tests, the reader in Python, packages
    speed      format and lints of the benchmark, instruction counts
    embedded   the core for three microcontroller targets, with defmt, without what can be left out, and what it takes
    wasm       the core for wasm32-unknown-unknown
    cross      type checks for Windows, macOS and a 32-bit system
    mutants    five of the mutants, other ones with each commit
    schedules  the group commit under a model checker, with one of the defects that it has to find
    browser    the npm package: built, packed, and tried in Node, Chromium and Firefox
cargo xtask mutants [NAME ...] [--slice K/N | --few N] [--list]
    breaks a copy of the code on purpose, by each patch in xtask/mutants, and shows which tests notice: all mutants, those
    named, the K-th of N slices, or N of them that each commit chooses anew; --list only names them
cargo xtask survivors [--list | [--stages N] FILE ...]
            every small change to the core that cargo-mutants can think of, in these files or in all that
            xtask/survivors.txt names: what no test notices has to stand there with its reason, and nothing else;
            --list says how many changes there are in each file of the core. Takes hours: for each that survives a minute;
            --stages 1 asks only the unit tests of the core, and 2 these and the quick suites: to see soon where to look
cargo xtask swarm [--seeds N] [--from SEED] [--jobs N] [--mode crash|mixed|slots]
                            random workloads and faults, a medium of its own for each seed; stops at the first failure
                            with the command that repeats it
cargo xtask figures         count anew what tests/README.md tells, and write it there
cargo xtask firmware        run the firmware in the emulator, with its power cut at some hundred points
cargo xtask sizes [--check | --write]
                            what the log takes of a microcontroller; compared with firmware/README.md, or written there
cargo xtask fuzz [--seconds N] [TARGET ...]
                            the fuzz targets, each for that long
cargo xtask kills [--count N]
                            a writer killed so often, with what it acknowledged kept outside
cargo xtask demo            a page with notes that survive a crash: builds the npm package, and prints the page's address
cargo xtask browser-bench [--rounds N]
                            the npm package in Chromium against raw IndexedDB, Dexie and sqlite-wasm: a table of ratios
cargo xtask schedules [--few]
                            the group commit under a model checker, and defects planted there to see that it finds them:
                            all, or one that each commit chooses anew
cargo xtask bench [...]     measures how fast it is, beside a plain loop; `cargo xtask bench --help` tells more
cargo xtask instructions [--write]
                            counts the instructions of the hot paths, and compares them with the figures kept, or replaces
                            those; with another compiler than theirs it compares nothing and says so; needs valgrind
cargo xtask help            this page

Run as root, or with the variable CI set, `ci` installs the Debian packages it misses. Otherwise it prints the line that
would, and lists at the end what it left out. With CI set nothing may be left out.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let outcome = match task {
        "ci" => ci::run(rest),
        "mutants" => mutants::run(rest),
        "survivors" => survivors::run(rest),
        "figures" => figures::run(rest),
        "swarm" => swarm::run(rest),
        "firmware" => ci::run_part("firmware", firmware::steps),
        "sizes" => sizes::run(rest),
        "fuzz" => fuzz::run(rest),
        "kills" => kills::run(rest),
        "demo" => browser::demo(),
        "browser-bench" => browser::bench(rest),
        "schedules" => schedules::run(rest),
        "bench" => bench::run(rest),
        "instructions" => instructions::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        _ => Err(format!("no task `{task}`; `cargo xtask help` lists them")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}
