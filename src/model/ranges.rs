//! How one file is shared out among workers: which ranges are done, taken, and free.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::intervals::Intervals;
use crate::base::locks;

/// A file up to twice this size is fetched in one piece; no range is cut smaller at first.
/// One request costs a round trip, in which a fast line could have carried about this much.
const SMALLEST_RANGE: u64 = 4 << 20;
/// No range is cut larger, so that progress is spread and the pieces at a file's end stay small.
const MAX_RANGE: u64 = 64 << 20;
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
    /// Its connection brings the file to its end, wherever the range ends.
    whole: bool,
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
            whole: false,
        };
        Range {
            start,
            span: Mutex::new(span),
        }
    }

    fn span(&self) -> MutexGuard<'_, Span> {
        locks::lock(&self.span)
    }

    /// Where the range ends, as of now.
    pub fn end(&self) -> u64 {
        self.span().end
    }

    /// The bytes have begun to flow.
    pub fn begin(&self, now: Instant) {
        self.span().begun.get_or_insert(now);
    }

    /// Claims up to `bytes` at the next position for writing; 0 if the range is at its end
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

    /// What was claimed is written. `note` counts it, before anybody can start the file over.
    /// False, and nothing is counted, where the range counts no more.
    pub fn wrote(&self, note: impl FnOnce()) -> bool {
        let mut span = self.span();
        span.written = span.claimed;
        if !span.void {
            note();
        }
        !span.void
    }

    /// What was claimed could not be written.
    pub fn unclaim(&self) {
        let mut span = self.span();
        span.claimed = span.written;
    }

    /// Whether the file was started over since the range was taken, so that it counts no more.
    pub fn is_void(&self) -> bool {
        self.span().void
    }

    /// Whether every byte of it is written.
    pub fn is_done(&self) -> bool {
        let span = self.span();
        !span.void && span.written >= span.end
    }

    /// Its connection brings the file to its end, whatever was asked for.
    pub fn comes_whole(&self) {
        self.span().whole = true;
    }

    fn is_whole(&self) -> bool {
        self.span().whole
    }

    fn end_at(&self, end: u64) {
        self.span().end = end;
    }

    /// From now on it counts no more. Returns how far it was written.
    fn void(&self) -> u64 {
        let mut span = self.span();
        span.void = true;
        span.written
    }

    /// Whether claimed bytes are still on their way to the disk.
    fn is_writing(&self) -> bool {
        let span = self.span();
        span.written < span.claimed
    }

    /// The bytes written since this was last asked.
    fn news(&self) -> Option<(u64, u64)> {
        let mut span = self.span();
        let news = (span.reported, span.written);
        span.reported = span.written;
        (!span.void && news.0 < news.1).then_some(news)
    }

    /// Cuts off the second half of what is left, if that is worth a request.
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

    pub fn left(&self) -> u64 {
        let span = self.span();
        span.end - span.claimed
    }
}

/// The ranges of one file.
#[derive(Debug)]
pub struct Ranges {
    size: u64,
    chunk: Option<u64>,
    done: Intervals,
    /// What others bring.
    others: Intervals,
    running: Vec<Arc<Range>>,
    /// What failed requests asked for: not free until the file's next attempt is due.
    resting: Intervals,
    /// What finished ranges wrote and the journal does not know.
    news: Vec<(u64, u64)>,
    /// The server ignores ranges: the whole file comes on one connection.
    single: bool,
    /// The file grows as it comes: one range at a time, from its beginning on.
    in_order: bool,
    /// Ranges that count no more, of which a byte was still on its way to the disk.
    leaving: Vec<Arc<Range>>,
}

impl Ranges {
    /// The ranges of a file of `size` bytes of which `done` are in place. `chunk` is the length of
    /// its ranges, in bytes, if that was asked for.
    pub fn new(size: u64, done: Intervals, chunk: Option<u64>) -> Ranges {
        let mut done = done;
        done.truncate(size);
        Ranges {
            size,
            chunk,
            done,
            others: Intervals::default(),
            running: Vec::new(),
            resting: Intervals::default(),
            news: Vec::new(),
            single: false,
            in_order: false,
            leaving: Vec::new(),
        }
    }

    /// Only the bytes from `start` up to `end` are to be brought: others bring the rest.
    pub fn keep_to(&mut self, start: u64, end: u64) {
        self.others = [(0, start), (end, self.size)].into_iter().collect();
        self.done = self
            .done
            .intersection(&[(start, end)].into_iter().collect());
    }

    pub fn done(&self) -> &Intervals {
        &self.done
    }

    /// What is written, that of running ranges too.
    pub fn written(&self) -> Intervals {
        let mut written = self.done.clone();
        for range in &self.running {
            written.insert(range.start, range.span().written);
        }
        written
    }

    /// Bytes that are to be brought in all.
    fn wanted(&self) -> u64 {
        self.size - self.others.total()
    }

    /// Where those begin and end.
    fn bounds(&self) -> (u64, u64) {
        self.others.first_gap(self.size).unwrap_or((0, self.size))
    }

    pub fn is_single(&self) -> bool {
        self.single
    }

