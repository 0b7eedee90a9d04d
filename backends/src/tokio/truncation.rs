//! Giving up the front of the log, its end, or all of it; and the application slot.

use duralog_core::Lsn;

use super::Log;
use crate::{device::SharedDevice, error::Result};

impl<D: SharedDevice> Log<D> {
    /// See [`Log::truncate_before`](crate::Log::truncate_before).
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.job(move |log| log.truncate_before(lsn)).await
    }

    /// See [`Log::discard_before`](crate::Log::discard_before).
    ///
    /// # Errors
    /// As there.
    pub async fn discard_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.job(move |log| log.discard_before(lsn)).await
    }

    /// See [`Log::truncate_after`](crate::Log::truncate_after): what was requested before is cut off, what is requested after
    /// comes behind the cut. It waits for a checkpoint under way, and they wait for it.
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_after(&self, lsn: Lsn) -> Result<()> {
        self.job(move |log| log.truncate_after(lsn)).await
    }

    /// See [`Log::reset_to`](crate::Log::reset_to). It waits, and others for it, as [`truncate_after`](Self::truncate_after)
    /// does.
    ///
    /// # Errors
    /// As there.
    pub async fn reset_to(&self, next: Lsn) -> Result<()> {
        self.job(move |log| log.reset_to(next)).await
    }

    /// See [`Log::slot`](crate::Log::slot); what is still in the queue does not count yet.
    #[must_use]
    pub fn slot(&self) -> Vec<u8> {
        self.inner.log.slot()
    }

    /// See [`Log::set_slot`](crate::Log::set_slot).
    ///
    /// # Errors
    /// As there.
    pub async fn set_slot(&self, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.to_vec();
        self.job(move |log| log.set_slot(&bytes)).await
    }
}
