//! What an answer says about the content of the whole file: digests in its headers, and the entity
//! tags of S3, which are made of MD5s.

use ureq::http::header::{HeaderMap, HeaderName};

use crate::base::base64;
use crate::base::digest::{Algorithm, Digest, unhex};
use crate::base::url::Url;

/// Headers in which the storage servers of Azure and Google tell a digest.
const AZURE_MD5: HeaderName = HeaderName::from_static("x-ms-blob-content-md5");
const GOOGLE: HeaderName = HeaderName::from_static("x-goog-hash");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
const CUSTOMER_KEY: HeaderName =
    HeaderName::from_static("x-amz-server-side-encryption-customer-algorithm");
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// S3 takes so many parts at most.
const MAX_PARTS: u32 = 10_000;

/// What a server says of the content of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    Digest {
        digest: Digest,
        /// Where the content has another digest, it is not what the server has. Otherwise only
        /// the same digest says something: the entity tags of other servers than S3 can look like
        /// an MD5 and be something else.
        is_certain: bool,
    },
    /// The MD5 of the MD5s of the parts that the file was uploaded in, whose size is not told:
    /// Amazon S3 User Guide, "Checking object integrity".
    Parts { md5: Vec<u8>, count: u32 },
}

/// The strongest thing that an answer says of the whole file's content. `is_whole` tells whether
/// all of the file comes with it: some headers speak of what comes only.
pub fn expected(headers: &HeaderMap, url: &Url, is_whole: bool) -> Option<Expected> {
    let told = digests(headers, is_whole).max_by_key(|digest| digest.algorithm);
    let by_tag = entity_tag(headers, url);
    let certain = |digest| Expected::Digest {
        digest,
        is_certain: true,
    };
    match (told, by_tag) {
        (Some(told), Some(Expected::Digest { digest, is_certain }))
            if is_certain && digest.algorithm > told.algorithm =>
        {
            Some(certain(digest))
        }
        (Some(told), _) => Some(certain(told)),
        (None, by_tag) => by_tag,
    }
}

fn digests(headers: &HeaderMap, is_whole: bool) -> impl Iterator<Item = Digest> {
    let is_composite = headers
        .get(CHECKSUM_TYPE)
        .is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"composite"));
    headers.iter().flat_map(move |(name, value)| {
        let Ok(text) = value.to_str() else {
            return Vec::new();
        };
        let alone = |algorithm| from_base64(algorithm, text).into_iter().collect();
        match name {
            name if name == REPR_DIGEST => listed(text, Some(':')),
            name if name == GOOGLE => listed(text, None),
            name if name == AZURE_MD5 => alone(Algorithm::Md5),
            name if name == CONTENT_MD5 && is_whole => alone(Algorithm::Md5),
            name if is_whole && !is_composite => {
                let amazon = name.as_str().strip_prefix("x-amz-checksum-");
                amazon.and_then(named).map_or_else(Vec::new, alone)
            }
            _ => Vec::new(),
        }
    })
}

/// The digests of a list such as `sha-256=:…:, md5=:…:` (RFC 9530, 3), whose values stand between
/// two `around`, where there is one.
fn listed(text: &str, around: Option<char>) -> Vec<Digest> {
    let digest = |member: &str| {
        let (name, value) = member.trim().split_once('=')?;
        let value = match around {
            Some(around) => value.strip_prefix(around)?.split_once(around)?.0,
            None => value,
        };
        from_base64(named(name)?, value)
    };
    text.split(',').filter_map(digest).collect()
}

/// The algorithm that headers call by this name.
fn named(name: &str) -> Option<Algorithm> {
    Some(match name.to_ascii_lowercase().as_str() {
        "crc32" => Algorithm::Crc32,
        "crc32c" => Algorithm::Crc32c,
        "crc64nvme" => Algorithm::Crc64Nvme,
        "md5" => Algorithm::Md5,
        "sha" | "sha1" => Algorithm::Sha1,
        "sha-256" | "sha256" => Algorithm::Sha256,
        "sha-512" | "sha512" => Algorithm::Sha512,
        _ => return None,
    })
}

fn from_base64(algorithm: Algorithm, text: &str) -> Option<Digest> {
    Digest::new(algorithm, base64::decode(text.trim())?)
}

/// What the entity tag says: 32 hexadecimal digits are the MD5 of what S3 got in one piece, with
/// `-N` behind them that of N parts. Objects that S3 encrypts with a key of the customer's have
/// tags that say nothing.
fn entity_tag(headers: &HeaderMap, url: &Url) -> Option<Expected> {
    let tag = headers.get(ureq::http::header::ETAG)?.to_str().ok()?;
    let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
    let md5 = tag.get(..32).and_then(unhex)?;
    let has_own_key = headers
        .get(ENCRYPTION)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"aws:kms"));
    if has_own_key || headers.contains_key(CUSTOMER_KEY) {
        return None;
    }
    match &tag[32..] {
        "" => Some(Expected::Digest {
            digest: Digest::new(Algorithm::Md5, md5)?,
            is_certain: is_s3(headers, url),
        }),
        count => {
            let count = count.strip_prefix('-')?;
            let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
            let count = is_number.then(|| count.parse::<u32>().ok()).flatten()?;
            (1..=MAX_PARTS)
                .contains(&count)
                .then_some(Expected::Parts { md5, count })
        }
    }
}

