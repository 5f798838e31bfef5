//! The time that the engine is given.
//!
//! The wall clock can be set back, leap forwards, or be wrong at boot; a lease must neither be prolonged nor
//! lost by that. So the engine's time starts at the wall clock, or at the highest time ever seen where that is
//! later, and from there on it goes with the monotonic clock. Where the wall clock is ahead (a suspended
//! machine, a late NTP step) it is followed forwards; where it is behind, it is not followed: engine time never
//! goes backwards, and a lease ends after the time that it was given for, counted by the monotonic clock.
//!
//! A clock that was once far ahead leaves the engine there. That is the safe side: leases end early, never late.
//! Whoever wants the present back removes the file `clock` while the daemon is stopped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A step smaller than this is drift and rounding; NTP slews below half a second and steps above.
const JUMP: SignedDuration = SignedDuration::from_secs(2);
/// How much of the highest time a power failure may lose.
const STORE_EVERY: Duration = Duration::from_secs(60);
const CLOCK_FILE: &str = "clock";

/// One look at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Engine time: never earlier than any reading before it, of this process or an earlier one.
    pub now: Timestamp,
    /// What the machine says.
    pub wall: Timestamp,
    /// Since this clock was opened.
    pub monotonic: Duration,
    /// The wall clock was set since the last reading: by so much, backwards if negative.
    pub jumped: Option<SignedDuration>,
}

#[derive(Debug)]
pub struct Clock {
    opened: Instant,
    progress: Progress,
    file: PathBuf,
    stored_at: Duration,
}

impl Clock {
    /// `at_least`: the time of the log's last event, if there is one. The first reading reports as `jumped` how
    /// far the wall clock is behind what was seen before.
    pub fn open(data_dir: &Path, at_least: Option<Timestamp>) -> io::Result<Clock> {
        let file = data_dir.join(CLOCK_FILE);
        let floor = read_highest(&file)?.max(at_least);
        let progress = Progress::start(Timestamp::now(), floor);
        let clock = Clock { opened: Instant::now(), progress, file, stored_at: Duration::ZERO };
        store_highest(&clock.file, clock.progress.now)?;
        Ok(clock)
    }

    pub fn now(&mut self) -> ClockReading {
        let reading = self.progress.advance(Timestamp::now(), self.opened.elapsed());
        if reading.monotonic.saturating_sub(self.stored_at) >= STORE_EVERY {
            self.stored_at = reading.monotonic;
            if let Err(error) = store_highest(&self.file, reading.now) {
                tracing::warn!(path = %self.file.display(), %error, "the highest time seen could not be stored");
            }
        }
        reading
    }

    /// What the wall clock says, in engine time: other programs go by the wall clock, and where that was set back, engine
    /// time stays ahead of it. A step that no reading has seen yet is not known here.
    pub fn of_wall(&self, wall: Timestamp) -> Timestamp {
        self.progress.of_wall(wall)
    }
}

/// The arithmetic, without a clock.
#[derive(Debug)]
struct Progress {
    now: Timestamp,
    monotonic: Duration,
    /// Wall time minus engine time as last reported.
    offset: SignedDuration,
}

impl Progress {
    fn start(wall: Timestamp, floor: Option<Timestamp>) -> Progress {
        let now = floor.map_or(wall, |floor| wall.max(floor));
        Progress { now, monotonic: Duration::ZERO, offset: SignedDuration::ZERO }
    }

    fn advance(&mut self, wall: Timestamp, monotonic: Duration) -> ClockReading {
        let elapsed = monotonic.saturating_sub(self.monotonic);
        let progressed = self.now.checked_add(elapsed).unwrap_or(self.now);
        let offset = wall.duration_since(progressed);
        let change = offset - self.offset;
        self.now = progressed.max(wall);
        self.monotonic = self.monotonic.max(monotonic);
        let jumped = (change.abs() > JUMP).then_some(change);
        if jumped.is_some() {
            self.offset = wall.duration_since(self.now);
        } else if !offset.is_negative() {
            self.offset = SignedDuration::ZERO;
        }
        ClockReading { now: self.now, wall, monotonic: self.monotonic, jumped }
    }
}

