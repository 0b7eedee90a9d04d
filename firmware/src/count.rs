//! How many instructions the log takes: an emulator that counts time by them runs this, and tells by the system's timer. The
//! flash is memory, so that next to nothing of what is counted is a driver's.

use cortex_m::peripheral::{Peripherals, SYST, syst::SystClkSource};
use duralog::slots::{Medium as _, Nor, Slot, Slots};
use duralog_core::{Log, LogOptions};
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use firmware::{BUFFER, FLASH, LOG, SECTOR, SLOTS, WORD, layout};
use semihosting::{println, process};

/// Bytes of each payload.
const PAYLOAD: usize = 64;
/// Appends that are counted.
const APPENDS: u32 = 100;
/// Instructions of a tick: the timer runs at 25 MHz, and the emulator takes a nanosecond for each instruction.
const PER_TICK: u32 = 40;

/// Memory as flash.
struct MemoryFlash<'a>(&'a mut [u8; FLASH]);

impl ErrorType for MemoryFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for MemoryFlash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH
    }
}

impl NorFlash for MemoryFlash<'_> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        self.0[from as usize..to as usize].fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// What `call` gives, and how many instructions it took, to the tick. The timer counts down, and passes its end once in half
/// a billion instructions.
#[inline(never)]
fn counted<T>(call: impl FnOnce() -> T) -> (T, u32) {
    let before = SYST::get_current();
    let result = call();
    let ticks = before.wrapping_sub(SYST::get_current()) & 0x00FF_FFFF;
    (result, ticks * PER_TICK)
}

/// A log of `entries` entries in one segment, opened again: how many instructions that takes, and the bytes of its groups.
fn opening(bytes: &mut [u8; FLASH], buf: &mut [u8; BUFFER], entries: u32) -> (u32, u32) {
    bytes.fill(0xFF);
    let payload = [0x33; PAYLOAD];
    let table = [Slot::default(); SLOTS as usize];
    let medium = Nor::new(MemoryFlash(bytes), 0, FLASH as u32);
    let layout = layout(medium.info());
    let device = Slots::format(medium, layout, table).unwrap_or_else(|error| panic!("{error}"));
    let mut log = Log::format(device, buf, LogOptions::default(), LOG, 0).unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..entries {
        log.append(0, &payload[..]).unwrap_or_else(|error| panic!("{error}"));
    }
    let stats = log.stats();
    assert_eq!(stats.segments, 1, "they are in one segment");
    // The power goes.
    drop(log);
    let medium = Nor::new(MemoryFlash(bytes), 0, FLASH as u32);
    let device = Slots::open(medium, layout, table).unwrap_or_else(|error| panic!("{error}"));
    let (opened, instructions) = counted(|| Log::open(device, buf, LogOptions::default(), 0));
    let log = opened.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(log.report().last.value(), entries.into(), "all were recovered");
    (instructions, stats.bytes as u32)
}

pub fn run(bytes: &'static mut [u8; FLASH], buf: &mut [u8; BUFFER]) -> ! {
    let mut timer = Peripherals::take().expect("nobody else has the timer").SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(0x00FF_FFFF);
    timer.clear_current();
    timer.enable_counter();

    let (few, few_bytes) = opening(bytes, buf, 2);
    let (many, many_bytes) = opening(bytes, buf, 16);
    println!("count opening {few}");
    println!("count recovery {}", u64::from(many - few) * 1024 / u64::from(many_bytes - few_bytes));

    bytes.fill(0xFF);
    let payload = [0x33; PAYLOAD];
    let medium = Nor::new(MemoryFlash(bytes), 0, FLASH as u32);
    let layout = layout(medium.info());
    let table = [Slot::default(); SLOTS as usize];
    let device = Slots::format(medium, layout, table).unwrap_or_else(|error| panic!("{error}"));
    let mut log = Log::format(device, buf, LogOptions::default(), LOG, 0).unwrap_or_else(|error| panic!("{error}"));
    // Appends into room that is there, and those for which a segment was begun: how many, and their instructions.
    let (mut within, mut beginning) = ((0, 0), (0, 0));
    for _ in 0..APPENDS {
        let segments = log.stats().segments;
        let (appended, instructions) = counted(|| log.append(0, &payload[..]));
        appended.unwrap_or_else(|error| panic!("{error}"));
        let kind = if log.stats().segments == segments { &mut within } else { &mut beginning };
        *kind = (kind.0 + 1, kind.1 + instructions);
    }
    println!("count append {}", within.1 / within.0);
    println!("count beginning {}", beginning.1 / beginning.0);
    process::exit(0)
}
