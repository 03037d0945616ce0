//! The paths and methods that the API takes: one table, which the router, the `Allow` fields,
//! the list of calls and the tests of the OpenAPI document are all read from.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::ApiError;

/// What a path and a method ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Page,
    Metrics,
    Index,
    Health,
    OpenApi,
    Events,
    Create,
    List,
    DeleteMany,
    Details,
    DeleteOne,
    Pause,
    Resume,
    Verify,
    PauseMany,
    ResumeMany,
    Settings,
    ChangeSettings,
    Change,
    Inspect,
}

/// One row of the table.
pub struct Route {
    pub method: &'static str,
    /// `{download_id}` stands for one path component that is not empty.
    pub path: &'static str,
    /// The query parameters that it takes.
    pub query: &'static [&'static str],
    pub endpoint: Endpoint,
}

impl Route {
    /// The methods that it answers: HEAD goes with GET.
    fn methods(&'static self) -> &'static [&'static str] {
        match self.method {
            "GET" => &["GET", "HEAD"],
            _ => std::slice::from_ref(&self.method),
        }
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    query: &'static [&'static str],
    endpoint: Endpoint,
) -> Route {
    Route {
        method,
        path,
        query,
        endpoint,
    }
}

const DOWNLOADS: &str = "/api/v1/downloads";
const DOWNLOAD: &str = "/api/v1/downloads/{download_id}";

/// Every call. HEAD is taken wherever GET is.
pub const ROUTES: &[Route] = &[
    route("GET", "/", &[], Endpoint::Page),
    route("GET", "/metrics", &[], Endpoint::Metrics),
    route("GET", "/api/v1", &[], Endpoint::Index),
    route("GET", "/api/v1/health", &[], Endpoint::Health),
    route("GET", "/api/v1/openapi.json", &[], Endpoint::OpenApi),
    route("GET", "/api/v1/events", &[], Endpoint::Events),
    route(
        "GET",
        DOWNLOADS,
        &["states", "limit", "after", "fields"],
        Endpoint::List,
    ),
    route("POST", DOWNLOADS, &[], Endpoint::Create),
    route(
        "DELETE",
        DOWNLOADS,
        &["states", "remove_files"],
        Endpoint::DeleteMany,
    ),
    // No identifier is one of these words: they have letters that none has.
    route(
        "POST",
        "/api/v1/downloads/pause",
        &["states"],
        Endpoint::PauseMany,
    ),
    route(
        "POST",
        "/api/v1/downloads/resume",
        &["states"],
        Endpoint::ResumeMany,
    ),
    route(
        "GET",
        DOWNLOAD,
        &[
            "wait",
            "files",
            "files_limit",
            "files_after",
            "file_states",
            "files_match",
        ],
        Endpoint::Details,
    ),
    route("DELETE", DOWNLOAD, &["remove_files"], Endpoint::DeleteOne),
    route(
        "POST",
        "/api/v1/downloads/{download_id}/pause",
        &[],
        Endpoint::Pause,
    ),
    route(
        "POST",
        "/api/v1/downloads/{download_id}/resume",
        &[],
        Endpoint::Resume,
    ),
    route(
        "POST",
        "/api/v1/downloads/{download_id}/verify",
        &[],
        Endpoint::Verify,
    ),
    route("PATCH", DOWNLOAD, &[], Endpoint::Change),
    route("POST", "/api/v1/links/inspect", &[], Endpoint::Inspect),
    route("GET", "/api/v1/settings", &[], Endpoint::Settings),
    route("PUT", "/api/v1/settings", &[], Endpoint::ChangeSettings),
];

/// A row that was found, and the identifier in its path, empty if the path has none.
pub struct Found {
    pub route: &'static Route,
    pub download_id: String,
}

/// Finds the row for a path (percent-encoded, without the query) and a method.
///
/// A trailing slash makes another path, one that is not there: `DELETE /downloads/$ID` with an
/// empty `$ID` must not mean all downloads. Only the list of calls is also at `/api/v1/`.
///
/// # Errors
/// `not_found`, `method_not_allowed`.
pub fn find(method: &str, path: &str) -> Result<Found, ApiError> {
    let path = if path == "/api/v1/" { "/api/v1" } else { path };
    let method = if method == "HEAD" { "GET" } else { method };
    let (template, download_id) = ROUTES
        .iter()
        .find_map(|route| Some((route.path, matched(route.path, path)?)))
        .ok_or_else(ApiError::not_found)?;
    let route = at(template)
        .find(|route| route.method == method)
        .ok_or_else(|| {
            let methods = at(template).flat_map(Route::methods);
            ApiError::method_not_allowed(methods.copied().collect::<Vec<_>>().join(", "))
        })?;
    Ok(Found { route, download_id })
}

fn at(template: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.path == template)
}

/// The identifier in the path, empty if there is none; None if the path is another one.
fn matched(template: &str, path: &str) -> Option<String> {
    let mut components = path.split('/').map(decoded);
    let mut download_id = String::new();
    for wanted in template.split('/') {
        let component = components.next()?;
        if wanted == "{download_id}" && !component.is_empty() {
            download_id = component.into_owned();
        } else if wanted != component {
            return None;
        }
    }
    components.next().is_none().then_some(download_id)
}

/// A path component; what is no UTF-8 is mended, and then found nowhere.
fn decoded(component: &str) -> Cow<'_, str> {
    percent_decode_str(component).decode_utf8_lossy()
}

/// Whether anybody may ask for this, with or without a token: the page, which holds no secret
/// and asks its user for the token.
pub fn is_public(target: &str) -> bool {
    target.split('?').next() == Some("/")
}

/// The list of calls as JSON.
pub fn index() -> Vec<u8> {
    let calls: Vec<String> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    serde_json::json!({ "calls": calls })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_path_and_no_row_is_there_twice() {
        for route in ROUTES {
            let path = route.path.replace("{download_id}", "01A");
            let found = find(route.method, &path).unwrap_or_else(|_| panic!("{path}"));
            assert_eq!(found.route.endpoint, route.endpoint);
            let twins = at(route.path).filter(|other| other.method == route.method);
            assert_eq!(twins.count(), 1, "{path}");
        }
    }

    #[test]
    fn components_are_decoded_and_a_slash_that_was_encoded_parts_nothing() {
        let found = find("GET", "/api/v1/%64ownloads/a%2Fb").unwrap_or_else(|_| panic!());
        assert_eq!(found.route.endpoint, Endpoint::Details);
        assert_eq!(found.download_id, "a/b");
    }
}
