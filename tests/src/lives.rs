//! Random lives of a log on one medium divided into slots, by the handles of the core.
//!
//! ```text
//! seed ──► medium, layout, durability ──► life: open, append, checkpoint, ... ──► power cut, or not ──► life ...
//!                                          └── what is found is held against the model: entries, checkpoint, slot
//! ```

use core::fmt;

use duralog::{
    faulty::Random,
    slots::{
        AsyncSlots, Info, Layout, Medium, Nor, OpenSlotsError, Sectors, Slot, Slots, Stream,
        chip::{Chip, Cut, Tear},
    },
};
use duralog_core::{
    AsyncDevice, AsyncLog, Device, Durability, Each, Entry, Error, Fault, Flow, Host, Log, LogError, LogOptions, Lsn,
    OpenError, TransactionEnd, checkpoint::Section,
};

use crate::{
    awaited::{Lazy, now},
    card::{Card, Torn},
    flash::{Ended, SLOTS_MAX, ended, unread},
    handle::{Handle, ID, Kind, NOW},
    oracle::{Found, Giving, Held, Oracle, Violation, payload, violation},
    swarm::Tally,
};

/// Lives of one medium, at most.
const LIVES: u64 = 14;
/// Things done in one life, at most.
const OPS: u64 = 40;
/// The longest payload.
const LONG: usize = 60;
/// Openings that fail one after the other on a medium with worn slots, at most: as many as slots, and one more.
const FAILED_MAX: u32 = 9;
/// Slots that a log goes on in however many others are worn out.
const SOUND: usize = 5;

fn table() -> [Slot; SLOTS_MAX] {
    [Slot::default(); SLOTS_MAX]
}

/// Whether a medium holds a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// None was ever open on it.
    NoLog,
    /// One was.
    Log,
}

/// A simulated medium whose power goes.
trait Simulated {
    type Medium<'a>: Medium<Error: fmt::Debug>
    where
        Self: 'a;

    /// As a log uses it.
    fn medium(&mut self) -> Self::Medium<'_>;

    /// It has power again, until it has done so much. By what it holds, torn writes may turn to noise.
    fn power_up(&mut self, cut: Option<u64>, holds: Holds, random: &mut Random);

    fn is_off(&self) -> bool;

    /// What stands at this byte takes no writing any more, or no erase.
    fn wear(&mut self, at: usize, random: &mut Random);

    /// What a real one would not bear.
    fn violation(&self) -> Option<String>;
}

impl<const WRITE: usize, const ERASE: usize> Simulated for Chip<WRITE, ERASE> {
    type Medium<'a> = Nor<&'a mut Self>;

    fn medium(&mut self) -> Self::Medium<'_> {
        let len = u32::try_from(self.bytes().len()).expect("a chip in memory is small");
        Nor::new(self, 0, len)
    }

    fn power_up(&mut self, cut: Option<u64>, _: Holds, random: &mut Random) {
        let tear = match random.below(6) {
            0 => Tear::Before,
            1 => Tear::After,
            2 => Tear::Weak,
            _ => Tear::Mix(random.next()),
        };
        Self::power_up(self, cut.map(|after| Cut { after, tear }));
    }

    fn is_off(&self) -> bool {
        self.is_off()
    }

    fn wear(&mut self, at: usize, random: &mut Random) {
        if random.once_in(2) { self.wear_word(at) } else { self.wear_sector(at) }
    }

    fn violation(&self) -> Option<String> {
        self.violation().map(|violation| violation.to_string())
    }
}

/// A card that is a block device.
struct Blocks(Card);
/// A card that is a stream.
struct Bytes {
    card: Card,
    len: u32,
    granule: u32,
}

impl Simulated for Blocks {
    type Medium<'a> = Sectors<&'a mut Card>;

    fn medium(&mut self) -> Self::Medium<'_> {
        Sectors::new(&mut self.0, 0, u32::MAX)
    }

    fn power_up(&mut self, cut: Option<u64>, holds: Holds, random: &mut Random) {
        // A first label, or a first header, that turned to noise is one of anything: such a medium is formatted by hand.
        let torn = if holds == Holds::Log { Torn::Noise } else { Torn::Mixed };
        power_up(&mut self.0, cut, torn, random);
    }

    fn is_off(&self) -> bool {
        self.0.is_off()
    }

    fn wear(&mut self, at: usize, _: &mut Random) {
        self.0.wear(at);
    }

    fn violation(&self) -> Option<String> {
        None
    }
}

