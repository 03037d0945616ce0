//! What can be set while the agent runs, and where each setting comes from.
//!
//! What was set through the API wins over the command line, also after a restart: a flag is the
//! default of what was never set. `rate_limit` holds where no window of the `schedule` does.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::base::clock::Timestamp;
use crate::base::json_uint::JsonUint;
use crate::model::manifest::Manifest;
use crate::model::schedule::{self, MAX_WINDOWS, Rate, Window};

/// Connections that may move bytes at the same time, at most.
pub const MAX_WORKERS: usize = 256;

/// What was said through the API; none is what was never said. A request's body and the state
/// directory both hold this.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsOverrides {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub rate_limit: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub workers: Option<Workers>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub schedule: Option<Schedule>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub manifest: Option<Option<Manifest>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub verify_rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub verify_every_days: Option<Option<Days>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub windows_names: Option<bool>,
}

/// Null is a value that was given, too.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Connections that move bytes at the same time, 1 to [`MAX_WORKERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "JsonUint")]
pub struct Workers(usize);

impl Workers {
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<JsonUint> for Workers {
    type Error = String;

    fn try_from(JsonUint(number): JsonUint) -> Result<Workers, String> {
        match usize::try_from(number) {
            Ok(number) if (1..=MAX_WORKERS).contains(&number) => Ok(Workers(number)),
            _ => Err(format!("there are 1 to {MAX_WORKERS} workers")),
        }
    }
}

/// The most days that may lie between two verifications of one download.
pub const MAX_DAYS: u32 = 3650;

/// A number of days, 1 to [`MAX_DAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "JsonUint")]
pub struct Days(pub u32);

impl TryFrom<JsonUint> for Days {
    type Error = String;

    fn try_from(JsonUint(number): JsonUint) -> Result<Days, String> {
        match u32::try_from(number) {
            Ok(days) if (1..=MAX_DAYS).contains(&days) => Ok(Days(days)),
            _ => Err(format!("it is a number of days, 1 to {MAX_DAYS}")),
        }
    }
}

impl Days {
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 86_400)
    }
}

/// The windows, the first one that covers a time deciding; at most [`MAX_WINDOWS`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Window>")]
pub struct Schedule(Vec<Window>);

impl TryFrom<Vec<Window>> for Schedule {
    type Error = String;

    fn try_from(windows: Vec<Window>) -> Result<Schedule, String> {
        if windows.len() > MAX_WINDOWS {
            return Err(format!("a schedule has at most {MAX_WINDOWS} windows"));
        }
        Ok(Schedule(windows))
    }
}

impl SettingsOverrides {
    /// What was said with what is being said now.
    pub fn and(&self, now: SettingsOverrides) -> SettingsOverrides {
        SettingsOverrides {
            rate_limit: now.rate_limit.or(self.rate_limit),
            workers: now.workers.or(self.workers),
            schedule: now.schedule.or_else(|| self.schedule.clone()),
            manifest: now.manifest.or(self.manifest),
            verify_rate: now.verify_rate.or(self.verify_rate),
            verify_every_days: now.verify_every_days.or(self.verify_every_days),
            windows_names: now.windows_names.or(self.windows_names),
        }
    }
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    pub rate_limit: Rate,
    /// 1 to [`MAX_WORKERS`].
    pub workers: usize,
    pub verify_rate: Rate,
    pub verify_every_days: Option<Days>,
}

/// Every setting as it is in force, as the API shows it: those that came later only where they are
/// something else than none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Bytes per second outside the schedule's windows.
    pub rate_limit: Rate,
    pub workers: usize,
    pub schedule: Schedule,
    /// Bytes per second now.
    pub effective_rate_limit: Rate,
    /// The list of checksums of downloads that do not say which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Bytes per second that verifying may read, all downloads together.
    #[serde(skip_serializing_if = "Rate::is_unlimited")]
    pub verify_rate: Rate,
    /// Complete downloads are verified so long after they were complete, or were verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_every_days: Option<Days>,
    /// Whether downloads that do not say have names such as Windows can hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub windows_names: bool,
}

