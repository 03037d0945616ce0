//! How one file is shared out among workers: which ranges are done, taken, and free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::intervals::Intervals;

/// A file up to twice this size is fetched in one piece; no range is cut smaller at first.
/// One request costs a round trip, in which a fast line could have carried about this much.
const SMALLEST_RANGE: u64 = 4 << 20;
/// No range is cut larger, so that progress is spread and the pieces at a file's end stay small.
const LARGEST_RANGE: u64 = 64 << 20;
/// The tail of a slow connection is given away in pieces no smaller than this.
const SMALLEST_TAIL: u64 = 1 << 20;
/// A tail that its own connection would bring within this time is left to it: a new request
/// takes a round trip or two, and the cut one loses its connection.
const WORTH_A_REQUEST: Duration = Duration::from_secs(1);

/// One range of a file on its way.
#[derive(Debug)]
pub struct Range {
    pub start: u64,
    span: Mutex<Span>,
}

#[derive(Debug)]
struct Span {
    /// Everything from the start up to here was written.
    written: u64,
    /// Everything up to here is written or being written.
    claimed: u64,
    /// Where the range ends; taken nearer when its tail is given away.
    end: u64,
    /// What the journal knows.
    reported: u64,
    begun: Option<Instant>,
    /// The file starts over: nothing of this range counts any more.
    void: bool,
}

impl Range {
    fn new(start: u64, end: u64) -> Range {
        let span = Span {
            written: start,
            claimed: start,
            end,
            reported: start,
            begun: None,
            void: false,
        };
        Range {
            start,
            span: Mutex::new(span),
        }
    }

    fn span(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the range ends, as of now.
    pub fn end(&self) -> u64 {
        self.span().end
    }

    /// The bytes have begun to flow.
    pub fn begin(&self, now: Instant) {
        self.span().begun.get_or_insert(now);
    }

    /// Claims up to `bytes` at the next position for writing; 0 where the range is at its end
    /// or counts no more.
    pub fn claim(&self, bytes: u64) -> u64 {
        let mut span = self.span();
        if span.void {
            return 0;
        }
        let granted = bytes.min(span.end - span.claimed);
        span.claimed += granted;
        granted
    }

    /// What was claimed is written. False where the range counts no more.
    pub fn wrote(&self) -> bool {
        let mut span = self.span();
        span.written = span.claimed;
        !span.void
    }

    /// What was claimed could not be written.
    pub fn unclaim(&self) {
        let mut span = self.span();
        span.claimed = span.written;
    }

    /// Whether every byte of it is written.
    pub fn is_done(&self) -> bool {
        let span = self.span();
        !span.void && span.written >= span.end
    }

    /// The bytes written since this was last asked.
    fn news(&self) -> Option<(u64, u64)> {
        let mut span = self.span();
        let news = (span.reported, span.written);
        span.reported = span.written;
        (!span.void && news.0 < news.1).then_some(news)
    }

    /// Cuts off the second half of what is left, where that is worth a request.
    fn give_tail(&self, now: Instant) -> Option<(u64, u64)> {
        let mut span = self.span();
        let left = span.end - span.claimed;
        let begun = span.begun?;
        if span.void || left < 2 * SMALLEST_TAIL {
            return None;
        }
        let elapsed = now.saturating_duration_since(begun).as_secs_f64();
        let got = (span.written - self.start) as f64;
        if elapsed < WORTH_A_REQUEST.as_secs_f64()
            || left as f64 * elapsed < got * WORTH_A_REQUEST.as_secs_f64()
        {
            return None;
        }
        let middle = span.claimed + left / 2;
        let tail = (middle, span.end);
        span.end = middle;
        Some(tail)
    }

    fn left(&self) -> u64 {
        let span = self.span();
        span.end - span.claimed
    }
}

/// The ranges of one file.
#[derive(Debug)]
pub struct Ranges {
    size: u64,
    done: Intervals,
    running: Vec<Arc<Range>>,
    /// What failed requests asked for: not free until the file's next attempt is due.
    resting: Intervals,
    /// What finished ranges wrote and the journal does not know.
    news: Vec<(u64, u64)>,
    /// The server ignores ranges: the whole file comes on one connection.
    single: bool,
}

impl Ranges {
    pub fn new(size: u64, done: Intervals) -> Ranges {
        let mut done = done;
        done.truncate(size);
        Ranges {
            size,
            done,
            running: Vec::new(),
            resting: Intervals::default(),
            news: Vec::new(),
            single: false,
        }
    }

    pub fn done(&self) -> &Intervals {
        &self.done
    }