    pub fn is_complete(&self) -> bool {
        self.running.is_empty() && self.done.total() == self.wanted()
    }

    /// The first free interval, with what is taken left out.
    fn free(&self) -> Option<(u64, u64)> {
        let mut taken = self.done.clone();
        for range in &self.running {
            taken.insert(range.start, range.end());
        }
        for (start, end) in self.resting.iter().chain(self.others.iter()) {
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
        self.wanted().saturating_sub(self.done.total() + taken)
    }

    /// Takes the next free range for one of `workers` workers. None if no range is free, and while
    /// a write of discarded content still runs: it could overwrite new bytes. The job that writes
    /// it ends only after the write.
    pub fn take(&mut self, workers: u64) -> Option<Arc<Range>> {
        self.leaving.retain(|range| range.is_writing());
        if !self.leaving.is_empty() || (self.is_one_at_a_time() && !self.running.is_empty()) {
            return None;
        }
        let (start, gap_end) = self.free()?;
        let share = self.free_total() / (2 * workers.max(1));
        let gap = gap_end - start;
        let (length, fits_in_one) = match self.chunk {
            Some(chunk) => (chunk, gap <= chunk),
            None => {
                let length = share.clamp(SMALLEST_RANGE, MAX_RANGE);
                let small = self.wanted() <= 2 * SMALLEST_RANGE;
                (length, small || gap < length + SMALLEST_RANGE / 2)
            }
        };
        let end = if self.single || fits_in_one {
            gap_end
        } else {
            start + length
        };
        Some(self.run(start, end))
    }

    /// From now on ranges are given out one at a time, in their order.
    pub fn keep_order(&mut self) {
        self.in_order = true;
    }

    fn is_one_at_a_time(&self) -> bool {
        self.single || self.in_order
    }

    /// Takes the tail of the range that has the most left, for a worker that would be idle.
    pub fn take_tail(&mut self, now: Instant) -> Option<Arc<Range>> {
        if self.is_one_at_a_time() {
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
    pub fn defer(&mut self, range: &Arc<Range>) {
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
            range.void();
            if range.is_writing() {
                self.leaving.push(range);
            }
        }
        self.done = Intervals::default();
        self.end_rest();
        self.news.clear();
    }

    /// The server ignores ranges: from now on the file comes on one connection, and all others are
    /// given up. Returns the range for the connection that has found out: it begins behind what is
    /// in place from the first byte that is wanted on, where that `stays`, or else there. None if
    /// another connection brings the whole file already.
    pub fn become_single(&mut self, stays: bool) -> Option<Arc<Range>> {
        self.single = true;
        if self.leave_to_whole() {
            return None;
        }
        for range in &self.running {
            let written = range.void();
            self.done.insert(range.start, written);
        }
        let (first, end) = self.bounds();
        self.done.insert(0, first);
        let gap = self.done.first_gap(end);
        let in_place = gap.map_or(end, |(start, _)| start);
        self.start_over();
        let begin = if stays { in_place } else { first };
        self.done.insert(first, begin);
        Some(self.run(begin, end))
    }

    /// Leaves everything to the connection that brings the whole file, if there is one. False
    /// also where others have brought bytes beside it, which it would bring again.
    fn leave_to_whole(&mut self) -> bool {
        let whole = self.running.iter().find(|range| range.is_whole());
        let Some(whole) = whole.cloned() else {
            return false;
        };
        let others = self.running.iter();
        let others = others.filter(|range| !Arc::ptr_eq(range, &whole));
        let beside: u64 = others.map(|range| range.void() - range.start).sum();
        let (first, end) = self.bounds();
        if beside > 0 || first + self.done.total() != whole.start {
            return false;
        }
        whole.end_at(end);
        self.running = vec![whole];
        true
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
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.written().total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn write(range: &Range, bytes: u64) -> u64 {
        let granted = range.claim(bytes);
        assert!(range.wrote(|| ()));
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
        let mut ranges = Ranges::new(8 * MIB, Intervals::default(), None);
        assert_eq!(drain(&mut ranges, 16), [(0, 8 * MIB)]);
    }

    #[test]
    fn a_large_file_is_cut_into_shrinking_ranges_that_cover_it() {
        let mut ranges = Ranges::new(4096 * MIB + 1, Intervals::default(), None);
        let taken = drain(&mut ranges, 8);
        assert_eq!(taken[0], (0, 64 * MIB));
        assert!(taken.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(taken.last().unwrap().1, 4096 * MIB + 1);
        let last = taken.last().unwrap();
        assert!(last.1 - last.0 <= 6 * MIB);
    }

    #[test]
    fn what_was_written_stays_and_the_rest_is_free_again() {
        let mut ranges = Ranges::new(10, Intervals::default(), None);
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
    fn a_slice_is_brought_and_no_more() {
        let done = [(0, 3 * MIB), (15 * MIB, 40 * MIB)].into_iter().collect();
        let mut ranges = Ranges::new(40 * MIB, done, None);
        ranges.keep_to(2 * MIB, 20 * MIB);
        assert_eq!(
            ranges.done().total(),
            6 * MIB,
            "what others bring is not ours"
        );
        let taken = drain(&mut ranges, 1);
        assert_eq!(taken.first().unwrap().0, 3 * MIB);
        assert_eq!(taken.last().unwrap().1, 15 * MIB);
        for range in ranges.running.clone() {
            write(&range, u64::MAX);
            ranges.put_back(&range);
        }
        assert!(ranges.is_complete());
    }

    #[test]
    fn a_slice_from_a_server_without_ranges_is_one_range() {
        let mut ranges = Ranges::new(40 * MIB, Intervals::default(), None);
        ranges.keep_to(10 * MIB, 30 * MIB);
        let first = ranges.take(8).unwrap();
        write(&first, MIB);
        let whole = ranges.become_single(true).unwrap();
        assert_eq!((whole.start, whole.end()), (11 * MIB, 30 * MIB));
        let whole = ranges.become_single(false).unwrap();
        assert_eq!((whole.start, whole.end()), (10 * MIB, 30 * MIB));
        write(&whole, u64::MAX);
        ranges.put_back(&whole);
        assert!(ranges.is_complete());
    }

    #[test]
    fn what_failed_rests_while_the_others_go_on() {
        let mut ranges = Ranges::new(64 * MIB, Intervals::default(), None);
        let (failing, fine) = (ranges.take(8).unwrap(), ranges.take(8).unwrap());
        write(&failing, 10);
        write(&fine, MIB);
        assert_eq!(ranges.flowing(), 2);
        ranges.defer(&failing);
        assert_eq!(ranges.flowing(), 1);
        let next = ranges.take(8).unwrap();
        assert_eq!(next.start, fine.end());
        ranges.defer(&next);
        while ranges.take(8).is_some() {}
        assert!(!ranges.has_free(), "all that is left rests");
        ranges.end_rest();
        assert_eq!(ranges.take(8).unwrap().start, 10, "from the next byte");
    }

    #[test]
    fn news_come_once() {
        let mut ranges = Ranges::new(10, Intervals::default(), None);
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
        let mut ranges = Ranges::new(8 * MIB, Intervals::default(), None);
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
        let mut ranges = Ranges::new(64 * MIB, Intervals::default(), None);
        let old = ranges.take(8).unwrap();
        write(&old, MIB);
        let whole = ranges.become_single(false).unwrap();
        assert_eq!((whole.start, whole.end()), (0, 64 * MIB));
        assert_eq!(old.claim(1), 0);
        ranges.put_back(&old);
        assert_eq!(ranges.bytes(), 0);
        assert!(ranges.take(8).is_none(), "one connection only");
    }

    #[test]
    fn one_connection_goes_on_behind_what_is_in_place_at_the_start() {
        let mut ranges = Ranges::new(64 * MIB, Intervals::default(), None);
        let taken: Vec<_> = (0..3).filter_map(|_| ranges.take(8)).collect();
        write(&taken[0], MIB);
        write(&taken[2], MIB);
        let whole = ranges.become_single(true).unwrap();
        assert_eq!((whole.start, whole.end()), (MIB, 64 * MIB));
        assert_eq!(ranges.bytes(), MIB);
        assert!(taken.iter().all(|range| range.is_void()));
        write(&whole, 63 * MIB);
        ranges.put_back(&whole);
        assert!(ranges.is_complete());
    }

    #[test]
    fn a_connection_that_brings_the_whole_file_is_left_to_it() {
        let mut ranges = Ranges::new(8 * MIB, Intervals::default(), None);
        let begun = Instant::now();
        let whole = ranges.take(8).unwrap();
        whole.comes_whole();
        whole.begin(begun);
        write(&whole, MIB);
        let tail = ranges.take_tail(begun + Duration::from_secs(2)).unwrap();
        assert!(ranges.become_single(true).is_none());
        assert!(tail.is_void() && !whole.is_void());
        assert_eq!(write(&whole, 100 * MIB), 7 * MIB);
        ranges.put_back(&tail);
        ranges.put_back(&whole);
        assert!(ranges.is_complete());
    }

    #[test]
    fn nothing_is_written_over_by_what_counts_no_more() {
        let mut ranges = Ranges::new(64 * MIB, Intervals::default(), None);
        let old = ranges.take(8).unwrap();
        assert_eq!(old.claim(MIB), MIB);
        ranges.start_over();
        assert!(old.is_void() && ranges.take(8).is_none(), "it is written");
        let mut counted = false;
        assert!(!old.wrote(|| counted = true) && !counted);
        assert_eq!(ranges.take(8).unwrap().start, 0);
    }

    #[test]
    fn a_file_on_disk_that_is_short_is_fetched_from_there() {
        let mut done = Intervals::default();
        done.insert(0, 100);
        let mut ranges = Ranges::new(100, done, None);
        ranges.keep(&[(0, 40)].into_iter().collect());
        assert_eq!(ranges.take(1).unwrap().start, 40);
    }

    #[test]
    fn an_empty_file_is_complete_at_once() {
        assert!(Ranges::new(0, Intervals::default(), None).is_complete());
    }
}
