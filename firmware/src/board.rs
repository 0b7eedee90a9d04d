//! What the device does: it opens its log, looks at what it holds, and appends.

use core::fmt::Write as _;

use duralog::slots::{Medium as _, Nor, OpenSlotsError, Slot, Slots};
use duralog_core::{Durability, Each, Entry, Error, Fault, Flow, Log, LogOptions, LogPlace, Lsn, OpenError};
use firmware::{BUFFER, FLASH, LOG, PAYLOAD_MAX, SLOTS, layout, parse, payload, print};
use semihosting::{experimental::env, io, println, process};

use crate::{
    flash::{Cut, FileFlash},
    stack,
};

/// The medium and the device are borrowed wherever they are used, so that there is one copy of the code for each.
type Medium<'a> = &'a mut Nor<FileFlash>;
type Device<'a> = Slots<Medium<'a>, [Slot; SLOTS as usize]>;

/// There is no clock.
const NOW: u64 = 0;

/// What the host tells this life.
struct Life {
    number: u32,
    appends: u32,
    cut: Option<Cut>,
    seed: u32,
}

impl Life {
    fn told() -> Self {
        let arguments = env::args::<128>().expect("there is a command line");
        let mut numbers = arguments.skip(1).map(|word| word.ok().and_then(|word| word.parse().ok()));
        let mut next = || numbers.next().flatten();
        let (number, appends) = (next().unwrap_or(0), next().unwrap_or(10));
        let seed = next().unwrap_or(0);
        let (step, erase) = (next(), next());
        Self { number, appends, seed, cut: erase.map(Cut::Erase).or(step.map(Cut::Step)) }
    }
}

/// The log's flash as it is found, or formatted where no log ever was: where it is blank, or a formatting of it was
/// interrupted. Whatever else is no log may be what is left of one, or a log that this program does not know how to
/// open: the error tells whoever looks after the device, and only they can give it up.
///
/// Whatever is done once has a frame of its own: inlined into the one that lives as long as the device does, it would take
/// stack for ever.
#[inline(never)]
fn device(medium: Medium<'_>) -> Device<'_> {
    let layout = layout(medium.info());
    let found = Slots::open(&mut *medium, layout, [Slot::default(); SLOTS as usize]).map(drop);
    let opened = match found {
        Ok(()) => Slots::open(medium, layout, [Slot::default(); SLOTS as usize]),
        Err(OpenSlotsError::Blank | OpenSlotsError::Unfinished) => {
            println!("formatting");
            Slots::format(medium, layout, [Slot::default(); SLOTS as usize])
        }
        Err(error) => panic!("{error}"),
    };
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// Opens the log once to tell what is found, and how much stack that takes; whether there is one.
#[inline(never)]
fn look(device: &mut Device<'_>, buf: &mut [u8], options: LogOptions) -> bool {
    let mut line = io::stdout().expect("there is a terminal");
    let (is_log, depth) = stack::measured(|| match LogPlace::new(device, buf, options).open(NOW) {
        // It took the log over.
        Ok(log) => {
            let _ = write!(Text(&mut line), "report ").and_then(|()| print(log.report(), &mut Text(&mut line)));
            true
        }
        Err(OpenError::Drive(Error::Fault(Fault::NoLog))) => false,
        Err(error) => panic!("{error}"),
    });
    println!("\nstack {depth}");
    is_log
}

#[inline(never)]
fn open<'o, 'a, 'm>(
    place: &'o mut LogPlace<'a, &'a mut Device<'m>>,
    is_log: bool,
) -> &'o mut Log<'a, &'a mut Device<'m>> {
    let opened = if is_log { place.open(NOW) } else { place.format(LOG, NOW) };
    opened.unwrap_or_else(|error| panic!("{error}"))
}

pub fn run(bytes: &'static mut [u8; FLASH], buf: &mut [u8; BUFFER]) -> ! {
    let life = Life::told();
    let mut medium = Nor::new(FileFlash::open(bytes, life.cut, life.seed), 0, FLASH as u32);
    let mut device = device(&mut medium);
    let options = LogOptions { durability: Durability::Durable, ..LogOptions::default() };
    let is_log = look(&mut device, buf, options);
    // The log is opened where it stays.
    let mut place = LogPlace::new(&mut device, buf, options);
    let log = open(&mut place, is_log);

    // What the log holds: here one would build the state up again.
    let mut entries = 0u32;
    let mut each = Each(|entry: Entry<'_>| {
        assert!(parse(entry.payload).is_some(), "{} holds other bytes than were appended", entry.lsn);
        entries += 1;
        Flow::Continue
    });
    if let Err(error) = log.read(Lsn::ZERO, Lsn::MAX, &mut each) {
        panic!("{error}");
    }
    println!("entries {entries}");

    let mut number = 0;
    while number < life.appends {
        let (mut one, mut two) = ([0; PAYLOAD_MAX], [0; PAYLOAD_MAX]);
        // Every third time two at once.
        let one = payload(life.number, number, &mut one);
        let two = payload(life.number, number + 1, &mut two);
        let both = number % 3 == 2;
        println!("append {number}");
        let appended = if both { log.append_batch(NOW, &[one, two]) } else { log.append(NOW, one) };
        match appended {
            Ok(appended) => println!("acknowledged {} {}", appended.first.value(), appended.last.value()),
            Err(error) => panic!("{error}"),
        }
        number += if both { 2 } else { 1 };
        // A ring: the last sixty entries are kept, or fewer where short lives left their segments half empty.
        let mut keep = 60;
        while log.device().free_slots() < 3 && keep > 0 {
            let from = Lsn::new(log.stats().next.value().saturating_sub(keep).max(1));
            println!("giving up {}", from.value());
            let kept = log.discard_before(NOW, from).unwrap_or_else(|error| panic!("{error}"));
            println!("kept {}", kept.value());
            keep /= 2;
        }
    }
    // Most devices are never closed.
    if life.number % 2 == 0 {
        place.close(NOW).unwrap_or_else(|error| panic!("{error}"));
    }
    println!("steps {}", place.device().medium().flash().steps);
    process::exit(0)
}

/// Text for a stream of bytes.
struct Text<'a, W>(&'a mut W);

impl<W: io::Write> core::fmt::Write for Text<'_, W> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}
