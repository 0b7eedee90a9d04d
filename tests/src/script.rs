//! Plays a workload on any device, and tells the oracle: for what needs no simulated medium.

use duralog::{Config, Durability, Error, Log, Lsn, SharedDevice, Snapshot};

use crate::{
    oracle::{Giving, Held, Oracle, violation},
    run::{Stopped, recovered},
    workload::Op,
};

/// Entries that an [`Op::Fill`] appends at most: more than any segment holds.
const FILL_MAX: usize = 1000;

/// Does one thing after the other, until one fails. `device` opens the device anew.
///
/// # Errors
/// Why it failed.
///
/// # Panics
/// If something cannot be done in its place, or only on a simulated medium.
pub fn play<D: SharedDevice>(
    ops: &[Op],
    config: &Config,
    oracle: &mut Oracle,
    mut device: impl FnMut() -> Result<D, Error>,
) -> Result<Option<Log<D>>, Stopped> {
    let mut log: Option<Log<D>> = None;
    for op in ops {
        if *op == Op::Open {
            log = Some(open(device()?, config, oracle)?.0);
            continue;
        }
        let open = log.as_ref().expect("the log is open");
        match *op {
            Op::Append(len) => append(open, oracle, 1, len)?,
            Op::Batch(count, len) => append(open, oracle, count, len)?,
            Op::Fill(len) => {
                let before = open.stats()?.total_segments;
                for _ in 0..FILL_MAX {
                    append(open, oracle, 1, len)?;
                    if open.stats()?.total_segments > before {
                        break;
                    }
                }
            }
            Op::Sync => oracle.acknowledge(open.sync()?.value())?,
            Op::Checkpoint => {
                oracle.append_own();
                open.checkpoint(open.checkpoint_at(), &Snapshot::default())?;
                oracle.acknowledge(oracle.next() - 1)?;
            }
            Op::Truncate(keep) | Op::Discard(keep) => {
                let lsn = oracle.next().saturating_sub(keep).max(1);
                oracle.give_up(Giving::Before(lsn));
                let wanted = Lsn::new(lsn);
                let forced = matches!(op, Op::Discard(_));
                let done = if forced { open.discard_before(wanted) } else { open.truncate_before(wanted) };
                oracle.gave_up(Giving::Before(done?.value()))?;
            }
            Op::Cut(off) => {
                let lsn = oracle.next() - 1 - off;
                oracle.give_up(Giving::After(lsn));
                open.truncate_after(Lsn::new(lsn))?;
                oracle.gave_up(Giving::After(lsn))?;
            }
            Op::Close => {
                open.close()?;
                oracle.acknowledge(oracle.next() - 1)?;
                log = None;
                continue;
            }
            Op::Leave => {
                log = None;
                continue;
            }
            other => panic!("{other:?} needs a simulated medium"),
        }
        oracle.acknowledge(open.synced_lsn().value())?;
    }
    Ok(log)
}

/// Opens the log and takes what is recovered for durable.
///
/// # Errors
/// It could not be opened, or what was recovered is wrong.
pub fn open<D: SharedDevice>(device: D, config: &Config, oracle: &mut Oracle) -> Result<(Log<D>, Held), Stopped> {
    let log = Log::open_device(device, config.clone())?;
    let held = recovered(&log)?;
    oracle.recovered(&held)?;
    Ok((log, held))
}

fn append<D: SharedDevice>(log: &Log<D>, oracle: &mut Oracle, count: usize, len: usize) -> Result<(), Stopped> {
    let expected = oracle.next();
    let payloads = oracle.append(count, len);
    let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
    let receipt = match &payloads[..] {
        [payload] => log.append(*payload)?,
        payloads => log.append_batch(payloads)?.expect("the batch is not empty"),
    };
    if receipt.first.value() != expected {
        return Err(violation!("LSN {} was given where {expected} comes next", receipt.first).into());
    }
    if receipt.durability == Durability::Durable {
        oracle.acknowledge(receipt.last.value())?;
    }
    Ok(())
}
