//! Signals: being asked to end, by SIGINT and SIGTERM, and SIGXFSZ, which is not to end anything.

use core::sync::atomic::{AtomicU8, Ordering};
use std::{io, sync::Arc};

/// Remembers the first signal that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<AtomicU8>);

impl Signal {
    /// From now on signals are remembered rather than ending the program. `wake` is called behind each, in a thread of
    /// its own.
    pub(crate) fn watch(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let this = Self::default();
        let seen = this.clone();
        watch(move |signal| {
            let _ = seen.0.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
            wake();
        })?;
        Ok(this)
    }

    /// The signal, if one came.
    pub(crate) fn get(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// Where a file may not grow, a write says so, as on a full disk: else a signal would end the program without a word.
#[cfg(unix)]
pub(crate) fn survive_size_limits() -> io::Result<()> {
    let came = Arc::default();
    signal_hook::flag::register(signal_hook::consts::signal::SIGXFSZ, came).map(|_| ())
}

#[cfg(not(unix))]
pub(crate) fn survive_size_limits() -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn watch(mut came: impl FnMut(u8) + Send + 'static) -> io::Result<()> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            came(u8::try_from(signal).unwrap_or(u8::MAX));
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn watch(mut came: impl FnMut(u8) + Send + 'static) -> io::Result<()> {
    const SIGINT: u8 = 2;
    ctrlc::set_handler(move || came(SIGINT)).map_err(io::Error::other)
}
