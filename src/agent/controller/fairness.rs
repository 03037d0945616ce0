//! Workers are shared among downloads, also where one's connections hold them for as long as its
//! server likes.

use std::cmp::Reverse;

use super::*;

/// A download that has had no worker, or fewer than its share, for so long gets one of another's.
const PATIENCE: Duration = Duration::from_millis(500);

impl Controller {
    /// Where a download waits for a worker, asks the one that has the most of them to give one up:
    /// not one of a higher priority.
    pub(super) fn share(&mut self, now: Instant) {
        let full = self.out >= AHEAD * self.policy.workers;
        let wanting = self
            .busy()
            .filter(|(_, active)| active.wants_work())
            .count();
        let fair = self.policy.workers / wanting.max(1);
        let (mut starving, mut working) = (None::<i32>, 0);
        let mut runs: Vec<(i32, usize, Arc<Run>)> = Vec::new();
        for key in &self.busy {
            let Some(active) = self.active.get_mut(key) else {
                continue;
            };
            let here = active.run.as_ref().map_or(0, |run| run.working());
            if !active.waits_for_worker(here, fair, full, now) {
                active.waits_since = None;
            }
            let priority = active.download.priority();
            let waits = active.waits_since;
            if waits.is_some_and(|since| now.duration_since(since) >= PATIENCE) {
                starving = starving.max(Some(priority));
                // One at a time: it waits again for the next.
                active.waits_since = None;
            }
            working += here;
            runs.extend(active.run.clone().map(|run| (priority, here, run)));
        }
        if let Some(starving) = starving.filter(|_| working >= self.policy.workers) {
            // The lowest priority first, then the one that has the most.
            let most = runs
                .into_iter()
                .filter(|&(priority, here, _)| {
                    priority < starving && here > 0 || priority == starving && here > fair.max(1)
                })
                .min_by_key(|&(priority, here, _)| (priority, Reverse(here)));
            most.iter().for_each(|(.., run)| run.request_worker());
        }
    }
}

impl Active {
    /// Whether there is something to do and nobody at it, or fewer than its `fair` share. Not while
    /// it is being begun, or waits for its own server.
    fn waits_for_worker(&mut self, working: usize, fair: usize, full: bool, now: Instant) -> bool {
        let record = &self.record;
        let waits = self.wants_work()
            && record.next_due(now).is_none()
            && match record.is_idle() {
                true => working == 0 && full,
                false => {
                    let lacks = working == 0 || working < fair && record.jobs_out() > working;
                    lacks && record.may_help()
                }
            };
        if waits {
            self.waits_since.get_or_insert(now);
        }
        waits
    }
}
