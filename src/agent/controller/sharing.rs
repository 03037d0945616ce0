//! Workers are shared among downloads, also where one's connections hold them for as long as its server likes.

use super::*;

/// A download that has had no worker for so long gets one of another's.
const PATIENCE: Duration = Duration::from_secs(2);

impl Controller {
    /// Where a download waits for a worker, asks the one that has the most of them to give one up.
    pub(super) fn share(&mut self, now: Instant) {
        let full = self.out >= AHEAD * self.policy.workers;
        let (mut starving, mut most, mut working) = (false, None::<Arc<Run>>, 0);
        for key in &self.busy {
            let Some(active) = self.active.get_mut(key) else {
                continue;
            };
            let here = active.run.as_ref().map_or(0, |run| run.working());
            if !active.waits_for_worker(here, full, now) {
                active.waits_since = None;
            }
            starving |= active
                .waits_since
                .is_some_and(|since| now.duration_since(since) >= PATIENCE);
            working += here;
            if most.as_ref().is_none_or(|run| run.working() < here) {
                most = active.run.clone();
            }
        }
        if starving && working >= self.policy.workers {
            most.iter().for_each(|run| run.request_worker());
        }
    }
}

impl Active {
    /// Whether there is something to do and nobody at it. Not while it is being begun, or waits for its own server.
    fn waits_for_worker(&mut self, working: usize, full: bool, now: Instant) -> bool {
        let record = &self.record;
        let waits = self.wants_work()
            && working == 0
            && record.next_due(now).is_none()
            && match record.is_idle() {
                true => full,
                false => record.may_help(),
            };
        if waits {
            self.waits_since.get_or_insert(now);
        }
        waits
    }
}
