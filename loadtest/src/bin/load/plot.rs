//! Plots as SVG: offered against good over time, and latency over time. In: a record. Out: text. Pure.

use crate::record::{Figures, Point, Record};
use crate::tally::Counts;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Pixels of one plot.
const SIZE: (u32, u32) = (640, 220);

const FONT: (&str, i32) = ("system-ui, sans-serif", 13);

/// Milliseconds of the latency's axis, by powers of ten: one below is drawn at its foot.
const LATENCY: (f64, f64) = (0.1, 10_000.0);

const RED: RGBColor = RGBColor(0xd3, 0x3c, 0x3c);

struct Line {
    name: &'static str,
    colour: RGBColor,
    /// By points of the series; a gap where there is none.
    values: Vec<Option<f64>>,
    is_filled: bool,
}

/// What the plots of a class have in common.
struct Frame<'a> {
    record: &'a Record,
    class: &'a Figures,
    title: String,
    y: Range<f64>,
    y_labels: usize,
    y_label: &'a dyn Fn(&f64) -> String,
    /// A dashed line across.
    mark: Option<f64>,
}

/// Both, of every class, one below the other.
pub fn both(record: &Record) -> Result<String> {
    drawn(2 * record.classes.len(), |areas| {
        for (class, areas) in record.classes.iter().zip(areas.chunks(2)) {
            goodput_on(&areas[0], record, class, None)?;
            latency_on(&areas[1], record, class)?;
        }
        Ok(())
    })
}

/// A second, by what came of the tries. `top`: of the axis, so that several may be compared.
pub fn goodput(record: &Record, class: &Figures, top: f64) -> Result<String> {
    drawn(1, |areas| goodput_on(&areas[0], record, class, Some(top)))
}

