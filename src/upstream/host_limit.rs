//! How many requests one host takes at once, found out from those that it refuses.
//!
//! Nothing is limited until the first refusal (429 or 503). From then on at most as many requests
//! are under way as were under way beside the refused one. After a number of good answers one more
//! is tried; each time that fails, the number doubles, so that few requests are refused. Where even
//! one request at a time is refused now and then, the host counts requests for each second: then
//! there is a gap between two of them, which grows and shrinks in the same way.
//!
//! Pure: the callers bring the clock. See `permits` for those who wait.

use std::time::{Duration, Instant};

/// Good answers before another request at once is tried, after a refusal: at most one in 26 is
/// refused by that.
const FIRST_NEED: u32 = 25;
/// And no more than this.
const MAX_NEED: u32 = 800;
/// Long bodies make few answers: after so long without a refusal for each [`FIRST_NEED`] another
/// request is tried, too.
const NEED_TIME: Duration = Duration::from_secs(60);
/// A host's own count of the requests under way may lag behind: a request that ended makes room for
/// those on other connections so much later. On its own connection the next may follow at once.
const SETTLE: Duration = Duration::from_millis(10);
/// The first gap between two requests to a host that limits its requests per second.
const FIRST_GAP: Duration = Duration::from_millis(10);
/// Behind a longer gap fewer good answers are waited for.
const LONG_GAP: Duration = Duration::from_millis(200);
/// The longest gap, and the longest time for which a refusal of the only request holds up all
/// others.
const MAX_GAP: Duration = Duration::from_secs(5);
/// A host that has refused everything for so long, and longer than any gap, has an outage.
const OUTAGE: Duration = Duration::from_secs(10);
/// During which it is asked so often, at most, beside those who have a wait of their own.
const OUTAGE_GAP: Duration = Duration::from_secs(1);
/// A limit that has held up nobody for so long is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// When a request that has no leave to be sent is to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// As soon as another ends.
    UntilFreed,
    /// At this time, or as soon as another ends.
    Until(Instant),
}

/// What is known of one host.
#[derive(Debug)]
pub struct HostLimit {
    /// Requests that may be under way; None if no limit is known.
    allowed: Option<usize>,
    under_way: usize,
    /// When requests ended lately, and on whose connections.
    ended: Vec<(Instant, usize)>,
    /// Between the beginnings of two requests.
    gap: Duration,
    /// No request begins before.
    not_before: Option<Instant>,
    /// Good answers since the last change, while the limit was used up.
    good: u32,
    /// Good answers that it takes until more is tried.
    need: u32,
    /// What the gap was before more was tried; the last try has not proved itself while this is
    /// there.
    trying: Option<Duration>,
    /// It was tried because nothing was refused for long.
    is_probing: bool,
    /// The last change, or refusal.
    changed: Instant,
    /// When the limit last held up a request.
    felt: Instant,
    /// There was a good answer since the last refusal.
    good_since_refusal: bool,
    /// The last good answer.
    last_good: Option<Instant>,
}

impl HostLimit {
    pub fn new(now: Instant) -> HostLimit {
        HostLimit {
            allowed: None,
            under_way: 0,
            ended: Vec::new(),
            gap: Duration::ZERO,
            not_before: None,
            good: 0,
            need: FIRST_NEED,
            trying: None,
            is_probing: false,
            changed: now,
            felt: now,
            good_since_refusal: false,
            last_good: None,
        }
    }

    /// Whether requests are limited now.
    pub fn is_limited(&self) -> bool {
        self.allowed.is_some()
    }

    /// Requests that are under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether nothing is known of the host that would be missed.
    pub fn is_idle(&self) -> bool {
        self.under_way == 0 && self.allowed.is_none()
    }

    /// Takes leave for one request of the thread `owner`.
    ///
    /// # Errors
    /// It has to wait.
    pub fn begin(&mut self, owner: usize, now: Instant) -> Result<(), Hold> {
        if now.saturating_duration_since(self.felt) >= FORGET && self.is_limited() {
            let under_way = self.under_way;
            *self = HostLimit::new(now);
            self.under_way = under_way;
        }
        let Some(allowed) = self.allowed else {
            self.under_way += 1;
            return Ok(());
        };
        let hold = |limit: &mut HostLimit, hold| {
            limit.felt = now;
            Err(hold)
        };
        if let Some(at) = self.not_before.filter(|&at| at > now) {
            return hold(self, Hold::Until(at));
        }
        self.ended
            .retain(|&(at, _)| now.saturating_duration_since(at) < SETTLE);
        let own = self.ended.iter().position(|&(_, whose)| whose == owner);
        let settling = self.ended.len() - usize::from(own.is_some());
        if self.under_way >= allowed {
            return hold(self, Hold::UntilFreed);
        }
        if self.under_way + settling >= allowed {
            let first = self.ended.iter().map(|&(at, _)| at).min();
            return hold(self, Hold::Until(first.unwrap_or(now) + SETTLE));
        }
        if let Some(own) = own {
            self.ended.remove(own);
        }
        self.under_way += 1;
        if !self.gap.is_zero() {
            self.not_before = Some(now + self.gap);
        }
        Ok(())
    }

