//! A random name of a data directory, so that two ukais in one zone are told apart.
//!
//! Whoever has another name owns nothing of what stands. So the name is made once, and neither guessed nor overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::keeper::{KeeperDir, kept_on_disk};

const FILE: &str = "owner";
const OCTETS: usize = 8;

/// Reads the name, or makes one where there was none.
pub fn owner(data_dir: &Path) -> anyhow::Result<String> {
    match known_owner(data_dir)? {
        Some(owner) => Ok(owner),
        None => make(data_dir),
    }
}

/// None: this data directory has never written to a zone.
pub fn known_owner(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let file = data_dir.join(FILE);
    match fs::read_to_string(&file) {
        Ok(text) if is_owner(text.trim()) => Ok(Some(text.trim().to_owned())),
        Ok(_) => bail!(
            "{} is damaged: it must hold the {} hexadecimal digits that stand as owner= in the ownership records of the zone; write \
             them there again",
            file.display(),
            OCTETS * 2
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => match owner_of_leases(data_dir)? {
            None => Ok(None),
            Some(owner) => bail!(
                "{} is missing, and leases are held that belong to {owner}: write that into the file, else what stands in the zone \
                 is nobody's",
                file.display()
            ),
        },
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} cannot be read, and with another name what stands in the zone would be nobody's; make it readable for this user",
                file.display()
            )
        }),
    }
}

fn owner_of_leases(data_dir: &Path) -> anyhow::Result<Option<String>> {
    Ok(kept_on_disk(&KeeperDir::of(data_dir))?.first().map(|kept| kept.lease.owner.clone()))
}

fn make(data_dir: &Path) -> anyhow::Result<String> {
    let mut octets = [0; OCTETS];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("no random octets: {error}"))?;
    let owner: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let file = data_dir.join(FILE);
    write(data_dir, &file, &owner).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(owner)
}

/// A crash leaves all of it or nothing.
fn write(data_dir: &Path, path: &PathBuf, owner: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{owner}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(data_dir)?.sync_all()
}

fn is_owner(text: &str) -> bool {
    text.len() == OCTETS * 2 && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(known_owner(dir.path()).unwrap(), None);
        assert!(!dir.path().join(FILE).exists(), "only looked at");
        let made = owner(dir.path()).unwrap();
        assert!(is_owner(&made));
        assert_eq!(owner(dir.path()).unwrap(), made);
        for damaged in ["", "0123", "not a name at all"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            let told = owner(dir.path()).unwrap_err().to_string();
            assert!(told.contains("damaged"), "{told}");
            assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), damaged);
        }
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let told = owner(dir.path()).unwrap_err().to_string();
        assert!(told.contains("cannot be read"), "{told}");
    }

    #[test]
    fn while_leases_are_held_no_other_name_is_made() {
        let dir = tempfile::tempdir().unwrap();
        crate::provider::keeper::hold_on_disk(&KeeperDir::of(dir.path()));
        let told = owner(dir.path()).unwrap_err().to_string();
        assert!(told.contains("belong to 0123456789abcdef"), "{told}");
        assert!(!dir.path().join(FILE).exists());
    }
}
