//! Logs on a simulated flash chip: lives of a device that end where the power goes.

use core::{
    fmt,
    hash::{Hash, Hasher},
};
use std::{collections::HashSet, hash::DefaultHasher};

use duralog::slots::{
    InvalidLayout, Layout, Medium, Nor, OpenSlotsError, Slot, Slots,
    chip::{Chip, ChipError, Cut, Tear},
};
use duralog_core::{Durability, Each, Entry, Error, Fault, Flow, Log, LogError, LogOptions, Lsn, OpenError};
use uuid::Uuid;

use crate::{
    figures::figure,
    oracle::{Found, Giving, Held, Oracle, Violation, violation},
    workload::Op,
};

/// A constant: there is no clock.
const NOW: u64 = 1_700_000_000_000_000;
const ID: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
/// Slots that a table has room for.
pub const SLOTS_MAX: usize = 16;
const FILL_MAX: usize = 1000;
/// Failures that are told.
const TOLD: usize = 4;

/// A chip, what must be on it, and how it is used.
#[derive(Clone, Debug)]
pub struct Flash<const WRITE: usize, const ERASE: usize> {
    /// The chip.
    pub chip: Chip<WRITE, ERASE>,
    /// What must be on it.
    pub oracle: Oracle,
    /// How it is divided.
    pub layout: Layout,
    /// What an append has reached when it returns.
    pub durability: Durability,
}

/// A log on a chip that is lent.
pub type FlashLog<'a, const WRITE: usize, const ERASE: usize> =
    Log<'a, Slots<Nor<&'a mut Chip<WRITE, ERASE>>, [Slot; SLOTS_MAX]>>;

