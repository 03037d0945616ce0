//! What somebody perhaps meant.

/// The one of `known` that `said` is most like, where it is like one at all: two slips of the pen at the most, and
/// fewer than half of its letters.
pub fn nearest<'a>(said: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = said.chars().count();
    // Nobody wrote a command of such a length.
    if length > 40 {
        return None;
    }
    let near = known.map(|word| (distance(said, word), word));
    let (distance, word) = near.min_by_key(|(distance, _)| *distance)?;
    let most = 2
        .min(length.saturating_sub(1) / 2)
        .max(usize::from(length > 1));
    (distance <= most).then_some(word)
}

/// How many letters have to be added, taken away, replaced or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            let swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = || ["serve", "share", "pause", "ls", "rm"].into_iter();
        for (said, meant) in [
            ("serv", Some("serve")),
            ("sevre", Some("serve")),
            ("pasue", Some("pause")),
            ("l", None),
            ("sl", Some("ls")),
            ("download", None),
            ("", None),
        ] {
            assert_eq!(nearest(said, known()), meant, "{said}");
        }
    }
}
