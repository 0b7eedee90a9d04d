//! Machines and their drivers: machines decide, drivers touch the device.
//!
//! A *machine* says which single step it needs next and is called again with what the step brought. It holds no
//! device, no clock and no lock. [`drive`] and [`drive_async`] do the steps; they are the only code of this crate that
//! touches a medium, so every medium shares every machine.

use core::{fmt, ops::Range};

use crate::{
    Lsn,
    checkpoint::Section,
    device::{AsyncDevice, Device, DeviceError, ErrorKind, Object, Room},
    fault::Fault,
    frame::FrameType,
    report::Finding,
    segment::SegmentId,
};

/// One thing a machine needs done before it can go on. Ranges index the scratch buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Which object follows, segments first, ids ascending.
    Next {
        /// The object before it; `None` asks for the first.
        after: Option<Object>,
    },
    /// The same order backwards: the metadata, then the newest checkpoint, the newest segment last.
    Prev {
        /// The object behind it; `None` asks for the last.
        before: Option<Object>,
    },
    /// Make an object with room for `size` bytes.
    Create {
        /// The object.
        object: Object,
        /// Its room in bytes.
        size: u64,
    },
    /// Read; fewer bytes may come than asked for, 0 is the end.
    Read {
        /// The object.
        object: Object,
        /// Where in it.
        at: u64,
        /// Where to in the buffer.
        into: Range<usize>,
    },
    /// Write all or fail.
    Write {
        /// The object.
        object: Object,
        /// Where in it.
        at: u64,
        /// Where from in the buffer.
        from: Range<usize>,
    },
    /// Give back room in which nothing stands that counts.
    Trim {
        /// The object.
        object: Object,
        /// From here on.
        at: u64,
    },
    /// Remove bytes and name.
    Remove {
        /// The object.
        object: Object,
    },
    /// The barrier: everything before is durable.
    Sync,
    /// How many more objects the device has room for, where that is fixed.
    Free,
    /// Hand an entry to the host.
    Entry(Place),
    /// Hand a finding to the host.
    Finding(Finding),
    /// Fill the range with the host's next snapshot bytes; 0 ends them.
    Fill {
        /// Where to in the buffer.
        into: Range<usize>,
    },
    /// Hand a part of a checkpoint to the host.
    Piece {
        /// Which part.
        section: Section,
        /// Where in the buffer.
        bytes: Range<usize>,
    },
    /// Make the buffer at least this long; its bytes stay.
    Grow {
        /// Bytes.
        needed: usize,
    },
}

/// An entry that a machine hands over: where it stands on the medium and in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its LSN.
    pub lsn: Lsn,
    /// Microseconds since the Unix epoch.
    pub timestamp: u64,
    /// What it is.
    pub kind: FrameType,
    /// The segment it stands in.
    pub segment: SegmentId,
    /// Where its frame begins there.
    pub offset: u32,
    /// Its payload in the scratch buffer.
    pub payload: Range<usize>,
}

impl Place {
    /// The transaction that the entry belongs to, if it does to one.
    pub(crate) fn transaction(&self, buf: &[u8]) -> Option<u64> {
        self.kind.transaction(buf.get(self.payload.clone())?)
    }
}

/// What the step just done brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but that it was done, or nothing was asked yet.
    Nothing,
    /// That many bytes.
    Moved(usize),
    /// An object, or none.
    Object(Option<Object>),
    /// What the new object's room is like.
    Created(Room),
    /// That many more objects can be made; `None` where their number is not fixed.
    Free(Option<u32>),
    /// A read that failed for good, or a snapshot that broke off: nothing is known about the bytes.
    Unreadable,
}

/// Why a machine stopped: `?` carries a needed step up to the driver in the same way as a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This step first.
    Need(Step),
    /// It cannot go on.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Step> for Stop {
    fn from(step: Step) -> Self {
        Self::Need(step)
    }
}

