//! What transactions that are open hold, for the state that the log keeps: it counts when they commit.

use duralog_core::{
    Entry, Flow, Host, Lsn,
    operation::{Code, Operation},
};

/// The entries of transactions that have not ended, by the ids of these. They are few: the log says how many may be open.
#[derive(Default)]
pub(super) struct Transactions(Vec<(u64, Vec<(Lsn, Operation)>)>);

impl Transactions {
    /// Keeps an entry of a transaction until that ends.
    pub(super) fn keep(&mut self, id: u64, lsn: Lsn, operation: Operation) {
        match self.0.iter_mut().find(|(open, _)| *open == id) {
            Some((_, entries)) => entries.push((lsn, operation)),
            None => self.0.push((id, vec![(lsn, operation)])),
        }
    }

    /// The transaction has ended: what it held.
    pub(super) fn end(&mut self, id: u64) -> Vec<(Lsn, Operation)> {
        let at = self.0.iter().position(|(open, _)| *open == id);
        at.map(|at| self.0.swap_remove(at).1).unwrap_or_default()
    }

    /// What was appended behind this LSN was refused: the id of a transaction that was begun there is given out again.
    pub(super) fn refused_behind(&mut self, last: Lsn) {
        self.0.retain(|(id, _)| *id <= last.value());
        for (_, entries) in &mut self.0 {
            entries.retain(|(lsn, _)| *lsn <= last);
        }
    }
}

/// Entries that are read again, as they stand.
impl Host for Transactions {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        let Some(id) = entry.transaction else { return Flow::Continue };
        let code = entry.kind.code();
        if !Code::from_u8(code).is_some_and(Code::is_free) {
            self.end(id);
        } else if let Ok(operation) = Operation::decode(code, entry.transaction, entry.payload) {
            self.keep(id, entry.lsn, operation);
        }
        Flow::Continue
    }
}
