use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NONE: Option<f64> = None;

fn s(value: f64) -> Option<f64> {
    Some(value)
}

/// `m1`, `m2`, … in the order given.
fn values_of(text: &str, series: &[&[Option<f64>]]) -> Result<Value, MathError> {
    let mut queries: Vec<(String, Source)> =
        (1..=series.len()).map(|number| (format!("m{number}"), Source::Metric)).collect();
    queries.push(("e".to_owned(), Source::Expression(Expression::parse(text)?)));
    let length = series.first().map_or(3, |points| points.len());
    let mut lookup = |id: &str| series[id[1..].parse::<usize>().unwrap() - 1].to_vec();
    let bands = |id: &str, width: f64| (id == "m1").then(|| (vec![s(-width); length], vec![s(width); length]));
    Ok(validate(queries)?.values(length, 60, &mut lookup, Some(&bands))?.remove("e").unwrap())
}

fn points_of(text: &str, series: &[&[Option<f64>]]) -> Vec<Option<f64>> {
    match values_of(text, series).unwrap() {
        Value::Series(points) => points,
        other => panic!("{text}: {other:?}"),
    }
}

/// The tables and examples of the guide.
#[test]
fn the_guides_examples() {
    let metric1 = [s(30.0), s(20.0), s(0.0), s(0.0)];
    let metric2 = [s(20.0), NONE, s(20.0), NONE];
    let rows: &[(&str, [Option<f64>; 4])] = &[
        ("(m1 < m2)", [s(0.0), s(0.0), s(1.0), s(0.0)]),
        ("(m1 >= 30)", [s(1.0), s(0.0), s(0.0), s(0.0)]),
        ("(m1 > 15 AND m2 > 15)", [s(1.0), s(0.0), s(0.0), s(0.0)]),
        ("m1 > 15 && m2 > 15", [s(1.0), s(0.0), s(0.0), s(0.0)]),
    ];
    for (text, expected) in rows {
        assert_eq!(points_of(text, &[&metric1, &metric2]), expected, "{text}");
    }
    let metric1 = [s(1.0), s(1.0), s(0.0), s(0.0), NONE];
    let metric2 = [s(30.0), NONE, s(0.0), s(0.0), s(30.0)];
    let metric3 = [s(0.0), s(0.0), s(20.0), NONE, s(20.0)];
    let rows: &[(&str, [Option<f64>; 5])] = &[
        ("IF(m1, m2, m3)", [s(30.0), s(0.0), s(20.0), NONE, NONE]),
        ("IF(m1, 5, m3)", [s(5.0), s(5.0), s(20.0), NONE, NONE]),
        ("IF(m1, m2, 5)", [s(30.0), s(0.0), s(5.0), s(5.0), NONE]),
        ("IF(m1, m2)", [s(30.0), s(0.0), NONE, NONE, NONE]),
        ("IF(1, m2, m3)", metric2),
        ("IF(0, m2, m3)", metric3),
        ("IF(0, m2)", [NONE; 5]),
    ];
    for (text, expected) in rows {
        assert_eq!(points_of(text, &[&metric1, &metric2, &metric3]), expected, "{text}");
    }
}

