//! Reading a log without writing to it: beside a live writer, or to see what it holds before anything is done.

use duralog_core::{
    CheckpointId, DeviceError, Error as DriveError, ErrorKind, Fault, Finding, Lsn, Object, Policy, ReadCheckpoint,
    Reading, Recovered, Recovery, RecoveryOptions, Replay, Seen, Verdict, View,
    checkpoint::{CheckpointError, CheckpointHeader, HEADER_LEN},
    checksum, drive,
};

use crate::{
    checkpoint::{Rebuilt, rebuild},
    config::Config,
    device::SharedDevice,
    error::{Error, Result},
    file::{Access, FileDevice},
    log::{Findings, none_there},
    read::{Entries, scratch},
    report::RecoveryReport,
    store::StateMachine,
};

/// A log, open for reading: it takes no lock, writes nothing and disturbs no writer.
///
/// It sees the log as it stood when it was opened. Entries above [`durable_lsn`](RecoveryReport::durable_lsn) are not
/// known to be durable: a crash of the writer may still take them. Where a writer has truncated, cut or reset the log since,
/// what is gone is told as [`Error::Superseded`] and not as damage: open another reader then.
///
/// ```
/// use duralog::{Config, Log, LogReader, Lsn};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(Config::new(dir.path()))?; // a writer, here or in another process
/// log.append(b"any bytes")?;
/// log.sync()?;
///
/// let mut reader = LogReader::open(Config::new(dir.path()))?;
/// let entries = reader.read(Lsn::ZERO, Lsn::MAX)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(entries[0].payload, b"any bytes");
/// let report = reader.verify()?; // every entry and every checkpoint
/// assert!(report.success && report.damage().next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogReader<D: SharedDevice = FileDevice> {
    pub(crate) device: D,
    pub(crate) recovered: Recovered,
    report: RecoveryReport,
    config: Config,
}

impl LogReader<FileDevice> {
    /// Opens the log in the folder that `config` names. Of the configuration count the folder, the policy and what is
    /// expected.
    ///
    /// # Errors
    /// As [`Log::open`](crate::Log::open); never [`Error::Locked`].
    pub fn open(config: Config) -> Result<Self> {
        let options = config.file_options(Access::Read);
        let device = FileDevice::open(&config.dir, options).map_err(|error| config.not_there(error))?;
        Self::open_device(device, config)
    }
}

impl<D: SharedDevice> LogReader<D> {
    /// Opens the log on a device.
    ///
    /// # Errors
    /// As [`open`](LogReader::open).
    pub fn open_device(mut device: D, config: Config) -> Result<Self> {
        let started = config.environment.now_us();
        let (recovered, findings) = read_twice(&mut device, &config)?;
        let mut report = RecoveryReport::found(&recovered.report, findings);
        report.duration_us = config.environment.now_us().saturating_sub(started);
        Ok(Self { device, recovered, report, config })
    }

    /// What was found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Reads and verifies every entry and every checkpoint, and adds to the report what was found: afterwards it speaks
    /// of all of them. Where a writer has taken some away since the log was opened, it is opened again: the reader then
    /// sees the log as it stands now.
    ///
    /// # Errors
    /// The device cannot be read; damage is a finding, not an error. [`Error::Superseded`] if a writer takes away what is
    /// read, again and again.
    pub fn verify(&mut self) -> Result<&RecoveryReport> {
        for left in (0..TRIES).rev() {
            let verified = self.verify_once();
            let is_suspect =
                verified.is_err() || self.report.findings.iter().any(|finding| !finding.verdict.is_torn_tail());
            if !(is_suspect && Sighting::of(&self.recovered).has_changed(&mut self.device, Changes::All)) {
                return verified.map(|()| &self.report);
            }
            if left > 0 {
                let started = self.config.environment.now_us();
                let (recovered, findings) = read_twice(&mut self.device, &self.config)?;
                self.report = RecoveryReport::found(&recovered.report, findings);
                self.report.duration_us = self.config.environment.now_us().saturating_sub(started);
                self.recovered = recovered;
            }
        }
        Err(Error::Superseded)
    }

