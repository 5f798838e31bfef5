//! The graph of composites and their children, checked before a rule is put.
//!
//! CloudWatch lets a cycle be made, then stops evaluating it, and neither alarm can be deleted until one rule is set
//! to `FALSE`. We are stricter: a rule that would close a cycle is refused, and the error shows the way round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;

use super::AlarmExpression;

/// Composites that may watch one alarm (CloudWatch).
pub const MAX_PARENTS: usize = 150;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PutRuleError {
    #[error("the rule of `{}` would depend on itself: {}; remove one of these references", path.first().map_or("", String::as_str), path.join(" → "))]
    Cycle { path: Vec<String> },
    #[error("`{child}` is already watched by {MAX_PARENTS} composite alarms, which is the most allowed")]
    TooManyParents { child: String },
    #[error("the rule refers to alarms that do not exist: {}; create them first", .0.join(", "))]
    UnknownChildren(Vec<String>),
}

/// Whether these of the rules may be put, with all of them in force. In time linear in the rules: thousands come at once.
pub fn check_put<'a>(
    rules: &BTreeMap<String, AlarmExpression>,
    put: impl IntoIterator<Item = &'a str>,
    exists: &dyn Fn(&str) -> bool,
) -> Result<(), (String, PutRuleError)> {
    let is_cyclic = has_cycle(rules);
    let mut watching: BTreeMap<&str, usize> = BTreeMap::new();
    rules.values().flat_map(AlarmExpression::children).for_each(|child| *watching.entry(child).or_default() += 1);
    for name in put {
        let Some(rule) = rules.get(name) else { continue };
        let refused = |error| Err((name.to_owned(), error));
        if let Some(path) = is_cyclic.then(|| find_cycle(rules, name, rule)).flatten() {
            return refused(PutRuleError::Cycle { path });
        }
        let unknown: Vec<String> =
            rule.children().into_iter().filter(|child| !exists(child)).map(str::to_owned).collect();
        if !unknown.is_empty() {
            return refused(PutRuleError::UnknownChildren(unknown));
        }
        let crowded =
            rule.children().into_iter().find(|child| watching.get(child).is_some_and(|all| *all > MAX_PARENTS));
        if let Some(child) = crowded {
            return refused(PutRuleError::TooManyParents { child: child.to_owned() });
        }
    }
    Ok(())
}

/// Whatever is left when every rule that watches no other rule is taken away, again and again, stands in or over a cycle.
fn has_cycle(rules: &BTreeMap<String, AlarmExpression>) -> bool {
    let mut waits_for: BTreeMap<&str, usize> = BTreeMap::new();
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, rule) in rules {
        let children: Vec<&str> = rule.children().into_iter().filter(|child| rules.contains_key(*child)).collect();
        waits_for.insert(name, children.len());
        children.into_iter().for_each(|child| parents.entry(child).or_default().push(name));
    }
    let mut ready: Vec<&str> = waits_for.iter().filter(|(_, left)| **left == 0).map(|(name, _)| *name).collect();
    let mut taken = 0;
    while let Some(name) = ready.pop() {
        taken += 1;
        for parent in parents.get(name).into_iter().flatten() {
            let Some(left) = waits_for.get_mut(parent) else { continue };
            *left -= 1;
            if *left == 0 {
                ready.push(parent);
            }
        }
    }
    taken < rules.len()
}

/// The shortest way from `name` back to itself if its rule were `candidate`: first and last are `name`.
pub fn find_cycle(
    rules: &BTreeMap<String, AlarmExpression>,
    name: &str,
    candidate: &AlarmExpression,
) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([name]);
    while let Some(parent) = queue.pop_front() {
        let Some(rule) = (if parent == name { Some(candidate) } else { rules.get(parent) }) else { continue };
        for child in rule.children() {
            if child == name {
                return Some(way_back(&came_from, name, parent));
            }
            if !came_from.contains_key(child) {
                came_from.insert(child, parent);
                queue.push_back(child);
            }
        }
    }
    None
}

