//! Points in time as the API and the upstream protocol write them: RFC 3339, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A wall-clock time in nanoseconds since 1970-01-01T00:00:00Z, from the year 1677 to 2262.
/// Shown to the second, as `2026-11-23T10:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time as RFC 3339, whole seconds.
    pub fn to_rfc3339(self) -> String {
        let seconds = self.0.div_euclid(1_000_000_000);
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .expect("an i64 of nanoseconds spans the years 1677 to 2262, which RFC 3339 can write")
    }

    /// Reads RFC 3339 with any offset and any fraction.
    /// None if it is no RFC 3339 or lies outside the range.
    pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos())
            .ok()
            .map(Timestamp)
    }

    /// This much later; the range's end at the most.
    pub fn after(self, wait: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

/// How long it is until then; zero where it has passed.
pub fn until(then: Timestamp) -> Duration {
    let left = then.0.saturating_sub(now().0);
    Duration::from_nanos(u64::try_from(left).unwrap_or(0))
}

/// The time now.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::from_rfc3339(&text)
            .ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets_and_fractions_and_writes_seconds_in_utc() {
        let time = Timestamp::from_rfc3339("2026-11-23T12:00:00.250+02:00").unwrap();
        assert_eq!(time.0 % 1_000_000_000, 250_000_000);
        assert_eq!(time.to_rfc3339(), "2026-11-23T10:00:00Z");
    }

    #[test]
    fn refuses_what_is_out_of_range_or_no_time() {
        assert_eq!(Timestamp::from_rfc3339("0001-01-01T00:00:00.000Z"), None);
        assert_eq!(Timestamp::from_rfc3339("9999-12-31T23:59:59Z"), None);
        assert_eq!(Timestamp::from_rfc3339("yesterday"), None);
    }

    #[test]
    fn the_ends_of_the_range_can_be_written() {
        assert!(Timestamp(i64::MIN).to_rfc3339().starts_with("1677-"));
        assert!(Timestamp(i64::MAX).to_rfc3339().starts_with("2262-"));
    }
}
