//! Media without names: slots of flash, of block devices and of streams.
#![allow(missing_docs)]

use duralog::slots::{
    AsyncBlockDevice, AsyncSlots, BlockDevice, Info, Layout, Medium, Nor, OpenSlotsError, SECTOR, Sectors, Slot,
    SlotError, Slots, Stream,
    chip::{Chip, ChipError, Cut, Tear},
};
use duralog_core::{
    AsyncDevice, AsyncLog, CheckpointId, Device, Each, Entry, Error, Fault, Flow, Log, LogError, LogOptions, Lsn,
    Object, SegmentId, TransactionEnd, WriterOptions,
};
use duralog_tests::{
    Ended, Flash, Lazy, Op,
    handle::{Kind, both},
    now, payload,
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(77);
const SLOT: u32 = 2048;
type Small = Chip<8, 1024>;

fn table() -> [Slot; 32] {
    [Slot::default(); 32]
}

fn medium(chip: &mut Small) -> Nor<&mut Small> {
    let len = u32::try_from(chip.bytes().len()).unwrap();
    Nor::new(chip, 0, len)
}

fn layout(chip: &mut Small) -> Layout {
    Layout::new(medium(chip).info(), SLOT)
}

fn entries<D: Device>(log: &mut Log<'_, D>) -> Vec<(u64, Vec<u8>)> {
    let mut found = vec![];
    let mut each = Each(|entry: Entry<'_>| {
        found.push((entry.lsn.value(), entry.payload.to_vec()));
        Flow::Continue
    });
    assert!(log.read(Lsn::ZERO, Lsn::MAX, &mut each).is_ok());
    found
}

/// Appends, rotates, gives up the front, closes; and what is there after that.
fn life<D: Device>(device: &mut D) -> Vec<(u64, Vec<u8>)> {
    let mut buf = [0; 4096];
    let mut log = Log::format(&mut *device, &mut buf, LogOptions::default(), ID, 0).unwrap_or_else(|e| panic!("{e}"));
    for n in 0..60 {
        log.append(0, &payload(n, 50)[..]).unwrap();
    }
    log.discard_before(0, Lsn::new(30)).unwrap();
    log.append_batch(0, &[&payload(60, 9)[..], &payload(61, 9)[..]]).unwrap();
    log.close(0).unwrap();
    let mut log = Log::open(&mut *device, &mut buf, LogOptions::default(), 0).unwrap_or_else(|e| panic!("{e}"));
    assert!(log.report().closed && log.report().damage == 0);
    entries(&mut log)
}

#[test]
fn the_chip_finds_a_word_that_is_written_twice() {
    let mut chip = Small::new(4, 0xFF);
    chip.write(8, &[1; 16]).unwrap();
    assert_eq!(chip.violation(), None);
    assert_eq!(chip.write(16, &[0; 8]), Err(ChipError::WrittenTwice { at: 16 }));
    assert_eq!(chip.violation(), Some(ChipError::WrittenTwice { at: 16 }));
    chip.erase(0, 1024).unwrap();
    chip.write(16, &[0; 8]).unwrap();
}

/// Opens a medium by the device of this kind.
fn open<M: Medium>(kind: Kind, medium: M, layout: Layout) -> Result<(), OpenSlotsError<M::Error>> {
    match kind {
        Kind::Blocking => Slots::open(medium, layout, table()).map(drop),
        Kind::Awaited => now(AsyncSlots::open(&mut Lazy(medium), layout, table())).map(drop),
    }
}

/// Formats a medium by the device of this kind.
fn format<M: Medium>(kind: Kind, medium: M, layout: Layout) -> Result<(), OpenSlotsError<M::Error>> {
    match kind {
        Kind::Blocking => Slots::format(medium, layout, table()).map(drop),
        Kind::Awaited => now(AsyncSlots::format(&mut Lazy(medium), layout, table())).map(drop),
    }
}

/// A chip with a log on it.
fn chip_with_a_log() -> (Small, Layout) {
    let mut chip = Small::new(12, 0xFF);
    let layout = layout(&mut chip);
    let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
    let mut buf = [0; 2048];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap();
    for n in 0..30 {
        log.append(0, &payload(n, 50)[..]).unwrap();
    }
    drop(log);
    (chip, layout)
}

#[test]
fn what_a_medium_holds_is_told_apart_before_anything_is_written() {
    for kind in both() {
        let open = |chip: &mut Small, layout| open(kind, medium(chip), layout);
        let mut chip = Small::new(12, 0xFF);
        let layout = layout(&mut chip);
        assert_eq!(open(&mut chip, layout), Err(OpenSlotsError::Blank));
        let mut foreign = chip.clone();
        foreign.change(|bytes| bytes[5000..5010].fill(0));
        assert_eq!(open(&mut foreign, layout), Err(OpenSlotsError::Foreign));

        let mut formatted = chip.clone();
        format(kind, medium(&mut formatted), layout).unwrap();
        assert_eq!(open(&mut formatted, layout), Ok(()));
        let other = Layout { slot_size: 4096, slots: 3, ..layout };
        let found = OpenSlotsError::OtherLayout { slots: Some(6), slot_size: SLOT, granule: 8, blank: 0xFF };
        assert_eq!(open(&mut formatted, other), Err(found));
        // Formatted again it costs no erase.
        format(kind, medium(&mut formatted), layout).unwrap();
        assert_eq!(formatted.erases().iter().sum::<u32>(), 0);

        let (log, layout) = chip_with_a_log();
        let mut half = log.clone();
        // The labels are gone, the header of a segment is not.
        half.change(|bytes| bytes.chunks_mut(2048).for_each(|slot| slot[..40].fill(0xFF)));
        assert_eq!(open(&mut half, layout), Err(OpenSlotsError::HalfErased));
        let mut open_one = formatted.clone();
        // The mark that ended the formatting.
        open_one.change(|bytes| bytes[32..40].fill(0xFF));
        assert_eq!(open(&mut open_one, layout), Err(OpenSlotsError::Unfinished));
        for refused in [&foreign, &half, &open_one] {
            assert_eq!(refused.violation(), None);
            let mut refused = refused.clone();
            format(kind, medium(&mut refused), layout).unwrap();
            assert_eq!(open(&mut refused, layout), Ok(()));
        }
    }
}

#[test]
fn no_bit_that_rots_in_a_label_takes_a_slot_out_of_the_log() {
    let (chip, layout) = chip_with_a_log();
    let labelled: Vec<_> = (0..usize::from(layout.slots)).filter(|slot| chip.bytes()[slot * 2048] == b'W').collect();
    assert!(labelled.len() > 1, "the log has several segments");
    for (slot, bit) in labelled.into_iter().flat_map(|slot| (0..256).map(move |bit| (slot, bit))) {
        let mut chip = chip.clone();
        chip.change(|bytes| bytes[slot * 2048 + bit / 8] ^= 1 << (bit % 8));
        let mut buf = [0; 2048];
        let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
        let opened = Log::open(device, &mut buf, LogOptions::default(), 0);
        assert!(opened.is_ok(), "slot {slot}, bit {bit}: {:?}", opened.err());
        let mut log = opened.unwrap();
        assert_eq!(log.report().damage, 0, "slot {slot}, bit {bit}");
        assert_eq!(entries(&mut log).len(), 30, "slot {slot}, bit {bit}");
    }
}

