//! Reading a log without writing to it: beside a live writer, or to see what it holds before anything is done.

use duralog_core::{Error as DriveError, Fault, Lsn, Policy, Recovered, Recovery, drive};

use crate::{
    checkpoint::{Rebuilt, rebuild},
    config::Config,
    device::SharedDevice,
    error::{Error, Result},
    file::{Access, FileDevice},
    fs::StdFs,
    log::Findings,
    read::{Entries, SCRATCH},
    report::RecoveryReport,
    store::StateMachine,
};

/// A log, open for reading: it takes no lock, writes nothing and disturbs no writer.
///
/// It sees the log as it stood when it was opened. Entries above [`durable_lsn`](RecoveryReport::durable_lsn) are not
/// known to be durable: a crash of the writer may still take them.
#[derive(Debug)]
pub struct LogReader<D: SharedDevice = FileDevice> {
    device: D,
    recovered: Recovered,
    report: RecoveryReport,
}

impl LogReader<FileDevice> {
    /// Opens the log in the folder that `config` names. Of the configuration count the folder, the policy and what is
    /// expected.
    ///
    /// # Errors
    /// As [`Log::open`](crate::Log::open); never [`Error::Locked`].
    pub fn open(config: Config) -> Result<Self> {
        let options = config.file_options(Access::Read);
        let device = FileDevice::open(&config.dir, options).map_err(FileDevice::<StdFs>::opened)?;
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
        let mut findings = Findings::default();
        let mut buf = vec![0; SCRATCH];
        let recovered = drive(Recovery::new(config.recovery_options()), &mut device, &mut buf, &mut findings);
        let recovered = match recovered {
            Err(DriveError::Fault(Fault::NoLog)) => return Err(Error::NotFound { path: config.dir }),
            recovered => recovered?,
        };
        let mut report = RecoveryReport::found(&recovered.report, findings.0);
        report.duration_us = config.environment.now_us().saturating_sub(started);
        Ok(Self { device, recovered, report })
    }

    /// What was found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Reads and verifies every entry, and adds to the report what was found: afterwards it speaks of all of them.
    ///
    /// # Errors
    /// The device cannot be read; damage is a finding, not an error.
    pub fn verify(&mut self) -> Result<&RecoveryReport> {
        let mut buf = vec![0; SCRATCH];
        match self.report.check_all(&mut self.device, &self.recovered.view, &mut buf) {
            Ok(()) | Err(Error::Refused(_)) => Ok(&self.report),
            Err(error) => Err(error),
        }
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
        Ok(Entries::new(device, view, from, to, self.report.policy))
    }

    /// Builds a state up: loads the newest valid checkpoint and applies what counts after it.
    ///
    /// # Errors
    /// As [`Log::rebuild`](crate::Log::rebuild).
    pub fn rebuild<S: StateMachine>(&self, state: &mut S) -> Result<Rebuilt> {
        let mut device = self.device.reader().map_err(D::opened)?;
        rebuild(&mut device, &self.recovered.view, &self.recovered.checkpoints, self.report.policy, state)
    }

    /// The policy it was opened under.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.report.policy
    }
}