/// The composites whose rule refers to `child`; they stand in the way of its deletion.
pub fn parents<'a>(rules: &'a BTreeMap<String, AlarmExpression>, child: &str) -> BTreeSet<&'a str> {
    rules.iter().filter(|(_, rule)| rule.children().contains(child)).map(|(name, _)| name.as_str()).collect()
}

fn way_back(came_from: &BTreeMap<&str, &str>, name: &str, last: &str) -> Vec<String> {
    let mut path = vec![name.to_owned()];
    let mut step = last;
    while step != name {
        path.push(step.to_owned());
        step = came_from.get(step).copied().unwrap_or(name);
    }
    path.push(name.to_owned());
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn rules(texts: &[(&str, &str)]) -> BTreeMap<String, AlarmExpression> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), parse(text).unwrap())).collect()
    }

    fn put(rules: &BTreeMap<String, AlarmExpression>, name: &str, text: &str) -> Result<(), PutRuleError> {
        put_where(rules, name, text, &|_| true)
    }

    fn put_where(
        rules: &BTreeMap<String, AlarmExpression>,
        name: &str,
        text: &str,
        exists: &dyn Fn(&str) -> bool,
    ) -> Result<(), PutRuleError> {
        let mut all = rules.clone();
        all.insert(name.to_owned(), parse(text).unwrap());
        check_put(&all, [name], exists).map_err(|(of, error)| {
            assert_eq!(of, name);
            error
        })
    }

    #[test]
    fn a_cycle_is_refused_with_its_path() {
        let there = rules(&[("a", "ALARM(b) OR ALARM(x)"), ("b", "NOT ALARM(c)")]);
        let error =
            put(&there, "c", "OK(y) AND OK(\"arn:aws:cloudwatch:us-east-1:111122223333:alarm:a\")").unwrap_err();
        assert_eq!(error, PutRuleError::Cycle { path: ["c", "a", "b", "c"].map(String::from).to_vec() });
        assert!(error.to_string().contains("c → a → b → c"), "{error}");
        assert_eq!(find_cycle(&there, "s", &parse("ALARM(s)").unwrap()), Some(vec!["s".into(), "s".into()]));
    }

    #[test]
    fn two_ways_to_one_child_are_no_cycle_and_a_replaced_rule_no_longer_counts() {
        let there = rules(&[("a", "ALARM(b) OR ALARM(c)"), ("b", "ALARM(x)"), ("c", "ALARM(x)")]);
        assert_eq!(put(&there, "top", "ALARM(a) OR ALARM(b)"), Ok(()));
        assert_eq!(put(&rules(&[("a", "ALARM(b)")]), "a", "ALARM(x)"), Ok(()));
        let updated = put(&rules(&[("a", "ALARM(x)"), ("b", "ALARM(a)")]), "a", "ALARM(b)");
        assert!(matches!(updated, Err(PutRuleError::Cycle { .. })), "the new rule of `a` counts, not the old one");
        assert_eq!(put(&rules(&[("a", "FALSE")]), "b", "ALARM(a)"), Ok(()));
    }

    #[test]
    fn rules_that_already_go_round_do_not_hang_the_search() {
        let there = rules(&[("a", "ALARM(b)"), ("b", "ALARM(a)")]);
        assert_eq!(put(&there, "top", "ALARM(a)"), Ok(()));
    }

    #[test]
    fn a_child_has_at_most_150_parents() {
        let texts: Vec<(String, &str)> = (0..150).map(|n| (format!("p{n}"), "ALARM(x) OR ALARM(\"x\")")).collect();
        let full = texts.iter().map(|(name, text)| (name.clone(), parse(text).unwrap())).collect();
        assert_eq!(put(&full, "one-more", "ALARM(x)"), Err(PutRuleError::TooManyParents { child: "x".into() }));
        assert_eq!(put(&full, "p7", "OK(x)"), Ok(()), "an update of a parent is not one more");
        assert_eq!(parents(&full, "x").len(), 150);
    }

    #[test]
    fn a_child_that_does_not_exist_is_refused() {
        let error = put_where(&BTreeMap::new(), "a", "OK(x) OR OK(y)", &|name| name == "x");
        assert_eq!(error, Err(PutRuleError::UnknownChildren(vec!["y".into()])));
    }
}
