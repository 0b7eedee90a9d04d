//! The core without one or all of the parts that a tiny device may leave out: it appends, is cut and recovers as ever, and
//! refuses the logs that take what is not there. Built by `cargo test -p duralog-core --no-default-features --test left_out`,
//! with `--features mending` or another part, or without; with the feature `std` all are there, and this file is empty.
#![cfg(not(feature = "std"))]
#![allow(missing_docs)]

use duralog::slots::{Info, Layout, Medium, OpenSlotsError, Slot, SlotError, Slots};
use duralog_core::{
    CheckpointId, Device, Each, Error, Fault, Flow, Geometry, InvalidOptions, Log, LogError, LogOptions, Lsn, Object,
    OldWriter, OpenError, Part, Room, SegmentId,
};

const SIZE: usize = 1 << 15;
const SLOT: usize = 4096;
const WORD: usize = 8;
const LOG: uuid::Uuid = uuid::Uuid::from_u128(5);

/// Flash in memory, whose power goes after so many words.
struct Flash {
    bytes: Vec<u8>,
    words_left: usize,
    is_off: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct PowerIsOff;

impl Flash {
    fn blank() -> Self {
        Self { bytes: vec![0xFF; SIZE], words_left: usize::MAX, is_off: false }
    }

    fn info() -> Info {
        Info { capacity: SIZE.try_into().unwrap(), write_size: 8, erase_size: 1024, is_flash: true, is_settled: true }
    }

    fn layout() -> Layout {
        Layout::new(Self::info(), SLOT.try_into().unwrap())
    }

    fn device(&mut self) -> Slots<&mut Self, [Slot; 8]> {
        Slots::open(self, Self::layout(), [Slot::default(); 8]).unwrap()
    }

    /// Where the slot is that holds this segment.
    fn slot_of(&self, id: u64) -> usize {
        let holds = |slot: &usize| {
            let bytes = &self.bytes[slot * SLOT..];
            // Its label: a segment's, of this number.
            bytes[..4] == *b"WSLT" && bytes[5] & 7 == 1 && bytes[16..24] == id.to_le_bytes()
        };
        (0..SIZE / SLOT).find(holds).unwrap() * SLOT
    }
}

impl Medium for &mut Flash {
    type Error = PowerIsOff;

    fn info(&self) -> Info {
        Flash::info()
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), PowerIsOff> {
        buf.copy_from_slice(&self.bytes[at as usize..][..buf.len()]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), PowerIsOff> {
        for (number, word) in bytes.chunks(WORD).enumerate() {
            let old = &mut self.bytes[at as usize + number * WORD..][..word.len()];
            assert!(old.iter().all(|byte| *byte == 0xFF), "a word is written once");
            if self.is_off || self.words_left == 0 {
                if !core::mem::replace(&mut self.is_off, true) {
                    // Half of it.
                    old[..WORD / 2].copy_from_slice(&word[..WORD / 2]);
                }
                return Err(PowerIsOff);
            }
            old.copy_from_slice(word);
            self.words_left -= 1;
        }
        Ok(())
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), PowerIsOff> {
        if self.is_off {
            return Err(PowerIsOff);
        }
        self.bytes[from as usize..to as usize].fill(blank);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PowerIsOff> {
        Ok(())
    }
}

/// Appends these entries; the last LSN that was acknowledged.
fn append<D: Device>(log: &mut Log<'_, D>, entries: u8) -> u64 {
    for number in 0..entries {
        if log.append(0, &[number; 60][..]).is_err() {
            break;
        }
    }
    log.stats().durable.value()
}

/// A log with this many entries, which was not closed.
fn flash(entries: u8) -> Flash {
    let mut flash = Flash::blank();
    let device = Slots::format(&mut flash, Flash::layout(), [Slot::default(); 8]).unwrap();
    let mut buf = [0; 4096];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), LOG, 0).unwrap();
    assert_eq!(append(&mut log, entries), entries.into());
    drop(log);
    flash
}

fn opened(flash: &mut Flash) -> Result<u64, OpenError<SlotError<PowerIsOff>>> {
    let mut buf = [0; 4096];
    Log::open(flash.device(), &mut buf, LogOptions::default(), 0).map(|log| log.report().last.value())
}

#[test]
fn a_log_is_appended_to_cut_at_every_word_and_recovered() {
    let mut cuts = 0;
    for cut in 0.. {
        let mut flash = flash(20);
        flash.words_left = cut;
        let mut buf = [0; 4096];
        let acknowledged = match Log::open(flash.device(), &mut buf, LogOptions::default(), 0) {
            Ok(mut log) => append(&mut log, 30),
            Err(_) => 20,
        };
        if !flash.is_off {
            break;
        }
        cuts += 1;
        (flash.words_left, flash.is_off) = (usize::MAX, false);
        let mut log = Log::open(flash.device(), &mut buf, LogOptions::default(), 0).unwrap();
        let mut entries = 0;
        let mut each = Each(|entry: duralog_core::Entry<'_>| {
            entries += 1;
            assert_eq!((entry.lsn.value(), entry.payload.len()), (entries, 60));
            Flow::Continue
        });
        log.read(Lsn::ZERO, Lsn::MAX, &mut each).unwrap();
        assert!(entries >= acknowledged, "{entries} of {acknowledged} entries, cut {cut}");
        assert_eq!(log.append(0, &[1; 60][..]).unwrap().last.value(), entries + 1);
    }
    assert!(cuts > 500, "{cuts} cuts");
}

