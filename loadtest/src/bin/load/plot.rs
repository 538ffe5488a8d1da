//! Plots as SVG: offered against good over time, and latency over time. In: a record. Out: text. Pure; no style from outside.

use crate::record::{Figures, Point, Record};
use crate::tally::Counts;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 26.0;

/// Milliseconds of the latency's axis, by powers of ten: one below is drawn at its foot.
const LATENCY: (f64, f64) = (0.1, 10_000.0);

struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    values: Vec<Option<f64>>,
    filled: bool,
}

/// Both, of every class, one below the other.
pub fn both(record: &Record) -> String {
    let plots: Vec<String> = record
        .classes
        .iter()
        .flat_map(|class| [goodput(record, class, None), latency(record, class)])
        .collect();
    let height = HEIGHT * plots.len() as f64;
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">"#
    );
    for (nth, plot) in plots.iter().enumerate() {
        let _ = write!(
            out,
            r#"<g transform="translate(0 {})">{plot}</g>"#,
            HEIGHT * nth as f64
        );
    }
    out + "</svg>\n"
}

/// One plot as an image of its own.
pub fn alone(plot: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{plot}</svg>"#)
}

/// A second, by what came of the tries. `top`: of the axis, so that several may be compared.
pub fn goodput(record: &Record, class: &Figures, top: Option<f64>) -> String {
    let every = every(class);
    let of = |count: fn(&Counts) -> u64| {
        class
            .series
            .iter()
            .map(|point| Some(count(&point.counts) as f64 / every))
            .collect()
    };
    let lines = [
        Line {
            name: "offered",
            colour: "#c8ccd4",
            values: of(|p| p.offered),
            filled: true,
        },
        Line {
            name: "tries",
            colour: "#8a8f99",
            values: of(|p| p.tries),
            filled: false,
        },
        Line {
            name: "silent",
            colour: "#d33c3c",
            values: of(|p| p.silent + p.silent_connect + p.starved),
            filled: false,
        },
        Line {
            name: "refused, cut",
            colour: "#8d5a2b",
            values: of(|p| p.refused + p.cut + p.other),
            filled: false,
        },
        Line {
            name: "busy",
            colour: "#e08a00",
            values: of(|p| p.busy),
            filled: false,
        },
        Line {
            name: "late",
            colour: "#7a52c7",
            values: of(|p| p.late),
            filled: false,
        },
        Line {
            name: "good",
            colour: "#1d8a4a",
            values: of(|p| p.good),
            filled: false,
        },
    ];
    let top = round_up(top.unwrap_or_else(|| self::top([class].into_iter())));
    let y = move |value: f64| 1.0 - (value / top).clamp(0.0, 1.0);
    let ticks: Vec<(f64, String)> = (0..=4)
        .map(|n| top * f64::from(n) / 4.0)
        .map(|v| (y(v), short(v)))
        .collect();
    frame(
        record,
        class,
        &format!("{} a second", class.kind),
        &lines,
        &ticks,
        &y,
        None,
    )
}

/// Of 2xx, in milliseconds, by powers of ten.
pub fn latency(record: &Record, class: &Figures) -> String {
    let of = |time: fn(&Point) -> Option<f64>| class.series.iter().map(time).collect();
    let lines = [
        Line {
            name: "p50",
            colour: "#2f6fd0",
            values: of(|p| p.p50),
            filled: false,
        },
        Line {
            name: "p99",
            colour: "#d33c3c",
            values: of(|p| p.p99),
            filled: false,
        },
    ];
    let (low, high) = (LATENCY.0.log10(), LATENCY.1.log10());
    let y =
        move |value: f64| 1.0 - ((value.max(1e-9).log10() - low) / (high - low)).clamp(0.0, 1.0);
    let ticks: Vec<(f64, String)> = [0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0]
        .map(|v| (y(v), short(v)))
        .into();
    let title = format!(
        "{} latency in ms, of 2xx, from the intended instant",
        class.kind
    );
    frame(
        record,
        class,
        &title,
        &lines,
        &ticks,
        &y,
        Some(class.deadline_ms),
    )
}

/// Where the axis of these ends: at the most that was asked, or at three times the best that was answered. What is above
/// runs along the top: else a spike would make all the rest a line at the foot.
pub fn top<'a>(classes: impl Iterator<Item = &'a Figures>) -> f64 {
    let (mut asked, mut good) = (0.0_f64, 0.0_f64);
    for class in classes {
        let every = every(class);
        for point in &class.series {
            asked = asked.max(point.counts.tries.max(point.counts.offered) as f64 / every);
            good = good.max(point.counts.good as f64 / every);
        }
    }
    if good > 0.0 {
        asked.min(3.0 * good)
    } else {
        asked
    }
}

fn every(class: &Figures) -> f64 {
    match &class.series[..] {
        [one, other, ..] => other.t - one.t,
        _ => 1.0,
    }
}