    fn verify_once(&mut self) -> Result<()> {
        let mut buf = scratch(self.device.geometry());
        match self.report.check_all(&mut self.device, &self.recovered.view, &self.recovered.checkpoints, &mut buf) {
            Ok(()) | Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        self.check_checkpoints(&mut buf)
    }

    fn check_checkpoints(&mut self, buf: &mut Vec<u8>) -> Result<()> {
        let view = self.recovered.view.clone();
        let mut bad = Vec::new();
        for (object, len) in self.objects()? {
            let Object::Checkpoint(id) = object else { continue };
            let read = ReadCheckpoint::new(checksum::portable, view.log(), id, Reading::Check);
            match drive(read, &mut self.device, buf, &mut ()) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => bad.push((id, len, self.what_is_wrong(id, error)?)),
                // A newer one has taken its place.
                Err(DriveError::Device { error, .. }) if error.kind() == ErrorKind::Gone => {}
                Err(DriveError::Fault(Fault::Unreadable { .. }) | DriveError::Device { .. }) => {
                    bad.push((id, len, Verdict::Unreadable));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What was given up is only in a checkpoint: whether one is left that holds it was judged.
        let harmless = self.report.damage().all(|finding| finding.seen != Seen::StateLost);
        let told = |id| self.report.findings.iter().any(|finding| finding.object == Object::Checkpoint(id));
        bad.retain(|(id, _, verdict)| *verdict != Verdict::Unsupported || !told(*id));
        for (id, len, verdict) in bad {
            let crash = verdict == Verdict::Unsynced || verdict == Verdict::Foreign;
            self.report.findings.push(Finding {
                verdict,
                seen: Seen::BadCheckpoint,
                object: Object::Checkpoint(id),
                offset: 0,
                len,
                lsns: None,
                witness: None,
                in_transaction: None,
                transaction: None,
                commits: false,
                harmless: harmless || crash,
            });
        }
        self.report.sum_up();
        self.report.end_before_damage(self.recovered.highest_told());
        Ok(())
    }

    /// What is to be thought of a checkpoint that is not valid: the entry that tells of it proves that it once was.
    fn what_is_wrong(&mut self, id: CheckpointId, error: CheckpointError) -> Result<Verdict> {
        if let CheckpointError::UnsupportedVersion { .. } = error {
            return Ok(Verdict::Unsupported);
        }
        let mut head = [0; HEADER_LEN];
        let read = self.device.read(Object::Checkpoint(id), 0, &mut head).map_err(D::opened)?;
        let foreign = CheckpointHeader::decode(&head[..read]).is_ok_and(|head| head.log != self.recovered.view.log());
        let completed = self.report.checkpoints.contains(&id);
        Ok(if foreign {
            Verdict::Foreign
        } else if completed {
            Verdict::Rot
        } else {
            Verdict::Unsynced
        })
    }

    /// Reads the entries from `from` to `to`, both included, in the order of their LSNs.
    ///
    /// # Errors
    /// [`Error::Truncated`] if `from` is below the low-water mark; [`Lsn::ZERO`] stands for the first entry kept.
    pub fn read(&self, from: Lsn, to: Lsn) -> Result<Entries<D>> {
        let view = self.recovered.view.clone();
        if from < view.low_water() && from != Lsn::ZERO {
            return Err(Error::Truncated { low_water: view.low_water() });
        }
        let from = from.max(view.low_water());
        let device = self.device.reader().map_err(D::opened)?;
        let (seen, mut beside) = (Sighting::of(&self.recovered), self.device.reader().map_err(D::opened)?);
        let told = move |error| if seen.has_changed(&mut beside, Changes::Entries) { Error::Superseded } else { error };
        Ok(Entries::new(device, view, from, to, self.report.policy).beside(Box::new(told)))
    }

    /// Reads what counts from `from` on, in the order in which it does: entries by themselves, and those of transactions
    /// where they are committed. [`read`](Self::read) gives them as they stand.
    ///
    /// # Errors
    /// The device cannot be opened again.
    pub fn replay_from(&self, from: Lsn) -> Result<Entries<D>> {
        let view = self.recovered.view.clone();
        let from = from.max(view.low_water());
        let device = self.device.reader().map_err(D::opened)?;
        let (seen, mut beside) = (Sighting::of(&self.recovered), self.device.reader().map_err(D::opened)?);
        let told = move |error| if seen.has_changed(&mut beside, Changes::Entries) { Error::Superseded } else { error };
        Ok(Entries::of(device, Replay::new(view, from, self.report.policy)).beside(Box::new(told)))
    }

    /// Builds a state up: loads the newest valid checkpoint and applies what counts after it.
    ///
    /// # Errors
    /// As [`Log::rebuild`](crate::Log::rebuild).
    pub fn rebuild<S: StateMachine>(&self, state: &mut S) -> Result<Rebuilt> {
        let mut device = self.device.reader().map_err(D::opened)?;
        let Recovered { view, checkpoints, .. } = &self.recovered;
        let rebuilt = rebuild(&mut device, view, checkpoints, self.report.policy, state);
        let is_whole = |rebuilt: &Rebuilt| rebuilt.findings.iter().all(|finding| finding.harmless);
        if rebuilt.as_ref().is_ok_and(is_whole) {
            return rebuilt;
        }
        let place = rebuilt.as_ref().err().and_then(Error::place);
        // A cut removes the checkpoints beyond it before anything else tells of it.
        let is_gone = matches!(place, Some((object @ Object::Checkpoint(_), _)) if device.len(object).is_err());
        if is_gone || Sighting::of(&self.recovered).has_changed(&mut device, Changes::All) {
            return Err(Error::Superseded);
        }
        rebuilt
    }

    /// The policy it was opened under.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.report.policy
    }
}

/// What tells whether a writer has taken something away since a log was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    /// What decides how much of a damaged log is seen.
    policy: Policy,
    epoch: u64,
    low_water: Lsn,
    checkpoint: CheckpointId,
}

/// What may have been taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// Entries, by truncation, a cut or a reset.
    Entries,
    /// Entries, or checkpoints by newer ones.
    All,
}

