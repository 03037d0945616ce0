//! How many small files one batch has: as many as a worker fetches in a moment.

use super::*;

/// A batch takes up to about so long: much more than handing it over or than a round trip, which
/// its files share, and hardly more than anyone would notice.
const MOMENT: Duration = Duration::from_millis(250);
const MAX_BATCH: usize = 32;

/// How fast the files of a download come, one after the other on one connection.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of late, for each file; None while nothing is known.
    each: Option<Duration>,
}

impl Pace {
    /// Takes in what became of a batch.
    pub(super) fn note(&mut self, done: &[Done], took: Duration) {
        let complete = |done: &Done| matches!(done.outcome, Outcome::Complete);
        let files = u32::try_from(done.len()).unwrap_or(u32::MAX);
        if files > 0 && done.iter().all(complete) {
            self.note_files(files, took);
        }
    }

    fn note_files(&mut self, files: u32, took: Duration) {
        let each = took / files;
        self.each = Some(self.each.map_or(each, |before| (3 * before + each) / 4));
    }

    /// Files for the next batch, 1 at least.
    pub(super) fn batch(&self) -> usize {
        let Some(each) = self.each else { return 1 };
        let fit = MOMENT.as_nanos() / each.as_nanos().max(1);
        usize::try_from(fit)
            .unwrap_or(MAX_BATCH)
            .clamp(1, MAX_BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_large_where_files_come_fast_and_of_one_where_they_come_slowly() {
        let mut pace = Pace::default();
        assert_eq!(pace.batch(), 1, "nothing is known");
        pace.note_files(1, Duration::from_millis(25));
        assert_eq!(pace.batch(), 10);
        pace.note_files(10, Duration::from_millis(50));
        assert!(pace.batch() > 10);
        for _ in 0..30 {
            pace.note_files(32, Duration::ZERO);
        }
        assert_eq!(pace.batch(), MAX_BATCH);
        pace.note_files(1, Duration::from_secs(2));
        assert_eq!(pace.batch(), 1, "a slow line shows at once");
    }
}
