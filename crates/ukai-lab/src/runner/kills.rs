//! When the controller is killed: SIGKILL to it alone, right after an event was seen, and started again at once.

use std::str::FromStr;

use ukai_core::event::Event;

/// Three times what an incident has of events: a daemon that goes on being killed beyond that goes in circles.
pub const KILLS_MAX: u32 = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// Once: after this event, the first one after the first fault being 1.
    AtEvent(u32),
    /// After each one, but for those that only say that the daemon came up; [`KILLS_MAX`] times at most.
    EveryEvent,
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(written: &str) -> Result<Kill, String> {
        if written == "every" {
            return Ok(Kill::EveryEvent);
        }
        match written.parse() {
            Ok(number @ 1..) => Ok(Kill::AtEvent(number)),
            _ => Err("give the number of an event after the first fault, from 1 on, or `every`".to_owned()),
        }
    }
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kill::AtEvent(number) => write!(f, "at event {number}"),
            Kill::EveryEvent => f.write_str("after every event"),
        }
    }
}

/// Counts the events after the first fault.
#[derive(Debug)]
pub struct Killer {
    kill: Option<Kill>,
    events: u32,
    kills: u32,
}

impl Killer {
    pub fn new(kill: Option<Kill>) -> Killer {
        Killer { kill, events: 0, kills: 0 }
    }

    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// Nothing more is coming from here.
    pub fn is_done(&self) -> bool {
        match self.kill {
            None => true,
            Some(Kill::AtEvent(_)) => self.kills > 0,
            Some(Kill::EveryEvent) => self.kills == KILLS_MAX,
        }
    }

    /// This event was seen: is the daemon to be killed for it?
    pub fn strikes_at(&mut self, event: &Event) -> bool {
        self.events += 1;
        let strikes = !self.is_done()
            && match self.kill {
                None => false,
                Some(Kill::AtEvent(number)) => self.events == number,
                Some(Kill::EveryEvent) => !matches!(event, Event::Started { .. }),
            };
        self.kills += u32::from(strikes);
        strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::Troubled { what: String::new() }
    }

    #[test]
    fn once_at_the_event_that_was_named() {
        let mut killer = Killer::new(Some(Kill::AtEvent(3)));
        let struck: Vec<bool> = (0..6).map(|_| killer.strikes_at(&event())).collect();
        assert_eq!(struck, [false, false, true, false, false, false]);
        assert!(killer.is_done());
    }

    #[test]
    fn every_time_but_not_for_coming_up_and_not_for_ever() {
        let mut killer = Killer::new(Some(Kill::EveryEvent));
        assert!(!killer.strikes_at(&Event::Started { version: "1".into() }));
        for _ in 0..KILLS_MAX {
            assert!(killer.strikes_at(&event()));
        }
        assert!(!killer.strikes_at(&event()));
        assert_eq!(killer.kills(), KILLS_MAX);
    }

    #[test]
    fn nobody_is_killed_unasked() {
        let mut killer = Killer::new(None);
        assert!(!killer.strikes_at(&event()));
        assert!(killer.is_done());
    }

    #[test]
    fn it_is_written_as_a_number_or_a_word() {
        assert_eq!("7".parse(), Ok(Kill::AtEvent(7)));
        assert_eq!("every".parse(), Ok(Kill::EveryEvent));
        for wrong in ["0", "-1", "all", ""] {
            assert!(wrong.parse::<Kill>().is_err(), "{wrong}");
        }
    }
}