/// Whether a storage server that speaks S3 has answered, by what it says of itself or by how the
/// address is signed.
fn is_s3(headers: &HeaderMap, url: &Url) -> bool {
    let says_so = headers
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-"));
    let server = headers.get(ureq::http::header::SERVER);
    let is_known = server.is_some_and(|server| {
        let name = server.as_bytes().to_ascii_lowercase();
        name.starts_with(b"amazons3") || name.starts_with(b"minio")
    });
    let query = url.query.as_deref().unwrap_or_default();
    let mut signs = query.split('&').filter_map(|pair| pair.split('=').next());
    says_so || is_known || signs.any(|name| matches!(name, "X-Amz-Signature" | "AWSAccessKeyId"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::digest;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn found(lines: &[(&'static str, &str)], is_whole: bool) -> Option<Expected> {
        let url = Url::parse("https://storage.example/file?sig=1").unwrap();
        expected(&headers(lines), &url, is_whole)
    }

    fn certain(algorithm: Algorithm) -> Option<Expected> {
        Some(Expected::Digest {
            digest: digest(algorithm, b"123456789"),
            is_certain: true,
        })
    }

    const MD5: &str = "JfnnlDI7RTiF9RgfG2JNCw==";
    const SHA256: &str = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
    const TAG: &str = "\"25f9e794323b453885f5181f1b624d0b\"";

    #[test]
    fn digests_are_found_where_servers_put_them_and_the_strongest_counts() {
        let both = format!("md5=:{MD5}:, SHA-256=:{SHA256}:;q=1, unixsum=:AAA=:");
        for (name, value, algorithm) in [
            ("repr-digest", both.as_str(), Algorithm::Sha256),
            ("content-md5", MD5, Algorithm::Md5),
            ("x-ms-blob-content-md5", MD5, Algorithm::Md5),
            ("x-amz-checksum-sha256", SHA256, Algorithm::Sha256),
            ("x-amz-checksum-crc32c", "4waSgw==", Algorithm::Crc32c),
            (
                "x-amz-checksum-crc64nvme",
                "rosUhgp5mIg=",
                Algorithm::Crc64Nvme,
            ),
            ("x-goog-hash", "crc32c=4waSgw==", Algorithm::Crc32c),
            (
                "x-goog-hash",
                &format!("crc32c=4waSgw==,md5={MD5}"),
                Algorithm::Md5,
            ),
        ] {
            assert_eq!(found(&[(name, value)], true), certain(algorithm), "{name}");
        }
        let weak_and_tag = [("x-amz-checksum-crc32c", "4waSgw=="), ("etag", TAG)];
        assert_eq!(found(&weak_and_tag, true), certain(Algorithm::Md5));
        let strong_and_tag = [("x-amz-checksum-sha256", SHA256), ("etag", TAG)];
        assert_eq!(found(&strong_and_tag, true), certain(Algorithm::Sha256));
    }

    #[test]
    fn what_speaks_of_a_part_only_is_not_taken_for_the_whole() {
        assert_eq!(found(&[("content-md5", MD5)], false), None);
        assert_eq!(found(&[("x-amz-checksum-sha256", SHA256)], false), None);
        let digest = format!("sha-256=:{SHA256}:");
        let whole = found(&[("repr-digest", &digest)], false);
        assert_eq!(whole, certain(Algorithm::Sha256));
        let composite = [
            ("x-amz-checksum-sha256", SHA256),
            ("x-amz-checksum-type", "COMPOSITE"),
        ];
        assert_eq!(found(&composite, true), None);
    }

    #[test]
    fn an_entity_tag_is_an_md5_for_certain_only_where_s3_has_answered() {
        let uncertain = Some(Expected::Digest {
            digest: digest(Algorithm::Md5, b"123456789"),
            is_certain: false,
        });
        assert_eq!(found(&[("etag", TAG)], false), uncertain);
        for s3 in [
            ("x-amz-request-id", "1"),
            ("server", "AmazonS3"),
            ("server", "MinIO"),
        ] {
            assert_eq!(found(&[("etag", TAG), s3], false), certain(Algorithm::Md5));
        }
        let signed = Url::parse("https://cdn.example/f?X-Amz-Signature=1").unwrap();
        let by_address = expected(&headers(&[("etag", TAG)]), &signed, false);
        assert_eq!(by_address, certain(Algorithm::Md5));
        for key in [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ] {
            assert_eq!(found(&[("etag", TAG), key], false), None);
        }
        let managed = ("x-amz-server-side-encryption", "AES256");
        assert_eq!(
            found(&[("etag", TAG), managed], false),
            certain(Algorithm::Md5)
        );
    }

    #[test]
    fn an_entity_tag_of_parts_says_how_many() {
        let tag = |tail: &str| format!("\"25f9e794323b453885f5181f1b624d0b{tail}\"");
        let parts = |count| {
            let md5 = digest(Algorithm::Md5, b"123456789").bytes;
            Some(Expected::Parts { md5, count })
        };
        assert_eq!(found(&[("etag", &tag("-1"))], false), parts(1));
        assert_eq!(found(&[("etag", &tag("-10000"))], false), parts(10_000));
        for tail in ["-0", "-10001", "-", "-+1", "-1x", "0", "--1"] {
            assert_eq!(found(&[("etag", &tag(tail))], false), None, "{tail}");
        }
        for tag in [
            "W/\"25f9e794323b453885f5181f1b624d0b\"",
            "\"5f-62\"",
            "",
            "\"é\"",
        ] {
            assert_eq!(found(&[("etag", tag)], false), None, "{tag}");
        }
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        for value in [
            "sha-256",
            "sha-256=",
            "sha-256=:AAA=:",
            "sha-256=:!:",
            "=::",
            ",,",
            ":",
        ] {
            assert_eq!(found(&[("repr-digest", value)], true), None, "{value}");
        }
        assert_eq!(found(&[("content-md5", "AAA=")], true), None);
    }
}
