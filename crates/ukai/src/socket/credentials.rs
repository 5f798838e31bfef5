//! Users and groups by name, from the files that hold them.
//!
//! Only the local files are read: a directory service may be what is broken in an incident. A uid without a name
//! there is shown as its number.

use std::fs;
use std::io;
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

pub fn user_name(uid: u32) -> String {
    let file = fs::read_to_string(PASSWD).unwrap_or_default();
    named(&file, uid).unwrap_or_else(|| uid.to_string())
}

pub fn group_name(gid: u32) -> String {
    let file = fs::read_to_string(GROUP).unwrap_or_default();
    named(&file, gid).unwrap_or_else(|| gid.to_string())
}

/// The number of a group that is given by name or by number.
pub fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let file = fs::read_to_string(Path::new(GROUP))?;
    numbered(&file, group)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group:?} in {GROUP}")))
}

/// Both files are `name:password:number:…` a line (passwd(5), group(5)).
fn named(file: &str, number: u32) -> Option<String> {
    entries(file).find(|(_, found)| *found == number).map(|(name, _)| name.to_owned())
}

fn numbered(file: &str, name: &str) -> Option<u32> {
    entries(file).find(|(found, _)| *found == name).map(|(_, number)| number)
}

fn entries(file: &str) -> impl Iterator<Item = (&str, u32)> {
    file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name, fields.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nname:x\n:x:7:\nukai:x:990:\n";

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(named(FILE, 990).as_deref(), Some("ukai"));
        assert_eq!(numbered(FILE, "root"), Some(0));
        assert_eq!((named(FILE, 7), numbered(FILE, "name"), numbered(FILE, "")), (None, None, None));
    }

    #[test]
    fn a_number_is_its_own_group_and_an_unknown_name_is_an_error() {
        assert_eq!(group_id("990").unwrap(), 990);
        assert!(group_id("no-such-group").unwrap_err().to_string().contains("no-such-group"));
    }

    #[test]
    fn root_is_root() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
    }
}
