//! `GET /api/v1/health` and `GET /metrics`: how the agent is doing, for monitoring.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Mutex;
use std::time::Instant;

use super::answer::{Answer, Body};
use crate::agent::Agent;
use crate::base::locks;
use crate::model::state::State;
use crate::model::table::Counts;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the API itself counts.
pub struct Tally {
    started: Instant,
    /// Answers by their status.
    answers: Mutex<BTreeMap<u16, u64>>,
}

impl Tally {
    /// Counts from now on.
    pub fn new() -> Tally {
        Tally {
            started: Instant::now(),
            answers: Mutex::default(),
        }
    }

    /// An answer of that status goes out.
    pub fn count(&self, status: u16) {
        let mut answers = locks::lock(&self.answers);
        *answers.entry(status).or_default() += 1;
    }
}

/// Whether all is well. An agent that cannot save is `degraded`, and answers all the same: to
/// start it again would not help.
pub fn health(agent: &dyn Agent, tally: &Tally) -> Answer {
    let writable = agent.stats().state_writable;
    let body = serde_json::json!({
        "status": if writable { "ok" } else { "degraded" },
        "version": VERSION,
        "uptime_seconds": tally.started.elapsed().as_secs(),
        "state_writable": writable,
    });
    Answer::json(200, body.to_string().into_bytes())
}

/// Everything there is to measure, in Prometheus' text format 0.0.4.
pub fn metrics(agent: &dyn Agent, tally: &Tally, watchers: usize) -> Answer {
    let mut page = Page::default();
    page.one(
        "haul_build_info",
        GAUGE,
        "Constant 1; the version is in the label.",
    )
    .sample(&[("version", VERSION)], 1);
    let uptime = tally.started.elapsed().as_secs_f64();
    page.one(
        "haul_uptime_seconds",
        GAUGE,
        "Time since the agent was started.",
    )
    .sample(&[], format_args!("{uptime:.3}"));
    downloads(agent, &mut page);
    stats(agent, &mut page);
    let help = "Readers of the event stream and long polls at this moment.";
    page.one("haul_api_watchers", GAUGE, help)
        .sample(&[], watchers);
    let help = "Answers of the API by their status.";
    let mut answers = page.one("haul_http_requests_total", COUNTER, help);
    let counted = locks::lock(&tally.answers);
    for (status, count) in counted.iter() {
        answers.sample(&[("code", &status.to_string())], count);
    }
    drop(counted);
    Answer {
        content_type: "text/plain; version=0.0.4; charset=utf-8",
        body: Body::Whole(page.text.into_bytes()),
        ..Answer::json(200, Vec::new())
    }
}

fn downloads(agent: &dyn Agent, page: &mut Page) {
    let mut states = [0_u64; State::ALL.len()];
    let (mut sums, mut rate) = (Counts::default(), 0);
    for download in agent.board().all().iter() {
        let (fingerprint, now) = (download.fingerprint(), download.state());
        states[State::ALL
            .iter()
            .position(|state| *state == now)
            .unwrap_or(0)] += 1;
        rate += fingerprint.rate;
        let counts = fingerprint.counts;
        sums.bytes_total = sums.bytes_total.saturating_add(counts.bytes_total);
        sums.bytes_done = sums.bytes_done.saturating_add(counts.bytes_done);
        sums.files_total += counts.files_total;
        sums.files_complete += counts.files_complete;
        sums.files_skipped += counts.files_skipped;
        sums.files_failed += counts.files_failed;
    }
    let mut by_state = page.one("haul_downloads", GAUGE, "Downloads by their state.");
    for (state, count) in State::ALL.into_iter().zip(states) {
        by_state.sample(&[("state", state.name())], count);
    }
    let help = "Files of all downloads that are there; open ones are neither complete, skipped nor failed.";
    let mut files = page.one("haul_files", GAUGE, help);
    let ended = sums.files_complete + sums.files_skipped + sums.files_failed;
    for (state, count) in [
        ("open", sums.files_total.saturating_sub(ended)),
        ("complete", sums.files_complete),
        ("skipped", sums.files_skipped),
        ("failed", sums.files_failed),
    ] {
        files.sample(&[("state", state)], count);
    }
    page.one(
        "haul_wanted_bytes",
        GAUGE,
        "What all downloads that are there are to bring.",
    )
    .sample(&[], sums.bytes_total);
    page.one("haul_done_bytes", GAUGE, "What they have brought.")
        .sample(&[], sums.bytes_done);
    let help = "Rate of all downloads together over the last few seconds.";
    page.one("haul_transfer_bytes_per_second", GAUGE, help)
        .sample(&[], rate);
}

fn stats(agent: &dyn Agent, page: &mut Page) {
    let stats = agent.stats();
    let help = "Bytes of files that were received, those that were fetched twice too.";
    page.one("haul_received_bytes_total", COUNTER, help)
        .sample(&[], stats.bytes_received);
    page.one("haul_workers", GAUGE, "Threads that transfer bytes.")
        .sample(&[], stats.workers);
    page.one(
        "haul_workers_busy",
        GAUGE,
        "Threads that have something to transfer.",
    )
    .sample(&[], stats.workers_busy);
    page.one(
        "haul_journal_bytes",
        GAUGE,
        "Length of the journal in the state directory.",
    )
    .sample(&[], stats.journal_bytes);
    let help = "Whether the last write to the state directory succeeded.";
    page.one("haul_state_writable", GAUGE, help)
        .sample(&[], u8::from(stats.state_writable));
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The text as it grows.
#[derive(Default)]
struct Page {
    text: String,
}

/// One metric, whose samples follow.
struct Metric<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Page {
    fn one(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("writing to memory cannot fail");
        Metric {
            name,
            text: &mut self.text,
        }
    }
}

impl Metric<'_> {
    /// A value, with labels that need no escaping.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        writeln!(self.text, "{}{labels} {value}", self.name)
            .expect("writing to memory cannot fail");
    }
}
