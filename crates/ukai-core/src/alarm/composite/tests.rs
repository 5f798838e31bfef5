//! The language: what it reads, what it refuses and where, and that what is written reads back.

use proptest::prelude::*;

use super::parse::{MAX_CHILDREN, MAX_DEPTH, MAX_ELEMENTS, MAX_RULE_CHARS};
use super::*;

fn alarm(name: &str) -> AlarmExpression {
    let reference = parse(&format!("ALARM({name})")).unwrap();
    assert!(matches!(reference, AlarmExpression::State(AlarmState::Alarm, _)));
    reference
}

fn value(text: &str, in_alarm: &[&str]) -> bool {
    let state_of = |name: &str| Some(if in_alarm.contains(&name) { AlarmState::Alarm } else { AlarmState::Ok });
    parse(text).unwrap().eval(&state_of).is_true
}

fn error(text: &str) -> RuleError {
    parse(text).expect_err(text)
}

#[test]
fn the_documented_examples() {
    let cases = [
        ("ALARM(CPU) AND ALARM(Disk)", &["CPU", "Disk"][..], true),
        ("ALARM(CPU) AND ALARM(Disk)", &["CPU"], false),
        ("ALARM(CPU) AND NOT ALARM(Deploy)", &["CPU"], true),
        ("ALARM(CPU) AND NOT ALARM(Deploy)", &["CPU", "Deploy"], false),
        ("(ALARM(CPU) OR ALARM(Disk)) AND OK(Net)", &["Disk"], true),
        ("(ALARM(CPU) OR ALARM(Disk)) AND OK(Net)", &["Disk", "Net"], false),
        ("(ALARM(\"CPU\") OR \n ALARM(\"Disk\")) AND \n OK(\"Net\")", &["CPU"], true),
        ("TRUE", &[], true),
        ("NOT TRUE OR FALSE", &[], false),
    ];
    for (text, in_alarm, wanted) in cases {
        assert_eq!(value(text, in_alarm), wanted, "{text} with {in_alarm:?} in ALARM");
    }
}

#[test]
fn not_binds_tighter_than_and_and_and_tighter_than_or() {
    let or = |terms| AlarmExpression::Or(terms);
    let and = |terms| AlarmExpression::And(terms);
    let not = |term| AlarmExpression::Not(Box::new(term));
    assert_eq!(
        parse("ALARM(a) OR NOT ALARM(b) AND ALARM(c)").unwrap(),
        or(vec![alarm("a"), and(vec![not(alarm("b")), alarm("c")])])
    );
    assert_eq!(
        parse("(ALARM(a) OR ALARM(b))AND NOT(ALARM(c)AND TRUE)").unwrap().to_string(),
        "(ALARM(a) OR ALARM(b)) AND NOT (ALARM(c) AND TRUE)"
    );
    assert_eq!(parse("NOT NOT ALARM(a)").unwrap(), not(not(alarm("a"))));
}

