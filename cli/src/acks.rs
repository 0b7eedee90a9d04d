//! `durable LSN`: what an import acknowledges.
//!
//! A thread of its own prints the lines. Whoever asked for them and does not read them holds the import up, for it never
//! goes on before a line is out; but a signal ends it all the same.

use core::time::Duration;
use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Instant,
};

use duralog::Lsn;

use crate::signal::Signal;

/// How long a line may take once a signal has asked to end.
const GRACE: Duration = Duration::from_secs(1);

/// Prints acknowledgements.
pub(crate) struct Acks {
    lsns: Sender<Lsn>,
    told: Receiver<Told>,
    /// A line was not taken in time: no other follows it.
    pub(crate) stuck: bool,
}

/// Ends the waiting for a line where a signal has come.
pub(crate) struct Waker(Sender<Told>);

enum Told {
    Printed(io::Result<()>),
    Wake,
}

impl Waker {
    pub(crate) fn wake(&self) {
        // The import may have ended.
        let _ = self.0.send(Told::Wake);
    }
}

impl Acks {
    pub(crate) fn start() -> io::Result<(Self, Waker)> {
        let (lsns, wanted) = channel::<Lsn>();
        let (tell, told) = channel();
        let waker = Waker(tell.clone());
        let print = move || {
            for lsn in wanted {
                let mut out = io::stdout().lock();
                let printed = writeln!(out, "durable {}", lsn.value()).and_then(|()| out.flush());
                drop(out);
                if tell.send(Told::Printed(printed)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("acks".into()).spawn(print)?;
        Ok((Self { lsns, told, stuck: false }, waker))
    }

    /// Prints the line, and waits until it is out.
    pub(crate) fn durable(&mut self, lsn: Lsn, signal: &Signal) -> io::Result<()> {
        if self.stuck || self.lsns.send(lsn).is_err() {
            return Ok(());
        }
        let mut until = None;
        loop {
            if until.is_none() && signal.get().is_some() {
                until = Some(Instant::now() + GRACE);
            }
            let told = match until {
                None => self.told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.told.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            match told {
                Ok(Told::Printed(printed)) => return printed,
                Ok(Told::Wake) => {}
                Err(_) => {
                    self.stuck = true;
                    return Ok(());
                }
            }
        }
    }
}
