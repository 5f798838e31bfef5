use std::io::Write;

use tempfile::TempDir;

use super::*;

/// A directory with a log, and somebody who follows it.
struct Place {
    dir: TempDir,
    tail: Tail,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::new(dir.path());
        Place { dir, tail }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("app.log")
    }

    fn write(&self, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// One look, and what it brought.
    fn lines(&mut self) -> Vec<String> {
        let log = self.log();
        self.tail.follow(std::slice::from_ref(&log));
        let mut lines = Vec::new();
        for looked in self.tail.look() {
            if let Some(position) = looked.position {
                self.tail.changed |= self.tail.positions.set(&looked.path, position);
            }
            lines.extend(looked.lines.into_iter().map(|line| match line {
                Some(line) => String::from_utf8(line).unwrap(),
                None => "TOO LONG".to_owned(),
            }));
        }
        lines
    }

    fn restart(self) -> Place {
        let tail = self.tail.save();
        assert!(!tail.changed);
        Place { tail: Tail::new(self.dir.path()), dir: self.dir }
    }
}

#[test]
fn a_file_is_followed_from_its_end_and_one_that_comes_later_from_its_beginning() {
    let mut place = Place::new();
    place.write("before\nhalf a li");
    assert!(place.lines().is_empty());
    place.write("ne\none\ntw");
    assert_eq!(place.lines(), ["one"]);
    place.write("o\n");
    assert_eq!(place.lines(), ["two"]);
    assert!(place.lines().is_empty());

    let mut later = Place::new();
    assert!(later.lines().is_empty());
    later = later.restart();
    later.write("one\n");
    assert_eq!(later.lines(), ["one"], "it was not there when we looked, and we remember");
}

#[test]
fn a_restart_neither_loses_nor_repeats() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    place.write("one\ntw");
    assert_eq!(place.lines(), ["one"]);
    place = place.restart();
    place.write("o\nthree\n");
    assert_eq!(place.lines(), ["two", "three"]);
    place = place.restart();
    assert!(place.lines().is_empty());
}

#[test]
fn rotation_by_renaming_loses_nothing() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    let mut old = fs::OpenOptions::new().append(true).open(place.log()).unwrap();
    old.write_all(b"one\n").unwrap();
    fs::rename(place.log(), place.dir.path().join("app.log.1")).unwrap();
    assert_eq!(place.lines(), ["one"], "renamed, nothing new yet");
    old.write_all(b"two\n").unwrap();
    place.write("three\n");
    assert_eq!(place.lines(), ["two"]);
    old.write_all(b"late\nunfinished").unwrap();
    assert_eq!(place.lines(), ["late", "unfinished"], "the writer had not let go");
    place = place.restart();
    assert_eq!(place.lines(), ["three"]);
    place.write("four\n");
    assert_eq!(place.lines(), ["four"]);
}

#[test]
fn rotation_while_we_were_away_loses_nothing() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    place.write("one\n");
    assert_eq!(place.lines(), ["one"]);
    place.write("two\n");
    place = place.restart();
    fs::rename(place.log(), place.dir.path().join("app.log.1")).unwrap();
    place.write("three\n");
    let mut lines = place.lines();
    lines.extend(place.lines());
    lines.extend(place.lines());
    assert_eq!(lines, ["two", "three"]);
}

#[test]
fn truncation_starts_again() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    place.write("one\ntwo\n");
    assert_eq!(place.lines(), ["one", "two"]);
    fs::write(place.log(), "new\n").unwrap();
    assert_eq!(place.lines(), ["new"]);
    place = place.restart();
    fs::write(place.log(), "other\nlines\n").unwrap();
    assert_eq!(place.lines(), ["other", "lines"], "longer than before, but another beginning");
}

#[test]
fn a_line_that_is_too_long_is_told_once_and_skipped() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    place.write(&format!("good\n{}", "x".repeat(LINE_BYTES + 1)));
    assert_eq!(place.lines(), ["good", "TOO LONG"]);
    place.write(&"x".repeat(LINE_BYTES * 2));
    assert!(place.lines().is_empty());
    place = place.restart();
    place.write("end\nafter\n");
    assert_eq!(place.lines(), ["after"]);
}

#[test]
fn a_look_reads_no_more_than_its_bound() {
    let mut place = Place::new();
    place.write("");
    place.lines();
    let line = format!("{}\n", "x".repeat(1023));
    place.write(&line.repeat(2000));
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(place.lines().len());
    }
    assert_eq!(counts, [1024, 976, 0]);
}

#[test]
fn what_cannot_be_read_is_told_once() {
    let mut place = Place::new();
    fs::create_dir(place.log()).unwrap();
    assert!(place.lines().is_empty());
    let follower = place.tail.followers.values().next().unwrap();
    assert_eq!(follower.trouble.as_deref(), Some("it is not a regular file"));
}

#[tokio::test]
async fn lines_become_puts_and_bad_ones_spoil_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("app.log");
    fs::write(&log, "").unwrap();
    let (intake, mut puts) = Intake::new();
    let (files, receiver) = watch::channel(vec![log.clone()]);
    let running = tokio::spawn(run(dir.path().to_owned(), receiver, intake.clone()));
    while !dir.path().join("emf-positions.json").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let event = |value: &str| {
        let ms = Timestamp::now().as_millisecond();
        format!(
            "{{\"_aws\":{{\"Timestamp\":{ms},\"CloudWatchMetrics\":[{{\"Namespace\":\"N\",\"Dimensions\":[[]],\"Metrics\":[{{\"Name\":\"m\"}}]}}]}},\"m\":{value}}}\n"
        )
    };
    fs::write(&log, format!("{}{}GET / 200\n{}", event("1"), event("\"x\""), event("2"))).unwrap();
    let put = puts.recv().await.unwrap();
    let values: Vec<_> = put.data.iter().map(|datum| datum.value.clone()).collect();
    assert_eq!(values, [1.0, 2.0].map(ukai_core::metric::DatumValue::Single));
    let (refused, why) = intake.refused();
    assert!(
        refused == 1 && why.as_ref().is_some_and(|why| why.contains("app.log: _aws.CloudWatchMetrics[0]")),
        "{why:?}"
    );
    drop(files);
    running.await.unwrap();
}