/// One turn of a machine: the buffer that it works in, the answer to the step that it asked for last, and what it stops for.
///
/// What a machine is made of hands its turn on by reference. So a step or a fault is written once, into its place, however
/// deep it was found, and what travels back up is a single byte.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) buf: &'a mut [u8],
    answer: Answer,
    stop: Stop,
}

/// The machine stops: its turn says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

impl<'a> Turn<'a> {
    /// Gives `machine` a turn.
    pub(crate) fn run<T>(
        buf: &'a mut [u8],
        answer: Answer,
        machine: impl FnOnce(&mut Self) -> Result<T, Stopped>,
    ) -> Result<T, Stop> {
        let mut turn = Self { buf, answer, stop: Stop::Need(Step::Sync) };
        match machine(&mut turn) {
            Ok(output) => Ok(output),
            Err(Stopped) => Err(turn.stop),
        }
    }

    /// The same turn with the part of the buffer from `from` on for all of it.
    pub(crate) fn behind<T>(
        &mut self,
        from: usize,
        part: impl FnOnce(&mut Turn<'_>) -> Result<T, Stopped>,
    ) -> Result<T, Stopped> {
        let answer = self.answer();
        let mut turn = Turn { buf: self.buf.get_mut(from..).unwrap_or_default(), answer, stop: Stop::Need(Step::Sync) };
        let done = part(&mut turn);
        self.answer = turn.answer;
        self.stop = turn.stop;
        match &mut self.stop {
            Stop::Need(Step::Read { into, .. }) => *into = into.start + from..into.end + from,
            Stop::Need(Step::Grow { needed }) => *needed += from,
            _ => {}
        }
        done
    }

    /// Bytes of the buffer, by a range that was found in it; none where it does not reach so far.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buf.get(range.clone()).unwrap_or_default()
    }

    /// Stops for a step.
    pub(crate) fn need(&mut self, step: Step) -> Stopped {
        self.stop = Stop::Need(step);
        Stopped
    }

    /// Stops for good.
    #[cold]
    pub(crate) fn fault(&mut self, fault: Fault) -> Stopped {
        self.stop = Stop::Fault(fault);
        Stopped
    }

    /// What it stopped for.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Takes the answer out: whoever asked has it.
    pub(crate) fn answer(&mut self) -> Answer {
        core::mem::replace(&mut self.answer, Answer::Nothing)
    }

    /// Takes the object out of an answer to [`Step::Next`] or [`Step::Prev`].
    pub(crate) fn object(&mut self) -> Option<Object> {
        match self.answer() {
            Answer::Object(object) => object,
            _ => {
                debug_assert!(false, "the driver answered something else to a question for an object");
                None
            }
        }
    }

    /// Takes the segment out of such an answer, if it is one.
    pub(crate) fn segment(&mut self) -> Option<SegmentId> {
        match self.object() {
            Some(Object::Segment(id)) => Some(id),
            _ => None,
        }
    }
}

/// Pure logic that needs steps done.
pub trait Machine {
    /// What it comes to.
    type Output;

    /// Goes on with the answer to the step it asked for last, until it is done or needs another.
    ///
    /// If a step fails or is abandoned, `step` is simply never called again; failure, cancellation and crash are one
    /// case.
    ///
    /// # Errors
    /// [`Stop::Need`]: the next step. [`Stop::Fault`]: it cannot go on.
    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Self::Output, Stop>;
}

/// An entry, as the host of a machine gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entry<'a> {
    /// Its LSN.
    pub lsn: Lsn,
    /// Microseconds since the Unix epoch.
    pub timestamp: u64,
    /// What it is, and whether a batch goes on behind it.
    pub kind: FrameType,
    /// The id of the transaction that it belongs to.
    pub transaction: Option<u64>,
    /// The segment it stands in.
    pub segment: SegmentId,
    /// Where its frame begins there.
    pub offset: u32,
    /// What was logged, without the transaction's id.
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) fn new(place: &Place, buf: &'a [u8]) -> Self {
        let payload = &buf[place.payload.clone()];
        let (transaction, payload) = match payload.split_first_chunk::<8>() {
            Some((id, rest)) if place.kind.is_in_transaction() => (Some(u64::from_le_bytes(*id)), rest),
            _ => (None, payload),
        };
        Self {
            lsn: place.lsn,
            timestamp: place.timestamp,
            kind: place.kind,
            transaction,
            segment: place.segment,
            offset: place.offset,
            payload,
        }
    }

    /// Bytes of its frame on the medium.
    #[must_use]
    pub fn serialized_size(&self) -> usize {
        let id = if self.transaction.is_some() { crate::frame::TRANSACTION_ID_LEN } else { 0 };
        crate::frame::FRAME_OVERHEAD as usize + id + self.payload.len()
    }
}