impl Sighting {
    /// What a handle saw that no longer keeps others from writing.
    pub(crate) fn by(view: &View, epoch: u64) -> Self {
        Self { policy: Policy::Default, epoch, low_water: view.low_water(), checkpoint: CheckpointId::default() }
    }

    fn of(recovered: &Recovered) -> Self {
        let (epoch, low_water) = (recovered.report.epoch, recovered.view.low_water());
        let policy = match recovered.report.policy {
            // It sees the same, and is not refused for it.
            Policy::Strict => Policy::Default,
            policy => policy,
        };
        Self { policy, epoch, low_water, checkpoint: recovered.highest_checkpoint }
    }

    /// Whether it was. What cannot be read now has not changed for all that is known.
    pub(crate) fn has_changed<D: SharedDevice>(self, device: &mut D, what: Changes) -> bool {
        let options = RecoveryOptions { policy: self.policy, ..RecoveryOptions::default() };
        let mut buf = scratch(device.geometry());
        (0..TRIES).any(|_| match drive(Recovery::new(options), device, &mut buf, &mut ()) {
            Ok(now) => {
                let now = Self::of(&now);
                let entries = (now.epoch, now.low_water) != (self.epoch, self.low_water);
                entries || (what == Changes::All && now.checkpoint != self.checkpoint)
            }
            Err(_) => false,
        })
    }
}

/// How often a log is read again, because a writer beside it may have been in the middle of a write or a removal.
const TRIES: u32 = 5;

/// Recovers a log that may be written to meanwhile. What looks damaged is believed when a second reading, after the
/// witness was found, says the same.
fn read_twice<D: SharedDevice>(device: &mut D, config: &Config) -> Result<(Recovered, Vec<Finding>)> {
    let mut buf = scratch(device.geometry());
    let mut before = None;
    for left in (0..TRIES).rev() {
        let mut findings = Findings::default();
        let recovered = drive(Recovery::new(config.recovery_options()), device, &mut buf, &mut findings);
        let seen = match &recovered {
            // What a checkpoint covers is looked at again too: it may be what a writer has just removed.
            Ok(_) => findings.0.iter().find(|finding| !finding.verdict.is_torn_tail()).copied(),
            Err(DriveError::Fault(Fault::Damaged(finding))) => Some(*finding),
            Err(DriveError::Fault(Fault::NoLog)) => {
                none_there(config)?;
                return Err(Error::NotFound { path: config.dir.clone() });
            }
            // A segment was removed between its being listed and read, perhaps.
            Err(DriveError::Device { error, .. }) if error.kind() == ErrorKind::Gone && left > 0 => continue,
            Err(_) => None,
        };
        if seen.is_none() || seen == before || left == 0 {
            return Ok((recovered?, findings.0));
        }
        before = seen;
    }
    unreachable!("the last try returns")
}
