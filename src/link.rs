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