/// Whether a driver goes on after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Flow {
    /// Go on.
    Continue,
    /// Return to the caller, who may drive the machine on later.
    Pause,
}

/// The caller's side of a machine: entries and findings go out, snapshot bytes come in.
pub trait Host {
    /// Takes an entry, in order, each once.
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        let _ = entry;
        Flow::Continue
    }

    /// Takes a finding.
    fn finding(&mut self, finding: &Finding) {
        let _ = finding;
    }

    /// Takes the next bytes of a checkpoint that is read; they count only once it has been read to its end.
    fn piece(&mut self, section: Section, bytes: &[u8]) {
        let _ = (section, bytes);
    }

    /// Puts the next bytes of a snapshot into `buf` and returns how many; 0 ends the snapshot.
    fn fill(&mut self, buf: &mut [u8]) -> usize {
        let _ = buf;
        0
    }

    /// Whether the snapshot ended where it did because it could not be read on: then no checkpoint is made of it. Asked
    /// when [`fill`](Self::fill) gave nothing.
    fn broke_off(&self) -> bool {
        false
    }
}

/// A host that takes nothing and gives nothing.
impl Host for () {}

/// A scratch buffer: caller-owned memory that a machine works in.
pub trait Scratch {
    /// The buffer.
    fn bytes(&mut self) -> &mut [u8];

    /// Makes it at least `needed` bytes long and keeps what is in it, if it can.
    fn grow(&mut self, needed: usize) {
        let _ = needed;
    }
}

impl Scratch for [u8] {
    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

impl<S: Scratch + ?Sized> Scratch for &mut S {
    fn bytes(&mut self) -> &mut [u8] {
        (**self).bytes()
    }

    fn grow(&mut self, needed: usize) {
        (**self).grow(needed);
    }
}

impl<const N: usize> Scratch for [u8; N] {
    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

/// A buffer that grows: a machine asks for no more than the largest frame that its log may hold.
#[cfg(feature = "alloc")]
impl Scratch for alloc::vec::Vec<u8> {
    fn bytes(&mut self) -> &mut [u8] {
        self
    }

    fn grow(&mut self, needed: usize) {
        if needed > self.len() {
            self.resize(needed, 0);
        }
    }
}

/// Why driving a machine failed.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error<E> {
    /// The machine could not go on.
    Fault(Fault),
    /// The device failed.
    Device {
        /// What was being done.
        action: Action,
        /// To which object; `None` for a sync or a listing.
        object: Option<Object>,
        /// The device's error.
        error: E,
    },
}

/// What was asked of a device that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Listing objects.
    List,
    /// Making an object.
    Create,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Giving room back.
    Trim,
    /// Removing an object.
    Remove,
    /// Syncing.
    Sync,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list the log's objects",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Trim => "trim",
            Self::Remove => "remove",
            Self::Sync => "sync",
        })
    }
}

impl<E: DeviceError> Error<E> {
    /// The kind of the device's error, if it was the device.
    pub fn device_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Fault(_) => None,
            Self::Device { error, .. } => Some(error.kind()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Device { action, object: Some(object), error } => write!(f, "cannot {action} {object}: {error}"),
            Self::Device { action, object: None, error } => write!(f, "cannot {action}: {error}"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Fault(fault) => Some(fault),
            Self::Device { error, .. } => Some(error),
        }
    }
}