#[test]
fn a_gap_in_the_chain_is_refused_by_the_name_of_the_part() {
    // Where the part is there, it is known what is gone: the entries of one segment.
    let gone = Object::Segment(SegmentId::new(2));
    let refused = |flash: &mut Flash| match opened(flash) {
        Err(OpenError::Drive(Error::Fault(fault))) => {
            assert_eq!(fault, Fault::LeftOut { object: gone, part: Part::Mending });
            assert!(fault.to_string().contains("the feature `mending`"));
            assert!(!Part::Mending.is_built());
        }
        Err(OpenError::Refused(Some(finding))) => {
            assert_eq!(finding.object, gone);
            assert!(Part::Mending.is_built());
        }
        other => panic!("{other:?}"),
    };
    // A segment in the middle is missing.
    let mut missing = flash(100);
    let slot = missing.slot_of(2);
    missing.bytes[slot..slot + SLOT].fill(0xFF);
    let before = missing.bytes.clone();
    refused(&mut missing);
    assert_eq!(missing.bytes, before, "nothing was written");
    // It stands, and has lost its header.
    let mut headless = flash(100);
    let slot = headless.slot_of(2);
    headless.bytes[slot + 64..slot + 320].fill(0);
    refused(&mut headless);
    // Nothing stands behind the oldest: what is missing is known, and is damage as ever.
    let mut oldest = flash(100);
    let slot = oldest.slot_of(1);
    oldest.bytes[slot..slot + SLOT].fill(0xFF);
    match opened(&mut oldest) {
        Err(OpenError::Refused(Some(finding))) => assert_eq!(finding.lsns.map(|(first, _)| first), Some(Lsn::FIRST)),
        other => panic!("{other:?}"),
    }
}

/// A device that lists this object too, and has no bytes of it.
struct With<'a>(Slots<&'a mut Flash, [Slot; 8]>, Object);

type DeviceFailure = SlotError<PowerIsOff>;

impl Device for With<'_> {
    type Error = DeviceFailure;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn old_writer(&self) -> OldWriter {
        self.0.old_writer()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, DeviceFailure> {
        self.0.next(after)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, DeviceFailure> {
        if before.is_none() { Ok(Some(self.1)) } else { self.0.prev(before) }
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, DeviceFailure> {
        self.0.create(object, size)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, DeviceFailure> {
        self.0.read(object, at, buf)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), DeviceFailure> {
        self.0.write(object, at, bytes)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), DeviceFailure> {
        self.0.trim(object, at)
    }

    fn remove(&mut self, object: Object) -> Result<(), DeviceFailure> {
        self.0.remove(object)
    }

    fn sync(&mut self) -> Result<(), DeviceFailure> {
        self.0.sync()
    }
}

/// What an opening fails with where it finds this object; where the part is there, bytes that cannot be read are no witness.
fn refused_with(object: Object, part: Part) {
    let mut flash = flash(3);
    let mut buf = [0; 4096];
    match Log::open(With(flash.device(), object), &mut buf, LogOptions::default(), 0).map(drop) {
        Ok(()) if part.is_built() => {}
        Err(OpenError::Drive(Error::Fault(fault))) => assert_eq!(fault, Fault::LeftOut { object, part }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn metadata_are_refused_where_they_are_found_and_where_they_are_asked_for() {
    refused_with(Object::Meta, Part::Metadata);
    let mut flash = flash(3);
    let mut buf = [0; 4096];
    let options = LogOptions { metadata: true, ..LogOptions::default() };
    match Log::open(flash.device(), &mut buf, options, 0).map(drop) {
        Ok(()) if Part::Metadata.is_built() => {}
        Err(OpenError::Options(invalid)) => assert_eq!(invalid, InvalidOptions::LeftOut(Part::Metadata)),
        other => panic!("{other:?}"),
    }
    let blank = Slots::open(&mut Flash::blank(), Flash::layout(), [Slot::default(); 8]).map(drop);
    assert_eq!(blank, Err(OpenSlotsError::Blank), "and what is no log is told as ever");
}

#[test]
fn checkpoints_are_refused_where_they_are_found_and_where_they_are_asked_for() {
    refused_with(Object::Checkpoint(CheckpointId::new(1)), Part::Checkpoints);
    let mut flash = flash(60);
    let mut buf = [0; 4096];
    let mut log = Log::open(flash.device(), &mut buf, LogOptions::default(), 0).unwrap();
    match log.checkpoint(0, |_| 0) {
        Ok(_) => assert!(Part::Checkpoints.is_built()),
        Err(LogError::Drive(Error::Fault(Fault::LeftOut { part, .. }))) => assert_eq!(part, Part::Checkpoints),
        other => panic!("{other:?}"),
    }
    // The log goes on, and gives entries up all the same.
    let kept = log.discard_before(0, Lsn::new(40)).unwrap();
    assert!(kept > Lsn::FIRST);
    log.append(0, &[1; 60][..]).unwrap();
    drop(log);
    assert_eq!(opened(&mut flash).unwrap(), if Part::Checkpoints.is_built() { 62 } else { 61 });
}
