//! Bytes and bits of a chunk. Every read is checked, so that no input can panic.

/// What is read is not a chunk of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Corrupt;

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Whole numbers below 2^53 in few bytes, others as they are.
pub(super) fn put_number(out: &mut Vec<u8>, number: f64) {
    let whole = number as i64;
    if (whole as f64).to_bits() == number.to_bits() && whole.unsigned_abs() < 1 << 53 {
        put_varint(out, zigzag(whole) << 1);
    } else {
        out.push(1);
        out.extend_from_slice(&number.to_bits().to_le_bytes());
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Corrupt)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Corrupt> {
        let (first, rest) = self.0.split_first().ok_or(Corrupt)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Corrupt> {
        let (mut number, mut shift, mut rest) = (0, 0, self.0);
        while let [byte, after @ ..] = rest {
            rest = after;
            number |= u64::from(*byte & 0x7f) << shift;
            if *byte < 0x80 {
                self.0 = rest;
                return Ok(number);
            }
            shift += 7;
            if shift >= 64 {
                break;
            }
        }
        Err(Corrupt)
    }

    /// A length, at most `most`.
    pub(super) fn length(&mut self, most: usize) -> Result<usize, Corrupt> {
        let length = usize::try_from(self.varint()?).map_err(|_| Corrupt)?;
        if length <= most { Ok(length) } else { Err(Corrupt) }
    }

    pub(super) fn double(&mut self) -> Result<f64, Corrupt> {
        let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| Corrupt)?;
        Ok(f64::from_bits(u64::from_le_bytes(bytes)))
    }

    pub(super) fn number(&mut self) -> Result<f64, Corrupt> {
        match self.varint()? {
            1 => self.double(),
            even if even & 1 == 0 => Ok(unzigzag(even >> 1) as f64),
            _ => Err(Corrupt),
        }
    }
}

/// Bits, lowest first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// At most 32 bits at once.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, held: 0, count: 0 }
    }

    /// At most 32 bits at once.
    pub(super) fn take(&mut self, count: u32) -> Result<u64, Corrupt> {
        self.fill();
        if self.count < count {
            return Err(Corrupt);
        }
        let bits = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Ok(bits)
    }

    /// How many ones come before a zero, which is taken too; at most `most`, and then no zero follows.
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, Corrupt> {
        self.fill();
        let ones = self.held.trailing_ones().min(most);
        self.take(ones + u32::from(ones < most))?;
        Ok(ones)
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some((first, rest)) = self.bytes.split_first() else { return };
            self.held |= u64::from(*first) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
    }
}

/// CRC-32 as zlib has it: a changed bit is always found.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut place = 0;
    while place < 256 {
        let mut crc = place as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[place] = crc;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_zlibs() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let numbers = [0.0, -0.0, 1.0, -1.0, 0.1, 9e15, 9.1e15, -9e15, 1e308, f64::MIN_POSITIVE, 4.5];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_number(&mut bytes, *number));
        let mut cursor = Cursor(&bytes);
        for number in numbers {
            assert_eq!(cursor.number().unwrap().to_bits(), number.to_bits());
        }
        assert_eq!(cursor.byte(), Err(Corrupt));
    }

    #[test]
    fn bits_come_back() {
        let mut writer = BitWriter::default();
        for count in 0..=32 {
            writer.put((1 << count) - 1, count);
            writer.put(0, 1);
        }
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for count in 0..=32 {
            assert_eq!(reader.ones(33), Ok(count));
        }
        assert_eq!(reader.take(32), Err(Corrupt));
    }
}