/// How often a read that fails is tried before it counts as failed.
const READ_TRIES: u32 = 3;

/// Drives `machine` to its end.
///
/// # Errors
/// The machine's fault, or the device's error; after either the machine must not be driven on.
///
/// # Panics
/// If the host pauses: use [`drive_until_pause`] for one that does.
pub fn drive<M: Machine, D: Device>(
    mut machine: M,
    device: &mut D,
    buf: &mut (impl Scratch + ?Sized),
    host: &mut impl Host,
) -> Result<M::Output, Error<D::Error>> {
    Ok(drive_until_pause(&mut machine, device, buf, host)?.expect("this host does not pause"))
}

/// Drives `machine` until it is done or the host pauses at an entry, which gives `None`; drive it again to go on.
///
/// # Errors
/// As [`drive`].
pub fn drive_until_pause<M: Machine + ?Sized, D: Device>(
    machine: &mut M,
    device: &mut D,
    buf: &mut (impl Scratch + ?Sized),
    host: &mut impl Host,
) -> Result<Option<M::Output>, Error<D::Error>> {
    let mut machine = Keeping { machine, output: None };
    drive_unit(&mut machine, device, &mut { buf }, host)?;
    Ok(machine.output)
}

/// A machine whose output is kept beside it.
struct Keeping<'a, M: Machine + ?Sized> {
    machine: &'a mut M,
    output: Option<M::Output>,
}

impl<M: Machine + ?Sized> Machine for Keeping<'_, M> {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<(), Stop> {
        self.output = Some(self.machine.step(buf, answer)?);
        Ok(())
    }
}

/// The blocking driver: there is one for each device, whatever machine it drives. Whether the machine is done; else the
/// host paused.
pub(crate) fn drive_unit<D: Device>(
    machine: &mut dyn Machine<Output = ()>,
    device: &mut D,
    buf: &mut dyn Scratch,
    host: &mut dyn Host,
) -> Result<bool, Error<D::Error>> {
    let mut answer = Answer::Nothing;
    let mut unreadable = None;
    loop {
        answer = match machine.step(buf.bytes(), answer) {
            Ok(()) => return Ok(true),
            Err(Stop::Fault(fault)) => return Err(stopped(fault, unreadable)),
            Err(Stop::Need(Step::Grow { needed })) => {
                buf.grow(needed);
                Answer::Nothing
            }
            Err(Stop::Need(step)) if step.is_the_hosts() => match serve(&step, buf.bytes(), host) {
                Some(answer) => answer,
                None => return Ok(false),
            },
            Err(Stop::Need(step)) => perform(&step, device, buf.bytes(), &mut unreadable)?,
        };
    }
}

/// Has the device do a step.
fn perform<D: Device>(
    step: &Step,
    device: &mut D,
    buf: &mut [u8],
    unreadable: &mut Option<(Object, D::Error)>,
) -> Result<Answer, Error<D::Error>> {
    let done = match step {
        Step::Next { after } => device.next(*after).map(Answer::Object),
        Step::Prev { before } => device.prev(*before).map(Answer::Object),
        Step::Create { object, size } => device.create(*object, *size).map(Answer::Created),
        Step::Read { object, at, into } => {
            let buf = &mut buf[into.clone()];
            let mut read = device.read(*object, *at, buf);
            for _ in 1..READ_TRIES {
                if read.is_err() {
                    read = device.read(*object, *at, buf);
                }
            }
            read_or(read, *object, unreadable)
        }
        Step::Write { object, at, from } => device.write(*object, *at, &buf[from.clone()]).map(|()| Answer::Nothing),
        Step::Trim { object, at } => device.trim(*object, *at).map(|()| Answer::Nothing),
        Step::Remove { object } => device.remove(*object).map(|()| Answer::Nothing),
        Step::Sync => device.sync().map(|()| Answer::Nothing),
        _ => Ok(Answer::Free(device.free())),
    };
    done.map_err(|error| Error::Device { action: step.action(), object: step.object(), error })
}

