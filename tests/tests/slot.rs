//! The application slot through power cuts: once it was set, no crash brings an older one back.
#![allow(missing_docs)]

use duralog::{
    Config, Geometry, Log, SyncMode,
    faulty::{Keep, Medium, Plan},
};
use duralog_tests::Counter;

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

fn open(medium: &Medium) -> duralog::Result<Log<duralog::FaultyDevice>> {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    let config = config.with_sync_mode(SyncMode::Immediate).with_environment(Counter::new());
    Log::open_device(medium.device(), config)
}

/// Sets the slot and fills segments; tells whether the slot was set.
fn workload(medium: &Medium) -> bool {
    let Ok(log) = open(medium) else { return false };
    let mut set = false;
    for n in 0..12u8 {
        if n == 1 {
            set = log.set_slot(b"vote 7").is_ok();
        }
        if log.append(&[n; 300][..]).is_err() {
            break;
        }
    }
    set
}

#[test]
fn a_slot_that_was_set_survives_a_cut_at_every_call_and_at_every_call_of_the_opening_after() {
    let medium = Medium::new(GEOMETRY);
    assert!(workload(&medium));
    let total = medium.calls();
    assert!(medium.names().len() > 2, "segments were begun after it was set");
    let mut checked = 0;
    for call in 0..=total {
        let medium = Medium::new(GEOMETRY);
        medium.set_plan(Plan { cut_at_call: Some(call), ..Plan::default() });
        let set = workload(&medium);
        for keep in [Keep::None, Keep::All] {
            for second in 0..12 {
                let medium = medium.snapshot();
                medium.power_cut(|_| keep.clone());
                medium.set_plan(Plan { cut_at_call: Some(second), ..Plan::default() });
                drop(open(&medium));
                medium.power_cut(|_| keep.clone());
                let log = open(&medium).unwrap();
                if set {
                    assert_eq!(log.slot(), b"vote 7", "cut at call {call}, keeping {keep:?}, then at call {second}");
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} openings after a slot was set");
    assert!(checked > 100);
}
