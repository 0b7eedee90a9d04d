//! Opening: recovery, and taking the log over for writing.

use core::{
    cell::{Cell, OnceCell},
    future::Future,
};
use std::rc::Rc;

use duralog_core::{
    Action, CHECKPOINTS_MAX, Checkpoints, Durability, Error as DriveError, Fault, Locate, Lsn, Object, Policy,
    Recovered, Recovery, Writer, WriterOptions,
};
use uuid::Uuid;

use super::{
    Client, Fallible, GiveUp, Keeping, LocalDevice, Log, Shared, drive,
    worker::{Planning, Worker},
};
use crate::{
    checksum,
    config::{Config, SyncMode},
    error::{Error, Result},
    log::{Findings, none_there, take_over},
    read::scratch,
    report::RecoveryReport,
};

/// What a log is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To append and read.
    Write,
    /// To read it as it stands now, beside a writer perhaps: nothing is written.
    Read,
}

impl Log {
    /// Opens the log on a device, or makes one there if the configuration and the access allow that. Of the
    /// configuration count what is said of segments, modes, checkpoints and recovery; there is no folder and no thread.
    ///
    /// The task serves the handle's requests until the log is closed or no handle is left. It must be polled by the
    /// program; dropping it is a crash.
    ///
    /// # Errors
    /// As the blocking log's [`open`](crate::Log::open). Nothing was destroyed then.
    pub async fn open<D: LocalDevice + 'static>(
        device: D,
        config: Config,
        access: Access,
        client: Rc<dyn Client>,
    ) -> Result<(Self, impl Future<Output = ()>)> {
        Self::try_open(device, config, access, client).await.map_err(|error| *error)
    }

    async fn try_open<D: LocalDevice + 'static>(
        mut device: D,
        config: Config,
        access: Access,
        client: Rc<dyn Client>,
    ) -> Fallible<(Self, impl Future<Output = ()>)> {
        let options = options(&device, &config)?;
        let started = config.environment.now_us();
        let mut buf = scratch(device.geometry());
        let mut findings = Findings::default();
        let mut recovery = Keeping::new(Recovery::new(config.recovery_options()));
        let recovered = match drive(&mut recovery, &mut device, &mut buf, &mut findings).await {
            Ok(_) => Some(recovery.output()),
            Err(error) if matches!(*error, DriveError::Fault(Fault::NoLog)) => {
                none_there(&config)?;
                if access == Access::Read {
                    return Err(Error::NotFound { path: config.dir }.into());
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        let environment = &*config.environment;
        let (writer, mut report) = match &recovered {
            Some(recovered) => {
                let mut report = RecoveryReport::found(&recovered.report, findings.0);
                let gives_up = matches!(config.policy, Policy::PointInTime | Policy::Salvage);
                if config.full_check || gives_up {
                    super::read::check_all(&mut device, recovered, &mut report, &mut buf).await?;
                }
                let writer = if access == Access::Write { Some(take_over(options, recovered, &report)?) } else { None };
                (writer, report)
            }
            None => {
                let writer = Writer::create(options, Uuid::from_u128(environment.random())).map_err(Error::Config)?;
                let report = RecoveryReport::made(&writer, config.policy);
                (Some(writer), report)
            }
        };
        let view = recovered.as_ref().map(|recovered| recovered.view.clone());
        let mut worker = Worker::new(device, writer, view, buf, options, &config, client);
        if let Some(recovered) = &recovered {
            worker.checkpoints = Checkpoints::found(recovered);
            worker.highest_checkpoint = recovered.highest_checkpoint;
        }
        if access == Access::Write {
            report.repersisted = worker.take_over(recovered.as_ref(), report.cut_before()).await?;
            if let Some(recovered) = &recovered {
                // That need not succeed.
                let _ = worker.device.tidy(Object::Segment(recovered.view.newest())).await;
            }
        }
        if let Some(recovered) = &recovered {
            report.end_before_damage(recovered.highest_told());
        }
        report.duration_us = config.environment.now_us().saturating_sub(started);
        let shared = Rc::new(Shared {
            queue: Default::default(),
            waker: Cell::default(),
            current: Cell::default(),
            synced: Cell::default(),
            report,
            over: OnceCell::new(),
        });
        worker.show(&shared);
        Ok((Self { shared: shared.clone() }, worker.run(shared)))
    }
}

fn options<D: LocalDevice>(device: &D, config: &Config) -> Fallible<WriterOptions> {
    let mut options = WriterOptions::new(device.geometry());
    options.old_writer = device.old_writer();
    if let Some(write_limit) = config.write_limit {
        options.write_limit = write_limit;
    }
    options.max_transactions = config.max_transactions;
    options.immediate = config.sync_mode == SyncMode::Immediate;
    options.checksum = checksum::update;
    options.validate().map_err(Error::Config)?;
    if !(1..=CHECKPOINTS_MAX).contains(&config.checkpoint_retention) {
        return Err(Error::Retention { most: CHECKPOINTS_MAX }.into());
    }
    Ok(options)
}

impl<D: LocalDevice> Worker<D> {
    /// Makes durable what was found, and begins the segment that taking the log over needs at once, if any; tells how many
    /// entries were copied into it.
    async fn take_over(&mut self, recovered: Option<&Recovered>, cut_before: Option<Lsn>) -> Fallible<u64> {
        let writer = self.writer()?;
        let next = writer.next_lsn();
        if writer.needs_sync() {
            self.commit(Durability::Durable).await?;
        }
        match (recovered, cut_before) {
            // The log ends before damage in a sealed segment, and goes on above all that was ever durable.
            (Some(recovered), Some(lsn)) if lsn <= recovered.view.low_water() => {
                self.begin_now(&mut |writer, now, nonce| writer.plan_reset(now, nonce, next)).await
            }
            (Some(recovered), Some(lsn)) => {
                let mut locate = Keeping::new(Locate::new(recovered.view.clone(), lsn.previous()));
                self.drive(&mut locate, &mut ()).await?;
                let at = locate.output();
                self.begin_now(&mut |writer, now, nonce| writer.plan_cut(now, nonce, at, next)).await
            }
            (Some(_), None) if !self.writer()?.needs_segment() => Ok(0),
            _ => match self.begin_now(&mut Writer::plan).await {
                // A log that was recovered can be read, and is written once there is room: what a checkpoint holds is
                // given up for it.
                Err(error) if recovered.is_some() && matches!(*error, Error::NoSpace(_)) => {
                    match self.truncate(Lsn::MAX, GiveUp::Covered).await.map_err(|error| *error) {
                        Ok(_) | Err(Error::NoSpace(_) | Error::Device { action: Action::Remove, .. }) => Ok(0),
                        Err(error) => Err(error.into()),
                    }
                }
                begun => begun,
            },
        }
    }

    async fn begin_now(&mut self, plan: Planning<'_>) -> Fallible<u64> {
        loop {
            let copied = self.begin(plan).await?;
            if self.writer()?.is_ready() {
                return Ok(copied);
            }
        }
    }
}
