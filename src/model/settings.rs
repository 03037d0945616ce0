//! What can be set while the agent runs, and where each setting comes from.
//!
//! What was set through the API wins over the command line, also after a restart: a flag is the
//! default of what was never set. `rate_limit` holds where no window of the `schedule` does.

use serde::{Deserialize, Deserializer, Serialize};

use crate::base::clock::Timestamp;
use crate::base::json_uint::JsonUint;
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
        }
    }
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    pub rate_limit: Rate,
    /// 1 to [`MAX_WORKERS`].
    pub workers: usize,
}

/// Every setting as it is in force, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Bytes per second outside the schedule's windows.
    pub rate_limit: Rate,
    pub workers: usize,
    pub schedule: Schedule,
    /// Bytes per second now.
    pub effective_rate_limit: Rate,
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
        };
        let now = Timestamp(0);
        let flags = Settings::new(&SettingsOverrides::default(), defaults, now);
        assert_eq!((flags.rate_limit, flags.workers), (defaults.rate_limit, 16));
        let said = said(json!({"rate_limit": null, "workers": 3, "schedule":
            [{"days": ["thu"], "from": "00:00", "to": "01:00", "rate_limit": 9}]}));
        let settings = Settings::new(&said, defaults, now);
        assert_eq!((settings.rate_limit, settings.workers), (Rate(None), 3));
        assert_eq!(settings.effective_rate_limit, Rate::new(9).unwrap());
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
        ] {
            assert!(
                serde_json::from_value::<SettingsOverrides>(wrong.clone()).is_err(),
                "{wrong}"
            );
        }
    }
}
