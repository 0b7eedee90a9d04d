//! Runs the firmware in the emulator, life after life on one image of its flash, and cuts its power. It keeps what the
//! firmware acknowledged, and looks at the image with the library of the host: nothing of that may be lost, nothing else may
//! come back, and firmware and host find the same. First it does that with an image that no firmware made: a log of the host's
//! file device, whose segments are copied into the slots.
//!
//! ```text
//! firmware-host LIVES TARGET=FILE ...
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use duralog::{
    Config, Log, SyncMode,
    slots::{ImageDevice, Medium as _, Nor, OpenSlotsError, Slot, Slots, chip::Chip},
};
use duralog_core::{
    Device as _, Each, Entry, Error, Fault, Flow, Lsn, Object, Policy, Reader, Recovery, RecoveryOptions, SegmentId,
    drive,
};
use firmware::{FLASH, PAYLOAD_MAX, SECTOR, SLOTS, WORD, layout, parse, payload, print};

/// Seconds after which a life hangs.
const LIFETIME: &str = "60";
/// The exit status of a power cut.
const POWER_CUT: i32 = 2;
/// Entries of the log that the host makes: some segments of them. Of a life that no firmware has.
const MADE: u32 = 50;
const HOST: u32 = u32::MAX;
/// So many lives on it.
const LIVES_ON_IT: u32 = 12;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let lives: u32 = arguments.next().and_then(|lives| lives.parse().ok()).unwrap_or(100);
    let (mut cuts, mut failed) = (0, false);
    for board in arguments {
        let Some((target, program)) = board.split_once('=') else {
            eprintln!("`{board}` is not TARGET=FILE");
            return ExitCode::FAILURE;
        };
        let blank = || Board::new(target, program, &[0xFF; FLASH])?.live(lives);
        let made = || Board::new(target, program, &made_on_the_host()?)?.expecting_the_host()?.live(LIVES_ON_IT);
        for (what, done) in [("a log of files, copied", made()), ("its own log", blank())] {
            match done {
                Ok(done) => {
                    println!("{target}, {what}: {done}");
                    cuts += done.cuts;
                }
                Err(why) => {
                    println!("{target}, {what}: {why}");
                    failed = true;
                }
            }
        }
    }
    println!("{cuts} power cuts in the emulator");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// An emulated board with its flash.
struct Board {
    target: String,
    program: PathBuf,
    folder: PathBuf,
    model: Model,
    /// The report that the next life must give, if there is a log.
    expected: Option<String>,
    done: Done,
}

/// What was done on a board.
#[derive(Default)]
struct Done {
    lives: u32,
    cuts: u32,
    in_erase: u32,
    acknowledged: u64,
    stack: u64,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lives, cuts, in_erase, acknowledged, stack } = self;
        write!(
            f,
            "{lives} lives, {cuts} ended by a power cut, {in_erase} of these in an erase; {acknowledged} entries \
             acknowledged; recovery took {stack} bytes of stack at most"
        )
    }
}

/// What the firmware was seen to do.
#[derive(Default)]
struct Model {
    /// Entries that must be there, by LSN: life and number.
    kept: BTreeMap<u64, (u32, u32)>,
    /// All that was ever begun to be appended, and the partner of each that was appended in a batch.
    appended: BTreeMap<(u32, u32), Option<(u32, u32)>>,
    low_water: u64,
}

/// What the library of the host finds in an image.
struct Found {
    report: String,
    low_water: u64,
    entries: BTreeMap<u64, (u32, u32)>,
}