    /// A request of `owner` ended, whatever came of it.
    pub fn end(&mut self, owner: usize, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.is_limited() {
            self.ended.push((now, owner));
        }
    }

    /// The host refused a request, which is still under way, and asked to be left alone for so
    /// long.
    pub fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        let others = self.under_way.saturating_sub(1);
        if others == 0 && self.allowed == Some(1) {
            self.refused_alone(retry_after, now);
        } else {
            self.shrink(others, now);
        }
        self.good_since_refusal = false;
    }

    /// Allows no more than `most` requests at once, and less than were being tried.
    pub fn shrink(&mut self, most: usize, now: Instant) {
        let tried = match (self.trying, self.allowed) {
            (Some(_), Some(allowed)) => allowed - 1,
            (_, allowed) => allowed.unwrap_or(usize::MAX),
        };
        self.allowed = Some(tried.min(most).max(1));
        self.need_more(now);
    }

    /// Makes the next try rarer, after a refusal.
    fn need_more(&mut self, now: Instant) {
        let factor = if self.trying.take().is_some() { 2 } else { 1 };
        self.is_probing = false;
        self.need = (self.need * factor).clamp(FIRST_NEED, MAX_NEED);
        self.good = 0;
        (self.changed, self.felt) = (now, now);
    }

    /// The only request was refused: either the host counts them for each second, or it takes none
    /// at all for a while.
    fn refused_alone(&mut self, retry_after: Option<Duration>, now: Instant) {
        let before = self.trying;
        self.need_more(now);
        if !self.good_since_refusal {
            // Once it takes any again, what is allowed is to grow quickly.
            self.need = 1;
        }
        let is_recent = |at: Instant| now.saturating_duration_since(at) < OUTAGE;
        let wait = if self.last_good.is_some_and(is_recent) {
            self.gap = match before {
                Some(before) if before > self.gap => before,
                _ => (2 * self.gap).clamp(FIRST_GAP, MAX_GAP),
            };
            self.gap
        } else {
            self.gap = Duration::ZERO;
            OUTAGE_GAP
        };
        let wait = retry_after.unwrap_or_default().max(wait);
        self.not_before = Some(now + wait.min(MAX_GAP));
    }

    /// The host answered a request, which is still under way, and did not refuse it.
    pub fn answered(&mut self, now: Instant) {
        self.good_since_refusal = true;
        self.last_good = Some(now);
        let Some(allowed) = self.allowed else { return };
        if self.gap.is_zero() && self.under_way < allowed {
            return;
        }
        self.good += 1;
        // The first request after a change of the gap had waited for the one before.
        let proof = allowed + usize::from(!self.gap.is_zero());
        if self.trying.is_some() && self.good as usize >= proof {
            self.trying = None;
            self.need = match std::mem::take(&mut self.is_probing) {
                true => 1,
                false => (self.need / 2).max(1),
            };
        }
        let quiet = now.saturating_duration_since(self.changed);
        let time = NEED_TIME * self.need / FIRST_NEED;
        if self.good >= self.need_at_this_gap() || quiet >= time.max(NEED_TIME) {
            self.try_more(allowed, now);
        } else if !self.gap.is_zero() && quiet >= 2 * NEED_TIME {
            // What it was refused for may be over: if half the gap does, all is tried quickly.
            self.try_more(allowed, now);
            self.gap /= 2;
            self.is_probing = true;
        }
    }

    /// Good answers that it takes until more is tried. With a long gap they come slowly, and what
    /// looked like a limit may have been an overload that is over.
    fn need_at_this_gap(&self) -> u32 {
        if self.gap <= LONG_GAP {
            return self.need;
        }
        let part = LONG_GAP.as_secs_f64() / self.gap.as_secs_f64();
        (f64::from(self.need) * part).ceil() as u32
    }

    fn try_more(&mut self, allowed: usize, now: Instant) {
        self.trying = Some(self.gap);
        if self.gap.is_zero() {
            self.allowed = Some(allowed + 1);
        } else {
            let part = if self.need == 1 { 0.5 } else { 0.8 };
            self.gap = self.gap.mul_f64(part);
            if self.gap < FIRST_GAP / 10 {
                self.gap = Duration::ZERO;
            }
        }
        self.good = 0;
        self.changed = now;
    }
}

#[cfg(test)]
mod tests;
