//! Text for terminals of 80 columns.

/// Columns of a line.
const WIDTH: usize = 80;

/// The text in lines of at most [`WIDTH`] columns, each after `indent` spaces, broken between
/// words. A longer word has a line of its own.
pub fn indented(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut lines = vec![margin.clone()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line from the start");
        let begun = line.len() > indent;
        if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{margin}{word}"));
            continue;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(indented("a  b\nc", 2), "  a b c");
        let long = "word ".repeat(40);
        let lines = indented(&long, 8);
        assert!(lines.lines().count() > 1);
        assert!(
            lines
                .lines()
                .all(|line| line.len() <= WIDTH && line.starts_with("        word"))
        );
        let word = "w".repeat(100);
        assert_eq!(indented(&format!("a {word} b"), 0), format!("a\n{word}\nb"));
    }
}