/// Why a life ended before its time.
#[derive(Debug)]
pub enum Ended {
    /// The power went, or the chip failed.
    Failed(String),
    /// The medium is full.
    Full,
    /// Something is wrong.
    Violation(Violation),
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl<const WRITE: usize, const ERASE: usize> Flash<WRITE, ERASE> {
    /// A new chip of so many slots.
    ///
    /// # Errors
    /// The chip cannot be divided like that.
    pub fn new(slot_size: u32, slots: u16, blank: u8) -> Result<Self, InvalidLayout> {
        let len = slot_size as usize * usize::from(slots);
        let mut chip = Chip::new(len / ERASE, blank);
        let medium = Nor::new(&mut chip, 0, slot_size * u32::from(slots));
        let layout = Layout { blank, ..Layout::new(medium.info(), slot_size) };
        Ok(Self { chip, oracle: Oracle::default(), layout, durability: Durability::Durable })
    }

    fn options(&self) -> LogOptions {
        LogOptions { durability: self.durability, ..LogOptions::default() }
    }

    /// Opens the log, or makes it where none can be; what is recovered is right, and from now on must stay.
    ///
    /// # Errors
    /// It could not be opened, or what was recovered is wrong.
    pub fn open<'a>(
        chip: &'a mut Chip<WRITE, ERASE>,
        buf: &'a mut [u8],
        oracle: &mut Oracle,
        layout: Layout,
        options: LogOptions,
    ) -> Result<FlashLog<'a, WRITE, ERASE>, Ended> {
        let len = layout.slot_size * u32::from(layout.slots);
        let fresh = oracle.next() == 1;
        let tried = Slots::open(Nor::new(&mut *chip, 0, len), layout, [Slot::default(); SLOTS_MAX]).map(drop);
        match tried {
            Ok(()) => {}
            // A formatting that was interrupted is begun again; nothing was ever appended.
            Err(OpenSlotsError::Blank | OpenSlotsError::Unfinished) if fresh => {
                let made = Slots::format(Nor::new(&mut *chip, 0, len), layout, [Slot::default(); SLOTS_MAX]);
                made.map(drop).map_err(|error| Ended::Failed(error.to_string()))?;
            }
            Err(error) if chip.is_off() => return Err(Ended::Failed(error.to_string())),
            Err(error) => return Err(violation!("the slots are refused: {error}").into()),
        }
        let device = Slots::open(Nor::new(&mut *chip, 0, len), layout, [Slot::default(); SLOTS_MAX]);
        let device = device.map_err(|error| Ended::Failed(error.to_string()))?;
        // Whether there is a log yet is found out by a first opening, which lends the device no longer than that.
        let mut device = device;
        let mut trial = vec![0; buf.len()];
        let none = matches!(
            duralog_core::drive(
                duralog_core::Recovery::new(duralog_core::RecoveryOptions::default()),
                &mut device,
                &mut trial[..],
                &mut ()
            ),
            Err(Error::Fault(Fault::NoLog))
        );
        let opened = if none && fresh {
            Log::format(device, buf, options, ID, NOW)
        } else {
            Log::open(device, buf, options, NOW)
        };
        let mut log = opened.map_err(|error| match error {
            OpenError::Drive(Error::Device { .. }) | OpenError::TakeOver(LogError::Drive(Error::Device { .. })) => {
                Ended::Failed(error.to_string())
            }
            error => violation!("the log is refused: {error}").into(),
        })?;
        if log.report().damage > 0 {
            return Err(violation!("damage is reported where there is none: {:?}", log.report()).into());
        }
        let (low_water, last) = (log.report().low_water.value(), log.report().last.value());
        let entries = entries(&mut log)?;
        let counted = Some(counted(&mut log)?);
        oracle.recovered(&Held { entries, counted, low_water, last })?;
        Ok(log)
    }

    /// Does what is asked, life after life, until it is done or the power goes.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn play(&mut self, ops: &[Op]) -> Result<(), Ended> {
        for life in ops.split_inclusive(|op| matches!(op, Op::Close | Op::Leave)) {
            self.live(life).map_err(|ended| match ended {
                Ended::Failed(why) if !self.chip.is_off() => violation!("without a power cut: {why}").into(),
                ended => ended,
            })?;
        }
        match self.chip.violation() {
            Some(violation) => Err(violation!("{violation}").into()),
            None => Ok(()),
        }
    }

    fn live(&mut self, ops: &[Op]) -> Result<(), Ended> {
        let options = self.options();
        let mut buf = vec![0; 2048];
        let oracle = &mut self.oracle;
        let mut log = Self::open(&mut self.chip, &mut buf, oracle, self.layout, options)?;
        for op in ops {
            match *op {
                Op::Open => {}
                Op::Append(len) => append(&mut log, oracle, 1, len)?,
                Op::Batch(count, len) => append(&mut log, oracle, count, len)?,
                Op::Fill(len) => {
                    let before = log.stats().segments;
                    for _ in 0..FILL_MAX {
                        append(&mut log, oracle, 1, len)?;
                        if log.stats().segments > before {
                            break;
                        }
                    }
                }
                Op::Sync => {
                    let lsn = log.sync().map_err(ended)?;
                    oracle.acknowledge(lsn.value())?;
                }
                Op::Checkpoint => {
                    oracle.append_own();
                    let mut left = 300;
                    let made = log.checkpoint(NOW, |buf| {
                        let len = buf.len().min(left);
                        buf[..len].fill(0xA5);
                        left -= len;
                        len
                    });
                    match made {
                        Ok(_) => oracle.acknowledge(oracle.next() - 1)?,
                        Err(error) => {
                            if matches!(error, LogError::Full) {
                                oracle.refused(1);
                            }
                            return Err(ended(error));
                        }
                    }
                }
                Op::Truncate(keep) | Op::Discard(keep) => {
                    let lsn = Lsn::new(oracle.next().saturating_sub(keep).max(1));
                    oracle.give_up(Giving::Before(lsn.value()));
                    let given = match op {
                        Op::Truncate(_) => log.truncate_before(NOW, lsn),
                        _ => log.discard_before(NOW, lsn),
                    };
                    match given {
                        Ok(given) => oracle.gave_up(Giving::Before(given.value()))?,
                        Err(LogError::Full) => return Err(violation!("truncation needs room").into()),
                        Err(error) => return Err(ended(error)),
                    }
                }
                Op::Close => {
                    let last = oracle.next() - 1;
                    log.close(NOW).map_err(ended)?;
                    oracle.acknowledge(last)?;
                    return Ok(());
                }
                Op::Leave => return Ok(()),
                other => unreachable!("{other:?} is nothing that is done to a chip"),
            }
            oracle.acknowledge(log.stats().durable.value())?;
        }
        Ok(())
    }
}

fn append<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>>(
    log: &mut Log<'_, Slots<M, T>>,
    oracle: &mut Oracle,
    count: usize,
    len: usize,
) -> Result<(), Ended> {
    let expected = oracle.next();
    let payloads = oracle.append(count, len);
    let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
    match log.append_batch(NOW, &payloads) {
        Ok(appended) => {
            if appended.first.value() != expected {
                return Err(violation!("{} was given where {expected} comes next", appended.first).into());
            }
            if appended.durability == Durability::Durable {
                oracle.acknowledge(appended.last.value())?;
            }
            Ok(())
        }
        Err(error) => {
            if matches!(error, LogError::Full) {
                oracle.refused(count);
            }
            Err(ended(error))
        }
    }
}

pub(crate) fn ended<E: fmt::Display>(error: LogError<E>) -> Ended {
    match error {
        LogError::Full => Ended::Full,
        error @ (LogError::Drive(Error::Device { .. }) | LogError::Poisoned { .. }) => Ended::Failed(error.to_string()),
        error => violation!("{error}").into(),
    }
}

fn entries<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>>(log: &mut Log<'_, Slots<M, T>>) -> Result<Vec<Found>, Ended> {
    let mut found = vec![];
    let mut each = Each(|entry: Entry<'_>| {
        let (lsn, payload) = (entry.lsn.value(), entry.payload.to_vec());
        found.push(Found { lsn, payload, continues: entry.kind.continues_batch() });
        Flow::Continue
    });
    log.read(Lsn::ZERO, Lsn::MAX, &mut each).map_err(unread)?;
    Ok(found)
}

