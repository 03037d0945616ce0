//! Answers compressed with gzip (RFC 1952), for clients that accept it (RFC 9110, 12.5.3).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::answer::{Answer, Body, Slices};

/// Shorter answers would hardly become shorter, in bytes.
const SMALL: usize = 1 << 10;

/// Whether an `Accept-Encoding` asks for gzip: by name or, where it is not named, by `*`; never
/// with `q=0`.
pub fn is_accepted(field: Option<&str>) -> bool {
    let (mut named, mut any) = (None, None);
    for item in field.unwrap_or_default().split(',') {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        // What is no number is taken for the worst.
        let quality = quality.map_or(1.0, |value| value.parse::<f32>().unwrap_or(0.0));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            named = Some(quality);
        } else if coding == "*" {
            any = Some(quality);
        }
    }
    named.or(any).is_some_and(|quality| quality > 0.0)
}

/// The answer, compressed where it is long enough and `accepted`. An event stream is left as it is:
/// each event is to be there at once.
pub fn compress(mut answer: Answer, accepted: bool) -> Answer {
    let streams = answer.content_type == "text/event-stream";
    let short = answer.length().is_some_and(|length| length <= SMALL);
    if streams {
        return answer;
    }
    answer.fields.push(("Vary", "Accept-Encoding".into()));
    if !accepted || short {
        return answer;
    }
    answer.fields.push(("Content-Encoding", "gzip".into()));
    answer.body = match answer.body {
        Body::Whole(body) => {
            let mut encoder = encoder();
            put(&mut encoder, &body);
            Body::Whole(finished(encoder))
        }
        Body::Sliced(slices) => Body::Sliced(encoded(slices)),
    };
    answer
}

const IN_MEMORY: &str = "writing to memory cannot fail";

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

fn put(encoder: &mut GzEncoder<Vec<u8>>, bytes: &[u8]) {
    encoder.write_all(bytes).expect(IN_MEMORY);
}

fn finished(encoder: GzEncoder<Vec<u8>>) -> Vec<u8> {
    encoder.finish().expect(IN_MEMORY)
}

/// The slices, compressed one after the other; what the coder keeps back comes with a later one.
fn encoded(mut slices: Slices) -> Slices {
    let mut running = Some(encoder());
    let mut slice = Vec::new();
    Box::new(move |out| {
        let Some(encoder) = &mut running else {
            return false;
        };
        slice.clear();
        let more = slices(&mut slice);
        put(encoder, &slice);
        out.append(encoder.get_mut());
        if !more && let Some(encoder) = running.take() {
            out.append(&mut finished(encoder));
        }
        more
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_accepts() {
        for yes in [
            "gzip",
            "br, GZIP;q=0.5",
            "*",
            "x-gzip",
            "*;q=0, gzip",
            "gzip ; q=1",
        ] {
            assert!(is_accepted(Some(yes)), "{yes}");
        }
        for no in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip; q=0.000, *",
            "*;q=0",
            "gzip;q=x",
        ] {
            assert!(!is_accepted(Some(no)), "{no}");
        }
        assert!(!is_accepted(None));
    }
}
