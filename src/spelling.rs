//! The known word that is nearest to a misspelt one.

/// Returns the known word that differs least from `written`, if at most `most` letters are wrong, missing, superfluous or swapped;
/// the first of several. Letters are compared as they are.
pub fn nearest(
    known: impl IntoIterator<Item = &'static str>,
    written: &str,
    most: usize,
) -> Option<&'static str> {
    let distance = |known: &&str| strsim::osa_distance(known, written);
    let near = known.into_iter().min_by_key(distance)?;
    (distance(&near) <= most).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_meant_unless_too_much_is_wrong() {
        let known = ["redis", "rediss", "http"];
        for (written, most, meant) in [
            ("redis", 0, Some("redis")),
            ("redsi", 1, Some("redis")),
            ("redisss", 2, Some("rediss")),
            ("htp", 1, Some("http")),
            ("ftp", 1, None),
            ("", 3, None),
        ] {
            assert_eq!(nearest(known, written, most), meant, "{written}");
        }
        assert_eq!(nearest([], "redis", 9), None);
    }
}
