//! The description of the API and the API say the same. That answers are as described is
//! checked from outside, by `scripts/check-openapi`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::agent::{download, fill};
use crate::api::error::CODES;
use crate::api::routes::ROUTES;
use crate::model::problem::Code;
use crate::model::state::State;

fn document() -> Value {
    serde_json::from_str(&crate::api::OPENAPI.text()).unwrap()
}

fn strings(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// Every operation: method, path, its description, and the parameters of its path.
fn operations(document: &Value) -> Vec<(String, String, &Value, Vec<&Value>)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let shared = item["parameters"].as_array().into_iter().flatten();
        let shared: Vec<&Value> = shared.collect();
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                let own = operation["parameters"].as_array().into_iter().flatten();
                let all = shared.iter().copied().chain(own).collect();
                operations.push((method.to_uppercase(), path.clone(), operation, all));
            }
        }
    }
    operations
}

#[test]
fn every_call_is_described_and_every_description_is_a_call() {
    let document = document();
    let described: BTreeMap<_, _> = operations(&document)
        .into_iter()
        .map(|(method, path, _, parameters)| {
            let of = |place: &str| -> BTreeSet<String> {
                let here = parameters.iter().filter(|one| one["in"] == place);
                here.map(|one| one["name"].as_str().unwrap().to_owned())
                    .collect()
            };
            ((method, path), (of("query"), of("path")))
        })
        .collect();
    let known: BTreeMap<_, _> = ROUTES
        .iter()
        .map(|route| {
            let query = route.query.iter().map(|&name| name.to_owned()).collect();
            let path = route.path.contains("{download_id}");
            let path = path.then(|| "download_id".to_owned()).into_iter().collect();
            ((route.method.into(), route.path.into()), (query, path))
        })
        .collect();
    assert_eq!(described, known);
}

#[test]
fn every_error_is_described_with_its_status() {
    let document = document();
    let components = &document["components"];
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (status, code) in CODES {
        let codes = known.entry(status.to_string()).or_default();
        assert!(codes.insert((*code).to_owned()), "{code} is there twice");
    }
    let described: BTreeMap<_, _> = components["responses"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(status, response)| {
            let schema = &response["content"]["application/json"]["schema"];
            let code = &schema["allOf"][1]["properties"]["error"]["properties"]["code"];
            (status.clone(), strings(&code["enum"]))
        })
        .collect();
    assert_eq!(described, known);
    let all = CODES.iter().map(|(_, code)| (*code).to_owned()).collect();
    assert_eq!(strings(&components["schemas"]["ErrorCode"]["enum"]), all);
    let mut used: BTreeSet<String> = BTreeSet::from(["405".into()]);
    for (method, path, operation, _) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.starts_with('2') {
                continue;
            }
            let wanted = format!("#/components/responses/{status}");
            assert_eq!(response["$ref"], wanted, "{method} {path}");
            used.insert(status.clone());
        }
    }
    assert_eq!(used, known.keys().cloned().collect());
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    let pointer = to.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{to}");
                }
                fields.values().for_each(|value| check(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| check(value, document)),
            _ => {}
        }
    }
    check(&document(), &document());
}

#[test]
fn summaries_and_files_have_the_fields_that_are_described() {
    let schemas = &document()["components"]["schemas"];
    let one = download(1, State::Paused);
    fill(&one, 1);
    let summary = serde_json::to_value(one.summary()).unwrap();
    let said = [
        "create_package_folder",
        "uid",
        "gid",
        "bypass_package_quarantine",
        "chunk_size",
        "verify",
        "manifest",
        "windows_names",
        "manifest_file",
        "verification",
    ];
    let all: BTreeSet<String> = names(&summary)
        .into_iter()
        .chain(said.map(str::to_owned))
        .collect();
    assert_eq!(names(&schemas["SummaryFields"]["properties"]), all);
    assert_eq!(
        strings(&schemas["SummaryFields"]["required"]),
        names(&summary)
    );
    let mut row = Vec::new();
    one.table().unwrap().render(0, 1, State::Paused, &mut row);
    let row: Value = serde_json::from_slice(&row).unwrap();
    assert_eq!(strings(&schemas["File"]["required"]), names(&row));
}

#[test]
fn every_state_and_every_problem_is_described() {
    let schemas = &document()["components"]["schemas"];
    let states = State::ALL.map(|state| state.name().to_owned());
    assert_eq!(strings(&schemas["State"]["enum"]), states.into());
    let codes = [
        Code::LinkNotFound,
        Code::LinkExpired,
        Code::LinkPasswordRequired,
        Code::LinkPasswordWrong,
        Code::LinkRefused,
        Code::InsufficientStorage,
        Code::DestinationUnwritable,
        Code::DestinationNotResponding,
        Code::FileFailed,
        Code::UpstreamUnavailable,
        Code::ProtocolError,
        Code::ChecksumMismatch,
        Code::VirusDetected,
        Code::PackageQuarantined,
        Code::NothingSelected,
        Code::FileNotFound,
        Code::InternalError,
    ];
    let names = codes.map(|code| {
        let value = serde_json::to_value(code).unwrap();
        value.as_str().unwrap().to_owned()
    });
    assert_eq!(strings(&schemas["ProblemCode"]["enum"]), names.into());
}
