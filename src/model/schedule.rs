//! The weekly schedule: other limits at certain hours of certain days.
//!
//! A static binary has no time zones to look up, so each window says its distance from UTC; where
//! clocks are changed for the summer, it is off by that hour until it is changed too.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::clock::Timestamp;
use crate::base::json_uint::JsonUint;

/// Windows of a schedule, at most.
pub const MAX_WINDOWS: usize = 100;

const DAY: i64 = 24 * 60;
const WEEK: i64 = 7 * DAY;
/// Minutes from the last Monday's 00:00 to 1970-01-01, a Thursday.
const EPOCH: i64 = 3 * DAY;
/// The largest offset from UTC, in minutes.
const FARTHEST: i64 = 14 * 60;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A limit in bytes per second; none is no limit. In JSON a whole number or a
/// string such as `"10M"`, 0 and null meaning none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate(pub Option<NonZeroU64>);

impl Rate {
    /// The largest limit, in bytes per second: the last whole number that every reader of JSON
    /// holds exactly.
    pub const MAX: u64 = (1 << 53) - 1;

    /// Whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// A limit in bytes per second; 0 is none.
    ///
    /// # Errors
    /// More than [`Rate::MAX`].
    pub fn new(bytes_per_second: u64) -> Result<Rate, String> {
        if bytes_per_second > Rate::MAX {
            return Err(format!("a rate limit is at most {} bytes/s", Rate::MAX));
        }
        Ok(Rate(NonZeroU64::new(bytes_per_second)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{rate} bytes/s"),
            None => f.write_str("no limit"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Bytes per second: `1000`, `500k`, `10M`, `10MB`, `1G`, or in powers of 1024 `10MiB`. The
    /// case does not matter; 0 is no limit.
    fn from_str(text: &str) -> Result<Rate, String> {
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
        let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "ki" | "kib" => 1 << 10,
            "mi" | "mib" => 1 << 20,
            "gi" | "gib" => 1 << 30,
            _ => 0,
        };
        let number = digits.parse::<u64>().ok().filter(|_| factor > 0);
        let number = number.ok_or_else(|| {
            format!("{text:?} is no rate in bytes per second such as 1000, 500k, 10M or 10MiB")
        })?;
        Rate::new(number.saturating_mul(factor))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let rate = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null => Ok(Rate(None)),
            serde_json::Value::String(text) => text.parse(),
            number => match JsonUint::deserialize(&number) {
                Ok(JsonUint(number)) => Rate::new(number),
                Err(error) => Err(format!("{error}, or a string such as \"10M\"")),
            },
        };
        rate.map_err(serde::de::Error::custom)
    }
}

/// The hours of some days of each week at which a limit holds. A window that ends at or before the
/// time at which it begins ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Window {
    /// From Monday on.
    days: [bool; 7],
    /// Minutes from midnight, below 1440.
    from: i64,
    /// Minutes from midnight, 1 to 1440 where on the same day.
    to: i64,
    /// Minutes east of UTC.
    offset: i64,
    rate: Rate,
}

/// A window as it stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    days: Vec<String>,
    from: String,
    to: String,
    #[serde(default = "utc")]
    utc_offset: String,
    /// Not left out by accident: a window without a limit says null or 0.
    #[serde(deserialize_with = "Rate::deserialize")]
    rate_limit: Rate,
}

fn utc() -> String {
    "+00:00".into()
}

impl TryFrom<Written> for Window {
    type Error = String;

    fn try_from(written: Written) -> Result<Window, String> {
        let mut days = [false; 7];
        for name in &written.days {
            let day = DAYS.iter().position(|day| day == name);
            let day = day.ok_or("days must be some of mon, tue, wed, thu, fri, sat and sun")?;
            days[day] = true;
        }
        if !days.contains(&true) {
            return Err("a window needs one of its days at least".into());
        }
        let from = time(&written.from).filter(|&minute| minute < DAY);
        let from = from.ok_or("from must be a time of day such as 08:00")?;
        let to = time(&written.to).ok_or("to must be a time of day such as 18:00, or 24:00")?;
        if from == to {
            return Err(
                "a window that begins when it ends is empty; for a whole day \
                        say from 00:00 to 24:00"
                    .into(),
            );
        }
        let offset = offset(&written.utc_offset)
            .ok_or("utc_offset must be hours and minutes from -14:00 to +14:00, such as +02:00")?;
        Ok(Window {
            days,
            from,
            to,
            offset,
            rate: written.rate_limit,
        })
    }
}

impl From<Window> for Written {
    fn from(window: Window) -> Written {
        let days = DAYS.iter().zip(window.days);
        let sign = if window.offset < 0 { '-' } else { '+' };
        Written {
            days: days
                .filter(|(_, is_in)| *is_in)
                .map(|(name, _)| (*name).into())
                .collect(),
            from: clock(window.from),
            to: clock(window.to),
            utc_offset: format!("{sign}{}", clock(window.offset.abs())),
            rate_limit: window.rate,
        }
    }
}

