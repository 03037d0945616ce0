//! The files that travel with the program. scripts/pack.rs compresses them when it is built.

use std::io::Read;

use flate2::read::GzDecoder;

/// The page.
pub const PAGE: Packed = Packed(include_bytes!(concat!(env!("OUT_DIR"), "/page.html.gz")));
/// The description of the API.
pub const OPENAPI: Packed = Packed(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz")));

/// A compressed file.
pub struct Packed(&'static [u8]);

impl Packed {
    /// What is in it. Nothing is kept: it is asked for rarely.
    pub fn text(&self) -> String {
        let mut text = String::new();
        GzDecoder::new(self.0)
            .read_to_string(&mut text)
            .expect("it was compressed when the program was built, from a text");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_arrive_as_they_are() {
        assert_eq!(PAGE.text(), include_str!("page.html"));
        assert_eq!(OPENAPI.text(), include_str!("openapi.json"));
    }
}
