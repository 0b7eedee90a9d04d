//! What receipts say, and what an acknowledged entry is worth when it is damaged later.
#![allow(missing_docs)]

use Op::{Append, Batch, Close, Fill, Kill, Open, Sync, Write};
use duralog::{
    Durability, Error, Log, LogReader, Lsn, MemoryDevice, Object, Verdict,
    core::Witness,
    faulty::{Keep, Medium, Plan},
};
use duralog_tests::{
    Counter,
    Detail::{Coarse, Fine},
    Explorer, Moment, Op, Setup, payload,
};

#[test]
fn a_receipt_says_no_more_than_the_medium_keeps() {
    const ALL: [Durability; 3] = [Durability::Buffered, Durability::Os, Durability::Durable];
    let config = Setup::BYTES.config(Counter::new());
    let log = Log::open_device(MemoryDevice::default(), config.clone().with_write_limit(4096)).unwrap();
    assert_eq!(log.sync_reaches(), Durability::Buffered);
    assert_eq!(log.append(&b"in memory"[..]).unwrap().durability, Durability::Buffered);
    for durability in ALL {
        assert_eq!(log.append_with(&b"in memory"[..], durability).unwrap().durability, Durability::Buffered);
    }
    // What a sync has covered is told all the same.
    assert_eq!((log.sync().unwrap(), log.synced_lsn()), (Lsn::new(4), Lsn::new(4)));
    let log = Log::open_device(Medium::new(Setup::BYTES.geometry).device(), config).unwrap();
    assert_eq!(log.sync_reaches(), Durability::Durable);
    for durability in ALL {
        assert_eq!(log.append_with(&b"on a medium"[..], durability).unwrap().durability, durability);
    }
}

/// Flips one bit in the payload of the `number`th entry, wherever it stands.
fn flip(moment: &Moment, number: u64, len: usize, bit: u64) {
    let payload = payload(number, len);
    let mut found = 0;
    for object in moment.medium.names() {
        let bytes = moment.medium.object(object).unwrap();
        if let Some(at) = bytes.windows(len).position(|window| window == payload) {
            moment.medium.flip_bit(object, at as u64 + bit / 8, u8::try_from(bit % 8).unwrap());
            found += 1;
        }
    }
    assert!(found > 0, "entry {number} is nowhere");
}

#[test]
fn damage_to_the_last_acknowledged_entry_is_unproven_unless_a_second_sync_proves_it() {
    for setup in Setup::ALL {
        for bit in 0..24 * 8 {
            let damaged = |setup: Setup| {
                let mut run = Moment::new(setup).run(Plan::default());
                run.play(&[Open, Append(24)]).unwrap();
                let moment = run.end().after_cut(&[]);
                flip(&moment, 0, 24, bit);
                let config = moment.config();
                Log::open_device(moment.medium.device(), config).map(|log| log.recovery().clone())
            };
            let report = damaged(setup).unwrap();
            let torn = report.torn_tail.expect("the entry is cut off");
            assert_eq!((torn.verdict, report.last_valid_lsn), (Verdict::Unproven, Lsn::ZERO), "bit {bit}");
            match damaged(setup.proved()) {
                Err(Error::Refused(finding)) => {
                    assert_eq!(finding.verdict, Verdict::Rot);
                    assert_eq!(finding.lsns, Some((Lsn::FIRST, Lsn::FIRST)));
                    assert!(matches!(finding.witness, Some(Witness::Mark { durable: Lsn::FIRST, .. })), "{finding:?}");
                }
                other => panic!("{}, bit {bit}: {other:?}", setup.name),
            }
        }
    }
}

