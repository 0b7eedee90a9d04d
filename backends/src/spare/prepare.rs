//! The preparation: a file is made while the active segment fills, and written with zeros in pieces, each with a sync of its
//! own, so that none keeps the appends waiting for long.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use duralog_core::Room;

use super::{ROOM, Spare, Spares, State, discard, name};
use crate::fs::{Files, OneFile};

/// Zeros written at once.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// What prepares spares, beside the log's own work.
#[derive(Debug)]
pub(crate) struct Preparer<F: Files> {
    files: F,
    dir: PathBuf,
    pub(super) spares: Arc<Spares<F::File>>,
}

/// What is to be done next.
enum Piece {
    Make,
    Fill(usize),
}

impl<F: Files> Preparer<F> {
    pub(crate) fn new(files: F, dir: PathBuf, spares: Arc<Spares<F::File>>) -> Self {
        Self { files, dir, spares }
    }

    /// Waits until there is something to prepare, and does one piece of it; `false`: the directory was closed.
    pub(crate) fn step(&mut self) -> bool {
        let spares = Arc::clone(&self.spares);
        let mut state = spares.lock();
        loop {
            if state.closed {
                return false;
            }
            match self.next(&state) {
                Some(piece) => return self.work(&mut state, &piece),
                None => state = spares.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Does one piece if there is one to do, without waiting; tells whether there was.
    pub(crate) fn try_step(&mut self) -> bool {
        let spares = Arc::clone(&self.spares);
        let mut state = spares.lock();
        self.next(&state).is_some_and(|piece| self.work(&mut state, &piece))
    }

    fn next(&self, state: &State<F::File>) -> Option<Piece> {
        let wanted = self.spares.wanted();
        if state.stopped || wanted == 0 {
            return None;
        }
        if state.spares.is_empty() {
            return Some(Piece::Make);
        }
        let short = |spare: &Spare<F::File>| !spare.leaving && spare.ready < wanted;
        // One is enough: what is ready needs no company.
        let ready = state.spares.iter().any(|spare| spare.ready == self.spares.size);
        if ready { None } else { state.spares.iter().position(short).map(Piece::Fill) }
    }

    /// One piece, with the lock held: whoever needs a segment just then waits for this piece and no longer.
    fn work(&mut self, state: &mut State<F::File>, piece: &Piece) -> bool {
        let done = match piece {
            Piece::Make => self.make(state),
            Piece::Fill(at) => self.fill(&mut state.spares[*at]),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the next segment could not be made ahead");
            state.stopped = true;
            let spares = core::mem::take(&mut state.spares);
            spares.iter().for_each(|spare| discard(&self.files, &self.dir, spare));
        }
        true
    }

    fn make(&self, state: &mut State<F::File>) -> io::Result<()> {
        if matches!(self.files.free(&self.dir), Ok(Some(free)) if free / ROOM < self.spares.size) {
            state.stopped = true;
            return Ok(());
        }
        let file = loop {
            state.next += 1;
            match self.files.create_new(&self.dir.join(name(state.next))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break Arc::new(made?),
            }
        };
        let number = state.next;
        let allocated = file.allocate(self.spares.size);
        // Known before its room is: if there is none, it is removed with the others.
        state.spares.push(Spare { number, file, room: Room::Blank, whole: true, ready: 0, leaving: false });
        allocated
    }

    fn fill(&mut self, spare: &mut Spare<F::File>) -> io::Result<()> {
        let size = self.spares.size;
        if !spare.whole {
            spare.file.allocate(size)?;
            spare.whole = true;
        }
        let end = size.min(spare.ready + self.spares.piece());
        let mut at = spare.ready;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            match spare.file.write_at(&ZEROS[..len], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => at += written as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if end == size {
            spare.file.sync_all()?
        } else {
            spare.file.sync_data()?
        }
        spare.ready = end;
        Ok(())
    }
}