impl Simulated for Bytes {
    type Medium<'a> = Stream<&'a mut Card>;

    fn medium(&mut self) -> Self::Medium<'_> {
        Stream::new(&mut self.card, 0, self.len, self.granule)
    }

    fn power_up(&mut self, cut: Option<u64>, _: Holds, random: &mut Random) {
        power_up(&mut self.card, cut, Torn::Mixed, random);
    }

    fn is_off(&self) -> bool {
        self.card.is_off()
    }

    fn wear(&mut self, at: usize, _: &mut Random) {
        self.card.wear(at);
    }

    fn violation(&self) -> Option<String> {
        None
    }
}

/// A program that ends leaves its card with power.
fn power_up(card: &mut Card, cut: Option<u64>, torn: Torn, random: &mut Random) {
    card.settle();
    card.power_up(cut, torn, random.next());
}

/// Plays the lives that a seed says.
///
/// # Errors
/// What went wrong.
pub(crate) fn run(seed: u64, tally: &mut Tally, story: Option<&mut Vec<String>>) -> Result<(), Violation> {
    tally.seeds += 1;
    let mut random = Random::new(seed);
    let which = random.below(8);
    let slots = 4 + random.index(5);
    let (has_cache, blank) = (random.once_in(2), random.pick(&[0, 0xFF]));
    let durability = random.pick(&[Durability::Durable, Durability::Durable, Durability::Buffered]);
    let options = LogOptions { durability, checkpoints_kept: random.pick(&[1, 2]), ..LogOptions::default() };
    let of_sectors = |slot: usize, sector: usize| Card::new(slots * slot / sector, sector, has_cache);
    let stream = |slot: usize, granule: usize| {
        let number = |number: usize| u32::try_from(number).expect("a card in memory is small");
        Bytes { card: of_sectors(slot, granule), len: number(slot * slots), granule: number(granule) }
    };
    let lives = Lives {
        random,
        tally,
        story,
        options,
        oracle: Oracle::default(),
        is_formatted: false,
        is_begun: false,
        worn: Vec::new(),
        lost_last: false,
        is_stuck: false,
        checkpoint: None,
        begun: Vec::new(),
        discarded: 0,
        slot: Vec::new(),
        next_slot: None,
        transaction: None,
    };
    match which {
        0 => lives.on(Chip::<1, 512>::new(slots * 4, blank), 2048, blank),
        1 => lives.on(Chip::<4, 1024>::new(slots * 2, blank), 2048, blank),
        2 => lives.on(Chip::<16, 1024>::new(slots * 2, blank), 2048, blank),
        3 => lives.on(Chip::<16, 4096>::new(slots, blank), 4096, blank),
        4 | 5 => lives.on(Blocks(of_sectors(8192, 512)), 8192, 0),
        6 => lives.on(stream(2048, 1), 2048, 0),
        _ => lives.on(stream(4096, 64), 4096, 0),
    }
}

/// What was done to a medium, and what must be on it.
struct Lives<'a> {
    random: Random,
    tally: &'a mut Tally,
    story: Option<&'a mut Vec<String>>,
    options: LogOptions,
    oracle: Oracle,
    /// A formatting of the medium has returned.
    is_formatted: bool,
    /// A log was open on it.
    is_begun: bool,
    /// Slots with a part that is worn out.
    worn: Vec<usize>,
    /// The only slot that was free turned out to be worn.
    lost_last: bool,
    /// The log took no more, whatever was given up.
    is_stuck: bool,
    /// The LSN of the newest checkpoint that must be there.
    checkpoint: Option<u64>,
    /// Checkpoints that were begun: the LSN of each, and the number and length of its snapshot.
    begun: Vec<(u64, u64, usize)>,
    /// The highest LSN before which everything was to be discarded.
    discarded: u64,
    /// The application slot, and what was about to replace it.
    slot: Vec<u8>,
    next_slot: Option<Vec<u8>>,
    /// The transaction that is open, by its id.
    transaction: Option<u64>,
}