#[test]
fn a_reference_may_be_bare_quoted_or_an_arn() {
    let cases = [
        ("pay-down", "pay-down"),
        ("zahlung/ausfall:é'", "zahlung/ausfall:é'"),
        ("\"pay down (v2)\"", "pay down (v2)"),
        (r#""say \"hi\" \\ \n""#, r#"say "hi" \ \n"#),
        ("arn:aws:cloudwatch:eu-west-1:111122223333:alarm:pay", "pay"),
        ("\"arn:aws:cloudwatch:eu-west-1:111122223333:alarm:pay down\"", "pay down"),
        (" ALARM ", "ALARM"),
    ];
    for (written, name) in cases {
        let rule = parse(&format!("OK({written})")).expect(written);
        assert_eq!(rule.children().into_iter().collect::<Vec<_>>(), [name], "{written}");
        assert_eq!(parse(&rule.to_string()).unwrap(), rule, "{written}");
    }
    assert_eq!(
        parse("OK(arn:aws:cloudwatch:eu-west-1:111122223333:alarm:pay) OR OK(pay)").unwrap().children().len(),
        1
    );
}

#[test]
fn an_error_says_where() {
    let unexpected = |text: &str, wanted_position: usize, wanted_found: &str| match error(text) {
        RuleError::Unexpected { position, found, .. } => {
            assert_eq!((position, &*found), (wanted_position, wanted_found), "{text}");
        }
        other => panic!("{text}: {other:?}"),
    };
    unexpected("ALARM(a) AND", 12, "the end of the rule");
    unexpected("ALARM(a) ALARM(b)", 9, "`ALARM`");
    unexpected("ALARM(a) XOR ALARM(b)", 9, "`XOR`");
    unexpected("ALARM(é à)", 8, "`à`");
    unexpected("ALARM a", 6, "`a`");
    unexpected("(ALARM(a)", 9, "the end of the rule");
    unexpected("ALARM(a))", 8, "`)`");
    unexpected("()", 1, "`)`");
    unexpected("NOTALARM(a)", 0, "`NOTALARM`");
    assert_eq!(error("OK(\"a)"), RuleError::OpenQuote { position: 3 });
    assert_eq!(error("OK(a) OR OK()"), RuleError::Reference { position: 12, source: reference::RefError::Empty });
    assert!(error("OK(arn:aws:sns:x:1:ops)").to_string().starts_with("character 3: `arn:aws:sns:x:1:ops`"));
    assert_eq!(error(" \n"), RuleError::Empty);
}

#[test]
fn a_keyword_in_lower_case_is_told_in_upper_case() {
    for (text, wanted_position, wanted) in [
        ("alarm(a)", 0, "ALARM"),
        ("ALARM(a) and ALARM(b)", 9, "AND"),
        ("ALARM(a) Or ALARM(b)", 9, "OR"),
        ("not ALARM(a)", 0, "NOT"),
        ("(false)", 1, "FALSE"),
        ("Insufficient_Data(a)", 0, "INSUFFICIENT_DATA"),
    ] {
        match error(text) {
            RuleError::LowerCase { position, keyword, .. } => {
                assert_eq!((position, keyword), (wanted_position, wanted))
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let names = |count: usize| (0..count).map(|n| format!("OK(a{n})")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(parse(&names(MAX_CHILDREN)).unwrap().children().len(), MAX_CHILDREN);
    assert!(matches!(error(&names(MAX_CHILDREN + 1)), RuleError::TooManyChildren { .. }));

    let constants = |count: usize| vec!["TRUE"; count].join(" OR ");
    assert!(parse(&constants(MAX_ELEMENTS)).is_ok());
    assert!(matches!(error(&constants(MAX_ELEMENTS + 1)), RuleError::TooManyElements { .. }));
    // A pair of parentheses is one element, the alarm in it another.
    let pairs = |count: usize| vec!["(OK(a))"; count].join(" OR ");
    assert!(parse(&pairs(MAX_ELEMENTS / 2)).is_ok());
    assert!(matches!(error(&pairs(MAX_ELEMENTS / 2 + 1)), RuleError::TooManyElements { .. }));

    let padded = |length: usize| format!("TRUE{}", " ".repeat(length - 4));
    assert!(parse(&padded(MAX_RULE_CHARS)).is_ok());
    assert_eq!(error(&padded(MAX_RULE_CHARS + 1)), RuleError::TooLong(MAX_RULE_CHARS + 1));
}

#[test]
fn nesting_is_bounded_for_parentheses_and_not() {
    let nested = |depth: usize| format!("{}TRUE{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(error(&nested(MAX_DEPTH + 1)), RuleError::TooDeep { position: MAX_DEPTH });
    assert!(matches!(error(&"(".repeat(10_000)), RuleError::TooDeep { .. }));
    assert!(matches!(error(&"NOT ".repeat(2_500)), RuleError::TooDeep { .. }));
    assert!(matches!(error(&"(NOT ".repeat(2_000)), RuleError::TooDeep { .. }));
}

#[test]
fn a_child_that_is_gone_counts_as_insufficient_data_and_is_named() {
    let gone = |text: &str| parse(text).unwrap().eval(&|_| None);
    for (text, wanted) in
        [("ALARM(x)", false), ("OK(x)", false), ("INSUFFICIENT_DATA(x)", true), ("TRUE AND NOT ALARM(x)", true)]
    {
        let evaluated = gone(text);
        assert_eq!(evaluated.is_true, wanted, "{text}");
        assert_eq!(evaluated.missing.iter().collect::<Vec<_>>(), ["x"], "{text}");
    }
    assert_eq!(gone("TRUE OR ALARM(x)").missing.len(), 1, "named although it decides nothing");
    assert_eq!(gone("FALSE").state(), AlarmState::Ok);
}

#[test]
fn a_rule_is_stored_as_its_text() {
    let rule = parse("NOT ( ALARM(a) OR OK(\"b c\") )").unwrap();
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(json, r#""NOT (ALARM(a) OR OK(\"b c\"))""#);
    assert_eq!(serde_json::from_str::<AlarmExpression>(&json).unwrap(), rule);
    assert!(serde_json::from_str::<AlarmExpression>("\"alarm(a)\"").unwrap_err().to_string().contains("ALARM"));
}

#[test]
fn a_rule_as_long_as_allowed_survives_being_stored() {
    let name = "\\x".repeat(120);
    let text = vec![format!("OK(\"{name}x\")OR(TRUE)"); 39].join("OR ");
    assert!(text.chars().count() <= MAX_RULE_CHARS);
    let rule = parse(&text).unwrap();
    let json = serde_json::to_string(&rule).unwrap();
    assert!(rule.to_string().chars().count() > MAX_RULE_CHARS);
    assert_eq!(serde_json::from_str::<AlarmExpression>(&json).unwrap(), rule);
}

fn any_expression() -> impl Strategy<Value = AlarmExpression> {
    let state = prop_oneof![Just(AlarmState::Alarm), Just(AlarmState::Ok), Just(AlarmState::InsufficientData)];
    let quoted = "[^\\x00-\\x1f\\x7f]{1,12}".prop_filter_map("not an ARN", |name| AlarmRef::new(&name).ok());
    let bare = "[a-zA-Z0-9_é:/'\\\\.-]{1,12}".prop_filter_map("a name", |name| AlarmRef::written(name, false).ok());
    let arn =
        "arn:aws:cloudwatch:[a-z]{2}:1:alarm:[a-z\" ]{1,9}".prop_filter_map("ARN", |name| AlarmRef::new(&name).ok());
    let leaf = prop_oneof![
        4 => (state, prop_oneof![quoted, bare, arn]).prop_map(|(state, reference)| AlarmExpression::State(state, reference)),
        1 => any::<bool>().prop_map(AlarmExpression::Constant),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|term| AlarmExpression::Not(Box::new(term))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(AlarmExpression::And),
            prop::collection::vec(inner, 2..4).prop_map(AlarmExpression::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(rule in any_expression()) {
        let text = rule.to_string();
        prop_assert_eq!(parse(&text), Ok(rule), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_mix_of_tokens_panics_and_what_parses_is_written_no_longer(
        tokens in prop::collection::vec(
            prop::sample::select(vec!["ALARM", "OK", "(", ")", "NOT", "AND", "OR", "TRUE", "x", "\"y z\"", "\\", "\"", " "]), 0..25),
    ) {
        let text = tokens.concat();
        if let Ok(rule) = parse(&text) {
            let written = rule.to_string();
            prop_assert_eq!(parse(&written), Ok(rule));
            prop_assert!(written.matches('(').count() <= text.matches('(').count());
        }
    }

    #[test]
    fn de_morgan(rule in any_expression(), other in any_expression(), salt in any::<u64>()) {
        let state_of = |name: &str| match (name.len() as u64).wrapping_add(salt) % 4 {
            0 => Some(AlarmState::Alarm),
            1 => Some(AlarmState::Ok),
            2 => Some(AlarmState::InsufficientData),
            _ => None,
        };
        let not = |term: &AlarmExpression| AlarmExpression::Not(Box::new(term.clone()));
        let left = not(&AlarmExpression::And(vec![rule.clone(), other.clone()]));
        let right = AlarmExpression::Or(vec![not(&rule), not(&other)]);
        prop_assert_eq!(left.eval(&state_of), right.eval(&state_of));
    }
}
