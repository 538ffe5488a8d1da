//! Results side by side: a table of medians, and the plots of the run in the middle, in one page that needs nothing else.
//! In: result files. Out: HTML, or the table as markdown. Void runs are shown as such and left out of medians.

use crate::options::ReportOptions;
use crate::plot;
use crate::record::{Figures, Record, round};
use anyhow::{Context, Result};
use std::fmt::Write;

/// Runs of the same thing.
struct Group<'a> {
    label: &'a str,
    shape: &'a str,
    kind: &'a str,
    /// Those that count; void ones where there is no other.
    runs: Vec<(&'a Record, &'a Figures)>,
    void: usize,
}

const HEADS: [&str; 14] = [
    "server",
    "shape",
    "class",
    "runs",
    "offered/s",
    "good/s, median (range)",
    "good %",
    "p50 ms",
    "p99 ms",
    "busy/s, p99 ms",
    "silent/s",
    "85 % again after, most tries/s later",
    "Jain",
    "CPU µs an answer, a good one",
];

pub fn write(options: &ReportOptions) -> Result<()> {
    let mut records = Vec::new();
    for path in &options.results {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let record: Record =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        records.push(record);
    }
    let groups = groups(&records);
    if options.markdown {
        print!("{}", markdown(&groups));
        return Ok(());
    }
    std::fs::write(&options.out, page(&records, &groups)?)
        .with_context(|| options.out.display().to_string())
}

/// In the order of the files.
fn groups(records: &[Record]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for record in records {
        for figures in &record.classes {
            let key = (
                record.label.as_str(),
                record.shape_name.as_str(),
                figures.kind.as_str(),
            );
            let found = groups
                .iter()
                .position(|group| (group.label, group.shape, group.kind) == key);
            let nth = found.unwrap_or_else(|| {
                let (label, shape, kind) = key;
                groups.push(Group {
                    label,
                    shape,
                    kind,
                    runs: Vec::new(),
                    void: 0,
                });
                groups.len() - 1
            });
            groups[nth].void += usize::from(record.void.is_some());
            groups[nth].runs.push((record, figures));
        }
    }
    for group in &mut groups {
        if group.void < group.runs.len() {
            group.runs.retain(|(record, _)| record.void.is_none());
        }
        group
            .runs
            .sort_by(|a, b| a.1.good_per_second.total_cmp(&b.1.good_per_second));
    }
    groups.sort_by_key(|group| group.shape);
    groups
}

impl<'a> Group<'a> {
    /// The run in the middle, by good answers.
    fn middle(&self) -> (&'a Record, &'a Figures) {
        self.runs[self.runs.len() / 2]
    }

