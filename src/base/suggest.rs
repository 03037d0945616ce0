//! What somebody may have meant by a word that is not known.

/// Longer words are not looked at, in characters: they come from outside.
const LONGEST: usize = 40;

/// The known word that is nearest to this one: a letter missing, too many, wrong or swapped, at
/// most one in three. None if none is near.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let letters: Vec<char> = word.to_lowercase().chars().take(LONGEST + 1).collect();
    if letters.len() > LONGEST {
        return None;
    }
    let distances = known.iter().map(|known| {
        let target: Vec<char> = known.chars().collect();
        (distance(&letters, &target), target.len(), *known)
    });
    let near = distances.filter(|(distance, length, _)| 3 * distance <= *length.max(&3));
    near.min_by_key(|(distance, ..)| *distance)
        .map(|(.., known)| known)
}

/// An unknown word as it is told to whoever wrote it: cut, and without control characters.
pub fn shown(word: &str) -> String {
    let shown: String = word.chars().take(LONGEST).collect();
    format!("{shown:?}")
}

/// Steps that lead from one word to the other (Damerau and Levenshtein, without moving a letter
/// twice).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            let mut steps = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                steps = steps.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = steps;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_understood_and_another_word_is_not() {
        let known = ["url", "dst_folder", "password", "if_exists"];
        for (word, meant) in [
            ("dst_foldr", Some("dst_folder")),
            ("dstfolder", Some("dst_folder")),
            ("DST_FOLDER", Some("dst_folder")),
            ("pasword", Some("password")),
            ("ulr", Some("url")),
            ("if-exists", Some("if_exists")),
            ("link", None),
            ("", None),
            ("destination", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(1 << 20), &known), None);
    }

    #[test]
    fn an_unknown_word_is_shown_without_harm() {
        assert_eq!(shown("a\u{1b}b"), r#""a\u{1b}b""#);
        assert_eq!(shown(&"é".repeat(100)).chars().count(), LONGEST + 2);
    }
}
