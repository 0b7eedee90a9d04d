//! A segment in the room of a removed one, full of old frames of the same log: none of them comes back, no crash brings
//! one, and the end of the log is told from them.
#![allow(missing_docs)]

use Op::{Append, Batch, Close, Discard, Fill, Kill, Leave, Open, Sync, Write};
use duralog::{
    Config, Log, LogReader, Lsn, MemoryDevice, Object, Policy, SyncMode,
    core::{checksum::portable, segment::SegmentHeader},
    faulty::{Keep, Plan},
};
use duralog_tests::{
    Counter,
    Detail::{Coarse, Whole},
    Explorer, Moment, Nonces, Op, Setup,
};

/// Segments are filled and removed until one is begun in old room.
const RECYCLED: &[Op] = &[Open, Fill(150), Fill(150), Discard(1), Fill(150), Append(24)];

fn setups() -> impl Iterator<Item = Setup> {
    [Nonces::Random, Nonces::Zero].into_iter().flat_map(|nonces| Setup::ALL.map(|setup| setup.recycled(nonces)))
}

fn after(setup: Setup, ops: &[Op]) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(ops).unwrap();
    run.end()
}

/// The header of the newest segment.
fn newest(moment: &Moment) -> SegmentHeader {
    let names = moment.medium.names();
    let segment = names.iter().rev().find(|name| matches!(name, Object::Segment(_))).unwrap();
    SegmentHeader::decode(portable, &moment.medium.object(*segment).unwrap(), 0).unwrap()
}

#[test]
fn a_segment_in_old_room_says_so_unless_it_was_cleared_for_want_of_a_nonce() {
    for setup in setups() {
        let header = newest(&after(setup, RECYCLED));
        assert_eq!(header.recycled, setup.nonces == Nonces::Random, "{}", setup.name);
        assert_eq!(header.nonce == 0, setup.nonces == Nonces::Zero, "{}", setup.name);
    }
}

/// The strict policy refuses whatever is no clean end.
#[test]
fn the_end_of_the_log_is_clean_after_each_write_and_at_each_opening() {
    for setup in setups() {
        for ops in
            [&[][..], &[Append(9)], &[Batch(2, 16), Write(12)], &[Close], &[Close, Open, Append(9)], &[Kill, Open]]
        {
            let moment = after(setup, &[RECYCLED, ops].concat());
            let held = moment.read(Policy::Strict).unwrap_or_else(|error| panic!("{}, {ops:?}: {error}", setup.name));
            assert_eq!(held.last, moment.oracle.next() - 1);
        }
    }
}

#[test]
fn where_a_cut_loses_all_that_was_not_synced_the_log_ends_cleanly() {
    for setup in setups() {
        let start = after(setup, &[Open, Fill(150), Fill(150), Discard(1)]).after_kill();
        let ops = [Open, Fill(150), Append(24), Discard(1), Fill(150)];
        let calls = {
            let mut run = start.fork().run(Plan::default());
            run.play(&ops).unwrap();
            run.calls()
        };
        for call in 0..calls {
            let mut run = start.fork().run(Plan { cut_at_call: Some(call), ..Plan::default() });
            run.play(&ops).unwrap_err();
            let read = run.end().after_cut(&[]).read(Policy::Strict);
            read.unwrap_or_else(|error| panic!("{}, cut at call {call}: {error}", setup.name));
        }
    }
}

#[test]
fn a_crash_at_every_call_brings_no_old_frame_back() {
    let mut explorer = Explorer::new();
    let before = [RECYCLED, &[Discard(1)]].concat();
    let ops = [Fill(150), Append(9), Batch(2, 16), Kill, Open, Append(20), Discard(2), Leave, Open, Append(12), Close];
    for setup in setups() {
        let start = after(setup, &before).after_kill();
        explorer.search("old room", &start, &[(&[&[Open][..], &ops].concat(), Coarse)]);
    }
    explorer.finish("old room");
}