#[test]
fn arithmetic_and_missing_points() {
    let one = [s(6.0), NONE, s(4.0), NONE];
    let two = [s(3.0), s(2.0), NONE, NONE];
    let rows: &[(&str, [Option<f64>; 4])] = &[
        ("m1 + m2", [s(9.0), s(2.0), s(4.0), NONE]),
        ("m1 - m2", [s(3.0), s(-2.0), s(4.0), NONE]),
        ("m1 / m2", [s(2.0), s(0.0), NONE, NONE]),
        ("m1 * 2 + 1", [s(13.0), NONE, s(9.0), NONE]),
        ("1 + m1 * 2", [s(13.0), NONE, s(9.0), NONE]),
        ("(1 + m1) * 2", [s(14.0), NONE, s(10.0), NONE]),
        ("-m1 ^ 2", [s(-36.0), NONE, s(-16.0), NONE]),
        ("2 ^ 3 ^ 0 * m1", [s(12.0), NONE, s(8.0), NONE]),
        ("10 - 3 - m1", [s(1.0), NONE, s(3.0), NONE]),
        ("m1/0", [NONE; 4]),
        ("1/0 + m1", [s(6.0), NONE, s(4.0), NONE]),
        ("1.5e1*m1", [s(90.0), NONE, s(60.0), NONE]),
        ("m1 == 6 OR m2 == 2", [s(1.0), s(1.0), s(0.0), NONE]),
        ("m1 != m2", [s(1.0), s(1.0), s(1.0), NONE]),
        ("SUM([m1,m2])", [s(9.0), s(2.0), s(4.0), NONE]),
        ("MAX(METRICS())", [s(6.0), s(2.0), s(4.0), NONE]),
        ("MIN([m1, m2])", [s(3.0), s(2.0), s(4.0), NONE]),
        ("AVG(METRICS())", [s(4.5), s(1.0), s(2.0), NONE]),
        ("SUM(METRICS(\"2\"))", [s(3.0), s(2.0), NONE, NONE]),
        ("SUM([METRICS(\"1\"), METRICS(\"2\")])", [s(9.0), s(2.0), s(4.0), NONE]),
        ("DATAPOINT_COUNT(METRICS())", [s(2.0), s(1.0), s(1.0), s(0.0)]),
        ("m1 - AVG(m1)", [s(3.5), NONE, s(1.5), NONE]),
        ("m1 / SUM(m2)", [s(1.2), NONE, s(0.8), NONE]),
        ("m1 / MAX(m1) * MIN(m2)", [s(2.0), NONE, s(8.0 / 6.0), NONE]),
        ("m1/PERIOD(m1)", [s(0.1), NONE, s(4.0 / 60.0), NONE]),
        ("m1/METRIC_COUNT(METRICS())", [s(3.0), NONE, s(2.0), NONE]),
        ("SUM(100/[m1, m2])", [s(100.0 / 6.0 + 100.0 / 3.0), s(50.0), s(25.0), NONE]),
        ("ABS(-m1)", one),
        ("CEIL(m1/4)", [s(2.0), NONE, s(1.0), NONE]),
        ("FLOOR(m1/4)", [s(1.0), NONE, s(1.0), NONE]),
        ("FILL(m1, 0)", [s(6.0), s(0.0), s(4.0), s(0.0)]),
        ("FILL(m1, m2)", [s(6.0), s(2.0), s(4.0), NONE]),
        ("FILL(m1, REPEAT)", [s(6.0), s(6.0), s(4.0), s(4.0)]),
        ("FILL(m1, LINEAR)", [s(6.0), s(5.0), s(4.0), NONE]),
        ("FILL(m1, MIN(m1))", [s(6.0), s(4.0), s(4.0), s(4.0)]),
        ("SUM(FILL(METRICS(), 0))", [s(9.0), s(2.0), s(4.0), s(0.0)]),
        ("DIFF(m1)", [NONE, NONE, s(-2.0), NONE]),
        ("RATE(m1)", [NONE, NONE, s(-2.0 / 120.0), NONE]),
        ("TIME_SERIES(7)", [s(7.0); 4]),
        ("IF(m1 > 5, 1, 0)", [s(1.0), NONE, s(0.0), NONE]),
        ("FIRST(ANOMALY_DETECTION_BAND(m1))", [s(2.0); 4]),
        ("LAST(ANOMALY_DETECTION_BAND(m1, 3))", [s(-3.0); 4]),
        ("LAST(ANOMALY_DETECTION_BAND(m2))", [NONE; 4]),
    ];
    for (text, expected) in rows {
        assert_eq!(points_of(text, &[&one, &two]), expected, "{text}");
    }
    assert_eq!(values_of("AVG(m1) * 2", &[&one]).unwrap(), Value::Scalar(5.0));
    assert_eq!(Expression::parse("ANOMALY_DETECTION_BAND(m1, 3)").unwrap().bands(), [("m1", 3.0)]);
}

