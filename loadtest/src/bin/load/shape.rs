//! How the load goes over time: a shape is a data file: points in time with factors of a base rate, and who misbehaves meanwhile.
//! In: TOML. Out: the factor at a second. Pure. Seconds count from the end of the warm-up.

use serde::{Deserialize, Serialize};

/// Before second 0, so that caches and connections are there: so much of the first factor.
pub const WARM: f64 = 0.5;

/// Longest run, so that a series stays small.
const SECONDS_MAX: f64 = 3600.0;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub about: String,
    pub seconds: f64,
    #[serde(default)]
    pub curve: Curve,
    /// Second and factor, by rising second; the first is at 0.
    pub points: Vec<(f64, f64)>,
    /// From and to: recovery counts from its end.
    pub spike: Option<(f64, f64)>,
    /// Who follows the points; the others stay at 1. All, if none is named.
    #[serde(default)]
    pub follows: Vec<String>,
    /// `kept`, `own` or `new`, and a retry policy: used unless the command says otherwise.
    pub connections: Option<String>,
    pub retry: Option<String>,
    #[serde(default)]
    pub rude: Vec<Rude>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// A factor holds until the next point.
    #[default]
    Steps,
    /// Straight lines from point to point.
    Lines,
}

/// Connections that are no honest load. They come back when they are closed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rude {
    pub kind: Manner,
    /// Connections.
    pub many: usize,
    pub from: f64,
    pub to: f64,
    /// Milliseconds between two bytes of a drip, or before a closed one comes back.
    #[serde(default = "second")]
    pub every_ms: u64,
    /// Requests that a greedy one has under way on each connection.
    #[serde(default = "one")]
    pub depth: usize,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// Connects and says nothing.
    Idle,
    /// A request's head, byte by byte, without end.
    Drip,
    /// Asks and never reads.
    Deaf,
    /// Asks again at once, `depth` requests in one go.
    Greedy,
}

fn second() -> u64 {
    1000
}

fn one() -> usize {
    1
}

impl Shape {
    pub fn parse(text: &str) -> Result<Shape, String> {
        let shape: Shape = toml::from_str(text).map_err(|e| e.to_string())?;
        shape.check()?;
        Ok(shape)
    }

    /// The base rate all along.
    pub fn steady(seconds: f64) -> Result<Shape, String> {
        let shape = Shape {
            about: "steady".into(),
            seconds,
            curve: Curve::Steps,
            points: vec![(0.0, 1.0)],
            spike: None,
            follows: Vec::new(),
            connections: None,
            retry: None,
            rude: Vec::new(),
        };
        shape.check()?;
        Ok(shape)
    }

    fn check(&self) -> Result<(), String> {
        let good = |t: f64| (0.0..=self.seconds).contains(&t);
        if !(0.0..=SECONDS_MAX).contains(&self.seconds) || self.seconds == 0.0 {
            return Err(format!("seconds: above 0, to {SECONDS_MAX}"));
        }
        if self.points.first().is_none_or(|p| p.0 != 0.0) {
            return Err("points: the first is at 0".into());
        }
        if !self.points.is_sorted_by(|a, b| a.0 < b.0) || !self.points.iter().all(|p| good(p.0)) {
            return Err("points: by rising second, within the run".into());
        }
        if !self.points.iter().all(|p| (0.0..=1e6).contains(&p.1)) {
            return Err("points: factors from 0 to 1000000".into());
        }
        if let Some((from, to)) = self.spike
            && !(good(from) && good(to) && from < to)
        {
            return Err("spike: from and to, within the run".into());
        }
        for rude in &self.rude {
            if !(good(rude.from) && good(rude.to) && rude.from < rude.to) {
                return Err("rude: from and to, within the run".into());
            }
            if rude.every_ms == 0 || rude.depth == 0 || rude.depth > 1024 {
                return Err("rude: every_ms from 1, depth from 1 to 1024".into());
            }
        }
        Ok(())
    }

    /// For one that follows, or does not.
    pub fn factor(&self, class: &str, t: f64) -> f64 {
        let follows = self.follows.is_empty() || self.follows.iter().any(|f| f == class);
        match (follows, t < 0.0) {
            (true, true) => WARM * self.points[0].1,
            (true, false) => self.at(t),
            (false, _) => 1.0,
        }
    }

    /// The greatest factor that ever is.
    pub fn top(&self) -> f64 {
        self.points.iter().map(|p| p.1).fold(1.0, f64::max)
    }

    fn at(&self, t: f64) -> f64 {
        let next = self.points.partition_point(|p| p.0 <= t);
        let (from, factor) = self.points[next.max(1) - 1];
        match (self.curve, self.points.get(next)) {
            (Curve::Lines, Some(&(to, other))) => {
                factor + (other - factor) * (t - from) / (to - from)
            }
            _ => factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rest: &str) -> Result<Shape, String> {
        Shape::parse(&format!("about = 'a test'\nseconds = 10\n{rest}"))
    }

    #[test]
    fn steps_hold_until_the_next_point() {
        let shape = of("points = [[0, 0.65], [2, 10], [3, 0.65]]").unwrap();
        for (t, factor) in [
            (0.0, 0.65),
            (1.999, 0.65),
            (2.0, 10.0),
            (2.9, 10.0),
            (3.0, 0.65),
            (9.0, 0.65),
        ] {
            assert_eq!(shape.factor("show", t), factor, "{t}");
        }
        assert_eq!(shape.factor("show", -0.5), 0.325);
        assert_eq!(shape.top(), 10.0);
    }

    #[test]
    fn lines_go_straight_and_end_level() {
        let shape = of("curve = 'lines'\npoints = [[0, 1], [4, 3], [8, 0]]").unwrap();
        for (t, factor) in [
            (0.0, 1.0),
            (2.0, 2.0),
            (4.0, 3.0),
            (6.0, 1.5),
            (8.0, 0.0),
            (9.0, 0.0),
        ] {
            assert!((shape.factor("show", t) - factor).abs() < 1e-9, "{t}");
        }
    }

    #[test]
    fn who_does_not_follow_stays_at_one() {
        let shape = of("points = [[0, 5]]\nfollows = ['show']").unwrap();
        assert_eq!(
            (shape.factor("show", 1.0), shape.factor("scan", 1.0)),
            (5.0, 1.0)
        );
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, word) in [
            ("points = []", "first"),
            ("points = [[1, 1]]", "first"),
            ("points = [[0, 1], [0, 2]]", "rising"),
            ("points = [[0, 1], [11, 2]]", "within"),
            ("points = [[0, -1]]", "factors"),
            ("points = [[0, 1]]\nspike = [3, 2]", "spike"),
            ("points = [[0, 1]]\npoint = 3", "unknown field"),
        ] {
            let said = of(text).unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn every_shape_that_is_shipped_reads() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shapes");
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let shape = Shape::parse(&std::fs::read_to_string(&path).unwrap());
            assert!(shape.is_ok(), "{}: {shape:?}", path.display());
            read += 1;
        }
        assert!(read >= 7, "{read}");
    }
}
