//! Reading entries one by one, in memory that does not grow with the log.

use std::fmt;

use duralog_core::{
    Crossing, Entry as EntryRef, Flow, Geometry, Host, Lsn, Machine, Policy, Read, Reader, ReverseReader, SegmentId,
    View, drive_until_pause,
    operation::{Code, Operation},
};

use crate::{
    device::SharedDevice,
    error::{Error, Result},
};

/// Bytes that a machine reads at once; larger where one entry needs more.
const SCRATCH: usize = 256 << 10;
/// Bytes that are read at once where entries are read one after the other: of a frame that is cut by the end of a read, the
/// beginning is moved, and that is less often so.
const READ: usize = 1 << 20;

/// A buffer for a machine on a medium like this: no larger than a segment there, which is then read at once. Machines ask
/// for more where one entry needs it.
pub(crate) fn scratch(geometry: Geometry) -> Vec<u8> {
    vec![0; scratch_len(geometry)]
}

pub(crate) fn scratch_len(geometry: Geometry) -> usize {
    at_most(geometry, SCRATCH)
}

/// As many bytes as a segment on a medium like this has, at most `most`.
fn at_most(geometry: Geometry, most: usize) -> usize {
    usize::try_from(geometry.segment_size).map_or(most, |segment| segment.clamp(4096, most))
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its LSN.
    pub lsn: Lsn,
    /// Microseconds since the Unix epoch.
    pub timestamp: u64,
    /// The code of its type.
    pub code: u8,
    /// The id of the transaction that it belongs to.
    pub transaction: Option<u64>,
    /// Whether the next entry belongs to the same batch.
    pub batch_continues: bool,
    /// The segment it stands in.
    pub segment: SegmentId,
    /// Where its frame begins there.
    pub offset: u32,
    /// The payload, without the transaction's id.
    pub payload: Vec<u8>,
}

impl Entry {
    fn new(entry: EntryRef<'_>) -> Self {
        Self {
            lsn: entry.lsn,
            timestamp: entry.timestamp,
            code: entry.kind.code(),
            transaction: entry.transaction,
            batch_continues: entry.kind.continues_batch(),
            segment: entry.segment,
            offset: entry.offset,
            payload: entry.payload.to_vec(),
        }
    }

    /// The operation that it logs.
    ///
    /// # Errors
    /// [`Error::Undecodable`]: the entry is sound, and its payload is not what its type says.
    pub fn operation(&self) -> Result<Operation> {
        Operation::decode(self.code, self.transaction, &self.payload)
            .map_err(|error| Error::Undecodable { lsn: self.lsn, error })
    }

    /// The payload, if the entry holds the application's own bytes.
    #[must_use]
    pub fn opaque(&self) -> Option<&[u8]> {
        (self.code == Code::Opaque.value()).then_some(&self.payload)
    }

    /// Bytes of its frame on the medium.
    #[must_use]
    pub fn serialized_size(&self) -> usize {
        let id = if self.transaction.is_some() { duralog_core::frame::TRANSACTION_ID_LEN } else { 0 };
        duralog_core::frame::FRAME_OVERHEAD as usize + id + self.payload.len()
    }
}

/// What is asked about an error; gives the error that it is.
pub(crate) type DamageHook = Box<dyn FnMut(Error) -> Error + Send>;

/// The entries of a log, in the order of their LSNs, as it stood when reading began.
///
/// An error is the last item: damage and gaps stand in their place and are never passed over in silence, but for a
/// policy that skips damage, whose findings are then in [`findings`](Self::findings).
pub struct Entries<D: SharedDevice> {
    device: D,
    reader: Option<Source>,
    /// What hands out what comes then.
    then: Option<Source>,
    buf: Vec<u8>,
    findings: Vec<duralog_core::Finding>,
    hook: Option<DamageHook>,
    /// Whether a writer may take away what is read.
    is_beside: bool,
}

impl<D: SharedDevice> fmt::Debug for Entries<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl<D: SharedDevice> Entries<D> {
    /// The entries from `from` to `to`; from the low-water mark on, those below that belong to what ends above it too.
    pub(crate) fn new(device: D, view: View, from: Lsn, to: Lsn, policy: Policy) -> Self {
        let crossing = crossing(&view, from, to, |view| Crossing::new(view, policy));
        Self::with(device, Source::Reader(Box::new(Reader::new(view, from, to, policy)))).after(crossing)
    }

    /// [`new`](Self::new), newest first, to the end.
    pub(crate) fn reverse(device: D, view: View, from: Lsn) -> Self {
        let crossing = crossing(&view, from, Lsn::MAX, Crossing::reverse);
        let reader = ReverseReader::new(view, from, Lsn::MAX);
        Self { then: crossing, ..Self::with(device, Source::Machine(Box::new(reader))) }
    }

    /// What a machine hands out.
    pub(crate) fn of(device: D, machine: impl Machine<Output = Read> + Send + 'static) -> Self {
        Self::with(device, Source::Machine(Box::new(machine)))
    }

    fn with(device: D, source: Source) -> Self {
        let reader = Some(source);
        let buf = vec![0; at_most(device.geometry(), READ)];
        Self { device, reader, then: None, buf, findings: Vec::new(), hook: None, is_beside: false }
    }

