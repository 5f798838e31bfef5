//! Who was taken for whom: a row for each cause that was right, a column for each that was said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// What was right, and what was said.
pub type Pair = (String, String);

/// A terminal's width that everybody has.
const WIDTH: usize = 100;

/// Only rows and columns in which something stands. A letter heads each column; it is the row's own where there is one, and
/// what was said and never right is spelled out below.
pub fn matrix(pairs: &[Pair]) -> String {
    let right: BTreeSet<&str> = pairs.iter().map(|(right, _)| right.as_str()).collect();
    let said: BTreeSet<&str> = pairs.iter().map(|(_, said)| said.as_str()).collect();
    let letters: BTreeMap<&str, char> =
        right.union(&said).copied().zip(('a'..='z').chain('A'..='Z').chain('0'..='9')).collect();
    let letter = |code: &str| letters.get(code).copied().unwrap_or('?');
    let name = right.iter().map(|code| code.len()).max().unwrap_or(0);
    // Two columns a code where they fit, and one where they do not.
    let gap = if name + 5 + 2 * said.len() <= WIDTH { " " } else { "" };
    let mut text = format!("  {:name$}    said\n  {:name$}   ", "right", "");
    for code in &said {
        text.push_str(&format!("{gap}{}", letter(code)));
    }
    text.push('\n');
    for row in &right {
        text.push_str(&format!("  {row:name$} {} ", letter(row)));
        for column in &said {
            let count = count(pairs, row, column);
            text.push_str(&format!("{gap}{}", digit(count)));
        }
        text.push('\n');
    }
    for code in said.difference(&right) {
        text.push_str(&format!("  {}: {code}, which was never right\n", letter(code)));
    }
    text
}

/// One place for each count; a plus for more than it holds.
fn digit(count: usize) -> char {
    match count {
        0 => '·',
        count => u32::try_from(count).ok().and_then(|count| char::from_digit(count, 10)).unwrap_or('+'),
    }
}

fn count(pairs: &[Pair], right: &str, said: &str) -> usize {
    pairs.iter().filter(|pair| pair.0 == right && pair.1 == said).count()
}

pub fn json(pairs: &[Pair]) -> Value {
    let cells: BTreeSet<&Pair> = pairs.iter().collect();
    let cell = |(right, said): &&Pair| json!({ "right": right, "said": said, "count": count(pairs, right, said) });
    cells.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<Pair> {
        pairs.iter().map(|(right, said)| ((*right).to_owned(), (*said).to_owned())).collect()
    }

    #[test]
    fn rows_are_what_was_right_and_columns_what_was_said() {
        let pairs = pairs(&[
            ("peer_down", "peer_down"),
            ("peer_down", "peer_down"),
            ("peer_http", "peer_down"),
            ("mtu", "open"),
        ]);
        let lines = [
            "  right        said",
            "               b c",
            "  mtu       a  1 ·",
            "  peer_down c  · 2",
            "  peer_http d  · 1",
            "  b: open, which was never right",
        ];
        // Nobody said mtu or peer_http, so they head no column.
        assert_eq!(matrix(&pairs).lines().collect::<Vec<_>>(), lines);
        assert_eq!(json(&pairs)[1], json!({ "right": "peer_down", "said": "peer_down", "count": 2 }));
    }

    #[test]
    fn the_whole_catalogue_fits_a_terminal() {
        let codes = ukai_lab::scenario::VERDICTS.iter().chain(&["none", "open"]);
        let all: Vec<Pair> = codes.map(|code| ((*code).to_owned(), (*code).to_owned())).collect();
        let text = matrix(&all);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(!text.contains('?'), "{text}");
    }

    #[test]
    fn a_count_takes_one_place() {
        assert_eq!([0, 1, 9, 10].map(digit), ['·', '1', '9', '+']);
    }
}