impl Lives<'_> {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    /// One life after the other.
    fn on<S: Simulated>(mut self, mut medium: S, slot_size: u32, blank: u8) -> Result<(), Violation> {
        let layout = Layout { blank, ..Layout::new(medium.medium().info(), slot_size) };
        let info: Info = medium.medium().info();
        let durability = self.options.durability;
        self.tell(|| format!("{info:?}, {layout:?}, {durability:?}"));
        let wears = self.random.once_in(4);
        let mut failed = 0;
        for _ in 0..1 + self.random.below(LIVES) {
            self.tally.lives += 1;
            if wears && self.random.once_in(3) {
                self.wear(&mut medium, &layout);
            }
            let power = self.random.below(13);
            let cut = (!self.random.once_in(6)).then(|| self.random.below(1 << power));
            let holds = if self.is_begun { Holds::Log } else { Holds::NoLog };
            medium.power_up(cut, holds, &mut self.random);
            self.tell(|| cut.map_or("life".into(), |steps| format!("life of {steps} steps")));
            let before = self.tally.ops;
            let lived = self.live(&mut medium, layout);
            let is_off = medium.is_off();
            if let Some(violation) = medium.violation() {
                return Err(violation!("{violation}"));
            }
            if self.story.is_some() {
                let ends = if let Err(Ended::Failed(why)) = &lived { format!("dies: {why}") } else { "ends".into() };
                let objects = objects(&mut medium, layout);
                self.tell(|| format!("  {ends}, with {objects}"));
            }
            let may_be_stuck = self.lost_last && self.is_used_up(&mut medium, layout);
            if core::mem::take(&mut self.is_stuck) && !may_be_stuck {
                return Err(violation!("the medium is full for good"));
            }
            match lived {
                Ok(()) | Err(Ended::Full) => failed = 0,
                Err(Ended::Failed(_)) if is_off => {}
                // A handle that met a worn slot is of no use any more, and the next one passes it over.
                Err(Ended::Failed(why)) if !self.worn.is_empty() => {
                    failed = if self.tally.ops == before { failed + 1 } else { 0 };
                    if failed > FAILED_MAX {
                        return Err(violation!("opening fails again and again: {why}"));
                    }
                }
                Err(Ended::Failed(why)) => return Err(violation!("without a power cut: {why}")),
                Err(Ended::Violation(violation)) => return Err(violation),
            }
        }
        self.tally.entries += self.oracle.next() - 1;
        Ok(())
    }

    /// Wears something out in a slot that was sound, or in one that was not.
    fn wear<S: Simulated>(&mut self, medium: &mut S, layout: &Layout) {
        let slot = self.random.index(layout.slots.into());
        if !self.worn.contains(&slot) {
            if usize::from(layout.slots) <= SOUND + self.worn.len() {
                return;
            }
            self.worn.push(slot);
        }
        let at = slot * layout.slot_size as usize + self.random.index(layout.slot_size as usize);
        self.tell(|| format!("byte {at} of the medium, in slot {slot}, is worn out"));
        medium.wear(at, &mut self.random);
    }

    fn live<S: Simulated>(&mut self, simulated: &mut S, layout: Layout) -> Result<(), Ended> {
        let kind = if self.random.once_in(2) { Kind::Blocking } else { Kind::Awaited };
        let mut buf = vec![0; (layout.slot_size as usize).max(4096)];
        let medium = &mut simulated.medium();
        match kind {
            Kind::Blocking => {
                if let Err(error) = Slots::open(&mut *medium, layout, table()) {
                    self.may_format(error)?;
                    Slots::format(&mut *medium, layout, table()).map_err(unusable)?;
                    self.is_formatted = true;
                }
                let device = &mut Slots::open(medium, layout, table()).map_err(unusable)?;
                let free = device.free_slots();
                let log = match Log::open(&mut *device, &mut buf, self.options, NOW) {
                    Err(OpenError::Drive(Error::Fault(Fault::NoLog))) if !self.is_begun => {
                        Log::format(&mut *device, &mut buf, self.options, ID, NOW)
                    }
                    opened => opened,
                };
                let log: Result<Handle<'_, _>, _> = log.map(Handle::Blocking).map_err(unopened);
                self.opened(free, log)
            }
            Kind::Awaited => {
                if let Err(error) = now(AsyncSlots::open(Lazy(&mut *medium), layout, table())) {
                    self.may_format(error)?;
                    now(AsyncSlots::format(Lazy(&mut *medium), layout, table())).map_err(unusable)?;
                    self.is_formatted = true;
                }
                let device = &mut now(AsyncSlots::open(Lazy(medium), layout, table())).map_err(unusable)?;
                let free = device.free_slots();
                let log = match now(AsyncLog::open(&mut *device, &mut buf, self.options, NOW)) {
                    Err(OpenError::Drive(Error::Fault(Fault::NoLog))) if !self.is_begun => {
                        now(AsyncLog::format(&mut *device, &mut buf, self.options, ID, NOW))
                    }
                    opened => opened,
                };
                let log: Result<Handle<'_, Slots<S::Medium<'_>, [Slot; SLOTS_MAX]>, _>, _> =
                    log.map(Handle::Awaited).map_err(unopened);
                self.opened(free, log)
            }
        }
    }

    /// Whether a medium that was not opened holds nothing that was ever promised.
    fn may_format<E: fmt::Debug>(&self, error: OpenSlotsError<E>) -> Result<(), Ended> {
        match error {
            OpenSlotsError::Medium(_) | OpenSlotsError::Slot(_) => Err(unusable(error)),
            OpenSlotsError::Blank | OpenSlotsError::Unfinished if !self.is_formatted => Ok(()),
            error => Err(violation!("the medium is refused: {error}").into()),
        }
    }

    /// An opening has ended, before which so many slots were free.
    fn opened<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        free: u32,
        log: Result<Handle<'_, D, A>, Ended>,
    ) -> Result<(), Ended> {
        let left = log.as_ref().map_or(Some(0), Handle::free);
        self.lost_last |= free == 1 && left == Some(0);
        self.use_log(log?)
    }

    /// Tries something. What fails may have found that the last slot is worn.
    fn tried<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        op: impl FnOnce(&mut Self, &mut Handle<'_, D, A>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let free = log.free();
        let done = op(self, log);
        self.lost_last |= done.is_err() && free == Some(1) && log.free() == Some(0);
        done
    }

    fn use_log<D: Device, A: AsyncDevice<Error = D::Error>>(&mut self, mut log: Handle<'_, D, A>) -> Result<(), Ended> {
        self.is_begun = true;
        self.transaction = None;
        self.recovered(&mut log)?;
        for _ in 0..self.random.below(OPS) {
            self.tally.ops += 1;
            match self.tried(&mut log, Self::op) {
                Err(Ended::Full) => self.make_room(&mut log)?,
                done => done?,
            }
            self.oracle.acknowledge(log.stats().durable.value())?;
            let (free, segments) = (log.free(), log.stats().segments);
            self.tell(|| format!("    {free:?} slots free, {segments} segments begun"));
        }
        if self.random.once_in(3) {
            self.tell(|| "  close".into());
            let last = self.oracle.next() - 1;
            log.close().map_err(ended)?;
            self.oracle.acknowledge(last)?;
        }
        Ok(())
    }

    /// Holds what an opening found against the model.
    fn recovered<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
    ) -> Result<(), Ended> {
        let report = log.report().clone();
        // What a checkpoint holds may have gone before anything said so: the handle knows that by what is missing.
        let (low_water, last) = (log.stats().low_water.value(), report.last.value());
        let durable = log.stats().durable.value();
        self.tell(|| format!("  opened: {low_water} to {last}, durable to {durable}, {:?}", report.torn_tail));
        if report.damage > 0 {
            return Err(violation!("damage is told where there is none: {report:?}").into());
        }
        let mut entries = vec![];
        let mut each = Each(|entry: Entry<'_>| {
            let (lsn, payload) = (entry.lsn.value(), entry.payload.to_vec());
            entries.push(Found { lsn, payload, continues: entry.kind.continues_batch() });
            Flow::Continue
        });
        log.read(&mut each).map_err(unread)?;
        let mut counted = vec![];
        let mut each = Each(|entry: Entry<'_>| {
            counted.push((entry.lsn.value(), entry.payload.to_vec()));
            Flow::Continue
        });
        log.replay(&mut each).map_err(unread)?;
        self.oracle.recovered_up_to(&Held { entries, counted: Some(counted), low_water, last }, durable)?;
        self.check_slot(log.slot())?;
        self.check_checkpoint(log, durable == last)
    }

    fn check_slot(&mut self, slot: &[u8]) -> Result<(), Ended> {
        if slot != self.slot && self.next_slot.as_deref() != Some(slot) {
            return Err(violation!("the application slot is {slot:?}, and was {:?}", self.slot).into());
        }
        self.slot = slot.to_vec();
        self.next_slot = None;
        Ok(())
    }

    /// The newest checkpoint is the one that was acknowledged, or a later one.
    fn check_checkpoint<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        is_durable: bool,
    ) -> Result<(), Ended> {
        let mut pieces = Pieces(vec![]);
        let must_be = self.checkpoint;
        let found = match log.load(&mut pieces) {
            Ok(found) => found.map(Lsn::value),
            // No state can be built up from it any more.
            Err(LogError::Drive(Error::Fault(Fault::Truncated { .. })))
                if self.discarded > must_be.unwrap_or(0) + 1 =>
            {
                return Ok(());
            }
            Err(error) => return Err(unread(error)),
        };
        let Some(lsn) = found else {
            return match must_be {
                Some(lsn) => Err(violation!("the checkpoint up to LSN {lsn} is gone").into()),
                None => Ok(()),
            };
        };
        if must_be.is_some_and(|must_be| lsn < must_be) {
            return Err(violation!("a checkpoint up to LSN {lsn} is the newest, and {must_be:?} must be there").into());
        }
        let is = |(of, number, len): &(u64, u64, usize)| *of == lsn && payload(*number, *len) == pieces.0;
        if !self.begun.iter().any(is) {
            return Err(violation!("the checkpoint up to LSN {lsn} has bytes that nobody wrote").into());
        }
        if is_durable {
            self.checkpoint = Some(lsn);
        }
        Ok(())
    }

    fn op<D: Device, A: AsyncDevice<Error = D::Error>>(&mut self, log: &mut Handle<'_, D, A>) -> Result<(), Ended> {
        let kept = self.oracle.next() - self.oracle.low_water();
        match self.random.below(28) {
            0..=9 => self.append(log, 1),
            10..=13 => {
                let count = 2 + self.random.index(3);
                self.append(log, count)
            }
            14 | 15 => self.sync(log),
            16 => {
                self.tell(|| "  mark".into());
                let marked = log.mark_durable();
                marked.map_err(|error| self.failed(log.stats().next, error))
            }
            17 => self.set_slot(log),
            18 | 19 => self.checkpoint(log),
            20 => {
                let lsn = self.oracle.next() - self.random.below(kept + 1);
                self.give_up(log, lsn, false)
            }
            21 => {
                let lsn = self.oracle.next() - self.random.below(kept + 1);
                self.give_up(log, lsn, true)
            }
            _ => match self.transaction {
                None => self.begin(log),
                Some(id) if self.random.once_in(2) => self.append_to(log, id),
                Some(id) => {
                    let end =
                        self.random.pick(&[TransactionEnd::Commit, TransactionEnd::Commit, TransactionEnd::Rollback]);
                    self.end(log, id, end)
                }
            },
        }
    }

    /// Something failed. Where it was refused for lack of room, what it would have appended is not there, and `next` is the next
    /// LSN; otherwise nobody knows.
    fn failed<E: fmt::Display>(&mut self, next: Lsn, error: LogError<E>) -> Ended {
        let (next, last) = (next.value(), self.oracle.next() - 1);
        self.tell(|| format!("    {error}"));
        if matches!(error, LogError::Full) {
            if next > last + 1 || next <= self.oracle.acknowledged() {
                return violation!("LSN {next} comes next after a refusal, and {last} was the last").into();
            }
            self.oracle.refused(usize::try_from(last + 1 - next).expect("it is small"));
        }
        ended(error)
    }

    fn append<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        count: usize,
    ) -> Result<(), Ended> {
        let len = 8 + self.random.index(LONG / count);
        let expected = self.oracle.next() + self.oracle.owed();
        self.tell(|| format!("  append {count} of {len} bytes at {expected}"));
        let payloads = self.oracle.append(count, len);
        let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
        let appended = if let [payload] = payloads[..] { log.append(payload) } else { log.append_batch(&payloads) };
        let appended = appended.map_err(|error| self.failed(log.stats().next, error))?;
        if appended.first.value() != expected {
            return Err(violation!("{} was given where {expected} comes next", appended.first).into());
        }
        if appended.durability == Durability::Durable {
            self.oracle.acknowledge(appended.last.value())?;
        }
        Ok(())
    }

    fn sync<D: Device, A: AsyncDevice<Error = D::Error>>(&mut self, log: &mut Handle<'_, D, A>) -> Result<(), Ended> {
        self.tell(|| "  sync".into());
        let synced = log.sync();
        let durable = synced.map_err(|error| self.failed(log.stats().next, error))?;
        Ok(self.oracle.acknowledge(durable.value())?)
    }

    fn begin<D: Device, A: AsyncDevice<Error = D::Error>>(&mut self, log: &mut Handle<'_, D, A>) -> Result<(), Ended> {
        self.oracle.append_own();
        let expected = self.oracle.next() - 1;
        self.tell(|| format!("  begin a transaction at {expected}"));
        let begun = log.begin_transaction();
        let id = begun.map_err(|error| self.failed(log.stats().next, error))?;
        if id != expected {
            return Err(violation!("the transaction has the id {id}, and not {expected}").into());
        }
        self.transaction = Some(id);
        Ok(())
    }

    fn append_to<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        id: u64,
    ) -> Result<(), Ended> {
        let len = 8 + self.random.index(LONG);
        let payload = self.oracle.append_to(id, len);
        self.tell(|| format!("  append {len} bytes to {id}"));
        let appended = log.append_to(id, &payload);
        appended.map(drop).map_err(|error| self.failed(log.stats().next, error))
    }

    fn end<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        id: u64,
        end: TransactionEnd,
    ) -> Result<(), Ended> {
        self.tell(|| format!("  {end:?} {id}"));
        self.transaction = None;
        match end {
            TransactionEnd::Commit => self.oracle.append_commit(id),
            TransactionEnd::Rollback => self.oracle.append_rollback(id),
        }
        match log.end_transaction(id, end) {
            Ok(ended) if ended.durability == Durability::Durable => Ok(self.oracle.acknowledge(ended.last.value())?),
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = self.failed(log.stats().next, error);
                self.oracle.abandon(id);
                Err(failed)
            }
        }
    }

    fn set_slot<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
    ) -> Result<(), Ended> {
        let slot = vec![self.random.next().to_le_bytes()[0]; self.random.index(65)];
        self.tell(|| format!("  set the slot to {} bytes", slot.len()));
        self.next_slot = Some(slot.clone());
        let set = log.set_slot(&slot);
        set.map_err(|error| self.failed(log.stats().next, error))?;
        self.check_slot(&slot)
    }

    fn checkpoint<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
    ) -> Result<(), Ended> {
        let most = if self.random.once_in(4) { 6000 } else { 300 };
        let (number, len) = (self.random.next() >> 32, self.random.index(most));
        let lsn = log.stats().next.previous().value();
        self.tell(|| format!("  checkpoint of {len} bytes up to {lsn}"));
        self.begun.push((lsn, number, len));
        self.oracle.append_own();
        let made = log.checkpoint(&payload(number, len));
        made.map_err(|error| self.failed(log.stats().next, error))?;
        self.oracle.acknowledge(self.oracle.next() - 1)?;
        self.checkpoint = Some(lsn);
        Ok(())
    }

    fn give_up<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
        lsn: u64,
        discards: bool,
    ) -> Result<(), Ended> {
        self.tell(|| format!("  {} before {lsn}", if discards { "discard" } else { "truncate" }));
        self.oracle.give_up(Giving::Before(lsn));
        let given = if discards {
            self.discarded = self.discarded.max(lsn);
            log.discard_before(Lsn::new(lsn))
        } else {
            log.truncate_before(Lsn::new(lsn))
        };
        let given = given.map_err(|error| self.failed(log.stats().next, error))?;
        let free = log.free();
        self.tell(|| format!("    before {given}, {free:?} slots free"));
        Ok(self.oracle.gave_up(Giving::Before(given.value()))?)
    }

    /// Whether all slots that are sound are in use: then nothing can say what was given up. It takes a slot that is the last one
    /// free, and wears out.
    fn is_used_up<S: Simulated>(&self, simulated: &mut S, layout: Layout) -> bool {
        simulated.power_up(None, Holds::Log, &mut Random::new(0));
        let Ok(mut device) = Slots::open(simulated.medium(), layout, table()) else { return false };
        let (mut after, mut used) = (None, 0);
        while let Ok(Some(object)) = device.next(after) {
            used += device.room_of(object) / u64::from(layout.room());
            after = Some(object);
        }
        used + self.worn.len() as u64 >= layout.slots.into()
    }

    /// A full medium is never stuck while a sound slot is free: some way leads on, and giving everything up always does.
    fn make_room<D: Device, A: AsyncDevice<Error = D::Error>>(
        &mut self,
        log: &mut Handle<'_, D, A>,
    ) -> Result<(), Ended> {
        self.tell(|| "  the medium is full".into());
        if self.random.once_in(2) {
            match self.tried(log, Self::checkpoint) {
                Err(Ended::Full) => {}
                done => done?,
            }
            let next = self.oracle.next();
            match self.tried(log, |lives, log| lives.give_up(log, next, false)) {
                Err(Ended::Full) => {}
                done => done?,
            }
            match self.tried(log, |lives, log| lives.append(log, 1)) {
                Err(Ended::Full) => {}
                done => return done,
            }
        }
        if let Some(id) = self.transaction {
            match self.tried(log, |lives, log| lives.end(log, id, TransactionEnd::Rollback)) {
                Err(Ended::Full) => {}
                done => done?,
            }
        }
        // Each slot that is worn out may refuse once more.
        for _ in 0..=self.worn.len() {
            // What is not durable is not given up.
            match self.tried(log, Self::sync) {
                Err(Ended::Full) => {}
                done => done?,
            }
            let next = self.oracle.next();
            let given = self.tried(log, |lives, log| lives.give_up(log, next, true));
            match given.and_then(|()| self.tried(log, |lives, log| lives.append(log, 1))) {
                Err(Ended::Full) => {}
                done => return done,
            }
        }
        self.tell(|| "  the medium is full for good".into());
        self.is_stuck = true;
        Err(Ended::Full)
    }
}

