//! The sync that goes on beside the writing, once half of the write limit is written: what it makes durable, and what not.
#![allow(missing_docs)]

use duralog::{
    Config, Durability, Error, Geometry, Log, SyncMode,
    faulty::{Change, Failure, Keep, Medium, Plan},
};
use duralog_tests::Counter;

const GEOMETRY: Geometry =
    Geometry { segment_size: 8192, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
const LIMIT: u32 = 1024;
const PAYLOAD: [u8; 67] = [0xA5; 67];
/// More than the log's first segments hold: it rotates as well.
const APPENDS: u64 = 200;

fn config() -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default() }
        .with_sync_mode(SyncMode::Async)
        .with_segment_size(GEOMETRY.segment_size)
        .with_write_limit(LIMIT)
        .with_environment(Counter::new())
}

fn open(medium: &Medium) -> Log<duralog::faulty::FaultyDevice> {
    let log = Log::open_device(medium.device(), config());
    assert!(log.is_ok(), "{:?}", log.err());
    log.unwrap()
}

/// Bytes that no sync has covered.
fn unsynced(medium: &Medium) -> u64 {
    let len = |change: &Change| if let Change::Write { bytes, .. } = change { bytes.len() as u64 } else { 0 };
    medium.unsynced().iter().map(|op| len(&op.change)).sum()
}

#[test]
fn what_is_called_durable_while_writing_goes_on_is_there_after_a_power_cut() {
    let medium = Medium::new(GEOMETRY);
    let log = open(&medium);
    let (mut ahead, mut most) = (0, 0);
    for _ in 0..APPENDS {
        let last = log.append_with(&PAYLOAD[..], Durability::Os).unwrap().last;
        let durable = log.synced_lsn();
        ahead += u32::from(durable < last && durable.value() + 12 > last.value());
        most = most.max(unsynced(&medium));
        // Nothing is left of what no sync has covered.
        let left = medium.snapshot();
        left.power_cut(|_| Keep::None);
        let found = open(&left).recovery().last_valid_lsn;
        assert!(found >= durable, "{durable} was durable of {last}, and {found} is there");
    }
    assert!(ahead > 100, "the durable LSN follows while writing goes on: {ahead} times");
    assert!(most <= u64::from(LIMIT), "{most} bytes were not synced at once");
    assert!(medium.trace().lines().filter(|line| line.contains("sync")).count() > 20);
}

#[test]
fn a_failed_sync_beside_the_writing_poisons_the_log() {
    let whole = Medium::new(GEOMETRY);
    let log = open(&whole);
    for _ in 0..APPENDS {
        log.append_with(&PAYLOAD[..], Durability::Os).unwrap();
    }
    let (calls, mut poisoned) = (whole.calls(), 0);
    for call in 0..calls {
        let medium = Medium::new(GEOMETRY);
        let failure = Failure::SyncLoses(vec![]);
        medium.set_plan(Plan { fail: vec![(call, failure)], ..Plan::default() });
        let Ok(log) = Log::open_device(medium.device(), config()) else { continue };
        let mut durable = log.synced_lsn();
        let failed = (0..APPENDS).find_map(|_| {
            let appended = log.append_with(&PAYLOAD[..], Durability::Os);
            durable = log.synced_lsn();
            appended.err()
        });
        if failed.is_some() || log.sync().is_err() {
            poisoned += 1;
            let again = log.append_with(&PAYLOAD[..], Durability::Durable);
            assert!(matches!(again, Err(Error::Poisoned { .. })), "call {call}: {again:?}");
            assert!(log.sync().is_err() && log.synced_lsn() <= durable, "call {call}");
        }
        durable = log.synced_lsn();
        drop(log);
        medium.power_cut(|_| Keep::None);
        let found = open(&medium).recovery().last_valid_lsn;
        assert!(found >= durable, "call {call}: {durable} was durable, and {found} is there");
    }
    assert!(poisoned > 50, "{poisoned} of {calls} calls");
}