    /// These entries after those.
    fn after(self, first: Option<Source>) -> Self {
        match first {
            Some(first) => Self { reader: Some(first), then: self.reader, ..self },
            None => self,
        }
    }

    pub(crate) fn with_damage_hook(self, hook: DamageHook) -> Self {
        Self { hook: Some(hook), ..self }
    }

    /// What is read beside a writer, who may take it away: `hook` knows.
    pub(crate) fn beside(self, hook: DamageHook) -> Self {
        Self { is_beside: true, ..self.with_damage_hook(hook) }
    }

    /// Hands out the entries that are left, each as it stands in the buffer: nothing is copied or allocated for it. `see`
    /// says whether to go on; after a pause the iteration, or another visit, goes on behind that entry.
    ///
    /// # Errors
    /// As an item of the iteration: damage and gaps, in their place. Nothing comes after an error.
    pub fn visit(&mut self, mut see: impl FnMut(EntryRef<'_>) -> Flow) -> Result<()> {
        let Some(reader) = self.reader.as_mut() else { return Ok(()) };
        loop {
            if reader.ready(&mut self.buf, &mut see) == Flow::Pause {
                return Ok(());
            }
            let mut one = Shown { see: &mut see, flow: Flow::Pause, findings: &mut self.findings };
            match drive_until_pause(reader.machine(), &mut self.device, &mut self.buf, &mut one) {
                Ok(None) if one.flow == Flow::Continue => {}
                Ok(None) => return Ok(()),
                Ok(Some(_)) => match self.then.take() {
                    Some(then) => *reader = then,
                    None => return self.ended(),
                },
                Err(error) => return Err(self.ended_by(error.into())),
            }
        }
    }

    /// All was read. What was skipped on the way may be what a writer took away, and no damage.
    fn ended(&mut self) -> Result<()> {
        self.reader = None;
        if !self.is_beside {
            return Ok(());
        }
        let Some(damage) = self.findings.iter().find(|finding| !finding.harmless).copied() else { return Ok(()) };
        match self.ended_by(Error::Damaged(damage)) {
            error @ Error::Superseded => Err(error),
            _ => Ok(()),
        }
    }

    /// Nothing comes after an error; whoever has to know of it is asked what it is.
    fn ended_by(&mut self, error: Error) -> Error {
        self.reader = None;
        match &mut self.hook {
            Some(hook) => hook(error),
            None => error,
        }
    }

    /// What was found and skipped so far.
    #[must_use]
    pub fn findings(&self) -> &[duralog_core::Finding] {
        &self.findings
    }
}

/// What hands entries out.
enum Source {
    /// As they stand: most of them need no step of the machine.
    Reader(Box<Reader>),
    Machine(Box<dyn Machine<Output = Read> + Send>),
}

impl Source {
    fn machine(&mut self) -> &mut dyn Machine<Output = Read> {
        match self {
            Self::Reader(reader) => &mut **reader,
            Self::Machine(machine) => &mut **machine,
        }
    }

    /// Shows the entries that are ready in the buffer.
    fn ready(&mut self, buf: &mut [u8], see: impl FnMut(EntryRef<'_>) -> Flow) -> Flow {
        match self {
            Self::Reader(reader) => reader.ready(buf, see),
            Self::Machine(_) => Flow::Continue,
        }
    }
}

/// What is handed out of what lies below the low-water mark, where that is where reading begins.
fn crossing(view: &View, from: Lsn, to: Lsn, crossing: impl FnOnce(&View) -> Crossing) -> Option<Source> {
    let begins = from == view.low_water() && from > Lsn::FIRST && from <= to;
    begins.then(|| Source::Machine(Box::new(crossing(view))))
}

/// Shows one entry to whoever wants to see it, who then may want to go on.
struct Shown<'a, F> {
    see: F,
    flow: Flow,
    findings: &'a mut Vec<duralog_core::Finding>,
}

impl<F: FnMut(EntryRef<'_>) -> Flow> Host for Shown<'_, F> {
    fn entry(&mut self, entry: EntryRef<'_>) -> Flow {
        self.flow = (self.see)(entry);
        Flow::Pause
    }

    fn finding(&mut self, finding: &duralog_core::Finding) {
        self.findings.push(*finding);
    }
}

/// Takes one entry.
struct One<'a> {
    entry: Option<Entry>,
    findings: &'a mut Vec<duralog_core::Finding>,
}

impl Host for One<'_> {
    fn entry(&mut self, entry: EntryRef<'_>) -> Flow {
        self.entry = Some(Entry::new(entry));
        Flow::Pause
    }

    fn finding(&mut self, finding: &duralog_core::Finding) {
        self.findings.push(*finding);
    }
}

impl<D: SharedDevice> Iterator for Entries<D> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let reader = self.reader.as_mut()?;
        let mut one = One { entry: None, findings: &mut self.findings };
        loop {
            if reader.ready(&mut self.buf, |entry| one.entry(entry)) == Flow::Pause {
                return one.entry.map(Ok);
            }
            match drive_until_pause(reader.machine(), &mut self.device, &mut self.buf, &mut one) {
                Ok(None) => return one.entry.map(Ok),
                Ok(Some(_)) => match self.then.take() {
                    Some(then) => *reader = then,
                    None => return self.ended().err().map(Err),
                },
                Err(error) => return Some(Err(self.ended_by(error.into()))),
            }
        }
    }
}
