//! Whole numbers as JSON has them: `3.0` and `3e0` are the number 3, and some writers write it so.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// From 0 on; one with a decimal point is exact, below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonUint(pub u64);

impl<'de> Deserialize<'de> for JsonUint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonUint, D::Error> {
        deserializer.deserialize_any(JsonUintVisitor)
    }
}

struct JsonUintVisitor;

impl Visitor<'_> for JsonUintVisitor {
    type Value = JsonUint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, 0 or more")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<JsonUint, E> {
        Ok(JsonUint(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<JsonUint, E> {
        let exact = 0.0..(1_u64 << 53) as f64;
        if exact.contains(&number) && number.fract() == 0.0 {
            return Ok(JsonUint(number as u64));
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let read = |text: &str| {
            serde_json::from_str(text)
                .ok()
                .map(|JsonUint(number)| number)
        };
        for (text, number) in [
            ("0", 0),
            ("-0.0", 0),
            ("3.0", 3),
            ("1e3", 1_000),
            // Read carelessly, these come out beside their numbers.
            ("1852224261497567.0", 1_852_224_261_497_567),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in [
            "-1",
            "0.5",
            "-1.0",
            "9007199254740992.0",
            "1e300",
            "\"1\"",
            "null",
            "true",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