#[test]
fn errors_say_where() {
    let rows = [
        ("", "at character 1 of the expression: expected a number, an id, a function, \"(\" or \"[\", found the end"),
        (
            "m1 +",
            "at character 5 of the expression: expected a number, an id, a function, \"(\" or \"[\", found the end",
        ),
        ("m1 m2", "at character 4 of the expression: expected an operator or the end, found 'm'"),
        ("(m1", "at character 4 of the expression: expected \")\", found the end"),
        ("m1 + FOO(m2)", "at character 6 of the expression: there is no function FOO"),
        ("sum(m1)", "at character 4 of the expression: expected an operator or the end, found '('"),
        ("IF(m1)", "at character 1 of the expression: IF takes 2 or 3 arguments, not 1"),
        ("1.2.3", "at character 1 of the expression: this is not a number"),
        (
            "1 < m1 < 3",
            "at character 9 of the expression: comparisons do not follow one another; use AND or parentheses",
        ),
        ("METRICS(\"x)", "at character 10 of the expression: the quote has no end"),
        ("REPEAT(m1)", "at character 7 of the expression: expected an operator or the end, found '('"),
        ("SUM(REPEAT)", "at character 1 of the expression: REPEAT and LINEAR are what FILL may fill with"),
        (
            "ANOMALY_DETECTION_BAND(m1, -1)",
            "at character 1 of the expression: ANOMALY_DETECTION_BAND takes an id and a number greater than 0",
        ),
        ("é", "at character 1 of the expression: expected a number, an id, a function, \"(\" or \"[\", found 'é'"),
    ];
    for (text, error) in rows {
        assert_eq!(Expression::parse(text).unwrap_err().to_string(), error, "{text}");
    }
    assert_eq!(Expression::parse(&"1".repeat(2049)), Err(MathError::TooLong));
    assert!(matches!(Expression::parse(&"(".repeat(2000)), Err(MathError::TooDeep { .. })));
    assert!(matches!(Expression::parse(&"-".repeat(2000)), Err(MathError::TooDeep { .. })));
    assert!(matches!(Expression::parse(&format!("1{}", "+1".repeat(600))), Err(MathError::TooManyElements)));
    let wrong_types = [
        "[1,2]",
        "SUM(5)",
        "FIRST(m1)",
        "IF([m1,m1],1,2)",
        "FILL(5,1)",
        "TIME_SERIES(m1)",
        "[m1]+[m1,m1]",
        "m1 + REPEAT",
    ];
    for text in wrong_types {
        assert!(matches!(values_of(text, &[&[s(1.0)]]), Err(MathError::Type { .. })), "{text}");
    }
}

#[test]
fn references_are_followed_in_order_and_never_in_a_circle() {
    let query = |id: &str, text: &str| {
        let source =
            if text.is_empty() { Source::Metric } else { Source::Expression(Expression::parse(text).unwrap()) };
        (id.to_owned(), source)
    };
    let validated = validate(vec![query("e2", "e1*10"), query("e1", "m1+1"), query("m1", "")]).unwrap();
    let all = validated.evaluate_all(2, 60, |_| vec![s(1.0), NONE], None).unwrap();
    let expected = [("e1", [s(2.0), NONE]), ("e2", [s(20.0), NONE]), ("m1", [s(1.0), NONE])];
    let expected: BTreeMap<String, Points> = expected.map(|(id, points)| (id.to_owned(), points.to_vec())).into();
    assert_eq!(all, expected);

    let refused = |queries: &[(&str, &str)]| {
        validate(queries.iter().map(|(id, text)| query(id, text)).collect()).unwrap_err().to_string()
    };
    assert_eq!(refused(&[("e", "x")]), "the expression \"e\" refers to \"x\", which is the id of nothing here");
    assert_eq!(refused(&[("e", "e+1")]), "the expression \"e\" refers to itself, through \"e\"");
    assert_eq!(refused(&[("z", "a"), ("a", "b"), ("b", "a")]), "the expression \"a\" refers to itself, through \"b\"");
    assert_eq!(refused(&[("m", ""), ("m", "")]), "the id \"m\" is given twice");
    assert!(refused(&[("M", "")]).contains("invalid"));
    assert_eq!(validate(vec![query("m", ""); 501]), Err(MathError::TooManyQueries));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[m1A-Z0-9()\\[\\],.+*/^<>=!&|\" e-]{0,60}", word in "\\PC{0,20}") {
        for text in [&text, &word] {
            let _ = values_of(text, &[&[s(1.0), NONE, s(-1e308)], &[NONE, s(0.0), s(1e308)]]);
        }
    }

    #[test]
    fn results_are_numbers_or_missing(
        one in prop::collection::vec(prop::option::of(any::<i32>().prop_map(|n| f64::from(n) * 1e99)), 4),
        two in prop::collection::vec(prop::option::of(prop_oneof![Just(0.0), (-1e300..1e300)]), 4),
        operator in prop::sample::select(vec!["+", "-", "*", "/", "^", "<", "=="]),
        outer in prop::sample::select(vec!["", "SUM(METRICS())+", "AVG(m1)*", "RATE(m1)/", "FILL(m1,LINEAR)-"]),
    ) {
        for point in points_of(&format!("{outer}(m1 {operator} m2)"), &[&one, &two]).into_iter().flatten() {
            prop_assert!(point.is_finite());
        }
    }
}

#[test]
fn the_longest_expressions_are_evaluated() {
    let sum = format!("m1{}", "+m1".repeat(248));
    assert_eq!(points_of(&sum, &[&[s(1.0)]]), [s(249.0)]);
    let nested = format!("{}m1{}", "(".repeat(31), ")".repeat(31));
    assert_eq!(points_of(&nested, &[&[s(1.0)]]), [s(1.0)]);
}