fn clock(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Minutes from midnight, `HH:MM`, 24:00 included.
fn time(text: &str) -> Option<i64> {
    let two = |part: &str| {
        let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<i64>().ok())?
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let all = 60 * hours + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

fn offset(text: &str) -> Option<i64> {
    let east = text.strip_prefix('+').map(|rest| (1, rest));
    let (sign, rest) = east.or_else(|| text.strip_prefix('-').map(|rest| (-1, rest)))?;
    let minutes = time(rest).filter(|&minutes| minutes <= FARTHEST)?;
    Some(sign * minutes)
}

impl Window {
    /// Minutes from the beginning to the end, 1 to 1440.
    fn length(&self) -> i64 {
        match self.to > self.from {
            true => self.to - self.from,
            false => self.to + DAY - self.from,
        }
    }

    /// Where its days' beginnings are, in minutes from Monday's 00:00 of its own offset.
    fn beginnings(&self) -> impl Iterator<Item = i64> {
        let days = (0..).zip(self.days).filter(|(_, is_in)| *is_in);
        days.map(|(day, _)| day * DAY + self.from)
    }

    /// The minute of the week, in the window's own offset.
    fn minute_of_week(&self, minute: i64) -> i64 {
        (minute + EPOCH + self.offset).rem_euclid(WEEK)
    }

    fn covers(&self, minute: i64) -> bool {
        let now = self.minute_of_week(minute);
        self.beginnings()
            .any(|begin| (now - begin).rem_euclid(WEEK) < self.length())
    }

    /// Minutes until it next begins or ends, 1 to a week.
    fn next(&self, minute: i64) -> i64 {
        let now = self.minute_of_week(minute);
        self.beginnings()
            .flat_map(|begin| [begin, begin + self.length()])
            .map(|edge| (edge - now - 1).rem_euclid(WEEK) + 1)
            .min()
            .unwrap_or(WEEK)
    }
}

/// Whole minutes since 1970.
fn minute(now: Timestamp) -> i64 {
    now.0.div_euclid(60_000_000_000)
}

/// The limit at this time: the first window's that covers it, else `otherwise`.
pub fn rate_at(windows: &[Window], otherwise: Rate, now: Timestamp) -> Rate {
    let minute = minute(now);
    let found = windows.iter().find(|window| window.covers(minute));
    found.map_or(otherwise, |window| window.rate)
}

/// When the limit may change next; never without windows.
pub fn next_change(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    let minute = minute(now);
    let next = windows.iter().map(|window| window.next(minute)).min()?;
    Some(Timestamp((minute + next).checked_mul(60_000_000_000)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn window(json: Value) -> Window {
        serde_json::from_value(json).unwrap()
    }

    fn refused(json: Value) -> String {
        serde_json::from_value::<Window>(json)
            .unwrap_err()
            .to_string()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_rfc3339(text).unwrap()
    }

    fn rate(bytes_per_second: u64) -> Rate {
        Rate::new(bytes_per_second).unwrap()
    }

    #[test]
    fn a_rate_is_a_number_or_a_string_with_a_unit() {
        for (json, number) in [
            (json!(1000), 1000),
            (json!("1000"), 1000),
            (json!("500k"), 500_000),
            (json!("10M"), 10_000_000),
            (json!("10MB"), 10_000_000),
            (json!("10 mib"), 10 << 20),
            (json!("1GiB"), 1 << 30),
            (json!("0"), 0),
            (json!(null), 0),
        ] {
            let read: Rate = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(read, rate(number), "{json}");
        }
        for wrong in ["", "M", "-1", "1.5M", "10Mbit", "1 0", "99999999999G"] {
            assert!(
                serde_json::from_value::<Rate>(json!(wrong)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn office_hours() {
        let office = [window(json!({"days": ["mon", "tue", "wed", "thu", "fri"],
            "from": "08:00", "to": "18:00", "utc_offset": "+02:00", "rate_limit": 1000}))];
        // 2026-11-23 is a Monday.
        for (time, limited) in [
            ("2026-11-23T07:59:59+02:00", false),
            ("2026-11-23T08:00:00+02:00", true),
            ("2026-11-23T17:59:59+02:00", true),
            ("2026-11-23T18:00:00+02:00", false),
            ("2026-11-22T12:00:00+02:00", false),
            ("2026-11-27T12:00:00+02:00", true),
        ] {
            let expected = if limited { rate(1000) } else { rate(7) };
            assert_eq!(rate_at(&office, rate(7), at(time)), expected, "{time}");
        }
        for (time, next) in [
            ("2026-11-23T07:59:59+02:00", "2026-11-23T06:00:00Z"),
            ("2026-11-23T08:00:00+02:00", "2026-11-23T16:00:00Z"),
            ("2026-11-27T18:00:00+02:00", "2026-11-30T06:00:00Z"),
        ] {
            let change = next_change(&office, at(time)).unwrap();
            assert_eq!(change.to_rfc3339(), next, "{time}");
        }
    }

    #[test]
    fn a_window_may_pass_midnight_and_the_week_and_belongs_to_the_day_it_begins_on() {
        let night = [window(
            json!({"days": ["sun"], "from": "22:00", "to": "06:00",
            "rate_limit": null}),
        )];
        for (time, inside) in [
            ("2026-11-22T21:59:00Z", false),
            ("2026-11-22T22:00:00Z", true),
            ("2026-11-23T05:59:00Z", true),
            ("2026-11-23T06:00:00Z", false),
            ("2026-11-22T03:00:00Z", false),
        ] {
            let expected = if inside { Rate(None) } else { rate(7) };
            assert_eq!(rate_at(&night, rate(7), at(time)), expected, "{time}");
        }
    }

    #[test]
    fn the_first_window_that_covers_the_time_wins() {
        let both = [
            window(json!({"days": ["mon"], "from": "12:00", "to": "13:00", "rate_limit": 0})),
            window(json!({"days": ["mon"], "from": "00:00", "to": "24:00", "rate_limit": 5})),
        ];
        let noon = at("2026-11-23T12:30:00Z");
        assert_eq!(rate_at(&both, rate(7), noon), Rate(None));
        assert_eq!(rate_at(&both, rate(7), at("2026-11-23T13:00:00Z")), rate(5));
        assert_eq!(next_change(&[], noon), None);
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        let json = json!({"days": ["tue", "sun"], "from": "00:05", "to": "24:00",
            "utc_offset": "-09:30", "rate_limit": 12});
        assert_eq!(serde_json::to_value(window(json.clone())).unwrap(), json);
        let mut short = json.clone();
        short.as_object_mut().unwrap().remove("utc_offset");
        short["days"] = json!(["sun", "tue", "sun"]);
        let long = serde_json::to_value(window(short)).unwrap();
        assert_eq!(
            (&long["utc_offset"], &long["days"]),
            (&json!("+00:00"), &json["days"])
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        let good = json!({"days": ["mon"], "from": "08:00", "to": "18:00", "rate_limit": 1});
        window(good.clone());
        for (field, wrong, hint) in [
            ("days", json!([]), "days"),
            ("days", json!(["monday"]), "mon, tue"),
            ("days", json!("mon"), "sequence"),
            ("from", json!("24:00"), "from"),
            ("from", json!("8:00"), "from"),
            ("from", json!("+8:00"), "from"),
            ("from", json!("08:60"), "from"),
            ("to", json!("24:01"), "to must"),
            ("to", json!("08:00"), "24:00"),
            ("to", json!("1é:0"), "to must"),
            ("utc_offset", json!("+14:01"), "utc_offset"),
            ("utc_offset", json!("02:00"), "utc_offset"),
            ("rate_limit", json!(-1), "-1"),
            ("rate_limit", json!(Rate::MAX + 1), "at most"),
            ("rate_limit", json!("1X"), "1X"),
            ("rate", json!(1), "rate"),
        ] {
            let mut json = good.clone();
            json[field] = wrong;
            let text = refused(json.clone());
            assert!(text.contains(hint), "{json}: {text}");
        }
        let mut without = good;
        without.as_object_mut().unwrap().remove("rate_limit");
        assert!(refused(without).contains("rate_limit"));
    }

    fn any_window() -> impl Strategy<Value = Window> {
        let days =
            prop::array::uniform7(any::<bool>()).prop_filter("a day", |days| days.contains(&true));
        (days, 0..DAY, 0..=DAY, -FARTHEST..=FARTHEST, 1_u64..1000)
            .prop_filter("not empty", |(_, from, to, ..)| from != to)
            .prop_map(|(days, from, to, offset, bytes)| Window {
                days,
                from,
                to,
                offset,
                rate: Rate(NonZeroU64::new(bytes)),
            })
    }

    proptest! {
        /// Nothing changes before the next change, so that nobody needs to look before it.
        #[test]
        fn between_changes_the_limit_stays(
            windows in prop::collection::vec(any_window(), 1..5),
            second in -4_000_000_000_i64..8_000_000_000,
            part in 0.0..1.0_f64,
        ) {
            let now = Timestamp(second * 1_000_000_000);
            let next = next_change(&windows, now).unwrap();
            prop_assert!(next > now && next.0 - now.0 <= WEEK * 60_000_000_000);
            let between = Timestamp(now.0 + ((next.0 - now.0 - 1) as f64 * part) as i64);
            prop_assume!(between < next);
            prop_assert_eq!(rate_at(&windows, Rate(None), between), rate_at(&windows, Rate(None), now));
        }

        /// A window covers, over a week, its length on each of its days (they may overlap at
        /// midnight only where it is a whole day long, and then they only touch).
        #[test]
        fn a_window_covers_its_length_on_each_day(window in any_window(), first in 0..WEEK) {
            let covered = (first..first + WEEK).filter(|&minute| window.covers(minute)).count() as i64;
            let days = window.days.iter().filter(|is_in| **is_in).count() as i64;
            prop_assert_eq!(covered, days * window.length());
        }

        #[test]
        fn any_window_survives_being_written(window in any_window()) {
            let text = serde_json::to_string(&window).unwrap();
            prop_assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
        }
    }
}
