//! Text from outside, made fit to be shown.

/// Foreign text, fit for a terminal: what could move the cursor, start an escape sequence or turn
/// the direction of writing round becomes `?`.
pub fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if harmful(c) { '?' } else { c })
        .collect()
}
