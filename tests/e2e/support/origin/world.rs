//! What is true upstream: one link to one package, its token, and the addresses handed out.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::json;

use super::super::package::Package;
use super::ledger::{Kind, Seen};

pub const LINK_ID: &str = "LINK1";
/// As it is; in a link it is percent-encoded.
pub const SECRET: &str = "s3cr3t&half/whole";
pub const SECRET_ENCODED: &str = "s3cr3t%26half%2Fwhole";
/// What every package token begins with.
pub const TOKEN: &str = "package-token-";

pub(super) struct World {
    pub package: Package,
    pub password: Option<String>,
    /// The status with which the link is refused.
    pub link_refused: Option<u16>,
    /// Grows with every revocation; the token carries it.
    pub token_serial: u64,
    /// The addresses handed out; they tell the next one's signature, so none is ever removed.
    pub addresses: HashMap<String, Address>,
    pub one_shot: bool,
}

#[derive(Default)]
pub(super) struct Address {
    pub uses: u32,
    pub expired: bool,
}

/// What the upstream would rightly answer.
pub(super) enum Truth {
    Refusal(u16),
    Json(String),
    /// The content of the file with this identifier.
    Content(String),
}

impl World {
    pub fn new(package: Package) -> World {
        World {
            package,
            password: None,
            link_refused: None,
            token_serial: 1,
            addresses: HashMap::new(),
            one_shot: false,
        }
    }

    fn token(&self) -> String {
        format!("{TOKEN}{}", self.token_serial)
    }

    pub fn answer(&mut self, base: &str, seen: &Seen) -> Truth {
        match seen.kind {
            Kind::Link => self.link(seen),
            Kind::Bytes => self.bytes(seen),
            Kind::Other => Truth::Refusal(404),
            Kind::Listing | Kind::Address if !self.admits(seen) => Truth::Refusal(401),
            Kind::Listing => Truth::Json(self.package.listing()),
            Kind::Address => self.address(base, seen),
        }
    }

    fn admits(&self, seen: &Seen) -> bool {
        seen.header("x-package-token") == Some(&self.token())
    }

    fn link(&self, seen: &Seen) -> Truth {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let secret = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("secret="));
        let secret = secret.map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned());
        if !path.ends_with(&format!("/{LINK_ID}")) || secret.as_deref() != Some(SECRET) {
            return Truth::Refusal(404);
        }
        if let Some(status) = self.link_refused {
            return Truth::Refusal(status);
        }
        if self.password.is_some() && seen.header("x-link-password") != self.password.as_deref() {
            return Truth::Refusal(403);
        }
        let link = json!({
            "id": LINK_ID, "name": self.package.name, "package_id": self.package.id,
            "package_size": self.package.size(), "package_token": self.token(),
            "expiry": "2099-01-01T00:00:00.000Z", "sender_email": "sender@example.com",
            "recipient_email": "recipient@example.com", "branding": {"colour": "green"},
        });
        Truth::Json(link.to_string())
    }

    fn address(&mut self, base: &str, seen: &Seen) -> Truth {
        let Some(file) = seen
            .file
            .as_ref()
            .filter(|f| self.package.lookup(f).is_some())
        else {
            return Truth::Refusal(404);
        };
        let file = file.clone();
        let answer = json!({"url": format!("{base}{}", self.issue(&file))});
        Truth::Json(answer.to_string())
    }

    /// A new address for a file: path and query.
    pub fn issue(&mut self, file: &str) -> String {
        let path = format!("/bytes/{file}?signature={}", self.addresses.len() + 1);
        self.addresses.insert(path.clone(), Address::default());
        path
    }

    fn bytes(&mut self, seen: &Seen) -> Truth {
        let one_shot = self.one_shot;
        match (self.addresses.get_mut(&seen.target), &seen.file) {
            (Some(address), Some(file)) if !address.expired && (address.uses == 0 || !one_shot) => {
                address.uses += 1;
                Truth::Content(file.clone())
            }
            _ => Truth::Refusal(403),
        }
    }
}
