//! Package links, and the API that each link host maps to.

use serde::{Deserialize, Serialize};

use crate::board::Secret;

/// A package link that was taken apart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    /// The link without its secret, as it may be shown.
    pub public: String,
    /// The API base it maps to, without a trailing slash: `https://api.massive.app/v1`.
    pub api: String,
    /// The link's identifier.
    pub id: String,
    pub secret: Secret,
}

/// What is wrong with a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkError {
    Invalid(String),
    UnsupportedHost(String),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinkError::Invalid(text) | LinkError::UnsupportedHost(text) => f.write_str(text),
        }
    }
}

/// The link hosts that are known.
#[derive(Debug, Clone, Default)]
pub struct Origins {}

impl Origins {
    /// Takes a link apart.
    ///
    /// # Errors
    /// What is no link, or a link to a host that is not known.
    pub fn parse(&self, url: &str) -> Result<Link, LinkError> {
        let invalid = || LinkError::Invalid("this is not a package link".into());
        let rest = url.strip_prefix("https://").ok_or_else(invalid)?;
        let (host, rest) = rest.split_once('/').ok_or_else(invalid)?;
        if host != "get.massive.app" {
            let message = "haul does not know this link's host";
            return Err(LinkError::UnsupportedHost(message.into()));
        }
        let (id, secret) = rest.split_once("?secret=").ok_or_else(invalid)?;
        Ok(Link {
            public: format!("https://{host}/{id}"),
            api: "https://api.massive.app/v1".into(),
            id: id.into(),
            secret: Secret::new(secret),
        })
    }
}
