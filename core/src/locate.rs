//! Where an entry ends: the place at which a log is cut behind it.

use crate::{
    Lsn,
    chain::{HeaderReader, View},
    decision::Policy,
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    frame::FRAME_OVERHEAD,
    reader::Reader,
    writer::CutAt,
};

/// The machine that finds the place behind the entry at one LSN.
#[derive(Debug)]
pub struct Locate {
    view: View,
    lsn: Lsn,
    reader: Reader,
    /// Right behind the entry, and the header of its segment, which is read last.
    found: Option<(u32, HeaderReader)>,
}

impl Locate {
    /// Finds the place behind the entry at `lsn`, which must be in the view.
    #[must_use]
    pub fn new(view: View, lsn: Lsn) -> Self {
        let reader = Reader::new(view.clone(), lsn, lsn, Policy::Default);
        Self { view, lsn, reader, found: None }
    }
}

impl Locate {
    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<CutAt, Stopped> {
        loop {
            if let Some((size, reader)) = &mut self.found {
                reader.next(turn)?;
                let header = self.view.header(turn, reader)?;
                return Ok(CutAt {
                    predecessor: header.cut(self.lsn, *size),
                    floor: header.transaction_floor,
                    takes_last_checkpoint: false,
                });
            }
            if self.reader.advance(turn).is_ok() {
                return Err(turn.fault(Fault::Lost { expected: self.lsn }));
            }
            match turn.stop() {
                Stop::Need(Step::Entry(place)) if place.lsn == self.lsn => {
                    let size = FRAME_OVERHEAD + u32::try_from(place.payload.len()).unwrap_or(u32::MAX);
                    let header = HeaderReader::new(self.view.update, place.segment);
                    self.found = Some((place.offset.saturating_add(size), header));
                }
                Stop::Need(Step::Entry(_)) => {}
                _ => return Err(Stopped),
            }
        }
    }
}

impl Machine for Locate {
    type Output = CutAt;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<CutAt, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}
