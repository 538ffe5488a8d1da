//! The offset of Redis's clock, and the one that nodes announce to each other while that clock is wrong.

use super::opened::OpenedRedis;
use super::partition;
use crate::clock::{self, Moment, Time};
use crate::store::error::Error;
use std::time::Duration;

/// Validity of an announced clock offset, which is renewed each second.
const OFFSET_LIFE: Duration = Duration::from_secs(3);

/// Returns the announced offset to add to Redis's clock, if it is younger than [`OFFSET_LIFE`] by that clock, which shows
/// `now`.
///
/// The key expires by the same clock: if the clock was set back by a day, the key stays a day longer.
fn word_in_force(told: &str, now: Time) -> Option<i64> {
    let (ahead, said_at) = told.split_once(' ')?;
    let said_at: i64 = said_at.parse().ok()?;
    let age = (now.0 as i64).saturating_sub(said_at);
    // Two readings of one clock may differ a little.
    let life = OFFSET_LIFE.as_millis() as i64;
    (-1_000..=life).contains(&age).then(|| ahead.parse().ok())?
}

impl OpenedRedis {
    /// Returns the offset of the clock of a partition's primary.
    pub(super) async fn clock_offset(&self, partition: usize) -> Result<i64, Error> {
        let mut held = self.asking[partition].lock().await;
        let mut link = held.get().await?;
        let before = Moment::now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        let time = Time(seconds * 1_000 + micros / 1_000);
        Ok(clock::offset::offset_of(time, before, Moment::now()))
    }

    /// Returns the key of the announced clock offset, used while the clock of the first partition's primary is wrong.
    fn offset_key() -> String {
        let meta = partition::meta(0);
        format!("{}c", &meta[..meta.len() - 1])
    }

    /// Returns the announced offset to add to the clock of the first partition's primary.
    pub(super) async fn fleet_offset(&self) -> Result<Option<i64>, Error> {
        let mut held = self.asking[0].lock().await;
        let mut link = held.get().await?;
        let before = Moment::now();
        let (told, (seconds, micros)): (Option<String>, (u64, u64)) = redis::pipe()
            .cmd("GET")
            .arg(OpenedRedis::offset_key())
            .cmd("TIME")
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))?;
        let time = Time(seconds * 1_000 + micros / 1_000);
        let own = clock::offset::offset_of(time, before, Moment::now());
        let told = told.and_then(|told| word_in_force(&told, time));
        Ok(told.map(|ahead| own.saturating_add(ahead)))
    }

    /// Announces an offset to other nodes, for [`OFFSET_LIFE`].
    pub(super) async fn tell_offset(&self, offset: i64) -> Result<(), Error> {
        let clock = self.clock_offset(0).await?;
        let said_at = clock.saturating_add(Moment::now().0 as i64);
        let mut held = self.asking[0].lock().await;
        let mut link = held.get().await?;
        redis::cmd("SET")
            .arg(OpenedRedis::offset_key())
            .arg(format!("{} {said_at}", offset - clock))
            .arg("PX")
            .arg(OFFSET_LIFE.as_millis() as u64)
            .query_async(&mut link)
            .await
            .map_err(|error| held.failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_about_a_clock_that_was_set_since_is_none() {
        let now = Time(1_790_000_000_000);
        let said = |before: i64| format!("-86400000 {}", now.0 as i64 - before);
        for (before, is_in_force) in [
            (0, true),
            (2_900, true),
            (-500, true),
            (3_100, false),
            (-86_400_000, false),
            (86_400_000, false),
        ] {
            let word = word_in_force(&said(before), now);
            assert_eq!(word, is_in_force.then_some(-86_400_000), "{before}");
        }
        for bad in ["", "5", "x 5", "5 x", " "] {
            assert_eq!(word_in_force(bad, now), None);
        }
    }
}