    fn median(&self, of: impl Fn(&Record, &Figures) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self
            .runs
            .iter()
            .filter_map(|(record, figures)| of(record, figures))
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn row(&self) -> Vec<String> {
        let number = |value: Option<f64>| value.map_or("–".into(), |value| trimmed(round(value)));
        let seconds = |figures: &Figures| {
            figures.counts.offered as f64 / figures.offered_per_second.max(1e-9)
        };
        let a_second = |count: fn(&Figures) -> u64| {
            self.median(|_, f| Some(count(f) as f64 / seconds(f).max(1e-9)))
        };
        let (least, most) = (
            self.runs[0].1.good_per_second,
            self.runs[self.runs.len() - 1].1.good_per_second,
        );
        // A run that did not recover is slower than all that did.
        let recovery = self.median(|_, f| {
            f.recovery
                .map(|r| r.to_85_percent_ms.map_or(f64::INFINITY, |ms| ms as f64))
        });
        let wave = self.median(|_, f| Some(f.recovery?.tries_per_second_max? as f64));
        let recovery = match recovery {
            None => "–".into(),
            Some(f64::INFINITY) => format!("not within the run, {}", number(wave)),
            Some(ms) => format!("{ms:.0} ms, {}", number(wave)),
        };
        let cpu = |of: fn(&crate::record::Server) -> Option<f64>| {
            number(self.median(|r, _| r.server.as_ref().and_then(of)))
        };
        let kept = self.runs.len();
        let runs = match self.void {
            0 => format!("{kept}"),
            void if self.runs[0].0.void.is_some() => format!("{void}, all void"),
            void => format!("{kept}, and {void} void"),
        };
        vec![
            self.label.into(),
            self.shape.into(),
            self.kind.into(),
            runs,
            number(self.median(|_, f| Some(f.offered_per_second))),
            format!(
                "{} ({}..{})",
                number(self.median(|_, f| Some(f.good_per_second))),
                trimmed(least),
                trimmed(most)
            ),
            number(self.median(|_, f| Some(f.good_percent))),
            number(self.median(|_, f| f.latency_ms.p50)),
            number(self.median(|_, f| f.latency_ms.p99)),
            format!(
                "{}, {}",
                number(a_second(|f| f.counts.busy)),
                number(self.median(|_, f| f.busy_ms.p99))
            ),
            number(a_second(|f| {
                f.counts.silent + f.counts.silent_connect + f.counts.starved
            })),
            recovery,
            number(self.median(|_, f| f.jain)),
            format!("{}, {}", cpu(|s| s.us_per_answer), cpu(|s| s.us_per_good)),
        ]
    }
}

fn markdown(groups: &[Group]) -> String {
    let mut out = format!(
        "| {} |\n|{}\n",
        HEADS.join(" | "),
        " --- |".repeat(HEADS.len())
    );
    for group in groups {
        let _ = writeln!(out, "| {} |", group.row().join(" | "));
    }
    out
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1400px;padding:0 1rem;color:#1c1f24;background:#fff}\
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right}\
td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}\
figure{margin:0}figcaption{font-weight:600}svg{width:100%;height:auto;background:#fff}.void{color:#b00020}code{font-size:12px;word-break:break-all}\
@media(prefers-color-scheme:dark){body{color:#e4e6ea;background:#15171b}td,th{border-color:#333}}";

fn page(records: &[Record], groups: &[Group]) -> Result<String> {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Load</title><style>{STYLE}</style><h1>Load</h1>"
    );
    out += "<p>Good: a 2xx within the deadline, counted from the instant at which it was meant to be asked for. Latency is of 2xx alone: who gave up has none. Medians over the runs that are not void.</p><table><tr>";
    for head in HEADS {
        let _ = write!(out, "<th>{head}</th>");
    }
    out += "</tr>";
    for group in groups {
        out += "<tr>";
        for cell in group.row() {
            let _ = write!(out, "<td>{}</td>", escaped(&cell));
        }
        out += "</tr>";
    }
    out += "</table>";
    let mut shape = None;
    for group in groups {
        if shape != Some((group.shape, group.kind)) {
            out += if shape.is_some() { "</div>" } else { "" };
            shape = Some((group.shape, group.kind));
            let about = &group.middle().0.shape.about;
            let _ = write!(
                out,
                "<h2>{}: {}</h2><p>{}</p><div class=\"plots\">",
                escaped(group.shape),
                group.kind,
                escaped(about)
            );
        }
        let (record, figures) = group.middle();
        // One axis for all of a shape.
        let kin = groups
            .iter()
            .filter(|other| (other.shape, other.kind) == (group.shape, group.kind));
        let top = plot::top(kin.map(|other| other.middle().1));
        let _ = write!(
            out,
            "<figure><figcaption>{}{}</figcaption>{}{}</figure>",
            escaped(group.label),
            record.void.as_ref().map_or(String::new(), |why| format!(
                " <span class=\"void\">void: {}</span>",
                escaped(why)
            )),
            plot::goodput(record, figures, top)?,
            plot::latency(record, figures)?,
        );
    }
    out += if shape.is_some() { "</div>" } else { "" };
    out += "<h2>Where and how</h2><table><tr><th>server</th><th>shape</th><th>command</th><th>commit</th><th>at</th><th>machine</th><th>stolen %</th><th>busy %</th><th>load</th><th>lag p99 ms</th><th>notes</th></tr>";
    for record in records {
        let machine = &record.machine;
        let notes: Vec<&str> = record
            .notes
            .iter()
            .chain(&record.void)
            .map(String::as_str)
            .collect();
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}, {} cores, Linux {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&record.label),
            escaped(&record.shape_name),
            escaped(&record.command),
            escaped(&record.commit),
            record.at,
            escaped(&machine.processor),
            machine.cores,
            escaped(&machine.kernel),
            machine.stolen_percent,
            machine.busy_percent,
            machine.loadavg,
            record.lag_ms.p99.unwrap_or(0.0),
            escaped(&notes.join("; ")),
        );
    }
    Ok(out + "</table></html>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn trimmed(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v}"),
    }
}