/// One entry of one byte, acknowledged, and nothing behind it: no smaller log has anything to lose.
#[test]
fn the_smallest_unproven_case_is_one_entry_and_one_more_mark_turns_it_into_damage() {
    const LEN: usize = 1;
    for setup in Setup::ALL {
        // What the entry's only byte was is told by its place: right behind the header of its frame.
        let after = |more: &[Op]| {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&[&[Open, Append(LEN)], more].concat()).unwrap();
            run.end().after_cut(&[])
        };
        let opened = |moment: &Moment| {
            let log = Log::open_device(moment.medium.device(), moment.config())?;
            Ok::<_, Error>(log.recovery().clone())
        };
        let alone = after(&[]);
        let reader = LogReader::open_device(alone.medium.reader(), alone.config()).unwrap();
        let entry = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().next().unwrap().unwrap();
        let (segment, at) = (Object::Segment(entry.segment), u64::from(entry.offset) + 29);
        assert_eq!(alone.oracle.acknowledged(), 1);
        for bit in 0..8 {
            let moment = alone.fork();
            moment.medium.flip_bit(segment, at, bit);
            let report = opened(&moment).unwrap();
            let torn = report.torn_tail.expect("nothing tells the flipped bit from a write that was torn");
            assert_eq!((torn.verdict, report.last_valid_lsn), (Verdict::Unproven, Lsn::ZERO), "{}", setup.name);
            // One mark more: that which leads the next write, or that of a close.
            for more in [&[Append(LEN)][..], &[Close]] {
                let moment = after(more);
                moment.medium.flip_bit(segment, at, bit);
                match opened(&moment) {
                    Err(Error::Refused(finding)) => {
                        assert_eq!((finding.verdict, finding.lsns), (Verdict::Rot, Some((Lsn::FIRST, Lsn::FIRST))));
                        let is_mark = matches!(finding.witness, Some(Witness::Mark { durable: Lsn::FIRST, .. }));
                        let is_meta = matches!(finding.witness, Some(Witness::Meta { durable: Lsn::FIRST }));
                        assert!(is_mark || is_meta && more == [Close], "{finding:?}");
                    }
                    other => panic!("{}, bit {bit}, then {more:?}: {other:?}", setup.name),
                }
            }
        }
    }
    // Without an entry there is nothing to be unproven: a log that was only opened and one of no bytes open cleanly.
    for ops in [&[][..], &[Open], &[Open, Close]] {
        let mut run = Moment::new(Setup::BYTES).run(Plan::default());
        run.play(ops).unwrap();
        let moment = run.end().after_cut(&[]);
        let log = Log::open_device(moment.medium.device(), moment.config()).unwrap();
        assert!(log.recovery().clean && log.recovery().torn_tail.is_none(), "{ops:?}");
    }
}

/// The power goes at every call; then the last entry that a receipt called durable, or a recovery, is damaged.
#[test]
fn no_acknowledged_entry_is_ever_unproven_where_it_is_proved_first() {
    const LEN: usize = 20;
    let entry = Append(LEN);
    let ops =
        [Open, entry, Write(LEN), Kill, Open, entry, Write(LEN), Sync, entry, entry, entry, entry, entry, entry, entry];
    for setup in Setup::ALL.map(Setup::proved) {
        let calls = {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&ops).unwrap();
            run.calls()
        };
        let mut damaged = 0;
        for call in 0..=calls {
            for keep in [Keep::None, Keep::All] {
                let mut run = Moment::new(setup).run(Plan { cut_at_call: Some(call), ..Plan::default() });
                let _ = run.play(&ops);
                let moment = run.end();
                let unsynced = moment.medium.unsynced().len();
                let moment = moment.after_cut(&vec![keep; unsynced]);
                let Some(last) = moment.oracle.acknowledged().checked_sub(1) else { continue };
                flip(&moment, last, LEN, 13);
                let opened = Log::open_device(moment.medium.device(), moment.config().with_full_check());
                assert!(
                    matches!(&opened, Err(Error::Refused(finding)) if finding.verdict == Verdict::Rot),
                    "{}, cut at call {call}: {:?}",
                    setup.name,
                    opened.map(|log| log.recovery().clone())
                );
                damaged += 1;
            }
        }
        assert!(damaged > calls, "{damaged} of {calls}");
    }
}

#[test]
fn a_log_that_proves_first_survives_as_any_other() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Batch(2, 16), Kill, Open, Append(9), Fill(200), Append(9), Close, Open, Append(12)];
    for setup in Setup::ALL.map(Setup::proved) {
        explorer.search("proved first", &Moment::new(setup), &[(&ops, Coarse)]);
        explorer.search(
            "proved first, buffered",
            &Moment::new(setup.buffered()),
            &[(&[Open, Append(9), Write(9), Sync], Fine)],
        );
    }
    explorer.finish("proved first");
}

#[test]
fn entries_that_follow_each_other_prove_one_another() {
    let syncs = |setup: Setup| {
        let medium = Medium::new(setup.geometry);
        let log = Log::open_device(medium.device(), setup.config(Counter::new())).unwrap();
        for _ in 0..4 {
            log.append(&b"entry"[..]).unwrap();
        }
        let names = medium.names().into_iter().filter(|name| matches!(name, Object::Segment(_)));
        assert_eq!(names.count(), 1);
        log.stats().unwrap().syncs
    };
    assert_eq!((syncs(Setup::BYTES), syncs(Setup::BYTES.proved())), (4, 8));
}