impl Settings {
    pub fn new(said: &SettingsOverrides, defaults: Defaults, now: Timestamp) -> Settings {
        let rate_limit = said.rate_limit.unwrap_or(defaults.rate_limit);
        let schedule = said.schedule.clone().unwrap_or_default();
        Settings {
            rate_limit,
            workers: said.workers.map_or(defaults.workers, Workers::get),
            effective_rate_limit: schedule::rate_at(&schedule.0, rate_limit, now),
            schedule,
            manifest: said.manifest.flatten(),
            verify_rate: said.verify_rate.unwrap_or(defaults.verify_rate),
            verify_every_days: said.verify_every_days.unwrap_or(defaults.verify_every_days),
            windows_names: said.windows_names.unwrap_or(false),
        }
    }

    /// When the effective limit may be another.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        schedule::next_change(&self.schedule.0, now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(json: serde_json::Value) -> SettingsOverrides {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_was_said_wins_over_the_command_line_and_the_schedule_over_both() {
        let defaults = Defaults {
            rate_limit: Rate::new(500).unwrap(),
            workers: 16,
            verify_rate: Rate(None),
            verify_every_days: Some(Days(30)),
        };
        let now = Timestamp(0);
        let flags = Settings::new(&SettingsOverrides::default(), defaults, now);
        assert_eq!((flags.rate_limit, flags.workers), (defaults.rate_limit, 16));
        let said = said(json!({"rate_limit": null, "workers": 3, "schedule":
            [{"days": ["thu"], "from": "00:00", "to": "01:00", "rate_limit": 9}]}));
        let settings = Settings::new(&said, defaults, now);
        assert_eq!((settings.rate_limit, settings.workers), (Rate(None), 3));
        assert_eq!(settings.effective_rate_limit, Rate::new(9).unwrap());
        assert_eq!(settings.verify_every_days, Some(Days(30)));
        let never = SettingsOverrides {
            verify_every_days: Some(None),
            ..said.clone()
        };
        assert_eq!(Settings::new(&never, defaults, now).verify_every_days, None);
        let next = settings.next_change(now).unwrap();
        assert_eq!(next.to_rfc3339(), "1970-01-01T01:00:00Z");
        let later = Settings::new(&said, defaults, next);
        assert_eq!(later.effective_rate_limit, Rate(None));
    }

    #[test]
    fn a_part_replaces_that_part_only() {
        let before = said(json!({"rate_limit": 5, "workers": 3}));
        let after = before.and(said(json!({"rate_limit": 0})));
        assert_eq!(after, said(json!({"rate_limit": null, "workers": 3})));
        assert_eq!(after.and(SettingsOverrides::default()), after);
    }

    #[test]
    fn it_is_remembered_as_it_was_said() {
        for json in [
            json!({}),
            json!({"rate_limit": null}),
            json!({"rate_limit": 1000, "workers": 256, "schedule": []}),
            json!({"manifest": "ascmhl", "verify_rate": 7, "verify_every_days": 3650}),
            json!({"windows_names": true}),
            json!({"manifest": null, "verify_rate": null, "verify_every_days": null}),
        ] {
            assert_eq!(serde_json::to_value(said(json.clone())).unwrap(), json);
        }
    }

    #[test]
    fn bounds() {
        let window = json!({"days": ["thu"], "from": "00:00", "to": "01:00", "rate_limit": 9});
        for wrong in [
            json!({"workers": 0}),
            json!({"workers": 257}),
            json!({"workers": null}),
            json!({"workers": 1.5}),
            json!({"schedule": null}),
            json!({"schedule": vec![window; MAX_WINDOWS + 1]}),
            json!({"rate_limit": 1.5}),
            json!({"manifest": "md5"}),
            json!({"verify_every_days": 0}),
            json!({"windows_names": null}),
            json!({"verify_every_days": 3651}),
        ] {
            assert!(
                serde_json::from_value::<SettingsOverrides>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
