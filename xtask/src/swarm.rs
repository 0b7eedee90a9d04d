//! The long run of the swarm: builds it with optimisation and starts it.

use std::process::Command;

use crate::compiler::cargo;

/// Runs seeds until one fails; `arguments` are the swarm's own. Returns whether all passed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let mut command: Command = cargo();
    command.args(["run", "--quiet", "--profile", "swarm", "-p", "duralog-tests", "--bin", "swarm", "--"]);
    let status = command.args(arguments).status().map_err(|why| format!("cannot run cargo: {why}"))?;
    Ok(status.success())
}