    pub fn is_single(&self) -> bool {
        self.single
    }

    pub fn is_complete(&self) -> bool {
        self.running.is_empty() && self.done.total() == self.size
    }

    /// The first free interval, with what is taken left out.
    fn free(&self) -> Option<(u64, u64)> {
        let mut taken = self.done.clone();
        for range in &self.running {
            taken.insert(range.start, range.end());
        }
        for (start, end) in self.resting.iter() {
            taken.insert(start, end);
        }
        taken.first_gap(self.size)
    }

    /// Whether [`Ranges::take`] would find a range.
    pub fn has_free(&self) -> bool {
        (!self.single || self.running.is_empty()) && self.free().is_some()
    }

    fn free_total(&self) -> u64 {
        let taken: u64 = self
            .running
            .iter()
            .map(|range| range.end() - range.start)
            .sum();
        self.size.saturating_sub(self.done.total() + taken)
    }

    /// Takes the next free range for one of `workers` workers. None where nothing is free.
    pub fn take(&mut self, workers: u64) -> Option<Arc<Range>> {
        if self.single && !self.running.is_empty() {
            return None;
        }
        let (start, gap_end) = self.free()?;
        let share = self.free_total() / (2 * workers.max(1));
        let length = share.clamp(SMALLEST_RANGE, LARGEST_RANGE);
        let fits_in_one =
            self.size <= 2 * SMALLEST_RANGE || gap_end - start < length + SMALLEST_RANGE / 2;
        let end = if self.single || fits_in_one {
            gap_end
        } else {
            start + length
        };
        Some(self.run(start, end))
    }

    /// Takes the tail of the range that has the most left, for a worker that would be idle.
    pub fn take_tail(&mut self, now: Instant) -> Option<Arc<Range>> {
        if self.single {
            return None;
        }
        let slowest = self.running.iter().max_by_key(|range| range.left())?;
        let (start, end) = slowest.give_tail(now)?;
        Some(self.run(start, end))
    }

    fn run(&mut self, start: u64, end: u64) -> Arc<Range> {
        let range = Arc::new(Range::new(start, end));
        self.running.push(range.clone());
        range
    }

    /// Puts a range back: what it wrote is done, the rest is free again.
    pub fn put_back(&mut self, range: &Arc<Range>) {
        let before = self.running.len();
        self.running.retain(|running| !Arc::ptr_eq(running, range));
        if self.running.len() == before {
            return;
        }
        self.news.extend(range.news());
        self.done.insert(range.start, range.span().written);
    }

    /// Puts a range back whose request failed: what is left of it rests until [`Ranges::end_rest`].
    pub fn put_to_rest(&mut self, range: &Arc<Range>) {
        if self
            .running
            .iter()
            .any(|running| Arc::ptr_eq(running, range))
        {
            self.put_back(range);
            let span = range.span();
            self.resting.insert(span.written, span.end);
        }
    }

    /// What rested is free again.
    pub fn end_rest(&mut self) {
        self.resting = Intervals::default();
    }

    /// How many ranges that are on their way have brought bytes.
    pub fn flowing(&self) -> usize {
        let flows = |range: &&Arc<Range>| range.span().written > range.start;
        self.running.iter().filter(flows).count()
    }

    /// Starts the file over: nothing is done, what runs counts no more.
    pub fn start_over(&mut self) {
        for range in self.running.drain(..) {
            range.span().void = true;
        }
        self.done = Intervals::default();
        self.end_rest();
        self.news.clear();
    }

    /// Starts over for a server that ignores ranges, and takes the whole file.
    pub fn start_over_single(&mut self) -> Arc<Range> {
        self.start_over();
        self.single = true;
        self.run(0, self.size)
    }

    /// Forgets what the file on disk does not hold.
    pub fn keep(&mut self, held: &Intervals) {
        self.done = self.done.intersection(held);
        let news: Intervals = self.news.drain(..).collect();
        self.news = news.intersection(held).iter().collect();
    }

    /// The intervals written since this was last asked.
    pub fn news(&mut self) -> Vec<(u64, u64)> {
        let mut news = std::mem::take(&mut self.news);
        news.extend(self.running.iter().filter_map(|range| range.news()));
        news
    }

    /// Bytes that are written.
    pub fn bytes(&self) -> u64 {
        let running: u64 = self
            .running
            .iter()
            .map(|range| range.span().written - range.start)
            .sum();
        self.done.total() + running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn write(range: &Range, bytes: u64) -> u64 {
        let granted = range.claim(bytes);
        assert!(range.wrote());
        granted
    }

    fn drain(ranges: &mut Ranges, workers: u64) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        while let Some(range) = ranges.take(workers) {
            taken.push((range.start, range.end()));
        }
        taken
    }