impl Progress {
    fn of_wall(&self, wall: Timestamp) -> Timestamp {
        let ahead = (-self.offset).max(SignedDuration::ZERO);
        wall.checked_add(ahead).unwrap_or(wall)
    }
}

fn read_highest(file: &Path) -> io::Result<Option<Timestamp>> {
    match fs::read_to_string(file) {
        Ok(text) => match text.trim().parse() {
            Ok(highest) => Ok(Some(highest)),
            Err(_) => {
                tracing::warn!(path = %file.display(), "the stored time is unreadable; starting from the wall clock");
                Ok(None)
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn store_highest(file: &Path, highest: Timestamp) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    writeln!(written, "{highest}")?;
    written.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn engine_time_goes_with_the_monotonic_clock() {
        let mut progress = Progress::start(at(0), None);
        for second in 1..100 {
            let reading = progress.advance(at(second), s(second as u64));
            assert_eq!((reading.now, reading.jumped), (at(second), None));
        }
    }

    #[test]
    fn a_clock_set_back_is_told_once_and_not_followed() {
        let mut progress = Progress::start(at(0), None);
        progress.advance(at(10), s(10));
        let back = progress.advance(at(11 - 3600), s(11));
        assert_eq!(back.now, at(11));
        assert_eq!(back.jumped, Some(SignedDuration::from_secs(-3600)));
        let next = progress.advance(at(12 - 3600), s(12));
        assert_eq!((next.now, next.jumped), (at(12), None));
        assert_eq!(progress.of_wall(at(12 - 3600)), at(12), "what an application stamps now");
        let mended = progress.advance(at(13), s(13));
        assert_eq!((mended.now, mended.jumped), (at(13), Some(SignedDuration::from_secs(3600))));
        assert_eq!(progress.advance(at(14), s(14)).jumped, None);
        assert_eq!(progress.of_wall(at(14)), at(14));
    }

    #[test]
    fn a_leap_forwards_is_followed_and_told_once() {
        let mut progress = Progress::start(at(0), None);
        let leapt = progress.advance(at(7200), s(1));
        assert_eq!(leapt.now, at(7200));
        assert_eq!(leapt.jumped, Some(SignedDuration::from_secs(7199)));
        let next = progress.advance(at(7201), s(2));
        assert_eq!((next.now, next.jumped), (at(7201), None));
    }

    #[test]
    fn slow_drift_is_followed_forwards_and_never_told() {
        let mut progress = Progress::start(at(0), None);
        for second in 1..1000u64 {
            let wall = at(0) + SignedDuration::from_millis(second as i64 * 1010);
            let reading = progress.advance(wall, s(second));
            assert_eq!((reading.now, reading.jumped), (wall, None));
        }
    }

    #[test]
    fn a_start_with_an_earlier_clock_goes_on_from_the_highest_time_seen() {
        let mut progress = Progress::start(at(-86_400), Some(at(0)));
        let first = progress.advance(at(-86_399), s(1));
        assert_eq!(first.now, at(1));
        assert_eq!(first.jumped, Some(SignedDuration::from_secs(-86_400)));
        assert_eq!(progress.advance(at(-86_398), s(2)).now, at(2));
    }

    #[test]
    fn the_highest_time_survives_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let future = Timestamp::now() + SignedDuration::from_hours(24 * 365);
        let mut clock = Clock::open(dir.path(), Some(future)).unwrap();
        assert!(clock.now().now >= future);
        drop(clock);
        let mut clock = Clock::open(dir.path(), None).unwrap();
        let reading = clock.now();
        assert!(reading.now >= future, "{reading:?}");
        assert!(reading.jumped.is_some_and(|jump| jump.is_negative()), "{reading:?}");
    }

    #[test]
    fn an_unreadable_stored_time_is_no_reason_to_stay_down() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CLOCK_FILE), "yesterday").unwrap();
        let mut clock = Clock::open(dir.path(), None).unwrap();
        assert_eq!(clock.now().jumped, None);
    }
}
