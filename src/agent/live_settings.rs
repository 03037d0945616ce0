//! Keeps speed and workers at what the settings and the hour say, and the settings on
//! disk.

use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use crossbeam_channel::Sender;

use crate::agent::alarm::Alarm;
use crate::agent::messages::Command;
use crate::agent::verifications::Verifications;
use crate::base::clock::{self, Timestamp};
use crate::base::locks;
use crate::model::settings::{Days, Defaults, Settings, SettingsOverrides};
use crate::store::saved::{Change, Saved};
use crate::store::{Store, StoreError};
use crate::transfer::WorkerContext;
use crate::transfer::worker::Pools;

/// Bytes per second that make a connection worth its while. With less, what a sender has put on its
/// way lies in buffers for so long that it takes the connection for dead, and all of that is sent
/// again.
const TRICKLE: u64 = 16 << 10;
/// Even then: a small file need not wait for a large one.
const FEWEST: usize = 2;

/// Settings that are in force, by what was set, the flags and the time of the week.
pub struct LiveSettings {
    store: Arc<Store<Saved>>,
    context: Arc<WorkerContext>,
    pools: Arc<Pools>,
    verifications: Arc<Verifications>,
    commands: Sender<Command>,
    defaults: Defaults,
    said: Mutex<SettingsOverrides>,
    /// Held while a change is made, so that each is saved and applied before the next.
    changing: Mutex<()>,
    alarm: Alarm,
}

impl LiveSettings {
    /// Puts the settings in force, and starts a thread that follows the schedule and begins the
    /// verifications that are due. `said` is what was remembered.
    ///
    /// # Errors
    /// The system refuses a thread or a timer.
    pub fn start(
        context: Arc<WorkerContext>,
        pools: Arc<Pools>,
        verifications: Arc<Verifications>,
        commands: Sender<Command>,
        defaults: Defaults,
        said: SettingsOverrides,
    ) -> io::Result<Arc<LiveSettings>> {
        note_ignored(&said, defaults);
        let live_settings = Arc::new(LiveSettings {
            store: context.store.clone(),
            context,
            pools,
            verifications,
            commands,
            defaults,
            said: Mutex::new(said),
            changing: Mutex::default(),
            alarm: Alarm::new()?,
        });
        live_settings.apply(clock::now());
        let following = live_settings.clone();
        thread::Builder::new()
            .name("live-settings".into())
            .stack_size(128 << 10)
            .spawn(move || following.follow())?;
        Ok(live_settings)
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        Settings::new(&self.said(), self.defaults, clock::now())
    }

    /// Changes what is said of; on return it is on disk and in force.
    ///
    /// # Errors
    /// It could not be saved; nothing has changed.
    pub fn change(&self, now: SettingsOverrides) -> Result<Settings, StoreError> {
        let _one_at_a_time = locks::lock(&self.changing);
        let before = self.said().clone();
        let after = before.and(now);
        if after != before {
            self.store
                .commit(&[Change::Settings(Box::new(after.clone()))])?;
            *self.said() = after;
            self.apply(clock::now());
            self.alarm.nudge();
        }
        Ok(self.settings())
    }

    fn said(&self) -> MutexGuard<'_, SettingsOverrides> {
        locks::lock(&self.said)
    }

    fn follow(&self) {
        loop {
            let now = clock::now();
            let next = [self.apply(now), self.verify_due(now)];
            if let Err(error) = self.alarm.wait(next.into_iter().flatten().min()) {
                log::error!("the schedule is not followed any more: {error}");
                return;
            }
        }
    }

    /// Begins the verifications that are due. Returns when to look again: a download that will be
    /// complete tomorrow is not due before the day after.
    fn verify_due(&self, now: Timestamp) -> Option<Timestamp> {
        let every = self.settings().verify_every_days?;
        let next = self.verifications.begin_due(now, every);
        let tomorrow = now.after(Days(1).duration());
        Some(next.map_or(tomorrow, |next| next.min(tomorrow)))
    }

    /// Puts in force what holds now. Returns when that may be something else.
    fn apply(&self, now: Timestamp) -> Option<Timestamp> {
        // Held to the end, so that of two who apply the later one has the last word.
        let said = self.said();
        let settings = Settings::new(&said, self.defaults, now);
        let rate = settings.effective_rate_limit.0;
        let workers = useful(settings.workers, rate);
        self.context.limit.set(rate);
        self.verifications.limit.set(settings.verify_rate.0);
        self.context.slots.set(workers);
        self.pools.raise_limit(workers);
        // The controller is gone only when the process ends.
        let _ = self.commands.send(Command::Workers(workers));
        settings.next_change(now)
    }
}

/// How many workers are of use at this rate.
fn useful(workers: usize, rate: Option<NonZeroU64>) -> usize {
    let Some(rate) = rate else { return workers };
    let fed = usize::try_from(rate.get() / TRICKLE).unwrap_or(usize::MAX);
    workers.min(fed.max(FEWEST))
}

/// Whoever has just added a flag should not have to wonder why it does nothing.
fn note_ignored(said: &SettingsOverrides, defaults: Defaults) {
    if let Some(rate) = said.rate_limit
        && defaults.rate_limit.0.is_some()
        && rate != defaults.rate_limit
    {
        log::warn!(
            "--rate-limit is {}, but {rate} was set through the API, which holds",
            defaults.rate_limit
        );
    }
    let others = [
        (
            "--verify-rate",
            said.verify_rate.is_some_and(|rate| {
                !defaults.verify_rate.is_unlimited() && rate != defaults.verify_rate
            }),
        ),
        (
            "--verify-every-days",
            said.verify_every_days.is_some_and(|days| {
                defaults.verify_every_days.is_some() && days != defaults.verify_every_days
            }),
        ),
    ];
    for (flag, _) in others.iter().filter(|(_, is_other)| *is_other) {
        log::warn!("{flag} does not hold: something else was set through the API");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_rate_is_shared_by_few_connections() {
        let rate = |bytes| NonZeroU64::new(bytes);
        assert_eq!(useful(16, None), 16);
        assert_eq!(useful(16, rate(10 << 20)), 16);
        assert_eq!(useful(16, rate(5 * TRICKLE)), 5);
        assert_eq!(useful(16, rate(1)), FEWEST);
        assert_eq!(useful(1, rate(1)), 1);
    }
}