/// What a read brought. An error that stays is kept for the fault that may follow from it; one that says nothing about the
/// bytes ends it all.
fn read_or<E: DeviceError>(
    read: Result<usize, E>,
    object: Object,
    unreadable: &mut Option<(Object, E)>,
) -> Result<Answer, E> {
    match read {
        Ok(moved) => Ok(Answer::Moved(moved)),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        Err(error) => {
            *unreadable = Some((object, error));
            Ok(Answer::Unreadable)
        }
    }
}

/// [`drive`], awaited. A future that is dropped abandons the machine, as an error does.
///
/// # Errors
/// As [`drive`].
pub async fn drive_async<M: Machine, D: AsyncDevice>(
    mut machine: M,
    device: &mut D,
    buf: &mut (impl Scratch + ?Sized),
    host: &mut impl Host,
) -> Result<M::Output, Error<D::Error>> {
    Ok(drive_async_until_pause(&mut machine, device, buf, host).await?.expect("this host does not pause"))
}

/// [`drive_until_pause`], awaited.
///
/// # Errors
/// As [`drive`].
pub async fn drive_async_until_pause<M: Machine + ?Sized, D: AsyncDevice>(
    machine: &mut M,
    device: &mut D,
    buf: &mut (impl Scratch + ?Sized),
    host: &mut impl Host,
) -> Result<Option<M::Output>, Error<D::Error>> {
    let mut answer = Answer::Nothing;
    let mut unreadable = None;
    loop {
        let step = match machine.step(buf.bytes(), answer) {
            Ok(output) => return Ok(Some(output)),
            Err(Stop::Need(step)) => step,
            Err(Stop::Fault(fault)) => return Err(stopped(fault, unreadable)),
        };
        answer = match step {
            Step::Grow { needed } => {
                buf.grow(needed);
                Answer::Nothing
            }
            _ if step.is_the_hosts() => match serve(&step, buf.bytes(), host) {
                Some(answer) => answer,
                None => return Ok(None),
            },
            _ => perform_async(&step, device, buf.bytes(), &mut unreadable).await?,
        };
    }
}

/// [`perform`], awaited.
async fn perform_async<D: AsyncDevice>(
    step: &Step,
    device: &mut D,
    buf: &mut [u8],
    unreadable: &mut Option<(Object, D::Error)>,
) -> Result<Answer, Error<D::Error>> {
    let done = match step {
        Step::Next { after } => device.next(*after).await.map(Answer::Object),
        Step::Prev { before } => device.prev(*before).await.map(Answer::Object),
        Step::Create { object, size } => device.create(*object, *size).await.map(Answer::Created),
        Step::Read { object, at, into } => {
            let buf = &mut buf[into.clone()];
            let mut read = device.read(*object, *at, buf).await;
            for _ in 1..READ_TRIES {
                if read.is_err() {
                    read = device.read(*object, *at, buf).await;
                }
            }
            read_or(read, *object, unreadable)
        }
        Step::Write { object, at, from } => {
            device.write(*object, *at, &buf[from.clone()]).await.map(|()| Answer::Nothing)
        }
        Step::Trim { object, at } => device.trim(*object, *at).await.map(|()| Answer::Nothing),
        Step::Remove { object } => device.remove(*object).await.map(|()| Answer::Nothing),
        Step::Sync => device.sync().await.map(|()| Answer::Nothing),
        _ => Ok(Answer::Free(device.free())),
    };
    done.map_err(|error| Error::Device { action: step.action(), object: step.object(), error })
}

impl Step {
    /// Whether the host does it, and no device.
    const fn is_the_hosts(&self) -> bool {
        matches!(self, Self::Entry(_) | Self::Finding(_) | Self::Fill { .. } | Self::Piece { .. })
    }

    /// What is asked of a device.
    const fn action(&self) -> Action {
        match self {
            Self::Create { .. } => Action::Create,
            Self::Write { .. } => Action::Write,
            Self::Trim { .. } => Action::Trim,
            Self::Remove { .. } => Action::Remove,
            Self::Sync => Action::Sync,
            Self::Read { .. } => Action::Read,
            _ => Action::List,
        }
    }

