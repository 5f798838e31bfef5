//! SQLite's write-ahead log, looked at before SQLite does.
//!
//! SQLite stops at the first frame whose checksum is wrong and silently drops all that follow. After a crash that is
//! right: the last transaction was not acknowledged. But a bit that flips in the middle would cost acknowledged
//! events without a word. The two are told apart by what follows: every commit is synced before the next
//! transaction is written, so a crash can leave at most one commit frame behind a bad frame, and two mean damage.
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;
/// SQLite's largest page.
const PAGE_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Whole,
    /// What comes after the last good commit was never acknowledged.
    CutTail,
    /// Frames count from 1.
    Damaged {
        frame: u64,
        /// Transactions from that frame on, each of them acknowledged but perhaps the last.
        commits: u32,
    },
}

pub fn examine(path: &Path) -> io::Result<Verdict> {
    match File::open(path) {
        Ok(file) => read(BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Verdict::Whole),
        Err(error) => Err(error),
    }
}

fn read(mut file: impl Read) -> io::Result<Verdict> {
    let mut header = [0; HEADER];
    if !fill(&mut file, &mut header)? {
        return Ok(Verdict::CutTail);
    }
    let magic = word(&header, 0);
    let page = word(&header, 8) as usize;
    let mut sum = Checksum { big_endian: magic & 1 == 1, s0: 0, s1: 0 };
    sum.add(&header[..24]);
    if magic & !1 != MAGIC || !page.is_power_of_two() || !(512..=PAGE_MAX).contains(&page) || !sum.is(&header, 24) {
        // SQLite starts afresh here. Frames below a bad header cannot be judged by a salt that is bad itself, so
        // their number decides. A header lies within one sector, so a crash does not leave half of one.
        return after_bad_header(file, page);
    }
    frames(file, &header, page, sum)
}

fn frames(mut file: impl Read, header: &[u8], page: usize, mut sum: Checksum) -> io::Result<Verdict> {
    let salt = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + page];
    let (mut number, mut bad, mut commits_after) = (0u64, None, 0);
    while fill(&mut file, &mut frame)? {
        number += 1;
        let is_of_this_run = &frame[8..16] == salt;
        if bad.is_none() {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER..]);
            if is_of_this_run && sum.is(&frame, 16) {
                continue;
            }
            bad = Some(number);
        }
        // Frames of an earlier run, with another salt, were checkpointed long ago.
        let is_commit = word(&frame, 4) != 0;
        commits_after += u32::from(is_commit && (is_of_this_run || bad == Some(number) && has_salt_flip(&frame, salt)));
    }
    Ok(match bad {
        Some(frame) if commits_after >= 2 => Verdict::Damaged { frame, commits: commits_after },
        Some(_) => Verdict::CutTail,
        None => Verdict::Whole,
    })
}

/// The salt itself may be what was damaged: one of its two words still stands.
fn has_salt_flip(frame: &[u8], salt: &[u8]) -> bool {
    frame[8..12] == salt[..4] || frame[12..16] == salt[4..]
}

fn after_bad_header(mut file: impl Read, page: usize) -> io::Result<Verdict> {
    let page = if page.is_power_of_two() && (512..=PAGE_MAX).contains(&page) { page } else { 4096 };
    let mut frame = vec![0; FRAME_HEADER + page];
    let mut commits = 0;
    while fill(&mut file, &mut frame)? {
        commits += u32::from(word(&frame, 4) != 0);
    }
    Ok(if commits >= 2 { Verdict::Damaged { frame: 0, commits } } else { Verdict::CutTail })
}

struct Checksum {
    big_endian: bool,
    s0: u32,
    s1: u32,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            self.s0 = self.s0.wrapping_add(self.number(pair, 0)).wrapping_add(self.s1);
            self.s1 = self.s1.wrapping_add(self.number(pair, 4)).wrapping_add(self.s0);
        }
    }

    fn number(&self, bytes: &[u8], at: usize) -> u32 {
        let big = word(bytes, at);
        if self.big_endian { big } else { big.swap_bytes() }
    }

    fn is(&self, bytes: &[u8], at: usize) -> bool {
        word(bytes, at) == self.s0 && word(bytes, at + 4) == self.s1
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// False at the end of the file, also in the middle of the buffer.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