/// What is on a medium, for a story.
fn objects<S: Simulated>(simulated: &mut S, layout: Layout) -> String {
    simulated.power_up(None, Holds::Log, &mut Random::new(0));
    let Ok(mut device) = Slots::open(simulated.medium(), layout, table()) else { return "no slots".into() };
    let mut objects = vec![];
    while let Ok(Some(object)) = device.next(objects.last().copied()) {
        objects.push(object);
    }
    let names: Vec<_> = objects.iter().map(|object| format!("{object} of {}", device.room_of(*object))).collect();
    format!("{}, and {} slots free", names.join(", "), device.free_slots())
}

/// The bytes of a snapshot that is read.
struct Pieces(Vec<u8>);

impl Host for Pieces {
    fn piece(&mut self, section: Section, bytes: &[u8]) {
        if section == Section::Block {
            self.0.extend_from_slice(bytes);
        }
    }
}

fn unusable<E: fmt::Debug>(error: OpenSlotsError<E>) -> Ended {
    match error {
        OpenSlotsError::Medium(_) | OpenSlotsError::Slot(_) => Ended::Failed(error.to_string()),
        error => violation!("the medium is refused: {error}").into(),
    }
}

fn unopened<E: fmt::Display>(error: OpenError<E>) -> Ended {
    match error {
        OpenError::Drive(Error::Device { .. }) | OpenError::TakeOver(LogError::Drive(Error::Device { .. })) => {
            Ended::Failed(error.to_string())
        }
        error => violation!("the log is refused: {error}").into(),
    }
}