    #[test]
    fn a_small_file_is_one_range() {
        let mut ranges = Ranges::new(8 * MIB, Intervals::default());
        assert_eq!(drain(&mut ranges, 16), [(0, 8 * MIB)]);
    }

    #[test]
    fn a_large_file_is_cut_into_shrinking_ranges_that_cover_it() {
        let mut ranges = Ranges::new(4096 * MIB + 1, Intervals::default());
        let taken = drain(&mut ranges, 8);
        assert_eq!(taken[0], (0, 64 * MIB));
        assert!(taken.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(taken.last().unwrap().1, 4096 * MIB + 1);
        let last = taken.last().unwrap();
        assert!(last.1 - last.0 <= 6 * MIB);
    }

    #[test]
    fn what_was_written_stays_and_the_rest_is_free_again() {
        let mut ranges = Ranges::new(10, Intervals::default());
        let range = ranges.take(1).unwrap();
        assert_eq!(write(&range, 4), 4);
        ranges.put_back(&range);
        assert_eq!(ranges.news(), [(0, 4)]);
        let range = ranges.take(1).unwrap();
        assert_eq!((range.start, range.end()), (4, 10));
        assert_eq!(write(&range, 100), 6, "never past the end");
        assert!(range.is_done());
        ranges.put_back(&range);
        assert!(ranges.is_complete());
    }

    #[test]
    fn what_failed_rests_while_the_others_go_on() {
        let mut ranges = Ranges::new(64 * MIB, Intervals::default());
        let (failing, fine) = (ranges.take(8).unwrap(), ranges.take(8).unwrap());
        write(&failing, 10);
        write(&fine, MIB);
        assert_eq!(ranges.flowing(), 2);
        ranges.put_to_rest(&failing);
        assert_eq!(ranges.flowing(), 1);
        let next = ranges.take(8).unwrap();
        assert_eq!(next.start, fine.end());
        ranges.put_to_rest(&next);
        while ranges.take(8).is_some() {}
        assert!(!ranges.has_free(), "all that is left rests");
        ranges.end_rest();
        assert_eq!(ranges.take(8).unwrap().start, 10, "from the next byte");
    }

    #[test]
    fn news_come_once() {
        let mut ranges = Ranges::new(10, Intervals::default());
        let range = ranges.take(1).unwrap();
        write(&range, 3);
        assert_eq!(ranges.news(), [(0, 3)]);
        assert!(ranges.news().is_empty());
        write(&range, 3);
        assert_eq!(ranges.news(), [(3, 6)]);
        assert_eq!(ranges.bytes(), 6);
    }

    #[test]
    fn a_slow_range_gives_its_tail_but_a_fast_one_does_not() {
        let mut ranges = Ranges::new(8 * MIB, Intervals::default());
        let range = ranges.take(1).unwrap();
        let begun = Instant::now();
        assert!(ranges.take_tail(begun).is_none(), "not begun");
        range.begin(begun);
        write(&range, MIB);
        assert!(
            ranges
                .take_tail(begun + Duration::from_millis(100))
                .is_none(),
            "fast"
        );
        let tail = ranges.take_tail(begun + Duration::from_secs(2)).unwrap();
        assert_eq!(
            (range.end(), tail.start, tail.end()),
            (9 * MIB / 2, 9 * MIB / 2, 8 * MIB)
        );
        assert_eq!(
            write(&range, 100 * MIB),
            7 * MIB / 2,
            "the first half is left to it"
        );
    }

    #[test]
    fn starting_over_voids_what_runs() {
        let mut ranges = Ranges::new(64 * MIB, Intervals::default());
        let old = ranges.take(8).unwrap();
        write(&old, MIB);
        let whole = ranges.start_over_single();
        assert_eq!((whole.start, whole.end()), (0, 64 * MIB));
        assert_eq!(old.claim(1), 0);
        ranges.put_back(&old);
        assert_eq!(ranges.bytes(), 0);
        assert!(ranges.take(8).is_none(), "one connection only");
    }

    #[test]
    fn a_file_on_disk_that_is_short_is_fetched_from_there() {
        let mut done = Intervals::default();
        done.insert(0, 100);
        let mut ranges = Ranges::new(100, done);
        ranges.keep(&[(0, 40)].into_iter().collect());
        assert_eq!(ranges.take(1).unwrap().start, 40);
    }

    #[test]
    fn an_empty_file_is_complete_at_once() {
        assert!(Ranges::new(0, Intervals::default()).is_complete());
    }
}