    /// The object that it is asked of.
    const fn object(&self) -> Option<Object> {
        match self {
            Self::Create { object, .. }
            | Self::Read { object, .. }
            | Self::Write { object, .. }
            | Self::Trim { object, .. }
            | Self::Remove { object } => Some(*object),
            _ => None,
        }
    }
}

/// Has the host do a step; `None`: it pauses.
fn serve(step: &Step, buf: &mut [u8], host: &mut dyn Host) -> Option<Answer> {
    match step {
        Step::Entry(place) => return (host.entry(Entry::new(place, buf)) == Flow::Continue).then_some(Answer::Nothing),
        Step::Finding(finding) => host.finding(finding),
        Step::Piece { section, bytes } => host.piece(*section, &buf[bytes.clone()]),
        Step::Fill { into } => return Some(filled(host, &mut buf[into.clone()])),
        _ => {}
    }
    Some(Answer::Nothing)
}

/// The next bytes of the host's snapshot, or that it broke off.
fn filled(host: &mut dyn Host, buf: &mut [u8]) -> Answer {
    match host.fill(buf) {
        0 if host.broke_off() => Answer::Unreadable,
        moved => Answer::Moved(moved),
    }
}

impl<E: DeviceError> Error<E> {
    /// Whether the device could not read what it was asked for, though it is there.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Fault(fault) => matches!(fault, Fault::Unreadable { .. }),
            Self::Device { action, error, .. } => {
                *action == Action::Read
                    && !matches!(error.kind(), ErrorKind::Gone | ErrorKind::Fenced | ErrorKind::Unavailable)
            }
        }
    }
}

