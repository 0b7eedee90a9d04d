//! A writer killed thousands of times, with what it acknowledged kept outside.

use crate::compiler::cargo;

/// Runs the suite `kills` for long; its last line tells the rate. Returns whether nothing was lost.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let count = match arguments {
        [] => "10000",
        [option, count] if option == "--count" && count.parse::<u64>().is_ok() => count,
        _ => return Err("cargo xtask kills [--count N]".into()),
    };
    let status = cargo()
        .env("DURALOG_KILLS", count)
        .args(["test", "--release", "-p", "duralog-tests", "--test", "kills", "--", "--nocapture"])
        .status();
    status.map(|status| status.success()).map_err(|why| format!("cargo: {why}"))
}
