//! The same device with next to nothing in it: with a log that appends and recovers, or without one. The difference is what
//! the log takes.

use firmware::{BUFFER, FLASH};
use semihosting::process;

use crate::flash::FileFlash;

/// A log that appends and recovers.
#[cfg(feature = "recover")]
pub fn run(bytes: &'static mut [u8; FLASH], buf: &mut [u8; BUFFER]) -> ! {
    use duralog::slots::{Medium as _, Nor, Slot, Slots};
    use duralog_core::{Log, LogOptions};
    use firmware::{SLOTS, layout};

    let medium = Nor::new(FileFlash::open(bytes, None, 0), 0, FLASH as u32);
    let layout = layout(medium.info());
    let Ok(device) = Slots::open(medium, layout, [Slot::default(); SLOTS as usize]) else { process::exit(3) };
    let Ok(mut log) = Log::open(device, buf, LogOptions::default(), 0) else { process::exit(4) };
    let payload = [core::hint::black_box(7u8); 40];
    if log.append(0, &payload[..]).is_err() || log.append_batch(0, &[&payload[..], &payload[..20]]).is_err() {
        process::exit(5);
    }
    process::exit(i32::from(log.report().damage > 0))
}

/// No log: the flash alone.
#[cfg(not(feature = "recover"))]
pub fn run(bytes: &'static mut [u8; FLASH], buf: &mut [u8; BUFFER]) -> ! {
    use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

    let mut flash = FileFlash::open(bytes, None, 0);
    let done = flash.read(0, &mut buf[..64]).is_ok()
        && flash.erase(0, firmware::SECTOR as u32).is_ok()
        && flash.write(0, &buf[..64]).is_ok();
    process::exit(i32::from(!done))
}