#[test]
fn a_crash_at_every_call_brings_no_old_frame_back_where_appends_are_buffered() {
    let mut explorer = Explorer::new();
    for setup in setups().map(Setup::buffered) {
        let start = after(setup, &[RECYCLED, &[Sync, Discard(1), Close]].concat()).after_kill();
        let ops =
            [Open, Write(24), Write(9), Batch(2, 16), Write(30), Kill, Open, Write(9), Discard(1), Sync, Append(9)];
        explorer.search("old room, buffered", &start, &[(&ops, Coarse)]);
    }
    explorer.finish("old room, buffered");
}

#[test]
fn a_second_crash_brings_no_old_frame_back() {
    let mut explorer = Explorer::new();
    for setup in [Setup::BYTES, Setup::WORDS.buffered()].map(|setup| setup.recycled(Nonces::Random)) {
        let start = after(setup, &[RECYCLED, &[Discard(1)]].concat()).after_kill();
        let stages: [(&[Op], _); 2] =
            [(&[Open, Append(9), Write(20), Kill, Open, Write(9)], Coarse), (&[Open, Append(9), Close], Whole)];
        explorer.search("old room, twice", &start, &stages);
    }
    explorer.finish("old room, twice");
}

/// A take-over copies entries that only the cache holds, is cut before its header, and the power takes those entries. The
/// next one gets the same room, the same id and the same epoch: what stands there was written for it, but for the nonce.
fn begun_again_in_its_own_room(setup: Setup) -> Moment {
    let mut moment = after(setup, &[Open, Append(24), Write(40), Write(40), Write(40)]).after_kill();
    let calls = {
        let mut run = moment.fork().run(Plan::default());
        run.play(&[Open]).unwrap();
        run.calls()
    };
    // The last calls of an opening: the sync of what was copied, two copies of the header and their sync, the metadata.
    let mut run = moment.fork().run(Plan { cut_at_call: Some(calls - 6), ..Plan::default() });
    run.play(&[Open]).unwrap_err();
    moment = run.end();
    // Of the old segment's writes all but the first is lost, of the new one's nothing.
    let old = Object::Segment(duralog::core::SegmentId::new(1));
    let mut writes = 0;
    moment.medium.power_cut(|op| {
        writes += usize::from(op.object == old);
        if op.object == old && writes > 1 { Keep::None } else { Keep::All }
    });
    // The next one erases what is unfinished, and no more: so its id is free again.
    let mut run = moment.run(Plan { cut_at_call: Some(1), ..Plan::default() });
    run.play(&[Open]).unwrap_err();
    let mut run = run.end().after_cut(&[Keep::All]).run(Plan::default());
    run.play(&[Open]).unwrap();
    run.end()
}

#[test]
fn a_segment_that_is_begun_again_in_its_own_room_has_nothing_of_what_was_copied_there_before() {
    let setup = Setup::BYTES.recycled(Nonces::Random);
    let moment = begun_again_in_its_own_room(setup);
    assert!(newest(&moment).recycled);
    moment.read(Policy::Strict).unwrap();
    // It is the nonce that does that: with one that is used again, old frames are found behind the end.
    let moment = begun_again_in_its_own_room(Setup::BYTES.recycled(Nonces::Repeated));
    let report = LogReader::open_device(moment.medium.reader(), moment.config()).unwrap().recovery().clone();
    assert!(report.torn_tail.is_some_and(|torn| torn.frames > 0), "{report:?}");
}

#[test]
fn memory_hands_its_room_out_again() {
    let device = MemoryDevice::default().with_recycled_segments();
    let medium = device.reader();
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    let config = config.with_sync_mode(SyncMode::Async).with_environment(Counter::new());
    let log = Log::open_device(device, config.clone()).unwrap();
    let payload = |n: u64| [n.to_le_bytes(); 1000].concat();
    for n in 1..=1200 {
        log.append(&payload(n)[..]).unwrap();
        if n % 100 == 0 {
            log.discard_before(Lsn::new(n - 50)).unwrap();
        }
    }
    assert!(medium.names().len() < 5);
    log.close().unwrap();
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), config.with_policy(Policy::Strict).with_full_check()).unwrap();
    assert!(log.recovery().clean && log.recovery().closed);
    let entries: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    assert_eq!((entries[0].lsn, entries[entries.len() - 1].lsn), (Lsn::new(1150), Lsn::new(1200)));
    assert!(entries.iter().all(|entry| entry.payload == payload(entry.lsn.value())));
}
