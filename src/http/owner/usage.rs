//! `GET /admin/usage`: what callers used, summed by day, key, model, account or kind, as JSON or CSV.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::chat::failure::Failure;
use crate::gateway::usage::UsageBy;
use crate::http::state::AppState;
use crate::pool::Now;
use crate::store::{Histogram, UsageSums, UtcDay};
use crate::telemetry::ErrorChain;

/// The route of this file.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/admin/usage", get(usage))
}

/// The query of the route.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wishes {
    /// The first day, as `2026-11-01`; by default 30 days end with `to`.
    from: Option<String>,
    /// The last day, included; by default today.
    to: Option<String>,
    /// `day`, `key`, `model`, `account` or `kind`; by default `day`.
    by: Option<String>,
    /// `json` or `csv`; by default `json`.
    format: Option<String>,
}

/// The query, read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    from: UtcDay,
    to: UtcDay,
    by: UsageBy,
    is_csv: bool,
}

impl Wishes {
    fn read(&self, today: UtcDay) -> Result<Asked, String> {
        let day = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                UtcDay::of_date(text).map(Some).ok_or_else(|| format!("{name} must be a date such as 2026-11-26"))
            }
        };
        let to = day("to", &self.to)?.unwrap_or(today);
        let from = day("from", &self.from)?.unwrap_or_else(|| to.plus(1 - DAYS_DEFAULT));
        if from > to {
            return Err("from must not be after to".to_owned());
        }
        let by = match self.by.as_deref() {
            None => UsageBy::default(),
            Some(word) => UsageBy::ALL
                .into_iter()
                .find(|by| by.as_str() == word)
                .ok_or("by must be day, key, model, account or kind")?,
        };
        let is_csv = match self.format.as_deref() {
            None | Some("json") => false,
            Some("csv") => true,
            Some(_) => return Err("format must be json or csv".to_owned()),
        };
        Ok(Asked { from, to, by, is_csv })
    }
}

async fn usage(
    State(state): State<AppState>,
    wishes: Result<Query<Wishes>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(wishes) = wishes.map_err(|wrong| Failure::wrong_query(&wrong.body_text()))?;
    let asked = wishes.read(UtcDay::of(Now::read().unix)).map_err(|why| Failure::wrong_query(&why))?;
    let Asked { from, to, by, is_csv } = asked;
    let sums = state.0.usage.sums((from, to), by).await.map_err(|error| {
        warn!(error = %ErrorChain(&error), "usage cannot be read");
        Failure::internal()
    })?;
    let mut total = UsageSums::default();
    sums.values().for_each(|row| total.add(row));
    let not_kept = (CACHE_CONTROL, "no-store");
    if is_csv {
        let name = format!("attachment; filename=\"usage-{}-{}.csv\"", from.date(), to.date());
        let headers: [(HeaderName, &str); 3] =
            [not_kept, (CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, &name)];
        return Ok((headers, as_csv(by, &sums)).into_response());
    }
    let rows: Vec<Value> = sums.iter().map(|(name, sums)| as_json(Some((by, name)), sums)).collect();
    let body = json!({
        "from": from.date(), "to": to.date(), "by": by.as_str(), "rows": rows, "total": as_json(None, &total),
    });
    Ok(([not_kept], Json(body)).into_response())
}

