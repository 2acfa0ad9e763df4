//! Owns which characters of other nodes' texts are neither shown nor kept in names.

/// True for characters that act on a terminal, change the order of the others, break lines where readers do not expect it,
/// or hide. The end of a line and the tabulator are not among them.
pub fn is_harmful(c: char) -> bool {
    let is_layout = matches!(c, '\n' | '\t');
    let is_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    let is_invisible = matches!(c, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    (c.is_control() && !is_layout) || is_direction || is_separator || is_invisible
}
