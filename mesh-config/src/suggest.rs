//! "Did you mean": the known word that a mistyped one is nearest to.

/// More words than this are not looked through.
const CANDIDATES: usize = 500;
/// A longer word is no mistyped one.
const MAX_WORD: usize = 64;

/// The nearest of `known`, if one is near enough that it may have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = |known: &str| {
        let distance = distance(&word, &plain(known));
        let begins = word.len() >= 4 && known.starts_with(&word);
        (distance <= allowed || begins).then_some(distance)
    };
    known
        .into_iter()
        .take(CANDIDATES)
        .filter(|known| known.len() <= MAX_WORD)
        .filter_map(|known| Some((near(known)?, known)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `, did you mean ...?` with the nearest of `known`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let suggestion = nearest(word, known).map(|nearest| format!(", did you mean `{nearest}`?"));
    suggestion.unwrap_or_default()
}

/// `a`, `b` and `c` with their number bounded, for lists in problems.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let words: Vec<&str> = words.into_iter().collect();
    let shown = words
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match words.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// Edits from `a` to `b`: insertions, deletions, substitutions, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = [
            "timeout",
            "connect_timeout",
            "transcode",
            "to",
            "name",
            "match",
        ];
        for (word, expected) in [
            ("timeuot", Some("timeout")),
            ("Timeout", Some("timeout")),
            ("connect-timeout", Some("connect_timeout")),
            ("transcod", Some("transcode")),
            ("nmae", Some("name")),
            ("upstream", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