fn counts(sums: &UsageSums) -> [(&'static str, u64); 8] {
    [
        ("requests", sums.requests),
        ("prompt_tokens", sums.prompt),
        ("completion_tokens", sums.completion),
        ("reasoning_tokens", sums.reasoning),
        ("cached_tokens", sums.cached),
        ("images", sums.images),
        ("videos", sums.videos),
        ("embeddings", sums.embeddings),
    ]
}

fn as_json(name: Option<(UsageBy, &str)>, sums: &UsageSums) -> Value {
    let mut row: Map<String, Value> =
        counts(sums).into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
    let times = |histogram: &Histogram| json!({"p50": histogram.quantile(P50), "p95": histogram.quantile(P95)});
    row.insert("errors".to_owned(), json!(sums.errors));
    row.insert("first_token_ms".to_owned(), times(&sums.first_token));
    row.insert("total_ms".to_owned(), times(&sums.total));
    row.extend(name.map(|(by, name)| (by.as_str().to_owned(), json!(name))));
    Value::Object(row)
}

/// One line for each sum under a line of names. Errors are one cell, as `class=count; class=count`.
fn as_csv(by: UsageBy, sums: &BTreeMap<String, UsageSums>) -> String {
    let names: Vec<&str> = counts(&UsageSums::default()).into_iter().map(|(name, _)| name).collect();
    let mut text = format!(
        "{},{},errors,first_token_ms_p50,first_token_ms_p95,total_ms_p50,total_ms_p95\r\n",
        by.as_str(),
        names.join(",")
    );
    for (name, sums) in sums {
        text.push_str(&cell(name));
        for (_, count) in counts(sums) {
            let _ = write!(text, ",{count}");
        }
        let errors: Vec<String> = sums.errors.iter().map(|(class, count)| format!("{class}={count}")).collect();
        let _ = write!(text, ",{}", cell(&errors.join("; ")));
        for (histogram, part) in
            [(&sums.first_token, P50), (&sums.first_token, P95), (&sums.total, P50), (&sums.total, P95)]
        {
            let time = histogram.quantile(part).map(|ms| ms.to_string()).unwrap_or_default();
            let _ = write!(text, ",{time}");
        }
        text.push_str("\r\n");
    }
    text
}

/// A cell of RFC 4180. A text that a spreadsheet would take for a formula begins with an apostrophe (OWASP, "CSV
/// Injection").
fn cell(text: &str) -> Cow<'_, str> {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) };
    if text.contains([',', '"', '\r', '\n', ';']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        text
    }
}

/// Days that are shown when the first is not named.
const DAYS_DEFAULT: i64 = 30;
const P50: f64 = 0.5;
const P95: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_words_are_read_strictly() {
        let today = UtcDay::of_date("2026-11-26").unwrap();
        let read = |from: &str, to: &str, by: &str, format: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let wishes = Wishes { from: given(from), to: given(to), by: given(by), format: given(format) };
            wishes.read(today).map(|asked| (asked.from.date(), asked.to.date(), asked.by.as_str(), asked.is_csv))
        };
        let expected = |from: &str, to: &str, by, is_csv| Ok((from.to_owned(), to.to_owned(), by, is_csv));
        assert_eq!(read("", "", "", ""), expected("2026-10-28", "2026-11-26", "day", false));
        assert_eq!(
            read("2026-11-26", "2026-11-26", "model", "csv"),
            expected("2026-11-26", "2026-11-26", "model", true)
        );
        assert_eq!(read("", "2026-01-01", "", "json"), expected("2025-12-03", "2026-01-01", "day", false));
        for (from, to, by, format) in [
            ("2026-11-27", "2026-11-26", "", ""),
            ("2026-02-30", "", "", ""),
            ("", "tomorrow", "", ""),
            ("1", "", "", ""),
            ("", "", "hour", ""),
            ("", "", "Day", ""),
            ("", "", "", "xml"),
        ] {
            assert!(read(from, to, by, format).is_err(), "{from} {to} {by} {format}");
        }
    }

    #[test]
    fn cells_are_safe_for_spreadsheets() {
        for (text, expected) in [
            ("qwen3-max", "qwen3-max"),
            ("", ""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-laptop", "'-laptop"),
            ("@sum", "'@sum"),
            ("\tx", "'\tx"),
            ("a,b", "\"a,b\""),
            ("a\nb", "\"a\nb\""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_row_of_csv_has_a_cell_for_each_name() {
        let mut sums = UsageSums {
            requests: 2,
            prompt: 5,
            errors: [("server_busy".to_owned(), 1)].into(),
            ..UsageSums::default()
        };
        sums.total.record(100);
        let text = as_csv(UsageBy::Key, &BTreeMap::from([("laptop".to_owned(), sums)]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert!(lines[1].starts_with("laptop,2,5,0,0,0,0,0,0,server_busy=1,,,"), "{}", lines[1]);
    }
}