#[test]
fn a_log_of_a_newer_version_is_named_and_not_taken_for_remains() {
    for kind in both() {
        let (mut chip, layout) = chip_with_a_log();
        // The checksums are wrong then: nothing is known of how a newer version makes them.
        chip.change(|bytes| bytes.chunks_mut(2048).filter(|slot| slot[0] == b'W').for_each(|slot| slot[4] = 2));
        let newer = open(kind, medium(&mut chip), layout);
        assert_eq!(newer, Err(OpenSlotsError::Newer { version: 2 }));
        assert_eq!(
            newer.unwrap_err().to_string(),
            "the medium was formatted by a newer version, with labels of version 2: use that one"
        );
        // Formatting is told to give up whatever there is.
        format(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(open(kind, medium(&mut chip), layout), Ok(()));
    }
}

#[test]
fn a_log_that_is_opened_from_another_place_is_named_and_not_taken_for_remains() {
    for kind in both() {
        let (mut chip, whole) = chip_with_a_log();
        let layout = Layout { slots: whole.slots - 1, ..whole };
        let moved = open(kind, Nor::new(&mut chip, SLOT, 5 * SLOT), layout);
        assert_eq!(moved, Err(OpenSlotsError::Moved { slot: 4, index: 5 }));
        assert_eq!(
            moved.unwrap_err().to_string(),
            "slot 4 is labelled as slot 5: check where the medium begins, it was formatted from elsewhere"
        );
        assert_eq!(open(kind, medium(&mut chip), whole), Ok(()), "nothing was harmed");
        format(kind, Nor::new(&mut chip, SLOT, 5 * SLOT), layout).unwrap();
        assert_eq!(open(kind, Nor::new(&mut chip, SLOT, 5 * SLOT), layout), Ok(()));
    }
}

/// Formats a chip, cut at every step of this formatting, and of as many later ones as there are `cuts`; how many cuts
/// there were.
fn cut_formattings<const WRITE: usize, const ERASE: usize>(
    kind: Kind,
    chip: &Chip<WRITE, ERASE>,
    layout: Layout,
    tear: Tear,
    cuts: u32,
) -> u32 {
    let mut made = 0;
    let len = u32::try_from(chip.bytes().len()).unwrap();
    for after in 0.. {
        let mut chip = chip.clone();
        chip.power_up((cuts > 0).then_some(Cut { after, tear }));
        let formatted = format(kind, Nor::new(&mut chip, 0, len), layout);
        let is_cut = chip.is_off();
        chip.power_up(None);
        let found = open(kind, Nor::new(&mut chip, 0, len), layout);
        let name = format!("words of {WRITE}, {tear:?} after {after}, {cuts} cuts to come, {kind:?}");
        assert_eq!(chip.violation(), None, "{name}");
        assert_eq!(chip.erases().iter().sum::<u32>(), 0, "{name}");
        if !is_cut {
            assert_eq!((formatted, found), (Ok(()), Ok(())), "{name}");
            break;
        }
        made += 1;
        match found {
            Ok(()) => {}
            Err(OpenSlotsError::Blank | OpenSlotsError::Unfinished) => {
                made += cut_formattings(kind, &chip, layout, tear, cuts - 1);
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    made
}

#[test]
fn a_first_formatting_that_is_interrupted_again_and_again_is_known_for_one_and_erases_nothing() {
    fn all<const WRITE: usize>(slot_size: u32, blank: u8, cuts: u32) -> u32 {
        let chip = Chip::<WRITE, 1024>::new(6 * slot_size as usize / 1024, blank);
        let info = Nor::new(&mut chip.clone(), 0, 6 * slot_size).info();
        let layout = Layout { blank, ..Layout::new(info, slot_size) };
        let tears = [Tear::Before, Tear::After, Tear::Mix(1), Tear::Mix(7), Tear::Weak];
        let each = |kind| tears.map(|tear| cut_formattings(kind, &chip, layout, tear, cuts)).into_iter().sum::<u32>();
        both().map(each).sum()
    }
    let cuts = [
        all::<1>(2048, 0xFF, 2),
        all::<4>(2048, 0x00, 3),
        all::<8>(2048, 0xFF, 4),
        all::<32>(4096, 0x00, 4),
        all::<512>(16384, 0xFF, 4),
    ];
    assert!(cuts.iter().all(|cuts| *cuts > 50), "{cuts:?} power cuts");
}

#[test]
fn a_slot_whose_erasing_was_interrupted_is_erased_again_though_it_reads_blank() {
    for kind in both() {
        let mut torn = Small::new(8, 0xFF);
        let layout = layout(&mut torn);
        torn.change(|bytes| bytes.chunks_mut(SLOT as usize).for_each(|slot| slot[0] = b'W'));
        let cut = |seed| {
            let mut chip = torn.clone();
            chip.power_up(Some(Cut { after: 0, tear: Tear::Mix(seed) }));
            assert!(format(kind, medium(&mut chip), layout).is_err());
            chip.power_up(None);
            chip
        };
        let mut chip = (0..).map(cut).find(|chip| chip.bytes()[0] == 0xFF).unwrap();
        assert_eq!(open(kind, medium(&mut chip), layout), Err(OpenSlotsError::Unfinished));
        assert_eq!((format(kind, medium(&mut chip), layout), chip.violation()), (Ok(()), None));
        assert_eq!(open(kind, medium(&mut chip), layout), Ok(()));
    }
}

#[test]
fn a_medium_that_is_torn_all_over_is_formatted_all_the_same() {
    for kind in both() {
        let mut chip = Small::new(12, 0xFF);
        let layout = layout(&mut chip);
        // So many formattings were interrupted within the label that no slot has a blank head.
        chip.change(|bytes| bytes.chunks_mut(2048).for_each(|slot| slot[..8].copy_from_slice(b"WSLT\x01\x3B\x06\x00")));
        assert_eq!(open(kind, medium(&mut chip), layout), Err(OpenSlotsError::Unfinished));
        format(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(open(kind, medium(&mut chip), layout), Ok(()));
        assert_eq!(chip.violation(), None);
    }
}

#[test]
fn a_device_that_restarts_often_erases_no_more_than_its_bytes_ask_for() {
    const CYCLES: u64 = 1000;
    let mut chip = Small::new(16, 0xFF);
    let layout = layout(&mut chip);
    Slots::format(medium(&mut chip), layout, table()).map(drop).unwrap();
    let mut buf = [0; 2048];
    let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    let log = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap();
    log.close(0).unwrap();
    let (before, mut bytes) = (chip.erases().to_vec(), 0);
    for n in 0..CYCLES {
        let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
        let mut log = Log::open(device, &mut buf, LogOptions::default(), 0).unwrap();
        log.append(0, &payload(n, 40)[..]).unwrap();
        if log.device().free_slots() < 3 {
            log.discard_before(0, log.stats().next).unwrap();
        }
        // The seal is one more write; of the epoch mark the handle tells nothing.
        bytes += log.stats().bytes + 2 * 56;
        log.close(0).unwrap();
    }
    assert_eq!(chip.violation(), None);
    let erased: Vec<u32> = chip.erases().iter().zip(&before).map(|(after, before)| after - before).collect();
    let room = u64::from(layout.room() - 256 - 8 * 112);
    let sectors = u64::from(SLOT / 1024);
    let asked = (bytes.div_ceil(room) + 2) * sectors;
    let total = u64::from(erased.iter().sum::<u32>());
    println!("{CYCLES} cycles, {bytes} bytes, {total} erases of sectors; {asked} would do");
    assert!(total <= asked, "{total} erases for {bytes} bytes, {asked} would do");
    // The ring wears evenly.
    let (least, most) = (erased.iter().min().unwrap(), erased.iter().max().unwrap());
    assert!(most - least <= 1, "{erased:?}");
}

#[test]
fn a_slot_that_cannot_be_erased_is_passed_over() {
    let mut chip = Small::new(40, 0xFF);
    let layout = layout(&mut chip);
    Slots::format(medium(&mut chip), layout, table()).map(drop).unwrap();
    chip.wear_sector(2 * 2048);
    let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    let entries = life(&mut device);
    assert_eq!(entries.last().unwrap().0, 62);
    assert_eq!(chip.erases()[4], 0, "nothing had erased it");
}

/// What wears out the first slots of a chip.
#[derive(Clone, Copy, Debug)]
enum Worn {
    /// It cannot be erased.
    Sector,
    /// The first word, of the label.
    Label,
    /// The last word of the label.
    LabelsEnd,
    /// The word of the mark that ends a formatting.
    Mark,
}

#[test]
fn a_slot_that_turns_out_to_be_worn_does_not_cost_the_log_the_last_free_one() {
    let worn = || {
        let mut chip = Small::new(8, 0xFF);
        let layout = layout(&mut chip);
        let mut device = Slots::format(medium(&mut chip), layout, table()).unwrap();
        for id in 1..3 {
            device.create(segment(id), 1000).unwrap();
        }
        assert_eq!(device.free_slots(), 2);
        chip.wear_sector(3 * SLOT as usize);
        (chip, layout)
    };
    let checkpoint = Object::Checkpoint(CheckpointId::new(1));
    for object in [segment(3), checkpoint] {
        let (mut chip, layout) = worn();
        let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap();
        assert_eq!(device.create(object, 1000), Err(SlotError::Full));
        assert_eq!(device.free_slots(), 1);
        // Who knows that it is the last one takes it.
        assert!(device.create(segment(3), 1000).is_ok());

        let (mut chip, layout) = worn();
        let mut device = now(AsyncSlots::open(Lazy(medium(&mut chip)), layout, table())).unwrap();
        assert_eq!(now(device.create(object, 1000)), Err(SlotError::Full));
        assert_eq!(device.free_slots(), 1);
        assert!(now(device.create(segment(3), 1000)).is_ok());
    }
    // A medium that is gone is none that is full.
    let (mut chip, layout) = worn();
    chip.power_up(Some(Cut { after: 0, tear: Tear::Before }));
    let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    assert_eq!(device.create(segment(3), 1000), Err(SlotError::Medium(ChipError::PowerIsOff)));
}

fn segment(id: u64) -> Object {
    Object::Segment(SegmentId::new(id))
}

/// A device of either kind.
enum Either<M> {
    Blocking(Slots<M, [Slot; 32]>),
    Awaited(AsyncSlots<Lazy<M>, [Slot; 32]>),
}

impl<M: Medium> Either<M> {
    fn open(kind: Kind, medium: M, layout: Layout) -> Result<Self, OpenSlotsError<M::Error>> {
        Ok(match kind {
            Kind::Blocking => Self::Blocking(Slots::open(medium, layout, table())?),
            Kind::Awaited => Self::Awaited(now(AsyncSlots::open(Lazy(medium), layout, table()))?),
        })
    }

    fn create(&mut self, id: u64) -> Result<(), SlotError<M::Error>> {
        match self {
            Self::Blocking(device) => device.create(segment(id), 1000),
            Self::Awaited(device) => now(device.create(segment(id), 1000)),
        }
        .map(drop)
    }

    fn remove(&mut self, id: u64) {
        match self {
            Self::Blocking(device) => device.remove(segment(id)),
            Self::Awaited(device) => now(device.remove(segment(id))),
        }
        .unwrap_or_else(|error| panic!("segment {id} stays: {error:?}"));
    }

    /// How many slots are free, and how many worn.
    fn counts(&self) -> (u32, u32) {
        match self {
            Self::Blocking(device) => (device.free_slots(), device.worn_slots()),
            Self::Awaited(device) => (device.free_slots(), device.worn_slots()),
        }
    }
}

/// A chip of eight slots, of which the second and third hold segments and the two behind them are worn out.
fn chip_with_worn_slots(kind: Kind) -> (Small, Layout) {
    let mut chip = Small::new(16, 0xFF);
    let layout = layout(&mut chip);
    format(kind, medium(&mut chip), layout).unwrap();
    let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
    device.create(1).unwrap();
    device.create(2).unwrap();
    chip.wear_sector(3 * SLOT as usize);
    chip.wear_word(4 * SLOT as usize + 24);
    (chip, layout)
}

#[test]
fn slots_that_are_worn_are_known_for_it_when_the_medium_is_opened_anew() {
    for kind in both() {
        let (mut chip, layout) = chip_with_worn_slots(kind);
        let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(device.counts(), (6, 0), "nobody met them");
        // Each label tells of one.
        device.create(3).unwrap();
        assert_eq!(device.counts(), (3, 2));
        device.create(4).unwrap();
        let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(device.counts(), (2, 2), "the second label told of the other");
        device.create(5).unwrap();
        device.create(6).unwrap();
        device.remove(1);
        device.create(7).unwrap();
        assert_eq!(device.create(8), Err(SlotError::Full));
        assert_eq!(device.counts(), (0, 2));
        for id in [2, 3, 4] {
            device.remove(id);
        }
        device.create(9).unwrap();
        device.create(10).unwrap();
        assert_eq!(device.counts(), (1, 2));
        let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(device.counts(), (1, 2), "the last two labels told of one each");
        device.create(11).unwrap();
        // What is said to be worn is tried where there is nothing else.
        let before = chip.steps();
        let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
        assert_eq!((device.counts(), device.create(12)), ((0, 2), Err(SlotError::Full)));
        assert!(chip.steps() > before, "nothing was tried");
        assert_eq!(chip.violation(), None);
    }
}

#[test]
fn a_slot_that_is_said_to_be_worn_and_is_sound_is_taken_when_its_turn_comes_or_nothing_else_is_left() {
    for (kind, takes_all) in both().flat_map(|kind| [(kind, false), (kind, true)]) {
        let (mut worn, layout) = chip_with_worn_slots(kind);
        let mut device = Either::open(kind, medium(&mut worn), layout).unwrap();
        device.create(3).unwrap();
        device.create(4).unwrap();
        // The same bytes on a chip that has no worn words.
        let mut chip = Small::new(16, 0xFF);
        chip.change(|bytes| bytes.copy_from_slice(worn.bytes()));
        let mut device = Either::open(kind, medium(&mut chip), layout).unwrap();
        assert_eq!(device.counts(), (2, 2));
        if !takes_all {
            // The ring goes round once.
            device.remove(1);
            device.remove(2);
        }
        for id in 5..9 {
            assert_eq!(device.create(id), Ok(()), "segment {id}");
        }
        assert_eq!(device.counts(), if takes_all { (0, 0) } else { (0, 2) });
        if !takes_all {
            device.remove(3);
            assert_eq!(device.create(9), Ok(()));
            assert_eq!(device.create(10), Ok(()));
            assert_eq!(device.counts(), (1, 0));
            let device = Either::open(kind, medium(&mut chip), layout).unwrap();
            assert_eq!(device.counts(), (1, 0), "what was taken is worn no more, whatever older labels say");
        }
        assert_eq!(chip.violation(), None);
    }
}

#[test]
fn a_medium_that_is_opened_with_another_number_of_slots_is_refused_by_name() {
    for kind in both() {
        let (mut chip, layout) = chip_with_a_log();
        for slots in [3, 5] {
            let refused = open(kind, medium(&mut chip), Layout { slots, ..layout });
            assert_eq!(
                refused,
                Err(OpenSlotsError::OtherLayout { slots: Some(6), slot_size: SLOT, granule: 8, blank: 0xFF })
            );
            assert_eq!(
                refused.unwrap_err().to_string(),
                "the medium was formatted with 6 slots of 2048 bytes, a granule of 8 and the blank byte 0xff"
            );
        }
        let mut larger = Small::new(16, 0xFF);
        larger.change(|bytes| bytes[..chip.bytes().len()].copy_from_slice(chip.bytes()));
        let refused = open(kind, medium(&mut larger), Layout { slots: 8, ..layout });
        assert!(matches!(refused, Err(OpenSlotsError::OtherLayout { slots: Some(6), .. })), "{refused:?}");
        // One label of another layout, which a slot that cannot be erased keeps, outweighs no others.
        let label = chip.bytes()[..32].to_vec();
        let mut mixed = Small::new(16, 0xFF);
        format(kind, medium(&mut mixed), Layout { slots: 8, ..layout }).unwrap();
        mixed.change(|bytes| bytes[5 * SLOT as usize..][..32].copy_from_slice(&label));
        assert_eq!(open(kind, medium(&mut mixed), Layout { slots: 8, ..layout }), Ok(()));
    }
}

/// A chip of which the head of a slot cannot be read until it is erased: an error-correcting code does not come out.
struct Unreadable<'a> {
    chip: Nor<&'a mut Small>,
    slot: u32,
}

impl Medium for Unreadable<'_> {
    type Error = ChipError;

    fn info(&self) -> Info {
        self.chip.info()
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), ChipError> {
        if at == self.slot * SLOT {
            return Err(ChipError::PowerIsOff);
        }
        self.chip.read(at, buf)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), ChipError> {
        self.chip.write(at, bytes)
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), ChipError> {
        if from == self.slot * SLOT {
            self.slot = u32::MAX / SLOT;
        }
        self.chip.erase(from, to, blank)
    }

    fn flush(&mut self) -> Result<(), ChipError> {
        self.chip.flush()
    }
}

#[test]
fn a_medium_on_which_a_label_cannot_be_read_is_not_opened_and_formatting_erases_it() {
    for (kind, slot) in both().flat_map(|kind| (0..6).map(move |slot| (kind, slot))) {
        let (mut chip, layout) = chip_with_a_log();
        let mut unreadable = Unreadable { chip: medium(&mut chip), slot };
        assert_eq!(open(kind, &mut unreadable, layout), Err(OpenSlotsError::Medium(ChipError::PowerIsOff)));
        format(kind, &mut unreadable, layout).unwrap();
        assert_eq!(open(kind, unreadable, layout), Ok(()));
        assert_eq!(Slots::open(medium(&mut chip), layout, table()).unwrap().next(None), Ok(None), "slot {slot}");
        assert_eq!(chip.violation(), None);
    }
}

#[test]
fn a_medium_whose_first_slots_are_worn_out_is_formatted_by_the_next_and_goes_round() {
    let worn = [Worn::Sector, Worn::Label, Worn::LabelsEnd, Worn::Mark];
    let cases =
        worn.into_iter().flat_map(|worn| [(worn, 1), (worn, 2)]).flat_map(|case| both().map(move |kind| (case, kind)));
    for ((worn, count), kind) in cases {
        for is_blank in [true, false] {
            let mut chip = Small::new(40, 0xFF);
            let layout = layout(&mut chip);
            if !is_blank {
                chip.change(|bytes| bytes.fill(0x5A));
            }
            for slot in 0..count {
                match worn {
                    Worn::Sector => chip.wear_sector(slot * 2048),
                    Worn::Label => chip.wear_word(slot * 2048),
                    Worn::LabelsEnd => chip.wear_word(slot * 2048 + 24),
                    Worn::Mark => chip.wear_word(slot * 2048 + 32),
                }
            }
            let name = format!("{worn:?} of {count} slots, blank {is_blank}, {kind:?}");
            let fresh = chip.clone();
            format(kind, medium(&mut chip), layout).unwrap_or_else(|error| panic!("{name}: {error}"));
            let steps = chip.steps() - fresh.steps();
            let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap_or_else(|e| panic!("{name}: {e}"));
            for _ in 0..3 {
                let entries = life(&mut device);
                assert_eq!(entries.last().unwrap().0, 62, "{name}");
                device = Slots::format(device.into_medium(), layout, table()).unwrap();
            }
            assert_eq!(chip.violation(), None, "{name}");
            // The last step is the mark. Before it, the label stands in another slot than the first.
            let mut cut = fresh;
            cut.power_up(Some(Cut { after: steps - 1, tear: Tear::Before }));
            assert!(format(kind, medium(&mut cut), layout).is_err(), "{name}");
            cut.power_up(None);
            assert_eq!(open(kind, medium(&mut cut), layout), Err(OpenSlotsError::Unfinished), "{name}");
            format(kind, medium(&mut cut), layout).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(open(kind, medium(&mut cut), layout), Ok(()), "{name}");
        }
    }
}

#[test]
fn a_formatting_that_a_later_slot_tells_of_is_ended_though_the_first_slot_takes_a_label_again() {
    for kind in both() {
        let mut chip = Small::new(12, 0xFF);
        let layout = layout(&mut chip);
        chip.wear_word(0);
        // The worn word is tried; then the second slot gets the four words of the label, and no mark.
        chip.power_up(Some(Cut { after: 5, tear: Tear::Before }));
        assert!(format(kind, medium(&mut chip), layout).is_err());
        let mut healed = Small::new(12, 0xFF);
        healed.change(|bytes| bytes.copy_from_slice(chip.bytes()));
        assert_eq!(healed.bytes()[2048..2052], *b"WSLT");
        assert_eq!(open(kind, medium(&mut healed), layout), Err(OpenSlotsError::Unfinished));
        format(kind, medium(&mut healed), layout).unwrap();
        assert_eq!(open(kind, medium(&mut healed), layout), Ok(()));
    }
}

/// A chip that says of one write, counted from 1, that it failed, and made it all the same. Where marks fail, it does
/// not make the next write if that is one.
struct Doubtful<'a> {
    chip: Nor<&'a mut Small>,
    failing: u32,
    marks_fail: bool,
}

impl Medium for Doubtful<'_> {
    type Error = ChipError;

    fn info(&self) -> Info {
        self.chip.info()
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), ChipError> {
        self.chip.read(at, buf)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), ChipError> {
        self.failing = self.failing.wrapping_sub(1);
        match self.failing {
            0 => self.chip.write(at, bytes).and(Err(ChipError::WornOut { at })),
            u32::MAX if self.marks_fail && at % SLOT == 32 => Err(ChipError::WornOut { at }),
            _ => self.chip.write(at, bytes),
        }
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), ChipError> {
        self.chip.erase(from, to, blank)
    }

    fn flush(&mut self) -> Result<(), ChipError> {
        self.chip.flush()
    }
}

#[test]
fn a_label_whose_writing_failed_and_that_is_there_all_the_same_does_not_count() {
    for (marks_fail, failing) in [false, true].into_iter().flat_map(|fail| (1..60).map(move |n| (fail, n))) {
        let mut chip = Small::new(28, 0xFF);
        let layout = layout(&mut chip);
        let name = format!("write {failing} fails, and the mark behind it {marks_fail}");
        let doubtful = Doubtful { chip: medium(&mut chip), failing, marks_fail };
        let device = Slots::format(doubtful, layout, table()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut buf = [0; 2048];
        let mut acknowledged = 0;
        match Log::format(device, &mut buf, LogOptions::default(), ID, 0) {
            Ok(mut log) => {
                while acknowledged < 60 && log.append(0, &payload(acknowledged, 50)[..]).is_ok() {
                    acknowledged += 1;
                }
            }
            Err(_) => assert!(failing < 20, "{name}"),
        }
        let device = Slots::open(medium(&mut chip), layout, table()).unwrap_or_else(|error| panic!("{name}: {error}"));
        match Log::open(device, &mut buf, LogOptions::default(), 0) {
            Ok(mut log) => {
                assert_eq!(log.report().damage, 0, "{name}");
                let found = entries(&mut log);
                assert!(found.len() as u64 >= acknowledged, "{name}: {} of {acknowledged}", found.len());
                log.append(0, &b"goes on"[..]).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            Err(error) => assert_eq!(acknowledged, 0, "{name}: {error}"),
        }
        assert_eq!(chip.violation(), None, "{name}");
    }
}

#[test]
fn a_label_whose_writing_failed_does_not_come_back_once_its_segment_is_given_up() {
    let segment = Object::Segment(SegmentId::new(1));
    for kind in both() {
        let mut chip = Small::new(12, 0xFF);
        let layout = layout(&mut chip);
        // Behind the two writes of the formatting.
        let doubtful = Doubtful { chip: medium(&mut chip), failing: 3, marks_fail: false };
        let size = u64::from(layout.room());
        match kind {
            Kind::Blocking => {
                let mut device = Slots::format(doubtful, layout, table()).unwrap();
                device.create(segment, size).unwrap();
                device.remove(segment).unwrap();
            }
            Kind::Awaited => now(async {
                let mut device = AsyncSlots::format(Lazy(doubtful), layout, table()).await.unwrap();
                device.create(segment, size).await.unwrap();
                device.remove(segment).await.unwrap();
            }),
        }
        let labels = chip.bytes().chunks(2048).filter(|slot| slot.starts_with(b"WSLT")).count();
        assert_eq!(labels, 3, "of the formatting, the one that failed, and the one in its place");
        let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap();
        assert_eq!(device.next(None), Ok(None));
    }
}

#[test]
fn a_word_that_cannot_be_written_costs_a_segment_and_no_entry() {
    let mut chip = Small::new(12, 0xFF);
    let layout = layout(&mut chip);
    Slots::format(medium(&mut chip), layout, table()).map(drop).unwrap();
    let mut buf = [0; 2048];
    let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    let mut log = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap();
    log.append(0, &payload(1, 40)[..]).unwrap();
    drop(log);
    // Behind the first entry, in the first slot that is taken: the second.
    chip.wear_word(2048 + 64 + 256 + 200);
    let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    let mut log = Log::open(device, &mut buf, LogOptions::default(), 0).unwrap();
    let mut failed = 0;
    for n in 2..6 {
        match log.append(0, &payload(n, 40)[..]) {
            Ok(_) => {}
            Err(LogError::Drive(_)) => failed += 1,
            Err(LogError::Poisoned { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(log);
    let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    let mut log = Log::open(device, &mut buf, LogOptions::default(), 0).unwrap();
    assert_eq!(failed, 1);
    let next = log.stats().next;
    assert_eq!(log.append(0, &b"in a new segment"[..]).unwrap().first, next);
    assert_eq!(entries(&mut log).len() as u64, next.value());
}

/// A chip of which one write, counted from 1, puts down other bits than it was given, and says nothing.
struct Silent<'a> {
    chip: Nor<&'a mut Small>,
    bad: u32,
}

impl Medium for Silent<'_> {
    type Error = <Nor<&'static mut Small> as Medium>::Error;

    fn info(&self) -> Info {
        self.chip.info()
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), Self::Error> {
        self.chip.read(at, buf)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let mut bytes = bytes.to_vec();
        self.bad = self.bad.wrapping_sub(1);
        if self.bad == 0 {
            bytes[3] ^= 0x10;
        }
        self.chip.write(at, &bytes)
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error> {
        self.chip.erase(from, to, blank)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.chip.flush()
    }
}

#[test]
fn what_reads_back_otherwise_than_it_was_written_is_not_acknowledged() {
    let mut refused = 0;
    for bad in 1..40 {
        let mut chip = Small::new(20, 0xFF);
        let layout = layout(&mut chip);
        let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
        let mut buf = [0; 2048];
        drop(Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap());
        let device = Slots::open(Silent { chip: medium(&mut chip), bad }, layout, table()).unwrap();
        let mut acknowledged = 0;
        if let Ok(mut log) = Log::open(device, &mut buf, LogOptions::default(), 0) {
            while acknowledged < 30 && log.append(0, &payload(acknowledged, 50)[..]).is_ok() {
                acknowledged += 1;
            }
        }
        refused += u32::from(acknowledged < 30);
        let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
        let opened = Log::open(device, &mut buf, LogOptions::default(), 0);
        let mut log = opened.unwrap_or_else(|error| panic!("write {bad}: {error}"));
        let found = entries(&mut log);
        assert!(found.len() as u64 >= acknowledged, "write {bad}: {} of {acknowledged} are there", found.len());
        for ((lsn, bytes), number) in found.into_iter().zip(0..) {
            assert_eq!((lsn, bytes), (number + 1, payload(number, 50)), "write {bad}");
        }
    }
    assert!(refused > 20, "{refused} writes were found to be other ones");
}

#[test]
fn a_full_chip_refuses_and_truncation_makes_room_on_the_same_handle() {
    let mut flash = Flash::<8, 1024>::new(SLOT, 5, 0xFF).unwrap();
    let full = flash.play(&[Op::Open, Op::Fill(60), Op::Fill(60), Op::Fill(60), Op::Fill(60), Op::Leave]);
    assert!(matches!(full, Err(Ended::Full)), "{full:?}");
    // Restarted while it is full, it opens every time, and no restart takes the slot that the next one needs.
    for _ in 0..20 {
        // What a take-over copies it packs anew: there may be room for a few entries more.
        let played = flash.play(&[Op::Open, Op::Fill(60), Op::Leave]);
        assert!(matches!(played, Ok(()) | Err(Ended::Full)), "{played:?}");
    }
    flash.play(&[Op::Open, Op::Discard(2), Op::Fill(60), Op::Append(9), Op::Close, Op::Open, Op::Leave]).unwrap();
}

#[test]
fn a_full_chip_opens_after_every_crash() {
    let mut flash = Flash::<8, 1024>::new(SLOT, 5, 0xFF).unwrap();
    assert!(flash.play(&[Op::Open, Op::Fill(60), Op::Fill(60), Op::Fill(60), Op::Fill(60), Op::Leave]).is_err());
    let mut cuts = 0;
    for cut in 0..150 {
        flash.chip.power_up(Some(Cut { after: cut * 7 % 60, tear: Tear::Mix(cut) }));
        match flash.play(&[Op::Open, Op::Append(30), Op::Append(30), Op::Leave]) {
            Ok(()) | Err(Ended::Full) => {}
            Err(Ended::Failed(_)) => cuts += 1,
            Err(Ended::Violation(violation)) => panic!("{cut}: {violation}"),
        }
        flash.chip.power_up(None);
    }
    assert!(cuts > 20, "{cuts} power cuts");
    flash.play(&[Op::Open, Op::Discard(1), Op::Append(9), Op::Fill(60), Op::Close, Op::Open, Op::Leave]).unwrap();
}

/// A chip whose log takes no entry any more, and no mark: that of a truncation finds no room, and the newest segment is replaced.
fn full_chip() -> (Small, Layout) {
    let mut chip = Small::new(8, 0xFF);
    let layout = layout(&mut chip);
    let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
    let mut buf = [0; 2048];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap();
    while log.append(0, &payload(1, 60)[..]).is_ok() {}
    while log.set_slot(0, &[7; 60]).is_ok() {}
    drop(log);
    (chip, layout)
}

/// Opens the log of a chip, and gives up all but the last entry.
fn truncated(chip: &mut Small, layout: Layout) -> Result<Lsn, String> {
    let device = Slots::open(medium(chip), layout, table()).map_err(|error| error.to_string())?;
    let mut buf = [0; 2048];
    let mut log = Log::open(device, &mut buf, LogOptions::default(), 0).map_err(|error| error.to_string())?;
    let last = log.stats().next.previous();
    let kept = log.discard_before(0, last).map_err(|error| error.to_string())?;
    log.append(0, &b"goes on"[..]).map_err(|error| error.to_string())?;
    Ok(kept)
}

#[test]
fn a_full_chip_that_is_truncated_opens_after_every_crash_and_can_be_truncated_again() {
    let mut cuts = 0;
    for after in 0..200 {
        let (mut chip, layout) = full_chip();
        chip.power_up(Some(Cut { after, tear: Tear::Before }));
        cuts += u32::from(truncated(&mut chip, layout).is_err());
        chip.power_up(None);
        let again = truncated(&mut chip, layout);
        assert!(again.is_ok(), "cut after {after} calls: {again:?}");
    }
    assert!(cuts > 20, "{cuts} power cuts");
}

#[test]
fn what_a_stopped_writer_had_replaced_gives_its_room_to_those_who_open_the_chip_next() {
    let (full, layout) = full_chip();
    let mut buf = [0; 2048];
    // The slot's marks take what room there is in the newest segment.
    let opened = |chip: &mut Small, buf: &mut [u8]| {
        let device = Slots::open(medium(chip), layout, table()).map_err(|error| error.to_string())?;
        let mut log = Log::open(device, buf, LogOptions::default(), 0).map_err(|error| error.to_string())?;
        while log.set_slot(0, &[8; 60]).is_ok() {}
        Ok::<_, String>(log.device().free_slots())
    };
    let mut full_ones = 0;
    for after in 0..200 {
        let mut truncated_once = full.clone();
        truncated_once.power_up(Some(Cut { after, tear: Tear::Before }));
        let is_cut = truncated(&mut truncated_once, layout).is_err();
        for again in 0..if is_cut { 60 } else { 0 } {
            let mut chip = truncated_once.clone();
            chip.power_up(Some(Cut { after: again, tear: Tear::Before }));
            let _ = opened(&mut chip, &mut buf);
            chip.power_up(None);
            full_ones +=
                u32::from(Slots::open(medium(&mut chip), layout, table()).is_ok_and(|slots| slots.free_slots() == 0));
            let mut free = opened(&mut chip, &mut buf);
            // Each of them writes an epoch mark more, until another segment has to be begun.
            for _ in 0..60 {
                if free == Ok(0) {
                    chip.power_up(None);
                    free = opened(&mut chip, &mut buf);
                }
            }
            assert!(free.as_ref().is_ok_and(|free| *free > 0), "cuts after {after} and {again} calls: {free:?}");
        }
    }
    assert!(full_ones > 0, "{full_ones} chips without a free slot");
}

/// A chip of four slots: a checkpoint has two of them, and the log has given up all that it holds. What is appended next takes the
/// last slot.
fn given_up_chip(kind: Kind) -> (Chip<16, 1024>, Layout) {
    let mut chip = Chip::<16, 1024>::new(16, 0xFF);
    let layout = Layout::new(Nor::new(&mut chip, 0, 16 << 10).info(), 4096);
    let device = Slots::format(Nor::new(&mut chip, 0, 16 << 10), layout, table()).unwrap();
    let mut log = kind.format(device, LogOptions::default()).unwrap();
    log.append(&[7; 60]).unwrap();
    log.checkpoint(&[8; 5000]).unwrap();
    while log.append(&[7; 60]).is_ok() {}
    let next = log.stats().next;
    assert_eq!(log.discard_before(next).unwrap(), next);
    assert_eq!(log.device().free_slots(), 1);
    drop(log);
    (chip, layout)
}

/// Opens the log of such a chip and appends until it is full, or the power goes; gives what was acknowledged, and how many slots
/// are free then.
fn filled(chip: &mut Chip<16, 1024>, layout: Layout, kind: Kind) -> (Vec<(u64, Vec<u8>)>, u32) {
    let mut buf = [0; 2048];
    let mut appended = vec![];
    let device = Slots::open(Nor::new(chip, 0, 16 << 10), layout, table()).unwrap();
    let Ok(mut log) = kind.open_in(device, &mut buf, LogOptions::default()) else { return (appended, 0) };
    while let Ok(receipt) = log.append(&[9; 60]) {
        appended.push((receipt.last.value(), vec![9; 60]));
    }
    (appended, log.device().free_slots())
}

/// However full it is, all that is there can be given up, and then it takes entries.
fn goes_on(chip: &mut Chip<16, 1024>, layout: Layout, kind: Kind, appended: &[(u64, Vec<u8>)]) -> Result<(), String> {
    let mut buf = [0; 2048];
    let device = Slots::open(Nor::new(chip, 0, 16 << 10), layout, table()).map_err(|error| format!("{error:?}"))?;
    let log = kind.open_in(device, &mut buf, LogOptions::default());
    let mut log = log.map_err(|error| error.to_string())?;
    let found = log.entries();
    let next = log.stats().next;
    let discarded = log.discard_before(next);
    let receipt = log.append(&[9; 60]);
    let is_right = found.starts_with(appended) && matches!(discarded, Ok(kept) if kept == next) && receipt.is_ok();
    if is_right { Ok(()) } else { Err(format!("{found:?} of {appended:?}, {discarded:?}, {receipt:?}")) }
}

#[test]
fn a_chip_whose_log_gave_everything_up_and_took_the_last_slot_goes_on_after_every_crash() {
    for (kind, tear) in both().flat_map(|kind| [Tear::Before, Tear::After, Tear::Mix(7)].map(|tear| (kind, tear))) {
        let (full, layout) = given_up_chip(kind);
        // What is before the segment that took it goes at once: one slot is free again.
        assert_eq!(filled(&mut full.clone(), layout, kind).1, 1);
        let (mut cuts, mut second_cuts) = (0, 0);
        for after in 0.. {
            let mut chip = full.clone();
            chip.power_up(Some(Cut { after, tear }));
            let (appended, _) = filled(&mut chip, layout, kind);
            if !chip.is_off() {
                break;
            }
            cuts += 1;
            chip.power_up(None);
            let free = Slots::open(Nor::new(&mut chip, 0, 16 << 10), layout, table()).unwrap().free_slots();
            let went_on = goes_on(&mut chip.clone(), layout, kind, &appended);
            assert_eq!(went_on, Ok(()), "{tear:?} after {after} steps");
            // Where it was not free again yet, it is after a second crash as well.
            for again in 0..if free == 0 { 60 } else { 0 } {
                let mut chip = chip.clone();
                chip.power_up(Some(Cut { after: again, tear }));
                let (more, _) = filled(&mut chip, layout, kind);
                second_cuts += u32::from(chip.is_off());
                chip.power_up(None);
                let appended = [&appended[..], &more[..]].concat();
                let went_on = goes_on(&mut chip, layout, kind, &appended);
                assert_eq!(went_on, Ok(()), "{tear:?} after {after} steps and {again}");
                assert_eq!(chip.violation(), None, "{tear:?} after {after} steps and {again}");
            }
        }
        assert!(cuts > 150 && second_cuts > 150, "{cuts} power cuts, and {second_cuts} second ones");
    }
}

#[test]
fn a_chip_that_filled_up_within_a_transaction_is_made_room_on_by_giving_all_up() {
    for is_reopened in [false, true] {
        let mut chip = Small::new(16, 0xFF);
        let layout = layout(&mut chip);
        let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
        let mut buf = [0; 2048];
        let mut log = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap();
        let id = log.begin_transaction(0).unwrap();
        log.append_to(0, id, &[&b"never counts"[..]]).unwrap();
        // So much that the newest segment is begun while it is open, and room for its end.
        while log.stats().segments < 5 {
            log.append(0, &payload(1, 60)[..]).unwrap();
        }
        log.end_transaction(0, id, TransactionEnd::Rollback).unwrap();
        while log.append(0, &payload(1, 60)[..]).is_ok() {}
        while log.set_slot(0, &[7; 60]).is_ok() {}
        if is_reopened {
            drop(log);
            let device = Slots::open(medium(&mut chip), layout, table()).unwrap();
            log = Log::open(device, &mut buf, LogOptions::default(), 0).unwrap();
        }
        for round in 0..20 {
            let next = log.stats().next;
            let kept = log.discard_before(0, Lsn::MAX);
            assert!(matches!(kept, Ok(lsn) if lsn == next), "round {round}: {kept:?}");
            let mut appended = 0;
            while log.append(0, &payload(1, 60)[..]).is_ok() {
                appended += 1;
            }
            assert!(appended > 20, "round {round}: {appended} entries, reopened {is_reopened}");
        }
    }
}

#[test]
fn a_checkpoint_takes_as_many_slots_as_it_needs_and_leaves_one() {
    let mut chip = Small::new(16, 0xFF);
    let layout = layout(&mut chip);
    let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
    let mut buf = [0; 1024];
    let mut log =
        Log::format(device, &mut buf, LogOptions { checkpoints_kept: 1, ..LogOptions::default() }, ID, 0).unwrap();
    log.append(0, &b"one"[..]).unwrap();
    let mut snapshot = |len: usize| {
        let mut left = len;
        log.checkpoint(0, |buf| {
            let len = buf.len().min(left);
            buf[..len].fill(9);
            left -= len;
            len
        })
    };
    let first = snapshot(5000).unwrap();
    // The second would take all four slots that are left, of which one is for the next take-over.
    for len in [7000, 9000] {
        assert!(matches!(snapshot(len), Err(LogError::Full)), "{len} bytes");
    }
    assert_eq!(log.device().free_slots(), 4);
    assert_eq!(log.stats().checkpoint.unwrap().0, first);
    drop(log);
    let mut device = Slots::open(medium(&mut chip), layout, table()).unwrap();
    assert_eq!(device.room_of(Object::Checkpoint(first)), 3 * u64::from(layout.room()));
    assert_eq!(device.read(Object::Checkpoint(first), 4500, &mut [0; 8]).unwrap(), 8);
    let mut log = Log::open(device, &mut buf, LogOptions::default(), 0).unwrap();
    assert_eq!(log.load_checkpoint(&mut ()).unwrap(), Some(Lsn::new(1)));
}

#[test]
fn the_least_slot_is_as_large_as_the_readme_of_the_core_says() {
    let readme = include_str!("../../core/README.md");
    for granule in [8, 16, 64, 512, 4096] {
        let info =
            Info { capacity: 1 << 20, write_size: granule, erase_size: granule, is_flash: true, is_settled: true };
        let holds_a_log =
            |slot_size: u32| WriterOptions::new(Layout::new(info, slot_size).geometry()).validate().is_ok();
        let mut sizes = (granule..).step_by(granule as usize).skip_while(|size| !holds_a_log(*size));
        let row = format!("\n| {granule} | {} |\n", sizes.next().unwrap());
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn a_checkpoint_that_the_buffer_has_no_room_for_takes_no_slot() {
    let mut chip = Small::new(16, 0xFF);
    let layout = layout(&mut chip);
    let device = Slots::format(medium(&mut chip), layout, table()).unwrap();
    let mut buf = [0; 2048];
    let device = Log::format(device, &mut buf, LogOptions::default(), ID, 0).unwrap().close(0).unwrap();
    let least = LogOptions::buffer_min(&layout.geometry(), 0);
    let free = device.free_slots();
    let mut short = vec![0; least - 1];
    let mut log = Log::open(device, &mut short, LogOptions::default(), 0).unwrap();
    let refused = log.checkpoint(0, |_| 0).unwrap_err();
    assert!(matches!(refused, LogError::Drive(Error::Fault(Fault::BufferTooSmall { .. }))), "{refused:?}");
    assert_eq!(log.device().free_slots(), free);
    let mut long = vec![0; least];
    let mut log = Log::open(log.into_device(), &mut long, LogOptions::default(), 0).unwrap();
    log.checkpoint(0, |_| 0).unwrap();
}

/// A chip that is read in whole words of `READ` bytes alone.
struct Words<'a, const READ: usize>(&'a mut Small);

impl<const READ: usize> ErrorType for Words<'_, READ> {
    type Error = ChipError;
}

impl<const READ: usize> ReadNorFlash for Words<'_, READ> {
    const READ_SIZE: usize = READ;

    fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), ChipError> {
        let word = READ.max(1);
        assert!((at as usize).is_multiple_of(word) && bytes.len().is_multiple_of(word), "{at}, {} bytes", bytes.len());
        self.0.read(at, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<const READ: usize> NorFlash for Words<'_, READ> {
    const WRITE_SIZE: usize = Small::WRITE_SIZE;
    const ERASE_SIZE: usize = Small::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), ChipError> {
        self.0.erase(from, to)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), ChipError> {
        self.0.write(at, bytes)
    }
}

#[test]
fn a_chip_is_read_in_words_of_whatever_size_its_driver_asks_for() {
    /// What is read of each piece that begins and ends near the edge of a word.
    fn read<const READ: usize>(chip: &mut Small) -> Vec<Vec<u8>> {
        let mut medium = Nor::new(Words::<READ>(chip), 1024, 4096);
        let pieces = (0..70).flat_map(|at| [1, 2, 31, 32, 33, 100].map(|len| (at, vec![0; len])));
        pieces
            .map(|(at, mut buf)| {
                Medium::read(&mut medium, at, &mut buf).unwrap();
                buf
            })
            .collect()
    }
    let mut chip = Small::new(8, 0xFF);
    chip.change(|bytes| bytes.iter_mut().zip(0..).for_each(|(byte, at)| *byte = payload(at, 1)[0]));
    let expected = read::<1>(&mut chip);
    assert_eq!(expected[7], chip.bytes()[1025..1027]);
    assert!(read::<0>(&mut chip) == expected && read::<2>(&mut chip) == expected);
    assert!(read::<3>(&mut chip) == expected && read::<24>(&mut chip) == expected);
    assert!(read::<31>(&mut chip) == expected && read::<32>(&mut chip) == expected);
}

#[test]
fn an_awaited_chip_holds_the_bytes_of_a_blocking_one() {
    let (mut blocking, mut awaited) = (Small::new(16, 0xFF), Small::new(16, 0xFF));
    let layout = layout(&mut blocking);
    let mut device = Slots::format(medium(&mut blocking), layout, table()).unwrap();
    let mut buf = [0; 2048];
    let mut log = Log::format(&mut device, &mut buf, LogOptions::default(), ID, 0).unwrap();
    for n in 0..40 {
        log.append(0, &payload(n, 60)[..]).unwrap();
    }
    log.discard_before(0, Lsn::new(20)).unwrap();
    log.close(0).unwrap();

    let life = async {
        let mut device = AsyncSlots::format(Lazy(medium(&mut awaited)), layout, table()).await.unwrap();
        let mut buf = [0; 2048];
        let mut log = AsyncLog::format(&mut device, &mut buf, LogOptions::default(), ID, 0).await.unwrap();
        for n in 0..40 {
            log.append(0, &payload(n, 60)[..]).await.unwrap();
        }
        log.discard_before(0, Lsn::new(20)).await.unwrap();
        log.close(0).await.unwrap();
    };
    now(life);
    assert!(blocking.bytes() == awaited.bytes());
}

/// A card in memory.
struct Card(Vec<[u8; SECTOR]>);

impl BlockDevice for Card {
    type Error = core::convert::Infallible;

    fn sectors(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), Self::Error> {
        *buf = self.0[sector as usize];
        Ok(())
    }

    fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), Self::Error> {
        self.0[sector as usize] = *bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A card behind a cache: what was not flushed when the power goes is lost, or not, sector by sector.
struct CachedCard {
    card: Card,
    unflushed: Vec<(u32, [u8; SECTOR])>,
    /// Writes and flushes until the power goes.
    left: u64,
}

/// The power is gone.
#[derive(Debug)]
struct Off;

impl CachedCard {
    fn step(&mut self) -> Result<(), Off> {
        self.left = self.left.checked_sub(1).ok_or(Off)?;
        Ok(())
    }

    /// The card with power again; of what was not flushed, these are there.
    fn power_up(&self, is_kept: impl Fn(usize) -> bool) -> Self {
        let mut card = Card(self.card.0.clone());
        for (_, (sector, bytes)) in self.unflushed.iter().enumerate().filter(|(number, _)| is_kept(*number)) {
            card.0[*sector as usize] = *bytes;
        }
        Self { card, unflushed: vec![], left: u64::MAX }
    }
}

impl BlockDevice for &mut CachedCard {
    type Error = Off;

    fn sectors(&self) -> u32 {
        u32::try_from(self.card.0.len()).unwrap()
    }

    fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), Off> {
        let unflushed = self.unflushed.iter().rev().find(|(written, _)| *written == sector);
        *buf = unflushed.map_or(self.card.0[sector as usize], |(_, bytes)| *bytes);
        Ok(())
    }

    fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), Off> {
        self.step()?;
        self.unflushed.push((sector, *bytes));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Off> {
        self.step()?;
        for (sector, bytes) in self.unflushed.drain(..) {
            self.card.0[sector as usize] = bytes;
        }
        Ok(())
    }
}

impl AsyncBlockDevice for &mut CachedCard {
    type Error = Off;

    fn sectors(&self) -> u32 {
        BlockDevice::sectors(self)
    }

    async fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), Off> {
        BlockDevice::read(self, sector, buf)
    }

    async fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), Off> {
        BlockDevice::write(self, sector, bytes)
    }

    async fn flush(&mut self) -> Result<(), Off> {
        BlockDevice::flush(self)
    }
}

#[test]
fn a_card_is_blank_if_all_its_sectors_are_and_then_is_formatted_by_two_writes() {
    let card = |written: usize| {
        let mut card = Card(vec![[0; SECTOR]; 64]);
        // What is before the log's sectors, or behind them, is nothing to it.
        card.0[2] = [7; SECTOR];
        card.0[51] = [7; SECTOR];
        card.0[3 + written / SECTOR][written % SECTOR] = 0xFF;
        // A write and a flush, twice.
        CachedCard { card, unflushed: vec![], left: 4 }
    };
    let layout = Layout::new(Medium::info(&Sectors::new(&mut card(0), 3, 48)), 8192);
    let end = 48 * SECTOR;
    for written in [0, 31, 32, 511, 512, 2048, 2559, 8191, 8192, end - 1] {
        let mut one = card(written);
        let opened = Slots::open(Sectors::new(&mut one, 3, 48), layout, table());
        assert!(matches!(opened, Err(OpenSlotsError::Foreign)), "byte {written}");
        let opened = now(AsyncSlots::open(Sectors::new(&mut one, 3, 48), layout, table()));
        assert!(matches!(opened, Err(OpenSlotsError::Foreign)), "byte {written}");
    }
    let mut blank = card(end);
    assert!(matches!(Slots::open(Sectors::new(&mut blank, 3, 48), layout, table()), Err(OpenSlotsError::Blank)));
    assert!(Slots::format(Sectors::new(&mut blank, 3, 48), layout, table()).is_ok());
    assert_eq!(blank.left, 0);
    let mut blank = card(end);
    assert!(now(AsyncSlots::format(&mut Sectors::new(&mut blank, 3, 48), layout, table())).is_ok());
    assert_eq!(blank.left, 0);
}

#[test]
fn whatever_a_cache_loses_of_a_card_no_slot_that_was_given_up_comes_back_and_no_entry_is_lost() {
    let mut card = CachedCard { card: Card(vec![[0; SECTOR]; 64]), unflushed: vec![], left: u64::MAX };
    let on_card = |card: &CachedCard| Layout::new(Medium::info(&Sectors::new(Card(card.card.0.clone()), 0, 64)), 8192);
    let layout = on_card(&card);
    let mut buf = [0; 8192];
    let device = Slots::format(Sectors::new(&mut card, 0, 64), layout, table()).unwrap();
    Log::format(device, &mut buf, LogOptions::default(), ID, 0).map(drop).unwrap();
    // The ring comes to the slot that told of the formatting.
    let live = |card: &mut CachedCard, buf: &mut [u8], acknowledged: &mut Vec<u64>| {
        let device = Slots::open(Sectors::new(card, 0, 64), layout, table()).map_err(|error| format!("{error:?}"))?;
        let mut log = Log::open(device, buf, LogOptions::default(), 0).map_err(|error| format!("{error:?}"))?;
        let low_water = log.stats().low_water.value();
        let found: Vec<u64> = entries(&mut log).into_iter().map(|(lsn, _)| lsn).collect();
        let lost = acknowledged.iter().find(|lsn| **lsn >= low_water && !found.contains(lsn));
        assert_eq!(lost, None, "{found:?} of {acknowledged:?}");
        for n in 0..40 {
            match log.append(0, &payload(n, 40)[..]) {
                Ok(receipt) => acknowledged.push(receipt.last.value()),
                Err(LogError::Full) => {
                    let last = log.stats().next.previous();
                    log.discard_before(0, last).map_err(|error| format!("{error:?}"))?;
                }
                Err(error) => return Err(format!("{error:?}")),
            }
        }
        Ok(())
    };
    let mut cuts = 0;
    for left in 0.. {
        let mut cut = card.power_up(|_| true);
        cut.left = left;
        let mut acknowledged = vec![];
        if live(&mut cut, &mut buf, &mut acknowledged).is_ok() {
            break;
        }
        cuts += 1;
        let last = cut.unflushed.len().saturating_sub(1);
        let keeps: [&dyn Fn(usize) -> bool; 6] =
            [&|_| false, &|_| true, &|n| n == 0, &|n| n != 0, &|n| n == last, &|n| n % 2 == 1];
        for (number, keep) in keeps.into_iter().enumerate() {
            let lived = live(&mut cut.power_up(keep), &mut buf, &mut acknowledged.clone());
            assert!(lived.is_ok(), "after {left} steps, keeping {number}: {lived:?}");
        }
    }
    assert!(cuts > 200, "{cuts} power cuts");
}

/// A stream in memory, which gives and takes a few bytes at once.
struct Tape {
    bytes: Vec<u8>,
    at: usize,
}

impl embedded_io::ErrorType for Tape {
    type Error = core::convert::Infallible;
}

impl embedded_io::Read for Tape {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let len = buf.len().min(13);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

impl embedded_io::Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        let len = bytes.len().min(7);
        self.bytes[self.at..self.at + len].copy_from_slice(&bytes[..len]);
        self.at += len;
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl embedded_io::Seek for Tape {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> Result<u64, Self::Error> {
        let embedded_io::SeekFrom::Start(at) = to else { unreachable!("sought from the start") };
        self.at = usize::try_from(at).unwrap();
        Ok(at)
    }
}

#[test]
fn cards_and_streams_hold_what_flash_holds() {
    let mut chip = Small::new(40, 0xFF);
    let on_flash = layout(&mut chip);
    let expected = life(&mut Slots::format(medium(&mut chip), on_flash, table()).unwrap());
    // What was there before is no log, and is formatted away.
    let mut card = Sectors::new(Card(vec![[0x5A; SECTOR]; 400]), 3, 360);
    let on_card = Layout::new(Medium::info(&card), 16 * 512);
    assert_eq!(Slots::open(&mut card, on_card, table()).map(drop), Err(OpenSlotsError::Foreign));
    assert_eq!(life(&mut Slots::format(&mut card, on_card, table()).unwrap()), expected);
    Slots::open(&mut card, on_card, table()).map(drop).unwrap();

    let mut tape = Stream::new(Tape { bytes: vec![1; 50_000], at: 0 }, 100, 40_960, 1);
    let on_tape = Layout::new(Medium::info(&tape), 2048);
    assert_eq!(life(&mut Slots::format(&mut tape, on_tape, table()).unwrap()), expected);
}
