//! By how much rows that nothing meets are relaxed, time after time, until something does.
//!
//! Every ray shows what is needed at the least, and takes the relaxation there and a little further, so that there is room to
//! find the answer in: towards the least that is enough, which only the last room exceeds. The room grows with every ray, or
//! they might be many, and where it was too little to find the answer in.

use super::rows::Rows;

/// What rows are relaxed by beyond the least that is enough, in units of the predictions: at first, and at the most.
const ROOM: f64 = 1e-9;
const MOST_ROOM: f64 = 1e-6;
/// The same where less leaves too little room to find the answer in.
const LAST_ROOM: f64 = 1e-4;
/// After each the method begins anew, with all the steps that a user allows.
const MOST_RELAXATIONS: u32 = 100;

/// How far it has come with one problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaxation {
    /// What the rows are relaxed by next, beyond what is needed.
    room: f64,
    count: u32,
}

impl Default for Relaxation {
    fn default() -> Self {
        Self { room: ROOM, count: 0 }
    }
}

impl Relaxation {
    /// Relaxes the rows by what a ray showed to be `needed`; where they were relaxed and the answer was not found, by more
    /// room. False if that is the end.
    pub(crate) fn relax(&mut self, rows: &mut Rows, needed: Option<f64>) -> bool {
        let grows = rows.relaxed > 0.0 && self.room <= LAST_ROOM;
        if self.count >= MOST_RELAXATIONS || (needed.is_none() && !grows) {
            return false;
        }
        rows.relax(needed.unwrap_or(0.0) * (1.0 + 1e-9) + self.room);
        self.room = if needed.is_some() { (2.0 * self.room).min(MOST_ROOM.max(self.room)) } else { 10.0 * self.room };
        self.count += 1;
        true
    }
}
