//! The differences that somebody looked at: `reviewed.txt`.

use crate::compare::Difference;

const TABLE: &str = include_str!("reviewed.txt");

/// The reason for a difference, if it is known.
pub fn reason(difference: &Difference) -> Option<&'static str> {
    TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).find_map(|line| explained(line, difference))
}

fn explained<'a>(line: &'a str, difference: &Difference) -> Option<&'a str> {
    let [kind, field, ours, theirs, resolvers, reason] = line.splitn(6, " ; ").collect::<Vec<_>>()[..] else {
        panic!("not a line of six parts: {line}");
    };
    let matches = |pattern: &str, value: &str| pattern == "*" || pattern.split('|').any(|word| word == value);
    let is_about = matches(kind, difference.kind)
        && matches(field, difference.field)
        && matches(ours, &difference.ours)
        && matches(theirs, &difference.theirs)
        && matches(resolvers, difference.resolver);
    is_about.then_some(reason)
}