/// Of 2xx, in milliseconds, by powers of ten.
pub fn latency(record: &Record, class: &Figures) -> Result<String> {
    drawn(1, |areas| latency_on(&areas[0], record, class))
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

fn drawn(plots: usize, draw: impl FnOnce(&[Area]) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    let size = (SIZE.0, SIZE.1 * plots as u32);
    let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
    draw(&root.split_evenly((plots, 1)))?;
    root.present()?;
    drop(root);
    Ok(text)
}

fn goodput_on(area: &Area, record: &Record, class: &Figures, top: Option<f64>) -> Result<()> {
    let every = every(class);
    let line = |name, colour: u32, count: fn(&Counts) -> u64| Line {
        name,
        colour: RGBColor((colour >> 16) as u8, (colour >> 8) as u8, colour as u8),
        values: class
            .series
            .iter()
            .map(|point| Some(count(&point.counts) as f64 / every))
            .collect(),
        is_filled: name == "offered",
    };
    let lines = [
        line("offered", 0xc8ccd4, |p| p.offered),
        line("tries", 0x8a8f99, |p| p.tries),
        line("silent", 0xd33c3c, |p| {
            p.silent + p.silent_connect + p.starved
        }),
        line("refused, cut", 0x8d5a2b, |p| p.refused + p.cut + p.other),
        line("busy", 0xe08a00, |p| p.busy),
        line("late", 0x7a52c7, |p| p.late),
        line("good", 0x1d8a4a, |p| p.good),
    ];
    let top = top.unwrap_or_else(|| self::top([class].into_iter()));
    let frame = Frame {
        record,
        class,
        title: format!("{} a second", class.kind),
        y: 0.0..top.max(1.0),
        y_labels: 5,
        y_label: &|value| short(*value),
        mark: None,
    };
    frame.draw(area, &lines)
}

fn latency_on(area: &Area, record: &Record, class: &Figures) -> Result<()> {
    let line = |name, colour, time: fn(&Point) -> Option<f64>| Line {
        name,
        colour,
        values: class
            .series
            .iter()
            .map(|point| time(point).map(|ms| ms.max(LATENCY.0).log10()))
            .collect(),
        is_filled: false,
    };
    let lines = [
        line("p50", RGBColor(0x2f, 0x6f, 0xd0), |p| p.p50),
        line("p99", RED, |p| p.p99),
    ];
    let frame = Frame {
        record,
        class,
        title: format!(
            "{} latency in ms, of 2xx, from the intended instant",
            class.kind
        ),
        y: LATENCY.0.log10()..LATENCY.1.log10(),
        y_labels: 6,
        y_label: &|power| short(10_f64.powf(*power)),
        mark: Some(class.deadline_ms.max(LATENCY.0).log10()),
    };
    frame.draw(area, &lines)
}

fn every(class: &Figures) -> f64 {
    match &class.series[..] {
        [one, other, ..] => other.t - one.t,
        _ => 1.0,
    }
}

impl Frame<'_> {
    fn draw(&self, area: &Area, lines: &[Line]) -> Result<()> {
        let times: Vec<f64> = self.class.series.iter().map(|point| point.t).collect();
        let first = times.first().copied().unwrap_or(0.0);
        let last = self.record.shape.seconds.max(first + 0.1);
        let (_, below) = area.split_vertically(34);
        let mut chart = ChartBuilder::on(&below)
            .margin_right(10)
            .x_label_area_size(24)
            .y_label_area_size(58)
            .build_cartesian_2d(first..last, self.y.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(12)
            .y_labels(self.y_labels)
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .label_style(FONT)
            .x_label_formatter(&|t| format!("{} s", short(*t)))
            .y_label_formatter(self.y_label)
            .draw()?;
        if let Some((from, to)) = self.record.shape.spike {
            let colour = RGBColor(0xf3, 0xc9, 0x4b).mix(0.22);
            let corners = [(from, self.y.start), (to, self.y.end)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        }
        if let Some(mark) = self.mark {
            let ends = [(first, mark), (last, mark)];
            chart.draw_series(DashedLineSeries::new(ends, 4, 3, BLACK.mix(0.6).into()))?;
        }
        let title = FONT.into_font().style(FontStyle::Bold);
        area.draw(&Text::new(self.title.clone(), (58, 4), title))?;
        let mut along = 58;
        for line in lines {
            let seen = line.values.iter().flatten().any(|value| *value != 0.0);
            if !seen {
                continue;
            }
            let key = [(along, 20), (along + 10, 28)];
            area.draw(&Rectangle::new(key, line.colour.filled()))?;
            area.draw(&Text::new(line.name, (along + 13, 18), FONT))?;
            along += 24 + 7 * line.name.len() as i32;
            let points: Vec<(f64, Option<f64>)> = times
                .iter()
                .zip(&line.values)
                .map(|(t, value)| (*t, value.map(|v| v.clamp(self.y.start, self.y.end))))
                .collect();
            for run in runs(&points) {
                if line.is_filled {
                    let foot = self.y.start;
                    chart.draw_series(AreaSeries::new(run, foot, line.colour.filled()))?;
                } else if let [alone] = run[..] {
                    chart.draw_series([Circle::new(alone, 1, line.colour.filled())])?;
                } else {
                    chart.draw_series(LineSeries::new(run, line.colour))?;
                }
            }
        }
        Ok(())
    }
}

/// The stretches without a gap.
fn runs(points: &[(f64, Option<f64>)]) -> Vec<Vec<(f64, f64)>> {
    let runs = points.split(|(_, value)| value.is_none());
    runs.map(|run| run.iter().filter_map(|(t, v)| Some((*t, (*v)?))).collect())
        .filter(|run: &Vec<_>| !run.is_empty())
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!(
            [short(1500.0), short(0.1), short(2e6), short(0.0)],
            ["1.5k", "0.1", "2M", "0"]
        );
    }

    #[test]
    fn a_line_has_gaps() {
        let points = [
            (0.0, None),
            (1.0, Some(2.0)),
            (2.0, Some(3.0)),
            (3.0, None),
            (4.0, None),
            (5.0, Some(1.0)),
        ];
        assert_eq!(
            runs(&points),
            [vec![(1.0, 2.0), (2.0, 3.0)], vec![(5.0, 1.0)]]
        );
    }
}