impl Board {
    fn new(target: &str, program: &str, image: &[u8]) -> Result<Self, String> {
        let folder = env::temp_dir().join(format!("duralog-firmware-{}-{target}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        fs::write(folder.join("flash.bin"), image).map_err(|error| error.to_string())?;
        let program = PathBuf::from(program);
        let (model, done) = (Model::default(), Done::default());
        Ok(Self { target: target.into(), program, folder, model, expected: None, done })
    }

    /// The image holds what the host appended, all of it, and the first life must find that.
    fn expecting_the_host(mut self) -> Result<Self, String> {
        let found = find(&self.image()?)?.ok_or("the host finds no log in its own image")?;
        let appended: BTreeMap<_, _> = (0..MADE).map(|number| (u64::from(number) + 1, (HOST, number))).collect();
        if found.entries != appended {
            return Err(format!("of {MADE} entries the host finds {} in its own image", found.entries.len()));
        }
        self.model.appended = appended.values().map(|entry| (*entry, None)).collect();
        self.model.kept = appended;
        self.expected = Some(found.report);
        Ok(self)
    }

    /// Lives so many lives: most end by a power cut, each at another step.
    fn live(mut self, lives: u32) -> Result<Done, String> {
        let mut steps = 200;
        for number in 0..lives {
            // Every tenth life goes to its end and says how long it was.
            let cut = (number % 10 != 0).then(|| number.wrapping_mul(0x9E37_79B9) % steps);
            let seed = number.wrapping_mul(0x85EB_CA6B);
            let (status, output) = self.run(number, seed, cut)?;
            let told = || format!("life {number}, cut at {cut:?}, exit status {status:?}\n{output}");
            match status {
                Some(0) => {}
                Some(POWER_CUT) if cut.is_some() => {
                    self.done.cuts += 1;
                    self.done.in_erase += u32::from(output.contains("power cut in an erase"));
                }
                Some(124) => return Err(format!("the firmware hangs: {}", told())),
                _ => return Err(format!("the firmware failed: {}", told())),
            }
            self.model
                .read(number, &output, &mut steps, &mut self.done, self.expected.as_deref())
                .map_err(|why| format!("{why}: {}", told()))?;
            let found = find(&self.image()?).map_err(|why| format!("{why}: {}", told()))?;
            if let Some(found) = &found {
                self.model.check(found).map_err(|why| format!("{why}: {}", told()))?;
            } else if !self.model.kept.is_empty() {
                return Err(format!("the log is gone: {}", told()));
            }
            self.expected = found.map(|found| found.report);
            self.done.lives += 1;
        }
        let _ = fs::remove_dir_all(&self.folder);
        Ok(self.done)
    }

    fn image(&self) -> Result<Vec<u8>, String> {
        fs::read(self.folder.join("flash.bin")).map_err(|error| error.to_string())
    }

    fn run(&self, life: u32, seed: u32, cut: Option<u32>) -> Result<(Option<i32>, String), String> {
        let (emulator, machine) = match self.target.as_str() {
            "thumbv7m-none-eabi" => ("qemu-system-arm", "-cpu cortex-m3 -machine mps2-an385"),
            "thumbv7em-none-eabihf" => ("qemu-system-arm", "-cpu cortex-m4 -machine mps2-an386"),
            "riscv32imc-unknown-none-elf" => ("qemu-system-riscv32", "-machine virt -bios none"),
            other => return Err(format!("no board for {other}")),
        };
        let mut semihosting = format!("enable=on,target=native,arg=firmware,arg={life},arg=12,arg={seed}");
        if let Some(cut) = cut {
            semihosting += &format!(",arg={cut}");
            // Every third cut goes for an erase, which are rare among the words.
            if life.is_multiple_of(3) {
                semihosting += &format!(",arg={}", cut % 5);
            }
        }
        let output = Command::new("timeout")
            .args([LIFETIME, emulator])
            .args(machine.split(' '))
            .args(["-nographic", "-monitor", "none", "-semihosting-config", &semihosting, "-kernel"])
            .arg(&self.program)
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| format!("{emulator}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), text))
    }
}

impl Model {
    /// Takes in what a life printed.
    fn read(
        &mut self,
        life: u32,
        output: &str,
        steps: &mut u32,
        done: &mut Done,
        expected: Option<&str>,
    ) -> Result<(), String> {
        let mut begun = Vec::new();
        for line in output.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let numbers: Vec<u64> = rest.split(' ').filter_map(|number| number.parse().ok()).collect();
            match (word, &numbers[..]) {
                ("report", _) if expected.is_some_and(|expected| expected != rest) => {
                    return Err(format!("the host found\n{}\nand the firmware", expected.unwrap_or_default()));
                }
                ("append", [number]) => {
                    let number = u32::try_from(*number).map_err(|error| error.to_string())?;
                    let (one, two) = ((life, number), (life, number + 1));
                    let both = number % 3 == 2;
                    begun = if both { vec![one, two] } else { vec![one] };
                    for (entry, partner) in [(one, two), (two, one)].into_iter().take(begun.len()) {
                        self.appended.insert(entry, both.then_some(partner));
                    }
                }
                ("acknowledged", [first, last]) => {
                    if last - first + 1 != begun.len() as u64 {
                        return Err("another number of entries was acknowledged than was appended".into());
                    }
                    self.kept.extend((*first..=*last).zip(begun.drain(..)));
                    done.acknowledged += last - first + 1;
                }
                ("kept", [lsn]) => {
                    self.low_water = self.low_water.max(*lsn);
                    self.kept = self.kept.split_off(lsn);
                }
                ("steps", [count]) => *steps = u32::try_from(*count).unwrap_or(*steps).max(1),
                ("stack", [bytes]) => done.stack = done.stack.max(*bytes),
                _ => {}
            }
        }
        Ok(())
    }

    /// Holds what was found against what must be there; from now on that is to stay.
    fn check(&mut self, found: &Found) -> Result<(), String> {
        // A truncation that was under way may have been done.
        let low_water = found.low_water;
        if low_water < self.low_water {
            return Err(format!("the low-water mark is {low_water}, and was {}", self.low_water));
        }
        for (lsn, entry) in self.kept.range(low_water..) {
            if found.entries.get(lsn) != Some(entry) {
                return Err(format!("LSN {lsn} was acknowledged as {entry:?}, and is {:?}", found.entries.get(lsn)));
            }
        }
        let there: BTreeSet<_> = found.entries.values().collect();
        for (lsn, entry) in &found.entries {
            let partner = self.appended.get(entry).ok_or_else(|| format!("LSN {lsn} was never appended"))?;
            if partner.is_some_and(|partner| !there.contains(&partner)) && *lsn > low_water {
                return Err(format!("LSN {lsn} is half of a batch"));
            }
        }
        if there.len() != found.entries.len() {
            return Err("an entry is there twice".into());
        }
        self.low_water = low_water;
        self.kept = found.entries.clone();
        Ok(())
    }
}

/// An image of the flash with a log of the file device: its segments, copied slot by slot.
fn made_on_the_host() -> Result<Vec<u8>, String> {
    let told = |error: &dyn std::fmt::Display| format!("the host cannot make an image: {error}");
    let folder = env::temp_dir().join(format!("duralog-firmware-{}-files", std::process::id()));
    let flash = Chip::<WORD, SECTOR>::new(FLASH / SECTOR, 0xFF);
    let medium = Nor::new(flash, 0, u32::try_from(FLASH).map_err(|error| told(&error))?);
    let layout = layout(medium.info());
    let config = Config::new(&folder).with_segment_size(layout.room()).with_sync_mode(SyncMode::Immediate);
    let log = Log::open(config).map_err(|error| told(&error))?;
    for number in 0..MADE {
        log.append(payload(HOST, number, &mut [0; PAYLOAD_MAX])).map_err(|error| told(&error))?;
    }
    log.close().map_err(|error| told(&error))?;
    let mut slots = Slots::format(medium, layout, [Slot::default(); SLOTS as usize]).map_err(|error| told(&error))?;
    for id in 1.. {
        let object = Object::Segment(SegmentId::new(id));
        let Ok(mut bytes) = fs::read(folder.join(object.to_string())) else { break };
        bytes.resize(bytes.len().next_multiple_of(WORD), 0);
        slots.create(object, layout.room().into()).map_err(|error| told(&error))?;
        slots.write(object, 0, &bytes).map_err(|error| told(&error))?;
    }
    let _ = fs::remove_dir_all(&folder);
    Ok(slots.medium().flash().bytes().to_vec())
}

/// What the library of the host finds; `None` where there is no log yet.
fn find(image: &[u8]) -> Result<Option<Found>, String> {
    let mut device = match ImageDevice::of_image(image) {
        Ok(device) => device,
        Err(OpenSlotsError::Medium(_) | OpenSlotsError::Unfinished) => return Ok(None),
        Err(error) => return Err(format!("the host cannot open the image: {error}")),
    };
    let mut buf = vec![0; 1 << 16];
    let recovered = match drive(Recovery::new(RecoveryOptions::default()), &mut device, &mut buf, &mut ()) {
        Ok(recovered) => recovered,
        Err(Error::Fault(Fault::NoLog)) => return Ok(None),
        Err(error) => return Err(format!("the host does not recover: {error}")),
    };
    if recovered.report.damage > 0 {
        return Err(format!("the host finds damage: {:?}", recovered.report.first_damage));
    }
    let mut report = String::new();
    print(&recovered.report, &mut report).map_err(|error| error.to_string())?;
    let (mut entries, mut foreign) = (BTreeMap::new(), None);
    let mut each = Each(|entry: Entry<'_>| {
        match parse(entry.payload) {
            Some(payload) => drop(entries.insert(entry.lsn.value(), payload)),
            None => foreign = Some(entry.lsn),
        }
        Flow::Continue
    });
    let low_water = recovered.report.low_water;
    let reader = Reader::new(recovered.view, low_water, Lsn::MAX, Policy::Default);
    drive(reader, &mut device, &mut buf, &mut each).map_err(|error| format!("the host cannot read: {error}"))?;
    match foreign {
        Some(lsn) => Err(format!("{lsn} holds bytes that were never appended")),
        None => Ok(Some(Found { report, low_water: low_water.value(), entries })),
    }
}
