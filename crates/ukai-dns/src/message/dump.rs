//! A message for a person to read.

use std::fmt::{self, Write};

use domain::base::Message;

/// Compressed names make a small message a thousand times as long to read; this is more than anybody reads of one.
pub const DUMP_MAX: usize = 64 * 1024;

/// A message in the form that `dig` prints: header, flags, options (NSID, extended errors), sections. What would steer a
/// terminal is shown as a dot, and at most [`DUMP_MAX`] bytes are written.
///
/// # Errors
/// A sentence for why it cannot be read.
pub fn dump(bytes: &[u8]) -> Result<String, String> {
    let message = Message::from_octets(bytes).map_err(|_| "it is shorter than a header".to_owned())?;
    let mut out = Bounded(String::new());
    if write!(out, "{}", message.display_dig_style()).is_err() {
        out.0.push_str("\n; there is more, which is left out\n");
    }
    Ok(out.0)
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > DUMP_MAX {
            return Err(fmt::Error);
        }
        let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '.' } else { c };
        self.0.extend(text.chars().map(shown));
        Ok(())
    }
}