fn frame(
    record: &Record,
    class: &Figures,
    title: &str,
    lines: &[Line],
    ticks: &[(f64, String)],
    y: &dyn Fn(f64) -> f64,
    mark: Option<f64>,
) -> String {
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let first = class.series.first().map_or(0.0, |point| point.t);
    let last = record.shape.seconds.max(first + 0.1);
    let x = |t: f64| LEFT + wide * (t - first) / (last - first);
    let down = |part: f64| TOP + high * part;
    let mut out = String::from(
        r#"<g font-family="system-ui, sans-serif" font-size="11" fill="currentColor">"#,
    );
    let _ = write!(
        out,
        r#"<text x="{LEFT}" y="13" font-weight="600">{}</text>"#,
        escaped(title)
    );
    if let Some((from, to)) = record.shape.spike {
        let (from, to) = (x(from), x(to));
        let _ = write!(
            out,
            r##"<rect x="{from:.1}" y="{TOP}" width="{:.1}" height="{high}" fill="#f3c94b" opacity="0.22"/>"##,
            to - from
        );
    }
    for (part, word) in ticks {
        let at = down(*part);
        let _ = write!(
            out,
            r#"<path d="M{LEFT} {at:.1}h{wide}" stroke="currentColor" opacity="0.15"/><text x="{:.1}" y="{:.1}" text-anchor="end">{word}</text>"#,
            LEFT - 5.0,
            at + 4.0
        );
    }
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0]
        .into_iter()
        .find(|step| (last - first) / step <= 12.0);
    let step = step.unwrap_or(3600.0);
    let mut t = (first / step).ceil() * step;
    while t <= last + 1e-9 {
        let _ = write!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{} s</text>"#,
            x(t),
            HEIGHT - 9.0,
            short(t)
        );
        t += step;
    }
    if let Some(mark) = mark {
        let at = down(y(mark));
        let _ = write!(
            out,
            r#"<path d="M{LEFT} {at:.1}h{wide}" stroke="currentColor" stroke-dasharray="4 3" opacity="0.6"/>"#
        );
    }
    let mut along = LEFT;
    for line in lines {
        if line
            .values
            .iter()
            .all(|value| value.is_none_or(|value| value == 0.0))
        {
            continue;
        }
        let _ = write!(
            out,
            r#"<rect x="{along}" y="20" width="10" height="8" fill="{}"/><text x="{}" y="28">{}</text>"#,
            line.colour,
            along + 13.0,
            line.name
        );
        along += 24.0 + 6.6 * line.name.len() as f64;
        let points = class
            .series
            .iter()
            .zip(&line.values)
            .map(|(point, value)| value.map(|value| (x(point.t), down(y(value)))));
        let _ = write!(
            out,
            r#"<path d="{}" fill="{}" stroke="{}" stroke-width="1.4" stroke-linejoin="round"/>"#,
            path(points, line.filled.then_some(down(1.0))),
            if line.filled { line.colour } else { "none" },
            line.colour
        );
    }
    out + "</g>"
}

/// Gaps where there is nothing. `foot`: closed down to there.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>, foot: Option<f64>) -> String {
    let (mut out, mut pen, mut from, mut to) = (String::new(), false, None, 0.0);
    for point in points {
        let Some((x, y)) = point else {
            pen = false;
            continue;
        };
        let _ = write!(out, "{}{x:.1} {y:.1}", if pen { 'L' } else { 'M' });
        // A point alone would not be seen.
        if !pen {
            out += "h0.1";
        }
        from = from.or(Some(x));
        (pen, to) = (true, x);
    }
    if let (Some(foot), Some(from)) = (foot, from) {
        let _ = write!(out, "L{to:.1} {foot:.1}L{from:.1} {foot:.1}Z");
    }
    out
}

/// 1, 2 or 5 and noughts, not below.
fn round_up(value: f64) -> f64 {
    let ten = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .into_iter()
        .map(|m| m * ten)
        .find(|top| *top >= value)
        .unwrap_or(10.0 * ten)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (43_210.0, 50_000.0),
            (62_000.0, 80_000.0),
            (91.0, 100.0),
        ] {
            assert!(
                (round_up(value) - top).abs() < 1e-6,
                "{value}: {}",
                round_up(value)
            );
        }
        assert_eq!(
            [short(1500.0), short(0.1), short(2e6), short(0.0)],
            ["1.5k", "0.1", "2M", "0"]
        );
    }

    #[test]
    fn a_path_has_gaps_and_a_foot() {
        let points = [Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 1.0))];
        assert_eq!(
            path(points.into_iter(), None),
            "M0.0 1.0h0.1L1.0 2.0M3.0 1.0h0.1"
        );
        assert!(path(points.into_iter(), Some(9.0)).ends_with("L3.0 9.0L0.0 9.0Z"));
    }
}