/// A machine's fault, or the device's error where the fault is that bytes could not be read.
fn stopped<E>(fault: Fault, unreadable: Option<(Object, E)>) -> Error<E> {
    match (fault, unreadable) {
        (Fault::Unreadable { .. }, Some((object, error))) => {
            Error::Device { action: Action::Read, object: Some(object), error }
        }
        (fault, _) => Error::Fault(fault),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::error::Error as _;
    use std::string::ToString;

    use super::*;
    use crate::{
        CheckpointId,
        device::tests::{Failure, Untouched, ready},
        report::Seen,
    };

    #[test]
    fn a_host_that_gives_nothing_makes_an_empty_snapshot_that_is_whole() {
        assert_eq!((().fill(&mut [0; 4]), ().broke_off()), (0, false));
    }

    #[test]
    fn each_step_is_the_host_s_or_the_device_s_and_its_failure_names_what_was_asked_of_which_object() {
        let object = Object::Meta;
        let finding = Finding::rot(Seen::BadEntry, object, 0);
        for (step, action, of) in [
            (Step::Next { after: Some(object) }, Action::List, None),
            (Step::Prev { before: None }, Action::List, None),
            (Step::Create { object, size: 1 }, Action::Create, Some(object)),
            (Step::Read { object, at: 0, into: 0..1 }, Action::Read, Some(object)),
            (Step::Write { object, at: 0, from: 0..1 }, Action::Write, Some(object)),
            (Step::Trim { object, at: 0 }, Action::Trim, Some(object)),
            (Step::Remove { object }, Action::Remove, Some(object)),
            (Step::Sync, Action::Sync, None),
        ] {
            assert_eq!((step.action(), step.object(), step.is_the_hosts()), (action, of, false), "{step:?}");
        }
        let of_hosts = [Step::Finding(finding), Step::Fill { into: 0..1 }];
        assert!(of_hosts.iter().all(Step::is_the_hosts));
    }

    #[test]
    fn what_is_asked_for_a_part_of_the_buffer_is_asked_for_the_whole_of_it() {
        let object = Object::Meta;
        for (asked, whole) in [
            (Step::Grow { needed: 20 }, Step::Grow { needed: 25 }),
            (Step::Read { object, at: 7, into: 1..3 }, Step::Read { object, at: 7, into: 6..8 }),
            (Step::Sync, Step::Sync),
        ] {
            let stopped = Turn::run(&mut [0; 16], Answer::Nothing, |turn| {
                turn.behind(5, |part| {
                    assert_eq!(part.buf.len(), 11);
                    Err::<(), _>(part.need(asked))
                })
            });
            assert_eq!(stopped, Err(Stop::Need(whole)));
        }
    }

    #[test]
    fn an_entry_is_as_long_on_the_medium_as_its_payload_with_the_transaction_and_33_bytes() {
        let buf = [7; 24];
        for (kind, transaction, rest) in
            [(FrameType::new(10), None, 20), (FrameType::new(10).in_transaction(), Some(0x0707_0707_0707_0707), 12)]
        {
            let (lsn, segment) = (Lsn::FIRST, SegmentId::new(1));
            let entry = Entry::new(&Place { lsn, timestamp: 0, kind, segment, offset: 0, payload: 2..22 }, &buf);
            assert_eq!((entry.transaction, entry.payload.len()), (transaction, rest));
            assert_eq!(entry.serialized_size(), 53);
        }
    }

    /// Works in a buffer of 32 bytes, and asks once for one.
    struct Long(bool);

    impl Machine for Long {
        type Output = usize;

        fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<usize, Stop> {
            assert_eq!(answer, Answer::Nothing);
            if core::mem::replace(&mut self.0, true) {
                return Ok(buf.len());
            }
            Err(Step::Grow { needed: 32 }.into())
        }
    }

    /// A buffer that is as long as was asked for last.
    struct Lent([u8; 64], usize);

    impl Scratch for Lent {
        fn bytes(&mut self) -> &mut [u8] {
            &mut self.0[..self.1]
        }

        fn grow(&mut self, needed: usize) {
            self.1 = needed;
        }
    }

    #[test]
    fn a_buffer_that_is_lent_is_made_longer_for_a_machine_that_asks_for_it() {
        fn grown(mut buf: impl Scratch, needed: usize) -> usize {
            buf.grow(needed);
            buf.bytes().len()
        }
        assert_eq!(grown(&mut Lent([0; 64], 8), 20), 20);
        let mut buf = Lent([0; 64], 8);
        assert_eq!(ready(drive_async(Long(false), &mut Untouched, &mut buf, &mut ())).unwrap(), 32);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_vector_is_made_longer_and_never_shorter() {
        let mut buf = std::vec![1, 2, 3];
        for (needed, len) in [(2, 3), (5, 5), (4, 5)] {
            buf.grow(needed);
            assert_eq!(buf.len(), len);
        }
        assert_eq!(buf, [1, 2, 3, 0, 0]);
    }

    #[test]
    fn an_error_says_what_could_not_be_done_to_what_and_why() {
        let checkpoint = Some(Object::Checkpoint(CheckpointId::new(26)));
        for (action, object, text) in [
            (Action::List, None, "cannot list the log's objects: it is worn out"),
            (Action::Create, checkpoint, "cannot create checkpoint_000000000000001a.ckpt: it is worn out"),
            (Action::Read, Some(Object::Meta), "cannot read wal.meta: it is worn out"),
            (Action::Write, Some(Object::Meta), "cannot write wal.meta: it is worn out"),
            (Action::Trim, Some(Object::Meta), "cannot trim wal.meta: it is worn out"),
            (Action::Remove, Some(Object::Meta), "cannot remove wal.meta: it is worn out"),
            (Action::Sync, None, "cannot sync: it is worn out"),
        ] {
            let error = Error::Device { action, object, error: Failure(ErrorKind::Other) };
            assert_eq!(error.to_string(), text);
            assert!(error.source().unwrap().is::<Failure>());
        }
        let error = Error::<Failure>::Fault(Fault::Full);
        assert_eq!(error.to_string(), Fault::Full.to_string());
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&Fault::Full));
    }
}