/// What counts, in the order in which it does.
fn counted<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>>(
    log: &mut Log<'_, Slots<M, T>>,
) -> Result<Vec<(u64, Vec<u8>)>, Ended> {
    let mut counted = vec![];
    let mut each = Each(|entry: Entry<'_>| {
        counted.push((entry.lsn.value(), entry.payload.to_vec()));
        Flow::Continue
    });
    log.replay(Lsn::ZERO, &mut each).map_err(unread)?;
    Ok(counted)
}

pub(crate) fn unread<E: fmt::Display>(error: LogError<E>) -> Ended {
    match error {
        LogError::Drive(Error::Device { .. }) => Ended::Failed(error.to_string()),
        error => violation!("reading: {error}").into(),
    }
}

/// What a search through power cuts went through.
#[derive(Debug, Default)]
pub struct FlashSearch {
    /// Cuts made.
    pub cuts: u64,
    /// Of those, how many left a chip unlike all others.
    pub distinct: u64,
    /// Steps at which a second cut could be made, in each way, after a first one; and of those, how many were.
    pub second: (u64, u64),
    seen: HashSet<u64>,
    failures: Vec<String>,
    failed: u64,
}

/// The ways in which the word, or the erase, of a cut may go.
pub const TEARS: [Tear; 5] = [Tear::Before, Tear::After, Tear::Mix(1), Tear::Mix(0x5EED), Tear::Weak];

impl FlashSearch {
    /// Cuts the power at each word and each erase of `ops`, in every way of `tears`; checks what is recovered, and that the log
    /// goes on with `life`; where there are `again`, cuts that too, at every `stride`th step.
    pub fn search<const WRITE: usize, const ERASE: usize>(
        &mut self,
        name: &str,
        from: &Flash<WRITE, ERASE>,
        ops: &[Op],
        tears: &[Tear],
        stages: &[(&[Op], u64)],
    ) {
        self.cut(name, from, ops, tears, None, stages);
    }

    fn cut<const WRITE: usize, const ERASE: usize>(
        &mut self,
        name: &str,
        from: &Flash<WRITE, ERASE>,
        ops: &[Op],
        tears: &[Tear],
        second: Option<u64>,
        stages: &[(&[Op], u64)],
    ) {
        let stride = second.unwrap_or(1);
        let mut whole = from.clone();
        whole.chip.power_up(None);
        let before = whole.chip.steps();
        if let Err(ended) = whole.play(ops) {
            return self.fail(format!("{name}: without a cut: {ended:?}"));
        }
        let steps = whole.chip.steps() - before;
        if second.is_some() {
            let ways = tears.len() as u64;
            self.second.0 += steps * ways;
            self.second.1 += steps.div_ceil(stride) * ways;
        }
        for (after, tear) in (0..steps)
            .step_by(usize::try_from(stride).unwrap_or(1))
            .flat_map(|after| tears.iter().map(move |tear| (after, *tear)))
        {
            self.cuts += 1;
            let mut flash = from.clone();
            flash.chip.power_up(Some(Cut { after, tear }));
            let played = flash.play(ops);
            let name = format!("{name}, cut at step {after} of {steps} {tear:?}");
            match played {
                Err(Ended::Failed(_)) => {}
                Ok(()) if flash.chip.is_off() => {}
                other => {
                    self.fail(format!("{name}: {other:?}"));
                    continue;
                }
            }
            if let Some(violation @ ChipError::WrittenTwice { .. }) = flash.chip.violation() {
                self.fail(format!("{name}: {violation}"));
                continue;
            }
            flash.chip.power_up(None);
            let mut hasher = DefaultHasher::new();
            (flash.chip.bytes(), &flash.oracle, stages.len()).hash(&mut hasher);
            // A weak word shows in nothing but what becomes of it.
            if tear != Tear::Weak && !self.seen.insert(hasher.finish()) {
                continue;
            }
            self.distinct += 1;
            match stages.split_first() {
                None => {
                    let twice = flash.play(&[Op::Open, Op::Leave, Op::Open, Op::Leave]);
                    if let Err(ended) = twice {
                        self.fail(format!("{name}: recovery: {ended:?}"));
                    }
                }
                Some(((life, stride), rest)) => self.cut(&name, &flash, life, tears, Some(*stride), rest),
            }
        }
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(what);
        }
    }

    /// Ends the search, and tells what it went through.
    ///
    /// # Panics
    /// If anything went wrong: with the first failures.
    pub fn finish(self, name: &str) {
        let Self { cuts, distinct, second: (of, made), .. } = self;
        let sample = if made < of { format!("a sample of the {of}") } else { "all".into() };
        figure(&format!(
            "flash, {name}: {cuts} power cuts, {distinct} chips unlike all others; second cuts: {made}, {sample}"
        ));
        assert!(self.failed == 0, "{name}: {} failures, such as\n{}", self.failed, self.failures.join("\n"));
    }
}
